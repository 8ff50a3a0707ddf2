"""Links of an optax chain: weight decay before or after the scaling, and the proximal step at the end.

Rates and λ are numbers or schedules (functions of the step count); a penalty may be such a function too:
`lambda count: L1(schedule(count))`. A penalty selects its leaves by `Masked`, a decay by its mask, which has
optax's forms: a tree of booleans that is a prefix of the params, or a function of the params.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxreg._module import with_public_names
from jaxreg._pytree import is_complex, is_weight, weights_of
from jaxreg._typing import ArrayLike, MaskLike, Params, StepSize
from jaxreg._validation import number, require_scalar
from jaxreg.penalties.base import Penalty, refuse_complex
from jaxreg.penalties.masked import Masked
from jaxreg.penalties.separable import SquaredL2

__all__ = [
    "ProximalState",
    "Rate",
    "ScheduledPenalty",
    "apply_prox",
    "check_penalty",
    "decoupled_l2_decay",
    "l2_decay",
    "prox_updates",
    "proximal",
    "require_last",
    "value_at",
    "widen",
]

#: A number or an optax schedule.
Rate = ArrayLike | optax.Schedule
#: A penalty, or a function of the step count that returns one.
ScheduledPenalty = Penalty | Callable[[Array], Penalty]

_Value = TypeVar("_Value")
_Penalty = TypeVar("_Penalty", bound=ScheduledPenalty)


class DecayState(NamedTuple):
    """State of a decay: the number of steps taken, for schedules."""

    count: Array


@with_public_names
class ProximalState(NamedTuple):
    """State of a proximal step: the number of steps taken, and the state of the optimiser inside."""

    count: Array
    inner: optax.OptState = ()


def l2_decay(lam: Rate, mask: MaskLike | None = None) -> optax.GradientTransformationExtraArgs:
    """Add λ·w to the gradient: the L2 penalty λ/2·Σw² of the cost, put before the scaling by a rate.

    Args:
        lam: A number ≥ 0 or a schedule.
        mask: Leaves or entries to decay; by default all.

    Raises:
        ValueError: λ is negative, the mask does not fit, or `update` is called without params.

    >>> import optax
    >>> link = optax.chain(l2_decay(0.5), optax.sgd(0.25))
    >>> w = jnp.array([2.0])
    >>> updates, _ = link.update(jnp.zeros(1), link.init(w), w)
    >>> updates.tolist()
    [-0.25]
    """
    return _decay(lam, 1.0, mask)


def decoupled_l2_decay(
    lam: Rate, learning_rate: Rate, mask: MaskLike | None = None
) -> optax.GradientTransformationExtraArgs:
    """Subtract η·λ·w from the step: AdamW's weight decay, put after the scaling by the rate η.

    With an adaptive optimiser this is not the L2 penalty of the cost: without noise AdamW ends at the minimum
    of the loss over ‖w‖∞ ≤ 1/λ.

    Args:
        lam: A number ≥ 0 or a schedule.
        learning_rate: The rate η of the optimiser, a number or a schedule.
        mask: Leaves or entries to decay; by default all.

    Raises:
        ValueError: λ is negative, the mask does not fit, or `update` is called without params.

    References:
        Loshchilov and Hutter (2019), Decoupled weight decay regularization.
        Xie and Li (2024), Implicit bias of AdamW.

    >>> import optax
    >>> link = optax.chain(optax.adam(0.25), decoupled_l2_decay(0.5, 0.25))
    >>> w = jnp.array([2.0])
    >>> updates, _ = link.update(jnp.zeros(1), link.init(w), w)
    >>> updates.tolist()
    [-0.25]
    """
    return _decay(lam, lambda count: -value_at(learning_rate, count), mask)


def _decay(lam: Rate, factor: Rate, mask: MaskLike | None) -> optax.GradientTransformationExtraArgs:
    """Add factor·λ·w to the updates."""
    if not callable(lam):
        require_scalar("lam", number(lam))
    masked = None if mask is None else Masked(SquaredL2(1.0), mask)
    penalty = SquaredL2(1.0) if masked is None else masked

    def init(params: Params) -> DecayState:
        return DecayState(jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates, state: DecayState, params: Params | None = None, **extra: object
    ) -> tuple[optax.Updates, DecayState]:
        _require_params(params, "decay")
        refuse_complex(penalty, params)
        scale = value_at(factor, state.count) * value_at(lam, state.count)
        masks = iter(masked.mask(params) if masked is not None else [])

        def one(w: Array, u: Array | None) -> Array | None:
            if not is_weight(w):
                return u
            mask = next(masks) if masked is not None else True
            if u is None or mask is False:
                return u
            decay = jnp.asarray(scale, w.dtype) * w
            return (u + (decay if mask is True else jnp.where(mask, decay, 0))).astype(u.dtype)

        new = jax.tree.map(one, params, updates, is_leaf=_is_none)
        return new, DecayState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def proximal(penalty: ScheduledPenalty, learning_rate: Rate) -> optax.GradientTransformationExtraArgs:
    """Turn the step u into prox(w + u, η·penalty) − w, which makes exact zeros: the last link of a chain.

    After plain gradient steps, `chain(sgd(η), proximal(penalty, η))` ends at a minimum of loss + penalty.
    With momentum or an adaptive scaling use `proximal_sgd`, `proximal_adam` and the like: this link after
    `sgd(η, momentum=0.9)` solves the problem with λ/10, and after `adam(η)` the problem of another metric.

    The new weight is exactly 0 where the prox is, in every float type and under jit, as long as this link is
    the last: a later link that scales or averages destroys the zeros (`jaxreg.train` refuses such a chain by
    `require_last`), and so do averages of the params such as schedule-free training. Equal weights (total
    variation) and bounds may be off by a rounding error, because the step is added: `apply_prox` assigns.

    Args:
        penalty: A penalty, or a function of the step count that returns one. `optax.inject_hyperparams` takes
            every callable argument for a schedule: to let it hold λ, give it a function that makes the chain.
        learning_rate: The rate η of the steps before, a number or a schedule.

    Raises:
        TypeError: `penalty` is neither a penalty nor a function.
        ValueError: `update` is called without params.

    >>> import jaxreg as jr, optax
    >>> w, chain = jnp.array([1.0, 0.05]), optax.chain(optax.sgd(0.25), proximal(jr.L1(1.0), 0.25))
    >>> updates, _ = chain.update(jnp.zeros(2), chain.init(w), w)
    >>> optax.apply_updates(w, updates).tolist()
    [0.75, 0.0]
    """
    check_penalty(penalty)

    def init(params: Params) -> ProximalState:
        return ProximalState(jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates, state: ProximalState, params: Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ProximalState]:
        step = value_at(learning_rate, state.count)
        new = prox_updates(params, updates, check_penalty(value_at(penalty, state.count)), step)
        return new, ProximalState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def apply_prox(params: Params, updates: optax.Updates, penalty: Penalty, step: StepSize) -> Params:
    """Return prox(params + updates, step), assigned in the params' dtypes.

    This replaces `optax.apply_updates` for penalties whose ties (total variation, SLOPE) or bounds (Box,
    balls) an addition would break.

    Args:
        params: The params.
        updates: Their updates; None where a leaf has none.
        penalty: The penalty.
        step: The rate of the updates, or a tree of one step per coordinate for a penalty that has a prox in a
            metric.

    >>> import jaxreg as jr
    >>> apply_prox(jnp.array([0.5, -0.25]), jnp.array([0.75, 0.75]), jr.Box(0.0, 1.0), 0.1).tolist()
    [1.0, 0.5]
    """
    check_penalty(penalty)
    new = penalty.prox(jax.tree.map(_updated, params, updates, is_leaf=_is_none), step)

    def assigned(w: Array, u: Array | None, n: Array) -> Array:
        if is_complex(w):  # left out by the penalty's mask
            return w if u is None else (w + u).astype(w.dtype)
        return n.astype(w.dtype) if is_weight(w) else w

    return jax.tree.map(assigned, params, updates, new, is_leaf=_is_none)


def require_last(state: optax.OptState) -> None:
    """Raise `ValueError` where a chain has a link after the proximal step, or an average around it.

    The state of the chain, as `init` returns it, shows chains and optax's schedule-free and lookahead
    wrappers; it does not show what an opaque function does to the updates afterwards.

    >>> import jaxreg as jr, optax
    >>> wrong = optax.chain(proximal(jr.L1(0.1), 0.1), optax.scale(0.5))
    >>> require_last(wrong.init(jnp.zeros(2)))
    Traceback (most recent call last):
    ValueError: a link stands after the proximal step and would destroy its zeros: put the proximal step last
    """
    kind = type(state).__name__
    if isinstance(state, ProximalState) or not _has_proximal(state):
        return
    if kind in ("ScheduleFreeState", "LookaheadState"):
        raise ValueError(
            f"{kind.removesuffix('State')} averages the params, which destroys exact zeros: use the proximal"
            " optimiser without it"
        )
    if kind == "PartitionState":  # chains side by side; any other dict is a named chain
        for child in state.inner_states.values():
            require_last(child)
        return
    children = list(state.values()) if isinstance(state, dict) else list(state)
    ordered = type(state) is tuple or isinstance(state, dict)
    if ordered and any(map(_has_proximal, children[:-1])):
        raise ValueError(
            "a link stands after the proximal step and would destroy its zeros: put the proximal step last"
        )
    for child in children:
        require_last(child)


def _has_proximal(state: optax.OptState) -> bool:
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, ProximalState))
    return any(isinstance(leaf, ProximalState) for leaf in leaves)


def value_at(value: _Value | Callable[[Array], _Value], count: Array) -> _Value:
    """Return the value of a schedule at a step; a number or penalty is its own value."""
    return value(count) if callable(value) else value


def check_penalty(penalty: _Penalty, metric: str | None = None, convex: bool = False) -> _Penalty:
    """Return a penalty, or a function that returns one, if an optimiser can use it.

    Args:
        penalty: The penalty or the function.
        metric: Name of an optimiser that needs a prox with one step per coordinate.
        convex: Whether the penalty must be convex.

    Raises:
        TypeError: The argument is something else, or the penalty lacks what the optimiser needs.
    """
    name = penalty.__name__ if isinstance(penalty, type) else type(penalty).__name__
    if isinstance(penalty, type) or not (isinstance(penalty, Penalty) or callable(penalty)):
        raise TypeError(
            "wanted a penalty such as jaxreg.L1(0.1), or a function of the step count that returns one, got"
            f" {name}"
        )
    if metric and isinstance(penalty, Penalty) and not penalty.metric:
        raise TypeError(
            f"{name} has no exact prox with one step per coordinate, which {metric} needs: use proximal_sgd"
        )
    if convex and isinstance(penalty, Penalty) and not penalty.convex:
        raise TypeError(
            f"{name} is not convex, and {metric}'s metric grows without bound where the gradient vanishes:"
            " use proximal_sgd or proximal_adam"
        )
    return penalty


def prox_updates(
    params: Params,
    updates: optax.Updates,
    penalty: Penalty,
    step: StepSize,
    like: optax.Updates | None = None,
) -> optax.Updates:
    """Return the updates that lead from the params w to prox(w + updates, step).

    Their dtypes are those of `like` (by default the updates), but no narrower than those of the params: else
    w + (0 − w) would not be 0.
    """
    like = updates if like is None else like
    _require_params(params, "proximal step")
    updated = jax.tree.map(_updated, params, updates, is_leaf=_is_none)
    refuse_complex(penalty, updated)
    if not any(is_weight(leaf) for leaf in jax.tree.leaves(updated)):
        # A part of `optax.partition` to which no leaf belongs.
        return jax.tree.map(lambda u, as_: u.astype(as_.dtype), updates, like)
    steps = jax.tree.leaves(step)
    if len(steps) > 1 or jnp.ndim(steps[0]):
        pairs = zip(steps, jax.tree.leaves(updates), strict=True)
        step = weights_of(updated)[1]([s for s, u in pairs if is_weight(u)])
    else:
        step = steps[0]
    new = penalty.prox(updated, step)

    def difference(w: Array, u: Array | None, n: Array, as_: Array) -> Array | None:
        if u is None:
            return None
        change = n - w.astype(n.dtype) if is_weight(w) else u
        return change.astype(jnp.promote_types(w.dtype, as_.dtype))

    return jax.tree.map(difference, params, updates, new, like, is_leaf=_is_none)


def widen(x: Array) -> Array:
    """Return the array in single precision or better."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _updated(w: Array, u: Array | None) -> Array:
    if u is None or not is_weight(w):
        return w
    dtype = jnp.promote_types(jnp.promote_types(w.dtype, u.dtype), jnp.float32)
    return w.astype(dtype) + u.astype(dtype)


def _is_none(x: object) -> bool:
    return x is None


def _require_params(params: Params | None, what: str) -> None:
    if params is None:
        raise ValueError(f"the {what} needs the params: call update(updates, state, params)")
