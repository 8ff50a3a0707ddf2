r"""Array kernels of the proximal maps of a whole vector: projections, sorted and fused coordinates.

As in `thresholds`: plain functions of arrays in the dtype of their first argument, exact zeros and exact
ties. Which coordinates are kept, clipped, pooled or fused is found first, in loops that carry no derivative;
the result is then a smooth function of the arguments on that piece, and so are its derivatives. Sums are
taken at the end from the data, as distances from a level already known.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.ops import segment_sum
from jaxtyping import Array

from jaxreg._batching import transparent_rule
from jaxreg._pytree import two_sum
from jaxreg._typing import ArrayLike
from jaxreg.thresholds import _lift, _unit

__all__ = [
    "l1_ball",
    "l1_ball_groups",
    "l2_ball",
    "linf",
    "linf_groups",
    "simplex",
    "sorted_l1",
    "total_variation",
]


def _water_level(w: Array, total: Array, add: Callable[[Array], Array]) -> Array:
    """The level θ with Σ max(w − θ, 0) = total, where the largest of w is 0; `add` sums, and repeats the sum.

    Newton on that convex piecewise linear function. The level starts at −total, below the root, and only
    rises; so the support only shrinks until it stays, and what cannot be in it is never added.
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


def simplex(v: Array, total: ArrayLike) -> Array:
    r"""The point nearest to `v` with $u \ge 0$ and $\sum_j u_j = s$: $\max(v - \theta, 0)$ for one level θ.

    `v` is (p,), `total` a scalar s ≥ 0. Source: Held, Wolfe and Crowder (1974), and Michelot (1986) for the
    way to θ without sorting; Duchi et al. (2008) sort.

    >>> simplex(jnp.array([2.0, 1.5, -1.0]), 1.0).tolist()
    [0.75, 0.25, 0.0]
    """
    x, total = _lift(v, total)
    w = x - lax.stop_gradient(jnp.max(x))
    level = _water_level(w, total, jnp.sum)
    return jnp.where(w <= level, 0.0, w - level).astype(v.dtype)


def _ball(x: Array, radius: Array, groups: Array | None, num_groups: int) -> tuple[Array, ...]:
    """Per coordinate: is its group inside the ℓ1 ball, the largest magnitude, how far below, the level."""
    size = jnp.abs(x)
    if groups is None:
        top, add = jnp.max(lax.stop_gradient(size)), jnp.sum
    else:
        top = jnp.zeros(num_groups, x.dtype).at[groups].max(lax.stop_gradient(size))[groups]
        radius = jnp.broadcast_to(radius, (num_groups,))[groups]
        add = lambda a: segment_sum(a, groups, num_groups)[groups]  # noqa: E731
    below = size - top
    return add(size) <= radius, top, below, _water_level(below, radius, add)


def _l1_ball(v: Array, radius: ArrayLike, groups: Array | None, num_groups: int) -> Array:
    x, radius = _lift(v, radius)
    inside, _, below, level = _ball(x, radius, groups, num_groups)
    outside = jnp.copysign(jnp.where(below <= level, 0.0, below - level), x)
    return jnp.where(inside, x, outside).astype(v.dtype)


def _linf(v: Array, threshold: ArrayLike, groups: Array | None, num_groups: int) -> Array:
    x, t = _lift(v, threshold)
    inside, top, _, level = _ball(x, t, groups, num_groups)
    height = jnp.where(top + level > 0, top + level, 0.0)
    clipped = jnp.where(jnp.abs(x) > height, jnp.copysign(height, x), x)
    return jnp.where(inside, 0.0, clipped).astype(v.dtype)


def l1_ball(v: Array, radius: ArrayLike) -> Array:
    r"""The point nearest to `v` with $\lVert u \rVert_1 \le r$; `v` itself where it is inside.

    `v` is (p,), `radius` a scalar ≥ 0. Source: Duchi et al. (2008), section 4: the simplex of the magnitudes.

    >>> l1_ball(jnp.array([2.0, -1.5, 0.5]), 1.0).tolist()
    [0.75, -0.25, 0.0]
    """
    return _l1_ball(v, radius, None, 1)


def l1_ball_groups(v: Array, radius: ArrayLike, groups: Array, num_groups: int) -> Array:
    r"""Each group of `v` to its own ball $\lVert u_g \rVert_1 \le r_g$, as `l1_ball` does.

    `v` and the labels `groups` in 0, …, num_groups − 1 are (p,), in any order; `radius` is a scalar or
    (num_groups,). Source: as `l1_ball`.

    >>> l1_ball_groups(jnp.array([2.0, 0.5, -1.5]), 1.0, jnp.array([0, 1, 0]), 2).tolist()
    [0.75, 0.5, -0.25]
    """
    return _l1_ball(v, radius, groups, num_groups)


