"""Tables of features, csv and parquet: which columns are features, and which values are numbers."""

from __future__ import annotations

import csv
import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.data.arrays import class_indices
from distclust.data.options import Options
from distclust.data.points import Points, check_fits
from distclust.errors import DataError, ParameterError, unknown_name

SUFFIXES = (".csv", ".tsv", ".parquet")
ROW_NAMES = ("", "id", "index", "__index_level_0__")  # of a column that names the rows, as pandas writes it
_SEPARATORS = ",;\t"
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it is stored.

    Args:
        path: of its file.
        columns: name -> pyarrow.ChunkedArray, all of one length.
        remarks: what is to be said of how it was read, a sentence each.
    """

    path: Path
    columns: Mapping[str, Any]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str | int) -> Any:
        """Return a column.

        Raises:
            ParameterError: there is none of this name.
        """
        if str(name) not in self.columns:
            raise ParameterError([f"{self.path}: {unknown_name('column', str(name), self.columns)}"])
        return self.columns[str(name)]


def read_features(path: Path, options: Options) -> Points:
    """Return the rows of a table as points (N, D) float32, as `load` describes them.

    Args:
        path: a .csv, .tsv or .parquet file.
        options: columns, exclude, id_column, label_column and missing.

    Raises:
        DataError: the file, or what is in it, cannot be used.
        ParameterError: a column that was named is not there.
    """
    table = read_table(path)
    ids = options["id_column"]
    remarks = list(table.remarks)
    if ids is None and (ids := _row_names(table, options)) is not None:
        called = f"column {ids!r}" if ids else "the column without a name"
        remarks.append(f"{called} is taken as the points' names, not as a feature (dataset.id_column)")
    names = feature_columns(table, options["columns"], options["exclude"], (ids, options["label_column"]))
    if repeated := [name for name in names if name.lower() in ROW_NAMES and name not in _listed(options["columns"])]:
        remarks.append(
            f"column {repeated[0]!r} is a feature, as it does not name every row differently (dataset.exclude)"
        )
    x, feature_names = numbers(table, names)
    y, n_clusters = (None, None) if options["label_column"] is None else classes(table, options["label_column"])
    points = None if ids is None else row_names(table, ids)
    whole = np.isnan(x).sum(axis=1) == 0
    if not whole.all():
        check_missing(table, x, feature_names, options["missing"], "drop", "mean")
        remarks.append(_filled_or_dropped(whole, options["missing"]))
        if options["missing"] == "mean":
            x = np.where(np.isnan(x), np.nanmean(x, axis=0, dtype=np.float64).astype(np.float32), x)
        else:
            points = points or tuple(map(str, range(len(x))))
            points = tuple(itertools.compress(points, whole))
            x, y = x[whole], None if y is None else y[whole]
    return Points(x, y, n_clusters, names=points, feature_names=feature_names, remarks=tuple(remarks))


def read_table(path: Path) -> Table:
    """Return a table.

    Args:
        path: a .parquet file; or a .csv or .tsv file in UTF-8, whose cells are separated by what its first line has
            most of, commas, semicolons or tabs, and whose first line holds the columns' names unless all of its cells
            are numbers; then columns are called "0", "1", ...

    Raises:
        DataError: the file cannot be read, has no rows or columns, or two columns of one name.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}. Give a .csv, .tsv or .parquet file.")
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}). Save it as csv in UTF-8.") from error
    except Exception as error:  # pandas and pyarrow have errors of their own for a bad file
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as a table ({told}). Correct it, or write it anew.") from error
    if not table.columns or not len(table):
        raise DataError(f"{path} has no {'rows' if table.columns else 'columns'}. Give a table that has some.")
    return table


def feature_columns(
    table: Table,
    columns: str | Sequence[str] | None,
    exclude: str | Sequence[str] | None,
    others: Iterable[str | None],
) -> list[str]:
    """Return the names of the columns that are features.

    Args:
        table: any.
        columns: those asked for; None = all.
        exclude: those left out.
        others: those that are something else, None for nothing.

    Raises:
        ParameterError: a name is not there, or stands for two things.
        DataError: no column is left, or one of them holds no numbers.
    """
    asked, excluded = _listed(columns), set(_listed(exclude))
    taken = {str(other) for other in others if other is not None}
    for name in [*asked, *excluded, *taken]:
        table[name]
    if both := sorted(set(asked) & (taken | excluded)):
        raise ParameterError(
            [f"columns names {', '.join(map(repr, both))}, which other options name too. Name it once."]
        )
    names = asked or [name for name in table.columns if name not in taken | excluded]
    if not names:
        raise DataError(f"{table.path}: no column is left to be a feature. Name those that are with columns=.")
    wrong = {name: kind for name in names if (kind := _no_number(table[name]))}
    if wrong:
        told = ", ".join(f"{name!r} ({kind})" for name, kind in list(wrong.items())[:_SHOWN])
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"{table.path}: columns that do not hold numbers: {told}{more}. Leave them out with exclude=, name those "
            "to use with columns=, name the points by one with id_column=, or turn them into numbers."
        )
    return names


