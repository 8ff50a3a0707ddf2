"""Relative duality gaps of solutions of all solvers, by the same NumPy code in float64.

The relative gap is (primal − dual) / (loss of the null fit − saturated loss). The dual point is s·v, where v
is the gradient of the loss at the solution with its intercept refitted, so that v is orthogonal to the
intercept, and s ∈ [0, 1] is the best scale inside the dual domain. The gap is summed from non-negative
Fenchel–Young terms, which avoids cancellation. MCP has no dual: its measure is the relative residual of the
prox fixed point, ‖(w − prox(w − t∇f, t))/t‖∞ / ‖∇f(null)‖∞ at t = n/‖X‖².

References:
    Massias, Gramfort and Salmon (2018).
"""

from collections.abc import Callable

import numpy as np

from experiments.benchmarks.paths.tasks import Task

__all__ = ["gaps", "lambda_max"]

_GOLDEN = (5**0.5 - 1) / 2


def gaps(task: Task, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Return the relative gap (L,) at every λ, or for mcp the relative KKT residual.

    Args:
        task: The problem and its λ.
        coef: Coefficients (L, p), or (L, p, K) for multinomial.
        intercept: Intercepts (L,) or (L, K).

    Returns:
        One number per λ; inf where the solution is not finite.
    """
    finite = np.isfinite(np.hstack([x.reshape(len(x), -1) for x in (coef, intercept)])).all(axis=1)
    coef, intercept = coef.copy(), intercept.copy()
    coef[~finite], intercept[~finite] = 0.0, 0.0
    null = _null(task)
    if task.penalty == "mcp":
        unit = np.max(np.abs(_gradient(task, null)))
        step = 1 / _max_eigenvalue(task)
        measures = [
            _kkt(task, lam, w, b, step) / unit
            for lam, w, b in zip(task.lambdas, coef, intercept, strict=True)
        ]
    else:
        unit = np.mean(_value(task, null) - _saturated(task))
        measures = [
            _gap(task, lam, w, b) / unit for lam, w, b in zip(task.lambdas, coef, intercept, strict=True)
        ]
    measures = np.asarray(measures)
    return np.where(finite & np.isfinite(measures), np.maximum(measures, 0.0), np.inf)


def lambda_max(task: Task) -> float:
    """Return the smallest λ at which every coefficient is 0; for ridge, the λ_max of the lasso."""
    g = _gradient(task, _null(task))
    if task.penalty == "group":
        return float(np.max(_norms(task, g))) / task.group**0.5
    return float(np.max(np.abs(g))) / (task.l1_ratio if task.penalty == "elastic" and task.l1_ratio else 1.0)


# ---------------------------------------------------------------- losses, per sample; z is (n,) or (n, K)


def _onehot(task: Task) -> np.ndarray:
    return np.eye(task.classes)[task.y.astype(int)]


def _logsumexp(z: np.ndarray) -> np.ndarray:
    top = z.max(axis=1)
    return top + np.log(np.exp(z - top[:, None]).sum(axis=1))


def _value(task: Task, z: np.ndarray) -> np.ndarray:
    y = task.y
    if task.loss == "squared":
        return 0.5 * (z - y) ** 2
    if task.loss == "logistic":
        return np.logaddexp(0.0, (1 - 2 * y) * z)
    if task.loss == "poisson":
        return np.exp(z) - y * z
    return _logsumexp(z) - (z * _onehot(task)).sum(axis=1)


def _mean(task: Task, z: np.ndarray) -> np.ndarray:
    """Return the expected target."""
    if task.loss == "squared":
        return z
    if task.loss == "logistic":
        return 0.5 * (1 + np.tanh(0.5 * z))
    return np.exp(z) if task.loss == "poisson" else np.exp(z - _logsumexp(z)[:, None])


def _derivative(task: Task, z: np.ndarray) -> np.ndarray:
    """Return the derivative of each sample's loss in z."""
    return _mean(task, z) - (_onehot(task) if task.loss == "multinomial" else task.y)


def _xlogx(q: np.ndarray) -> np.ndarray:
    return np.where(q > 0, q * np.log(np.where(q > 0, q, 1.0)), 0.0)


def _conjugate(task: Task, v: np.ndarray) -> np.ndarray:
    """Return sup over z of v·z − value(z); v + y is in the domain up to rounding."""
    if task.loss == "squared":
        return 0.5 * v**2 + v * task.y
    if task.loss == "multinomial":
        return _xlogx(np.clip(v + _onehot(task), 0.0, 1.0)).sum(axis=1)
    q = np.maximum(v + task.y, 0.0)
    if task.loss == "poisson":
        return _xlogx(q) - q
    q = np.minimum(q, 1.0)
    return _xlogx(q) + _xlogx(1 - q)


def _saturated(task: Task) -> np.ndarray:
    """Return the smallest loss of each sample."""
    return _xlogx(task.y) * -1 + task.y if task.loss == "poisson" else np.zeros(len(task.y))


def _loss_gap(task: Task, z: np.ndarray, v: np.ndarray) -> float:
    """Return the mean of value(z) + conjugate(v) − v·z."""
    if task.loss == "squared":
        return float(np.mean(0.5 * (v - (z - task.y)) ** 2))
    product = v * z if z.ndim == 1 else (v * z).sum(axis=1)
    return float(np.mean(_value(task, z) + _conjugate(task, v) - product))


# ---------------------------------------------------------------- the intercept


def _refit(task: Task, z: np.ndarray) -> np.ndarray:
    """Shift z by the constant that makes the mean derivative 0, if the task has an intercept."""
    if not task.intercept:
        return z
    if task.loss == "squared":
        return z - np.mean(z - task.y)
    if task.loss == "poisson":
        return z + np.log(np.mean(task.y)) - np.log(np.mean(np.exp(z)))
    for _ in range(50):
        v, mean = _derivative(task, z), _mean(task, z)
        first = v.mean(axis=0)
        if np.max(np.abs(first)) < 1e-17:
            break
        if z.ndim == 1:
            step = first / max(np.mean(mean * (1 - mean)), 1e-300)
        else:
            second = np.diag(mean.mean(axis=0)) - mean.T @ mean / len(mean)
            step = np.linalg.lstsq(second, first, rcond=1e-12)[0]
        shifted = z - np.clip(step, -2.0, 2.0)
        if np.max(np.abs(_derivative(task, shifted).mean(axis=0))) >= np.max(np.abs(first)):
            break
        z = shifted
    return z


def _null(task: Task) -> np.ndarray:
    """Return the predictor of the fit of the intercept alone."""
    n = len(task.y)
    return _refit(task, np.zeros((n, task.classes) if task.classes else n))


def _gradient(task: Task, z: np.ndarray) -> np.ndarray:
    return np.asarray(task.X.T @ _derivative(task, z)) / len(task.y)


# ---------------------------------------------------------------- penalties


def _norms(task: Task, w: np.ndarray) -> np.ndarray:
    return np.linalg.norm(w.reshape(-1, task.group), axis=1)


def _penalty_gap(task: Task, lam: float, w: np.ndarray, u: np.ndarray) -> float:
    """Return penalty(w) + conjugate(u) − u·w, for u in the domain of the conjugate."""
    if task.penalty == "group":
        return float(lam * task.group**0.5 * _norms(task, w).sum() - u @ w)
    l1, l2 = lam * task.l1_ratio, lam * (1 - task.l1_ratio)
    total = l1 * np.abs(w) + 0.5 * l2 * w**2 - u * w
    if l2:
        total = total + np.maximum(np.abs(u) - l1, 0.0) ** 2 / (2 * l2)
    return float(np.sum(total))


def _dual_scale(task: Task, lam: float, u: np.ndarray) -> float:
    """Return the largest s ≤ 1 with s·u in the domain of the conjugate."""
    if task.penalty == "group":
        size = np.max(_norms(task, u)) / task.group**0.5
    elif task.l1_ratio == 1:
        size = np.max(np.abs(u))
    else:
        return 1.0
    return 1.0 if size <= lam else float(lam / size)


def _gap(task: Task, lam: float, w: np.ndarray, b: np.ndarray) -> float:
    raw = np.asarray(task.X @ w)
    z, v = raw + b, _derivative(task, _refit(task, raw + b))
    if task.intercept and np.max(np.abs(v.mean(axis=0))) > 1e-12 * max(1.0, np.max(np.abs(v))):
        return np.inf
    u = -np.asarray(task.X.T @ v) / len(task.y)

    def at(s: float) -> float:
        return _loss_gap(task, z, s * v) + _penalty_gap(task, lam, w, s * u)

    top = _dual_scale(task, lam, u)
    edge = at(top)
    # The gap is convex in s: if it still falls at the edge of the domain, the edge is the minimum.
    return edge if edge <= at(top * (1 - 1e-7)) else min(at(0.0), edge, _golden_section(at, top))


def _golden_section(f: Callable[[float], float], high: float) -> float:
    """Return the minimum of a convex function on [0, high], by golden-section search."""
    low = 0.0
    a, b = high - _GOLDEN * high, _GOLDEN * high
    fa, fb = f(a), f(b)
    for _ in range(36):
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - _GOLDEN * (high - low)
            fa = f(a)
        else:
            low, a, fa = a, b, fb
            b = low + _GOLDEN * (high - low)
            fb = f(b)
    return min(fa, fb)


# ---------------------------------------------------------------- MCP


def _max_eigenvalue(task: Task) -> float:
    """Return the largest eigenvalue of XᵀX/n, for a dense X."""
    n, p = task.X.shape
    small = task.X @ task.X.T if n < p else task.X.T @ task.X
    return float(np.linalg.eigvalsh(small)[-1]) / n


def _kkt(task: Task, lam: float, w: np.ndarray, b: np.ndarray, step: float) -> float:
    z = np.asarray(task.X @ w) + b
    v = w - step * _gradient(task, z)
    size = np.abs(v)
    if step < task.gamma:
        firm = np.maximum(size - step * lam, 0.0) / (1 - step / task.gamma)
        shifted = np.where(size > task.gamma * lam, size, firm)
    else:
        shifted = np.where(size > (step * task.gamma) ** 0.5 * lam, size, 0.0)
    residual = float(np.max(np.abs(w - np.sign(v) * shifted))) / step
    return max(residual, abs(float(np.mean(_derivative(task, z))))) if task.intercept else residual
