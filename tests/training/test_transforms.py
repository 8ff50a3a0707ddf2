"""Links of an optax chain: exact zeros in every float type and wrapper, decay and its two fixed points."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.members import P

T = jr.transforms
RATE = 0.1
OPTIMIZERS = {
    "link": lambda g, rate=RATE: optax.chain(optax.sgd(rate), T.proximal(g, rate)),
    "sgd": lambda g, rate=RATE: T.proximal_sgd(rate, g, momentum=0.9),
    "adam": lambda g, rate=RATE: T.proximal_adam(rate, g),
    "adagrad": lambda g, rate=RATE: T.proximal_adagrad(rate, g),
    "lion": lambda g, rate=RATE: T.proximal_lion(rate, g),
}
#: The metric of the first step.
METRICS = {
    "link": lambda g: jnp.ones_like(g),
    "sgd": lambda g: jnp.ones_like(g),
    "adam": lambda g: 1 / (jnp.abs(g) + 1e-8),
    "adagrad": lambda g: 1 / jnp.sqrt(0.1 + g**2 + 1e-7),
    "lion": lambda g: 1 / (0.1 * jnp.abs(g)),
}


def draw(*shape, seed=1):
    """Normal numbers, the same in every order of the tests."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


every_optimizer = pytest.mark.parametrize("name", list(OPTIMIZERS))


