"""Sources that the architecture tests read, and the report of their faults.

Each rule is a function from sources to a list of faults; a fault is one line that says what to do. Each rule
is tested twice: it finds nothing in the package, and finds the fault in made-up sources that break the rule.
"""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def read(folder: str) -> dict[str, str]:
    """Return the sources below a folder by dotted module name; a package has the name of its folder."""
    sources = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return sources


PACKAGE = read("jaxreg")
EXPERIMENTS = read("experiments")
TESTS = read("tests")


def assert_no_faults(faults: list[str]) -> None:
    """Fail with one line per fault."""
    assert not faults, "\n" + "\n".join(faults)
