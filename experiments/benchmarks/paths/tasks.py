"""Tasks: a problem with its grid of λ, and the folder in which every solver finds both.

This module imports only NumPy and SciPy, so that a worker of any interpreter can load it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Task", "load", "save"]


class Task(NamedTuple):
    """Minimise mean loss + penalty at every λ; losses and penalties are defined as in jaxreg.

    Attributes:
        X: Features (n, p), in Fortran order or sparse in CSC format.
        y: Targets (n,).
        lambdas: Decreasing grid (L,).
        loss: "squared", "logistic", "poisson" or "multinomial".
        penalty: "elastic" (l1_ratio 1: lasso, 0: ridge), "group" (blocks of `group` adjacent columns, each
            norm times √group) or "mcp" (with `gamma`).
    """

    name: str
    X: Any
    y: np.ndarray
    lambdas: np.ndarray
    loss: str = "squared"
    penalty: str = "elastic"
    intercept: bool = False
    l1_ratio: float = 1.0
    group: int = 1
    gamma: float = 3.0

    @property
    def sparse(self) -> bool:
        """True if X is sparse."""
        return not isinstance(self.X, np.ndarray)

    @property
    def classes(self) -> int:
        """Number of classes of a multinomial model, 0 for other losses."""
        return int(self.y.max()) + 1 if self.loss == "multinomial" else 0


_ARRAYS = ("X", "y", "lambdas")


def save(task: Task, folder: Path) -> None:
    """Write the arrays as .npy, which the R worker also reads, then the other fields as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    if task.sparse:
        for part in ("data", "indices", "indptr"):
            np.save(folder / f"X_{part}.npy", getattr(task.X, part))
    else:
        np.save(folder / "X.npy", np.asfortranarray(task.X, dtype=float))
    np.save(folder / "y.npy", task.y.astype(float))
    np.save(folder / "lambdas.npy", task.lambdas.astype(float))
    about = {key: value for key, value in task._asdict().items() if key not in _ARRAYS}
    about |= {"shape": list(task.X.shape), "sparse": task.sparse, "classes": task.classes}
    (folder / "task.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def load(folder: Path) -> Task:
    """Load the task that `save` wrote."""
    about = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    shape, sparse, _ = about.pop("shape"), about.pop("sparse"), about.pop("classes")
    if sparse:
        from scipy.sparse import csc_matrix

        parts = tuple(np.load(folder / f"X_{part}.npy") for part in ("data", "indices", "indptr"))
        X: Any = csc_matrix(parts, shape=shape)
    else:
        X = np.load(folder / "X.npy")
    return Task(X=X, y=np.load(folder / "y.npy"), lambdas=np.load(folder / "lambdas.npy"), **about)
