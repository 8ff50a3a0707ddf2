"""A small regression for the tests of `train`: its data, model and loss, a penalty on its weights, a run."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr

T = jr.transforms
N, F = 60, 5
rng = np.random.default_rng(0)
X = rng.normal(size=(N, F))
Y = X @ [2.0, -1.0, 0.5, 0.0, 0.0] + 0.3 + 0.2 * rng.normal(size=N)
X, Y = jax.device_put((X, Y))
DATA = {"x": X, "y": Y}
LINEAR = jax.device_put({"w": np.zeros(F), "b": np.zeros(())})


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
