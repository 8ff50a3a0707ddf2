"""In networks L1 sets weights to 0 and L2 shrinks them; both change accuracy, saturation and inertia.

The network of Nielsen's chapter 3 (one hidden layer of sigmoid units, cross-entropy, mini-batches of 10,
learning rate 0.5) on scikit-learn's 8×8 digits, in his conventions: C₀ + (λ/n)Σ|w| or C₀ + (λ/2n)Σw², without
a penalty on biases. One sweep runs all λ × penalties × seeds, and trains each network a second time with the
same seed on slightly perturbed inputs ΔX: the inertia is ‖Δw‖/‖ΔX‖. Its analogue for linear least squares is
∂w*/∂X, by autodiff.

References:
    Nielsen (2015), chapter 3.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments._report import COLOURS, figure, option, plot_band, save

PENALTIES = ("L1", "L2")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and settings; the defaults take less than a minute on two cores."""

    images: int = option(600, "training images; the rest of the 1,797 are test images")
    hidden: int = option(30, "hidden units")
    lams: int = option(24, "values of λ, the first of which is 0")
    largest: float = option(100.0, "the largest λ, in Nielsen's convention")
    seeds: int = option(8, "networks for each λ")
    epochs: int = option(30, "passes over the images")
    batch: int = option(10, "images in a mini-batch")
    rate: float = option(0.5, "learning rate")
    change: float = option(0.05, "standard deviation of the perturbation of each pixel, whose range is 1")
    device: str = option("", "cpu, gpu or tpu; default: the device that JAX selects")
    store: str = option("", "folder of the sweep, from which a killed run resumes")
    max_lanes: int = option(0, "networks in one chunk; default: as many as fit in memory")


def main(config: Config, out: Path) -> None:
    """Run the sweep, and save figures and numbers."""
    split = load_split(config)
    results = sweep(config, split)
    linear = linear_sweep(config, split)
    figures = {
        "curves": plot_curves(results, linear),
        "histogram": plot_histogram(results),
        "first_layer": plot_first_layer(results),
    }
    rows = table_rows(results)
    number = (
        f"At the largest λ that costs no accuracy L1 leaves {rows[1]['zeros']} of the weights exactly 0, L2"
        f" {rows[2]['zeros']}; mean |w| is {rows[1]['mean_size']} and {rows[2]['mean_size']}, without a"
        f" penalty {rows[0]['mean_size']} (± between seeds)."
    )
    save(out, figures, rows, config, number)


# ---------------------------------------------------------------- the network


def load_split(config: Config) -> dict[str, jax.Array]:
    """Load the digits, shuffled and split into training and test images."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    if not config.batch <= config.images < len(y):
        raise ValueError(
            f"images must be from the batch size {config.batch} to {len(y) - 1}, got {config.images}"
        )
    order = np.random.default_rng(0).permutation(len(y))
    X, y = jnp.asarray(X[order] / 16, jnp.float32), jnp.asarray(y[order])
    n = config.images
    return {"X": X[:n], "y": y[:n], "X_test": X[n:], "y_test": y[n:]}


def init_network(key: jax.Array, sizes: tuple[int, int, int]) -> dict[str, jax.Array]:
    """Initialise as Nielsen does: standard normal, weights divided by √(number of inputs)."""
    keys = jax.random.split(key, 4)
    inputs, hidden, outputs = sizes
    return {
        "w1": jax.random.normal(keys[0], (inputs, hidden), jnp.float32) / inputs**0.5,
        "b1": jax.random.normal(keys[1], (hidden,), jnp.float32),
        "w2": jax.random.normal(keys[2], (hidden, outputs), jnp.float32) / hidden**0.5,
        "b2": jax.random.normal(keys[3], (outputs,), jnp.float32),
    }


def hidden_units(net: dict[str, jax.Array], X: jax.Array) -> jax.Array:
    """Return the activations of the hidden layer."""
    return jax.nn.sigmoid(X @ net["w1"] + net["b1"])


def scores(net: dict[str, jax.Array], X: jax.Array) -> jax.Array:
    """Return the outputs before their sigmoid."""
    return hidden_units(net, X) @ net["w2"] + net["b2"]


def cross_entropy(net: dict[str, jax.Array], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Return Nielsen's cost C₀, summed over outputs and averaged over images."""
    X, y = batch
    z = scores(net, X)
    return jnp.mean(jnp.sum(jnp.logaddexp(0.0, z) - jax.nn.one_hot(y, z.shape[1]) * z, axis=1))


