"""Proximal optimisers inside the wrappers of optax and under jit, scan and vmap, with leaves of any sort."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import compilations
from tests.training.same import assert_same
from tests.training.transforms.steps import (
    GRADIENTS,
    LAM,
    OPTIMIZERS,
    PARAMS,
    RATE,
    T,
    bare,
    every_optimizer,
    run,
    zeros,
)


@every_optimizer
def test_some_weights_are_zero(name):
    both = np.concatenate([z.ravel() for z in zeros(bare(name))])
    assert 2 <= np.sum(both) <= 12


@every_optimizer
def test_multi_steps(name):
    """Two steps of MultiSteps are one step along the mean gradient; between them nothing moves."""
    optimizer = optax.MultiSteps(OPTIMIZERS[name](jr.L1(LAM[name])), every_k_schedule=2)
    twice = jax.tree.map(lambda g: jnp.stack([0.5 * g, 1.5 * g], axis=1).reshape(12, *g.shape[1:]), GRADIENTS)
    found, state = run(optimizer, PARAMS, twice)
    assert_same(found, bare(name), 1e-6)  # optax averages in single precision
    for a, b in zip(zeros(found), zeros(bare(name)), strict=True):
        np.testing.assert_array_equal(a, b)
    half = jax.tree.map(lambda g: g[:1], GRADIENTS)
    assert_same(run(optimizer, found, half, state)[0], found)


@every_optimizer
def test_apply_if_finite(name):
    """A gradient with a NaN is left out, as if it had never been."""
    optimizer = optax.apply_if_finite(OPTIMIZERS[name](jr.L1(LAM[name])), max_consecutive_errors=5)
    bad = jax.tree.map(lambda g: jnp.concatenate([g[:3], jnp.nan * g[:1], g[3:]]), GRADIENTS)
    assert_same(run(optimizer, PARAMS, bad)[0], bare(name), 1e-12, 1e-14)


@every_optimizer
def test_apply_if_finite_in_half_precision(name):
    w, g = jax.tree.map(lambda x: x.astype("bfloat16"), (PARAMS, GRADIENTS))
    optimizer = optax.apply_if_finite(OPTIMIZERS[name](jr.L1(LAM[name])), max_consecutive_errors=5)
    assert_same(run(optimizer, w, g)[0], run(OPTIMIZERS[name](jr.L1(LAM[name])), w, g)[0])


@every_optimizer
def test_inject_hyperparams(name):
    """λ and the rate live in the state, through a function of the user's."""
    optimizer = optax.inject_hyperparams(
        lambda lam, learning_rate: OPTIMIZERS[name](jr.L1(lam), learning_rate)
    )(lam=LAM[name], learning_rate=RATE)
    found, state = run(optimizer, PARAMS, GRADIENTS)
    assert_same(found, bare(name), 1e-12, 1e-14)
    state.hyperparams["lam"] = jnp.asarray(1e6)
    np.testing.assert_array_equal(run(optimizer, found, GRADIENTS, state)[0]["a"], 0.0)
    state.hyperparams["learning_rate"] = jnp.asarray(0.0)
    assert_same(run(optimizer, found, GRADIENTS, state)[0], found, 1e-14)


def test_inject_momentum():
    optimizer = optax.inject_hyperparams(
        lambda momentum: T.proximal_sgd(RATE, jr.L1(LAM["sgd"]), momentum=momentum)
    )(momentum=0.9)
    assert_same(run(optimizer, PARAMS, GRADIENTS)[0], bare("sgd"), 1e-12, 1e-14)


@every_optimizer
def test_masked(name):
    """Leaves outside the mask get the gradient as it is, the others what they get alone."""
    optimizer = optax.masked(OPTIMIZERS[name](jr.L1(LAM[name])), {"a": True, "b": False})
    found, _ = run(optimizer, PARAMS, GRADIENTS)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    assert_same(found["b"]["c"], PARAMS["b"]["c"] + jnp.sum(GRADIENTS["b"]["c"], axis=0), 1e-12)
    nothing = optax.masked(OPTIMIZERS[name](jr.L1(LAM[name])), False)
    assert_same(
        run(nothing, PARAMS, GRADIENTS)[0],
        jax.tree.map(lambda w, g: w + jnp.sum(g, 0), PARAMS, GRADIENTS),
        1e-12,
    )


@every_optimizer
def test_partition(name):
    """Each label for itself; one label has no leaves."""
    optimizer = OPTIMIZERS[name](jr.L1(LAM[name]))
    parts = {"sparse": optimizer, "plain": optax.sgd(RATE), "unused": OPTIMIZERS[name](jr.L1(9.0))}
    found, _ = run(optax.partition(parts, {"a": "sparse", "b": "plain"}), PARAMS, GRADIENTS)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    plain, _ = run(optax.sgd(RATE), PARAMS, GRADIENTS)
    assert_same(found["b"], plain["b"], 1e-12)


@every_optimizer
def test_masked_penalty(name):
    """`Masked` leaves the other weights to the optimiser without a penalty."""
    penalty = jr.Masked(jr.L1(LAM[name]), {"a": True, "b": False})
    found, _ = run(OPTIMIZERS[name](penalty), PARAMS, GRADIENTS)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    assert_same(found["b"], bare(name, 0.0)["b"], 1e-12)


