"""What the laws run over: losses, problems with targets drawn from its model; a counter of compilations."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxreg as jr

LOSSES = {
    "Huber": jr.losses.Huber(1.0),
    "Logistic": jr.losses.Logistic(),
    "Multinomial": jr.losses.Multinomial(3),
    "Poisson": jr.losses.Poisson(),
    "SquaredError": jr.losses.SquaredError(),
}


def targets(name: str, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Targets drawn from the model of a loss at the predictor z (n,)."""
    n = len(z)
    if name == "Logistic":
        y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
        y[:2] = 0, 1
        return y
    if name == "Multinomial":
        y = np.digitize(z + rng.normal(size=n), [-1, 1])
        y[:3] = 0, 1, 2
        return y
    if name == "Poisson":
        y = rng.poisson(np.exp(np.clip(0.5 * z, -3, 3))).astype(float)
        y[0] += 1
        return y
    return z + rng.normal(size=n)


def problem(name: str, dtype: Any = "float64", n: int = 60, p: int = 8, **options: Any) -> jr.Problem:
    """A problem with this loss: two of p features matter."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, p))
    y = targets(name, X[:, 0] - 0.5 * X[:, 1], rng)
    return jr.Problem(LOSSES[name], X.astype(dtype), y, **options)


def compilations(call: Callable[[], Any]) -> int:
    """How many programs a call compiles."""
    found: list[str] = []

    def listen(event: str, _: float, **__: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.clear_event_listeners()
    return len(found)
