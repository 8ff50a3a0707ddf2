"""Train a model by a pure function: a scan of optimiser steps over mini-batches, with a history.

Nothing in it touches the host and every size is fixed, so it runs under jit and vmaps over λ, keys and rates.
The branches inside depend on the step count alone, which is the same for all lanes: they stay branches under
vmap, and are not computed on both sides.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree

from jaxreg._pytree import weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, TreeStructure
from jaxreg.penalties.base import Penalty
from jaxreg.training._batches import Batches, check_counts
from jaxreg.training.transforms.links import require_last

__all__ = ["train"]

#: A function of the model to record.
Metric = Callable[[Params], PyTree[Array]]


def train(  # noqa: PLR0913, public options by keyword
    loss_fn: Callable[..., Scalar],
    model: Params,
    optimizer: optax.GradientTransformation,
    data: PyTree[ArrayLike],
    *,
    steps: int,
    batch_size: int | None = None,
    key: Array | None = None,
    penalty: Penalty | None = None,
    after_step: Callable[[Params, Array], Params] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    every: int | None = None,
    stochastic: bool = False,
) -> tuple[Params, dict[str, PyTree[Array]]]:
    """Train a model by `steps` steps of an optax optimiser.

    Args:
        loss_fn: `loss_fn(model, batch)` returns the mean loss of a batch, a scalar. With `stochastic` it is
            called as `loss_fn(model, batch, key)`, with a fresh key at every step, for dropout and the like.
        model: Any pytree: an Equinox module, or plain params that `loss_fn` applies. Its arrays of floats are
            trained, all other leaves stay as they are.
        optimizer: An optax optimiser, such as `jaxreg.transforms.proximal_adam`.
        data: A pytree of arrays with one common length n. A batch has the same structure, with `batch_size`
            entries along the leading axis.
        steps: Number of steps.
        batch_size: None takes all data at every step. Otherwise batches are drawn without replacement: each
            epoch is a fresh permutation of the n samples, cut into n // batch_size batches; the
            n % batch_size samples left over are not used in that epoch.
        key: PRNG key of the permutations and of `stochastic`.
        penalty: Reported in the history only. The optimiser or `loss_fn` applies it, so that nothing is
            penalised twice.
        after_step: `after_step(model, count)` runs after every step: an exact prox or projection, where
            adding a step would break ties or bounds.
        metrics: Functions of the model to record, by name.
        every: Steps between two entries of the history; must divide `steps`. By default the history has one
            entry, at the end.
        stochastic: Whether `loss_fn` takes a key.

    Returns:
        The trained model, and the history of R = steps // every entries: `step` (R,); `loss` (R,), the mean
        of the batch losses since the entry before; with a penalty `penalty` (R,), its value, and `zeros`
        (R,), the fraction of exact zeros in the leaves that it covers; and every metric, stacked.

    Raises:
        ValueError: Sizes do not fit, a metric has a name of the history, `after_step` changes the form of the
            model, or the optimiser's state shows a link after the proximal step.
        TypeError: The loss is not a scalar, the model has no array of floats, or `penalty` is not a penalty.

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
    check_counts(steps, every, batch_size)
    batches = Batches(data, batch_size, key)
    weights, static = eqx.partition(model, eqx.is_inexact_array)
    weights_of(weights)  # refuses a model with nothing to train
    metrics = _all_metrics(penalty, metrics or {})
    value_fn = loss_fn if stochastic else lambda model, batch, key: loss_fn(model, batch)
    step = _step_fn(value_fn, static, optax.with_extra_args_support(optimizer), batches, after_step)
    state = optimizer.init(weights)
    require_last(state)
    init, counts = _Carry(weights, state, batches.init()), jnp.arange(steps, dtype=jnp.int32)
    carry, history = jax.lax.scan(_entry_fn(step, static, metrics), init, counts.reshape(-1, every))
    return eqx.combine(carry.weights, static), history


class _Carry(NamedTuple):
    """Trained weights, state of the optimiser, and order of the present epoch."""

    weights: Params
    state: optax.OptState
    order: Int[Array, " n"]


