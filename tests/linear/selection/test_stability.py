"""Stability selection against a loop over problems of half of the samples, and its bounds."""

import math

import jax
import numpy as np
import pytest

import jaxreg as jr
from jaxreg import losses as L
from jaxreg.linear.selection import stability as module

N, p = 40, 8
rng = np.random.default_rng(9)
X = 2 + rng.normal(size=(N, p))
Y = 1.5 * X[:, 0] - X[:, 1] + rng.normal(size=N)
WEIGHT = np.where(np.arange(N) < 5, 0.0, rng.uniform(0.5, 2, size=N))
LAMS = np.geomspace(1.0, 0.05, 8)


def problem(rows=slice(None)):
    return jr.Problem(L.SquaredError(), X[rows], Y[rows], sample_weight=WEIGHT[rows], standardize=True)


@pytest.fixture(scope="module")
def subsamples():
    """The halves that `stability_selection` drew, its result, and the features selected on each half."""
    drawn, draw = [], module._subsamples

    def record(*args):
        drawn.extend(draw(*args))
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_subsamples", record)
        found = jr.stability_selection(problem(), jr.L1, LAMS, replicates=6, key=jax.random.key(1))
    return (
        drawn,
        found,
        np.stack([np.asarray(jr.path(problem(np.sort(i)), jr.L1, LAMS).coef != 0) for i in drawn]),
    )


def test_pairs_are_disjoint_halves_of_the_samples_with_weight(subsamples):
    drawn = subsamples[0]
    assert [len(index) for index in drawn] == [17] * 6
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert not set(one) & set(other) and min([*one, *other]) >= 5
    assert len({tuple(sorted(index)) for index in drawn}) == 6


def test_probabilities_are_shares_of_the_paths_on_half_of_the_samples(subsamples):
    _, found, selected = subsamples
    np.testing.assert_allclose(found.probabilities, selected.mean(axis=0))
    np.testing.assert_allclose(found.max_probability, selected.mean(axis=0).max(axis=0))
    assert found.selected.tolist() == (found.max_probability >= 0.75).tolist()
    assert found.selected[:2].all() and found.converged == 1
    q = selected.any(axis=1).sum(axis=1).mean()
    assert found.mean_selected == pytest.approx(q) and found.error_bound == pytest.approx(q**2 / (0.5 * p))


def test_paths_end_where_they_have_selected_enough(subsamples):
    _, _, selected = subsamples
    found = jr.stability_selection(
        problem(), jr.L1, LAMS, replicates=6, max_selected=2, threshold=0.9, key=jax.random.key(1)
    )
    ended = []
    for one in selected:
        last = max(k for k in range(len(LAMS)) if one[: k + 1].any(axis=0).sum() <= 2)
        ended.append(np.concatenate([one[: last + 1], np.tile(one[last], (len(LAMS) - 1 - last, 1))]))
    np.testing.assert_allclose(found.probabilities, np.mean(ended, axis=0))
    assert found.mean_selected <= 2 and found.error_bound <= 4 / (0.8 * p)
    assert f"{found.selected.sum()} of 8 features" in str(found) and found.selected[0]


@pytest.mark.slow
def test_rows_of_several_outputs_and_subsamples_of_another_size():
    both = jr.Problem(L.SquaredError(), X, np.stack([Y, -Y], axis=1))
    found = jr.stability_selection(
        both,
        lambda lam: jr.RowL2(lam, axis=1),
        [1.0, 0.5],
        replicates=3,
        fraction=0.8,
        complementary_pairs=False,
    )
    assert found.probabilities.shape == (2, p) and found.unimodal_bound == math.inf and found.selected[0]


@pytest.mark.parametrize(
    ("threshold", "constant"), [(0.6, 1 / (2 * (0.2 - 0.01))), (0.9, 4 * 0.11 / 1.02)], ids=["low", "high"]
)
def test_the_unimodal_bound_is_that_of_shah_and_samworth(threshold, constant):
    got = module._unimodal_bound(20.0, 1000, threshold, 50)
    assert got == pytest.approx(constant * 20**2 / 1000) and got < 20**2 / ((2 * threshold - 1) * 1000)
    assert module._unimodal_bound(600.0, 1000, threshold, 50) == math.inf
    assert module._unimodal_bound(20.0, 1000, threshold, None) == math.inf


def test_the_bound_holds_for_noise_features():
    draw, false = np.random.default_rng(0), []
    for _ in range(8):
        features = draw.normal(size=(N, p))
        y = features[:, 0] + draw.normal(size=N)
        found = jr.stability_selection(
            jr.Problem(L.SquaredError(), features, y),
            jr.L1,
            LAMS,
            replicates=10,
            max_selected=2,
            threshold=0.8,
        )
        false.append(found.selected[1:].sum())
    assert np.mean(false) <= found.error_bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 3}, "even number"),
        ({"replicates": 1}, "at least 2"),
        ({"fraction": 0.7}, "complementary pairs are halves"),
        ({"fraction": 1.0, "complementary_pairs": False}, "fraction must be in"),
        ({"fraction": 0.02, "complementary_pairs": False}, "needs at least 2"),
        ({"threshold": 0.5}, "threshold must be in"),
        ({"max_selected": 0}, "max_selected must be"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        jr.stability_selection(problem(), jr.L1, LAMS, **options)


def test_a_penalty_that_selects_every_feature_is_refused():
    with pytest.raises(ValueError, match=r"selects all .* take a penalty with exact zeros"):
        jr.stability_selection(problem(), jr.SquaredL2, LAMS, replicates=2)


def test_a_bound_that_bounds_nothing_is_said_so():
    found = jr.stability_selection(problem(), jr.L1, LAMS, replicates=2)
    count = found.selected.sum()
    assert count > 0
    loose = str(found._replace(error_bound=float(count), unimodal_bound=np.inf))
    assert "all of which may be false" in loose and "set max_selected" in loose
    tight = str(found._replace(error_bound=0.25 * count, unimodal_bound=np.inf))
    assert f"at most {0.25 * count:.3g} of them" in tight


def test_keys_and_seeds():
    found = [
        jr.stability_selection(problem(), jr.L1, LAMS, replicates=2, key=k).probabilities
        for k in (7, jax.random.key(7))
    ]
    np.testing.assert_array_equal(*found)
    with pytest.raises(TypeError, match="key must be an integer or a key such as"):
        jr.stability_selection(problem(), jr.L1, LAMS, replicates=2, key=0.5)
