"""What several labellings say together; no true label comes near.

Cluster names mean nothing: two members that find the same groups call them by other names. `align` gives all members
the same names by Hungarian matching, `vote` takes the label most members give and says how many give it. `consensus`
does both in one call, and knows three more ways: a vote with weights, and two that look only at which points the
members put together, so that each member may have a number of clusters of its own.

**What the answer depends on.** Not on the names the members use, and not on their order, ties included: clusters are
first renamed in the order in which the points meet them, and where members tie for the pivot, the one whose labels
then come first in the alphabet is taken; `consensus` by "co-association" or "bipartite" takes the members in that
order altogether. Permuting the points permutes the answer unless there is an exact tie (or, for "bipartite", k-means
has two answers about as good as each other). No rule could have all three: [0, 0, 1, 1] and [0, 1, 0, 1] are swapped by
permuting points 1 and 2 as well as by permuting the members, and the consensus cannot be both.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components

from distclust.contracts import Agreement, Labels
from distclust.errors import DataError, ParameterError, UnknownNameError
from distclust.matching import DENSE_CELLS, Table, cells, one_to_one, tabled, weight


class Frame(Protocol):
    """A data frame of pandas, polars or pyarrow."""

    @property
    def columns(self) -> Any:
        """Their names, or the columns themselves."""


Labellings = Sequence[npt.ArrayLike] | npt.NDArray[Any] | Mapping[Any, npt.ArrayLike] | Frame
# In this file a code is a label in 0 .. n_clusters - 1, or n_clusters for a point without one: an index of tables.
Codes = npt.NDArray[np.unsignedinteger[Any]]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MAX_ROUNDS = 100  # of realignment; three or four are usual
_BLOCK_CELLS = 1 << 18  # cells of a table of distances that are held at once
_FEW_MEMBERS = 5  # so many rows of an array are taken for members even if there are fewer points
_NAMES = 1 << 10  # greatest label up to which no renumbering is worth its sorting
_WEIGHT_UNITS = 1 << 20  # a member's weight is a whole number of these parts of 1, so that sums of weights are exact
_MAX_TUPLES = 20_000  # different label tuples for "co-association": 3.2 GB of distances
_MAX_OWN_CLUSTERS = 10_000  # of all members together, for "bipartite": a matrix of 0.8 GB
_START_ROWS = 10_000  # or so, that k-means looks at for its start
_ZERO = 1e-9  # what rounding leaves of 0 in a matrix whose greatest eigenvalue is 1


def consensus(
    labellings: Labellings, n_clusters: int, *, method: str = "vote", threshold: float = 1.0, seed: int = 0
) -> Agreement:
    """Return what labellings from anywhere say together.

    "vote": `align`, then `vote`.

    "weighted-vote": the same with a weight for each member: its mean adjusted Rand index with the other voting members,
    over the points that both label. One who agrees with nobody beyond chance only breaks ties and labels points that
    nobody else does. One or two members have equal weights.

    "co-association": average linkage, cut at n_clusters, where the similarity of two points is the share of members
    that put them together: of the members that label both; 0 if there are none. Points with equal tuples of labels are
    merged first, which makes it exact and quick for up to 20,000 different tuples; U of them take 8 U^2 bytes.

    "bipartite": points and the members' clusters are the two sides of a graph, with an edge from each point to the
    clusters it lies in; its spectral partition divides both. Time and memory grow with N.

    The last two give n_clusters clusters, or one for each different tuple if there are fewer ("bipartite" may also give
    fewer where its embedding puts tuples in one place). Then each member's clusters are matched to them one to one as
    well as can be; those left over, where a member has more, take the name that most of their points have.

    Time and memory grow with the labels that occur, not with n_clusters or with the greatest label.

    Args:
        labellings: M labelings (N,) of integers >= -1, -1 = no label; a member that is -1 throughout does not vote. For
            the votes they lie in -1 .. n_clusters - 1; else each member may have any number of clusters by any names,
            text or categories among them, where a missing value means no label. Given as a list of arrays, an (M, N)
            array, one row per member, or as the columns of a data frame (pandas, polars, pyarrow) or mapping, one
            column per member. An array or data frame with more than 5 members, and more members than points, is taken
            for the wrong way round and refused: transpose it, or give a list.
        n_clusters: number of clusters of the consensus, >= 1.
        method: "vote", "weighted-vote", "co-association" or "bipartite".
        threshold: share of the voting members that must give the label for the point to be agreed, in (0, 1].
        seed: of k-means in "bipartite", 0 .. 2^32 - 1; the others draw nothing.

    Returns:
        The agreement. Shares count members, never their weights. A point that no member labels has label -1. Clusters
        are named as in `align` for the votes, else in the order in which the points meet them.

    Raises:
        DataError: the labellings are none, empty, of different lengths, the wrong way round, not integers (for the
            votes) or out of range; "co-association": more than 20,000 different tuples; "bipartite": more than 10,000
            clusters of all members together.
        ParameterError: n_clusters, threshold or seed is out of range.
        UnknownNameError: there is no such method.

    Source:
        "weighted-vote": the crowd agreement index of Huang, Lai and Wang, Neurocomputing 170 (2015), with the adjusted
        Rand index, which is 0 by chance, in place of their NMI. "co-association": Fred and Jain, IEEE TPAMI 27 (2005).
        "bipartite": HBGF of Fern and Brodley, ICML 2004, by the partition of Ng, Jordan and Weiss, NIPS 2001.
    """
    if method not in _METHODS:
        raise UnknownNameError("consensus method", method, _METHODS)
    _check_parameters(n_clusters, threshold, seed)
    rows = _rows(labellings) if method in _ANY_NAMES else _rows(labellings, n_clusters)
    return _METHODS[method](rows, n_clusters, threshold, seed)


def align(labellings: Labellings, n_clusters: int) -> npt.NDArray[np.int64]:
    """Give the clusters of all members the same names.

    The pivot is the member that agrees most with all others, each pair matched by the Hungarian method. All members
    are matched to it, and then to their vote, until the number of labels that agree with the vote grows no more; it
    never falls. Names follow the pivot: its clusters in the order in which the points meet them.

    Args:
        labellings: M labelings (N,) of integers in -1 .. n_clusters - 1, -1 = no label, as in `consensus`. A member
            that is -1 throughout does not vote and comes back as it is.
        n_clusters: number of clusters, >= 1; a member may use fewer.

    Returns:
        (M, N) labels in common names, in the members' order.

    Raises:
        DataError: the labellings are none, empty, of different lengths, the wrong way round, not integers or out of
            range.
        ParameterError: n_clusters is below 1.

    Source:
        SPC, section 3.1: the "direct" method; there the pivot is not said, and in the authors' program it is the truth.
    """
    _check_parameters(n_clusters)
    codes, n_names = _own_codes(_rows(labellings, n_clusters), n_clusters)
    voting = (codes != n_names).any(axis=1)
    aligned = np.full(codes.shape, -1, dtype=np.int64)
    if voting.any():
        aligned[voting] = _labels(_settled(codes[voting], n_names), n_names)
    return aligned


def vote(aligned: npt.ArrayLike, threshold: float = 1.0, n_clusters: int | None = None) -> Agreement:
    """Return the label that most members give each point, and how many give it.

    A tie goes to the label that is given less often over all points, since a vote for it says more; then to the lower
    one. With a threshold above one half no tie can count as agreed. A member without a label at one point gives no vote
    there and still counts among the voters.

    Args:
        aligned: (M, N) integers >= -1 in common names, as `align` gives them, or a data frame with a column per member;
            -1 = no label. Not copied if int64.
        threshold: share of the voting members that must give the label for the point to be agreed, in (0, 1].
        n_clusters: number of clusters, >= 1; None = what the labels show.

    Returns:
        The agreement. Without any voting member its labels are all -1, its shares 0 and its voters 0. The agreement of
        one is none: where one of several members votes, or fewer than half of them, all shares are 0; where there is
        one member in all, they are nan. In neither case is any point agreed.

    Raises:
        DataError: `aligned` is not (M, N), empty, not of integers or out of range.
        ParameterError: the threshold or n_clusters is out of range.

    Source:
        SPC, section 3.1, where the threshold is 1; 0.83 in the authors' program.
    """
    _check_parameters(threshold=threshold)
    labels = _members_by_points(aligned)
    n_clusters = _n_seen(labels) if n_clusters is None else n_clusters
    codes = _codes(list(labels), n_clusters)
    return _agreement(_mode(codes, n_clusters), labels, codes != n_clusters, n_clusters, threshold)


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
    _check_parameters(n_clusters)
    own, kept = _rows([labels, reference], n_clusters)
    codes, n_own = _own_codes([own])
    used = np.unique(kept[kept >= 0])
    names = _with_new(used, min(n_clusters, len(used) + n_own))
    n_names, wide = len(names), np.min_scalar_type(len(names))
    codes = np.where(codes == n_own, n_names, codes).astype(wide)
    reference_codes = np.where(kept < 0, n_names, np.searchsorted(names, kept)).astype(wide)
    matched: Labels = np.append(names, -1)[_matched(codes, reference_codes, n_names)[0]]
    return matched


def _with_new(used: npt.NDArray[Any], n_names: int) -> Labels:
    """Return ascending names, those in use and the lowest others, `n_names` in all."""
    new = np.setdiff1d(np.arange(n_names), used)[: n_names - len(used)]
    return np.sort(np.append(used, new)).astype(np.int64)


@dataclass(frozen=True)
class _Mode:
    """The label each point gets: codes (N,), and how many members give it: votes (N,)."""

    codes: Codes
    votes: Counts


def _agreement(
    mode: _Mode, aligned: npt.NDArray[Any], labelled: npt.NDArray[np.bool_], n_clusters: int, threshold: float
) -> Agreement:
    voters, members = int(labelled.any(axis=1).sum()), len(labelled)
    counts = members == 1 or agrees(voters, members)
    share = mode.votes / max(1, voters) if counts else np.zeros(len(mode.votes))
    return Agreement(
        labels=_labels(mode.codes, n_clusters),
        agreed=(mode.votes >= max(1, _votes_needed(threshold, voters))) & agrees(voters, members),
        share=share if members > 1 else np.full(len(share), np.nan),
        voters=voters,
        aligned=aligned.astype(np.int64, copy=False),
        remarks=() if counts or not voters else (f"no point is agreed on: only {voters} of {members} members vote",),
    )


def agrees(voters: int, members: int) -> bool:
    """Return whether a vote can agree on anything: at least two members vote, and at least half of all there are."""
    return voters >= 2 and 2 * voters >= members


# The votes


def _by_vote(labellings: Labellings, n_clusters: int, threshold: float, seed: int) -> Agreement:
    return vote(align(labellings, n_clusters), threshold, n_clusters)


def _by_weighted_vote(labellings: Labellings, n_clusters: int, threshold: float, seed: int) -> Agreement:
    aligned = align(labellings, n_clusters)
    n_names = _n_seen(aligned)
    codes = _codes(list(aligned), n_names)
    mode = _mode(codes, n_names, _weights(codes, n_names))
    return _agreement(mode, aligned, codes != n_names, n_names, threshold)


def _weights(codes: Codes, n_clusters: int) -> Counts:
    """Return each member's mean adjusted Rand index with the other voting members, in units, at least 1."""
    indices = np.zeros((len(codes), len(codes)))
    for i, row in enumerate(codes):
        scaled = _scaled(row, n_clusters)
        for j in range(i):
            indices[i, j] = indices[j, i] = _adjusted_rand(_table(scaled, codes[j], n_clusters))
    others = max(1, int((codes != n_clusters).any(axis=1).sum()) - 1)
    means = np.array([math.fsum(row) / others for row in indices])  # fsum: the same in any order of the members
    return np.maximum(1, np.rint(means * _WEIGHT_UNITS)).astype(np.int64)


