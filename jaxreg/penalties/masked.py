"""Penalties on some of the weights: `Masked(p, mask)` and `Partition({label: p}, labels)`.

A mask, or a tree of labels, is given as a prefix of the params or as a function of the params that returns
one, as in optax. Plain booleans and labels are static, so that they are known while tracing; boolean arrays
are leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxreg._pytree import along, is_complex, is_weight, weights_of
from jaxreg._typing import LabelsLike, MaskLike, Params, Scalar, StepSize, TreeStructure
from jaxreg.penalties._leafwise import Leafwise, SeparablePenalty
from jaxreg.penalties.base import Capabilities, Penalty
from jaxreg.penalties.combine import Combination, NamedCombination, Sum
from jaxreg.penalties.piecewise_quadratic import Elementary

__all__ = ["Masked", "Partition"]


class _StaticTree(NamedTuple):
    """A pytree as a hashable value: its structure and leaves."""

    structure: TreeStructure
    leaves: tuple[bool | str | Array | None, ...]

    def tree(self) -> PyTree:
        return jax.tree.unflatten(self.structure, self.leaves)


#: A static tree, or a function of the params that returns a tree.
_TreeRule = _StaticTree | Callable[[Params], PyTree]


def _is_rule(x: MaskLike | LabelsLike) -> bool:
    """Return whether a mask or labels are a function of the params.

    A mask may have the structure of a model, and a model can be called.
    """
    return callable(x) and not isinstance(x, eqx.Module)


class Masked(Combination):
    """`penalty` where `mask` is true, 0 elsewhere.

    Args:
        penalty: Any penalty; a separable one if the mask holds arrays.
        mask: A boolean, a tree of booleans or boolean arrays that is a prefix of the params, or a function of
            the params that returns one. An array selects entries or rows of a leaf.

    Raises:
        ValueError: The mask holds something else, or is not a prefix of the params.
        TypeError: An array masks a penalty that is not separable.

    >>> from jaxreg.penalties import L1
    >>> Masked(L1(1.0), jnp.array([True, False])).prox(jnp.array([3.0, 3.0]), 1.0).tolist()
    [2.0, 3.0]
    """

    penalty: Penalty
    #: The arrays of the mask.
    arrays: list[Array]
    #: The mask with None in place of each array, or a function of the params.
    rule: _TreeRule = eqx.field(static=True)

    def __init__(self, penalty: Penalty, mask: MaskLike) -> None:
        self.penalty, self.arrays = penalty, []
        self.rule = mask
        if not _is_rule(mask):
            _check_mask(mask)
            leaves, structure = jax.tree.flatten(mask)
            self.arrays = [jnp.asarray(leaf) for leaf in leaves if not _is_boolean(leaf)]
            flags = tuple(bool(leaf) if _is_boolean(leaf) else None for leaf in leaves)
            self.rule = _StaticTree(structure, flags)

    @property
    def parts(self) -> tuple[Penalty, ...]:
        return (self.penalty,)

    @property
    def capabilities(self) -> Capabilities:
        return self.penalty.capabilities._replace(keeps_order=False)

    def mask(self, params: Params) -> list[bool | Array]:
        """Return, per weight leaf, a bool or a boolean array that broadcasts against the leaf."""
        pairs = zip(self._mask_of_leaves(params), jax.tree.leaves(params), strict=True)
        return [_broadcast_mask(m, leaf) for m, leaf in pairs if is_weight(leaf)]

    def _mask_of_leaves(self, params: Params) -> list[bool | Array]:
        """Return the mask at each leaf of the params, weight or not."""
        if isinstance(self.rule, _StaticTree):
            arrays = iter(self.arrays)
            leaves = tuple(next(arrays) if flag is None else flag for flag in self.rule.leaves)
            mask = self.rule._replace(leaves=leaves).tree()
        else:
            mask = self.rule(params)
            _check_mask(mask)
        try:
            # A mask shaped like a model has None where the model holds no weight, such as a function.
            full = jax.tree.map(
                lambda m, sub: jax.tree.map(lambda _: m is not None and m, sub),
                mask,
                params,
                is_leaf=lambda x: x is None,
            )
        except ValueError as error:
            raise ValueError(
                f"the mask's structure {jax.tree.structure(mask)} is not a prefix of the params'"
                f" {jax.tree.structure(params)}: give one boolean per leaf or subtree"
            ) from error
        return jax.tree.leaves(full)

    def value(self, params: Params) -> Scalar:
        per_leaf = self.per_leaf(params)
        if per_leaf is not None:
            return Leafwise(per_leaf, params).value()
        return (
            self.penalty.value(self._selected(params)) if any(self.acts_on_weights(params)) else jnp.zeros(())
        )

    def per_leaf(self, params: Params) -> list[SeparablePenalty] | None:
        per_leaf = self.penalty.per_leaf(params)
        if per_leaf is None:
            return None
        return [_mask_leaf(g, m) for g, m in zip(per_leaf, self.mask(params), strict=True)]

    def acts_on_leaves(self, params: Params) -> list[bool]:
        return [not (_is_boolean(m) and not m) for m in self._mask_of_leaves(params)]

    def take(self, index: Int[Array, " k"]) -> Self:
        arrays = [m[index] if m.ndim else m for m in self.arrays]
        out = eqx.tree_at(lambda p: p.penalty, self, self.penalty.take(index))
        return eqx.tree_at(lambda p: p.arrays, out, arrays) if arrays else out

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        return eqx.tree_at(lambda p: p.penalty, self, self.penalty.for_scaled_params(scale))

    def _display_name(self) -> str:
        return self.penalty._display_name()

    def _selected(self, params: Params) -> Params:
        """Return the params with None for the weights that the mask leaves out."""
        leaves, structure = jax.tree.flatten(params)
        if not all(isinstance(m, bool) for m in self.mask(params)):
            raise TypeError(
                f"{type(self.penalty).__name__} is not separable: mask whole leaves by booleans, not parts of"
                " them by arrays"
            )
        pairs = zip(leaves, self.acts_on_leaves(params), strict=True)
        keep = lambda leaf, selected: selected or not (is_weight(leaf) or is_complex(leaf))  # noqa: E731
        return structure.unflatten([leaf if keep(leaf, selected) else None for leaf, selected in pairs])

    def _merge(self, params: Params, new: Params) -> Params:
        """Return the params with the selected weights replaced by the leaves of `new`."""
        leaves, put = weights_of(params)
        own = iter(weights_of(new)[0])
        return put([next(own) if m else w for w, m in zip(leaves, self.mask(params), strict=True)])

    def _coupled_prox(self, params: Params, step: StepSize) -> Params:
        if not any(self.acts_on_weights(params)):
            return params
        steps = along(step, params, "step")
        if not all(t is steps[0] for t in steps):
            step = self._selected(weights_of(params)[1](steps))
        return self._merge(params, self.penalty.prox(self._selected(params), step))

    def _coupled_conjugate(self, dual: Params) -> Scalar:
        inner = (
            self.penalty.conjugate(self._selected(dual)) if any(self.acts_on_weights(dual)) else jnp.zeros(())
        )
        return self._where_rest_is_zero(dual, inner, jnp.inf)

    def _coupled_dual_scale(self, dual: Params) -> Scalar:
        inner = (
            self.penalty.dual_scale(self._selected(dual)) if any(self.acts_on_weights(dual)) else jnp.ones(())
        )
        return self._where_rest_is_zero(dual, inner, 0.0)

    def _coupled_project_on_unpenalised(self, direction: Params) -> Params:
        if not any(self.acts_on_weights(direction)):
            return direction
        return self._merge(direction, self.penalty.project_on_unpenalised(self._selected(direction)))

    def _where_rest_is_zero(self, dual: Params, inside: Scalar, outside: float) -> Scalar:
        """Return `inside` if the dual is 0 on the leaves that the mask leaves out, else `outside`."""
        rest = [jnp.all(u == 0) for u, m in zip(weights_of(dual)[0], self.mask(dual), strict=True) if not m]
        return jnp.where(jnp.all(jnp.stack(rest)), inside, outside) if rest else inside


class Partition(NamedCombination):
    """A separate penalty on each part of the params, chosen by label; None leaves a part unpenalised.

    Args:
        penalties: Dictionary from labels to penalties.
        labels: A tree of labels that is a prefix of the params, or a function of the params that returns one,
            as in `optax.partition`.

    Raises:
        ValueError: A label has no penalty, or the labels are not a prefix of the params.

    >>> from jaxreg.penalties import L1, SquaredL2
    >>> p = Partition({"sparse": L1(1.0), "small": SquaredL2(1.0)}, {"a": "sparse", "b": "small"})
    >>> out = p.prox({"a": jnp.array([3.0]), "b": jnp.array([3.0])}, 1.0)
    >>> out["a"].tolist(), out["b"].tolist()
    ([2.0], [1.5])
    """

    penalties: dict[str, Penalty]
    labels: _TreeRule = eqx.field(static=True)

    def __init__(self, penalties: dict[str, Penalty], labels: LabelsLike) -> None:
        self.penalties = dict(penalties)
        if not self.penalties:
            raise ValueError("Partition: penalties is empty, wanted a penalty for each label")
        for label, penalty in self.penalties.items():
            if not isinstance(penalty, Penalty):
                kind = type(penalty).__name__
                raise TypeError(f"Partition: wanted a penalty for the label {label!r}, got {kind}")
        if _is_rule(labels):
            self.labels = labels
        else:
            leaves, structure = jax.tree.flatten(labels, is_leaf=lambda x: x is None)
            self.labels = _StaticTree(structure, tuple(leaves))
            _check_labels(labels, tuple(self.penalties))

    def composed(self) -> Penalty:
        known = tuple(self.penalties)
        return Sum(
            tuple(Masked(p, _HasLabel(label, self.labels, known)) for label, p in self.penalties.items())
        )

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        scaled = {label: penalty.for_scaled_params(scale) for label, penalty in self.penalties.items()}
        return eqx.tree_at(lambda p: p.penalties, self, scaled)

    def take(self, index: Int[Array, " k"]) -> Self:
        raise TypeError("Partition cannot be restricted to some coordinates: take its penalties apart first")


@dataclass(frozen=True)
class _HasLabel:
    """Mask of the leaves with one label. Equal masks compare as equal, so that a mask may be static."""

    label: str
    labels: _TreeRule
    known: tuple[str, ...]

    def __call__(self, params: Params) -> Params:
        if isinstance(self.labels, _StaticTree):
            tree = self.labels.tree()
        else:
            tree = self.labels(params)
            _check_labels(tree, self.known)
        return jax.tree.map(lambda label: label == self.label, tree, is_leaf=lambda x: x is None)


def _check_labels(labels: PyTree[str | None], known: tuple[str, ...]) -> None:
    leaves = jax.tree.leaves(labels, is_leaf=lambda x: x is None)
    unknown = [label for label in leaves if label is not None and label not in known]
    if unknown:
        raise ValueError(
            f"Partition: no penalty for the label {unknown[0]!r}, there are"
            f" {', '.join(map(repr, known))}: add it, or label the leaf None"
        )


def _mask_leaf(penalty: SeparablePenalty, mask: bool | Array) -> SeparablePenalty:
    """Return a separable penalty on one leaf where the mask is true."""
    if isinstance(mask, bool):
        return penalty if mask else Elementary()
    return penalty.masked(mask)


def _is_boolean(x: object) -> bool:
    return isinstance(x, bool | np.bool_)


def _check_mask(mask: PyTree[bool | Array]) -> None:
    for leaf in jax.tree.leaves(mask):
        if not _is_boolean(leaf) and (not hasattr(leaf, "dtype") or leaf.dtype != bool):
            raise ValueError(
                f"a mask holds booleans, this one holds {leaf!r}: write True, False or boolean arrays"
            )


def _broadcast_mask(mask: bool | Array, leaf: Array) -> bool | Array:
    """Return a bool, or an array that broadcasts against the leaf."""
    if _is_boolean(mask):
        return bool(mask)
    mask = jnp.asarray(mask)
    if mask.ndim == 1 and leaf.ndim == 2 and mask.shape == leaf.shape[:1]:
        return mask[:, None]
    if mask.ndim and mask.shape != leaf.shape:
        raise ValueError(
            f"a mask of shape {mask.shape} does not fit a leaf of shape {leaf.shape}: give one boolean, one"
            " per row, or one per entry"
        )
    return mask
