"""The plan of the house, read from the sources.

Each rule is a function from sources to a list of faults, each fault a line that says what to do. A rule meets
the package, where it must find nothing, and made-up sources that break it, where it must find something.
"""

import ast
import importlib
import json
import pathlib
import re
import subprocess
import sys
import types

import pytest

import jaxreg as jr

ROOT = pathlib.Path(__file__).parent.parent

FOUNDATION = ("penalties",)  # the folders of the foundation; modules directly in jaxreg/ belong to it too
WINGS = ("linear", "training", "sweeps")
LINEAR = (
    "design",
    "problem",
    "certificate",
    "solvers",
    "solve",
    "grid",
    "buffer",
    "working_set",
    "path",
    "selection",
)
HEAVY = ("xarray", "zarr", "rich", "typer", "matplotlib", "pandas", "sklearn", "lineax", "pyarrow")
MODULE_LINES = 400
FUNCTION_LINES = 60

# Modules whose tests stand in a file of another name, because one file covers several modules.
TOGETHER = {
    "jaxreg.penalties.adaptive": "tests/penalties/test_moved.py",
    "jaxreg.penalties.base": "tests/penalties/test_laws.py",
    "jaxreg.penalties.combine": "tests/penalties/test_combine.py",
    "jaxreg.penalties.family": "tests/penalties/test_numbers.py",
    "jaxreg.penalties.fused": "tests/penalties/test_laws.py",
    "jaxreg.penalties.group": "tests/penalties/test_laws.py",
    "jaxreg.penalties.masks": "tests/penalties/test_masked.py",
    "jaxreg.penalties.nonconvex": "tests/penalties/test_laws.py",
    "jaxreg.penalties.norms": "tests/penalties/test_laws.py",
    "jaxreg.penalties.separable": "tests/penalties/test_laws.py",
    "jaxreg.penalties.sets": "tests/penalties/test_laws.py",
    "jaxreg.cost": "tests/penalties/test_models.py",
    "jaxreg.linear.buffer": "tests/linear/test_working_set.py",
    "jaxreg.linear.certificate": "tests/linear/test_solve.py",
    "jaxreg.linear.design": "tests/linear/test_solve.py",
    "jaxreg.linear.problem": "tests/linear/test_solve.py",
    "jaxreg.linear.grid": "tests/linear/test_path.py",
    "jaxreg.linear.solvers.base": "tests/linear/test_solvers.py",
    "jaxreg.linear.solvers.newton": "tests/linear/test_newton.py",
    "jaxreg.linear.solvers.proximal_gradient": "tests/linear/test_solvers.py",
    "jaxreg.metrics": "tests/linear/test_path.py",
    "jaxreg.training.transforms.links": "tests/training/test_transforms.py",
    "jaxreg.training.transforms.optimizers": "tests/training/test_optimizers.py",
}


def read(folder: str) -> dict[str, str]:
    """The sources below a folder of the repository, by dotted name; a package stands under its own name."""
    found = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return found


PACKAGE = read("jaxreg")
EXPERIMENTS = read("experiments")


def assert_no_faults(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)


# ---------------------------------------------------------------- who imports whom


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
    """Inside linear/ a module imports only those before it in `LINEAR`; the solvers see each other."""
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
        ("jaxreg.linear.design", "from jaxreg.linear.problem import Problem"),
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


# ---------------------------------------------------------------- sizes


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def size_faults(sources: dict[str, str]) -> list[str]:
    faults = []
    for name, text in sources.items():
        if (lines := len(text.splitlines())) > MODULE_LINES:
            faults.append(f"{name} has {lines} lines, above {MODULE_LINES}: split it by what it is about")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1 - docstring_lines(node)
                if lines > FUNCTION_LINES:
                    what = f"{name}:{node.lineno} {node.name} has {lines} lines, above {FUNCTION_LINES}"
                    faults.append(f"{what}: give a part of it a name of its own")
    return faults


def test_sizes():
    assert_no_faults(size_faults(PACKAGE | EXPERIMENTS))


def test_what_is_too_long_is_seen():
    body = "    x = 1\n" * FUNCTION_LINES
    assert len(size_faults({"m": "x = 1\n" * (MODULE_LINES + 1)})) == 1
    assert len(size_faults({"m": "def f():\n" + body})) == 1
    assert len(size_faults({"m": "class C:\n  async def f():\n" + body})) == 1
    assert_no_faults(size_faults({"m": "x = 1\n" * MODULE_LINES}))
    assert_no_faults(
        size_faults({"m": 'def f():\n    """One.\n\n    Two.\n    """\n' + body[: -len("    x = 1\n")]})
    )


