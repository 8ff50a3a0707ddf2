"""Adapters: each makes one solver solve a `Task` at a tolerance in the solver's own meaning.

`build(task)` is not timed: it imports the package, arranges the arrays as the package prefers them, and
returns `solve(tolerance)`. `solve` is timed: it goes from NumPy arrays to coefficients (L, p) or (L, p, K)
and intercepts. `fits(task)` is true if the package solves exactly this task.

To add a solver:

- write its `build` in this file;
- name it in `SOLVERS`, where the tests find it.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.paths.tasks import Task

__all__ = ["SOLVERS", "Adapter"]

Solution = tuple[np.ndarray, np.ndarray]
Solve = Callable[[float], Solution]
# Iterations of scikit-learn: never the reason to stop.
_MAX_ITER = 1_000_000


class Adapter(NamedTuple):
    """A solver.

    Attributes:
        package: Distribution whose version is recorded.
        build: Function from a task to `solve`; None for glmnet, which runs in R.
        fits: True for the tasks that the solver solves exactly.
        kind: "ours", "descent" (coordinate descent), "homotopy" or "other".
        start: Loosest tolerance; 0 for exact solvers, which take none.
        compiles: True if the first call compiles.
    """

    package: str
    build: Callable[[Task], Solve] | None
    fits: Callable[[Task], bool]
    kind: str
    start: float
    compiles: bool = False


def _zero_intercepts(task: Task) -> np.ndarray:
    return np.zeros((len(task.lambdas), task.classes) if task.classes else len(task.lambdas))


def _lasso(task: Task) -> bool:
    return task.penalty == "elastic" and task.l1_ratio == 1


# ---------------------------------------------------------------- jaxreg


def jaxreg(task: Task) -> Solve:
    """`jr.path`, the Problem included."""
    import jax.numpy as jnp

    import jaxreg as jr

    losses = jr.losses
    loss = {
        "squared": losses.SquaredError,
        "logistic": losses.Logistic,
        "poisson": losses.Poisson,
        "multinomial": losses.Multinomial,
    }[task.loss]()
    X = task.X if task.sparse else np.ascontiguousarray(task.X)
    groups = np.arange(task.X.shape[1]) // task.group
    families = {
        "elastic": lambda lam: jr.ElasticNet(lam, task.l1_ratio),
        "group": lambda lam: jr.penalties.GroupL2(lam, groups),
        "mcp": lambda lam: jr.penalties.MCP(lam, task.gamma),
    }
    family = families[task.penalty]
    if task.penalty == "elastic" and task.l1_ratio in (0, 1):
        family = jr.L1 if task.l1_ratio else jr.SquaredL2
    y = task.y.astype(int) if task.classes else task.y

    def solve(tolerance: float) -> Solution:
        problem = jr.Problem(loss, X, y, intercept=task.intercept)
        path = jr.path(problem, family, jnp.asarray(task.lambdas), tol=tolerance)
        return np.asarray(path.coef), np.asarray(path.intercept)

    return solve


# ---------------------------------------------------------------- scikit-learn


def _centred(task: Task) -> tuple[Any, np.ndarray, Callable[[np.ndarray], Solution]]:
    """Return X and y, centred if there is an intercept, and the map from centred to original solutions."""
    if not task.intercept:
        return task.X, task.y, lambda coef: (coef, _zero_intercepts(task))
    mean, level = task.X.mean(axis=0), task.y.mean()
    return np.asfortranarray(task.X - mean), task.y - level, lambda coef: (coef, level - coef @ mean)


def sklearn_path(task: Task) -> Solve:
    """`lasso_path` or `enet_path`: coordinate descent with gap-safe screening."""
    from sklearn.linear_model import enet_path, lasso_path

    mix = {} if _lasso(task) else {"l1_ratio": task.l1_ratio}
    call: Any = lasso_path if _lasso(task) else enet_path

    def solve(tolerance: float) -> Solution:
        X, y, back = _centred(task)
        return back(call(X, y, alphas=task.lambdas, tol=tolerance, max_iter=_MAX_ITER, **mix)[1].T)

    return solve


def _between(alphas: np.ndarray, knots: np.ndarray, lambdas: np.ndarray) -> np.ndarray:
    """Interpolate the piecewise linear path (p, knots) at each λ, to (L, p)."""
    right = np.clip(np.searchsorted(-alphas, -lambdas), 1, max(len(alphas) - 1, 1))
    left = alphas[right - 1]
    width = left - alphas[right]
    share = np.clip((left - lambdas) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    return ((1 - share) * knots[:, right - 1] + share * knots[:, right]).T


def lars_path(task: Task) -> Solve:
    """Exact homotopy, interpolated at every λ."""
    from sklearn.linear_model import lars_path

    def solve(tolerance: float) -> Solution:
        X, y, back = _centred(task)
        alphas, _, knots = lars_path(
            X, y, method="lasso", alpha_min=task.lambdas[-1], max_iter=8 * min(X.shape)
        )
        return back(_between(alphas, knots, task.lambdas))

    return solve


def lars_path_gram(task: Task) -> Solve:
    """Exact homotopy on XᵀX, whose computation is timed as well."""
    from sklearn.linear_model import lars_path_gram

    def solve(tolerance: float) -> Solution:
        X, y, back = _centred(task)
        alphas, _, knots = lars_path_gram(
            X.T @ y, X.T @ X, n_samples=len(y), method="lasso", alpha_min=task.lambdas[-1],
            max_iter=8 * min(X.shape), copy_Gram=False,
        )  # fmt: skip
        return back(_between(alphas, knots, task.lambdas))

    return solve


def _logistic_regression(task: Task, solver: str) -> Solve:
    """One fit after the other, warm-started where the solver allows it."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    modern = tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 8)
    mix = {"l1_ratio": float(task.l1_ratio)} if modern else {"penalty": "l1" if task.l1_ratio else "l2"}

    def solve(tolerance: float) -> Solution:
        model = LogisticRegression(
            solver=solver, tol=tolerance, max_iter=_MAX_ITER, fit_intercept=task.intercept,
            warm_start=solver != "liblinear", random_state=0, **mix,
        )  # fmt: skip
        coef, intercept = [], []
        for lam in task.lambdas:
            model.set_params(C=1 / (lam * len(task.y))).fit(task.X, task.y)
            coef.append(model.coef_.T.copy() if task.classes else model.coef_[0].copy())
            level = np.ravel(model.intercept_)
            intercept.append(level.copy() if task.classes else level[0])
        return np.asarray(coef), np.asarray(intercept)

    return solve


