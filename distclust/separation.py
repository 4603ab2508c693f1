"""How far each cluster is separated from the others: does a gap run along its border?

**Why not the silhouette.** A silhouette is high for the two halves of one long group, and low for two thin rings that
do not touch. What tells groups from slices of one group is whether points are rarer *between* two clusters than on
either side. If the points had a single peak, any stretch in the middle would hold at least as many points as the
emptier of its two neighbors. So a middle that is emptier than both sides is evidence of two groups, whatever their
shape, size or unit.

**Cross-fitted.** Where a point lies between two clusters is read from the distances to their *other* halves: its own
label never helps to place it. Labels drawn at random, or fitted to noise in many dimensions, are therefore not
separated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Labels
from distclust.errors import DataError
from distclust.seeding import generator

Floats = npt.NDArray[np.float64]

_NEIGHBORS = 3  # of a point in each cluster, whose mean distance is taken
_DEVIATIONS = 2.5  # by which the middle must be emptier than a side
_UNEVEN = 4  # times as many points make a group much larger
_BLOCK = 512  # points compared with all others at once


def separation(x: npt.ArrayLike, labels: npt.ArrayLike, seed: int = 0) -> Floats:
    """Return how far each cluster is separated from the cluster that is hardest to tell from it.

    Args:
        x: (N, D) finite numbers in the space that was clustered; equal rows should be given once. Time and memory grow
            with N^2: give a sample of some thousand points.
        labels: (N,) integers >= -1; points with -1 are left out.
        seed: of the split of each cluster into halves.

    Returns:
        (K,) for the labels 0 .. max, in 0 .. 1: `gap` between the cluster and the one it is least separated from; 1
        where nothing lies between them, 0 where no gap shows or the points are too few to tell, nan for a label
        without points and where there is one cluster alone.

    Raises:
        DataError: x is not (N, D), or labels are not (N,).
    """
    pairs = pairwise_separation(x, labels, seed)
    np.fill_diagonal(pairs, np.inf)
    found: Floats = np.where(np.isnan(pairs), np.inf, pairs).min(axis=1, initial=np.inf)
    return np.where(np.isinf(found), np.nan, found)


def pairwise_separation(x: npt.ArrayLike, labels: npt.ArrayLike, seed: int = 0) -> Floats:
    """Return the separation of each two clusters, (K, K) symmetric, nan on the diagonal and for labels without points.

    Args and Raises as in `separation`.
    """
    points, names = _checked(x, labels)
    n_clusters = int(names.max(initial=-1)) + 1
    far = _distances_to_halves(points, names, _halves(names, seed), n_clusters)
    found = np.full((n_clusters, n_clusters), np.nan)
    for a in range(n_clusters):
        for b in range(a):
            here, there = names == a, names == b
            if here.any() and there.any():
                found[a, b] = found[b, a] = gap(_beyond(far[here], b, a), _beyond(far[there], b, a))
    return found


def gap(above: npt.ArrayLike, below: npt.ArrayLike) -> float:
    """Return how much emptier the middle between two groups of numbers is than both sides.

    The way goes from the lower quartile of `below` to the upper quartile of `above`. Where one group is much larger,
    its edge alone has as many numbers as the smaller group, so the way is also tried from the upper quartile of the
    larger one and from its last 5%; the greatest value is returned.

    Args:
        above: numbers of the group that lies higher; infinite ones are left out.
        below: of the other.

    Returns:
        1 - middle / emptier side, of the counts in the thirds of the way; 0 where the medians are not in this order, or
        where the middle is not emptier by 2.5 standard deviations of such counts.
    """
    high, low = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    high, low = high[np.isfinite(high)], low[np.isfinite(low)]
    if not (len(high) and len(low) and np.median(high) > np.median(low)):
        return 0.0
    values = np.concatenate([high, low])
    starts, ends = np.quantile(low, [0.25, 0.75, 0.95]), np.quantile(high, [0.75, 0.25, 0.05])
    ways = [(starts[0], ends[0])]
    ways += [(start, ends[0]) for start in starts[1:] if len(low) > _UNEVEN * len(high)]
    ways += [(starts[0], end) for end in ends[1:] if len(high) > _UNEVEN * len(low)]
    return max(_emptier(values, float(start), float(end)) for start, end in ways if start < end)


def _emptier(values: Floats, start: float, end: float) -> float:
    counts, _ = np.histogram(values, bins=3, range=(start, end))
    middle, side = int(counts[1]), int(min(counts[0], counts[2]))
    return 1 - middle / side if side - middle > _DEVIATIONS * np.sqrt(side + middle) else 0.0


def _beyond(far: Floats, a: int, b: int) -> Floats:
    """Return how much farther points (n, K) are from one cluster than from another; inf where that is not known."""
    known = np.isfinite(far[:, [a, b]]).all(axis=1)
    return np.subtract(far[:, a], far[:, b], out=np.full(len(far), np.inf), where=known)


def _checked(x: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Labels]:
    """Return the points that have a label, centered, in float64, and their labels."""
    points, names = np.asarray(x, dtype=np.float64), np.asarray(labels)
    if points.ndim != 2 or names.shape != points.shape[:1]:
        raise DataError(f"x must be (N, D) and labels (N,); they have shapes {points.shape} and {names.shape}.")
    kept = names >= 0
    points = points[kept]
    return points - (points.mean(axis=0) if len(points) else 0.0), names[kept].astype(np.int64)


def _halves(names: Labels, seed: int) -> npt.NDArray[np.bool_]:
    """Return for each point whether it is in the second half of its cluster."""
    order = generator(seed, "halves of clusters").permutation(len(names))
    by_cluster = order[np.argsort(names[order], kind="stable")]
    first = np.searchsorted(names[by_cluster], names[by_cluster])  # where each one's cluster begins
    second = np.empty(len(names), dtype=bool)
    second[by_cluster] = (np.arange(len(names)) - first) % 2 == 1
    return second


def _distances_to_halves(points: Floats, names: Labels, second: Any, n_clusters: int) -> Floats:
    """Return the mean distance of each point to its nearest in the other half of each cluster, (N, K)."""
    found = np.full((len(points), n_clusters), np.inf)
    squares = (points**2).sum(axis=1)
    members = [[np.flatnonzero((names == c) & (second == half)) for c in range(n_clusters)] for half in (True, False)]
    for start in range(0, len(points), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(points)))
        distances = np.sqrt(np.maximum(squares[rows, None] + squares - 2 * points[rows] @ points.T, 0))
        for half in (False, True):
            mine = second[rows] == half
            for cluster, other in enumerate(members[int(half)]):  # those that are not in this half
                if len(other):
                    k = min(_NEIGHBORS, len(other))
                    nearest = np.partition(distances[np.ix_(mine, other)], k - 1, axis=1)[:, :k]
                    found[rows[mine], cluster] = nearest.mean(axis=1)
    return found
