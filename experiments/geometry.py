"""Diamond against circle: contours of the loss touch the ℓ1 ball at corners and edges, where weights are 0.

Figures: under each penalty the solution w* is the point where a contour of the loss first touches the ball
{w : Complexity(w) ≤ Complexity(w*)}. Count: least-squares problems with random targets are solved over a ball
whose radius is half the norm of the unconstrained solution; the result is the share of problems whose optimum
has an exact zero, that is, lies on a corner or an edge of the diamond. For two weights this share follows
from the KKT conditions, integrated over the directions of the target.

References:
    James et al. (2013), figure 6.7; Russell and Norvig (2010), figure 18.14; Tibshirani (1996), figure 2.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

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

    problems: int = option(100_000, "random problems over the ℓ1 ball, divided among sizes and correlations")
    others: int = option(10_000, "random problems over the ℓ2 ball")
    seed: int = option(0, "the first seed")
    shrink: float = option(0.5, "radius of the ball / norm of the unconstrained solution")
    tol: float = option(1e-7, "relative duality gap")
    max_lanes: int = option(1024, "problems in one chunk")


def main(config: Config, out: Path) -> None:
    """Count the zeros, and save figures and numbers."""
    results = {ball: count_zeros(config, ball) for ball in BALLS}
    rows = table_rows(config, results)
    by = {(row["p"], row["correlation"]): row for row in rows}
    worst = max(abs(row["ℓ1: a zero"] - row["ℓ1: by KKT"]) for row in rows if row["p"] == 2)
    ten, total = by[10, 0.0], int(np.prod(list(results["ℓ1"].sizes.values())))
    number = (
        f"{total:,} random problems over the ℓ1 ball: with 10 uncorrelated features the optimum has an exact"
        f" zero in {100 * ten['ℓ1: a zero']:.1f} %, {ten['ℓ1: zeros']:.1f} of 10 on average; over the ℓ2 ball"
        f" in {100 * ten['ℓ2: a zero']:.0f} %. With 2 features the share is that of the KKT conditions to"
        f" within {100 * worst:.1f} percentage points at every correlation."
    )
    save(out, {"geometry": plot_balls(), "count": plot_shares(rows)}, rows, config, number, problems=total)


# ---------------------------------------------------------------- the count


def count_zeros(config: Config, ball: str) -> Any:
    """Count the zeros of the constrained optimum, as a data set over p, correlation and seed.

    All p share one shape: the columns of a design beyond p are 0, and their weights stay at 0.
    """
    wanted = config.problems if ball == "ℓ1" else config.others
    each, largest_p = max(1, wanted // (len(SIZES) * len(CORRELATIONS))), max(SIZES)

    def run(p: jax.Array, correlation: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        used = jnp.arange(largest_p) < p
        gram = jnp.where(jnp.eye(largest_p) == 1, 1.0, correlation)
        root = jnp.linalg.cholesky(gram).T
        X = jnp.sqrt(1.0 * largest_p) * root * used
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), p), (largest_p,)) * used
        unconstrained = jax.scipy.linalg.solve_triangular(root, noise)
        problem = jr.Problem(jr.losses.SquaredError(), X, X @ unconstrained, intercept=False)
        radius = config.shrink * jnp.linalg.norm(unconstrained, 1 if ball == "ℓ1" else 2)
        fit = jr.solve(problem, BALLS[ball](radius), tol=config.tol, throw=False)
        return {"zeros": jnp.sum(used & (fit.coef == 0)), "converged": fit.converged}

    return jr.sweep(
        run, p=SIZES, correlation=CORRELATIONS, seed=range(config.seed, config.seed + each),
        max_lanes=config.max_lanes,
    )  # fmt: skip


def corner_share(correlation: float, shrink: float, directions: int = 200_001) -> float:
    """Return the share of directions of y for which the optimum over the two-dimensional ℓ1 ball is a corner.

    KKT: at the corner w = (±r, 0) the gradient g = H(w − ŵ), ŵ the unconstrained minimiser, satisfies
    |g₂| ≤ ∓g₁; likewise for the other axis.
    """
    angle = np.linspace(0, 2 * np.pi, directions, endpoint=False)
    gram = np.array([[1.0, correlation], [correlation, 1.0]])
    unconstrained = np.linalg.solve(np.linalg.cholesky(gram).T, np.stack([np.cos(angle), np.sin(angle)]))
    radius = shrink * np.abs(unconstrained).sum(axis=0)
    corner = np.zeros(directions, bool)
    for axis in (0, 1):
        for sign in (-1.0, 1.0):
            w = np.zeros_like(unconstrained)
            w[axis] = sign * radius
            g = gram @ (w - unconstrained)
            corner |= np.abs(g[1 - axis]) <= -sign * g[axis]
    return float(corner.mean())


def table_rows(config: Config, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table: one row for each p and correlation."""
    out = []
    for p in SIZES:
        for correlation in CORRELATIONS:
            selected = {name: part.sel(p=p, correlation=correlation) for name, part in results.items()}
            row: dict[str, Any] = {"p": p, "correlation": correlation}
            row["ℓ1: a zero"] = float((selected["ℓ1"]["zeros"] > 0).mean())
            row["ℓ1: a corner"] = float((selected["ℓ1"]["zeros"] == p - 1).mean())
            row["ℓ1: zeros"] = float(selected["ℓ1"]["zeros"].mean())
            row["ℓ2: a zero"] = float((selected["ℓ2"]["zeros"] > 0).mean())
            row["ℓ1: by KKT"] = corner_share(correlation, config.shrink) if p == 2 else None
            row["converged"] = min(float(part["converged"].mean()) for part in selected.values())
            out.append(row)
    return out