@every_optimizer
def test_steps_outside_of_jit_compile_once(name):
    optimizer, w = OPTIMIZERS[name](jr.L1(LAM[name])), PARAMS["a"]
    state, gradient = optimizer.init(w), GRADIENTS["a"][0]

    def steps(count):
        nonlocal state
        for _ in range(count):
            updates, state = optimizer.update(gradient, state, w)
        return updates

    steps(1)
    assert compilations(lambda: steps(3)) == 0


@every_optimizer
def test_jit_and_scan_and_vmap_over_lambda_are_the_loop(name):
    lams = jnp.array([0.0, 0.3, 1.0]) * LAM[name]

    def steps(lam):
        optimizer = OPTIMIZERS[name](jr.L1(lam))
        params, state = PARAMS, optimizer.init(PARAMS)
        for k in range(2):
            updates, state = optimizer.update(jax.tree.map(lambda g, k=k: g[k], GRADIENTS), state, params)
            params = optax.apply_updates(params, updates)
        return params

    lanes = jax.jit(jax.vmap(steps))(lams)
    two = jax.tree.map(lambda g: g[:2], GRADIENTS)
    for k, lam in enumerate(lams):
        lane = jax.tree.map(lambda x, k=k: x[k], lanes)
        scanned, _ = run(OPTIMIZERS[name](jr.L1(lam)), PARAMS, two)
        assert_same(lane, scanned, 1e-12, 1e-14)
        for a, b in zip(zeros(lane), zeros(scanned), strict=True):
            np.testing.assert_array_equal(a, b)
    assert_same(steps(lams[2]), scanned, 1e-12, 1e-14)


@every_optimizer
def test_one_trace_for_every_step_and_lambda(name):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state, gradient, lam):
        updates, state = OPTIMIZERS[name](jr.L1(lam)).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, OPTIMIZERS[name](jr.L1(0.0)).init(PARAMS)
    first = jax.tree.map(lambda g: g[0], GRADIENTS)
    for lam in (0.1, 0.1, 0.7):
        params, state = step(params, state, first, lam)


@pytest.mark.parametrize("name", ["adam", "adagrad", "lion"])
@pytest.mark.parametrize(
    "beside",
    [
        {"scale": jnp.asarray(2.0)},
        {"none": None},
        {"empty": jnp.zeros(0)},
    ],
    ids=["scalar", "None", "empty"],
)
def test_leaves_of_any_shape(name, beside):
    """What stands beside a leaf does not matter to it."""
    params = {"a": PARAMS["a"], **beside}
    gradients = jax.tree.map(lambda w: jnp.ones((6, *w.shape)), params) | {"a": GRADIENTS["a"]}
    found, _ = run(OPTIMIZERS[name](jr.L1(LAM[name])), params, gradients)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)


PLAIN = {"link": optax.sgd(RATE), "sgd": optax.sgd(RATE, 0.9), "adam": optax.adam(RATE)}


@pytest.mark.parametrize(
    "name",
    [
        "link",
        "sgd",
        "adam",
    ],
)
def test_what_no_penalty_sees_gets_the_plain_step(name):
    """What a mask leaves out, complex numbers among it."""
    params = {"a": PARAMS["a"], "z": jnp.array([1.0 + 2.0j])}
    gradients = {"a": GRADIENTS["a"], "z": jnp.full((6, 1), 0.5 - 1.0j)}
    penalty = jr.penalties.Masked(jr.L1(LAM[name]), {"a": True, "z": False})
    found, _ = run(OPTIMIZERS[name](penalty), params, gradients)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    np.testing.assert_allclose(found["z"], run(PLAIN[name], params, gradients)[0]["z"], rtol=1e-12)


@every_optimizer
def test_a_tree_of_one_number(name):
    first = lambda x: {"one": x["a"][..., 0]}  # noqa: E731
    assert_same(
        run(OPTIMIZERS[name](jr.L1(LAM[name])), first(PARAMS), first(GRADIENTS))[0],
        first(bare(name)),
        1e-12,
        1e-14,
    )


def test_an_endless_step_without_a_penalty_is_no_step():
    """Adagrad's metric is infinite where no gradient has been seen yet and nothing is added to it."""
    optimizer = T.proximal_adagrad(RATE, jr.L1(0.1, weights=[0.0, 1.0]), 0.0, 0.0)
    found, _ = run(optimizer, jnp.ones(2), jnp.zeros((1, 2)))
    np.testing.assert_array_equal(found, [1.0, 0.0])


@every_optimizer
def test_leaves_of_different_types(name):
    """Each leaf gets what it gets alone, and keeps its type."""
    types = {"a": "bfloat16", "b": {"c": "float32"}}
    w, g = (jax.tree.map(lambda x, t: x.astype(t), tree, types) for tree in (PARAMS, GRADIENTS))
    optimizer = OPTIMIZERS[name](jr.L1(LAM[name]))
    found, _ = run(optimizer, w, g)
    for key in "ab":
        assert_same(found[key], run(optimizer, w[key], g[key])[0], 1e-6)


@every_optimizer
def test_a_scheduled_penalty_is_that_of_its_step(name):
    """λ is 0 at the first step and large at the second."""
    optimizer = OPTIMIZERS[name](lambda count: jr.L1(1e6 * count))
    one, two = (jax.tree.map(lambda g, k=k: g[:k], GRADIENTS) for k in (1, 2))
    assert_same(run(optimizer, PARAMS, one)[0], run(OPTIMIZERS[name](jr.L1(0.0)), PARAMS, one)[0], 1e-12)
    assert_same(run(optimizer, PARAMS, two)[0], jax.tree.map(jnp.zeros_like, PARAMS))
