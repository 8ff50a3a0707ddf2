"""Commands and options of `jaxreg`, declared with typer. Nothing heavy loads until a sweep starts."""

import pathlib
import threading
from typing import Annotated, NamedTuple

import typer

from jaxreg._extras import import_extra
from jaxreg.cli import _options
from jaxreg.cli._files import without_ending
from jaxreg.cli._settings import Reading, Settings

__all__ = ["app", "penalties", "predict", "sweep"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_DEFAULTS = Settings()
_READING = Reading()
#: Packages used after the solver: a missing one is reported before the work.
_USED_LATE = ("rich", "matplotlib", "scipy")


class _Request(NamedTuple):
    """Arguments of `jaxreg sweep` other than those in `Settings` and `Reading`."""

    data: str
    target: str | None
    loss: str | None
    penalties: list[str]
    out: pathlib.Path | None
    overwrite: bool
    cache: bool


def _print_version(requested: bool) -> None:
    if requested:
        import jaxreg

        print(f"jaxreg {jaxreg.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Map sparsity versus shrinkage: what L1 and L2 penalties do to the weights of a model."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def sweep(  # noqa: PLR0913, the options of the command
    data: _options.Data = "diabetes",
    *,
    target: _options.Target = None,
    loss: _options.Loss = None,
    penalty: _options.Penalty = None,
    lambdas: _options.Lambdas = _DEFAULTS.lambdas,
    ratio: _options.Ratio = _DEFAULTS.ratio,
    holdout: _options.Holdout = None,
    cv: _options.Cv = _DEFAULTS.cv,
    choose: _options.Choose = _DEFAULTS.choose,
    standardize: _options.Standardize = _DEFAULTS.standardize,
    seed: _options.Seed = _DEFAULTS.seed,
    dtype: _options.Dtype = _DEFAULTS.dtype,
    tol: _options.Tol = _DEFAULTS.tol,
    missing: _options.Missing = _READING.missing,
    categorical: _options.Categorical = _READING.categorical,
    drop: _options.Drop = None,
    sep: _options.Sep = None,
    decimal: _options.Decimal = None,
    header: _options.Header = True,
    numbers: _options.Numbers = False,
    out: _options.Out = None,
    overwrite: _options.Overwrite = False,
    cache: _options.Cache = True,
) -> None:
    """Solve a grid of λ for each penalty and choose a model; print a report, write pictures and model."""
    if holdout is None:
        holdout = 0.0 if cv else _DEFAULTS.holdout
    settings = Settings(lambdas, ratio, holdout, standardize, seed, dtype, tol, cv, choose)
    reading = Reading(sep, decimal, header, numbers, missing, categorical, tuple(drop or ()))
    penalties = penalty or list(_options.PENALTIES)
    _sweep(_Request(data, target, loss, penalties, out, overwrite, cache), settings, reading)


@app.command()
def predict(  # noqa: PLR0913, the options of the command
    model: _options.PredictModel,
    data: _options.PredictData,
    *,
    missing: _options.PredictMissing = _READING.missing,
    sep: _options.Sep = None,
    decimal: _options.Decimal = None,
    numbers: _options.Numbers = False,
    out: _options.PredictOut = pathlib.Path("predictions.csv"),
    overwrite: _options.Overwrite = False,
) -> None:
    """Predict the rows of a file by a saved model: columns are found by name and coded as in training."""
    from jaxreg.cli import _screen, write
    from jaxreg.cli.predict import as_csv
    from jaxreg.cli.predict import predict as predict_file

    to_screen = str(out) == "-"
    if not to_screen:
        write.check_file(out, overwrite)
    prediction = predict_file(model, data, Reading(sep, decimal, True, numbers, missing))
    text = as_csv(prediction.columns)
    if to_screen:
        print(text, end="")
    else:
        write.write_text(text, out)
    _screen.lines([f"note: {note}" for note in prediction.notes] + [prediction.summary], error=to_screen)
    if not to_screen:
        _screen.lines([f"Written: {out}"])


@app.command()
def penalties() -> None:
    """List the families of penalties that --penalty takes."""
    from jaxreg.cli import _screen
    from jaxreg.cli.families import described

    _screen.pairs(described())


def _sweep(request: _Request, settings: Settings, reading: Reading) -> None:
    """Load, solve, draw, write and report, with everything that can be refused refused first."""
    for module in _USED_LATE:
        import_extra(module)
    from jaxreg import plots
    from jaxreg.cli import _screen, choose, families, run, write
    from jaxreg.cli._losses import check_spread, with_delta
    from jaxreg.cli.load import fill_missing, load
    from jaxreg.cli.split import split

    for name in request.penalties:
        families.parse(name)
    write.use_cache(request.cache)
    # Drawing libraries load while the solver compiles.
    threading.Thread(target=plots.prepare, daemon=True).start()
    with _screen.Steps(3 + len(request.penalties)) as tick:
        tick("reading the data")
        table = load(request.data, target=request.target, loss=request.loss, reading=reading)
        form = families.DataForm(table.groups, len(table.classes))
        members = [families.member(name, form) for name in request.penalties]
        folder = request.out or pathlib.Path(f"jaxreg-{without_ending(table.name)}")
        write.check(folder, request.overwrite)
        rows = split(table, settings.holdout, settings.seed)
        check_spread(table, rows.train, settings.dtype)
        table = with_delta(fill_missing(table, rows.train, settings.cv), rows.train)
        tick.aside(lambda: _screen.opening(table, [member.note for member in members if member.note]))
        dataset = run.run(table, request.penalties, settings, tick)
        chosen = choose.choose(dataset, table, rows.held)
        tick("drawing and writing")
        written = write.write(dataset, folder, plots.save, chosen)
    lines = choose.warnings(table, rows.held)
    if chosen is not None:
        lines.append(choose.comparison(dataset, chosen.at))
    _screen.closing(_screen.Results(dataset, chosen, lines, written))
