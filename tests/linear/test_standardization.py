"""Laws of centring and scaling: every unit, mean, form of the design and dtype gives the same columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxreg.linear.design import DenseDesign, Standardized, design
from jaxreg.linear.standardization import working_columns

FORMS = {"dense": np.asarray, "sparse": sp.csr_matrix}
#: Units and means, in deviations, of columns that a dtype must cope with.
UNITS = {"float32": [1e-30, 1e-22, 1.0, 1e12, 2e30], "float64": [1e-300, 1e-160, 1.0, 1e100, 1e300]}
MEANS = {"float32": [0.0, 50.0, 1e3, 1e5, 4e6], "float64": [0.0, 50.0, 1e5, 1e8, 1e15]}
SHAPE = (60, 15)


def columns(dtype):
    """Columns of all units, of all means, and with zeros in them, in one matrix."""
    units, means, zeros = np.random.default_rng(0).normal(size=(3, SHAPE[0], 5))
    zeros[:, 1] = 3.0 * (zeros[:, 1] > 0)  # a binary column
    zeros = np.where(zeros < [-9, -9, 0, 1, 2], 0.0, zeros)  # from no zeros to nearly all
    zeros[0, 4], zeros[:, 0] = 1.0, zeros[:, 0] + 20  # one large mean, and one zero where it is
    zeros[7, 0] = 0.0
    return np.c_[units * UNITS[dtype], means + np.array(MEANS[dtype]) * [1, 1, -1, 1, 1], zeros].astype(dtype)


def weights(kind):
    if kind == "even":
        return np.full(SHAPE[0], 1 / SHAPE[0])
    weight = np.random.default_rng(1).random(SHAPE[0])
    weight[:9] = 0.0
    return weight / weight.sum()


def expected(X, weight, intercept):
    """Mean, deviation and standardised columns in extended precision."""
    X, w = X.astype(np.longdouble), weight.astype(np.longdouble)[:, None]
    # Weights sum to 1 up to rounding, which a large mean would show.
    X, first = X - X[-1], X[-1]
    mean = (w * X).sum(0)
    scale = np.sqrt((w * (X - mean) ** 2).sum(0))
    taken = mean if intercept else -first
    return (mean + first) * intercept, scale, (X - taken) / scale


@jax.jit
def products(here, w, u):
    """The matrix and its products, in one program."""
    dense = here.columns(jnp.arange(here.shape[1])).XT.T
    return dense, here.matmul(w), here.rmatmul(u), here.squares(u), here.weighted_gram(u)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("intercept", [True, False])
def test_columns_of_any_unit_and_mean(form, intercept, dtype):
    """Moments and products, where a difference of large numbers or a square would lose their digits."""
    eps, rng = float(jnp.finfo(dtype).eps), np.random.default_rng(3)
    w, u = rng.normal(size=SHAPE[1]), rng.random(SHAPE[0])
    for spread in ("even", "uneven"):
        X, weight = columns(dtype.name), weights(spread)
        mean, scale, Z = (x.astype(float) for x in expected(X, weight, intercept))
        made = working_columns(FORMS[form](X), weight, intercept=intercept, standardize=True)
        assert not np.any(made.constant)
        np.testing.assert_allclose(made.scale, scale, rtol=300 * eps)
        np.testing.assert_allclose(made.mean / scale, mean / scale, rtol=8 * eps, atol=100 * eps)
        # Rounding in units of the deviation, which is 1 where the columns are centred.
        size = 1 if intercept else 1 + np.abs(Z).max(axis=0)
        dense, *found = products(made.design, w.astype(dtype), u.astype(dtype))
        assert (np.abs(dense - Z) / size).max() <= 500 * eps
        terms = np.abs(Z) @ np.abs(w), np.abs(Z).T @ u, (Z**2).T @ u, (np.abs(Z).T * u) @ np.abs(Z)
        exact = Z @ w, Z.T @ u, (Z**2).T @ u, (Z.T * u) @ Z
        for got, right, scale in zip(found, exact, terms, strict=True):
            assert np.all(np.abs(got - right) <= 2000 * eps * (scale + 1))


@pytest.mark.parametrize("form", FORMS)
def test_constant_columns(form, dtype):
    """Equal up to one rounding, over the samples of positive weight; and not one digit more."""
    n, eps = 30, float(jnp.finfo(dtype).eps)
    weight = np.r_[np.zeros(3), np.full(n - 3, 1 / (n - 3))]
    alternate = np.arange(n) % 2
    X = np.c_[
        np.full(n, 0.1),
        1e5 * (1 + eps * alternate),
        np.r_[1.0, 2.0, 3.0, np.full(n - 3, 7.0)],
        np.zeros(n),
        1e5 * (1 + 16 * eps * alternate),
        np.r_[np.full(3, 5.0), np.arange(n - 3.0)],
    ].astype(dtype)
    made = working_columns(FORMS[form](X), weight, intercept=True, standardize=True)
    np.testing.assert_array_equal(made.constant, [True] * 4 + [False] * 2)
    np.testing.assert_array_equal(np.asarray(made.design.dense())[:, :4], 0.0)
    assert np.all(np.asarray(made.scale)[:4] == 1)
    # Without an intercept a constant column is a feature, whose unit does not matter either.
    made = working_columns(FORMS[form](X[:, :4]), weight, intercept=False, standardize=True)
    np.testing.assert_array_equal(made.constant, [False] * 3 + [True])
    np.testing.assert_allclose(made.design.dense()[3:, :3], 1.0, rtol=8 * eps)


@pytest.mark.parametrize("form", FORMS)
def test_sizes_that_the_dtype_cannot_square(form, dtype):
    """Without standardisation units matter: no silent coefficient 0 or infinite curvature."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    for unit in (1e-30, 1e30) if dtype == np.float32 else (1e-200, 1e200):
        far = FORMS[form]((X * [1, unit]).astype(dtype))
        for intercept in (True, False):
            with pytest.raises(ValueError, match=r"column 1 of X .* take standardize=True") as caught:
                working_columns(far, weights("even")[:30] * 2, intercept=intercept, standardize=False)
            assert "\n" not in str(caught.value)
            working_columns(far, weights("even")[:30] * 2, intercept=intercept, standardize=True)


