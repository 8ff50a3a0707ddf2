r"""Proximal maps of functions of one number, applied to each entry of an array.

Each kernel returns a global minimiser u of ½(u − v)² + t·g(u), also where g is not convex: the costs of the
candidate pieces are compared in closed form, which gives the jumps of the thresholds named in the docstrings.
Arguments of a branch that is not taken are replaced first, so that no derivative is inf·0.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxreg._numerics import at_least_float32, geometric_mean
from jaxreg._typing import ArrayLike

__all__ = ["asymmetric_soft", "capped", "half", "hard", "huber_norm", "log_sum", "mcp", "scad", "soft"]


def soft(v: Float[Array, "*s"], threshold: ArrayLike) -> Float[Array, "*s"]:
    r"""Soft threshold $\operatorname{sign}(v)\max(|v| - t, 0)$, the prox of $t|\cdot|$.

    Elementwise; `threshold` broadcasts against `v` and is not negative. Source: Parikh and Boyd (2014),
    Proximal Algorithms, section 6.5.2.

    >>> soft(jnp.array([-3.0, 0.5, 2.0]), 1.0).tolist()
    [-2.0, 0.0, 1.0]
    """
    x, t = at_least_float32(v, threshold)
    return jnp.where(jnp.abs(x) <= t, 0.0, x - jnp.copysign(t, x)).astype(v.dtype)


def asymmetric_soft(v: Float[Array, "*s"], lower: ArrayLike, upper: ArrayLike) -> Float[Array, "*s"]:
    r"""The prox of $b\max(u, 0) + a\max(-u, 0)$, a = `lower`, b = `upper`: $v - b$ above b, $v + a$ below −a.

    Elementwise; both broadcast against `v`; one may be negative, as in a slope plus a lasso, while
    a + b ≥ 0. Source: Parikh and Boyd (2014), Proximal Algorithms, section 6.5.2, with two slopes.

    >>> asymmetric_soft(jnp.array([-3.0, -0.5, 0.5, 3.0]), 0.25, 1.0).tolist()
    [-2.75, -0.25, 0.0, 2.0]
    """
    x, a, b = at_least_float32(v, lower, upper)
    return jnp.where(x > b, x - b, jnp.where(x >= -a, 0.0, x + a)).astype(v.dtype)


def hard(v: Float[Array, "*s"], threshold: ArrayLike) -> Float[Array, "*s"]:
    r"""Hard threshold: $v$ where $|v|$ > `threshold`, else 0.

    The prox of $t\lambda\,1[u \ne 0]$ is that with threshold $\sqrt{2t\lambda}$. Elementwise; `threshold`
    broadcasts against `v` and is not negative. Source: Blumensath and Davies (2008), equation 11.

    >>> hard(jnp.array([-3.0, 0.5, 1.0]), 1.0).tolist()
    [-3.0, 0.0, 0.0]
    """
    x, t = at_least_float32(v, threshold)
    return jnp.where(jnp.abs(x) <= t, 0.0, x).astype(v.dtype)


def mcp(v: Float[Array, "*s"], step: ArrayLike, lam: ArrayLike, gamma: ArrayLike) -> Float[Array, "*s"]:
    r"""The prox of `step` times the minimax concave penalty, whose slope falls from λ at 0 to 0 at γλ.

    $g(u) = \lambda|u| - u^2/2\gamma$ for $|u| \le \gamma\lambda$, then $\gamma\lambda^2/2$; γ > 0. For t < γ,
    the firm threshold: 0 up to $t\lambda$, $(|v| - t\lambda)/(1 - t/\gamma)$ up to $\gamma\lambda$, then $v$.
    For t ≥ γ the first piece is concave and only its ends can win: the hard threshold at
    $\sqrt{t\gamma}\lambda$. Elementwise; parameters broadcast. Source: Zhang (2010), equations 2.1 and 2.6.

    >>> mcp(jnp.array([-3.0, 0.5, 1.5]), 1.0, 1.0, 2.0).tolist()
    [-3.0, 0.0, 1.0]
    """
    x, t, lam, gamma = at_least_float32(v, step, lam, gamma)
    size = jnp.abs(x)
    firm = t < gamma
    threshold = jnp.where(firm, t, geometric_mean(t, gamma)) * lam
    between = firm & (size > t * lam) & (size <= gamma * lam)
    shrunk = jnp.where(between, size - t * lam, 0.0) / (1.0 - jnp.where(firm, t, 0.0) / gamma)
    shrunk = jnp.where(shrunk > size, size, shrunk)  # where t is one rounding below γ
    return jnp.where(between, jnp.copysign(shrunk, x), jnp.where(size <= threshold, 0.0, x)).astype(v.dtype)


def scad(v: Float[Array, "*s"], step: ArrayLike, lam: ArrayLike, a: ArrayLike) -> Float[Array, "*s"]:
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
    x, t, lam, a = at_least_float32(v, step, lam, a)
    size = jnp.abs(x)
    curvature = a - 1.0 - t
    jump = jnp.where(t < a + 1.0, 0.5 * (t + a + 1.0), geometric_mean(t, a + 1.0))
    edge = jnp.where(curvature > 0, 1.0 + t, jump) * lam
    between = (curvature > 0) & (size > edge) & (size <= a * lam)
    shrunk = size - t * jnp.where(between, a * lam - size, 0.0) / jnp.where(curvature > 0, curvature, 1.0)
    shrunk = jnp.where(shrunk < lam, lam, shrunk)  # where t is one rounding below a − 1
    beyond = jnp.where(between, jnp.copysign(shrunk, x), x)
    return jnp.where(size <= edge, soft(x, t * lam), beyond).astype(v.dtype)


def capped(v: Float[Array, "*s"], step: ArrayLike, lam: ArrayLike, cap: ArrayLike) -> Float[Array, "*s"]:
    r"""The prox of `step` times the capped ℓ1 penalty $g(u) = \lambda\min(|u|, c)$, c = `cap` ≥ 0.

    With $s = t\lambda$, the soft threshold at s and $v$ cost the same at $c + s/2$, or, where the soft
    threshold is still 0 there (s > 2c), at $\sqrt{2sc}$; beyond, v. Elementwise; parameters broadcast.
    Source: Gong et al. (2013), A general iterative shrinkage and thresholding algorithm, table 1.

    >>> capped(jnp.array([-4.0, 0.5, 1.5, 3.0]), 1.0, 1.0, 2.0).tolist()
    [-4.0, 0.0, 0.5, 3.0]
    """
    x, t, lam, c = at_least_float32(v, step, lam, cap)
    s = t * lam
    jump = jnp.where(s <= 2.0 * c, c + 0.5 * s, geometric_mean(2.0 * s, c))
    return jnp.where(jnp.abs(x) <= jump, soft(x, s), x).astype(v.dtype)


@jax.custom_jvp
def _cubic_root(c: Array) -> Array:
    """Return the largest root w of w³ − w + c, for c in [0, √(2/27)], where it falls from 1 to √(2/3)."""
    w = 1.0 - c * (0.5 + c * (0.375 + 0.8 * c))
    for _ in range(3):  # from 3e-3 off, Newton is below 1e-17 after three
        w = w - (w * (w * w - 1.0) + c) / (3.0 * w * w - 1.0)
    return w


@_cubic_root.defjvp
def _cubic_root_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    w = _cubic_root(*primals)
    return w, -tangents[0] / (3.0 * w * w - 1.0)


def half(v: Float[Array, "*s"], step: ArrayLike, lam: ArrayLike) -> Float[Array, "*s"]:
    r"""The prox of `step` times $g(u) = \lambda|u|^{1/2}$.

    With $s = t\lambda$: 0 up to $\frac32 s^{2/3}$, then $v w^2$ with w the largest root of
    $w^3 - w + s/(2|v|^{3/2}) = 0$, which leaves $\frac23 v$ at the jump. Elementwise; parameters broadcast.
    Source: Xu et al. (2012), L1/2 regularization, theorem 1, whose cosine is that root.

    >>> [round(x, 3) for x in half(jnp.array([-1.5, 0.5, 6.0]), 1.0, 1.0).tolist()]
    [0.0, 0.0, 5.792]
    """
    x, t, lam = at_least_float32(v, step, lam)
    s, size = t * lam, jnp.abs(x)
    inverse_root = lax.rsqrt(jnp.where(size == 0, 1.0, size))
    edge = (2.0 / 27.0) ** 0.5 * (1.0 - 8.0 * jnp.finfo(x.dtype).eps)  # a tie, rounded, is 0 still
    dropped = (size == 0) | (0.5 * s * inverse_root * inverse_root * inverse_root >= edge)
    root = lax.rsqrt(jnp.where(dropped, 1.0, size))
    w = _cubic_root(0.5 * jnp.where(dropped, 0.0, s) * root * root * root)
    return jnp.where(dropped, 0.0, x * (w * w)).astype(v.dtype)


def log_sum(v: Float[Array, "*s"], step: ArrayLike, lam: ArrayLike, eps: ArrayLike) -> Float[Array, "*s"]:
    r"""The prox of `step` times $g(u) = \lambda\log(1 + |u|/\varepsilon)$, ε = `eps` > 0.

    With $s = t\lambda$ the stationary point is $|v| - 2s/(m + \sqrt{m^2 - 4s})$, $m = |v| + \varepsilon$. For
    $s \le \varepsilon^2$ the cost is convex: 0 up to $s/\varepsilon$. Else the costs of 0 and of that point
    are compared. Elementwise; parameters broadcast. Source: Gong et al. (2013), A general iterative shrinkage
    and thresholding algorithm, table 1; the penalty is that of Candès, Wakin and Boyd (2008).

    >>> [round(x, 3) for x in log_sum(jnp.array([-3.0, 0.5, 1.5]), 1.0, 1.0, 1.0).tolist()]
    [-2.732, 0.0, 1.0]
    """
    x, t, lam, eps = at_least_float32(v, step, lam, eps)
    s, size = t * lam, jnp.abs(x)
    largest, below_one = jnp.finfo(x.dtype).max, 1.0 - jnp.finfo(x.dtype).eps

    def stationary(size: Array, m: Array, s: Array) -> Array:
        fold = jnp.minimum(4.0 * s / m / m, below_one)  # a root at 0 has an infinite derivative
        return size - 2.0 * s / (m * (1.0 + jnp.sqrt(1.0 - fold)))

    m = size + eps
    u = lax.stop_gradient(stationary(size, m, s))
    gain = size - 0.5 * u - s * jnp.log1p(jnp.minimum(u / eps, largest)) / jnp.where(u > 0, u, 1.0)
    zero_wins = (4.0 * s / m / m >= 1.0) | (u <= 0) | (gain <= 0)
    dropped = jnp.where(s / eps <= eps, size <= s / eps, zero_wins)
    u = stationary(size, jnp.where(dropped, 1.0, m), jnp.where(dropped, 0.0, s))
    return jnp.where(dropped | (u <= 0), 0.0, jnp.copysign(u, x)).astype(v.dtype)


def huber_norm(
    v: Float[Array, "*s"], step: ArrayLike, lam: ArrayLike, delta: ArrayLike
) -> Float[Array, "*s"]:
    r"""The prox of `step` times λ times Huber's function: $u^2/2\delta$ up to δ, then $|u| - \delta/2$.

    With $s = t\lambda$: $v\,\delta/(\delta + s)$ up to $\delta + s$, then v pulled by s. It makes no zeros;
    δ = 0 is the soft threshold. Elementwise; parameters broadcast; δ ≥ 0. Source: Beck (2017), First-Order
    Methods in Optimization, section 6.9 (Huber's function is the envelope of the norm).

    >>> huber_norm(jnp.array([-3.0, 0.5, 1.5]), 1.0, 1.0, 1.0).tolist()
    [-2.0, 0.25, 0.75]
    """
    x, t, lam, delta = at_least_float32(v, step, lam, delta)
    s = t * lam
    far = jnp.abs(x) > delta + s
    slope = delta / jnp.where(delta + s > 0, delta + s, 1.0)
    return jnp.where(far, x - jnp.copysign(s, x), x * slope).astype(v.dtype)
