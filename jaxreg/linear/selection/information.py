"""Information criteria along a path: AIC, AICc, BIC, EBIC, GCV and Mallows's Cp."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxreg._compilation import jit_at_level
from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._module import with_public_names
from jaxreg._typing import Scalar
from jaxreg._validation import require
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.linear.divergence import divergence
from jaxreg.linear.path.result import Path
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.solve import unpenalized
from jaxreg.losses import Huber, SquaredError
from jaxreg.penalties import Family

__all__ = ["Information", "information"]


@with_public_names
class Information(NamedTuple):
    """Criteria at each λ of a path, each the smaller the better.

    Attributes:
        lambdas: the grid (L,).
        deviance: deviance of all samples; the residual sum of squares for squared error, in squares of y's
            unit.
        degrees_of_freedom: divergence of the predictions, intercept left out.
        nonzero: number of nonzero coefficients.
        aic: Akaike's criterion −2 log L + 2k.
        aicc: AIC + 2k(k + 1)/(n − k − 1), inf for k ≥ n − 1.
        bic: Schwarz's criterion −2 log L + k log n.
        ebic: BIC + 2γ log C(p, s) for s nonzero coefficients of p.
        gcv: (deviance/n)/(1 − df/n)², with the intercept in df; inf for df ≥ n.
        cp: Mallows's Cp, RSS/σ² − n + 2·df, with the intercept in df; NaN where σ is not known or the loss is
            not the squared error.
    """

    lambdas: Float[np.ndarray, " L"]
    deviance: Float[np.ndarray, " L"]
    degrees_of_freedom: Float[np.ndarray, " L"]
    nonzero: Float[np.ndarray, " L"]
    aic: Float[np.ndarray, " L"]
    aicc: Float[np.ndarray, " L"]
    bic: Float[np.ndarray, " L"]
    ebic: Float[np.ndarray, " L"]
    gcv: Float[np.ndarray, " L"]
    cp: Float[np.ndarray, " L"]

    def best(self, criterion: str) -> int:
        """Return the position of the smallest value of a criterion, the largest λ among equals.

        Raises:
            ValueError: for an unknown criterion, and one that is NaN at every λ.
        """
        names = self._fields[4:]
        require(criterion in names, f"criterion must be one of {', '.join(names)}, got {criterion!r}")
        values = getattr(self, criterion)
        known = not np.all(np.isnan(values))
        require(known, f"{criterion} is NaN at every λ: it needs squared error and sigma")
        return int(np.nanargmin(values))

    def lam(self, criterion: str) -> float:
        """Return the λ with the smallest value of a criterion, for `path.at`."""
        return float(self.lambdas[self.best(criterion)])

    def __str__(self) -> str:
        lines = [
            f"Information: {self.lambdas.size} λ",
            f"{'':5}{'λ':>12}{'index':>7}{'nonzero':>9}{'value':>12}",
        ]
        for name in self._fields[4:]:
            if not np.isnan(getattr(self, name)).all():
                k = self.best(name)
                numbers = f"{k:>7}{self.nonzero[k]:>9}{getattr(self, name)[k]:>12.4g}"
                lines.append(f"{name:5}{self.lambdas[k]:>12.4g}{numbers}")
        return "\n".join(lines)


@on_auto_axes(replicated)
def information(
    path: Path, problem: Problem, family: Family, *, sigma: float | None = None, ebic_gamma: float = 0.5
) -> Information:
    """Evaluate information criteria along a path.

    n is the number of samples of positive weight, and k the degrees of freedom of the fit (the divergence
    tr ∂ŷ/∂y, see `jaxreg.linear.divergence`: the number of nonzero coefficients for the lasso, the trace of
    the smoother for ridge, exact for groups and mixtures too) plus one for each intercept. With squared error
    and unknown σ, −2 log L is n·log(RSS/n) and k counts σ as well; with `sigma` it is RSS/σ². Constants that
    do not depend on λ are left out.

    With p ≥ n a path that interpolates has RSS → 0, where AIC, BIC and EBIC without `sigma` fall without
    bound: give `sigma`, end the grid before, or take AICc.

    Args:
        path: the path.
        problem: its problem.
        family: its family.
        sigma: standard deviation of the noise in units of y, for squared error. None profiles it out; Cp then
            takes that of the unpenalised fit, and is NaN where there is none.
        ebic_gamma: γ in [0, 1] of EBIC; 0 is BIC.

    Raises:
        TypeError: where `problem` is no problem or `family` no family, and for `Huber`, which is no
            likelihood.
        ValueError: for a σ that is not positive, a γ outside of [0, 1], and a path of another number of
            features.

    References:
        H. Zou, T. Hastie, R. Tibshirani: On the degrees of freedom of the lasso. Annals of Statistics 35
        (2007). C. Hurvich, C.-L. Tsai: Regression and time series model selection in small samples.
        Biometrika 76 (1989). J. Chen, Z. Chen: Extended Bayesian information criteria for model selection
        with large model spaces. Biometrika 95 (2008). G. Golub, M. Heath, G. Wahba: Generalized
        cross-validation. Technometrics 21 (1979). C. Mallows: Some comments on Cp. Technometrics 15 (1973).

    >>> import jaxreg as jr
    >>> X = jax.random.normal(jax.random.key(0), (50, 6))
    >>> y = X[:, 0] + jax.random.normal(jax.random.key(1), (50,))
    >>> problem = jr.Problem(jr.losses.SquaredError(), X, y)
    >>> path = jr.path(problem, jr.L1, num=20)
    >>> found = information(path, problem, jr.L1)
    >>> path.at(found.lam("bic")).coef[0].item() != 0
    True
    """
    require_problem(problem, "jaxreg.criteria.information(path, problem, family)")
    if isinstance(problem.loss, Huber):
        raise TypeError(
            "Huber's loss is no likelihood, so that it has no information criteria: cross-validate"
        )
    require(sigma is None or (np.isfinite(sigma) and sigma > 0), f"sigma must be > 0, got {sigma}")
    require(0 <= ebic_gamma <= 1, f"ebic_gamma must be in [0, 1], got {ebic_gamma}")
    shape = problem.zeros()[0].shape
    path_shape = path.coef.shape[1:]
    require(path_shape == shape, f"the path has coefficients of shape {path_shape}, the problem {shape}")
    grid = problem.working_grid(family, path.lambdas)
    df = np.asarray(divergence(problem, grid, path.coef, path.intercept), float)
    n = float(np.sum(np.asarray(problem.weight) > 0))
    per_sample = np.asarray(_mean_deviance(problem, path.coef, path.intercept), float)
    return _criteria(_Ingredients(path, problem, n, n * per_sample, df, sigma, ebic_gamma))


class _Ingredients(NamedTuple):
    """Everything that the criteria are computed from."""

    path: Path
    problem: Problem
    n: float
    deviance: np.ndarray
    df: np.ndarray
    sigma: float | None
    ebic_gamma: float


@jit_at_level(0)
@jax.default_matmul_precision("highest")
def _mean_deviance(
    problem: Problem, coef: Float[Array, "L p *K"], intercept: Float[Array, "L *K"]
) -> Float[Array, " L"]:
    """Return the weighted mean of 2·(loss − saturated loss) at each λ, in squares of y's unit."""
    saturated = problem.weight @ problem.loss.saturated(problem.y)

    def at_one_lambda(row: tuple[Coef, Intercept]) -> Scalar:
        z = problem.predictor(*problem.to_working(*row))
        return problem.original_objective(2 * (problem.value(z) - saturated))

    return jax.lax.map(at_one_lambda, (coef, intercept))


