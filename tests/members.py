"""What the laws run over: losses, problems with targets drawn from its model; a counter of compilations; a
mesh; penalties and their combinations.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxreg as jr

LOSSES = {
    "Huber": jr.losses.Huber(1.0),
    "Logistic": jr.losses.Logistic(),
    "Multinomial": jr.losses.Multinomial(3),
    "Poisson": jr.losses.Poisson(),
    "SquaredError": jr.losses.SquaredError(),
}


def devices(count: int) -> Mesh:
    """A mesh of the first few devices; where there are fewer the test is skipped."""
    if len(jax.devices()) < count:
        pytest.skip(f"needs {count} devices, which a CPU has by XLA's flags alone")
    return Mesh(np.array(jax.devices()[:count]), ("lanes",))


def targets(name: str, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Targets drawn from the model of a loss at the predictor z (n,)."""
    n = len(z)
    if name == "Logistic":
        y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
        y[:2] = 0, 1
        return y
    if name == "Multinomial":
        y = np.digitize(z + rng.normal(size=n), [-1, 1])
        y[:3] = 0, 1, 2
        return y
    if name == "Poisson":
        y = rng.poisson(np.exp(np.clip(0.5 * z, -3, 3))).astype(float)
        y[0] += 1
        return y
    return z + rng.normal(size=n)


