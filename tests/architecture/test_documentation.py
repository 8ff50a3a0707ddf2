"""What is public says what it is for: docstrings, annotations, `__all__`."""

import ast
import importlib
import re
import types

import pytest

from tests.architecture.sources import PACKAGE, assert_no_faults


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
