"""Diamond against circle: contours of the loss touch the ℓ1 ball at corners and edges, where weights are 0.

The pictures: under each penalty the solution is where a contour of the loss first touches the penalty's ball
{w : Complexity(w) ≤ what it is there}. The count: least-squares problems with a random target, the weights
held in a ball of half the norm of the free solution, all of one ball in one batch; on what share of them the
optimum has an exact zero, that is, lies on a corner or an edge of the diamond. For two weights this share
follows from the KKT conditions, integrated over the directions of the target.
Source: James et al. (2013), figure 6.7; Russell and Norvig (2010), figure 18.14; Tibshirani (1996), figure 2.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._report import COLOURS, figure, option, save

SIZES = (2, 3, 5, 10)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
BALLS = {"ℓ1": jr.penalties.L1Ball, "ℓ2": jr.penalties.L2Ball}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take less than a minute on two cores."""

    problems: int = option(
        100_000, "random problems over the ℓ1 ball, shared out over sizes and correlations"
    )
    others: int = option(10_000, "random problems over the ℓ2 ball")
    seed: int = option(0, "the first seed")
    shrink: float = option(0.5, "the ball's radius, as a part of the norm of the free solution")
    tol: float = option(1e-7, "relative duality gap")
    max_lanes: int = option(1024, "problems in one chunk")


def main(config: Config, out: Path) -> None:
    """Count, draw, write the numbers."""
    found = {ball: count(config, ball) for ball in BALLS}
    rows = shares(config, found)
    by = {(row["p"], row["correlation"]): row for row in rows}
    worst = max(abs(row["ℓ1: a zero"] - row["ℓ1: by KKT"]) for row in rows if row["p"] == 2)
    ten, total = by[10, 0.0], int(np.prod(list(found["ℓ1"].sizes.values())))
    number = (
        f"{total:,} random problems over the ℓ1 ball: with 10 uncorrelated features the optimum has an exact"
        f" zero in {100 * ten['ℓ1: a zero']:.1f} %, {ten['ℓ1: zeros']:.1f} of 10 on average; over the ℓ2 ball"
        f" in {100 * ten['ℓ2: a zero']:.0f} %. With 2 features the share is that of the KKT conditions to"
        f" within {100 * worst:.1f} percentage points at every correlation."
    )
    save(out, {"geometry": drawn(), "count": counted(rows)}, rows, config, number, problems=total)


# ---------------------------------------------------------------- the count


def count(config: Config, ball: str) -> Any:
    """Zeros of the constrained optimum: a dataset over p, correlation and seed.

    One shape for all p: the columns of a design beyond p are 0, and their weights stay at 0.
    """
    wanted = config.problems if ball == "ℓ1" else config.others
    each, most = max(1, wanted // (len(SIZES) * len(CORRELATIONS))), max(SIZES)

    def run(p: jax.Array, correlation: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        used = jnp.arange(most) < p
        gram = jnp.where(jnp.eye(most) == 1, 1.0, correlation)
        root = jnp.linalg.cholesky(gram).T
        X = jnp.sqrt(1.0 * most) * root * used
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), p), (most,)) * used
        free = jax.scipy.linalg.solve_triangular(root, noise)
        problem = jr.Problem(jr.losses.SquaredError(), X, X @ free, intercept=False)
        radius = config.shrink * jnp.linalg.norm(free, 1 if ball == "ℓ1" else 2)
        fit = jr.solve(problem, BALLS[ball](radius), tol=config.tol, throw=False)
        return {"zeros": jnp.sum(used & (fit.coef == 0)), "converged": fit.converged}

    return jr.sweep(
        run, p=SIZES, correlation=CORRELATIONS, seed=range(config.seed, config.seed + each),
        max_lanes=config.max_lanes,
    )  # fmt: skip


def by_kkt(correlation: float, shrink: float, directions: int = 200_001) -> float:
    """The share of two-weight problems whose optimum over the ℓ1 ball is a corner, over all directions of y.

    At the corner w = (±r, 0) the gradient g = H(w − free) must point inwards along the first axis and be no
    steeper along the second: |g₂| ≤ ∓g₁; likewise for the other axis.
    """
    angle = np.linspace(0, 2 * np.pi, directions, endpoint=False)
    gram = np.array([[1.0, correlation], [correlation, 1.0]])
    free = np.linalg.solve(np.linalg.cholesky(gram).T, np.stack([np.cos(angle), np.sin(angle)]))
    radius = shrink * np.abs(free).sum(axis=0)
    corner = np.zeros(directions, bool)
    for axis in (0, 1):
        for sign in (-1.0, 1.0):
            w = np.zeros_like(free)
            w[axis] = sign * radius
            g = gram @ (w - free)
            corner |= np.abs(g[1 - axis]) <= -sign * g[axis]
    return float(corner.mean())


