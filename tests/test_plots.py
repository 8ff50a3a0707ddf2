"""Pictures: their contents as matplotlib reports them; how they look was checked by eye."""

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

import jaxreg as jr
from jaxreg.plots import best_step, calibration, cv, error, map, paths, prepare, save, stability
from tests.made_sweep import made_sweep


def texts(ax):
    """The words of a legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_best_is_the_smallest_held_out_error():
    part = made_sweep().isel(penalty=0)
    assert best_step(part) == 20
    part["error"][{"step": [3, 20]}] = 0.5
    assert best_step(part) == 3, "the largest λ among equals"
    part["error"][{"step": 7}] = np.nan
    assert best_step(part) == 3


def test_map():
    ax = map(made_sweep())
    assert texts(ax) == [
        "L1, best λ = 1.93",
        "L2, best λ = 1.93",
        "Smallest error of a penalty",
        "Smallest error of all",
    ]
    assert ax.get_title() == "Sparsity versus shrinkage: made.csv"
    assert ax.get_xlabel() == "Shrinkage: norm of the weights below that of the unpenalised fit [%]"
    assert "exactly 0 [%]" in ax.get_ylabel()
    assert len([points for points in ax.collections if points.get_sizes().max() > 100]) == 4
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "Mean squared error, held-out rows [(price)²]"


def test_map_without_held_out_rows_marks_nothing():
    ax = map(made_sweep(held=0))
    assert texts(ax) == ["L1", "L2"]
    assert not [points for points in ax.collections if points.get_sizes().max() > 100], "no best is marked"
    assert "training rows" in ax.figure.axes[1].get_ylabel()


def test_map_tells_penalties_apart_without_colour():
    lines = [line for line in map(made_sweep()).get_lines() if line.get_label().startswith("L")]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 2


def test_map_keeps_its_markers_apart():
    points = map(made_sweep(steps=2000)).collections[0].get_offsets()
    gaps = np.hypot(*np.diff(np.asarray(points), axis=0).T)
    assert 10 < len(points) < 200 and np.sum(gaps < 1.5) <= 3, "but for the best and the last"


def test_map_marks_powers_of_ten_of_lambda_apart_from_each_other_and_from_the_best():
    dataset = made_sweep()
    ax = map(dataset)
    assert ax.texts, "some are marked"
    here = [text.xy for text in ax.texts]
    best = [20, 20]
    for k, step in enumerate(best):
        part = dataset.isel(penalty=k)
        here.append((100 * float(part["shrinkage"][step]), 100 * float(part["zero_fraction"][step])))
    for text in ax.texts:
        lam = float(text.get_text().removeprefix("λ="))
        assert np.log10(lam) == round(np.log10(lam))
        gaps = [np.abs(np.subtract(text.xy, other)) for other in here]
        assert sum(bool((gap < (11, 6)).all()) for gap in gaps) == 1, "itself alone"


@pytest.mark.parametrize("name", ["L1", "elastic net 0.5 (whole factors)"])
@pytest.mark.parametrize("choose", ["min", "1se"])
def test_the_legend_of_the_map_is_in_the_picture(name, choose):
    dataset = made_sweep().assign_coords(penalty=[name, "L2"]).assign_attrs(choose=choose)
    ax = map(dataset)
    ax.figure.draw_without_rendering()
    box, whole = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1


def test_map_of_many_features_counts_the_weights_that_are_not_0():
    data = made_sweep(features=[f"x{i}" for i in range(500)])
    data["zeros"][{"penalty": 0}] = np.linspace(500, 470, 40).astype(int)
    ax = map(data)
    assert ax.get_yscale() == "symlog" and "not 0, of 500" in ax.get_ylabel()
    bottom, top = ax.get_ylim()
    assert bottom > 500 and top < 0
    assert map(made_sweep()).get_yscale() == "linear"


def test_colours_end_at_the_error_of_the_null_model():
    data = made_sweep()
    data["error"][{"step": slice(30, 40)}] = 1000.0
    norm = map(data).collections[0].norm
    assert norm.vmin == 1.0 and norm.vmax == pytest.approx(float(data["error"][0, 0]))


def test_the_smallest_error_has_no_round_one_beside_it():
    """10.05 is the first tick of the scale of colours, and 10 is none."""
    data = made_sweep()
    low, high = float(data["error"].min()), float(data["error"][0, 0])
    data["error"] = data["error"].copy(data=10.05 + 30 * (data["error"].values - low) / (high - low))
    ticks = map(data).figure.axes[-1].get_yticks()
    assert ticks[0] == pytest.approx(10.05) and ticks[1] == 15 and np.all(np.diff(ticks) > 0)


def test_error():
    axes = error(made_sweep())
    assert [ax.get_title() for ax in axes] == ["L1", "L2"]
    assert axes[0].get_ylabel() == "Mean squared error, held-out rows [(price)²]"
    top = axes[0].child_axes[0]
    assert top.get_xticklabels()[0].get_text() == "0" and len(axes[0].collections) == 1
    left, right = axes[0].get_xlim()
    assert left > right
    assert len(error(made_sweep(held=0))[0].get_lines()) == 1, "nothing is marked where nothing is held out"


def test_scales_that_differ_have_an_axis_each():
    data = made_sweep()
    axes = paths(data)
    assert axes[0].get_shared_y_axes().joined(axes[0], axes[1])
    data["standardized_coef"][{"penalty": 1}] *= 1000
    axes = paths(data)
    assert not axes[0].get_shared_y_axes().joined(axes[0], axes[1])


def test_paths_name_the_features_that_are_largest_at_the_best():
    data = made_sweep(features=[f"x{i}" for i in range(9)])
    data["standardized_coef"][{"feature": 8, "step": 20}] = 50.0
    data["standardized_coef"][{"feature": 7, "step": 39}] = 50.0
    assert texts(paths(data)[-1])[1] == "x8" and "x7" not in texts(paths(data)[-1])


def test_paths():
    axes = paths(made_sweep(features=[f"x{i}" for i in range(9)]))
    assert [ax.get_title() for ax in axes] == ["L1", "L2"]
    assert texts(axes[-1]) == ["Smallest error", "x0", "x1", "x2", "x3", "x4", "4 others"]
    assert axes[0].get_ylabel() == "Coefficient\n[price per s.d. of the feature]"
    for ax in axes:
        left, right = ax.get_xlim()
        assert left > right and ax.get_xscale() == "log"
    styles = [line for line in axes[0].get_lines() if line.get_label().startswith("x")]
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in styles}) == 5
    assert len({matplotlib.colors.to_hex(line.get_color()) for line in styles}) == 5


def test_paths_of_several_classes_are_one_curve_a_feature():
    data = made_sweep(classes=("u", "v", "w"), loss="multinomial")
    axes = paths(data)
    assert axes[0].get_ylabel().startswith("Norm over the 3 classes")
    curve = next(line for line in axes[1].get_lines() if line.get_label() == "a")
    assert np.allclose(curve.get_ydata(), np.linalg.norm(data["coef"][1, :, 0], axis=-1))


def test_paths_without_held_out_rows_mark_nothing():
    assert "Smallest error" not in texts(paths(made_sweep(held=0))[-1])


def test_cv_marks_both_choices_and_counts_coefficients():
    X = np.sin(np.arange(240.0)).reshape(60, 4)
    y = X[:, 0] + 0.5 * np.cos(np.arange(60.0) ** 2)
    result = jr.cross_validate(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1, num=12, ratio=0.01, folds=5)
    ax = cv(result)
    assert ax.get_ylabel() == "Deviance, 5 folds" and ax.get_xscale() == "log"
    left, right = ax.get_xlim()
    assert left > right
    best, simple, _ = texts(ax)
    assert best == f"Best mean: λ = {result.lambda_min:.3g}, {result.nonzeros[result.index_min]} nonzero"
    assert simple.startswith(f"One-standard-error rule: λ = {result.lambda_1se:.3g}")
    counts = [int(label.get_text()) for label in ax.child_axes[0].get_xticklabels()]
    assert counts[0] == 0 and counts[-1] == result.nonzeros[-1]
    bars = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(bars[3][:, 1], result.mean[3] + np.array([-1, 1]) * result.se[3])


@pytest.mark.parametrize("draw", [map, paths, error, cv, stability])
def test_other_objects_are_refused(draw):
    made_by = {cv: "result of jaxreg.cross_validate", stability: "result of jaxreg.stability_selection"}
    with pytest.raises(
        TypeError, match=f"wanted the {made_by.get(draw, 'xarray.Dataset of a sweep')}.* got dict"
    ):
        draw({"penalty": 1})


def test_powers_of_ten_do_not_cover_the_counts():
    data = made_sweep()
    data["error"].values[:] *= 1e9
    ax = error(data)[0]
    ax.figure.draw_without_rendering()
    power, first = ax.yaxis.get_offset_text(), ax.child_axes[0].get_xticklabels()[0]
    assert power.get_text() == "1e9"
    assert not power.get_window_extent().overlaps(first.get_window_extent())


def test_cross_validations_of_a_second_axis_are_curves_in_one_picture():
    X = np.sin(np.arange(240.0)).reshape(60, 4)
    y = X[:, 0] + 0.5 * np.cos(np.arange(60.0) ** 2)
    problem, second = jr.Problem(jr.losses.SquaredError(), X, y), {"l1_ratio": [0.5, 1.0]}
    result = jr.cross_validate(problem, jr.ElasticNet, second=second, num=12, ratio=0.01, folds=5)
    ax = cv(result)
    for k, (label, one) in enumerate(zip(texts(ax), result.results, strict=True)):
        best = " (best)" * (k == result.best_index)
        count = one.nonzeros[one.index_min]
        assert label == f"l1_ratio {second['l1_ratio'][k]}: λ = {one.lambda_min:.3g}, {count} nonzero{best}"
        curve, mark = ax.get_lines()[2 * k : 2 * k + 2]
        np.testing.assert_allclose(curve.get_ydata(), one.mean)
        assert mark.get_xdata()[0] == pytest.approx(one.lambda_min)
    left, right = ax.get_xlim()
    assert left > right and ax.get_ylabel() == "Deviance, 5 folds"


def test_calibration_shows_means_of_groups_and_the_line():
    rng = np.random.default_rng(0)
    z = np.sort(2 * rng.normal(size=200))
    y = (rng.uniform(size=200) < 1 / (1 + np.exp(-0.5 * z))).astype(float)
    ax = calibration(jr.losses.Logistic(), z, y, groups=5, name="risk")
    found = jr.metrics.calibration(jr.losses.Logistic(), z, y)
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words[:2] == ["Perfect calibration", f"Fit: slope {found.slope:.2f} ± {found.slope_se:.2f}"]
    assert ax.get_xlabel() == "Predicted risk" and ax.get_ylabel() == "Observed risk"
    points = ax.containers[0].lines[0]
    np.testing.assert_allclose(points.get_ydata(), y.reshape(5, 40).mean(axis=1))
    np.testing.assert_allclose(points.get_xdata(), (1 / (1 + np.exp(-z))).reshape(5, 40).mean(axis=1))
    with pytest.raises(ValueError, match="wanted one row of linear predictors"):
        calibration(jr.losses.Logistic(), np.stack([z, z]), y)
    line = ax.get_lines()[1].get_ydata()
    np.testing.assert_allclose(line[-1], 1 / (1 + np.exp(-found.intercept - found.slope * z[-1])))
    with pytest.raises(ValueError, match="groups must be from 1 to 100"):
        calibration(jr.losses.Logistic(), z, y, groups=101)


def test_stability_labels_the_most_probable_features():
    probabilities = np.linspace(0, 1, 8) * np.linspace(0.2, 1, 3)[:, None]
    best = probabilities.max(axis=0)
    found = jr.Stability(np.array([1.0, 0.5, 0.1]), probabilities, best, best >= 0.3, 0.3, 2.0, 1.0, 1.0, 1.0)
    words = texts(ax := stability(found))
    assert words[0] == "Threshold 0.3: 5 selected" and words[1:6] == [f"column {j}" for j in range(7, 2, -1)]
    assert words[6:] == ["3 others, not selected"]
    left, right = ax.get_xlim()
    assert left > right and ax.get_xscale() == "log"
    assert texts(stability(found, list("abcdefgh")))[1] == "h"
    with pytest.raises(ValueError, match="features must have 8 names"):
        stability(found, ["a"])


def test_strange_names_do_not_break_a_picture(tmp_path):
    names = ["_hidden", "$x$ and $\\bad", "two\nlines", "long " * 30]
    save(made_sweep(features=names), tmp_path)
    words = texts(paths(made_sweep(features=names))[-1])[1:]
    assert words[0] == " _hidden" and words[2] == "two lines" and all(len(word) <= 30 for word in words)


def many(count):
    """A sweep over many penalties."""
    part = made_sweep().isel(penalty=[k % 2 for k in range(count)])
    return part.assign_coords(penalty=[f"penalty {k}" for k in range(count)])


@pytest.mark.parametrize("draw", [paths, error])
@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_panels_of_many_penalties_stand_in_rows(draw, count):
    axes = draw(many(count))
    assert axes.shape == (count,)
    width, height = axes[0].figure.get_size_inches()
    assert width <= 20 and height == pytest.approx(-(-count // 4) * draw(many(1))[0].figure.get_figheight())
    assert [bool(ax.get_ylabel()) for ax in axes] == [k % 4 == 0 for k in range(count)]
    assert len(axes[0].figure.axes) == count


def test_a_map_of_many_penalties_tells_them_apart():
    lines = [line for line in map(many(12)).get_lines() if line.get_label().startswith("Penalty")]
    assert len({(line.get_marker(), line.get_linestyle(), str(line._dash_pattern)) for line in lines}) == 12


def test_given_axes_are_used():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert map(made_sweep(), ax) is ax
    one = made_sweep().isel(penalty=[0])
    assert paths(one, ax)[0] is ax


@pytest.mark.parametrize("count", [4, 300])
def test_save(tmp_path, count):
    prepare()
    save(made_sweep(features=[f"x{i}" for i in range(count)]), tmp_path)
    for name, least in (("map.png", 1000), ("paths.png", 1200), ("error.png", 1100)):
        grey = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert grey.shape[1] >= least and grey.std() > 5


def test_pictures_are_reached_from_the_package():
    assert jr.plots.map is map


@pytest.mark.parametrize(("low", "high"), [(2.15662, 2.1731), (2.15662, 2.15668), (0.0835, 2.5), (5.0, 5.0)])
def test_ticks_of_the_colour_bar_have_different_labels(low, high):
    data = made_sweep()
    error = data["error"].values
    span = error.max() - error.min()
    data["error"].values = low + (high - low) * (error - error.min()) / span
    bar = map(data).figure.axes[1]
    bar.figure.draw_without_rendering()
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert len(set(labels)) == len(labels) and f"{low:.4g}" in labels


def test_paths_of_a_path():
    X, y = np.random.default_rng(0).normal(size=(30, 8)), np.arange(30.0)
    y = y + 20 * X[:, 3]
    problem = jr.Problem(jr.losses.SquaredError(), X, y)
    path = jr.path(problem, jr.L1, num=10)
    (ax,) = paths(path)
    words = texts(ax)
    assert words[0] == "column 3" and words[-1] == "3 others"
    assert ax.get_ylabel() == "Coefficient" and ax.get_xlabel() == "λ, falling to the right"
    drawn = next(line for line in ax.get_lines() if line.get_label() == "column 3")
    np.testing.assert_array_equal(drawn.get_xydata(), np.column_stack([path.lambdas, path.coef[:, 3]]))
    assert "bmi" in texts(paths(path, features=[f"x{i}" for i in range(7)] + ["bmi"])[0])
    with pytest.raises(ValueError, match="8 names, got 2"):
        paths(path, features=["a", "b"])
    assert paths(path, ax)[0] is ax
