"""The claim of each experiment at small sizes, checked against independent results."""

import json

import jax
import numpy as np
import pytest
import scipy.stats

import jaxreg as jr
from experiments import (
    calibration,
    conversion_rate,
    coupled_decoupled,
    decision_guide,
    geometry,
    gradient_pull,
    orthonormal,
    phase_transition,
    sparsity_map,
    tuned_penalties,
)


def run_experiment(module, folder, **settings):
    """Run an experiment, check that its figures exist, and return its `numbers.json`."""
    module.main(module.Config(**settings), folder)
    found = json.loads((folder / "numbers.json").read_text())
    assert found["settings"].items() >= settings.items() and found["number"].endswith(".")
    assert found["figures"] and all((folder / name).stat().st_size > 1000 for name in found["figures"])
    return found


# ---------------------------------------------------------------- λ as a conversion rate


@pytest.mark.slow
def test_the_slope_of_loss_against_complexity_is_minus_lambda(tmp_path):
    rows = run_experiment(conversion_rate, tmp_path, data="diabetes", lams=5, ratio=0.1)["table"]
    assert [row["penalty"] for row in rows] == ["L1", "L2"]
    for row in rows:
        assert row["worst |slope/λ + 1|, autodiff"] < 1e-4
        assert row["worst |slope/λ + 1|, differences"] < 1e-4
        assert row["convex"]


def test_data_with_classes_are_refused():
    with pytest.raises(ValueError, match="one output"):
        conversion_rate.sweep(conversion_rate.Config(), "wine")


# ---------------------------------------------------------------- the map of sparsity


def test_l1_gives_zeros_and_l2_gives_none(tmp_path):
    small = {"data": "diabetes", "lams": 12, "smallest": 0.01, "n": 60, "p": 80, "k": 4, "seeds": 2}
    found = run_experiment(sparsity_map, tmp_path, **small)
    rows = {(row["data"], row["penalty"]): row for row in found["table"]}
    for data in ("diabetes", "synthetic"):
        zeros = {name: rows[data, name]["zeros at half the norm [%]"] for name in sparsity_map.RATIOS}
        assert zeros["L1"] >= zeros["elastic net"] > zeros["L2"] == 0
    assert (
        rows["synthetic", "L1"]["largest tenth holds [%]"]
        > rows["synthetic", "L2"]["largest tenth holds [%]"]
    )
    support = found["support"]
    assert support["L1"]["recall"] == 1 and support["L2"]["precision"] == 4 / 80
    assert support["L1"]["precision"] > 3 * support["L2"]["precision"]


def test_kurtosis_is_that_of_the_normal_and_of_two_points():
    assert abs(sparsity_map.kurtosis(np.random.default_rng(0).normal(size=100_000)) - 3) < 0.1
    assert sparsity_map.kurtosis(np.array([-1.0, 1.0, -1.0, 1.0])) == 1
    assert sparsity_map.kurtosis(np.zeros(3)) is None


# ---------------------------------------------------------------- diamond against circle


@pytest.mark.slow
def test_the_optimum_over_the_diamond_lies_on_corners_and_edges(tmp_path, monkeypatch):
    monkeypatch.setattr(geometry, "FAMILIES", {name: geometry.FAMILIES[name] for name in ("ℓ1", "ℓ2")})
    rows = run_experiment(geometry, tmp_path, problems=3200, others=160, max_lanes=4096)["table"]
    for row in rows:
        assert row["ℓ2: a zero"] == 0 and row["converged"] == 1
        if row["p"] == 2:
            error = np.sqrt(row["ℓ1: by KKT"] * (1 - row["ℓ1: by KKT"]) / 200)
            assert abs(row["ℓ1: a zero"] - row["ℓ1: by KKT"]) < 4 * error
        assert row["ℓ1: a zero"] >= row["ℓ1: a corner"] and row["ℓ1: zeros"] > 0


def test_the_share_of_corners_has_a_closed_form_without_correlation():
    # The projection on a diamond of radius (a + b)/2 is a corner where a − b ≥ (a + b)/2: b ≤ a/3.
    assert abs(geometry.corner_share(0.0, 0.5) - np.arctan(1 / 3) / (np.pi / 4)) < 1e-4


