"""The README's Python blocks are true in a script of their own, under the default settings of JAX."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
RUN = """
import doctest
flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
failed, tried = doctest.testfile("README.md", module_relative=False, optionflags=flags)
print(tried, "examples")
raise SystemExit(failed or not tried)
"""


def test_the_blocks_are_true_in_a_fresh_interpreter():
    kept = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(done.stdout.split()[-2]) > 30
