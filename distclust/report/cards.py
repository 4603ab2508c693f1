"""What is shown of each cluster: its size and agreement, typical and disputed points, what sets it apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from distclust.contracts import Array, Dataset, Labels
from distclust.report import thumbnails
from distclust.report.evidence import Evidence, points_to_look_at
from distclust.seeding import generator

MANY = 20  # clusters, beyond which fewer examples are shown of each
_EXAMPLES, _FEWER_EXAMPLES = 6, 3
_FEATURES = 5
_BLOCK = 1 << 14  # points at a time


class Example(NamedTuple):
    """A point of a cluster."""

    row: int  # in the data
    name: str  # what leads back to its origin; "" = there is none
    agreement: float
    rival: int | None  # the other cluster that most members put it in; None = there is none
    picture: str  # data URI; "" = it has none


class Feature(NamedTuple):
    """A feature by which a cluster is told from the others."""

    name: str
    mean: float
    overall: float
    difference: float  # in standard deviations of all points


class Card(NamedTuple):
    """What is shown of a cluster."""

    cluster: int
    size: int
    share: float  # of all points
    agreement: float  # mean
    agreed: float  # share of its points
    typical: Sequence[Example]
    disputed: Sequence[Example]  # with an agreement below 1
    features: Sequence[Feature]


def cards(evidence: Evidence) -> list[Card]:
    """Return a card for each cluster that has points; no true class is read."""
    e, found = evidence, evidence.labelled
    n_examples = _EXAMPLES if e.n_clusters <= MANY else _FEWER_EXAMPLES
    typical = _typical(e, n_examples)
    disputed = disputed_points(found.labels, found.share, e.n_clusters, n_examples, e.seed)
    shown = np.concatenate([*typical, *disputed])
    picture = _pictures(e.data, shown)
    features = _features(e)
    return [
        Card(
            k,
            int(inside.sum()),
            float(inside.mean()),
            float(found.share[inside].mean()),
            float(found.agreed[inside].mean()),
            [_example(e, row, picture) for row in typical[k]],
            [_example(e, row, picture) for row in disputed[k]],
            features[k],
        )
        for k in range(e.n_clusters)
        if (inside := found.labels == k).any()
    ]


def typical_points(space: Array, labels: Labels, share: Array, n_clusters: int, n_examples: int) -> list[Labels]:
    """Return the points nearest to the mean of their cluster, those that most members agree on first.

    Args:
        space: (n, D) where they lie.
        labels: (n,) in -1 .. n_clusters - 1.
        share: (n,) of agreeing members.
        n_clusters: number of clusters.
        n_examples: how many of each, at most.

    Returns:
        Their positions 0 .. n - 1, an array a cluster.
    """
    found = []
    for k in range(n_clusters):
        inside = np.flatnonzero(labels == k)
        at = space[inside].astype(np.float64)
        distance = np.linalg.norm(at - at.mean(0), axis=1) if len(at) else np.empty(0)
        found.append(inside[np.lexsort((distance, -share[inside]))][:n_examples])
    return found


def disputed_points(labels: Labels, share: Array, n_clusters: int, n_examples: int, seed: int) -> list[Labels]:
    """Return the points that the fewest members agree on, without those that all agree on.

    Args:
        labels: (N,) in -1 .. n_clusters - 1.
        share: (N,) of agreeing members.
        n_clusters: number of clusters.
        n_examples: how many of each, at most.
        seed: draws between equally disputed ones.

    Returns:
        Their positions 0 .. N - 1, an array a cluster.
    """
    doubtful = np.flatnonzero(share < 1)
    turn = generator(seed, "disputed points of a report").permutation(len(doubtful))
    order = doubtful[np.lexsort((turn, share[doubtful], labels[doubtful]))]
    starts = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    return [order[a:b][:n_examples] for a, b in pairwise(starts)]


def distinguishing_features(x: Array, labels: Labels, n_clusters: int, names: Sequence[str]) -> list[list[Feature]]:
    """Return the features whose mean in a cluster is furthest from that of all points, in standard deviations.

    Args:
        x: (N, D).
        labels: (N,) in -1 .. n_clusters - 1.
        n_clusters: number of clusters.
        names: D, of the features.

    Returns:
        Up to five a cluster, the furthest first; none that do not vary or do not differ.
    """
    sums, sizes = np.zeros((n_clusters, x.shape[1])), np.bincount(labels[labels >= 0], minlength=n_clusters)
    overall = sum(block.sum(0) for _, block in _blocks(x)) / len(x)
    squares = np.zeros(x.shape[1])
    for start, block in _blocks(x):
        inside = labels[start : start + len(block)]
        rows = np.flatnonzero(inside >= 0)
        member = sparse.csr_matrix((np.ones(len(rows)), (inside[rows], rows)), (n_clusters, len(block)))
        sums += member @ block
        squares += ((block - overall) ** 2).sum(0)
    means, deviation = sums / np.maximum(1, sizes)[:, None], np.sqrt(squares / len(x))
    apart = np.divide(means - overall, deviation, out=np.zeros_like(means), where=deviation > 0)
    return [
        [
            Feature(names[d], float(means[k, d]), float(overall[d]), float(apart[k, d]))
            for d in np.argsort(-np.abs(apart[k]), kind="stable")[:_FEATURES]
            if apart[k, d]
        ]
        for k in range(n_clusters)
    ]


def _blocks(x: Array) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(x), _BLOCK):
        yield start, x[start : start + _BLOCK].astype(np.float64)


def _typical(e: Evidence, n_examples: int) -> list[Labels]:
    """Return the rows of typical points, by the latents, or by the data where there are none."""
    found = e.labelled
    if e.latents is not None:
        rows, space = e.latents.rows, e.latents.values
    else:
        rows = points_to_look_at(found.labels, e.n_clusters, e.seed)
        space = np.zeros((len(rows), 1)) if e.data is None else e.data.x[rows].reshape(len(rows), -1)
    chosen = typical_points(space, found.labels[rows], found.share[rows], e.n_clusters, n_examples)
    return [rows[positions] for positions in chosen]


def _features(e: Evidence) -> list[list[Feature]]:
    if e.data is None or e.data.x.ndim != 2:
        return [[]] * e.n_clusters
    x = e.data.x
    names = e.data.feature_names or [f"feature {d}" for d in range(x.shape[1])]
    return distinguishing_features(x, e.labelled.labels, e.n_clusters, names)


def _example(e: Evidence, row: int, picture: Callable[[int], str]) -> Example:
    found = e.labelled
    name = e.data.names[row] if e.data is not None and e.data.names is not None else ""
    other = found.aligned[:, row]
    other = other[(other >= 0) & (other != found.labels[row])]
    rival = int(np.bincount(other).argmax()) if len(other) else None
    return Example(int(found.rows[row]), name, float(found.share[row]), rival, picture(row))


def _pictures(data: Dataset | None, shown: Labels) -> Callable[[int], str]:
    """Return what makes a point's picture; images and windows all have the same scale."""
    if data is None or data.x.ndim == 2 or not len(shown):
        return lambda row: ""
    some = data.x[np.unique(shown)]
    low, high = data.value_range or (float(some.min()), float(some.max()))
    if data.x.ndim == 3:  # a window's range is seldom used in full
        low, high = float(some.min()), float(some.max())
    draw = partial(thumbnails.image if data.x.ndim == 4 else thumbnails.window, low=low, high=high)
    return lambda row: draw(data.x[row])
