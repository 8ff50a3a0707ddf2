"""Values of very large and small weights: right, or inf where the true one is out of range; never NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.members import COMBINED, MEMBERS, PENALTIES, P
from tests.penalties import formulas

#: A large and a small magnitude whose squares leave the range of the dtype, and one near its end.
SIZES = {"float16": (300.0, 1e-6, 5e4), "float32": (1e20, 1e-30, 1e38), "float64": (1e200, 1e-200, 5e307)}
PATTERNS = np.array(
    [[1, -1, 0.5, -0.5, 0, 1.0], [1, 1, 1, 1, 1, 1], [-1, 0, 2, 0, 0, -1], [0, 0, 0, 0, 1, 0]]
)
KINDS = """
L1 weights/SquaredL2 weights/Box bounds/LogSum steep/GroupL2 weights/GroupLInf weights/TotalVariation weights
0.4 MCP/2 L1/Masked/CappedL1 + SquaredL2/ElasticNet + Box/RowL2 + L1 + SquaredL2/Toward MCP"""
SUBJECTS = {name: PENALTIES[name] for name in KINDS.strip().replace("\n", "/").split("/")}
for name in MEMBERS:
    if name not in COMBINED:
        found = name if name in PENALTIES else f"{name} (3, 2)"
        SUBJECTS[found] = PENALTIES[found]


def points(dtype: str) -> np.ndarray:
    """Vectors (N, 6) of each size, rounded to the dtype; the small ones ≥ 0, since sets forgive 1e-12."""
    large, small, end = SIZES[dtype]
    return np.concatenate([large * PATTERNS, small * np.abs(PATTERNS), end * np.sign(PATTERNS)]).astype(dtype)


@pytest.fixture(scope="module", params=SIZES)
def results(request):
    """The dtype, the points in extended precision, and the values of all subjects, from one program."""
    dtype, V = request.param, points(request.param)

    def one(penalties, v):
        ups = {name: ravel_pytree(SUBJECTS[name].like)[1](v.astype(float)) for name in penalties}
        narrow = jax.tree.map(lambda x: x.astype(dtype), ups)
        return {name: penalty.value(narrow[name]) for name, penalty in penalties.items()}

    penalties = {name: case.penalty for name, case in SUBJECTS.items()}
    found = jax.jit(jax.vmap(one, in_axes=(None, 0)))(penalties, jnp.asarray(V))
    return dtype, V.astype(np.longdouble), {name: np.asarray(f, float) for name, f in found.items()}


def expected(name: str, V: np.ndarray) -> np.ndarray:
    penalty, like = SUBJECTS[name]
    return formulas.value(penalty, V.reshape(len(V), *np.shape(like)))


@pytest.mark.parametrize("name", SUBJECTS)
def test_values_of_extreme_weights(name, results):
    dtype, V, found = results
    limits, f, true = jnp.finfo(dtype), found[name], expected(name, V)
    # Sums on the way may overflow where the result is near the end of the range, not further below.
    out = np.isinf(f) & (true > 0.01 * float(limits.max))
    with np.errstate(invalid="ignore"):
        near = np.abs(f - true) <= 30 * float(limits.eps) * np.abs(true) + 30 * float(limits.tiny)
    assert np.all(out | near), (V[~(out | near)][0], f[~(out | near)][0], true[~(out | near)][0])


def test_conjugate_of_far_bounds():
    """Bounds whose squares leave the range do not spoil the conjugate, which is linear in them."""
    u = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(P.Box(-1e200, 1e200).conjugate(u), 3e200, rtol=1e-14)
