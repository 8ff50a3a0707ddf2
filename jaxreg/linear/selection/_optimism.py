"""Optimism of apparent metrics, by Efron's bootstrap."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg import metrics
from jaxreg._calibration import recalibrate, require_glm
from jaxreg._compilation import jit_at_level
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._module import Module
from jaxreg._typing import Scalar
from jaxreg._validation import prng_key, require
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.selection._restandardize import reweighted
from jaxreg.linear.solve import solve, tolerance
from jaxreg.linear.solvers import Solver
from jaxreg.losses import Logistic, Loss
from jaxreg.penalties import Penalty

__all__ = ["Optimism", "optimism"]

#: A metric of linear predictors: a function (loss, z, y, weight) -> number, of traced arrays.
PredictorMetric = Callable[[Loss, Array, Array, Array], Scalar]

#: Smallest share of the bootstrap fits that must meet the tolerance.
_MIN_FITTED = 0.5


class Optimism(Module):
    """Apparent and optimism-corrected metrics of a fit.

    Attributes:
        names: names of the metrics (M,).
        apparent: metrics of the fit on its own samples (M,).
        training: metrics of each bootstrap fit on its bootstrap sample (B, M).
        test: metrics of each bootstrap fit on the original sample (B, M).
        converged: the replicates (B,) whose fit met the tolerance; others do not enter the means.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    apparent: Float[Array, " M"]
    training: Float[Array, "B M"]
    test: Float[Array, "B M"]
    converged: Bool[Array, " B"]

    @property
    def optimism(self) -> Float[np.ndarray, " M"]:
        """Mean of training − test over the replicates in which both are finite."""
        return np.mean(self._differences(), axis=0, where=self._used())

    @property
    def corrected(self) -> Float[np.ndarray, " M"]:
        """Apparent metric − optimism, the estimate for new samples."""
        return np.asarray(self.apparent) - self.optimism

    @property
    def standard_error(self) -> Float[np.ndarray, " M"]:
        """Monte Carlo standard error of `optimism`: it falls with more replicates."""
        used = self._used()
        return np.std(self._differences(), axis=0, where=used, ddof=1) / np.sqrt(used.sum(axis=0))

    def __getitem__(self, name: str) -> float:
        """Return the corrected value of a metric."""
        return float(self.corrected[self.names.index(name)])

    def __str__(self) -> str:
        rows = [("", "apparent", "training", "test", "optimism", "corrected", "n")]
        used = self._used()
        means = [np.mean(np.asarray(x), axis=0, where=used) for x in (self.training, self.test)]
        columns = [np.asarray(self.apparent), *means, self.optimism, self.corrected]
        for k, name in enumerate(self.names):
            rows.append((name, *(f"{column[k]:.4f}" for column in columns), str(used[:, k].sum())))
        return "\n".join("".join(f"{cell:>10}" for cell in row) for row in rows)

    def _differences(self) -> np.ndarray:
        return np.asarray(self.training) - np.asarray(self.test)

    def _used(self) -> np.ndarray:
        return np.isfinite(self._differences()) & np.asarray(self.converged)[:, None]


