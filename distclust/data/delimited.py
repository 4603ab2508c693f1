"""Delimited text: from the bytes of a csv file to columns of cells, and from cells to numbers."""

from __future__ import annotations

import codecs
import contextlib
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distclust.data.options import SEPARATORS, Options, give
from distclust.errors import DataError

# What stands for a missing value in a column of numbers, in lower case: what pandas takes for one, and the usual signs.
MISSING = (
    *("", "na", "n/a", "nan", "null", "none", "nil", "<na>", "#na", "#n/a", "#n/a n/a", "-nan", "?", "-", "--", "."),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
SIGNS = ("?", "-", "--", ".")  # those that could be something else: a message names them
_GUESSED = "\t;|,"  # in this order where two of them fit equally well
_SAMPLE = 200  # rows that separator, number of cells and header are judged by, fewer where they are long
_CHARACTERS = 1 << 20  # of a sample of more than 20 rows
_CELLS = 100  # of a row that separators are judged by
_BLOCK = 1 << 26  # bytes; no row is longer
_AT_ONCE = 1 << 20  # cells that are converted together
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t ]*(?:\n|$)', re.IGNORECASE)
_COMMENT = re.compile(r"#(?!N/?A|[A-Z0-9/]+[!?]|[,;\t|])")  # "#N/A" and "#DIV/0!" are cells of Excel
_BOMS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16"} | {
    codecs.BOM_UTF16_BE: "utf-16"
}
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or a workbook of Excel",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel",
    b"\x1f\x8b": "compressed with gzip",
    **dict.fromkeys((b"<!DOCTYPE", b"<!doctype", b"<html", b"<?xml"), "a web page or XML"),
    **dict.fromkeys((b"{", b"[{"), "JSON"),
    b"PAR1": "parquet, whose names end in .parquet",
    b"\x93NUMPY": "an array of numpy, whose names end in .npy",
}


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a csv file.

    Args:
        names: of the columns, "0", "1", ... where the file has no header.
        columns: (N,) strings each, a pyarrow.ChunkedArray, as written but for spaces around them.
        has_header: whether the first row holds the names.
        remarks: what is to be said of how the file was read, a sentence each.
    """

    names: list[str]
    columns: list[Any]
    has_header: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    """The first rows of a file.

    Args:
        separator: of cells.
        rows: lists of cells, without spaces around them.
        width: how many cells most rows have.
    """

    separator: str
    rows: list[list[str]]
    width: int


def read_cells(path: Path, options: Options) -> Cells:
    """Return the cells of a csv file.

    Args:
        path: of the file.
        options: header, encoding, decimal, thousands, separator and missing_values.

    Raises:
        DataError: the file is no text in this encoding, is empty, or its rows differ in length.
    """
    text, remarks = _text(path, options["encoding"])
    separator = SEPARATORS.get(options["separator"], options["separator"])
    if said := _SEP_LINE.match(text):
        if separator is None:
            remarks.append(f"its first line says what separates cells, as {give('separator', said[1])} does")
        text, separator = text[said.end() :], separator or said[1]
    if "\n " in text or text.startswith(" "):
        text = re.sub(r"(?m)^ +$", "", text)
    text, comment = _without_comments(text)
    if separator is None and path.suffix.lower() == ".tsv" and "\t" in text:
        separator = "\t"
    sample = _sampled(text, separator, options["decimal"])
    if not sample.rows:
        raise DataError(f"{path} is empty. Give a table with a line of names and rows of numbers.")
    text = _plain(text, sample)
    columns = _parsed(path, text, sample)
    first = _first_row(path, sample, columns)
    is_even = len(sample.rows[0]) == sample.width
    body = [column.slice(int(is_even)) for column in columns]
    names, has_header = _names(first, comment, body, sample, options)
    if not has_header:
        if not is_even:
            raise DataError(_uneven(path, sample))
        remarks += [_about_first_row(first)] if options["header"] is None and names[:1] == ["0"] else []
        body = columns
    names, body, more = _without_empty(names, body)
    return Cells(names, body, has_header, (*remarks, *more))


def typed(cells: Any, options: Options) -> Any:
    """Return cells as integers, numbers, bools or text, missing ones as null; text keeps all but empty cells.

    Args:
        cells: a pyarrow.ChunkedArray of strings.
        options: decimal, thousands and missing_values.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    own = [str(marker).lower() for marker in listed(options["missing_values"])]
    lower = pc.utf8_lower(cells)
    known = pc.if_else(pc.is_in(lower, pa.array([*MISSING, *own])), None, cells)
    if known.null_count == len(known):
        return pa.chunked_array([pa.nulls(len(known))])
    found = _cast(known) if options["decimal"] == "." else None
    if found is None:
        found = _cast(_as_plain_numbers(known, options["decimal"], options["thousands"]))
    return pc.if_else(pc.is_in(lower, pa.array(["", *own])), None, cells) if found is None else found


