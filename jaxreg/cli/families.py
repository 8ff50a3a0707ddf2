"""Families of penalties that the command knows: a name, a number, and a function of λ.

A new family is an entry of `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from jaxreg.cli._coding import LOSSES
from jaxreg.cli._messages import refusal, wanted_one_of
from jaxreg.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    ElasticNet,
    GroupL2,
    GroupMCP,
    LHalf,
    NonNegative,
    RowL2,
    SparseGroup,
    SquaredL2,
)

if TYPE_CHECKING:
    import numpy as np

    from jaxreg._typing import Scalar
    from jaxreg.penalties import Family, Penalty

__all__ = ["FAMILIES", "DataForm", "FamilyEntry", "Member", "described", "member", "parse"]


class Number(NamedTuple):
    """The number after the colon of a family's name: its letter, default and open or closed range."""

    letter: str
    default: float
    low: float
    high: float
    meaning: str


class FamilyEntry(NamedTuple):
    """A family of penalties.

    Attributes:
        label: Name in reports; the number follows it.
        meaning: One line for `jaxreg penalties`.
        build: Function from (λ, number, groups) to a penalty.
        number: The number after the colon, or None.
        whole: The same for factors that enter together; None where the family has no such form.
        needs: "groups", "classes" or "".
        thresholds: Whether weights are all 0 at some λ, at which the grid then starts.
    """

    label: str
    meaning: str
    build: Callable[[Scalar, float, np.ndarray | None], Penalty]
    number: Number | None = None
    whole: Callable[[Scalar, float, np.ndarray | None], Penalty] | None = None
    needs: str = ""
    thresholds: bool = True


class DataForm(NamedTuple):
    """Facts about the data on which a family depends: group labels of the features, number of classes."""

    groups: np.ndarray | None = None
    classes: int = 0


class Member(NamedTuple):
    """A family as it is solved for some data.

    Attributes:
        label: Name in reports.
        family: Function from λ to a penalty.
        thresholds: Whether weights are all 0 at some λ.
        note: A sentence where factors do not enter together, "" otherwise.
    """

    label: str
    family: Family
    thresholds: bool
    note: str = ""


class Parsed(NamedTuple):
    """A name from the command line: the entry and its number."""

    name: str
    entry: FamilyEntry
    number: float


def _group(lam: Scalar, number: float, groups: np.ndarray) -> Penalty:
    return GroupL2(lam, groups)


def _group_mcp(lam: Scalar, gamma: float, groups: np.ndarray) -> Penalty:
    return GroupMCP(lam, groups, gamma)


def _group_elastic_net(lam: Scalar, ratio: float, groups: np.ndarray) -> Penalty:
    return GroupL2(lam * ratio, groups) + SquaredL2(lam * (1 - ratio))


_RATIO = Number("R", 0.5, 0.0, 1.0, "share of L1")
_GAMMA = Number("G", 3.0, 1.0, 1e6, "concavity")

FAMILIES: dict[str, FamilyEntry] = {
    "l1": FamilyEntry(
        "L1",
        "the lasso: λΣ|w|, few weights that are not 0",
        lambda lam, number, groups: L1(lam),
        whole=_group,
    ),
    "l2": FamilyEntry(
        "L2",
        "ridge: λ/2·Σw², all weights, shrunk",
        lambda lam, number, groups: SquaredL2(lam),
        thresholds=False,
    ),
    "elastic-net": FamilyEntry(
        "elastic net",
        "R parts of L1 and 1 − R of L2: correlated features enter together",
        lambda lam, ratio, groups: ElasticNet(lam, ratio),
        _RATIO,
        _group_elastic_net,
    ),
    "nonnegative-l1": FamilyEntry(
        "nonnegative L1", "L1 with all weights ≥ 0", lambda lam, number, groups: L1(lam) + NonNegative()
    ),
    "nonnegative-l2": FamilyEntry(
        "nonnegative L2",
        "L2 with all weights ≥ 0",
        lambda lam, number, groups: SquaredL2(lam) + NonNegative(),
        thresholds=False,
    ),
    "mcp": FamilyEntry(
        "MCP",
        "not convex: small weights become 0, large ones are not shrunk; L1 as G grows",
        lambda lam, gamma, groups: MCP(lam, gamma),
        _GAMMA,
        _group_mcp,
    ),
    "scad": FamilyEntry(
        "SCAD",
        "not convex: like MCP, with a wider L1 part; L1 as A grows",
        lambda lam, a, groups: SCAD(lam, a),
        Number("A", 3.7, 2.0, 1e6, "concavity"),
    ),
    "l-half": FamilyEntry(
        "L½", "not convex: λΣ|w|^½, fewer weights than L1", lambda lam, number, groups: LHalf(lam)
    ),
    "l0": FamilyEntry(
        "L0", "not convex: λ for each weight that is not 0", lambda lam, number, groups: L0(lam)
    ),
    "group": FamilyEntry(
        "group L2", "the group lasso: all columns of a text column enter together", _group, needs="groups"
    ),
    "sparse-group": FamilyEntry(
        "sparse group",
        "few text columns, and few levels in each: R parts of L1, 1 − R of group",
        lambda lam, ratio, groups: SparseGroup(lam, groups, ratio),
        _RATIO,
        needs="groups",
    ),
    "group-mcp": FamilyEntry(
        "group MCP", "not convex: group, without shrinking large groups", _group_mcp, _GAMMA, needs="groups"
    ),
    "rows": FamilyEntry(
        "rows L2",
        "of several classes: a feature enters for all classes together",
        lambda lam, number, groups: RowL2(lam),
        needs="classes",
    ),
}
#: Names of the families in other programs.
_ALIASES = {
    "lasso": "l1",
    "ridge": "l2",
    "tikhonov": "l2",
    "weight-decay": "l2",
    "enet": "elastic-net:0.5",
    "elasticnet": "elastic-net:0.5",
    "group-lasso": "group",
    "grouplasso": "group",
    "grlasso": "group",
    "group-l2": "group",
    "sgl": "sparse-group:0.5",
    "sparse-group-lasso": "sparse-group:0.5",
    "nonnegative": "nonnegative-l1",
    "nnls": "nonnegative-l1 or nonnegative-l2",
    "best-subset": "l0",
    "multitask": "rows",
    "bridge": "l-half",
}


