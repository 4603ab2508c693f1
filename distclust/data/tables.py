"""Tables, csv and parquet: their columns, which of them are features, and which values are numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.data.arrays import class_indices
from distclust.data.categories import encoded, is_text, levels
from distclust.data.delimited import SIGNS, listed, number, read_cells, typed_columns
from distclust.data.files import check_fetched
from distclust.data.options import READING, Options, give
from distclust.data.points import check_fits
from distclust.errors import DataError, InputError, ParameterError, option_name, unknown_name

SUFFIXES = (".csv", ".tsv", ".parquet")
_SHOWN = 5
_MOST_CATEGORIES = 1000
_FEW_ROWS = 20  # in which every category may be another
_NOTATIONS = ((".", None), (".", ","), (",", None), (",", "."), (".", " "), (",", " "), (".", "'"))
_UNITS = re.compile(r"[%‰$€£¥°\s]+")
_DATE = re.compile(r"(\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4})([T ]\d.*)?")


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it is stored.

    Args:
        path: of its file.
        columns: name -> pyarrow.ChunkedArray, all of one length.
        written: name -> the cells of a csv file as they are written, "" where they are empty.
        has_header: whether the columns' names stand in the file.
        options: those of `READING` that it was read with.
        remarks: what is to be said of how it was read, a sentence each.
    """

    path: Path
    columns: Mapping[str, Any]
    written: Mapping[str, Any] = field(default_factory=dict)
    has_header: bool = True
    options: Options = field(default_factory=lambda: {name: option.default for name, option in READING.items()})
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str | int) -> Any:
        """Return a column.

        Raises:
            ParameterError: there is none of this name.
        """
        if str(name) not in self.columns:
            raise ParameterError([f"{self.path}: {unknown_name('column', str(name), self.columns)}{self.if_header()}"])
        return self.columns[str(name)]

    def if_header(self) -> str:
        """Return what to do if the first row, which was taken for one of data, holds names; a sentence for messages."""
        assumed = not self.has_header and self.options["header"] is None
        return f" If the first line holds the columns' names, give {give('header', True)}." if assumed else ""

    def texts(self, name: str | int) -> list[str | None]:
        """Return the values of a column as texts, those of a csv file as they are written, None where one is missing.

        Raises:
            ParameterError: there is none of this name.
        """
        if str(name) in self.written:
            return [cell or None for cell in self.written[str(name)].to_pylist()]
        return [None if value is None else str(value) for value in self[name].to_pylist()]