def numbers(table: Table, names: Sequence[str]) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Return columns as (N, D) float32, NaN where a value is missing, and the names of the D features.

    A column of lists of one length, as embeddings are stored, gives a feature for every place, "name[0]", ...

    Raises:
        DataError: infinite values, values too large for float32, lists of different lengths.
    """
    widths = {name: _width(table, name) for name in names}
    check_fits(4 * len(table) * sum(widths.values()))
    x = np.empty((len(table), sum(widths.values())), np.float32)
    features: list[str] = []
    infinite: dict[str, int] = {}
    for name, width in widths.items():
        values = _values(table[name], width)  # (N, width) float64
        with np.errstate(over="ignore"):
            x[:, len(features) : len(features) + width] = values
        features += [name] if not _is_list(table[name]) else [f"{name}[{place}]" for place in range(width)]
        if n := int(np.isinf(x[:, len(features) - width : len(features)]).sum()):
            infinite[name] = n
    if infinite:
        raise DataError(
            f"{table.path}: infinite values, or values too large for float32: {_counted(infinite)}. Correct them, or "
            "leave these columns out with exclude=."
        )
    return x, tuple(features)


def classes(table: Table, name: str) -> tuple[Labels, int | None]:
    """Return the classes that a column names, -1 where it has none, and their number.

    Raises:
        ParameterError: there is no such column.
        DataError: it holds neither texts nor whole numbers.
    """
    column = table[name]
    known = np.asarray(column.is_valid())
    y = np.full(len(table), -1, dtype=np.int64)
    values = np.asarray(column.drop_null().to_pylist())
    if not known.any():
        return y, None
    y[known], n_clusters = class_indices(values, int(known.sum()), f"{table.path}: column {str(name)!r}")
    return y, n_clusters


def row_names(table: Table, name: str) -> tuple[str, ...]:
    """Return the names of the rows.

    Raises:
        ParameterError: there is no such column.
        DataError: some are missing, or stand twice.
    """
    column = table[name]
    if column.null_count:
        raise DataError(
            f"{table.path}: id_column {str(name)!r} misses {column.null_count:,} values. Name another, or none."
        )
    names = tuple(map(str, column.to_pylist()))
    value, n = Counter(names).most_common(1)[0]
    if n > 1:
        raise DataError(
            f"{table.path}: id_column {str(name)!r} has {value!r} {n:,} times; it must name every row differently. "
            "Name another column, or leave this one out with exclude=."
        )
    return names


def check_missing(table: Table, x: Array, names: Sequence[str], missing: str, *cures: str) -> None:
    """Refuse missing values unless something is to be done with them.

    Args:
        table: any.
        x: (N, D) its numbers, NaN = missing.
        names: (D,) of the features.
        missing: "refuse", or what is to be done.
        cures: what can be done.

    Raises:
        DataError: something is missing and is refused, or nothing would be left.
    """
    counts = dict(zip(names, np.isnan(x).sum(axis=0).tolist(), strict=True))
    empty = [name for name, n in counts.items() if n == len(x)]
    if empty:
        raise DataError(f"{table.path}: columns without any value: {_few(empty)}. Leave them out with exclude=.")
    if missing == "refuse":
        told = " or ".join(f"missing={cure!r}" for cure in cures)
        raise DataError(
            f"{table.path}: missing values: {_counted({n: c for n, c in counts.items() if c})}. Say what to do with "
            f"them, with {told}, or leave these columns out with exclude=."
        )
    if missing == "drop" and np.isnan(x).any(axis=1).all():
        raise DataError(
            f"{table.path}: every row misses a value, so that missing='drop' leaves none. Leave columns out."
        )


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        table = pq.ParquetFile(file).read()
    _check_names(path, table.column_names)
    return Table(path, dict(zip(table.column_names, table.columns, strict=True)))


def _read_csv(path: Path) -> Table:
    import pandas as pd
    import pyarrow as pa

    separator, first = _first_line(path)
    bare = all(map(_is_number, first))
    names = [str(place) for place in range(len(first))] if bare else first
    _check_names(path, names)
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of lines that have more cells than the first
        frame = pd.read_csv(
            file,
            sep=separator,
            header=None if bare else 0,
            names=names,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
            dtype_backend="numpy_nullable",
            encoding="utf-8-sig",
        )
    remark = "the first line holds numbers alone: it is a row, and columns are called 0, 1, ..."
    columns = {name: pa.chunked_array([pa.array(frame[name], from_pandas=True)]) for name in names}
    return Table(path, columns, (remark,) if bare else ())


def _first_line(path: Path) -> tuple[str, list[str]]:
    """Return what separates the cells of a csv file, and the cells of its first line that has some."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = next((line for line in file if line.strip()), "")
        separator = "\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=line.count)
        file.seek(0)
        cells = next((row for row in csv.reader(file, delimiter=separator) if any(map(str.strip, row))), [])
    if not cells:
        raise DataError(f"{path} is empty. Give a table with a line of names and rows of numbers.")
    return separator, [cell.strip() for cell in cells]


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(f"{path}: several columns are called {_few(twice)}. Give each column a name of its own.")


