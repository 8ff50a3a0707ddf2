"""The function of a sweep, traced once: its results with their names, and a fingerprint of what it
computes."""

import hashlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

__all__ = ["Program", "axis"]


def axis(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """An axis as it labels the results, and as the lanes get it: in a dtype that JAX has as it is set now.

    ValueError for what is not one row of at least one value, TypeError for values that are not numbers.
    """
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"axis {name} holds PRNG keys, wanted numbers: sweep integer seeds and make the key inside the"
            " function, jax.random.key(seed)"
        )
    try:
        label = np.asarray(list(values) if isinstance(values, range) else values)
    except ValueError as error:
        raise ValueError(f"axis {name} is ragged, wanted one row of numbers") from error
    kinds = sorted({type(v).__name__ for v in values}) if isinstance(values, list | tuple) else []
    if label.dtype.kind not in "fiub" or ("bool" in kinds and len(kinds) > 1):
        held = " and ".join(kinds) or f"dtype {label.dtype}"
        raise TypeError(
            f"axis {name} holds {held}, wanted numbers of one kind: sweep over an index 0, 1, … and look the"
            " rest up inside the function"
        )
    if label.ndim != 1 or label.size == 0:
        what = "one value" if label.ndim == 0 else f"shape {label.shape}" if label.size else "no value"
        raise ValueError(
            f"axis {name} has {what}, wanted one row of at least one number such as [0.1, 1.0]; fix a value"
            " with functools.partial"
        )
    lane = label.astype(jax.dtypes.canonicalize_dtype(label.dtype))
    lost = label != lane if label.dtype.kind in "iu" else np.isfinite(label) & ~np.isfinite(lane)
    if np.any(lost):
        raise ValueError(
            f"axis {name} holds {label[lost][0]}, which does not fit {lane.dtype}: turn on 64 bits by"
            ' jax.config.update("jax_enable_x64", True), or take smaller numbers'
        )
    return label, lane


class Program:
    """`fn` traced for one lane: `run(constants, lane)` gives one array for each of `names`."""

    def __init__(self, fn: Callable[..., Any], axes: dict[str, np.ndarray]) -> None:
        self.name = getattr(fn, "__name__", type(fn).__name__)
        _takes(fn, self.name, list(axes))
        self.names: list[str] = []

        def flat(lane: list[Any]) -> list[jax.Array]:
            out = fn(**dict(zip(axes, lane, strict=True)))
            named = {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]}
            self.names = list(named)
            return [_result(self.name, name, leaf) for name, leaf in named.items()]

        lane = [jax.ShapeDtypeStruct((), values.dtype) for values in axes.values()]
        try:
            self.closed = jax.make_jaxpr(flat)(lane)
        except (TypeError, jax.errors.JAXIndexError) as error:
            if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError) or "Tracer" in str(
                error
            ):
                raise TypeError(_untraceable(self.name, error)) from error
            raise
        self._fingerprint = ""
        self.shapes = [(aval.shape, np.dtype(aval.dtype)) for aval in self.closed.out_avals]
        if not self.names:
            raise TypeError(f"{self.name} returns no array: return what the sweep should keep")
        taken = [name for name in self.names if name in axes or name == "lane_status"]
        if taken:
            raise ValueError(
                f"{self.name} returns {taken[0]!r}, which names an axis or the lanes' status: rename it"
            )

    def run(self, constants: list[Any], lane: list[Any]) -> list[jax.Array]:
        """The results of one lane; the arrays that `fn` closes over are arguments, not parts of the
        program."""
        return core.jaxpr_as_fun(core.ClosedJaxpr(self.closed.jaxpr, constants))(*lane)

    def fingerprint(self) -> str:
        """A hash of the computation and of every constant in it, the same in every process."""
        if self._fingerprint:
            return self._fingerprint
        digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "0x", str(self.closed.jaxpr)).encode())
        for constant in [*self.closed.consts, *_constants(self.closed.jaxpr)]:
            if isinstance(constant, jax.Array) and jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
                constant = jax.random.key_data(constant)
            array = np.asarray(constant)
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        self._fingerprint = digest.hexdigest()
        return self._fingerprint


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "value"


def _takes(fn: Callable[..., Any], name: str, axes: list[str]) -> None:
    """TypeError where the function does not take these axes by name, or wants more."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**dict.fromkeys(axes))
    except TypeError as error:
        raise TypeError(
            f"{name}{signature} does not take the axes {', '.join(axes)} by name ({error}): each keyword of"
            " sweep is an argument of the function"
        ) from error


def _result(fn: str, name: str, leaf: Any) -> jax.Array:
    """A leaf of the result as an array that NumPy has a type for."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
        raise TypeError(
            f"{fn} returns {type(leaf).__name__} at {name}, wanted arrays: leave it out, for an Equinox"
            " module by equinox.filter(model, equinox.is_array)"
        )
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{fn} returns PRNG keys at {name}, wanted numbers: return jax.random.key_data(key)")
    # bfloat16 and its like are not NumPy's.
    return leaf if np.dtype(leaf.dtype).kind in "biufc" else leaf.astype(jnp.float32)


def _untraceable(name: str, error: Exception) -> str:
    """Where in the user's code a traced value was used as a concrete one."""
    ours = (Path(jax.__file__).parent, Path(__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(parent in Path(frame.filename).parents for parent in ours)
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    return (
        f"{name} cannot be traced by JAX: {type(error).__name__}{where}. A lane's values are not known while"
        " it is compiled: branch by jnp.where or jax.lax.cond, and keep sizes and file access out of the"
        " function"
    )


def _constants(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """Arrays held inside a jaxpr: constants of inner ones, and literals that are not single numbers."""
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            if isinstance(variable, core.Literal) and np.ndim(variable.val):
                yield variable.val
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, core.ClosedJaxpr | core.Jaxpr)
        ):
            if isinstance(parameter, core.ClosedJaxpr):
                yield from parameter.consts
                yield from _constants(parameter.jaxpr)
            elif isinstance(parameter, core.Jaxpr):
                yield from _constants(parameter)
            elif isinstance(parameter, np.ndarray | jax.Array):
                yield parameter