def problem(name: str, dtype: Any = "float64", n: int = 60, p: int = 8, **options: Any) -> jr.Problem:
    """A problem with this loss: two of p features matter."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, p))
    y = targets(name, X[:, 0] - 0.5 * X[:, 1], rng)
    return jr.Problem(LOSSES[name], X.astype(dtype), y, **options)


def compilations(call: Callable[[], Any]) -> int:
    """How many programs a call compiles."""
    found: list[str] = []

    def listen(event: str, _: float, **__: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(found)


# ---------------------------------------------------------------- penalties

P = jr.penalties
COMBINED = ("Masked", "Partition", "Scaled", "Sum")  # made of others: they have no example of their own
MEMBERS = {
    n: getattr(P, n)
    for n in P.__all__
    if inspect.isclass(getattr(P, n))
    and issubclass(getattr(P, n), P.Penalty)
    and not inspect.isabstract(getattr(P, n))
}


class Case(NamedTuple):
    """A penalty, and params (all 0) that it fits."""

    penalty: jr.penalties.Penalty
    like: Any


def awkward(penalty: Any) -> Any:
    """Every single number times 0.7: at λ = 1 a λ that is squared or left out would not be seen."""
    return jax.tree.map(
        lambda x: 0.7 * x if x.ndim == 0 and jnp.issubdtype(x.dtype, jnp.floating) else x, penalty
    )


def examples(shape: tuple[int, ...]) -> dict[str, Case]:
    """The example of every member that has one for params of this shape."""
    found = {name: cls.example(shape) for name, cls in MEMBERS.items() if name not in COMBINED}
    return {
        f"{name} {shape}".replace(" (6,)", ""): Case(p, jax.device_put(np.zeros(shape)))
        for name, p in found.items()
        if p is not None
    }


W = [1.0, 0.0, np.inf, 0.5, 2.0, 1.0]  # 0 and inf among the factors
V = [1.0, 0.0, 0.3, 0.5, 2.0, 1.0]
LABELS = [1, 0, 1, 2, 1, 0]
EVEN = np.arange(6) % 2 == 0
SIX, MATRIX = jax.device_put((np.zeros(6), np.zeros((3, 2))))
TREE = jax.device_put({"a": np.zeros(3), "b": [np.zeros((2, 2))]})
A, B = {"a": True, "b": False}, {"a": False, "b": True}
QR = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]

VARIANTS = {
    "L1 weights": P.L1(0.7, weights=W),
    "SquaredL2 weights": P.SquaredL2(0.7, weights=W),
    "ElasticNet weights": P.ElasticNet(0.7, 0.3, weights=W),
    "AsymmetricL1 by coordinate": P.AsymmetricL1(0.7, V, [0.5, 0.5, 0.0, 2.0, 1.0, 0.0]),
    "Box bounds": P.Box(-0.5, 1.0),
    "Box away from 0": P.Box(0.25, [1.0, 2.0, jnp.inf, 1.0, 0.25, 3.0]),
    "MCP steep": P.MCP(0.7, 0.4),
    "SCAD steep": P.SCAD(1.5, 2.1),
    "LogSum steep": P.LogSum(0.6, 0.1),
    "CappedL1 low": P.CappedL1(2.0, 0.3),
    "HuberNorm tight": P.HuberNorm(0.7, 0.05),
    "GroupL2 uneven": P.GroupL2(0.6, LABELS),
    "GroupL2 weights": P.GroupL2(0.6, LABELS, weights=[1.0, 0.0, 0.4]),
    "GroupLInf uneven": P.GroupLInf(0.6, LABELS, weights=[1.0, 2.0, 0.4]),
    "GroupLInf weights": P.GroupLInf(0.6, LABELS, weights=[1.0, 0.0, 0.4]),
    "GroupMCP steep": P.GroupMCP(0.6, LABELS, 0.4),
    "SparseGroup uneven": P.SparseGroup(0.8, LABELS, 0.3),
    "SortedL1 ties": P.SortedL1([1.5, 1.5, 0.5, 0.5, 0.0, 0.0]),
    "TotalVariation weights": P.TotalVariation(0.6, [1.0, 0.0, 0.3, 2.0, 1.0]),
    "Toward GroupL2": P.Toward(P.GroupL2(0.6, LABELS), jnp.linspace(1.0, -1.0, 6)),
    "Toward MCP": P.Toward(P.MCP(0.7, 2.0), 0.3),
    "Toward Box": P.Toward(P.Box(-0.5, 0.5), jnp.linspace(1.0, -1.0, 6)),
    "Orthogonal GroupL2": P.Orthogonal(P.GroupL2(0.6, LABELS), QR),
    "Orthogonal TotalVariation": P.Orthogonal(P.TotalVariation(0.6), QR),
    "Masked": P.Masked(P.L1(1.0) + P.Box(-1.0, 1.0), EVEN),
    "Masked HuberNorm": P.Masked(P.HuberNorm(0.7, 0.5), EVEN),
    "Masked L0": P.Masked(P.L0(0.7), EVEN),
    "2 L1": 2.0 * P.L1(0.5),
    "3 GroupL2": 3.0 * P.GroupL2(0.3, LABELS),
    "0.5 LInf": 0.5 * P.LInf(0.8),
    "2 (0.3 SortedL1)": 2.0 * (0.3 * P.SortedL1([2.0, 2.0, 1.5, 1.0, 0.5, 0.5])),
    "0.5 TotalVariation": 0.5 * P.TotalVariation(0.8),
    "0.4 MCP": 0.4 * P.MCP(0.7, 0.9),
    "3 Simplex": 3.0 * P.Simplex(1.5),
}
MATRICES = {
    "L1 rows": P.L1(0.7, weights=[1.0, 0.0, jnp.inf]),
    "GroupL2 rows": P.GroupL2(0.5, [1, 0, 1]),
    "RowL2 axis 0": P.RowL2(0.5, axis=0),
    "RowL2 both axes": P.RowL2(0.5, axis=(0, 1)),
    "RowL2 + L1 + SquaredL2": P.RowL2(0.5) + P.L1(0.3, weights=[1.0, 0.0, 2.0]) + 0.5 * P.SquaredL2(0.4),
    "RowL2 + weighted SquaredL2": P.RowL2(0.5) + P.SquaredL2(0.4, weights=[1.0, 0.0, jnp.inf]),
    "NuclearNorm + SquaredL2": P.NuclearNorm(0.5) + P.SquaredL2(0.4),
    "TotalVariation + L1 matrix": P.TotalVariation(0.5, [1.0, 2.0]) + P.L1(0.3),
    "Orthogonal RowL2": P.Orthogonal(P.RowL2(0.5), np.linalg.qr(QR[:3, :3])[0]),
}
SUMS = {
    "L1 + SquaredL2": P.L1(0.5) + 0.3 * P.SquaredL2(2.0),
    "L1 + NonNegative": P.L1(0.5, weights=W) + P.NonNegative(),
    "ElasticNet + Box": P.ElasticNet(1.0, 0.5) + P.Box(-0.2, 0.4),
    "HuberNorm + L1 + Box": P.HuberNorm(0.5, 0.4) + P.L1(0.3, weights=W) + P.Box(-0.5, 1.5),
    "HuberNorm + AsymmetricL1": P.HuberNorm(0.5, 0.4) + P.AsymmetricL1(0.6, 1.0, 0.2),
    "HuberNorm + SquaredL2": P.HuberNorm(0.5, 0.4) + P.SquaredL2(0.6, weights=V),
    "Toward(SquaredL2) + L1": P.Toward(P.SquaredL2(0.8), jnp.linspace(-1.0, 1.0, 6)) + P.L1(0.4),
    "Toward(L1) + L1": P.Toward(P.L1(0.8), jnp.linspace(-1.0, 1.0, 6)) + P.L1(0.4),
    "Toward(L1) + Box": P.Toward(P.L1(0.8), jnp.linspace(-1.0, 1.0, 6)) + P.Box(-0.3, 0.6),
    "Toward(HuberNorm) + ElasticNet": 2.0 * P.Toward(P.HuberNorm(0.8, 0.2), 0.5) + P.ElasticNet(0.4, 0.5),
    "Masked + Masked": P.Masked(P.HuberNorm(0.5, 0.4), EVEN) + P.Masked(P.L1(0.4), ~EVEN),
    "nested": (P.L1(0.2) + P.SquaredL2(0.3)) + 2.0 * (P.Box(-1.0, 0.8) + 0.5 * P.HuberNorm(0.5, 0.4)),
    "MCP + SquaredL2": P.MCP(0.7, 0.9) + P.SquaredL2(0.3),
    "SCAD + weighted SquaredL2": P.SCAD(0.7, 2.5) + P.SquaredL2(0.3, weights=W),
    "L0 + SquaredL2 + NonNegative": P.L0(0.7) + P.SquaredL2(0.3) + P.NonNegative(),
    "LHalf + NonNegative": P.LHalf(0.7) + P.NonNegative(),
    "LogSum + SquaredL2": P.LogSum(0.7, 0.1) + P.SquaredL2(0.3, weights=V),
    "CappedL1 + SquaredL2": 2.0 * P.CappedL1(0.7, 0.5) + 0.5 * P.SquaredL2(0.3),
    "Masked MCP + SquaredL2": P.Masked(P.MCP(0.7, 0.9), EVEN) + P.SquaredL2(0.3),
    "GroupMCP + SquaredL2": P.GroupMCP(0.6, LABELS, 0.4) + P.SquaredL2(0.5),
    "GroupL2 + SquaredL2": P.GroupL2(0.6, LABELS) + P.SquaredL2(0.5),
    "GroupL2 + weighted SquaredL2": P.GroupL2(0.6, LABELS) + P.SquaredL2(0.5, weights=V),
    "GroupL2 + SquaredL2, some excluded": P.GroupL2(0.6, LABELS) + P.SquaredL2(0.5, weights=W),
    "GroupL2 + L1": P.GroupL2(0.6, LABELS) + P.L1(0.3),
    "GroupL2 + weighted L1": P.GroupL2(0.6, LABELS, weights=[1.0, 0.0, 0.4]) + P.L1(0.3, weights=W),
    "GroupL2 + ElasticNet + NonNegative": P.GroupL2(0.6, LABELS) + P.ElasticNet(0.3, 0.5) + P.NonNegative(),
    "GroupL2 + AsymmetricL1": 2.0 * (P.GroupL2(0.3, LABELS) + P.AsymmetricL1(0.3, 1.0, 0.1)),
    "SparseGroup + SquaredL2": P.SparseGroup(0.8, LABELS, 0.3) + P.SquaredL2(0.4),
    "SparseGroup + L1": P.SparseGroup(0.8, LABELS, 0.3) + P.L1(0.2, weights=V),
    "GroupLInf + L1": P.GroupLInf(0.6, LABELS) + P.L1(0.2, weights=V),
    "GroupLInf + SquaredL2": P.GroupLInf(0.6, LABELS) + P.SquaredL2(0.4),
    "LInf + SquaredL2": 0.5 * P.LInf(1.2) + P.SquaredL2(0.4),
    "LInf + weighted L1 + SquaredL2": P.LInf(0.6) + P.L1(0.2, weights=W) + P.SquaredL2(0.4),
    "LInf + NonNegative": P.LInf(0.6) + P.NonNegative(),
    "SortedL1 + SquaredL2": P.SortedL1(np.linspace(1.5, 0.2, 6)) + P.SquaredL2(0.4),
    "SortedL1 + L1": P.SortedL1(np.linspace(1.5, 0.2, 6)) + P.L1(0.2, weights=V),
    "L1Ball + SquaredL2": P.L1Ball(1.5) + P.SquaredL2(0.4),
    "L1Ball + NonNegative": P.L1Ball(1.5) + P.NonNegative(),
    "L2Ball + L1": P.L2Ball(1.5) + P.L1(0.3, weights=V),
    "Simplex + SquaredL2": P.Simplex(1.5) + P.SquaredL2(0.4),
    "Toward(GroupL2) + SquaredL2": P.Toward(P.GroupL2(0.6, LABELS), 0.5) + P.SquaredL2(0.4),
    "Orthogonal + SquaredL2": P.Orthogonal(P.L1(0.5), QR) + P.SquaredL2(0.4),
    "TotalVariation + L1": P.TotalVariation(0.6) + P.L1(0.3),
    "TotalVariation + SquaredL2": P.TotalVariation(0.6) + P.SquaredL2(0.4),
    "TotalVariation + ElasticNet": P.TotalVariation(0.6, [1.0, 0.0, 0.3, 2.0, 1.0]) + P.ElasticNet(0.4, 0.5),
    "TotalVariation + HuberNorm": P.TotalVariation(0.6) + P.HuberNorm(0.4, 0.5),
    "TotalVariation + L1 + Box": P.TotalVariation(0.6) + P.L1(0.2) + P.Box(-0.5, 0.7),
    "TotalVariation + AsymmetricL1": P.TotalVariation(0.6) + P.AsymmetricL1(0.4, 1.0, 0.2),
    "TotalVariation + Toward": P.TotalVariation(0.6) + P.Toward(P.L1(0.4), 0.5),
    "2 (TotalVariation + L1)": 2.0 * (P.TotalVariation(0.3) + P.L1(0.3)),
    "FusedLasso + SquaredL2": P.FusedLasso(0.3, 0.5) + P.SquaredL2(0.4),
}
TREES = {
    "L1 tree": P.L1(0.7, weights=[*W, 1.0]),
    "GroupL2 tree": P.GroupL2(0.6, [0, 1, 1, 0, 2, 2, 2]),
    "LInf + SquaredL2 tree": P.LInf(0.6) + P.SquaredL2(0.4),
    "LInf + L1 tree": P.LInf(0.6) + P.L1(0.4, weights=[*W, 1.0]),
    "TotalVariation + L1 tree": P.TotalVariation(0.6) + P.L1(0.3),
    "Masked(LInf) + Masked(RowL2) + SquaredL2": P.Masked(P.LInf(0.6), A)
    + 0.5 * P.Masked(P.RowL2(0.6), B)
    + P.SquaredL2(0.4),
    "Masked(L1) + Masked(SortedL1)": P.Masked(P.L1(0.6), B) + P.Masked(P.SortedL1([1.0, 0.5, 0.1]), A),
    "Masked(TotalVariation) + Masked(L1)": P.Masked(P.TotalVariation(0.6), A) + P.Masked(P.L1(0.6), B),
    "Masked(GroupL2) + L1": P.Masked(P.GroupL2(0.6, [0, 1, 0]), A) + P.L1(0.3),
    "Masked separable": P.Masked(P.ElasticNet(0.6, 0.5), A) + P.Masked(P.HuberNorm(0.5, 0.2), B),
    "Partition": P.Partition({"x": P.GroupL2(0.6, [0, 1, 0]), "y": P.NuclearNorm(0.5)}, {"a": "x", "b": "y"}),
    "Partition, one free": P.Partition({"x": P.LInf(0.6)}, {"a": None, "b": ["x"]}),
    "Partition separable": P.Partition({"x": P.MCP(0.6), "y": P.L1(0.5)}, {"a": "x", "b": "y"}),
    "Partition + SquaredL2": P.Partition(
        {"x": P.GroupL2(0.6, [0, 1, 0]), "y": P.L1(0.5)}, {"a": "x", "b": "y"}
    )
    + P.SquaredL2(0.3),
    "Masked by weights_only": P.Masked(P.NuclearNorm(0.6), P.masks.weights_only),
    "Toward tree": P.Toward(P.LInf(0.6), {"a": np.array([1.0, -0.5, 0.2]), "b": [np.full((2, 2), 0.4)]}),
}
#: Those whose prox of a matrix is not that of its entries in one row.
SHAPED = ("FusedLasso", "NuclearNorm", "Orthogonal", "RowL2", "TotalVariation")
PENALTIES: dict[str, Case] = (
    examples((6,))
    | {
        name: Case(awkward(p), like)
        for name, (p, like) in examples((3, 2)).items()
        if name.startswith(SHAPED)
    }
    | {name: Case(p, SIX) for name, p in (VARIANTS | SUMS).items()}
    | {name: Case(p, MATRIX) for name, p in MATRICES.items()}
    | {name: Case(p, TREE) for name, p in TREES.items()}
)
