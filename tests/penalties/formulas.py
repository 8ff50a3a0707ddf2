"""What each penalty is, written down once more in plain NumPy, from the docstrings and not from the code.

`value(penalty, params)` takes params whose leaves have a leading axis of candidates and returns one number
for each; `by_coordinate` returns one per coordinate of a separable penalty. Sets forgive 1e-12.
"""

import jax
import numpy as np

from jaxreg import penalties as P

SLACK = 1e-12


def flat(params):
    """(candidates, coordinates)."""
    return np.concatenate([x.reshape(len(x), -1) for x in jax.tree.leaves(params)], axis=1)


def spread(x, params):
    """A per-coordinate number, along the ravelled coordinates."""
    x, leaves = np.asarray(x, float), jax.tree.leaves(params)
    if (
        x.ndim == 1
        and len(leaves) == 1
        and leaves[0].ndim == 3
        and len(x) == leaves[0].shape[1] != flat(params).shape[1]
    ):
        return np.repeat(x, leaves[0].shape[2])
    return x.ravel() if x.ndim else x


def inside(ok):
    return np.where(ok, 0.0, np.inf)


def factors(p, params, w, cost):
    """λ·s·cost; factor inf lets only 0 pass."""
    s = np.ones(w.shape[1]) if p.weights is None else spread(p.weights, params) * np.ones(w.shape[1])
    excluded = np.isinf(s)
    return float(p.lam) * np.where(excluded, 0.0, s) * cost + np.where(excluded & (w != 0), np.inf, 0.0)


def mcp(size, lam, gamma):
    return np.where(size <= gamma * lam, lam * size - size**2 / (2 * gamma), gamma * lam**2 / 2)


def scad(size, lam, a):
    middle = (2 * a * lam * size - size**2 - lam**2) / (2 * (a - 1))
    return np.where(size <= lam, lam * size, np.where(size <= a * lam, middle, lam**2 * (a + 1) / 2))


def number(p, name):
    return float(getattr(p, name))


COORDINATE = {
    P.L1: lambda p, x, w: factors(p, x, w, np.abs(w)),
    P.SquaredL2: lambda p, x, w: factors(p, x, w, w**2 / 2),
    P.ElasticNet: lambda p, x, w: factors(
        p, x, w, number(p, "l1_ratio") * np.abs(w) + (1 - number(p, "l1_ratio")) * w**2 / 2
    ),
    P.AsymmetricL1: lambda p, x, w: (
        number(p, "lam")
        * (spread(p.positive, x) * np.maximum(w, 0) + spread(p.negative, x) * np.maximum(-w, 0))
    ),
    P.HuberNorm: lambda p, x, w: (
        number(p, "lam")
        * np.where(
            np.abs(w) <= number(p, "delta"),
            w**2 / (2 * number(p, "delta")),
            np.abs(w) - number(p, "delta") / 2,
        )
    ),
    P.Box: lambda p, x, w: inside((w >= spread(p.lower, x) - SLACK) & (w <= spread(p.upper, x) + SLACK)),
    P.NonNegative: lambda p, x, w: inside(w >= -SLACK),
    P.MCP: lambda p, x, w: mcp(np.abs(w), number(p, "lam"), number(p, "gamma")),
    P.SCAD: lambda p, x, w: scad(np.abs(w), number(p, "lam"), number(p, "a")),
    P.L0: lambda p, x, w: number(p, "lam") * (w != 0),
    P.LHalf: lambda p, x, w: number(p, "lam") * np.sqrt(np.abs(w)),
    P.LogSum: lambda p, x, w: number(p, "lam") * np.log1p(np.abs(w) / number(p, "eps")),
    P.CappedL1: lambda p, x, w: number(p, "lam") * np.minimum(np.abs(w), number(p, "cap")),
}


def groups(p, params, of):
    """Σ_g of(‖w_g‖'s argument, s_g) over the groups; (p,) labels of a matrix hold for every column."""
    w, labels, out = flat(params), np.asarray(p.groups), 0.0
    leaves = jax.tree.leaves(params)
    columns = 1
    if labels.size != w.shape[1]:
        columns = leaves[0].shape[2]
    for k in range(columns):
        part = w if columns == 1 else leaves[0][:, :, k]
        for g in np.unique(labels):
            out = out + of(part[:, labels.ravel() == g], float(p.weights[g]))
    return out


def norm(x):
    return np.sqrt(np.sum(x**2, axis=1))


def rows(p, params):
    out = 0.0
    for x in jax.tree.leaves(params):
        axes = tuple(a % (x.ndim - 1) + 1 for a in np.atleast_1d(p.axis))
        out = out + np.sqrt(np.sum(x**2, axis=axes)).reshape(len(x), -1).sum(1)
    return number(p, "lam") * out


def chain(params, lam, weights=None):
    out = np.zeros(len(flat(params)))
    for x in jax.tree.leaves(params):
        s = np.ones(x.shape[1] - 1) if weights is None else np.asarray(weights)
        for i in range(x.shape[1] - 1):
            out = out + float(lam) * s[i] * np.abs(x[:, i + 1] - x[:, i]).reshape(len(x), -1).sum(1)
    return out