def parse(name: str) -> Parsed:
    """Return the family of a name such as l1 or elastic-net:0.5.

    >>> parse("elastic-net:0.25").number, parse("mcp").number
    (0.25, 3.0)

    Raises:
        ValueError: The name is unknown, or the number is not in its range.
    """
    kind, colon, text = name.strip().lower().replace("_", "-").partition(":")
    if kind in LOSSES:
        raise ValueError(f"no penalty {name!r}: it is a loss, which --loss {kind} sets; see jaxreg penalties")
    if kind in _ALIASES:
        raise ValueError(f"no penalty {name!r}: its name here is {_ALIASES[kind]}; see jaxreg penalties")
    if kind not in FAMILIES:
        shown = wanted_one_of([_shown(key) for key in FAMILIES], name)
        raise ValueError(f"no penalty {name!r}: {shown}, see jaxreg penalties")
    entry = FAMILIES[kind]
    if entry.number is None:
        if colon:
            raise refusal(
                f"penalty {name!r} has the number {text!r}", f"{kind}, which takes none", "leave it out"
            )
        return Parsed(kind, entry, 0.0)
    try:
        value = float(text) if text else entry.number.default
    except ValueError:
        value = float("nan")
    low, high = entry.number.low, entry.number.high
    fits = low <= value <= high if entry.number is _RATIO else low < value <= high
    if not fits:
        what = "ratio" if entry.number is _RATIO else "number"
        wanted = (
            f"an L1 ratio between {low:g} and {high:g}"
            if entry.number is _RATIO
            else f"a number above {low:g}"
        )
        todo = f"try {kind}:{entry.number.default:g}"
        raise refusal(f"penalty {name!r} has the {what} {text!r}", wanted, todo)
    return Parsed(kind, entry, value)


def member(name: str, data: DataForm) -> Member:
    """Return the family of a name as it is solved for some data.

    Where text columns have groups of columns, l1, elastic-net and mcp take the form in which these enter
    together, and a family without such a form has a note.

    Raises:
        ValueError: As in `parse`, or the family needs groups or classes that the data do not have.
    """
    parsed = parse(name)
    entry, number = parsed.entry, parsed.number
    label = f"{entry.label} {number:g}" if entry.number else entry.label
    if entry.needs == "groups" and data.groups is None:
        got = f"penalty {name!r} needs groups, and the data have none"
        wanted = "a text column of three or more levels, with --categorical group"
        raise refusal(got, wanted, "take l1, or add such a column")
    if entry.needs == "classes" and data.classes < 3:
        got = f"penalty {name!r} needs several classes, and the target has {data.classes or 'none'}"
        raise refusal(got, "a multinomial loss", "take l1")
    thresholds = entry.thresholds and not (entry.label == "elastic net" and number == 0)
    groups, build, note = data.groups, entry.build, ""
    if groups is not None and not entry.needs:
        if entry.whole is not None:
            build, label = entry.whole, f"{label} (whole factors)"
        elif thresholds:
            note = f"{label} has no form for whole factors: each column of a factor enters on its own."
    return Member(label, lambda lam: build(lam, number, groups), thresholds, note)


def described() -> list[tuple[str, str]]:
    """Return the name of each family, with the letter of its number, and its meaning."""
    lines = []
    for key, entry in FAMILIES.items():
        number = (
            f" ({entry.number.letter}: {entry.number.meaning}, by default {entry.number.default:g})"
            if entry.number
            else ""
        )
        lines.append((_shown(key), entry.meaning + number))
    return lines


def _shown(key: str) -> str:
    number = FAMILIES[key].number
    return f"{key}:{number.letter}" if number else key
