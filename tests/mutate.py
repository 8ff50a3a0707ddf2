"""Mutation testing: plant one-line faults in the package and count those that the tests detect.

    python -m tests.mutate list             print the mutations of a seed
    python -m tests.mutate run --jobs 2     plant each in a copy of the tree and run the tests of its subject

A mutation changes one operator, number or function name on one line. A mutation is *killed* if a test fails
or hangs, *survives* if all tests pass, and is *undecided* if the tests exceed the time limit. To compare two
versions of the suite, run both with one seed; ``--tree`` names the checkout whose tests are run.
"""

import argparse
import ast
import concurrent.futures
import itertools
import json
import os
import pathlib
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
# Seconds after which a single test counts as hanging.
HANG = 200


class Subject(NamedTuple):
    """Part of the package: number of mutations, patterns of source files, and patterns of tests.

    The most specific tests come first.
    """

    count: int
    sources: tuple[str, ...]
    tests: tuple[str, ...]


# Tests of linear models other than those of selection.
LINEAR = ("tests/linear/test_*.py", "tests/linear/solvers", "tests/linear/path")
SUBJECTS = {
    "penalties": Subject(
        11,
        ("penalties/*.py", "prox/*.py", "_numerics.py"),
        ("tests/prox", "tests/test_numerics.py", "tests/penalties", "jaxreg/penalties"),
    ),
    "losses": Subject(5, ("losses/*.py",), ("tests/test_losses.py", "jaxreg/losses", *LINEAR)),
    "data": Subject(
        5,
        ("linear/design/*.py", "linear/conversion.py", "linear/standardization.py", "linear/size_classes.py"),
        (
            "tests/linear/test_conversion.py",
            "tests/linear/test_standardization.py",
            "tests/linear/test_design.py",
            "tests/linear/test_size_classes.py",
            "tests/linear/path",
        ),
    ),
    "certificate": Subject(
        6,
        ("linear/certificate.py", "linear/null_fit.py"),
        (*LINEAR, "tests/penalties/test_certified.py"),
    ),
    "solvers": Subject(8, ("linear/solvers/*.py",), (*LINEAR, "tests/penalties/test_certified.py")),
    "path": Subject(
        8,
        ("linear/path/*.py",),
        ("tests/linear/path", *LINEAR, "tests/penalties/test_certified.py", "jaxreg/linear/path"),
    ),
    "selection": Subject(
        8,
        ("linear/selection/*.py",),
        ("tests/linear/selection", "jaxreg/linear/selection", "tests/estimators"),
    ),
    "models": Subject(
        4, ("models/*.py",), ("tests/models", "jaxreg/models", "tests/cli", "tests/estimators")
    ),
    "estimators": Subject(4, ("estimators/*.py",), ("tests/estimators", "jaxreg/estimators")),
    "transforms": Subject(5, ("training/**/*.py",), ("tests/training", "jaxreg/training")),
    "sweep": Subject(3, ("sweeps/sweep.py", "sweeps/_*.py"), ("tests/sweeps", "jaxreg/sweeps")),
    "store": Subject(2, ("sweeps/store.py",), ("tests/sweeps", "jaxreg/sweeps")),
    "cli": Subject(
        6, ("cli/*.py", "plots/*.py"), ("tests/test_plots.py", "tests/cli", "jaxreg/cli", "jaxreg/plots")
    ),
}


class Mutation(NamedTuple):
    """Replacement of ``old`` by ``new`` at a line (from 1) and column (byte offset) of a source file."""

    subject: str
    path: str
    line: int
    column: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.path}:{self.line}:{self.column} {self.old!r} -> {self.new!r}"


OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
NAMES = {
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "any": "all",
    "all": "any",
    "argmax": "argmin",
    "sum": "mean",
    "abs": "square",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "ones": "zeros",
}