def sweep(config: Config, split: dict[str, jax.Array]) -> Any:
    """Train on original and perturbed inputs for every penalty, λ and seed."""
    n, steps = config.images, config.epochs * (config.images // config.batch)

    def run(kind: jax.Array, lam: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        lam = lam.astype(jnp.float32)
        converted = jr.conventions.from_nielsen(n, l1=lam * (kind == 0), l2=lam * (kind == 1))
        penalty = jr.Masked(jr.L1(converted.l1) + jr.SquaredL2(converted.l2), jr.masks.weights_only)
        optimizer = jr.transforms.proximal_sgd(config.rate, penalty)
        first, order, noise = jax.random.split(jax.random.key(seed), 3)
        net = init_network(first, (split["X"].shape[1], config.hidden, 10))
        change = config.change * jax.random.normal(noise, split["X"].shape, jnp.float32)

        def fit(X: jax.Array) -> dict[str, jax.Array]:
            done, _ = jr.train(
                cross_entropy,
                net,
                optimizer,
                (X, split["y"]),
                steps=steps,
                batch_size=config.batch,
                key=order,
            )
            return done

        original, changed = fit(split["X"]), fit(split["X"] + change)
        inertia = weight_distance(original, changed) / jnp.linalg.norm(change)
        return {**measurements(original, split), "inertia": inertia}

    lams = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, config.lams - 1) * config.largest])
    devices = jax.devices(config.device or None)
    mesh = jax.sharding.Mesh(np.array(devices), ("lanes",))
    return jr.sweep(
        run, kind=range(len(PENALTIES)), lam=lams, seed=range(config.seeds),
        store=config.store or None, mesh=mesh, max_lanes=config.max_lanes or None,
    )  # fmt: skip