def read_table(path: Path, options: Options) -> Table:
    """Return a table.

    Args:
        path: a .csv, .tsv or .parquet file.
        options: those of `READING`, as `load` describes them; others are not looked at.

    Raises:
        DataError: the file cannot be read, has no rows or columns, or two columns of one name.
        ParameterError: options for csv with a parquet file.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}. Give a .csv, .tsv or .parquet file.")
    options = {name: options[name] for name in READING}
    try:
        check_fetched(path)
        table = _read_parquet(path, options) if path.suffix.lower() == ".parquet" else _read_csv(path, options)
    except InputError:
        raise
    except Exception as error:  # pyarrow has errors of its own for a bad file
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
    categories: str = "refuse",
) -> list[str]:
    """Return the names of the columns that are features.

    Args:
        table: any.
        columns: those asked for; None = all.
        exclude: those left out.
        others: those that are something else, None for nothing.
        categories: "refuse" columns of texts and categories, or what they become, "one-hot" or "ordinal".

    Raises:
        ParameterError: a name is not there, or stands for two things.
        DataError: no column is left, or one of them holds no numbers.
    """
    asked, excluded = named(columns), set(named(exclude))
    taken = {str(other) for other in others if other is not None}
    for name in [*asked, *excluded, *taken]:
        table[name]
    if both := sorted(set(asked) & (taken | excluded)):
        raise ParameterError(
            [
                f"{option_name('columns')} names {', '.join(map(repr, both))}, which other options name "
                "too. Name it once."
            ]
        )
    names = asked or [name for name in table.columns if name not in taken | excluded]
    if not names:
        raise DataError(f"{table.path}: no column is left to be a feature. Name those that are with {give('columns')}.")
    wrong = {name: why for name in names if (why := _no_number(table, name, categories))}
    if wrong:
        raise DataError(
            f"{table.path}: columns that do not hold numbers: {_told(wrong, categories)}{table.if_header()}"
        )
    return names


def numbers(table: Table, names: Sequence[str], categories: str = "refuse") -> tuple[Array, tuple[str, ...]]:
    """Return columns as (N, D), NaN where a value is missing, and the names of the D features.

    A column of lists of one length, as embeddings are stored, gives a feature for every place, "name[0]", ...; one of
    categories gives a feature for each, "name=category", or one in all, as `encoded` says. The type is float32 where
    that holds all values of the columns' types, else float64.

    Raises:
        DataError: infinite values, whole numbers that float64 cannot tell apart, lists of different lengths.
    """
    widths = {name: _width(table, name, categories) for name in names}
    dtype = np.dtype(np.float32 if all(_is_narrow(table[name]) for name in names) else np.float64)
    check_fits(dtype.itemsize * len(table) * sum(widths.values()))
    x = np.empty((len(table), sum(widths.values())), dtype)
    features: list[str] = []
    infinite: dict[str, int] = {}
    for name, width in widths.items():
        values, called = _values(table[name], name, width, categories)  # (N, width) float64
        x[:, len(features) : len(features) + width] = values
        features += called
        if n := int(np.isinf(x[:, len(features) - width : len(features)]).sum()):
            infinite[name] = n
    if infinite:
        raise DataError(
            f"{table.path}: infinite values: {_counted(infinite)}. Correct them, or leave these columns out with "
            f"{give('exclude')}."
        )
    if rounded := [name for name in names if _is_rounded(table[name])]:
        raise DataError(
            f"{table.path}: columns of different whole numbers of which float64 makes equal ones: {_few(rounded)}. "
            f"Subtract a value near all of them first, or leave these columns out with {give('exclude')}."
        )
    return x, tuple(features)


def classes(table: Table, name: str) -> tuple[Labels, int | None]:
    """Return the classes that a column names, -1 where it has none, and their number.

    Raises:
        ParameterError: there is no such column.
        DataError: it holds neither texts nor whole numbers.
    """
    values = class_names(table, name)
    known = np.array([value is not None for value in values])
    y = np.full(len(table), -1, dtype=np.int64)
    if not known.any():
        return y, None
    told = f"{table.path}: column {str(name)!r}"
    y[known], n_clusters = class_indices(np.asarray(values[known].tolist()), int(known.sum()), told)
    return y, n_clusters


def class_names(table: Table, name: str) -> npt.NDArray[np.object_]:
    """Return what a column calls the class of each row, None where it names none.

    Whole numbers are numbers, so that "1.0" and "1" are one class, unless some begin with a zero, as in "007", or have
    more than 15 digits. In a column of other texts, every text is a class, "NA" and "None" too; in one of numbers they
    stand for none.

    Raises:
        ParameterError: there is no such column.
    """
    column = table[name]
    values = np.empty(len(table), dtype=object)
    values[:] = column.to_pylist()
    if str(name) not in table.written or is_text(column):
        return values
    texts = table.written[str(name)].to_pylist()
    if any(re.fullmatch(r"0\d+|\d{16,}", text) for text in texts):
        values[:] = [None if value is None else text for value, text in zip(values, texts, strict=True)]
    return values


def row_names(table: Table, name: str) -> tuple[str, ...]:
    """Return the names of the rows.

    Raises:
        ParameterError: there is no such column.
        DataError: some are missing, or stand twice.
    """
    texts = table.texts(name)
    names = tuple(text for text in texts if text is not None)
    if len(names) < len(texts):
        raise DataError(
            f"{table.path}: {option_name('id_column')} {str(name)!r} misses "
            f"{len(texts) - len(names):,} values. Name another, or none."
        )
    value, n = Counter(names).most_common(1)[0]
    if n > 1:
        raise DataError(
            f"{table.path}: {option_name('id_column')} {str(name)!r} has {value!r} {n:,} times; it "
            f"must name every row differently. Name another column, or leave this one out with {give('exclude', name)}."
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
    signs = {name: f" (text, such as {sign!r})" for name, n in counts.items() if n and (sign := _sign(table, name))}
    empty = [name for name, n in counts.items() if n == len(x)]
    if empty:
        raise DataError(
            f"{table.path}: columns without any value: {_few(empty)}. Leave them out with {give('exclude')}."
        )
    if missing == "refuse":
        told = " or ".join(give("missing", cure) for cure in cures)
        counted = _counted({name: n for name, n in counts.items() if n}, signs)
        raise DataError(
            f"{table.path}: missing values: {counted}. Say what to do with them, with {told}, or leave these "
            f"columns out with {give('exclude')}."
        )
    if missing == "drop" and np.isnan(x).any(axis=1).all():
        raise DataError(
            f"{table.path}: every row misses a value, so that {give('missing', 'drop')} leaves none. Leave columns out."
        )


def _read_parquet(path: Path, options: Options) -> Table:
    import pyarrow.parquet as pq

    for_csv = [name for name in READING if name != "missing_values" and options[name] != READING[name].default]
    if for_csv:
        raise ParameterError(
            [f"{give(name, options[name])} is for csv, and {path} is not. Leave it out." for name in for_csv]
        )
    with path.open("rb") as file:
        table = pq.ParquetFile(file).read()
    _check_names(path, table.column_names)
    markers = listed(options["missing_values"])
    columns = zip(table.column_names, (_without(column, markers) for column in table.columns), strict=True)
    return Table(path, dict(columns), options=options)


def _read_csv(path: Path, options: Options) -> Table:
    if options["thousands"] == options["decimal"]:
        raise ParameterError(
            [
                f"{option_name('decimal')} and {option_name('thousands')} are both "
                f"{options['decimal']!r}. Give two different signs."
            ]
        )
    cells = read_cells(path, options)
    _check_names(path, cells.names)
    markers = listed(options["missing_values"])
    written = dict(zip(cells.names, cells.columns, strict=True))
    columns = (_without(column, markers) for column in typed_columns(cells.columns, options))
    return Table(path, dict(zip(cells.names, columns, strict=True)), written, cells.has_header, options, cells.remarks)


def _without(column: Any, markers: Sequence[Any]) -> Any:
    """Return a column without the values that stand for missing ones, compared as texts, and numbers as numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_text(column):
        texts = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        return (
            pc.if_else(pc.is_in(texts.cast(pa.string()), pa.array(list(map(str, markers)), pa.string())), None, column)
            if markers
            else column
        )
    own = [float(marker) for marker in markers if number().fullmatch(str(marker))]
    if not own or not _is_numeric(column.type) or pa.types.is_null(column.type):
        return column
    return pc.if_else(pc.is_in(column.cast(pa.float64(), safe=False), pa.array(own)), None, column)


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(f"{path}: several columns are called {_few(twice)}. Give each column a name of its own.")


