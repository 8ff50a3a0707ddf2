"""What complexity costs: penalties, their sums, scalings and masks."""

from jaxreg._fields import hyperparameter, per_coordinate
from jaxreg.penalties import masks
from jaxreg.penalties.adaptive import adaptive_weights
from jaxreg.penalties.base import ConvexSeparablePenalty, Penalty, SeparablePenalty
from jaxreg.penalties.combine import Scaled, Sum
from jaxreg.penalties.family import Family, PenaltyGrid, over
from jaxreg.penalties.fused import FusedLasso, TotalVariation
from jaxreg.penalties.group import GroupL2, GroupLInf, GroupMCP, SparseGroup
from jaxreg.penalties.masked import Masked, Partition
from jaxreg.penalties.moved import Orthogonal, Toward
from jaxreg.penalties.nonconvex import L0, MCP, SCAD, CappedL1, LHalf, LogSum
from jaxreg.penalties.norms import LInf, NuclearNorm, RowL2, SortedL1
from jaxreg.penalties.separable import (
    L1,
    AsymmetricL1,
    Box,
    ElasticNet,
    ElementaryPenalty,
    HuberNorm,
    NonNegative,
    SquaredL2,
)
from jaxreg.penalties.sets import L1Ball, L2Ball, Simplex

__all__ = [
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "AsymmetricL1",
    "Box",
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
