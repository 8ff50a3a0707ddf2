"""Functions that choose and judge λ take data whose rows are spread over devices, on explicit axes too."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxreg as jr
from tests.members import devices

rng = np.random.default_rng(0)
X = rng.normal(size=(32, 4))
Y = X[:, 0] - X[:, 1] + rng.normal(size=32)


def problem_of(X, y):
    return jr.Problem(jr.losses.SquaredError(), X, y)


#: Functions of a problem and of another one that return an array.
FUNCTIONS = {
    "heuristic factor": lambda problem, _: jr.shrinkage.heuristic_factor(problem),
    "tune": lambda problem, other: jr.tune(problem, jr.L1, 0.1, jr.criteria.held_out(other), steps=2).theta,
    "cross-validation": lambda problem, _: jr.cross_validate(problem, jr.L1, num=5, folds=3).mean,
    "stability": lambda problem, _: (
        jr.stability_selection(problem, jr.L1, [0.2, 0.1], replicates=4).probabilities
    ),
    "optimism": lambda problem, _: jr.shrinkage.optimism(problem, jr.L1(0.1), replicates=2).corrected,
}
FAST = ("heuristic factor", "tune")


@pytest.mark.slow_except("heuristic factor")
@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FUNCTIONS]
)
def test_the_same_on_explicit_axes(name):
    mesh = jax.make_mesh((4,), ("rows",), (AxisType.Explicit,), devices=devices(4).devices.ravel())
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    spread, other = (problem_of(*(jax.device_put(x, rows) for x in (sign * X, Y))) for sign in (1, -1))
    got = FUNCTIONS[name](spread, other)
    wanted = FUNCTIONS[name](problem_of(X, Y), problem_of(-X, Y))
    np.testing.assert_allclose(got, wanted, rtol=1e-9)
