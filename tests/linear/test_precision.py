"""Matrix products are exact on devices that multiply float32 with fewer digits unless told otherwise.

A CPU does not; a design stands in for the device here, by the precision that is asked for where its products
are traced.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg.linear.design import DenseDesign
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.solvers import base
from tests.members import problem


def asked():
    return jax.config.jax_default_matmul_precision


class Strict(DenseDesign):
    """Refuses what is not asked for in full precision."""

    def matmul(self, w):
        """X @ w."""
        assert asked() == "highest", asked()
        return super().matmul(w)

    def rmatmul(self, u):
        """Xᵀ @ u."""
        assert asked() == "highest", asked()
        return super().rmatmul(u)

    def columns(self, index):
        """Some of them."""
        assert asked() == "highest", asked()
        return super().columns(index)


class Rounding(DenseDesign):
    """Multiplies with the eleven digits of TF32 where they will do."""

    def matmul(self, w):
        """X @ w."""
        return super().matmul(w) if asked() == "highest" else cut(self.X) @ cut(w)

    def rmatmul(self, u):
        """Xᵀ @ u."""
        return super().rmatmul(u) if asked() == "highest" else cut(u) @ cut(self.X)


def cut(x):
    return jax.lax.reduce_precision(x, 8, 10)


def with_design(here, kind):
    return eqx.tree_at(lambda p: p.design, here, kind(here.design.dense()))


@pytest.mark.slow_except("Multinomial")
@pytest.mark.parametrize("loss", ["SquaredError", "Logistic", "Multinomial"])
def test_every_product_is_exact(loss):
    """Precision is asked for while tracing, so that nothing needs to be compiled."""
    here = with_design(problem(loss, "float32"), Strict)
    coef, intercept = here.zeros()
    for solver in (jr.ProximalGradient(), jr.Newton()):
        found = jax.eval_shape(lambda s=solver: jr.solve(here, jr.L1(0.1), solver=s, throw=False).coef)
        assert (found.shape, found.dtype) == (coef.shape, coef.dtype)
    assert jax.eval_shape(lambda: jr.certify(here, jr.L1(0.1), coef, intercept)).gap.dtype == coef.dtype
    batch = jax.eval_shape(lambda: jr.path(here, jr.L1, jnp.array([0.2, 0.1]), mode="batched").coef)
    assert batch.shape == (2, *coef.shape)


@pytest.mark.slow_except("Logistic")
@pytest.mark.parametrize("loss", ["SquaredError", "Logistic"])
def test_every_product_of_a_warm_path_is_exact(loss):
    here = with_design(problem(loss, "float32"), Strict)
    lams = jr.lambda_grid(jr.lambda_max(here, jr.L1), 3, 0.3)
    assert bool(jr.path(here, jr.L1, lams, mode="warm").converged.all())


def hard():
    """Correlated columns in float32: a lasso whose gap the digits of TF32 do not bring below 1e-5."""
    rng = np.random.default_rng(0)
    X = np.sqrt(0.5) * (rng.normal(size=(120, 60)) + rng.normal(size=(120, 1)))
    y = X[:, :5].sum(axis=1) + rng.normal(size=120)
    here = jr.Problem(jr.losses.SquaredError(), X.astype("float32"), y, intercept=False)
    here = with_design(here, Rounding)
    penalty = here.working_penalty(jr.L1(0.02 * jr.lambda_max(here, jr.L1)))
    return here, penalty, fit_null_model(here, penalty)


def low_precision_steps(here, penalty, null_fit, tol):
    """Steps in low-precision products alone, as far as they lead."""
    solver = jr.ProximalGradient()
    loop = base._Loop(solver, here, penalty, null_fit, jnp.float32(tol), jnp.array(5000))
    with jax.default_matmul_precision("highest"):  # as in `iterate`
        state = solver.init(here, penalty, null_fit, here.zeros())
        return loop.run(base._Progress.start(state), low_precision=True)[0]


@pytest.mark.slow
def test_exact_products_finish_what_low_precision_leaves():
    here, penalty, null_fit = hard()
    assert float(low_precision_steps(here, penalty, null_fit, 1e-5).best) > 1e-5
    call = (here, penalty, null_fit, jnp.float32(1e-5), jnp.array(5000))
    found = base.iterate(base.SolverTask(jr.ProximalGradient(coarse=True), *call), here.zeros())
    assert bool(found.status == jr.Status.converged)
    exact = jr.Problem(jr.losses.SquaredError(), here.design.X.astype(float), here.y, intercept=False)
    assert jr.certify(exact, penalty, found.coef.astype(float), 0.0).gap <= 2e-5


def test_no_exact_step_follows_where_low_precision_is_enough():
    here, penalty, null_fit = hard()
    alone = low_precision_steps(here, penalty, null_fit, 1e-1)
    call = (here, penalty, null_fit, jnp.float32(1e-1), jnp.array(5000))
    found = base.iterate(base.SolverTask(jr.ProximalGradient(coarse=True), *call), here.zeros())
    assert float(alone.best) <= 1e-1
    assert int(found.steps) == int(alone.steps) > 0
    assert float(found.certificate.gap) == float(alone.certificate.gap)


def test_double_precision_has_no_steps_in_low_precision():
    here = with_design(problem("Logistic"), Strict)
    fits = [
        jr.solve(here, jr.L1(0.05), solver=jr.ProximalGradient(coarse=coarse)) for coarse in (False, True)
    ]
    assert np.array_equal(fits[0].coef, fits[1].coef)
