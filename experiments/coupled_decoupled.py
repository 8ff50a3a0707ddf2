"""An adaptive optimiser changes the cost that a penalty stands for, unless the prox uses its metric.

One linear model, one λ, five ways to put the penalty into Adam:

- L1 subgradient added to the gradient: oscillates around 0 until the learning rate has decayed, and gives no
  exact zero.
- Soft threshold of ηλ after Adam's step (uniform prox): minimises another cost. On full batches it ends at
  the minimum of the loss alone: Adam's step has length η for a gradient of any size, and the threshold is the
  fraction λ of that step.
- Prox in Adam's metric: gives the zeros of the stated cost.
- L2 gradient λw added to the gradient: ends at the ridge solution.
- AdamW, weight decay after the step: on full batches ends at the minimum of the loss over ‖w‖∞ ≤ 1/λ.

The KKT residual of the stated cost measures the distance from its minimum: 0 there, 1 at w = 0.

References:
    Loshchilov and Hutter (2019) for AdamW; Xie and Li (2024) for the limit of AdamW; Duchi, Hazan and Singer
    (2011) and Yun, Lozano and Yang (2021) for the prox in the metric of the optimiser.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg as jr
from experiments._data import Data, load_bundled
from experiments._report import COLOURS, figure, option, save


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take about ten seconds."""

    l1: float = option(0.08, "λ of the L1 penalty; λ_max is 0.58")
    l2: float = option(3.0, "λ of the L2 penalty and of AdamW's weight decay, whose bound is 1/λ")
    steps: int = option(20_000, "number of steps")
    rate: float = option(0.01, "initial learning rate, which decays to 0 along a cosine")
    b2: float = option(0.99, "Adam's second decay rate; its memory must be short compared with the run")
    batch: int = option(0, "rows in a mini-batch; 0 for full batches, for which the limits above hold")
    seed: int = option(0, "seed of the mini-batches")
    every: int = option(10, "steps between two points of the plotted paths")


def main(config: Config, out: Path) -> None:
    """Train with every optimiser, compare with the certified minimum, and save figure and numbers."""
    data = load_bundled("diabetes")
    runs = train_all(config, data)
    rows = [table_row(config, data, name, path[-1]) for name, path in runs.items()]
    by = {row["optimiser"]: row for row in rows}
    own, uniform = by["prox in Adam's metric"], by["Adam + uniform prox"]
    plain = by["Adam + L1 subgradient"]
    number = (
        f"Exact zeros and KKT residual of the L1 cost, whose minimum has {own['zeros of the minimum']} zeros:"
        f" prox in Adam's metric {own['zeros']} and {own['KKT']:.0e}, uniform prox {uniform['zeros']} and"
        f" {uniform['KKT']:.2f}, subgradient {plain['zeros']} and {plain['KKT']:.0e}. KKT residual of the L2"
        f" cost: λw in the gradient {by['Adam + L2']['KKT']:.0e}, AdamW {by['AdamW']['KKT']:.2f}."
    )
    save(out, {"coupled_decoupled": plot_paths(config, data, runs)}, rows, config, number)


# ---------------------------------------------------------------- the runs


def stated_penalty(config: Config, name: str) -> jr.penalties.Penalty:
    """Return the penalty of the cost that an optimiser is meant to minimise."""
    return jr.SquaredL2(config.l2) if name in ("Adam + L2", "AdamW") else jr.L1(config.l1)


def optimisers(config: Config) -> dict[str, tuple[Any, bool]]:
    """Return each optimiser with a flag: true if the penalty is part of the loss it differentiates."""
    rate = optax.cosine_decay_schedule(config.rate, config.steps)
    adam = optax.adam(rate, b2=config.b2)
    l1, l2 = jr.L1(config.l1), config.l2
    transforms = jr.transforms
    return {
        "Adam + L1 subgradient": (adam, True),
        "Adam + uniform prox": (optax.chain(adam, transforms.proximal(l1, rate)), False),
        "prox in Adam's metric": (transforms.proximal_adam(rate, l1, b2=config.b2), False),
        "Adam + L2": (optax.chain(transforms.l2_decay(l2), adam), False),
        "AdamW": (optax.chain(adam, transforms.decoupled_l2_decay(l2, rate)), False),
    }


