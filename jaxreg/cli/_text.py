"""Read files of text: encoding, separator and decimal mark are recognised, and notes say what was taken."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import gzip
import itertools
import re
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from jaxreg._extras import import_extra
from jaxreg.cli._messages import counted, one_line, quoted, refusal
from jaxreg.cli._settings import Reading

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ReadFile", "check_names", "empty", "looks_like_data", "on_one_line", "read_text", "save_again"]

save_again = "save it again or correct its ending"
#: Separators that are recognised.
_SEPARATORS = ",;\t|"
_SEPARATOR_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
#: Characters at the start of a file by which its separator and decimal mark are recognised.
_SNIFFED = 65_536
#: Lines among these characters that are looked at.
_SNIFFED_LINES = 200
#: Names of columns that a message about rows that do not fit shows.
_NAMES_SHOWN = 3
#: First line by which Excel recognises the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.I)
#: Cells that count as missing, besides those of pandas (empty, NA, N/A, NaN, null, None).
_MISSING = ("?", "-", "--", ".", "na")
#: Byte order marks of UTF-16.
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_POINT_NUMBER = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
#: 1,234 and 1,234,567: a comma that separates thousands, or a decimal comma of three digits.
_COMMA_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
#: 1.234,56: the comma is the decimal mark.
_POINT_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+")
_ANY_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")


class ReadFile(NamedTuple):
    """The table of a file, and sentences that say how it was read."""

    frame: pd.DataFrame
    notes: list[str]
    #: Decimal mark of the file.
    decimal: str = "."


class _Form(NamedTuple):
    """Separator, decimal mark and other marks of the cells of a text."""

    separator: str
    decimal: str
    thousands: str | None


def check_names(names: list[str], where: str) -> None:
    """Raise `ValueError` where two columns have the same name."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise refusal(f"{where} has columns of the same name, {quoted(repeated)}", "one each", "rename them")


def empty(source: str) -> ValueError:
    """Return the error for a file without contents."""
    return refusal(f"{source!r} is empty", "a header and at least two rows", "save it again")


def read_text(path: Path, source: str, separator: str, reading: Reading) -> ReadFile:
    """Read a text file; `separator` is the one that its ending stands for.

    Raises:
        ValueError: The file is binary, damaged, or its rows do not fit its header.
    """
    open_text = gzip.open if source.lower().endswith(".gz") else open
    try:
        with open_text(path, "rb") as file:
            start = file.read(2)
        encodings = ("utf-16",) if start in _UTF16 else ("utf-8-sig", "cp1252")
        for encoding in encodings:
            try:
                with open_text(path, "rt", encoding=encoding, newline="") as file:
                    read = _read_rows(file, source, separator, reading)
            except UnicodeDecodeError:
                if encoding == encodings[-1]:
                    raise
                continue
            if encoding == "cp1252":
                read.notes.insert(0, "The file is not UTF-8, so it was read as Windows-1252.")
            return read
        raise UnicodeError
    except (UnicodeError, csv.Error) as error:
        got = f"{source!r} is binary, or text in another encoding than UTF-8"
        raise refusal(got, "UTF-8 text", save_again) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        got = f"{source!r} cannot be unpacked ({one_line(error)})"
        raise refusal(got, "a whole gzip file", save_again) from error


def _read_rows(file: TextIO, source: str, separator: str, reading: Reading) -> ReadFile:
    """Read the header, then the rows: pandas would rename columns of the same name."""
    pd = import_extra("pandas")
    sample = file.read(_SNIFFED)
    if "\0" in sample:
        # Not a UnicodeDecodeError: no other encoding is tried.
        raise UnicodeError("a zero byte")
    named = _SEPARATOR_LINE.match(sample)
    if named and reading.sep is None:
        reading = dataclasses.replace(reading, sep=named[1])
    form = _recognise(sample[named.end() if named else 0 :], separator, reading)
    start = 1 if named else 0
    _to_line(file, start)
    names, header_end = _read_header(file, source, form.separator)
    notes = _notes(form, separator, reading)
    if not reading.header:
        names, header_end = [f"column_{at}" for at in range(1, len(names) + 1)], 0
        _to_line(file, start)
    else:
        check_names(names, repr(source))
    shape: dict[str, object] = {"header": None, "names": names, "index_col": False}
    shape |= {"decimal": form.decimal, "thousands": form.thousands, "na_values": _MISSING}
    shape["sep"] = r"\s+" if form.separator == " " else form.separator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(file, skipinitialspace=True, low_memory=False, **shape)
            return ReadFile(frame, notes, form.decimal)
    except pd.errors.EmptyDataError as error:
        raise empty(source) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise _misfit(source, names, start + header_end, error) from error


