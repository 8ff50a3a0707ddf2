"""Every proximal optimiser ends at the minimum of loss + penalty that the certified solver finds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import P

T = jr.transforms
N, F, STEPS = 100, 9, 2500
rng = np.random.default_rng(0)
X = rng.normal(size=(N, F)) + 0.7 * rng.normal(size=(N, 1))
Z = X @ [2, -1, 0.5, 0.3, 0, 0, 0, 0, 0]
L = float(np.linalg.eigvalsh(X.T @ X / N)[-1])
X, Z = jnp.asarray(X), jnp.asarray(Z)
TARGETS = {
    "SquaredError": Z + 0.5 * rng.normal(size=N),
    "Logistic": jnp.asarray(rng.random(N) < jax.nn.sigmoid(Z), float),
}
START = jnp.full(F, 0.3)
GROUPS = [0, 0, 0, 1, 1, 1, 2, 2, 2]


def falling(rate):
    return optax.cosine_decay_schedule(rate, STEPS)


OPTIMIZERS = {
    "sgd": lambda g: T.proximal_sgd(1 / L, g),
    "momentum": lambda g: T.proximal_sgd(0.15 / L, g, momentum=0.9),
    "nesterov": lambda g: T.proximal_sgd(0.15 / L, g, momentum=0.9, nesterov=True),
    "link": lambda g: optax.chain(optax.sgd(1 / L), T.proximal(g, 1 / L)),
    "adam": lambda g: T.proximal_adam(falling(0.03), g),
    "adagrad": lambda g: T.proximal_adagrad(0.3, g),
    "lion": lambda g: T.proximal_lion(falling(0.02), g),
}
SGD = ("sgd", "momentum", "nesterov", "link")
METRIC = {
    "L1": P.L1(0.2),
    "L1 weights": P.L1(0.2, weights=[1, 0, jnp.inf, 0.5, 2, 1, 1, 0, 1]),
    "ElasticNet": P.ElasticNet(0.3, 0.5),
    "SquaredL2": P.SquaredL2(0.3),
    "HuberNorm": P.HuberNorm(0.3, 0.2),
    "L1 + NonNegative": P.L1(0.1) + P.NonNegative(),
    "Box": P.Box(-0.5, jnp.linspace(0.9, 1.1, F)),
    "GroupL2": P.GroupL2(0.2, GROUPS),
    "SparseGroup": P.SparseGroup(0.3, GROUPS, 0.5),
}
UNIFORM = {
    "LInf": P.LInf(1.0),
    "SortedL1": P.SortedL1(np.linspace(0.4, 0.05, F)),
    "TotalVariation": P.TotalVariation(0.2),
    "FusedLasso": P.FusedLasso(0.1, 0.2),
    "L1Ball": P.L1Ball(2.0),
}
NONCONVEX = {"MCP": P.MCP(0.3, 3.0), "SCAD": P.SCAD(0.3, 3.7)}
PENALTIES = METRIC | UNIFORM | NONCONVEX


def trained(optimizer, penalty, loss="SquaredError"):
    """The weights after a full-batch run; `optimizer` makes one of a penalty."""
    value = getattr(jr.losses, loss)().value

    def run(penalty):
        objective = lambda w, batch: jnp.mean(value(batch[0] @ w, batch[1]))  # noqa: E731
        return jr.train(objective, START, optimizer(penalty), (X, TARGETS[loss]), steps=STEPS)[0]

    return jax.jit(run)(penalty)


@functools.cache
def problem(loss):
    return jr.Problem(getattr(jr.losses, loss)(), X, TARGETS[loss], intercept=False)


@functools.cache
def solved(name, loss="SquaredError", lam=None):
    """The certified coefficients for a penalty of the table, or for L1 at this λ."""
    penalty = PENALTIES[name] if lam is None else P.L1(lam)
    return jr.solve(problem(loss), penalty, tol=1e-13, throw=False).coef


def assert_solves(w, penalty, coef, loss="SquaredError"):
    """Weights at rest, by the KKT residual of the cost itself, with the support of the certified ones."""
    assert jr.certify(problem(loss), penalty, w, 0.0).kkt <= 1e-5
    np.testing.assert_array_equal(w != 0, coef != 0)
    np.testing.assert_allclose(w, coef, atol=1e-5)


def accepted(optimizer):
    """The penalties that an optimiser takes."""
    names = [*METRIC, *(UNIFORM if optimizer in SGD else {})]
    return names if optimizer == "lion" else [*names, *NONCONVEX]


#: Solutions that have weights where the gradient of the loss is 0, up to rounding.
FLAT = ("L1 weights", "Box", *NONCONVEX)


def pinned(optimizer):
    """Return the penalties whose solutions are fixed points.

    Adam and Lion make steps of full length of a gradient that is rounding.
    """
    return [name for name in accepted(optimizer) if name not in FLAT or optimizer not in ("adam", "lion")]


def stays(optimizer, penalty, w):
    """Return the largest move in five steps from w, and whether the support stays.

    First, 2,000 updates under the gradient of w are not applied: averages of gradients become the gradient.
    """
    steps = OPTIMIZERS[optimizer](penalty)

    def one(carry, k):
        now, state = carry
        gradient = X.T @ (X @ now - TARGETS["SquaredError"]) / N
        updates, state = steps.update(gradient, state, now)
        return (jnp.where(k < 2000, now, optax.apply_updates(now, updates)), state), None

    found = jax.lax.scan(one, (w, steps.init(w)), jnp.arange(2005))[0][0]
    return jnp.max(jnp.abs(found - w)), jnp.all((found == 0) == (w == 0))


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_every_certified_solution_is_a_fixed_point(optimizer):
    """Of all penalties that the optimiser takes, in one program."""
    names = pinned(optimizer)
    penalties, points = {n: PENALTIES[n] for n in names}, {n: solved(n) for n in names}
    found = jax.jit(lambda p, w: {n: stays(optimizer, p[n], w[n]) for n in names})(penalties, points)
    for name, (move, same_support) in found.items():
        assert move <= 1e-6 and same_support, (name, move)


#: One full run for each optimiser, from the start; `pytest -m slow` runs all pairs.
RUN = {
    "sgd": "TotalVariation",
    "momentum": "L1 weights",
    "nesterov": "GroupL2",
    "link": "SortedL1",
    "adam": "L1 weights",
    "adagrad": "SparseGroup",
    "lion": "Box",
}
PAIRS = [(optimizer, name) for optimizer in OPTIMIZERS for name in accepted(optimizer)]


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        pytest.param(*pair, marks=() if RUN[pair[0]] == pair[1] else pytest.mark.slow)
        for pair in PAIRS
        if pair[1] not in NONCONVEX
    ],
)
def test_it_ends_at_the_solution(optimizer, name):
    assert_solves(trained(OPTIMIZERS[optimizer], PENALTIES[name]), PENALTIES[name], solved(name))


@pytest.mark.parametrize(
    "optimizer", [pytest.param(o, marks=() if o == "adam" else pytest.mark.slow) for o in OPTIMIZERS]
)
def test_logistic(optimizer):
    w = trained(OPTIMIZERS[optimizer], P.L1(0.03), "Logistic")
    assert_solves(w, P.L1(0.03), solved("L1", "Logistic", 0.03), "Logistic")


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        pytest.param(*pair, marks=() if pair in (("momentum", "MCP"), ("adam", "SCAD")) else pytest.mark.slow)
        for pair in PAIRS
        if pair[1] in NONCONVEX and pair[0] != "adagrad"
    ],
)
def test_not_convex(optimizer, name):
    w = trained(OPTIMIZERS[optimizer], PENALTIES[name])
    assert jr.certify(problem("SquaredError"), PENALTIES[name], w, 0.0).kkt <= 1e-5
    assert 0 < jnp.sum(w == 0) < F


def test_the_penalties_bite():
    """None of the solutions above is the one without a penalty, and sparse penalties give zeros."""
    free = jnp.linalg.lstsq(X, TARGETS["SquaredError"])[0]
    for name in METRIC | UNIFORM:
        assert jnp.max(jnp.abs(solved(name) - free)) > 0.05, name
    for name in ("L1", "L1 weights", "ElasticNet", "L1 + NonNegative", "GroupL2", "SparseGroup"):
        assert 0 < jnp.sum(solved(name) == 0) < F, name
    for name in ("SortedL1", "FusedLasso", "L1Ball"):
        assert 0 < jnp.sum(solved(name) == 0) < F, name


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(o, marks=() if o in ("nesterov", "lion") else pytest.mark.slow) for o in OPTIMIZERS],
)
def test_a_lambda_that_falls(optimizer):
    falls = optax.linear_schedule(1.0, 0.2, STEPS // 6)

    def scheduled(penalty):
        return OPTIMIZERS[optimizer](lambda count: penalty * falls(count))

    assert_solves(trained(scheduled, P.L1(1.0)), PENALTIES["L1"], solved("L1"))


def test_the_uniform_link_after_momentum_solves_another_problem():
    """Which is why proximal_sgd has a momentum of its own."""
    chain = lambda g: optax.chain(optax.sgd(0.15 / L, 0.9), T.proximal(g, 0.15 / L))  # noqa: E731
    assert_solves(trained(chain, P.L1(1.0)), P.L1(0.1), solved("L1", lam=0.1))


# ---------------------------------------------------------------- what they are named after

RATE = optax.exponential_decay(0.1, 5, 0.8)
TWINS = {
    "sgd": (lambda g: T.proximal_sgd(0.1, g), optax.sgd(0.1)),
    "sgd schedule": (lambda g: T.proximal_sgd(RATE, g), optax.sgd(RATE)),
    "momentum": (lambda g: T.proximal_sgd(0.1, g, momentum=0.9), optax.sgd(0.1, 0.9)),
    "nesterov": (lambda g: T.proximal_sgd(RATE, g, momentum=0.8, nesterov=True), optax.sgd(RATE, 0.8, True)),
    "link": (lambda g: optax.chain(optax.sgd(RATE), T.proximal(g, RATE)), optax.sgd(RATE)),
    "adam": (lambda g: T.proximal_adam(RATE, g), optax.adam(RATE)),
    "adam numbers": (lambda g: T.proximal_adam(0.1, g, 0.8, 0.95, 1e-3), optax.adam(0.1, 0.8, 0.95, 1e-3)),
    "adagrad": (lambda g: T.proximal_adagrad(RATE, g), optax.adagrad(RATE)),
    "adagrad numbers": (lambda g: T.proximal_adagrad(0.1, g, 0.5, 1e-3), optax.adagrad(0.1, 0.5, 1e-3)),
    "lion": (lambda g: T.proximal_lion(RATE, g), optax.lion(RATE, weight_decay=0.0)),
    "lion numbers": (
        lambda g: T.proximal_lion(0.1, g, 0.7, 0.9),
        optax.lion(0.1, 0.7, 0.9, weight_decay=0.0),
    ),
}


def walk(optimizer, steps, gradient):
    """The params of every step from START."""

    def one(carry, _):
        w, state = carry
        updates, state = optimizer.update(gradient(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    return jax.jit(lambda: jax.lax.scan(one, (START, optimizer.init(START)), length=steps)[1])()


@pytest.mark.parametrize("name", list(TWINS))
def test_without_a_penalty_it_is_the_optimiser_it_is_named_after(name):
    ours, theirs = TWINS[name]
    gradient = lambda w: X.T @ (X @ w - TARGETS["SquaredError"]) / N  # noqa: E731
    expected = walk(theirs, 20, gradient)
    np.testing.assert_allclose(walk(ours(jr.L1(0.0)), 20, gradient), expected, rtol=1e-12, atol=1e-14)


CONSTANT = jnp.linspace(-2.0, 2.5, F)


@pytest.mark.parametrize("name", [name for name in TWINS if name != "lion"])
def test_the_threshold_is_that_of_the_step(name):
    """Under a constant gradient g each step is d = D·g, and the threshold must be η·λ·D at every step."""
    ours, theirs = TWINS[name]

    def updates(optimizer):
        def one(state, _):
            updates, state = optimizer.update(CONSTANT, state, START)
            return state, updates

        # Lion's average of the gradients is the gradient only in the long run.
        last = slice(-1, None) if name.startswith("lion") else slice(0, 12)
        return jax.jit(lambda: jax.lax.scan(one, optimizer.init(START), length=400)[1][last])()

    plain = updates(theirs)
    moved = START + plain
    expected = jr.prox.soft(moved, 0.05 * plain / -CONSTANT)
    np.testing.assert_allclose(START + updates(ours(jr.L1(0.05))), expected, rtol=1e-6, atol=1e-12)
    assert jnp.any(jnp.abs(expected - moved) > 1e-3)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("make", [T.proximal_adam, T.proximal_adagrad, T.proximal_lion])
@pytest.mark.parametrize("name", list(UNIFORM))
def test_a_prox_without_a_metric_is_refused(make, name):
    with pytest.raises(TypeError, match="use proximal_sgd"):
        make(0.1, UNIFORM[name])


@pytest.mark.parametrize("penalty", [*NONCONVEX.values(), P.L0(0.1), P.L1(0.1) + P.MCP(0.1)])
def test_lion_refuses_what_is_not_convex(penalty):
    with pytest.raises(TypeError, match=r"not convex.*use proximal_sgd or proximal_adam"):
        T.proximal_lion(0.1, penalty)


@pytest.mark.parametrize("momentum", [1, 1.0, -0.1, 1.5])
def test_momentum_outside_its_range(momentum):
    with pytest.raises(ValueError, match="momentum must be in"):
        T.proximal_sgd(0.1, jr.L1(0.1), momentum=momentum)


@pytest.mark.parametrize(
    "make",
    [
        T.proximal_sgd,
        T.proximal_adam,
        T.proximal_adagrad,
        T.proximal_lion,
        lambda rate, penalty: T.proximal(penalty, rate),
        lambda rate, penalty: T.apply_prox(jnp.ones(2), jnp.ones(2), penalty, rate),
    ],
)
@pytest.mark.parametrize("penalty", [jr.L1, 0.1, None, "L1"])
def test_what_is_no_penalty(make, penalty):
    with pytest.raises(TypeError, match=r"wanted a penalty such as jaxreg\.L1"):
        make(0.1, penalty)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_params_are_needed(name):
    optimizer = OPTIMIZERS[name](jr.L1(0.1))
    with pytest.raises(ValueError, match="needs the params"):
        optimizer.update(START, optimizer.init(START))


@pytest.mark.parametrize(
    "make, scheduled, said",
    [
        (jr.transforms.proximal_lion, lambda count: jr.MCP(0.1), "not convex"),
        (jr.transforms.proximal_adam, lambda count: jr.penalties.LInf(0.1), "one step per coordinate"),
        (jr.transforms.proximal_sgd, lambda count: 0.1, "wanted a penalty"),
    ],
)
def test_a_schedule_of_the_wrong_penalty_is_refused_at_the_first_step(make, scheduled, said):
    optimizer, w = make(0.1, scheduled), jnp.ones(3)
    with pytest.raises(TypeError, match=said):
        optimizer.update(w, optimizer.init(w), w)
