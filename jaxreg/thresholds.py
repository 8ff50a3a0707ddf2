r"""Array kernels of the proximal maps: elementwise, by groups of coordinates, and of singular values.

No classes, no pytrees. Each returns a global minimiser $u$ of $\frac12(u - v)^2 + t\,g(u)$ (a sum of squares
for groups and matrices), ties to the sparser one, in the dtype of its first argument; halves are worked out
in float32. Zeros are made by a branch or a clamp, so that what is zero in exact arithmetic is `== 0` in every
dtype; a NaN goes through. Where a branch is not taken its arguments are replaced first, so that no
derivative is inf·0. Balls, simplex, sorted and fused coordinates stand in `projections`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.ops import segment_sum
from jaxtyping import Array

from jaxreg._typing import ArrayLike

__all__ = [
    "asymmetric_soft",
    "block_mcp",
    "block_soft",
    "block_soft_metric",
    "capped",
    "half",
    "hard",
    "huber_norm",
    "log_sum",
    "mcp",
    "scad",
    "singular_soft",
    "soft",
]


def _lift(v: Array, *parameters: ArrayLike) -> tuple[Array, ...]:
    """All as arrays of v's dtype, float32 for halves: a rounded parameter would move every threshold."""
    dtype = jnp.promote_types(v.dtype, jnp.float32)
    return tuple(jnp.asarray(x, dtype) for x in (v, *parameters))


def _geometric_mean(a: Array, b: Array) -> Array:
    """√(ab), also where the product leaves the range of the dtype."""
    product = a * b
    fits = (product > jnp.finfo(product.dtype).tiny) & (product < jnp.inf)
    return jnp.where(fits, jnp.sqrt(product), jnp.sqrt(a) * jnp.sqrt(b))


def soft(v: Array, threshold: ArrayLike) -> Array:
    r"""Soft threshold $\operatorname{sign}(v)\max(|v| - t, 0)$, the prox of $t|\cdot|$.

    Elementwise; `threshold` broadcasts against `v` and is not negative. Source: Parikh and Boyd (2014),
    Proximal Algorithms, section 6.5.2.

    >>> soft(jnp.array([-3.0, 0.5, 2.0]), 1.0).tolist()
    [-2.0, 0.0, 1.0]
    """
    x, t = _lift(v, threshold)
    return jnp.where(jnp.abs(x) <= t, 0.0, x - jnp.copysign(t, x)).astype(v.dtype)


def asymmetric_soft(v: Array, lower: ArrayLike, upper: ArrayLike) -> Array:
    r"""The prox of $b\max(u, 0) + a\max(-u, 0)$, a = `lower`, b = `upper`: $v - b$ above b, $v + a$ below −a.

    Elementwise; both broadcast against `v`; one may be negative, as in a slope plus a lasso, while
    a + b ≥ 0. Source: Parikh and Boyd (2014), Proximal Algorithms, section 6.5.2, with two slopes.

    >>> asymmetric_soft(jnp.array([-3.0, -0.5, 0.5, 3.0]), 0.25, 1.0).tolist()
    [-2.75, -0.25, 0.0, 2.0]
    """
    x, a, b = _lift(v, lower, upper)
    return jnp.where(x > b, x - b, jnp.where(x >= -a, 0.0, x + a)).astype(v.dtype)


def hard(v: Array, threshold: ArrayLike) -> Array:
    r"""Hard threshold: $v$ where $|v|$ > `threshold`, else 0.

    The prox of $t\lambda\,1[u \ne 0]$ is that with threshold $\sqrt{2t\lambda}$. Elementwise; `threshold`
    broadcasts against `v` and is not negative. Source: Blumensath and Davies (2008), equation 11.

    >>> hard(jnp.array([-3.0, 0.5, 1.0]), 1.0).tolist()
    [-3.0, 0.0, 0.0]
    """
    x, t = _lift(v, threshold)
    return jnp.where(jnp.abs(x) <= t, 0.0, x).astype(v.dtype)


