"""The kernels of `thresholds` as the tests call them, with their costs, parameters and points."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import thresholds

LAM, GAMMA, A, EPS, DELTA, CAP = 1.3, 2.0, 3.7, 0.4, 0.6, 1.1


def mcp_cost(u, lam, gamma):
    return np.where(np.abs(u) <= gamma * lam, lam * np.abs(u) - u**2 / (2 * gamma), gamma * lam**2 / 2)


def scad_cost(u, lam, a):
    size = np.abs(u)
    middle = (2 * a * lam * size - u**2 - lam**2) / (2 * (a - 1))
    top = lam**2 * (a + 1) / 2
    return np.where(size <= lam, lam * size, np.where(size <= a * lam, middle, top))


def huber_cost(u, lam, delta):
    return lam * np.where(np.abs(u) <= delta, u**2 / (2 * delta), np.abs(u) - delta / 2)


# Kernel of (v, step, *parameters), its cost of (u, *parameters), the parameters, kinks of the cost.
ELEMENTWISE = {
    "soft": (lambda v, t, lam: thresholds.soft(v, t * lam), lambda u, lam: lam * abs(u), (LAM,), ()),
    "hard": (
        lambda v, t, lam: thresholds.hard(v, jnp.sqrt(2 * t * lam)),
        lambda u, lam: lam * (u != 0),
        (LAM,),
        (),
    ),
    "asymmetric_soft": (
        lambda v, t, a, b: thresholds.asymmetric_soft(v, t * a, t * b),
        lambda u, a, b: b * np.maximum(u, 0) + a * np.maximum(-u, 0),
        (-0.3, LAM),
        (),
    ),
    "mcp": (thresholds.mcp, mcp_cost, (LAM, GAMMA), (GAMMA * LAM,)),
    "scad": (thresholds.scad, scad_cost, (LAM, A), (LAM, A * LAM)),
    "half": (thresholds.half, lambda u, lam: lam * np.sqrt(abs(u)), (LAM,), ()),
    "log_sum": (thresholds.log_sum, lambda u, lam, eps: lam * np.log1p(abs(u) / eps), (LAM, EPS), ()),
    "huber_norm": (thresholds.huber_norm, huber_cost, (LAM, DELTA), (DELTA,)),
    "capped": (thresholds.capped, lambda u, lam, c: lam * np.minimum(abs(u), c), (LAM, CAP), (CAP,)),
}
ELEMENTWISE = {name: (jax.jit(kernel), *rest) for name, (kernel, *rest) in ELEMENTWISE.items()}
LABELS = np.array([2, 0, 1, 0, 2, 2, 0], np.int32)
THR = np.array([0.5, 1.5, 0.75])
METRIC = np.array([1.0, 0.25, 0.75, 2.0, 0.125, 1.0, 5.0])


def fit(constant, v):
    """A constant that can be lowered where double precision is off."""
    return constant.astype(np.float64 if v.dtype == float else np.float32)


# Kernel of (v, strength) for v of 7 coordinates: the laws of all go through here.
WHOLE = {
    "block_soft": lambda v, s: thresholds.block_soft(v, s * fit(THR, v), LABELS, 3),
    "block_soft_metric": lambda v, s: thresholds.block_soft_metric(
        v, s * fit(THR, v), fit(METRIC, v), LABELS, 3
    ),
    "block_mcp": lambda v, s: thresholds.block_mcp(v, s, fit(THR, v), 2.0, LABELS, 3),
    "singular_soft": lambda v, s: thresholds.singular_soft(v[:6].reshape(3, 2), s).ravel(),
}
WHOLE = {name: jax.jit(kernel) for name, kernel in WHOLE.items()}
ALL = WHOLE | {
    name: jax.jit(lambda v, s, kernel=kernel, parameters=parameters: kernel(v, s, *parameters))
    for name, (kernel, _, parameters, _) in ELEMENTWISE.items()
}
POINTS = [
    np.array([3.0, -1.0, 0.7, 0.5, -2.0, 4.0, 1.5]),
    np.array([0.1, 2.0, -2.8, -2.0, 0.2, 0.1, 5.0]),
    np.array([0.05, 0.01, 6.0, 0.02, 0.2, 0.1, 0.01]),
]


def by_row(kernel):
    """The kernel of rows (v, step, *parameters), and its derivatives in all of them, forward and reverse."""
    f = lambda row: kernel(*row)  # noqa: E731
    return [jax.jit(jax.vmap(g)) for g in (f, jax.jacfwd(f), jax.jacrev(f))]