def train_all(config: Config, data: Data) -> dict[str, np.ndarray]:
    """Return the weights (entries, p) along each run, all started at w = 0."""
    X, y = jnp.asarray(data.X), jnp.asarray(data.y)
    out = {}
    for name, (optimizer, coupled) in optimisers(config).items():
        penalty = stated_penalty(config, name) if coupled else 0.0 * jr.L1()
        loss = jr.cost(lambda w, batch: jnp.mean(data.loss.value(batch[0] @ w, batch[1])), penalty)

        def run(loss: Callable[..., Any] = loss, optimizer: Any = optimizer) -> jax.Array:
            _, history = jr.train(
                loss, jnp.zeros(X.shape[1]), optimizer, (X, y),
                steps=config.steps, every=config.every, metrics={"w": lambda w: w},
                batch_size=config.batch or None, key=jax.random.key(config.seed),
            )  # fmt: skip
            return history["w"]

        out[name] = np.asarray(jax.jit(run)())
    return out


def minimum(data: Data, penalty: jr.penalties.Penalty) -> np.ndarray:
    """Return the certified minimiser of loss + penalty."""
    return np.asarray(jr.solve(data.problem, penalty, tol=1e-10).coef)


def table_row(config: Config, data: Data, name: str, w: np.ndarray) -> dict[str, Any]:
    """Return one row of the table."""
    penalty = stated_penalty(config, name)
    limits = {
        "AdamW": jr.penalties.Box(-1 / config.l2, 1 / config.l2),
        "Adam + uniform prox": jr.L1(0.0),
    }
    best = minimum(data, penalty)
    return {
        "optimiser": name,
        "stated penalty": f"{'L2' if name in ('Adam + L2', 'AdamW') else 'L1'}",
        "zeros": int(np.sum(w == 0)),
        "zeros of the minimum": int(np.sum(best == 0)),
        "smallest |w|": float(np.abs(w).min()),
        "KKT": float(jr.certify(data.problem, penalty, w, 0.0).kkt),
        "from the minimum": float(np.abs(w - best).max()),
        "from its own limit": float(np.abs(w - minimum(data, limits.get(name, penalty))).max()),
    }


# ---------------------------------------------------------------- the figure


def plot_paths(config: Config, data: Data, runs: dict[str, np.ndarray]) -> Any:
    """Plot the paths of the weights, one panel per optimiser; diamonds mark the certified minimum."""
    fig, axes = figure(2, 3, (13.0, 7.6), sharey="row")
    panels = [*axes[0], *axes[1, :2]]
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
    order = np.argsort(-np.abs(runs["prox in Adam's metric"]).max(axis=0))
    for ax, (name, path) in zip(panels, runs.items(), strict=True):
        penalty = stated_penalty(config, name)
        steps = config.every * (1 + np.arange(len(path)))
        best = minimum(data, penalty)
        for rank, j in enumerate(order):
            colour = colours[rank] if rank < len(colours) else "0.6"
            ax.plot(steps, path[:, j], color=colour, linewidth=1.6)
            ax.plot(config.steps * 1.3, best[j], "D", color=colour, markersize=5, clip_on=False)
        row = table_row(config, data, name, path[-1])
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        kkt = f"{row['KKT']:.2f}" if row["KKT"] > 0.01 else f"{row['KKT']:.0e}"
        text = f"{name}\n{row['zeros']} zeros, KKT residual {kkt}"
        ax.set_title(text, fontsize=11, color=COLOURS[row["stated penalty"]])
        ax.set(xscale="log", xlim=(config.every, config.steps * 1.3), xlabel="steps")
        if name == "AdamW":
            for bound in (-1 / config.l2, 1 / config.l2):
                ax.axhline(bound, color="black", linestyle=":", linewidth=1.2)
    for ax in axes[:, 0]:
        ax.set_ylabel("weight [s.d. of y per s.d. of x]")
    _legend(config, data, axes[1, 2], order, colours)
    return fig


def _legend(config: Config, data: Data, ax: Any, order: np.ndarray, colours: list[str]) -> None:
    ax.axis("off")
    for rank, j in enumerate(order[: len(colours)]):
        ax.plot([], [], color=colours[rank], label=data.features[j])
    ax.plot([], [], color="0.6", label="the other weights")
    ax.plot([], [], "D", color="0.3", linestyle="none", label="the certified minimum of the stated cost")
    ax.plot([], [], ":", color="black", label=f"±1/λ, λ = {config.l2:g}")
    ax.legend(loc="center", title=f"diabetes data; L1: λ = {config.l1:g}, L2: λ = {config.l2:g}", fontsize=10)
