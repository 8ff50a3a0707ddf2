"""scikit-learn estimators: linear models with any loss and penalty of jaxreg, for pipelines and searches.

`PenalizedRegressor` and `PenalizedClassifier` solve for one alpha, which is λ of `jaxreg.solve`.
`PenalizedRegressorCV` and `PenalizedClassifierCV` choose alpha by `jaxreg.cross_validate`. Fits are in
double precision if JAX is (`jax.config.update("jax_enable_x64", True)`) and X is not float32.
"""

try:
    from sklearn.utils.validation import validate_data as _  # new in scikit-learn 1.6
except ImportError as error:
    raise ImportError("jaxreg.estimators needs scikit-learn 1.6: pip install 'jaxreg[sklearn]'") from error

from jaxreg.estimators.classifier import PenalizedClassifier, PenalizedClassifierCV
from jaxreg.estimators.regressor import PenalizedRegressor, PenalizedRegressorCV

__all__ = ["PenalizedClassifier", "PenalizedClassifierCV", "PenalizedRegressor", "PenalizedRegressorCV"]