def turned(p, params):
    return jax.tree.map(lambda x: np.einsum("ij,nj...->ni...", np.asarray(p.Q), x), params)


def less(reference, params):
    leaves, structure = jax.tree.flatten(params)
    own = jax.tree.leaves(reference)
    own = own * len(leaves) if np.ndim(own[0]) == 0 and len(own) == 1 else own
    return structure.unflatten([x - np.asarray(r) for x, r in zip(leaves, own, strict=True)])


def ball(size, radius):
    return inside(size <= float(radius) + SLACK)


WHOLE = {
    P.GroupL2: lambda p, x: number(p, "lam") * groups(p, x, lambda w, s: s * norm(w)),
    P.GroupLInf: lambda p, x: number(p, "lam") * groups(p, x, lambda w, s: s * np.max(np.abs(w), axis=1)),
    P.GroupMCP: lambda p, x: groups(
        p, x, lambda w, s: mcp(norm(w), number(p, "lam") * s, number(p, "gamma"))
    ),
    P.SparseGroup: lambda p, x: (
        number(p.group, "lam")
        * (
            number(p, "ratio") * np.sum(np.abs(flat(x)), axis=1)
            + (1 - number(p, "ratio")) * groups(p.group, x, lambda w, s: s * norm(w))
        )
    ),
    P.RowL2: rows,
    P.LInf: lambda p, x: number(p, "lam") * np.max(np.abs(flat(x)), axis=1),
    P.SortedL1: lambda p, x: -np.sort(-np.abs(flat(x)), axis=1) @ np.asarray(p.lams),
    P.NuclearNorm: lambda p, x: (
        number(p, "lam")
        * sum(np.linalg.svd(np.asarray(leaf, float), compute_uv=False).sum(1) for leaf in jax.tree.leaves(x))
    ),
    P.TotalVariation: lambda p, x: chain(x, p.lam, p.weights),
    P.FusedLasso: lambda p, x: number(p, "lam_l1") * np.sum(np.abs(flat(x)), 1) + chain(x, p.lam_tv),
    P.L1Ball: lambda p, x: ball(np.sum(np.abs(flat(x)), 1), p.radius),
    P.L2Ball: lambda p, x: ball(norm(flat(x)), p.radius),
    P.Simplex: lambda p, x: inside(
        (np.abs(flat(x).sum(1) - float(p.total)) <= SLACK) & (flat(x).min(1) >= -SLACK)
    ),
    P.Orthogonal: lambda p, x: value(p.penalty, turned(p, x)),
}


def one(params):
    return jax.tree.map(lambda x: x[0], params)


def parted(p):
    """A partition as masked penalties."""
    return p.composed().parts


def by_coordinate(p, params):
    """(candidates, coordinates) for a separable penalty, None for another."""
    w = flat(params)
    if type(p) in COORDINATE:
        return COORDINATE[type(p)](p, params, w) + 0 * w
    if isinstance(p, P.Toward):
        return by_coordinate(p.penalty, less(p.reference, params))
    if isinstance(p, P.Scaled):
        inner = by_coordinate(p.penalty, params)
        return inner if inner is None else times(p.factor, inner)
    if isinstance(p, P.Masked):
        inner = by_coordinate(p.penalty, params)
        if inner is None:
            return None
        shapes = [x.shape[1:] for x in jax.tree.leaves(params)]
        masks = [np.broadcast_to(m, s).ravel() for m, s in zip(p.mask(one(params)), shapes, strict=True)]
        return np.where(np.concatenate(masks), inner, 0.0)
    if isinstance(p, P.Sum | P.Partition):
        parts = [by_coordinate(q, params) for q in (p.parts if isinstance(p, P.Sum) else parted(p))]
        return None if any(x is None for x in parts) else sum(parts)
    return None


def times(factor, x):
    """factor·x; a set stays itself, also at factor 0."""
    return np.where(np.isinf(x), np.inf, float(factor) * np.where(np.isinf(x), 0.0, x))


def value(p, params):
    """One number per candidate."""
    coordinates = by_coordinate(p, params)
    if coordinates is not None:
        return coordinates.sum(1)
    if type(p) in WHOLE:
        return WHOLE[type(p)](p, params)
    if isinstance(p, P.Toward):
        return value(p.penalty, less(p.reference, params))
    if isinstance(p, P.Scaled):
        return times(p.factor, value(p.penalty, params))
    if isinstance(p, P.Masked):
        leaves, structure = jax.tree.flatten(params)
        mask = p.mask(one(params))
        kept = [x if m else None for x, m in zip(leaves, mask, strict=True)]
        return value(p.penalty, structure.unflatten(kept))
    if isinstance(p, P.Sum | P.Partition):
        return sum(value(q, params) for q in (p.parts if isinstance(p, P.Sum) else parted(p)))
    raise TypeError(f"no formula for {type(p).__name__}: write it down in tests/penalties/formulas.py")