def test_weights_that_are_traced():
    """Under vmap the sparse columns are shifted without their weights, which changes nothing else."""
    X, batch = columns("float64")[:, -5:], np.stack([weights("even"), weights("uneven")])
    X[:, 0] += 1e6

    def moments(form, weight):
        made = working_columns(form(X), weight, intercept=True, standardize=True)
        return made.mean, made.scale, made.design.columns(jnp.arange(5)).XT

    for form in FORMS.values():
        found = jax.jit(jax.vmap(lambda w, form=form: moments(form, w)))(batch)
        for k, weight in enumerate(batch):
            for got, right in zip(found, moments(form, weight), strict=True):
                np.testing.assert_allclose(got[k], right, rtol=1e-9, atol=1e-9)


def test_derivatives_in_the_features():
    """Of mean and scale, by finite differences; that of a constant column is finite."""
    X, weight = columns("float64")[:, 5:7].copy(), weights("uneven")
    X[:, 0] = 1.0
    direction = np.random.default_rng(2).normal(size=X.shape) * [0, 1]

    def total(X):
        found = DenseDesign(X).moments(jnp.asarray(weight))
        return jnp.sum(found.mean) + 3 * jnp.sum(jnp.where(found.constant, 0.0, found.deviation))

    slope = jax.grad(total)(jnp.asarray(X))
    assert np.isfinite(slope).all()
    h = 1e-6
    quotient = (total(jnp.asarray(X + h * direction)) - total(jnp.asarray(X - h * direction))) / (2 * h)
    np.testing.assert_allclose(np.sum(slope * direction), quotient, rtol=1e-6)


def test_samples_without_weight_may_be_anywhere():
    moments = jax.jit(lambda design, weight: design.moments(weight))
    X, weight = columns("float32")[:, -5:], weights("uneven")
    far = X.copy()
    far[:9] = 1e30
    for make in (lambda X: DenseDesign(jnp.asarray(X)), lambda X: design(sp.csr_matrix(X))):
        near, moved = (moments(make(x), weight.astype("float32")) for x in (X, far))
        for name in near._fields:
            np.testing.assert_allclose(getattr(near, name), getattr(moved, name), rtol=1e-4, atol=1e-6)


def test_a_sparse_matrix_stays_sparse():
    X = sp.random(200, 50, 0.05, format="lil", random_state=0)
    X[:, 3] = 1e6 + np.random.default_rng(0).random((200, 1))
    made = working_columns(X.tocsr(), np.full(200, 1 / 200), intercept=True, standardize=True)
    assert isinstance(made.design, Standardized)
    filled = np.count_nonzero(made.design.inner.by_column.value)
    assert X.nnz - 200 <= filled <= X.nnz
