r"""Projections onto the simplex and the ℓ1 and ℓ2 balls, and the prox of the ℓ∞ norm.

All but the ℓ2 ball come down to one scalar equation: the level θ at which Σ max(wⱼ − θ, 0) is a given total.
The support is found first, in a loop without derivatives; on that piece the result is a smooth function of
the arguments, and so are its derivatives. Sums are taken of distances to the largest entry, which loses
nothing where the entries are large and close together.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.ops import segment_sum
from jaxtyping import Array, Float

from jaxreg._numerics import at_least_float32, scaled_norm
from jaxreg._typing import ArrayLike, GroupLabels, Vector

__all__ = ["l1_ball", "l1_ball_groups", "l2_ball", "linf", "linf_groups", "simplex"]


def _water_level(w: Array, total: Array, add: Callable[[Array], Array]) -> Array:
    """Solve Σ max(w − θ, 0) = total for the level θ, where the largest entry of w is 0.

    Newton's method on a convex piecewise linear function. The level starts at −total, below the root, and
    only rises; so the support only shrinks, and entries that cannot be in it are never added.

    Args:
        w: Entries ≤ 0, the largest of each group 0.
        total: Sum of the parts above the level.
        add: Sum over all entries or over each group, broadcast back to the shape of `w`.
    """

    def inside(w: Array, level: Array) -> Array:
        return (w > level) | (w >= 0)

    def solve(w: Array, total: Array, level: Array) -> Array:
        kept = inside(w, level)
        return (add(jnp.where(kept, w, 0.0)) - total) / add(kept.astype(w.dtype))

    fixed, start = lax.stop_gradient(w), lax.stop_gradient(total)

    def body(state: tuple) -> tuple:
        level, _ = state
        new = jnp.maximum(level, solve(fixed, start, level))
        return new, jnp.any(inside(fixed, new) != inside(fixed, level))

    level, _ = lax.while_loop(lambda state: state[1], body, (-start, jnp.array(True)))
    return solve(w, total, level)


def simplex(v: Vector, total: ArrayLike) -> Vector:
    r"""Projection onto the simplex $u \ge 0, \sum_j u_j = s$, which is $\max(v - \theta, 0)$ for a level θ.

    `v` is (p,), `total` a scalar s ≥ 0. Source: Held, Wolfe and Crowder (1974), and Michelot (1986) for the
    way to θ without sorting; Duchi et al. (2008) sort.

    >>> simplex(jnp.array([2.0, 1.5, -1.0]), 1.0).tolist()
    [0.75, 0.25, 0.0]
    """
    x, total = at_least_float32(v, total)
    w = x - lax.stop_gradient(jnp.max(x))
    level = _water_level(w, total, jnp.sum)
    return jnp.where(w <= level, 0.0, w - level).astype(v.dtype)


class _L1Level(NamedTuple):
    """Soft threshold that takes each group of x onto its ℓ1 sphere, relative to the largest magnitude."""

    #: Per coordinate, whether its group lies inside the ball already.
    inside: Array
    #: Largest magnitude of the group.
    top: Array
    #: |x| − top.
    below: Array
    #: Threshold − top.
    level: Array


def _l1_level(x: Vector, radius: Array, groups: GroupLabels | None, num_groups: int) -> _L1Level:
    """Find the threshold of each group; all coordinates are one group where `groups` is None."""
    size = jnp.abs(x)
    if groups is None:
        top, add = jnp.max(lax.stop_gradient(size)), jnp.sum
    else:
        top = jnp.zeros(num_groups, x.dtype).at[groups].max(lax.stop_gradient(size))[groups]
        radius = jnp.broadcast_to(radius, (num_groups,))[groups]
        add = lambda a: segment_sum(a, groups, num_groups)[groups]  # noqa: E731
    below = size - top
    return _L1Level(add(size) <= radius, top, below, _water_level(below, radius, add))


def _l1_ball(v: Vector, radius: ArrayLike, groups: GroupLabels | None, num_groups: int) -> Vector:
    x, radius = at_least_float32(v, radius)
    inside, _, below, level = _l1_level(x, radius, groups, num_groups)
    outside = jnp.copysign(jnp.where(below <= level, 0.0, below - level), x)
    return jnp.where(inside, x, outside).astype(v.dtype)


def _linf(v: Vector, threshold: ArrayLike, groups: GroupLabels | None, num_groups: int) -> Vector:
    """Apply Moreau's identity: v less its projection onto the ℓ1 ball, which is v clipped at a height."""
    x, t = at_least_float32(v, threshold)
    inside, top, _, level = _l1_level(x, t, groups, num_groups)
    height = jnp.where(top + level > 0, top + level, 0.0)
    clipped = jnp.where(jnp.abs(x) > height, jnp.copysign(height, x), x)
    return jnp.where(inside, 0.0, clipped).astype(v.dtype)