def shares(config: Config, found: dict[str, Any]) -> list[dict[str, Any]]:
    """The table: one row for each p and correlation."""
    out = []
    for p in SIZES:
        for correlation in CORRELATIONS:
            cut = {name: part.sel(p=p, correlation=correlation) for name, part in found.items()}
            row: dict[str, Any] = {"p": p, "correlation": correlation}
            row["ℓ1: a zero"] = float((cut["ℓ1"]["zeros"] > 0).mean())
            row["ℓ1: a corner"] = float((cut["ℓ1"]["zeros"] == p - 1).mean())
            row["ℓ1: zeros"] = float(cut["ℓ1"]["zeros"].mean())
            row["ℓ2: a zero"] = float((cut["ℓ2"]["zeros"] > 0).mean())
            row["ℓ1: by KKT"] = by_kkt(correlation, config.shrink) if p == 2 else None
            row["converged"] = min(float(part["converged"].mean()) for part in cut.values())
            out.append(row)
    return out


# ---------------------------------------------------------------- the figures


def counted(rows: list[dict[str, Any]]) -> Any:
    """On what share of the problems there is a zero, and what share of the weights is 0."""
    made, axes = figure(1, 2, (11.5, 4.4))
    styles = list(zip("os^D", ("#0072B2", "#009E73", "#CC79A7", "#000000"), strict=True))
    for correlation, (marker, colour) in zip(CORRELATIONS, styles, strict=True):
        part = [row for row in rows if row["correlation"] == correlation]
        x, y = [row["p"] for row in part], [100 * row["ℓ1: a zero"] for row in part]
        axes[0].plot(x, y, "-" + marker, color=colour, label=f"ℓ1 ball, correlation {correlation:g}")
        last = correlation == CORRELATIONS[-1]
        axes[0].plot(
            2, 100 * part[0]["ℓ1: by KKT"], "_", color="black", markersize=18, markeredgewidth=1.5,
            label="by the KKT conditions, p = 2" if last else None,
        )  # fmt: skip
    for p, (marker, colour) in zip(SIZES, styles, strict=True):
        part = [row for row in rows if row["p"] == p]
        x, y = [row["correlation"] for row in part], [100 * row["ℓ1: zeros"] / p for row in part]
        axes[1].plot(x, y, "-" + marker, color=colour, label=f"ℓ1 ball, p = {p}")
    worst = {along: [max(100 * row["ℓ2: a zero"] for row in rows if row[along] == x) for x in values]
             for along, values in (("p", SIZES), ("correlation", CORRELATIONS))}  # fmt: skip
    for ax, (along, y) in zip(axes, worst.items(), strict=True):
        x = SIZES if along == "p" else CORRELATIONS
        ax.plot(x, y, "--x", color=COLOURS["L2"], label="ℓ2 ball, the largest of all")
        ax.set(ylim=(-4, 104), xticks=x)
        ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[0].set(title="The optimum is on a corner or an edge", xlabel="weights p")
    axes[0].set_ylabel("problems with an exact zero [%]")
    axes[1].set(title="How many of its weights are 0", xlabel="correlation of the features")
    axes[1].set_ylabel("weights that are exactly 0 [%]")
    return made


FAMILIES = {
    "ℓ½": jr.penalties.LHalf,
    "ℓ1": jr.L1,
    "elastic net": lambda lam: jr.ElasticNet(lam, 0.5),
    "ℓ2": jr.SquaredL2,
    "ℓ∞": jr.penalties.LInf,
    "group": lambda lam: jr.GroupL2(lam, [0, 0, 1], weights=[1.0, 1.0]),
}


def touching(family: Any, weights: int) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """The solution at the largest λ whose loss is at most 42 % of that of w = 0.

    Returned with the loss there, the loss's minimum and the matrix that turns a sphere into its contour. With
    two weights the third has no feature and stays at 0.
    """
    used = np.arange(3) < weights
    free = np.where(used, [1.0, 0.4, 0.3], 0.0)
    root = np.linalg.cholesky(np.where(np.eye(3) == 1, 1.0, 0.35)).T
    problem = jr.Problem(
        jr.losses.SquaredError(), np.sqrt(3) * root * used, np.sqrt(3) * root @ free, intercept=False
    )
    coef = np.asarray(jr.path(problem, family, np.geomspace(4.0, 0.01, 400)).coef)
    loss = 0.5 * np.sum(((coef - free) @ root.T) ** 2, axis=1)
    k = int(np.argmax(loss <= 0.21 * np.sum((root @ free) ** 2)))
    inverse = np.linalg.inv(root[:weights, :weights])
    return coef[k], float(loss[k]), free, inverse


