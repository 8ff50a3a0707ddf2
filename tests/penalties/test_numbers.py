"""Laws of jit, vmap, dtypes, exact zeros and ties, steps per coordinate, `take`, and pytrees."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxreg as jr
from tests.members import COMBINED, LABELS, MEMBERS, PENALTIES, SHAPED, P
from tests.penalties.harness import BROAD, KINDS, STEPS, SUBJECTS, excess

SIX = [n for n in SUBJECTS if SUBJECTS[n].like is PENALTIES["L1 weights"].like or n in MEMBERS]


@pytest.mark.parametrize("name", [n for n in SUBJECTS if n in MEMBERS or ("+" in n and n.count("+") > 1)])
def test_jit_is_eager(name):
    s = SUBJECTS[name]
    for k, t in ((0, 2), (9, 3)):
        out = s.prox_1(s.penalty, jnp.asarray(s.points[k]), jnp.asarray(STEPS[t]))
        np.testing.assert_allclose(out, s.landed[k, t], rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(out == 0, s.landed[k, t] == 0)


def narrow(s, dtype):
    """The prox in a narrow dtype, with the penalty's own numbers as they are."""

    def one(v, t):
        leaves, structure = jax.tree.flatten(s.up(v))
        params = structure.unflatten([x.astype(dtype) for x in leaves])
        return s.penalty.prox(params, t)

    return jax.jit(jax.vmap(one))


def pairs(name: str, U: np.ndarray, size: float) -> np.ndarray:
    """Which pairs of entries are tied: neighbours in a chain, magnitudes elsewhere."""
    if "TotalVariation" in name or "FusedLasso" in name:
        return np.abs(np.diff(U, axis=-1)) <= size
    return np.abs(np.abs(U)[..., :, None] - np.abs(U)[..., None, :]) <= size


#: Those that tie weights, in forms that keep the ties to the last bit.
TIES = ("LInf", "GroupLInf", "SortedL1", "TotalVariation", "FusedLasso", "0.5 LInf", "2 (0.3 SortedL1)")
TIES = [
    n
    for n in SUBJECTS
    if n.startswith(TIES) and not any(x in n for x in ("(3, 2)", "tree", "matrix", "weighted"))
]
#: Those whose zeros are not zeros of the coordinates, or whose result is only rounded.
ROUNDED = ("Orthogonal", "Toward", "NuclearNorm", "TotalVariation")


NARROW = [(n, "bfloat16") for n in BROAD] + [(n, "float32") for n in BROAD if n not in KINDS]


@pytest.mark.parametrize(("name", "dtype"), NARROW)
def test_narrow_dtypes(name, dtype):
    """The dtype is kept, the result near, and what is 0 or tied for all points around it is exactly so."""
    s = SUBJECTS[name]
    eps = float(jnp.finfo(dtype).eps)

    def rounded(x):
        return np.asarray(jnp.asarray(x).astype(dtype).astype(float))

    V, T = np.repeat(rounded(s.points), 3, axis=0), np.tile(rounded([0.3, 1.0, 5.0]), 16)
    out = narrow(s, dtype)(jnp.asarray(V), jnp.asarray(T))
    assert all(x.dtype == dtype for x in jax.tree.leaves(out))
    U = np.concatenate([np.asarray(x, float).reshape(48, -1) for x in jax.tree.leaves(out)], axis=1)
    assert np.all(np.isfinite(U))
    around = [s.prox(np.tile(V * c, (2, 1)), np.tile(T, 2))[:48] for c in (1, 1 + 4 * eps, 1 - 4 * eps)]
    if s.penalty.convex:
        slack = 8 * eps * (np.max(np.abs(V), axis=1, keepdims=True) + T[:, None])
        assert np.all(np.abs(U - around[0]) <= slack), np.max(np.abs(U - around[0]) / slack)
    if not any(word in name for word in ROUNDED):
        zero = np.all([np.abs(u) < 1e-13 for u in around], axis=0)
        assert np.all(U[zero] == 0), (
            V[np.any(zero & (U != 0), axis=1)][:1],
            U[np.any(zero & (U != 0), axis=1)][:1],
        )
    if name in TIES:
        tied = np.all([pairs(name, u, 1e-12) for u in around], axis=0)
        assert np.all(pairs(name, U, 0.0)[tied])


