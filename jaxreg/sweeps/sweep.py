"""Run a pure function over the product of labelled axes, as batched lanes in chunks of one program."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxreg._extras import import_extra
from jaxreg._typing import ArrayLike, Device
from jaxreg.sweeps._axes import read_axis
from jaxreg.sweeps._disk import locked
from jaxreg.sweeps._plan import Identity, Plan
from jaxreg.sweeps._program import Program, SweepFunction
from jaxreg.sweeps._progress import bar
from jaxreg.sweeps._runner import Runner, jax_settings
from jaxreg.sweeps.store import MemoryStore, ZarrStore

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["fitting_lanes", "sweep"]


def sweep(
    fn: SweepFunction,
    *,
    store: str | Path | None = None,
    mesh: Mesh | None = None,
    max_lanes: int | None = None,
    progress: bool = True,
    **axes: ArrayLike,
) -> Dataset:
    """Run a function for every combination of the axes, batched.

    Lanes with neighbouring floats (λ) share a chunk, and all chunks run one compiled program. A lane that
    becomes non-finite leaves the other lanes alone.

    Args:
        fn: A pure JAX function `fn(lam, seed, …)` of one number per axis that returns a pytree of arrays.
            Arrays that it closes over are passed to the compiled program, not built in, unless a function
            inside is jitted on its own.
        store: A folder (zarr) to which every finished chunk is written, and from which the result reads when
            it is used. The same call again computes what is missing or damaged (by the checksum of each
            chunk, with a warning) and nothing else, and ends with the same bytes whatever the number of
            devices. A store of other axes, of another computation (by a hash of its jaxpr and constants) or
            of other settings is refused, `max_lanes` among them: the store keeps the size of its chunks.
        mesh: Devices over which chunks are spread; by default all local devices.
        max_lanes: Most lanes of a chunk; by default as many as the program's need and the free memory of the
            device allow, up to 4,096 (128 on a CPU). Without a store another value may change the last bits,
            since XLA may order sums in another way for another number of lanes.
        progress: Whether a bar is drawn where standard error is a terminal.
        **axes: A row of numbers for each argument of `fn`, which labels a dimension of the result.

    Returns:
        An `xarray.Dataset`. Every leaf of the function's result is a variable named by its key path (`/`
        between; `value` for a bare array), with dimensions `NAME_0`, `NAME_1`, … for its own shape. The
        coordinate `lane_status` is 1 for finite lanes and 2 for non-finite lanes; `attrs` count them.

    Raises:
        TypeError: `fn` does not take the axes, cannot be traced or returns something else than arrays, or an
            axis holds no numbers.
        ValueError: An axis is not one row of numbers, or the store does not fit.
        OSError: The disk is full or cannot be written to.
        RuntimeError: Another process works on the store.
        ImportError: xarray is not installed, or for a store zarr and filelock: the extra `sweeps` has them.

    >>> import jaxreg as jr
    >>> def shrunk(lam, w):
    ...     return {"l1": jr.L1(lam).prox(w, 1.0), "l2": jr.SquaredL2(lam).prox(w, 1.0)}
    >>> found = sweep(shrunk, lam=[0.0, 1.0, 3.0], w=[-2.0, 1.0, 4.0])
    >>> found.l1.sel(lam=1.0).values.tolist(), found.l2.dims
    ([-1.0, 0.0, 3.0], ('lam', 'w'))
    """
    import_extra("xarray", "sweeps", "jaxreg.sweep")  # before the work, not after it
    _check_lanes(max_lanes)
    traced = _trace(fn, axes)
    mesh = mesh if mesh is not None else Mesh(np.array(jax.local_devices()), ("lanes",))
    plan = Plan(traced.labels, traced.program.results, _identity(traced, max_lanes, mesh))
    runner = Runner(traced.program, traced.lanes, mesh)
    dataset = _compute(runner, plan, store, max_lanes, progress)
    if bad := dataset.attrs["not_finite"]:
        lanes = f"{bad} of {dataset.attrs['lanes']} lanes"
        warnings.warn(f"{lanes} are not finite: lane_status is 2 there", stacklevel=2)
    return dataset


def _check_lanes(max_lanes: int | None) -> None:
    whole = isinstance(max_lanes, int | np.integer) and not isinstance(max_lanes, bool)
    if max_lanes is not None and not (whole and max_lanes >= 1):
        raise ValueError(f"max_lanes must be a whole number ≥ 1, got {max_lanes!r}")


def _compute(
    runner: Runner, plan: Plan, store: str | Path | None, max_lanes: int | None, progress: bool
) -> Dataset:
    """Compute the lanes that are missing in the store, or all of them in memory; returns the dataset."""
    if store is None:
        memory = MemoryStore(plan, runner.fit(plan, max_lanes))
        _run(runner, memory, progress)
        return memory.dataset()
    folder = Path(os.path.abspath(store))
    with locked(folder):
        on_disk = ZarrStore(folder, plan)
        if not on_disk.open():
            on_disk.create(runner.fit(plan, max_lanes))
        if on_disk.damaged:
            warnings.warn(
                f"{folder} is damaged: chunks that are missing or not as they were written"
                f" ({len(on_disk.damaged)}, such as {on_disk.damaged[0]}) are computed again",
                stacklevel=3,
            )
        _run(runner, on_disk, progress)
        return on_disk.dataset()


def fitting_lanes(fn: SweepFunction, *, device: Device | None = None, **axes: ArrayLike) -> int:
    """Return how many lanes of a sweep the free memory of a device holds at once, up to all of them.

    The number is XLA's own account of the compiled program; nothing is run. `sweep` takes at most 4,096 lanes
    at once (128 on a CPU), beyond which more gain little: pass this number as `max_lanes` to have them.

    Args:
        fn: The function of `sweep`.
        device: By default the first local device.
        **axes: The axes of `sweep`.

    Returns:
        The number of lanes; all of them where the device does not report its memory.

    Raises:
        TypeError: As for `sweep`.
        ValueError: As for `sweep`.

    >>> fitting_lanes(lambda lam: lam**2, lam=[0.5, 1.0, 2.0])
    3
    """
    traced = _trace(fn, axes)
    device = jax.local_devices()[0] if device is None else device
    return Runner(traced.program, traced.lanes, Mesh(np.array([device]), ("lanes",))).fitting()


class _TracedSweep(NamedTuple):
    """A traced function with the values of its axes as the lanes get them, and as they label the results."""

    program: Program
    lanes: list[np.ndarray]
    labels: dict[str, np.ndarray]


def _trace(fn: SweepFunction, axes: dict[str, ArrayLike]) -> _TracedSweep:
    if not axes:
        raise ValueError("sweep needs at least one axis, such as lam=jnp.geomspace(1e-3, 1.0, 20)")
    read = {name: read_axis(name, values) for name, values in axes.items()}
    lanes = {name: axis.values for name, axis in read.items()}
    labels = {name: axis.labels for name, axis in read.items()}
    return _TracedSweep(Program(fn, lanes), list(lanes.values()), labels)


def _identity(traced: _TracedSweep, max_lanes: int | None, mesh: Mesh) -> Identity:
    """Return the facts in which two calls of the same sweep agree, besides its labels and results."""
    return {
        "axes": {name: lane.dtype.str for name, lane in zip(traced.labels, traced.lanes, strict=True)},
        "computation": traced.program.fingerprint,
        "max_lanes": None if max_lanes is None else int(max_lanes),
        "platform": mesh.devices.flat[0].platform,
        "jax_version": jax.__version__,
        **jax_settings(),
    }


def _run(runner: Runner, store: MemoryStore | ZarrStore, progress: bool) -> None:
    """Compute the missing boxes; each is written as soon as it and the boxes before are done."""
    blocks, missing = store.blocks, store.missing()
    if not missing:
        return
    total = math.prod(blocks.sizes)
    done = total - sum(map(blocks.lanes_inside, missing))
    try:
        results = runner.results(blocks, missing)
        with bar(total, done, progress) as advance, contextlib.closing(results):
            for k, values in zip(missing, results, strict=True):
                store.write(k, values)
                done += blocks.lanes_inside(k)
                advance(blocks.lanes_inside(k))
    except KeyboardInterrupt:
        lost = "lost"
        if isinstance(store, ZarrStore):
            lost = f"kept in {store.path}: the same call goes on from there"
        raise KeyboardInterrupt(f"stopped with {done} of {total} lanes done, {lost}") from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"{blocks.lanes} lanes on each device do not fit its memory: give a smaller max_lanes"
        ) from error
