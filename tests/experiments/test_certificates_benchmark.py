"""The check of certificates: it detects wrong solutions and finds no false certificate."""

import numpy as np
import pytest

from experiments.benchmarks.certificates import __main__ as command
from experiments.benchmarks.certificates.extended import model, to_working
from experiments.benchmarks.certificates.problems import LOSSES, draw


def cases(dtype, **wanted):
    """Yield the seeds and problems whose fields have the given values."""
    for seed in range(2000):
        case = draw(seed, dtype)
        if all(getattr(case, name) == value for name, value in wanted.items()):
            yield seed, case


@pytest.mark.parametrize("loss", list(LOSSES))
def test_polishing_ends_where_the_gradient_is_zero(loss):
    """Polishing a ridge problem from random points ends at the same objective."""
    rng = np.random.default_rng(0)
    _, case = next(cases("float64", loss=loss, kind="elementary", design="independent", mix=0.0))
    exact = model(case, 0.1)
    exact.l2[:] = 0.1
    zero = exact.zeros()
    best = exact.polish(*zero, np.ones(case.X.shape[1], bool))
    assert best <= exact.objective(*zero)
    for _ in range(20):
        step = rng.normal(size=zero[0].shape)
        near = exact.polish(zero[0] + step, zero[1], np.ones(case.X.shape[1], bool))
        assert abs(near - best) <= 1e-12 * abs(best)


def test_a_point_off_the_optimum_is_seen():
    """A point away from the optimum has a positive suboptimality."""
    _, case = next(cases("float64", loss="SquaredError", kind="elementary", design="independent", lam=0.1))
    exact = model(case, 1e-3)
    p = case.X.shape[1]
    w, b, _ = to_working(case, np.ones(p), np.zeros(1))
    best = exact.polish(w, b, np.ones(p, bool))
    assert exact.objective(w, b) - best > 1e-3


def test_coefficients_of_very_different_size_keep_their_digits():
    """Columns from 1e-11 to 1e9 and no penalty: differences of coefficients would lose the small ones."""
    case = draw(588, "float64")
    assert (case.kind, case.design, case.lam) == ("chain", "scales", 0.0)
    exact = model(case, 0.0)
    r = np.random.default_rng(0)
    coef, intercept = r.normal(size=(6, 3)) / case.X.std(axis=0)[:, None], r.normal(size=3)
    w, b, _ = to_working(case, coef, intercept)
    z = case.X @ coef + intercept + case.offset[:, None]
    wanted = case.weight @ exact.losses(z) / case.weight.sum()
    np.testing.assert_allclose(float(exact.objective(w, b)), float(wanted), rtol=1e-12)


@pytest.mark.slow_except("float64")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_certificate_is_false(dtype):
    """Twenty-five hostile problems have no false certificate; the benchmark runs thousands."""
    wanted = {"loss": "SquaredError", "kind": "elementary", "solver": "ProximalGradient"}
    rows = []
    for seed, case in cases(dtype, **wanted):
        if case.X.shape[1] == 6:
            rows.append(command.check_certificate(seed, dtype))
        if len(rows) == 25:
            break
    verdicts = [row["verdict"] for row in rows]
    assert verdicts.count("false") == 0, rows
    assert verdicts.count("certified") >= 15
