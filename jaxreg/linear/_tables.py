"""Tables and columns of pandas, polars and pyarrow, recognised without importing these libraries."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxreg._typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableColumn", "columns_of", "is_table"]


class TableColumn(NamedTuple):
    """A column of a table: its label, its values, and the number of missing entries."""

    label: Hashable
    values: np.ndarray
    missing: int


def is_table(x: object) -> bool:
    """Return whether x is a table or a column of pandas, polars or pyarrow."""
    return any(t.__module__.partition(".")[0] in ("pandas", "polars", "pyarrow") for t in type(x).__mro__)


def columns_of(x: ArrayLike) -> tuple[list[TableColumn], bool]:
    """Return the columns of a table, and whether x is one column itself."""
    library = next(t.__module__.partition(".")[0] for t in type(x).__mro__ if t.__module__ != "builtins")
    if library == "pandas":
        single = not hasattr(x, "columns")
        parts = [("", x)] if single else [(label, x.iloc[:, j]) for j, label in enumerate(x.columns)]
        return [TableColumn(label, *_pandas_column(part)) for label, part in parts], single
    if library == "polars":
        single = not hasattr(x, "get_columns")
        parts = [x] if single else x.get_columns()
        return [TableColumn(part.name, part.to_numpy(), int(part.null_count())) for part in parts], single
    single = not hasattr(x, "column_names")
    parts = [("", x)] if single else list(zip(x.column_names, x.columns, strict=True))
    columns = []
    for label, part in parts:
        values = part.to_numpy() if hasattr(part, "chunks") else part.to_numpy(zero_copy_only=False)
        columns.append(TableColumn(label, values, int(part.null_count)))
    return columns, single


def _pandas_column(column: "pd.Series | pd.Index") -> tuple[np.ndarray, int]:
    """Return values and number of missing entries of a pandas column or index."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    missing, dtype = int(column.isna().sum()), column.dtype
    if isinstance(dtype, np.dtype) or missing or not is_numeric_dtype(dtype) or _is_complex_kind(dtype):
        return column.to_numpy(), missing
    # NumPy would convert nullable, Arrow-backed and sparse columns to objects.
    single = getattr(dtype, "kind", "") == "f" and getattr(dtype, "itemsize", 8) == 4
    wide = bool if is_bool_dtype(dtype) else np.float32 if single else np.float64
    return column.to_numpy(dtype=wide), missing


def _is_complex_kind(dtype: object) -> bool:
    return getattr(dtype, "kind", "") == "c"