def test_the_balls_touch_where_they_should():
    for name, zeros in {"ℓ1": 2, "ℓ2": 0}.items():
        contact = geometry.contact_point(geometry.FAMILIES[name], 3)
        w = contact.w
        assert np.sum(w == 0) == zeros
        penalty = geometry.FAMILIES[name](1.0)
        ball = geometry.boundary(geometry.FAMILIES[name], w, geometry.cube_faces(9))
        np.testing.assert_allclose(jax.vmap(penalty.value)(ball.reshape(-1, 3)), penalty.value(w), rtol=1e-9)
        # No point of the ball has a smaller loss than the solution.
        coordinates = np.linalg.solve(contact.root, (ball - contact.minimum).reshape(-1, 3).T)
        assert 0.5 * np.sum(coordinates**2, axis=0).min() >= contact.loss * (1 - 1e-4)


# ---------------------------------------------------------------- the pull on one weight


@pytest.mark.slow
def test_l1_arrives_on_time_and_l2_never(tmp_path):
    rows = run_experiment(gradient_pull, tmp_path, weights=20, steps=200)["table"]
    found = {row["what"]: row["value"] for row in rows}
    assert found["L1: weights that are exactly 0 at the end"] == 20
    assert found["L1: steps at which a weight leaves 0 again"] == 0
    assert found["L1: smallest delay, in steps"] > -1e-9 and found["L1: largest delay, in steps"] == 1
    assert found["L1 by subgradients: zeros"] == found["L2: zeros"] == 0
    assert found["L1 by subgradients: largest error of the two-cycle"] < 1e-12
    assert found["L2 in the notes' form: largest |pull − 2λw|"] == 0


def test_both_kinds_of_steps_enclose_the_exponential():
    config = gradient_pull.Config(weights=5, steps=100)
    starts = gradient_pull.initial_weights(config)
    runs = gradient_pull.flows(config, starts, config.steps)
    t = config.time / config.steps * np.arange(config.steps + 1)[:, None]
    flow = np.abs(starts) * np.exp(-config.lam * t)
    assert (np.abs(runs["L2 gradient"][1:]) < flow[1:]).all()
    assert (np.abs(runs["L2 prox"][1:]) > flow[1:]).all()


def test_a_time_too_short_is_refused(tmp_path):
    with pytest.raises(ValueError, match="time must be beyond"):
        gradient_pull.main(gradient_pull.Config(time=1.0), tmp_path)


# ---------------------------------------------------------------- orthonormal designs


def test_estimates_on_an_orthonormal_design_are_the_closed_forms(tmp_path):
    rows = run_experiment(orthonormal, tmp_path, weights=51)["table"]
    assert len(rows) == 6
    for row in rows:
        assert row["largest difference"] < 1e-7
        assert row["zeros"] == row["zeros of the closed form"]
    assert {row["penalty"] for row in rows if row["zeros"] == 0} == {"ridge"}


# ---------------------------------------------------------------- phase transitions


def test_the_statistical_dimension_is_the_weak_threshold():
    # Donoho, Maleki and Montanari (2009) parametrise the same curve by the threshold.
    tau = np.linspace(0.3, 3.0, 20)
    density, tail = scipy.stats.norm.pdf(tau), scipy.stats.norm.cdf(-tau)
    delta = 2 * density / (tau + 2 * (density - tau * tail))
    rho = 1 - tau * tail / density
    np.testing.assert_allclose(phase_transition.statistical_dimension(rho * delta), delta, rtol=1e-6)
    np.testing.assert_allclose(
        phase_transition.statistical_dimension(np.array([0.0, 1.0])), [0, 1], atol=1e-9
    )


@pytest.mark.slow
def test_recovery_breaks_down_where_theory_says(tmp_path):
    found = run_experiment(
        phase_transition, tmp_path, p=32, rows=8, columns=3, seeds=10, largest_k=0.3, max_lanes=1000
    )
    for row in found["table"]:
        assert row["k"] == 1 or 0.75 < row["measured/theory"] < 1.25
    assert {row["panel"] for row in found["table"]} == {"noiseless", "noisy"}


# ---------------------------------------------------------------- penalties inside Adam


