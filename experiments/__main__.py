"""Run an experiment: `python -m experiments --list`, then `python -m experiments NAME --out DIR`.

An experiment is a module of this folder with a dataclass `Config`, whose fields become options, and a
function `main(config, out)` that writes its figures and numbers to the folder `out`. `all` runs every
experiment with its default settings, each in its own process, and writes an index page.
"""

import argparse
import dataclasses
import html
import importlib
import json
import pkgutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

import experiments

USAGE = "usage: python -m experiments NAME [--out DIR], with NAME one of: all"


def names() -> list[str]:
    """List the experiments by name."""
    modules = [module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg]
    return sorted(name for name in modules if not name.startswith("_"))


def claim(name: str) -> str:
    """Return the claim of an experiment: the first line of its docstring."""
    return importlib.import_module(f"experiments.{name}").__doc__.splitlines()[0]


def parse_options(module: ModuleType, argv: list[str]) -> tuple[object, Path]:
    """Parse the settings of an experiment and its output folder from command-line options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.__name__.replace('.', ' ')}", description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("results") / module.__name__.split(".")[-1])
    for field in dataclasses.fields(module.Config):
        option = "--" + field.name.replace("_", "-")
        default_text = "none" if field.default == "" else field.default
        help_text = f"{field.metadata['help']} (default: {default_text})".replace("%", "%%")
        parser.add_argument(option, type=type(field.default), default=field.default, help=help_text)
    options = vars(parser.parse_args(argv))
    out = options.pop("out")
    return module.Config(**options), out


# ---------------------------------------------------------------- all experiments


def launch(name: str, out: Path) -> int:
    """Run one experiment with its defaults in its own process and return the exit code."""
    return subprocess.run([sys.executable, "-m", "experiments", name, "--out", str(out)]).returncode


def run_all(out: Path) -> int:
    """Run every experiment into its own folder, write the index page, and return 1 if one failed, else 0."""
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for name in names():
        print(f"\n=== {name}: {claim(name)}", flush=True)
        (out / name / "numbers.json").unlink(missing_ok=True)
        begun = time.perf_counter()
        code = launch(name, out / name)
        outcomes.append({"name": name, "code": code, "seconds": time.perf_counter() - begun})
        (out / "index.html").write_text(index_page(out, outcomes), encoding="utf-8")
    failed = [outcome["name"] for outcome in outcomes if outcome["code"]]
    total = sum(outcome["seconds"] for outcome in outcomes)
    summary = f"{len(outcomes) - len(failed)} of {len(outcomes)}"
    print(f"\n{summary} experiments in {total:.0f} s, see {out}/index.html")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def index_page(out: Path, outcomes: list[dict[str, Any]]) -> str:
    """Return the index page: claim, number and figures of each experiment."""
    parts = []
    for outcome in outcomes:
        name, title = outcome["name"], html.escape(claim(outcome["name"]))
        parts.append(
            f"<h2>{title}</h2>\n<p><code>python -m experiments {name}</code>, {outcome['seconds']:.0f} s</p>"
        )
        file = out / name / "numbers.json"
        if outcome["code"] or not file.exists():
            parts.append(f"<p><strong>This experiment failed with exit code {outcome['code']}.</strong></p>")
            continue
        numbers = json.loads(file.read_text(encoding="utf-8"))
        parts.append(f'<p>{html.escape(numbers["number"])} <a href="{name}/numbers.json">All numbers</a></p>')
        parts += [f'<img src="{name}/{figure}" alt="{title}">' for figure in numbers["figures"]]
    style = "body{max-width:1100px;margin:auto;padding:1em;font-family:sans-serif}img{max-width:100%}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>jaxreg: experiments</title>'
        f"<style>{style}</style></head>\n<body>\n<h1>The effects of regularisation, shown and measured</h1>\n"
        + "\n".join(parts) + "\n</body></html>\n"
    )  # fmt: skip


# ---------------------------------------------------------------- the command


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    if argv[:1] == ["--list"]:
        for name in names():
            print(f"{name:20} {claim(name)}")
        return 0
    if argv[:1] == ["all"]:
        parser = argparse.ArgumentParser(prog="python -m experiments all")
        parser.add_argument("--out", type=Path, default=Path("results"))
        return run_all(parser.parse_args(argv[1:]).out)
    if not argv or argv[0] not in names():
        print(f"{USAGE}, {', '.join(names())}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"experiments.{argv[0]}")
    config, out = parse_options(module, argv[1:])
    try:
        module.main(config, out)
    except (ValueError, OSError) as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sys.exit(main(sys.argv[1:]))
