"""DataFrames given to fit: what is no number is named by column and row."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distclust import EntropyClustering
from distclust.data.arrays import check_x
from distclust.errors import DataError, InputError

GOOD = {"a": [1.0, 2.0, 3.0], "b": [1, 2, 4]}
COLUMNS: dict[str, tuple[Any, str]] = {
    "pd.NA of integers": (pd.array([1, None, 3], dtype="Int64"), "column 'c', row 1 is <NA>"),
    "pd.NA of bools": (pd.array([True, False, None], dtype="boolean"), "column 'c', row 2 is <NA>"),
    "pd.NA of arrow": (pd.array([None, 1, 2], dtype="double[pyarrow]"), "column 'c', row 0 is <NA>"),
    "pd.NA of objects": (pd.Series([1, pd.NA, 3], dtype=object), "column 'c', row 1 is <NA>"),
    "None": (pd.Series([1, None, 3], dtype=object), "column 'c', row 1 is None"),
    "NaN": ([1, 2, np.nan], "column 'c', row 2 is nan"),
    "categories": (pd.Categorical(["x", "y", "x"]), r"column 'c', row 0 is 'x' \(category\).*get_dummies"),
    "categories of numbers": (pd.Categorical([1, 2, 1]), r"column 'c', row 0 is 1 \(category\)"),
    "dates": (pd.date_range("2026-01-31", periods=3), r"column 'c', row 0 is Timestamp.*\(datetime\)"),
    "dates with a zone": (pd.date_range("2026-01-31", periods=3, tz="CET"), r"column 'c', row 0 is Timestamp"),
    "spans": (pd.to_timedelta([1, 2, 3], unit="s"), r"column 'c', row 0 is Timedelta"),
    "text": (["x", "y", "z"], r"column 'c', row 0 is 'x' \(text\)"),
    "one text": (pd.Series([1, 2, "z"], dtype=object), r"column 'c', row 2 is 'z' \(text\)"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_column_and_row_are_named(name: str) -> None:
    column, message = COLUMNS[name]
    frame = pd.DataFrame({**GOOD, "c": column})
    with pytest.raises(DataError, match=message):
        check_x(frame)
    with pytest.raises(InputError, match=message):
        EntropyClustering(n_clusters=2).fit(frame)


def test_the_label_of_the_row_is_named_too() -> None:
    with pytest.raises(DataError, match=r"column 'a', row 1 \('q'\) is nan"):
        check_x(pd.DataFrame({"a": [1, np.nan, 2]}, index=["p", "q", "r"]))


def test_numbers_of_all_kinds_are_taken() -> None:
    frame = pd.DataFrame(
        {
            **GOOD,
            "flag": [True, False, True],
            "whole": pd.array([1, 2, 3], dtype="Int64"),
            "arrow": pd.array([1.5, 2, 3], dtype="double[pyarrow]"),
            "sparse": pd.arrays.SparseArray([0, 0, 1]),
        }
    )
    expected = [[1, 1, 1, 1, 1.5, 0], [2, 2, 0, 2, 2, 0], [3, 4, 1, 3, 3, 1]]
    assert check_x(frame).tolist() == expected
    assert check_x(pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}).set_axis(["a", "a"], axis=1)).tolist() == [
        [1, 3],
        [2, 4],
    ]


@pytest.mark.parametrize("value", [pd.NA, pd.Timestamp("2026-01-31"), "x", {}])
def test_arrays_of_objects_name_the_place(value: Any) -> None:
    with pytest.raises(DataError, match=r"X\[1, 0\]"):
        check_x(np.array([[1, 2], [value, 3]], dtype=object))