def assert_same(found, expected, rtol=0.0, atol=0.0):
    """Trees of one structure, types and values."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)


def run(optimizer, params, gradients, state=None):
    """The params and state after one step for each of the gradients (stacked), in one scan."""

    def one(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    def whole(params, state, gradients):
        state = optimizer.init(params) if state is None else state
        return jax.lax.scan(one, (params, state), gradients)[0]

    return jax.jit(whole)(params, state, gradients)


def zeros(tree):
    return [np.asarray(x) == 0 for x in jax.tree.leaves(tree)]


# ---------------------------------------------------------------- exact zeros

DTYPES = {
    "float64": ("float64", "float64"),
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float16": ("float16", "float16"),
    "bfloat16, gradients float32": ("bfloat16", "float32"),
    "float32, gradients bfloat16": ("float32", "bfloat16"),
    "float16, gradients float32": ("float16", "float32"),
}


@every_optimizer
@pytest.mark.parametrize("dtypes", list(DTYPES))
def test_zeros_are_exact(name, dtypes):
    """After optax.apply_updates: where the prox is 0, and nowhere else."""
    of_params, of_gradients = DTYPES[dtypes]
    w, g = draw(2, 200)
    w, g = w.astype(of_params), (g + 0.5 * jnp.sign(g)).astype(of_gradients)
    step = RATE * METRICS[name](g.astype(float))
    lam = 0.5 / float(jnp.median(step))
    moves = -g.astype(float) * step / (10.0 if name == "lion" else 1.0)
    moved = w.astype(float) + moves
    # What rounding of the narrow types may decide is left out.
    clear = np.abs(np.abs(moved) - lam * step) > 0.05
    optimizer = OPTIMIZERS[name](jr.L1(lam))

    @jax.jit
    def once(w, g):
        updates, state = optimizer.update(g, optimizer.init(w), w)
        new = optax.apply_updates(w, updates)
        return new, optax.apply_updates(new, optimizer.update(g, state, new)[0])

    new, later = once(w, g)
    assert new.dtype == later.dtype == w.dtype
    assigned = T.apply_prox(w, moves.astype(of_gradients), jr.L1(lam), step)
    assert assigned.dtype == w.dtype
    expected = np.abs(moved) <= lam * step
    np.testing.assert_array_equal((new == 0)[clear], expected[clear])
    np.testing.assert_array_equal((assigned == 0)[clear], expected[clear])
    assert 20 < np.sum(expected[clear]) < np.sum(clear) - 20
    assert np.sum(later == 0) > 20
    if of_params == "float64":
        np.testing.assert_allclose(new, jr.L1(lam).prox(moved, step), atol=1e-7)


@pytest.mark.parametrize("of_params", ["float32", "bfloat16", "float16"])
def test_weights_of_any_size_land_on_zero(of_params):
    w = jnp.asarray([1.0, 3.0, 0.1, 1e-3, 200.0, -1.0, -3.0, -0.1, -1e-3, -200.0], of_params)
    for make in OPTIMIZERS.values():
        optimizer = make(jr.L1(1e6))
        new = jax.jit(lambda w, o=optimizer: optax.apply_updates(w, o.update(w, o.init(w), w)[0]))(w)
        np.testing.assert_array_equal(new, 0)


@pytest.mark.parametrize("name", ["link", "sgd"])
def test_the_zeros_are_those_of_the_prox_for_groups_and_sorted_norms(name):
    w, g = draw(2, 12)
    for penalty in (P.GroupL2(9.0, jnp.arange(12) // 2), P.SortedL1(jnp.linspace(12, 6, 12)), P.L1Ball(1.0)):
        expected = penalty.prox(w - RATE * g, RATE)
        new, _ = run(OPTIMIZERS[name](penalty), w, g[None])
        np.testing.assert_array_equal(new == 0, expected == 0)
        assert 0 < jnp.sum(new == 0) < 12
        np.testing.assert_allclose(new, expected, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------- wrappers of optax

PARAMS = {"a": draw(8), "b": {"c": draw(2, 3, seed=2)}}
GRADIENTS = {"a": draw(6, 8, seed=3), "b": {"c": draw(6, 2, 3, seed=4)}}
#: λ at which some weights are 0 after six steps, and not all.
LAM = {"link": 1.5, "sgd": 0.5, "adam": 1.0, "adagrad": 0.7, "lion": 0.1}


@functools.cache
def bare(name, lam=None):
    """The params after six steps of the optimiser itself."""
    return run(OPTIMIZERS[name](jr.L1(LAM[name] if lam is None else lam)), PARAMS, GRADIENTS)[0]


@every_optimizer
def test_some_weights_are_zero(name):
    both = np.concatenate([z.ravel() for z in zeros(bare(name))])
    assert 2 <= np.sum(both) <= 12


@every_optimizer
def test_multi_steps(name):
    """Two steps of MultiSteps are one step along the mean gradient; between them nothing moves."""
    optimizer = optax.MultiSteps(OPTIMIZERS[name](jr.L1(LAM[name])), every_k_schedule=2)
    twice = jax.tree.map(lambda g: jnp.stack([0.5 * g, 1.5 * g], axis=1).reshape(12, *g.shape[1:]), GRADIENTS)
    found, state = run(optimizer, PARAMS, twice)
    assert_same(found, bare(name), 1e-6)  # optax averages in single precision
    for a, b in zip(zeros(found), zeros(bare(name)), strict=True):
        np.testing.assert_array_equal(a, b)
    half = jax.tree.map(lambda g: g[:1], GRADIENTS)
    assert_same(run(optimizer, found, half, state)[0], found)


@every_optimizer
def test_apply_if_finite(name):
    """A gradient with a NaN is left out, as if it had never been."""
    optimizer = optax.apply_if_finite(OPTIMIZERS[name](jr.L1(LAM[name])), max_consecutive_errors=5)
    bad = jax.tree.map(lambda g: jnp.concatenate([g[:3], jnp.nan * g[:1], g[3:]]), GRADIENTS)
    assert_same(run(optimizer, PARAMS, bad)[0], bare(name), 1e-12, 1e-14)


@every_optimizer
def test_apply_if_finite_in_half_precision(name):
    w, g = jax.tree.map(lambda x: x.astype("bfloat16"), (PARAMS, GRADIENTS))
    optimizer = optax.apply_if_finite(OPTIMIZERS[name](jr.L1(LAM[name])), max_consecutive_errors=5)
    assert_same(run(optimizer, w, g)[0], run(OPTIMIZERS[name](jr.L1(LAM[name])), w, g)[0])


@every_optimizer
def test_inject_hyperparams(name):
    """λ and the rate live in the state, through a function of the user's."""
    optimizer = optax.inject_hyperparams(
        lambda lam, learning_rate: OPTIMIZERS[name](jr.L1(lam), learning_rate)
    )(lam=LAM[name], learning_rate=RATE)
    found, state = run(optimizer, PARAMS, GRADIENTS)
    assert_same(found, bare(name), 1e-12, 1e-14)
    state.hyperparams["lam"] = jnp.asarray(1e6)
    np.testing.assert_array_equal(run(optimizer, found, GRADIENTS, state)[0]["a"], 0.0)
    state.hyperparams["learning_rate"] = jnp.asarray(0.0)
    assert_same(run(optimizer, found, GRADIENTS, state)[0], found, 1e-14)


