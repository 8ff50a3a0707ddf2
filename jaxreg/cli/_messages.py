"""Error messages of the command: one line that says what was got, what was wanted and what to do."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

__all__ = ["counted", "did_you_mean", "one_line", "printable", "quoted", "refusal", "wanted_one_of"]

#: Similarity, from 0 to 1, above which a known word is suggested for an unknown one.
_SIMILAR = 0.5
#: Characters of a name that a message shows.
_NAME_LENGTH = 40
#: Names of a list that a message shows.
_NAMES_SHOWN = 8
#: Characters of another library's message that are quoted.
_QUOTE_LENGTH = 160
#: Unicode categories on which a terminal acts: controls, changes of direction, line and paragraph ends.
_CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def refusal(got: str, wanted: str, todo: str) -> ValueError:
    """Return the error for input that cannot be used."""
    return ValueError(f"{got}: wanted {wanted}; {todo}")


def wanted_one_of(options: Iterable[str], word: str) -> str:
    """List the options, and suggest the one most similar to an unknown word.

    >>> wanted_one_of(["squared", "huber"], "sqared")
    "wanted one of 'squared', 'huber'; did you mean 'squared'?"
    """
    options = list(options)
    return f"wanted one of {quoted(options)}; {did_you_mean(options, word)}"


def did_you_mean(options: Iterable[str], word: str) -> str:
    """Suggest the option most similar to an unknown word, ignoring case.

    >>> did_you_mean(["squared", "huber"], "Sqared"), did_you_mean(["squared", "huber"], "x")
    ("did you mean 'squared'?", 'correct the name')
    """
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=_SIMILAR)
    return f"did you mean {by_lower[close[0]]!r}?" if close else "correct the name"


def quoted(names: Iterable[object]) -> str:
    """Quote names, each cut after 40 characters and the list after 8 names."""
    names = [str(name) for name in names]
    cut = [name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…" for name in names]
    shown = ", ".join(map(repr, cut[:_NAMES_SHOWN]))
    return f"{shown} … and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown


def one_line(error: BaseException) -> str:
    """Return the start of an error's message on one line, without the full stop."""
    return " ".join(str(error).split())[:_QUOTE_LENGTH].rstrip(".")


def printable(text: str) -> str:
    r"""Escape the characters on which a terminal acts instead of showing them.

    >>> len("\N{ESCAPE}"), len(printable("\N{ESCAPE}"))
    (1, 4)
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _CONTROLS
        else character
        for character in text
    )