def _adjusted_rand(table: Table) -> float:
    """Return the adjusted Rand index of a contingency table, in whole numbers but for the last division.

    0, and not 1, where it is 0 / 0: two members that both collapsed say nothing for each other.
    """
    total, together, rows, columns = (
        int((sizes * (sizes - 1) // 2).sum())
        for sizes in (table.sum(), cells(table), table.sum(axis=1), table.sum(axis=0))
    )
    span = (rows + columns) * total - 2 * rows * columns
    return 2 * (together * total - rows * columns) / span if span else 0.0


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
            agreement[[i, j]] += int(weight(table, one_to_one(table)))
    return min(np.flatnonzero(agreement == agreement.max()).tolist(), key=lambda member: _spelled(codes[member]))


def _spelled(codes: Codes) -> bytes:
    """Return bytes in the alphabetical order of the codes, on any machine."""
    return codes.astype(codes.dtype.newbyteorder(">")).tobytes()


def _matched(codes: Codes, reference: Codes, n_clusters: int) -> Codes:
    """Rename the clusters of each row (M, N) by Hungarian matching with the reference (N,)."""
    scaled = _scaled(reference, n_clusters)
    matched = np.empty_like(codes)
    for row, out in zip(codes, matched, strict=True):
        theirs, ours = one_to_one(_table(scaled, row, n_clusters))
        names = np.full(n_clusters + 1, n_clusters, dtype=codes.dtype)
        names[ours] = theirs
        np.take(names, row, out=out)
    return matched


def _mode(codes: Codes, n_clusters: int, weights: Counts | None = None) -> _Mode:
    """Return the vote of (M, N) codes; ties as in `vote`. Weights (M,) choose the label, votes stay a count."""
    names, own = _compact(codes, n_clusters)
    none = len(names) - 1
    given = sum((np.bincount(row, minlength=none + 1) for row in own), np.zeros(none + 1, dtype=np.int64))
    rarest_first = np.append(np.argsort(given[:none], kind="stable"), none)
    ranks = np.argsort(rarest_first).astype(codes.dtype)[own]  # (M, N)
    winner = names[rarest_first][_heaviest(ranks, none, weights)].astype(codes.dtype)
    return _Mode(winner, ((codes == winner) & (codes != n_clusters)).sum(axis=0))


def _compact(codes: Codes, n_clusters: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return names in ascending order, n_clusters last, and (M, N) places of the codes among them.

    The names are those in use where n_clusters is greater than the number of codes, else all.
    """
    if n_clusters <= codes.size:
        return np.arange(n_clusters + 1), codes
    names = np.unique(np.append(codes, n_clusters))
    return names, np.searchsorted(names, codes)


def _heaviest(ranks: npt.NDArray[Any], none: int, weights: Counts | None) -> npt.NDArray[Any]:
    """Return each point's rank of the greatest total weight (N,), the lowest on a tie; `none` where it has no other.

    The ranks (M, N) of a point are sorted and equal ones added up in a row, so the number of names costs nothing.
    """
    if weights is None:
        ranks, added = np.sort(ranks, axis=0), np.ones((len(ranks), 1), dtype=np.int64)
    else:
        order = np.argsort(ranks, axis=0, kind="stable")
        ranks, added = np.take_along_axis(ranks, order, axis=0), weights[order]
    last = np.full(ranks.shape[1], none, dtype=ranks.dtype)
    winner, best, total = last.copy(), np.zeros(last.shape, dtype=np.int64), np.zeros(last.shape, dtype=np.int64)
    for rank, more in zip(ranks, added, strict=True):
        total *= rank == last
        total += more
        better = (total > best) & (rank != none)
        np.copyto(winner, rank, where=better)
        np.copyto(best, total, where=better)
        last = rank
    return winner


def _blocks(n_points: int, n_columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK_CELLS // n_columns)
    return (slice(start, min(start + size, n_points)) for start in range(0, n_points, size))


def _scaled(codes: Codes, n_clusters: int) -> npt.NDArray[np.intp]:
    """Return the first cell of each point's row in a table of (K + 1)^2 cells; done once for many tables."""
    return codes.astype(np.intp) * (n_clusters + 1)


def _table(scaled: npt.NDArray[np.intp], codes: Codes, n_clusters: int) -> Table:
    """Return the (K, K) contingency table, points without a label left out; sparse where it is large."""
    if (n_clusters + 1) ** 2 > DENSE_CELLS:
        rows = scaled // (n_clusters + 1)
        both = (rows != n_clusters) & (codes != n_clusters)
        return tabled(rows[both], codes[both], (n_clusters, n_clusters))
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


# Of who is put together with whom


@dataclass(frozen=True)
class _Tuples:
    """The different tuples of labels that points have, the most frequent first.

    codes (M, U) in the members' own names; counts (U,) of points with the tuple, first (U,) the first of them; index
    (N,) the tuple of each point.
    """

    codes: Codes
    counts: Counts
    first: npt.NDArray[np.intp]
    index: npt.NDArray[np.intp]


Partition = Callable[[Codes, Counts, int, int, int], npt.NDArray[Any]]  # codes, counts, n_names, n_clusters, seed


def _by_partition(
    labellings: Labellings, n_clusters: int, threshold: float, seed: int, partition: Partition
) -> Agreement:
    """Merge the points with equal tuples of labels, part the tuples and match the members' clusters to the parts."""
    codes, n_names = _own_codes(_rows(labellings))
    labelled = codes != n_names
    order = sorted(np.flatnonzero(labelled.any(axis=1)).tolist(), key=lambda member: _spelled(codes[member]))
    tuples = _tuples(codes[order], n_names)
    n_clusters = min(n_clusters, len(tuples.counts))  # no more parts than tuples
    parts = _parts(tuples, n_names, n_clusters, seed, partition)
    joined = _joined(tuples, parts, n_names, n_clusters)
    votes = ((joined == parts) & (parts != n_clusters)).sum(axis=0)
    aligned = np.full(codes.shape, -1, dtype=np.int64)
    aligned[order] = _labels(joined, n_clusters)[:, tuples.index]
    return _agreement(_Mode(parts[tuples.index], votes[tuples.index]), aligned, labelled, n_clusters, threshold)


def _own_codes(rows: Sequence[npt.NDArray[Any]], n_clusters: int | None = None) -> tuple[Codes, int]:
    """Return each member's labels by names that mean nothing, in the order in which the points meet them.

    Args:
        rows: M checked labellings (N,).
        n_clusters: how many names are allowed; None = as many as a member uses.

    Returns:
        (M, N) codes and the number of names: as many as any member uses, and as many again where n_clusters allows it,
        so that clusters of different members need not have the same.
    """
    rows = [_renumbered(row) for row in rows]
    greatest = max(int(row.max()) for row in rows) + 1
    codes = _in_order_met(_coded(rows, greatest), greatest)
    labelled = codes != greatest
    n_used = int(codes[labelled].max()) + 1 if labelled.any() else 0
    n_names = n_used if n_clusters is None else min(n_clusters, 2 * n_used)
    return np.where(labelled, codes, n_names).astype(np.min_scalar_type(n_names)), n_names


def _renumbered(row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels (N,) of which the greatest is not far above the number of points; -1 stays."""
    if row.max() < max(row.size, _NAMES):
        return row
    return np.unique(row, return_inverse=True)[1] - int(row.min() < 0)


def _tuples(codes: Codes, n_names: int) -> _Tuples:
    """Write each tuple as one number, digit by digit; before 63 bits are full the numbers are made consecutive."""
    numbers, n_numbers = np.zeros(codes.shape[1], dtype=np.int64), 1
    for row in codes:
        if n_numbers * (n_names + 1) >= 1 << 63:
            found, numbers = np.unique(numbers, return_inverse=True)
            n_numbers = len(found)
        numbers = numbers * (n_names + 1) + row.astype(np.int64)
        n_numbers *= n_names + 1
    _, first, index, counts = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return _Tuples(codes[:, first[order]], counts[order], first[order], rank[index])


def _parts(tuples: _Tuples, n_names: int, n_clusters: int, seed: int, partition: Partition) -> Codes:
    """Return the part of each tuple (U,), named in the order in which the points meet them."""
    labelled = np.flatnonzero((tuples.codes != n_names).any(axis=0))
    parts = np.full(len(tuples.counts), n_clusters, dtype=np.min_scalar_type(n_clusters))
    if len(labelled) <= n_clusters:
        parts[labelled] = np.arange(len(labelled))
    else:
        parts[labelled] = partition(tuples.codes[:, labelled], tuples.counts[labelled], n_names, n_clusters, seed)
    return _order_met(parts[np.argsort(tuples.first)], n_clusters)[parts]


def _joined(tuples: _Tuples, parts: Codes, n_names: int, n_clusters: int) -> Codes:
    """Give each member's clusters (M, U) the names of the parts: one to one first, the rest by most of their points."""
    joined = np.empty(tuples.codes.shape, dtype=parts.dtype)
    for row, out in zip(tuples.codes, joined, strict=True):
        both = (row != n_names) & (parts != n_clusters)
        n_own = int(row[both].max()) + 1  # its names are 0 .. n_own - 1
        table = tabled(parts[both], row[both], (n_clusters, n_own), tuples.counts[both])
        names = np.full(n_names + 1, n_clusters, dtype=parts.dtype)
        names[:n_own] = np.asarray(table.argmax(axis=0)).ravel()
        theirs, ours = one_to_one(table)
        names[ours] = theirs
        np.take(names, row, out=out)
    return joined


# By co-association


def _linkage_parts(codes: Codes, counts: Counts, n_names: int, n_clusters: int, seed: int) -> npt.NDArray[Any]:
    n_tuples = len(counts)
    if n_tuples > _MAX_TUPLES:
        raise DataError(
            f"the points have {n_tuples:,} different tuples of labels; co-association takes at most {_MAX_TUPLES:,}, "
            'for its memory grows with their square: take method "bipartite" or "vote", or fewer members.'
        )
    pairs, heights = _average_linkage(_distance_sums(codes, counts, n_names), counts)
    a, b = pairs[np.argsort(heights, kind="stable")[: n_tuples - n_clusters]].T
    graph = sparse.coo_array((np.ones(len(a)), (a, b)), shape=(n_tuples, n_tuples))
    return connected_components(graph, directed=False)[1]


def _distance_sums(codes: Codes, counts: Counts, n_names: int) -> Floats:
    """Return M times the distance of two tuples, summed over their pairs of points (U, U).

    Whole numbers where all members label all points: then linkage does not round, and equal means are equal.
    """
    n_members, n_tuples = codes.shape
    incidence, labelled = _incidence(codes, n_names), (codes != n_names).astype(np.float32)
    sums = np.empty((n_tuples, n_tuples))
    for block in _blocks(n_tuples, n_tuples):
        together = (incidence @ incidence[block].T.toarray()).T  # (block, U) members that put both into one cluster
        both = np.maximum(labelled[:, block].T @ labelled, 1)  # and that label both
        sums[block] = (n_members - n_members * together / both) * np.outer(counts[block], counts)
    return sums


def _average_linkage(sums: Floats, counts: Counts) -> tuple[npt.NDArray[np.intp], Floats]:
    """Merge clusters by their mean distance, with rows that stand for several points: the chain of nearest neighbours.

    Time and memory O(U^2). On a tie the row before in the chain is taken, else the first.

    Args:
        sums: (U, U) distances summed over the pairs of points of two rows; written over.
        counts: (U,) points of each row, >= 1.

    Returns:
        The pairs that are merged (U - 1, 2), a cluster called by its first row, and their mean distances (U - 1,).

    Source:
        Murtagh, The Computer Journal 26 (1983); Muellner, arXiv:1109.2378, section 3.
    """
    np.fill_diagonal(sums, np.inf)
    sizes, merged = counts.astype(np.float64), np.zeros(len(counts))  # merged: inf once a row is part of another
    pairs, heights = np.empty((len(counts) - 1, 2), dtype=np.intp), np.empty(len(counts) - 1)
    chain: list[int] = []
    for step in range(len(pairs)):
        if not chain:
            chain.append(int(merged.argmin()))
        while True:
            means = sums[chain[-1]] / sizes + merged  # times the size of the last, which is the same for all
            nearest = int(means.argmin())
            if len(chain) > 1 and means[chain[-2]] <= means[nearest] * (1 + 1e-12):  # rounding must not make a circle
                break
            chain.append(nearest)
        kept, gone = sorted((chain.pop(), chain.pop()))
        pairs[step], heights[step] = (kept, gone), sums[kept, gone] / (sizes[kept] * sizes[gone])
        sums[kept] += sums[gone]
        sums[:, kept] = sums[kept]
        sizes[kept] += sizes[gone]
        merged[gone] = np.inf
    return pairs, heights


# By the graph between points and clusters


def _spectral_parts(codes: Codes, counts: Counts, n_names: int, n_clusters: int, seed: int) -> npt.NDArray[Any]:
    incidence = _incidence(codes, n_names)
    n_own = incidence.shape[1]
    if n_own > _MAX_OWN_CLUSTERS:
        raise DataError(
            f"the members have {n_own:,} clusters together; bipartite takes at most {_MAX_OWN_CLUSTERS:,}, for its "
            "memory grows with their square: take fewer members or coarser ones."
        )
    weights = np.concatenate([np.ones(n_own), counts])
    return _k_means(_embedded(incidence, counts, n_clusters), weights, n_clusters, seed)[n_own:]


def _incidence(codes: Codes, n_names: int) -> sparse.csr_array:
    """Return (U, C) with a 1 for each of the members' C clusters that a tuple lies in."""
    members, tuples = np.nonzero(codes != n_names)
    own = np.unique(members * n_names + codes[members, tuples], return_inverse=True)[1]
    return sparse.csr_array((np.ones(len(own)), (tuples, own)))


def _embedded(incidence: sparse.csr_array, counts: Counts, n_clusters: int) -> Floats:
    """Return (C + U, K) rows of length 1, clusters before tuples: the leading eigenvectors of the normalised graph.

    They are the singular vectors of B = D1^-1/2 A D2^-1/2, where D1 and D2 are the degrees of points and clusters: the
    clusters' side from B'B (C, C), the points' side from B. Rows of length 1 need no D1 and D2 of their own, and to
    k-means neither the signs of vectors nor rotations among equals matter.
    """
    degrees, roots = incidence.sum(axis=1), np.sqrt(incidence.T @ counts)  # (U,), (C,)
    gram = (incidence.T @ (sparse.diags_array(counts / degrees) @ incidence)).toarray() / np.outer(roots, roots)
    last = len(gram) - 1
    values, vectors = linalg.eigh(gram, subset_by_index=(max(0, last - n_clusters + 1), last))
    values, vectors = values[values > _ZERO], vectors[:, values > _ZERO]
    rows = np.concatenate([vectors, incidence @ (vectors / np.outer(roots, np.sqrt(values)))])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > _ZERO)


def _k_means(rows: Floats, weights: Floats, n_clusters: int, seed: int) -> npt.NDArray[Any]:
    """Return the part of each row; the start is the best of 10 runs on the first rows and some of the others."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    half = max(_START_ROWS // 2, n_clusters)
    some = np.r_[: min(half, len(rows)), half : len(rows) : max(1, len(rows) // half)]  # neighbours are alike
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters, as `consensus` says
        start = KMeans(n_clusters, n_init=10, random_state=seed).fit(rows[some], sample_weight=weights[some])
        return KMeans(n_clusters, init=start.cluster_centers_, n_init=1).fit_predict(rows, sample_weight=weights)


_ANY_NAMES = ("co-association", "bipartite")  # methods of which each member may have names and clusters of its own
_METHODS: Mapping[str, Callable[[Labellings, int, float, int], Agreement]] = {
    "vote": _by_vote,
    "weighted-vote": _by_weighted_vote,
    "co-association": partial(_by_partition, partition=_linkage_parts),
    "bipartite": partial(_by_partition, partition=_spectral_parts),
}


# At the door, and what all share


def _votes_needed(threshold: float, voters: int) -> int:
    """Return the least number of votes that reaches the threshold, forgiving its rounding: 0.28 of 25 is 7."""
    return int(np.ceil(threshold * voters - 1e-9))


def _labels(codes: Codes, n_clusters: int) -> npt.NDArray[np.int64]:
    labels = codes.astype(np.int64)
    labels[codes == n_clusters] = -1
    return labels


def _members_by_points(aligned: Any) -> npt.NDArray[Any]:
    columns = _columns(aligned)
    try:
        labels = np.asarray(aligned if columns is None else [np.asarray(column) for _, column in columns])
    except ValueError as error:
        raise DataError(f"aligned is no (members, points) array: {error} Give what `align` returns.") from error
    if labels.ndim != 2:
        raise DataError(f"aligned has shape {labels.shape}; it must be (members, points), as `align` gives it.")
    return labels


def _n_seen(labels: npt.NDArray[Any]) -> int:
    """Return the number of clusters that the labels show, at least 1."""
    return max(1, int(labels.max()) + 1) if labels.size and labels.dtype.kind in "iu" else 1


def _codes(labellings: Labellings, n_clusters: int) -> Codes:
    """Check labellings and return them as (M, N) codes of the smallest type."""
    _check_parameters(n_clusters)
    return _coded(_rows(labellings, n_clusters), n_clusters)


def _coded(rows: Sequence[npt.NDArray[Any]], n_clusters: int) -> Codes:
    codes = np.empty((len(rows), rows[0].size), dtype=np.min_scalar_type(n_clusters))
    for index, row in enumerate(rows):
        codes[index] = row  # -1 wraps around; set right in the next line
        codes[index, row < 0] = n_clusters
    return codes


def _rows(labellings: Any, n_clusters: int | None = None) -> list[npt.NDArray[Any]]:
    """Check labellings and return them one by one.

    Args:
        labellings: see `consensus`.
        n_clusters: above all labels, which are integers; None = members may have any names, text among them.
    """
    columns = _columns(labellings)
    if columns is None:
        columns = _listed(labellings)
    _check_way_round(labellings, columns)
    rows = [_integers(title, column, n_clusters is None) for title, column in columns]
    if not rows:
        raise DataError("there are no labellings; give at least one, an array of one label a point.")
    for (title, _), row in zip(columns, rows, strict=True):
        _check(title, row, columns[0][0], rows[0].size)
        if n_clusters is not None and row.max() >= n_clusters:
            raise DataError(_out_of_range(title, row, n_clusters))
    return rows


def _columns(labellings: Any) -> list[tuple[str, Any]] | None:
    """Return title and content of the columns of a data frame or mapping; None where it is neither."""
    if hasattr(labellings, "to_pandas"):  # polars, pyarrow
        labellings = labellings.to_pandas()
    if isinstance(labellings, Mapping):
        return [(f"labelling {name!r}", labels) for name, labels in labellings.items()]
    if hasattr(labellings, "iloc") and labellings.ndim == 2:
        return [(f"column {name!r}", labellings.iloc[:, at]) for at, name in enumerate(labellings.columns)]
    return None


def _listed(labellings: Any) -> list[tuple[str, Any]]:
    try:
        return [(f"labelling {index}", np.asarray(labels)) for index, labels in enumerate(labellings)]
    except TypeError as error:
        raise DataError(
            f"labellings is {labellings!r}; give a list of labellings, each an array of one label a point."
        ) from error


def _check_way_round(labellings: Any, columns: Sequence[tuple[str, Any]]) -> None:
    """Check that an array or data frame, whose axes may be confused, does not have far more members than points."""
    shape = getattr(labellings, "shape", ())
    if len(shape) != 2 or not columns:
        return
    n_members, n_points = len(columns), np.size(columns[0][1])
    if n_members > max(n_points, _FEW_MEMBERS):
        lines = "rows" if shape == (n_members, n_points) else "columns"
        raise DataError(
            f"labellings of shape {tuple(shape)} would be {n_members:,} members with {n_points:,} "
            f"point{'' if n_points == 1 else 's'} each, as its {lines} are the members: transpose it, as in "
            "labellings.T. If there are more members than points, give a list of them: "
            + ("list(labellings)." if lines == "rows" else "[labellings[name] for name in labellings].")
        )


def _integers(title: str, column: Any, any_names: bool) -> npt.NDArray[Any]:
    """Return labels as integers where they are, or where any names will do; a missing value is no label."""
    row = np.asarray(column)
    if row.ndim != 1 or row.size == 0 or row.dtype.kind not in "OUST":
        return row
    import pandas as pd

    numbers, names = pd.factorize(row.astype(object))  # -1 = missing
    if all(isinstance(name, int | np.integer) and not isinstance(name, bool) for name in names):
        return np.append(np.asarray(names, dtype=np.int64), -1)[numbers]  # a column of integers with missing values
    if not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{title} holds {', '.join(sorted({type(name).__name__ for name in names}))}; labels must be integers, or "
            f"text for {_in_words(_ANY_NAMES)}."
        )
    if not any_names:
        raise DataError(
            f"{title} holds text, as in {names[0]!r}; the votes take integers in 0 .. n_clusters - 1. Take "
            f"{_in_words(_ANY_NAMES)}, which take any names, or leave it out."
        )
    if "-1" in names:
        raise DataError(f"{title} holds numbers as text; convert it with astype(int), so that -1 means no label.")
    return numbers


def _in_words(methods: Sequence[str]) -> str:
    return " or ".join(f'method="{method}"' for method in methods)


def _out_of_range(title: str, row: npt.NDArray[Any], n_clusters: int) -> str:
    return (
        f"{title} has labels from {row.min()} to {row.max()}; they must lie in -1 .. {n_clusters - 1} for n_clusters = "
        f"{n_clusters}, -1 meaning no label: renumber them or raise n_clusters. Members with numbers of clusters of "
        f"their own can be combined by consensus(labellings, {n_clusters}, method=...) with {_in_words(_ANY_NAMES)}."
    )


def _check(title: str, row: npt.NDArray[Any], first: str, n_points: int) -> None:
    if row.ndim == 0:
        raise DataError(f"{title} is {row}; give a list of labellings, each an array of one label a point.")
    if row.ndim != 1 or row.size == 0:
        raise DataError(f"{title} has shape {row.shape}; it must be (points,), with at least one point.")
    if row.size != n_points:
        raise DataError(
            f"{title} has {row.size} points and {first} has {n_points}; all must label the same points, with -1 where "
            "there is no label."
        )
    if row.dtype.kind not in "iu":
        raise DataError(
            f"{title} is of {row.dtype}; labels must be integers: fill in -1 where there is no label, and convert them "
            "with astype(int)."
        )
    if row.min() < -1:
        raise DataError(
            f"{title} has labels from {row.min()} to {row.max()}; they must be at least -1, which means no label: "
            "renumber them."
        )


def _check_parameters(n_clusters: int = 1, threshold: float = 1.0, seed: int = 0) -> None:
    faults = []
    if not isinstance(n_clusters, int | np.integer) or n_clusters < 1:
        faults.append(f"n_clusters is {n_clusters!r}; it must be an integer, at least 1.")
    if not 0 < threshold <= 1:
        faults.append(f"threshold is {threshold}; it must lie in (0, 1]: the share of members that must agree.")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 32:
        faults.append(f"seed is {seed!r}; it must be an integer in 0 .. 2^32 - 1.")
    if faults:
        raise ParameterError(faults)
