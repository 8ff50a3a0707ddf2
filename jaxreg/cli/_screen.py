"""Show a bar of steps on stderr while the command works, then the report on stdout."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from jaxreg.cli import report
from jaxreg.cli._messages import printable
from jaxreg.cli.load import Table

if TYPE_CHECKING:
    from xarray import Dataset


class Steps:
    """Progress bar of `total` steps on stderr, removed at the end; nothing where stderr is no terminal.

    A call names the step that starts, and counts the step before as done.
    """

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns,
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total)
        self._started = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._bar.stop()

    def __call__(self, label: str) -> None:
        self._bar.update(self._task, advance=int(self._started), description=label, refresh=True)
        self._started = True

    def aside(self, show: Callable[[], None]) -> None:
        """Print something on stdout while the bar is hidden."""
        self._bar.stop()
        show()
        sys.stdout.flush()
        self._bar.start()


def opening(table: Table) -> None:
    """Print what was read, and the notes on what was done to the data."""
    console = Console(highlight=False, markup=False)
    n, p = table.X.shape
    read = f"{table.name}: {n} rows, {p} features, target {table.target}, loss {table.loss}"
    console.print(printable(read), style="bold")
    for note in table.notes:
        console.print(printable(f"note: {note}"))


def closing(dataset: Dataset, written: list[pathlib.Path]) -> None:
    """Print the tables, their legend, a sentence for each penalty, remarks, and the files written."""
    console = Console(highlight=False, markup=False)
    parts = [dataset.isel(penalty=k) for k in range(dataset.sizes["penalty"])]
    for part in parts:
        console.print()
        console.print(report.table(part))
    console.print()
    for line in (*report.legend(dataset), "", *map(report.sentence, parts), *report.remarks(dataset)):
        console.print(printable(line))
    console.print(printable(f"Written: {', '.join(map(str, written))}"), soft_wrap=True)
