"""Show the progress of a sweep on a terminal: lanes done, rate, time left."""

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["bar"]


@contextlib.contextmanager
def bar(total: int, done: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of lanes just done; without a terminal it shows nothing."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text
    except ImportError:
        wanted = False
    if not (wanted and sys.stderr.isatty()):
        yield lambda count: None
        return

    class Rate(ProgressColumn):
        """Lanes per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed else "compiling", style="progress.data.speed")

    columns = (TextColumn("lanes"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda count: progress.advance(task, count)