def typed_columns(columns: Sequence[Any], options: Options) -> list[Any]:
    """Return what `typed` makes of each column; plain numbers are converted many columns at a time.

    Args:
        columns: (N,) strings each, pyarrow.ChunkedArrays.
        options: decimal, thousands and missing_values.
    """
    if options["decimal"] != "." or options["thousands"] is not None or not columns:
        return [typed(column, options) for column in columns]
    size = max(1, _AT_ONCE // max(1, len(columns[0])))
    blocks = [columns[start : start + size] for start in range(0, len(columns), size)]
    return [column for block in blocks for column in _typed_block(block, options)]


def _typed_block(columns: Sequence[Any], options: Options) -> list[Any]:
    """Return columns that are all plain numbers from one conversion, others from one for each half, and so on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(columns) == 1 or not len(columns[0]):
        return [typed(column, options) for column in columns]
    cells = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    try:
        values = np.asarray(pc.cast(cells, pa.float64())).reshape(len(columns), -1)
    except pa.ArrowInvalid:
        half = len(columns) // 2
        return _typed_block(columns[:half], options) + _typed_block(columns[half:], options)
    is_whole = (np.trunc(values) == values).all(axis=1)
    return [
        typed(column, options) if whole else pa.chunked_array([pa.array(numbers, from_pandas=True)])
        for column, numbers, whole in zip(columns, values, is_whole, strict=True)
    ]


def _cast(cells: Any) -> Any | None:
    """Return strings as integers, numbers or bools, None where they are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.any(pc.match_substring(cells, "x", ignore_case=True)).as_py():
        return None  # pyarrow would take 0x10 for 16
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        with contextlib.suppress(pa.ArrowInvalid):
            return pc.cast(cells, kind)
    return None


def _as_plain_numbers(cells: Any, decimal: str, thousands: str | None) -> Any:
    """Return cells with digits ungrouped, a decimal point and a plain minus, where that is what their signs mean."""
    import pyarrow.compute as pc

    point = re.escape(decimal)
    if thousands is not None:
        grouped = rf"^[-+−]?\d{{1,3}}({_group(thousands)}\d{{3}})+({point}\d*)?$"
        ungrouped = pc.replace_substring_regex(cells, _group(thousands), "")
        cells = pc.if_else(pc.match_substring_regex(cells, grouped), ungrouped, cells)
    if decimal != ".":
        if pc.any(pc.match_substring(cells, ".")).as_py():
            return pc.binary_join_element_wise(cells, "", "?")  # a point is no decimal sign here: no number
        cells = pc.replace_substring(cells, decimal, ".")
    return pc.replace_substring(cells, "−", "-")


def number(decimal: str = ".", thousands: str | None = None) -> re.Pattern[str]:
    """Return the pattern of a number, written with these signs."""
    point, grouped = re.escape(decimal), rf"|\d{{1,3}}(?:{_group(thousands)}\d{{3}})+" if thousands else ""
    whole = rf"(?:(?:\d+{grouped})(?:{point}\d*)?|{point}\d+)"
    return re.compile(rf"[-+−]?(?:{whole}(?:[eE][-+]?\d+)?|inf(?:inity)?)", re.IGNORECASE)


def _group(thousands: str) -> str:
    """Return the pattern of a sign between thousands; any space is one, as Excel writes those that do not break."""
    return "[ \u00a0\u202f]" if thousands == " " else re.escape(thousands)


def listed(given: Any) -> list[Any]:
    """Return the items of an option that takes one or several, or None."""
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def _text(path: Path, encoding: str | None) -> tuple[str, list[str]]:
    """Return what a file holds, its lines ended by a line feed, and what is to be said of its encoding."""
    raw = path.read_bytes()
    for head, kind in _OTHER_KINDS.items():
        if raw.startswith(head):
            raise DataError(f"{path} cannot be read as a table: it is {kind}. Save it as csv or parquet.")
    try:
        text = raw.decode(encoding or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(_no_text(path, raw, encoding, error)) from error
    if "\0" in text:
        even, odd = raw[::2].count(0), raw[1::2].count(0)
        coded = "utf-16-le" if odd > len(raw) / 4 > even else "utf-16-be" if even > len(raw) / 4 > odd else None
        cure = f"Give {give('encoding', coded)}." if coded else "Write it again as text."
        raise DataError(f"{path} cannot be read as a table: it holds bytes of 0, which text does not. {cure}")
    doubt = f"the file is valid UTF-8, so {give('encoding', encoding)} may be wrong: try {give('encoding', 'utf-8')}"
    remarks = [doubt] if encoding is not None and text != _in_utf8(raw, text) else []
    return text.replace("\r\n", "\n").replace("\r", "\n"), remarks


def _in_utf8(raw: bytes, otherwise: str) -> str:
    """Return what a file holds as UTF-8, something else if it is none."""
    if raw.isascii():
        return otherwise
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return otherwise


def _no_text(path: Path, raw: bytes, encoding: str | None, error: UnicodeDecodeError) -> str:
    marked = next((name for bom, name in _BOMS.items() if raw.startswith(bom)), None)
    if marked:
        return f"{path} is no text in UTF-8: its first bytes are those of {marked}. Give {give('encoding', marked)}."
    line = raw.count(b"\n", 0, error.start) + 1
    place = f"{path} is no text in {encoding or 'UTF-8'}: byte 0x{raw[error.start]:02x} in line {line:,}"
    shown = raw.split(b"\n", line)[line - 1].decode("cp1252", "replace").strip()
    cure = (
        f"Name its encoding; {give('encoding', 'cp1252')}, usual for Windows and Excel, makes the line {shown!r:.60}."
    )
    return f"{place}. {cure}"


def _without_comments(text: str) -> tuple[str, str]:
    """Return a text from its first line that is neither blank nor a comment, and the last comment before it."""
    start, comment = 0, ""
    for line in re.finditer(r"([^\n]*)(?:\n|$)", text):
        if line[1].strip() and not _COMMENT.match(line[1]):
            break
        start, comment = line.end(), line[1].strip() or comment
        if line.end() == len(text):
            break
    return text[start:], comment


def _sampled(text: str, separator: str | None, decimal: str) -> _Sample:
    """Return the first rows, cut at what fits them best: cells in rows of one length, and numbers in them.

    A sign that is the decimal one separates cells only where some are in quotes.
    """
    lines = [line for line in _first_lines(text) if line and not _COMMENT.match(line)]
    guessed = _GUESSED if any('"' in line for line in lines) else _GUESSED.replace(decimal, "")
    found = [_cut(lines, one) for one in ([separator] if separator else guessed)]
    best = max([sample for sample in found if sample.width > 1] or found[-1:], key=_shares)
    if separator is None and (spaced := _cut(lines, " ")).width > 1:
        is_even, n_numbers = _shares(spaced)
        if is_even == 1 and n_numbers > max(0.5, _shares(best)[1] if best.width > 1 else 0):
            return spaced
    return best


def _first_lines(text: str) -> list[str]:
    lines: list[str] = []
    start = 0
    while start < len(text) and len(lines) < _SAMPLE and (start < _CHARACTERS or len(lines) < 20):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        lines.append(text[start:end])
        start = end + 1
    return lines


def _cut(lines: Sequence[str], separator: str) -> _Sample:
    if separator == " ":
        lines = [_spaced(line) for line in lines]
    try:
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=_single(separator), skipinitialspace=True)
        rows = [[cell.strip() for cell in row] for row in reader if row]
    except csv.Error:  # a cell without end
        rows = [line.split(_single(separator)) for line in lines]
    widths = Counter(map(len, rows[1:] or rows))
    width = max(widths, key=lambda n: (widths[n], n == len(rows[0])), default=0)
    return _Sample(separator, rows, width)


def _single(separator: str) -> str:
    return "\t" if separator == " " else separator


def _spaced(text: str) -> str:
    """Return a text with a tab in place of all spaces and tabs that stand together, but for those in quotes."""
    text = re.sub(r"(?m)^[ \t]+|[ \t]+$", "", text)
    return re.sub(r'("[^"]*")|[ \t]+', lambda found: found[1] or "\t", text)


def _shares(sample: _Sample) -> tuple[float, float]:
    """Return which share of the rows below the first has most rows' number of cells, and which of these are numbers."""
    below = sample.rows[1:] or sample.rows
    rows = [row for row in below if len(row) == sample.width]
    cells = [cell for row in rows for cell in row[:_CELLS] if cell]
    patterns = number(), number(",")
    n_numbers = sum(cell[-1] != "," and any(pattern.fullmatch(cell) for pattern in patterns) for cell in cells)
    return round(len(rows) / max(1, len(below)), 1), n_numbers / max(1, len(cells))


def _plain(text: str, sample: _Sample) -> str:
    """Return a text that pyarrow reads: no spaces before quotes, one sign between cells."""
    if sample.separator == " ":
        return _spaced(text)
    return text.replace(f'{sample.separator} "', f'{sample.separator}"')


def _parsed(path: Path, text: str, sample: _Sample) -> list[Any]:
    """Return the columns of all rows that have as many cells as most; other rows but the first are refused."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv

    names = [str(place) for place in range(sample.width)]
    others: list[Any] = []

    def skip(row: Any) -> str:
        others.append(row)
        return "skip"

    table = pacsv.read_csv(
        pa.BufferReader(text.encode()),
        read_options=pacsv.ReadOptions(column_names=names, use_threads=False, block_size=_BLOCK),
        parse_options=pacsv.ParseOptions(
            delimiter=_single(sample.separator),
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    others = [row for row in others if not _COMMENT.match(row.text)]
    uneven = others[len(sample.rows[0]) != sample.width :]
    if uneven:
        row = uneven[0]
        raise DataError(
            f"{path} cannot be read as a table: row {row.number:,} has {_cells(row.actual_columns)}, most rows "
            f"have {sample.width:,}: {row.text!r:.80}. Correct it; {_if_other(sample)}"
        )
    if len(table) and "\n" in table.columns[-1][-1].as_py() and not text.rstrip().endswith('"'):
        raise DataError(f"{path} cannot be read as a table: a quotation mark is opened and not closed. Close it.")
    return [pc.utf8_trim_whitespace(column) for column in table.columns]


def _first_row(path: Path, sample: _Sample, columns: Sequence[Any]) -> list[str]:
    """Return the cells of the first row, as many as the others have.

    A trailing separator may stand in it alone, or in the other rows alone; and a column that names the rows may have no
    name, as R writes it.
    """
    first, width = sample.rows[0], sample.width
    if len(first) > width and not any(first[width:]):
        return first[:width]
    if len(first) == width - 1:
        if not any(columns[-1].unique().to_pylist()):
            return [*first, ""]
        if names_rows(columns[0]) and not _may_be_decimal(sample):
            return ["", *first]
    if len(first) != width:
        raise DataError(_uneven(path, sample))
    return first


def _uneven(path: Path, sample: _Sample) -> str:
    decimal = f" If commas are decimal signs, give {give('decimal', ',')}." if _may_be_decimal(sample) else ""
    return (
        f"{path} cannot be read as a table: its first line has {_cells(len(sample.rows[0]))}, the rows below have "
        f"{sample.width:,}. Begin it with a line that names each column; {_if_other(sample)}{decimal}"
    )


def _may_be_decimal(sample: _Sample) -> bool:
    """Return whether rows have twice as many cells as the first, as decimal commas that separate cells make."""
    return sample.separator == "," and sample.width == 2 * len(sample.rows[0])


def _cells(n: int) -> str:
    return f"{n:,} cell{'s' * (n != 1)}"


def _if_other(sample: _Sample) -> str:
    return f"if cells are not separated by {sample.separator!r}, say by what with {give('separator')}."


def names_rows(cells: Any) -> bool:
    """Return whether cells count the rows from 0 or 1, in any order, or are different texts that are no numbers."""
    values = cells.unique().to_pylist()
    if len(values) < len(cells) or None in values:
        return False
    if all(re.fullmatch(r"\d{1,15}", str(value)) for value in values):
        return max(map(int, values)) - min(map(int, values)) == len(values) - 1 and min(map(int, values)) in (0, 1)
    return not any(number().fullmatch(str(value)) or str(value).lower() in MISSING for value in values)


def _names(
    first: list[str], comment: str, body: Sequence[Any], sample: _Sample, options: Options
) -> tuple[list[str], bool]:
    """Return the columns' names, and whether the first row holds them."""
    named = options["header"]
    if named is None:
        named = is_header(first, typed_columns([column.slice(0, _SAMPLE) for column in body], options), options)
    if named:
        return first, True
    commented = _cut([comment.lstrip("# ")], sample.separator).rows if comment and options["header"] is None else []
    if commented and len(commented[0]) == sample.width:
        return commented[0], False
    return [str(place) for place in range(sample.width)], False


def is_header(first: Sequence[str], body: Sequence[Any], options: Options) -> bool:
    """Return whether a row holds the names of columns.

    It does if one of its cells is text where the rows below hold numbers. It does not if one of them is a number where
    the rows below hold numbers, unless its numbers count the columns from 0, as pandas names them, and the rows below
    do not. Where that decides nothing, it does unless a cell is a number with a decimal comma or grouped digits, or all
    of its texts appear again in their columns.

    Args:
        first: (D,) cells of the row.
        body: (D,) columns of the rows below, as `typed` returns them.
        options: decimal, thousands and missing_values.
    """
    import pyarrow.types as pt

    own = {str(marker).lower() for marker in listed(options["missing_values"])}
    pattern = number(options["decimal"], options["thousands"])
    known = [(cell, column) for cell, column in zip(first, body, strict=True) if cell.lower() not in {*MISSING, *own}]
    numbers = [bool(pattern.fullmatch(cell)) or cell.lower() in ("true", "false") for cell, _ in known]
    below = [column for column in body if len(column)]
    if not below:
        return not any(numbers) and bool(known)
    texts = [pt.is_string(column.type) for _, column in known]
    if any(not number and not text for number, text in zip(numbers, texts, strict=True)):
        return True
    if any(number and not text for number, text in zip(numbers, texts, strict=True)):
        return _counts_columns(first, body)
    grouped = number(",", "."), number(".", ",")
    if any(pattern.fullmatch(cell) for cell, _ in known for pattern in grouped):
        return False
    return bool(known) and not all(cell in column.to_pylist() for cell, column in known)


def _counts_columns(first: Sequence[str], body: Sequence[Any]) -> bool:
    import pyarrow.types as pt

    indexed = first[0] == ""
    if list(first[indexed:]) != [str(place) for place in range(len(first) - indexed)] or len(first) < 3:
        return False
    return names_rows(body[0]) if indexed else all(pt.is_floating(column.type) for column in body)


def _about_first_row(first: Sequence[str]) -> str:
    told = "numbers alone" if all(map(number().fullmatch, first)) else "cells like those of the rows below"
    return (
        f"the first line holds {told}: it is a row, and columns are called 0, 1, ... "
        f"(if it holds their names, give {give('header', True)})"
    )


def _without_empty(names: list[str], columns: Sequence[Any]) -> tuple[list[str], list[Any], list[str]]:
    """Return names and columns but for those with neither a name nor a value, as a trailing separator makes them."""
    placed = [str(place) for place in range(len(names))]
    nameless = {"", *(placed if names == placed else [])}
    kept = [
        place
        for place, (name, column) in enumerate(zip(names, columns, strict=True))
        if not ((name in nameless or re.fullmatch(r"Unnamed: \d+", name)) and not any(column.unique().to_pylist()))
    ]
    n = len(names) - len(kept)
    told = f"trailing separators make {n:,} column{'s' * (n > 1)} without a name or a value: no feature"
    return [names[place] for place in kept], [columns[place] for place in kept], [told] if n else []
