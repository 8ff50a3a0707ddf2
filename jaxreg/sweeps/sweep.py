"""`sweep`: a pure function over the product of labelled axes, as batched lanes in chunks of one program."""

import contextlib
import math
import os
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxreg._batching import compile_lanes, free_bytes, needed_bytes
from jaxreg.sweeps._blocks import Blocks
from jaxreg.sweeps._program import Program, axis
from jaxreg.sweeps._progress import bar
from jaxreg.sweeps.store import Memory, Plan, Zarr, locked

__all__ = ["fitting_lanes", "sweep"]

#: Lanes of one chunk where memory sets no lower limit: on a CPU more of them gain nothing.
_MOST = {"cpu": 128}
_MOST_ELSEWHERE = 4096
#: The programs of the last few sweeps: another grid for the same function does not compile again.
_COMPILED: OrderedDict[Any, tuple[Program, jax.stages.Compiled]] = OrderedDict()
_KEPT = 8


def sweep(
    fn: Callable[..., Any],
    *,
    store: str | Path | None = None,
    mesh: Mesh | None = None,
    max_lanes: int | None = None,
    progress: bool = True,
    **axes: Any,
) -> Any:
    """Run `fn` for every combination of the axes, batched; returns a labelled `xarray.Dataset`.

    `fn(lam, seed, …)` is a pure JAX function of one number per axis that returns a pytree of arrays. Every
    other keyword is an axis, a row of numbers, and becomes a dimension with these labels. Every leaf of the
    result is a variable named by its key path (`/` between; `value` for a bare array), with dimensions
    `NAME_0`, `NAME_1`, … for its own shape. Arrays that `fn` closes over are passed to the compiled program,
    not built in, unless a function inside is jitted on its own.

    Lanes run in chunks of one compiled program, a few at once: `max_lanes` in a chunk at most, by default
    what the program's own need and the device's free memory allow. Lanes with neighbouring floats (λ) share a
    chunk. Chunks are spread over the devices of `mesh`, by default all local ones.

    With `store`, a folder, every finished chunk is written to it (zarr), and the Dataset reads from there
    when it is used. The same call again computes what is missing or damaged (by the checksum of each chunk,
    with a warning) and nothing else, and ends with the same bytes, whatever the number of devices; a store
    of other axes, another computation (by a hash of its jaxpr
    and constants) or other settings is refused. The size of a chunk is kept in the store; a different
    `max_lanes` is then refused. Without a store another `max_lanes` may change the last bits, since XLA may
    order sums in another way for another number of lanes.

    A lane that becomes non-finite leaves the others alone. The coordinate `lane_status` is 1 for finite lanes
    and 2 for the others; `attrs` count them. `progress` draws a bar where standard error is a terminal.

    TypeError for a function that does not take the axes, cannot be traced, or returns what is no array, and
    for axes that hold no numbers; ValueError for axes of another shape and for a store that does not fit;
    OSError for a disk that is full; RuntimeError where another process works on the store.

    >>> import jaxreg as jr
    >>> def shrunk(lam, w):
    ...     return {"l1": jr.L1(lam).prox(w, 1.0), "l2": jr.SquaredL2(lam).prox(w, 1.0)}
    >>> found = sweep(shrunk, lam=[0.0, 1.0, 3.0], w=[-2.0, 1.0, 4.0])
    >>> found.l1.sel(lam=1.0).values.tolist(), found.l2.dims
    ([-1.0, 0.0, 3.0], ('lam', 'w'))
    """
    _check_lanes(max_lanes)
    program, lanes, labels = _traced(fn, axes)
    mesh = mesh if mesh is not None else Mesh(np.array(jax.local_devices()), ("lanes",))
    plan = Plan(
        labels,
        dict(zip(program.names, program.shapes, strict=True)),
        _identity(program, lanes, list(axes), max_lanes, mesh),
    )
    return _told(_computed(_Runner(program, lanes, mesh), plan, store, max_lanes, progress))


def _check_lanes(most: Any) -> None:
    """ValueError where it is neither None nor a whole number ≥ 1."""
    whole = isinstance(most, int | np.integer) and not isinstance(most, bool)
    if most is not None and not (whole and most >= 1):
        raise ValueError(f"max_lanes must be a whole number ≥ 1, got {most!r}")