def _criteria(given: _Ingredients) -> Information:
    problem, deviance = given.problem, np.maximum(given.deviance, 0.0)
    outputs = problem.outputs[0] if problem.outputs else 1
    # Intercepts of K classes have K − 1 degrees of freedom, since a shift of all changes nothing.
    intercepts = int(problem.intercept) * (outputs - int(bool(problem.outputs) and problem.y.ndim == 1))
    n = given.n * outputs if problem.y.ndim == 2 else given.n
    total = given.df + intercepts
    minus_2_log_l, k = deviance, total
    cp = np.full_like(deviance, np.nan)
    if isinstance(problem.loss, SquaredError):
        variance = _noise_variance(given, n)
        cp = deviance / variance - n + 2 * total
        if given.sigma is None:
            with np.errstate(divide="ignore"):
                minus_2_log_l, k = n * np.log(deviance / n), total + 1
        else:
            minus_2_log_l = deviance / variance
    nonzero = np.count_nonzero(np.asarray(given.path.coef).reshape(deviance.size, -1), axis=1)
    bic, aic = minus_2_log_l + np.log(n) * k, minus_2_log_l + 2 * k
    room, rest = n - k - 1, 1 - total / n
    return Information(
        lambdas=np.asarray(given.path.lambdas),
        deviance=deviance,
        degrees_of_freedom=given.df,
        nonzero=nonzero,
        aic=aic,
        aicc=np.where(room > 0, aic + 2 * k * (k + 1) / np.where(room > 0, room, 1.0), np.inf),
        bic=bic,
        ebic=bic + 2 * given.ebic_gamma * _log_binomials(given.path.coef[0].size)[nonzero],
        gcv=np.where(rest > 0, deviance / n / np.where(rest > 0, rest, 1.0) ** 2, np.inf),
        cp=cp,
    )


def _noise_variance(given: _Ingredients, n: float) -> float:
    """Return σ², from the unpenalised fit where it is not given; NaN where no such fit exists."""
    if given.sigma is not None:
        return float(given.sigma) ** 2
    fit = unpenalized(given.problem)
    if fit is None:
        return float("nan")
    fitted = np.sum(~np.asarray(given.problem.constant)) + int(given.problem.intercept)
    rest = given.n * float(_mean_deviance(given.problem, fit[0][None], fit[1][None])[0])
    return rest / (n - fitted * n / given.n) if n > fitted else float("nan")


def _log_binomials(p: int) -> Float[np.ndarray, " p+1"]:
    """Return log C(p, s) for s = 0 … p."""
    s = np.arange(p)
    return np.concatenate([[0.0], np.cumsum(np.log((p - s) / (s + 1)))])