def _no_number(table: Table, name: str, categories: str) -> tuple[str, str] | None:
    """Return what a column holds in place of numbers, and what to do; None if it holds numbers or what becomes some."""
    import pyarrow.types as pt

    column = table[name]
    kind = column.type
    if _is_list(column):
        return None if _is_numeric(kind.value_type) else (f"lists of {kind.value_type}", "")
    if _is_numeric(kind):
        return None
    if not is_text(column):
        return str(kind), ""
    values = [] if pt.is_dictionary(kind) else column.drop_null().unique().to_pylist()
    if values and (found := _recognized(values, table)):
        return found
    if values and categories == "refuse":
        return f"text, such as {values[0]!r:.40}", ""
    if categories == "refuse":
        return "categories", ""
    n = len(levels(column))
    if n > _MOST_CATEGORIES or n == len(table) > _FEW_ROWS:
        return f"{n:,} categories in {len(table):,} rows", ""
    return None


def _recognized(values: Sequence[str], table: Table) -> tuple[str, str] | None:
    """Return what texts are that are no categories, and what to do; None if they are nothing that is known."""
    decimal, thousands = table.options["decimal"], table.options["thousands"]
    odd = [value for value in values if not number(decimal, thousands).fullmatch(value)]
    such = f"such as {(odd or values)[0]!r:.40}"
    if all(map(_DATE.fullmatch, values)):
        return f"dates, {such}", ""
    if table.written and (read := _notation(values, decimal, thousands)):
        return f"text, {such}", f"Such numbers are read with {read}."
    if all(number(decimal, thousands).fullmatch(_UNITS.sub("", value)) for value in values):
        return f"text, {such}", "Write numbers without units and signs."
    if len(odd) <= len(values) / 2:
        marker = give("missing_values", odd[0])
        return (
            f"text, {such}",
            f"The other values are numbers: if {odd[0]!r:.40} means that one is missing, give {marker}.",
        )
    return None