def _computed(
    runner: "_Runner", plan: Plan, store: str | Path | None, max_lanes: int | None, progress: bool
) -> Any:
    """The Dataset, with all that was missing in the store, or in memory without one."""
    if store is None:
        memory = Memory(plan, runner.fit(plan, max_lanes))
        _run(runner, memory, progress)
        return memory.dataset()
    folder = Path(os.path.abspath(store))
    with locked(folder):
        kept = Zarr(folder, plan)
        if not kept.existing():
            kept.create(runner.fit(plan, max_lanes))
        if kept.damaged:
            warnings.warn(
                f"{folder} is damaged: chunks that are missing or not as they were written"
                f" ({len(kept.damaged)}, such as {kept.damaged[0]}) are computed again",
                stacklevel=3,
            )
        _run(runner, kept, progress)
        return kept.dataset()


def fitting_lanes(fn: Callable[..., Any], *, device: Any = None, **axes: Any) -> int:
    """How many lanes of a sweep of `fn` over `axes` the free memory of a device holds at once, up to all.

    By XLA's own account of the compiled program; nothing is run. `sweep` takes 4,096 lanes at once at most
    (128 on a CPU), beyond which more gain little: give it this number as `max_lanes` to have them. `device`
    None is the first. All lanes where the device does not tell its memory. Raises what `sweep` raises for
    axes that it cannot take.

    >>> fitting_lanes(lambda lam: lam**2, lam=[0.5, 1.0, 2.0])
    3
    """
    program, lanes = _traced(fn, axes)[:2]
    device = jax.local_devices()[0] if device is None else device
    runner, free = _Runner(program, lanes, Mesh(np.array([device]), ("lanes",))), free_bytes(device)
    most = math.prod(lane.size for lane in lanes)
    while (fewer := runner.within(most, free)) < most:
        most = fewer
    return most


def _traced(
    fn: Callable[..., Any], axes: dict[str, Any]
) -> tuple[Program, list[np.ndarray], dict[str, np.ndarray]]:
    """The program, and its axes as the lanes get them and as they label the results."""
    if not axes:
        raise ValueError("sweep needs at least one axis, such as lam=jnp.geomspace(1e-3, 1.0, 20)")
    both = {name: axis(name, values) for name, values in axes.items()}
    lanes = {name: lane for name, (_, lane) in both.items()}
    return Program(fn, lanes), list(lanes.values()), {name: label for name, (label, _) in both.items()}


def _identity(
    program: Program, lanes: list[np.ndarray], names: list[str], max_lanes: int | None, mesh: Mesh
) -> dict[str, Any]:
    """What two calls must share to be the same sweep, beside its axes' values and results."""
    return {
        "axes": {name: lane.dtype.str for name, lane in zip(names, lanes, strict=True)},
        "computation": program.fingerprint,
        "max_lanes": None if max_lanes is None else int(max_lanes),
        "platform": mesh.devices.flat[0].platform,
        "jax_version": jax.__version__,
        **_settings(),
    }


def _settings() -> dict[str, Any]:
    """Settings of JAX that change what a program computes and do not show in its jaxpr."""
    return {
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "threefry_partitionable": jax.config.jax_threefry_partitionable,
    }


