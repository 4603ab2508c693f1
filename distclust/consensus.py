"""Alignment of several labellings and the vote over them; no true label comes near.

Cluster names mean nothing: two members that find the same groups call them by other names. `align` gives all members
the same names by Hungarian matching, `vote` takes the label most members give and says how many give it.

**What the answer depends on.** Not on the names the members use, and not on their order, ties included: clusters are
first renamed in the order in which the points meet them, and where members tie for the pivot, the one whose labels
then come first in the alphabet is taken. Permuting the points permutes the answer unless there is an exact tie. No
rule could have all three: [0, 0, 1, 1] and [0, 1, 0, 1] are swapped by permuting points 1 and 2 as well as by
permuting the members, and the consensus cannot be both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from distclust.contracts import Agreement, Labels
from distclust.errors import DataError, ParameterError

# In this file a code is a label in 0 .. n_clusters - 1, or n_clusters for a point without one: an index of tables.
Codes = npt.NDArray[np.unsignedinteger[Any]]
Counts = npt.NDArray[np.int64]

_MAX_ROUNDS = 100  # of realignment; three or four are usual
_BLOCK_CELLS = 1 << 18  # cells of the table of votes that are held at once


def align(labellings: Sequence[npt.ArrayLike] | npt.NDArray[Any], n_clusters: int) -> npt.NDArray[np.int64]:
    """Give the clusters of all members the same names.

    The pivot is the member that agrees most with all others, each pair matched by the Hungarian method. All members
    are matched to it, and then to their vote, until the number of labels that agree with the vote grows no more; it
    never falls. Names follow the pivot: its clusters in the order in which the points meet them.

    Args:
        labellings: M labellings (N,) of integers in -1 .. n_clusters - 1, -1 = no label. A member that is -1 throughout
            has no say and comes back as it is.
        n_clusters: number of clusters, >= 1; a member may use fewer.

    Returns:
        (M, N) labels in common names, in the members' order.

    Raises:
        DataError: the labellings are none, empty, of different lengths, not integers or out of range.
        ParameterError: n_clusters is below 1.

    Source:
        SPC, section 3.1: the "direct" method; there the pivot is not said, and in the authors' program it is the truth.
    """
    codes = _codes(labellings, n_clusters)
    voting = (codes != n_clusters).any(axis=1)
    aligned = np.full(codes.shape, -1, dtype=np.int64)
    if voting.any():
        aligned[voting] = _labels(_settled(_in_order_met(codes[voting], n_clusters), n_clusters), n_clusters)
    return aligned


def vote(aligned: npt.ArrayLike, threshold: float = 1.0, n_clusters: int | None = None) -> Agreement:
    """Return the label that most members give each point, and how many give it.

    A tie goes to the label that is given less often over all points, since a vote for it says more; then to the lower
    one. With a threshold above one half no tie can count as agreed. A member without a label at one point gives no vote
    there and still counts among the voters.

    Args:
        aligned: (M, N) integers >= -1 in common names, as `align` gives them; -1 = no label. Not copied if int64.
        threshold: share of the voting members that must give the label for the point to be agreed, in (0, 1].
        n_clusters: number of clusters, >= 1; None = what the labels show.

    Returns:
        The agreement. Without any voting member its labels are all -1, its shares 0 and its voters 0.

    Raises:
        DataError: `aligned` is not (M, N), empty, not of integers or out of range.
        ParameterError: the threshold or n_clusters is out of range.

    Source:
        SPC, section 3.1, where the threshold is 1; 0.83 in the authors' program.
    """
    if not 0 < threshold <= 1:
        raise ParameterError(
            [f"threshold is {threshold}; it must lie in (0, 1]: the share of members that must agree."]
        )
    labels = _members_by_points(aligned)
    n_clusters = _n_seen(labels) if n_clusters is None else n_clusters
    codes = _codes(list(labels), n_clusters)
    voters = int((codes != n_clusters).any(axis=1).sum())
    mode = _mode(codes, n_clusters)
    return Agreement(
        labels=_labels(mode.codes, n_clusters),
        agreed=mode.votes >= max(1, _votes_needed(threshold, voters)),
        share=mode.votes / max(1, voters),
        voters=voters,
        aligned=labels.astype(np.int64, copy=False),
    )


def rename(labels: npt.ArrayLike, reference: npt.ArrayLike, n_clusters: int) -> Labels:
    """Give the clusters of one labelling the names of another, so that as many points as possible have equal labels.

    With it the consensus of one round can keep the names of the round before.

    Args:
        labels: (N,) integers in -1 .. n_clusters - 1, -1 = no label.
        reference: (N,) integers in -1 .. n_clusters - 1, whose names are taken.
        n_clusters: number of clusters, >= 1.

    Returns:
        (N,) the labels in the reference's names, -1 where they were -1.

    Raises:
        DataError, ParameterError: as in `align`.
    """
    codes = _codes([labels, reference], n_clusters)
    return _labels(_matched(_in_order_met(codes[:1], n_clusters), codes[1], n_clusters)[0], n_clusters)


@dataclass(frozen=True)
class _Mode:
    """The label most members give each point: codes (N,), and how many give it: votes (N,)."""

    codes: Codes
    votes: Counts


def _settled(codes: Codes, n_clusters: int) -> Codes:
    """Match the members to the pivot, then to their vote until the votes for it grow no more."""
    aligned = _matched(codes, codes[_pivot(codes, n_clusters)], n_clusters)
    mode = _mode(aligned, n_clusters)
    for _ in range(_MAX_ROUNDS):
        realigned = _matched(codes, mode.codes, n_clusters)
        after = _mode(realigned, n_clusters)
        if after.votes.sum() <= mode.votes.sum():  # equal: every member is matched to this vote as well as can be
            break
        aligned, mode = realigned, after
    return aligned


def _pivot(codes: Codes, n_clusters: int) -> int:
    """Return the index of the member that agrees most with all others."""
    agreement = np.zeros(len(codes), dtype=np.int64)
    for i, row in enumerate(codes):
        scaled = _scaled(row, n_clusters)
        for j in range(i):
            table = _table(scaled, codes[j], n_clusters)
            agreement[[i, j]] += int(table[linear_sum_assignment(table, maximize=True)].sum())
    return min(np.flatnonzero(agreement == agreement.max()).tolist(), key=lambda member: _spelled(codes[member]))


def _spelled(codes: Codes) -> bytes:
    """Return bytes in the alphabetical order of the codes, on any machine."""
    return codes.astype(codes.dtype.newbyteorder(">")).tobytes()


def _matched(codes: Codes, reference: Codes, n_clusters: int) -> Codes:
    """Rename the clusters of each row (M, N) by Hungarian matching with the reference (N,)."""
    scaled = _scaled(reference, n_clusters)
    matched = np.empty_like(codes)
    for row, out in zip(codes, matched, strict=True):
        theirs, ours = linear_sum_assignment(_table(scaled, row, n_clusters), maximize=True)
        names = np.full(n_clusters + 1, n_clusters, dtype=codes.dtype)
        names[ours] = theirs
        np.take(names, row, out=out)
    return matched


def _mode(codes: Codes, n_clusters: int) -> _Mode:
    """Return the vote of (M, N) codes; ties as in `vote`."""
    n_points = codes.shape[1]
    given = sum((np.bincount(row, minlength=n_clusters + 1) for row in codes), np.zeros(n_clusters + 1, dtype=np.int64))
    rarest_first = np.argsort(given[:n_clusters], kind="stable")
    column = np.append(np.argsort(rarest_first, kind="stable"), n_clusters)
    winner, votes = np.empty(n_points, dtype=codes.dtype), np.empty(n_points, dtype=np.int64)
    for block in _blocks(n_points, n_clusters + 1):
        table = _votes(column[codes[:, block]], n_clusters)  # (points, K)
        best = table.argmax(axis=1)
        winner[block] = rarest_first[best]
        votes[block] = table[np.arange(len(best)), best]
    winner[votes == 0] = n_clusters
    return _Mode(winner, votes)


def _votes(columns: npt.NDArray[np.intp], n_clusters: int) -> Counts:
    """Count (M, N) columns, n_clusters = no vote, into an (N, K) table."""
    n_points = columns.shape[1]
    cells = columns + (n_clusters + 1) * np.arange(n_points)
    counts = np.bincount(cells.ravel(), minlength=n_points * (n_clusters + 1))
    return counts.reshape(n_points, n_clusters + 1)[:, :n_clusters]


def _blocks(n_points: int, n_columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK_CELLS // n_columns)
    return (slice(start, min(start + size, n_points)) for start in range(0, n_points, size))


def _scaled(codes: Codes, n_clusters: int) -> npt.NDArray[np.intp]:
    """Return the first cell of each point's row in a table of (K + 1)^2 cells; done once for many tables."""
    return codes.astype(np.intp) * (n_clusters + 1)


