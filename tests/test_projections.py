"""Projections, sorted and fused coordinates: certificates, other people's answers, and the laws of all."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear
from sklearn.isotonic import isotonic_regression

from jaxreg import projections

rng = np.random.default_rng(4)
LABELS = np.array([2, 0, 1, 0, 2, 2, 0], np.int32)
RADII = np.array([0.5, 1.5, 0.75])
LAMS = np.array([2.0, 1.75, 1.0, 1.0, 0.5, 0.125, 0.0])
WEIGHTS = np.array([0.25, 1.0, 0.5, 0.0, 2.0, 0.75])
simplex, l1_ball, l2_ball, linf, sorted_l1, total_variation = (
    jax.jit(getattr(projections, name))
    for name in ("simplex", "l1_ball", "l2_ball", "linf", "sorted_l1", "total_variation")
)


def fit(constant, v):
    """A constant that can be lowered where double precision is off."""
    return constant.astype(np.float64 if v.dtype == float else np.float32)


# Kernel of (v, strength) for v of 7 coordinates: the laws of all go through here.
ALL = {
    "simplex": simplex,
    "l1_ball": l1_ball,
    "l1_ball_groups": jax.jit(lambda v, s: projections.l1_ball_groups(v, s * fit(RADII, v), LABELS, 3)),
    "l2_ball": l2_ball,
    "linf": linf,
    "linf_groups": jax.jit(lambda v, s: projections.linf_groups(v, s * fit(RADII, v), LABELS, 3)),
    "sorted_l1": jax.jit(lambda v, s: projections.sorted_l1(v, s * fit(LAMS, v))),
    "total_variation": jax.jit(lambda v, s: projections.total_variation(v, s * fit(WEIGHTS, v))),
}
PROXES = ("linf", "linf_groups", "sorted_l1", "total_variation")
POINTS = [
    np.array([3.0, -1.0, 0.7, 0.5, -2.0, 4.0, 1.5]),
    np.array([0.1, 2.0, -2.8, -2.1, 0.2, 0.15, 5.0]),
    np.array([1.0, 1.1, 0.9, 1.05, 0.95, -1.2, -1.15]),
]
VECTORS = [
    np.array([1.7]),
    *(rng.normal(size=30) * s for s in (0.01, 1.0, 5.0)),
    np.zeros(30),
    np.arange(30.0),
]
VECTORS += [np.repeat([2.0, -2.0], 15), np.r_[1e8, 1e8 + 1, -3.0, np.zeros(27)]]


def test_every_kernel_is_here():
    assert set(ALL) == set(projections.__all__)


# ---------------------------------------------------------------- simplex and balls


def to_simplex(v, total):
    """The textbook way, by sorting (Duchi et al. 2008, figure 1)."""
    s = np.sort(v)[::-1]
    rho = np.max(np.flatnonzero(s * np.arange(1, len(v) + 1) >= np.cumsum(s) - total))
    return np.maximum(v - (np.cumsum(s)[rho] - total) / (rho + 1), 0.0)


def to_ball(v, radius):
    return v if np.abs(v).sum() <= radius else np.sign(v) * to_simplex(np.abs(v), radius)


@pytest.mark.parametrize("size", [1e-6, 0.3, 1.0, 7.0, 1e4])
@pytest.mark.parametrize("k", range(len(VECTORS)))
def test_simplex_ball_and_largest_entry_are_the_textbook_s(k, size):
    v = VECTORS[k]
    slack = {"rtol": 1e-12, "atol": 1e-14 + 4e-16 * np.abs(v).max()}
    u = np.asarray(simplex(jnp.asarray(v), size))
    np.testing.assert_allclose(u, to_simplex(v, size), **slack)
    np.testing.assert_allclose(u.sum(), size, rtol=1e-12)
    ball, largest = (np.asarray(f(jnp.asarray(v), size)) for f in (l1_ball, linf))
    np.testing.assert_allclose(ball, to_ball(v, size), **slack)
    np.testing.assert_allclose(largest, v - to_ball(v, size), **slack)  # Moreau
    assert np.all(largest == 0) == (np.abs(v).sum() <= size)
    level = np.abs(largest).max()  # what is clipped has exactly this magnitude
    np.testing.assert_array_equal(largest, 0.0 if level == 0 else np.clip(v, -level, level))


@pytest.mark.parametrize("radius", [0.0, 0.5, 3.0, np.inf])
def test_inside_a_ball_nothing_moves_and_outside_it_lands_on_the_rim(radius, dtype):
    for v in VECTORS:
        v = jnp.asarray(v, dtype)
        for f, norm in ((l1_ball, 1), (l2_ball, 2)):
            u = f(v, radius)
            if jnp.linalg.norm(v, norm) <= radius:
                np.testing.assert_array_equal(u, v)
            else:
                np.testing.assert_allclose(jnp.linalg.norm(u, norm), radius, rtol=1e-5)
            assert radius > 0 or jnp.all(u == 0)
    np.testing.assert_allclose(l2_ball(jnp.array([3.0, 4.0]), 1.0), [0.6, 0.8], rtol=1e-15)


def test_groups_are_a_loop_over_groups():
    labels = rng.integers(0, 30, size=200)
    v = rng.normal(size=200) * 10.0 ** (labels - 15)  # of very different sizes
    radii = 10.0 ** (np.arange(31) - 15) * rng.uniform(0, 6, size=31)  # one group is empty
    ball, largest = (
        np.asarray(f(jnp.asarray(v), radii, labels, 31))
        for f in (projections.l1_ball_groups, projections.linf_groups)
    )
    for g in np.unique(labels):
        mine = labels == g
        want = to_ball(v[mine], radii[g])
        slack = 1e-13 * np.abs(v[mine]).max()
        np.testing.assert_allclose(ball[mine], want, atol=slack)
        np.testing.assert_array_equal(ball[mine] == 0, want == 0)
        np.testing.assert_allclose(largest[mine], v[mine] - want, atol=slack)
        assert np.all(largest[mine] == 0) == (np.abs(v[mine]).sum() <= radii[g])


# ---------------------------------------------------------------- sorted l1


def slope(v, lams):
    """By scikit-learn's isotonic regression of the sorted magnitudes."""
    order = np.argsort(-np.abs(v), kind="stable")
    fit = np.maximum(isotonic_regression(np.abs(v)[order] - lams, increasing=False), 0.0)
    u = np.zeros_like(v)
    u[order] = fit
    return np.sign(v) * u


