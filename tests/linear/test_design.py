"""Designs: every one multiplies as the matrix that it stores."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxreg as jr
from jaxreg.linear.design import DenseDesign, SparseDesign, Standardized, _gram, as_array, design
from jaxreg.linear.design import dense as dense_module
from tests.members import devices


@jax.jit
def products(one, w, u, weight):
    """Return what a design computes of w (p, 2), u (n, 2) and weights (n,)."""
    pairs = [(one.matmul(w[:, k]), one.rmatmul(u[:, k]), one.magnitudes(u[:, k])) for k in (slice(None), 0)]
    return pairs, one.squares(weight), one.dense(), one.weighted_gram(weight), one.moments(weight)


def test_every_design_is_the_same_matrix():
    rng = np.random.default_rng(4)
    X = np.where(rng.random((30, 9)) < 0.4, rng.normal(size=(30, 9)), 0.0)
    X[:, 4] = 0.0
    weight = rng.random(30)
    weight /= weight.sum()
    mean, scale = X.T @ weight, np.linspace(1.0, 2.0, 9)
    sparse = design(scipy.sparse.coo_matrix(X))
    constant = jnp.arange(9) == 7
    pairs = [
        (sparse, X),
        (DenseDesign(jnp.asarray(X)), X),
        (DenseDesign(jnp.asarray(X)).columns(jnp.array([3, 9, 0])), np.c_[X[:, 3], np.zeros(30), X[:, 0]]),
        (sparse.columns(jnp.array([3, 9, 0])), np.c_[X[:, 3], np.zeros(30), X[:, 0]]),
    ]
    centred = np.where(np.asarray(constant), 0.0, (X - mean) / scale)
    for inner in (sparse, DenseDesign(jnp.asarray(X))):
        pairs.append((Standardized(inner, jnp.asarray(mean), jnp.asarray(scale), constant), centred))
    for one, matrix in pairs:
        p = matrix.shape[1]
        w, u = rng.normal(size=(p, 2)), rng.normal(size=(30, 2))
        pairs_of_products, squares, dense, weighted_gram, moments = products(one, w, u, weight)
        for k, (forward, back, magnitudes) in zip((slice(None), 0), pairs_of_products, strict=True):
            np.testing.assert_allclose(forward, matrix @ w[:, k], atol=1e-12)
            np.testing.assert_allclose(back, matrix.T @ u[:, k], atol=1e-12)
            assert np.all(magnitudes >= np.abs(matrix).T @ np.abs(u[:, k]) - 1e-12)
        np.testing.assert_allclose(squares, (matrix**2).T @ weight, atol=1e-12)
        np.testing.assert_allclose(dense, matrix, atol=1e-12)
        gram = (matrix.T * weight) @ matrix
        np.testing.assert_allclose(weighted_gram, gram, atol=1e-12)
        np.testing.assert_allclose(moments.mean, matrix.T @ weight, atol=1e-12)
        variance = np.diag(gram) - (matrix.T @ weight) ** 2
        np.testing.assert_allclose(np.square(moments.deviation), variance, atol=1e-12)


def test_standardised_without_a_copy():
    X = jnp.asarray(np.random.default_rng(0).normal(size=(40, 6)) + 3.0)
    here = jr.Problem(jr.losses.SquaredError(), X, X[:, 0], standardize=True)
    assert here.design.inner.X.unsafe_buffer_pointer() == X.unsafe_buffer_pointer()
    # Where the mean would swallow the digits, the columns are centred in a copy.
    far = jr.Problem(jr.losses.SquaredError(), X + 1e9, X[:, 0], standardize=True)
    assert isinstance(far.design, DenseDesign)
    assert jr.path(far, jr.L1, num=5, ratio=0.1).converged.all()


@pytest.mark.parametrize(
    ("data", "message"),
    [(np.nan, "NaN or infinite entries in 1 columns"), (np.inf, "NaN or infinite entries in 1 columns")],
)
def test_a_bad_sparse_entry_is_named(data, message):
    X = scipy.sparse.csr_matrix(np.eye(4))
    X.data[1] = data
    with pytest.raises(ValueError, match=message):
        jr.Problem(jr.losses.SquaredError(), X, np.arange(4.0))


# ---------------------------------------------------------------- dense


@pytest.mark.parametrize(("n", "p"), [(700, 300), (40, 300), (1300, 129)])
def test_a_gram_matrix_by_tiles(n, p, monkeypatch):
    """Rows and columns that fill no tile, weights of both signs, and columns that are centred on the way."""
    monkeypatch.setattr(_gram, "_TILED_SIZE", 0)
    rng = np.random.default_rng(n)
    X, weight = rng.normal(size=(n, p)) + 2.0, rng.normal(size=n)
    mean, scale, constant = X.mean(axis=0), np.linspace(1.0, 2.0, p), np.arange(p) == 5
    standardized = Standardized(DenseDesign(jnp.asarray(X)), *map(jnp.asarray, (mean, scale, constant)))
    centred = np.where(constant, 0.0, (X - mean) / scale)
    for one, matrix in ((DenseDesign(jnp.asarray(X)), X), (standardized, centred)):
        found = jax.jit(lambda one, w: one.weighted_gram(w))(one, jnp.asarray(weight))
        np.testing.assert_allclose(found, (matrix.T * weight) @ matrix, rtol=1e-12, atol=1e-10)
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize(
    ("p", "n", "count"), [(7, 30, 7), (300, 1500, 300), (600, 1100, 257), (600, 300, None)]
)
def test_a_blocked_gram_matrix_of_columns(p, n, count):
    """Blocks of samples and tiles of features that are not full, and features of 0 beyond the count."""
    rng = np.random.default_rng(p)
    XT, weight = rng.normal(size=(p, n)), rng.normal(size=n)
    XT[p if count is None else count :] = 0.0
    found = jax.jit(_gram.blocked_gram)(jnp.asarray(XT), jnp.asarray(weight), count)
    np.testing.assert_allclose(found, (XT * weight) @ XT.T, rtol=1e-12, atol=1e-10)


def test_few_tiles_are_written_out(monkeypatch):
    """Many columns would be many products in one program, and no tile would stay in the cache."""
    monkeypatch.setattr(_gram, "_TILED_SIZE", 0)
    count = lambda p: str(jax.make_jaxpr(DenseDesign(jnp.ones((600, p))).weighted_gram)(jnp.ones(600))).count(  # noqa: E731
        "dot_general"
    )
    assert count(1024) == 8 + 1 and count(1025) == 1


def test_sums_over_rows_that_are_not_stored(monkeypatch):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(50, 7)) + 1e4, rng.random(50)
    weight /= weight.sum()
    one = DenseDesign(jnp.asarray(X))
    stored = one.squares(weight), *one.moments(jnp.asarray(weight))
    monkeypatch.setattr(dense_module, "_STORED_SIZE", 0)
    for a, b in zip(stored, (one.squares(weight), *one.moments(jnp.asarray(weight))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [8, 1000])
def test_what_becomes_of_an_array_afterwards_is_not_seen(shift, size):
    """Aligned as JAX could take it without a copy, and not; so large that a copy takes its time."""
    room = np.zeros(size * size + 16)
    start = (-room.ctypes.data % 64) // 8 + shift
    X = room[start : start + size * size].reshape(size, size)
    here = as_array(X)
    X += 1.0
    assert not np.any(here)


def test_arrays_of_numpy_within_a_trace():
    X = np.random.default_rng(0).normal(size=(30, 5))

    def fit(lam):
        return jr.solve(jr.Problem(jr.losses.SquaredError(), X, X[:, 0]), jr.L1(lam)).coef

    np.testing.assert_allclose(jax.jit(fit)(0.1), fit(0.1), atol=1e-12)
    assert jax.eval_shape(jax.vmap(fit), jnp.array([0.1, 0.2])).shape == (2, 5)


# ---------------------------------------------------------------- rows spread over devices


def spread(kind):
    """Data of 40 rows on a mesh of two devices: X, y, sample weights, offset."""
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(kind,), devices=devices(2).devices.ravel())
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    data = X, X[:, 0] + 0.1 * rng.normal(size=40), rng.random(40), 0.1 * rng.normal(size=40)
    place = NamedSharding(mesh, PartitionSpec("rows"))
    return mesh, data, [jax.device_put(x, place) for x in data]


def problem(X, y, weight, offset, **options):
    return jr.Problem(jr.losses.SquaredError(), X, y, sample_weight=weight, offset=offset, **options)


def solved(*data):
    """All that is asked of a problem, and a result that meets arrays of the user."""
    here = problem(*data, standardize=True)
    fit = jr.solve(here, jr.L1(0.1), throw=False)
    path = jr.path(here, jr.L1, [0.2, 0.1], mode="batched")
    certificate = jr.certify(here, jr.L1(0.1), fit.coef, fit.intercept)
    rest = path.predict(data[0], data[3]), certificate, here.value(here.predictor(fit.coef, fit.intercept))
    return fit.coef, fit.predict(data[0], data[3]) - data[1], rest


@pytest.mark.parametrize("context", [False, True], ids=["no context", "set_mesh"])
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_results_meet_the_arrays_of_the_user(kind, context):
    """Traced, not compiled: on explicit axes tracing finds whatever has no rule for its sharding."""
    mesh, _, data = spread(kind)
    with jax.set_mesh(mesh) if context else contextlib.nullcontext():
        coef, residual, _ = jax.eval_shape(solved, *data)
    assert coef.shape == (3,) and residual.shape == (40,)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_a_batch_over_the_mesh_in_context(kind):
    mesh, _, data = spread(kind)

    def coef(*data):
        return jr.path(problem(*data), jr.L1, [0.2, 0.1], mesh=mesh).coef

    with jax.set_mesh(mesh):
        assert jax.eval_shape(coef, *data).shape == (2, 3)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_a_problem_whose_rows_are_spread(kind):
    mesh, data, placed = spread(kind)
    here = problem(*placed)
    X = here.design.inner.X
    for x in (X, here.y, here.weight, here.offset):
        assert {shard.data.shape[0] for shard in x.addressable_shards} == {20}
    fit = jr.solve(here, jr.SquaredL2(0.5), tol=1e-12)
    centred = data[0] - np.average(data[0], axis=0, weights=data[2])
    weight, target = data[2] / data[2].sum(), data[1] - data[3]
    gram = (centred.T * weight) @ centred + 0.5 * np.eye(3)
    np.testing.assert_allclose(fit.coef, np.linalg.solve(gram, (centred.T * weight) @ target), atol=1e-5)
    with jax.set_mesh(mesh):
        assert (fit.coef + 0 * jnp.ones(3)).shape == (3,) and bool(fit.converged)


# ---------------------------------------------------------------- sparse


@pytest.fixture
def uneven():
    """A full row, a full column, an empty one, entries that are stored and 0, entries given twice."""
    rng = np.random.default_rng(3)
    X = np.where(rng.random((60, 45)) < 0.1, rng.normal(size=(60, 45)), 0.0)
    X[7], X[:, 11], X[:, 12] = rng.normal(size=45), rng.normal(size=60), 0.0
    given = scipy.sparse.coo_matrix(X)
    twice = scipy.sparse.coo_matrix(
        (np.r_[given.data, 0.0, 0.5, -0.5], (np.r_[given.row, 1, 2, 2], np.r_[given.col, 12, 12, 12])),
        X.shape,
    )
    return design(twice), X


def test_sparse_products(uneven):
    here, X = uneven
    rng = np.random.default_rng(0)
    w, u = rng.normal(size=(45, 3)), rng.normal(size=(60, 3))

    @jax.jit
    def evaluate(w, u):
        slope = jax.grad(lambda w: jnp.sum(here.matmul(w) ** 2))(w[:, 0])
        return here.matmul(w), jax.vmap(here.matmul)(w.T), jax.vmap(here.rmatmul)(u.T), slope

    whole, forward, back, slope = evaluate(w, u)
    np.testing.assert_allclose(whole, X @ w, atol=1e-12)
    np.testing.assert_allclose(forward, (X @ w).T, atol=1e-12)
    np.testing.assert_allclose(back, (X.T @ u).T, atol=1e-12)
    np.testing.assert_allclose(slope, 2 * X.T @ (X @ w[:, 0]), atol=1e-11)
    weight = rng.random(60) / 30
    weight /= weight.sum()
    dense = DenseDesign(jnp.asarray(X))
    for a, b in zip(here.moments(weight), dense.moments(weight), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_columns_of_a_sparse_matrix(uneven):
    """Few of them by their pieces, many by one scatter."""
    here, X = uneven
    wide = design(scipy.sparse.hstack([scipy.sparse.csr_matrix(X)] * 20))
    index = np.array([11, 12, 900, 3])
    wanted = np.c_[X[:, 11], X[:, 12], np.zeros(60), X[:, 3]]
    np.testing.assert_array_equal(wide.columns(jnp.asarray(index)).dense(), wanted)
    many = jax.jit(lambda d, i: d.columns(i))(here, jnp.arange(45))
    np.testing.assert_array_equal(many.dense(), X)


@pytest.mark.parametrize("kind", ["sparse", "centred sparse", "dense", "centred dense"])
def test_narrowed(uneven, kind):
    here, X = uneven
    here = here if kind.endswith("sparse") else DenseDesign(jnp.asarray(X))
    if kind.startswith("centred"):
        mean, scale, constant = X.mean(axis=0), np.linspace(1.0, 3.0, 45), np.arange(45) == 12
        here = Standardized(here, *map(jnp.asarray, (mean, scale, constant)))
        X = np.where(constant, 0.0, (X - mean) / scale)
    index = np.array([2, 11, 12, 30])
    for room in (4, 16):
        some = here.narrowed(index, room)
        assert some.shape == (60, room)
        u, ones = np.random.default_rng(0).normal(size=60), np.ones(room)
        evaluate = jax.jit(lambda some, u, ones: (some.dense(), some.rmatmul(u), some.matmul(ones)))
        dense, back, forward = (np.asarray(x) for x in evaluate(some, u, ones))
        np.testing.assert_allclose(dense[:, :4], X[:, index], atol=1e-12)
        assert not np.any(dense[:, 4:])
        np.testing.assert_allclose(back[:4], X[:, index].T @ u, atol=1e-12)
        np.testing.assert_allclose(forward, X[:, index].sum(axis=1), atol=1e-12)


def test_one_room_is_one_shape():
    """Different columns of one matrix take the same shapes, so that nothing is compiled again for them."""
    X = scipy.sparse.random(400, 2000, density=0.01, random_state=0, format="csr")
    here, rng = design(X), np.random.default_rng(1)
    some = [here.narrowed(np.sort(rng.choice(2000, k, replace=False)), 512) for k in (100, 300, 500)]
    shapes = {tuple(leaf.shape for leaf in jax.tree.leaves(one)) for one in some}
    assert len(shapes) == 1
    # Full columns take more room than that, and all of it is there.
    full = scipy.sparse.hstack([scipy.sparse.csr_matrix(np.ones((400, 30))), X]).tocsr()
    np.testing.assert_array_equal(
        design(full).narrowed(np.arange(40), 64).dense()[:, :40], full[:, :40].toarray()
    )


def test_sparse_is_not_dense(uneven):
    assert isinstance(uneven[0], SparseDesign) and not uneven[0].dense_like