class _Runner:
    """A program and the devices it runs on.

    Each device runs boxes of its own by a program compiled for one device, so that no bit depends on how many
    there are: XLA would compile another one for all of them together.
    """

    def __init__(self, program: Program, lanes: list[np.ndarray], mesh: Mesh) -> None:
        self.program, self.lanes, self.devices = program, lanes, list(mesh.devices.flat)
        self.constants = [jax.device_put(program.closed.consts, device) for device in self.devices]
        # Two chunks at once on each device: one is read back while the other runs. On a CPU a chunk of small
        # arrays keeps one core busy, so there it is one for every two cores. Not for each: where XLA's own
        # threads are all taken by chunks, a factorisation that asks for more of them waits for ever.
        on_cpu = self.devices[0].platform == "cpu"
        self.at_once = max(1, _cores() // 2) if on_cpu else 2 * len(self.devices)

    def compile(self, width: int, d: int = 0) -> jax.stages.Compiled:
        """The program for `width` lanes on the d-th device, compiled once for sweeps of the same function."""
        each = [jax.ShapeDtypeStruct((width,), lane.dtype) for lane in self.lanes]
        settings = (*_settings().values(), self.devices[d])
        # A program that the jaxpr does not show in full is never taken for another's.
        own = id(self.program) if self.program.hides else None
        key = (own, self.program.text, self.program.fingerprint, str(each), *settings)
        if key not in _COMPILED:
            # The program is kept with it, so that no later one gets its identity.
            made = compile_lanes(self.program.run, self.constants[d], each, self.devices[d])
            _COMPILED[key] = self.program, made
        _COMPILED.move_to_end(key)
        while len(_COMPILED) > _KEPT * len(self.devices):
            _COMPILED.popitem(last=False)
        return _COMPILED[key][1]

    def fit(self, plan: Plan, max_lanes: int | None) -> Blocks:
        """Boxes as large as wanted, or as memory allows."""
        total = int(np.prod(plan.sizes))
        device = self.devices[0]
        shares = self.at_once if device.platform == "cpu" else len(self.devices)
        limit = max_lanes or min(-(-total // shares), _MOST.get(device.platform, _MOST_ELSEWHERE))
        blocks = plan.blocks(limit)
        free = free_bytes(device) if max_lanes is None else None
        share = None if free is None else free // (self.at_once // len(self.devices) + 1)
        while (fewer := self.within(blocks.lanes, share)) < blocks.lanes:
            blocks = plan.blocks(fewer)
        return blocks

    def within(self, width: int, memory: int | None) -> int:
        """`width` where so many bytes hold as many lanes, else about how many they hold; None holds all."""
        if memory is None or width == 1:
            return width
        needed = needed_bytes(self.compile(width))
        return width if needed <= memory else max(1, min(width * memory // needed, width - 1))

    def results(self, blocks: Blocks, boxes: list[int]) -> Iterator[list[np.ndarray]]:
        """The results of each box in turn; those after it run meanwhile."""
        waiting = deque()
        programs = [self.compile(blocks.lanes, d) for d in range(min(len(self.devices), len(boxes)))]
        workers = ThreadPoolExecutor(self.at_once)
        try:
            for turn, k in enumerate(boxes):
                d = turn % len(self.devices)
                each = [lane[index] for lane, index in zip(self.lanes, blocks.index(k), strict=True)]
                each = jax.device_put(each, self.devices[d])
                waiting.append(workers.submit(_called, programs[d], self.constants[d], each))
                if len(waiting) > self.at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            workers.shutdown(wait=False, cancel_futures=True)


def _cores() -> int:
    """The cores that XLA's threads have: those given to this process, or what the variable NPROC says."""
    given = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    wanted = os.environ.get("NPROC", "")
    return int(wanted) if wanted.isdecimal() else len(given)


def _called(program: jax.stages.Compiled, constants: Any, each: Any) -> list[np.ndarray]:
    return [np.asarray(value) for value in program(constants, each)]


def _run(runner: _Runner, store: Memory | Zarr, progress: bool) -> None:
    """Compute what is missing; each chunk is written as soon as it and those before are done."""
    blocks, missing = store.blocks, store.missing()
    total = int(np.prod(blocks.sizes))
    sizes = [int(np.prod([part.stop - part.start for part in blocks.region(k)])) for k in range(len(blocks))]
    done = total - sum(sizes[k] for k in missing)
    if not missing:
        return
    try:
        results = runner.results(blocks, missing)
        with bar(total, done, progress) as advance, contextlib.closing(results):
            for k, values in zip(missing, results, strict=True):
                store.write(k, values)
                done += sizes[k]
                advance(sizes[k])
    except KeyboardInterrupt:
        kept = (
            f"kept in {store.path}: the same call goes on from there" if isinstance(store, Zarr) else "lost"
        )
        raise KeyboardInterrupt(f"stopped with {done} of {total} lanes done, {kept}") from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"{blocks.lanes} lanes on each device do not fit its memory: give a smaller max_lanes"
        ) from error


def _told(data: Any) -> Any:
    """The Dataset, after a word on lanes that are not finite."""
    if data.attrs["not_finite"]:
        counts = f"{data.attrs['not_finite']} of {data.attrs['lanes']}"
        warnings.warn(f"{counts} lanes are not finite: lane_status is 2 there", stacklevel=3)
    return data
