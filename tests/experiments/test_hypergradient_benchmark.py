"""The benchmark of hypergradients: its gradients are right, and its table is complete."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import hypergradient


@pytest.mark.slow
def test_the_gradient_that_is_timed_is_that_of_the_value():
    lasso = hypergradient.Lasso(30, 24, blocks=3)
    x = jnp.full(3, np.log(0.2 * lasso.lam_max))
    ends = [float(lasso.value(end)) for end in hypergradient.ends_of_differences(x)]
    differences = (np.array(ends[::2]) - np.array(ends[1::2])) / (2 * hypergradient.STEP)
    np.testing.assert_allclose(lasso.value_and_grad(x)[1], differences, rtol=1e-5)
    assert 0 < lasso.support(0.5 * lasso.lam_max) < 24


@pytest.mark.slow
def test_all_parts_run(tmp_path, monkeypatch):
    monkeypatch.setattr(hypergradient, "REPEATS", 2)
    out = tmp_path / "table.json"
    assert hypergradient.main(["--quick", "--out", str(out)]) == 0
    table = json.loads(out.read_text())
    assert [row["hyperparameters"] for row in table["hyperparameters"]] == [1, 10, 100]
    assert all(row["error"] < 1e-4 for row in table["hyperparameters"])
    small, large = (row["megabytes"] for row in table["memory"])
    assert small == large