def mcp(v: Array, step: ArrayLike, lam: ArrayLike, gamma: ArrayLike) -> Array:
    r"""The prox of `step` times the minimax concave penalty, whose slope falls from λ at 0 to 0 at γλ.

    $g(u) = \lambda|u| - u^2/2\gamma$ for $|u| \le \gamma\lambda$, then $\gamma\lambda^2/2$; γ > 0. For t < γ,
    the firm threshold: 0 up to $t\lambda$, $(|v| - t\lambda)/(1 - t/\gamma)$ up to $\gamma\lambda$, then $v$.
    For t ≥ γ the first piece is concave and only its ends can win: the hard threshold at
    $\sqrt{t\gamma}\lambda$. Elementwise; parameters broadcast. Source: Zhang (2010), equations 2.1 and 2.6.

    >>> mcp(jnp.array([-3.0, 0.5, 1.5]), 1.0, 1.0, 2.0).tolist()
    [-3.0, 0.0, 1.0]
    """
    x, t, lam, gamma = _lift(v, step, lam, gamma)
    size = jnp.abs(x)
    firm = t < gamma
    dead = jnp.where(firm, t, _geometric_mean(t, gamma)) * lam
    between = firm & (size > t * lam) & (size <= gamma * lam)
    shrunk = jnp.where(between, size - t * lam, 0.0) / (1.0 - jnp.where(firm, t, 0.0) / gamma)
    shrunk = jnp.where(shrunk > size, size, shrunk)  # where t is one rounding below γ
    return jnp.where(between, jnp.copysign(shrunk, x), jnp.where(size <= dead, 0.0, x)).astype(v.dtype)


def scad(v: Array, step: ArrayLike, lam: ArrayLike, a: ArrayLike) -> Array:
    r"""The prox of `step` times the smoothly clipped absolute deviation, slope λ up to λ and 0 from aλ on.

    $g(u) = \lambda|u|$ for $|u| \le \lambda$, $(2a\lambda|u| - u^2 - \lambda^2)/2(a - 1)$ up to $a\lambda$,
    then $(a + 1)\lambda^2/2$; a > 2. For t < a − 1: the soft threshold up to $(1 + t)\lambda$,
    $|v| - t(a\lambda - |v|)/(a - 1 - t)$ up to $a\lambda$, then $v$. For t ≥ a − 1 the middle piece is
    concave; the soft threshold and $v$ cost the same at $(t + a + 1)\lambda/2$, or, where the soft threshold
    is still 0 there (t ≥ a + 1), at $\sqrt{t(a + 1)}\lambda$. Elementwise; parameters broadcast.
    Source: Fan and Li (2001), equation 2.8, for t = 1; the others from the costs of the pieces.

    >>> scad(jnp.array([-4.0, 0.5, 1.5, 2.5]), 1.0, 1.0, 3.0).tolist()
    [-4.0, 0.0, 0.5, 2.0]
    """
    x, t, lam, a = _lift(v, step, lam, a)
    size = jnp.abs(x)
    bend = a - 1.0 - t
    jump = jnp.where(t < a + 1.0, 0.5 * (t + a + 1.0), _geometric_mean(t, a + 1.0))
    edge = jnp.where(bend > 0, 1.0 + t, jump) * lam
    between = (bend > 0) & (size > edge) & (size <= a * lam)
    shrunk = size - t * jnp.where(between, a * lam - size, 0.0) / jnp.where(bend > 0, bend, 1.0)
    shrunk = jnp.where(shrunk < lam, lam, shrunk)  # where t is one rounding below a − 1
    beyond = jnp.where(between, jnp.copysign(shrunk, x), x)
    return jnp.where(size <= edge, soft(x, t * lam), beyond).astype(v.dtype)


def capped(v: Array, step: ArrayLike, lam: ArrayLike, cap: ArrayLike) -> Array:
    r"""The prox of `step` times the capped ℓ1 penalty $g(u) = \lambda\min(|u|, c)$, c = `cap` ≥ 0.

    With $s = t\lambda$, the soft threshold at s and $v$ cost the same at $c + s/2$, or, where the soft
    threshold is still 0 there (s > 2c), at $\sqrt{2sc}$; beyond, v. Elementwise; parameters broadcast.
    Source: Gong et al. (2013), A general iterative shrinkage and thresholding algorithm, table 1.

    >>> capped(jnp.array([-4.0, 0.5, 1.5, 3.0]), 1.0, 1.0, 2.0).tolist()
    [-4.0, 0.0, 0.5, 3.0]
    """
    x, t, lam, c = _lift(v, step, lam, cap)
    s = t * lam
    jump = jnp.where(s <= 2.0 * c, c + 0.5 * s, _geometric_mean(2.0 * s, c))
    return jnp.where(jnp.abs(x) <= jump, soft(x, s), x).astype(v.dtype)


@jax.custom_jvp
def _cubic_root(c: Array) -> Array:
    """The largest root w of w³ − w + c, for c in [0, √(2/27)], where it falls from 1 to √(2/3)."""
    w = 1.0 - c * (0.5 + c * (0.375 + 0.8 * c))
    for _ in range(3):  # from 3e-3 off, Newton is below 1e-17 after three
        w = w - (w * (w * w - 1.0) + c) / (3.0 * w * w - 1.0)
    return w


