"""Where results go: a folder that is asked before the work, and files that are all there or not at all."""

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jaxreg.cli._messages import _line, _wrong

FILES = ("map.png", "paths.png", "sweep.nc")


def check(folder: pathlib.Path, overwrite: bool) -> None:
    """ValueError where results cannot go to `folder`; tries to write in it, or where it would be made."""
    if folder.exists() and not folder.is_dir():
        raise _wrong(f"{folder} is a file", "a folder", "give another with --out")
    held = [name for name in FILES if (folder / name).exists()]
    if held and not overwrite:
        got = f"{folder} holds results already ({', '.join(held)})"
        raise _wrong(got, "a new or empty folder", "add --overwrite or give another with --out")
    blocked = [name for name in held if (folder / name).is_dir()]
    if blocked:
        raise _wrong(f"{folder / blocked[0]} is a folder", "a file or nothing", "give another with --out")
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with _interrupt_raises():
            tempfile.TemporaryDirectory(prefix=".jaxreg-", dir=parent).cleanup()
    except OSError as error:
        raise _refused(parent, error) from error


def write(
    dataset: Any, folder: pathlib.Path, draw: Callable[[Any, pathlib.Path], None]
) -> list[pathlib.Path]:
    """Write sweep.nc and the pictures that `draw` makes; returns their paths, or leaves nothing behind.

    The files are made in a hidden folder inside `folder` and moved when all of them are whole.
    """
    with _interrupt_raises():
        _write(dataset, folder, draw)
    return [folder / file for file in FILES]


def _write(dataset: Any, folder: pathlib.Path, draw: Callable[[Any, pathlib.Path], None]) -> None:
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".jaxreg-", dir=folder) as name:
            beside = pathlib.Path(name)
            dataset.to_netcdf(beside / "sweep.nc", engine="scipy")
            draw(dataset, beside)
            for file in FILES:
                os.replace(beside / file, folder / file)
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
    """Let Ctrl-C raise KeyboardInterrupt, so that files that are half written are removed."""
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
    reason = (error.strerror or _line(error)).lower()
    got = f"{folder} cannot be written to ({reason})"
    return _wrong(got, "a folder you may write to", "give another with --out")


def use_cache(on: bool) -> None:
    """Keep every compiled program in $JAX_COMPILATION_CACHE_DIR, else the user's cache folder; or none.

    Where that folder cannot be made or written to, nothing is kept.
    """
    import jax

    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or pathlib.Path(root) / "jaxreg")
    if on:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            on = os.access(folder, os.W_OK)
        except OSError:
            on = False
    jax.config.update("jax_enable_compilation_cache", on)
    if on:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A sweep runs many small programs: all of them together take as long to compile as a large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
