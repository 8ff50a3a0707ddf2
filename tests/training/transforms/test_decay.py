"""Decay inside the gradient and beside it: their two fixed points, their masks and schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.training.same import assert_same
from tests.training.transforms.steps import RATE, T, draw, run

N, F, STEPS = 80, 6, 2500
X = draw(N, F, seed=5)
Y = X @ jnp.array([2.0, -1.5, 0.6, 0.3, 0.0, -0.1]) + 0.3 * draw(N, seed=6)
PROBLEM = jr.Problem(jr.losses.SquaredError(), X, Y, intercept=False)


def ends_at(optimizer):
    loss = lambda w, batch: 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)  # noqa: E731
    return jax.jit(lambda: jr.train(loss, jnp.zeros(F), optimizer, (X, Y), steps=STEPS)[0])()


FALLING = optax.cosine_decay_schedule(0.05, STEPS)
RIDGE = {
    "l2 and sgd": lambda lam: optax.chain(T.l2_decay(lam), optax.sgd(0.2)),
    "l2 and momentum": lambda lam: optax.chain(T.l2_decay(lam), optax.sgd(0.05, 0.9)),
    "l2 and adam": lambda lam: optax.chain(T.l2_decay(lam), optax.adam(FALLING)),
    "sgd and decoupled": lambda lam: optax.chain(optax.sgd(0.2), T.decoupled_l2_decay(lam, 0.2)),
}


@pytest.mark.parametrize("name", list(RIDGE))
def test_decay_that_is_the_l2_of_the_cost(name):
    expected = jr.solve(PROBLEM, jr.SquaredL2(0.8), tol=1e-14).coef
    np.testing.assert_allclose(ends_at(RIDGE[name](0.8)), expected, atol=1e-6)


def test_adam_with_decoupled_decay_ends_in_a_box():
    """At min f(w) over ‖w‖∞ ≤ 1/λ, with some weights on the boundary; not at the ridge solution."""
    lam = 1.25
    box = jr.solve(PROBLEM, jr.Box(-1 / lam, 1 / lam), tol=1e-12).coef
    assert jnp.sum(jnp.abs(box) > 1 / lam - 1e-9) == 2
    # At the default b2 Adam's rates forget too slowly to come to rest in a short run.
    found = ends_at(optax.chain(optax.adam(FALLING, b2=0.95), T.decoupled_l2_decay(lam, FALLING)))
    np.testing.assert_allclose(found, box, atol=1e-5)
    ridge = jr.solve(PROBLEM, jr.SquaredL2(lam), tol=1e-12).coef
    assert jnp.max(jnp.abs(found - ridge)) > 0.1


TREE = {"w": draw(2, 3), "rest": {"b": draw(3, seed=2)}}
SLOPES = jax.tree.map(lambda w: draw(20, *w.shape, seed=7), TREE)
MASKS = {
    "none": None,
    "one boolean": True,
    "nothing": False,
    "prefix": {"w": True, "rest": False},
    "other prefix": {"w": False, "rest": True},
    "function": lambda params: jax.tree.map(lambda w: w.ndim == 1, params),
    "weights_only": jr.masks.weights_only,
    "by_path": jr.masks.by_path("rest/b"),
}


LAMBDA, ETA = optax.linear_schedule(1.0, 0.2, 10), optax.linear_schedule(0.1, 0.01, 15)


@pytest.mark.parametrize(("mask", "lam"), [*((mask, 0.7) for mask in MASKS), ("prefix", LAMBDA)])
def test_decay_is_that_of_optax(mask, lam):
    mask = MASKS[mask]
    ours = optax.chain(T.l2_decay(lam, mask), optax.sgd(RATE, 0.9))
    theirs = optax.chain(optax.add_decayed_weights(lam, mask), optax.sgd(RATE, 0.9))
    assert_same(run(ours, TREE, SLOPES)[0], run(theirs, TREE, SLOPES)[0], 1e-12)


@pytest.mark.parametrize(("mask", "rate"), [*((mask, 0.1) for mask in MASKS), ("prefix", ETA)])
def test_decoupled_decay_is_that_of_adamw(mask, rate):
    mask = MASKS[mask]
    ours = optax.chain(optax.adam(rate), T.decoupled_l2_decay(0.7, rate, mask))
    theirs = optax.adamw(rate, weight_decay=0.7, mask=mask)
    # A schedule is a number in single precision.
    assert_same(run(ours, TREE, SLOPES)[0], run(theirs, TREE, SLOPES)[0], 1e-6 if callable(rate) else 1e-12)


def test_a_decay_scheduled_twice():
    """λ and the rate of a decoupled decay each follow their own schedule."""
    lam, rate = optax.linear_schedule(1.0, 0.0, 6), optax.linear_schedule(0.5, 0.1, 4)
    link = T.decoupled_l2_decay(lam, rate)
    found, _ = run(link, TREE, jax.tree.map(lambda g: 0 * g[:5], SLOPES))
    assert_same(
        found, jax.tree.map(lambda w: w * np.prod([1 - lam(k) * rate(k) for k in range(5)]), TREE), 1e-6
    )


def test_a_mask_inside_a_leaf():
    inside = jnp.array([[True, False, True], [False, False, True]])
    link = T.l2_decay(0.5, {"w": inside, "rest": False})
    updates, _ = link.update(jax.tree.map(jnp.ones_like, TREE), link.init(TREE), TREE)
    np.testing.assert_array_equal(updates["w"], jnp.where(inside, 1 + 0.5 * TREE["w"], 1.0))
    np.testing.assert_array_equal(updates["rest"]["b"], 1.0)


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam, mask=None: T.decoupled_l2_decay(lam, -1.0, mask)])
def test_decay_keeps_what_it_does_not_decay(make, dtype):
    """Updates keep their types and None; integers pass through; λ = 0 changes nothing."""
    params = {"w": jnp.ones(3, dtype), "n": jnp.arange(2), "none": jnp.ones(2, dtype)}
    updates = {"w": jnp.ones(3, dtype), "n": jnp.arange(2), "none": None}
    link = make(0.5)
    new, _ = link.update(updates, link.init(params), params)
    assert new["none"] is None and new["w"].dtype == dtype
    np.testing.assert_array_equal(new["w"], 1.5)
    np.testing.assert_array_equal(new["n"], updates["n"])
    none = make(0.0)
    assert_same(none.update(updates, none.init(params), params)[0], updates)


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam: T.decoupled_l2_decay(lam, -1.0)])
def test_a_decay_over_lambdas_and_injected(make):
    def update(link):
        return link.update(jnp.zeros(2), link.init(jnp.ones(2)), jnp.ones(2))[0]

    lams = jnp.arange(3.0)
    found = jax.jit(jax.vmap(lambda lam: update(make(lam))))(lams)
    np.testing.assert_array_equal(found, jnp.stack([lams, lams], axis=1))
    np.testing.assert_array_equal(update(optax.inject_hyperparams(make)(lam=0.5)), 0.5)


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam, mask=None: T.decoupled_l2_decay(lam, 0.1, mask)])
def test_decay_refuses(make):
    for lam in (-0.1, float("nan"), [0.1, 0.2]):
        with pytest.raises((ValueError, TypeError)):
            make(lam)
    link = make(0.1)
    with pytest.raises(ValueError, match="needs the params"):
        link.update(TREE, link.init(TREE))
    for mask in ({"w": True}, {"w": True, "rest": True, "more": True}, {"w": 1.0, "rest": 0.0}):
        with pytest.raises(ValueError, match="mask"):
            link = make(0.1, mask)
            link.update(TREE, link.init(TREE), TREE)