def _row_names(table: Table, options: Options) -> str | None:
    """Return the column that names the rows, where none was said to: the first called so that holds no two alike."""
    named = {*_listed(options["columns"]), *_listed(options["exclude"]), *_listed(options["label_column"])}
    for name, column in table.columns.items():
        if name.lower() in ROW_NAMES and name not in named and _may_name(column):
            return name
    return None


def _may_name(column: Any) -> bool:
    import pyarrow.types as pt

    kind = column.type
    names = pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind)
    return names and not column.null_count and len(column.unique()) == len(column)


def _no_number(column: Any) -> str:
    """Return what a column holds in place of numbers, "" if it holds numbers, lists of them, or nothing."""
    import pyarrow.types as pt

    kind = column.type
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return "" if _is_numeric(kind.value_type) else f"lists of {kind.value_type}"
    if _is_numeric(kind):
        return ""
    if pt.is_string(kind) or pt.is_large_string(kind):
        values = column.drop_null().to_pylist()
        return f"text, such as {next((v for v in values if not _is_number(v)), values[0] if values else '')!r:.40}"
    return "categories" if pt.is_dictionary(kind) else str(kind)


def _is_numeric(kind: Any) -> bool:
    import pyarrow.types as pt

    return any(test(kind) for test in (pt.is_integer, pt.is_floating, pt.is_boolean, pt.is_decimal, pt.is_null))


def _is_list(column: Any) -> bool:
    return hasattr(column.type, "value_type") and not hasattr(column.type, "index_type")


def _width(table: Table, name: str) -> int:
    """Return how many features a column gives."""
    column = table[name]
    if not _is_list(column):
        return 1
    import pyarrow.compute as pc

    lengths = set(pc.list_value_length(column).drop_null().unique().to_pylist())
    if len(lengths) != 1 or 0 in lengths or column.null_count:
        raise DataError(
            f"{table.path}: column {name!r} must hold lists of one length, without gaps; their lengths are "
            f"{_few(sorted(lengths))}, and {column.null_count:,} are missing."
        )
    return int(lengths.pop())


def _values(column: Any, width: int) -> npt.NDArray[np.float64]:
    """Return a column as (N, width) float64, NaN where a value is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.list_flatten(column) if _is_list(column) else column
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.uint8())
    found = np.asarray(flat.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    return found.reshape(-1, width)


def _filled_or_dropped(whole: npt.NDArray[np.bool_], missing: str) -> str:
    told = f"{int((~whole).sum()):,} of {len(whole):,} rows miss a value"
    if missing == "mean":
        return f"{told}, which becomes the mean of its column"
    return f"{told} and are left out"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(given: str | Sequence[str] | None) -> list[str]:
    return [] if given is None else [str(name) for name in ([given] if isinstance(given, (str, int)) else given)]


def _few(items: Sequence[object]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(repr, items[:_SHOWN])) + more


def _counted(counts: Mapping[str, int]) -> str:
    told = [f"{n:,} in {name!r}" for name, n in list(counts.items())[:_SHOWN]]
    return ", ".join(told) + (f" and some in {len(counts) - _SHOWN} more columns" if len(counts) > _SHOWN else "")