def _notation(values: Sequence[str], decimal: str, thousands: str | None) -> str:
    """Return the options with which texts are numbers, "" if there are none."""
    given = {"decimal": decimal, "thousands": thousands}
    fitting = [signs for signs in _NOTATIONS if all(map(number(*signs).fullmatch, values))]
    changed = [
        [give(name, sign) for name, sign in zip(given, signs, strict=True) if sign != given[name]] for signs in fitting
    ]
    fewest = min(map(len, changed), default=0)
    return " or ".join(" and ".join(one) for one in changed if len(one) == fewest) if fewest else ""


def _told(wrong: Mapping[str, tuple[str, str]], categories: str) -> str:
    """Return columns that do not hold numbers, and what to do with them."""
    told = ", ".join(f"{name!r} ({kind})" for name, (kind, _) in list(wrong.items())[:_SHOWN])
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    cures = dict.fromkeys(cure for _, cure in wrong.values() if cure)
    others = f", make categories numbers with {give('categories', 'one-hot')} or {give('categories', 'ordinal')}"
    return (
        f"{told}{more}. {''.join(f'{cure} ' for cure in cures)}Leave them out with {give('exclude')}, name those to "
        f"use with {give('columns')}, name the points by one with {give('id_column')}, or the true classes with "
        f"{give('label_column')}{others if categories == 'refuse' else ''}."
    )


def _is_numeric(kind: Any) -> bool:
    import pyarrow.types as pt

    return any(test(kind) for test in (pt.is_integer, pt.is_floating, pt.is_boolean, pt.is_decimal, pt.is_null))


def _is_list(column: Any) -> bool:
    return hasattr(column.type, "value_type") and not hasattr(column.type, "index_type")


def _width(table: Table, name: str, categories: str) -> int:
    """Return how many features a column gives."""
    column = table[name]
    if not _is_list(column):
        return len(encoded(column, categories)[1]) if is_text(column) and categories == "one-hot" else 1
    import pyarrow.compute as pc

    lengths = set(pc.list_value_length(column).drop_null().unique().to_pylist())
    if len(lengths) != 1 or 0 in lengths or column.null_count:
        raise DataError(
            f"{table.path}: column {name!r} must hold lists of one length, without gaps; their lengths are "
            f"{_few(sorted(lengths))}, and {column.null_count:,} are missing."
        )
    return int(lengths.pop())


def _is_narrow(column: Any) -> bool:
    """Return whether float32 holds all values of a column's type."""
    kind = column.type.value_type if _is_list(column) else column.type
    return is_text(column) or bool(np.result_type(kind.to_pandas_dtype(), np.float32) == np.float32)


def _is_rounded(column: Any) -> bool:
    """Return whether float64 makes equal numbers of different integers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_int64(column.type) and not pa.types.is_uint64(column.type):
        return False
    largest = pc.max(pc.abs_checked(column.cast(pa.float64(), safe=False))).as_py() or 0
    return largest > 2**53 and len(column.unique()) > len(column.cast(pa.float64(), safe=False).unique())


def _values(column: Any, name: str, width: int, categories: str) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return a column as (N, width) float64, NaN where a value is missing, and what its features are called."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_text(column):
        values, stand_for = encoded(column, categories)
        return values, [name] if categories == "ordinal" else [f"{name}={category}" for category in stand_for]
    flat = pc.list_flatten(column) if _is_list(column) else column
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.uint8())
    found = np.asarray(flat.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    called = [f"{name}[{place}]" for place in range(width)] if _is_list(column) else [name]
    return found.reshape(-1, width), called


def _sign(table: Table, name: str) -> str | None:
    """Return a sign that stands for a missing value in a column of a csv file and could be something else."""
    texts = table.written.get(name)
    found = [] if texts is None else [sign for sign in SIGNS if sign in texts.unique().to_pylist()]
    return next(iter(found), None)


def named(given: str | int | Sequence[str | int] | None) -> list[str]:
    """Return the names of an option that takes one or several columns, or None."""
    return [str(name) for name in listed(given)]


def _few(items: Sequence[object]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(repr, items[:_SHOWN])) + more


def _counted(counts: Mapping[str, int], notes: Mapping[str, str] | None = None) -> str:
    told = [f"{n:,} in {name!r}{(notes or {}).get(name, '')}" for name, n in list(counts.items())[:_SHOWN]]
    return ", ".join(told) + (f" and some in {len(counts) - _SHOWN} more columns" if len(counts) > _SHOWN else "")
