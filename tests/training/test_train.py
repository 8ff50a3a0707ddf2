"""A training run: what its steps, batches, keys and history are, as one pure function."""

import re

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import P, compilations

T = jr.transforms
N, F = 60, 5
rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(N, F)))
Y = X @ jnp.array([2.0, -1.0, 0.5, 0.0, 0.0]) + 0.3 + 0.2 * jnp.asarray(rng.normal(size=N))
DATA = {"x": X, "y": Y}
LINEAR = {"w": jnp.zeros(F), "b": jnp.zeros(())}


def loss_fn(model, batch):
    return 0.5 * jnp.mean((batch["x"] @ model["w"] + model["b"] - batch["y"]) ** 2)


def assert_same(found, expected, rtol=0.0, atol=0.0):
    """Trees of one structure, types and values."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if not hasattr(a, "dtype"):
            assert a is b
            continue
        assert jnp.result_type(a) == jnp.result_type(b)
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)


WEIGHTED = jr.Masked(jr.L1(0.1), {"w": True, "b": False})
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
    fit = jr.solve(jr.Problem(jr.losses.SquaredError(), X, Y), jr.L1(0.0), tol=1e-13)
    np.testing.assert_allclose(found["w"], fit.coef, atol=1e-6)
    np.testing.assert_allclose(found["b"], fit.intercept, atol=1e-6)


def test_several_small_batches_are_one_large_one():
    """MultiSteps over the batches of an epoch takes full-batch steps."""
    key, penalty = jax.random.key(3), WEIGHTED
    optimizer = optax.MultiSteps(T.proximal_sgd(0.2, penalty), 4)
    found, _ = jr.train(loss_fn, LINEAR, optimizer, DATA, steps=20, batch_size=15, key=key)
    expected, _ = jr.train(loss_fn, LINEAR, T.proximal_sgd(0.2, penalty), DATA, steps=5)
    assert_same(found, expected, 1e-6, 1e-8)


def run(lam, key, every=5, **options):
    penalty = jr.Masked(jr.L1(lam), {"w": True, "b": False})
    return jr.train(
        loss_fn,
        LINEAR,
        T.proximal_adam(0.05, penalty),
        DATA,
        steps=30,
        batch_size=16,
        key=key,
        penalty=penalty,
        every=every,
        **options,
    )


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


# ---------------------------------------------------------------- the batches


def visits(n, size, steps, key):
    """(steps, n) how often each step has met each sample, by weights that count them at the rate −1.

    Were the rows of the two arrays of different samples, NaN would say so.
    """
    data = {"index": jnp.arange(n), "same": 10.0 * jnp.arange(n)}

    def count(seen, batch):
        aligned = jnp.all(batch["same"] == 10.0 * batch["index"])
        return jnp.sum(seen[batch["index"]]) * jnp.where(aligned, 1.0, jnp.nan)

    _, history = jr.train(
        count,
        jnp.zeros(n),
        optax.sgd(-1.0),
        data,
        steps=steps,
        batch_size=size,
        key=key,
        every=1,
        metrics={"seen": lambda seen: seen},
    )
    return jnp.diff(history["seen"], axis=0, prepend=0.0)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (7, 7), (5, 1), (9, 5)])
def test_every_epoch_takes_each_sample_at_most_once(n, size):
    per_epoch, epochs = n // size, 8
    go = jax.jit(lambda key: visits(n, size, epochs * per_epoch, key))
    found = np.asarray(go(jax.random.key(n)))
    assert set(np.unique(found)) <= {0.0, 1.0}
    np.testing.assert_array_equal(found.sum(axis=1), size)
    whole = found.reshape(epochs, per_epoch, n).sum(axis=1)
    assert whole.max() == 1
    np.testing.assert_array_equal(whole.sum(axis=1), per_epoch * size)
    assert np.all(whole.sum(axis=0) > 0)  # those left over are others each time
    np.testing.assert_array_equal(go(jax.random.key(n)), found)
    if per_epoch > 1:
        assert len({epoch.tobytes() for epoch in found.reshape(epochs, -1)}) > epochs // 2
        assert np.any(go(jax.random.key(n + 1)) != found)


def test_every_sample_is_drawn_alike():
    keys = jax.random.split(jax.random.key(0), 1000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: visits(10, 3, 4, key)))(keys))
    for step in range(4):  # three steps of an epoch and the first of the next
        often = found[:, step].sum(axis=0)
        np.testing.assert_allclose(often, 300, atol=5 * np.sqrt(1000 * 0.3 * 0.7))
    # The second epoch knows nothing of the first: both first batches hold a sample with probability 0.09.
    both = np.sum(found[:, 0] * found[:, 3], axis=0)
    np.testing.assert_allclose(both, 90, atol=5 * np.sqrt(1000 * 0.09 * 0.91))


def test_the_batches_do_not_depend_on_what_is_recorded():
    key = jax.random.key(5)
    assert_same(run(0.1, key, every=1)[0], run(0.1, key, every=30)[0], 1e-12, 1e-14)


def test_a_batch_of_all_is_the_full_batch_in_another_order():
    optimizer = optax.sgd(0.1)
    found, _ = jr.train(loss_fn, LINEAR, optimizer, DATA, steps=7, batch_size=N, key=jax.random.key(0))
    assert_same(found, jr.train(loss_fn, LINEAR, optimizer, DATA, steps=7)[0], 1e-12, 1e-14)


@pytest.mark.parametrize("size", [None, 2])
def test_another_key_for_the_loss_at_every_step(size):
    def noise(w, batch, key):
        return w * jax.random.normal(key)

    def keys(key):
        _, history = jr.train(
            noise,
            jnp.zeros(()),
            optax.sgd(-1.0),
            jnp.arange(6.0),
            steps=40,
            batch_size=size,
            key=key,
            every=1,
            metrics={"w": lambda w: w},
            stochastic=True,
        )
        return jnp.diff(history["w"], prepend=0.0)

    keys = jax.jit(keys)
    one, other = np.asarray(keys(jax.random.key(0))), np.asarray(keys(jax.random.key(1)))
    assert len(np.unique(np.round([one, other], 9))) == 80
    np.testing.assert_array_equal(keys(jax.random.key(0)), one)
    assert abs(np.mean(one)) < 1 and 0.5 < np.std(one) < 1.5


# ---------------------------------------------------------------- the models


class Model(eqx.Module):
    """A network, a counter, labels, a number, a missing part."""

    mlp: eqx.nn.MLP
    steps: jax.Array
    labels: np.ndarray
    missing: None
    rate: float
    name: str = eqx.field(static=True)


MLP = eqx.nn.MLP(F, "scalar", 8, 1, key=jax.random.key(0))
MODEL = Model(MLP, jnp.array(7), np.arange(4), None, 0.1, "a model")


def model_loss(model, batch):
    return jnp.mean((jax.vmap(model.mlp)(batch["x"]) - batch["y"]) ** 2)


@pytest.mark.parametrize("jit", [False, True])
def test_a_module_is_trained_and_its_other_leaves_stay(jit):
    penalty = jr.Masked(P.RowL2(0.05, axis=0), jr.masks.by_path("layers/0/weight"))

    def fit(model):
        return jr.train(
            model_loss,
            model,
            T.proximal_sgd(0.05, penalty),
            DATA,
            steps=60,
            batch_size=20,
            key=jax.random.key(1),
            penalty=penalty,
            after_step=lambda model, count: eqx.tree_at(lambda m: m.steps, model, model.steps + 1),
            every=30,
        )

    new, history = (eqx.filter_jit(fit) if jit else fit)(MODEL)
    assert jax.tree.structure(new) == jax.tree.structure(MODEL)
    assert new.steps == 7 and new.rate == 0.1 and new.missing is None
    np.testing.assert_array_equal(new.labels, np.arange(4))
    assert new.mlp.activation is MODEL.mlp.activation
    assert model_loss(new, DATA) < 0.3 * model_loss(MODEL, DATA)
    assert history["loss"][1] < history["loss"][0]
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(m, eqx.is_inexact_array)) for m in (new, MODEL)), strict=True
    ):
        assert a.dtype == b.dtype and jnp.any(a != b)
    first = new.mlp.layers[0].weight
    np.testing.assert_allclose(history["zeros"][-1], np.mean(first == 0))
    np.testing.assert_allclose(history["penalty"][-1], 0.05 * np.linalg.norm(first, axis=0).sum(), rtol=1e-5)


DECAY = T.l2_decay(0.1)
NARROW = {
    "sgd": T.proximal_sgd,
    "momentum": lambda rate, penalty: T.proximal_sgd(lambda k: rate(k) / 10, penalty, momentum=0.9),
    "link": lambda rate, penalty: optax.chain(DECAY, optax.sgd(rate), T.proximal(penalty, rate)),
    "adam": T.proximal_adam,
    "adagrad": T.proximal_adagrad,
    "lion": T.proximal_lion,
}


@pytest.mark.parametrize("optimizer", list(NARROW))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_narrow_types_stay_narrow(optimizer, dtype):
    """With double precision on, no array of a single-precision run is wider."""
    model, data = jax.tree.map(lambda x: x.astype(dtype), (LINEAR, DATA))
    penalty = jr.Masked(jr.L1(jnp.asarray(0.4, "float32")), {"w": True, "b": False})

    def fit(model, data):
        return jr.train(
            loss_fn,
            model,
            NARROW[optimizer](optax.exponential_decay(0.1, 20, 0.8), penalty),
            data,
            steps=60,
            batch_size=20,
            key=jax.random.key(0),
        )

    new, history = jax.jit(fit)(model, data)
    assert {x.dtype.name for x in jax.tree.leaves(new)} == {dtype}
    assert 0 < jnp.sum(new["w"] == 0) < F and new["b"] != 0
    assert loss_fn(new, data) < 0.8 * loss_fn(model, data)
    if dtype == "float32":
        assert history["loss"].dtype == dtype
        wide = {
            line for line in str(jax.make_jaxpr(fit)(model, data)).splitlines() if re.search(r"f64\[\d", line)
        }
        assert not wide


def test_numbers_that_are_not_floats_are_left_alone():
    model = {"w": jnp.ones(2), "n": jnp.arange(2), "flag": jnp.array([True]), "rate": 0.5}
    loss = lambda model, batch: jnp.sum(model["w"] * batch) * model["rate"] + model["n"][1]  # noqa: E731
    new, _ = jr.train(loss, model, optax.sgd(1.0), jnp.array([[1.0, 2.0]]), steps=1)
    assert_same(new, {**model, "w": jnp.array([0.5, 0.0])})


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


# ---------------------------------------------------------------- refusals


KEY = jax.random.key(0)
WRONG = {
    "steps 0": (ValueError, "steps must be a whole number", {"steps": 0}),
    "steps -1": (ValueError, "steps must be a whole number", {"steps": -1}),
    "steps 2.0": (ValueError, "steps must be a whole number", {"steps": 2.0}),
    "steps True": (ValueError, "steps must be a whole number", {"steps": True}),
    "every 0": (ValueError, "every must be a whole number", {"every": 0}),
    "every 3 of 4": (ValueError, "every must divide steps", {"every": 3}),
    "every 8 of 4": (ValueError, "every must divide steps", {"every": 8}),
    "batch_size 0": (ValueError, "batch_size must be a whole number", {"batch_size": 0, "key": KEY}),
    "batch_size": (ValueError, "batch_size must be at most the 60", {"batch_size": 61, "key": KEY}),
    "no key": (ValueError, r"give key=jax.random.key\(0\)", {"batch_size": 5}),
    "lengths": (ValueError, r"one common length.*\[59, 60\]", {"data": {"x": X, "y": Y[:-1]}}),
    "a number": (ValueError, "one common length", {"data": {"x": X, "y": 1.0}}),
    "no data": (ValueError, "one common length", {"data": None}),
    "no rows": (ValueError, "one common length", {"data": {"x": X[:0], "y": Y[:0]}}),
    "vector loss": (
        TypeError,
        r"one float.*\(60,\)",
        {"loss_fn": lambda m, b: (b["x"] @ m["w"] - b["y"]) ** 2},
    ),
    "whole loss": (TypeError, "one float.*int", {"loss_fn": lambda m, b: jnp.sum(b["y"] > m["w"][0])}),
    "metric loss": (ValueError, "'loss'", {"metrics": {"loss": lambda m: 0.0}}),
    "metric step": (ValueError, "'step'", {"metrics": {"step": lambda m: 0.0}}),
    "metric zeros": (ValueError, "'zeros'", {"metrics": {"zeros": lambda m: 0.0}, "penalty": jr.L1(0.1)}),
    "metric penalty": (ValueError, "'penalty'", {"metrics": {"penalty": lambda m: 0.0}}),
    "penalty": (TypeError, "wanted a penalty", {"penalty": 0.1}),
    "penalty class": (TypeError, "wanted a penalty", {"penalty": jr.L1}),
    "link after": (
        ValueError,
        "put the proximal step last",
        {"optimizer": optax.chain(T.proximal(WEIGHTED, 0.1), optax.scale(0.5))},
    ),
    "average": (ValueError, "averages", {"optimizer": optax.contrib.schedule_free(OPTIMIZERS["link"], 0.1)}),
    "after_step forgets": (ValueError, "of the structure", {"after_step": lambda m, count: {"w": m["w"]}}),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_refusals(name):
    error, match, options = WRONG[name]
    given = {"loss_fn": loss_fn, "optimizer": optax.sgd(0.1), "data": DATA, "steps": 4} | options
    first = given.pop("loss_fn"), LINEAR, given.pop("optimizer"), given.pop("data")
    with pytest.raises(error, match=match):
        jr.train(*first, **given)


def test_a_model_without_floats_is_refused():
    with pytest.raises(TypeError, match="no array of floats"):
        jr.train(lambda m, b: jnp.mean(b), {"n": jnp.arange(3)}, optax.sgd(0.1), jnp.ones(4), steps=1)


def test_a_loss_that_returns_more_is_named():
    with pytest.raises(TypeError, match=r"loss_fn must return one float.* got tuple"):
        jr.train(lambda w, b: (jnp.sum(w), w), jnp.ones(2), optax.sgd(0.1), jnp.ones(4), steps=1)


@pytest.mark.parametrize("after", [lambda w, _: None, lambda w, _: w.astype("float16"), lambda w, _: w[:1]])
def test_after_step_keeps_the_form_of_the_model(after):
    with pytest.raises(ValueError, match="after_step must return a model of the structure"):
        jr.train(lambda w, b: jnp.sum(w), jnp.ones(2), optax.sgd(0.1), jnp.ones(4), steps=1, after_step=after)
