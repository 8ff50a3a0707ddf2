"""Penalties on some of the weights: `Masked(p, mask)` and `Partition({label: p}, labels)`."""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._pytree import along, is_complex, is_weight, weights_of
from jaxreg._typing import Params, Scalar
from jaxreg.penalties import _rows
from jaxreg.penalties.base import Penalty, Rows, SeparablePenalty
from jaxreg.penalties.combine import Combined, Named, Sum
from jaxreg.penalties.separable import Elementary

__all__ = ["Masked", "Partition"]


class Masked(Combined):
    """`penalty` where `mask` is true, nothing elsewhere.

    `mask` is a boolean, a tree of booleans or boolean arrays that is a prefix of the params, or a function of
    the params that returns one, as in optax. Boolean arrays, which choose within a leaf, need a separable
    penalty. A mask of another structure or type raises ValueError.

    >>> from jaxreg.penalties import L1
    >>> Masked(L1(1.0), jnp.array([True, False])).prox(jnp.array([3.0, 3.0]), 1.0).tolist()
    [2.0, 3.0]
    """

    penalty: Penalty
    arrays: list[Array]
    form: tuple[Any, tuple[bool | None, ...]] | None = eqx.field(static=True)
    rule: Callable[[Params], Any] | None = eqx.field(static=True)

    def __init__(self, penalty: Penalty, mask: Any) -> None:
        self.penalty = penalty
        # A mask may have the shape of a model, and a model can be called.
        rule = callable(mask) and not isinstance(mask, eqx.Module)
        self.rule = mask if rule else None
        self.arrays, self.form = ([], None) if rule else _frozen(mask)

    @property
    def inner(self) -> tuple[Penalty, ...]:
        """The penalty alone."""
        return (self.penalty,)

    @property
    def has_conjugate(self) -> bool:
        """Of the inner penalty."""
        return self.penalty.has_conjugate

    def mask(self, params: Params) -> list[Any]:
        """Per weight leaf of the params a bool, or a boolean array of its shape or one per row."""
        pairs = zip(self._full(params), jax.tree.leaves(params), strict=True)
        return [_fitted(m, leaf) for m, leaf in pairs if is_weight(leaf)]

    def _full(self, params: Params) -> list[Any]:
        """Per leaf of the params, weight or not, what the mask holds there."""
        if self.form is not None:
            own = iter(self.arrays)
            structure, flags = self.form
            tree = jax.tree.unflatten(structure, [next(own) if flag is None else flag for flag in flags])
        elif self.rule is not None:
            tree = self.rule(params)
            _frozen(tree)
        try:
            # None stands where a model holds no weight: a function, say.
            full = jax.tree.map(
                lambda m, sub: jax.tree.map(lambda _: m is not None and m, sub),
                tree,
                params,
                is_leaf=lambda x: x is None,
            )
        except ValueError as error:
            raise ValueError(
                f"the mask's structure {jax.tree.structure(tree)} is not a prefix of the params'"
                f" {jax.tree.structure(params)}: give one boolean per leaf or subtree"
            ) from error
        return jax.tree.leaves(full)

    def value(self, params: Params) -> Scalar:
        """The value of the selected coordinates."""
        rows = self.rows(params)
        if rows is not None:
            return Rows(rows, params).value()
        return self.penalty.value(self._kept(params)) if any(self.covers(params)) else jnp.zeros(())

    def rows(self, params: Params) -> list[SeparablePenalty] | None:
        """The inner rows where the mask is true, neutral elsewhere."""
        rows = self.penalty.rows(params)
        if rows is None:
            return None
        pairs = zip(rows, self.mask(params), strict=True)
        return [(r if m else Elementary()) if isinstance(m, bool) else _rows.select(r, m) for r, m in pairs]

    def selects(self, params: Params) -> list[bool]:
        """The leaves whose mask is not false."""
        return [not (isinstance(m, bool | np.bool_) and not m) for m in self._full(params)]

    def take(self, index: Array) -> Self:
        """Of the inner penalty and of a mask with one entry per coordinate."""
        arrays = [m[index] if m.ndim else m for m in self.arrays]
        out = eqx.tree_at(lambda p: p.penalty, self, self.penalty.take(index))
        return eqx.tree_at(lambda p: p.arrays, out, arrays) if arrays else out

    def rescaled(self, scale: Array) -> Self:
        """Of the inner penalty."""
        return eqx.tree_at(lambda p: p.penalty, self, self.penalty.rescaled(scale))

    def _kept(self, params: Params) -> Params:
        """The params with None for the leaves that are not selected."""
        leaves, structure = jax.tree.flatten(params)
        if not all(isinstance(m, bool) for m in self.mask(params)):
            raise TypeError(
                f"{type(self.penalty).__name__} is not separable: mask whole leaves by booleans, not parts of"
                " them by arrays"
            )
        pairs = zip(leaves, self.selects(params), strict=True)
        return structure.unflatten([w if m or not _is_number(w) else None for w, m in pairs])

    def _merged(self, params: Params, new: Params, blank: Callable[[Array], Array]) -> Params:
        leaves, put = weights_of(params)
        own = iter(weights_of(new)[0])
        return put([next(own) if m else blank(w) for w, m in zip(leaves, self.mask(params), strict=True)])

    def _whole_prox(self, params: Params, step: Any) -> Params:
        if not any(self.covers(params)):
            return params
        steps = along(step, params, "step")
        if not all(t is steps[0] for t in steps):
            step = self._kept(weights_of(params)[1](steps))
        return self._merged(params, self.penalty.prox(self._kept(params), step), lambda w: w)

    def _whole_conjugate(self, dual: Params) -> Scalar:
        rest = [jnp.all(u == 0) for u, m in zip(weights_of(dual)[0], self.mask(dual), strict=True) if not m]
        inner = self.penalty.conjugate(self._kept(dual)) if any(self.covers(dual)) else jnp.zeros(())
        return jnp.where(jnp.all(jnp.stack(rest)), inner, jnp.inf) if rest else inner

    def _whole_dual_scale(self, dual: Params) -> Scalar:
        rest = [jnp.all(u == 0) for u, m in zip(weights_of(dual)[0], self.mask(dual), strict=True) if not m]
        inner = self.penalty.dual_scale(self._kept(dual)) if any(self.covers(dual)) else jnp.ones(())
        return jnp.where(jnp.all(jnp.stack(rest)), inner, 0.0) if rest else inner

    def _whole_free(self, direction: Params) -> Params:
        if not any(self.covers(direction)):
            return direction
        return self._merged(direction, self.penalty.free(self._kept(direction)), lambda w: w)


