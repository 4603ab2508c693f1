"""Imbalanced data, after appendix E of Mahon & Lukasiewicz (AAAI 2024).

Classes are thinned out here, so the true classes are read here: this makes a dataset, it does not train on one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distclust.contracts import Labels
from distclust.errors import DataError, ParameterError, UnknownNameError, option_name
from distclust.seeding import generator

FREQUENCIES: dict[str, tuple[float, ...]] = {
    "imb1": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.95, 0.9, 0.85, 0.8),
    "imb2": (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55),
    "imb3": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
}


def imbalance_frequencies(name: str, n_clusters: int) -> npt.NDArray[np.float64]:
    """Return the share of its points that each class keeps.

    Args:
        name: "imb1", "imb2" or "imb3".
        n_clusters: number of classes K, >= 1. For K other than 10 the ten frequencies are stretched over the K
            classes by linear interpolation: the first class keeps the first share, the last class the last.

    Returns:
        (K,) in 0 .. 1.

    Raises:
        UnknownNameError: the name is none of the three.
        ParameterError: n_clusters is below 1.

    Source: Mahon & Lukasiewicz (AAAI 2024), appendix E.
    """
    if name not in FREQUENCIES:
        raise UnknownNameError("imbalance", name, FREQUENCIES)
    if n_clusters < 1:
        raise ParameterError([f"n_clusters is {n_clusters}; it must be at least 1."])
    ten = np.asarray(FREQUENCIES[name])
    return np.interp(np.linspace(0, len(ten) - 1, n_clusters), np.arange(len(ten)), ten)


def imbalance_prior(name: str, n_clusters: int) -> npt.NDArray[np.float64]:
    """Return the expected share of each cluster after imbalance, for a method that takes a prior.

    Args:
        name: "imb1", "imb2" or "imb3".
        n_clusters: number of classes K, >= 1.

    Returns:
        (K,), sums to one; the classes are taken to be equally large before they are thinned out.

    Raises:
        UnknownNameError: the name is none of the three.
        ParameterError: n_clusters is below 1.
    """
    frequencies = imbalance_frequencies(name, n_clusters)
    return frequencies / frequencies.sum()


def imbalanced_subset(y: Labels, name: str, seed: int) -> npt.NDArray[np.int64]:
    """Return the indices of the points that stay.

    Class c keeps `round(frequency[c] * count[c])` points, drawn from a stream of its own, so at one seed what "imb3"
    keeps is part of what "imb2" keeps, and that part of what "imb1" keeps. Points of unknown class all stay.

    Args:
        y: (N,) classes 0 .. K - 1, -1 = unknown.
        name: "imb1", "imb2" or "imb3".
        seed: >= 0.

    Returns:
        (n,) int64, ascending.

    Raises:
        UnknownNameError: the name is none of the three.
        DataError: no point has a known class.
    """
    if not (y >= 0).any():
        raise DataError(
            f"{option_name('imbalance')} needs the classes of the points, and no point has a known class; leave it out."
        )
    frequencies = imbalance_frequencies(name, int(y.max()) + 1)
    kept = [np.flatnonzero(y < 0)]
    for c, frequency in enumerate(frequencies):
        members = np.flatnonzero(y == c)
        shuffled = generator(seed, f"imbalance of class {c}").permutation(members)
        kept.append(shuffled[: round(frequency * len(members))])
    return np.sort(np.concatenate(kept)).astype(np.int64)
