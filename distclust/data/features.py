"""Tables whose rows are points: which columns name the rows, and what is done where values are missing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distclust.data.categories import is_text, levels
from distclust.data.delimited import MISSING
from distclust.data.options import Options, give
from distclust.data.points import Points
from distclust.data.tables import (
    Table,
    check_missing,
    classes,
    feature_columns,
    named,
    numbers,
    read_table,
    row_names,
)

ROW_NAMES = ("", "id", "index", "__index_level_0__", "level_0", "rownames", "row_names", "row.names")
_PANDAS_INDEX = re.compile(r"unnamed: 0(\.\d+)*", re.IGNORECASE)
_ID = re.compile(r"(.*[a-z])?I[dD]|(.*[\W_])?id", re.DOTALL)  # "CustomerId", "user_id", not "acid"
_ROW_NUMBERS = (
    *("#", "row", "rows", "rownumber", "rownum", "rowno", "rowid", "no", "nr", "num", "number", "sno", "slno", "srno"),
    *("serialnumber", "serialno", "recno", "record", "recordnumber", "obs", "observation", "case", "lfdnr"),
)
_MANY = 10  # rows, from which a count of them is no coincidence


def read_features(path: Path, options: Options) -> Points:
    """Return the rows of a table as points (N, D), as `load` describes them.

    Args:
        path: a .csv, .tsv or .parquet file.
        options: columns, exclude, id_column, label_column, missing, categories and those of `READING`.

    Raises:
        DataError: the file, or what is in it, cannot be used.
        ParameterError: a column that was named is not there.
    """
    table = read_table(path, options)
    ids, categories = options["id_column"], options["categories"]
    spoken_of = {*named(ids), *named(options["columns"]), *named(options["exclude"]), *named(options["label_column"])}
    found = [name for name in table.columns if name not in spoken_of and numbers_rows(table, name)]
    remarks = list(table.remarks)
    if ids is None and (ids := next((name for name in found if _tells_apart(table, name)), None)) is not None:
        remarks.append(f"{_called(ids)} is taken as the points' names, not as a feature ({_to_use(ids)})")
    left = [name for name in found if name != ids]
    if left and options["columns"] is None:
        remarks += [f"{_called(name)} numbers or names the rows and is left out ({_to_use(name)})" for name in left]
    names = feature_columns(
        table, options["columns"], options["exclude"], (ids, options["label_column"], *left), categories
    )
    if options["columns"] is None:
        remarks += _of_doubt(table, names)
    x, feature_names = numbers(table, names, categories)
    remarks += [_of_categories(table, name, categories) for name in names if is_text(table[name])]
    y, n_clusters = (None, None) if options["label_column"] is None else classes(table, options["label_column"])
    points = None if ids is None else row_names(table, ids)
    whole = np.isnan(x).sum(axis=1) == 0
    if not whole.all():
        check_missing(table, x, feature_names, options["missing"], "drop", "mean")
        remarks.append(_filled_or_dropped(whole, options["missing"]))
        if options["missing"] == "mean":
            x = np.where(np.isnan(x), np.nanmean(x, axis=0, dtype=np.float64).astype(x.dtype), x)
        else:
            points = points or tuple(map(str, range(len(x))))
            points = tuple(itertools.compress(points, whole))
            x, y = x[whole], None if y is None else y[whole]
    return Points(x, y, n_clusters, names=points, feature_names=feature_names, remarks=tuple(remarks))


def numbers_rows(table: Table, name: str) -> bool:
    """Return whether a column numbers or names the rows, so that it is no feature.

    Such is the index that pandas wrote as "Unnamed: 0"; a column called "id" or "index", the first if it has no name,
    or one with a name that ends in ID, whose values are different whole numbers or texts; one called like a row number
    ("row", "no", "#") whose values count the rows from 0 or 1, in any order; and the first column that does so in a
    file of at least 10 rows without names, or under the name "X", as R writes it.

    Raises:
        ParameterError: there is no such column.
    """
    if not _is_whole(table, name) and not is_text(table[name]):
        return False
    if _PANDAS_INDEX.fullmatch(name):
        return True
    is_first = name == next(iter(table.columns))
    if (name.lower() in ROW_NAMES and (name or is_first)) or _ID.fullmatch(name):
        return _tells_apart(table, name)
    plain = re.sub(r"[\W_]+", "", name.lower()) or name
    unnamed = is_first and len(table) >= _MANY and (name == "X" or not table.has_header)
    return (plain in _ROW_NUMBERS or unnamed) and _counts(table, name)


def _is_whole(table: Table, name: str) -> bool:
    import pyarrow.types as pt

    return pt.is_integer(table[name].type)


def _tells_apart(table: Table, name: str) -> bool:
    """Return whether the values of a column are all there and all different."""
    texts = table.texts(name)
    return table[name].null_count == 0 and None not in texts and len(set(texts)) == len(texts)


def _counts(table: Table, name: str) -> bool:
    """Return whether the values of a column are 0 .. N - 1 or 1 .. N in any order."""
    if not _is_whole(table, name) or table[name].null_count:
        return False
    values = np.asarray(table[name])
    if values.min() not in (0, 1) or values.max() - values.min() != len(values) - 1:
        return False
    return len(np.unique(values)) == len(values)


def _of_doubt(table: Table, names: Sequence[str]) -> list[str]:
    """Return what is to be said of features that may be none."""
    like_ids = [name for name in names if name.lower() in ROW_NAMES or _ID.fullmatch(name)]
    counts = [name for name in names if len(table) >= _MANY and name not in like_ids and _counts(table, name)]
    why = {
        name: "" if _tells_apart(table, name) else ", as it does not name every row differently" for name in like_ids
    }
    return [
        *(f"{_called(name)} is a feature{why[name]} ({_without(name)} leaves it out)" for name in like_ids),
        *(f"{_called(name)} counts the rows and is a feature ({_without(name)} leaves it out)" for name in counts),
    ]


def _of_categories(table: Table, name: str, categories: str) -> str:
    known = levels(table[name])
    shown = ", ".join(
        f"{place} {level!r}" if categories == "ordinal" else repr(level) for place, level in enumerate(known[:8])
    )
    more = f" and {len(known) - 8:,} more" if len(known) > 8 else ""
    told = "its position in" if categories == "ordinal" else "a feature of 1 and 0 for each of"
    signs = [level for level in known if str(level).lower() in MISSING]
    doubt = f"; if {signs[0]!r} means that one is missing, give {give('missing_values', signs[0])}" if signs else ""
    return f"the category of column {name!r} becomes {told} {shown}{more}{doubt}"


def _called(name: str) -> str:
    return f"column {name!r}" if name else "the column without a name"


def _to_use(name: str) -> str:
    return f"to use it, list it in {give('columns')}"


def _without(name: str) -> str:
    return give("exclude", name)


def _filled_or_dropped(whole: npt.NDArray[np.bool_], missing: str) -> str:
    told = f"{int((~whole).sum()):,} of {len(whole):,} rows miss a value"
    if missing == "mean":
        return f"{told}, which becomes the mean of its column"
    return f"{told} and are left out"
