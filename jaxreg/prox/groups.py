r"""Proximal maps of penalties on the Euclidean norms of groups of coordinates.

Groups are given by one integer label per coordinate, so that one segment sum serves all of them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxreg._numerics import at_least_float32, group_norms, spread, sum_groups
from jaxreg._typing import ArrayLike, GroupLabels, Vector
from jaxreg.prox.elementwise import mcp

#: Bound of the number of Newton steps for a radius, so that the loop ends for any input.
_MAX_STEPS = 60

__all__ = ["block_mcp", "block_soft", "block_soft_metric"]


def block_soft(v: Vector, threshold: ArrayLike, groups: GroupLabels, num_groups: int) -> Vector:
    r"""Block soft threshold, the prox of $\sum_g t_g\lVert u_g\rVert$.

    Multiplies each group of `v` by $\max(0, 1 - t_g/\lVert v_g\rVert)$.

    `v` and the labels `groups` in 0, …, num_groups − 1 are (p,), in any order; `threshold` is a scalar or
    (num_groups,), ≥ 0. A group is 0 iff its norm is ≤ its threshold.
    Source: Yuan and Lin (2006), equation 2.4.

    >>> block_soft(jnp.array([3.0, 4.0, 0.5]), 2.5, jnp.array([0, 0, 1]), 2).tolist()
    [1.5, 2.0, 0.0]
    """
    x, t = at_least_float32(v, threshold)
    scale, ratio = norms = group_norms(x, groups, num_groups)
    dropped = norms.value <= t
    excess = jnp.where(dropped, 0.0, norms.value - jnp.where(dropped, 0.0, t)) / scale
    factor = excess / jnp.where(dropped, 1.0, ratio)
    return (x * spread(factor, groups)).astype(v.dtype)


def block_mcp(
    v: Vector, step: ArrayLike, lam: ArrayLike, gamma: ArrayLike, groups: GroupLabels, num_groups: int
) -> Vector:
    r"""The prox of `step` times the group MCP: the minimax concave penalty of each group's norm.

    `v` and `groups` as in `block_soft`; `step`, `lam` and `gamma` are scalars or (num_groups,). Each group is
    scaled so that its norm becomes `mcp` of it. Source: Huang, Breheny and Ma (2012), section 2.2.

    >>> block_mcp(jnp.array([3.0, 4.0, 0.5, 9.0]), 1.0, 3.75, 2.0, jnp.array([0, 0, 1, 2]), 3).tolist()
    [1.5, 2.0, 0.0, 9.0]
    """
    x, t, lam, gamma = at_least_float32(v, step, lam, gamma)
    scale, ratio = norms = group_norms(x, groups, num_groups)
    factor = mcp(norms.value, t, lam, gamma) / scale / jnp.where(ratio == 0, 1.0, ratio)
    return (x * spread(factor, groups)).astype(v.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _block_radius(num_groups: int, v: Vector, pull: Vector, groups: GroupLabels) -> Float[Array, " G"]:
    """Solve Σ_j (v_j/(ρ + pull_j))² = 1 for ρ in each group whose sum at ρ = 0 exceeds 1.

    Newton's method on 1/√sum, which is concave and increasing, so that iterates from the left never pass the
    root. It starts at a ρ where no term exceeds 1, so that nothing overflows.
    """
    start = jnp.zeros(num_groups, v.dtype).at[groups].max(jnp.abs(v) - pull, wrap_negative_indices=False)

    def body(state: tuple) -> tuple:
        count, rho, _ = state
        reach = spread(rho, groups) + pull
        reach = jnp.where(reach > 0, reach, 1.0)
        square = jnp.square(v / reach)
        total = sum_groups(square, groups, num_groups)
        slope = sum_groups(square / reach, groups, num_groups)
        move = (jnp.sqrt(total) - 1.0) * total / jnp.where(slope > 0, slope, 1.0)
        new = jnp.where(total > 1.0, rho + move, rho)
        return count + 1, new, jnp.any(new > rho)

    _, rho, _ = lax.while_loop(lambda s: (s[0] < _MAX_STEPS) & s[2], body, (0, start, jnp.array(True)))
    return rho


@_block_radius.defjvp
def _block_radius_jvp(num_groups: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    v, pull, groups = primals
    rho = _block_radius(num_groups, v, pull, groups)
    reach = spread(rho, groups) + pull
    reach = jnp.where(reach > 0, reach, 1.0)
    p = v / reach
    weight = sum_groups(p * p / reach, groups, num_groups)
    change = sum_groups(p * (tangents[0] - p * tangents[1]) / reach, groups, num_groups)
    return rho, change / jnp.where(weight > 0, weight, 1.0)


def block_soft_metric(
    v: Vector, threshold: ArrayLike, metric: ArrayLike, groups: GroupLabels, num_groups: int
) -> Vector:
    r"""Block soft threshold with one step per coordinate, d = `metric` > 0.

    The minimiser of $\sum_j (u_j - v_j)^2/2d_j + \sum_g t_g\lVert u_g\rVert$. `v`, `threshold` and `groups`
    are as in `block_soft`; `metric` is a scalar or (p,). A group is 0 iff
    $\lVert v_g/d_g\rVert \le t_g$; else $u_j = v_j\rho/(\rho + t_g d_j)$, where $\rho = \lVert u_g\rVert$
    solves one scalar equation, by Newton's method to machine precision. Source: the secular equation of Moré
    and Sorensen (1983), Computing a trust region step, section 3.

    >>> u = block_soft_metric(jnp.array([3.0, 4.0, 0.5]), 2.5, 1.0, jnp.array([0, 0, 1]), 2)
    >>> [round(x, 5) for x in u.tolist()]
    [1.5, 2.0, 0.0]
    """
    x, t, d = at_least_float32(v, threshold, metric)
    t = jnp.broadcast_to(t, (num_groups,))
    dropped = group_norms(lax.stop_gradient(x / d), groups, num_groups).value <= t
    scale = spread(group_norms(x, groups, num_groups).scale, groups)
    pull = spread(jnp.where(dropped, 0.0, t), groups) * d / scale
    rho = spread(_block_radius(num_groups, x / scale, pull, groups), groups)
    factor = jnp.where(spread(dropped, groups), 0.0, rho) / jnp.where(rho + pull > 0, rho + pull, 1.0)
    return (x * factor).astype(v.dtype)
