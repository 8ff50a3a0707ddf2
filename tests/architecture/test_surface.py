"""Which names experiments may use: the public ones."""

import ast
import types

import pytest

import jaxreg as jr
from tests.architecture.sources import EXPERIMENTS, assert_no_faults


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