def _step_fn(
    loss_fn: Callable[[Params, PyTree[Array], Array], Scalar],
    static: Params,
    optimizer: optax.GradientTransformationExtraArgs,
    batches: Batches,
    after_step: Callable[[Params, Array], Params] | None,
) -> Callable[[_Carry, Array], tuple[_Carry, Array]]:
    """Return the function that takes one step, from carry and count to the next carry and the loss."""

    def step(carry: _Carry, count: Array) -> tuple[_Carry, Array]:
        batch = batches.draw(carry.order, count)

        def objective(weights: Params) -> Scalar:
            return _check_scalar(loss_fn(eqx.combine(weights, static), batch.data, batch.key))

        value, gradient = jax.value_and_grad(objective)(carry.weights)
        updates, state = optimizer.update(
            gradient, carry.state, carry.weights, value=value, grad=gradient, value_fn=objective
        )
        weights = optax.apply_updates(carry.weights, updates)
        if after_step is not None:
            model = after_step(eqx.combine(weights, static), count)
            weights = _check_form(eqx.filter(model, eqx.is_inexact_array), weights)
        return _Carry(weights, state, batch.order), value

    return step


def _entry_fn(
    step: Callable[[_Carry, Array], tuple[_Carry, Array]],
    static: Params,
    metrics: dict[str, Metric],
) -> Callable[[_Carry, Array], tuple[_Carry, dict[str, PyTree[Array]]]]:
    """Return the function that takes the steps between two entries of the history and makes the entry."""

    def entry(carry: _Carry, counts: Array) -> tuple[_Carry, dict[str, PyTree[Array]]]:
        carry, losses = jax.lax.scan(step, carry, counts)
        model = eqx.combine(carry.weights, static)
        recorded = {name: metric(model) for name, metric in metrics.items()}
        return carry, {"step": counts[-1] + 1, "loss": jnp.mean(losses), **recorded}

    return entry


def _all_metrics(penalty: Penalty | None, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Join the metrics of the penalty and of the user; ValueError for a name that the history uses itself."""
    joined = {**_penalty_metrics(penalty), **metrics}
    if clash := sorted({"step", "loss"} & set(joined) | ({"penalty", "zeros"} & set(metrics))):
        raise ValueError(f"the history has its own {clash[0]!r}: give that metric another name")
    return joined


def _penalty_metrics(penalty: Penalty | None) -> dict[str, Metric]:
    """Return the value of a penalty and the fraction of exact zeros as functions of the model."""
    if penalty is None:
        return {}
    if not isinstance(penalty, Penalty):
        raise TypeError(f"wanted a penalty such as jaxreg.L1(0.1), got {type(penalty).__name__}")

    def zeros(model: Params) -> Array:
        leaves = [
            w
            for w, covered in zip(weights_of(model)[0], penalty.acts_on_weights(model), strict=True)
            if covered
        ]
        count = sum((jnp.sum(w == 0) for w in leaves), jnp.zeros((), int))
        dtype = jnp.result_type(jnp.float32, *(w.dtype for w in leaves))
        return count.astype(dtype) / max(sum(w.size for w in leaves), 1)

    return {"penalty": penalty.value, "zeros": zeros}


def _check_scalar(value: Scalar) -> Scalar:
    """Return the loss of a batch; TypeError where it is not one float."""
    array = isinstance(value, jax.Array | np.ndarray | float)
    if not array or jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = f"shape {jnp.shape(value)}, dtype {jnp.result_type(value)}" if array else type(value).__name__
        raise TypeError(f"loss_fn must return one float, the mean loss of the batch; got {got}")
    return value


def _check_form(weights: Params, before: Params) -> Params:
    """Return the weights of the model that `after_step` returned; ValueError where their form changed."""
    if _form(weights) != _form(before):
        raise ValueError(
            "after_step must return a model of the structure, shapes and dtypes it was given; it was given"
            f" {_form(before)} and returned {_form(weights)}"
        )
    return weights


def _form(tree: Params) -> tuple[TreeStructure, list[str]]:
    """Return the structure of a tree, and shape and dtype of every leaf."""
    return jax.tree.structure(tree), [f"{x.dtype}{list(x.shape)}" for x in jax.tree.leaves(tree)]
