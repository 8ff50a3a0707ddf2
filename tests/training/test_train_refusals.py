"""Refusals of `train`."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxreg as jr
from tests.training.regression import DATA, LINEAR, WEIGHTED, T, X, Y, loss_fn

KEY = jax.random.key(0)
LINK = optax.chain(optax.sgd(0.2), T.proximal(WEIGHTED, 0.2))
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
    "average": (
        ValueError,
        "averages",
        {"optimizer": optax.contrib.schedule_free(LINK, 0.1)},
    ),
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
