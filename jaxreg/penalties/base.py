"""Base class of penalties.

A penalty is the whole second term of Cost = EmpLoss + λ·Complexity, λ included: an immutable pytree with a
`value` and a `prox`.

To write a penalty:

- Choose the base class by the structure of the function:

  - `ElementaryPenalty`, on each coordinate slope·|w| + curvature/2·w² on an interval, where the slope may
    differ between the two sides of 0: write `coefficients`.
  - `SeparablePenalty`, any other sum over coordinates: write `value_1d` and `prox_1d`.
  - `ConvexSeparablePenalty`, a convex sum over coordinates: write also `conjugate_1d` and `dual_bounds_1d`.
  - `Penalty`, a function of groups, vectors or matrices: write `value` and `prox`; for a duality gap also
    `conjugate`, `dual_scale` and, if some directions cost nothing, `project_on_unpenalised`. Norms, labelled
    groups and sets have bases of their own: `norms.Norm`, `group.GroupPenalty`, `sets.SetPenalty`.

- Declare the numbers of the penalty as fields: `lam: Scalar = hyperparameter(1.0)` for one number,
  `per_coordinate()` for one per coordinate. Both make arrays, so that another λ does not recompile and has a
  gradient.
- Check concrete numbers in `__check_init__` with `require` and `holds`.
- Declare the properties that go beyond the base class in a class attribute
  `capabilities = BaseClass.capabilities._replace(keeps_signs=True)`, see `Capabilities`.

To add the penalty to this package:

- Write the class in the module of its family, and the array kernel of its prox in a module of `jaxreg.prox`,
  named in the `__all__` of both. A new kernel gets an entry in tests/prox/kernels.py and in
  experiments/benchmarks/prox.py. The laws also try extreme weights and half precision: avoid differences of
  nearly equal numbers. A kernel that iterates gets its derivative by `jax.custom_jvp`.
- Name the class in `__all__` of its module and of `jaxreg.penalties`, where the laws in tests/penalties find
  it. The top level `jaxreg` exports only penalties of everyday use.
- Define the classmethod `example(shape)` if not all fields have defaults.
- Write the formula into tests/penalties/formulas.py, in NumPy and in the dtype of the weights: it is the
  reference at extreme weights too. Write bad arguments into tests/penalties/test_bad_input.py.
- Add a convex penalty to FAMILIES (a constraint to SETS) in tests/penalties/test_certified.py, and also to
  WITHOUT_NULL if no finite λ holds all coefficients at 0.
- Add variants and sums that follow a rule of their own to tests/members.py.
- Paste the output of `python -m tests.penalties.table` into the docstring of `jaxreg.penalties`.
- Run `pytest tests/penalties tests/prox`.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxreg._meshes import like_first, on_auto_axes
from jaxreg._module import Module, with_public_names
from jaxreg._pytree import is_complex, is_weight, weights_of
from jaxreg._typing import ArrayLike, Params, Scalar, StepSize

__all__ = ["Blocks", "Capabilities", "Penalty", "no_closed_form", "refuse_complex"]

_Method = TypeVar("_Method", bound=Callable)


@with_public_names
class Capabilities(NamedTuple):
    """Properties of a penalty that decide which methods and solvers apply. All default to False.

    >>> from jaxreg.penalties import L1, TotalVariation
    >>> L1().separable, TotalVariation().separable, (L1() + TotalVariation()).separable
    (True, False, False)
    """

    #: The value is a convex function.
    convex: bool = False
    #: The value is a sum over coordinates; then `per_leaf` is not None.
    separable: bool = False
    #: Separable, and on each coordinate slope·|w| + curvature/2·w² on an interval, where the slope may differ
    #: between the two sides of 0 (`ElementaryPenalty`).
    elementary: bool = False
    #: Elementary without curvature.
    piecewise_linear: bool = False
    #: `prox` accepts a tree of one step per coordinate.
    metric: bool = False
    #: The value is a non-decreasing function of |w|, so that the prox never changes a sign.
    keeps_signs: bool = False
    #: The prox never reverses the order of neighbours (total variation), so that the prox of the sum with one
    #: convex function of every coordinate is the prox of that function after this prox.
    keeps_order: bool = False
    #: `conjugate` and `dual_scale` are available, and with them a duality gap.
    has_conjugate: bool = False


class Blocks(NamedTuple):
    """Partition of the coordinates of a single array into blocks that the prox couples."""

    #: A label 0 … count − 1 per ravelled coordinate.
    labels: Int[Array, " p"]
    count: int
    #: Upper bound of the size of a block.
    size: int


def refuse_complex(penalty: "Penalty", params: Params) -> None:
    """Raise TypeError for a complex leaf that the penalty acts on: no penalty is defined there."""
    leaves = jax.tree.leaves(params)
    if not any(map(is_complex, leaves)):
        return
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for path, leaf, selected in zip(paths, leaves, penalty.acts_on_leaves(params), strict=True):
        if selected and is_complex(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "params"
            raise TypeError(
                f"{type(penalty).__name__} got complex weights at {name} ({leaf.dtype}): penalise real and"
                f" imaginary parts as a real array of shape {(*leaf.shape, 2)}, or leave them out with Masked"
                " or Partition"
            )


def no_closed_form(parts: "Sequence[Penalty]", instead: str) -> TypeError:
    """Make the error for a sum whose prox has no closed form; `instead` says what to do."""
    names = " + ".join(sorted({part._display_name() for part in parts}))
    return TypeError(f"the prox of {names} has no closed form: {instead}")


def _of_params(method: _Method) -> _Method:
    """Decorate a method of a tree of weights: refuse complex weights, accept any mesh."""
    on_meshes = on_auto_axes(like_first)(method)

    @wraps(method)
    def call(self: "Penalty", *args: PyTree, **kwargs: PyTree) -> PyTree:
        refuse_complex(self, args[0] if args else next(iter(kwargs.values()), None))
        return on_meshes(self, *args, **kwargs)

    return call


def _capability(name: str) -> property:
    """Make a read-only property for one field of `capabilities`."""
    return property(lambda self: getattr(self.capabilities, name), doc=f"`Capabilities.{name}`.")


class Penalty(Module):
    """Base of all penalties. Methods take and return pytrees shaped like the params.

    Every leaf that is an array of floats is a weight. Complex arrays raise TypeError unless a mask leaves
    them out; other leaves pass through. `p + q`, `a * p` and `p / a` combine penalties.

    Compile a method with `equinox.filter_jit(penalty.prox)`, or pass the penalty as an argument of a jitted
    function: either way another λ compiles nothing. `jax.jit(penalty.prox)` makes constants of its numbers.

    >>> import equinox as eqx, jax
    >>> from jaxreg.penalties import L1
    >>> eqx.filter_jit(L1(0.5).prox)(jnp.array([2.0, 0.1]), 1.0).tolist()
    [1.5, 0.0]
    >>> jax.jit(lambda penalty, w: penalty.prox(w, 1.0))(L1(0.5), jnp.array([2.0, 0.1])).tolist()
    [1.5, 0.0]
    """

    #: Declared by a class, or a property of a combination, which computes them from its parts.
    capabilities = Capabilities()

    _for_authors = frozenset(
        {
            *Capabilities._fields,
            *("acts_on_leaves", "acts_on_weights", "blocks", "dual_plus_l1_contains"),
            *("dual_scale", "example", "for_scaled_params", "per_leaf", "project_on_unpenalised", "take"),
            "terms",
        }
    )

    convex = _capability("convex")
    separable = _capability("separable")
    elementary = _capability("elementary")
    piecewise_linear = _capability("piecewise_linear")
    metric = _capability("metric")
    keeps_signs = _capability("keeps_signs")
    keeps_order = _capability("keeps_order")
    has_conjugate = _capability("has_conjugate")

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Make the methods of every subclass refuse complex weights and accept meshes with explicit axes."""
        super().__init_subclass__(**kwargs)
        for name in ("value", "prox", "conjugate", "dual_scale", "project_on_unpenalised"):
            method = cls.__dict__.get(name)
            if method is not None and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _of_params(method))

    @classmethod
    def example(cls, shape: tuple[int, ...]) -> Self | None:
        """Return an instance for tests that fits params of this shape, or None if there is none."""
        return cls()

    @abstractmethod
    def value(self, params: Params) -> Scalar:
        """Return the complexity of the params: one number, inf outside the domain.

        Its derivative at a kink is a subgradient: 0 where a weight or a group is 0.
        """

    @abstractmethod
    def prox(self, params: Params, step: StepSize) -> Params:
        """Return the minimiser u of ½‖u − params‖² + step·value(u).

        Args:
            params: Pytree of weights.
            step: A number ≥ 0; where `metric` is true also a tree of one step per coordinate.
        """

    def conjugate(self, dual: Params) -> Scalar:
        """Return the convex conjugate sup_w ⟨dual, w⟩ − value(w), inf outside its domain.

        Raises:
            TypeError: The penalty has no conjugate.
        """
        raise TypeError(f"{type(self).__name__} has no conjugate: certify a fit by its KKT residual")

    def dual_scale(self, dual: Params) -> Scalar:
        """Return the largest s ≤ 1 for which s·dual lies in the domain of the conjugate.

        Raises:
            TypeError: The penalty has no conjugate.
        """
        raise TypeError(f"{type(self).__name__} has no conjugate: certify a fit by its KKT residual")

    @_of_params
    def project_on_unpenalised(self, direction: Params, at: Params | None = None) -> Params:
        """Return the orthogonal projection of a direction onto the directions that cost nothing.

        Args:
            direction: Pytree of weights.
            at: A point. If given, directions that cost nothing near this point count too, such as that of a
                coordinate w > 0 under the constraint w ≥ 0.
        """
        leaves, put = weights_of(direction)
        return put([jnp.zeros_like(leaf) for leaf in leaves])

    def dual_plus_l1_contains(self, slope: Array, dual: Array) -> Array:
        """Return whether one leaf of a dual lies in the dual domain of this penalty + slope·‖w‖₁.

        Only penalties with `keeps_order` implement this method. For other penalties a soft threshold of the
        dual decides this; for total variation it does not.
        """
        raise TypeError(f"{type(self).__name__} does not keep the order of neighbours")

    def blocks(self, params: Params) -> Blocks | None:
        """Return the blocks of coordinates that the prox couples, for Newton's method.

        The Jacobian of the prox must be block diagonal and, on the nonzero coordinates, invertible. Return
        None if it is not, and for a separable penalty, whose Jacobian is diagonal.
        """
        return None

    def acts_on_weights(self, params: Params) -> list[bool]:
        """Return, per weight leaf, whether the penalty may act on it."""
        pairs = zip(self.acts_on_leaves(params), jax.tree.leaves(params), strict=True)
        return [selected for selected, leaf in pairs if is_weight(leaf)]

    def acts_on_leaves(self, params: Params) -> list[bool]:
        """Return, per leaf, weight or not, whether the penalty may act on it: False if a mask drops it."""
        return [True] * len(jax.tree.leaves(params))

    def per_leaf(self, params: Params) -> "Sequence[Penalty] | None":
        """Return one `SeparablePenalty` per weight leaf, with numbers that broadcast against it.

        None where the penalty is not separable.
        """
        return None

    def take(self, index: Int[Array, " k"]) -> Self:
        """Return the penalty restricted to some of the coordinates (rows) of a single array of params."""
        return self._map_per_coordinate(lambda x: x[index] if x.ndim else x)

    def for_scaled_params(self, scale: Float[Array, " p"]) -> Self:
        """Return the penalty of params·scale: bounds and reference points are multiplied by `scale`."""
        return self

    def terms(self) -> "tuple[Penalty, ...]":
        """Return the terms of a sum; any other penalty is its own only term."""
        return (self,)

    if TYPE_CHECKING:  # `combine` defines the operators beside `Sum` and `Scaled`, which import this module

        def __add__(self, other: "Penalty") -> "Penalty": ...
        def __radd__(self, other: object) -> "Penalty": ...
        def __mul__(self, factor: ArrayLike) -> "Penalty": ...
        def __rmul__(self, factor: ArrayLike) -> "Penalty": ...
        def __truediv__(self, divisor: ArrayLike) -> "Penalty": ...

    #: NumPy leaves `array * penalty` to the penalty, which refuses arrays.
    __array_ufunc__ = None

    def _display_name(self) -> str:
        """Return the name for error messages; multiples and masks return the name of their penalty."""
        return type(self).__name__

    def _scalar_step(self, step: StepSize) -> Array:
        """Return the step if it is one number; raise TypeError for one step per coordinate."""
        leaves = jax.tree.leaves(step)
        if len(leaves) != 1 or jnp.ndim(leaves[0]):
            raise TypeError(
                f"the prox of {type(self).__name__} takes one step for all coordinates, got one for each:"
                " take a solver or optimiser without a diagonal metric, or a separable or group penalty"
            )
        return jnp.asarray(leaves[0])

    def _map_per_coordinate(self, change: Callable[[Array], Array]) -> Self:
        """Return a copy with `change` applied to every field of `per_coordinate()` that is set."""
        names = [
            f.name
            for f in dataclasses.fields(self)
            if f.metadata.get("per_coordinate") and getattr(self, f.name) is not None
        ]
        if not names:
            return self
        where = lambda p: [getattr(p, name) for name in names]  # noqa: E731
        return eqx.tree_at(where, self, [change(x) for x in where(self)])