# ---------------------------------------------------------------- celer, skglm, adelie


def celer(task: Task) -> Solve:
    """`celer_path`: dual extrapolation, working sets; prox-Newton for the logistic loss."""
    from celer import celer_path  # pyright: ignore[reportMissingImports]

    if task.penalty == "group":
        count = task.X.shape[1] // task.group
        more = {"pb": "grouplasso", "groups": task.group, "weights": np.full(count, task.group**0.5)}
    elif task.loss == "logistic":
        more = {"pb": "logreg", "use_PN": True}
    else:
        more = {"pb": "lasso", "l1_ratio": task.l1_ratio}
    scale = len(task.y) if task.loss == "logistic" else 1

    def solve(tolerance: float) -> Solution:
        X, y, back = _centred(task) if task.loss == "squared" else (task.X, 2 * task.y - 1, None)
        coef = celer_path(X, y, alphas=scale * task.lambdas, tol=tolerance, max_iter=1000, prune=1, **more)[
            1
        ].T
        return back(coef) if back else (coef, _zero_intercepts(task))

    return solve


def _skglm_parts(task: Task, gradient: float) -> tuple[Any, Any, Callable[[float], Any]]:
    """Return datafit, penalty, and the solver as a function of a tolerance relative to the null gradient."""
    from skglm import datafits, penalties, solvers  # pyright: ignore[reportMissingImports]

    def newton(tolerance: float) -> Any:
        return solvers.ProxNewton(tol=gradient * tolerance, max_iter=1000, fit_intercept=task.intercept)

    def descent(tolerance: float) -> Any:
        return solvers.AndersonCD(tol=gradient * tolerance, max_iter=1000, fit_intercept=task.intercept)

    def blocks(tolerance: float) -> Any:
        return solvers.GroupBCD(tol=gradient * tolerance, fit_intercept=task.intercept)

    lam = float(task.lambdas[0])
    if task.penalty == "group":
        indices = np.arange(task.X.shape[1], dtype=np.int32)
        cuts = np.arange(0, len(indices) + 1, task.group, dtype=np.int32)
        weights = np.full(len(cuts) - 1, task.group**0.5)
        penalty = penalties.WeightedGroupL2(lam, weights, cuts, indices)
        return datafits.QuadraticGroup(cuts, indices), penalty, blocks
    if task.penalty == "mcp":
        penalty = penalties.MCPenalty(lam, task.gamma)
    else:
        penalty = penalties.L1(lam) if _lasso(task) else penalties.L1_plus_L2(lam, task.l1_ratio)
    if task.loss == "squared":
        return datafits.Quadratic(), penalty, descent
    return (datafits.Logistic() if task.loss == "logistic" else datafits.Poisson()), penalty, newton


