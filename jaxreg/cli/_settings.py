"""Numbers that determine a sweep, checked when they are set."""

from dataclasses import dataclass

from jaxreg.cli._messages import refusal, wanted_one_of

__all__ = ["Settings"]

_DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Settings:
    """Settings of `jaxreg sweep`; each is the option of the same name.

    Raises:
        ValueError: A number is out of range, or the dtype is unknown.
    """

    lambdas: int = 100
    """Number of λ in each grid."""
    ratio: float | None = None
    """Smallest λ over largest; None chooses by the shape of the data and the penalty."""
    holdout: float = 0.25
    """Fraction of the rows held out."""
    standardize: bool = True
    """Penalise features in units of their standard deviation."""
    seed: int = 0
    """Seed for the choice of the held-out rows."""
    dtype: str = "float64"
    """Precision of all computations."""
    tol: float = 1e-6
    """Relative duality gap to reach at every λ."""

    def __post_init__(self) -> None:
        if self.lambdas < 2:
            raise refusal(f"--lambdas is {self.lambdas}", "at least 2", "try 100")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise refusal(f"--ratio is {self.ratio}", "a number between 0 and 1", "try 1e-3")
        if not 0 <= self.holdout < 1:
            raise refusal(f"--holdout is {self.holdout}", "a fraction from 0 to below 1", "try 0.25")
        if self.seed < 0:
            raise refusal(f"--seed is {self.seed}", "a whole number from 0 up", "try 0")
        if not 0 < self.tol < float("inf"):
            raise refusal(f"--tol is {self.tol}", "a number above 0", "try 1e-6")
        if self.dtype not in _DTYPES:
            raise ValueError(f"no dtype {self.dtype!r}: {wanted_one_of(_DTYPES, self.dtype)}")
