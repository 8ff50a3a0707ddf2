"""Choice between pytrees under a condition, alone and in a batch."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._pytree import apply_if, tree_where


def double(tree):
    return jax.tree.map(lambda x: 2 * x, tree)


def test_apply_if_and_tree_where_choose_lane_by_lane():
    conditions = np.array([True, False, True])
    tree = {"a": np.arange(6.0).reshape(3, 2), "b": np.arange(3)}
    applied = jax.vmap(lambda c, x: apply_if(c, double, x))(conditions, tree)
    chosen = jax.vmap(lambda c, x: tree_where(c, double(x), x))(conditions, tree)
    expected = {"a": [[0.0, 2.0], [2.0, 3.0], [8.0, 10.0]], "b": [0, 1, 4]}
    for found in (applied, chosen):
        jax.tree.map(
            np.testing.assert_array_equal, found, jax.tree.map(np.asarray, expected, is_leaf=is_list)
        )


def is_list(x):
    return isinstance(x, list)


def test_apply_if_skips_the_function_where_no_lane_needs_it():
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return 2 * x

    run = jax.jit(jax.vmap(lambda c, x: apply_if(c, counted, x)))
    assert jnp.all(run(np.zeros(4, bool), np.ones(4)) == 1)
    jax.effects_barrier()
    assert not calls