@on_auto_axes(replicated)
def optimism(  # noqa: PLR0913, public options by keyword
    problem: Problem,
    penalty: Penalty | Callable[[Problem], Penalty],
    metrics: Mapping[str, PredictorMetric] | None = None,
    *,
    replicates: int = 200,
    key: Array | int | None = None,
    solver: Solver | None = None,
    tol: float | None = None,
    batch_size: int = 100,
) -> Optimism:
    """Estimate metrics on new samples by Efron's optimism bootstrap.

    Each replicate draws n samples with replacement, as integer weights of one problem, and repeats the fit on
    them, with centring, scaling and the choice of the penalty. The optimism is the mean difference of its
    metrics on the bootstrap sample and on the original sample; it is subtracted from the apparent metrics.

    Args:
        problem: a concrete problem with one output.
        penalty: the penalty; or the rule that chooses it from data, a function of a problem that returns a
            penalty, by any function of jaxreg (`path` and `criteria.information`, `heuristic_factor`, …). A
            rule is repeated in each replicate, so that the corrected metrics are those of the whole
            procedure, choice of λ included. Rules run one after the other, a penalty is solved for all
            replicates at once.
        metrics: functions (loss, z, y, weight) -> number of linear predictor and targets on the scale of the
            data. None takes the mean "deviance", "R2" (explained deviance), calibration "slope" and
            "intercept", and for `Logistic` "Dxy" (2·AUC − 1).
        replicates: number of bootstrap samples.
        key: JAX key, or the integer that seeds one; None is 0.
        solver: solver of the fits; None is `ProximalGradient`.
        tol: tolerance of the fits as in `jaxreg.solve`.
        batch_size: limit of the replicates of a penalty that are solved as lanes of one computation.

    Raises:
        TypeError: where the arguments are not a problem and a penalty or rule; for the default metrics,
            losses other than `SquaredError`, `Logistic` and `Poisson`.
        ValueError: for several outputs, fewer than 2 replicates, and where the fit on all samples or more
            than half of the bootstrap fits did not meet the tolerance.

    References:
        B. Efron: Estimating the error rate of a prediction rule. JASA 78 (1983). F. E. Harrell: Regression
        Modeling Strategies, 2nd edition (2015), section 5.3.4.

    >>> import jaxreg as jr
    >>> X = jax.random.normal(jax.random.key(0), (40, 8))
    >>> y = X[:, 0] + jax.random.normal(jax.random.key(1), (40,))
    >>> found = optimism(jr.Problem(jr.losses.SquaredError(), X, y), jr.SquaredL2(0.1), replicates=50)
    >>> dict(zip(found.names, found.optimism > 0))["R2"].item()
    True
    """
    require_problem(problem, "jaxreg.shrinkage.optimism(jaxreg.Problem(loss, X, y), jaxreg.SquaredL2(0.1))")
    require(not problem.outputs, f"optimism needs one output, got {problem.outputs}")
    require(replicates >= 2, f"replicates must be at least 2, got {replicates}")
    require(batch_size >= 1, f"batch_size must be at least 1, got {batch_size}")
    names = _default_names(problem.loss) if metrics is None else tuple(metrics)
    functions = None if metrics is None else tuple(metrics.values())
    options = _Options(solver, tolerance(problem, tol))
    positive = np.asarray(problem.weight) > 0
    drawn = _multiplicities(prng_key(key), replicates, positive)
    rows = np.concatenate([np.ones_like(drawn[:1]), drawn]).astype(problem.dtype)
    _require_penalty_or_rule(penalty)
    if isinstance(penalty, Penalty):
        fits = _fit_in_batches(problem, penalty, options, rows, batch_size)
    else:
        fits = _fit_by_rule(problem, penalty, options, rows)
    require(fits.converged[0], "the fit on all samples did not meet the tolerance: raise tol")
    fitted = int(np.sum(fits.converged[1:]))
    require(
        fitted >= _MIN_FITTED * replicates,
        f"only {fitted} of {replicates} bootstrap fits met the tolerance: penalise more, or raise tol",
    )
    values = np.asarray(_evaluate(functions, problem, fits, rows))
    return Optimism(names, values[0, 0], values[1:, 0], values[1:, 1], fits.converged[1:])


def _require_penalty_or_rule(penalty: object) -> None:
    """Raise TypeError for other objects, and for a family: the class of a penalty is no rule."""
    if isinstance(penalty, type) or not (isinstance(penalty, Penalty) or callable(penalty)):
        got = f"the class {penalty.__name__}" if isinstance(penalty, type) else type(penalty).__name__
        raise TypeError(
            "wanted a penalty such as jaxreg.L1(0.1), or a function of a problem that returns one, got " + got
        )


def _default_names(loss: Loss) -> tuple[str, ...]:
    require_glm(loss, "the default metrics of optimism")
    dxy = ("Dxy",) if isinstance(loss, Logistic) else ()
    return ("deviance", "R2", *dxy, "slope", "intercept")