def test_inject_momentum():
    optimizer = optax.inject_hyperparams(
        lambda momentum: T.proximal_sgd(RATE, jr.L1(LAM["sgd"]), momentum=momentum)
    )(momentum=0.9)
    assert_same(run(optimizer, PARAMS, GRADIENTS)[0], bare("sgd"), 1e-12, 1e-14)


@every_optimizer
def test_masked(name):
    """Leaves outside the mask get the gradient as it is, the others what they get alone."""
    optimizer = optax.masked(OPTIMIZERS[name](jr.L1(LAM[name])), {"a": True, "b": False})
    found, _ = run(optimizer, PARAMS, GRADIENTS)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    assert_same(found["b"]["c"], PARAMS["b"]["c"] + jnp.sum(GRADIENTS["b"]["c"], axis=0), 1e-12)
    nothing = optax.masked(OPTIMIZERS[name](jr.L1(LAM[name])), False)
    assert_same(
        run(nothing, PARAMS, GRADIENTS)[0],
        jax.tree.map(lambda w, g: w + jnp.sum(g, 0), PARAMS, GRADIENTS),
        1e-12,
    )


@every_optimizer
def test_partition(name):
    """Each label for itself; one label has no leaves."""
    optimizer = OPTIMIZERS[name](jr.L1(LAM[name]))
    parts = {"sparse": optimizer, "plain": optax.sgd(RATE), "unused": OPTIMIZERS[name](jr.L1(9.0))}
    found, _ = run(optax.partition(parts, {"a": "sparse", "b": "plain"}), PARAMS, GRADIENTS)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    plain, _ = run(optax.sgd(RATE), PARAMS, GRADIENTS)
    assert_same(found["b"], plain["b"], 1e-12)


@every_optimizer
def test_masked_penalty(name):
    """`Masked` leaves the other weights to the optimiser without a penalty."""
    penalty = jr.Masked(jr.L1(LAM[name]), {"a": True, "b": False})
    found, _ = run(OPTIMIZERS[name](penalty), PARAMS, GRADIENTS)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    assert_same(found["b"], bare(name, 0.0)["b"], 1e-12)


@every_optimizer
def test_jit_and_scan_and_vmap_over_lambda_are_the_loop(name):
    lams = jnp.array([0.0, 0.3, 1.0]) * LAM[name]

    def steps(lam):
        optimizer = OPTIMIZERS[name](jr.L1(lam))
        params, state = PARAMS, optimizer.init(PARAMS)
        for k in range(2):
            updates, state = optimizer.update(jax.tree.map(lambda g, k=k: g[k], GRADIENTS), state, params)
            params = optax.apply_updates(params, updates)
        return params

    lanes = jax.jit(jax.vmap(steps))(lams)
    two = jax.tree.map(lambda g: g[:2], GRADIENTS)
    for k, lam in enumerate(lams):
        lane = jax.tree.map(lambda x, k=k: x[k], lanes)
        scanned, _ = run(OPTIMIZERS[name](jr.L1(lam)), PARAMS, two)
        assert_same(lane, scanned, 1e-12, 1e-14)
        for a, b in zip(zeros(lane), zeros(scanned), strict=True):
            np.testing.assert_array_equal(a, b)
    assert_same(steps(lams[2]), scanned, 1e-12, 1e-14)