# ---------------------------------------------------------------- docstrings, annotations, names


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(names & {"property", "cached_property", "setter", "deleter"})


def bare(node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool) -> list[str]:
    """The parameters without an annotation, and "return" where that has none."""
    a = node.args
    given = [*a.posonlyargs, *a.args]
    if method and "staticmethod" not in [ast.unparse(d) for d in node.decorator_list]:
        given = given[1:]
    given += [*a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
    return [x.arg for x in given if x.annotation is None] + ["return"] * (node.returns is None)


def documentation_faults(sources: dict[str, str]) -> list[str]:
    """What is public, and says too little. Dunder methods and properties are exempt."""
    faults = []

    def visit(node: ast.Module | ast.ClassDef, name: str) -> None:
        if ast.get_docstring(node) is None:
            faults.append(f"{name} has no docstring: say what it is for")
        for child in node.body:
            if getattr(child, "name", "_").startswith("_"):
                continue
            full = f"{name}.{child.name}"
            if isinstance(child, ast.ClassDef):
                visit(child, full)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not is_property(child):
                if ast.get_docstring(child) is None:
                    faults.append(f"{full} has no docstring: say what it returns")
                if missing := bare(child, isinstance(node, ast.ClassDef)):
                    faults.append(f"{full} has no type for {', '.join(missing)}: annotate")

    for name, text in sources.items():
        if not any(part.startswith("_") for part in name.split(".")):
            visit(ast.parse(text), name)
    return faults


def place(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """Where a name stands in `__all__`: constants, classes, the rest; numbers by size. It is ruff's order."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
    return kind, [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", name) if p]


def all_faults(name: str, text: str, module: types.ModuleType) -> list[str]:
    if not hasattr(module, "__all__"):
        return []
    written = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
    ]
    try:
        names = [name for value in written for name in ast.literal_eval(value)]
    except ValueError:
        names = []
    if names != list(module.__all__):
        return [f"{name}.__all__ is computed: write it as one list of strings"]
    faults = [
        f"{name}.__all__ names {n}, which is not there: remove it" for n in names if not hasattr(module, n)
    ]
    if names != sorted(set(names), key=place):
        faults.append(f"{name}.__all__ is unsorted or says a name twice: run `ruff check --fix`")
    return faults


def test_what_is_public_is_documented():
    assert_no_faults(documentation_faults(PACKAGE))


@pytest.mark.parametrize("name", [n for n in PACKAGE if not n.rpartition(".")[2].startswith("_")])
def test_all_is_sorted_and_true(name):
    assert_no_faults(all_faults(name, PACKAGE[name], importlib.import_module(name)))


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        '"""Doc."""\nclass C:\n    x = 1',
        '"""Doc."""\ndef f() -> None:\n    pass',
        '"""Doc."""\ndef f(x) -> int:\n    """Doc."""',
        '"""Doc."""\ndef f(x: int):\n    """Doc."""',
        '"""Doc."""\ndef f(*, x: int, **rest) -> int:\n    """Doc."""',
        '"""Doc."""\nclass C:\n    """Doc."""\n    def f(self) -> None:\n        pass',
        '"""Doc."""\nclass C:\n    """Doc."""\n    @staticmethod\n    def f(x) -> None:\n        """Doc."""',
    ],
)
def test_what_says_too_little_is_seen(text):
    assert len(documentation_faults({"jaxreg.made_up": text})) == 1
    assert_no_faults(documentation_faults({"jaxreg._made_up": text}))


def test_what_is_exempt_from_documentation():
    members = "    def __init__(self, x):\n        pass\n    @property\n    def y(self):\n        return 1\n"
    private = "    def _z(self):\n        pass\ndef _f():\n    pass\n"
    assert_no_faults(
        documentation_faults({"jaxreg.made_up": '"""Doc."""\nclass C:\n    """Doc."""\n' + members + private})
    )


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("L1 = L2 = Box = sweep = 1\n__all__ = ['L1', 'L2', 'Box', 'sweep']", True),
        ("x = 1", True),
        ("Box = L1 = 1\n__all__ = ['Box', 'L1']", False),
        ("b = a = 1\n__all__ = ['b', 'a']", False),
        ("a = 1\n__all__ = ['a', 'a']", False),
        ("a = 1\n__all__ = ['a', 'b']", False),
        ("a = 1\n__all__ = [n for n in 'a']", False),
        ("a = 1\n__all__ = ['a']\n__all__ += ['a']", False),
    ],
)
def test_an_untrue_all_is_seen(text, fine):
    module = types.ModuleType("made_up")
    exec(text, vars(module))
    assert bool(all_faults("made_up", text, module)) != fine


# ---------------------------------------------------------------- the public surface


def reachable(path: list[str]) -> bool:
    """Whether `jr.a.b.c` goes over public names only, as far as it goes over modules."""
    at: object = jr
    for part in path:
        if part.startswith("_"):
            return False
        if not isinstance(at, types.ModuleType):
            continue
        # A submodule is an attribute of its package once anything has imported it; that makes no name public.
        if at is jr and part not in jr.__all__:
            try:
                at = jr.__getattr__(part)
            except AttributeError:
                return False
        elif hasattr(at, part):
            at = getattr(at, part)
        else:
            return False
    return True


def dotted(node: ast.AST) -> list[str]:
    """["jr", "a", "b"] for `jr.a.b`; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (start := dotted(node.value)):
        return [*start, node.attr]
    return []


def surface_faults(sources: dict[str, str]) -> list[str]:
    faults = []
    for name, text in sources.items():
        tree = ast.parse(text)
        # The names this module gives to jaxreg and to what it holds, with the path of each from jr.
        bound: dict[str, list[str]] = {}
        paths: list[tuple[int, list[str]]] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top, *rest = alias.name.split(".")
                    if top == "jaxreg":
                        bound[alias.asname or top] = rest if alias.asname else []
                        paths.append((node.lineno, rest))
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxreg":
                for alias in node.names:
                    path = [*node.module.split(".")[1:], alias.name]
                    bound[alias.asname or alias.name] = path
                    paths.append((node.lineno, path))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (path := dotted(node)) and path[0] in bound:
                paths.append((node.lineno, [*bound[path[0]], *path[1:]]))
        for line, path in sorted(paths, key=lambda p: p[0]):
            if not reachable(path):
                what = f"{name}:{line} uses jaxreg.{'.'.join(path)}, which is not public"
                faults.append(f"{what}: take a name from `jr.__all__`, or make this one public")
    return faults


def test_experiments_use_public_names():
    assert_no_faults(surface_faults(EXPERIMENTS))


@pytest.mark.parametrize(
    "text",
    [
        "from jaxreg import _tree",
        "from jaxreg._tree import tree_sum",
        "from jaxreg.front.data import load",
        "from jaxreg import front",
        "import jaxreg.front.data",
        "from jaxreg.penalties import unheard_of",
        "import jaxreg as jr\njr._tree",
        "import jaxreg as jr\njr.losses._hidden",
        "import jaxreg as jr\njr.unheard_of(1)",
        "def main(config):\n    import jaxreg as jr\n    jr.front",
        "from jaxreg import L1\nL1._hidden",
    ],
)
def test_a_private_name_is_seen(text):
    assert surface_faults({"experiments.made_up": text})


def test_public_names_are_left_alone():
    text = "import numpy._core\nimport jaxreg as jr\nfrom jaxreg import L1, losses\n"
    uses = "from jaxreg.losses import Logistic\njr.solve\njr.losses.Logistic\nL1.value\nlosses.Huber"
    assert_no_faults(surface_faults({"experiments.made_up": text + uses}))


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


# ---------------------------------------------------------------- tests mirror the package


def mirror_faults(modules: set[str], tests: set[str], together: dict[str, str]) -> list[str]:
    faults = [f"`TOGETHER` names {m}, which is not there: remove it" for m in sorted(set(together) - modules)]
    packages = {name.rpartition(".")[0] for name in modules}
    for name in sorted(modules - packages):
        *folders, last = name.split(".")[1:]
        if any(part.startswith("_") for part in (*folders, last)):
            continue
        wanted = together.get(name, "/".join(["tests", *folders, f"test_{last}.py"]))
        if wanted not in tests:
            faults.append(
                f"{name} has no tests: write {wanted}, or name the file that has them in `TOGETHER`"
            )
    return faults


def test_tests_mirror_the_package():
    tests = {file.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("test_*.py")}
    assert_no_faults(mirror_faults(set(PACKAGE), tests, TOGETHER))


def test_a_module_without_tests_is_seen():
    modules = {"jaxreg", "jaxreg.linear", "jaxreg.linear.path", "jaxreg._tree", "jaxreg.losses"}
    tests = {"tests/linear/test_path.py", "tests/test_losses.py"}
    assert_no_faults(mirror_faults(modules, tests, {}))
    assert len(mirror_faults(modules, {"tests/test_losses.py"}, {})) == 1
    assert_no_faults(
        mirror_faults(modules, {"tests/test_losses.py"}, {"jaxreg.linear.path": "tests/test_losses.py"})
    )
    assert len(mirror_faults(modules, tests, {"jaxreg.gone": "tests/test_losses.py"})) == 1
    assert len(mirror_faults(modules, tests, {"jaxreg.losses": "tests/test_gone.py"})) == 1
