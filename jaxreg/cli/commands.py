"""Commands and options of `jaxreg`, declared with typer. Nothing heavy loads until a sweep starts."""

import pathlib
import threading
from typing import Annotated, NamedTuple

import typer

from jaxreg.cli._files import without_ending
from jaxreg.cli._messages import import_extra
from jaxreg.cli._settings import Reading, Settings

__all__ = ["app", "penalties", "predict", "sweep"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PENALTIES = ("l1", "l2", "elastic-net:0.5")
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


_Sep = Annotated[
    str | None,
    typer.Option(
        help="Separator: one character, or comma, semicolon, tab, pipe, space. Default: recognised."
    ),
]
_Decimal = Annotated[str | None, typer.Option(help="Decimal mark, '.' or ','. Default: recognised.")]
_Numbers = Annotated[
    bool, typer.Option("--numbers", help="Read 12.5 %, $1,200 and 1,200 as numbers instead of refusing them.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")]


@app.command()
def sweep(  # noqa: PLR0913, the options of the command
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A .csv, .tsv, .txt (also .gz) or .parquet file, or diabetes, breast_cancer, digits, wine, iris.",
        ),
    ] = "diabetes",
    *,
    target: Annotated[str | None, typer.Option(help="The column to predict; needed for a file.")] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="squared, huber, logistic, multinomial or poisson; by default by the target."),
    ] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            help="A family that jaxreg penalties lists, such as l1 or elastic-net:0.5; may be given several"
            f" times. Default: {', '.join(_PENALTIES)}."
        ),
    ] = None,
    lambdas: Annotated[int, typer.Option(help="Number of λ in each grid, from 2 up.")] = _DEFAULTS.lambdas,
    ratio: Annotated[
        float | None,
        typer.Option(help="Smallest λ over largest. Default: 1e-4 (n > p) or 1e-2, for l2 1000 times less."),
    ] = _DEFAULTS.ratio,
    holdout: Annotated[
        float, typer.Option(help="Fraction of rows kept aside, on which λ is chosen; 0 keeps none.")
    ] = _DEFAULTS.holdout,
    standardize: Annotated[
        bool, typer.Option(help="Penalise features in units of their standard deviation.")
    ] = _DEFAULTS.standardize,
    seed: Annotated[int, typer.Option(help="Seed of the choice of held-out rows.")] = _DEFAULTS.seed,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = _DEFAULTS.dtype,
    tol: Annotated[float, typer.Option(help="Relative duality gap to reach at every λ.")] = _DEFAULTS.tol,
    missing: Annotated[
        str,
        typer.Option(
            help="Missing cells (empty, NA, ?): error refuses them, drop leaves out their rows, mean fills them and"
            " adds a column that marks them."
        ),
    ] = _READING.missing,
    categorical: Annotated[
        str,
        typer.Option(
            help="Text columns become columns of 0 and 1: group lets those of one factor enter together, dummy each"
            " on its own; drop leaves text out."
        ),
    ] = _READING.categorical,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column to leave out; may be given several times.")
    ] = None,
    sep: _Sep = None,
    decimal: _Decimal = None,
    header: Annotated[
        bool, typer.Option(help="The first line names the columns; otherwise they are column_1, column_2, ….")
    ] = True,
    numbers: _Numbers = False,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder for map.png, paths.png, error.png, sweep.nc, coefficients.csv and model.jaxreg."
            " Default: jaxreg-DATA."
        ),
    ] = None,
    overwrite: _Overwrite = False,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs in the user's cache folder.")] = True,
) -> None:
    """Solve a grid of λ for each penalty and choose a model; print what happened, write pictures and model."""
    settings = Settings(lambdas, ratio, holdout, standardize, seed, dtype, tol)
    reading = Reading(sep, decimal, header, numbers, missing, categorical, tuple(drop or ()))
    penalties = penalty or list(_PENALTIES)
    _sweep(_Request(data, target, loss, penalties, out, overwrite, cache), settings, reading)


@app.command()
def predict(  # noqa: PLR0913, the options of the command
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model.jaxreg that jaxreg sweep wrote.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A file of new rows, with the columns of the training data.")
    ],
    *,
    missing: Annotated[
        str,
        typer.Option(
            help="Missing cells where training had none: error, drop (no prediction), mean (of the training rows)."
        ),
    ] = _READING.missing,
    sep: _Sep = None,
    decimal: _Decimal = None,
    numbers: _Numbers = False,
    out: Annotated[
        pathlib.Path, typer.Option(help="The file of predictions, in CSV; - prints them.")
    ] = pathlib.Path("predictions.csv"),
    overwrite: _Overwrite = False,
) -> None:
    """Predict the rows of a file by a saved model: columns are found by name and coded as in training."""
    from jaxreg.cli import _screen, write
    from jaxreg.cli.predict import as_csv
    from jaxreg.cli.predict import predict as predict_file

    to_screen = str(out) == "-"
    if not to_screen:
        write.check_file(out, overwrite)
    found = predict_file(model, data, Reading(sep, decimal, True, numbers, missing))
    text = as_csv(found.columns)
    if to_screen:
        print(text, end="")
    else:
        write.write_text(text, out)
    _screen.lines([f"note: {note}" for note in found.notes] + [found.summary], error=to_screen)
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
        table = fill_missing(table, rows.train)
        tick.aside(lambda: _screen.opening(table, [member.note for member in members if member.note]))
        dataset = run.run(table, request.penalties, settings, tick)
        chosen = choose.choose(dataset, table, rows.held)
        tick("drawing and writing")
        written = write.write(dataset, folder, plots.save, chosen)
    lines = choose.warnings(table, rows.held)
    if chosen is not None:
        lines.append(choose.comparison(dataset, chosen.at))
    _screen.closing(_screen.Results(dataset, chosen, lines, written))
