"""Penalties on models: Equinox modules, nested dicts, lists; what is no weight passes through; `jr.cost`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from tests.members import COMBINED, MEMBERS, P

masks = P.masks


class Model(eqx.Module):
    """A network with a counter, a buffer of integers, a rate that is a Python number, and a missing part."""

    mlp: eqx.nn.MLP
    steps: jax.Array
    labels: np.ndarray
    missing: None
    rate: float
    name: str = eqx.field(static=True)


MODEL = Model(eqx.nn.MLP(3, 1, 4, 2, key=jax.random.key(0)), jnp.array(7), np.arange(4), None, 0.1, "a model")
FLAX = jax.device_put(
    {
        "params": {
            "Dense_0": {"kernel": np.full((3, 4), 0.6), "bias": np.zeros(4)},
            "Dense_1": {"kernel": np.full((4, 1), -2.0), "bias": None},
        },
        "batch_stats": {"count": np.array(3), "mean": [np.ones(4), np.zeros(2)]},
    }
)


def predict(model, x):
    return model.mlp(x)[0]


def test_a_whole_module():
    out = jr.L1(1.0).prox(MODEL, 0.05)
    assert jax.tree.structure(out) == jax.tree.structure(MODEL)
    assert out.steps is MODEL.steps and out.labels is MODEL.labels and out.rate == 0.1
    for new, old in zip(jax.tree.leaves(out.mlp), jax.tree.leaves(MODEL.mlp), strict=True):
        if eqx.is_inexact_array(old):
            np.testing.assert_allclose(new, np.sign(old) * np.maximum(np.abs(old) - 0.05, 0), atol=1e-7)
        else:
            assert new is old
    expected = sum(jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(eqx.filter(MODEL.mlp, eqx.is_inexact_array)))
    np.testing.assert_allclose(jr.L1(1.0).value(MODEL), expected, rtol=1e-6)
    assert jnp.isfinite(P.LInf(0.1).value(MODEL)) and P.L2Ball(0.1).value(MODEL) == jnp.inf


@pytest.mark.parametrize(
    "penalty",
    [
        P.Masked(P.RowL2(0.5, axis=0), masks.by_path("layers/0/weight")) + P.SquaredL2(0.1),
        P.Masked(P.NuclearNorm(0.5), masks.weights_only),
        P.LInf(0.5) + P.SquaredL2(0.1),
        P.L2Ball(1.0),
    ],
    ids=["input groups", "low rank", "LInf", "ball"],
)
def test_a_module_under_jit_and_filtered(penalty):
    out = penalty.prox(MODEL, 0.3)
    for tree in (eqx.filter(MODEL, eqx.is_inexact_array), MODEL):
        again = eqx.filter_jit(lambda p, m: p.prox(m, 0.3))(penalty, tree)
        for new, old in zip(
            jax.tree.leaves(eqx.filter(again, eqx.is_inexact_array)),
            jax.tree.leaves(eqx.filter(out, eqx.is_inexact_array)),
            strict=True,
        ):
            assert new.dtype == old.dtype
            np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


def test_input_groups_of_a_first_layer_vanish():
    p = P.Masked(P.RowL2(3.0, axis=0), masks.by_path("layers/0/weight"))
    out = p.prox(MODEL, 0.3).mlp
    gone = np.all(np.asarray(out.layers[0].weight) == 0, axis=0)
    norms = np.linalg.norm(MODEL.mlp.layers[0].weight, axis=0)
    np.testing.assert_array_equal(gone, norms <= 0.9)
    np.testing.assert_array_equal(out.layers[1].weight, MODEL.mlp.layers[1].weight)


def test_nested_dicts():
    p = P.Masked(P.L1(1.0), masks.by_path("kernel")) + P.Masked(P.SquaredL2(1.0), masks.by_path("bias"))
    out = p.prox(FLAX, 0.5)
    np.testing.assert_allclose(out["params"]["Dense_0"]["kernel"], 0.1 * jnp.ones((3, 4)), rtol=1e-6)
    np.testing.assert_allclose(out["params"]["Dense_1"]["kernel"], jnp.full((4, 1), -1.5))
    assert out["params"]["Dense_1"]["bias"] is None
    assert out["batch_stats"]["count"] is FLAX["batch_stats"]["count"]
    np.testing.assert_array_equal(out["batch_stats"]["mean"][0], jnp.ones(4))


def test_leaves_without_dimension_or_entries():
    tree = {"scale": np.asarray(2.0), "none": np.zeros(0), "w": np.array([1.0, -3.0])}
    penalties = (P.L1(0.5), P.LInf(0.5), P.L2Ball(1.0), P.MCP(0.5), P.SortedL1([1.0, 0.5, 0.1]))
    evaluate = jax.jit(lambda params: [(p.prox(params, 1.0), p.value(params)) for p in penalties])
    for (out, value), (flat, wanted) in zip(
        evaluate(tree), evaluate(np.array([2.0, 1.0, -3.0])), strict=True
    ):
        assert out["scale"].shape == () and out["none"].shape == (0,)
        np.testing.assert_allclose([out["scale"], *np.asarray(out["w"])], flat, rtol=1e-12)
        np.testing.assert_allclose(value, wanted)


def test_mixed_precision_leaves_keep_their_dtypes():
    tree = {"a": jnp.ones(3, "bfloat16"), "b": jnp.ones(2, "float32"), "c": jnp.ones(1, "float64")}
    for p in (P.L1(0.5), P.LInf(0.5), P.GroupL2(0.5, [0, 0, 1, 1, 2, 2]), P.LInf(0.5) + P.SquaredL2(0.5)):
        out = p.prox(tree, 1.0)
        assert {k: x.dtype.name for k, x in out.items()} == {"a": "bfloat16", "b": "float32", "c": "float64"}


X = jax.random.normal(jax.random.key(1), (20, 3))
Y = X[:, 0]


def loss(model, x, y):
    return jnp.mean((jax.vmap(lambda x: predict(model, x))(x) - y) ** 2)


def test_cost_is_loss_plus_complexity():
    penalty = jr.L1(0.1) + 0.5 * jr.SquaredL2(0.1)
    total = jr.cost(loss, penalty)
    np.testing.assert_allclose(total(MODEL, X, Y), loss(MODEL, X, Y) + penalty.value(MODEL), rtol=1e-6)
    value, slope = eqx.filter_jit(eqx.filter_value_and_grad(total))(MODEL, X, Y)
    np.testing.assert_allclose(value, total(MODEL, X, Y), rtol=1e-6)
    own = eqx.filter_grad(loss)(MODEL, X, Y).mlp.layers[0].weight
    w = MODEL.mlp.layers[0].weight
    np.testing.assert_allclose(slope.mlp.layers[0].weight, own + 0.1 * jnp.sign(w) + 0.05 * w, rtol=1e-5)
    assert slope.steps is None and total.__name__ == "loss"


def test_cost_keeps_what_comes_beside_the_loss():
    def with_aux(model, x, y):
        return loss(model, x, y), {"n": len(y)}

    value, aux = jr.cost(with_aux, jr.L1(0.1), has_aux=True)(MODEL, X, Y)
    assert aux == {"n": 20}
    np.testing.assert_allclose(value, jr.cost(loss, jr.L1(0.1))(MODEL, X, y=Y), rtol=1e-6)


def test_cost_over_a_grid_and_its_derivative_in_lambda():
    lams = jnp.array([0.0, 0.1, 1.0])
    w = jnp.array([1.0, -2.0, 0.0])

    def total(lam):
        return jr.cost(lambda w: jnp.sum(w**2), jr.L1(lam))(w)

    np.testing.assert_allclose(jax.vmap(total)(lams), 5.0 + 3.0 * lams)
    np.testing.assert_allclose(jax.vmap(jax.grad(total))(lams), 3.0)
    two = jax.vmap(lambda w: jr.cost(lambda w: jnp.sum(w**2), jr.L1(1.0))(w))(jnp.stack([w, 2 * w]))
    np.testing.assert_allclose(two, [8.0, 26.0])


def test_cost_wants_a_penalty():
    with pytest.raises(TypeError, match="wanted a penalty"):
        jr.cost(loss, 0.1)


def test_the_gradient_of_a_cost_is_at_rest_at_exact_zeros():
    """What the prox has put to 0 is not pushed away by the gradient of the penalty."""
    penalties = (
        jr.L1(1.0),
        jr.ElasticNet(1.0),
        P.MCP(1.0),
        P.SCAD(1.0),
        P.CappedL1(1.0),
        P.LogSum(1.0),
        P.LInf(1.0),
    )
    for gradient in jax.jit(lambda w: [jax.grad(p.value)(w) for p in penalties])(np.zeros(3)):
        np.testing.assert_array_equal(gradient, np.zeros(3))


def test_no_weights_at_all_is_an_error():
    for tree in ({}, {"n": jnp.arange(3)}, [1.0, 2], None):
        with pytest.raises(TypeError, match="no array of floats"):
            jr.L1(1.0).value(tree)


COMPLEX = {"a": jnp.ones((3, 2)), "c": {"z": jnp.ones((2, 2), complex)}}
REAL_ONLY = {"a": True, "c": False}


def refusing(penalty, params):
    """The methods of a penalty, each to be called on params."""
    methods = [penalty.value, lambda w: penalty.prox(w, 1.0)]
    if penalty.has_conjugate:
        methods += [penalty.conjugate, penalty.dual_scale, penalty.project_on_unpenalised]
    return [lambda method=method: method(params) for method in methods]


@pytest.mark.parametrize("name", [n for n in MEMBERS if n not in COMBINED])
def test_complex_weights_are_refused(name):
    penalty = MEMBERS[name].example((3, 2))
    mixed = (penalty + P.SquaredL2(0.1), 2.0 * penalty, P.Masked(penalty, P.masks.by_path("z")))
    everywhere = P.Partition({"x": penalty, "y": P.L1(1.0)}, {"a": "x", "c": "y"})
    for whole in (penalty, *mixed, everywhere):
        for call in refusing(whole, COMPLEX):
            with pytest.raises(TypeError, match=r"complex weights at c/z .* \(2, 2, 2\).* Masked") as caught:
                call()
            assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="complex weights at params"):
        penalty.prox(jnp.ones((3, 2), "complex64"), 1.0)


@pytest.mark.parametrize("name", [n for n in MEMBERS if n not in (*COMBINED, "Toward")])
def test_a_mask_may_leave_complex_weights_out(name):
    penalty = MEMBERS[name].example((3, 2))
    masked = P.Masked(penalty, REAL_ONLY)
    for whole in (masked, 1.0 * masked, P.Partition({"x": penalty}, {"a": "x", "c": None})):

        def untouched(w, whole=whole):
            out = whole.prox(w, 1.0)
            assert out["c"]["z"] is w["c"]["z"] and out["a"] is not w["a"]
            return whole.value(w)

        assert jax.eval_shape(untouched, COMPLEX).shape == ()


def test_the_values_beside_complex_weights():
    for whole in (P.Masked(P.L1(0.5), REAL_ONLY), P.Partition({"x": P.L1(0.5)}, {"a": "x", "c": None})):
        assert float(whole.value(COMPLEX)) == 3.0
        np.testing.assert_array_equal(whole.prox(COMPLEX, 1.0)["a"], np.full((3, 2), 0.5))


def test_ready_masks_do_not_hide_complex_weights():
    with pytest.raises(TypeError, match="complex weights at c/z"):
        P.Masked(P.L1(1.0), masks.weights_only).value(COMPLEX)
