"""The table of members in the docstring of `jaxreg.penalties` says what the code does."""

import jax
import jax.numpy as jnp
import pytest

import jaxreg as jr
from tests.members import COMBINED, MEMBERS
from tests.penalties.table import example, table


def test_the_docstring_has_the_table():
    found = [line.strip() for line in jr.penalties.__doc__.splitlines() if line.strip().startswith("|")]
    assert found == table().splitlines(), "paste the output of `python -m tests.penalties.table`"


@pytest.mark.parametrize("name", [n for n in MEMBERS if n not in COMBINED])
def test_capabilities_are_what_the_code_does(name):
    """`has_conjugate` and `metric` are true exactly where the methods take what they promise to take."""
    p, points = example(MEMBERS[name])
    w = jnp.asarray(points[0])

    def works(call):
        try:
            jax.eval_shape(call, w)
        except TypeError:
            return False
        return True

    said = [p.has_conjugate, p.has_conjugate, p.metric]
    assert [works(p.conjugate), works(p.dual_scale), works(lambda w: p.prox(w, 1 + jnp.abs(w)))] == said