@every_optimizer
def test_one_trace_for_every_step_and_lambda(name):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state, gradient, lam):
        updates, state = OPTIMIZERS[name](jr.L1(lam)).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, OPTIMIZERS[name](jr.L1(0.0)).init(PARAMS)
    first = jax.tree.map(lambda g: g[0], GRADIENTS)
    for lam in (0.1, 0.1, 0.7):
        params, state = step(params, state, first, lam)


@pytest.mark.parametrize("name", ["adam", "adagrad", "lion"])
@pytest.mark.parametrize(
    "beside",
    [
        {"scale": jnp.asarray(2.0)},
        {"none": None},
        {"empty": jnp.zeros(0)},
    ],
    ids=["scalar", "None", "empty"],
)
def test_leaves_of_any_shape(name, beside):
    """What stands beside a leaf does not matter to it."""
    params = {"a": PARAMS["a"], **beside}
    gradients = jax.tree.map(lambda w: jnp.ones((6, *w.shape)), params) | {"a": GRADIENTS["a"]}
    found, _ = run(OPTIMIZERS[name](jr.L1(LAM[name])), params, gradients)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)


PLAIN = {"link": optax.sgd(RATE), "sgd": optax.sgd(RATE, 0.9), "adam": optax.adam(RATE)}


@pytest.mark.parametrize(
    "name",
    [
        "link",
        "sgd",
        "adam",
    ],
)
def test_what_no_penalty_sees_gets_the_plain_step(name):
    """Complex numbers are no weights to a penalty."""
    params = {"a": PARAMS["a"], "z": jnp.array([1.0 + 2.0j])}
    gradients = {"a": GRADIENTS["a"], "z": jnp.full((6, 1), 0.5 - 1.0j)}
    found, _ = run(OPTIMIZERS[name](jr.L1(LAM[name])), params, gradients)
    assert_same(found["a"], bare(name)["a"], 1e-12, 1e-14)
    np.testing.assert_allclose(found["z"], run(PLAIN[name], params, gradients)[0]["z"], rtol=1e-12)


@every_optimizer
def test_a_tree_of_one_number(name):
    first = lambda x: {"one": x["a"][..., 0]}  # noqa: E731
    assert_same(
        run(OPTIMIZERS[name](jr.L1(LAM[name])), first(PARAMS), first(GRADIENTS))[0],
        first(bare(name)),
        1e-12,
        1e-14,
    )


def test_an_endless_step_without_a_penalty_is_no_step():
    """Adagrad's metric is infinite where no gradient has been seen yet and nothing is added to it."""
    optimizer = T.proximal_adagrad(RATE, jr.L1(0.1, weights=[0.0, 1.0]), 0.0, 0.0)
    found, _ = run(optimizer, jnp.ones(2), jnp.zeros((1, 2)))
    np.testing.assert_array_equal(found, [1.0, 0.0])


@every_optimizer
def test_leaves_of_different_types(name):
    """Each leaf gets what it gets alone, and keeps its type."""
    types = {"a": "bfloat16", "b": {"c": "float32"}}
    w, g = (jax.tree.map(lambda x, t: x.astype(t), tree, types) for tree in (PARAMS, GRADIENTS))
    optimizer = OPTIMIZERS[name](jr.L1(LAM[name]))
    found, _ = run(optimizer, w, g)
    for key in "ab":
        assert_same(found[key], run(optimizer, w[key], g[key])[0], 1e-6)


