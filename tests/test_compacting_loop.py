"""Laws of the compacting loop: it gives the results of `jax.lax.while_loop` with less work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxreg as jr
from jaxreg import _compacting_loop
from jaxreg._batching import lanes
from jaxreg._compacting_loop import batch_sizes, compacting_loop
from tests.members import problem

SIZES = (1, 2, 7, 40, 64, 97, 300, 600)


def parts(limit, matrix):
    """A walk with a carry of many kinds: it ends after `limit` steps, evaluated every 1 + limit % 5 steps."""

    def step(x):
        moved = jnp.tanh(x["shared"] @ x["w"] + x["kept"].sum()) + 0.1 * jax.random.normal(x["key"], (3,))
        key = jax.random.fold_in(x["key"], x["k"])
        return x | {"w": matrix @ moved, "k": x["k"] + 1, "since": x["since"] + 1, "key": key}

    def evaluate(x):
        return x | {
            "since": jnp.zeros_like(x["since"]),
            "even": x["k"] % 2 == 0,
            "evaluations": x["evaluations"] + 1,
        }

    not_done = lambda x: x["k"] < limit  # noqa: E731
    keep_stepping = lambda x: (x["since"] < 1 + limit % 5) & (x["k"] < limit)  # noqa: E731
    return not_done, keep_stepping, step, evaluate


def begin(seed, shared):
    zero = jnp.array(0)
    w = jnp.arange(3.0)
    key = jax.random.key(seed)
    kept = jnp.ones((2, 2))
    return {"w": w, "k": zero, "since": zero, "evaluations": zero, "even": jnp.array(False), "key": key,
            "shared": shared, "kept": kept}  # fmt: skip


def plain(not_done, keep_stepping, step, evaluate, init):
    """`compacting_loop` by the loops of JAX, without the number of steps."""
    body = lambda x: evaluate(jax.lax.while_loop(keep_stepping, step, x))  # noqa: E731
    return jax.lax.while_loop(not_done, body, init), 0


def walk(loop, matrix, limit, seed, shared):
    out, steps = loop(*parts(limit, matrix), begin(seed, shared))
    return out | {"key": jax.random.key_data(out["key"])}, steps


SHARED = jnp.array([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6], [0.2, 0.2, 0.1]])
MATRIX = jnp.array([[1.1, 0.2, 0.0], [0.0, -0.7, 0.3], [0.4, 0.0, 0.9]])


def compare(found, wanted):
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("size", "own"),
    [
        pytest.param(size, own, marks=() if own == (k % 2 == 0) else pytest.mark.slow)
        for k, size in enumerate(SIZES)
        for own in (False, True)
    ],
)
def test_a_batch_is_the_loop_of_jax(size, own):
    """Integers, Booleans, keys; arrays that all lanes share, and that each has its own."""
    limits = jnp.asarray(np.random.default_rng(size).geometric(0.1, size) - 1)
    scale = jnp.linspace(0.5, 1.5, size)[:, None, None]
    args = (scale * MATRIX if own else MATRIX, limits, jnp.arange(size), scale * SHARED if own else SHARED)
    axes = (0 if own else None, 0, 0, 0 if own else None)

    def run(loop):
        return jax.jit(jax.vmap(lambda *a: walk(loop, *a), in_axes=axes))(*args)

    (found, steps), (wanted, _) = run(compacting_loop), run(plain)
    compare(found, wanted)
    np.testing.assert_array_equal(found["k"], limits)
    assert np.all(steps >= limits)


def test_steps_of_a_single_lane():
    found, steps = walk(compacting_loop, MATRIX, 13, 0, SHARED)
    compare(found, walk(plain, MATRIX, 13, 0, SHARED)[0])
    assert steps == 13


def halving(loop, limit, scale):
    """A number halved `limit` times."""
    step = lambda x: (x[0] / 2 * scale / scale, x[1] + 1)  # noqa: E731
    not_done = lambda x: x[1] < limit  # noqa: E731
    (x, k), steps = loop(not_done, not_done, step, lambda x: x, (scale, jnp.array(0)))
    return x, k, steps


@pytest.mark.parametrize("limit", [0, 9])
def test_all_lanes_done_at_once(limit):
    x, k, steps = jax.vmap(lambda s: halving(compacting_loop, limit, s))(jnp.arange(1.0, 101.0))
    np.testing.assert_allclose(x, jnp.arange(1.0, 101.0) / 2**limit)
    assert set(np.asarray(k)) == set(np.asarray(steps)) == {limit}


def test_the_worked_example(monkeypatch):
    """Eight lanes in batches of 8 and 2, evaluated after every step, as the module's docstring says."""
    monkeypatch.setattr(_compacting_loop, "_DIVISORS", {8: (4,), 0: ()})
    limits = jnp.array([1, 1, 2, 2, 3, 3, 5, 9])

    def one(limit):
        not_done, keep_stepping = (lambda x: x[0] < limit), (lambda x: x[1])
        step, evaluate = (lambda x: (x[0] + 1, jnp.array(False))), (lambda x: (x[0], jnp.array(True)))
        init = jnp.array(0), jnp.array(True)
        return compacting_loop(not_done, keep_stepping, step, evaluate, init)

    (taken, _), steps = jax.vmap(one)(limits)
    np.testing.assert_array_equal(taken, limits)
    assert steps.sum() == 3 * 8 + 6 * 2