# ---------------------------------------------------------------- the figures


def plot_shares(rows: list[dict[str, Any]]) -> Any:
    """Plot the share of problems with an exact zero, and the share of the weights that are 0."""
    fig, axes = figure(1, 2, (11.5, 4.4))
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
    return fig


FAMILIES = {
    "ℓ½": jr.penalties.LHalf,
    "ℓ1": jr.L1,
    "elastic net": lambda lam: jr.ElasticNet(lam, 0.5),
    "ℓ2": jr.SquaredL2,
    "ℓ∞": jr.penalties.LInf,
    "group": lambda lam: jr.GroupL2(lam, [0, 0, 1], weights=[1.0, 1.0]),
}


class Contact(NamedTuple):
    """Point where a contour of the loss touches a ball, with the contour.

    The contour is {minimum + √(2·loss)·root·s : ‖s‖ = 1}.
    """

    w: np.ndarray
    loss: float
    minimum: np.ndarray
    root: np.ndarray


def contact_point(family: jr.penalties.Family, weights: int) -> Contact:
    """Return the solution at the largest λ whose loss is at most 42 % of the loss at w = 0.

    With two weights the third has no feature and stays at 0.
    """
    used = np.arange(3) < weights
    unconstrained = np.where(used, [1.0, 0.4, 0.3], 0.0)
    root = np.linalg.cholesky(np.where(np.eye(3) == 1, 1.0, 0.35)).T
    problem = jr.Problem(
        jr.losses.SquaredError(), np.sqrt(3) * root * used, np.sqrt(3) * root @ unconstrained, intercept=False
    )
    coef = np.asarray(jr.path(problem, family, np.geomspace(4.0, 0.01, 400)).coef)
    loss = 0.5 * np.sum(((coef - unconstrained) @ root.T) ** 2, axis=1)
    k = int(np.argmax(loss <= 0.21 * np.sum((root @ unconstrained) ** 2)))
    inverse = np.linalg.inv(root[:weights, :weights])
    return Contact(coef[k], float(loss[k]), unconstrained, inverse)


