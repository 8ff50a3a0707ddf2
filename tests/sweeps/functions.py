"""Functions of λ and a seed for the tests of `sweep`, and the plain loop that sweeps are held against."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray

import jaxreg as jr

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 4))
Y = X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=30)
MATRIX = jnp.asarray(rng.normal(size=(40, 40)))
PROBLEM = jr.Problem(jr.losses.SquaredError(), X, Y)
LAMS = np.geomspace(0.01, 1.0, 5)
AXES = {"lam": LAMS, "seed": range(3)}


def number(lam, seed):
    return jnp.sin(lam) + seed


def array(lam, seed):
    return lam * jax.random.normal(jax.random.key(seed), (2, 3))


def nested(lam, seed):
    return {"a": lam, "deep": {"b": [seed, (lam + seed, lam > 0.1)]}, "c": jnp.arange(3) * seed}


def module(lam, seed):
    net = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(seed))
    return eqx.filter(jax.tree.map(lambda w: lam * w if eqx.is_array(w) else w, net), eqx.is_array)


def solved(lam, seed):
    penalty = jr.ElasticNet(lam, 1.0 - 0.1 * seed)
    return eqx.filter(jr.solve(PROBLEM, penalty, tol=1e-9), eqx.is_array)


def trained(lam, seed):
    def loss(w, batch):
        return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)

    penalty, key = jr.L1(lam), jax.random.key(seed)
    optimizer = jr.transforms.proximal_sgd(0.05, penalty)
    data, start = (jnp.asarray(X), jnp.asarray(Y)), jax.random.normal(key, (4,))
    w, history = jr.train(
        loss, start, optimizer, data, steps=20, batch_size=10, key=key, penalty=penalty, every=10
    )
    return {"w": w, "history": history}


def shrunk(lam, seed):
    """Number by number, so that no bit depends on how many lanes there are."""
    w = jax.random.normal(jax.random.key(seed), (3,))
    return {"l1": jr.L1(lam).prox(w, 1.0), "of": {"l2": jr.SquaredL2(lam).prox(w, 1.0)}, "n": jnp.sum(w > 0)}


def product(lam, seed):
    return jnp.tanh(lam * MATRIX @ jax.random.normal(jax.random.key(seed), (40,)))


def adam(lam, seed):
    """A step of a solver with products of matrices, many times."""
    w, optimizer = jnp.zeros(4) + seed, optax.adam(0.1)
    cost = lambda w: jnp.mean((jnp.asarray(X) @ w - Y) ** 2) + lam * jnp.sum(w**2)  # noqa: E731

    def step(carry, _):
        updates, state = optimizer.update(jax.grad(cost)(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(step, (w, optimizer.init(w)), length=10)[0][0]


FUNCTIONS = {f.__name__: f for f in (number, array, nested, module, shrunk, product, solved, trained, adam)}


def looped(fn, axes):
    """Every result by a plain loop of single calls."""
    one, found = jax.jit(fn), {}
    for values in itertools.product(*axes.values()):
        out = one(**dict(zip(axes, map(jnp.asarray, values), strict=True)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(out):
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
            found.setdefault(name, []).append(np.asarray(leaf))
    sizes = [len(values) for values in axes.values()]
    return {name: np.reshape(rows, (*sizes, *rows[0].shape)) for name, rows in found.items()}


def assert_same(a, b):
    """Two datasets have the same bits and labels; NaN is NaN."""
    xarray.testing.assert_identical(a, b)
    for name in a.variables:
        assert a[name].dtype == b[name].dtype and a[name].values.tobytes() == b[name].values.tobytes(), name
