"""Time of the proximal maps relative to the copy of an array and to direct implementations.

    python -m experiments.benchmarks.prox [--size 10000000] [--out FILE.json]

Each ratio divides two medians taken in one run, with the two sides in turn. `copy` is one read and one write
of the array. For separable penalties with a transcendental function the baseline is that function alone.
Sorted and chained penalties are measured at a tenth of the size against direct implementations: SLOPE against
NumPy's sort and scikit-learn's isotonic regression, total variation against the same algorithm in numba. The
proxes of pyproximal are baselines too; its total variation iterates to a tolerance, jaxreg's is exact. Peers
that are not installed are left out.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments.benchmarks._hardware import processor

P = jr.penalties
_SEPARABLE = {
    "L1": P.L1(0.5),
    "SquaredL2": P.SquaredL2(0.5),
    "ElasticNet": P.ElasticNet(0.5, 0.5),
    "Box": P.Box(-0.5, 1.0),
    "MCP": P.MCP(0.5, 3.0),
    "SCAD": P.SCAD(0.5, 3.7),
    "L0": P.L0(0.5),
    "CappedL1": P.CappedL1(0.5, 1.0),
    "HuberNorm": P.HuberNorm(0.5, 1.0),
    "AsymmetricL1": P.AsymmetricL1(0.5, 1.0, 2.0),
    "LHalf": P.LHalf(0.5),
    "LogSum": P.LogSum(0.5, 1.0),
}
_BASELINES = {"LHalf": ("cbrt", jnp.cbrt), "LogSum": ("log1p of |v|", lambda v: jnp.log1p(jnp.abs(v)))}


def medians(calls: dict[str, Callable[[], Any]], repeats: int = 7) -> dict[str, float]:
    """Return the median seconds of each call; calls take turns, so that drift affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def temporaries(function: Callable[..., Any], *args: Any) -> float:
    """Return the megabytes of temporaries of the compiled function."""
    analysis = jax.jit(function).lower(*args).compile().memory_analysis()
    return float(getattr(analysis, "temp_size_in_bytes", float("nan"))) / 1e6


def separable_rows(v: jax.Array) -> list[dict[str, Any]]:
    """Compare separable proxes with a copy, or with their transcendental function."""
    rows = []
    copy, prox = jax.jit(lambda v: v + 1), jax.jit(lambda p, v: p.prox(v, 0.7))
    for name, penalty in _SEPARABLE.items():
        label, baseline = _BASELINES.get(name, ("copy", copy))
        baseline = jax.jit(baseline)
        seconds = medians({"prox": lambda p=penalty: prox(p, v), "baseline": lambda f=baseline: f(v)})
        rows.append(_row(name, v.size, label, seconds, temporaries(lambda p, v: p.prox(v, 0.7), penalty, v)))
    return rows


