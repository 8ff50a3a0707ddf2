"""Trainings per second of a sweep, compared with loops in Python and with PyTorch.

    python -m experiments.benchmarks.sweeps [--lanes 1 10 100 1000] [--steps 500] [--out FILE.json]

One training is a 64-32-10 network on scikit-learn's digits, mini-batches of 10, with the exact proximal L1
step. `jaxreg.sweep` over λ is compared with

- `loop`: a Python loop over one compiled training, which does not compile again;
- `recompiled`: the usual loop that builds the optimiser with each λ as a constant and compiles each time;
- `torch`: PyTorch on the CPU, one training after the other with the same data, sizes and proximal step, if
  PyTorch is installed.

All are measured in one run, in turns. The loops are timed over at most ten trainings, since all trainings
cost the same. `sweep` is timed warm; the column `cold` is its first call, compilation included. Memory per
lane is XLA's memory analysis of one batch.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments.benchmarks._hardware import processor

HIDDEN, BATCH, RATE = 32, 10, 0.5


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Load images and one-hot labels."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), np.eye(10, dtype=np.float32)[y]


def start(key: jax.Array) -> dict[str, jax.Array]:
    """Return the initial weights."""
    a, b = jax.random.split(key)
    return {
        "w1": jax.random.normal(a, (64, HIDDEN)) / 8,
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(b, (HIDDEN, 10)) / HIDDEN**0.5,
        "b2": jnp.zeros(10),
    }


def loss(net: dict[str, jax.Array], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Return the cross-entropy of the softmax."""
    X, y = batch
    z = jax.nn.sigmoid(X @ net["w1"] + net["b1"]) @ net["w2"] + net["b2"]
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=1))


def training(steps: int) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """Return one training as a function of λ and the seed."""
    data = tuple(jnp.asarray(part) for part in digits())

    def train(lam: Any, seed: Any) -> dict[str, jax.Array]:
        first, order = jax.random.split(jax.random.key(seed))
        penalty = jr.Masked(jr.L1(lam), jr.masks.weights_only)
        optimizer = jr.transforms.proximal_sgd(RATE, penalty)
        _, history = jr.train(
            loss, start(first), optimizer, data, steps=steps, batch_size=BATCH, key=order, penalty=penalty
        )
        return history

    return train


def torch_training(steps: int) -> Callable[[float, int], Any] | None:
    """Return the same training in PyTorch, or None where PyTorch is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    X, y = (torch.tensor(part) for part in digits())
    labels = y.argmax(1)

    def train(lam: float, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(64, HIDDEN), torch.nn.Sigmoid(), torch.nn.Linear(HIDDEN, 10)
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
        per_epoch = len(X) // BATCH
        for step in range(steps):
            if step % per_epoch == 0:
                order = torch.randperm(len(X), generator=generator)
            first = (step % per_epoch) * BATCH
            chosen = order[first : first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(X[chosen]), labels[chosen]).backward()
            optimizer.step()
            with torch.no_grad():
                for w in net.parameters():
                    if w.ndim == 2:
                        w.copy_(torch.sign(w) * torch.clamp(w.abs() - RATE * lam, min=0.0))
        return net

    return train


def seconds(call: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def per_lane_bytes(train: Callable[..., Any], lanes: int) -> float:
    """Return the bytes that XLA allocates for a batch of lanes, per lane, without the data."""
    batch = jax.jit(jax.vmap(train)).lower(jnp.zeros(lanes), jnp.zeros(lanes, int)).compile()
    memory = batch.memory_analysis()
    return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / lanes


class Contender(NamedTuple):
    """A call that does `trainings` trainings."""

    call: Callable[[], Any]
    trainings: int


def contenders(train: Callable[..., Any], torch_train: Any, count: int) -> dict[str, Contender]:
    """Return the calls that are compared at `count` lanes."""
    lams = [float(lam) for lam in np.geomspace(1e-5, 1e-1, count)]
    single, some = jax.jit(train), lams[: min(count, 10)]
    jax.block_until_ready(single(lams[0], 0))
    calls = {
        "sweep": Contender(lambda: jr.sweep(train, lam=lams, seed=[0], progress=False).to_dict(), count),
        "loop": Contender(lambda: [single(lam, 0) for lam in some], len(some)),
        "recompiled": Contender(lambda: jax.jit(lambda seed: train(lams[-1], seed))(0), 1),
    }
    if torch_train:
        calls["torch"] = Contender(lambda: [torch_train(lams[0], 0)].clear(), 1)
    return calls


def measure(lanes: list[int], steps: int, repeats: int = 5) -> list[dict[str, Any]]:
    """Return one row for each number of lanes."""
    train, torch_train = training(steps), torch_training(steps)
    rows = []
    for count in lanes:
        calls = contenders(train, torch_train, count)
        cold = seconds(calls["sweep"].call)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, (call, trainings) in calls.items():
                times[name].append(seconds(call) / trainings)
        median = {name: float(np.median(samples)) for name, samples in times.items()}
        row = {"lanes": count, "cold": cold, "per second": 1 / median["sweep"]}
        row |= {f"x {name}": median[name] / median["sweep"] for name in median if name != "sweep"}
        rows.append({**row, "bytes per lane": per_lane_bytes(train, count)})
    return rows


def main() -> None:
    """Measure, print the table, and save it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # a cold call must compile
    rows = measure(options.lanes, options.steps)
    names = list(rows[0])
    print("  ".join(f"{name:>14}" for name in names))
    for row in rows:
        print("  ".join(f"{row[name]:14.3g}" for name in names))
    if options.out:
        packages = [
            name for name in ("jaxreg", "jax", "optax", "torch") if "x torch" in rows[0] or name != "torch"
        ]
        hardware = {
            "processor": processor(),
            "cores": os.cpu_count(),
            "device": jax.devices()[0].device_kind,
        }
        result = {
            "date": time.strftime("%Y-%m-%d"),
            "hardware": hardware,
            "versions": {name: version(name) for name in packages},
            "steps": options.steps,
            "rows": rows,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
