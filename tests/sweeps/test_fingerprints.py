"""The fingerprint of a function: every constant is in it, and every process finds the same."""

import numpy as np
import pytest

from jaxreg.sweeps._program import Program
from tests.sweeps.stores import NEAR, child, prints, with_constant


@pytest.mark.parametrize("depth", list(with_constant(NEAR)))
def test_every_constant_is_in_the_fingerprint(depth):
    """Down to its last bit."""

    def fingerprint(c):
        found = Program(with_constant(c)[depth], {"lam": np.array([0.1])}).fingerprint
        return found() if callable(found) else found

    assert fingerprint(NEAR) == fingerprint(NEAR.copy()) != fingerprint(NEAR[::-1].copy())


@pytest.mark.slow
def test_fingerprints_are_those_of_other_processes(capsys):
    processes = [child("prints()", seed, 1) for seed in (1, 2)]
    texts = [process.communicate(timeout=120) for process in processes]
    prints()
    assert texts[0][0] == texts[1][0] == capsys.readouterr().out, texts[0][1]