def l1_ball(v: Vector, radius: ArrayLike) -> Vector:
    r"""Projection onto the ball $\lVert u \rVert_1 \le r$; `v` itself where it is inside.

    `v` is (p,), `radius` a scalar ≥ 0. Source: Duchi et al. (2008), section 4: the simplex of the magnitudes.

    >>> l1_ball(jnp.array([2.0, -1.5, 0.5]), 1.0).tolist()
    [0.75, -0.25, 0.0]
    """
    return _l1_ball(v, radius, None, 1)


def l1_ball_groups(v: Vector, radius: ArrayLike, groups: GroupLabels, num_groups: int) -> Vector:
    r"""Projection of each group onto its own ball $\lVert u_g \rVert_1 \le r_g$.

    `v` and the labels `groups` in 0, …, num_groups − 1 are (p,), in any order; `radius` is a scalar or
    (num_groups,). Source: as `l1_ball`.

    >>> l1_ball_groups(jnp.array([2.0, 0.5, -1.5]), 1.0, jnp.array([0, 1, 0]), 2).tolist()
    [0.75, 0.5, -0.25]
    """
    return _l1_ball(v, radius, groups, num_groups)


def linf(v: Vector, threshold: ArrayLike) -> Vector:
    r"""The prox of $t\lVert u \rVert_\infty$: clip `v` at the level where the clipped parts sum to t.

    `v` is (p,), `threshold` a scalar t ≥ 0. It is 0 iff $\lVert v \rVert_1 \le t$; what is clipped has one
    magnitude exactly. Source: Parikh and Boyd (2014), Proximal Algorithms, section 6.5.2, and Moreau.

    >>> linf(jnp.array([2.0, -1.5, 0.5]), 1.0).tolist()
    [1.25, -1.25, 0.5]
    """
    return _linf(v, threshold, None, 1)


def linf_groups(v: Vector, threshold: ArrayLike, groups: GroupLabels, num_groups: int) -> Vector:
    r"""The prox of $\sum_g t_g \lVert u_g \rVert_\infty$: each group clipped at its own level, as in `linf`.

    `v` and `groups` as in `l1_ball_groups`; `threshold` is a scalar or (num_groups,), ≥ 0. Source: as `linf`.

    >>> linf_groups(jnp.array([2.0, 0.5, -1.5]), 1.0, jnp.array([0, 1, 0]), 2).tolist()
    [1.25, 0.0, -1.25]
    """
    return _linf(v, threshold, groups, num_groups)


def l2_ball(v: Float[Array, "*s"], radius: ArrayLike) -> Float[Array, "*s"]:
    r"""Projection onto the ball $\lVert u \rVert_2 \le r$: `v` inside, $v\,r/\lVert v \rVert$ outside.

    `v` has any shape and is one vector, `radius` is a scalar ≥ 0. Source: Parikh and Boyd (2014), Proximal
    Algorithms, section 6.5.1.

    >>> l2_ball(jnp.array([3.0, -4.0]), 2.5).tolist()
    [1.5, -2.0]
    """
    x, radius = at_least_float32(v, radius)
    norm = scaled_norm(x)
    inside = norm.value <= radius
    factor = jnp.where(inside, 0.0, radius) / norm.scale / jnp.where(inside, 1.0, norm.ratio)
    return jnp.where(inside, x, x * factor).astype(v.dtype)
