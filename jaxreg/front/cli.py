"""The command `jaxreg`. Bad input ends in one line on stderr and exit status 2, never a traceback."""

import os
import pathlib
import shutil
import sys
import tempfile
from typing import Annotated

import typer

__all__ = ["app", "main", "sweep"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
_RESULTS = ("sweep.nc", "map.png", "paths.png")


@app.callback()
def _root() -> None:
    """Map sparsity versus shrinkage: what L1 and L2 penalties do to the weights of a model."""


@app.command()
def sweep(
    data: Annotated[
        str,
        typer.Argument(help="A .csv, .tsv or .parquet file, or diabetes, breast_cancer, digits, wine, iris."),
    ] = "diabetes",
    target: Annotated[str | None, typer.Option(help="The column to predict; needed for a file.")] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="squared, huber, logistic, multinomial or poisson; follows the target where not given."
        ),
    ] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            help="l1, l2, elastic-net:RATIO, nonnegative-l1; repeatable. Default: l1, l2, elastic-net:0.5."
        ),
    ] = None,
    lambdas: Annotated[int, typer.Option(help="Number of λ in each grid.")] = 100,
    ratio: Annotated[
        float | None,
        typer.Option(help="Smallest over largest λ; default 1e-4 (n > p) or 1e-2, for l2 1000 times less."),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Fraction of rows kept aside for the held-out error.")
    ] = 0.25,
    standardize: Annotated[
        bool, typer.Option(help="Penalise features in units of their standard deviation.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    tol: Annotated[float, typer.Option(help="Relative duality gap to reach at every λ.")] = 1e-6,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for map.png, paths.png, sweep.nc. Default: jaxreg-DATA."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in that folder.")] = False,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs in the user's cache folder.")] = True,
) -> None:
    """Solve a grid of λ for each penalty; print what happened, write the map, the paths and the numbers."""
    try:
        _sweep(data, target, loss, penalty or ["l1", "l2", "elastic-net:0.5"], out, overwrite, cache,
               {"num": lambdas, "ratio": ratio, "holdout": holdout, "standardize": standardize,
                "seed": seed, "dtype": dtype, "tol": tol})  # fmt: skip
    except (ValueError, TypeError, OSError) as error:
        line = " ".join(str(error).split())
        print(f"error: {line}", file=sys.stderr)
        raise typer.Exit(2) from None


def _sweep(
    data: str,
    target: str | None,
    loss: str | None,
    penalties: list[str],
    out: pathlib.Path | None,
    overwrite: bool,
    cache: bool,
    settings: dict,
) -> None:
    from jaxreg.front.data import load

    if settings["dtype"] not in ("float64", "float32"):
        raise ValueError(f"dtype must be float64 or float32, got {settings['dtype']!r}")
    if settings["num"] < 2:
        raise ValueError(f"lambdas must be at least 2, got {settings['num']}")
    table = load(data, target=target, loss=loss)
    folder = out or pathlib.Path(f"jaxreg-{pathlib.Path(table.name).stem}")
    _check_folder(folder, overwrite)
    import jax

    jax.config.update("jax_enable_x64", settings["dtype"] == "float64")
    if cache:
        _use_cache(jax)
    from jaxreg.front import plots, report
    from jaxreg.front import sweep as work

    for name in penalties:
        work.family(name)
    from rich.console import Console

    console = Console()
    n, p = table.X.shape
    console.print(f"[bold]{table.name}[/]: {n} rows, {p} features, target {table.target}, loss {table.loss}")
    for note in table.notes:
        console.print(f"note: {note}", markup=False)
    with console.status("compiling and solving") as status:
        dataset = work.run(table, penalties, tick=lambda label: status.update(f"solving {label}"), **settings)
        status.update("drawing")
        _write(dataset, folder, plots.save)
    where = dataset.attrs["error_rows"].split(" (")[0]
    for k in range(dataset.sizes["penalty"]):
        console.print(report.table(dataset.isel(penalty=k), f"{dataset.attrs['error']}, {where}"))
    for k in range(dataset.sizes["penalty"]):
        console.print(report.sentence(dataset.isel(penalty=k), dataset.attrs["reference"]), highlight=False)
    left = int((dataset["status"].values != "converged").sum())
    if left:
        console.print(
            f"{left} of {dataset['status'].size} λ did not reach the tolerance: see the status column"
        )
    console.print(
        f"wrote {', '.join(str(folder / name) for name in _RESULTS)}", highlight=False, soft_wrap=True
    )


def _check_folder(folder: pathlib.Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder with --out")
    if folder.is_dir() and any((folder / name).exists() for name in _RESULTS) and not overwrite:
        raise ValueError(f"{folder} holds results already: add --overwrite or give another folder with --out")
    parent = folder if folder.is_dir() else next(p for p in folder.absolute().parents if p.exists())
    try:
        tempfile.TemporaryDirectory(prefix=".jaxreg-", dir=parent).cleanup()
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise ValueError(
            f"{parent} cannot be written to ({reason}): give another folder with --out"
        ) from None


def _write(dataset: object, folder: pathlib.Path, draw: object) -> None:
    """All files into a folder beside, then moved: nothing is half written."""
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=".jaxreg-", dir=folder.absolute().parent))
    try:
        dataset.to_netcdf(beside / "sweep.nc", engine="scipy")
        draw(dataset, beside)
        folder.mkdir(exist_ok=True)
        for name in _RESULTS:
            os.replace(beside / name, folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _use_cache(jax: object) -> None:
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(root) / "jaxreg"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def main() -> None:
    """Entry point of the command."""
    app()
