"""Failures of a store in one sentence each: a full disk, damage, a second process."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from jaxreg._extras import import_extra

__all__ = ["Refusal", "explain_damage", "explain_disk", "locked"]

#: Errors of a disk, a quota or a file that can hold no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refusal(ValueError):
    """A store that cannot be used, with the reason in one sentence."""


@contextlib.contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turn any error while a store is read into a `ValueError`; a `Refusal` passes as it is."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged and cannot be read ({error}): give another folder") from error


@contextlib.contextmanager
def explain_disk(path: Path) -> Iterator[None]:
    """Say in an `OSError` what a failure of the disk means for a store."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            text = (
                f"no room to write to {path}: make room and call the same sweep again, what is stored stays"
            )
        else:
            text = f"cannot write to {path} ({error.strerror or error}): what is stored stays"
        raise OSError(error.errno, text) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a store for this process; RuntimeError where another process holds it."""
    filelock = import_extra("filelock", "sweeps", "a store on disk")
    lock = path.with_name(path.name + ".lock")
    with explain_disk(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder = filelock.FileLock(lock)
        try:
            holder.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RuntimeError(
                f"another process works on {path} (it holds {lock.name}): wait for it, or give this sweep"
                " another store"
            ) from error
    try:
        yield
    finally:
        # The file goes while the lock is held: after the release it may be that of the next holder.
        lock.unlink(missing_ok=True)
        holder.release()
