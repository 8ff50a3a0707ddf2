"""A fitted model as it is kept: coefficients with names, the loss, and the coding of a table's columns."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, Self, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxreg._module import PublicNames
from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.losses import Logistic, Loss, Multinomial
from jaxreg.models.columns import Column

__all__ = ["FittedModel", "Rows", "Table"]

#: Packages whose versions a model keeps.
_PACKAGES = ("jaxreg", "jax", "numpy")
#: Coefficients that `str` shows.
_COEFFICIENTS_SHOWN = 8


class DataFrame(Protocol):
    """A data frame of pandas or polars."""

    @property
    def columns(self) -> Iterable[Hashable]: ...

    def __getitem__(self, name: str, /) -> ArrayLike: ...


#: Columns by name.
Table: TypeAlias = Mapping[str, ArrayLike] | DataFrame


class Rows(NamedTuple):
    """New rows as a model takes them.

    Attributes:
        X: Features.
        missing: Rows with a missing cell that has no code: NaN in X.
        notes: Sentences that say what was done to cells that training did not know.
    """

    X: Float[np.ndarray, "n p"]
    missing: Bool[np.ndarray, " n"]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class FittedModel(metaclass=PublicNames):
    """A linear model or GLM with all that prediction needs; `jaxreg.save` writes it to a file.

    The arithmetic is NumPy's in the dtype of `coef`, whatever JAX's precision is.

    Attributes:
        loss: The loss, which has the link function.
        coef: Coefficients (p,) or (p, K) on the scale of the data.
        intercept: Intercept () or (K,).
        features: Names of the p features.
        target: Name of the target.
        classes: Names of the classes, in the order of their labels; () for a target that is a number.
        columns: Codings that make the features of a table's columns; () where the features are its columns.
        penalty: Description of the penalty.
        lam: λ, or None.
        gap: Relative duality gap; inf where the penalty has none.
        kkt: Relative KKT residual.
        settings: Facts about the fit that JSON can hold, such as the data and the error on held-out rows.
        versions: Versions of the packages that made the fit.

    Raises:
        ValueError: Shapes, names, classes or codings do not fit together, or a coefficient is not finite.

    >>> from jaxreg.losses import Logistic
    >>> names = {"features": ("age", "bmi"), "classes": ("no", "yes")}
    >>> model = FittedModel(Logistic(), np.array([2.0, 0.0]), 0.0, **names)
    >>> model.predict(np.array([[0.0, 5.0]])).tolist(), model.classify({"bmi": [5.0], "age": [1.0]}).tolist()
    ([0.5], ['yes'])
    """

    #: Fields with a default, which the docstring lists, and the step of `predict` after `linear`.
    _unlisted = frozenset(
        {"classes", "columns", "features", "gap", "kkt", "lam", "mean", "penalty", "target"}
    )

    loss: Loss
    coef: Float[np.ndarray, "p *K"]
    intercept: Float[np.ndarray, "*K"]
    features: tuple[str, ...] = ()
    target: str = ""
    classes: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    penalty: str = ""
    lam: float | None = None
    gap: float = math.inf
    kkt: float = math.inf
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=lambda: _versions())

    def __post_init__(self) -> None:
        coef = _floats(self.coef)
        names = tuple(map(str, self.features)) or tuple(f"x{j}" for j in range(len(coef)))
        fixed = {"coef": coef, "intercept": np.asarray(self.intercept, coef.dtype), "features": names}
        fixed |= {"classes": tuple(map(str, self.classes)), "columns": tuple(self.columns)}
        for name, value in fixed.items():
            object.__setattr__(self, name, value)
        _check(self)

    @classmethod
    def of(cls, solution: LinearPredictor, **given: object) -> Self:
        """Return the model of a `jaxreg.Solution`; `given` are other attributes, such as `features`.

        >>> import jaxreg as jr
        >>> problem = jr.Problem(jr.losses.SquaredError(), np.eye(3), np.arange(3.0))
        >>> FittedModel.of(jr.solve(problem, jr.L1(0.1)), features=("a", "b", "c")).features
        ('a', 'b', 'c')

        Raises:
            TypeError: `solution` is no solution, or had an offset, which a model file does not hold.
        """
        if not isinstance(solution, LinearPredictor) or solution.one_per_lambda:
            got = type(solution).__name__
            raise TypeError(
                f"wanted the solution of jaxreg.solve, or path.at(lam), got {got}: take one of them"
            )
        if solution.with_offset:
            raise TypeError("the fit had an offset, which a kept model does not hold: fit without an offset")
        certificate = {name: float(getattr(solution, name)) for name in ("gap", "kkt")}
        return cls(
            solution.loss, np.asarray(solution.coef), np.asarray(solution.intercept), **certificate | given
        )

    def pruned(self) -> Self:
        """Return the model without the columns that it does not use, whose coefficients are all 0.

        Predictions are the same, and new rows need fewer columns. A model that uses no column stays as it is.

        >>> from jaxreg.losses import SquaredError
        >>> model = FittedModel(SquaredError(), np.array([2.0, 0.0]), 0.0, features=("age", "bmi"))
        >>> model.pruned().features
        ('age',)
        """
        used = self.coef.reshape(len(self.coef), -1).any(axis=1)
        columns, start = [], 0
        for column in self.columns:
            stop = start + len(column.features)
            if used[start:stop].any():
                used[start:stop] = True  # the levels of a factor stay together
                columns.append(column)
            start = stop
        if not used.any():
            return self
        features = tuple(name for name, keep in zip(self.features, used, strict=True) if keep)
        return dataclasses.replace(self, coef=self.coef[used], features=features, columns=tuple(columns))

    def encode(self, table: Table) -> Rows:
        """Return the features of a table's rows, its columns found by name and coded as in training.

        Args:
            table: Mapping from names to columns: a pandas or polars data frame, a dict. Other columns are
                left aside.

        Raises:
            ValueError: A column is not there, or holds cells of another kind than in training.
        """
        wanted = [column.name for column in self.columns] or list(self.features)
        absent = [name for name in wanted if name not in table]
        if absent:
            shown = ", ".join(map(repr, absent[:8])) + (
                f" … and {len(absent) - 8} more" if len(absent) > 8 else ""
            )
            there = ", ".join(map(repr, list(table)[:8])) if isinstance(table, Mapping) else _names(table)
            raise ValueError(f"the table lacks columns {shown}: wanted those of training; it has {there}")
        if not self.columns:
            X = np.column_stack([np.asarray(table[name], float) for name in wanted])
            return Rows(X, np.isnan(X).any(axis=1), ())
        coded = [column.encode(np.asarray(table[column.name])) for column in self.columns]
        missing = np.any([part.missing for part in coded], axis=0)
        return Rows(
            np.hstack([part.values for part in coded]), missing, tuple(s for c in coded for s in c.notes)
        )

    def linear(self, X: FeaturesLike | Table) -> Float[np.ndarray, "n *K"]:
        """Return the linear predictor z = Xw + b of new rows.

        Args:
            X: Features (n, p) as an array or `scipy.sparse` matrix, or a table as `encode` takes it.

        Raises:
            ValueError: X has another number of features, or a missing or infinite entry.
        """
        if hasattr(X, "columns") or isinstance(X, Mapping):
            X = self.encode(X).X
        sparse = hasattr(X, "tocsr")
        X = X.tocsr().astype(self.coef.dtype) if sparse else np.asarray(X, self.coef.dtype)
        if X.ndim != 2 or X.shape[1] != len(self.coef):
            raise ValueError(f"X has shape {X.shape}, wanted (rows, {len(self.coef)}) as in the fit")
        if bad := int(np.sum(~np.isfinite(X.data if sparse else X))):
            raise ValueError(
                f"X has {bad} missing or infinite entries: wanted finite numbers; drop or fill them"
            )
        return np.asarray(X @ self.coef) + self.intercept

    def predict(self, X: FeaturesLike | Table) -> Float[np.ndarray, "n *K"]:
        """Return the expected targets of new rows: means shaped like `linear`, probabilities for classes.

        With a logistic loss the probability is that of the second class. Arguments and errors are those of
        `linear`.
        """
        return self.mean(self.linear(X))

    def mean(self, z: Float[np.ndarray, "n *K"]) -> Float[np.ndarray, "n *K"]:
        """Return the expected target at the linear predictor z."""
        with _double_precision():
            return np.asarray(self.loss.mean(z)).astype(self.coef.dtype)

    def probabilities(self, X: FeaturesLike | Table) -> Float[np.ndarray, "n K"]:
        """Return the probability of every class, two columns for a logistic loss.

        Raises:
            TypeError: The target is a number.
            ValueError: As in `linear`.
        """
        if not isinstance(self.loss, Logistic | Multinomial):
            raise TypeError(
                f"{type(self.loss).__name__} has no classes: call predict for the expected target"
            )
        mean = self.predict(X)
        return np.column_stack([1 - mean, mean]) if mean.ndim == 1 else mean

    def classify(self, X: FeaturesLike | Table) -> np.ndarray:
        """Return the most probable class of new rows (n,): names, or labels where there are no names.

        Errors are those of `probabilities`.
        """
        labels = np.argmax(self.probabilities(X), axis=1)
        return np.array(self.classes)[labels] if self.classes else labels

    def __str__(self) -> str:
        used = np.count_nonzero(self.coef)
        lines = [
            f"FittedModel: {type(self.loss).__name__}, {used} of {self.coef.size} coefficients are not 0"
        ]
        if self.penalty:
            lines.append(
                f"  penalty {self.penalty}" + ("" if self.lam is None else f" at λ = {self.lam:.4g}")
            )
        size = np.abs(self.coef.reshape(len(self.coef), -1)).max(axis=1)
        for j in np.argsort(-size, kind="stable")[:_COEFFICIENTS_SHOWN]:
            if size[j]:
                lines.append(f"  {self.features[j]!r}: {np.array2string(self.coef[j], precision=4)}")
        return "\n".join(lines)


def _check(model: FittedModel) -> None:
    """Raise `ValueError` where the parts of a model do not fit together."""
    p = len(model.coef)
    if not isinstance(model.loss, Loss):
        raise ValueError(f"loss is {type(model.loss).__name__}: wanted an instance such as losses.Logistic()")
    if model.coef.ndim not in (1, 2) or model.intercept.shape != model.coef.shape[1:]:
        shapes = f"{model.coef.shape} and {model.intercept.shape}"
        raise ValueError(f"coef and intercept have shapes {shapes}: wanted (p,) and (), or (p, K) and (K,)")
    if not (np.isfinite(model.coef).all() and np.isfinite(model.intercept).all()):
        raise ValueError("coef or intercept is not finite: wanted the coefficients of a fit that converged")
    made = [name for column in model.columns for name in column.features]
    if len(model.features) != p or (model.columns and made != list(model.features)):
        got = f"{len(model.features)} names and codings of {len(made)} features"
        raise ValueError(f"{got} do not fit {p} coefficients: wanted one name for each, in order")
    outputs = model.coef.shape[1] if model.coef.ndim == 2 else 2
    if model.classes and len(model.classes) != outputs:
        raise ValueError(f"{len(model.classes)} classes do not fit the coefficients: wanted {outputs}")


def _floats(values: ArrayLike) -> np.ndarray:
    """Return an array as float64, or as float32 where it has less than double precision."""
    values = np.asarray(values)
    return values.astype(np.float64 if values.dtype in (np.float64, int) else np.float32)


def _names(table: DataFrame) -> str:
    return ", ".join(repr(str(name)) for name in list(getattr(table, "columns", []))[:8])


def _double_precision() -> AbstractContextManager[object]:
    """Return a context in which JAX computes in float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64(True)


def _versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in _PACKAGES}
