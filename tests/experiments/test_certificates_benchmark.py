"""The judge of certificates: it finds what was made wrong, and nothing false in what was not."""

import numpy as np
import pytest

from experiments.benchmarks.certificates import __main__ as command
from experiments.benchmarks.certificates.extended import model, working
from experiments.benchmarks.certificates.problems import LOSSES, draw


def cases(dtype, **wanted):
    """Problems drawn, in order of their seeds, that have these fields."""
    for seed in range(2000):
        case = draw(seed, dtype)
        if all(getattr(case, name) == value for name, value in wanted.items()):
            yield seed, case


@pytest.mark.parametrize("loss", list(LOSSES))
def test_polishing_ends_where_the_slope_is_zero(loss):
    """At the polished point of a ridge problem no step along a random direction goes lower."""
    rng = np.random.default_rng(0)
    _, case = next(cases("float64", loss=loss, kind="elementary", design="independent", mix=0.0))
    judged = model(case, 0.1)
    judged.curve[:] = 0.1
    zero = np.zeros((case.X.shape[1], judged.outputs)), np.zeros(judged.outputs)
    best = judged.polish(*zero, np.ones(case.X.shape[1], bool))
    assert best <= judged.objective(*zero)
    for _ in range(20):
        step = rng.normal(size=zero[0].shape)
        near = judged.polish(zero[0] + step, zero[1], np.ones(case.X.shape[1], bool))
        assert abs(near - best) <= 1e-12 * abs(best)


def test_a_point_off_the_optimum_is_seen():
    """Moving one coefficient by a hundredth is found, at the size that the curvature gives it."""
    _, case = next(cases("float64", loss="SquaredError", kind="elementary", design="independent", lam=0.1))
    judged = model(case, 1e-3)
    p = case.X.shape[1]
    w, b, _ = working(case, np.ones(p), np.zeros(1))
    best = judged.polish(w, b, np.ones(p, bool))
    assert judged.objective(w, b) - best > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_certificate_is_false(dtype):
    """A few hostile problems; the benchmark runs thousands."""
    wanted = {"loss": "SquaredError", "kind": "elementary", "solver": "ProximalGradient"}
    rows = []
    for seed, case in cases(dtype, **wanted):
        if case.X.shape[1] == 6:
            rows.append(command.judge(seed, dtype))
        if len(rows) == 25:
            break
    verdicts = [row["verdict"] for row in rows]
    assert verdicts.count("false") == 0, rows
    assert verdicts.count("certified") >= 15
