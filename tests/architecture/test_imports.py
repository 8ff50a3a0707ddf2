"""`import jaxreg` loads nothing heavy. import-linter checks the layers of imports (pyproject.toml)."""

import json
import subprocess
import sys

from tests.architecture.sources import ROOT

HEAVY = ("xarray", "zarr", "rich", "typer", "matplotlib", "pandas", "sklearn", "lineax", "pyarrow")


def loaded_by(statement: str) -> list[str]:
    """Return the heavy packages that a statement loads in a fresh interpreter."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_is_light():
    heavy = loaded_by("import jaxreg")
    assert not heavy, f"`import jaxreg` loads {', '.join(heavy)}: import them in the functions that use them"


def test_a_heavy_import_is_detected():
    assert loaded_by("import rich") == ["rich"]
