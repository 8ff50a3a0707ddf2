"""A case of tests/members.py as a function of vectors, compiled once for each kind of question."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.members import MEMBERS, PENALTIES
from tests.penalties import formulas

#: Compiler options that undo conftest.py's: the programs that users get.
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
STEPS = np.array([0.0, 1e-3, 0.3, 1.0, 5.0, 1e3])


def points(q: int) -> np.ndarray:
    """Sixteen vectors: random, with ties and zeros, long and short."""
    rng = np.random.default_rng(q)
    sparse = np.where(rng.random((1, q)) < 0.5, rng.normal(size=(1, q)) * 3, 0.0)
    small = [100 * rng.normal(size=(1, q)), 1e-3 * rng.normal(size=(1, q)), sparse]
    ties = [rng.integers(-2, 3, size=(3, q)), np.zeros((1, q)), np.full((1, q), 0.5)]
    return np.concatenate([2 * rng.normal(size=(8, q)), *ties, *small]).astype(float)


class Subject:
    """A penalty on vectors (q,): what it is asked for a batch of them, and its formula."""

    def __init__(self, name: str, penalty, like) -> None:
        self.name, self.penalty, self.like = name, penalty, like
        vector, self.up = ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x, float), like))
        self.size = vector.size
        self.points = points(self.size)

    def prox_1(self, p, v, t):
        return ravel_pytree(p.prox(self.up(v), t))[0]

    @cached_property
    def compiled(self):
        options = OPTIMIZED if self.name in BROAD else None
        return jax.jit(
            lambda p, V, T: jax.vmap(lambda v, t: self.prox_1(p, v, t))(V, T), compiler_options=options
        )

    def prox(self, V, T, penalty=None):
        """(N, q) for points (N, q) and steps (N,)."""
        p = self.penalty if penalty is None else penalty
        return np.asarray(self.compiled(p, jnp.asarray(V), jnp.broadcast_to(jnp.asarray(T), len(V))))

    @cached_property
    def landed(self) -> np.ndarray:
        """(points, steps, q): the prox of every point at every step."""
        n = len(self.points)
        U = self.prox(np.repeat(self.points, len(STEPS), axis=0), np.tile(STEPS, n))
        return U.reshape(n, len(STEPS), self.size)

    @cached_property
    def whole_space(self) -> bool:
        """Whether the formula is finite everywhere."""
        return bool(np.all(np.isfinite(self.formula(self.points))))

    def project(self, C: np.ndarray) -> np.ndarray:
        """Candidates moved into the domain."""
        if self.whole_space:
            return C
        flat = C.reshape(-1, self.size)
        return self.prox(flat, np.zeros(len(flat))).reshape(C.shape)

    def batch(self, C: np.ndarray):
        """Vectors (N, q) as params with a leading axis."""
        leaves, structure = jax.tree.flatten(self.like)
        out, start = [], 0
        for leaf in leaves:
            out.append(C[:, start : start + leaf.size].reshape(len(C), *leaf.shape))
            start += leaf.size
        return structure.unflatten(out)

    def formula(self, C: np.ndarray) -> np.ndarray:
        """The value of candidates (..., q) by the formula in plain NumPy."""
        return formulas.value(self.penalty, self.batch(C.reshape(-1, self.size))).reshape(C.shape[:-1])

    @cached_property
    def dual(self):
        """Conjugate, dual scale and free part of each of a batch of duals."""

        def one(p, u):
            u = self.up(u)
            return p.conjugate(u), p.dual_scale(u), ravel_pytree(p.project_on_unpenalised(u))[0]

        run = jax.jit(jax.vmap(one, in_axes=(None, 0)))
        return lambda U, p=None: [
            np.asarray(x) for x in run(self.penalty if p is None else p, jnp.asarray(U))
        ]


SUBJECTS = {name: Subject(name, *case) for name, case in PENALTIES.items()}
CONVEX = [name for name, s in SUBJECTS.items() if s.penalty.convex]
#: For what takes long to compile: every member, and of the combinations one of each kind.
KINDS = """
RowL2 (3, 2)/NuclearNorm (3, 2)/TotalVariation weights/SortedL1 ties/GroupL2 weights/MCP steep/L1 weights
SCAD steep
Box away from 0/Toward GroupL2/Masked HuberNorm/2 (0.3 SortedL1)/RowL2 + L1 + SquaredL2/ElasticNet + Box
HuberNorm + L1 + Box/Toward(HuberNorm) + ElasticNet/SCAD + weighted SquaredL2/GroupL2 + weighted SquaredL2
GroupL2 + SquaredL2, some excluded/GroupL2 + weighted L1/GroupL2 + ElasticNet + NonNegative
LInf + weighted L1 + SquaredL2/L1Ball + NonNegative/Simplex + SquaredL2/TotalVariation + ElasticNet
TotalVariation + L1 + Box/LInf + L1 tree/Partition"""
KINDS = KINDS.strip().replace("\n", "/").split("/")
BROAD = [n for n in SUBJECTS if n in MEMBERS] + KINDS
DUAL = [n for n in SUBJECTS if SUBJECTS[n].penalty.has_conjugate]


def slow_unless_broad(names: list[str]) -> list:
    """Names as parameters of a test; of the combinations only one of each kind is not slow."""
    return [pytest.param(name, marks=() if name in BROAD else pytest.mark.slow) for name in names]


def linear_maps(q: int) -> np.ndarray:
    """(M, q, q): what may be done to a point: drop, keep, tie (with signs), average a run, stretch."""
    eye, out = np.eye(q), [np.zeros((q, q)), np.eye(q), -np.eye(q)]
    for i in range(q):
        out += [eye - np.diag(eye[i]), np.diag(eye[i])]
        for j in range(i + 1, q):
            run = eye.copy()
            run[i : j + 1] = 0
            out.append(run.copy())
            run[i : j + 1, i : j + 1] = 1 / (j - i + 1)
            out.append(run)
            for sign in (1, -1):
                pair = eye.copy()
                pair[i], pair[j] = (eye[i] + sign * eye[j]) / 2, (sign * eye[i] + eye[j]) / 2
                out.append(pair)
    return np.array(out + [c * eye for c in (0.5, 0.9, 0.99, 1 - 1e-4, 1 + 1e-4, 1.01, 1.1, 2.0)])


def noise(q: int) -> np.ndarray:
    """(R, q): moves of all sizes, dense and along one or two coordinates."""
    rng = np.random.default_rng(5)
    dense = rng.normal(size=(120, q)) * 10.0 ** rng.uniform(-5, 0.5, size=(120, 1))
    sparse = np.where(rng.random((120, q)) < 2 / q, 1.0, 0.0) * rng.normal(size=(120, q))
    axes = np.concatenate([s * 10.0**k * np.eye(q) for s in (1, -1) for k in (-5, -3, -1, 0)])
    return np.concatenate([dense, sparse * 10.0 ** rng.uniform(-5, 0.5, size=(120, 1)), axes])


def candidates(subject: Subject, V: np.ndarray, U: np.ndarray) -> np.ndarray:
    """(N, candidates, q) around points V and what they became, U (N, q), inside the domain."""
    maps, moves = linear_maps(subject.size), noise(subject.size)
    near = np.einsum("mij,nj->nmi", maps, U)
    far = np.einsum("mij,nj->nmi", maps, V)
    between = [U + c * (V - U) for c in (1e-4, 1e-2, 0.1, 0.5, -1e-4, -0.1)]
    C = [near, far, np.stack(between, axis=1), U[:, None] + moves, V[:, None] + moves[::4]]
    return subject.project(np.concatenate(C, axis=1))


def excess(subject: Subject, V: np.ndarray, U: np.ndarray, T: np.ndarray, metric=None) -> float:
    """By how much the best candidate beats U, in units of the rounding error of the costs; > 1 is a fault.

    A convex cost grows at least as ½‖c − u‖² from its minimum, so that a point only nearly right is seen.
    """
    omega = np.ones_like(V) if metric is None else 1 / metric

    def cost(c):
        near, f = 0.5 * np.sum(omega[:, None] * (c - V[:, None]) ** 2, axis=-1), subject.formula(c)
        return near + np.where(np.isinf(f), np.inf, T[:, None] * np.where(np.isinf(f), 0.0, f))

    own, C = cost(U[:, None]), candidates(subject, V, U)
    assert np.all(np.isfinite(own)), f"lands outside the domain at {V[~np.isfinite(own[:, 0])][:1]}"
    other = cost(C)
    grown = 0.5 * np.sum(omega[:, None] * (C - U[:, None]) ** 2, axis=-1) if subject.penalty.convex else 0.0
    finite = np.isfinite(other)
    worse = np.where(finite, own + grown - np.where(finite, other, 0.0), -np.inf)
    unit = 1e-12 * (1.0 + np.abs(own) + np.where(finite, other, 0.0))
    k = np.unravel_index(np.argmax(worse / unit), worse.shape)
    message = f"at v = {V[k[0]]}, step {T[k[0]]}: {C[k]} costs less than {U[k[0]]}"
    return float(np.max(worse / unit)), message
