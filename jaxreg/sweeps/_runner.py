"""Run a traced function for boxes of lanes, by programs compiled once, on the devices of a mesh."""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jaxreg._batching import compile_lanes, free_bytes, n_cores, needed_bytes
from jaxreg.sweeps._blocks import Blocks
from jaxreg.sweeps._plan import Plan
from jaxreg.sweeps._program import Program

__all__ = ["Runner", "jax_settings"]

#: Lanes of a chunk on a CPU where memory sets no lower limit: more of them gain nothing there.
_LANES_ON_CPU = 128
#: Lanes of a chunk on other devices where memory sets no lower limit.
_LANES = 4096
#: Programs of the last few sweeps: another grid for the same function does not compile again.
_COMPILED: OrderedDict[tuple, tuple[Program, jax.stages.Compiled]] = OrderedDict()
#: Compiled programs that are kept for each device.
_COMPILED_KEPT = 8


def jax_settings() -> dict[str, str | bool | None]:
    """Return the settings of JAX that change what a program computes and do not show in its jaxpr."""
    return {
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "threefry_partitionable": jax.config.jax_threefry_partitionable,
    }


class Runner:
    """A traced function and the devices it runs on.

    Each device runs boxes of its own by a program compiled for one device, so that no bit depends on how many
    devices there are: XLA would compile another program for all of them together.

    Args:
        program: The traced function.
        lanes: Values of each axis, as the lanes get them.
        mesh: The devices.
    """

    def __init__(self, program: Program, lanes: list[np.ndarray], mesh: Mesh) -> None:
        self.program, self.lanes, self.devices = program, lanes, list(mesh.devices.flat)
        self.constants = [jax.device_put(program.closed.consts, device) for device in self.devices]
        # Two chunks at once on each device: one is read back while the other runs. On a CPU a chunk of small
        # arrays keeps one core busy, so there it is one chunk for every two cores. Not one for each core:
        # where chunks take all of XLA's threads, a factorisation that asks for more of them waits for ever.
        on_cpu = self.devices[0].platform == "cpu"
        self.at_once = max(1, n_cores() // 2) if on_cpu else 2 * len(self.devices)

    def compile(self, width: int, d: int = 0) -> jax.stages.Compiled:
        """Compile the program for `width` lanes on the d-th device, once for sweeps of the same function."""
        each = [jax.ShapeDtypeStruct((width,), lane.dtype) for lane in self.lanes]
        settings = (*jax_settings().values(), self.devices[d])
        # An opaque program never stands for another.
        own = id(self.program) if self.program.is_opaque else None
        key = (own, self.program.text, self.program.fingerprint, str(each), *settings)
        if key not in _COMPILED:
            # The program is kept too, so that no later program gets its id.
            compiled = compile_lanes(self.program.run, self.constants[d], each, self.devices[d])
            _COMPILED[key] = self.program, compiled
        _COMPILED.move_to_end(key)
        while len(_COMPILED) > _COMPILED_KEPT * len(self.devices):
            _COMPILED.popitem(last=False)
        return _COMPILED[key][1]

    def fit(self, plan: Plan, max_lanes: int | None) -> Blocks:
        """Cut the grid into boxes of `max_lanes`, by default as large as the memory allows."""
        total = math.prod(plan.sizes)
        device = self.devices[0]
        on_cpu = device.platform == "cpu"
        shares = self.at_once if on_cpu else len(self.devices)
        blocks = plan.blocks(max_lanes or min(-(-total // shares), _LANES_ON_CPU if on_cpu else _LANES))
        free = free_bytes(device) if max_lanes is None else None
        share = None if free is None else free // (self.at_once // len(self.devices) + 1)
        while (fewer := self.within(blocks.lanes, share)) < blocks.lanes:
            blocks = plan.blocks(fewer)
        return blocks

    def fitting(self) -> int:
        """Return how many lanes the free memory of the first device holds at once, up to all of them."""
        count, free = math.prod(values.size for values in self.lanes), free_bytes(self.devices[0])
        while (fewer := self.within(count, free)) < count:
            count = fewer
        return count

    def within(self, width: int, memory: int | None) -> int:
        """Return `width` if so many bytes hold as many lanes, else an estimate of how many they hold.

        None stands for unlimited memory.
        """
        if memory is None or width == 1:
            return width
        needed = needed_bytes(self.compile(width))
        return width if needed <= memory else max(1, min(width * memory // needed, width - 1))

    def results(self, blocks: Blocks, boxes: list[int]) -> Iterator[list[np.ndarray]]:
        """Yield the results of each box in turn while the next boxes run."""
        waiting = deque()
        programs = [self.compile(blocks.lanes, d) for d in range(min(len(self.devices), len(boxes)))]
        workers = ThreadPoolExecutor(self.at_once)
        try:
            for turn, k in enumerate(boxes):
                d = turn % len(self.devices)
                each = [lane[index] for lane, index in zip(self.lanes, blocks.index(k), strict=True)]
                each = jax.device_put(each, self.devices[d])
                waiting.append(workers.submit(_call, programs[d], self.constants[d], each))
                if len(waiting) > self.at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            workers.shutdown(wait=False, cancel_futures=True)


def _call(program: jax.stages.Compiled, constants: list[Array], each: list[Array]) -> list[np.ndarray]:
    return [np.asarray(value) for value in program(constants, each)]
