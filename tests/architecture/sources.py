"""What the rules of the house read: our sources, and how faults are told.

Each rule is a function from sources to a list of faults, each fault a line that says what to do. A rule meets
the package, where it must find nothing, and made-up sources that break it, where it must find something.
"""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def read(folder: str) -> dict[str, str]:
    """The sources below a folder of the repository, by dotted name; a package stands under its own name."""
    found = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return found


PACKAGE = read("jaxreg")
EXPERIMENTS = read("experiments")
TESTS = read("tests")


def assert_no_faults(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)