class Source:
    """Text of one module, and the mutations of its syntax tree."""

    def __init__(self, subject: str, path: str, text: str) -> None:
        self.subject, self.path, self.text = subject, path, text
        self.lines = [line.encode() for line in text.splitlines()]

    def mutations(self) -> list[Mutation]:
        """Return all mutations in the order of the lines.

        Docstrings, annotations, messages and module-level constants (they tune speed only) are left out.
        """
        return sorted(self._visit(ast.parse(self.text), inside=False), key=lambda m: (m.line, m.column))

    def _visit(self, node: ast.AST, inside: bool) -> Iterator[Mutation]:
        """Yield the mutations below a node; `inside` is true inside a function."""
        if isinstance(node, ast.JoinedStr | ast.arg | ast.Raise):
            return
        if inside:
            yield from self._at(node)
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            inner = inside or isinstance(node, ast.FunctionDef)
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from self._visit(child, inner)

    def _at(self, node: ast.AST) -> Iterator[Mutation]:
        """Yield the mutations of one node."""
        if isinstance(node, ast.BinOp):
            yield from self._between(node.left, node.right, node.op)
        elif isinstance(node, ast.Compare):
            terms = [node.left, *node.comparators]
            for left, right, operator in zip(terms[:-1], terms[1:], node.ops, strict=True):
                yield from self._between(left, right, operator)
        elif isinstance(node, ast.BoolOp):
            for left, right in itertools.pairwise(node.values):
                yield from self._between(left, right, node.op)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            old = {ast.Not: "not ", ast.USub: "-", ast.Invert: "~"}[type(node.op)]
            yield self._mutation(node.lineno, node.col_offset, old, "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            value = node.value
            new = not value if isinstance(value, bool) else 2 * value if value else 1
            old = self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
            yield self._mutation(node.lineno, node.col_offset, old, repr(new))
        elif isinstance(node, ast.Attribute) and node.attr in NAMES and node.end_lineno == node.lineno:
            yield self._mutation(
                node.lineno, node.end_col_offset - len(node.attr), node.attr, NAMES[node.attr]
            )

    def _between(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> Iterator[Mutation]:
        """Yield the mutation of an operator between two expressions on one line."""
        if type(operator) not in OPERATORS or left.end_lineno != right.lineno:
            return
        old, new = OPERATORS[type(operator)]
        column = self.lines[right.lineno - 1].find(old.encode(), left.end_col_offset, right.col_offset)
        if column >= 0:
            yield self._mutation(right.lineno, column, old, new)

    def _mutation(self, line: int, column: int, old: str, new: str) -> Mutation:
        return Mutation(self.subject, self.path, line, column, old, new)


def draw(seed: int, tree: pathlib.Path) -> list[Mutation]:
    """Draw the mutations of a seed: for each subject its `count`, on distinct lines."""
    drawn = []
    for name, subject in SUBJECTS.items():
        rng = random.Random(f"{seed} {name}")
        files = sorted({file for pattern in subject.sources for file in (tree / "jaxreg").glob(pattern)})
        lines: dict[tuple[str, int], list[Mutation]] = {}
        for file in files:
            path = file.relative_to(tree).as_posix()
            for mutation in Source(name, path, file.read_text(encoding="utf-8")).mutations():
                lines.setdefault((path, mutation.line), []).append(mutation)
        for key in rng.sample(sorted(lines), subject.count):
            drawn.append(rng.choice(lines[key]))
    return drawn


def mutated(text: str, mutation: Mutation) -> str:
    """Return the source with the mutation planted."""
    lines = text.splitlines(keepends=True)
    line = lines[mutation.line - 1].encode()
    end = mutation.column + len(mutation.old.encode())
    assert line[mutation.column : end].decode() == mutation.old, mutation
    lines[mutation.line - 1] = (line[: mutation.column] + mutation.new.encode() + line[end:]).decode()
    return "".join(lines)


def copy_of(tree: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copy the files of a checkout that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, folder / name)
    return folder


def tests_of(subject: str, folder: pathlib.Path) -> list[str]:
    """Return the tests of a subject, each once, in a copy of the tree."""
    found = {}
    for pattern in SUBJECTS[subject].tests:
        paths = [path.relative_to(folder).as_posix() for path in sorted(folder.glob(pattern))]
        if not paths:
            raise FileNotFoundError(f"{subject}: no tests match {pattern}")
        found |= dict.fromkeys(paths)
    return list(found)


def verdict(folder: pathlib.Path, mutation: Mutation, limit: float, cache: pathlib.Path) -> dict[str, object]:
    """Plant a mutation, run the tests of its subject to the first failure, and undo the mutation."""
    file = folder / mutation.path
    text = file.read_text(encoding="utf-8")
    tests = tests_of(mutation.subject, folder)
    hang = ["-o", f"faulthandler_timeout={HANG}", "-o", "faulthandler_exit_on_timeout=true"]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", *hang]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    start = time.monotonic()
    file.write_text(mutated(text, mutation), encoding="utf-8")
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        status = "survived" if done.returncode == 0 else "killed"
        by = failed[0][:160] if failed else done.stdout[-160:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        status, by = "undecided", f"time limit of {limit:g} s"
    finally:
        file.write_text(text, encoding="utf-8")
    seconds = round(time.monotonic() - start, 1)
    return mutation._asdict() | {"status": status, "by": by, "seconds": seconds}


def run(mutations: list[Mutation], tree: pathlib.Path, jobs: int, limit: float, out: pathlib.Path) -> int:
    """Test every mutation, append one JSON line for each to a file, and return the number killed."""
    killed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folders: queue.Queue[pathlib.Path] = queue.Queue()
        for k in range(jobs):
            folders.put(copy_of(tree, pathlib.Path(temporary) / str(k)))

        def run_tests(mutation: Mutation) -> dict[str, object]:
            folder = folders.get()
            try:
                return verdict(folder, mutation, limit, tree / ".jax_cache")
            finally:
                folders.put(folder)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool, out.open("a", encoding="utf-8") as log:
            for result in pool.map(run_tests, mutations):
                killed += result["status"] == "killed"
                log.write(json.dumps(result) + "\n")
                log.flush()
    return killed


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["list", "run"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tree", type=pathlib.Path, default=ROOT, help="checkout whose tests are run")
    parser.add_argument("--jobs", type=int, default=1, help="mutations tested at a time")
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds for the tests of one mutation")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the mutations, as listed")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("mutations.jsonl"))
    options = parser.parse_args()
    tree = options.tree.resolve()
    mutations = draw(options.seed, tree)
    chosen = [m for k, m in enumerate(mutations) if options.only is None or k in options.only]
    if options.action == "list":
        for k, mutation in enumerate(mutations):
            print(k, mutation)
        return
    print(f"{run(chosen, tree, options.jobs, options.limit, options.out)} of {len(chosen)} killed")


if __name__ == "__main__":
    main()
