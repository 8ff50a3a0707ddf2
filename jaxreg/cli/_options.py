"""Options of the command as annotations for typer: their types and help texts."""

import pathlib
from typing import Annotated

import typer

__all__ = [
    "PENALTIES",
    "Cache",
    "Categorical",
    "Choose",
    "Cv",
    "Data",
    "Decimal",
    "Drop",
    "Dtype",
    "Header",
    "Holdout",
    "Lambdas",
    "Loss",
    "Missing",
    "Numbers",
    "Out",
    "Overwrite",
    "Penalty",
    "PredictData",
    "PredictMissing",
    "PredictModel",
    "PredictOut",
    "Ratio",
    "Seed",
    "Sep",
    "Standardize",
    "Target",
    "Tol",
]

#: Penalties of a sweep for which none are given.
PENALTIES = ("l1", "l2", "elastic-net:0.5")

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A .csv, .tsv, .txt (also .gz) or .parquet file, or diabetes, breast_cancer, digits, wine,"
        " iris.",
    ),
]
Target = Annotated[str | None, typer.Option(help="The column to predict; needed for a file.")]
Loss = Annotated[
    str | None,
    typer.Option(
        help="squared, huber (huber:D is linear in residuals above D), logistic, multinomial or poisson; by"
        " default by the target."
    ),
]
Penalty = Annotated[
    list[str] | None,
    typer.Option(
        help="A family that jaxreg penalties lists, such as l1 or elastic-net:0.5; may be given several"
        f" times. Default: {', '.join(PENALTIES)}."
    ),
]
Lambdas = Annotated[int, typer.Option(help="Number of λ in each grid, from 2 up.")]
Ratio = Annotated[
    float | None,
    typer.Option(help="Smallest λ over largest. Default: 1e-4 (n > p) or 1e-2, for l2 1000 times less."),
]
Holdout = Annotated[
    float | None,
    typer.Option(
        help="Fraction of rows kept aside, on which λ is chosen; 0 keeps none. Default: 0.25, with --cv 0."
    ),
]
Standardize = Annotated[bool, typer.Option(help="Penalise features in units of their standard deviation.")]
Seed = Annotated[int, typer.Option(help="Seed of the choice of held-out rows.")]
Dtype = Annotated[str, typer.Option(help="float64 or float32.")]
Tol = Annotated[float, typer.Option(help="Relative duality gap to reach at every λ.")]
Missing = Annotated[
    str,
    typer.Option(
        help="Missing cells (empty, NA, ?): error refuses them, drop leaves out their rows, mean fills"
        " them and adds a column that marks them."
    ),
]
Categorical = Annotated[
    str,
    typer.Option(
        help="Text columns become columns of 0 and 1: group lets those of one factor enter together,"
        " dummy each on its own; drop leaves text out."
    ),
]
Drop = Annotated[list[str] | None, typer.Option(help="A column to leave out; may be given several times.")]
Header = Annotated[
    bool, typer.Option(help="The first line names the columns; otherwise they are column_1, column_2, ….")
]
Out = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder for map.png, paths.png, error.png, sweep.nc, coefficients.csv and model.jaxreg."
        " Default: jaxreg-DATA."
    ),
]
Cache = Annotated[bool, typer.Option(help="Keep compiled programs in the user's cache folder.")]
PredictModel = Annotated[str, typer.Argument(metavar="MODEL", help="A model.jaxreg that jaxreg sweep wrote.")]
PredictData = Annotated[
    str, typer.Argument(metavar="DATA", help="A file of new rows, with the columns of the training data.")
]
PredictMissing = Annotated[
    str,
    typer.Option(
        help="Missing cells where training had none: error, drop (no prediction), mean (of the training"
        " rows)."
    ),
]
PredictOut = Annotated[pathlib.Path, typer.Option(help="The file of predictions, in CSV; - prints them.")]
Sep = Annotated[
    str | None,
    typer.Option(
        help="Separator: one character, or comma, semicolon, tab, pipe, space. Default: recognised."
    ),
]
Decimal = Annotated[str | None, typer.Option(help="Decimal mark, '.' or ','. Default: recognised.")]
Numbers = Annotated[
    bool, typer.Option("--numbers", help="Read 12.5 %, $1,200 and 1,200 as numbers instead of refusing them.")
]
Cv = Annotated[
    int,
    typer.Option(
        help="Choose λ by cross-validation on this many folds, such as 10; the model is that of all rows."
    ),
]
Choose = Annotated[
    str,
    typer.Option(
        help="With --cv: min, the λ of the smallest error, or 1se, the largest λ within a standard error."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")]