def boundary(family: Any, w: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The ball through w: for unit vectors (..., 3) the point where Complexity is that of w, by bisection."""
    penalty = family(1.0)
    level, value = penalty.value(jnp.asarray(w)), jax.vmap(penalty.value)
    flat = jnp.asarray(directions.reshape(-1, 3))
    inside, outside = jnp.zeros(len(flat)), jnp.full(len(flat), 10.0)
    for _ in range(40):
        middle = 0.5 * (inside + outside)
        within = value(middle[:, None] * flat) <= level
        inside, outside = jnp.where(within, middle, inside), jnp.where(within, outside, middle)
    return np.asarray(inside[:, None] * flat).reshape(directions.shape)


def drawn() -> Any:
    """The six balls in the plane and in space, each with the loss that touches it."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(15.0, 5.8))
    left, width = 0.032, 0.157
    made.text(
        0.5, 0.985, "blue: the penalty's ball through the solution (dot);  orange: contours of the loss, the"
        " thick one and the cap touch the ball", ha="center", va="top", fontsize=11,
    )  # fmt: skip
    for k, (name, family) in enumerate(FAMILIES.items()):
        _plane(made.add_axes((left + 0.163 * k, 0.5, width - 0.02, 0.36)), name, family)
    for k, family in enumerate(FAMILIES.values()):
        _space(made.add_axes((left - 0.01 + 0.163 * k, 0.0, width, 0.4), projection="3d"), family)
    return made


def _plane(ax: Any, name: str, family: Any) -> None:
    w, loss, free, root = touching(family, 2)
    angle = np.linspace(0, 2 * np.pi, 721)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    ball = boundary(family, w, circle)[:, :2]
    w, free = w[:2], free[:2]
    ax.axhline(0, color="0.75", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.75", linewidth=0.8, zorder=0)
    ax.fill(*ball.T, color="#0072B2", alpha=0.3, linewidth=0)
    ax.plot(*ball.T, color="#0072B2", linewidth=1.5)
    for part in (0.15, 0.5, 1.0, 1.7):
        ellipse = free + np.sqrt(2 * part * loss) * circle[:, :2] @ root.T
        ax.plot(*ellipse.T, color="#D55E00", linewidth=1.8 if part == 1 else 0.8)
    ax.plot(*free, "+", color="#D55E00", markersize=8)
    ax.plot(*w, "o", color="black", markersize=7, zorder=5)
    zeros = {0: "no weight is 0", 1: "one weight is 0"}[int(np.sum(w == 0))]
    tied = ", both tied" if abs(w[0]) == abs(w[1]) else ""
    inside = " (inside one)" if name == "group" else ""
    ax.set_title(f"{name}{inside}\n{zeros}{tied}", fontsize=12)
    ax.set(aspect="equal", xlim=(-0.8, 1.6), ylim=(-0.8, 1.2), xticks=[0, 1], yticks=[0, 1])
    ax.set_xlabel("w₁", labelpad=-9)
    ax.set_ylabel("w₂", labelpad=-9)


def _space(ax: Any, family: Any) -> None:
    w, loss, free, root = touching(family, 3)
    below = [[0.1, 0, -0.22], [0.06, 0, 0], [0.06, 0, 0]]
    for axis, apart, label in zip(np.eye(3), below, ("w₁", "w₂", "w₃"), strict=True):
        ax.plot(*np.stack([-0.8 * axis, 0.95 * axis]).T, color="0.4", linewidth=0.8)
        ax.text(*(0.95 * axis + apart), label, fontsize=10)
    looks = {"rstride": 2, "cstride": 2, "linewidth": 0.15, "edgecolor": "white", "antialiased": True}
    for face in boundary(family, w, faces(17)):
        ax.plot_surface(*np.moveaxis(face, -1, 0), color="#0072B2", alpha=0.85, **looks)
    contour = free + np.sqrt(2 * loss) * cap(np.linalg.solve(root, w - free), 0.6) @ root.T
    ax.plot_surface(*np.moveaxis(contour, -1, 0), color="#D55E00", alpha=0.35, **looks)
    ax.plot(*[[c] for c in w], "o", color="black", markersize=7, zorder=20)
    count = int(np.sum(w == 0))
    ax.set_title(
        {0: "no weight is 0", 1: "one weight is 0", 2: "two weights are 0"}[count], fontsize=12, y=1.1
    )
    ax.set(xlim=(-0.7, 1.1), ylim=(-0.9, 0.9), zlim=(-0.9, 0.9))
    ax.set_axis_off()
    ax.set_box_aspect((1, 1, 1), zoom=1.5)
    ax.view_init(elev=20, azim=-62)


def faces(points: int) -> np.ndarray:
    """The faces of a cube as unit vectors (6, points, points, 3): its edges and the axes are among them."""
    a, b = np.meshgrid(np.linspace(-1, 1, points), np.linspace(-1, 1, points))
    one = np.stack([a, b, np.ones_like(a)], axis=-1)
    other = np.stack([-a, b, -np.ones_like(a)], axis=-1)
    every = np.stack([np.roll(side, k, axis=-1) for k in range(3) for side in (one, other)])
    return every / np.linalg.norm(every, axis=-1, keepdims=True)


def cap(middle: np.ndarray, width: float) -> np.ndarray:
    """Unit vectors (25, 49, 3) within the angle `width` of a direction."""
    turned = np.linalg.qr(np.column_stack([middle, np.eye(3)]))[0]
    turned[:, 0] = middle / np.linalg.norm(middle)
    away, around = np.meshgrid(np.linspace(0, width, 25), np.linspace(0, 2 * np.pi, 49), indexing="ij")
    local = np.stack([np.cos(away), np.sin(away) * np.cos(around), np.sin(away) * np.sin(around)], axis=-1)
    return local @ turned.T