def _table(scaled: npt.NDArray[np.intp], codes: Codes, n_clusters: int) -> Counts:
    """Return the (K, K) contingency table, points without a label left out."""
    counts = np.bincount(scaled + codes, minlength=(n_clusters + 1) ** 2)
    return counts.reshape(n_clusters + 1, n_clusters + 1)[:n_clusters, :n_clusters]


def _in_order_met(codes: Codes, n_clusters: int) -> Codes:
    """Rename the clusters of each row in the order in which the points meet them."""
    return np.stack([_order_met(row, n_clusters)[row] for row in codes])


def _order_met(row: Codes, n_clusters: int) -> Codes:
    """Return the new name of each code (K + 1,)."""
    first = np.full(n_clusters + 1, len(row))
    first[row[::-1]] = np.arange(len(row))[::-1]  # the last write stays
    names = np.full(n_clusters + 1, n_clusters, dtype=row.dtype)
    names[np.argsort(first[:n_clusters], kind="stable")] = np.arange(n_clusters)
    return names


def _votes_needed(threshold: float, voters: int) -> int:
    """Return the least number of votes that reaches the threshold, forgiving its rounding: 0.28 of 25 is 7."""
    return int(np.ceil(threshold * voters - 1e-9))


def _labels(codes: Codes, n_clusters: int) -> npt.NDArray[np.int64]:
    labels = codes.astype(np.int64)
    labels[codes == n_clusters] = -1
    return labels


