"""Fixture for tests of experiments: their sweeps run on one device."""

import pytest

import jaxreg as jr
from tests.members import devices


@pytest.fixture(autouse=True, scope="module")
def _one_device():
    """Sweep on one device: each of the suite's four virtual devices would compile a program of its own."""
    sweep = jr.sweep

    def on_one_device(*args, mesh=None, **options):  # whatever mesh is given
        return sweep(*args, mesh=devices(1), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jr, "sweep", on_one_device)
        yield
