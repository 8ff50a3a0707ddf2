r"""Penalties, their sums, multiples and masks: the complexity of a hypothesis.

A penalty "makes exact zeros" if its prox sets weights to `== 0`. With a "conjugate", a fit has a duality gap.
A "prox in a metric" accepts one step per coordinate, which adaptive optimisers need. `a * p` is a multiple and
`p + q` a sum; their properties follow from those of the parts. The prox of a sum often has no closed form: such
a sum has a value, but its `prox` raises TypeError and names the parts. `jaxreg.penalties.base` says how to add
a penalty.

| penalty | formula | convex | exact zeros | conjugate | prox in a metric |
| --- | --- | --- | --- | --- | --- |
| L0 | $\lambda \cdot \#\{j : w_j \ne 0\}$ | no | yes | no | yes |
| L1 | $\lambda \sum_j s_j \|w_j\|$ | yes | yes | yes | yes |
| MCP | $\lambda\sum_j \int_0^{\|w_j\|} (1 - x/\gamma\lambda)_+ dx$ | no | yes | no | yes |
| SCAD | $\sum_j \int_0^{\|w_j\|} \min(\lambda, (a\lambda - x)_+/(a - 1)) dx$ | no | yes | no | yes |
| AsymmetricL1 | $\lambda \sum_j (p \max(w_j, 0) + n \max(-w_j, 0))$ | yes | yes | yes | yes |
| Box | lower ≤ w ≤ upper | yes | no | yes | yes |
| CappedL1 | $\lambda \sum_j \min(\|w_j\|, c)$ | no | yes | no | yes |
| ElasticNet | $\lambda \sum_j s_j (r\|w_j\| + \frac{1-r}{2} w_j^2)$ | yes | yes | yes | yes |
| FusedLasso | $\lambda_1 \sum_j \|w_j\| + \lambda_2 \sum_i \|w_{i+1} - w_i\|$ | yes | yes | yes | no |
| GroupL2 | $\lambda \sum_g s_g \lVert w_g \rVert_2$ | yes | yes | yes | yes |
| GroupLInf | $\lambda \sum_g s_g \lVert w_g \rVert_\infty$ | yes | yes | yes | no |
| GroupMCP | $\sum_g \mathrm{MCP}(\lVert w_g \rVert_2; \lambda s_g, \gamma)$ | no | yes | no | no |
| HuberNorm | $\lambda \sum_j (\min(\|w_j\|, \delta)^2/(2\delta) + (\|w_j\| - \delta)_+)$ | yes | no | yes | yes |
| L1Ball | $\lVert w \rVert_1 \le r$ | yes | yes | yes | no |
| L2Ball | $\lVert w \rVert_2 \le r$ | yes | no | yes | no |
| LHalf | $\lambda \sum_j \|w_j\|^{1/2}$ | no | yes | no | yes |
| LInf | $\lambda \max_j \|w_j\|$ | yes | no | yes | no |
| LogSum | $\lambda \sum_j \log(1 + \|w_j\|/\varepsilon)$ | no | yes | no | yes |
| Masked | penalty where mask is true | of its parts | of its parts | of its parts | of its parts |
| NonNegative | w ≥ 0 | yes | yes | yes | yes |
| NuclearNorm | $\lambda \sum_i \sigma_i(W)$ | yes | no | yes | no |
| Orthogonal | penalty of Q·w for an orthonormal Q | of its parts | no | of its parts | no |
| Partition | A separate penalty on each part of the params | of its parts | of its parts | of its parts | of its parts |
| RowL2 | $\lambda \sum_i \lVert W_{i\cdot} \rVert_2$ | yes | yes | yes | yes |
| Scaled | factor·penalty | of its parts | of its parts | of its parts | of its parts |
| Simplex | $w \ge 0, \sum_j w_j = s$ | yes | yes | yes | no |
| SortedL1 | $\sum_i \lambda_i \|w\|_{(i)}$ | yes | yes | yes | no |
| SparseGroup | $\lambda\,(r\lVert w\rVert_1 + (1-r)\sum_g s_g\lVert w_g\rVert_2)$ | yes | yes | yes | yes |
| SquaredL2 | $\frac{\lambda}{2} \sum_j s_j w_j^2$ | yes | no | yes | yes |
| Sum | Sum of penalties | of its parts | of its parts | of its parts | of its parts |
| TotalVariation | $\lambda \sum_i s_i \|w_{i+1} - w_i\|$ | yes | no | yes | no |
| Toward | penalty of w − reference | of its parts | of its parts | of its parts | of its parts |
"""  # noqa: E501

from jaxreg._validation import hyperparameter, per_coordinate
from jaxreg.penalties import masks
from jaxreg.penalties._leafwise import ConvexSeparablePenalty, SeparablePenalty
from jaxreg.penalties.adaptive import adaptive_weights
from jaxreg.penalties.base import Capabilities, Penalty
from jaxreg.penalties.combine import Scaled, Sum
from jaxreg.penalties.family import Family, PenaltyGrid, over
from jaxreg.penalties.fused import FusedLasso, TotalVariation
from jaxreg.penalties.group import GroupL2, GroupLInf, GroupMCP, SparseGroup
from jaxreg.penalties.masked import Masked, Partition
from jaxreg.penalties.nonconvex import L0, MCP, SCAD, CappedL1, LHalf, LogSum
from jaxreg.penalties.norms import LInf, NuclearNorm, RowL2, SortedL1
from jaxreg.penalties.piecewise_quadratic import ElementaryPenalty
from jaxreg.penalties.separable import L1, AsymmetricL1, Box, ElasticNet, HuberNorm, NonNegative, SquaredL2
from jaxreg.penalties.sets import L1Ball, L2Ball, Simplex
from jaxreg.penalties.transformed import Orthogonal, Toward

__all__ = [
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "AsymmetricL1",
    "Box",
    "Capabilities",
    "CappedL1",
    "ConvexSeparablePenalty",
    "ElasticNet",
    "ElementaryPenalty",
    "Family",
    "FusedLasso",
    "GroupL2",
    "GroupLInf",
    "GroupMCP",
    "HuberNorm",
    "L1Ball",
    "L2Ball",
    "LHalf",
    "LInf",
    "LogSum",
    "Masked",
    "NonNegative",
    "NuclearNorm",
    "Orthogonal",
    "Partition",
    "Penalty",
    "PenaltyGrid",
    "RowL2",
    "Scaled",
    "SeparablePenalty",
    "Simplex",
    "SortedL1",
    "SparseGroup",
    "SquaredL2",
    "Sum",
    "TotalVariation",
    "Toward",
    "adaptive_weights",
    "hyperparameter",
    "masks",
    "over",
    "per_coordinate",
]
