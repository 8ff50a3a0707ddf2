"""L1 pulls a weight by a constant ±λ and brings it to 0 in time |w₀|/λ; L2 pulls by λw and never reaches 0.

There are no data: the penalty alone moves a weight, w′ = −λ sign(w) or w′ = −λw, whose solutions are known.
Subgradient steps (plain gradient descent on the penalty) cannot stop at 0 under L1: near 0 they oscillate
between r and r − ηλ, where r = |w₀| mod ηλ. Proximal steps stop at exactly 0. In the form λΣw² of many
lecture notes the pull of L2 is 2λw; `jr.conventions.from_unhalved` converts.

References:
    Nielsen (2015), chapter 3, "Other techniques for regularization", for the gradients; Parikh and Boyd
    (2014), section 4.1.1, for the prox as an implicit step.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg as jr
from experiments._report import COLOURS, LINES, figure, option, save


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take a few seconds."""

    lam: float = option(0.5, "λ of both penalties")
    weights: int = option(200, "number of weights, with random initial values")
    largest: float = option(3.0, "largest initial |w₀|")
    time: float = option(8.0, "duration of the flow; a step of rate η takes time η")
    steps: int = option(1000, "steps in that time")
    coarse: int = option(37, "steps in that time for the oscillation near 0")
    seed: int = option(0, "seed of the initial values")


def main(config: Config, out: Path) -> None:
    """Run the flows, compare them with the closed forms, and save figure and numbers."""
    if config.largest >= config.lam * config.time:
        raise ValueError(
            f"time must be beyond largest/lam = {config.largest / config.lam:g}, got {config.time}"
        )
    starts = initial_weights(config)
    runs = flows(config, starts, config.steps)
    measurements = {**arrival(config, starts, runs), **decay(config, starts, runs), **dithering(config)}
    rows = [{"what": name, "value": value} for name, value in measurements.items()]
    number = (
        f"L1 by proximal steps: all {config.weights} weights are exactly 0, on average"
        f" {measurements['L1: mean delay after |w₀|/λ, in steps']:.2f} steps after time |w₀|/λ and never"
        f" {measurements['L1: largest delay, in steps']:.0f} or more. L2 follows w₀·exp(−λt) to within"
        f" {measurements['L2: largest |w − w₀exp(−λt)|, by gradient steps']:.0e} and has no zero."
        f" Subgradient steps under L1: {measurements['L1 by subgradients: zeros']} zeros."
    )
    figures = {"gradient_pull": plot_pull(config)}
    save(out, figures, rows, config, number)


def initial_weights(config: Config) -> np.ndarray:
    """Draw the initial weights, of either sign, with |w₀| from a tenth of the largest on."""
    rng = np.random.default_rng(config.seed)
    signs = rng.choice([-1.0, 1.0], config.weights)
    return signs * rng.uniform(0.1 * config.largest, config.largest, config.weights)


def trajectory(optimizer: Any, penalty: Any, start: np.ndarray, steps: int) -> np.ndarray:
    """Return the weights after 0, 1, … steps of an optimiser on the loss `penalty`, or on 0 if it is None."""

    def loss(w: jax.Array, batch: Any) -> jax.Array:
        return 0.0 * jnp.sum(w) if penalty is None else penalty.value(w)

    start = jnp.asarray(start)
    _, history = jr.train(
        loss, start, optimizer, jnp.zeros(1), steps=steps, every=1, metrics={"w": lambda w: w}
    )
    return np.concatenate([start[None], history["w"]])


