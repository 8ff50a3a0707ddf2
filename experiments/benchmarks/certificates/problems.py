"""Random problems that are hard to certify: ill-conditioned, badly scaled, partly unpenalised."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import jaxreg as jr

__all__ = ["DESIGNS", "KINDS", "LOSSES", "Case", "draw"]

LOSSES = {
    "SquaredError": jr.losses.SquaredError,
    "Huber": jr.losses.Huber,
    "Logistic": jr.losses.Logistic,
    "Poisson": jr.losses.Poisson,
    "Multinomial": lambda: jr.losses.Multinomial(3),
}
# Kinds of columns.
DESIGNS = ("independent", "correlated", "nearly equal", "powers", "scales", "means", "dependent", "counts")
# Kinds of penalties; each kind shares its compiled programs.
KINDS = ("elementary", "group", "chain")
# Coordinates in a group.
_GROUP = 2


@dataclass(frozen=True)
class Case:
    """One problem with its solver.

    Attributes:
        solver: "ProximalGradient", "Newton" or "path".
        factors: Penalty factors (p,) or (groups,); 0 leaves a coordinate, group or link unpenalised.
        lam: λ relative to the largest gradient at the null fit.
        mix: Share of |w| in the elastic net; the rest is w²/2.
    """

    loss: str
    kind: str
    design: str
    solver: str
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    standardize: bool
    factors: np.ndarray
    lam: float
    mix: float

    @property
    def groups(self) -> np.ndarray:
        """Group label of each coordinate."""
        return np.arange(self.X.shape[1]) // _GROUP

    def problem(self) -> jr.Problem:
        """Return the problem as a user would build it."""
        loss = LOSSES[self.loss]()
        offset = np.repeat(self.offset[:, None], 3, axis=1) if self.loss == "Multinomial" else self.offset
        return jr.Problem(
            loss, self.X, self.y, sample_weight=self.weight, offset=offset, standardize=self.standardize
        )

    def family(self, lam: Any) -> jr.penalties.Penalty:
        """Return the penalty at strength λ."""
        factors = self.factors.astype(self.X.dtype)
        if self.kind == "group":
            return jr.GroupL2(lam, self.groups, weights=factors)
        if self.kind == "chain":
            return jr.penalties.TotalVariation(lam)
        return jr.ElasticNet(lam, self.mix, weights=factors)


def draw(seed: int, dtype: str) -> Case:
    """Draw the problem of a seed; shapes are few, so that compiled programs are shared."""
    rng = np.random.default_rng(seed)
    loss = rng.choice(list(LOSSES), p=[0.35, 0.1, 0.25, 0.2, 0.1])
    kind = rng.choice(KINDS, p=[0.75, 0.15, 0.1])
    # With several outputs GroupL2 groups each column by itself, which `extended.Model` does not cover.
    kind = "elementary" if kind == "group" and loss == "Multinomial" else kind
    wide = kind == "elementary" and loss in ("SquaredError", "Logistic") and rng.random() < 0.2
    n, p = (30, 40) if wide else (48, 6)
    solvers = ["ProximalGradient", "Newton", "path"] if kind == "elementary" else ["ProximalGradient"]
    design = str(rng.choice(DESIGNS))
    X = _columns(rng, design, n, p, np.finfo(dtype).eps).astype(dtype)
    standardize = bool(rng.random() < 0.8) or design in ("means", "counts")
    z = _predictor(rng, X)
    weight = np.ones(n) if rng.random() < 0.6 else rng.exponential(size=n) * (rng.random(n) < 0.9)
    weight[:4] = 1.0
    offset = np.zeros(n)
    if rng.random() < 0.2:
        offset = rng.normal(size=n)
    count = p // _GROUP if kind == "group" else p
    factors = np.ones(count)
    unpenalised = rng.choice(["none", "some", "all"], p=[0.3, 0.5, 0.2])
    if unpenalised == "some":
        factors[rng.permutation(min(count, 6))[: 1 if kind == "group" else 2]] = 0.0
    lam = 0.0 if unpenalised == "all" else float(rng.choice([0.5, 0.1, 0.01, 1e-3]))
    return Case(
        loss=str(loss),
        kind=str(kind),
        design=design,
        solver=str(rng.choice(solvers)),
        X=X,
        y=_targets(rng, str(loss), z + offset),
        weight=weight,
        offset=offset,
        standardize=standardize,
        factors=factors,
        lam=lam,
        mix=float(rng.choice([1.0, 1.0, 0.5, 0.0])),
    )


def _columns(rng: np.random.Generator, design: str, n: int, p: int, eps: float) -> np.ndarray:
    X = rng.normal(size=(n, p))
    digits = -np.log10(eps)
    if design == "correlated":
        X = 0.1 * X + X[:, :1]
    elif design == "nearly equal":
        X[:, 1] = X[:, 0] + 10 ** -rng.uniform(1, 1.2 * digits) * X[:, 1]
    elif design == "powers":
        X[:, : min(p, 5)] = rng.uniform(20, 90, size=(n, 1)) ** np.arange(1, min(p, 5) + 1)
    elif design == "scales":
        X *= 10 ** rng.uniform(-0.8 * digits, 0.8 * digits, size=p)
    elif design == "means":
        X += 10 ** rng.uniform(0, 0.6 * digits, size=p)
    elif design == "dependent":
        X[:, 2] = X[:, 0] + X[:, 1]
        X[:, 4] = X[:, 3]
    elif design == "counts":
        X = rng.poisson(2.0, size=(n, p)).astype(float)
        X[0] += np.arange(p)
    return X


def _predictor(rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
    """Draw a predictor with random components along the left singular vectors of the centred columns."""
    centred = X.astype(float) - X.mean(axis=0)
    left, size, _ = np.linalg.svd(centred / np.maximum(centred.std(axis=0), 1e-300), full_matrices=False)
    basis = left[:, size > 1e-14 * size[0]]
    z = basis @ rng.normal(size=basis.shape[1])
    return z / z.std() * rng.choice([0.3, 1.0])


def _targets(rng: np.random.Generator, loss: str, z: np.ndarray) -> np.ndarray:
    n = len(z)
    if loss == "Logistic":
        y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
        y[:4] = 0, 1, 0, 1
        return y
    if loss == "Multinomial":
        y = np.digitize(z + rng.normal(size=n), [-0.7, 0.7])
        y[:3] = 0, 1, 2
        return y
    if loss == "Poisson":
        y = rng.poisson(10 ** rng.choice([0.0, 1.0, 3.0, 6.0]) * np.exp(0.5 * np.clip(z, -3, 3))).astype(
            float
        )
        y[0] += 1
        return y
    return z + rng.choice([0.0, 0.1, 1.0]) * rng.normal(size=n)
