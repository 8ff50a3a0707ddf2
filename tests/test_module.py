"""Methods of penalties, losses and solutions under `jax.jit`."""

import copy
import inspect
import pickle
import pydoc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg._module import Module, with_public_names
from jaxreg.linear.path.result import Path
from jaxreg.linear.solve import Solution
from jaxreg.linear.solvers import Status
from tests.members import LOSSES, MEMBERS, PENALTIES, problem

NAMES = [n for n in PENALTIES if n.split(" ")[0] in MEMBERS and "+" not in n] + ["2 L1", "GroupL2 + L1"]
W = jnp.array([3.0, -0.5, 0.0])


@pytest.mark.parametrize("name", NAMES)
def test_methods_of_penalties_under_jit(name):
    penalty, like = PENALTIES[name]
    assert jax.eval_shape(jax.jit(penalty.value), like).shape == ()
    out = jax.eval_shape(jax.jit(penalty.prox), like, 0.5)
    assert jax.tree.structure(out) == jax.tree.structure(like)


@pytest.mark.parametrize("name", LOSSES)
def test_methods_of_losses_under_jit(name):
    z = jnp.zeros((4, 3) if name == "Multinomial" else 4)
    y = jnp.array([0, 1, 2, 1]) if name == "Multinomial" else jnp.ones(4)
    for method in (LOSSES[name].value, LOSSES[name].gradient, LOSSES[name].mean):
        arguments = (z,) if method.__name__ == "mean" else (z, y)
        assert jax.eval_shape(jax.jit(method), *arguments).shape[0] == 4


def test_methods_of_problems_under_jit():
    here = problem("Logistic")
    coef, intercept = here.zeros()
    z = jax.eval_shape(jax.jit(here.predictor), coef, intercept)
    assert z.shape == (60,) and jax.eval_shape(jax.jit(here.value), z).shape == ()
    assert jax.eval_shape(jax.jit(here.residual), z).shape == z.shape


def test_the_values_are_those_of_the_method():
    penalty, logistic = jr.L1(1.0), jr.losses.Logistic()
    np.testing.assert_array_equal(jax.jit(penalty.prox)(W, 0.5), [2.5, 0.0, 0.0])
    assert jax.jit(penalty.value)(W) == 3.5
    np.testing.assert_allclose(jax.jit(logistic.value)(W, W > 0), logistic.value(W, W > 0), rtol=1e-14)


def test_predictions_under_jit():
    rng = np.random.default_rng(0)
    X, coef, number = rng.normal(size=(5, 3)), jnp.asarray(rng.normal(size=3)), jnp.zeros(())
    fit = Solution(coef, number, number, number, number, number, Status.converged, jr.losses.Poisson())
    np.testing.assert_allclose(jax.jit(fit.predict)(X), np.exp(X @ np.asarray(coef)), rtol=1e-12)
    one = [leaf[None] for leaf in (number, coef, *[number] * 5)]
    path = Path(*one, jnp.zeros(1, int), jr.losses.Poisson(), number, "warm", "")
    np.testing.assert_allclose(jax.jit(path.predict)(X), np.exp(X @ np.asarray(coef))[None], rtol=1e-12)


def test_methods_are_compared_by_identity():
    one, other = jr.L1(1.0), jr.L1(1.0)
    assert one.prox == one.prox and hash(one.prox) == hash(one.prox)
    assert one.prox != other.prox and one.prox != one.value


def test_a_penalty_that_is_traced():
    """Twice the same method of a penalty made inside a trace: its numbers are not compared."""

    def total(lam):
        penalty = jr.L1(lam)
        return jnp.sum(jax.jit(penalty.prox)(W, 0.5)) + jax.jit(penalty.prox)(W, 1.0)[0]

    lams = jnp.array([0.5, 1.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(total))(lams), [2.75 - 0.25 + 2.5, 2.5 + 2.0])
    np.testing.assert_allclose(jax.jit(jax.grad(total))(0.5), -0.5 + 0.5 - 1.0)


