"""scikit-learn estimators: linear models with any loss and penalty of jaxreg, for pipelines and searches.

`PenalizedRegressor` and `PenalizedClassifier` solve for one alpha, which is λ of `jaxreg.solve`.
`PenalizedRegressorCV` and `PenalizedClassifierCV` choose alpha by `jaxreg.cross_validate`. Fits are in
double precision if JAX is (`jax.config.update("jax_enable_x64", True)`) and X is not float32. The worker
processes of `n_jobs` read that setting from the environment: JAX_ENABLE_X64=1.
"""

try:
    from jaxreg.estimators.classifier import PenalizedClassifier, PenalizedClassifierCV
    from jaxreg.estimators.regressor import PenalizedRegressor, PenalizedRegressorCV
except ImportError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError(
        "jaxreg.estimators needs scikit-learn 1.6 or later: pip install 'jaxreg[sklearn]'"
    ) from error

__all__ = ["PenalizedClassifier", "PenalizedClassifierCV", "PenalizedRegressor", "PenalizedRegressorCV"]
