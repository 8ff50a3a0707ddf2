"""Show a bar of steps on stderr while the command works, then the report on stdout."""

from __future__ import annotations

import pathlib
import re
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from jaxreg.cli import coefficients, report
from jaxreg.cli._messages import counted, printable
from jaxreg.cli.load import Table

if TYPE_CHECKING:
    from xarray import Dataset

    from jaxreg.cli.choose import Chosen


#: Characters of "note: ".
_NOTE_INDENT = 6


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


def _wrapped(text: str, width: int, indent: int = 0) -> str:
    """Break a text at spaces, not between a number and its sign or unit; indent all lines but the first."""
    bound = re.sub(r" (?=[%=±])|(?<=[=±²]) ", "\0", printable(text))
    found = textwrap.wrap(bound, width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return "\n".join(found).replace("\0", " ")


def lines(texts: list[str], error: bool = False) -> None:
    """Print lines of text, on stderr where `error`."""
    console = Console(highlight=False, markup=False, stderr=error)
    for text in texts:
        if text.startswith("Written: "):
            console.print(printable(text), soft_wrap=True)
        else:
            console.print(_wrapped(text, console.width))


def pairs(rows: list[tuple[str, str]]) -> None:
    """Print names and their meanings in two columns."""
    from rich.table import Table as RichTable

    out = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0))
    out.add_column(no_wrap=True, style="bold")
    out.add_column()
    for name, meaning in rows:
        out.add_row(name, meaning)
    Console(highlight=False, markup=False).print(out)


def opening(table: Table, notes: list[str]) -> None:
    """Print what was read, and the notes on what was done to the data."""
    console = Console(highlight=False, markup=False)
    n, p = table.X.shape
    size = f"{counted(n, 'row')}, {counted(p, 'feature')}"
    read = f"{table.name}: {size}, target {table.target}, loss {table.loss}"
    console.print(_wrapped(read, console.width), style="bold")
    for note in (*table.notes, *notes):
        console.print(_wrapped(f"note: {note}", console.width, _NOTE_INDENT))


class Results(NamedTuple):
    """Results of a sweep that the closing report shows: `lines` are the comparison and the reservations."""

    dataset: Dataset
    chosen: Chosen | None
    lines: list[str]
    written: list[pathlib.Path]


def closing(results: Results) -> None:
    """Print the tables, their legend, a sentence for each penalty, the chosen model and the files written."""
    dataset, chosen, lines, written = results
    console = Console(highlight=False, markup=False)
    parts = [dataset.isel(penalty=k) for k in range(dataset.sizes["penalty"])]
    for part in parts:
        console.print()
        console.print(report.table(part, width=console.width))
    console.print()
    for line in report.legend(dataset):
        console.print(_wrapped(line, console.width, report.LEGEND_INDENT))
    console.print()
    for line in (*map(report.sentence, parts), *report.remarks(dataset)):
        console.print(_wrapped(line, console.width))
    if chosen is not None:
        console.print()
        console.print(_wrapped(report.headline(chosen, dataset), console.width), style="bold")
        console.print(coefficients.table(chosen, bool(dataset.attrs["standardize"])))
        console.print()
    for line in lines:
        console.print(_wrapped(line, console.width))
    console.print(printable(f"Written: {', '.join(map(str, written))}"), soft_wrap=True)
