"""A training run as one pure function: its steps, its history, and what is done after each step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import P, compilations
from tests.training.regression import DATA, LINEAR, WEIGHTED, F, T, X, Y, loss_fn, run
from tests.training.same import assert_same

OPTIMIZERS = {
    "optax.sgd": optax.sgd(0.2, 0.9),
    "optax.adam": optax.adam(optax.exponential_decay(0.1, 5, 0.9)),
    "link": optax.chain(optax.sgd(0.2), T.proximal(WEIGHTED, 0.2)),
    "proximal_sgd": T.proximal_sgd(0.02, WEIGHTED, momentum=0.9),
    "proximal_adam": T.proximal_adam(0.05, WEIGHTED),
    "proximal_adagrad": T.proximal_adagrad(0.3, WEIGHTED),
    "proximal_lion": T.proximal_lion(0.02, WEIGHTED),
    "MultiSteps": optax.MultiSteps(T.proximal_sgd(0.2, WEIGHTED), 2),
}


# ---------------------------------------------------------------- the steps


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_it_is_the_loop_of_optax_steps(name):
    optimizer, steps, every = OPTIMIZERS[name], 12, 4
    step = jax.jit(lambda g, state, model: optimizer.update(g, state, model))
    slope = jax.jit(jax.value_and_grad(loss_fn))
    model, state, losses, entries = LINEAR, optimizer.init(LINEAR), [], []
    for count in range(steps):
        value, gradient = slope(model, DATA)
        updates, state = step(gradient, state, model)
        model = optax.apply_updates(model, updates)
        losses.append(value)
        if (count + 1) % every == 0:
            zeros = np.mean(np.asarray(model["w"]) == 0)
            entries.append((count + 1, np.mean(losses[-every:]), WEIGHTED.value(model), zeros, model["b"]))
    found, history = jr.train(
        loss_fn,
        LINEAR,
        optimizer,
        DATA,
        steps=steps,
        every=every,
        penalty=WEIGHTED,
        metrics={"bias": lambda model: model["b"]},
    )
    assert_same(found, model, 1e-12, 1e-14)
    np.testing.assert_array_equal(found["w"] == 0, model["w"] == 0)
    for name, column in zip(
        ("step", "loss", "penalty", "zeros", "bias"), zip(*entries, strict=True), strict=True
    ):
        np.testing.assert_allclose(history[name], column, rtol=1e-12, err_msg=name)
    assert set(history) == {"step", "loss", "penalty", "zeros", "bias"}


def test_an_optimiser_that_asks_for_the_loss():
    """L-BFGS searches along a line with the loss of the batch."""
    found, _ = jax.jit(lambda: jr.train(loss_fn, LINEAR, optax.lbfgs(), DATA, steps=15))()
    *coef, intercept = np.linalg.lstsq(np.c_[X, np.ones(len(Y))], Y, rcond=None)[0]
    np.testing.assert_allclose(found["w"], coef, atol=1e-6)
    np.testing.assert_allclose(found["b"], intercept, atol=1e-6)


def test_several_small_batches_are_one_large_one():
    """MultiSteps over the batches of an epoch takes full-batch steps."""
    key, penalty = jax.random.key(3), WEIGHTED
    optimizer = optax.MultiSteps(T.proximal_sgd(0.2, penalty), 4)
    found, _ = jr.train(loss_fn, LINEAR, optimizer, DATA, steps=20, batch_size=15, key=key)
    expected, _ = jr.train(loss_fn, LINEAR, T.proximal_sgd(0.2, penalty), DATA, steps=5)
    assert_same(found, expected, 1e-6, 1e-8)


def test_jit_is_eager():
    key = jax.random.key(1)
    assert_same(jax.jit(run)(0.1, key), run(0.1, key), 1e-12, 1e-14)


def test_vmap_over_lambda_and_keys_is_the_loop():
    lams, keys = jnp.array([0.0, 0.1, 1.0]), jax.random.split(jax.random.key(2), 3)
    lanes = jax.jit(jax.vmap(run))(lams, keys)
    single = jax.jit(run)
    for k, lam in enumerate(lams):
        assert_same(jax.tree.map(lambda x, k=k: x[k], lanes), single(lam, keys[k]), 1e-10, 1e-12)
    assert lanes[1]["zeros"].shape == (3, 6)
    assert lanes[1]["zeros"][0, -1] == 0 < lanes[1]["zeros"][2, -1]


def test_the_derivative_in_lambda():
    """A run is a differentiable function of λ, forward and backward."""

    def value(lam):
        penalty = jr.Masked(jr.L1(lam), {"w": True, "b": False})
        optimizer = T.proximal_sgd(0.02, penalty, momentum=0.9)
        return jr.train(loss_fn, LINEAR, optimizer, DATA, steps=25)[1]["loss"][0]

    value = jax.jit(value)
    numeric = (value(0.2 + 1e-5) - value(0.2 - 1e-5)) / 2e-5
    assert numeric > 1e-3
    np.testing.assert_allclose(jax.jvp(value, (0.2,), (1.0,))[1], numeric, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(value)(0.2), numeric, rtol=1e-6)


def test_the_branches_stay_branches_under_vmap():
    """An epoch is shuffled once, not at every step."""
    keys = jax.random.split(jax.random.key(2), 3)
    assert "cond[" in str(jax.make_jaxpr(jax.vmap(lambda key: run(0.1, key)))(keys))


def test_a_lane_with_nan_stays_alone():
    def one(y):
        return jr.train(loss_fn, LINEAR, T.proximal_sgd(0.1, WEIGHTED), {"x": X, "y": y}, steps=20)

    good, history = jax.jit(jax.vmap(one))(jnp.stack([Y, Y.at[3].set(jnp.nan), -Y]))
    assert np.isfinite(history["loss"][:, 0]).tolist() == [True, False, True]
    for k, y in ((0, Y), (2, -Y)):
        assert_same(jax.tree.map(lambda x, k=k: x[k], good), one(y)[0], 1e-12, 1e-14)


def test_a_second_call_compiles_nothing():
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(run, n=1))
    traced(0.1, jax.random.key(0))
    keys = [jax.random.key(k) for k in range(3)]
    lams = [jnp.asarray(x) for x in (0.0, 0.3, 2.0)]
    traced(lams[0], keys[0])
    assert compilations(lambda: [traced(*pair)[0] for pair in zip(lams[1:], keys[1:], strict=True)]) == 0


# ---------------------------------------------------------------- what is reported


def test_the_penalty_is_only_reported():
    optimizer = optax.adam(0.1)
    plain, short = jr.train(loss_fn, LINEAR, optimizer, DATA, steps=10)
    new, long = jr.train(loss_fn, LINEAR, optimizer, DATA, steps=10, penalty=jr.L1(3.0))
    assert_same(new, plain)
    assert set(short) == {"step", "loss"} and set(long) == {"step", "loss", "penalty", "zeros"}
    np.testing.assert_array_equal(long["loss"], short["loss"])
    np.testing.assert_allclose(long["penalty"], [jr.L1(3.0).value(new)], rtol=1e-12)


@pytest.mark.parametrize(("steps", "every"), [(12, None), (12, 1), (12, 12), (12, 3), (1, None)])
def test_one_entry_for_every_so_many_steps(steps, every):
    _, history = jr.train(
        loss_fn,
        LINEAR,
        optax.sgd(0.1),
        DATA,
        steps=steps,
        every=every,
        penalty=jr.L1(0.1),
        metrics={"w": lambda model: model["w"], "both": lambda model: (model["b"], {"w": model["w"]})},
    )
    every = every or steps
    entries = steps // every
    np.testing.assert_array_equal(history["step"], every * np.arange(1, entries + 1))
    for name in ("loss", "penalty", "zeros"):
        assert history[name].shape == (entries,)
    assert history["w"].shape == (entries, F)
    np.testing.assert_array_equal(history["both"][1]["w"], history["w"])


def test_zeros_are_counted_where_the_penalty_is():
    model = {"w": jnp.array([0.0, 0.0, 1.0, 0.0]), "b": jnp.zeros(3)}
    still = lambda model, batch: 0.0 * jnp.sum(model["w"])  # noqa: E731
    for penalty, expected in (
        (jr.L1(0.1), 6 / 7),
        (jr.Masked(jr.L1(0.1), {"w": True, "b": False}), 3 / 4),
        (jr.Masked(jr.L1(0.1), {"w": False, "b": True}), 1.0),
        (jr.Masked(jr.L1(0.1), False), 0.0),
    ):
        _, history = jr.train(still, model, optax.sgd(0.1), jnp.ones(1), steps=1, penalty=penalty)
        np.testing.assert_allclose(history["zeros"], [expected])


# ---------------------------------------------------------------- after the step


def test_after_step_is_exact_and_the_history_sees_it():
    box = jr.Box(-0.25, 0.75)
    _, history = jr.train(
        lambda w, batch: loss_fn({"w": w, "b": 0.3}, batch),
        jnp.full(F, 5.0),
        optax.adam(0.05),
        DATA,
        steps=60,
        every=6,
        penalty=box,
        after_step=lambda w, count: box.prox(w, 1.0),
        metrics={"w": lambda w: w},
    )
    np.testing.assert_array_equal(history["penalty"], 0.0)
    assert history["w"][-1, 0] == 0.75 and history["w"][-1, 1] == -0.25
    assert -0.25 < history["w"][-1, 2] < 0.75


def test_after_step_as_a_prox_keeps_ties():
    """Gradient steps of sgd, then the prox of the total variation assigned."""
    total, rate = P.TotalVariation(0.6), 0.2
    problem = jr.Problem(jr.losses.SquaredError(), X, Y, intercept=False)
    w, _ = jax.jit(
        lambda: jr.train(
            lambda w, batch: loss_fn({"w": w, "b": 0.0}, batch),
            jnp.zeros(F),
            optax.sgd(rate),
            DATA,
            steps=300,
            after_step=lambda w, count: total.prox(w, rate),
        )
    )()
    fit = jr.solve(problem, total, tol=1e-12)
    np.testing.assert_allclose(w, fit.coef, atol=1e-6)
    assert len(np.unique(w)) == len(np.unique(np.round(fit.coef, 6))) < F


def test_after_step_is_told_the_step():
    _, history = jr.train(
        lambda w, batch: jnp.sum(w),
        jnp.zeros(2),
        optax.sgd(0.1),
        jnp.ones(1),
        steps=6,
        every=2,
        after_step=lambda w, count: jnp.full(2, count, float),
        metrics={"w": lambda w: w[0]},
    )
    np.testing.assert_array_equal(history["w"], [1, 3, 5])
