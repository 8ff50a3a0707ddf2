"""Laws of centring and scaling: every unit, mean, form of the design and dtype gives the same columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import jaxreg as jr
from jaxreg.linear.design import DenseDesign, Standardized, design
from jaxreg.linear.standardization import working_columns
from tests.members import LOSSES, targets

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
    """Derivatives of mean and deviation equal finite differences; those of a constant column are finite."""
    X, weight = columns("float64")[:, 5:7].copy(), weights("uneven")
    X[:, 0] = 1.0
    direction = np.random.default_rng(2).normal(size=X.shape) * [0, 1]

    def total(X):
        found = DenseDesign(X).moments(jnp.asarray(weight))
        return jnp.sum(found.mean) + 3 * jnp.sum(jnp.where(found.half_range > 0, found.deviation, 0.0))

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


# ---------------------------------------------------------------- targets

TARGET = {"float32": ([1e-6, 1e6], [1e-6, 1e6]), "float64": ([1e-100, 1e100], [1e-100, 1e8])}
SQUARED = jr.losses.SquaredError()


def data(dtype):
    """Features, and targets whose dual and primal are far from the ends of any range."""
    rng = np.random.default_rng(0)
    X = rng.integers(-64, 64, (60, 5)) / 32.0
    return X.astype(dtype), 2 * X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=60)


def solution(problem, c):
    """A grid with its zeros, status and gap; coefficients and intercepts in the unit c."""
    found = jr.path(problem, jr.L1, num=4, ratio=0.02)
    numbers = (np.asarray(x, float) / c for x in (found.lambdas, found.coef, found.intercept))
    return [*numbers, np.asarray(found.coef == 0), found.messages()]


def same(found, wanted, shift, eps):
    """Assert that two solutions agree, where the first has intercepts larger by `shift`."""
    for got, right in zip(found[:2], wanted[:2], strict=True):
        np.testing.assert_allclose(got, right, rtol=100 * eps, atol=100 * eps)
    np.testing.assert_allclose(found[2], wanted[2] + shift, atol=100 * eps * (1 + np.abs(shift)))
    np.testing.assert_array_equal(found[3], wanted[3])
    assert found[4] == wanted[4] == ["converged"] * len(found[4])


@pytest.mark.slow_except("float64")
def test_units_and_zero_of_the_target_change_nothing_else(dtype):
    """y → c·y + d, λ → c·λ; and columns moved and scaled by powers of 2, which rounds nothing."""
    X, y = data(dtype)
    eps = float(jnp.finfo(dtype).eps)
    wanted = solution(jr.Problem(SQUARED, X, y, standardize=True), 1.0)
    units, shifts = TARGET[dtype.name]
    for c in units:
        found = solution(jr.Problem(SQUARED, X, c * y, standardize=True), c)
        same(found, wanted, 0.0, eps)
    for d in shifts:
        found = solution(jr.Problem(SQUARED, X, y + d, standardize=True), 1.0)
        # In double precision y + 1e8 has lost digits before it comes here.
        same(found, wanted, d, max(eps, 1e8 * np.finfo(float).eps * (d == 1e8)))
    unit, shift = np.array([2.0**20, 2.0**-40, 1, 1, 1]), np.array([0, 2.0**12, 0, 0, 0])
    moved = jr.Problem(SQUARED, ((X + shift) * unit).astype(dtype), y, standardize=True)
    found = jr.path(moved, jr.L1, num=4, ratio=0.02)
    np.testing.assert_allclose(found.coef * unit, wanted[1], rtol=1e3 * eps, atol=1e3 * eps)
    np.testing.assert_array_equal(found.coef == 0, wanted[3])


def test_working_targets_are_those_of_the_loss(dtype):
    """Values, residuals and round trips of working coordinates, for every loss, offset and option."""
    rng = np.random.default_rng(1)
    X, z = rng.normal(size=(40, 3)), rng.normal(size=40)
    weight = rng.random(40)
    eps = float(jnp.finfo(dtype).eps)
    for name, loss in LOSSES.items():
        y = targets(name, z, rng)
        offset = rng.normal(size=(40, 3) if name == "Multinomial" else 40) + 5
        for scale in (False, True) if loss.has_unit else (False,):
            options = {"sample_weight": weight, "offset": offset, "scale_target": scale}
            here = jr.Problem(loss, X.astype(dtype), y, standardize=True, **options)
            coef, intercept = (rng.normal(size=x.shape).astype(dtype) for x in here.zeros())
            predictor = X @ coef.astype(float) + intercept + offset
            exact = loss.total(
                jnp.asarray(predictor), loss.encode(y, float), jnp.asarray(weight / weight.sum())
            )
            working = here.to_working(jnp.asarray(coef), jnp.asarray(intercept))
            found = here.original_objective(here.value(here.predictor(*working)))
            np.testing.assert_allclose(found, exact, rtol=200 * eps)
            for back, given in zip(here.to_original(*working), (coef, intercept), strict=True):
                np.testing.assert_allclose(back, given, rtol=200 * eps, atol=200 * eps)
            assert here.loss.has_unit == (abs(float(here.weight @ here.y)) < 1e-5 if loss.has_unit else False)
            if name == "Huber":
                np.testing.assert_allclose(here.original_loss.delta, loss.delta, rtol=4 * eps)


def test_scaled_targets():
    """The λ of a mixture has no unit; bounds and results are on the scale of the data."""
    X, y = data("float64")

    def fit(c, d, penalty, **options):
        here = jr.Problem(SQUARED, X, c * y + d, standardize=True, scale_target=True, **options)
        return jr.solve(here, penalty, tol=1e-12)

    sd = y.std()
    exact = jr.solve(
        jr.Problem(SQUARED, X, y, standardize=True), jr.L1(0.05 * sd) + jr.SquaredL2(0.05), tol=1e-12
    )
    for c, d in ((1.0, 0.0), (1e6, 1e3), (1e-6, -7.0)):
        found = fit(c, d, jr.ElasticNet(0.1, 0.5))
        np.testing.assert_allclose(found.coef / c, exact.coef, atol=1e-6)
        np.testing.assert_allclose(found.intercept, c * exact.intercept + d, atol=1e-6 * c)
        np.testing.assert_allclose(found.objective / c**2, exact.objective, rtol=1e-9)
        bounded = fit(c, d, jr.ElasticNet(0.1, 0.5) + jr.Box(-0.5 * c, 0.5 * c))
        np.testing.assert_allclose(bounded.coef[:2] / c, [0.5, -0.5], rtol=1e-9)
        np.testing.assert_allclose(bounded.predict(X), X @ bounded.coef + bounded.intercept, rtol=1e-9)
    for loss in (jr.losses.Logistic(), jr.losses.Poisson(), jr.losses.Multinomial()):
        with pytest.raises(ValueError, match="needs targets with a unit"):
            jr.Problem(loss, X, np.arange(60) % 2, scale_target=True)


def test_targets_that_the_dtype_cannot_square(dtype):
    X, y = data(dtype)
    for c in (1e-20, 1e25) if dtype == np.float32 else (1e-160, 1e200):
        with pytest.raises(ValueError, match="y has values of a size near"):
            jr.Problem(SQUARED, X, c * y)
        assert jr.Problem(SQUARED, X, c * y, scale_target=True).target_scale > 0
    jr.Problem(SQUARED, X, np.full(60, 0.1))


def test_targets_that_are_traced():
    """Centred under a trace as on the host, offsets and scale included."""
    X, y = data("float32")
    y, offset = y.astype("float32"), np.linspace(5.0, 6.0, 60, dtype="float32")
    make = lambda y, offset: jr.Problem(SQUARED, X, y, offset=offset, scale_target=True)  # noqa: E731
    here, traced = make(y, offset), jax.jit(make)(y, offset)
    for name in ("y", "offset", "target_mean", "target_scale", "scale", "weight"):
        np.testing.assert_allclose(getattr(traced, name), getattr(here, name), rtol=1e-5, atol=1e-5)
        assert getattr(traced, name).dtype == np.float32
