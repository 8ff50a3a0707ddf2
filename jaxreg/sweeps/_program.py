"""The function of a sweep, traced once: its results with their names, and a fingerprint of what it
computes.
"""

import functools
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

__all__ = ["Program", "axis", "dims_of"]


def axis(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """An axis as it labels the results, and as the lanes get it: in a dtype that JAX has as it is set now.

    ValueError for what is not one row of at least one value, TypeError for values that are not numbers.
    """
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        raise TypeError(f"axis {name} holds PRNG keys, wanted numbers: {_KEYS}")
    try:
        label = np.asarray(list(values) if isinstance(values, range) else values)
    except ValueError as error:
        raise ValueError(f"axis {name} is ragged, wanted one row of numbers") from error
    except TypeError as error:
        raise TypeError(f"axis {name} holds what are no numbers ({error}): {_KEYS}") from error
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
    with np.errstate(over="ignore"):
        lane = label.astype(jax.dtypes.canonicalize_dtype(label.dtype))
    lost = label != lane if label.dtype.kind in "iu" else np.isfinite(label) & ~np.isfinite(lane)
    if np.any(lost):
        raise ValueError(
            f"axis {name} holds {label[lost][0]}, which does not fit {lane.dtype}: turn on 64 bits by"
            ' jax.config.update("jax_enable_x64", True), or take smaller numbers'
        )
    return label, lane


_KEYS = "sweep integer seeds and make the key inside the function, jax.random.key(seed)"


class Program:
    """`fn` traced for one lane: `run(constants, lane)` gives one array for each of `names`."""

    def __init__(self, fn: Callable[..., Any], axes: dict[str, np.ndarray]) -> None:
        self.name = getattr(fn, "__name__", type(fn).__name__)
        _takes(fn, self.name, list(axes))
        self.names: list[str] = []

        def flat(lane: list[Any]) -> list[jax.Array]:
            out = fn(**dict(zip(axes, lane, strict=True)))
            named = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]]
            self.names = [name for name, _ in named]
            return [_result(self.name, name, leaf) for name, leaf in named]

        lane = [jax.ShapeDtypeStruct((), values.dtype) for values in axes.values()]
        try:
            self.closed = jax.make_jaxpr(flat)(lane)
        except (TypeError, jax.errors.JAXIndexError) as error:
            if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError) or "Tracer" in str(
                error
            ):
                raise TypeError(_untraceable(self.name, error)) from error
            raise
        self.shapes = [(aval.shape, np.dtype(aval.dtype)) for aval in self.closed.out_avals]
        if not self.names:
            raise TypeError(f"{self.name} returns no array: return what the sweep should keep")
        dims = [
            dim
            for name, (shape, _) in zip(self.names, self.shapes, strict=True)
            for dim in dims_of(name, shape)
        ]
        every = [*axes, "lane_status", *dims, *self.names]
        if twice := [name for name in every if every.count(name) > 1]:
            raise ValueError(
                f"{twice[0]!r} would name two things among the axes, the results of {self.name}, their"
                " dimensions and the lanes' status: rename one"
            )

    def run(self, constants: list[Any], lane: list[Any]) -> list[jax.Array]:
        """The results of one lane; the arrays that `fn` closes over are arguments, not parts of the
        program.
        """
        return core.jaxpr_as_fun(core.ClosedJaxpr(self.closed.jaxpr, constants))(*lane)

    @functools.cached_property
    def text(self) -> str:
        """The jaxpr in words."""
        return str(self.closed.jaxpr)

    @functools.cached_property
    def hides(self) -> bool:
        """Whether the jaxpr leaves something out: a Python function that it calls back, or a batching rule.

        The rules of this package do nothing that the function which they batch does not show.
        """
        rules = (
            getattr(equation.params["rule"], "__module__", "")
            for equation in _equations(self.closed.jaxpr)
            if equation.primitive.name == "custom_vmap_call"
        )
        return "callback" in self.text or not all(module.startswith("jaxreg.") for module in rules)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the computation and of every constant in it, the same in every process.

        Python functions that it calls back, and rules of `custom_vmap`, are told apart by their names only.
        """
        digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "0x", self.text).encode())
        for constant in [*self.closed.consts, *_constants(self.closed.jaxpr)]:
            if isinstance(constant, jax.Array) and jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
                constant = jax.random.key_data(constant)
            array = np.asarray(constant)
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def dims_of(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The names of a result's own dimensions."""
    return tuple(f"{name}_{d}" for d in range(len(shape)))


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


def _inside(equation: core.JaxprEqn) -> list[Any]:
    """The parameters of an equation, jaxprs and arrays among them."""
    jaxpr = core.ClosedJaxpr | core.Jaxpr
    return jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, jaxpr))


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Every equation of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in _inside(equation):
            if isinstance(parameter, core.ClosedJaxpr | core.Jaxpr):
                yield from _equations(getattr(parameter, "jaxpr", parameter))


def _constants(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """Arrays held inside a jaxpr: constants of inner ones, and literals that are not single numbers."""
    for equation in _equations(jaxpr):
        for variable in equation.invars:
            if isinstance(variable, core.Literal) and np.ndim(variable.val):
                yield variable.val
        for parameter in _inside(equation):
            if isinstance(parameter, core.ClosedJaxpr):
                yield from parameter.consts
            elif isinstance(parameter, np.ndarray | jax.Array):
                yield parameter
