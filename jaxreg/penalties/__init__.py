"""What complexity costs: penalties, their sums, scalings and masks."""

from jaxreg.penalties.base import Penalty, SeparablePenalty
from jaxreg.penalties.combine import Masked, Scaled, Sum
from jaxreg.penalties.family import Family, PenaltyGrid, over
from jaxreg.penalties.separable import L1, Box, ElasticNet, ElementaryPenalty, NonNegative, SquaredL2

__all__ = [
    "L1",
    "Box",
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
