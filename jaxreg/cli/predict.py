"""Predict the rows of a file by a saved model: columns by name, categories as in training."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, NamedTuple

from jaxreg.cli._coding import to_numbers
from jaxreg.cli._messages import quoted, refusal
from jaxreg.cli._settings import Reading
from jaxreg.cli.choose import scores
from jaxreg.cli.coefficients import guarded
from jaxreg.cli.load import read, with_plain_numbers
from jaxreg.models.archive import load
from jaxreg.models.columns import label

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from jaxreg.models.model import FittedModel

__all__ = ["Prediction", "as_csv", "predict"]


class Prediction(NamedTuple):
    """Predictions of the rows of a file.

    Attributes:
        columns: Values (n,) by the heading of their column: row, prediction, and probabilities of classes. A
            row that was left out has the prediction "".
        notes: Sentences on what was done to the data.
        summary: One line: the model, and its scores where the file has the target.
    """

    columns: dict[str, list[int | float | str]]
    notes: list[str]
    summary: str


def predict(model_file: str, source: str, reading: Reading) -> Prediction:
    """Read a model and a file, and predict the rows of the file.

    Args:
        model_file: A file that `jaxreg.save` wrote.
        source: A .csv, .tsv or .parquet file with the columns of training, in any order.
        reading: How to read the file. `missing` is error, drop (no prediction) or mean (of training).

    Raises:
        ValueError: A file cannot be read, a column of training is not there, or cells are missing.
    """
    import dataclasses

    import numpy as np

    model = load(model_file)
    reading = dataclasses.replace(reading, numbers=reading.numbers or bool(model.settings.get("numbers")))
    frame, notes, decimal = read(source, reading)
    if not len(frame):
        raise refusal(f"{source!r} has a header but no rows", "rows to predict", "add rows")
    wanted = [column.name for column in model.columns] or list(model.features)
    absent = [name for name in wanted if name not in frame.columns]
    if absent:
        there = f"it has {quoted(frame.columns)}"
        got = f"{source!r} lacks the columns {quoted(absent)} of the training data ({there})"
        raise refusal(got, "a column of each name", "add or rename them")
    target = frame[model.target] if model.target in frame.columns else None
    aside = [name for name in frame.columns if name not in (*wanted, model.target)]
    if aside:
        notes.append(f"Columns that the model does not use were left aside: {quoted(aside)}.")
    encoded = model.encode(with_plain_numbers(frame[wanted], reading, decimal))
    _check_finite(model, encoded.X, source)
    X, whole, more = _without_gaps(model, encoded.X, frame[wanted], source, reading)
    columns = _columns(model, X, whole)
    notes += [*encoded.notes, *more]
    return Prediction(columns, notes, _summary(model, X, target, whole & np.isfinite(X).all(axis=1)))


def as_csv(columns: dict[str, list[int | float | str]]) -> str:
    """Return the text of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([guarded(name) for name in columns])
    for row in zip(*columns.values(), strict=True):
        writer.writerow([guarded(cell) if isinstance(cell, str) else repr(cell) for cell in row])
    return text.getvalue()


def _check_finite(model: FittedModel, X: np.ndarray, source: str) -> None:
    """Raise `ValueError` for infinite numbers."""
    import numpy as np

    infinite = np.isinf(X)
    if infinite.any():
        where = [name for name, some in zip(model.features, infinite.any(axis=0), strict=True) if some]
        got = f"{infinite.any(axis=1).sum()} of {len(X)} rows of {source!r} are infinite in {quoted(where)}"
        raise refusal(got, "finite numbers", "correct or drop these rows")


def _without_gaps(
    model: FittedModel, X: np.ndarray, frame: pd.DataFrame, source: str, reading: Reading
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Treat missing cells as --missing says; returns X, the rows that are predicted, and notes."""
    import numpy as np

    missing = _missing(model, X, frame)
    gaps = np.any([np.zeros(len(X), bool), *missing.values()], axis=0)
    if not missing:
        return X, ~gaps, []
    where, rows = quoted(missing), f"{gaps.sum()} of {len(frame)} rows"
    if reading.missing == "error" or (reading.missing == "mean" and not model.columns):
        got = f"{rows} of {source!r} miss values in columns {where}, where no training row did"
        todo = "add --missing mean (of the training rows) or --missing drop, or fill them"
        raise refusal(got, "a value in every cell", todo)
    if reading.missing == "drop":
        note = f"Left without a prediction, for missing values in {where}: {rows}."
        return np.where(np.isnan(X), 0.0, X), ~gaps, [note]
    fill = np.array([number for column in model.columns for number in column.fill])
    text = [column.name for column in model.columns if column.kind == "levels" and column.name in missing]
    numbers = [name for name in missing if name not in text]
    notes = [f"Missing values in {quoted(numbers)} became the mean of the training rows."] if numbers else []
    notes += [f"Missing values in {quoted(text)} became none of the levels."] if text else []
    return np.where(np.isnan(X), fill, X), np.ones_like(gaps), notes


def _missing(model: FittedModel, X: np.ndarray, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the mask of the missing cells of each column that has some and had none in training."""
    import numpy as np

    if not model.columns:
        masks = dict(zip(frame.columns, np.isnan(X).T, strict=True))
    else:
        ends = np.cumsum([len(column.features) for column in model.columns])[:-1]
        parts = zip(model.columns, np.split(X, ends, axis=1), strict=True)
        masks = {
            column.name: column.encode(frame[column.name].to_numpy(object)).missing
            if column.kind == "levels"
            else np.isnan(part).any(axis=1)
            for column, part in parts
        }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _columns(model: FittedModel, X: np.ndarray, whole: np.ndarray) -> dict[str, list[int | float | str]]:
    """Return the columns of the result."""
    rows: dict[str, list[int | float | str]] = {"row": list(range(1, len(X) + 1))}
    if not model.classes:
        mean = model.predict(X).tolist()
        return rows | {"prediction": [value if ok else "" for value, ok in zip(mean, whole, strict=True)]}
    probabilities = model.probabilities(X)
    names = [model.classes[k] for k in probabilities.argmax(axis=1)]
    rows["prediction"] = [name if ok else "" for name, ok in zip(names, whole, strict=True)]
    for k, name in enumerate(model.classes):
        values = zip(probabilities[:, k].tolist(), whole, strict=True)
        rows[f"probability of {name}"] = [value if ok else "" for value, ok in values]
    return rows


def _summary(model: FittedModel, X: np.ndarray, target: pd.Series | None, whole: np.ndarray) -> str:
    """Describe the model in a line, with its scores where the target is known."""
    import numpy as np

    text = f"{_rows(int(whole.sum()))} predicted by {model.penalty or 'the model'}"
    text += "" if model.lam is None else f" at λ = {model.lam:.3g}"
    text += f", target {model.target}" if model.target else ""
    if target is None:
        return f"{text}."
    if model.classes:
        labels = {name: k for k, name in enumerate(model.classes)}
        y = np.array([labels.get(label(value) or "", -1) for value in target.to_numpy(object)], float)
        known = whole & (y >= 0)
    else:
        try:
            y = to_numbers(target)
        except (TypeError, ValueError):
            return f"{text}."
        known = whole & np.isfinite(y)
    if known.sum() < 2:
        return f"{text}."
    by_name = scores(model, model.predict(X[known]), y[known])
    shown = ", ".join(f"{name} {value:.4g}" for name, value in by_name.items())
    return f"{text}; the file has the target, and on {_rows(int(known.sum()))}: {shown}."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