@every_optimizer
def test_a_scheduled_penalty_is_that_of_its_step(name):
    """λ is 0 at the first step and large at the second."""
    optimizer = OPTIMIZERS[name](lambda count: jr.L1(1e6 * count))
    one, two = (jax.tree.map(lambda g, k=k: g[:k], GRADIENTS) for k in (1, 2))
    assert_same(run(optimizer, PARAMS, one)[0], run(OPTIMIZERS[name](jr.L1(0.0)), PARAMS, one)[0], 1e-12)
    assert_same(run(optimizer, PARAMS, two)[0], jax.tree.map(jnp.zeros_like, PARAMS))


# ---------------------------------------------------------------- decay

N, F, STEPS = 80, 6, 2500
X = draw(N, F, seed=5)
Y = X @ jnp.array([2.0, -1.5, 0.6, 0.3, 0.0, -0.1]) + 0.3 * draw(N, seed=6)
PROBLEM = jr.Problem(jr.losses.SquaredError(), X, Y, intercept=False)


def ends_at(optimizer):
    loss = lambda w, batch: 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)  # noqa: E731
    return jax.jit(lambda: jr.train(loss, jnp.zeros(F), optimizer, (X, Y), steps=STEPS)[0])()


FALLING = optax.cosine_decay_schedule(0.05, STEPS)
RIDGE = {
    "l2 and sgd": lambda lam: optax.chain(T.l2_decay(lam), optax.sgd(0.2)),
    "l2 and momentum": lambda lam: optax.chain(T.l2_decay(lam), optax.sgd(0.05, 0.9)),
    "l2 and adam": lambda lam: optax.chain(T.l2_decay(lam), optax.adam(FALLING)),
    "sgd and decoupled": lambda lam: optax.chain(optax.sgd(0.2), T.decoupled_l2_decay(lam, 0.2)),
}


@pytest.mark.parametrize("name", list(RIDGE))
def test_decay_that_is_the_l2_of_the_cost(name):
    expected = jr.solve(PROBLEM, jr.SquaredL2(0.8), tol=1e-14).coef
    np.testing.assert_allclose(ends_at(RIDGE[name](0.8)), expected, atol=1e-6)


def test_adam_with_decoupled_decay_ends_in_a_box():
    """At min f(w) over ‖w‖∞ ≤ 1/λ, with some weights on the boundary; not at the ridge solution."""
    lam = 1.25
    box = jr.solve(PROBLEM, jr.Box(-1 / lam, 1 / lam), tol=1e-12).coef
    assert jnp.sum(jnp.abs(box) > 1 / lam - 1e-9) == 2
    # At the default b2 Adam's rates forget too slowly to come to rest in a short run.
    found = ends_at(optax.chain(optax.adam(FALLING, b2=0.95), T.decoupled_l2_decay(lam, FALLING)))
    np.testing.assert_allclose(found, box, atol=1e-5)
    ridge = jr.solve(PROBLEM, jr.SquaredL2(lam), tol=1e-12).coef
    assert jnp.max(jnp.abs(found - ridge)) > 0.1


TREE = {"w": draw(2, 3), "rest": {"b": draw(3, seed=2)}}
SLOPES = jax.tree.map(lambda w: draw(20, *w.shape, seed=7), TREE)
MASKS = {
    "none": None,
    "one boolean": True,
    "nothing": False,
    "prefix": {"w": True, "rest": False},
    "other prefix": {"w": False, "rest": True},
    "function": lambda params: jax.tree.map(lambda w: w.ndim == 1, params),
    "weights_only": jr.masks.weights_only,
    "by_path": jr.masks.by_path("rest/b"),
}


LAMBDA, ETA = optax.linear_schedule(1.0, 0.2, 10), optax.linear_schedule(0.1, 0.01, 15)


