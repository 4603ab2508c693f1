"""pandas DataFrames given as points: what in them is no number, by column and row."""

from __future__ import annotations

import sys
from numbers import Number
from typing import Any

import numpy as np

from distclust.errors import DataError


def is_frame(x: Any) -> bool:
    """Return whether `x` is a pandas DataFrame; pandas is not imported for it."""
    pandas = sys.modules.get("pandas")  # whoever holds a DataFrame has imported pandas
    return pandas is not None and isinstance(x, pandas.DataFrame)


def check_frame(x: Any, name: str) -> None:
    """Refuse a DataFrame with values that are missing or no numbers.

    Args:
        x: (N, D) pandas DataFrame.
        name: what the messages call it.

    Raises:
        DataError: a column holds categories, dates, text or other objects, or a value is missing; the message names the
            column and the row.
    """
    for place, kind in enumerate(x.dtypes):
        if not _is_numeric(kind):
            _check_column(x, place, name)
    missing = x.isna().to_numpy()
    if missing.any():
        row, place = (int(index) for index in np.argwhere(missing)[0])
        raise DataError(
            f"{name} contains NaN or inf: {_place(x, row, place)} is {x.iat[row, place]}, a missing value. Fill in or "
            "drop such points."
        )


def _check_column(x: Any, place: int, name: str) -> None:
    """Refuse a column that holds something else than numbers and missing values."""
    column = x.iloc[:, place]
    values = column.to_numpy(dtype=object)
    known = np.flatnonzero(~column.isna().to_numpy())
    bad = [row for row in known if not isinstance(values[row], (Number, np.bool_))]
    typed = "category" if str(column.dtype) == "category" else "datetime" if column.dtype.kind in "mM" else ""
    rows = bad or (list(known) if typed else [])
    if rows:
        value = values[rows[0]]
        kind = typed or ("text" if isinstance(value, (str, bytes)) else type(value).__name__)
        told = f"{_place(x, int(rows[0]), place)} is {value!r:.60} ({kind})"
        cure = f"{_cure(kind, name)} or drop the column: {name}.drop(columns={column.name!r})"
        raise DataError(f"{name} must hold numbers: {told}. {cure}.")


def _is_numeric(kind: Any) -> bool:
    return isinstance(kind, np.dtype) and kind.kind in "biufc"


def _cure(kind: str, name: str) -> str:
    if kind in ("category", "text"):
        return f"Make numbers of it, as with pandas.get_dummies({name}, dtype=float),"
    return "Make numbers of it, such as seconds since the first," if kind == "datetime" else "Make numbers of it"


def _place(x: Any, row: int, place: int) -> str:
    label = x.index[row]
    return f"column {x.columns[place]!r}, row {row}{'' if label == row else f' ({label!r})'}"
