"""The base class of modules: methods that may be passed to `jax.jit`, and a short `help` of public classes.

A bound method of an Equinox module is a pytree that compares and hashes by its arrays, which cannot be
hashed: `jax.jit(penalty.prox)` would fail on its first call. The methods of `Module` are hashed and compared
by the identity of their module, as the bound methods of ordinary objects are; they stay pytrees.

`jax.jit(penalty.prox)` compiles the arrays of the module into the program as constants, so that every new
module compiles anew. `equinox.filter_jit(penalty.prox)` traces them, and so does `jax.jit` of a function that
takes the module as an argument.

`help` lists what `dir` returns, for an Equinox module some 30 names of dataclasses and metaclasses. As for
`enum.Enum`, `dir` of a class of modules returns public names alone, without those that serve authors of
subclasses and solvers: `help(jaxreg.L1)` prints 66 lines, not 260. `PublicNames` does the same for other
classes, and `with_public_names` for a NamedTuple.
"""

import dataclasses
from types import MethodType
from typing import Any, ClassVar, TypeVar, dataclass_transform

import equinox as eqx

__all__ = ["Module", "PublicNames", "with_public_names"]

_T = TypeVar("_T")


class _Probe(eqx.Module):
    def method(self) -> None: ...


#: Equinox's class of bound methods, which has no public name.
_BoundMethod: Any = type(_Probe().method)


class _Method(_BoundMethod):
    """A bound method that is hashed by the identity of its module."""

    def __hash__(self) -> int:
        return hash((self.__func__, id(self.__self__)))

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Method) and self.__func__ is other.__func__
        return same and self.__self__ is other.__self__


class PublicNames(type):
    """A class of classes whose `dir`, and with it `help`, lists public names alone."""

    #: Public names that `dir` does not list in subclasses that inherit them.
    _for_authors: frozenset[str] = frozenset()
    #: Public names that `dir` does not list at all.
    _unlisted: frozenset[str] = frozenset()

    def __dir__(cls) -> list[str]:
        """List the public names that serve users."""
        hidden = (cls._for_authors - vars(cls).keys()) | cls._unlisted
        return [name for name in super().__dir__() if not name.startswith("_") and name not in hidden]


def with_public_names(cls: type[_T]) -> type[_T]:
    """Return a NamedTuple class whose `dir`, and with it `help`, lists public names alone.

    `typing.NamedTuple` takes no metaclass, so the class is made anew from its attributes.
    """
    return PublicNames(cls.__name__, cls.__bases__, dict(vars(cls)))


@dataclass_transform(field_specifiers=(dataclasses.field, eqx.field))
class _ModuleType(PublicNames, type(eqx.Module)):
    """The class of modules."""


class Module(eqx.Module, metaclass=_ModuleType):
    """An `equinox.Module` whose bound methods are hashable."""

    _for_authors: ClassVar[frozenset[str]] = frozenset()
    _unlisted: ClassVar[frozenset[str]] = frozenset()

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if type(value) is MethodType and value.__self__ is self and not name.startswith("__"):
            return _Method(value.__func__, self)
        return value
