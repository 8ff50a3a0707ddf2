"""Write results: the folder is checked before the work, and its files are all written or none."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaxreg.cli._messages import one_line, refusal

if TYPE_CHECKING:
    from xarray import Dataset

    from jaxreg.cli.choose import Chosen

__all__ = ["CHOSEN", "FILES", "check", "check_file", "use_cache", "write", "write_text"]

#: Files of a sweep; those of `CHOSEN` only where a model was chosen.
FILES = ("map.png", "paths.png", "error.png", "sweep.nc", "coefficients.csv", "model.jaxreg")
CHOSEN = FILES[-2:]


def check(folder: pathlib.Path, overwrite: bool) -> None:
    """Raise `ValueError` where results cannot go to `folder`: writes there, or where it would be made."""
    if folder.exists() and not folder.is_dir():
        raise refusal(f"{folder} is a file", "a folder", "give another with --out")
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        got = f"{folder} holds results already ({', '.join(present)})"
        raise refusal(got, "a new or empty folder", "add --overwrite or give another with --out")
    blocked = [name for name in present if (folder / name).is_dir()]
    if blocked:
        raise refusal(f"{folder / blocked[0]} is a folder", "a file or nothing", "give another with --out")
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with _interrupt_raises():
            tempfile.TemporaryDirectory(prefix=".jaxreg-", dir=parent).cleanup()
    except OSError as error:
        raise _refused(parent, error) from error


def check_file(path: pathlib.Path, overwrite: bool) -> None:
    """Raise `ValueError` where a file is there already, or its folder is not."""
    if path.is_dir():
        raise refusal(f"{path} is a folder", "a file", "give another with --out")
    if path.exists() and not overwrite:
        raise refusal(f"{path} is there already", "a new file", "add --overwrite or give another with --out")
    if not path.absolute().parent.is_dir():
        raise refusal(f"{path.parent} is no folder", "a file in a folder that is there", "make the folder")


def write_text(text: str, path: pathlib.Path) -> None:
    """Write a text file, whole or not at all."""
    with _interrupt_raises():
        try:
            with tempfile.TemporaryDirectory(prefix=".jaxreg-", dir=path.absolute().parent) as name:
                temporary = pathlib.Path(name) / "text"
                temporary.write_text(text, encoding="utf-8", newline="")
                os.replace(temporary, path)
        except OSError as error:
            raise _refused(path, error) from error


def write(
    dataset: Dataset,
    folder: pathlib.Path,
    draw: Callable[[Dataset, pathlib.Path], None],
    chosen: Chosen | None = None,
) -> list[pathlib.Path]:
    """Write the results and return their paths; a failure leaves nothing.

    The files are made in a hidden folder inside `folder` and moved once all of them are complete. Without a
    chosen model those of an earlier sweep are removed: they would not fit the others.

    Args:
        dataset: The sweep, for sweep.nc.
        folder: The folder, which is made where it is not there.
        draw: Function that writes the pictures into a folder.
        chosen: The chosen model, for coefficients.csv and model.jaxreg.
    """
    with _interrupt_raises():
        _write(dataset, folder, draw, chosen)
    return [folder / file for file in FILES if chosen or file not in CHOSEN]


def _write(
    dataset: Dataset,
    folder: pathlib.Path,
    draw: Callable[[Dataset, pathlib.Path], None],
    chosen: Chosen | None,
) -> None:
    from jaxreg.cli._dataset import compact
    from jaxreg.cli.coefficients import write_csv
    from jaxreg.models.archive import save

    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".jaxreg-", dir=folder) as name:
            temporary = pathlib.Path(name)
            compact(dataset).to_netcdf(temporary / "sweep.nc", engine="scipy")
            draw(dataset, temporary)
            if chosen:
                write_csv(chosen, temporary / "coefficients.csv")
                save(chosen.model.pruned(), temporary / "model.jaxreg")
            for file in FILES:
                if (temporary / file).exists():
                    os.replace(temporary / file, folder / file)
                else:
                    (folder / file).unlink(missing_ok=True)
    except BaseException as error:
        if folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise _refused(folder, error) from error
        raise


@contextlib.contextmanager
def _interrupt_raises() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt`, so that partly written files are removed."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _refused(folder: pathlib.Path, error: OSError) -> ValueError:
    reason = (error.strerror or one_line(error)).lower()
    got = f"{folder} cannot be written to ({reason})"
    return refusal(got, "a folder you may write to", "give another with --out")


def use_cache(on: bool) -> None:
    """Keep compiled programs in $JAX_COMPILATION_CACHE_DIR, by default a folder in the user's cache folder.

    Nothing is kept where `on` is false or the folder cannot be made or written to.
    """
    import jax

    import jaxreg as jr

    if on:
        try:
            on = os.access(jr.cache_programs(), os.W_OK)
        except OSError:
            on = False
    jax.config.update("jax_enable_compilation_cache", on)