@pytest.mark.parametrize(("mask", "lam"), [*((mask, 0.7) for mask in MASKS), ("prefix", LAMBDA)])
def test_decay_is_that_of_optax(mask, lam):
    mask = MASKS[mask]
    ours = optax.chain(T.l2_decay(lam, mask), optax.sgd(RATE, 0.9))
    theirs = optax.chain(optax.add_decayed_weights(lam, mask), optax.sgd(RATE, 0.9))
    assert_same(run(ours, TREE, SLOPES)[0], run(theirs, TREE, SLOPES)[0], 1e-12)


@pytest.mark.parametrize(("mask", "rate"), [*((mask, 0.1) for mask in MASKS), ("prefix", ETA)])
def test_decoupled_decay_is_that_of_adamw(mask, rate):
    mask = MASKS[mask]
    ours = optax.chain(optax.adam(rate), T.decoupled_l2_decay(0.7, rate, mask))
    theirs = optax.adamw(rate, weight_decay=0.7, mask=mask)
    # A schedule is a number in single precision.
    assert_same(run(ours, TREE, SLOPES)[0], run(theirs, TREE, SLOPES)[0], 1e-6 if callable(rate) else 1e-12)


def test_a_decay_scheduled_twice():
    """λ and the rate of a decoupled decay each follow their own schedule."""
    lam, rate = optax.linear_schedule(1.0, 0.0, 6), optax.linear_schedule(0.5, 0.1, 4)
    link = T.decoupled_l2_decay(lam, rate)
    found, _ = run(link, TREE, jax.tree.map(lambda g: 0 * g[:5], SLOPES))
    assert_same(
        found, jax.tree.map(lambda w: w * np.prod([1 - lam(k) * rate(k) for k in range(5)]), TREE), 1e-6
    )


def test_a_mask_inside_a_leaf():
    inside = jnp.array([[True, False, True], [False, False, True]])
    link = T.l2_decay(0.5, {"w": inside, "rest": False})
    updates, _ = link.update(jax.tree.map(jnp.ones_like, TREE), link.init(TREE), TREE)
    np.testing.assert_array_equal(updates["w"], jnp.where(inside, 1 + 0.5 * TREE["w"], 1.0))
    np.testing.assert_array_equal(updates["rest"]["b"], 1.0)


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam, mask=None: T.decoupled_l2_decay(lam, -1.0, mask)])
def test_decay_keeps_what_it_does_not_decay(make, dtype):
    """Updates keep their types and None; integers pass through; λ = 0 changes nothing."""
    params = {"w": jnp.ones(3, dtype), "n": jnp.arange(2), "none": jnp.ones(2, dtype)}
    updates = {"w": jnp.ones(3, dtype), "n": jnp.arange(2), "none": None}
    link = make(0.5)
    new, _ = link.update(updates, link.init(params), params)
    assert new["none"] is None and new["w"].dtype == dtype
    np.testing.assert_array_equal(new["w"], 1.5)
    np.testing.assert_array_equal(new["n"], updates["n"])
    none = make(0.0)
    assert_same(none.update(updates, none.init(params), params)[0], updates)


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam: T.decoupled_l2_decay(lam, -1.0)])
def test_a_decay_over_lambdas_and_injected(make):
    def update(link):
        return link.update(jnp.zeros(2), link.init(jnp.ones(2)), jnp.ones(2))[0]

    lams = jnp.arange(3.0)
    found = jax.jit(jax.vmap(lambda lam: update(make(lam))))(lams)
    np.testing.assert_array_equal(found, jnp.stack([lams, lams], axis=1))
    np.testing.assert_array_equal(update(optax.inject_hyperparams(make)(lam=0.5)), 0.5)


@pytest.mark.parametrize("make", [T.l2_decay, lambda lam, mask=None: T.decoupled_l2_decay(lam, 0.1, mask)])
def test_decay_refuses(make):
    for lam in (-0.1, float("nan"), [0.1, 0.2]):
        with pytest.raises((ValueError, TypeError)):
            make(lam)
    link = make(0.1)
    with pytest.raises(ValueError, match="needs the params"):
        link.update(TREE, link.init(TREE))
    for mask in ({"w": True}, {"w": True, "rest": True, "more": True}, {"w": 1.0, "rest": 0.0}):
        with pytest.raises(ValueError, match="mask"):
            link = make(0.1, mask)
            link.update(TREE, link.init(TREE), TREE)


