"""The batches of a training run and the keys it draws: each sample once an epoch, all drawn alike."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxreg as jr
from tests.training.regression import DATA, LINEAR, N, loss_fn, run
from tests.training.same import assert_same


def visits(n, size, steps, key):
    """(steps, n) how often each step has met each sample, by weights that count them at the rate −1.

    Were the rows of the two arrays of different samples, NaN would say so.
    """
    data = {"index": jnp.arange(n), "same": 10.0 * jnp.arange(n)}

    def count(seen, batch):
        aligned = jnp.all(batch["same"] == 10.0 * batch["index"])
        return jnp.sum(seen[batch["index"]]) * jnp.where(aligned, 1.0, jnp.nan)

    _, history = jr.train(
        count,
        jnp.zeros(n),
        optax.sgd(-1.0),
        data,
        steps=steps,
        batch_size=size,
        key=key,
        every=1,
        metrics={"seen": lambda seen: seen},
    )
    return jnp.diff(history["seen"], axis=0, prepend=0.0)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (7, 7), (5, 1), (9, 5)])
def test_every_epoch_takes_each_sample_at_most_once(n, size):
    per_epoch, epochs = n // size, 8
    go = jax.jit(lambda key: visits(n, size, epochs * per_epoch, key))
    found = np.asarray(go(jax.random.key(n)))
    assert set(np.unique(found)) <= {0.0, 1.0}
    np.testing.assert_array_equal(found.sum(axis=1), size)
    whole = found.reshape(epochs, per_epoch, n).sum(axis=1)
    assert whole.max() == 1
    np.testing.assert_array_equal(whole.sum(axis=1), per_epoch * size)
    assert np.all(whole.sum(axis=0) > 0)  # those left over are others each time
    np.testing.assert_array_equal(go(jax.random.key(n)), found)
    if per_epoch > 1:
        assert len({epoch.tobytes() for epoch in found.reshape(epochs, -1)}) > epochs // 2
        assert np.any(go(jax.random.key(n + 1)) != found)


def test_every_sample_is_drawn_alike():
    keys = jax.random.split(jax.random.key(0), 1000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: visits(10, 3, 4, key)))(keys))
    for step in range(4):  # three steps of an epoch and the first of the next
        often = found[:, step].sum(axis=0)
        np.testing.assert_allclose(often, 300, atol=5 * np.sqrt(1000 * 0.3 * 0.7))
    # The second epoch knows nothing of the first: both first batches hold a sample with probability 0.09.
    both = np.sum(found[:, 0] * found[:, 3], axis=0)
    np.testing.assert_allclose(both, 90, atol=5 * np.sqrt(1000 * 0.09 * 0.91))


def test_the_batches_do_not_depend_on_what_is_recorded():
    key = jax.random.key(5)
    assert_same(run(0.1, key, every=1)[0], run(0.1, key, every=30)[0], 1e-12, 1e-14)


def test_a_batch_of_all_is_the_full_batch_in_another_order():
    optimizer = optax.sgd(0.1)
    found, _ = jr.train(loss_fn, LINEAR, optimizer, DATA, steps=7, batch_size=N, key=jax.random.key(0))
    assert_same(found, jr.train(loss_fn, LINEAR, optimizer, DATA, steps=7)[0], 1e-12, 1e-14)


@pytest.mark.parametrize("size", [None, 2])
def test_another_key_for_the_loss_at_every_step(size):
    def noise(w, batch, key):
        return w * jax.random.normal(key)

    def keys(key):
        _, history = jr.train(
            noise,
            jnp.zeros(()),
            optax.sgd(-1.0),
            jnp.arange(6.0),
            steps=40,
            batch_size=size,
            key=key,
            every=1,
            metrics={"w": lambda w: w},
            stochastic=True,
        )
        return jnp.diff(history["w"], prepend=0.0)

    keys = jax.jit(keys)
    one, other = np.asarray(keys(jax.random.key(0))), np.asarray(keys(jax.random.key(1)))
    assert len(np.unique(np.round([one, other], 9))) == 80
    np.testing.assert_array_equal(keys(jax.random.key(0)), one)
    assert abs(np.mean(one)) < 1 and 0.5 < np.std(one) < 1.5
