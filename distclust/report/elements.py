"""What a page is made of: pictures, tables, and grids whose cells are shaded as well as numbered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distclust.contracts import Array
from distclust.report.pictures import NARROW, Matrix, matrix
from distclust.report.thumbnails import png_uri

_MOST_CELLS = 20  # along a side of a grid; a larger one is a picture


class Picture(NamedTuple):
    """A picture with its words."""

    uri: str
    alt: str
    caption: str


class Table(NamedTuple):
    """A table; the first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Cell(NamedTuple):
    """A cell of a grid."""

    text: str
    shade: int  # 0 .. 10


class Grid(NamedTuple):
    """A table of pairs."""

    caption: str
    corner: str  # what the rows and the columns are
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


class Pairs(NamedTuple):
    """Values of pairs, and the words for them."""

    caption: str
    row: str  # what a row is, as in "cluster"
    column: str
    row_names: Sequence[str]
    column_names: Sequence[str]
    shades: Array  # (rows, columns) 0 .. 1, nan = none
    texts: Sequence[Sequence[str]]


def picture(png: bytes, alt: str, caption: str) -> Picture:
    """Return a picture of PNG bytes."""
    return Picture(png_uri(png), alt, caption)


def of_pairs(pairs: Pairs) -> Grid | Picture:
    """Return values of pairs as a grid that can be read, or as a picture where there are more than 20 of either."""
    if max(pairs.shades.shape) > _MOST_CELLS:
        alt = f"Heat map of {len(pairs.row_names)} rows ({pairs.row}) by {len(pairs.column_names)} columns"
        drawn = matrix(Matrix(pairs.shades, pairs.row, pairs.column, pairs.row_names, pairs.column_names), NARROW)
        return picture(drawn, f"{alt} ({pairs.column}): the darker a cell, the nearer to 1.", pairs.caption)
    rows = [
        (name, [Cell(text, _shade(value)) for text, value in zip(texts, values, strict=True)])
        for name, texts, values in zip(pairs.row_names, pairs.texts, pairs.shades, strict=True)
    ]
    return Grid(pairs.caption, f"{pairs.row} \\ {pairs.column}", pairs.column_names, rows)


def percent(share: float | None) -> str:
    """Return a share as in "92.2%"; "-" where it is not known."""
    return "-" if share is None or math.isnan(share) else f"{share:.1%}"


def listed(words: Iterable[object]) -> str:
    """Return words as in "1, 2 and 3"."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


def spans(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers in words, as in "3, 5 and 52 to 99"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return listed(", ".join(words).split(", "))


def evenly(rows: Sequence[Sequence[str]], most: int) -> Sequence[Sequence[str]]:
    """Return at most so many rows, evenly spaced, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(at * (len(rows) - 1) / (most - 1))] for at in range(most)]


def _shade(value: float) -> int:
    return 0 if math.isnan(value) else round(10 * min(1.0, max(0.0, value)))