@pytest.mark.parametrize("shape", ["linear", "equal", "steps", "one"])
@pytest.mark.parametrize("strength", [0.0, 0.01, 0.5, 1.0, 20.0])
def test_sorted_l1_is_isotonic_regression(shape, strength):
    for v in VECTORS:
        p = len(v)
        lams = {
            "linear": np.linspace(2, 0.1, p),
            "equal": np.ones(p),
            "steps": np.repeat([3.0, 1.0], [p // 2, p - p // 2]),
            "one": np.r_[2.0, np.zeros(p - 1)],
        }[shape] * strength
        u = np.asarray(sorted_l1(jnp.asarray(v), lams))
        np.testing.assert_allclose(u, slope(v, lams), rtol=1e-13, atol=1e-14 * (1 + np.abs(v).max()))
        np.testing.assert_array_equal(u == 0, slope(v, lams) == 0)
        if strength == 0:
            np.testing.assert_array_equal(u, v)
        if shape == "equal":
            np.testing.assert_allclose(u, np.sign(v) * np.maximum(np.abs(v) - strength, 0), atol=1e-15)


def test_pooled_coordinates_are_tied_exactly(dtype):
    v = jnp.asarray([5.0, -5.1, 0.3, 4.9, 0.2, 0.25, -0.35], dtype)
    u = np.abs(np.asarray(projections.sorted_l1(v, [3.0, 2.0, 1.0, 0.25, 0.1, 0.05, 0.0])))
    assert u[0] == u[1] == u[3] > 0
    assert len(set(u[[2, 4, 5, 6]])) == 1


# ---------------------------------------------------------------- total variation


def assert_certified(v, w, u, atol):
    """The dual z of the differences: z ≤ w everywhere, and z = ±w where the result rises or falls."""
    z = np.cumsum(v - u)
    assert abs(z[-1]) <= atol
    rise = np.sign(np.diff(u))
    assert np.all(np.abs(z[:-1]) <= w + atol)
    np.testing.assert_allclose(-z[:-1][rise != 0], (w * rise)[rise != 0], atol=atol)


SIGNALS = {
    "noise": rng.normal(size=500),
    "steps": np.repeat(rng.normal(size=20) * 3, 25) + 0.3 * rng.normal(size=500),
    "ramp": np.linspace(-3, 3, 500),
    "fall": np.linspace(3, -3, 500) + 1e6,
    "saw": np.tile([1.0, -1.0], 250),
    "wave": np.sin(np.arange(500) / 9) * np.arange(500),
    "constant": np.full(500, 0.1),
}


@pytest.mark.parametrize("weights", [1e-3, 0.4, 3.0, 200.0, 1e9, "mixed"])
@pytest.mark.parametrize("name", SIGNALS)
def test_total_variation_has_its_certificate(name, weights):
    v = SIGNALS[name]
    w = np.random.default_rng(1).exponential(size=499) if weights == "mixed" else np.full(499, weights)
    if weights == "mixed":
        w[::7], w[::50] = 0.0, 1e12
    u = np.asarray(total_variation(jnp.asarray(v), w))
    assert_certified(v, w, u, 1e-11 * (1 + np.abs(v).sum() / 100))


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_total_variation_solves_the_box_constrained_dual(n):
    own = np.random.default_rng(n)
    for _ in range(10):
        v, w = own.normal(size=n) * 2, own.exponential(size=n - 1) * own.integers(0, 2, size=n - 1) + 1e-12
        D = np.diff(np.eye(n), axis=0)
        u = np.asarray(total_variation(jnp.asarray(v), w))
        want = v - D.T @ lsq_linear(D.T, v, (-w, w), tol=1e-14).x if n > 1 else v
        np.testing.assert_allclose(u, want, atol=1e-6)
        if n > 1:
            assert_certified(v, w, u, 1e-12)


def test_fused_neighbours_are_equal_exactly_and_a_tie_is_fused(dtype):
    u = total_variation(jnp.asarray([0.0, 1.0, 0.3, 7.0, 7.1], dtype), 0.8)
    assert u[0] == u[1] == u[2] and u[3] == u[4] and u[2] < u[3]
    assert len(set(total_variation(jnp.array([0.0, 1.0], dtype), 0.5).tolist())) == 1
    inf = total_variation(jnp.asarray([0.0, 1.0, 5.0], dtype), jnp.array([jnp.inf, 0.0]))
    np.testing.assert_allclose(inf, [0.5, 0.5, 5.0])


def test_weight_zero_is_the_identity(dtype):
    v = jnp.asarray(rng.normal(size=300) * 10.0 ** rng.integers(-20, 20, size=300), dtype)
    np.testing.assert_array_equal(projections.total_variation(v, 0.0), v)


# ---------------------------------------------------------------- long vectors


@pytest.mark.parametrize("kind", ["walk", "ramp", "saw", "mean", "offset"])
def test_long_chains_are_right_in_float32_and_take_linear_time(kind):
    """One copy of a buffer in each step would take minutes here."""
    n = 200_000
    own = np.random.default_rng(2)
    v = {
        "walk": np.cumsum(own.normal(size=n)) / 100 + own.normal(size=n),
        "ramp": np.linspace(0, 1000, n),
        "saw": np.tile([1.0, -1.0], n // 2) + 3,
        "mean": own.normal(size=n) + 1,
        "offset": np.sin(np.arange(n) * 6 / n) + own.normal(size=n) + 1000,  # a step is below one rounding
    }[kind]
    v = v.astype(np.float32)
    w = {"walk": 30.0, "ramp": 10.0, "saw": 0.4, "mean": 1e9, "offset": 3000.0}[kind]
    lams = np.linspace(8, 0, n)
    for f, strength in ((total_variation, w), (sorted_l1, lams)):
        small = f(jnp.asarray(v), jnp.asarray(strength, v.dtype))
        large = f(jnp.asarray(v, float), jnp.asarray(strength, float))
        np.testing.assert_allclose(small, large, atol=4e-7 * np.abs(v).max())
        start = time.perf_counter()
        f(jnp.asarray(v), jnp.asarray(strength, v.dtype)).block_until_ready()
        assert time.perf_counter() - start < 5
    if kind == "mean":
        u = np.asarray(total_variation(jnp.asarray(v), np.float32(w)))
        assert len(set(u.tolist())) == 1
        np.testing.assert_allclose(u[0], np.mean(v, dtype=float), rtol=3e-7)
    assert_certified(v.astype(float), w, np.asarray(total_variation(jnp.asarray(v, float), w)), 1e-6)


@pytest.mark.parametrize("weights", [0.05, 0.35, 3.0, "mixed", 1e9])
def test_no_rounding_piles_up_in_float32(weights):
    """The queue of knots is never empty here: what is lost in one step would stay for all that follow."""
    n, own = 100_000, np.random.default_rng(100_000)
    v = own.normal(size=n).astype(np.float32)
    w = own.exponential(size=n - 1).astype(np.float32) if weights == "mixed" else np.float32(weights)
    v += np.linspace(0, 10, n, dtype=np.float32) if weights == 1e9 else 0  # its sums are long
    small, large = (np.asarray(total_variation(jnp.asarray(v, d), jnp.asarray(w, d))) for d in ("f4", "f8"))
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(small, large, rtol=0, atol=eps * np.abs(v).max())
    np.testing.assert_array_equal(np.diff(small) == 0, np.abs(np.diff(large)) < 1e-9 * np.abs(v).max())
    np.testing.assert_array_equal(small, projections.total_variation(jnp.asarray(v), w))  # eager is jit


def test_no_rounding_piles_up_in_long_blocks_in_float32():
    own = np.random.default_rng(1)
    v = np.repeat(np.float32([0.1, 0.4]), 150_000)
    lams = np.sort(own.exponential(size=v.size) / 20).astype(np.float32)[::-1]
    small, large = (np.asarray(sorted_l1(jnp.asarray(v, d), jnp.asarray(lams, d))) for d in ("f4", "f8"))
    assert len(set(large.tolist())) == 2
    np.testing.assert_allclose(small, large, rtol=0, atol=np.finfo(np.float32).eps / 4)


# ---------------------------------------------------------------- laws of all


def by_row(kernel):
    """The kernel of rows (*v, strength), and its derivatives in all of them, forward and reverse."""
    f = lambda row: kernel(row[:-1], row[-1])  # noqa: E731
    return [jax.jit(jax.vmap(g)) for g in (f, jax.jacfwd(f), jax.jacrev(f))]


@pytest.mark.parametrize("name", ALL)
def test_derivatives(name):
    """Finite differences off the kinks, finite at 0 and at ties."""
    value, ahead, back = by_row(ALL[name])
    rows = np.array([[*v, s] for v in POINTS for s in (0.37, 0.83, 1.3)])
    forward, h = ahead(rows), 1e-6
    np.testing.assert_allclose(forward, back(rows), atol=1e-12)
    for k in range(8):
        move = h * np.eye(8)[k]
        want = (value(rows + move) - value(rows - move)) / (2 * h)
        np.testing.assert_allclose(forward[..., k], want, atol=1e-6)
    ties = [np.zeros(7), np.ones(7), np.array([1.0, -1, 0, 0, 2, 2, -2]), np.arange(7.0), *POINTS[:2]]
    edges = np.array([[*v, s] for v in ties for s in (0.0, 0.5, 1.0, 7.0, 21.0, 1e6)])
    for j in (ahead, back):
        assert all(jnp.all(jnp.isfinite(j(part))) for part in np.split(edges, 4))


def test_derivative_in_every_weight():
    v, h = jnp.asarray(POINTS[0]), 1e-6
    for f, w in ((total_variation, WEIGHTS + 0.125), (sorted_l1, LAMS)):
        forward, reverse = (jax.jit(j(f, 1))(v, jnp.asarray(w)) for j in (jax.jacfwd, jax.jacrev))
        np.testing.assert_allclose(forward, reverse, atol=1e-14)
        for k in range(len(w)):
            move = h * np.eye(len(w))[k]
            want = (np.asarray(f(v, w + move)) - np.asarray(f(v, w - move))) / (2 * h)
            np.testing.assert_allclose(forward[:, k], want, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_vmap_is_a_loop_and_jit_is_eager(name):
    kernel, close = ALL[name], {"rtol": 1e-12, "atol": 1e-14}
    V, strengths = jnp.asarray(np.stack(POINTS)), jnp.array([0.6, 0.0, 2.0])
    loop = jnp.stack([kernel(v, s) for v, s in zip(V, strengths, strict=True)])
    np.testing.assert_allclose(jax.vmap(kernel)(V, strengths), loop, **close)
    np.testing.assert_allclose(kernel.__wrapped__(V[0], 0.6), loop[0], **close)


@pytest.mark.parametrize("name", ALL)
def test_nonexpansive(name):
    a, b = (jnp.asarray(rng.normal(size=(200, 7)) * 3) for _ in range(2))
    pa, pb = (jax.vmap(lambda v: ALL[name](v, 0.7))(x) for x in (a, b))
    assert jnp.all(jnp.sum((pa - pb) ** 2, 1) <= jnp.sum((pa - pb) * (a - b), 1) + 1e-12)


@pytest.mark.parametrize("name", PROXES)
def test_strength_zero_is_the_identity(name):
    for kind in (jnp.float64, jnp.float32, jnp.bfloat16):
        v = jnp.asarray([3.0, -1.0, 0.0, 1e-30, -1e30, 3.0, 1.5], kind)
        np.testing.assert_array_equal(ALL[name](v, 0.0), v)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_dtype_is_kept_without_double_precision(name, kind):
    v = jnp.asarray(POINTS[0], kind)
    want = np.asarray(ALL[name](jnp.asarray(np.asarray(v, float)), 0.6))
    with jax.enable_x64(False):
        got = ALL[name](v, 0.6)
    assert got.dtype == kind
    np.testing.assert_allclose(np.asarray(got, float), want, rtol=4 * float(jnp.finfo(kind).eps), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got) == 0, want == 0)


@pytest.mark.parametrize("name", ALL)
def test_scale_does_not_matter(name):
    """Each is homogeneous: v and strength in other units give the same in those units, slopes unchanged."""
    kernel, v = ALL[name], jnp.asarray(POINTS[0], jnp.float32)
    slope = jax.jit(jax.jacrev(kernel))
    for s in np.float32([1e-30, 1e-15, 1e15, 1e30]):
        u = np.asarray(kernel(v * s, 0.6 * s), float) / float(s)
        np.testing.assert_allclose(u, kernel(v, np.float32(0.6)), rtol=3e-6, atol=1e-6)
        np.testing.assert_allclose(slope(v * s, 0.6 * s), slope(v, np.float32(0.6)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_nan_goes_through_and_ends(name):
    assert jnp.isnan(ALL[name](jnp.full(7, jnp.nan), 0.6)).all()
    assert jnp.isnan(ALL[name](jnp.asarray([1.0, jnp.nan, *POINTS[0][:5]]), 0.6)).any()