def skglm(task: Task) -> Solve:
    """AndersonCD for squared error, GroupBCD for groups, ProxNewton for logistic and Poisson."""
    gradient = float(task.lambdas[0])
    datafit, penalty, solver_at = _skglm_parts(task, gradient)
    y = 2 * task.y - 1 if task.loss == "logistic" else task.y
    p = task.X.shape[1]

    def solve(tolerance: float) -> Solution:
        solver, w = solver_at(tolerance), np.zeros(p + task.intercept)
        coef, intercept = np.zeros((len(task.lambdas), p)), _zero_intercepts(task)
        for k, lam in enumerate(task.lambdas):
            penalty.alpha = float(lam)
            start = task.X @ w[:p] + (w[p] if task.intercept else 0.0)
            w = solver.solve(task.X, y, datafit, penalty, w.copy(), start)[0]
            coef[k], intercept[k] = w[:p], w[p] if task.intercept else 0.0
        return coef, intercept

    return solve


def adelie(task: Task) -> Solve:
    """`grpnet` on all cores, without early exit."""
    import adelie as ad  # pyright: ignore[reportMissingImports]

    make = {"squared": ad.glm.gaussian, "logistic": ad.glm.binomial, "poisson": ad.glm.poisson}[task.loss]
    groups = np.arange(0, task.X.shape[1], task.group)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def solve(tolerance: float) -> Solution:
        X = ad.matrix.sparse(task.X, method="naive", n_threads=cores) if task.sparse else task.X
        state = ad.grpnet(
            X, make(task.y), groups=groups, alpha=task.l1_ratio, lmda_path=task.lambdas, tol=tolerance,
            irls_tol=tolerance, n_threads=cores, early_exit=False, intercept=task.intercept,
            progress_bar=False,
        )  # fmt: skip
        return state.betas.toarray(), np.asarray(state.intercepts)

    return solve


def _squared(task: Task, *penalties: str) -> bool:
    return task.loss == "squared" and task.penalty in penalties and task.l1_ratio > 0


def _homotopy(task: Task) -> bool:
    return _squared(task, "elastic") and _lasso(task) and not task.sparse


def _single(task: Task) -> bool:
    return task.loss == "logistic" and not task.sparse


def _celer_fits(task: Task) -> bool:
    if task.loss == "logistic":
        return _lasso(task) and not task.intercept
    return _squared(task, "elastic", "group") and not (task.sparse and task.intercept)


SOLVERS = {
    "jaxreg": Adapter("jaxreg", jaxreg, lambda task: True, "ours", 1e-4, True),
    "glmnet": Adapter("glmnet", None, lambda task: task.penalty == "elastic", "descent", 1e-7),
    "lasso_path": Adapter(
        "scikit-learn", sklearn_path, lambda t: _squared(t, "elastic") and _lasso(t), "descent", 1e-2
    ),
    "enet_path": Adapter(
        "scikit-learn", sklearn_path, lambda t: _squared(t, "elastic") and not _lasso(t), "descent", 1e-2
    ),
    "lars_path": Adapter("scikit-learn", lars_path, _homotopy, "homotopy", 0.0),
    "lars_path_gram": Adapter(
        "scikit-learn", lars_path_gram, lambda t: _homotopy(t) and t.X.shape[1] <= 10000, "homotopy", 0.0
    ),
    "liblinear": Adapter(
        "scikit-learn",
        lambda task: _logistic_regression(task, "liblinear"),
        lambda t: _single(t) and not t.intercept,
        "descent",
        1e-2,
    ),
    "saga": Adapter(
        "scikit-learn",
        lambda task: _logistic_regression(task, "saga"),
        lambda t: _single(t) or t.loss == "multinomial",
        "other",
        1e-2,
    ),
    "newton-cholesky": Adapter(
        "scikit-learn",
        lambda task: _logistic_regression(task, "newton-cholesky"),
        lambda t: _single(t) and t.l1_ratio == 0,
        "other",
        1e-2,
    ),
    "celer": Adapter("celer", celer, _celer_fits, "descent", 1e-2),
    "skglm": Adapter(
        "skglm",
        skglm,
        lambda t: t.loss != "multinomial" and t.l1_ratio > 0,
        "descent",
        1e-2,
        True,
    ),
    "adelie": Adapter(
        "adelie",
        adelie,
        lambda t: t.loss != "multinomial" and t.penalty != "mcp",
        "descent",
        1e-7,
    ),
}
