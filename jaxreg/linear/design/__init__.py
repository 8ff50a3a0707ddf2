"""Designs: matrices of features, with the products that solvers take of them."""

from jaxreg.linear.design.base import Design, Moments
from jaxreg.linear.design.choose import as_array, design
from jaxreg.linear.design.dense import Columns, DenseDesign
from jaxreg.linear.design.sparse import SparseDesign
from jaxreg.linear.design.standardized import Standardized

__all__ = [
    "Columns",
    "DenseDesign",
    "Design",
    "Moments",
    "SparseDesign",
    "Standardized",
    "as_array",
    "design",
]