class Partition(Named):
    """Another penalty for every part of the params: that of its label. A leaf whose label is None has none.

    `penalties` maps labels to penalties; `labels` is a tree of labels that is a prefix of the params, or a
    function of the params that returns one, as in `optax.partition`. A label without a penalty raises
    ValueError, and so does a tree of another structure.

    >>> from jaxreg.penalties import L1, SquaredL2
    >>> p = Partition({"sparse": L1(1.0), "small": SquaredL2(1.0)}, {"a": "sparse", "b": "small"})
    >>> out = p.prox({"a": jnp.array([3.0]), "b": jnp.array([3.0])}, 1.0)
    >>> out["a"].tolist(), out["b"].tolist()
    ([2.0], [1.5])
    """

    penalties: dict[str, Penalty]
    labels: Any = eqx.field(static=True)

    def __init__(self, penalties: dict[str, Penalty], labels: Any) -> None:
        self.penalties = dict(penalties)
        if not self.penalties:
            raise ValueError("Partition: penalties is empty, wanted a penalty for each label")
        for label, penalty in self.penalties.items():
            if not isinstance(penalty, Penalty):
                kind = type(penalty).__name__
                raise TypeError(f"Partition: wanted a penalty for the label {label!r}, got {kind}")
        if callable(labels) and not isinstance(labels, eqx.Module):
            self.labels = labels
        else:
            leaves, structure = jax.tree.flatten(labels, is_leaf=lambda x: x is None)
            self._known(leaves)
            self.labels = (structure, tuple(leaves))

    def made_of(self) -> Penalty:
        """A sum of masked penalties."""
        return Sum(tuple(Masked(p, _Labelled(self, key)) for key, p in self.penalties.items()))

    def rescaled(self, scale: Array) -> Self:
        """Of every penalty."""
        moved = {key: penalty.rescaled(scale) for key, penalty in self.penalties.items()}
        return eqx.tree_at(lambda p: p.penalties, self, moved)

    def take(self, index: Array) -> Self:
        """TypeError: parts are whole leaves."""
        raise TypeError("Partition cannot be restricted to some coordinates: take its penalties apart first")

    def labelled(self, params: Params) -> Params:
        """The tree of labels for these params."""
        if isinstance(self.labels, tuple):
            return jax.tree.unflatten(*self.labels)
        tree = self.labels(params)
        self._known(jax.tree.leaves(tree, is_leaf=lambda x: x is None))
        return tree

    def _known(self, labels: list[Any]) -> None:
        unknown = [label for label in labels if label is not None and label not in self.penalties]
        if unknown:
            raise ValueError(
                f"Partition: no penalty for the label {unknown[0]!r}, there are"
                f" {', '.join(map(repr, self.penalties))}: add it, or label the leaf None"
            )


def _is_number(leaf: Any) -> bool:
    return is_weight(leaf) or is_complex(leaf)


class _Labelled:
    """The mask of one label: hashable and equal to its like, so that it may be static."""

    def __init__(self, partition: Partition, key: str) -> None:
        self.partition, self.key = partition, key

    def __call__(self, params: Params) -> Params:
        tree = self.partition.labelled(params)
        return jax.tree.map(lambda label: label == self.key, tree, is_leaf=lambda x: x is None)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Labelled) and self.key == other.key
        return same and self.partition.labels == other.partition.labels

    def __hash__(self) -> int:
        return hash((self.key, self.partition.labels))


def _frozen(mask: Any) -> tuple[list[Array], tuple[Any, tuple[bool | None, ...]]]:
    """Arrays of a mask, and its structure with the plain booleans, which are known while tracing."""
    leaves, structure = jax.tree.flatten(mask)
    arrays, flags = [], []
    for leaf in leaves:
        plain = isinstance(leaf, bool | np.bool_)
        if not plain and (not hasattr(leaf, "dtype") or leaf.dtype != bool):
            raise ValueError(
                f"a mask holds booleans, this one holds {leaf!r}: write True, False or boolean arrays"
            )
        flags.append(bool(leaf) if plain else None)
        arrays += [] if plain else [jnp.asarray(leaf)]
    return arrays, (structure, tuple(flags))


def _fitted(mask: Any, leaf: Array) -> Any:
    if isinstance(mask, bool | np.bool_):
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
