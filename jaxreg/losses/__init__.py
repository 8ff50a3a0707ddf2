"""Empirical losses: SquaredError and Huber, Logistic and Multinomial, Poisson."""

from jaxreg.losses.base import Loss
from jaxreg.losses.classification import Logistic, Multinomial
from jaxreg.losses.counts import Poisson
from jaxreg.losses.regression import Huber, SquaredError

__all__ = ["Huber", "Logistic", "Loss", "Multinomial", "Poisson", "SquaredError"]