@_cubic_root.defjvp
def _cubic_root_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    w = _cubic_root(*primals)
    return w, -tangents[0] / (3.0 * w * w - 1.0)


def half(v: Array, step: ArrayLike, lam: ArrayLike) -> Array:
    r"""The prox of `step` times $g(u) = \lambda|u|^{1/2}$.

    With $s = t\lambda$: 0 up to $\frac32 s^{2/3}$, then $v w^2$ with w the largest root of
    $w^3 - w + s/(2|v|^{3/2}) = 0$, which leaves $\frac23 v$ at the jump. Elementwise; parameters broadcast.
    Source: Xu et al. (2012), L1/2 regularization, theorem 1, whose cosine is that root.

    >>> [round(x, 3) for x in half(jnp.array([-1.5, 0.5, 6.0]), 1.0, 1.0).tolist()]
    [0.0, 0.0, 5.792]
    """
    x, t, lam = _lift(v, step, lam)
    s, size = t * lam, jnp.abs(x)
    some = lax.rsqrt(jnp.where(size == 0, 1.0, size))
    edge = (2.0 / 27.0) ** 0.5 * (1.0 - 8.0 * jnp.finfo(x.dtype).eps)  # a tie, rounded, is 0 still
    dropped = (size == 0) | (0.5 * s * some * some * some >= edge)
    root = lax.rsqrt(jnp.where(dropped, 1.0, size))
    w = _cubic_root(0.5 * jnp.where(dropped, 0.0, s) * root * root * root)
    return jnp.where(dropped, 0.0, x * (w * w)).astype(v.dtype)


def log_sum(v: Array, step: ArrayLike, lam: ArrayLike, eps: ArrayLike) -> Array:
    r"""The prox of `step` times $g(u) = \lambda\log(1 + |u|/\varepsilon)$, ε = `eps` > 0.

    With $s = t\lambda$ the stationary point is $|v| - 2s/(m + \sqrt{m^2 - 4s})$, $m = |v| + \varepsilon$. For
    $s \le \varepsilon^2$ the cost is convex: 0 up to $s/\varepsilon$. Else the costs of 0 and of that point
    are compared. Elementwise; parameters broadcast. Source: Gong et al. (2013), A general iterative shrinkage
    and thresholding algorithm, table 1; the penalty is that of Candès, Wakin and Boyd (2008).

    >>> [round(x, 3) for x in log_sum(jnp.array([-3.0, 0.5, 1.5]), 1.0, 1.0, 1.0).tolist()]
    [-2.732, 0.0, 1.0]
    """
    x, t, lam, eps = _lift(v, step, lam, eps)
    s, size = t * lam, jnp.abs(x)
    top, one = jnp.finfo(x.dtype).max, 1.0 - jnp.finfo(x.dtype).eps

    def stationary(size: Array, m: Array, s: Array) -> Array:
        fold = jnp.minimum(4.0 * s / m / m, one)  # a root at 0 has an infinite derivative
        return size - 2.0 * s / (m * (1.0 + jnp.sqrt(1.0 - fold)))

    m = size + eps
    u = lax.stop_gradient(stationary(size, m, s))
    gain = size - 0.5 * u - s * jnp.log1p(jnp.minimum(u / eps, top)) / jnp.where(u > 0, u, 1.0)
    none = (4.0 * s / m / m >= 1.0) | (u <= 0) | (gain <= 0)
    dropped = jnp.where(s / eps <= eps, size <= s / eps, none)
    u = stationary(size, jnp.where(dropped, 1.0, m), jnp.where(dropped, 0.0, s))
    return jnp.where(dropped | (u <= 0), 0.0, jnp.copysign(u, x)).astype(v.dtype)


def huber_norm(v: Array, step: ArrayLike, lam: ArrayLike, delta: ArrayLike) -> Array:
    r"""The prox of `step` times λ times Huber's function: $u^2/2\delta$ up to δ, then $|u| - \delta/2$.

    With $s = t\lambda$: $v\,\delta/(\delta + s)$ up to $\delta + s$, then v pulled by s. It makes no zeros;
    δ = 0 is the soft threshold. Elementwise; parameters broadcast; δ ≥ 0. Source: Beck (2017), First-Order
    Methods in Optimization, section 6.9 (Huber's function is the envelope of the norm).

    >>> huber_norm(jnp.array([-3.0, 0.5, 1.5]), 1.0, 1.0, 1.0).tolist()
    [-2.0, 0.25, 0.75]
    """
    x, t, lam, delta = _lift(v, step, lam, delta)
    s = t * lam
    far = jnp.abs(x) > delta + s
    slope = delta / jnp.where(delta + s > 0, delta + s, 1.0)
    return jnp.where(far, x - jnp.copysign(s, x), x * slope).astype(v.dtype)


