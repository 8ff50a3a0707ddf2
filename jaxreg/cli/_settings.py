"""Options of the command as values, checked when they are set."""

from dataclasses import dataclass

from jaxreg.cli._messages import refusal, wanted_one_of

__all__ = ["Reading", "Settings"]

_DTYPES = ("float64", "float32")
_CHOICES = ("min", "1se")
_MISSING = ("error", "drop", "mean")
_CATEGORICAL = ("group", "dummy", "drop")
#: Words for separators that a shell makes hard to type.
_SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_DECIMALS = (".", ",")


@dataclass(frozen=True)
class Settings:
    """Numbers that determine a sweep; each is the option of the same name.

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
    cv: int = 0
    """Number of folds of cross-validation; 0 chooses on held-out rows."""
    choose: str = "min"
    """min takes the λ of the smallest error, 1se the largest λ within a standard error of it."""

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
        self._check_folds()

    def _check_folds(self) -> None:
        """Raise `ValueError` for a number of folds or a choice that cannot be."""
        if self.cv < 0 or self.cv == 1:
            raise refusal(f"--cv is {self.cv}", "at least 2 folds, or 0 for held-out rows", "try 10")
        if self.cv and self.holdout:
            got = f"--cv {self.cv} and --holdout {self.holdout} are both given"
            raise refusal(got, "one of them", "leave one out")
        if self.choose not in _CHOICES:
            raise ValueError(f"--choose is {self.choose!r}: {wanted_one_of(_CHOICES, self.choose)}")
        if self.choose == "1se" and not self.cv:
            raise refusal(
                "--choose is 1se without --cv", "folds, which give the standard error", "add --cv 10"
            )


@dataclass(frozen=True)
class Reading:
    """Options for reading a file and coding its columns, each named as the option of the command.

    Raises:
        ValueError: An option has a value that it does not know.
    """

    sep: str | None = None
    """Separator of the columns; None recognises it."""
    decimal: str | None = None
    """Decimal mark; None recognises it."""
    header: bool = True
    """Whether the first line names the columns."""
    numbers: bool = False
    """Read percent, currency and thousands marks as numbers."""
    missing: str = "error"
    """error refuses missing cells, drop leaves out their rows, mean fills them and marks them."""
    categorical: str = "group"
    """group penalises all columns of a factor together, dummy each on its own, drop leaves text out."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""

    def __post_init__(self) -> None:
        if self.sep is not None:
            object.__setattr__(self, "sep", _SEPARATOR_NAMES.get(self.sep.lower(), self.sep))
            if len(self.sep) != 1 or self.sep in "\n\r\"'" or self.sep.isalnum():
                got = f"--sep is {self.sep!r}"
                raise refusal(got, "one character, or comma, semicolon, tab, pipe, space", "try --sep tab")
        if self.decimal not in (None, *_DECIMALS) or self.decimal == self.sep == ",":
            raise refusal(f"--decimal is {self.decimal!r}", "'.' or ',', other than --sep", "try --decimal ,")
        for option, options in (("missing", _MISSING), ("categorical", _CATEGORICAL)):
            value = getattr(self, option)
            if value not in options:
                raise ValueError(f"--{option} is {value!r}: {wanted_one_of(options, value)}")
