"""Commands and options of `jaxreg`, declared with typer. Nothing heavy loads until a sweep starts."""

import pathlib
import threading
from typing import Annotated, NamedTuple

import typer

from jaxreg.cli._files import without_ending
from jaxreg.cli._messages import import_extra
from jaxreg.cli._settings import Settings

__all__ = ["app", "sweep"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PENALTIES = ("l1", "l2", "elastic-net:0.5")
_DEFAULTS = Settings()
#: Packages used after the solver: a missing one is reported before the work.
_USED_LATE = ("rich", "matplotlib", "scipy")


class _Request(NamedTuple):
    """Arguments of `jaxreg sweep` other than the numbers in `Settings`."""

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
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A .csv, .tsv or .parquet file, or diabetes, breast_cancer, digits, wine, iris.",
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
            help="l1, l2, elastic-net:RATIO or nonnegative-l1; may be given several times."
            f" Default: {', '.join(_PENALTIES)}."
        ),
    ] = None,
    lambdas: Annotated[int, typer.Option(help="Number of λ in each grid, from 2 up.")] = _DEFAULTS.lambdas,
    ratio: Annotated[
        float | None,
        typer.Option(help="Smallest λ over largest. Default: 1e-4 (n > p) or 1e-2, for l2 1000 times less."),
    ] = _DEFAULTS.ratio,
    holdout: Annotated[
        float, typer.Option(help="Fraction of rows kept aside for the held-out error; 0 keeps none.")
    ] = _DEFAULTS.holdout,
    standardize: Annotated[
        bool, typer.Option(help="Penalise features in units of their standard deviation.")
    ] = _DEFAULTS.standardize,
    seed: Annotated[int, typer.Option(help="Seed of the choice of held-out rows.")] = _DEFAULTS.seed,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = _DEFAULTS.dtype,
    tol: Annotated[float, typer.Option(help="Relative duality gap to reach at every λ.")] = _DEFAULTS.tol,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for map.png, paths.png and sweep.nc. Default: jaxreg-DATA."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in that folder.")] = False,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs in the user's cache folder.")] = True,
) -> None:
    """Solve a grid of λ for each penalty; print what happened, write the map, the paths and the numbers."""
    settings = Settings(lambdas, ratio, holdout, standardize, seed, dtype, tol)
    penalties = penalty or list(_PENALTIES)
    _sweep(_Request(data, target, loss, penalties, out, overwrite, cache), settings)


def _sweep(request: _Request, settings: Settings) -> None:
    """Load, solve, draw, write and report, with everything that can be refused refused first."""
    for module in _USED_LATE:
        import_extra(module)
    from jaxreg import plots
    from jaxreg.cli import _screen, run, write
    from jaxreg.cli.load import load

    for name in request.penalties:
        run.family(name)
    write.use_cache(request.cache)
    # Drawing libraries load while the solver compiles.
    threading.Thread(target=plots.prepare, daemon=True).start()
    with _screen.Steps(3 + len(request.penalties)) as tick:
        tick("reading the data")
        table = load(request.data, target=request.target, loss=request.loss)
        folder = request.out or pathlib.Path(f"jaxreg-{without_ending(table.name)}")
        write.check(folder, request.overwrite)
        tick.aside(lambda: _screen.opening(table))
        dataset = run.run(table, request.penalties, settings, tick)
        tick("drawing and writing")
        written = write.write(dataset, folder, plots.save)
    _screen.closing(dataset, written)
