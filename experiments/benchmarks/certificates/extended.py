"""The judge: objectives and better points in extended precision, by code that shares nothing with jaxreg.

A point is polished by Newton steps on its support and coordinate steps across it, all in NumPy's longdouble
(64 bits of mantissa on x86). The objective only falls, so the fall is a lower bound of the true distance from
the optimum: a certificate that claims less is false beyond doubt.
"""

from dataclasses import dataclass

import numpy as np

from experiments.benchmarks.certificates.problems import Case

__all__ = ["Model", "model"]

Real = np.longdouble


@dataclass
class Model:
    """Loss and penalty of scaled features Z (n, p) in extended precision.

    The penalty is Σ slope·|w| + Σ curve/2·w² + Σ_g group_g·‖w_g‖, by rows of w (p, K).
    """

    loss: str
    Z: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    slope: np.ndarray
    curve: np.ndarray
    group: np.ndarray
    groups: np.ndarray
    outputs: int
    eps: float

    def losses(self, z: np.ndarray) -> np.ndarray:
        """The loss of each sample at the predictor z (n, K)."""
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
        """The smallest loss of each sample."""
        if self.loss != "Poisson":
            return np.zeros(len(self.y), Real)
        positive = np.where(self.y > 0, self.y, 1)
        return np.where(self.y > 0, self.y - self.y * np.log(positive), 0)

    def slopes(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First (n, K) and second derivatives (n, K, K) of the losses."""
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

    def predictor(self, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """z (n, K)."""
        return self.Z @ w + b + self.offset[:, None]

    def norms(self, w: np.ndarray) -> np.ndarray:
        """The norm of each group."""
        return np.sqrt(np.array([(w[self.groups == g] ** 2).sum() for g in range(len(self.group))], Real))

    def objective(self, w: np.ndarray, b: np.ndarray) -> Real:
        """Loss + penalty."""
        loss = self.weight @ self.losses(self.predictor(w, b))
        penalty = (self.slope[:, None] * np.abs(w)).sum() + (self.curve[:, None] * w**2).sum() / 2
        return loss + penalty + (self.group * self.norms(w)).sum()

    def recentred(self, w: np.ndarray, b: np.ndarray, size: np.ndarray) -> np.ndarray:
        """The intercept moved towards its best by at most its own rounding, for terms as large as `size`."""
        with np.errstate(all="ignore"):
            first, second = self.slopes(self.predictor(w, b))
            bend = self.weight @ np.abs(np.trace(second, axis1=1, axis2=2))
            shift = self.weight @ first / (bend if bend > 0 else 1)
        bound = 4 * Real(self.eps) * size
        return b - np.clip(np.where(np.isfinite(shift), shift, 0), -bound, bound)

    def polish(self, w: np.ndarray, b: np.ndarray, allowed: np.ndarray, rounds: int = 60) -> Real:
        """The lowest objective found from a point, among coordinates that are `allowed` to move."""
        w, b = w.astype(Real), b.astype(Real)
        best, scale = self.objective(w, b), None
        for _ in range(rounds):
            before = best
            with np.errstate(all="ignore"):
                w, b, best = self._newton(w, b, best, allowed)
                w, b, best = self._coordinates(w, b, best, allowed)
            scale = scale or abs(before) + Real(1e-300)
            if not before - best > 1e-18 * scale:
                break
        return best

    def _newton(self, w: np.ndarray, b: np.ndarray, best: Real, allowed: np.ndarray) -> tuple:
        """A Newton step on the support, as far as signs last, halved until the objective falls."""
        norm = self.norms(w)[self.groups] if len(self.group) else np.ones(len(w), Real)
        weighted = self.group[self.groups] if len(self.group) else np.zeros(len(w), Real)
        moves = (w != 0) | ((self.slope == 0) & (weighted == 0))[:, None]
        moves &= allowed[:, None]
        K, n = self.outputs, len(self.y)
        first, second = self.slopes(self.predictor(w, b))
        rows = np.concatenate([np.ones((n, 1), Real), self.Z], axis=1)
        gradient = rows.T @ (self.weight[:, None] * first)
        safe = np.where(norm > 0, norm, 1)
        pull = self.slope[:, None] * np.sign(w) + self.curve[:, None] * w + (weighted / safe)[:, None] * w
        gradient[1:] += pull
        hessian = np.zeros((rows.shape[1], K, rows.shape[1], K), Real)
        for i in range(K):
            for j in range(K):
                hessian[:, i, :, j] = (rows * (self.weight * second[:, i, j])[:, None]).T @ rows
        bend = np.diag(self.curve + weighted / safe)
        if len(self.group):
            same = (self.groups[:, None] == self.groups) * (weighted / safe**3)[:, None]
            bend = bend - same * (w[:, 0][:, None] * w[:, 0])
        for i in range(K):
            hessian[1:, i, 1:, i] += bend
        at = np.concatenate([np.ones((1, K), bool), moves]).ravel()
        size = at.size
        step = np.zeros(size, Real)
        step[at] = _solve(hessian.reshape(size, size)[np.ix_(at, at)], gradient.ravel()[at], self.eps)
        step = step.reshape(-1, K)
        for halvings in range(30):
            t = Real(0.5) ** halvings
            new = w - t * step[1:]
            # What would change its sign stops at 0 where there is a kink.
            new = np.where((self.slope > 0)[:, None] & (np.sign(new) != np.sign(w)), 0, new)
            value = self.objective(new, b - t * step[0])
            if value < best:
                return new, b - t * step[0], value
        return w, b, best

    def _coordinates(self, w: np.ndarray, b: np.ndarray, best: Real, allowed: np.ndarray) -> tuple:
        """One proximal step for each group, or coordinate, with a step length that makes it fall."""
        blocks = [self.groups == g for g in range(len(self.group))] or list(np.eye(len(w), dtype=bool))
        for g, block in enumerate(blocks):
            if not allowed[block].all():
                continue
            z = self.predictor(w, b)
            first, second = self.slopes(z)
            gradient = self.Z[:, block].T @ (self.weight[:, None] * first)
            bend = np.abs(np.trace(second, axis1=1, axis2=2))
            curvature = (self.weight[:, None] * self.Z[:, block] ** 2 * bend[:, None]).sum()
            curvature = curvature if curvature > 0 else Real(1)
            for halvings in range(12):
                t = Real(0.25) ** halvings / curvature
                v = w[block] - t * gradient
                v = np.sign(v) * np.maximum(np.abs(v) - t * self.slope[block][:, None], 0)
                if len(self.group):
                    length = np.sqrt((v**2).sum())
                    v = v * max(0, 1 - t * self.group[g] / length) if length > 0 else v
                new = w.copy()
                new[block] = v / (1 + t * self.curve[block][:, None])
                value = self.objective(new, b)
                if value < best:
                    w, best = new, value
                    break
        return w, b, best


def model(case: Case, lam: float) -> Model:
    """The problem of a case, its penalty at strength λ, in extended precision."""
    X, weight = case.X.astype(Real), case.weight.astype(Real)
    weight = weight / weight.sum()
    mean = weight @ X
    scale = np.sqrt(weight @ (X - mean) ** 2) if case.standardize else np.ones(X.shape[1], Real)
    Z = (X - mean) / np.where(scale > 0, scale, 1)
    factors = case.factors.astype(Real) * Real(lam)
    p, none = X.shape[1], np.zeros(0, Real)
    slope, curve, group = np.zeros(p, Real), np.zeros(p, Real), none
    if case.kind == "group":
        group = factors
    elif case.kind == "chain":
        # Total variation of w is Σ|d| for the differences d, of which the first is free.
        Z = np.cumsum(Z[:, ::-1], axis=1)[:, ::-1]
        slope = np.where(np.arange(p) == 0, 0, Real(lam))
    else:
        slope, curve = factors * Real(case.mix), factors * (1 - Real(case.mix))
    outputs = 3 if case.loss == "Multinomial" else 1
    return Model(
        case.loss, Z, case.y.astype(Real), weight, case.offset.astype(Real),
        slope, curve, group, case.groups, outputs, float(np.finfo(case.X.dtype).eps),
    )  # fmt: skip


def working(case: Case, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coefficients and intercept on the scale of the data, as those of the model.

    The third is the size of the terms whose sum is the intercept on the scale of the data.
    """
    X, weight = case.X.astype(Real), case.weight.astype(Real)
    weight = weight / weight.sum()
    mean = weight @ X
    scale = np.sqrt(weight @ (X - mean) ** 2) if case.standardize else np.ones(X.shape[1], Real)
    w = np.asarray(coef).astype(Real).reshape(X.shape[1], -1)
    b = np.asarray(intercept).astype(Real).reshape(-1)
    size = np.abs(b) + np.abs(mean) @ np.abs(w)
    b, w = b + mean @ w, w * np.where(scale > 0, scale, 1)[:, None]
    return (np.diff(w, axis=0, prepend=0) if case.kind == "chain" else w), b, size


def _solve(A: np.ndarray, b: np.ndarray, eps: float) -> np.ndarray:
    """Solve a symmetric system scaled to unit diagonal by Cholesky.

    Rows get 0 that depend on others up to the rounding of the data's dtype: what they would explain is in the
    last digits of X alone.
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
