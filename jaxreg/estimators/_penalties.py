"""Penalties by name, as families that the options of an estimator complete."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxreg._typing import ArrayLike, Scalar
from jaxreg.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    ElasticNet,
    Family,
    GroupL2,
    GroupMCP,
    LHalf,
    NonNegative,
    Penalty,
    RowL2,
    SparseGroup,
    SquaredL2,
)
from jaxreg.penalties.family import checked

__all__ = ["PenaltyOptions", "family_of"]


class PenaltyOptions(NamedTuple):
    """Options of an estimator that complete a penalty; None where they were not given.

    Attributes:
        l1_ratio: Share of L1 in a mixture, or several to choose from.
        gamma: Concavity of a non-convex penalty.
        feature_groups: Group label of each feature (p,).
        penalty_factors: Factor of λ for each feature (p,), or for each group (G,).
        positive: Whether coefficients are at least 0; None for no.
    """

    l1_ratio: float | Sequence[float] = 0.5
    gamma: float | None = None
    feature_groups: ArrayLike | None = None
    penalty_factors: ArrayLike | None = None
    positive: bool | None = None


class _Form(NamedTuple):
    """A penalty with a name: a function of λ and options, and the options that it uses."""

    build: Callable[[Scalar, PenaltyOptions], Penalty]
    uses: tuple[str, ...] = ()


def _concave(penalty: Callable[..., Penalty], *args: ArrayLike, gamma: float | None) -> Penalty:
    """Return a penalty with its own default of the concavity where none is given."""
    return penalty(*args) if gamma is None else penalty(*args, gamma)


# Names of the options that some penalties use.
_MIX = "l1_ratio"
_GAMMA = "gamma"
_GROUPS = "feature_groups"
_FACTORS = "penalty_factors"
_SIGN = "positive"

_FORMS: dict[str, _Form] = {
    "l1": _Form(lambda lam, o: L1(lam, o.penalty_factors), (_FACTORS, _SIGN)),
    "l2": _Form(lambda lam, o: SquaredL2(lam, o.penalty_factors), (_FACTORS, _SIGN)),
    "elastic_net": _Form(
        lambda lam, o: ElasticNet(lam, o.l1_ratio, o.penalty_factors), (_MIX, _FACTORS, _SIGN)
    ),
    "mcp": _Form(lambda lam, o: _concave(MCP, lam, gamma=o.gamma), (_GAMMA,)),
    "scad": _Form(lambda lam, o: _concave(SCAD, lam, gamma=o.gamma), (_GAMMA,)),
    "l0": _Form(lambda lam, o: L0(lam)),
    "l_half": _Form(lambda lam, o: LHalf(lam)),
    "group": _Form(lambda lam, o: GroupL2(lam, o.feature_groups, o.penalty_factors), (_GROUPS, _FACTORS)),
    "sparse_group": _Form(
        lambda lam, o: SparseGroup(lam, o.feature_groups, o.l1_ratio, o.penalty_factors),
        (_MIX, _GROUPS, _FACTORS),
    ),
    "group_mcp": _Form(
        lambda lam, o: _concave(GroupMCP, lam, o.feature_groups, gamma=o.gamma), (_GROUPS, _GAMMA)
    ),
    "rows": _Form(lambda lam, o: RowL2(lam)),
}


def family_of(penalty: str | Family, options: PenaltyOptions, n_features: int) -> Family:
    """Return the family of a name, which also takes `l1_ratio`, or the family that is given.

    Raises:
        TypeError: `penalty` is a penalty with its λ, or no function.
        ValueError: The name is unknown, an option is not one of this penalty's, or does not fit the features.

    >>> family_of("L1", PenaltyOptions(), 2)(0.5).prox(np.array([2.0, 0.1]), 1.0).tolist()
    [1.5, 0.0]
    """
    given = {name for name in (_GAMMA, _GROUPS, _FACTORS) if getattr(options, name) is not None}
    given |= {_SIGN} if options.positive else set()
    given |= {_MIX} if np.ndim(options.l1_ratio) else set()
    if not isinstance(penalty, str):
        _require_used(given, (_MIX,), "a family of your own")
        return checked(penalty)
    name = penalty.strip().lower().replace("-", "_").replace(" ", "_")
    if name not in _FORMS:
        raise ValueError(f"penalty is {penalty!r}: wanted one of {', '.join(_FORMS)}, or a function of λ")
    form = _FORMS[name]
    _require_used(given, form.uses, f"penalty {name!r}")
    if _GROUPS in form.uses and _GROUPS not in given:
        raise ValueError(f"penalty {name!r} needs feature_groups: give one label for each feature of X")
    return partial(_penalty, form, _as_arrays(options, n_features))


def _penalty(form: _Form, options: PenaltyOptions, lam: Scalar, l1_ratio: float | None = None) -> Penalty:
    options = options if l1_ratio is None else options._replace(l1_ratio=l1_ratio)
    penalty = form.build(lam, options)
    return penalty + NonNegative() if options.positive else penalty


def _require_used(given: set[str], uses: tuple[str, ...], what: str) -> None:
    """Raise ValueError for an option that a penalty does not use."""
    for name in sorted(given - set(uses)):
        option = f"list of {name}" if name == _MIX else name
        raise ValueError(f"{what} takes no {option}: leave it out, or choose a penalty that does")


def _as_arrays(options: PenaltyOptions, n_features: int) -> PenaltyOptions:
    """Return the options with labels as 0 … G − 1 and factors as floats; ValueError for other lengths."""
    groups, factors = options.feature_groups, options.penalty_factors
    wanted, unit = n_features, "feature"
    if groups is not None:
        groups = np.asarray(groups)
        _require_length("feature_groups", groups, n_features, "feature")
        names, groups = np.unique(groups, return_inverse=True)
        wanted, unit = len(names), "group"
    if factors is not None:
        factors = np.asarray(factors, float)
        _require_length("penalty_factors", factors, wanted, unit)
    return options._replace(feature_groups=groups, penalty_factors=factors)


def _require_length(name: str, values: np.ndarray, length: int, unit: str) -> None:
    if values.shape != (length,):
        raise ValueError(f"{name} has shape {values.shape}: wanted one entry for each {unit}, ({length},)")
