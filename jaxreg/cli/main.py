"""Run the command `jaxreg` and report every error to the user in one line.

An error says on stderr what was got, what was wanted and what to do, with exit status 2; Ctrl-C is 130, a
closed pipe 141. Set JAXREG_TRACEBACK=1 to see where in the code an error came from.
"""

import gc
import io
import os
import re
import sys
from itertools import pairwise
from typing import get_type_hints

from jaxreg.cli._messages import did_you_mean, printable

__all__ = ["main"]

_COMMANDS = ("sweep", "predict", "penalties")
#: Exit status of an error.
_ERROR = 2
#: Exit status that a shell reports for a process ended by SIGINT.
_INTERRUPTED = 130
#: Exit status that a shell reports for a process ended by SIGPIPE.
_PIPE_CLOSED = 141
#: Characters of an error message that are shown.
_MESSAGE_LENGTH = 600


def main(words: list[str] | None = None) -> int:
    """Run the command.

    Args:
        words: Arguments; None takes those of the process.

    Returns:
        The exit status: 0 for success, 2 for an error, 130 for Ctrl-C, 141 for a closed pipe. Raises only
        where JAXREG_TRACEBACK is set.
    """
    if words is None:
        status = main(sys.argv[1:])
        gc.freeze()
        return status
    _open_streams()
    try:
        return _run_reporting(words)
    except (BrokenPipeError, SystemExit):  # typer and rich turn a broken pipe into an exit
        return _close_pipe()


def _open_streams() -> None:
    """Give the process output streams that accept any text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as in `jaxreg sweep >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            # A terminal without λ shows "?" instead of stopping the work.
            stream.reconfigure(errors="replace")


def _run_reporting(words: list[str]) -> int:
    """Run the command and print an error in one line."""
    try:
        status = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("JAXREG_TRACEBACK"):
            raise
        print(f"error: {printable(_describe(error))}", file=sys.stderr)
        return _ERROR
    if status == _INTERRUPTED:
        print("error: interrupted; no file was left half written", file=sys.stderr)
    return status


def _close_pipe() -> int:
    """End quietly where the reader of the output has left, as in `jaxreg sweep --help | head -1`."""
    # Buffered output would raise again when the interpreter flushes it.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return _PIPE_CLOSED


def _run(words: list[str]) -> int:
    """Pass the words to typer. Its own errors, a box of several lines otherwise, become a `ValueError`."""
    import typer
    from typer.main import get_command

    from jaxreg.cli.commands import app

    try:
        return int(get_command(app).main(args=words, prog_name="jaxreg", standalone_mode=False) or 0)
    except typer.Abort:
        return _INTERRUPTED
    except Exception as error:
        # click's errors of usage. Which module defines their base depends on whether typer vendors click, but
        # all of them, and no others, have click's public method `format_message`.
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(_usage_error(error, words)) from None


def _usage_error(error: Exception, words: list[str]) -> str:
    """Reword an error of typer about the words of the command line, with the word that it is about."""
    from jaxreg.cli import commands

    name = next((name for name in _COMMANDS if name in words[:1]), None)
    types = get_type_hints(getattr(commands, name)) if name else get_type_hints(commands.sweep)
    see = f"see jaxreg {name} --help" if name else "see jaxreg --help"
    for option in getattr(getattr(error, "param", None), "opts", ()):
        given = [after for before, after in pairwise(words) if before == option]
        given += [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
        wanted = {int: "a whole number", float: "a number", float | None: "a number"}
        kind = wanted.get(types.get(error.param.name))
        if given and kind:
            return f"{option} is {given[-1]!r}: wanted {kind}; {see}"
    message = " ".join(error.format_message().split())
    if unknown := re.match(r"No such (option|command):? '?([^\s']+?)'?(\.|\s|$)", message):
        options = [f"--{name}" for name in ("help", "version", *types)] + [
            "--no-cache",
            "--no-standardize",
            "--no-header",
        ]
        guess = did_you_mean(options if unknown[1] == "option" else _COMMANDS, unknown[2])
        return f"no {unknown[1]} {unknown[2]!r}: {guess}{'' if guess.endswith('?') else ','} {see}"
    return f"{message[:1].lower()}{message[1:].rstrip('.')}; {see}"


def _describe(error: Exception) -> str:
    """Describe an error in one line that says what to do."""
    message = " ".join(str(error).split())
    if len(message) > _MESSAGE_LENGTH:
        message = message[: _MESSAGE_LENGTH - 1] + "…"
    match error:
        case ModuleNotFoundError() if error.name and "pip install" not in message:
            return f"this needs {error.name.split('.')[0]}: pip install 'jaxreg[cli]'"
        case MemoryError() | RuntimeError() if isinstance(error, MemoryError) or _out_of_memory(message):
            todo = "take fewer rows, columns or --lambdas, or --dtype float32"
            return f"the memory is too small for this ({message or 'no details'}): {todo}"
        case OSError() if error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror.lower()}"
        case ValueError() | TypeError() | OSError() | ImportError() | RuntimeError() if message:
            return message
    return (
        f"{type(error).__name__} ({message or 'no message'}) is a fault of jaxreg, not of the data:"
        " set JAXREG_TRACEBACK=1, run again and report what it prints"
    )


def _out_of_memory(message: str) -> bool:
    return "RESOURCE_EXHAUSTED" in message or "out of memory" in message.lower()


if __name__ == "__main__":
    import _jaxreg_cli

    sys.exit(_jaxreg_cli.main())
