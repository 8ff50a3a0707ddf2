"""The losses of the command: the delta of Huber's loss, targets too large or small for squares."""

import dataclasses

import numpy as np
import pytest

import jaxreg as jr
from jaxreg.cli._losses import check_spread, huber_delta, loss_of, with_delta
from jaxreg.cli.load import load
from jaxreg.cli.main import main


def test_delta_is_a_multiple_of_a_robust_standard_deviation():
    normal = np.random.default_rng(0).standard_normal(20_000)
    assert huber_delta(5 + 3 * normal) == pytest.approx(3 * 1.345, rel=0.02)
    outliers = np.append(normal, np.full(500, 1e6))
    assert huber_delta(outliers) == pytest.approx(1.345, rel=0.05)
    assert huber_delta(1e3 * normal) == pytest.approx(1e3 * huber_delta(normal), rel=1e-12)


def test_delta_of_values_that_are_mostly_equal_is_positive():
    mostly = np.array([0.0] * 8 + [10.0, -10.0])
    assert huber_delta(mostly) == pytest.approx(1.345 * np.sqrt(np.pi / 2) * 2)
    assert huber_delta(np.ones(5)) == 1.0, "no residual, any delta"


def test_delta_of_the_training_rows_is_noted_and_one_that_was_given_is_kept():
    table, train = load("diabetes", loss="huber"), np.arange(300)
    chosen = with_delta(table, train)
    assert chosen.delta == huber_delta(table.y[train]) != huber_delta(table.y)
    note = chosen.notes[len(table.notes) :]
    assert len(note) == 1 and f"linear in residuals above {chosen.delta:.4g}" in note[0]
    assert "--loss huber:D" in note[0]
    given = load("diabetes", loss="huber:25")
    assert given.delta == 25 and with_delta(given, train) is given
    assert with_delta(load("diabetes"), train).delta is None


def test_loss_of_a_table():
    table = load("diabetes")
    for name, kind in (("squared", jr.losses.SquaredError), ("poisson", jr.losses.Poisson)):
        assert type(loss_of(dataclasses.replace(table, loss=name))) is kind
    assert type(loss_of(load("breast_cancer"))) is jr.losses.Logistic
    assert loss_of(load("iris")).num_classes == 3
    huber = load("diabetes", loss="huber")
    assert float(loss_of(huber).delta) == pytest.approx(huber_delta(huber.y))


@pytest.mark.slow
def test_the_unit_of_the_target_scales_the_predictions_of_the_command(tmp_path):
    """Also at a target so far from the unit that a delta of 1 would make all residuals linear."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 3))
    y = X @ [2.0, 0.0, -1.0] + 0.1 * rng.standard_t(2, 60)
    models = []
    for unit in (1.0, 1e3):
        file, out = tmp_path / f"{unit:g}.csv", tmp_path / f"out-{unit:g}"
        rows = "".join(f"{a},{b},{c},{t!r}\n" for (a, b, c), t in zip(X, (unit * y).tolist(), strict=True))
        file.write_text("a,b,c,y\n" + rows)
        words = ["sweep", str(file), "--target", "y", "--loss", "huber", "--penalty", "l1", "--lambdas", "12"]
        assert main([*words, "--out", str(out)]) == 0
        models.append(jr.load(out / "model.jaxreg"))
    one, other = (model.predict(X) for model in models)
    np.testing.assert_allclose(other, 1e3 * one, rtol=1e-4, atol=1e-3 * np.abs(one).max())
    np.testing.assert_array_equal(*(model.coef != 0 for model in models))
    assert float(models[1].loss.delta) == pytest.approx(1e3 * float(models[0].loss.delta))


@pytest.mark.parametrize("loss", ["squared", "huber", "poisson"])
@pytest.mark.parametrize(
    ("unit", "dtype", "fits"),
    [
        (1e300, "float64", False),
        (1e-300, "float64", False),
        (1e140, "float64", True),
        (1e-140, "float64", True),
        (1e16, "float32", False),
        (1e-18, "float32", False),
        (1e12, "float32", True),
        (1e-12, "float32", True),
    ],
)
def test_targets_whose_squared_errors_leave_the_range_are_refused(assert_refused, loss, unit, dtype, fits):
    table, train = load("diabetes", loss=loss), np.arange(300)
    scaled = dataclasses.replace(table, y=unit * table.y)
    if fits:
        check_spread(scaled, train, dtype)
        return
    with assert_refused("target 'progression' varies by", f"{dtype} does not hold", "another unit"):
        check_spread(scaled, train, dtype)


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_the_command_refuses_them_before_it_writes(assert_fails, write, unit):
    text = "a,y\n" + "".join(f"{k % 7},{unit * (k % 5)}\n" for k in range(40))
    shown = assert_fails(["sweep", write(text), "--target", "y"], "target 'y' varies by")
    assert not shown.out