def measurements(net: dict[str, jax.Array], split: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Measure one network: accuracy, zeros, size of weights, saturation, and the weights themselves."""
    weights = [net["w1"], net["w2"]]
    activations = hidden_units(net, split["X_test"])
    jacobians = jax.vmap(jax.jacrev(lambda x: scores(net, x)))(split["X_test"][:50])
    return {
        "accuracy": jnp.mean(jnp.argmax(scores(net, split["X_test"]), axis=1) == split["y_test"]),
        "training_accuracy": jnp.mean(jnp.argmax(scores(net, split["X"]), axis=1) == split["y"]),
        "zeros": sum(jnp.sum(w == 0) for w in weights) / sum(w.size for w in weights),
        "mean_size": sum(jnp.sum(jnp.abs(w)) for w in weights) / sum(w.size for w in weights),
        "saturation": jnp.mean((activations < 0.05) | (activations > 0.95)),
        "output_slope": jnp.mean(jnp.linalg.norm(jacobians, axis=(1, 2))),
        **net,
    }


def weight_distance(a: dict[str, jax.Array], b: dict[str, jax.Array]) -> jax.Array:
    """Return ‖Δw‖ over all parameters."""
    return jnp.sqrt(sum(jnp.sum((a[name] - b[name]) ** 2) for name in a))


# ---------------------------------------------------------------- the linear model


def linear_sweep(config: Config, split: dict[str, jax.Array]) -> Any:
    """Compute ‖∂w*/∂X·Δ‖/‖Δ‖ of least squares on one-hot labels, by forward-mode autodiff of `jr.solve`."""
    target = jax.nn.one_hot(split["y"], 10)
    change = config.change * jax.random.normal(jax.random.key(0), split["X"].shape)

    def run(kind: jax.Array, lam: jax.Array) -> jax.Array:
        penalty = jr.L1(lam * (kind == 0)) + jr.SquaredL2(lam * (kind == 1))

        def coef(t: jax.Array) -> jax.Array:
            problem = jr.Problem(jr.losses.SquaredError(), split["X"] + t * change, target)
            return jr.solve(problem, penalty, tol=1e-5, throw=False).coef

        _, dcoef = jax.jvp(coef, (0.0,), (1.0,))
        return jnp.linalg.norm(dcoef) / jnp.linalg.norm(change)

    return jr.sweep(run, kind=range(len(PENALTIES)), lam=np.geomspace(1e-3, 1e-1, 9))


# ---------------------------------------------------------------- table and figures


def strongest_index(results: Any, kind: int) -> int:
    """Return the index of the largest λ with mean accuracy within one standard deviation of the best."""
    accuracy = results["accuracy"].isel(kind=kind).transpose("lam", "seed").values
    mean = accuracy.mean(axis=1)
    top = int(np.argmax(mean))
    return int(np.flatnonzero(mean >= mean[top] - accuracy[top].std()).max())


def compared_networks(results: Any) -> dict[str, Any]:
    """Select the networks without a penalty, and of each penalty at the largest λ that costs no accuracy."""
    networks = {"none": results.isel(kind=0, lam=0)}
    return networks | {
        name: results.isel(kind=k, lam=strongest_index(results, k)) for k, name in enumerate(PENALTIES)
    }


def table_rows(results: Any) -> list[dict[str, Any]]:
    """Return the table: mean ± standard deviation over seeds."""
    out = []
    for name, part in compared_networks(results).items():
        row: dict[str, Any] = {"penalty": name, "λ": float(part["lam"])}
        for key in ("accuracy", "zeros", "mean_size", "saturation", "inertia", "output_slope"):
            row[key] = f"{float(part[key].mean()):.3f} ± {float(part[key].std()):.3f}"
        out.append(row)
    return out


def plot_curves(results: Any, linear: Any) -> Any:
    """Plot accuracy, zeros, size, saturation and inertia against λ, with bands over the seeds."""
    titles = {
        "accuracy": "accuracy on the test images",
        "zeros": "weights that are exactly 0",
        "mean_size": "mean |w|",
        "saturation": "hidden activations beyond 0.05 or 0.95",
        "inertia": "network: ‖Δw‖ / ‖ΔX‖ between two trainings",
        "output_slope": "network: ‖∂output/∂input‖",
    }
    fig, axes = figure(2, 4, (15.0, 6.4))
    panels = axes.ravel()
    part = results.isel(lam=slice(1, None))
    for ax, (key, title) in zip(panels, titles.items(), strict=False):
        for k, name in enumerate(PENALTIES):
            plot_band(ax, part["lam"], part[key].isel(kind=k).transpose("lam", "seed"), name)
        unpenalised = float(results[key].isel(kind=0, lam=0).mean())
        ax.axhline(unpenalised, color=COLOURS["none"], linestyle=":", label="no penalty")
        ax.set(title=title, xscale="log", xlabel="λ (Nielsen)")
    for k, name in enumerate(PENALTIES):
        values = linear["value"].isel(kind=k).values[:, None]
        plot_band(panels[6], linear["lam"], values, name)
    panels[6].set(title="least squares: ‖∂w*/∂X‖ along ΔX", xscale="log", yscale="log", xlabel="λ (jaxreg)")
    panels[4].set(yscale="log")
    panels[7].axis("off")
    panels[7].legend(
        *panels[0].get_legend_handles_labels(), loc="center", title="line: mean, band: all seeds"
    )
    return fig


def plot_histogram(results: Any) -> Any:
    """Plot histograms of the weights of the compared networks."""
    fig, axes = figure(1, 3, (12.0, 3.6), sharex=True, sharey=True)
    parts = compared_networks(results)
    every = {
        name: np.concatenate([part[w].values.ravel() for w in ("w1", "w2")]) for name, part in parts.items()
    }
    largest = max(np.abs(weights).max() for weights in every.values())
    edges = np.linspace(-largest, largest, 81)
    for ax, (name, weights) in zip(axes, every.items(), strict=True):
        zero = float(np.mean(weights == 0))
        rest = weights[weights != 0]
        ax.hist(rest, edges, color=COLOURS[name], weights=np.full(rest.size, 1 / weights.size))
        ax.set(title=f"{name}: {100 * zero:.0f} % exactly 0", xlabel="weight (not 0)", yscale="log")
    axes[0].set_ylabel("share of all weights")
    return fig


def plot_first_layer(results: Any, units: int = 10) -> Any:
    """Plot the weights of some hidden units as 8×8 images: blue negative, red positive, white exactly 0."""
    units = min(units, results.sizes["w1_1"])
    fig, axes = figure(3, units, (1.15 * units, 4.2), squeeze=False)
    for row, (name, part) in zip(axes, compared_networks(results).items(), strict=True):
        images = part["w1"].isel(seed=0).values.T.reshape(-1, 8, 8)[:units]
        largest = np.abs(images).max() or 1.0
        for ax, image in zip(row, images, strict=True):
            ax.imshow(image, cmap="RdBu_r", vmin=-largest, vmax=largest)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    fig.suptitle("Weights into ten hidden units (white: 0; each row has its own scale)")
    return fig
