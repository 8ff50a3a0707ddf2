"""Masked, Partition and the ready masks: which leaves a penalty sees, and what else passes through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from tests.members import P

masks = P.masks
rng = np.random.default_rng(2)
TREE = {
    "dense": {"w": jnp.asarray(rng.normal(size=(3, 2)) * 2), "b": jnp.asarray(rng.normal(size=2))},
    "out": [jnp.asarray(rng.normal(size=(2, 2)) * 2), None],
    "count": jnp.arange(3),
}
W, B, OUT = TREE["dense"]["w"], TREE["dense"]["b"], TREE["out"][0]


def leaves(tree):
    return tree["dense"]["w"], tree["dense"]["b"], tree["out"][0]


def assert_same(tree, other):
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-15)


PREFIXES = {
    "leaf by leaf": {"dense": {"w": True, "b": False}, "out": [True, None], "count": False},
    "prefix": {"dense": {"w": True, "b": False}, "out": True, "count": False},
    "callable": masks.weights_only,
    "by path": masks.by_path(r"w$|out/0"),
    "numpy booleans": {"dense": {"w": np.True_, "b": np.False_}, "out": True, "count": False},
}


@pytest.mark.parametrize("inner", [P.L1(0.5), P.LInf(0.5), P.NuclearNorm(0.5), P.RowL2(0.5) + P.L1(0.1)])
@pytest.mark.parametrize("mask", PREFIXES.values(), ids=PREFIXES)
def test_masked_sees_the_selected_leaves(mask, inner):
    p = P.Masked(inner, mask)
    seen = [W, OUT]
    expected = inner.prox(seen, 0.8)
    w, b, out = leaves(p.prox(TREE, 0.8))
    assert_same([w, out], expected)
    np.testing.assert_array_equal(b, B)
    np.testing.assert_allclose(p.value(TREE), inner.value(seen), rtol=1e-14)
    np.testing.assert_array_equal(p.prox(TREE, 0.8)["count"], TREE["count"])
    free = p.project_on_unpenalised(TREE)
    np.testing.assert_array_equal(free["dense"]["b"], B)
    assert not jnp.any(free["dense"]["w"]) and not jnp.any(free["out"][0])


@pytest.mark.parametrize("inner", [P.L1(0.5), P.LInf(0.5), P.MCP(0.5), P.TotalVariation(0.5)])
def test_a_mask_of_nothing(inner):
    p = P.Masked(inner, False)
    assert_same(p.prox([W, B], 0.8), [W, B])
    assert p.value([W, B]) == 0
    if inner.convex:
        assert p.conjugate([0 * W, 0 * B]) == 0 and jnp.isinf(p.conjugate([W, B]))
        assert p.dual_scale([W, B]) == 0 and p.dual_scale([0 * W, 0 * B]) == 1
        assert_same(p.project_on_unpenalised([W, B]), [W, B])


@pytest.mark.parametrize("inner", [P.L1(0.5), P.LInf(0.5), P.MCP(0.5), P.TotalVariation(0.5)])
def test_a_mask_of_everything(inner):
    evaluate = jax.jit(lambda penalties: [(p.prox([W, B], 0.8), p.value([W, B])) for p in penalties])
    (masked, value), (whole, wanted) = evaluate([P.Masked(inner, True), inner])
    assert_same(masked, whole)
    np.testing.assert_allclose(value, wanted, rtol=1e-14)


def test_masks_within_a_leaf():
    rows = jnp.array([True, False, True])
    entries = jnp.asarray(rng.random((3, 2)) < 0.5)
    for mask, full in ((rows, rows[:, None] & jnp.ones((3, 2), bool)), (entries, entries)):
        out = P.Masked(P.L1(0.5), mask).prox(W, 1.0)
        np.testing.assert_array_equal(out, jnp.where(full, P.L1(0.5).prox(W, 1.0), W))
    with pytest.raises(TypeError, match="LInf is not separable"):
        P.Masked(P.LInf(0.5), rows).prox(W, 1.0)


@pytest.mark.parametrize(
    "labels",
    [
        {"dense": {"w": "x", "b": None}, "out": "y", "count": None},
        lambda params: {"dense": {"w": "x", "b": None}, "out": "y", "count": None},
    ],
    ids=["tree", "callable"],
)
def test_partition_is_each_on_its_own(labels):
    x, y = P.NuclearNorm(0.7), P.L1(0.5) + P.SquaredL2(0.2)
    p = P.Partition({"x": x, "y": y}, labels)
    w, b, out = leaves(p.prox(TREE, 0.8))
    assert_same([w, out], [x.prox(W, 0.8), y.prox(OUT, 0.8)])
    np.testing.assert_array_equal(b, B)
    np.testing.assert_allclose(p.value(TREE), x.value(W) + y.value(OUT), rtol=1e-14)
    jitted = jax.jit(lambda p, tree: p.prox(tree, 0.8))  # the labels stay static, the numbers are traced
    w, _, out = leaves(jitted(p, TREE))
    assert_same([w, out], [x.prox(W, 0.8), y.prox(OUT, 0.8)])
    slope = jax.grad(lambda p: p.value(TREE))(p)
    np.testing.assert_allclose(slope.penalties["x"].lam, x.value(W) / 0.7, rtol=1e-12)


def test_ready_masks():
    assert masks.weights_only(TREE) == {"dense": {"w": True, "b": False}, "out": [True, None], "count": False}
    found = masks.by_path("dense")(TREE)
    assert found == {"dense": {"w": True, "b": True}, "out": [False, None], "count": False}


def test_masks_are_those_of_optax():
    """The same callable serves optax.masked."""
    import optax

    state = optax.masked(optax.add_decayed_weights(0.1), masks.by_path("dense/w"))
    params = {"dense": {"w": W, "b": B}}
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = state.update(zero, state.init(params), params)
    slope = jax.grad(P.Masked(jr.SquaredL2(0.1), masks.by_path("dense/w")).value)(params)
    assert_same(updates, slope)


def test_a_mask_does_not_retrace():
    seen = []

    @jax.jit
    def value(p):
        seen.append(1)
        return p.value({"w": W, "b": B})

    for lam in (0.1, 0.2):
        value(P.Masked(P.L1(lam), {"w": True, "b": False}))
        value(P.Masked(P.L1(lam), masks.weights_only))
        value(P.Partition({"x": P.L1(lam)}, {"w": "x", "b": None}))
    assert len(seen) == 3