def flows(config: Config, starts: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Return the weights (steps + 1, starts) under both penalties, by gradient and by proximal steps."""
    rate = config.time / steps
    out = {}
    for name, penalty in {"L1": jr.L1(config.lam), "L2": jr.SquaredL2(config.lam)}.items():
        out[f"{name} gradient"] = trajectory(optax.sgd(rate), penalty, starts, steps)
        out[f"{name} prox"] = trajectory(jr.transforms.proximal_sgd(rate, penalty), None, starts, steps)
    return out


# ---------------------------------------------------------------- comparison with the closed forms


def arrival(config: Config, starts: np.ndarray, runs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compare the times at which L1 brings each weight to exactly 0 with |w₀|/λ."""
    rate = config.time / config.steps
    zero = runs["L1 prox"] == 0
    step = np.argmax(zero, axis=0)
    delay = step - np.abs(starts) / (config.lam * rate)
    return {
        "L1: weights that are exactly 0 at the end": int(zero[-1].sum()),
        "L1: steps at which a weight leaves 0 again": int(np.sum(zero[:-1] & ~zero[1:])),
        "L1: mean delay after |w₀|/λ, in steps": float(delay.mean()),
        "L1: largest delay, in steps": float(math.ceil(delay.max() - 1e-9)),
        "L1: smallest delay, in steps": float(delay.min()),
        "L1 by subgradients: zeros": int(np.sum(runs["L1 gradient"] == 0)),
    }


def decay(config: Config, starts: np.ndarray, runs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compare L2, by either kind of step, with w₀·exp(−λt) and with the closed form of the steps."""
    rate = config.time / config.steps
    k = np.arange(config.steps + 1)[:, None]
    flow = starts * np.exp(-config.lam * rate * k)
    closed_forms = {
        "gradient": starts * (1 - rate * config.lam) ** k,
        "prox": starts / (1 + rate * config.lam) ** k,
    }
    out: dict[str, Any] = {}
    for name, closed_form in closed_forms.items():
        weights = runs[f"L2 {name}"]
        out[f"L2: largest |w − w₀exp(−λt)|, by {name} steps"] = float(np.abs(weights - flow).max())
        out[f"L2: from (1 ± ηλ)^±k, by {name} steps"] = float(np.abs(weights - closed_form).max())
    out["L2: zeros"] = int(sum(np.sum(runs[f"L2 {name}"] == 0) for name in closed_forms))
    unhalved = jr.SquaredL2(jr.conventions.from_unhalved(l2=config.lam).l2)
    pull = np.asarray(jax.grad(lambda w: unhalved.value(w))(jnp.asarray(starts)))
    out["L2 in the notes' form: largest |pull − 2λw|"] = float(np.abs(pull - 2 * config.lam * starts).max())
    return out


def dithering(config: Config) -> dict[str, Any]:
    """Compare the two values between which subgradient steps oscillate with r and r − ηλ."""
    pull = config.lam * config.time / config.coarse
    start = np.array([config.largest])
    weights = flows(config, start, config.coarse)["L1 gradient"][:, 0]
    last = np.sort(weights[-2:])
    r = config.largest % pull
    return {"L1 by subgradients: largest error of the two-cycle": float(np.abs(last - [r - pull, r]).max())}


# ---------------------------------------------------------------- the figure


def plot_pull(config: Config) -> Any:
    """Plot the pull, the flow of some weights, and the last steps before 0."""
    fig, axes = figure(1, 3, (14.0, 4.4))
    _plot_pulls(config, axes[0])
    _plot_flows(config, axes[1])
    _plot_last_steps(config, axes[2])
    return fig


def _plot_pulls(config: Config, ax: Any) -> None:
    w = np.linspace(-config.largest, config.largest, 402)
    for name, penalty in {"L1": jr.L1(config.lam), "L2": jr.SquaredL2(config.lam)}.items():
        pull = np.array(-jax.grad(lambda w, p=penalty: p.value(w))(jnp.asarray(w)))
        pull[np.abs(np.diff(np.sign(w), append=1.0)) > 0] = np.nan
        text = {"L1": "L1: ∓λ, however small w is", "L2": "L2: −λw, fading with w"}[name]
        ax.plot(w, pull, color=COLOURS[name], linestyle=LINES[name], linewidth=2.2, label=text)
    ax.axhline(0, color="0.7", linewidth=0.8)
    ax.axvline(0, color="0.7", linewidth=0.8)
    ax.set(title="The pull on a weight", xlabel="weight w", ylabel=f"−dComplexity/dw, λ = {config.lam:g}")
    ax.legend(loc="upper right", fontsize=9)


def _plot_flows(config: Config, ax: Any) -> None:
    starts = config.largest * np.array([1.0, 0.6, 0.25, -0.45, -0.85])
    steps = config.steps
    t = np.linspace(0, config.time, steps + 1)
    runs = flows(config, starts, steps)
    for name in ("L1", "L2"):
        ax.plot(t, runs[f"{name} prox"], color=COLOURS[name], linestyle=LINES[name], linewidth=1.8)
        ax.plot([], [], color=COLOURS[name], linestyle=LINES[name], label=name)
    ax.plot(
        np.abs(starts) / config.lam, 0 * starts, "o", color="black", markersize=6, markerfacecolor="white",
        label="closed form: t = |w₀|/λ", zorder=5, clip_on=False,
    )  # fmt: skip
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set(title="The flow: L1 arrives, L2 never does", xlabel="time t (steps × rate η)", ylabel="weight w")
    ax.legend(loc="upper right", fontsize=9)


def _plot_last_steps(config: Config, ax: Any) -> None:
    start, pull = np.array([config.largest]), config.lam * config.time / config.coarse
    runs = flows(config, start, config.coarse)
    arrive = math.ceil(config.largest / pull)
    window = slice(max(arrive - 5, 0), min(arrive + 9, config.coarse) + 1)
    k = np.arange(config.coarse + 1)[window]
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.plot(
        k,
        runs["L1 gradient"][window, 0],
        "-.x",
        color="#CC79A7",
        linewidth=1.4,
        label="L1, subgradient steps",
    )
    ax.plot(
        k, runs["L1 prox"][window, 0], "-o", color=COLOURS["L1"], markersize=4, label="L1, proximal steps"
    )
    ax.plot(
        k, runs["L2 prox"][window, 0], "--s", color=COLOURS["L2"], markersize=4, label="L2, proximal steps"
    )
    r = config.largest % pull
    for level in (r, r - pull):
        ax.axhline(level, color="#CC79A7", linestyle=":", linewidth=1)
    ax.annotate("r", (k[-1], r), (4, 0), textcoords="offset points", va="center", annotation_clip=False)
    ax.annotate(
        "r − ηλ", (k[-1], r - pull), (4, 0), textcoords="offset points", va="center", annotation_clip=False
    )
    ax.set_xlim(k[0], k[-1])
    ax.set(title="Near 0: subgradients dither, the prox stops", xlabel="step", ylabel="weight w")
    ax.legend(loc="upper right", fontsize=9)