def _members_by_points(aligned: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        labels = np.asarray(aligned)
    except ValueError as error:
        raise DataError(f"aligned is no (members, points) array: {error} Give what `align` returns.") from error
    if labels.ndim != 2:
        raise DataError(f"aligned has shape {labels.shape}; it must be (members, points), as `align` gives it.")
    return labels


def _n_seen(labels: npt.NDArray[Any]) -> int:
    """Return the number of clusters that the labels show, at least 1."""
    return max(1, int(labels.max()) + 1) if labels.size and labels.dtype.kind in "iu" else 1


def _codes(labellings: Sequence[npt.ArrayLike] | npt.NDArray[Any], n_clusters: int) -> Codes:
    """Check labellings and return them as (M, N) codes of the smallest type."""
    if not isinstance(n_clusters, int | np.integer) or n_clusters < 1:
        raise ParameterError([f"n_clusters is {n_clusters!r}; it must be an integer, at least 1."])
    rows = [np.asarray(labels) for labels in labellings]
    if not rows:
        raise DataError("there are no labellings; give at least one, an array of one label a point.")
    codes = np.empty((len(rows), rows[0].size), dtype=np.min_scalar_type(n_clusters))
    for index, row in enumerate(rows):
        _check(row, index, codes.shape[1], n_clusters)
        codes[index] = row  # -1 wraps around; set right in the next line
        codes[index, row < 0] = n_clusters
    return codes


def _check(row: npt.NDArray[Any], index: int, n_points: int, n_clusters: int) -> None:
    if row.ndim != 1 or row.size == 0:
        raise DataError(f"labelling {index} has shape {row.shape}; it must be (points,), with at least one point.")
    if row.size != n_points:
        raise DataError(
            f"labelling {index} has {row.size} points and labelling 0 has {n_points}; all must label the same points, "
            "with -1 where there is no label."
        )
    if row.dtype.kind not in "iu":
        raise DataError(f"labelling {index} is of {row.dtype}; labels must be integers: convert them with astype(int).")
    low, high = row.min(), row.max()
    if low < -1 or high >= n_clusters:
        raise DataError(
            f"labelling {index} has labels from {low} to {high}; they must lie in -1 .. {n_clusters - 1} for "
            f"n_clusters = {n_clusters}, -1 meaning no label: renumber them or raise n_clusters."
        )
