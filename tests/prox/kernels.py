"""Kernels of `prox` as the tests call them, with their costs, parameters and points."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import prox

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
    "soft": (lambda v, t, lam: prox.soft(v, t * lam), lambda u, lam: lam * abs(u), (LAM,), ()),
    "hard": (
        lambda v, t, lam: prox.hard(v, jnp.sqrt(2 * t * lam)),
        lambda u, lam: lam * (u != 0),
        (LAM,),
        (),
    ),
    "asymmetric_soft": (
        lambda v, t, a, b: prox.asymmetric_soft(v, t * a, t * b),
        lambda u, a, b: b * np.maximum(u, 0) + a * np.maximum(-u, 0),
        (-0.3, LAM),
        (),
    ),
    "mcp": (prox.mcp, mcp_cost, (LAM, GAMMA), (GAMMA * LAM,)),
    "scad": (prox.scad, scad_cost, (LAM, A), (LAM, A * LAM)),
    "half": (prox.half, lambda u, lam: lam * np.sqrt(abs(u)), (LAM,), ()),
    "log_sum": (prox.log_sum, lambda u, lam, eps: lam * np.log1p(abs(u) / eps), (LAM, EPS), ()),
    "huber_norm": (prox.huber_norm, huber_cost, (LAM, DELTA), (DELTA,)),
    "capped": (prox.capped, lambda u, lam, c: lam * np.minimum(abs(u), c), (LAM, CAP), (CAP,)),
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
    "block_soft": lambda v, s: prox.block_soft(v, s * fit(THR, v), LABELS, 3),
    "block_soft_metric": lambda v, s: prox.block_soft_metric(v, s * fit(THR, v), fit(METRIC, v), LABELS, 3),
    "block_mcp": lambda v, s: prox.block_mcp(v, s, fit(THR, v), 2.0, LABELS, 3),
    "singular_soft": lambda v, s: prox.singular_soft(v[:6].reshape(3, 2), s).ravel(),
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

RADII = np.array([0.5, 1.5, 0.75])
LAMS = np.array([2.0, 1.75, 1.0, 1.0, 0.5, 0.125, 0.0])
WEIGHTS = np.array([0.25, 1.0, 0.5, 0.0, 2.0, 0.75])
simplex, l1_ball, l2_ball, linf, sorted_l1, total_variation = (
    jax.jit(getattr(prox, name))
    for name in ("simplex", "l1_ball", "l2_ball", "linf", "sorted_l1", "total_variation")
)
# Kernels of (v, strength), convex and homogeneous: scaling v and strength scales the result.
HOMOGENEOUS = {
    "simplex": simplex,
    "l1_ball": l1_ball,
    "l1_ball_groups": jax.jit(lambda v, s: prox.l1_ball_groups(v, s * fit(RADII, v), LABELS, 3)),
    "l2_ball": l2_ball,
    "linf": linf,
    "linf_groups": jax.jit(lambda v, s: prox.linf_groups(v, s * fit(RADII, v), LABELS, 3)),
    "sorted_l1": jax.jit(lambda v, s: prox.sorted_l1(v, s * fit(LAMS, v))),
    "total_variation": jax.jit(lambda v, s: prox.total_variation(v, s * fit(WEIGHTS, v))),
}
PROXES = ("linf", "linf_groups", "sorted_l1", "total_variation")
TIED_POINTS = [
    np.array([3.0, -1.0, 0.7, 0.5, -2.0, 4.0, 1.5]),
    np.array([0.1, 2.0, -2.8, -2.1, 0.2, 0.15, 5.0]),
    np.array([1.0, 1.1, 0.9, 1.05, 0.95, -1.2, -1.15]),
]
_rng = np.random.default_rng(4)
VECTORS = [
    np.array([1.7]),
    *(_rng.normal(size=30) * s for s in (0.01, 1.0, 5.0)),
    np.zeros(30),
    np.arange(30.0),
]
VECTORS += [np.repeat([2.0, -2.0], 15), np.r_[1e8, 1e8 + 1, -3.0, np.zeros(27)]]


def by_row(kernel):
    """Return the kernel of rows (v, step, *parameters) and its derivatives, forward and reverse."""
    f = lambda row: kernel(*row)  # noqa: E731
    return [jax.jit(jax.vmap(g)) for g in (f, jax.jacfwd(f), jax.jacrev(f))]
