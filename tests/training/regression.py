"""A small regression for the tests of `train`: its data, model and loss, a penalty on its weights, a run."""

import jax.numpy as jnp
import numpy as np

import jaxreg as jr

T = jr.transforms
N, F = 60, 5
rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(N, F)))
Y = X @ jnp.array([2.0, -1.0, 0.5, 0.0, 0.0]) + 0.3 + 0.2 * jnp.asarray(rng.normal(size=N))
DATA = {"x": X, "y": Y}
LINEAR = {"w": jnp.zeros(F), "b": jnp.zeros(())}


def loss_fn(model, batch):
    return 0.5 * jnp.mean((batch["x"] @ model["w"] + model["b"] - batch["y"]) ** 2)


WEIGHTED = jr.Masked(jr.L1(0.1), {"w": True, "b": False})


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
