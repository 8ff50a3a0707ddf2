"""Which module may import which: foundation, wings, front; and what `import jaxreg` may load."""

import ast
import json
import subprocess
import sys

import pytest

from tests.architecture.sources import PACKAGE, ROOT, assert_no_faults

FOUNDATION = ("penalties",)  # the folders of the foundation; modules directly in jaxreg/ belong to it too
WINGS = ("linear", "training", "sweeps")
LINEAR = (
    "design",
    "problem",
    "certificate",
    "solvers",
    "solve",
    "grid",
    "block",
    "buffer",
    "working_set",
    "path",
    "selection",
)
HEAVY = ("xarray", "zarr", "rich", "typer", "matplotlib", "pandas", "sklearn", "lineax", "pyarrow")


def imports(name: str, text: str, known: set[str]) -> list[tuple[int, str, bool]]:
    """Line, target and laziness (inside a function) of our imports, `import_module("...")` among them."""
    found = []
    package = name if any(k.startswith(name + ".") for k in known) else name.rpartition(".")[0]

    def visit(node: ast.AST, lazy: bool) -> None:
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            full = [f"{base}.{alias.name}" for alias in node.names]
            targets = [target if target in known else base for target in full]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                targets = [str(node.args[0].value)]
        found.extend((node.lineno, t, lazy) for t in targets if t.split(".")[0] == "jaxreg")
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(text), False)
    return found


def layer(name: str) -> str:
    """Where a module lives: package, foundation, front, or the name of its wing."""
    folder = name.split(".")[1] if "." in name else "package"
    return folder if folder in ("package", "front", *WINGS) else "foundation"


def import_fault(name: str, target: str, lazy: bool) -> str | None:
    """What is wrong with this import, and what to do about it."""
    here, there = layer(name), layer(target)
    if here == "front" or (here == "package" and (there != "front" or lazy)):
        return None
    if here == "package":
        return "loads the front at import: move the import into `__getattr__`"
    if there == "package":
        return "imports through the package: import the module that defines the name"
    if there == "front":
        return "imports the front, which nobody does: move what it needs down, or this code up to front/"
    if here == "foundation" and there != "foundation":
        return "is foundation and imports a wing: move what it needs into the foundation"
    if there not in ("foundation", here):
        return "imports another wing: move what both need into the foundation"
    if here == there == "linear" and name != "jaxreg.linear":
        return order_fault(name, target)
    return None


def order_fault(name: str, target: str) -> str | None:
    """Inside linear/ a module imports only those before it in `LINEAR`; one folder is one place."""
    if target == "jaxreg.linear":
        return "imports through linear/__init__: import the module that defines the name"
    here, there = name.split(".")[2], target.split(".")[2]
    for part in (here, there):
        if part not in LINEAR:
            return f"{part} has no place in linear/: add it to `LINEAR` in this test and to the plan"
    if LINEAR.index(there) > LINEAR.index(here):
        return f"comes before {there} in linear/: move what both need into the earlier module"
    return None


def import_faults(sources: dict[str, str]) -> list[str]:
    known = set(PACKAGE) | set(sources)
    faults = []
    for name, text in sources.items():
        for line, target, lazy in imports(name, text, known):
            if fault := import_fault(name, target, lazy):
                faults.append(f"{name}:{line} imports {target}: it {fault}")
    return faults


def folder_faults(sources: dict[str, str]) -> list[str]:
    folders = {name.split(".")[1] for name in sources if name.count(".") > 1}
    return [
        f"jaxreg/{folder}/ is in no part of the house: name it in `FOUNDATION` or `WINGS` of this test"
        for folder in sorted(folders - {*FOUNDATION, *WINGS, "front"})
    ]


def test_imports_go_down():
    assert_no_faults(import_faults(PACKAGE))


def test_every_folder_has_a_place():
    assert_no_faults(folder_faults(PACKAGE))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jaxreg.losses", "from jaxreg.linear.problem import Problem"),
        ("jaxreg.losses", "import jaxreg.front.data"),
        ("jaxreg.losses", "import jaxreg as jr"),
        ("jaxreg.penalties.base", "from ..linear import problem"),
        ("jaxreg.penalties.base", "def f():\n    from jaxreg.sweeps.sweep import sweep"),
        ("jaxreg.metrics", "from jaxreg import Problem"),
        ("jaxreg.linear.path", "from jaxreg.training.train import train"),
        ("jaxreg.linear.path", "def f():\n    importlib.import_module('jaxreg.front.plots')"),
        ("jaxreg.sweeps.sweep", "from jaxreg.linear.solve import solve"),
        ("jaxreg.training.train", "from jaxreg.front import data"),
        ("jaxreg", "from jaxreg.front import plots"),
        ("jaxreg.linear.design.base", "from jaxreg.linear.problem import Problem"),
        ("jaxreg.linear.solve", "from .path import Path"),
        ("jaxreg.linear.solvers.base", "from jaxreg.linear.solve import solve"),
        ("jaxreg.linear.path", "from jaxreg.linear import something"),
        ("jaxreg.linear.unheard_of", "from jaxreg.linear.problem import Problem"),
    ],
)
def test_an_import_that_goes_up_is_seen(name, text):
    assert len(import_faults({name: text})) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jaxreg", "def __getattr__(name):\n    from jaxreg.front import plots"),
        ("jaxreg", "from jaxreg.linear.solve import solve"),
        ("jaxreg.front.cli", "import jaxreg as jr\nfrom jaxreg.front import data"),
        ("jaxreg.penalties.base", "from jaxreg import thresholds\nfrom . import combine\nimport numpy"),
        ("jaxreg.linear.path", "from jaxreg import metrics\nfrom .solvers import base"),
        ("jaxreg.linear.solvers.base", "from .proximal_gradient import ProximalGradient"),
    ],
)
def test_an_import_that_goes_down_is_left_alone(name, text):
    assert_no_faults(import_faults({name: text}))


def test_a_folder_without_a_place_is_seen():
    assert folder_faults({"jaxreg.utils.misc": ""})


# ---------------------------------------------------------------- what an import loads


def pulled_in(statement: str) -> list[str]:
    """The heavy packages that are loaded after this statement in a fresh interpreter."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_is_light():
    heavy = pulled_in("import jaxreg")
    assert not heavy, (
        f"`import jaxreg` loads {', '.join(heavy)}: import them inside the function that uses them"
    )


def test_a_heavy_import_is_seen():
    assert pulled_in("import rich") == ["rich"]
