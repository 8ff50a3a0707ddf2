"""How the front words its errors: one line that says what was got, what was wanted, what to do."""

from __future__ import annotations

import difflib
import importlib
import unicodedata
from collections.abc import Iterable
from typing import Any

__all__ = ["nearest", "printable"]


def nearest(word: str, options: Iterable[str]) -> str:
    """What to say of a word that is not among the options.

    >>> nearest("sqared", ["squared", "huber"])
    "wanted one of 'squared', 'huber'; did you mean 'squared'?"
    """
    options = list(options)
    return f"wanted one of {_names(options)}; {_guess(word, options)}"


def printable(text: str) -> str:
    """Escape what a terminal would act on instead of showing: controls, changes of direction, line ends.

    >>> len("\N{ESCAPE}"), len(printable("\N{ESCAPE}"))
    (1, 4)
    """
    acted_on = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in acted_on
        else character
        for character in text
    )


def _wrong(got: str, wanted: str, todo: str) -> ValueError:
    return ValueError(f"{got}: wanted {wanted}; {todo}")


def _empty(source: str) -> ValueError:
    return _wrong(f"{source!r} is empty", "a header and at least two rows", "save it again")


def _names(names: Iterable[Any]) -> str:
    """Names in quotes, each cut after 40 characters and the list after 8."""
    names = [str(name) for name in names]
    shown = ", ".join(repr(name if len(name) <= 40 else name[:39] + "…") for name in names[:8])
    return f"{shown} … and {len(names) - 8} more" if len(names) > 8 else shown


def _guess(word: str, options: Iterable[str]) -> str:
    lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return f"did you mean {lower[close[0]]!r}?" if close else "correct the name"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160].rstrip(".")


def _need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f"this needs {package}: pip install 'jaxreg[cli]'") from error
