"""The entry point of the command `jaxreg`, and how what goes wrong reaches the user.

Every error is one line on stderr that says what was got, what was wanted and what to do, with exit status 2;
Ctrl-C is 130, a closed pipe 141. Set JAXREG_TRACEBACK=1 to see where in the code an error came from.
"""

import gc
import io
import os
import re
import sys
from itertools import pairwise
from typing import Any, get_type_hints

from jaxreg.cli._messages import printable

__all__ = ["main"]

_LONGEST = 600


def main(words: list[str] | None = None) -> int:
    """Run the command on `words`, None meaning those it was called with, and return the exit status.

    0 is success, 2 an error, 130 Ctrl-C, 141 a closed pipe. Never raises, unless JAXREG_TRACEBACK is set.
    """
    if words is None:
        gc.set_threshold(1_000_000)  # collecting takes a fifth of the time, and finds little in a short life
        status = main(sys.argv[1:])
        gc.freeze()
        return status
    _open_streams()
    try:
        return _said(words)
    except (BrokenPipeError, SystemExit):  # typer and rich make an exit of a broken pipe
        return _reader_gone()


def _open_streams() -> None:
    """Give the process streams that any text can be written to."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as in `jaxreg sweep >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            # A terminal without λ shows "?", and does not stop the work.
            stream.reconfigure(errors="replace")


def _said(words: list[str]) -> int:
    """Run the command and say in one line what went wrong."""
    try:
        status = _call(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("JAXREG_TRACEBACK"):
            raise
        print(f"error: {printable(_words(error))}", file=sys.stderr)
        return 2
    if status == 130:
        print("error: interrupted; no file was left half written", file=sys.stderr)
    return status


def _reader_gone() -> int:
    """End quietly where the reader of the output has left, as in `jaxreg sweep --help | head -1`."""
    # What is still buffered would raise once more when the interpreter flushes it.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 141  # as a shell reports a process that SIGPIPE ended


def _call(words: list[str]) -> int:
    """Hand the words to typer. Its own errors, a box of several lines otherwise, become a `ValueError`."""
    import typer
    from typer.main import get_command

    from jaxreg.cli._commands import app

    try:
        return int(get_command(app).main(args=words, prog_name="jaxreg", standalone_mode=False) or 0)
    except typer.Abort:
        return 130
    except Exception as error:
        # The base of what typer says of words that do not fit: where it is defined changes between versions.
        if not isinstance(error, typer.BadParameter.__mro__[2]):
            raise
        raise ValueError(_misfit(error, words)) from None


def _misfit(error: Any, words: list[str]) -> str:
    """What typer says of words that do not fit, with what was given."""
    from jaxreg.cli._commands import sweep
    from jaxreg.cli._messages import _guess

    kinds = get_type_hints(sweep)
    asked = "jaxreg sweep --help" if "sweep" in words else "jaxreg --help"
    for option in getattr(getattr(error, "param", None), "opts", ()):
        given = [after for before, after in pairwise(words) if before == option]
        given += [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
        wanted = {int: "a whole number", float: "a number", float | None: "a number"}
        kind = wanted.get(kinds.get(error.param.name))
        if given and kind:
            return f"{option} is {given[-1]!r}: wanted {kind}; see {asked}"
    said = " ".join(error.format_message().split())
    if unknown := re.match(r"No such (option|command):? '?([^\s']+?)'?(\.|\s|$)", said):
        options = [f"--{name}" for name in ("help", "version", *kinds)] + ["--no-cache", "--no-standardize"]
        guess = _guess(unknown[2], options if unknown[1] == "option" else ["sweep"])
        return f"no {unknown[1]} {unknown[2]!r}: {guess}{'' if guess.endswith('?') else ','} see {asked}"
    return f"{said[:1].lower()}{said[1:].rstrip('.')}; see {asked}"


def _words(error: Exception) -> str:
    """An error as one line."""
    said = " ".join(str(error).split())
    said = said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
    match error:
        case ModuleNotFoundError() if error.name and "pip install" not in said:
            return f"this needs {error.name.split('.')[0]}: pip install 'jaxreg[cli]'"
        case MemoryError() | RuntimeError() if isinstance(error, MemoryError) or _exhausted(said):
            todo = "take fewer rows, columns or --lambdas, or --dtype float32"
            return f"the memory is too small for this ({said or 'no details'}): {todo}"
        case OSError() if error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror.lower()}"
        case ValueError() | TypeError() | OSError() | ImportError() | RuntimeError() if said:
            return said
    return (
        f"{type(error).__name__} ({said or 'no message'}) is a fault of jaxreg, not of the data:"
        " set JAXREG_TRACEBACK=1, run again and report what it prints"
    )


def _exhausted(said: str) -> bool:
    return "RESOURCE_EXHAUSTED" in said or "out of memory" in said.lower()


if __name__ == "__main__":
    import _jaxreg_cli

    sys.exit(_jaxreg_cli.main())
