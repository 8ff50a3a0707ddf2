r"""Array kernels of proximal maps: plain functions of arrays, without classes and pytrees.

Each kernel returns a global minimiser $u$ of $\frac12\lVert u - v\rVert^2 + t\,g(u)$, ties to the sparser
one, in the dtype of its first argument; half precision is computed in float32. Zeros and ties come from a
branch or a clamp, never from cancellation: a coordinate that is zero in exact arithmetic is `== 0` in every
dtype. NaN propagates. All kernels work under jit, vmap and both modes of differentiation.

>>> import jaxreg as jr
>>> jr.prox.soft(jnp.array([-3.0, 0.5, 2.0]), 1.0).tolist()
[-2.0, 0.0, 1.0]
"""

from jaxreg.prox.elementwise import asymmetric_soft, capped, half, hard, huber_norm, log_sum, mcp, scad, soft
from jaxreg.prox.groups import block_mcp, block_soft, block_soft_metric
from jaxreg.prox.isotonic import sorted_l1
from jaxreg.prox.projections import l1_ball, l1_ball_groups, l2_ball, linf, linf_groups, simplex
from jaxreg.prox.spectral import singular_soft
from jaxreg.prox.total_variation import total_variation

__all__ = [
    "asymmetric_soft",
    "block_mcp",
    "block_soft",
    "block_soft_metric",
    "capped",
    "half",
    "hard",
    "huber_norm",
    "l1_ball",
    "l1_ball_groups",
    "l2_ball",
    "linf",
    "linf_groups",
    "log_sum",
    "mcp",
    "scad",
    "simplex",
    "singular_soft",
    "soft",
    "sorted_l1",
    "total_variation",
]
