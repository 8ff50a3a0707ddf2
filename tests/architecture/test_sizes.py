"""Limits on the length of modules and functions, in the package, the experiments and the tests."""

import ast

from tests.architecture.sources import EXPERIMENTS, PACKAGE, TESTS, assert_no_faults

# Lines of a module.
MODULE_LINES = 400
# Lines of a function, without its docstring.
FUNCTION_LINES = 60


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of the docstring of a function."""
    if ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def size_faults(sources: dict[str, str]) -> list[str]:
    faults = []
    for name, text in sources.items():
        if (lines := len(text.splitlines())) > MODULE_LINES:
            faults.append(f"{name} has {lines} lines, above {MODULE_LINES}: split it by subject")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1 - docstring_lines(node)
                if lines > FUNCTION_LINES:
                    size = f"{name}:{node.lineno} {node.name} has {lines} lines, above {FUNCTION_LINES}"
                    faults.append(f"{size}: extract a function")
    return faults


def test_sizes():
    assert_no_faults(size_faults(PACKAGE | EXPERIMENTS | TESTS))


def test_code_that_is_too_long_is_detected():
    body = "    x = 1\n" * FUNCTION_LINES
    assert len(size_faults({"m": "x = 1\n" * (MODULE_LINES + 1)})) == 1
    assert len(size_faults({"m": "def f():\n" + body})) == 1
    assert len(size_faults({"m": "class C:\n  async def f():\n" + body})) == 1
    assert_no_faults(size_faults({"m": "x = 1\n" * MODULE_LINES}))
    assert_no_faults(
        size_faults({"m": 'def f():\n    """One.\n\n    Two.\n    """\n' + body[: -len("    x = 1\n")]})
    )
