"""Comparison of trees in the tests of training."""

import jax
import numpy as np


def assert_same(found, expected, rtol=0.0, atol=0.0):
    """Trees of one structure, types and values; what is no array is the same object."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if not hasattr(a, "dtype"):
            assert a is b
            continue
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)
