"""Time and memory of the gradient of a held-out loss with respect to the hyperparameters of a lasso.

    OPENBLAS_NUM_THREADS=1 python -m experiments.benchmarks.hypergradient [--quick] [--out FILE.json]

One thread of OpenBLAS: on a machine with other load its threads wait for each other, and an
eigendecomposition can take a hundred times as long. Parts:

- `hyperparameters`: one penalty factor per block of coordinates, from 1 block to one for each of 1,000
  coordinates. Seconds of value and gradient by implicit differentiation, of the value alone, and of central
  differences, which are two values per hyperparameter: they are run where there are few hyperparameters, and
  estimated from the seconds of one value elsewhere (column `differences measured`). All are warm calls of
  compiled programs that start from the null fit, to a gap of 1e-10. `error` compares with central differences
  in one random direction, relative to the derivative.
- `supports`: a lasso with n = 100 and p = 1,000 at λ where 4 to 60 coefficients are nonzero: seconds of value
  and gradient over those of the value. A system of the size of the features instead of the support would
  make the ratio large.
- `memory`: megabytes of temporaries of the compiled gradient, by the limit of solver steps. It is flat,
  because no step is kept for the reverse pass.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxreg as jr
from experiments.benchmarks._hardware import processor
from experiments.benchmarks.prox import medians

Row = dict[str, Any]

#: Tolerance of the fits.
TOL = 1e-10
#: Central differences in all hyperparameters are run up to this many, and estimated above.
DIFFERENCES = 10
#: Relative step of central differences.
STEP = 1e-4
#: Warm calls of which the median is taken; value and gradient take turns.
REPEATS = 15


class Lasso:
    """A lasso with a penalty factor for each of some blocks of coordinates, and its held-out loss."""

    def __init__(self, n: int, p: int, blocks: int, max_steps: int = 50_000) -> None:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((2 * n, p))
        y = X[:, :20] @ rng.standard_normal(20) + rng.standard_normal(2 * n)
        self.train, held_out = (jr.Problem(jr.losses.SquaredError(), X[s::2], y[s::2]) for s in (0, 1))
        criterion = jr.criteria.held_out(held_out)
        block = jnp.arange(p) * blocks // p

        def solve(problem: jr.Problem, penalty: jr.penalties.Penalty) -> jr.Solution:
            return jr.solve(problem, penalty, tol=TOL, max_steps=max_steps, throw=False)

        def loss(log_lams: jax.Array) -> jax.Array:
            return criterion(self.train, jr.L1(1.0, weights=jnp.exp(log_lams)[block]), solve)

        self.value, self.value_and_grad = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
        self.lam_max = float(jr.lambda_max(self.train, jr.L1))

    def support(self, lam: float) -> int:
        """Return the number of nonzero coefficients at one λ for all blocks."""
        return int(jnp.sum(jr.solve(self.train, jr.L1(lam), throw=False).coef != 0))


def ends_of_differences(x: jax.Array) -> list[jax.Array]:
    """Return the points at which central differences in every hyperparameter evaluate the loss."""
    return [jnp.asarray(np.asarray(x) + s * STEP * unit) for unit in np.eye(x.size) for s in (1, -1)]


def hyperparameter_rows(quick: bool) -> list[Row]:
    """Compare implicit gradients with central differences, by the number of hyperparameters."""
    n, p = (40, 100) if quick else (200, 1000)
    rows = []
    for blocks in (1, 10, 100) if quick else (1, 10, 100, 1000):
        lasso = Lasso(n, p, blocks)
        x = jnp.full(blocks, np.log(0.2 * lasso.lam_max))
        measured = blocks <= DIFFERENCES
        points = ends_of_differences(x) if measured else []
        calls = {
            "value": lambda: lasso.value(x),  # noqa: B023
            "gradient": lambda: lasso.value_and_grad(x),  # noqa: B023
            "differences": lambda: [lasso.value(end) for end in points],  # noqa: B023
        }
        seconds = medians(calls, REPEATS)
        by_differences = seconds["differences"] if measured else 2 * blocks * seconds["value"]
        direction = jnp.asarray(np.random.default_rng(1).standard_normal(blocks))
        ends = [float(lasso.value(x + s * STEP * direction)) for s in (1, -1)]
        slope = float(lasso.value_and_grad(x)[1] @ direction)
        rows.append({
            "hyperparameters": blocks, "seconds": seconds["gradient"],
            "over the value": seconds["gradient"] / seconds["value"],
            "differences over gradient": by_differences / seconds["gradient"],
            "differences measured": measured,
            "error": abs(slope - (ends[0] - ends[1]) / (2 * STEP)) / abs(slope),
        })  # fmt: skip
    return rows


def support_rows(quick: bool) -> list[Row]:
    """Compare the gradient with the value alone, by the size of the support."""
    lasso = Lasso(*((40, 100) if quick else (100, 1000)), blocks=1)
    rows = []
    for ratio in (0.8, 0.3) if quick else (0.85, 0.6, 0.4, 0.3, 0.2, 0.12, 0.07):
        x = jnp.full(1, np.log(ratio * lasso.lam_max))
        calls = {"value": lambda: lasso.value(x), "gradient": lambda: lasso.value_and_grad(x)}  # noqa: B023
        seconds = medians(calls, REPEATS)
        support = lasso.support(ratio * lasso.lam_max)
        rows.append({
            "λ/λ_max": ratio, "support": support, "seconds of the value": seconds["value"],
            "over the value": seconds["gradient"] / seconds["value"],
        })  # fmt: skip
    return rows


def memory_rows(quick: bool) -> list[Row]:
    """Return the temporaries of the compiled gradient, by the limit of solver steps."""
    rows = []
    for max_steps in (100, 10_000) if quick else (100, 10_000, 1_000_000):
        lasso = Lasso(*((40, 100) if quick else (100, 1000)), blocks=1, max_steps=max_steps)
        compiled = lasso.value_and_grad.lower(jnp.zeros(1)).compile()
        megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
        rows.append({"max_steps": max_steps, "megabytes": megabytes})
    return rows


PARTS = {"hyperparameters": hyperparameter_rows, "supports": support_rows, "memory": memory_rows}


def main(argv: list[str] | None = None) -> int:
    """Measure, print the rows, and save them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, for a first run")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows, hardware, versions and date")
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    result: Row = {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{device.platform}: {device.device_kind}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("jaxreg", "jax", "equinox", "numpy")},
        "quick": options.quick,
    }
    for name, part in PARTS.items():
        result[name] = part(options.quick)
        print(f"\n{name}")
        for row in result[name]:
            cells = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print("  " + " | ".join(cells), flush=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