def test_methods_stay_pytrees():
    """`equinox.filter_jit` traces the numbers of the penalty: another λ does not compile anew."""
    count = 0

    @eqx.filter_jit
    def apply(method, w):
        nonlocal count
        count += 1
        return method(w, 1.0)

    for lam in (1.0, 2.0):
        np.testing.assert_array_equal(apply(jr.L1(lam).prox, W), [3.0 - lam, 0.0, 0.0])
    assert count == 1


def test_help_fits_on_a_screen():
    lines = pydoc.plain(pydoc.render_doc(jr.L1)).splitlines()
    assert len(lines) <= 66
    for name in ("lam", "weights", "value", "prox", "conjugate"):
        assert name in dir(jr.L1)


@pytest.mark.parametrize("name", [n for n in jr.__all__ if isinstance(getattr(jr, n), type)])
def test_help_of_public_classes_is_short(name):
    cls = getattr(jr, name)
    assert len(pydoc.plain(pydoc.render_doc(cls)).splitlines()) <= 95
    assert cls is jr.Status or not [name for name in dir(cls) if name.startswith("_")]


def test_help_lists_no_names_of_solvers():
    assert {"value", "curvatures"}.isdisjoint(dir(jr.Problem)) and "shape" in dir(jr.Problem)
    assert "optimal_shift" in dir(jr.losses.Loss) and "optimal_shift" in dir(jr.losses.SquaredError)
    assert "optimal_shift" not in dir(jr.losses.Huber) and "gradient" in dir(jr.losses.Huber)


@with_public_names
class Pair(NamedTuple):
    """Two numbers."""

    first: float
    second: float = 2.0

    def total(self):
        return self.first + self.second


def test_named_tuple_with_public_names():
    pair = Pair(1.0)
    assert dir(Pair) == ["count", "first", "index", "second", "total"]
    assert (Pair.__doc__, Pair.__module__) == ("Two numbers.", __name__)
    assert repr(pair) == "Pair(first=1.0, second=2.0)"
    assert pair == (1.0, 2.0) and pair.total() == 3.0 and type(pair._replace(first=0.0)) is Pair
    assert pickle.loads(pickle.dumps(pair)) == pair and type(copy.deepcopy(pair)) is Pair
    doubled = jax.jit(lambda pair: jax.tree.map(lambda x: 2 * x, pair))(pair)
    assert type(doubled) is Pair and doubled.second == 4.0


FUNCTIONS = [name for name in jr.__all__ if inspect.isfunction(getattr(jr, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_return(name):
    function = getattr(jr, name)
    doc = inspect.getdoc(function)
    returns = inspect.signature(function).return_annotation not in (None, "None")
    assert not returns or "Returns:" in doc or doc.startswith("Return"), name


@pytest.mark.parametrize("name", ["solve", "path"])
def test_results_are_listed_where_they_are_made(name):
    """Without `help` of the class: the arrays for a fit, the certificate, and the method for new rows."""
    doc = inspect.getdoc(getattr(jr, name)).partition("Returns:")[2]
    for word in ("coef", "intercept", "objective", "gap", "kkt", "status", "converged", "predict(X)"):
        assert f"`{word}`" in doc, word


PUBLIC = [getattr(jr.penalties, name) for name in jr.penalties.__all__] + [
    Solution,
    Path,
    jr.Problem,
    jr.Newton,
]


@pytest.mark.parametrize("cls", [c for c in PUBLIC if isinstance(c, type) and issubclass(c, Module)])
def test_help_lists_public_names_alone(cls):
    listed = set(dir(cls))
    assert not [name for name in listed if name.startswith("_")]
    assert {name for name in vars(cls) if not name.startswith("_")} - cls._unlisted <= listed
    if issubclass(cls, jr.penalties.Penalty):
        assert {"value", "prox", "conjugate"} <= listed
