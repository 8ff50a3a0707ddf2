"""What an adaptive optimiser does to a penalty: Adam's scaling turns a stated cost into another, or keeps it.

One linear model, one λ, five ways to put the penalty into Adam. The L1 penalty: its subgradient added to the
gradient, which dithers until the rate has fallen and never gives a zero; a soft threshold of ηλ after Adam's
step, which solves another problem (on full batches that of the loss alone: Adam's step is as long for a
gradient however small, and the threshold is λ of it); the prox in Adam's own metric, which gives the zeros of
the stated cost. The L2 penalty: λw added to the gradient, which ends at the ridge solution; and AdamW's decay
after the step, which on full batches ends at the minimum of the loss alone over ‖w‖∞ ≤ 1/λ. The KKT residual
of the stated cost says how far each is from it: 0 at its minimum, 1 at w = 0.
Source: Loshchilov and Hutter (2019) for AdamW; Xie and Li (2024) for where it ends; Duchi, Hazan and Singer
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
from experiments._data import Data, bundled
from experiments._report import COLOURS, figure, option, save


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take about ten seconds."""

    l1: float = option(0.08, "λ of the L1 penalty; λ_max is 0.58")
    l2: float = option(3.0, "λ of the L2 penalty, and of AdamW's decay, whose bound is 1/λ")
    steps: int = option(20_000, "steps, each on all data")
    rate: float = option(0.01, "learning rate at the start; it falls to 0 along a cosine")
    b2: float = option(0.99, "Adam's second decay rate: a memory that is short against the run")
    batch: int = option(0, "rows in a mini-batch; 0 takes all rows at every step, for the limits above")
    seed: int = option(0, "seed of the mini-batches")
    every: int = option(10, "steps between two points of the drawn paths")


def main(config: Config, out: Path) -> None:
    """Train in all ways, compare with the certified minimum, draw, write the numbers."""
    data = bundled("diabetes")
    runs = trained(config, data)
    rows = [described(config, data, name, path[-1]) for name, path in runs.items()]
    by = {row["optimiser"]: row for row in rows}
    own, uniform = by["prox in Adam's metric"], by["Adam + uniform prox"]
    plain = by["Adam + L1 subgradient"]
    number = (
        f"Exact zeros and KKT residual of the L1 cost, whose minimum has {own['zeros of the minimum']} zeros:"
        f" prox in Adam's metric {own['zeros']} and {own['KKT']:.0e}, uniform prox {uniform['zeros']} and"
        f" {uniform['KKT']:.2f}, subgradient {plain['zeros']} and {plain['KKT']:.0e}. KKT residual of the L2"
        f" cost: λw in the gradient {by['Adam + L2']['KKT']:.0e}, AdamW {by['AdamW']['KKT']:.2f}."
    )
    save(out, {"coupled_decoupled": drawn(config, data, runs)}, rows, config, number)


# ---------------------------------------------------------------- the runs


def stated(config: Config, name: str) -> jr.penalties.Penalty:
    """The penalty of the cost that an optimiser is meant to minimise."""
    return jr.SquaredL2(config.l2) if name in ("Adam + L2", "AdamW") else jr.L1(config.l1)


def optimisers(config: Config) -> dict[str, tuple[Any, bool]]:
    """Each optimiser, and whether the penalty is part of the loss it sees."""
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


def trained(config: Config, data: Data) -> dict[str, np.ndarray]:
    """The weights (entries, p) along each run, all from w = 0."""
    X, y = jnp.asarray(data.X), jnp.asarray(data.y)
    out = {}
    for name, (optimizer, coupled) in optimisers(config).items():
        penalty = stated(config, name) if coupled else 0.0 * jr.L1()
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
    """The certified minimum of loss + penalty."""
    return np.asarray(jr.solve(data.problem, penalty, tol=1e-10).coef)


def described(config: Config, data: Data, name: str, w: np.ndarray) -> dict[str, Any]:
    """One row of the table."""
    penalty = stated(config, name)
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


def drawn(config: Config, data: Data, runs: dict[str, np.ndarray]) -> Any:
    """Paths of the weights, one panel per optimiser; the certified minimum at the right edge."""
    made, axes = figure(2, 3, (13.0, 7.6), sharey="row")
    panels = [*axes[0], *axes[1, :2]]
    shown = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
    order = np.argsort(-np.abs(runs["prox in Adam's metric"]).max(axis=0))
    for ax, (name, path) in zip(panels, runs.items(), strict=True):
        penalty = stated(config, name)
        steps = config.every * (1 + np.arange(len(path)))
        best = minimum(data, penalty)
        for rank, j in enumerate(order):
            colour = shown[rank] if rank < len(shown) else "0.6"
            ax.plot(steps, path[:, j], color=colour, linewidth=1.6)
            ax.plot(config.steps * 1.3, best[j], "D", color=colour, markersize=5, clip_on=False)
        row = described(config, data, name, path[-1])
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
    _legend(config, data, axes[1, 2], order, shown)
    return made


def _legend(config: Config, data: Data, ax: Any, order: np.ndarray, shown: list[str]) -> None:
    ax.axis("off")
    for rank, j in enumerate(order[: len(shown)]):
        ax.plot([], [], color=shown[rank], label=data.features[j])
    ax.plot([], [], color="0.6", label="the other weights")
    ax.plot([], [], "D", color="0.3", linestyle="none", label="the certified minimum of the stated cost")
    ax.plot([], [], ":", color="black", label=f"±1/λ, λ = {config.l2:g}")
    ax.legend(loc="center", title=f"diabetes data; L1: λ = {config.l1:g}, L2: λ = {config.l2:g}", fontsize=10)
