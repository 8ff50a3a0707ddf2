"""The command `jaxreg` as it is installed: Ctrl-C ends it at once and with one line, also while it loads.

The module stands outside the package because importing any part of `jaxreg` loads JAX. That takes a second or
two, in which an interrupt would raise inside the imports, where no code of the command could catch it.
"""

import os
import signal
from types import FrameType

__all__ = ["main"]


def main() -> int:
    """Run the command on the words of the command line and return the exit status."""
    # A handler of one's own: an ignored interrupt, as under nohup, stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from jaxreg.cli import main as cli

    return cli.main()


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process without an exception.

    Several threads import modules, and an exception in the middle of an import can leave its lock held, for
    which the others would wait for ever. Where files are written, Ctrl-C raises: see `jaxreg.cli.write`.
    """
    if os.isatty(2):
        os.write(2, b"\r\x1b[K\x1b[?25h")  # clear the progress bar and show the cursor that it hides
    os.write(2, b"error: interrupted; no file was left half written\n")
    os._exit(130)
