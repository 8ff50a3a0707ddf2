"""What can be typed after `jaxreg`: the options of `jaxreg sweep`, and the order of its work."""

import pathlib
import threading
from typing import Annotated, Any

import typer

from jaxreg.cli._files import _ENDINGS
from jaxreg.cli._messages import _need, _wrong, nearest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_DEFAULT = ("l1", "l2", "elastic-net:0.5")


def _version(asked: bool) -> None:
    if asked:
        import jaxreg

        print(f"jaxreg {jaxreg.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Map sparsity versus shrinkage: what L1 and L2 penalties do to the weights of a model."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def sweep(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A .csv, .tsv or .parquet file, or diabetes, breast_cancer, digits, wine, iris.",
        ),
    ] = "diabetes",
    target: Annotated[str | None, typer.Option(help="The column to predict; needed for a file.")] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="squared, huber, logistic, multinomial or poisson; by default by the target."),
    ] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            help="l1, l2, elastic-net:RATIO or nonnegative-l1; may be given several times."
            f" Default: {', '.join(_DEFAULT)}."
        ),
    ] = None,
    lambdas: Annotated[int, typer.Option(help="Number of λ in each grid, from 2 up.")] = 100,
    ratio: Annotated[
        float | None,
        typer.Option(help="Smallest λ over largest. Default: 1e-4 (n > p) or 1e-2, for l2 1000 times less."),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Fraction of rows kept aside for the held-out error; 0 keeps none.")
    ] = 0.25,
    standardize: Annotated[
        bool, typer.Option(help="Penalise features in units of their standard deviation.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the choice of held-out rows.")] = 0,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    tol: Annotated[float, typer.Option(help="Relative duality gap to reach at every λ.")] = 1e-6,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for map.png, paths.png and sweep.nc. Default: jaxreg-DATA."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in that folder.")] = False,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs in the user's cache folder.")] = True,
) -> None:
    """Solve a grid of λ for each penalty; print what happened, write the map, the paths and the numbers."""
    settings = {"num": lambdas, "ratio": ratio, "holdout": holdout, "standardize": standardize}
    settings |= {"seed": seed, "dtype": dtype, "tol": tol}
    _check(settings)
    _sweep(data, target, loss, penalty or list(_DEFAULT), out, overwrite, cache, settings)


def _check(settings: dict[str, Any]) -> None:
    """What the numbers alone can show to be wrong, before anything is read."""
    if settings["num"] < 2:
        raise _wrong(f"--lambdas is {settings['num']}", "at least 2", "try 100")
    if settings["ratio"] is not None and not 0 < settings["ratio"] < 1:
        raise _wrong(f"--ratio is {settings['ratio']}", "a number between 0 and 1", "try 1e-3")
    if not 0 <= settings["holdout"] < 1:
        raise _wrong(f"--holdout is {settings['holdout']}", "a fraction from 0 to below 1", "try 0.25")
    if settings["seed"] < 0:
        raise _wrong(f"--seed is {settings['seed']}", "a whole number from 0 up", "try 0")
    if not 0 < settings["tol"] < float("inf"):
        raise _wrong(f"--tol is {settings['tol']}", "a number above 0", "try 1e-6")
    if settings["dtype"] not in ("float64", "float32"):
        known = nearest(settings["dtype"], ("float64", "float32"))
        raise ValueError(f"no dtype {settings['dtype']!r}: {known}")


def _sweep(
    data: str,
    target: str | None,
    loss: str | None,
    penalties: list[str],
    out: pathlib.Path | None,
    overwrite: bool,
    cache: bool,
    settings: dict[str, Any],
) -> None:
    for module in ("rich", "matplotlib", "scipy"):  # what is needed after the work is asked for before it
        _need(module)
    from jaxreg import plots
    from jaxreg.cli import _screen, write
    from jaxreg.cli import run as work
    from jaxreg.cli.load import load

    for name in penalties:
        work.family(name)
    write.use_cache(cache)
    # The libraries that draw load while the solver compiles.
    threading.Thread(target=plots.prepare, daemon=True).start()
    with _screen.Steps(3 + len(penalties)) as tick:
        tick("reading the data")
        table = load(data, target=target, loss=loss)
        folder = out or pathlib.Path(f"jaxreg-{_stem(table.name)}")
        write.check(folder, overwrite)
        tick.aside(lambda: _screen.opening(table))
        dataset = work.run(table, penalties, tick=tick, **settings)
        tick("drawing and writing")
        written = write.write(dataset, folder, plots.save)
    _screen.closing(dataset, written)


def _stem(name: str) -> str:
    """A data set's or file's name without its ending."""
    ending = max((end for end in _ENDINGS if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(ending)]
