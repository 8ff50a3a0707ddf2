"""The proximal links and `apply_prox`: exact zeros in every float type, ties, and the step that is last."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import P
from tests.training.same import assert_same
from tests.training.transforms.steps import (
    LAM,
    OPTIMIZERS,
    PARAMS,
    RATE,
    T,
    draw,
    every_optimizer,
    run,
    zeros,
)

#: The metric of the first step.
METRICS = {
    "link": lambda g: jnp.ones_like(g),
    "sgd": lambda g: jnp.ones_like(g),
    "adam": lambda g: 1 / (jnp.abs(g) + 1e-8),
    "adagrad": lambda g: 1 / jnp.sqrt(0.1 + g**2 + 1e-7),
    "lion": lambda g: 1 / (0.1 * jnp.abs(g)),
}

# ---------------------------------------------------------------- exact zeros

DTYPES = {
    "float64": ("float64", "float64"),
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float16": ("float16", "float16"),
    "bfloat16, gradients float32": ("bfloat16", "float32"),
    "float32, gradients bfloat16": ("float32", "bfloat16"),
    "float16, gradients float32": ("float16", "float32"),
}


@every_optimizer
@pytest.mark.parametrize("dtypes", list(DTYPES))
def test_zeros_are_exact(name, dtypes):
    """After optax.apply_updates: where the prox is 0, and nowhere else."""
    of_params, of_gradients = DTYPES[dtypes]
    w, g = draw(2, 200)
    w, g = w.astype(of_params), (g + 0.5 * jnp.sign(g)).astype(of_gradients)
    step = RATE * METRICS[name](g.astype(float))
    lam = 0.5 / float(jnp.median(step))
    moves = -g.astype(float) * step / (10.0 if name == "lion" else 1.0)
    moved = w.astype(float) + moves
    # What rounding of the narrow types may decide is left out.
    clear = np.abs(np.abs(moved) - lam * step) > 0.05
    optimizer = OPTIMIZERS[name](jr.L1(lam))

    @jax.jit
    def once(w, g):
        updates, state = optimizer.update(g, optimizer.init(w), w)
        new = optax.apply_updates(w, updates)
        return new, optax.apply_updates(new, optimizer.update(g, state, new)[0])

    new, later = once(w, g)
    assert new.dtype == later.dtype == w.dtype
    assigned = T.apply_prox(w, moves.astype(of_gradients), jr.L1(lam), step)
    assert assigned.dtype == w.dtype
    expected = np.abs(moved) <= lam * step
    np.testing.assert_array_equal((new == 0)[clear], expected[clear])
    np.testing.assert_array_equal((assigned == 0)[clear], expected[clear])
    assert 20 < np.sum(expected[clear]) < np.sum(clear) - 20
    assert np.sum(later == 0) > 20
    if of_params == "float64":
        np.testing.assert_allclose(new, jr.L1(lam).prox(moved, step), atol=1e-7)


@pytest.mark.parametrize("of_params", ["float32", "bfloat16", "float16"])
def test_weights_of_any_size_land_on_zero(of_params):
    w = jnp.asarray([1.0, 3.0, 0.1, 1e-3, 200.0, -1.0, -3.0, -0.1, -1e-3, -200.0], of_params)
    for make in OPTIMIZERS.values():
        optimizer = make(jr.L1(1e6))
        new = jax.jit(lambda w, o=optimizer: optax.apply_updates(w, o.update(w, o.init(w), w)[0]))(w)
        np.testing.assert_array_equal(new, 0)


@pytest.mark.parametrize("name", ["link", "sgd"])
def test_the_zeros_are_those_of_the_prox_for_groups_and_sorted_norms(name):
    w, g = draw(2, 12)
    for penalty in (P.GroupL2(9.0, jnp.arange(12) // 2), P.SortedL1(jnp.linspace(12, 6, 12)), P.L1Ball(1.0)):
        expected = np.asarray(jax.jit(penalty.prox)(w - RATE * g, RATE))
        new = np.asarray(run(OPTIMIZERS[name](penalty), w, g[None])[0])
        np.testing.assert_array_equal(new == 0, expected == 0)
        assert 0 < np.sum(new == 0) < 12
        np.testing.assert_allclose(new, expected, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------- the proximal step comes last

ONE = T.proximal_sgd(0.1, jr.L1(0.1))
WRONG = {
    "a scale after it": optax.chain(T.proximal(jr.L1(0.1), 0.1), optax.scale(0.5)),
    "an average after it": optax.chain(
        optax.chain(optax.sgd(0.1), T.proximal(jr.L1(0.1), 0.1)), optax.ema(0.9)
    ),
    "two of them": optax.chain(T.proximal(jr.L1(0.1), 0.1), T.proximal(jr.NonNegative(), 0.1)),
    "adam before sgd": optax.chain(T.proximal_adam(0.1, jr.L1(0.1)), optax.sgd(0.1)),
    "inside a wrapper": optax.MultiSteps(optax.chain(ONE, optax.scale(0.5)), 2),
    "around a wrapper": optax.chain(optax.masked(ONE, True), optax.scale(0.5)),
    "inside injected": optax.inject_hyperparams(
        lambda lam: optax.chain(T.proximal_sgd(0.1, jr.L1(lam)), optax.scale(0.5))
    )(lam=0.1),
    "inside a part": optax.partition({"p": optax.chain(ONE, optax.scale(0.5)), "q": optax.sgd(0.1)}, "p"),
    "schedule-free": optax.contrib.schedule_free(ONE, 0.1),
    "lookahead": optax.lookahead(ONE, 5, 0.5),
    "lookahead in a chain": optax.chain(optax.lookahead(ONE, 5, 0.5)),
    "a named chain": optax.named_chain(("prox", ONE), ("scale", optax.scale(0.5))),
}
RIGHT = {
    "alone": ONE,
    "last": optax.chain(optax.clip(1.0), optax.sgd(0.1), T.proximal(jr.L1(0.1), 0.1)),
    "nested": optax.chain(optax.clip(1.0), optax.chain(optax.sgd(0.1), T.proximal(jr.L1(0.1), 0.1))),
    "MultiSteps": optax.MultiSteps(ONE, 2),
    "apply_if_finite": optax.apply_if_finite(ONE, 3),
    "inject_hyperparams": optax.inject_hyperparams(lambda lam: T.proximal_sgd(0.1, jr.L1(lam)))(lam=0.1),
    "masked": optax.masked(ONE, True),
    "partition": optax.partition({"p": ONE, "q": T.proximal_adam(0.1, jr.L1(0.1))}, {"a": "p", "b": "q"}),
    "named chain": optax.named_chain(("clip", optax.clip(1.0)), ("prox", ONE)),
    "all of them": optax.MultiSteps(optax.apply_if_finite(optax.chain(optax.masked(ONE, True)), 3), 2),
    "no prox at all": optax.chain(optax.adam(0.1), optax.ema(0.9)),
    "lookahead without prox": optax.lookahead(optax.sgd(0.1), 5, 0.5),
}


def start(name, optimizer):
    synced = optax.LookaheadParams.init_synced(PARAMS) if "lookahead" in name else PARAMS
    return optimizer.init(synced)


@pytest.mark.parametrize("name", list(WRONG))
def test_what_destroys_zeros_is_refused(name):
    with pytest.raises(ValueError, match=r"exact zeros|destroy its zeros"):
        T.require_last(start(name, WRONG[name]))


@pytest.mark.parametrize("name", list(RIGHT))
def test_what_keeps_zeros_is_accepted(name):
    assert T.require_last(start(name, RIGHT[name])) is None


# ---------------------------------------------------------------- apply_prox


def test_ties_and_bounds_are_exact():
    """Which an update that is added would break."""
    w, moves = draw(2, 80)
    total = P.TotalVariation(0.8)
    new = T.apply_prox(w, moves, total, 1.0)
    np.testing.assert_array_equal(new, total.prox(w + moves, 1.0))
    assert len(np.unique(new)) < 50
    box = jr.Box(-0.3, 0.7)
    new = T.apply_prox(w, moves, box, 1.0)
    np.testing.assert_array_equal(new, jnp.clip(w + moves, -0.3, 0.7))
    assert box.value(new) == 0 and jnp.sum(new == 0.7) > 9 and jnp.sum(new == -0.3) > 9


def test_a_step_for_each_coordinate():
    w, moves = draw(2, 9)
    step = jnp.linspace(0.0, 2.0, 9)
    expected = jr.prox.soft(w + moves, 0.5 * step)
    np.testing.assert_array_equal(T.apply_prox(w, moves, jr.L1(0.5), step), expected)


@pytest.mark.parametrize("of_params", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("of_updates", ["float32", "bfloat16"])
def test_the_params_keep_their_types(of_params, of_updates):
    w, moves = jnp.ones(5, of_params), jnp.linspace(-2, 2, 5).astype(of_updates)
    new = T.apply_prox(w, moves, jr.L1(1.0), 0.5)
    assert new.dtype == of_params
    np.testing.assert_array_equal(new.astype(float), [-0.5, 0.0, 0.5, 1.5, 2.5])


class Model(eqx.Module):
    """A network, a counter, a number, and a part that is missing."""

    mlp: eqx.nn.MLP
    steps: jax.Array
    rate: float
    missing: None = None
    name: str = eqx.field(static=True, default="a model")


MODEL = Model(eqx.nn.MLP(3, "scalar", 4, 1, key=jax.random.key(0)), jnp.array(7), 0.1)


def model_loss(model, x, y):
    return jnp.mean((jax.vmap(model.mlp)(x) - y) ** 2)


@every_optimizer
def test_modules(name):
    """By eqx.filter, as Equinox does it: weights move, all else stays."""
    optimizer = OPTIMIZERS[name](jr.L1(LAM[name]))
    x = draw(20, 3)
    gradient = eqx.filter_jit(eqx.filter_grad(model_loss))(MODEL, x, x[:, 0])
    floats = eqx.filter(MODEL, eqx.is_inexact_array)
    updates, _ = jax.jit(lambda g, w: optimizer.update(g, optimizer.init(w), w))(gradient, floats)
    added = eqx.apply_updates(MODEL, updates)
    assert any(np.any(z) for z in zeros(eqx.filter(added, eqx.is_inexact_array)))
    moves = jax.tree.map(lambda g: -RATE * g, gradient)
    assigned = T.apply_prox(MODEL, moves, jr.L1(LAM[name]), RATE)
    for new in (added, assigned):
        assert jax.tree.structure(new) == jax.tree.structure(MODEL)
        assert new.steps is MODEL.steps and new.rate == 0.1 and new.missing is None
    if name in ("link", "sgd"):
        for a, b in zip(jax.tree.leaves(added.mlp), jax.tree.leaves(assigned.mlp), strict=True):
            if eqx.is_inexact_array(a):
                np.testing.assert_array_equal(a == 0, b == 0)
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_leaf_without_an_update():
    """The prox still sees it in apply_prox; a link leaves its None alone."""
    params, moves = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": -jnp.ones(2), "b": None}
    new = T.apply_prox(params, moves, jr.L1(0.25), 1.0)
    assert_same(new, {"a": jnp.zeros(2), "b": jnp.full(2, 0.75)})
    link = T.proximal(jr.L1(0.25), 1.0)
    updates, _ = link.update(moves, link.init(params), params)
    assert updates["b"] is None
    np.testing.assert_array_equal(updates["a"], -1.0)


COMPLEX = {"a": jnp.ones(3), "z": jnp.full(2, 1.0 + 1.0j)}
REAL_ONLY = {"a": True, "z": False}
TAKES = {
    name: lambda p, name=name: getattr(T, name)(0.5, p) for name in T.__all__ if name.startswith("proximal_")
}
TAKES["link"] = lambda p: T.proximal(p, 0.5)


@pytest.mark.parametrize("name", TAKES)
def test_complex_weights(name):
    """Refused where the penalty sees them; where its mask leaves them out they move by their own update."""
    optimizer = TAKES[name](jr.L1(0.1))
    with pytest.raises(TypeError, match="complex weights at z"):
        jax.eval_shape(optimizer.update, COMPLEX, optimizer.init(COMPLEX), COMPLEX)
    optimizer = TAKES[name](jr.Masked(jr.L1(0.1), REAL_ONLY))

    def moved(w):
        return optimizer.update(w, optimizer.init(w), w)[0]

    updates = jax.eval_shape(moved, COMPLEX)
    assert updates["z"].dtype == COMPLEX["z"].dtype and updates["a"].dtype == COMPLEX["a"].dtype


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam, mask=None: T.decoupled_l2_decay(lam, 0.5, mask)])
def test_complex_weights_are_not_left_undecayed(make):
    with pytest.raises(TypeError, match="complex weights at z"):
        make(0.5).update(COMPLEX, make(0.5).init(COMPLEX), COMPLEX)
    link = make(0.5, REAL_ONLY)
    updates, _ = link.update(COMPLEX, link.init(COMPLEX), COMPLEX)
    np.testing.assert_array_equal(updates["z"], COMPLEX["z"])


def test_apply_prox_moves_what_a_mask_leaves_out():
    penalty = jr.Masked(jr.L1(1.0), REAL_ONLY)
    out = T.apply_prox(COMPLEX, jax.tree.map(lambda w: -0.5 * w, COMPLEX), penalty, 0.25)
    np.testing.assert_array_equal(out["a"], np.full(3, 0.25))
    np.testing.assert_array_equal(out["z"], 0.5 * np.asarray(COMPLEX["z"]))
