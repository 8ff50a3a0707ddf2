"""Laws of every penalty, found by walking `__all__`."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg import penalties
from jaxreg.penalties import Masked

COMBINED = ("Masked", "Scaled", "Sum")
BASES = [
    n
    for n in penalties.__all__
    if inspect.isclass(getattr(penalties, n))
    and issubclass(getattr(penalties, n), penalties.Penalty)
    and not inspect.isabstract(getattr(penalties, n))
    and n not in COMBINED
]
P = 6
w6 = jnp.array([1.0, 0.0, jnp.inf, 0.5, 2.0, 1.0])
MEMBERS = {name: getattr(penalties, name)() for name in BASES} | {
    "L1 weights": jr.L1(0.7, weights=w6),
    "SquaredL2 weights": jr.SquaredL2(0.7, weights=w6),
    "ElasticNet weights": jr.ElasticNet(0.7, 0.3, weights=w6),
    "Box": jr.Box(-0.5, 1.0),
    "Box away from 0": jr.Box(0.25, jnp.array([1.0, 2.0, jnp.inf, 1.0, 0.25, 3.0])),
    "L1 + SquaredL2": jr.L1(0.5) + 0.3 * jr.SquaredL2(2.0),
    "L1 + NonNegative": jr.L1(0.5, weights=w6) + jr.NonNegative(),
    "ElasticNet + Box": jr.ElasticNet(1.0, 0.5) + jr.Box(-0.2, 0.4),
    "2 L1": 2.0 * jr.L1(0.5),
    "Masked": Masked(jr.L1(1.0) + jr.Box(-1.0, 1.0), jnp.arange(P) % 2 == 0),
}
IDS = list(MEMBERS)
rng = np.random.default_rng(1)
V = jnp.asarray(np.concatenate([rng.normal(size=(40, P)) * 2, np.zeros((1, P)), np.full((1, P), 0.5)]))


def cast(penalty, dtype):
    """The penalty with its numbers in this dtype."""
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype != bool else x, penalty)


def test_every_member_is_here():
    assert {"L1", "SquaredL2", "ElasticNet", "Box", "NonNegative"} <= set(BASES)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("step", [0.3, 1.0, 5.0])
def test_prox_beats_a_global_grid(name, step):
    penalty = MEMBERS[name]
    u = penalty.prox(V[0], step)
    own = penalty.value(u)
    assert jnp.isfinite(own)
    best = 0.5 * jnp.sum((u - V[0]) ** 2) + step * own
    grid = jnp.concatenate([jnp.linspace(-6, 6, 2401), jnp.array([0.0, 0.25, -0.5, 1.0, -0.2, 0.4])])
    for j in range(P):
        other = jax.vmap(lambda g, j=j: u.at[j].set(g))(grid)
        costs = 0.5 * jnp.sum((other - V[0]) ** 2, axis=1) + step * jax.vmap(penalty.value)(other)
        assert best <= jnp.min(costs) + 1e-12


@pytest.mark.parametrize("name", IDS)
def test_step_zero_projects_on_the_domain(name):
    penalty = MEMBERS[name]
    u = jax.vmap(lambda v: penalty.prox(v, 0.0))(V)
    assert jnp.all(jnp.isfinite(jax.vmap(penalty.value)(u)))
    inside = jnp.isfinite(jax.vmap(penalty.value)(V))
    np.testing.assert_array_equal(u[inside], V[inside])
    np.testing.assert_array_equal(jax.vmap(lambda v: penalty.prox(v, 0.0))(u), u)


@pytest.mark.parametrize("name", IDS)
def test_prox_is_firmly_nonexpansive(name):
    penalty = MEMBERS[name]
    a, b = V[:20], V[20:40]
    pa, pb = (jax.vmap(lambda v: penalty.prox(v, 0.8))(x) for x in (a, b))
    assert jnp.all(jnp.sum((pa - pb) ** 2, 1) <= jnp.sum((pa - pb) * (a - b), 1) + 1e-12)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("step", [0.4, 2.0])
def test_moreau_and_fenchel_young(name, step):
    """u = prox(v) and q = (v − u)/step are a dual pair: value(u) + conjugate(q) = ⟨u, q⟩."""
    penalty = MEMBERS[name]
    for v in V:
        u = penalty.prox(v, step)
        q = (v - u) / step
        q = q * penalty.dual_scale(q)
        pair = penalty.value(u) + penalty.conjugate(q) - jnp.sum(u * q)
        assert abs(pair) <= 1e-10, (v, u, q)


@pytest.mark.parametrize("name", IDS)
def test_dual_scale_is_the_largest(name):
    penalty = MEMBERS[name]
    u = 3.0 * V[0]
    s = penalty.dual_scale(u)
    assert jnp.isfinite(penalty.conjugate(s * u * (1 - 1e-12)))
    assert s == 1 or jnp.isinf(penalty.conjugate((s + 1e-6) * u))


@pytest.mark.parametrize("name", IDS)
def test_conjugate_is_the_supremum(name):
    penalty = MEMBERS[name]
    u = 0.4 * V[1]
    u = u * penalty.dual_scale(u) * (1 - 1e-12)
    grid = jnp.linspace(-30, 30, 60001)
    zero = penalty.prox(jnp.zeros(P), 0.0)
    rest = penalty.value(zero)
    total = 0.0
    for j in range(P):
        inside = jax.vmap(lambda g, j=j: penalty.prox(jnp.full(P, g), 0.0)[j])(grid)
        values = jax.vmap(lambda g, j=j: penalty.value(zero.at[j].set(g)))(inside) - rest
        own = jax.vmap(lambda g, j=j: jnp.sum(u * zero.at[j].set(g)))(inside) - jnp.sum(u * zero)
        total += jnp.max(own - values)
    expected = total + jnp.sum(u * zero) - rest
    np.testing.assert_allclose(penalty.conjugate(u), expected, atol=2e-3)


@pytest.mark.parametrize("name", IDS)
def test_derivatives(name):
    penalty = MEMBERS[name]
    v, h = V[3] + 0.0137, 1e-6
    _, slope = jax.jvp(lambda v: penalty.prox(v, 0.5), (v,), (jnp.ones(P),))
    quotient = (penalty.prox(v + h, 0.5) - penalty.prox(v - h, 0.5)) / (2 * h)
    np.testing.assert_allclose(slope, quotient, atol=1e-7)
    jacobian = jax.jacrev(lambda v: penalty.prox(v, 0.5))(v)
    np.testing.assert_allclose(jnp.diag(jacobian), slope, atol=1e-12)
    for at in (jnp.zeros(P), penalty.prox(v, 0.5)):
        assert jnp.all(jnp.isfinite(jax.jacfwd(lambda v: penalty.prox(v, 0.5))(at)))
        inside = penalty.prox(at, 0.0)
        assert jnp.all(jnp.isfinite(jax.grad(penalty.value)(inside)))
    in_numbers = jax.grad(lambda p: jnp.sum(p.prox(v, 0.5) ** 2), allow_int=True)(penalty)
    numbers = [x for x in jax.tree.leaves(in_numbers) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in numbers)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("low", ["float32", "float64", "bfloat16"])
def test_dtype_is_kept_and_zeros_are_exact(name, low):
    penalty, v = MEMBERS[name], V.astype(low)
    u = jax.vmap(lambda v: penalty.prox(v, 1.0))(v)
    assert u.dtype == v.dtype
    exact = jax.vmap(lambda v: penalty.prox(v, 1.0))(V)
    near = jnp.abs(exact) < 1e-12
    clear = near & (jnp.abs(jax.vmap(lambda v: penalty.prox(v, 1.0))(V * 1.02)) < 1e-12)
    assert jnp.all(jnp.where(clear, u == 0, True))


@pytest.mark.parametrize("name", IDS)
def test_jit_and_take(name):
    penalty = MEMBERS[name]
    np.testing.assert_array_equal(
        jax.jit(lambda p, v: p.prox(v, 0.5))(penalty, V[0]), penalty.prox(V[0], 0.5)
    )
    index = jnp.array([4, 1, 3])
    np.testing.assert_array_equal(penalty.take(index).prox(V[0][index], 0.5), penalty.prox(V[0], 0.5)[index])


def test_vmap_over_lambda_is_the_loop():
    lams = jnp.array([0.0, 0.1, 1.0, 10.0])
    for family in (
        jr.L1,
        jr.SquaredL2,
        lambda lam: jr.ElasticNet(lam, 0.3),
        lambda lam: jr.L1(lam) + jr.Box(0, 1),
    ):
        batch = jax.vmap(lambda lam, family=family: family(lam).prox(V[0], 1.0))(lams)
        np.testing.assert_array_equal(batch, jnp.stack([family(lam).prox(V[0], 1.0) for lam in lams]))
        np.testing.assert_array_equal(
            jnp.stack([penalties.over(family, lams).at(k).prox(V[0], 1.0) for k in range(4)]), batch
        )


def test_pytree_equals_flat():
    tree = {"a": V[0][:2], "b": [V[0][2:].reshape(2, 2)]}
    for penalty in (jr.L1(0.3, weights=w6), jr.ElasticNet(0.5, 0.5), jr.L1(0.2) + jr.Box(-1.0, 1.0)):
        flat = penalty.prox(V[0], 1.0)
        out = penalty.prox(tree, 1.0)
        np.testing.assert_array_equal(jnp.concatenate([out["a"], out["b"][0].ravel()]), flat)
        assert jnp.isclose(penalty.value(out), penalty.value(flat))


def test_weights_for_every_column():
    W = V[:6, :3]
    penalty = jr.L1(0.5, weights=w6)
    columns = jnp.stack([penalty.prox(W[:, k], 1.0) for k in range(3)], axis=1)
    np.testing.assert_array_equal(penalty.prox(W, 1.0), columns)


def test_masks():
    tree = {"w": V[:3], "b": V[0]}
    for mask in ({"w": True, "b": False}, lambda params: {k: x.ndim > 1 for k, x in params.items()}):
        out = Masked(jr.L1(0.5), mask).prox(tree, 1.0)
        np.testing.assert_array_equal(out["b"], tree["b"])
        np.testing.assert_array_equal(out["w"], jr.L1(0.5).prox(tree["w"], 1.0))
    with pytest.raises(ValueError, match="not a prefix"):
        Masked(jr.L1(0.5), {"w": True, "c": False}).value(tree)


def test_one_step_per_coordinate():
    step = jnp.linspace(0.1, 2.0, P)
    for name in IDS:
        out = MEMBERS[name].prox(V[0], step)
        for j in range(P):
            np.testing.assert_allclose(out[j], MEMBERS[name].prox(V[0], step[j])[j], rtol=1e-15)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: jr.L1(-1.0), "≥ 0"),
        (lambda: jr.L1(np.nan), "≥ 0"),
        (lambda: jr.L1(1.0, weights=[-1.0]), "weights"),
        (lambda: jr.ElasticNet(1.0, 1.5), "l1_ratio"),
        (lambda: jr.Box(1.0, 0.0), "crossed"),
        (lambda: -1.0 * jr.L1(1.0), "factor"),
        (lambda: jr.L1(1.0, weights=jnp.ones(4)).value(jnp.ones(5)), "does not fit"),
        (lambda: (jr.Box(0.0, 1.0) + jr.Box(2.0, 3.0)).prox(jnp.ones(2), 1.0), "crossed"),
    ],
)
def test_bad_numbers(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_l2_says_which():
    with pytest.raises(AttributeError, match="SquaredL2"):
        jr.L2  # noqa: B018
