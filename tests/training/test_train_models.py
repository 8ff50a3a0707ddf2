"""Models: modules with other leaves, narrow types, numbers that are no floats."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import P
from tests.training.regression import DATA, LINEAR, F, T, loss_fn
from tests.training.same import assert_same


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
