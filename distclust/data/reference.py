"""Reference data: points without groups that are otherwise like a dataset, to see what a method finds where nothing is.

**Which reference is right depends on what clusters are to be told from.** "shuffled" keeps every feature's values and
breaks all ties between features; what it calls structure may be mere correlation, so that a long cloud without groups
looks clustered beside it, and two groups that lie apart along one feature are still there in it. "gaussian" keeps the
covariance and has one peak whatever the data: a direction in which the data has two is then told from one in which it
is only long. "uniform" keeps the covariance too, and has edges and no peak.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Dataset
from distclust.data.points import check_fits
from distclust.seeding import generator

Draw = Callable[[np.random.Generator, tuple[int, int]], npt.NDArray[np.float64]]


def reference_of(data: Dataset, kind: str, seed: int, draw: int = 0) -> Dataset:
    """Return structureless data in place of a dataset: as many points, of the same shape, without classes.

    Args:
        data: any.
        kind: "gaussian": normal, with the mean and the covariance of the data; "uniform": the same along the data's
            principal axes, with edges in place of tails; "shuffled": every feature, pixel or moment permuted over the
            points on its own, in the data's own type.
        seed: >= 0.
        draw: which of many drawn at one seed, >= 0.

    Returns:
        x (N, ...) of the data's type, but float32 in place of uint8 unless "shuffled"; y and n_clusters are None. At
        one seed and draw the same bytes on one machine.

    Raises:
        DataError: the points do not fit into memory three times over, in float64.

    Source:
        Tibshirani, Walther and Hastie, JRSS B 63 (2001), who draw uniformly over the range along the features or along
        the principal axes; John et al., Scientific Reports 10 (2020), who draw normal numbers along the principal axes;
        Liu et al., JASA 103 (2008), who call a cluster what one Gaussian can be.
    """
    rng = generator(seed, f"{kind} reference", round=draw)
    flat = data.x.reshape(len(data.x), -1)  # (N, D)
    found = shuffled(flat, rng) if kind == "shuffled" else alike(flat, _DRAWS[kind], rng)
    bounds = data.value_range if kind == "shuffled" else None
    return Dataset(f"{data.name}, {kind} reference", found.reshape(data.x.shape), value_range=bounds)


def shuffled(x: Array, rng: np.random.Generator) -> Array:
    """Return points (N, D) of which every feature is permuted on its own; each keeps its values."""
    return rng.permuted(x, axis=0)


def alike(x: Array, draw: Draw, rng: np.random.Generator) -> Array:
    """Return points (N, D) with the mean and, but for chance, the covariance of others; float32 in place of uint8.

    Args:
        x: (N, D).
        draw: how numbers of mean 0 and variance 1 are drawn, (rng, shape) -> (N, R).
        rng: its generator.

    Raises:
        DataError: there is no memory for it.
    """
    from threadpoolctl import threadpool_limits

    check_fits(3 * 8 * x.size)
    mean = x.mean(axis=0, dtype=np.float64)
    with threadpool_limits(1):  # sums by several threads end in other bits
        _, scales, axes = np.linalg.svd(x - mean, full_matrices=False)  # (R,), (R, D)
        numbers = draw(rng, (len(x), len(scales))) * (scales / np.sqrt(len(x)))
        return (mean + numbers @ axes).astype(np.float64 if x.dtype == np.float64 else np.float32)


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    return rng.standard_normal(shape)


def _uniform(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    return rng.uniform(-np.sqrt(3), np.sqrt(3), shape)


_DRAWS: dict[str, Draw] = {"gaussian": _normal, "uniform": _uniform}
