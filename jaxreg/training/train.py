"""One training run as a pure function: a scan of optimiser steps over mini-batches, and what it records.

Nothing in it touches the host and every size is fixed, so it runs under jit and vmaps over λ, keys and rates.
The branches inside depend on the step count alone, which is the same for all lanes: they stay branches under
vmap, and are not computed on both sides.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxreg._pytree import weights_of
from jaxreg._typing import Params
from jaxreg.penalties.base import Penalty
from jaxreg.training.transforms.links import require_last

__all__ = ["train"]


def train(
    loss_fn: Callable[..., Any],
    model: Params,
    optimizer: optax.GradientTransformation,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    key: Array | None = None,
    penalty: Penalty | None = None,
    after_step: Callable[[Params, Array], Params] | None = None,
    metrics: Mapping[str, Callable[[Params], Any]] | None = None,
    every: int | None = None,
    stochastic: bool = False,
) -> tuple[Params, dict[str, Any]]:
    """Train a model by `steps` steps of an optax optimiser; returns (model, history).

    - `loss_fn(model, batch)` is the mean loss of a batch, a scalar; `batch` has the structure of `data`, with
      `batch_size` entries along the leading axis of every array. With `stochastic=True` it is called as
      `loss_fn(model, batch, key)`, a fresh key at every step, for dropout and the like.
    - `model` is any pytree: an Equinox module, or plain params that `loss_fn` applies. Its arrays of floats
      are trained, all else is left alone.
    - `batch_size=None` takes all data at every step. Otherwise batches are drawn without replacement: each
      epoch is a fresh permutation of the n samples by `key`, cut into n // batch_size batches; the
      n % batch_size samples left over sit out that epoch.
    - `penalty` is only reported: the optimiser or `loss_fn` applies it, so that nothing is penalised twice.
    - `after_step(model, count)` runs after every step: an exact prox or projection, where adding a step would
      break ties or bounds.

    The history holds one entry for every `every` steps (which must divide `steps`; default: one entry, at the
    end), R in all: `step` (R,); `loss` (R,), the mean of the batch losses since the entry before; with a
    penalty `penalty` (R,), its value, and `zeros` (R,), the fraction of exact zeros in the leaves that it
    covers; and every `metrics[name](model)`, stacked.

    ValueError for sizes that do not fit and for an optimiser whose state shows a link after the proximal
    step; TypeError for a loss that is not a scalar and for a model without an array of floats.

    >>> import jaxreg as jr
    >>> X = jax.random.normal(jax.random.key(0), (200, 5))
    >>> y = X[:, 0] - 2 * X[:, 1]
    >>> loss_fn = lambda w, batch: 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)
    >>> optimizer = jr.transforms.proximal_sgd(0.1, jr.L1(0.1))
    >>> w, history = train(
    ...     loss_fn, jnp.zeros(5), optimizer, (X, y), steps=200, batch_size=50, key=jax.random.key(1),
    ...     penalty=jr.L1(0.1), every=100)
    >>> (w != 0).tolist(), history["zeros"].shape
    ([True, True, False, False, False], (2,))
    """
    every = steps if every is None else every
    batches = _Batches(data, batch_size, key, steps, every)
    weights, static = eqx.partition(model, eqx.is_inexact_array)
    weights_of(weights)  # refuses a model with nothing to train
    reported = _reported(penalty, metrics or {})
    value = loss_fn if stochastic else lambda model, batch, noise: loss_fn(model, batch)
    step = _stepping(value, static, optax.with_extra_args_support(optimizer), batches, after_step)
    state = optimizer.init(weights)
    require_last(state)
    start, counts = _Carry(weights, state, batches.start()), jnp.arange(steps, dtype=jnp.int32)
    carry, history = jax.lax.scan(_recording(step, static, reported), start, counts.reshape(-1, every))
    return eqx.combine(carry.weights, static), history


def _stepping(
    loss_fn: Callable[[Params, Any, Any], Any],
    static: Params,
    optimizer: optax.GradientTransformationExtraArgs,
    batches: "_Batches",
    after_step: Callable[[Params, Array], Params] | None,
) -> Callable[["_Carry", Array], tuple["_Carry", Array]]:
    """One step on the next batch, as a function of the carry and the count; its second result is the loss."""

    def step(carry: _Carry, count: Array) -> tuple[_Carry, Array]:
        order, batch, noise = batches.draw(carry.order, count)

        def objective(weights: Params) -> Any:
            return _scalar(loss_fn(eqx.combine(weights, static), batch, noise))

        value, gradient = jax.value_and_grad(objective)(carry.weights)
        updates, state = optimizer.update(
            gradient, carry.state, carry.weights, value=value, grad=gradient, value_fn=objective
        )
        new = optax.apply_updates(carry.weights, updates)
        if after_step is not None:
            new = _alike(eqx.filter(after_step(eqx.combine(new, static), count), eqx.is_inexact_array), new)
        return _Carry(new, state, order), value

    return step


def _recording(
    step: Callable[["_Carry", Array], tuple["_Carry", Array]],
    static: Params,
    reported: dict[str, Callable[[Params], Any]],
) -> Callable[["_Carry", Array], tuple["_Carry", dict[str, Any]]]:
    """Some steps in a row, and the entry of the history after them."""

    def record(carry: _Carry, counts: Array) -> tuple[_Carry, dict[str, Any]]:
        carry, losses = jax.lax.scan(step, carry, counts)
        whole = eqx.combine(carry.weights, static)
        entry = {name: metric(whole) for name, metric in reported.items()}
        return carry, {"step": counts[-1] + 1, "loss": jnp.mean(losses), **entry}

    return record


def _reported(
    penalty: Penalty | None, metrics: Mapping[str, Callable[[Params], Any]]
) -> dict[str, Callable[[Params], Any]]:
    """What the history records of a model; ValueError where a metric has a name of its own."""
    reported = {**_report(penalty), **metrics}
    if clash := sorted({"step", "loss"} & set(reported) | ({"penalty", "zeros"} & set(metrics))):
        raise ValueError(f"the history has its own {clash[0]!r}: give that metric another name")
    return reported


def _scalar(value: Any) -> Any:
    """The loss of a batch; TypeError where it is not one float."""
    array = isinstance(value, jax.Array | np.ndarray | float)
    if not array or jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = f"shape {jnp.shape(value)}, dtype {jnp.result_type(value)}" if array else type(value).__name__
        raise TypeError(f"loss_fn must return one float, the mean loss of the batch; got {got}")
    return value


def _alike(new: Params, before: Params) -> Params:
    """What `after_step` returned; ValueError where its form is another."""
    if _form(new) != _form(before):
        raise ValueError(
            "after_step must return a model of the structure, shapes and dtypes it was given; it was given"
            f" {_form(before)} and returned {_form(new)}"
        )
    return new


def _form(tree: Params) -> tuple[Any, list[str]]:
    """Structure, and shape and dtype of every leaf."""
    return jax.tree.structure(tree), [f"{x.dtype}{list(x.shape)}" for x in jax.tree.leaves(tree)]


class _Carry(NamedTuple):
    """What one step hands to the next: the trained weights, the optimiser's state, this epoch's order."""

    weights: Params
    state: Any
    order: Array


class _Batches:
    """Mini-batches without replacement, as a function of the step count."""

    def __init__(self, data: Any, size: int | None, key: Array | None, steps: int, every: int) -> None:
        for name, number in (("steps", steps), ("every", every), ("batch_size", 1 if size is None else size)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
                raise ValueError(f"{name} must be a whole number ≥ 1, got {number!r}")
        if steps % every:
            raise ValueError(f"every must divide steps, got every={every} and steps={steps}")
        arrays = jax.tree.map(jnp.asarray, data)
        lengths = sorted({leaf.shape[0] if leaf.ndim else -1 for leaf in jax.tree.leaves(arrays)})
        if len(lengths) != 1 or lengths[0] < 1:
            raise ValueError(
                f"data must hold arrays of one common length ≥ 1, got lengths {lengths or 'none'}"
            )
        if size is not None and size > lengths[0]:
            raise ValueError(f"batch_size must be at most the {lengths[0]} samples of the data, got {size}")
        if size is not None and key is None:
            raise ValueError("mini-batches are drawn at random: give key=jax.random.key(0), say")
        self.data, self.n, self.size = arrays, lengths[0], size
        self.key = jax.random.key(0) if key is None else key

    def start(self) -> Array:
        """Room for the order of an epoch."""
        return jnp.arange(self.n if self.size is not None else 0, dtype=jnp.int32)

    def draw(self, order: Array, count: Array) -> tuple[Array, Any, Array]:
        """The order of the epoch, the batch of this step, and a key for the loss's own noise."""
        noise = jax.random.fold_in(jax.random.fold_in(self.key, 1), count)
        if self.size is None:
            return order, self.data, noise
        epoch, place = jnp.divmod(count, self.n // self.size)
        shuffle = jax.random.fold_in(jax.random.fold_in(self.key, 0), epoch)
        fresh = lambda: jax.random.permutation(shuffle, order.size).astype(order.dtype)  # noqa: E731
        order = jax.lax.cond(place == 0, fresh, lambda: order)
        chosen = jax.lax.dynamic_slice_in_dim(order, place * self.size, self.size)
        return order, jax.tree.map(lambda x: x[chosen], self.data), noise


def _report(penalty: Penalty | None) -> dict[str, Callable[[Params], Any]]:
    """What a penalty adds to the history."""
    if penalty is None:
        return {}
    if not isinstance(penalty, Penalty):
        raise TypeError(f"wanted a penalty such as jaxreg.L1(0.1), got {type(penalty).__name__}")

    def zeros(model: Params) -> Array:
        leaves = [w for w, on in zip(weights_of(model)[0], penalty.covers(model), strict=True) if on]
        count = sum((jnp.sum(w == 0) for w in leaves), jnp.zeros((), int))
        dtype = jnp.result_type(jnp.float32, *(w.dtype for w in leaves))
        return count.astype(dtype) / max(sum(w.size for w in leaves), 1)

    return {"penalty": penalty.value, "zeros": zeros}
