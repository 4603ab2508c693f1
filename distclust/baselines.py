"""Cheap clusterers of the input, next to every ensemble: k-means, and UMAP with HDBSCAN cut at K clusters.

Each runs with three seeds on a sample of the points, in the space that the members' networks see. Its stability needs
no label. The same clusterers on reference data without groups, of the same covariance, give the stability to expect by
chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distclust.contracts import Dataset, Labels
from distclust.data.reference import reference_of
from distclust.labelling import Collapsed, label
from distclust.metrics import stability
from distclust.seeding import integer
from distclust.separation import separation

Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.float32]

_SEEDS = 3
_KMEANS_STARTS = 3
_KINDS, _DRAWS = ("gaussian", "uniform"), 2  # of reference data
_REFERENCE_POINTS = {"k-means": 1_000, "UMAP + HDBSCAN": 300}

Clusterer = Callable[[Points, int, int], Labels]  # points, n_clusters, seed


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a cheap clusterer finds.

    Args:
        name: "k-means" or "UMAP + HDBSCAN".
        labels: (3, n) one labeling a seed.
        stability: mean adjusted Rand index of each two of them.
        separation: (K,) of the first labeling's clusters, see `separation`.
        chance: the greatest stability that the same clusterer has on reference data without groups.
    """

    name: str
    labels: Labels
    stability: float
    separation: Floats
    chance: float


def baselines(x: Points, n_clusters: int, seed: int) -> list[Baseline]:
    """Return what each clusterer finds, with three seeds, and how stable it is on reference data.

    Args:
        x: (n, D) distinct points, more than n_clusters of them.
        n_clusters: number of clusters K.
        seed: of all draws.

    Returns:
        k-means and UMAP + HDBSCAN; a clusterer that cannot divide the points is left out.
    """
    references = [_reference(x, kind, draw, seed) for draw in range(_DRAWS) for kind in _KINDS]
    found = []
    for name, cluster in _CLUSTERERS.items():
        labels = _labels(cluster, x, n_clusters, seed)
        if labels is not None:
            chance = max(_stability(cluster, one[: _REFERENCE_POINTS[name]], n_clusters, seed) for one in references)
            found.append(Baseline(name, labels, stability(labels), separation(x, labels[0], seed), chance))
    return found


def _reference(x: Points, kind: str, draw: int, seed: int) -> Points:
    """Return data without groups: points with the mean and covariance of others, at most 1,000."""
    rows = np.linspace(0, len(x) - 1, min(len(x), max(_REFERENCE_POINTS.values()))).astype(int)
    found: Points = reference_of(Dataset("points", x[rows]), kind, seed, draw).x
    return found


def _stability(cluster: Clusterer, x: Points, n_clusters: int, seed: int) -> float:
    labels = _labels(cluster, x, n_clusters, seed) if len(x) > n_clusters else None
    return 0.0 if labels is None else stability(labels)


def _labels(cluster: Clusterer, x: Points, n_clusters: int, seed: int) -> Labels | None:
    try:
        return np.stack([cluster(x, n_clusters, integer(seed, "baseline", round=draw)) for draw in range(_SEEDS)])
    except Collapsed:  # fewer distinct points than clusters
        return None


def _k_means(x: Points, n_clusters: int, seed: int) -> Labels:
    from sklearn.cluster import KMeans

    found: Labels = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed).fit_predict(x).astype(np.int64)
    return found


def _umap_hdbscan(x: Points, n_clusters: int, seed: int) -> Labels:
    return label(x, n_clusters, by="auto", seed=seed)


_CLUSTERERS: dict[str, Clusterer] = {"k-means": _k_means, "UMAP + HDBSCAN": _umap_hdbscan}
