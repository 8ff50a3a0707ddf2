"""Entry point of the installed command `jaxreg`: Ctrl-C ends it at once, with one line, even while it loads.

The module stands outside the package because importing any part of `jaxreg` loads JAX. That takes a second or
two, in which an interrupt would raise inside the imports, where no code of the command could catch it.
"""

import gc
import os
import signal
from types import FrameType

__all__ = ["main"]

#: Objects allocated between two garbage collections. Imports and traces make many objects that live as long
#: as the process: collecting takes a fifth of the command's time and frees little.
_COLLECT_AFTER = 1_000_000


def main() -> int:
    """Run the command on the arguments of the process and return the exit status."""
    # Only Python's default is replaced: an interrupt that is ignored, as under nohup, stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_at_once)
    gc.set_threshold(_COLLECT_AFTER)
    from jaxreg.cli.main import main as run_command

    return run_command()


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    """End the process without an exception.

    Several threads import modules, and an exception in the middle of an import can leave its lock held, so
    that the other threads wait for ever. `jaxreg.cli.write` lets Ctrl-C raise while files are written.
    """
    if os.isatty(2):
        os.write(2, b"\r\x1b[K\x1b[?25h")  # clear the progress bar and show the cursor that it hides
    os.write(2, b"error: interrupted; no file was left half written\n")
    os._exit(130)
