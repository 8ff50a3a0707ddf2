"""Penalties of arrays that are spread over devices, on meshes with explicit and with automatic axes."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxreg as jr
from tests.members import PENALTIES, P
from tests.penalties import formulas
from tests.penalties.harness import BROAD, SUBJECTS

KINDS = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
#: Scatter, loops and sort along a dimension that is spread: compiled in one program.
COMPILED = ["GroupL2 uneven", "TotalVariation", "SortedL1 ties"]


def mesh_of(kind: str) -> jax.sharding.Mesh:
    if len(jax.devices()) < 2:
        pytest.skip("needs 2 devices, which a CPU has by XLA's flags alone")
    return jax.make_mesh((2,), ("d",), axis_types=(KINDS[kind],), devices=jax.devices()[:2])


def spec_for(shape: tuple[int, ...]) -> PartitionSpec:
    """The first dimension that two devices can share is spread."""
    even = [k for k, size in enumerate(shape) if size % 2 == 0]
    return PartitionSpec(*("d" if even and k == even[0] else None for k in range(len(shape))))


def spread(tree, mesh):
    """Numbers of both signs, with a tie and a zero, on the mesh."""

    def one(x):
        values = np.resize([1.5, -0.4, 0.0, 1.5, -2.0, 0.3], x.shape)
        return jax.device_put(values, NamedSharding(mesh, spec_for(x.shape)))

    return jax.tree.map(one, tree)


def answers(penalty, params):
    """What a penalty is asked: numbers, and trees like the params."""
    numbers, trees = [penalty.value(params)], [penalty.prox(params, 0.5)]
    if penalty.has_conjugate:
        numbers += [penalty.conjugate(params), penalty.dual_scale(params)]
        trees.append(penalty.project_on_unpenalised(params))
    return numbers, trees


@pytest.mark.parametrize(
    ("name", "context"), [(name, k % 2 == 0) for k, name in enumerate(dict.fromkeys(BROAD))]
)
def test_results_are_spread_as_the_params(name, context):
    """Sharding is part of the type on explicit axes: tracing finds what has no rule, without compiling."""
    penalty, like = PENALTIES[name]
    mesh = mesh_of("explicit")
    seen = []

    def trace(params):
        numbers, trees = answers(penalty, params)
        seen.extend(jax.typeof(x).sharding.spec for x in jax.tree.leaves((numbers, trees)))
        # Numbers meet those of the user's loss, which are explicit too.
        return sum(numbers) + sum(jnp.sum(x) for x in jax.tree.leaves(params))

    with jax.set_mesh(mesh) if context else contextlib.nullcontext():
        params = spread(like, mesh)
        jax.eval_shape(trace, params)
    own = [spec_for(x.shape) for x in jax.tree.leaves(like)]
    count = 1 + 2 * penalty.has_conjugate
    assert seen == [PartitionSpec()] * count + own * (1 + penalty.has_conjugate)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_one_device(kind):
    mesh = mesh_of(kind)
    penalties = {name: PENALTIES[name].penalty for name in COMPILED}
    params = {name: spread(PENALTIES[name].like, mesh) for name in COMPILED}
    found = jax.jit(lambda p, w: {n: (p[n].value(w[n]), p[n].prox(w[n], 0.5)) for n in p})(penalties, params)
    for name, (value, prox) in found.items():
        w = np.asarray(params[name])
        np.testing.assert_allclose(value, formulas.value(penalties[name], w[None])[0], rtol=1e-12)
        # The shape that the laws have compiled already.
        alone = SUBJECTS[name].prox(np.tile(w, (96, 1)), np.full(96, 0.5))[0]
        np.testing.assert_allclose(prox, alone, rtol=1e-12, atol=1e-12)


def test_without_jit_and_under_transformations():
    mesh = mesh_of("explicit")
    w = spread(jnp.zeros(6), mesh)
    where = NamedSharding(mesh, PartitionSpec("d"))
    assert P.L1(0.5).prox(w, 1.0).sharding.is_equivalent_to(where, 1)

    def trace(lam, w):
        tied = jax.vmap(lambda lam: P.TotalVariation(lam).prox(w, 1.0))(lam)
        slope = jax.grad(lambda w: P.SortedL1(np.linspace(1.0, 0.5, 6)).value(w))(w)
        speed = jax.jvp(lambda t: (t * P.GroupL2(1.0, [0, 1] * 3)).prox(w, 1.0), (lam[0],), (lam[0],))[1]
        return [jax.typeof(x).sharding.spec for x in (tied, slope, speed)]

    specs = []
    jax.eval_shape(lambda lam, w: specs.extend(trace(lam, w)), jnp.ones(2), w)
    assert specs == [PartitionSpec(None, "d"), PartitionSpec("d"), PartitionSpec("d")]


def test_a_reference_on_the_mesh():
    """Numbers of the penalty may be spread too, and the params be on no mesh."""
    mesh = mesh_of("explicit")
    point = spread(jnp.zeros(6), mesh)
    value = jax.jit(lambda p, w: p.value(w))(P.Toward(P.TotalVariation(1.0), point), np.zeros(6))
    assert float(value) == pytest.approx(np.abs(np.diff(np.asarray(point))).sum())


def test_a_penalty_of_a_user():
    """The methods of a class that a user writes are decorated like those of this package."""

    class Jumps(jr.penalties.Penalty):
        def value(self, params):
            return jnp.sum(jnp.abs(jnp.cumsum(jnp.sort(params))))

        def prox(self, params, step):
            return jnp.sort(params) * step

    w, seen = spread(jnp.zeros(6), mesh_of("explicit")), []
    jax.eval_shape(lambda w: seen.append(jax.typeof(Jumps().prox(params=w, step=0.5)).sharding.spec), w)
    assert seen == [PartitionSpec("d")]
