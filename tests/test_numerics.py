"""Overflow-safe norms and double-float arithmetic, against exact rational numbers."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _numerics as numerics


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e20, 1e37])
def test_norms_neither_overflow_nor_vanish(scale):
    x = jnp.asarray([3.0, 4.0, 0.0, 0.0, 5.0, 12.0], jnp.float32) * np.float32(scale)
    np.testing.assert_allclose(numerics.norm(x[:2]), np.float32(5 * scale), rtol=1e-6)
    rows = numerics.norm(x.reshape(3, 2), axis=1)
    np.testing.assert_allclose(rows, np.float32([5 * scale, 0, 13 * scale]), rtol=1e-6)
    groups = numerics.group_norms(x, jnp.array([1, 1, 0, 0, 2, 2]), 4)
    np.testing.assert_allclose(groups.value, np.float32([0, 5 * scale, 13 * scale, 0]), rtol=1e-6)


def test_derivative_of_a_norm_is_finite_at_zero():
    assert jnp.all(jax.grad(numerics.norm)(jnp.zeros(3)) == 0)
    assert jnp.all(jax.grad(lambda x: jnp.sum(numerics.magnitude(x)))(jnp.zeros(3)) == 0)
    assert numerics.norm(jnp.ones(4, jnp.bfloat16)).dtype == jnp.float32


def test_two_sum_loses_nothing():
    rng = np.random.default_rng(0)
    a, b = (np.float32(rng.normal(size=200) * 10.0 ** rng.uniform(-8, 8, size=200)) for _ in range(2))
    total, lost = numerics.two_sum(jnp.asarray(a), jnp.asarray(b))
    for x, y, s, e in zip(a, b, np.asarray(total), np.asarray(lost), strict=True):
        assert Fraction(float(x)) + Fraction(float(y)) == Fraction(float(s)) + Fraction(float(e))


def test_sums_and_quotients_in_two_parts_are_more_exact_than_float32():
    terms = np.float32(np.random.default_rng(1).uniform(1, 2, size=300))
    parts = numerics.split(jnp.float32(0))
    for term in terms:
        parts = numerics.add_parts(parts, numerics.split(jnp.asarray(term)))
    exact = sum(Fraction(float(term)) for term in terms)
    assert abs(sum(Fraction(float(part)) for part in parts) - exact) < exact * 2**-44
    quotient = numerics.divide_parts(parts, jnp.float32(7))
    assert abs(sum(Fraction(float(part)) for part in quotient) - exact / 7) < exact * 2**-42
    rest = numerics.product_less(quotient, jnp.float32(7), parts)
    assert abs(float(rest)) < float(exact) * 2**-42
