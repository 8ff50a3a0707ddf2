"""The experiments compile many programs and run each briefly here."""

import pytest


@pytest.fixture(autouse=True)
def _fast(compiled_fast):
    """For all of them."""