def _to_line(file: TextIO, lines: int) -> None:
    """Go to the start of a file and over some lines."""
    file.seek(0)
    for _ in range(lines):
        file.readline()


def _misfit(source: str, names: list[str], header_end: int, error: Exception) -> ValueError:
    """Return the error for rows with more values than there are columns, or an open quote."""
    # pandas counts lines from below the header.
    if at := re.search(r"in line (\d+), saw (\d+)", str(error)):
        where = f"line {int(at[1]) + header_end} has {at[2]} values"
    else:
        where = "too many values, or an open quote"
    them = "it" if len(names) == 1 else "them"
    columns = f"{counted(len(names), 'column')}, {quoted(names[:_NAMES_SHOWN])}"
    got = f"{source!r} has {columns}, and rows that do not fit {them} ({where})"
    return refusal(got, "a value for each column", "correct its separators and quotes, or give --sep")


def _read_header(file: TextIO, source: str, separator: str) -> tuple[list[str], int]:
    """Read the names of the columns; returns them and the number of the line on which they end."""
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
    cells = next((cells for cells in lines if any(map(str.strip, cells))), None)
    if cells is None:
        raise empty(source)
    if separator == " ":
        cells = [cell for cell in cells if cell]
    return [on_one_line(cell) or f"column_{at}" for at, cell in enumerate(cells, 1)], lines.line_num


def _recognise(sample: str, separator: str, reading: Reading) -> _Form:
    """Recognise the separator and the decimal mark that the options leave open."""
    lines = sample.splitlines()
    # The last line of a sample that is not the whole file may be cut.
    whole = len(sample) < _SNIFFED
    lines = [line for line in (lines if whole else lines[:-1] or lines) if line.strip()][:_SNIFFED_LINES]
    chosen = reading.sep or max(
        _SEPARATORS, key=lambda mark: (*_width(lines, mark), mark == separator, -_SEPARATORS.index(mark))
    )
    if reading.sep is None and _width(lines, chosen)[1] < 2:
        chosen = separator
    cells = [cell.strip() for row in _rows(lines, chosen) for cell in row]
    if any(map(_POINT_THOUSANDS.fullmatch, cells)) and reading.decimal != ".":
        return _Form(chosen, ",", ".")
    if reading.decimal:
        return _Form(chosen, reading.decimal, None)
    commas = [
        cell for cell in cells if _COMMA_NUMBER.fullmatch(cell) and not _COMMA_THOUSANDS.fullmatch(cell)
    ]
    points = [cell for cell in cells if _POINT_NUMBER.fullmatch(cell)]
    return _Form(chosen, "," if len(commas) > len(points) else ".", None)


def _width(lines: list[str], separator: str) -> tuple[bool, int]:
    """Return whether nine lines of ten have as many cells as the first, and this number."""
    try:
        counts = [len(row) for row in _rows(lines, separator)]
    except csv.Error:
        return False, 0
    if not counts:
        return False, 0
    return 10 * sum(count == counts[0] for count in counts) >= 9 * len(counts) and counts[0] > 1, counts[0]


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _notes(form: _Form, separator: str, reading: Reading) -> list[str]:
    """Say what was recognised, where the ending of the file stands for something else."""
    notes = []
    if reading.sep is None and form.separator != separator:
        notes.append(f"The columns are separated by {_SEPARATOR_WORDS[form.separator]}.")
    if reading.decimal is None and form.decimal == ",":
        thousands = " and thousands by points" if form.thousands else ""
        notes.append(f"Decimals are marked by commas{thousands} (--decimal . reads them otherwise).")
    return notes


def on_one_line(name: str) -> str:
    """Return a name without line breaks, which nobody can type."""
    return re.sub(r"\s*[\r\n]\s*", " ", name.strip())


def looks_like_data(names: list[str]) -> bool:
    """Return whether all names of columns are numbers, as where a file has no header."""
    return all(_ANY_NUMBER.fullmatch(name) for name in itertools.islice(names, _SNIFFED_LINES))
