"""The table of all members, from what the code does: `python -m tests.penalties.table` prints it.

It stands in the docstring of `jaxreg.penalties`; test_table.py holds the two equal.
"""

import inspect
import re
from functools import cache

import numpy as np

from tests.members import COMBINED, MEMBERS
from tests.penalties.harness import SUBJECTS

HEADS = ("penalty", "formula", "convex", "exact zeros", "conjugate", "prox in a metric")


def formula(cls: type) -> str:
    """The first $...$ of the docstring, else the text up to the first colon or stop."""
    doc = inspect.getdoc(cls)
    math = re.search(r"\$(.*?)\$", doc, re.S)
    if math:
        return "$" + " ".join(math[1].split()) + "$"
    return " ".join(re.split(r"[:,;(]|\. ", doc)[0].split()).replace("`", "").removeprefix("The constraint ")


def example(cls: type):
    """Its example for a vector, else for a matrix, and params that fit."""
    for shape in ((6,), (3, 2)):
        found = None if cls.__name__ in COMBINED else cls.example(shape)
        if found is not None:
            return found, np.random.default_rng(1).normal(size=(40, *shape))
    return None, None


#: Columns that follow from the penalty inside, for members whose example holds one.
INHERITED = {"Orthogonal": ("convex", "conjugate"), "Toward": HEADS[2:]}


def row(name: str) -> list[str]:
    p, _ = example(MEMBERS[name])
    if p is None:
        return [name, formula(MEMBERS[name]), *["of its parts"] * 4]
    proxes = SUBJECTS[name if name in SUBJECTS else f"{name} (3, 2)"].landed
    zero = proxes[:8, 2:5] == 0  # of eight random points, at steps 0.3, 1 and 5
    zeros = bool(np.any(np.any(zero, axis=-1) & ~np.all(zero, axis=-1)))  # some weights, not all at once
    said = ["yes" if x else "no" for x in (p.convex, zeros, p.has_conjugate, p.metric)]
    inherited = INHERITED.get(name, ())
    said = ["of its parts" if head in inherited else x for head, x in zip(HEADS[2:], said, strict=True)]
    return [name, formula(MEMBERS[name]), *said]


@cache
def table() -> str:
    """Markdown, one row per member in the order of `__all__`."""
    rows = [list(HEADS), ["---"] * len(HEADS), *[row(name) for name in MEMBERS]]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in rows)


if __name__ == "__main__":
    print(table())
