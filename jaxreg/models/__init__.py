"""Fitted models that are kept: prediction from named columns; files for `save` and `load`."""

from jaxreg.models import columns
from jaxreg.models.archive import load, save
from jaxreg.models.columns import Column, DateColumn, LevelColumn, NumberColumn
from jaxreg.models.model import FittedModel

__all__ = [
    "Column",
    "DateColumn",
    "FittedModel",
    "LevelColumn",
    "NumberColumn",
    "columns",
    "load",
    "save",
]
