"""The dataset of a sweep of L1 and L2 made without a solver: weights thresholded, or scaled."""

import numpy as np

from jaxreg.cli._dataset import labelled
from jaxreg.cli.load import Table


def made_sweep(*, features=("a", "b", "c", "d"), classes=(), held=10, steps=40, loss="squared", left=0):
    n = 30
    X, y = np.zeros((n, len(features))), np.zeros(n)
    table = Table("made.csv", X, y, tuple(features), "price", loss, tuple(classes), "", ("A note.",))
    shape = (len(features), len(classes)) if classes else (len(features),)
    base = np.linspace(4, 1, int(np.prod(shape))).reshape(shape)
    lam = np.geomspace(8, 0.5, steps)
    column = lam.reshape(-1, *(1 for _ in shape))
    parts = []
    for coef in (np.maximum(base - column, 0), base / (1 + column)):
        flat = coef.reshape(steps, -1)
        numbers = {
            "lam": lam,
            "coef": coef,
            "standardized_coef": coef,
            "reference_coef": base,
            "intercept": np.zeros((steps, *shape[1:])),
            "zeros": (flat == 0).sum(axis=1),
            "zero_fraction": (flat == 0).mean(axis=1),
            "shrinkage": 1 - np.linalg.norm(flat, axis=1) / np.linalg.norm(base),
            "deviance_explained": 1 - lam / 8,
            "error": 1 + (np.arange(steps) - 20) ** 2 / 400,
            "error_se": np.full(steps, 0.1),
            "dof": (flat != 0).sum(axis=1).astype(float),
            "gap": np.full(steps, 1e-7),
            "kkt": np.full(steps, 1e-7),
            "steps": np.full(steps, 9),
            "status": np.array(["max_steps"] * left + ["converged"] * (steps - left)),
        }
        if loss in ("logistic", "multinomial"):
            numbers["misclassified"] = np.linspace(0.5, 0.1, steps)
        parts.append(numbers)
    settings = {"reference": "the unpenalised fit", "rows_train": n - held, "rows_held_out": held}
    settings |= {"standardize": 1, "tol": 1e-6}
    return labelled(table, ["L1", "L2"], parts, np.zeros(len(features), bool), settings)