def group_rows(v: jax.Array, groups: int = 100_000) -> list[dict[str, Any]]:
    """Compare the prox of group norms over uneven groups with a copy."""
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.choice(np.arange(1, v.size), min(groups, v.size // 4) - 1, replace=False))
    labels = jnp.asarray(np.searchsorted(cuts, np.arange(v.size), side="right"))
    penalty = P.GroupL2(0.5, labels)
    prox, copy = jax.jit(lambda p, v: p.prox(v, 0.7)), jax.jit(lambda v: v + 1)
    seconds = medians({"prox": lambda: prox(penalty, v), "baseline": lambda: copy(v)})
    return [_row("GroupL2", v.size, "copy", seconds, temporaries(lambda p, v: p.prox(v, 0.7), penalty, v))]


def chain_rows(v: jax.Array) -> list[dict[str, Any]]:
    """Compare SLOPE and total variation with direct implementations outside of JAX."""
    x = np.asarray(v, np.float64)
    lams = np.linspace(2.0, 0.1, x.size)
    slope, chain = P.SortedL1(lams.astype(np.float32)), P.TotalVariation(0.5)
    prox = jax.jit(lambda p, v: p.prox(v, 1.0))
    seconds = medians({"prox": lambda: prox(slope, v), "baseline": lambda: _slope(x, lams)})
    rows = [_row("SortedL1", v.size, "NumPy sort + scikit-learn pooling", seconds, float("nan"))]
    numba_prox = _numba_total_variation()
    if numba_prox is not None:
        seconds = medians({"prox": lambda: prox(chain, v), "baseline": lambda: numba_prox(x, 0.5)})
        error = float(np.max(np.abs(np.asarray(prox(chain, v), float) - numba_prox(x, 0.5))))
        rows.append(_row("TotalVariation", v.size, "numba, the same algorithm", seconds, float("nan")))
        rows[-1]["difference"] = error
    return rows


def peer_rows(v: jax.Array) -> list[dict[str, Any]]:
    """Compare with the proxes of pyproximal on the same values; no rows where it is not installed."""
    try:
        import pyproximal  # pyright: ignore[reportMissingImports]
    except ImportError:
        return []
    short = v[: v.size // 10]
    x, y = np.asarray(v), np.asarray(short)
    pairs = {
        "L1": (P.L1(0.5), pyproximal.L1(sigma=0.5), v, x),
        "L0": (P.L0(0.5), pyproximal.L0(sigma=0.5), v, x),
        "SCAD": (P.SCAD(0.5, 3.7), pyproximal.SCAD(0.5, 3.7), v, x),
        "Box": (P.Box(-0.5, 1.0), pyproximal.Box(-0.5, 1.0), v, x),
        "Simplex": (P.Simplex(1.0), pyproximal.Simplex(y.size, 1.0), short, y),
        "TotalVariation": (P.TotalVariation(0.5), pyproximal.TV((y.size,), sigma=0.5), short, y),
    }
    rows = []
    prox = jax.jit(lambda p, v: p.prox(v, 0.7))
    for name, (ours, theirs, values, array) in pairs.items():
        calls = {
            "prox": lambda ours=ours, values=values: prox(ours, values),
            "baseline": lambda theirs=theirs, array=array: theirs.prox(array, 0.7),
        }
        rows.append(_row(name, values.size, "pyproximal", medians(calls, 3), float("nan")))
        gap = np.asarray(calls["prox"](), float) - np.asarray(calls["baseline"](), float)
        rows[-1]["difference"] = float(np.max(np.abs(gap)))
    return rows


def _row(name: str, size: int, label: str, seconds: dict[str, float], temporary: float) -> dict[str, Any]:
    return {
        "penalty": name,
        "size": size,
        "baseline": label,
        "ratio": seconds["prox"] / seconds["baseline"],
        "milliseconds": 1e3 * seconds["prox"],
        "temporaries_MB": temporary,
    }


def _slope(x: np.ndarray, lams: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import isotonic_regression

    size = np.abs(x)
    order = np.argsort(-size)
    out = np.empty_like(x)
    out[order] = np.maximum(isotonic_regression(size[order] - lams, increasing=False), 0.0)
    return np.copysign(out, x)


def _numba_total_variation() -> Callable[[np.ndarray, float], np.ndarray] | None:
    """Return Johnson's algorithm compiled by numba, or None where numba is not installed."""
    try:
        import numba  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return numba.njit(cache=False)(_johnson)


def _johnson(y: np.ndarray, lam: float) -> np.ndarray:
    """Compute the prox of lam·TotalVariation by Johnson's dynamic programme (2013)."""
    n = y.size
    x, a, b = np.zeros(2 * n), np.zeros(2 * n), np.zeros(2 * n)
    low, high = np.zeros(n), np.zeros(n)
    low[0], high[0] = y[0] - lam, y[0] + lam
    left, right = n - 1, n
    x[left], x[right] = low[0], high[0]
    a[left], b[left] = 1.0, -y[0] + lam
    a[right], b[right] = -1.0, y[0] + lam
    first_a, first_b, last_a, last_b = 1.0, -y[1] - lam, -1.0, y[1] - lam
    for k in range(1, n - 1):
        al, bl, at = first_a, first_b, left
        while at <= right and al * x[at] + bl <= -lam:
            al, bl = al + a[at], bl + b[at]
            at += 1
        ah, bh, end = last_a, last_b, right
        while end >= at and -(ah * x[end] + bh) >= lam:
            ah, bh = ah + a[end], bh + b[end]
            end -= 1
        low[k], high[k] = (-lam - bl) / al, -(lam + bh) / ah
        left, right = at - 1, end + 1
        x[left], a[left], b[left] = low[k], al, bl + lam
        x[right], a[right], b[right] = high[k], ah, bh + lam
        first_a, first_b, last_a, last_b = 1.0, -y[k + 1] - lam, -1.0, y[k + 1] - lam
    al, bl, at = first_a, first_b, left
    while at <= right and al * x[at] + bl <= 0:
        al, bl = al + a[at], bl + b[at]
        at += 1
    u = np.empty(n)
    u[n - 1] = -bl / al
    for k in range(n - 2, -1, -1):
        u[k] = min(max(u[k + 1], low[k]), high[k])
    return u


def main(size: int = 10_000_000, out: Path | None = None) -> list[dict[str, Any]]:
    """Measure, print the table, and write it to `out` if given."""
    v = jax.random.normal(jax.random.key(0), (size,), jnp.float32)
    rows = [*separable_rows(v), *group_rows(v), *chain_rows(v[: max(size // 10, 1000)]), *peer_rows(v)]
    print(f"{'penalty':16}{'size':>10}  {'ratio':>6}  {'ms':>8}  {'temp MB':>8}  baseline")
    for row in rows:
        print(
            f"{row['penalty']:16}{row['size']:>10}  {row['ratio']:6.2f}  {row['milliseconds']:8.1f}"
            f"  {row['temporaries_MB']:8.1f}  {row['baseline']}"
            + (f", differs by {row['difference']:.0e}" if "difference" in row else "")
        )
    if out is not None:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "device": jax.devices()[0].device_kind,
            "processor": processor(),
            "jax": jax.__version__,
            "jaxreg": version("jaxreg"),
        }
        out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000_000, help="number of coordinates")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the table")
    given = parser.parse_args()
    main(given.size, given.out)