def _unit(top: Array) -> Array:
    """The magnitude `top` as a number to divide by: its reciprocal is neither subnormal nor infinite; 1 at 0.

    XLA divides by a broadcast number by multiplying with its reciprocal, and may flush that to 0.
    """
    limits = jnp.finfo(top.dtype)
    return jnp.where(top > 0, jnp.clip(top, 4.0 / limits.max, 0.25 / limits.tiny), 1.0)


def _norms(v: Array, groups: Array, num_groups: int) -> tuple[Array, Array]:
    """Of each group the largest magnitude, as a constant, and the norm in units of it; derivative 0 at 0.

    What is divided by has to be of order 1: the derivative of a quotient squares it.
    """
    top = _unit(jnp.zeros(num_groups, v.dtype).at[groups].max(jnp.abs(lax.stop_gradient(v))))
    squares = segment_sum(jnp.square(v / top[groups]), groups, num_groups)
    return top, jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))


def block_soft(v: Array, threshold: ArrayLike, groups: Array, num_groups: int) -> Array:
    r"""Each group of `v` times $\max(0, 1 - t_g/\lVert v_g\rVert)$, the prox of $\sum_g t_g\lVert u_g\rVert$.

    `v` and the labels `groups` in 0, …, num_groups − 1 are (p,), in any order; `threshold` is a scalar or
    (num_groups,), ≥ 0. A group is 0 iff its norm is ≤ its threshold.
    Source: Yuan and Lin (2006), equation 2.4.

    >>> block_soft(jnp.array([3.0, 4.0, 0.5]), 2.5, jnp.array([0, 0, 1]), 2).tolist()
    [1.5, 2.0, 0.0]
    """
    x, t = _lift(v, threshold)
    top, norm = _norms(x, groups, num_groups)
    dropped = top * norm <= t
    excess = jnp.where(dropped, 0.0, top * norm - jnp.where(dropped, 0.0, t)) / top
    factor = excess / jnp.where(dropped, 1.0, norm)
    return (x * factor[groups]).astype(v.dtype)