def _default_metrics(
    loss: Loss, z: Float[Array, " n"], y: Shaped[Array, " n"], weight: Float[Array, " n"]
) -> Float[Array, " M"]:
    """Return the metrics of `_default_names`; one recalibration gives slope and intercept."""
    deviance = 2 * (loss.value(z, y) - loss.saturated(y))
    deviance = jnp.sum(jnp.where(weight > 0, weight * deviance, 0.0)) / jnp.sum(weight)
    dxy = [2 * metrics.auc(z, y, weight) - 1] if isinstance(loss, Logistic) else []
    line = recalibrate(loss, z, y, weight)
    explained = metrics.explained_deviance(loss, z, y, weight)
    return jnp.stack([deviance, explained, *dxy, line.slope, line.intercept])


class _Fits(NamedTuple):
    """Fits of all resamples, on the scale of the data."""

    coef: Float[Array, "B p"]
    intercept: Float[Array, " B"]
    converged: Bool[Array, " B"]


class _Options(NamedTuple):
    """Options of `solve`."""

    solver: Solver | None
    tol: Scalar


def _fit_by_rule(
    problem: Problem, rule: Callable[[Problem], Penalty], options: _Options, rows: Float[np.ndarray, "B n"]
) -> _Fits:
    """Choose a penalty and solve for each resample in turn, on concrete problems."""
    fits = []
    for row in rows:
        resample = reweighted(problem, row)
        fit = solve(resample, rule(resample), solver=options.solver, tol=options.tol, throw=False)
        fits.append([np.asarray(x) for x in (fit.coef, fit.intercept, fit.converged)])
    return _Fits(*(np.stack(x) for x in zip(*fits, strict=True)))


def _fit_in_batches(
    problem: Problem, penalty: Penalty, options: _Options, rows: Float[np.ndarray, "B n"], batch_size: int
) -> _Fits:
    """Solve for resamples as lanes, in batches of one size: one program serves all."""
    batches = -(-len(rows) // batch_size)
    size = -(-len(rows) // batches)
    filled = np.concatenate([rows, np.repeat(rows[:1], batches * size - len(rows), axis=0)])
    parts = [_fit_batch(problem, penalty, options, batch) for batch in filled.reshape(batches, size, -1)]
    return _Fits(*(np.concatenate(x)[: len(rows)] for x in zip(*parts, strict=True)))


@jit_at_level(2)
def _fit_batch(problem: Problem, penalty: Penalty, options: _Options, rows: Float[Array, "B n"]) -> _Fits:
    def fit(row: Float[Array, " n"]) -> _Fits:
        found = solve(reweighted(problem, row), penalty, solver=options.solver, tol=options.tol, throw=False)
        return _Fits(found.coef, found.intercept, found.converged)

    return jax.vmap(fit)(rows)


def _multiplicities(
    key: Array, replicates: int, positive: Bool[np.ndarray, " n"]
) -> Int[np.ndarray, "replicates n"]:
    """Return how often each sample was drawn, from those of positive weight."""
    members = np.flatnonzero(positive)
    drawn = np.asarray(jax.random.randint(key, (replicates, members.size), 0, members.size))
    return np.stack([np.bincount(members[row], minlength=positive.size) for row in drawn])


@jit_at_level(2)
@jax.default_matmul_precision("highest")
def _evaluate(
    functions: tuple[PredictorMetric, ...] | None, problem: Problem, fits: _Fits, rows: Float[Array, "B n"]
) -> Float[Array, "B 2 M"]:
    """Return the metrics of each fit on its own resample and on the sample."""
    loss, unit = problem.original_loss, problem.target_scale
    y = unit * problem.y + problem.target_mean
    n_positive = jnp.sum(problem.weight > 0)

    def metrics_of_fit(row: tuple[_Fits, Array]) -> Float[Array, " M"]:
        fit, multiplicity = row
        z = unit * problem.predictor(*problem.to_working(fit.coef, fit.intercept)) + problem.target_mean

        def evaluate(weight: Float[Array, " n"]) -> Float[Array, " M"]:
            # The sum of weights matters to standard errors alone.
            weight = n_positive * weight / jnp.sum(weight)
            if functions is None:
                return _default_metrics(loss, z, y, weight)
            return jnp.stack([jnp.asarray(metric(loss, z, y, weight), z.dtype) for metric in functions])

        return jax.vmap(evaluate)(jnp.stack([problem.weight * multiplicity, problem.weight]))

    return jax.vmap(metrics_of_fit)((fits, rows))