@pytest.mark.slow
def test_only_the_prox_in_adams_metric_has_the_zeros_of_the_cost(tmp_path):
    rows = run_experiment(coupled_decoupled, tmp_path, steps=4000, every=100)["table"]
    by = {row["optimiser"]: row for row in rows}
    own = by["prox in Adam's metric"]
    assert own["zeros"] == own["zeros of the minimum"] > 0 and own["KKT"] < 1e-6
    assert by["Adam + L1 subgradient"]["zeros"] == 0
    assert by["Adam + uniform prox"]["KKT"] > 0.1 > 0.02 > by["Adam + uniform prox"]["from its own limit"]
    assert by["Adam + L2"]["KKT"] < 1e-6
    assert by["AdamW"]["KKT"] > 0.5 and by["AdamW"]["from its own limit"] < 0.02


def test_the_stated_penalties_are_those_of_the_library():
    config = coupled_decoupled.Config()
    assert isinstance(coupled_decoupled.stated_penalty(config, "AdamW"), jr.SquaredL2)
    assert isinstance(coupled_decoupled.stated_penalty(config, "Adam + uniform prox"), jr.L1)


# ---------------------------------------------------------------- one λ per group


@pytest.mark.slow
def test_one_lambda_per_group_predicts_better(tmp_path):
    small = {"groups": 10, "size": 5, "dense": 2, "sparse": 2, "n": 80, "seeds": 2, "steps": 15, "lams": 20}
    rows = run_experiment(tuned_penalties, tmp_path, **small)["table"]
    grid, single, groups = rows
    assert [row["method"] for row in rows] == list(tuned_penalties.METHODS)
    # The minimum over a continuous λ is below that over a grid.
    assert groups["held-out loss"] < single["held-out loss"] <= grid["held-out loss"]
    assert groups["error"] < 0.9 * grid["error"] and groups["recall"] >= grid["recall"]


# ---------------------------------------------------------------- unbiased, but not the winners


def test_the_largest_estimates_are_too_large_and_shrinkage_calibrates(tmp_path):
    small = {"n": 90, "p": 30, "lams": 12, "folds": 5, "seeds": 12, "winners": 3}
    found = run_experiment(calibration, tmp_path, **small)
    rows = {row["method"]: row for row in found["table"]}
    plain, ridge = rows["least squares"], rows["L2, out-of-fold slope 1"]
    assert 0.5 < found["bias_in_standard_errors"] < 1.6
    assert plain[calibration.WINNERS] > 1.15 > abs(ridge[calibration.WINNERS])
    assert plain[calibration.SLOPE] < 0.85 < ridge[calibration.SLOPE] < 1.25
    assert ridge["error on new samples"] < plain["error on new samples"]
    assert plain[calibration.SLOPE] < rows["heuristic factor, Copas"][calibration.SLOPE]


# ---------------------------------------------------------------- which penalty


@pytest.mark.slow
def test_l1_wins_where_few_features_matter_and_l2_where_all_do(tmp_path, monkeypatch):
    monkeypatch.setattr(decision_guide, "SHARES", (0.1, 1.0))
    monkeypatch.setattr(decision_guide, "CORRELATIONS", (0.0, 0.6))
    monkeypatch.setattr(decision_guide, "NOISES", (0.5,))
    found = run_experiment(decision_guide, tmp_path, n=40, p=20, lams=6, seeds=4)
    rows = {(row["correlation"], row["relevant"]): row for row in found["table"]}
    assert found["not_converged"] == 0 and len(rows) == 4
    for correlation in (0.0, 0.6):
        few, every = rows[correlation, 0.1], rows[correlation, 1.0]
        assert few["error L1"] < 0.8 * few["error L2"] and every["error L2"] < 0.8 * every["error L1"]
        assert every["winner"] == "L2" and few["winner"] != "L2"
    assert rows[0.0, 0.1]["L1 recall"] > 0.9
    assert found["largest"] > 1 and all(
        r["largest weight L1"] > r["largest weight L2"] for r in rows.values()
    )


@pytest.mark.slow
def test_the_signal_of_the_guide_has_deviation_one():
    config = decision_guide.Config(n=20_000, p=7, block=3)
    data = decision_guide.draw(config, 0.6, 0.5, 0.0, 3)
    np.testing.assert_allclose(np.var(data.y), 1, rtol=0.03)
    np.testing.assert_allclose(np.corrcoef(data.X.T)[0, [1, 2, 3]], [0.5, 0.5, 0], atol=0.02)
    np.testing.assert_allclose(decision_guide.variance(config, 0.5, data.coef), 1, rtol=1e-6)