def block_mcp(
    v: Array, step: ArrayLike, lam: ArrayLike, gamma: ArrayLike, groups: Array, num_groups: int
) -> Array:
    r"""The prox of `step` times the group MCP: the minimax concave penalty of each group's norm.

    `v` and `groups` as in `block_soft`; `step`, `lam` and `gamma` are scalars or (num_groups,). Each group is
    scaled so that its norm becomes `mcp` of it. Source: Huang, Breheny and Ma (2012), section 2.2.

    >>> block_mcp(jnp.array([3.0, 4.0, 0.5, 9.0]), 1.0, 3.75, 2.0, jnp.array([0, 0, 1, 2]), 3).tolist()
    [1.5, 2.0, 0.0, 9.0]
    """
    x, t, lam, gamma = _lift(v, step, lam, gamma)
    top, norm = _norms(x, groups, num_groups)
    factor = mcp(top * norm, t, lam, gamma) / top / jnp.where(norm == 0, 1.0, norm)
    return (x * factor[groups]).astype(v.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _block_radius(num_groups: int, v: Array, pull: Array, groups: Array) -> Array:
    """Per group the root ρ of Σ_j (v_j/(ρ + pull_j))² = 1, for a group where the sum at ρ = 0 is above 1.

    Newton on 1/√sum, which is concave and rises: from the left it never passes the root. It starts at a ρ
    where no term is above 1, so that nothing overflows.
    """
    start = jnp.zeros(num_groups, v.dtype).at[groups].max(jnp.abs(v) - pull)

    def body(state: tuple) -> tuple:
        count, rho, _ = state
        reach = rho[groups] + pull
        reach = jnp.where(reach > 0, reach, 1.0)
        square = jnp.square(v / reach)
        total = segment_sum(square, groups, num_groups)
        slope = segment_sum(square / reach, groups, num_groups)
        move = (jnp.sqrt(total) - 1.0) * total / jnp.where(slope > 0, slope, 1.0)
        new = jnp.where(total > 1.0, rho + move, rho)
        return count + 1, new, jnp.any(new > rho)

    _, rho, _ = lax.while_loop(lambda s: (s[0] < 60) & s[2], body, (0, start, jnp.array(True)))
    return rho


@_block_radius.defjvp
def _block_radius_jvp(num_groups: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    v, pull, groups = primals
    rho = _block_radius(num_groups, v, pull, groups)
    reach = rho[groups] + pull
    reach = jnp.where(reach > 0, reach, 1.0)
    p = v / reach
    weight = segment_sum(p * p / reach, groups, num_groups)
    change = segment_sum(p * (tangents[0] - p * tangents[1]) / reach, groups, num_groups)
    return rho, change / jnp.where(weight > 0, weight, 1.0)


def block_soft_metric(
    v: Array, threshold: ArrayLike, metric: ArrayLike, groups: Array, num_groups: int
) -> Array:
    r"""The minimiser of $\sum_j (u_j - v_j)^2/2d_j + \sum_g t_g\lVert u_g\rVert$, d = `metric` > 0.

    `v`, `threshold` and `groups` as in `block_soft`; `metric`, the step of each coordinate, is a scalar or
    (p,). A group is 0 iff $\lVert v_g/d_g\rVert \le t_g$; else $u_j = v_j\rho/(\rho + t_g d_j)$, where
    $\rho = \lVert u_g\rVert$ is a root of one equation, by Newton to machine precision. Source: the secular
    equation of Moré and Sorensen (1983), Computing a trust region step, section 3.

    >>> u = block_soft_metric(jnp.array([3.0, 4.0, 0.5]), 2.5, 1.0, jnp.array([0, 0, 1]), 2)
    >>> [round(x, 5) for x in u.tolist()]
    [1.5, 2.0, 0.0]
    """
    x, t, d = _lift(v, threshold, metric)
    t = jnp.broadcast_to(t, (num_groups,))
    far, ratio = _norms(lax.stop_gradient(x / d), groups, num_groups)
    dropped = far * ratio <= t
    top = _norms(x, groups, num_groups)[0][groups]
    pull = jnp.where(dropped, 0.0, t)[groups] * d / top
    rho = _block_radius(num_groups, x / top, pull, groups)[groups]
    factor = jnp.where(dropped[groups], 0.0, rho) / jnp.where(rho + pull > 0, rho + pull, 1.0)
    return (x * factor).astype(v.dtype)


_product = partial(jnp.matmul, precision="highest")  # the default on a GPU keeps 10 bits


@jax.custom_jvp
def _singular_soft(M: Array, t: Array) -> Array:
    U, s, Vt = jnp.linalg.svd(M, full_matrices=False)
    return jnp.where(t == 0, M, _product(U * soft(s, t), Vt))


@_singular_soft.defjvp
def _singular_soft_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """The divided differences of the odd extension of the soft threshold, which are never 0/0."""
    (M, t), (dM, dt) = primals, tangents
    U, s, Vt = jnp.linalg.svd(M, full_matrices=False)
    f = soft(s, t)
    high, low = jnp.maximum(s[:, None], s), jnp.minimum(s[:, None], s)
    kept = (s > t) | (t == 0)
    gap, both = high - low, high + low
    mixed = jnp.where(kept[:, None] ^ kept, (high - t) / jnp.where(gap > 0, gap, 1.0), 0.0)
    even = jnp.where(kept[:, None] & kept, 1.0, mixed)
    odd = jnp.where(both > 0, (f[:, None] + f) / jnp.where(both > 0, both, 1.0), 1.0 * (t == 0))
    left, right = _product(dM, Vt.T), _product(U.T, dM)
    W = _product(U.T, left)
    core = even * 0.5 * (W + W.T) + odd * 0.5 * (W - W.T)
    single = jnp.where(t == 0, 1.0, f / jnp.where(s > 0, s, 1.0))
    across = _product(U, core) + (left - _product(U, W)) * single - dt * (U * kept)
    down = _product(U, single[:, None] * (right - _product(W, Vt)))
    return jnp.where(t == 0, M, _product(U * f, Vt)), _product(across, Vt) + down


def singular_soft(M: Array, threshold: ArrayLike) -> Array:
    r"""The soft threshold of the singular values of an (m, k) matrix: the prox of $t\lVert U\rVert_*$.

    `threshold` is a scalar ≥ 0. Values up to it contribute exactly nothing. The derivative is finite and
    right also where singular values are tied or 0 (first order; the second is that of the SVD).
    Source: Cai, Candès and Shen (2010), theorem 2.1; derivative: Lewis and Sendov (2005), section 7.

    >>> singular_soft(jnp.array([[3.0, 0.0], [0.0, 0.5]]), 1.0).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    return _singular_soft(*_lift(M, threshold)).astype(M.dtype)
