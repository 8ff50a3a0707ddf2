"""Helpers for tests of transforms: the optimisers, steps of them in one scan, weights to train."""

import functools

import jax
import numpy as np
import optax
import pytest

import jaxreg as jr

T = jr.transforms
RATE = 0.1
OPTIMIZERS = {
    "link": lambda g, rate=RATE: optax.chain(optax.sgd(rate), T.proximal(g, rate)),
    "sgd": lambda g, rate=RATE: T.proximal_sgd(rate, g, momentum=0.9),
    "adam": lambda g, rate=RATE: T.proximal_adam(rate, g),
    "adagrad": lambda g, rate=RATE: T.proximal_adagrad(rate, g),
    "lion": lambda g, rate=RATE: T.proximal_lion(rate, g),
}


def draw(*shape, seed=1):
    """Normal numbers, the same in every order of the tests."""
    return jax.device_put(np.random.default_rng(seed).normal(size=shape))


every_optimizer = pytest.mark.parametrize("name", list(OPTIMIZERS))


def run(optimizer, params, gradients, state=None):
    """The params and state after one step for each of the gradients (stacked), in one scan."""

    def one(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    def whole(params, state, gradients):
        state = optimizer.init(params) if state is None else state
        return jax.lax.scan(one, (params, state), gradients)[0]

    return jax.jit(whole)(params, state, gradients)


def zeros(tree):
    return [np.asarray(x) == 0 for x in jax.tree.leaves(tree)]


PARAMS = {"a": draw(8), "b": {"c": draw(2, 3, seed=2)}}
GRADIENTS = {"a": draw(6, 8, seed=3), "b": {"c": draw(6, 2, 3, seed=4)}}
#: λ at which some weights are 0 after six steps, and not all.
LAM = {"link": 1.5, "sgd": 0.5, "adam": 1.0, "adagrad": 0.7, "lion": 0.1}


@functools.cache
def bare(name, lam=None):
    """The params after six steps of the optimiser itself."""
    return run(OPTIMIZERS[name](jr.L1(LAM[name] if lam is None else lam)), PARAMS, GRADIENTS)[0]