# ---------------------------------------------------------------- the proximal step comes last

ONE = T.proximal_sgd(0.1, jr.L1(0.1))
WRONG = {
    "a scale after it": optax.chain(T.proximal(jr.L1(0.1), 0.1), optax.scale(0.5)),
    "an average after it": optax.chain(
        optax.chain(optax.sgd(0.1), T.proximal(jr.L1(0.1), 0.1)), optax.ema(0.9)
    ),
    "two of them": optax.chain(T.proximal(jr.L1(0.1), 0.1), T.proximal(jr.NonNegative(), 0.1)),
    "adam before sgd": optax.chain(T.proximal_adam(0.1, jr.L1(0.1)), optax.sgd(0.1)),
    "inside a wrapper": optax.MultiSteps(optax.chain(ONE, optax.scale(0.5)), 2),
    "around a wrapper": optax.chain(optax.masked(ONE, True), optax.scale(0.5)),
    "inside injected": optax.inject_hyperparams(
        lambda lam: optax.chain(T.proximal_sgd(0.1, jr.L1(lam)), optax.scale(0.5))
    )(lam=0.1),
    "inside a part": optax.partition({"p": optax.chain(ONE, optax.scale(0.5)), "q": optax.sgd(0.1)}, "p"),
    "schedule-free": optax.contrib.schedule_free(ONE, 0.1),
    "lookahead": optax.lookahead(ONE, 5, 0.5),
    "lookahead in a chain": optax.chain(optax.lookahead(ONE, 5, 0.5)),
    "a named chain": optax.named_chain(("prox", ONE), ("scale", optax.scale(0.5))),
}
RIGHT = {
    "alone": ONE,
    "last": optax.chain(optax.clip(1.0), optax.sgd(0.1), T.proximal(jr.L1(0.1), 0.1)),
    "nested": optax.chain(optax.clip(1.0), optax.chain(optax.sgd(0.1), T.proximal(jr.L1(0.1), 0.1))),
    "MultiSteps": optax.MultiSteps(ONE, 2),
    "apply_if_finite": optax.apply_if_finite(ONE, 3),
    "inject_hyperparams": optax.inject_hyperparams(lambda lam: T.proximal_sgd(0.1, jr.L1(lam)))(lam=0.1),
    "masked": optax.masked(ONE, True),
    "partition": optax.partition({"p": ONE, "q": T.proximal_adam(0.1, jr.L1(0.1))}, {"a": "p", "b": "q"}),
    "named chain": optax.named_chain(("clip", optax.clip(1.0)), ("prox", ONE)),
    "all of them": optax.MultiSteps(optax.apply_if_finite(optax.chain(optax.masked(ONE, True)), 3), 2),
    "no prox at all": optax.chain(optax.adam(0.1), optax.ema(0.9)),
    "lookahead without prox": optax.lookahead(optax.sgd(0.1), 5, 0.5),
}


def start(name, optimizer):
    synced = optax.LookaheadParams.init_synced(PARAMS) if "lookahead" in name else PARAMS
    return optimizer.init(synced)


@pytest.mark.parametrize("name", list(WRONG))
def test_what_destroys_zeros_is_refused(name):
    with pytest.raises(ValueError, match=r"exact zeros|destroy its zeros"):
        T.require_last(start(name, WRONG[name]))


@pytest.mark.parametrize("name", list(RIGHT))
def test_what_keeps_zeros_is_accepted(name):
    assert T.require_last(start(name, RIGHT[name])) is None


# ---------------------------------------------------------------- apply_prox