def boundary(family: jr.penalties.Family, w: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return the boundary of the ball through w along unit vectors (..., 3), by bisection on Complexity."""
    penalty = family(1.0)
    level, value = penalty.value(jnp.asarray(w)), jax.vmap(penalty.value)
    flat = jnp.asarray(directions.reshape(-1, 3))
    inside, outside = jnp.zeros(len(flat)), jnp.full(len(flat), 10.0)
    for _ in range(40):
        middle = 0.5 * (inside + outside)
        within = value(middle[:, None] * flat) <= level
        inside, outside = jnp.where(within, middle, inside), jnp.where(within, outside, middle)
    return np.asarray(inside[:, None] * flat).reshape(directions.shape)


def plot_balls() -> Any:
    """Plot the six balls in the plane and in space, each with the contour of the loss that touches it."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(15.0, 5.8))
    left, width = 0.032, 0.157
    fig.text(
        0.5, 0.985, "blue: the penalty's ball through the solution (dot);  orange: contours of the loss, the"
        " thick one and the cap touch the ball", ha="center", va="top", fontsize=11,
    )  # fmt: skip
    for k, (name, family) in enumerate(FAMILIES.items()):
        _plot_plane(fig.add_axes((left + 0.163 * k, 0.5, width - 0.02, 0.36)), name, family)
    for k, family in enumerate(FAMILIES.values()):
        _plot_space(fig.add_axes((left - 0.01 + 0.163 * k, 0.0, width, 0.4), projection="3d"), family)
    return fig


def _plot_plane(ax: Any, name: str, family: jr.penalties.Family) -> None:
    contact = contact_point(family, 2)
    angle = np.linspace(0, 2 * np.pi, 721)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    ball = boundary(family, contact.w, circle)[:, :2]
    w, minimum = contact.w[:2], contact.minimum[:2]
    ax.axhline(0, color="0.75", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.75", linewidth=0.8, zorder=0)
    ax.fill(*ball.T, color="#0072B2", alpha=0.3, linewidth=0)
    ax.plot(*ball.T, color="#0072B2", linewidth=1.5)
    for part in (0.15, 0.5, 1.0, 1.7):
        ellipse = minimum + np.sqrt(2 * part * contact.loss) * circle[:, :2] @ contact.root.T
        ax.plot(*ellipse.T, color="#D55E00", linewidth=1.8 if part == 1 else 0.8)
    ax.plot(*minimum, "+", color="#D55E00", markersize=8)
    ax.plot(*w, "o", color="black", markersize=7, zorder=5)
    zeros = {0: "no weight is 0", 1: "one weight is 0"}[int(np.sum(w == 0))]
    tied = ", both tied" if abs(w[0]) == abs(w[1]) else ""
    inside = " (inside one)" if name == "group" else ""
    ax.set_title(f"{name}{inside}\n{zeros}{tied}", fontsize=12)
    ax.set(aspect="equal", xlim=(-0.8, 1.6), ylim=(-0.8, 1.2), xticks=[0, 1], yticks=[0, 1])
    ax.set_xlabel("w₁", labelpad=-9)
    ax.set_ylabel("w₂", labelpad=-9)


def _plot_space(ax: Any, family: jr.penalties.Family) -> None:
    contact = contact_point(family, 3)
    label_offsets = [[0.1, 0, -0.22], [0.06, 0, 0], [0.06, 0, 0]]
    for axis, label_offset, label in zip(np.eye(3), label_offsets, ("w₁", "w₂", "w₃"), strict=True):
        ax.plot(*np.stack([-0.8 * axis, 0.95 * axis]).T, color="0.4", linewidth=0.8)
        ax.text(*(0.95 * axis + label_offset), label, fontsize=10)
    surface_style = {"rstride": 2, "cstride": 2, "linewidth": 0.15, "edgecolor": "white", "antialiased": True}
    w = contact.w
    for face in boundary(family, w, cube_faces(17)):
        ax.plot_surface(*np.moveaxis(face, -1, 0), color="#0072B2", alpha=0.85, **surface_style)
    sphere = cap(np.linalg.solve(contact.root, w - contact.minimum), 0.6)
    contour = contact.minimum + np.sqrt(2 * contact.loss) * sphere @ contact.root.T
    ax.plot_surface(*np.moveaxis(contour, -1, 0), color="#D55E00", alpha=0.35, **surface_style)
    ax.plot(*[[c] for c in w], "o", color="black", markersize=7, zorder=20)
    count_zeros = int(np.sum(w == 0))
    ax.set_title(
        {0: "no weight is 0", 1: "one weight is 0", 2: "two weights are 0"}[count_zeros], fontsize=12, y=1.1
    )
    ax.set(xlim=(-0.7, 1.1), ylim=(-0.9, 0.9), zlim=(-0.9, 0.9))
    ax.set_axis_off()
    ax.set_box_aspect((1, 1, 1), zoom=1.5)
    ax.view_init(elev=20, azim=-62)


def cube_faces(points: int) -> np.ndarray:
    """Return the faces of a cube, edges and axes included, as unit vectors (6, points, points, 3)."""
    a, b = np.meshgrid(np.linspace(-1, 1, points), np.linspace(-1, 1, points))
    one = np.stack([a, b, np.ones_like(a)], axis=-1)
    other = np.stack([-a, b, -np.ones_like(a)], axis=-1)
    every = np.stack([np.roll(side, k, axis=-1) for k in range(3) for side in (one, other)])
    return every / np.linalg.norm(every, axis=-1, keepdims=True)


def cap(middle: np.ndarray, width: float) -> np.ndarray:
    """Return unit vectors (25, 49, 3) within the angle `width` of the direction `middle`."""
    turned = np.linalg.qr(np.column_stack([middle, np.eye(3)]))[0]
    turned[:, 0] = middle / np.linalg.norm(middle)
    away, around = np.meshgrid(np.linspace(0, width, 25), np.linspace(0, 2 * np.pi, 49), indexing="ij")
    local = np.stack([np.cos(away), np.sin(away) * np.cos(around), np.sin(away) * np.sin(around)], axis=-1)
    return local @ turned.T
