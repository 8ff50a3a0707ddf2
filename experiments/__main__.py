"""Run an experiment: `python -m experiments --list`, then `python -m experiments NAME --out DIR`.

An experiment is a module of this folder with a dataclass `Config`, whose fields become options, and a
function `main(config, out)` that writes its figures and numbers to the folder `out`.
"""

import argparse
import dataclasses
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import experiments


def names() -> list[str]:
    """The experiments there are."""
    found = [module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg]
    return sorted(name for name in found if not name.startswith("_"))


def configured(module: ModuleType, given: list[str]) -> tuple[object, Path]:
    """The settings of an experiment from command-line options, and the folder for what it writes."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.__name__.replace('.', ' ')}", description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("results") / module.__name__.split(".")[-1])
    for field in dataclasses.fields(module.Config):
        option = "--" + field.name.replace("_", "-")
        help_text = f"{field.metadata['help']} (default: {field.default or 'none'})"
        parser.add_argument(option, type=type(field.default), default=field.default, help=help_text)
    options = vars(parser.parse_args(given))
    out = options.pop("out")
    return module.Config(**options), out


def main(given: list[str]) -> int:
    """What the command line asks for; the exit code."""
    if given[:1] == ["--list"]:
        for name in names():
            module = importlib.import_module(f"experiments.{name}")
            print(f"{name:20} {module.__doc__.splitlines()[0]}")
        return 0
    if not given or given[0] not in names():
        print(
            f"usage: python -m experiments NAME [--out DIR], with NAME one of: {', '.join(names())}",
            file=sys.stderr,
        )
        return 2
    module = importlib.import_module(f"experiments.{given[0]}")
    config, out = configured(module, given[1:])
    try:
        module.main(config, out)
    except (ValueError, OSError) as error:
        print(f"{given[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
