"""Laws of every penalty and every combination in tests/members.py: value, prox and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.members import COMBINED, MEMBERS, examples
from tests.penalties import formulas
from tests.penalties.harness import CONVEX, STEPS, SUBJECTS, Subject, excess

every = pytest.mark.parametrize("name", SUBJECTS)


def test_every_member_is_here():
    here = {type(s.penalty).__name__ for s in SUBJECTS.values()}
    assert here == set(MEMBERS) and set(COMBINED) < here


@every
def test_value_is_the_formula(name):
    s = SUBJECTS[name]
    inside = s.landed[:, [0, 2]].reshape(-1, s.size)
    W = np.concatenate([s.points, inside])
    own = jax.jit(jax.vmap(lambda w: s.penalty.value(s.up(w))))(jnp.asarray(W))
    np.testing.assert_allclose(own, s.formula(W), rtol=1e-12, atol=1e-12)


@every
def test_prox_beats_candidates(name):
    """Also at step 0, where it is the nearest point of the domain."""
    s = SUBJECTS[name]
    V, T = np.repeat(s.points, len(STEPS), axis=0), np.tile(STEPS, len(s.points))
    worst, where = excess(s, V, s.landed.reshape(-1, s.size), T)
    assert worst <= 1, where


@pytest.mark.parametrize("name", [n for n, s in SUBJECTS.items() if s.penalty.separable])
def test_prox_beats_a_global_grid_of_each_coordinate(name):
    s = SUBJECTS[name]
    numbers = [np.ravel(x) for x in jax.tree.leaves(s.penalty) if jnp.issubdtype(x.dtype, jnp.floating)]
    numbers = np.concatenate(numbers) if numbers else np.zeros(1)
    kinks = np.concatenate([numbers, np.outer(numbers, numbers).ravel()])
    kinks = kinks[np.isfinite(kinks)]
    small = np.geomspace(1e-8, 1e3, 200)
    axis = np.concatenate([np.linspace(-8, 8, 1601), small, -small, [0.0], kinks, -kinks])
    axis = np.concatenate([axis, np.nextafter(kinks, 9), np.nextafter(kinks, -9)])
    at = formulas.by_coordinate(s.penalty, s.batch(np.repeat(axis[:, None], s.size, axis=1)))
    for k, t in enumerate(STEPS):
        U = s.landed[:, k]
        own = formulas.by_coordinate(s.penalty, s.batch(U))
        best = 0.5 * (U - s.points) ** 2 + np.where(np.isinf(own), np.inf, t * own)
        other = np.where(np.isinf(at), np.inf, t * np.where(np.isinf(at), 0.0, at))
        costs = 0.5 * (axis[:, None, None] - s.points) ** 2 + other[:, None]
        assert np.all(best <= np.min(costs, axis=0) + 1e-13 * (1 + best)), (t, s.points, U)


PLANE = {
    name: Subject(name, *case)
    for shape in [(2,), (2, 1), (1, 2)]
    for name, case in examples(shape).items()
    if shape == (2,) or name.startswith(("RowL2", "NuclearNorm", "TotalVariation", "GroupL2"))
}


@pytest.mark.parametrize("name", PLANE)
def test_prox_beats_a_dense_grid_in_the_plane(name):
    s = PLANE[name]
    axis = np.unique(np.concatenate([np.linspace(-4, 4, 81), [1e-6, -1e-6, 1e-3, -1e-3]]))
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    grid = grid if s.whole_space else s.project(grid)
    at = s.formula(grid)
    V = np.array([[1.0, -2.0], [0.7, 0.7], [3.0, 0.1], [0.0, 1.5], [-0.2, 0.3], [0.0, 0.0], [2.0, -2.0]])
    for t in (0.0, 1e-3, 0.3, 1.0, 5.0, 1e3):
        U = s.prox(V, np.full(len(V), t))
        best = 0.5 * np.sum((U - V) ** 2, axis=1) + t * s.formula(U)
        costs = 0.5 * np.sum((grid - V[:, None]) ** 2, axis=-1) + t * at
        assert np.all(best <= np.min(costs, axis=1) + 1e-12 * (1 + best)), (t, V, U)


@every
def test_step_zero_is_the_projection(name):
    s = SUBJECTS[name]
    U = s.landed[:, 0]
    # A change of basis and a shift by a reference round; so does the sum of the entries of a simplex.
    exact = not any(word in name for word in ("Toward", "Orthogonal", "Simplex"))
    inside = np.isfinite(s.formula(s.points))
    np.testing.assert_allclose(
        U[inside], s.points[inside], rtol=0 if exact else 1e-14, atol=0 if exact else 1e-13
    )
    again = s.prox(np.tile(U, (6, 1)), np.zeros(96))[:16]
    np.testing.assert_allclose(again, U, rtol=2e-15, atol=0 if exact else 1e-13)


STRENGTHS = ("lam", "lams", "lam_l1", "lam_tv", "factor")


def without(penalty):
    """The same penalty with every strength λ at 0."""

    def zero(path, x):
        return 0 * x if getattr(path[-1], "name", "") in STRENGTHS else x

    return jax.tree_util.tree_map_with_path(zero, penalty)


@every
def test_at_lambda_zero_only_the_domain_is_left(name):
    s = SUBJECTS[name]
    U = s.prox(np.repeat(s.points, len(STEPS), axis=0), np.full(96, 2.0), without(s.penalty))
    np.testing.assert_allclose(U.reshape(16, 6, -1)[:, 0], s.landed[:, 0], rtol=1e-14, atol=1e-13)


@pytest.mark.parametrize("name", CONVEX)
def test_prox_is_firmly_nonexpansive(name):
    s = SUBJECTS[name]
    d, du = s.points[:, None] - s.points, s.landed[:, None] - s.landed
    left, right = np.sum(du**2, axis=-1), np.sum(du * d[:, :, None], axis=-1)
    assert np.all(left <= right + 1e-12 * (1 + np.abs(right)))
