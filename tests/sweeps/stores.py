"""Sweeps into stores for the tests: here, or in processes that die or wait on the way."""

import functools
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import zarr

import jaxreg as jr
from jaxreg.sweeps import store as store_module
from jaxreg.sweeps._program import Program
from jaxreg.sweeps.store import ZarrStore

ROOT = pathlib.Path(__file__).parents[2]
LAMS = np.geomspace(0.01, 1.0, 7)
AXES = {"lam": LAMS, "seed": range(3)}
DATA = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
MATRIX = np.arange(12.0).reshape(4, 3)


def results(lam, seed):
    """Numbers one by one, a product of matrices, every kind of dtype; some boxes are all 0 or NaN."""
    w = jnp.cos(seed * 2.0 + DATA) * lam
    draw = jr.L1(lam).prox(jax.random.normal(jax.random.key(seed), (3,)), 1.0)
    return {
        "w": w,
        "deep": {"bias": jnp.where((lam > 0.3) & (seed == 1), jnp.inf, lam), "on": w[0] > 0.01},
        "zeros": 0 * seed,
        "never": jnp.where(lam > 0.05, lam, jnp.nan) * (1 + 1j),
        "half": lam.astype(jnp.float16),
        "product": jnp.sum(MATRIX @ draw),
    }


def swept(store=None, fn=results, max_lanes=4, **given):
    """The sweep of most tests: 7 boxes of one λ and 3 seeds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lanes are not finite")
        return jr.sweep(fn, store=store, max_lanes=max_lanes, **({**AXES, **given}))


def digest(folder):
    """Everything in a folder: names, and what files hold."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[path.relative_to(folder).as_posix()] = held
    return found


@functools.cache
def finished():
    """The bytes of a store that was never disturbed, and its dataset."""
    with tempfile.TemporaryDirectory() as folder:
        data = swept(pathlib.Path(folder) / "run.zarr").load()
        return digest(folder), data


def at_box(number, happens):
    """`ZarrStore.write`, but something happens before the box of this number."""
    write = ZarrStore.write

    def patched(self, k, values):
        if k == number:
            happens()
        write(self, k, values)

    return patched


# ---------------------------------------------------------------- the same sweep with other data


def scaled(factor, of=results):
    """The same sweep with other data in it."""
    return lambda lam, seed: {n: (v * factor if n == "w" else v) for n, v in of(lam, seed).items()}


PLAIN = scaled(np.full((2, 3), 2.0))


# ---------------------------------------------------------------- in processes of their own


def child(call, seed, count):
    """A Python process that runs a function of this module, with its own hash seed and number of devices."""
    # Compiled as in this process, so that bits can be compared; the last count of devices holds.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    env = {"PYTHONHASHSEED": str(seed), "XLA_FLAGS": flags}
    code = f"from tests.sweeps import stores; stores.{call}"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | env | {"JAX_ENABLE_X64": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dies(store, where):
    """Runs the sweep and is killed on the way: what no process can prepare for."""
    replace = pathlib.Path.replace
    if where == "at the first box":
        ZarrStore.write = at_box(0, die)
    elif where == "at a box":
        ZarrStore.write = at_box(3, die)
    elif where == "before the mark":
        write = ZarrStore.write

        def marked(self, k, values):
            if k == 3:
                store_module.status_of = lambda *_: die()
            write(self, k, values)

        ZarrStore.write = marked
    elif where == "in a file":

        def half(self, target):
            if self.suffix == ".partial" and "/lane_status/c/4/" in str(target):
                self.write_bytes(self.read_bytes()[:5])
                die()
            return replace(self, target)

        pathlib.Path.replace = half
    elif where == "while it is made":
        zarr.consolidate_metadata = lambda *_: die()
    swept(store)


def holds(store):
    """Runs the sweep and stops at a box, with the lock held."""

    def wait():
        print("here", flush=True)
        sys.stdin.read()

    ZarrStore.write = at_box(2, wait)
    swept(store)


# ---------------------------------------------------------------- functions that hold a constant


def with_constant(c):
    """Functions that hold a constant at every depth."""
    total = lambda lam: jnp.sum(jnp.sin(c * lam))  # noqa: E731
    key = jax.random.key(int((c[0] - 1) * 2**52))
    return {
        "plain": total,
        "jit": jax.jit(total),
        "jit in jit": lambda lam: jax.jit(jax.jit(total))(lam),
        "scan": lambda lam: jax.lax.scan(lambda a, _: (a + total(a), None), lam, length=2)[0],
        "jit in scan": lambda lam: jax.lax.scan(jax.jit(lambda a, _: (a + total(a), None)), lam, length=2)[0],
        "while": lambda lam: jax.lax.while_loop(lambda a: total(a) < 0, lambda a: a + 1, lam),
        "cond": lambda lam: jax.lax.cond(lam > 0, jax.jit(total), lambda x: x, lam),
        "grad": lambda lam: jax.grad(total)(lam),
        "vmap": lambda lam: jax.vmap(jax.jit(total))(lam * jnp.ones(2)),
        "custom derivative": lambda lam: jax.nn.relu(total(lam)),
        "solve": lambda lam: (
            jr.solve(
                jr.Problem(jr.losses.SquaredError(), c[:, None], np.arange(2.0)), jr.L1(lam), throw=False
            ).coef
        ),
        "single number": lambda lam: lam * c[0],
        "key": lambda lam: lam * jax.random.normal(key),
        "axis of a sum": lambda lam: jnp.sum(lam * jnp.ones((2, 2)), axis=int(c[0] > 1)),
    }


NEAR = np.array([1.0, np.nextafter(1.0, 2.0)])


def prints():
    """The fingerprints of many functions."""
    table = with_constant(NEAR)
    found = [Program(fn, {"lam": np.array([0.1])}).fingerprint for fn in table.values()]
    print([f() if callable(f) else f for f in found])