@pytest.mark.parametrize("name", TIES)
def test_ties_are_exact(name):
    U = SUBJECTS[name].landed[:, 2:5]
    assert np.all(pairs(name, U, 0.0)[pairs(name, U, 1e-13)])


@pytest.mark.parametrize("name", [n for n in SUBJECTS if not any(word in n for word in ROUNDED)])
def test_zeros_are_exact(name):
    U = SUBJECTS[name].landed[:, 2:5]
    assert np.all(U[np.abs(U) < 1e-14] == 0)


FAMILIES = {
    "L1": jr.L1,
    "SquaredL2": jr.SquaredL2,
    "ElasticNet": lambda lam: jr.ElasticNet(lam, 0.3),
    "MCP": P.MCP,
    "L1 + Box": lambda lam: jr.L1(lam) + P.Box(0, 1),
    "GroupL2": lambda lam: P.GroupL2(lam, LABELS),
    "SparseGroup + SquaredL2": lambda lam: P.SparseGroup(lam, LABELS) + 0.1 * P.SquaredL2(lam),
    "LInf": P.LInf,
    "SortedL1": lambda lam: P.SortedL1(lam * jnp.linspace(2.0, 0.5, 6)),
    "TotalVariation + L1": lambda lam: P.TotalVariation(lam) + lam * P.L1(0.3),
    "L1Ball": P.L1Ball,
    "Toward": lambda lam: lam * P.Toward(P.L1(1.0), 0.5),
    "Masked": lambda lam: P.Masked(P.HuberNorm(lam), jnp.arange(6) > 2),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_vmap_over_lambda_is_the_loop(name):
    family, v = FAMILIES[name], jnp.asarray(SUBJECTS["L1"].points[0])
    lams = jnp.array([0.0, 0.1, 1.0, 10.0])
    one = eqx.filter_jit(lambda p: p.prox(v, 0.7))
    loop = np.stack([one(family(lam)) for lam in lams])
    grid = P.over(family, lams)
    batch, rows = jax.jit(
        lambda lams: (
            jax.vmap(lambda lam: family(lam).prox(v, 0.7))(lams),
            jax.vmap(lambda part: grid.row(part).prox(v, 0.7))(grid.carried),
        )
    )(lams)
    np.testing.assert_allclose(batch, loop, rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(np.asarray(batch) == 0, loop == 0)
    np.testing.assert_allclose(rows, loop, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(one(grid.at(2)), loop[2], rtol=1e-14)


METRIC = [n for n in BROAD if SUBJECTS[n].penalty.metric]


@pytest.mark.parametrize("name", METRIC)
def test_one_step_per_coordinate(name):
    """The minimiser of Σ(u − v)²/2t + value, and the scalar prox where all steps are one."""
    s = SUBJECTS[name]
    T = np.concatenate(
        [10.0 ** np.random.default_rng(2).uniform(-2, 1.5, size=(15, s.size)), np.full((1, s.size), 0.3)]
    )
    run = jax.jit(jax.vmap(lambda v, t: ravel_pytree(s.penalty.prox(s.up(v), s.up(t)))[0]))
    U = np.asarray(run(jnp.asarray(s.points), jnp.asarray(T)))
    worst, where = excess(s, s.points, U, np.ones(16), T)
    assert worst <= 1, where
    same = np.asarray(run(jnp.asarray(s.points), jnp.full((16, s.size), 0.3)))
    np.testing.assert_allclose(same, s.landed[:, 2], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [n for n in SUBJECTS if not SUBJECTS[n].penalty.metric])
def test_other_penalties_refuse_steps_per_coordinate(name):
    s = SUBJECTS[name]
    with pytest.raises(TypeError) as caught:
        s.penalty.prox(s.like, jax.tree.map(lambda x: 1.0 + jnp.arange(x.size).reshape(x.shape), s.like))
    assert any(word in str(caught.value) for word in MEMBERS) and "\n" not in str(caught.value)


GROUPED = ("GroupL2", "GroupLInf", "GroupMCP", "SparseGroup")


@pytest.mark.parametrize("name", [n for n in SIX if SUBJECTS[n].penalty.separable])
def test_take_then_prox_is_prox_then_take(name):
    s = SUBJECTS[name]
    index = np.array([4, 1, 3])
    part = s.penalty.take(jnp.asarray(index))
    run = jax.jit(jax.vmap(lambda v, t: part.prox(v, t)))
    out = run(jnp.asarray(np.repeat(s.points[:, index], 6, axis=0)), jnp.asarray(np.tile(STEPS, 16)))
    np.testing.assert_allclose(out, s.landed.reshape(96, 6)[:, index], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in SIX
        if (n.split(" ")[0] in GROUPED and "+" not in n) or n in ("3 GroupL2", "GroupL2 + weighted L1")
    ],
)
def test_take_of_whole_groups(name):
    s = SUBJECTS[name]
    index = np.array([0, 1, 4, 5]) if name in GROUPED else np.array([4, 0, 3, 2])  # whole groups
    part = s.penalty.take(jnp.asarray(index))
    run = jax.jit(jax.vmap(lambda v, t: part.prox(v, t)))
    out = run(jnp.asarray(np.repeat(s.points[:, index], 6, axis=0)), jnp.asarray(np.tile(STEPS, 16)))
    np.testing.assert_allclose(out, s.landed.reshape(96, 6)[:, index], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "name",
    ["TotalVariation", "FusedLasso", "Orthogonal", "0.5 TotalVariation", "TotalVariation + L1", "Partition"],
)
def test_what_cannot_be_restricted_says_so(name):
    with pytest.raises(TypeError, match="cannot be restricted"):
        SUBJECTS[name].penalty.take(jnp.array([0, 1]))


def test_take_of_rows():
    """An index restricts the first axis of a matrix."""
    index = jnp.array([2, 0])
    for name in ("L1 rows", "RowL2 + L1 + SquaredL2"):
        s = SUBJECTS[name]
        W = jnp.asarray(s.points[0].reshape(3, 2))
        np.testing.assert_allclose(
            s.penalty.take(index).prox(W[index], 0.3), s.penalty.prox(W, 0.3)[index], rtol=1e-14
        )


ONE_VECTOR = [n for n in MEMBERS if n not in (*COMBINED, *SHAPED, "Toward")]


@pytest.mark.parametrize("name", ONE_VECTOR)
def test_a_tree_and_a_matrix_are_one_vector(name):
    s, matrix = SUBJECTS[name], MEMBERS[name].example((3, 2))

    def split(v):
        return {"a": v[:2], "b": [v[2:].reshape(2, 2), None], "n": jnp.arange(3)}

    def one(v, t):
        out = s.penalty.prox(split(v), t)
        other = matrix.prox(v.reshape(3, 2), t)
        return jnp.concatenate([out["a"], out["b"][0].ravel()]), s.penalty.value(out), other

    U, f, other = jax.jit(jax.vmap(one))(jnp.asarray(s.points), jnp.full(16, 0.3))
    np.testing.assert_allclose(U, s.landed[:, 2], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(other.reshape(16, 6), s.landed[:, 2], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(f, s.formula(s.landed[:, 2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["RowL2", "NuclearNorm", "TotalVariation", "FusedLasso"])
def test_leaf_by_leaf(name):
    p = MEMBERS[name]()
    rng = np.random.default_rng(0)
    tree = {"a": rng.normal(size=(4, 2)) * 2, "b": rng.normal(size=(2, 3)) * 2}
    evaluate = jax.jit(lambda tree: (p.prox(tree, 0.4), p.value(tree)))
    (out, value), leaves = evaluate(tree), {name: evaluate(leaf) for name, leaf in tree.items()}
    for name, (alone, _) in leaves.items():
        np.testing.assert_allclose(out[name], alone, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(value, sum(float(part) for _, part in leaves.values()), rtol=1e-13)


def test_weights_for_every_column():
    W = jnp.asarray(SUBJECTS["L1 rows"].points[:6, :3])
    penalty = jr.L1(0.5, weights=PENALTIES["L1 weights"].penalty.weights)
    columns = jnp.stack([penalty.prox(W[:, k], 1.0) for k in range(3)], axis=1)
    np.testing.assert_array_equal(penalty.prox(W, 1.0), columns)


def test_group_weights_are_roots_of_sizes():
    assert P.GroupL2(1.0, [0, 1, 1, 1, 1]).weights.tolist() == [1.0, 2.0]
    assert P.GroupMCP(1.0, [0, 1, 1, 1, 1]).weights.tolist() == [1.0, 2.0]
    assert P.GroupLInf(1.0, [0, 1, 1, 1, 1]).weights.tolist() == [1.0, 1.0]
