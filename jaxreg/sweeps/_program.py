"""Trace the function of a sweep: names and forms of its results, and a fingerprint of what it computes."""

import functools
import hashlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.tree_util import KeyPath
from jaxtyping import Array, PyTree

from jaxreg._batching import is_transparent

__all__ = ["Form", "Program", "SweepFunction", "dims_of"]

#: A pure function of one number per axis, by name, that returns a pytree of arrays.
SweepFunction = Callable[..., PyTree[Array]]


class Form(NamedTuple):
    """Shape and dtype of one result of one lane."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Program:
    """A function traced for one lane.

    Args:
        fn: A pure function of one number per axis, by name, that returns a pytree of arrays.
        axes: Values of the axes, of which the dtypes are used.

    Attributes:
        name: Name of the function.
        results: Form of each result, by its key path in the pytree.
        closed: The jaxpr, with the arrays that the function closes over.

    Raises:
        TypeError: The function does not take these axes, cannot be traced, or returns something else than
            arrays.
        ValueError: Two of the axes, results and dimensions have the same name.
    """

    def __init__(self, fn: SweepFunction, axes: dict[str, np.ndarray]) -> None:
        self.name = getattr(fn, "__name__", type(fn).__name__)
        _check_signature(fn, self.name, list(axes))
        names: list[str] = []

        def flat(lane: list[Array]) -> list[Array]:
            out = fn(**dict(zip(axes, lane, strict=True)))
            named = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]]
            names[:] = [name for name, _ in named]
            return [_result(self.name, name, leaf) for name, leaf in named]

        lane = [jax.ShapeDtypeStruct((), values.dtype) for values in axes.values()]
        try:
            self.closed = jax.make_jaxpr(flat)(lane)
        except (TypeError, jax.errors.JAXIndexError) as error:
            of_jax = isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError)
            if of_jax or "Tracer" in str(error):
                raise TypeError(_untraceable(self.name, error)) from error
            raise
        if not names:
            raise TypeError(f"{self.name} returns no array: return what the sweep should keep")
        forms = [Form(aval.shape, np.dtype(aval.dtype)) for aval in self.closed.out_avals]
        dims = [dim for name, form in zip(names, forms, strict=True) for dim in dims_of(name, form.shape)]
        _check_names(self.name, [*axes, "lane_status", *dims, *names])
        self.results = dict(zip(names, forms, strict=True))

    def run(self, constants: list[Array], lane: list[Array]) -> list[Array]:
        """Compute the results of one lane.

        The arrays that the function closes over are arguments, so that they are not part of the program.
        """
        return core.jaxpr_as_fun(core.ClosedJaxpr(self.closed.jaxpr, constants))(*lane)

    @functools.cached_property
    def text(self) -> str:
        """The jaxpr as text."""
        return str(self.closed.jaxpr)

    @functools.cached_property
    def is_opaque(self) -> bool:
        """True if equal jaxprs may compute different results.

        A jaxpr does not show the Python functions that it calls back, nor what a batching rule does.
        """
        rules = (
            equation.params["rule"]
            for equation in _equations(self.closed.jaxpr)
            if equation.primitive.name == "custom_vmap_call"
        )
        return "callback" in self.text or not all(map(is_transparent, rules))

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the jaxpr and of every constant in it, the same in every process.

        Callbacks and batching rules enter by their names only.
        """
        digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "0x", self.text).encode())
        for constant in [*self.closed.consts, *_constants(self.closed.jaxpr)]:
            if isinstance(constant, jax.Array) and jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
                constant = jax.random.key_data(constant)
            array = np.asarray(constant)
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def dims_of(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of a result's own dimensions.

    >>> dims_of("coef", (10, 3))
    ('coef_0', 'coef_1')
    """
    return tuple(f"{name}_{d}" for d in range(len(shape)))


def _name(path: KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "value"


def _check_signature(fn: SweepFunction, name: str, axes: list[str]) -> None:
    """Raise `TypeError` where the function does not take these axes by name, or needs more arguments."""
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


def _check_names(fn: str, names: list[str]) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"{repeated[0]!r} would name two things among the axes, the results of {fn}, their"
            " dimensions and the lanes' status: rename one"
        )


def _result(fn: str, name: str, leaf: object) -> Array:
    """Return a leaf of the result as an array of a dtype that NumPy has."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
        raise TypeError(
            f"{fn} returns {type(leaf).__name__} at {name}, wanted arrays: leave it out, for an Equinox"
            " module by equinox.filter(model, equinox.is_array)"
        )
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{fn} returns PRNG keys at {name}, wanted numbers: return jax.random.key_data(key)")
    # NumPy lacks bfloat16 and other narrow types.
    return leaf if np.dtype(leaf.dtype).kind in "biufc" else leaf.astype(jnp.float32)


def _untraceable(name: str, error: Exception) -> str:
    """Say where in the user's code a traced value was used as a concrete one."""
    libraries = (Path(jax.__file__).parent, Path(__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(folder in Path(frame.filename).parents for folder in libraries)
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    return (
        f"{name} cannot be traced by JAX: {type(error).__name__}{where}. A lane's values are not known while"
        " it is compiled: branch by jnp.where or jax.lax.cond, and keep sizes and file access out of the"
        " function"
    )


def _parameters(equation: core.JaxprEqn) -> list[object]:
    """Return the parameters of an equation, jaxprs and arrays among them."""
    jaxpr = core.ClosedJaxpr | core.Jaxpr
    return jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, jaxpr))


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Yield every equation of a jaxpr and of the jaxprs inside."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in _parameters(equation):
            if isinstance(parameter, core.ClosedJaxpr | core.Jaxpr):
                yield from _equations(getattr(parameter, "jaxpr", parameter))


def _constants(jaxpr: core.Jaxpr) -> Iterator[Array | np.ndarray]:
    """Yield the arrays inside a jaxpr: constants of inner jaxprs, and literals that are not scalars."""
    for equation in _equations(jaxpr):
        for variable in equation.invars:
            if isinstance(variable, core.Literal) and np.ndim(variable.val):
                yield variable.val
        for parameter in _parameters(equation):
            if isinstance(parameter, core.ClosedJaxpr):
                yield from parameter.consts
            elif isinstance(parameter, np.ndarray | jax.Array):
                yield parameter