def test_a_lane_that_is_not_a_number_leaves_the_others_alone():
    start = jnp.ones(80).at[17].set(jnp.nan)
    x, _, _ = jax.vmap(lambda n, s: halving(compacting_loop, n, s))(jnp.arange(80), start)
    np.testing.assert_allclose(np.delete(x, 17), np.delete(0.5 ** np.arange(80), 17))
    assert np.isnan(x[17])


def test_work_falls():
    """One lane of a thousand takes 1000 steps, the others ten."""
    limits = jnp.full(1000, 10).at[333].set(1000)
    _, k, steps = jax.vmap(lambda n: halving(compacting_loop, n, 1.0))(limits)
    np.testing.assert_array_equal(k, limits)
    # Ready lanes waited for the slow one no longer than three steps.
    assert steps.sum() == 1000 * 13 + batch_sizes(1000)[-1] * 987


def test_ready_lanes_wait_for_some():
    """Half of the lanes are evaluated after each step, half after a hundred: neither waits for the other."""
    every = jnp.where(jnp.arange(1000) % 2 == 0, 1, 100)

    def one(every):
        not_done = lambda x: x[0] < 200  # noqa: E731
        keep_stepping = lambda x: x[1] < every  # noqa: E731
        step, evaluate = (lambda x: (x[0] + 1, x[1] + 1)), (lambda x: (x[0], jnp.array(0)))
        return compacting_loop(not_done, keep_stepping, step, evaluate, (jnp.array(0), jnp.array(0)))

    (taken, _), steps = jax.vmap(one)(every)
    assert set(np.asarray(taken)) == {200}
    assert steps.max() < 1000  # 200 · 100 if all waited for all


def nested(loop):
    inner = jax.vmap(lambda limit, scale: halving(loop, limit, scale)[:2], in_axes=(0, None))
    return jax.vmap(inner, in_axes=(None, 0))(jnp.arange(70) % 13, jnp.array([1.0, 3.0, 8.0]))


def test_batches_of_batches():
    for found, wanted in zip(nested(compacting_loop), nested(plain), strict=True):
        np.testing.assert_allclose(found, wanted)


def test_each_device_of_a_mesh_on_its_own():
    each = jnp.arange(270) % 31
    both = [
        lanes(lambda scale, limit: halving(compacting_loop, limit, scale)[:2], jnp.array(3.0), each, mesh)
        for mesh in (None, Mesh(np.array(jax.devices()), ("all",)))
    ]
    np.testing.assert_allclose(*(found[0] for found in both))