def test_ties_and_bounds_are_exact():
    """Which an update that is added would break."""
    w, moves = draw(2, 80)
    total = P.TotalVariation(0.8)
    new = T.apply_prox(w, moves, total, 1.0)
    np.testing.assert_array_equal(new, total.prox(w + moves, 1.0))
    assert len(np.unique(new)) < 50
    box = jr.Box(-0.3, 0.7)
    new = T.apply_prox(w, moves, box, 1.0)
    np.testing.assert_array_equal(new, jnp.clip(w + moves, -0.3, 0.7))
    assert box.value(new) == 0 and jnp.sum(new == 0.7) > 9 and jnp.sum(new == -0.3) > 9


def test_a_step_for_each_coordinate():
    w, moves = draw(2, 9)
    step = jnp.linspace(0.0, 2.0, 9)
    expected = jr.thresholds.soft(w + moves, 0.5 * step)
    np.testing.assert_array_equal(T.apply_prox(w, moves, jr.L1(0.5), step), expected)


@pytest.mark.parametrize("of_params", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("of_updates", ["float32", "bfloat16"])
def test_the_params_keep_their_types(of_params, of_updates):
    w, moves = jnp.ones(5, of_params), jnp.linspace(-2, 2, 5).astype(of_updates)
    new = T.apply_prox(w, moves, jr.L1(1.0), 0.5)
    assert new.dtype == of_params
    np.testing.assert_array_equal(new.astype(float), [-0.5, 0.0, 0.5, 1.5, 2.5])


class Model(eqx.Module):
    """A network, a counter, a number, and a part that is missing."""

    mlp: eqx.nn.MLP
    steps: jax.Array
    rate: float
    missing: None = None
    name: str = eqx.field(static=True, default="a model")


MODEL = Model(eqx.nn.MLP(3, "scalar", 4, 1, key=jax.random.key(0)), jnp.array(7), 0.1)


def model_loss(model, x, y):
    return jnp.mean((jax.vmap(model.mlp)(x) - y) ** 2)


@every_optimizer
def test_modules(name):
    """By eqx.filter, as Equinox does it: weights move, all else stays."""
    optimizer = OPTIMIZERS[name](jr.L1(LAM[name]))
    x = draw(20, 3)
    gradient = eqx.filter_jit(eqx.filter_grad(model_loss))(MODEL, x, x[:, 0])
    floats = eqx.filter(MODEL, eqx.is_inexact_array)
    updates, _ = jax.jit(lambda g, w: optimizer.update(g, optimizer.init(w), w))(gradient, floats)
    added = eqx.apply_updates(MODEL, updates)
    assert any(np.any(z) for z in zeros(eqx.filter(added, eqx.is_inexact_array)))
    moves = jax.tree.map(lambda g: -RATE * g, gradient)
    assigned = T.apply_prox(MODEL, moves, jr.L1(LAM[name]), RATE)
    for new in (added, assigned):
        assert jax.tree.structure(new) == jax.tree.structure(MODEL)
        assert new.steps is MODEL.steps and new.rate == 0.1 and new.missing is None
    if name in ("link", "sgd"):
        for a, b in zip(jax.tree.leaves(added.mlp), jax.tree.leaves(assigned.mlp), strict=True):
            if eqx.is_inexact_array(a):
                np.testing.assert_array_equal(a == 0, b == 0)
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_leaf_without_an_update():
    """The prox still sees it in apply_prox; a link leaves its None alone."""
    params, moves = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": -jnp.ones(2), "b": None}
    new = T.apply_prox(params, moves, jr.L1(0.25), 1.0)
    assert_same(new, {"a": jnp.zeros(2), "b": jnp.full(2, 0.75)})
    link = T.proximal(jr.L1(0.25), 1.0)
    updates, _ = link.update(moves, link.init(params), params)
    assert updates["b"] is None
    np.testing.assert_array_equal(updates["a"], -1.0)
