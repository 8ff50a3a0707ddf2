"""Summaries of the measurements: times to each gap, ratios to jaxreg's times, a table and a figure.

The time to a gap is the shortest median warm time over the tolerances that reach it. For a solver that was
stopped before it reached the gap, its longest call is a lower bound, marked ">".
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.paths.adapters import SOLVERS
from experiments.benchmarks.paths.measure import COLD, TARGETS, warm_seconds
from experiments.benchmarks.paths.workloads import WORKLOADS

__all__ = ["entries", "figure", "summary", "table"]

Entry = dict[str, Any]
# Workload that the growth workloads enlarge.
_BASE = "gaussian-1000x5000-0.5"


def entries(rows: list[dict[str, Any]]) -> dict[str, dict[str, Entry]]:
    """Summarise the rows by workload and solver: times to the targets, bound, points, cold calls, memory."""
    out: dict[str, dict[str, Entry]] = {}
    for row in rows:
        name = row["workload"].removesuffix("-tiny")
        out.setdefault(name, {}).setdefault(row["solver"], {"rows": []})["rows"].append(row)
    for solvers in out.values():
        for solver, entry in solvers.items():
            solvers[solver] = _entry(entry["rows"], SOLVERS[solver].compiles)
    return out


def _entry(rows: list[dict[str, Any]], compiles: bool) -> Entry:
    timed = [r for r in rows if "seconds" in r]
    points = []
    for tolerance in sorted({r["tolerance"] for r in timed}, reverse=True):
        calls = [r for r in timed if r["tolerance"] == tolerance and r["cache"] == "empty"]
        seconds = warm_seconds(calls, compiles)
        if np.isfinite(seconds):
            gap = max(np.inf if r["gap"] is None else r["gap"] for r in calls)
            points.append({"tolerance": tolerance, "gap": gap, "seconds": seconds})
    first = [r for r in rows if r["call"] == 0 and "seconds" in r]
    cold = {r["cache"]: r["seconds"] for r in first}
    tried = [r.get("seconds", r.get("over", 0.0)) for r in rows if r["call"] or "over" in r]
    return {
        "to": {t: min((p["seconds"] for p in points if p["gap"] <= t), default=None) for t in TARGETS},
        "bound": max(tried, default=0.0),
        "points": points,
        "cold": cold.get("empty"),
        "cached": cold.get("filled"),
        "memory": max((r["memory"] for r in timed), default=None),
        "error": next((r["error"] for r in rows if "error" in r), None),
    }  # fmt: skip


def _ratio(peer: Entry, ours: Entry, target: float) -> dict[str, Any] | None:
    """Return the peer's time / jaxreg's time to a target, or None where jaxreg did not reach it."""
    ours_seconds, peer_seconds = ours["to"][target], peer["to"][target]
    if ours_seconds is None or (peer_seconds is None and not peer["bound"]):
        return None
    bound = peer_seconds is None
    return {"ratio": (peer["bound"] if bound else peer_seconds) / ours_seconds, "bound": bound}


def _mean(ratios: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not ratios:
        return None
    mean = float(np.exp(np.mean([np.log(r["ratio"]) for r in ratios])))
    return {"ratio": mean, "of": len(ratios), "bounds": sum(r["bound"] for r in ratios)}


def summary(results: dict[str, dict[str, Entry]]) -> dict[str, Any]:
    """Return all ratios of times; above 1 jaxreg is faster."""
    compared = {name: solvers for name, solvers in results.items() if "jaxreg" in solvers}
    tight: dict[str, dict[str, Any]] = {}
    exact: dict[str, dict[str, Any]] = {}
    best: dict[str, dict[str, Any]] = {}
    for name, solvers in compared.items():
        ours = solvers["jaxreg"]
        for peer, entry in solvers.items():
            if peer != "jaxreg" and (ratio := _ratio(entry, ours, 1e-6)):
                ratios = exact if SOLVERS[peer].kind == "homotopy" else tight
                ratios.setdefault(name, {})[peer] = ratio
        loose = {peer: r for peer, e in solvers.items() if peer != "jaxreg" and (r := _ratio(e, ours, 1e-4))}
        if loose:
            peer = min(loose, key=lambda peer: (loose[peer]["bound"], loose[peer]["ratio"]))
            best[name] = {"peer": peer, **loose[peer]}
    counted = [name for name in tight if WORKLOADS[name].counted]
    descent = [p for p, adapter in SOLVERS.items() if adapter.kind == "descent"]
    by_peer = {p: _mean([tight[name][p] for name in counted if p in tight[name]]) for p in descent}
    everything = [r for name in counted for peer, r in tight[name].items() if peer in descent]
    return {
        "at 1e-6": tight,
        "at 1e-6, geometric mean over descent": _mean(everything),
        "at 1e-6, geometric mean by peer": {peer: mean for peer, mean in by_peer.items() if mean},
        "at 1e-6, exact homotopy": exact,
        "at 1e-4, the best peer": best,
        "glmnet at its default": _glmnet(compared),
        "growth": _growth(results),
        "cold": {name: _cold(solvers["jaxreg"]) for name, solvers in compared.items()},
    }


def _glmnet(results: dict[str, dict[str, Entry]]) -> dict[str, Any]:
    """Divide glmnet's time at thresh 1e-7 by jaxreg's time to 1e-6, and to the gap that glmnet reaches."""
    out = {}
    for name, solvers in results.items():
        ours, points = solvers["jaxreg"], solvers.get("glmnet", {"points": []})["points"]
        default = next((p for p in points if p["tolerance"] == SOLVERS["glmnet"].start), None)
        if default is None or ours["to"][1e-6] is None:
            continue
        same = min(p["seconds"] for p in ours["points"] if p["gap"] <= max(default["gap"], 1e-6))
        out[name] = {
            "ratio": default["seconds"] / ours["to"][1e-6],
            "ratio at its gap": default["seconds"] / same,
            "gap": default["gap"] if np.isfinite(default["gap"]) else None,
        }
    return out


def _growth(results: dict[str, dict[str, Entry]]) -> dict[str, dict[str, float]]:
    """Return log-log slopes of the time to 1e-6 (peers: at their loosest tolerance) as L or p doubles."""

    def at(name: str, solver: str) -> float | None:
        entry = results.get(name, {}).get(solver)
        if entry is None:
            return None
        return (
            entry["to"][1e-6] if solver == "jaxreg" else next((p["seconds"] for p in entry["points"]), None)
        )

    out: dict[str, dict[str, float]] = {}
    for label, name in (("lambdas", "growth-200-lambdas"), ("columns", "growth-10000-columns")):
        for solver in results.get(name, {}):
            before, after = at(_BASE, solver), at(name, solver)
            if before and after:
                out.setdefault(label, {})[solver] = float(np.log2(after / before))
    return out


def _cold(ours: Entry) -> dict[str, float | None]:
    warm = next((p["seconds"] for p in ours["points"] if p["tolerance"] == COLD), None)

    def beyond(seconds: float | None) -> float | None:
        return None if seconds is None or warm is None else seconds - warm

    return {
        "cold": ours["cold"],
        "warm": warm,
        "cold - warm": beyond(ours["cold"]),
        "cached - warm": beyond(ours["cached"]),
    }


# ---------------------------------------------------------------- in words


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.3g}"


def table(results: dict[str, dict[str, Entry]], totals: dict[str, Any]) -> str:
    """Format all times and ratios as text."""
    heads = "".join(f"{f'to {t:.0e}':>10}" for t in TARGETS)
    lines = [f"{'seconds, warm':26}{heads}{'cold':>9}{'MB':>7}{'best gap':>10}"]
    for name, solvers in results.items():
        lines.append(name + (" (KKT residual)" if name.startswith("mcp") else ""))
        for solver, entry in solvers.items():
            if not entry["points"]:
                why = entry["error"] or f"no warm call ended within {entry['bound']:.3g} s"
                lines.append(f"  {solver:24}  {why}")
                continue
            times = "".join(
                f"{_time(entry['to'][t]) if entry['to'][t] is not None else '>' + _time(entry['bound']):>10}"
                for t in TARGETS
            )
            gap = min(point["gap"] for point in entry["points"])
            lines.append(
                f"  {solver:24}{times}{_time(entry['cold']):>9}{entry['memory'] or 0:7.0f}{gap:10.0e}"
            )
    return "\n".join([*lines, "", *_summary_lines(totals)])


def _format_ratio(ratio: dict[str, Any]) -> str:
    return f"{'>' if ratio['bound'] else ''}{ratio['ratio']:.3g}"


def _summary_lines(totals: dict[str, Any]) -> list[str]:
    lines = ["times jaxreg's time (above 1: jaxreg is faster)"]
    for key in ("at 1e-6", "at 1e-6, exact homotopy"):
        for name, peers in totals[key].items():
            lines.append(
                f"  {key}, {name}: " + ", ".join(f"{p} {_format_ratio(r)}" for p, r in peers.items())
            )
    for peer, mean in totals["at 1e-6, geometric mean by peer"].items():
        lines.append(f"  at 1e-6, {peer}, geometric mean of {mean['of']}: {_format_mean(mean)}")
    if mean := totals["at 1e-6, geometric mean over descent"]:
        lines.append(f"  at 1e-6, coordinate descent, geometric mean of {mean['of']}: {_format_mean(mean)}")
    for name, row in totals["at 1e-4, the best peer"].items():
        lines.append(f"  at 1e-4, {name}: best peer {row['peer']} {_format_ratio(row)}")
    for name, row in totals["glmnet at its default"].items():
        gap = "inf" if row["gap"] is None else f"{row['gap']:.0e}"
        lines.append(
            f"  glmnet's default, {name}: {row['ratio']:.3g} times jaxreg's time to 1e-6,"
            f" {row['ratio at its gap']:.3g} times jaxreg's time to glmnet's gap {gap}"
        )
    for label, slopes in totals["growth"].items():
        text = ", ".join(f"{solver} {slope:.2f}" for solver, slope in slopes.items())
        lines.append(f"log-log slope of time as {label} double: {text}")
    for name, row in totals["cold"].items():
        text = ", ".join(f"{key} {_time(row[key])} s" for key in ("cold - warm", "cached - warm"))
        lines.append(f"jaxreg's first call, {name}: {text}")
    return lines


def _format_mean(mean: dict[str, Any]) -> str:
    return f"{mean['ratio']:.3g}" + (f" at least, {mean['bounds']} are bounds" if mean["bounds"] else "")


# ---------------------------------------------------------------- the figure

# Okabe and Ito's palette, safe for the colour-blind, without yellow; markers distinguish the solvers as well.
_COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
_MARKERS = "osD^vPX*<>ph"


def figure(results: dict[str, dict[str, Entry]], file: Path) -> None:
    """Plot time against gap on logarithmic axes: one panel per workload, one line per solver."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    fig, grid = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.7 * rows + 0.6), squeeze=False)
    lines_by_solver = {}
    for axes, (name, solvers) in zip(grid.flat, results.items(), strict=False):
        for k, solver in enumerate(SOLVERS):
            points = [p for p in solvers.get(solver, {"points": []})["points"] if np.isfinite(p["gap"])]
            if points:
                color, dash = _COLORS[k % len(_COLORS)], "-" if k < len(_COLORS) else "--"
                gap = np.maximum([p["gap"] for p in points], 1e-16)
                (lines_by_solver[solver],) = axes.loglog(
                    gap, [p["seconds"] for p in points], color=color, marker=_MARKERS[k % len(_MARKERS)],
                    linestyle=dash, markersize=4, linewidth=2 if solver == "jaxreg" else 1,
                )  # fmt: skip
        axes.invert_xaxis()
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(numticks=8))
            axis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(results) :]:
        axes.set_visible(False)
    fig.supxlabel("largest relative gap on the path (MCP: KKT residual)", fontsize=9)
    fig.supylabel("seconds, warm", fontsize=9)
    fig.tight_layout(rect=(0, 0, 1, 1 - 0.5 / fig.get_figheight()))
    fig.legend(
        lines_by_solver.values(), lines_by_solver, ncols=6, fontsize=8, loc="upper center", frameon=False
    )
    fig.savefig(file, dpi=130)
    plt.close(fig)