def test_forward_mode():
    """Along lanes, across lanes, of lanes that share the point and differ in direction."""

    def value(loop):
        return lambda x, n: halving(loop, n, x)[0] ** 2

    x, n = jnp.linspace(1, 2, 80), jnp.arange(80) % 7
    found, wanted = [], []
    for loop, out in ((compacting_loop, found), (plain, wanted)):
        f = value(loop)
        out.append(jax.jvp(lambda x, f=f: jax.vmap(f)(x, n), (x,), (x,))[1])
        out.append(jax.vmap(lambda x, n, f=f: jax.jvp(lambda x: f(x, n), (x,), (2.0,))[1])(x, n))
        out.append(jax.jacfwd(lambda y, f=f: f(y.sum(), 3))(x))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b)


def test_a_step_that_changes_a_dtype_is_refused():
    below = lambda x: x < 3  # noqa: E731
    with pytest.raises(TypeError, match=r"\['int64\(\)'\] into \['float64\(\)'\]"):
        compacting_loop(below, below, lambda x: x + 0.5, lambda x: x, jnp.array(0))


# ---------------------------------------------------------------- in the solvers


def test_what_all_share_is_never_copied():
    """Neither X nor a Gram matrix, which the solver carries, for a batch of λ."""
    here = problem("SquaredError", p=24)
    fit = lambda lam: jr.solve(here, jr.L1(lam), solver=jr.ProximalGradient(gram=True), throw=False).coef  # noqa: E731
    text = jax.jit(jax.vmap(fit)).lower(jnp.linspace(0.01, 0.1, 100)).as_text()
    n, p = here.shape
    for size in batch_sizes(100):
        assert f"tensor<{size}x{n}x{p}x" not in text and f"tensor<{size}x{p}x{p}x" not in text
    assert "custom_call @xla_python" not in text


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["Logistic", "SquaredError"])
def test_solutions_in_a_batch_are_those_alone(loss):
    here, lams = problem(loss, n=40, p=60), jnp.geomspace(0.3, 0.02, 70)
    fit = lambda lam: jr.solve(here, jr.L1(lam), tol=1e-7, throw=False)  # noqa: E731
    batch = jr.path(here, jr.L1, lams, mode="batched", tol=1e-7)
    alone = jax.jit(lambda lams: jax.lax.map(fit, lams))(lams)
    assert bool(jnp.all(batch.converged)) and bool(jnp.all(alone.converged))
    np.testing.assert_allclose(batch.coef, alone.coef, atol=1e-6)
    # Rounding may turn a step or two.
    np.testing.assert_allclose(batch.steps, alone.steps, rtol=0.05, atol=2)
    assert batch.steps.sum() < batch.rounds.sum() < 70 * batch.steps.max()
    path = jr.path(here, jr.L1, lams[:20], mode="warm", tol=1e-7, solver=jr.ProximalGradient())
    np.testing.assert_array_equal(path.rounds, path.steps)


@pytest.mark.slow
def test_forward_mode_through_a_solution():
    """Ridge: H⁻¹ of the coefficients, with H = XᵀX/n + λ."""
    here, lams = problem("SquaredError"), np.geomspace(0.3, 0.03, 64)
    fit = lambda lam: jr.solve(here, jr.SquaredL2(lam), tol=1e-13, throw=False).coef  # noqa: E731
    coefs, found = jax.jit(jax.vmap(lambda lam: jax.jvp(fit, (lam,), (1.0,))))(lams)
    X = np.asarray(here.design.dense())
    gram = X.T @ X / len(X)
    for coef, dot, lam in zip(np.asarray(coefs), found, lams, strict=True):
        np.testing.assert_allclose(dot, -np.linalg.solve(gram + lam * np.eye(len(gram)), coef), atol=1e-4)
