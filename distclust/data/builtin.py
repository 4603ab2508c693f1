"""Data that needs no file: scikit-learn's digits, blobs and moons."""

from __future__ import annotations

import numpy as np

from distclust.data.options import Options
from distclust.data.points import Points
from distclust.errors import ParameterError, is_given, option_name
from distclust.seeding import integer


def digits(options: Options) -> Points:
    """Return 1,797 handwritten digits, (1797, 1, 8, 8) uint8 in 0 .. 16, 10 classes.

    Source: the test set of the UCI Machine Learning Repository's "Optical Recognition of Handwritten Digits", as
    scikit-learn holds it.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    x = data.images.astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    return Points(x, data.target.astype(np.int64), n_clusters=10, value_range=(0, 16))


def blobs(options: Options) -> Points:
    """Return normal blobs around random centres, (n_samples, n_features) float32.

    Raises:
        ParameterError: there are fewer points than clusters.
    """
    from sklearn.datasets import make_blobs

    n_samples, n_clusters = options["n_samples"], options["n_clusters"]
    if n_samples < n_clusters:
        raise ParameterError(
            [
                f"{is_given('n_samples', n_samples)}; it must be at least {option_name('n_clusters')}, "
                f"which is {n_clusters}."
            ]
        )
    x, y = make_blobs(
        n_samples=n_samples,
        n_features=options["n_features"],
        centers=n_clusters,
        cluster_std=options["spread"],
        random_state=integer(options["seed"], "blobs"),
    )
    return Points(x.astype(np.float32), y.astype(np.int64), n_clusters)


def moons(options: Options) -> Points:
    """Return two interleaving half circles, (n_samples, 2) float32."""
    from sklearn.datasets import make_moons

    seed = integer(options["seed"], "moons")
    x, y = make_moons(n_samples=options["n_samples"], noise=options["noise"], random_state=seed)
    return Points(x.astype(np.float32), y.astype(np.int64), n_clusters=2)
