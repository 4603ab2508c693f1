"""Which clusters of two labelings belong together: contingency tables and one-to-one matching.

A table of K x K cells is dense while it is small and sparse beyond that, so that time and memory grow with the pairs of
names that occur together and not with the square of the names.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

Table = Any  # (rows, columns) of numpy, or scipy.sparse.csr_array where it is large

DENSE_CELLS = 1 << 18  # 512 x 512; up to here dense tables are the quicker ones


class Pairs(NamedTuple):
    """Rows and columns of a table that are matched one to one, as many as the shorter side has."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]


def tabled(
    rows: npt.NDArray[Any], columns: npt.NDArray[Any], shape: tuple[int, int], counts: npt.NDArray[Any] | None = None
) -> Table:
    """Count the points of each pair of names.

    Args:
        rows: (N,) integers in 0 .. shape[0] - 1.
        columns: (N,) integers in 0 .. shape[1] - 1.
        shape: of the table.
        counts: (N,) integers, how many points each pair stands for; None = 1.

    Returns:
        (rows, columns) int64, sparse where it has more than `DENSE_CELLS` cells.
    """
    if shape[0] * shape[1] > DENSE_CELLS:
        data = np.ones(len(rows), np.int64) if counts is None else counts.astype(np.int64)
        return sparse.csr_array((data, (rows.astype(np.int64), columns.astype(np.int64))), shape=shape)
    cells = rows.astype(np.int64) * shape[1] + columns
    if counts is None:
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    return np.bincount(cells, counts, minlength=shape[0] * shape[1]).astype(np.int64).reshape(shape)


def one_to_one(table: Table) -> Pairs:
    """Match rows with columns so that the sum over the matched cells is as great as can be.

    Args:
        table: (rows, columns) >= 0; integers where it is sparse.
    """
    if not sparse.issparse(table):
        return Pairs(*linear_sum_assignment(table, maximize=True))
    rows, columns = _matched(table.tocoo())
    n_rows, n_columns = table.shape
    left = np.setdiff1d(np.arange(n_rows), rows), np.setdiff1d(np.arange(n_columns), columns)
    n_left = min(map(len, left))
    return Pairs(np.append(rows, left[0][:n_left]), np.append(columns, left[1][:n_left]))


def _matched(entries: Any) -> Pairs:
    """Match rows and columns of a sparse table by its entries; those that nothing is gained by stay alone."""
    rows, columns, counts = entries.row.astype(np.intp), entries.col.astype(np.intp), entries.data
    found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    while len(sure := _sure(rows, columns, counts)):
        found.append((rows[sure], columns[sure]))
        free = ~np.isin(rows, rows[sure]) & ~np.isin(columns, columns[sure])
        rows, columns, counts = rows[free], columns[free], counts[free]
    if len(rows):
        found.append(_by_shortest_paths(rows, columns, counts))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def _sure(rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], counts: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return entries of different rows and columns that some best matching holds.

    An entry is one if it is worth the greatest others of its row and of its column together: a matching that holds
    those loses nothing by holding it instead.
    """
    worth = np.flatnonzero(counts >= _greatest_other(rows, counts) + _greatest_other(columns, counts))
    for side in (rows, columns):
        worth = worth[np.unique(side[worth], return_index=True)[1]]
    return worth


def _greatest_other(groups: npt.NDArray[np.intp], counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return for each entry the greatest count of the others of its group, 0 if there are none."""
    order = np.lexsort((-counts, groups))
    first = np.diff(groups[order], prepend=-1) > 0  # of its group
    following = np.append(counts[order][1:], 0) * ~np.append(first[1:], True)
    greatest = counts[order][first][np.cumsum(first) - 1]
    found = np.empty_like(counts)
    found[order] = np.where(first, following, greatest)
    return found


def _by_shortest_paths(
    rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], counts: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Match rows and columns by scipy's matching of sparse graphs."""
    row_names, row_at = np.unique(rows, return_inverse=True)
    column_names, column_at = np.unique(columns, return_inverse=True)
    n_rows, n_columns = len(row_names), len(column_names)
    # each row may stay alone: a column of its own, worth less than a single point even if all rows stay alone
    shape, values = (n_rows, n_columns), counts.astype(np.float64) * (n_rows + 1)
    alone = sparse.eye_array(n_rows, format="csr")
    costs = sparse.hstack([sparse.csr_array((values, (row_at, column_at)), shape=shape), alone], format="csr")
    at_row, at_column = min_weight_full_bipartite_matching(costs, maximize=True)
    real = at_column < n_columns
    return row_names[at_row[real]], column_names[at_column[real]]


def weight(table: Table, pairs: Pairs) -> Any:
    """Return the sum over the matched cells of a table."""
    if not sparse.issparse(table):
        return table[pairs].sum()
    partner = np.full(table.shape[0], -1)
    partner[pairs.rows] = pairs.columns
    entries = table.tocoo()
    return entries.data[partner[entries.row] == entries.col].sum()


def cells(table: Table) -> npt.NDArray[Any]:
    """Return the values of a table's cells; of a sparse one those that are not 0."""
    values: npt.NDArray[Any] = table.data if sparse.issparse(table) else table
    return values