def linf(v: Array, threshold: ArrayLike) -> Array:
    r"""The prox of $t\lVert u \rVert_\infty$: clips `v` at the level where the clipped parts sum to t.

    `v` is (p,), `threshold` a scalar t ≥ 0. It is 0 iff $\lVert v \rVert_1 \le t$; what is clipped has one
    magnitude exactly. Source: Parikh and Boyd (2014), Proximal Algorithms, section 6.5.2, and Moreau.

    >>> linf(jnp.array([2.0, -1.5, 0.5]), 1.0).tolist()
    [1.25, -1.25, 0.5]
    """
    return _linf(v, threshold, None, 1)


def linf_groups(v: Array, threshold: ArrayLike, groups: Array, num_groups: int) -> Array:
    r"""The prox of $\sum_g t_g \lVert u_g \rVert_\infty$: each group clipped at its own level, as in `linf`.

    `v` and `groups` as in `l1_ball_groups`; `threshold` is a scalar or (num_groups,), ≥ 0. Source: as `linf`.

    >>> linf_groups(jnp.array([2.0, 0.5, -1.5]), 1.0, jnp.array([0, 1, 0]), 2).tolist()
    [1.25, 0.0, -1.25]
    """
    return _linf(v, threshold, groups, num_groups)


def l2_ball(v: Array, radius: ArrayLike) -> Array:
    r"""The point nearest to `v` with $\lVert u \rVert_2 \le r$: `v` inside, $v\,r/\lVert v \rVert$ outside.

    `v` has any shape and is one vector, `radius` is a scalar ≥ 0. Source: Parikh and Boyd (2014), Proximal
    Algorithms, section 6.5.1.

    >>> l2_ball(jnp.array([3.0, -4.0]), 2.5).tolist()
    [1.5, -2.0]
    """
    x, radius = _lift(v, radius)
    top = _unit(lax.stop_gradient(jnp.max(jnp.abs(x))))
    squares = jnp.sum(jnp.square(x / top))
    norm = jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))
    inside = top * norm <= radius
    factor = jnp.where(inside, 0.0, radius) / top / jnp.where(inside, 1.0, norm)
    return jnp.where(inside, x, x * factor).astype(v.dtype)


def _at(array: Array, index: Array) -> Array:
    return lax.dynamic_index_in_dim(array, index, keepdims=False)


def _put(array: Array, value: Array, index: Array) -> Array:
    return lax.dynamic_update_index_in_dim(array, value, index, 0)


def _cells(rows: Array, j: Array, *columns: int) -> list[Array]:
    return [lax.dynamic_slice(rows, (j, jnp.int32(c)), (1, 1))[0, 0] for c in columns]


def _split(a: Array) -> list[Array]:
    """A number that will be added to many others: in two parts if it is a float32."""
    return [a, jnp.zeros_like(a)] if a.dtype == jnp.float32 else [a]


