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
_REFERENCES = ("gaussian", "uniform")
_REFERENCE_POINTS = 500  # of which UMAP makes a layout of reference data


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a cheap clusterer finds.

    Args:
        name: "k-means" or "UMAP + HDBSCAN".
        labels: (3, n) one labeling a seed.
        stability: mean adjusted Rand index of each two of them.
        separation: (K,) of the first labeling's clusters, see `separation`.
    """

    name: str
    labels: Labels
    stability: float
    separation: Floats


def baselines(x: Points, n_clusters: int, seed: int) -> list[Baseline]:
    """Return what each clusterer finds, with three seeds.

    Args:
        x: (n, D) distinct points, more than n_clusters of them.
        n_clusters: number of clusters K.
        seed: of all draws.

    Returns:
        k-means and UMAP + HDBSCAN; a clusterer that cannot divide the points is left out.
    """
    found = []
    for name, cluster in _CLUSTERERS.items():
        labels = _labels(cluster, x, n_clusters, seed, _SEEDS)
        if labels is not None:
            found.append(Baseline(name, labels, stability(labels), separation(x, labels[0], seed)))
    return found


def chance_stability(x: Points, n_clusters: int, seed: int) -> float:
    """Return the greatest stability that a cheap clusterer has on data without groups.

    Args:
        x: (n, D) distinct points. The reference data has as many, with their mean and covariance, drawn from one
            Gaussian and uniformly along the principal axes; see `data.reference`.
        n_clusters: number of clusters K.
        seed: of all draws.
    """
    found = [0.0]
    for kind in _REFERENCES:
        reference = reference_of(Dataset("points", x), kind, seed).x
        found.append(_stability("k-means", reference, n_clusters, seed, _SEEDS))
    found.append(_stability("UMAP + HDBSCAN", _gaussian(x, seed), n_clusters, seed, 2))
    return max(found)


def _gaussian(x: Points, seed: int) -> Points:
    rows = np.linspace(0, len(x) - 1, min(len(x), _REFERENCE_POINTS)).astype(int)
    return reference_of(Dataset("points", x[rows]), "gaussian", seed).x


def _stability(name: str, x: Points, n_clusters: int, seed: int, n_seeds: int) -> float:
    labels = _labels(_CLUSTERERS[name], x, n_clusters, seed, n_seeds)
    return 0.0 if labels is None else stability(labels)


def _labels(cluster: Callable[[Points, int, int], Labels], x: Points, k: int, seed: int, n_seeds: int) -> Labels | None:
    try:
        return np.stack([cluster(x, k, integer(seed, "baseline", round=draw)) for draw in range(n_seeds)])
    except Collapsed:  # fewer distinct points than clusters
        return None


def _k_means(x: Points, n_clusters: int, seed: int) -> Labels:
    from sklearn.cluster import KMeans

    found: Labels = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed).fit_predict(x).astype(np.int64)
    return found


def _umap_hdbscan(x: Points, n_clusters: int, seed: int) -> Labels:
    return label(x, n_clusters, by="auto", seed=seed)


_CLUSTERERS: dict[str, Callable[[Points, int, int], Labels]] = {"k-means": _k_means, "UMAP + HDBSCAN": _umap_hdbscan}
