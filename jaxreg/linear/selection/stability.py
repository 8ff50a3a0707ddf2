r"""Stability selection: how often each feature is selected on random halves of the samples.

A path on one data set selects noise features too. Stability selection (Meinshausen and Bühlmann 2010) solves
the path on many subsamples and keeps the features that are selected in at least a share π of them, for some λ
of the grid. The expected number of falsely selected features is then bounded by

    E[V] ≤ q² / ((2π − 1)·p),

for q features selected by one subsample on average, of p. The bound assumes that noise features are
exchangeable. With complementary pairs (Shah and Samworth 2013) it holds without this assumption for features
of a selection probability of at most q/p, and is tighter if selection probabilities are unimodal.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._module import with_public_names
from jaxreg._typing import ArrayLike
from jaxreg._validation import prng_key, require
from jaxreg.linear.path.grid import lambda_grid, lambda_max
from jaxreg.linear.path.path import path
from jaxreg.linear.problem import Problem, require_problem
from jaxreg.linear.selection._restandardize import reweighted
from jaxreg.penalties import Family

__all__ = ["Stability", "stability_selection"]

#: Values of the default grid: selection probabilities change slowly with λ.
_NUM = 30
#: Smallest over largest λ of the default grid; smaller λ select noise, and the bound grows as q².
_RATIO = 0.05


@with_public_names
class Stability(NamedTuple):
    """Selection probabilities, and the features that are selected stably.

    Attributes:
        lambdas: the grid (L,).
        probabilities: share of the subsamples that select each feature at each λ (L, p).
        max_probability: share of the subsamples that select each feature at the λ where it is largest (p,).
        selected: the features (p,) with `max_probability` ≥ `threshold`.
        threshold: π.
        mean_selected: q, the mean number of features that a subsample selects at any λ of the grid.
        error_bound: bound on the expected number of falsely selected features, q²/((2π − 1)p).
        unimodal_bound: bound of Shah and Samworth for unimodal selection probabilities; inf without
            complementary pairs and where their theorem does not apply.
        converged: share of the solutions that met the tolerance.
    """

    lambdas: Float[np.ndarray, " L"]
    probabilities: Float[np.ndarray, "L p"]
    max_probability: Float[np.ndarray, " p"]
    selected: Bool[np.ndarray, " p"]
    threshold: float
    mean_selected: float
    error_bound: float
    unimodal_bound: float
    converged: float

    def __str__(self) -> str:
        selected, bound = int(self.selected.sum()), min(self.error_bound, self.unimodal_bound)
        false = f"at most {bound:.3g} of them expected to be false (q = {self.mean_selected:.3g})"
        if selected and bound >= selected:
            false = f"all of which may be false (q = {self.mean_selected:.3g}): set max_selected for a bound"
        return (
            f"Stability: {selected} of {self.selected.size} features selected with probability ≥"
            f" {self.threshold:g}, {false}"
        )


@on_auto_axes(replicated)
def stability_selection(  # noqa: PLR0913, public options by keyword
    problem: Problem,
    family: Family,
    lambdas: ArrayLike | None = None,
    *,
    replicates: int = 100,
    fraction: float = 0.5,
    complementary_pairs: bool = True,
    threshold: float = 0.75,
    max_selected: int | None = None,
    key: Array | int | None = None,
    tol: float | None = None,
) -> Stability:
    """Select the features that a path selects on most subsamples.

    A subsample is the same problem with sample weights of 0, centred and scaled anew, so that all subsamples
    share their compiled programs. The paths are solved one after the other, each as by `jaxreg.path`: on a
    CPU 50 warm paths took 0.5 s and 3.8 s (200×50 and 100×1000, 20 λ) where one batch of all lanes took 2.1 s
    and 144 s.

    Args:
        problem: a concrete problem.
        family: family of a penalty with exact zeros.
        lambdas: a falling grid (L,). None takes 30 values from λ_max to 0.05·λ_max.
        replicates: number of subsamples, an even number for complementary pairs.
        fraction: share of the samples in a subsample, without complementary pairs.
        complementary_pairs: whether subsamples come in pairs of two disjoint halves.
        threshold: π in (½, 1].
        max_selected: end each path before the λ at which it has selected more features than this, and keep
            the features of its last λ from there on. This bounds q, so that the error bound can be set in
            advance. None follows each path to the end of the grid.
        key: JAX key, or the integer that seeds one; None is 0.
        tol: tolerance as in `jaxreg.path`.

    Returns:
        A `Stability`: `probabilities` (L, p), the mask `selected` (p,) and the error bounds.

    Raises:
        TypeError: where the arguments are not a problem and a family.
        ValueError: for an odd number of complementary subsamples, another fraction than ½ of them, a fraction
            outside of (0, 1), fewer than 2 samples in a subsample, a threshold outside of (½, 1], and where
            every subsample selects all features at every λ.

    References:
        N. Meinshausen, P. Bühlmann: Stability selection. JRSS B 72 (2010). R. D. Shah, R. J. Samworth:
        Variable selection with error control: another look at stability selection. JRSS B 75 (2013).

    >>> import jaxreg as jr
    >>> X = jax.random.normal(jax.random.key(0), (60, 10))
    >>> y = X[:, 0] + 0.5 * jax.random.normal(jax.random.key(1), (60,))
    >>> problem = jr.Problem(jr.losses.SquaredError(), X, y)
    >>> found = jr.stability_selection(problem, jr.L1, replicates=20, max_selected=2)
    >>> np.flatnonzero(found.selected).tolist(), found.error_bound <= 2**2 / (0.5 * 10)
    ([0], True)
    """
    require_problem(problem, "jaxreg.stability_selection(jaxreg.Problem(loss, X, y), jaxreg.L1)")
    require(0.5 < threshold <= 1, f"threshold must be in (½, 1], got {threshold}")
    require(max_selected is None or max_selected >= 1, f"max_selected must be ≥ 1, got {max_selected}")
    positive = np.flatnonzero(np.asarray(problem.weight) > 0)
    _check_subsamples(positive.size, replicates, fraction, complementary_pairs)
    if lambdas is None:
        lambdas = lambda_grid(lambda_max(problem, family), _NUM, _RATIO)
    draws = np.random.default_rng(np.asarray(jax.random.key_data(prng_key(key))).ravel().tolist())
    subsamples = _subsamples(draws, positive, replicates, fraction, complementary_pairs)

    counts, anywhere, n_selected, converged = 0.0, 0.0, 0.0, 0.0
    for index in subsamples:
        mask = np.zeros(problem.shape[0], problem.dtype)
        mask[index] = 1.0
        solved = path(reweighted(problem, mask), family, lambdas, tol=tol)
        selected = _selections(np.asarray(solved.coef), max_selected)
        counts = counts + selected
        anywhere = anywhere + selected.any(axis=0)
        n_selected += float(selected.any(axis=0).sum())
        converged += float(np.mean(np.asarray(solved.converged)))
    probabilities = np.asarray(counts) / replicates
    q, p = n_selected / replicates, problem.shape[1]
    if p > 1 and probabilities.min() == 1:
        raise ValueError(
            f"every subsample selects all {p} features at every λ: take a penalty with exact zeros, such as"
            " jaxreg.L1, or larger λ"
        )
    best = probabilities.max(axis=0)
    pairs = replicates // 2 if complementary_pairs else None
    return Stability(
        lambdas=np.asarray(lambdas, float),
        probabilities=probabilities,
        max_probability=best,
        selected=best >= threshold,
        threshold=float(threshold),
        mean_selected=q,
        error_bound=q**2 / ((2 * threshold - 1) * p),
        unimodal_bound=_unimodal_bound(q, p, threshold, pairs),
        converged=converged / replicates,
    )


def _check_subsamples(n: int, replicates: int, fraction: float, complementary_pairs: bool) -> None:
    require(replicates >= 2, f"replicates must be at least 2, got {replicates}")
    require(0 < fraction < 1, f"fraction must be in (0, 1), got {fraction}")
    if complementary_pairs:
        pairs = f"complementary pairs need an even number of replicates, got {replicates}"
        require(replicates % 2 == 0, pairs)
        half = f"complementary pairs are halves, got fraction={fraction}: pass complementary_pairs=False"
        require(fraction == 0.5, half)
    size = int(n * fraction)
    require(size >= 2, f"a subsample has {size} of {n} samples of positive weight: needs at least 2")


def _subsamples(
    draws: np.random.Generator, positive: Int[np.ndarray, " n"], replicates: int, fraction: float, pairs: bool
) -> list[Int[np.ndarray, " m"]]:
    """Draw subsamples without replacement; pairs are two disjoint halves."""
    size = int(positive.size * fraction)
    if not pairs:
        return [draws.permutation(positive)[:size] for _ in range(replicates)]
    orders = [draws.permutation(positive) for _ in range(replicates // 2)]
    return [half for order in orders for half in (order[:size], order[size : 2 * size])]


def _selections(coef: Float[np.ndarray, "L p *K"], max_selected: int | None) -> Bool[np.ndarray, "L p"]:
    """Return the features selected at each λ; a path that ends early keeps the features of its last λ."""
    selected = coef != 0
    selected = selected.any(axis=2) if selected.ndim == 3 else selected
    if max_selected is None:
        return selected
    followed = np.logical_or.accumulate(selected, axis=0).sum(axis=1) <= max_selected
    if not followed[0]:
        return np.zeros_like(selected)
    return selected[np.minimum(np.arange(len(selected)), followed.sum() - 1)]


def _unimodal_bound(q: float, p: int, threshold: float, pairs: int | None) -> float:
    """Return C(π, B)·q²/p of theorem 2 of Shah and Samworth, for B complementary pairs."""
    if pairs is None:
        return math.inf
    theta, step = q / p, 1 / (2 * pairs)
    if theta > 1 / math.sqrt(3):
        return math.inf
    if threshold > 0.75:
        return 4 * (1 - threshold + step) / (1 + 2 * step) * theta * q
    if threshold <= min(0.5 + theta**2, 0.5 + step + 0.75 * theta**2) or 2 * threshold - 1 <= step:
        return math.inf
    return theta * q / (2 * (2 * threshold - 1 - step))
