"""Array types of linear models, for n samples, p features, K outputs and m ravelled coordinates."""

from jaxtyping import Array, Bool, Float, Int

__all__ = ["Coef", "Count", "Flag", "Flat", "Index", "Intercept", "Mask", "Predictor", "Square"]

#: Coefficients, (p,) or (p, K).
Coef = Float[Array, "p *K"]
#: Intercepts, () or (K,).
Intercept = Float[Array, "*K"]
#: One number per sample, or per sample and output, (n,) or (n, K).
Predictor = Float[Array, "n *K"]
#: One number per ravelled coordinate.
Flat = Float[Array, " m"]
#: A matrix in the ravelled coordinates.
Square = Float[Array, "m m"]
#: One truth value per ravelled coordinate.
Mask = Bool[Array, " m"]
#: Some of the ravelled coordinates.
Index = Int[Array, " k"]
#: An integer.
Count = Int[Array, ""]
#: A truth value.
Flag = Bool[Array, ""]
