"""How fast the proximal maps are, beside the copy of an array and beside direct implementations.

    python -m experiments.benchmarks.prox [--size 10000000] [--out FILE.json]

Each ratio is of medians taken in one run, the two sides in turn. `copy` is one read and one write of the
array. For separable penalties with a transcendental function the yardstick is that function alone. Sorted
and chained penalties are measured at a tenth of the size against direct implementations: pooling by
scikit-learn's isotonic regression, sorting by NumPy, total variation by the same algorithm in numba where it
is installed. Where pyproximal is installed its proxes are a yardstick too; its total variation iterates to a
tolerance, ours is exact.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr

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
_YARDSTICKS = {"LHalf": ("cbrt", jnp.cbrt), "LogSum": ("log1p of |v|", lambda v: jnp.log1p(jnp.abs(v)))}


def medians(calls: dict[str, Callable[[], Any]], repeats: int = 7) -> dict[str, float]:
    """Median seconds of each call, taken in turn after one warm-up, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) for name, found in times.items()}


def temporaries(function: Callable[..., Any], *args: Any) -> float:
    """Megabytes that the compiled function allocates beside its arguments and result."""
    analysis = jax.jit(function).lower(*args).compile().memory_analysis()
    return float(getattr(analysis, "temp_size_in_bytes", float("nan"))) / 1e6


def separable(v: jax.Array) -> list[dict[str, Any]]:
    """Separable proxes beside a copy, or beside their transcendental function."""
    rows = []
    copy, prox = jax.jit(lambda v: v + 1), jax.jit(lambda p, v: p.prox(v, 0.7))
    for name, penalty in _SEPARABLE.items():
        label, alone = _YARDSTICKS.get(name, ("copy", copy))
        alone = jax.jit(alone)
        found = medians({"prox": lambda p=penalty: prox(p, v), "yardstick": lambda f=alone: f(v)})
        rows.append(_row(name, v.size, label, found, temporaries(lambda p, v: p.prox(v, 0.7), penalty, v)))
    return rows


def grouped(v: jax.Array, groups: int = 100_000) -> list[dict[str, Any]]:
    """Group norms over uneven groups beside a copy."""
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.choice(np.arange(1, v.size), min(groups, v.size // 4) - 1, replace=False))
    labels = jnp.asarray(np.searchsorted(cuts, np.arange(v.size), side="right"))
    penalty = P.GroupL2(0.5, labels)
    prox, copy = jax.jit(lambda p, v: p.prox(v, 0.7)), jax.jit(lambda v: v + 1)
    found = medians({"prox": lambda: prox(penalty, v), "yardstick": lambda: copy(v)})
    return [_row("GroupL2", v.size, "copy", found, temporaries(lambda p, v: p.prox(v, 0.7), penalty, v))]


def chained(v: jax.Array) -> list[dict[str, Any]]:
    """SLOPE and total variation beside direct implementations outside of JAX."""
    x = np.asarray(v, np.float64)
    lams = np.linspace(2.0, 0.1, x.size)
    slope, chain = P.SortedL1(lams.astype(np.float32)), P.TotalVariation(0.5)
    prox = jax.jit(lambda p, v: p.prox(v, 1.0))
    found = medians({"prox": lambda: prox(slope, v), "yardstick": lambda: _slope(x, lams)})
    rows = [_row("SortedL1", v.size, "NumPy sort + scikit-learn pooling", found, float("nan"))]
    direct = _direct_tv()
    if direct is not None:
        found = medians({"prox": lambda: prox(chain, v), "yardstick": lambda: direct(x, 0.5)})
        error = float(np.max(np.abs(np.asarray(prox(chain, v), float) - direct(x, 0.5))))
        rows.append(_row("TotalVariation", v.size, "numba, the same algorithm", found, float("nan")))
        rows[-1]["difference"] = error
    return rows


def peers(v: jax.Array) -> list[dict[str, Any]]:
    """The proxes that pyproximal has too, on the same values; none where it is not installed."""
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
            "yardstick": lambda theirs=theirs, array=array: theirs.prox(array, 0.7),
        }
        rows.append(_row(name, values.size, "pyproximal", medians(calls, 3), float("nan")))
        gap = np.asarray(calls["prox"](), float) - np.asarray(calls["yardstick"](), float)
        rows[-1]["difference"] = float(np.max(np.abs(gap)))
    return rows


def _row(name: str, size: int, label: str, found: dict[str, float], temporary: float) -> dict[str, Any]:
    return {
        "penalty": name,
        "size": size,
        "yardstick": label,
        "ratio": found["prox"] / found["yardstick"],
        "milliseconds": 1e3 * found["prox"],
        "temporaries_MB": temporary,
    }


def _slope(x: np.ndarray, lams: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import isotonic_regression

    size = np.abs(x)
    order = np.argsort(-size)
    out = np.empty_like(x)
    out[order] = np.maximum(isotonic_regression(size[order] - lams, increasing=False), 0.0)
    return np.copysign(out, x)


def _direct_tv() -> Callable[[np.ndarray, float], np.ndarray] | None:
    """Johnson's dynamic programme, compiled by numba; None where that is not installed."""
    try:
        import numba  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    @numba.njit(cache=False)
    def solve(y: np.ndarray, lam: float) -> np.ndarray:
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
            al, bl = first_a, first_b
            at = left
            while at <= right and al * x[at] + bl <= -lam:
                al, bl = al + a[at], bl + b[at]
                at += 1
            ah, bh = last_a, last_b
            end = right
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

    return solve


def main(size: int = 10_000_000, out: Path | None = None) -> list[dict[str, Any]]:
    """Measure, print the table, write it where asked."""
    v = jax.random.normal(jax.random.key(0), (size,), jnp.float32)
    rows = [*separable(v), *grouped(v), *chained(v[: max(size // 10, 1000)]), *peers(v)]
    print(f"{'penalty':16}{'size':>10}  {'ratio':>6}  {'ms':>8}  {'temp MB':>8}  beside")
    for row in rows:
        print(
            f"{row['penalty']:16}{row['size']:>10}  {row['ratio']:6.2f}  {row['milliseconds']:8.1f}"
            f"  {row['temporaries_MB']:8.1f}  {row['yardstick']}"
            + (f", differs by {row['difference']:.0e}" if "difference" in row else "")
        )
    if out is not None:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "device": jax.devices()[0].device_kind,
            "machine": platform.machine(),
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
