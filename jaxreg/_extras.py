"""Import of optional packages: a missing one is an error that names the extra of jaxreg that installs it."""

import importlib
from types import ModuleType

__all__ = ["import_extra"]


def import_extra(module: str, extra: str = "cli", user: str = "this") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Name of the module, such as "zarr.codecs".
        extra: The extra of jaxreg that installs its package.
        user: Subject of the error's sentence: the function or module that needs the package.

    Raises:
        ImportError: The package is not installed; the message has the pip line.

    >>> import_extra("nowhere.at_all", "sweeps", "jaxreg.sweep")
    Traceback (most recent call last):
    ImportError: jaxreg.sweep needs nowhere: pip install 'jaxreg[sweeps]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{user} needs {package}: pip install 'jaxreg[{extra}]'", name=package) from error
