"""Objectives and better points in extended precision, by code that shares nothing with jaxreg.

A point is polished by Newton steps on its support and proximal coordinate steps, all in NumPy's longdouble
(64 bits of mantissa on x86). The objective never rises, so its decrease is a lower bound of the true
suboptimality: a certificate that claims less is proved false.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.certificates.problems import Case

__all__ = ["Model", "Real", "WorkingPoint", "model", "to_working"]

Real = np.longdouble


class Point(NamedTuple):
    """Coefficients w (p, K), intercept b (K,) and the objective there."""

    w: np.ndarray
    b: np.ndarray
    objective: Real


@dataclass
class Model:
    """Loss and penalty of scaled features Z (n, p) in extended precision.

    The penalty is Σ l1·|w| + Σ l2/2·w² + Σ_g group_weights_g·‖w_g‖, with l1 and l2 per row of w (p, K).
    """

    loss: str
    Z: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    group_weights: np.ndarray
    groups: np.ndarray
    outputs: int
    eps: float

    def losses(self, z: np.ndarray) -> np.ndarray:
        """Return the loss of each sample at the predictor z (n, K)."""
        if self.loss == "Multinomial":
            top = z.max(axis=1, keepdims=True)
            total = np.log(np.exp(z - top).sum(axis=1)) + top[:, 0]
            return total - np.take_along_axis(z, self.y.astype(int)[:, None], 1)[:, 0]
        z, y = z[:, 0], self.y
        if self.loss == "SquaredError":
            return (z - y) ** 2 / 2
        if self.loss == "Huber":
            r = np.abs(z - y)
            return np.where(r <= 1, r**2 / 2, r - Real(0.5))
        if self.loss == "Logistic":
            return np.logaddexp(0, z) - y * z
        return np.exp(z) - y * z

    def saturated(self) -> np.ndarray:
        """Return the smallest loss of each sample."""
        if self.loss != "Poisson":
            return np.zeros(len(self.y), Real)
        positive = np.where(self.y > 0, self.y, 1)
        return np.where(self.y > 0, self.y - self.y * np.log(positive), 0)

    def derivatives(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first (n, K) and second derivatives (n, K, K) of the losses."""
        if self.loss == "Multinomial":
            e = np.exp(z - z.max(axis=1, keepdims=True))
            mean = e / e.sum(axis=1, keepdims=True)
            hot = np.eye(self.outputs, dtype=Real)[self.y.astype(int)]
            return mean - hot, mean[:, :, None] * (np.eye(self.outputs, dtype=Real) - mean[:, None, :])
        z, y = z[:, 0], self.y
        if self.loss == "SquaredError":
            first, second = z - y, np.ones_like(z)
        elif self.loss == "Huber":
            first, second = np.clip(z - y, -1, 1), (np.abs(z - y) <= 1).astype(Real)
        elif self.loss == "Logistic":
            mean = 1 / (1 + np.exp(-z))
            first, second = mean - y, mean * (1 - mean)
        else:
            mean = np.exp(z)
            first, second = mean - y, mean
        return first[:, None], second[:, None, None]

    def zeros(self) -> tuple[np.ndarray, np.ndarray]:
        """Return zero coefficients (p, K) and intercept (K,)."""
        return np.zeros((self.Z.shape[1], self.outputs), Real), np.zeros(self.outputs, Real)

    def predictor(self, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the predictor z (n, K)."""
        return self.Z @ w + b + self.offset[:, None]

    def group_norms(self, w: np.ndarray) -> np.ndarray:
        """Return the norm of each group."""
        groups = range(len(self.group_weights))
        return np.sqrt(np.array([(w[self.groups == g] ** 2).sum() for g in groups], Real))

    def objective(self, w: np.ndarray, b: np.ndarray) -> Real:
        """Return loss + penalty."""
        loss = self.weight @ self.losses(self.predictor(w, b))
        penalty = (self.l1[:, None] * np.abs(w)).sum() + (self.l2[:, None] * w**2).sum() / 2
        return loss + penalty + (self.group_weights * self.group_norms(w)).sum()

    def refine_intercept(self, w: np.ndarray, b: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Move the intercept towards its optimum by at most its rounding error (∝ `size`)."""
        with np.errstate(all="ignore"):
            grad, hess = self.derivatives(self.predictor(w, b))
            curvature = self.weight @ np.abs(np.trace(hess, axis1=1, axis2=2))
            shift = self.weight @ grad / (curvature if curvature > 0 else 1)
        bound = 4 * Real(self.eps) * size
        return b - np.clip(np.where(np.isfinite(shift), shift, 0), -bound, bound)

    def polish(self, w: np.ndarray, b: np.ndarray, allowed: np.ndarray, rounds: int = 60) -> Real:
        """Return the lowest objective reached from a point by moving the coordinates in `allowed` (p,)."""
        w, b = w.astype(Real), b.astype(Real)
        point, scale = Point(w, b, self.objective(w, b)), None
        for _ in range(rounds):
            before = point.objective
            with np.errstate(all="ignore"):
                point = self._coordinate_steps(self._newton_step(point, allowed), allowed)
            scale = scale or abs(before) + Real(1e-300)
            if not before - point.objective > 1e-18 * scale:
                break
        return point.objective

    def _newton_step(self, point: Point, allowed: np.ndarray) -> Point:
        """Take a Newton step on the support, clipped at sign changes, halved until the objective falls."""
        w, b = point.w, point.b
        per_group = len(self.group_weights) > 0
        group_weight = self.group_weights[self.groups] if per_group else np.zeros(len(w), Real)
        smooth = (self.l1 == 0) & (group_weight == 0)
        moves = ((w != 0) | smooth[:, None]) & allowed[:, None]
        used = np.concatenate([np.ones((1, self.outputs), bool), moves]).ravel()
        grad, hess = self._derivatives_of_objective(w, b, group_weight)
        size = used.size
        step = np.zeros(size, Real)
        step[used] = _solve(hess.reshape(size, size)[np.ix_(used, used)], grad.ravel()[used], self.eps)
        step = step.reshape(-1, self.outputs)
        for halvings in range(30):
            t = Real(0.5) ** halvings
            new = w - t * step[1:]
            # A coordinate with a kink at 0 stops at 0 instead of changing its sign.
            new = np.where((self.l1 > 0)[:, None] & (np.sign(new) != np.sign(w)), 0, new)
            value = self.objective(new, b - t * step[0])
            if value < point.objective:
                return Point(new, b - t * step[0], value)
        return point

    def _derivatives_of_objective(
        self, w: np.ndarray, b: np.ndarray, group_weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient (1 + p, K) and Hessian (1 + p, K, 1 + p, K) in intercept and coefficients."""
        K, n = self.outputs, len(self.y)
        norm = self.group_norms(w)[self.groups] if len(self.group_weights) else np.ones(len(w), Real)
        norm = np.where(norm > 0, norm, 1)
        loss_grad, loss_hess = self.derivatives(self.predictor(w, b))
        rows = np.concatenate([np.ones((n, 1), Real), self.Z], axis=1)
        grad = rows.T @ (self.weight[:, None] * loss_grad)
        grad[1:] += self.l1[:, None] * np.sign(w) + self.l2[:, None] * w + (group_weight / norm)[:, None] * w
        hess = np.zeros((rows.shape[1], K, rows.shape[1], K), Real)
        for i in range(K):
            for j in range(K):
                hess[:, i, :, j] = (rows * (self.weight * loss_hess[:, i, j])[:, None]).T @ rows
        penalty_hess = np.diag(self.l2 + group_weight / norm)
        if len(self.group_weights):
            same = (self.groups[:, None] == self.groups) * (group_weight / norm**3)[:, None]
            penalty_hess = penalty_hess - same * (w[:, 0][:, None] * w[:, 0])
        for i in range(K):
            hess[1:, i, 1:, i] += penalty_hess
        return grad, hess

    def _coordinate_steps(self, point: Point, allowed: np.ndarray) -> Point:
        """Take one proximal step per group, or per coordinate, shortened until the objective falls."""
        p, groups = len(point.w), range(len(self.group_weights))
        blocks = [self.groups == g for g in groups] or list(np.eye(p, dtype=bool))
        for g, block in enumerate(blocks):
            if not allowed[block].all():
                continue
            grad, hess = self.derivatives(self.predictor(point.w, point.b))
            block_grad = self.Z[:, block].T @ (self.weight[:, None] * grad)
            trace = np.abs(np.trace(hess, axis1=1, axis2=2))
            curvature = (self.weight[:, None] * self.Z[:, block] ** 2 * trace[:, None]).sum()
            curvature = curvature if curvature > 0 else Real(1)
            for halvings in range(12):
                t = Real(0.25) ** halvings / curvature
                new = point.w.copy()
                new[block] = self._block_prox(point.w[block] - t * block_grad, t, g, block)
                value = self.objective(new, point.b)
                if value < point.objective:
                    point = Point(new, point.b, value)
                    break
        return point

    def _block_prox(self, v: np.ndarray, t: Real, g: int, block: np.ndarray) -> np.ndarray:
        """Return the prox of the penalty of one block at step t."""
        v = np.sign(v) * np.maximum(np.abs(v) - t * self.l1[block][:, None], 0)
        if len(self.group_weights):
            length = np.sqrt((v**2).sum())
            v = v * max(0, 1 - t * self.group_weights[g] / length) if length > 0 else v
        return v / (1 + t * self.l2[block][:, None])


class _Scaling(NamedTuple):
    """Normalised sample weights (n,), means (p,) and scales (p,) of the columns."""

    weight: np.ndarray
    mean: np.ndarray
    scale: np.ndarray


def _scaling(case: Case) -> _Scaling:
    X, weight = case.X.astype(Real), case.weight.astype(Real)
    weight = weight / weight.sum()
    mean = weight @ X
    scale = np.sqrt(weight @ (X - mean) ** 2) if case.standardize else np.ones(X.shape[1], Real)
    return _Scaling(weight, mean, np.where(scale > 0, scale, 1))


def model(case: Case, lam: float) -> Model:
    """Return the problem of a case with its penalty at strength λ, in extended precision."""
    weight, mean, scale = _scaling(case)
    Z = (case.X.astype(Real) - mean) / scale
    factors = case.factors.astype(Real) * Real(lam)
    p = Z.shape[1]
    l1, l2, group_weights = np.zeros(p, Real), np.zeros(p, Real), np.zeros(0, Real)
    if case.kind == "group":
        group_weights = factors
    elif _by_differences(case):
        # Total variation of w is Σ|d| over the differences d, the first of which is unpenalised.
        Z = np.cumsum(Z[:, ::-1], axis=1)[:, ::-1]
        l1 = np.where(np.arange(p) == 0, 0, Real(lam))
    elif case.kind == "elementary":
        l1, l2 = factors * Real(case.mix), factors * (1 - Real(case.mix))
    outputs = 3 if case.loss == "Multinomial" else 1
    return Model(
        case.loss, Z, case.y.astype(Real), weight, case.offset.astype(Real),
        l1, l2, group_weights, case.groups, outputs, float(np.finfo(case.X.dtype).eps),
    )  # fmt: skip


class WorkingPoint(NamedTuple):
    """Coefficients and intercept in the coordinates of `Model`.

    `intercept_size` is the size of the summands of the intercept on the scale of the data, which bounds its
    rounding error.
    """

    w: np.ndarray
    b: np.ndarray
    intercept_size: np.ndarray


def to_working(case: Case, coef: np.ndarray, intercept: np.ndarray) -> WorkingPoint:
    """Convert coefficients and intercept from the scale of the data to the coordinates of `Model`."""
    _, mean, scale = _scaling(case)
    w = np.asarray(coef).astype(Real).reshape(case.X.shape[1], -1)
    b = np.asarray(intercept).astype(Real).reshape(-1)
    size = np.abs(b) + np.abs(mean) @ np.abs(w)
    b, w = b + mean @ w, w * scale[:, None]
    return WorkingPoint(np.diff(w, axis=0, prepend=0) if _by_differences(case) else w, b, size)


def _by_differences(case: Case) -> bool:
    """Return whether the coordinates are differences of neighbours.

    Without a penalty they need not be, and coefficients of very different size would lose their digits.
    """
    return case.kind == "chain" and case.lam > 0


def _solve(A: np.ndarray, b: np.ndarray, eps: float) -> np.ndarray:
    """Solve a symmetric system, scaled to unit diagonal, by Cholesky.

    Rows that depend on earlier rows up to the rounding error `eps` of the data get 0: they contribute only in
    the last digits of X.
    """
    d = np.sqrt(np.where(np.diag(A) > 0, np.diag(A), 1))
    A, b = (A / d[:, None] / d).copy(), (b / d).copy()
    size = len(b)
    L, used = np.zeros_like(A), np.zeros(size, bool)
    for j in range(size):
        pivot = A[j, j] - L[j, :j] @ L[j, :j]
        if pivot > size * (6 * eps) ** 2:
            used[j] = True
            L[j, j] = np.sqrt(pivot)
            L[j + 1 :, j] = (A[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    x = np.zeros(size, Real)
    for j in np.flatnonzero(used):
        x[j] = (b[j] - L[j, :j] @ x[:j]) / L[j, j]
    for j in np.flatnonzero(used)[::-1]:
        x[j] = (x[j] - L[j + 1 :, j] @ x[j + 1 :]) / L[j, j]
    return x / d
