"""What complexity costs: penalties, their sums, scalings and masks."""

from jaxreg.penalties.base import ConvexSeparablePenalty, Penalty, SeparablePenalty
from jaxreg.penalties.combine import Scaled, Sum
from jaxreg.penalties.family import Family, PenaltyGrid, over
from jaxreg.penalties.masked import Masked
from jaxreg.penalties.separable import L1, Box, ElasticNet, ElementaryPenalty, NonNegative, SquaredL2

__all__ = [
    "L1",
    "Box",
    "ConvexSeparablePenalty",
    "ElasticNet",
    "ElementaryPenalty",
    "Family",
    "Masked",
    "NonNegative",
    "Penalty",
    "PenaltyGrid",
    "Scaled",
    "SeparablePenalty",
    "SquaredL2",
    "Sum",
    "over",
]