def _add(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
    """a + b of numbers in one part or in two."""
    if len(a) == 1:
        return [a[0] + b[0]]
    total, lost = two_sum(a[0], b[0])
    return [*two_sum(total, lost + (a[1] + b[1]))]


def _head(a: Array) -> Array:
    """The leading 12 of the 24 bits of a float32: products of heads and of what they leave are exact."""
    return lax.bitcast_convert_type(lax.bitcast_convert_type(a, jnp.uint32) & jnp.uint32(0xFFFFF000), a.dtype)


def _excess(a: Sequence, b: Array, c: Sequence[Array]) -> Array:
    """a·b − c where a and c are in one part or in two; near 0 exact, even if products and sums are fused."""
    if len(c) == 1:
        return a[0] * b - c[0]
    first, top = _head(a[0]), _head(b)
    rest, low = a[0] - first, b - top
    return ((((first * top - c[0]) + first * low) + rest * top) + rest * low) + (a[1] * b - c[1])


def _quotient(a: Sequence[Array], b: Array) -> list[Array]:
    """a / b where a is in one part or in two; the sum of the parts is the number."""
    q = a[0] / b
    return [q] if len(a) == 1 else [q, -_excess((q, 0.0), b, a) / b]


def _one_by_one(function: Callable) -> Callable:
    """The function with batches that are a loop over lanes on CPU, elsewhere as they are.

    XLA on CPU compiles a loop over numbers as one function, one over vectors op by op, 6 times slower.
    """
    function = custom_vmap(function)

    @function.def_vmap
    @transparent_rule
    def rule(size: int, batched: list, *args: Array) -> tuple:
        lanes = tuple(
            x if b else jnp.broadcast_to(x, (size, *x.shape)) for x, b in zip(args, batched, strict=True)
        )
        out = lax.platform_dependent(
            *lanes,
            cpu=lambda *lanes: lax.map(lambda lane: function(*lane), lanes),
            default=jax.vmap(function.fun),
        )
        return out, jax.tree.map(lambda _: True, out)

    return function


@_one_by_one
def _pool(z: Array) -> tuple[Array, Array]:
    """Labels and means of the blocks of the non-increasing least-squares fit to z (pool adjacent violators).

    A block is its mean, its sum and its count: only sums are added, so that rounding does not pile up.
    The inner loop carries numbers only and the outer one writes once: buffers in both would be copied.
    """
    p, parts = z.shape[0], len(_split(z))

    def push(state: tuple, value: Array) -> tuple:
        blocks, last = state

        def violated(block: tuple) -> Array:
            k, count, *total = block
            return (k >= 0) & (_excess(_cells(blocks, k, *range(parts)), count, total) < 0)

        def merge(block: tuple) -> tuple:
            k, count, *total = block
            *other, more = _cells(blocks, k, *range(parts, 2 * parts + 1))
            return k - 1, count + more, *_add(total, other)

        k, count, *total = lax.while_loop(violated, merge, (last, jnp.ones_like(value), *_split(value)))
        return (_put(blocks, jnp.stack([*_quotient(total, count), *total, count]), k + 1), k + 1), None

    (blocks, last), _ = lax.scan(push, (jnp.zeros((p, 2 * parts + 1), z.dtype), jnp.int32(-1)), z)
    counts = blocks[:, -1].astype(jnp.int32)
    starts = jnp.where(jnp.arange(p) <= last, jnp.cumsum(counts) - counts, p)
    labels = jnp.cumsum(jnp.zeros(p, jnp.int32).at[starts].set(1, mode="drop")) - 1
    return labels, jnp.sum(blocks[:, :parts], 1)[labels]


def _run_means(x: Array, labels: Array) -> Array:
    """The mean of x over each run of equal labels, repeated."""
    total, count = (segment_sum(a, labels, x.size, indices_are_sorted=True) for a in (x, jnp.ones_like(x)))
    return (total / jnp.where(count > 0, count, 1.0))[labels]


def _keep(level: Array, means: Array) -> Array:
    """The means; in float32, whose long sums are worse than a level from two parts, their derivative only."""
    return level + (means - lax.stop_gradient(means)) if level.dtype == jnp.float32 else means


def sorted_l1(v: Array, lams: ArrayLike) -> Array:
    r"""The prox of the sorted ℓ1 norm $\sum_i \lambda_i |u|_{(i)}$, the largest magnitude first (SLOPE).

    `v` and `lams` are (p,); `lams` is non-increasing and ≥ 0. The sorted magnitudes minus `lams`, made
    non-increasing by pooling, then clipped at 0; pooled coordinates have one magnitude exactly.
    Source: Bogdan et al. (2015), SLOPE, algorithms 3 and 4.

    >>> sorted_l1(jnp.array([4.0, -5.0, 1.0]), jnp.array([3.0, 1.0, 1.0])).tolist()
    [2.5, -2.5, 0.0]
    """
    x, lams = _lift(v, lams)
    size = jnp.abs(x)
    order = jnp.argsort(lax.stop_gradient(size), descending=True)
    z = size[order] - lams
    labels, level = _pool(lax.stop_gradient(z))
    fit = _keep(level, level + _run_means(z - level, labels))
    none = (_keep(level, _run_means(z, labels)) <= 0) | (fit <= 0)  # the first is 0 where the sum is
    u = jnp.zeros_like(x).at[order].set(jnp.where(none, 0.0, fit), unique_indices=True)
    return jnp.copysign(u, x).astype(v.dtype)


def _find_root(side: int, start: list, j: Array, last: Array, knots: Array) -> tuple[Array, Array, Array]:
    """Walk over the knots from one end to where the derivative of the message meets its bound.

    `side` is 1 from the left, −1 from the right. The line before the first knot has slope 1 and its root at
    `start`. Gives the root, the new knot, which is there, and the next one.
    """
    parts = len(start)

    def below(state: tuple) -> Array:
        j, slope, *moment = state
        return (side * (last - j) >= 0) & (side * _excess(_cells(knots, j, *range(parts)), slope, moment) < 0)

    def step(state: tuple) -> tuple:
        j, slope, *moment = state
        *change, bend = (side * a for a in _cells(knots, j, *range(parts, 2 * parts + 1)))
        return j + side, slope + bend, *_add(moment, change)

    j, slope, *moment = lax.while_loop(below, step, (j, jnp.ones_like(start[0]), *start))
    root = _quotient(moment, slope)
    return sum(root), jnp.stack([*root, *(side * a for a in (*moment, slope))]), j


@_one_by_one
def _fuse(y: Array, w: Array) -> Array:
    """The prox of total variation by dynamic programming (Johnson 2013): exact fusions, values to rounding.

    The message of the first i points, as a function of the next value, is convex and piecewise quadratic.
    Its derivative is kept as a queue of knots and clipped to ±w_i; each step cuts it at both ends. A knot is
    its place, its moment (the place times the change of slope) and the change of slope, an integer. The
    lines between are sums of moments and slopes, and a new place is a quotient of two such sums: rounding in
    places is not passed on. In float32 places and moments have two parts: without, the moments, whose sum
    must stay −2w_i, would drift from it by a rounding in each step, and the fit with them. The
    buffer is read by one loop before it is written (two would copy it each time), and the state is small
    enough for XLA to compile the whole as one function (on CPU: below 1024 bytes in a step, else 15 times
    slower).
    """
    n, parts = y.shape[0], 2 if y.dtype == jnp.float32 else 1
    w = jnp.pad(w, 1)
    gap = two_sum(w[1:], -w[:-1])[:parts]
    starts = jnp.stack(
        [a for side in (-1, 1) for a in _add((y, jnp.zeros_like(y))[:parts], [side * g for g in gap])], 1
    )

    def forward(i: Array, state: tuple) -> tuple:
        knots, left, right, ends = state
        start = list(_at(starts, i))
        low, knot, j = _find_root(1, start[:parts], left, right, knots)
        knots = _put(knots, knot, j - 1)
        high, knot, k = _find_root(-1, start[parts:], right, j, knots)
        knots = _put(knots, knot, k + 1)
        right = jnp.where(_at(w, i + 1) == 0, j - 2, k + 1)  # weight 0 cuts the chain: forget all knots
        return knots, j - 1, right, _put(ends, jnp.stack([low, high]), i)

    knots, ends = jnp.zeros((2 * n + 2, 2 * parts + 1), y.dtype), jnp.zeros((n, 2), y.dtype)
    start = (knots, jnp.int32(n + 1), jnp.int32(n), ends)
    ends = lax.fori_loop(jnp.int32(0), jnp.int32(n), forward, start)[-1]

    def backward(after: Array, ends: Array) -> tuple[Array, Array]:
        u = jnp.maximum(jnp.minimum(after, ends[1]), ends[0])
        return u, u

    return lax.scan(backward, ends[-1, 0], ends, reverse=True)[1]


def total_variation(v: Array, weights: ArrayLike) -> Array:
    r"""The prox of $\sum_i w_i |u_{i+1} - u_i|$, in time linear in the length.

    `v` is (n,), `weights` a scalar or (n − 1,), ≥ 0; an infinite weight ties its neighbours. Fused
    neighbours are equal exactly: each run has the mean of its data, moved by the weights at its two ends.
    Source: Johnson (2013), A dynamic programming algorithm for the fused lasso; weighted as in Barbero and
    Sra (2018).

    >>> total_variation(jnp.array([0.0, 1.0, 5.0, 6.0]), 1.0).tolist()
    [1.0, 1.0, 5.0, 5.0]
    """
    x, w = _lift(v, weights)
    n = x.shape[0]
    if n < 2:
        return v
    w = jnp.broadcast_to(w, (n - 1,))
    y = lax.stop_gradient(x)
    # No more than this ever binds; beyond it the first knots would lie too far out to be told apart.
    enough = 0.5 * n * (jnp.max(y) - jnp.min(y))
    u = _fuse(y, jnp.minimum(lax.stop_gradient(w), enough))
    rise = jnp.sign(jnp.diff(u))
    pull = jnp.pad(jnp.where(rise == 0, 0.0, w) * rise, 1)
    cut = (rise != 0) | (w == 0)
    labels = jnp.pad(jnp.cumsum(cut.astype(jnp.int32)), (1, 0))
    shift = _run_means(jnp.diff(pull), labels)
    base = u - lax.stop_gradient(shift)  # near the mean of the data, so that the sum stays small
    return _keep(u, base + _run_means(x - base, labels) + shift).astype(v.dtype)
