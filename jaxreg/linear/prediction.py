"""Prediction of new rows, shared by one solution and by a path of solutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxreg._meshes import on_auto_axes, replicated
from jaxreg._module import Module
from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.linear.conversion import array, features
from jaxreg.linear.design import design
from jaxreg.losses import Loss

__all__ = ["LinearPredictor"]


class LinearPredictor(Module):
    """Base of fitted models: one set of weights, or one for each λ (`one_per_lambda`) on a leading axis L."""

    coef: eqx.AbstractVar[Array]
    intercept: eqx.AbstractVar[Array]
    loss: eqx.AbstractVar[Loss]
    with_offset: eqx.AbstractVar[bool]
    one_per_lambda: eqx.AbstractClassVar[bool]

    @on_auto_axes(replicated)
    @jax.default_matmul_precision("highest")
    def linear(self, X: FeaturesLike, offset: ArrayLike | None = None) -> Shaped[Array, "..."]:
        """Return the linear predictor z = Xw + b + offset of new rows.

        Args:
            X: features (n, p), in any form that `jaxreg.Problem` takes.
            offset: one number, (n,) or (n, K); 0.0 predicts without an offset.

        Returns:
            z (n,) or (n, K); for a path (L, n) or (L, n, K).

        Raises:
            ValueError: for another number of features, an offset of another shape, and a fit with an offset
                where none is given.
        """
        X = features(X)
        n_features = self.coef.shape[1 if self.one_per_lambda else 0]
        if X.ndim != 2 or X.shape[1] != n_features:
            raise ValueError(f"X has shape {X.shape}, wanted (rows, {n_features}) as in the fit")
        matmul = design(X, self.coef.dtype).matmul
        if self.one_per_lambda:
            z = jax.vmap(matmul)(self.coef) + self.intercept[:, None]
            return self._add_offset(z, offset, z.shape[1:])
        z = matmul(self.coef) + self.intercept
        return self._add_offset(z, offset, z.shape)

    def predict(self, X: FeaturesLike, offset: ArrayLike | None = None) -> Shaped[Array, "..."]:
        """Return the expected targets of new rows: means shaped like `linear`, probabilities for classes.

        Arguments and errors are those of `linear`.
        """
        mean = jax.vmap(self.loss.mean) if self.one_per_lambda else self.loss.mean
        return mean(self.linear(X, offset))

    def _add_offset(
        self, z: Float[Array, "*Ln"], offset: ArrayLike | None, shape: tuple[int, ...]
    ) -> Float[Array, "*Ln"]:
        """Add an offset to a predictor; `shape` is that of the predictor of one λ."""
        if offset is None:
            if self.with_offset:
                raise ValueError(
                    "the fit had an offset, so predictions need that of the new rows: pass offset=, or"
                    " offset=0.0 to predict without one"
                )
            return z
        offset = array("offset", offset)
        if np.shape(offset) not in ((), shape):
            raise ValueError(f"offset has shape {np.shape(offset)}, wanted one number or {shape}")
        return z + jnp.asarray(offset, z.dtype)
