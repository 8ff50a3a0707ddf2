"""jaxreg: regularisation for JAX. Cost(h) = EmpLoss(h) + λ·Complexity(h), solved to a certificate."""

from jaxreg import conventions, groups, linear, losses, metrics, models, penalties, prox, sweeps, training
from jaxreg._compilation import cache_programs
from jaxreg.cost import cost
from jaxreg.linear.certificate import certify
from jaxreg.linear.path.grid import lambda_grid, lambda_max
from jaxreg.linear.path.path import path
from jaxreg.linear.path.result import Path
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection import criteria, shrinkage
from jaxreg.linear.selection.cross_validation import cross_validate
from jaxreg.linear.selection.cv_result import CrossValidation, CrossValidations
from jaxreg.linear.selection.cv_targets import TargetCrossValidation
from jaxreg.linear.selection.relax import RelaxedPath, relax
from jaxreg.linear.selection.stability import Stability, stability_selection
from jaxreg.linear.selection.tune import Tuned, tune
from jaxreg.linear.solve import Solution, solve, unpenalized
from jaxreg.linear.solvers import Newton, ProximalGradient, Status
from jaxreg.models import FittedModel, load, save
from jaxreg.penalties import (
    L1,
    MCP,
    SCAD,
    Box,
    ElasticNet,
    GroupL2,
    Masked,
    NonNegative,
    Partition,
    RowL2,
    SparseGroup,
    SquaredL2,
    Toward,
    adaptive_weights,
    masks,
)
from jaxreg.sweeps import sweep
from jaxreg.training import train, transforms

__version__ = "0.1.0"

__all__ = [
    "L1",
    "MCP",
    "SCAD",
    "Box",
    "CrossValidation",
    "CrossValidations",
    "ElasticNet",
    "FittedModel",
    "GroupL2",
    "Masked",
    "Newton",
    "NonNegative",
    "Partition",
    "Path",
    "Problem",
    "ProximalGradient",
    "RelaxedPath",
    "RowL2",
    "Solution",
    "SparseGroup",
    "SquaredL2",
    "Stability",
    "Status",
    "TargetCrossValidation",
    "Toward",
    "Tuned",
    "adaptive_weights",
    "cache_programs",
    "certify",
    "conventions",
    "cost",
    "criteria",
    "cross_validate",
    "groups",
    "lambda_grid",
    "lambda_max",
    "linear",
    "load",
    "losses",
    "masks",
    "metrics",
    "models",
    "path",
    "penalties",
    "prox",
    "relax",
    "save",
    "shrinkage",
    "solve",
    "stability_selection",
    "sweep",
    "sweeps",
    "train",
    "training",
    "transforms",
    "tune",
    "unpenalized",
]


def __getattr__(name: str) -> object:
    if name == "L2":
        raise AttributeError("jaxreg has no L2: take SquaredL2 (weight decay) or GroupL2 (not squared)")
    if name in ("estimators", "plots"):
        import importlib

        return importlib.import_module(f"jaxreg.{name}")
    raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")
