"""Points: what a loader hands over, and the choosing of some of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Dataset, Labels
from distclust.data.imbalance import imbalanced_subset
from distclust.errors import DataError, Message, ParameterError, given, is_given, option
from distclust.seeding import generator

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Points:
    """Points that have not been copied yet.

    Args:
        x: uint8, float32 or float64; its rows hold the points.
        y: (N,) class of each point, -1 = unknown; None = no classes.
        n_clusters: number of classes, None = not known.
        value_range: lowest and highest value that x can take, None = not bounded.
        rows: (N,) which row of x each point is; None = point i is row i.
        name: what the data is called, "" = as it was asked for.
        names: (N,) as in `Dataset`.
        feature_names: as in `Dataset`.
        origins: as in `Dataset`.
        remarks: as in `Dataset`.
    """

    x: Array
    y: Labels | None = None
    n_clusters: int | None = None
    value_range: tuple[float, float] | None = None
    rows: Rows | None = None
    name: str = ""
    names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    origins: Mapping[str, Array] | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x) if self.rows is None else len(self.rows)

    def only(self, chosen: Rows) -> Points:
        """Return the chosen points, by ascending index."""
        rows = chosen if self.rows is None else self.rows[chosen]
        y = None if self.y is None else self.y[chosen]
        return replace(self, rows=rows, y=y, **_of_rows(self, chosen))

    def dataset(self, name: str) -> Dataset:
        """Return the points as a dataset; x is a view where they are evenly spaced rows."""
        x = self.x if self.rows is None else take(self.x, self.rows)
        return Dataset(
            self.name or name,
            x,
            self.y,
            self.n_clusters,
            self.value_range,
            names=self.names,
            feature_names=self.feature_names,
            origins=self.origins,
            remarks=tuple(map(Message, self.remarks)),
        )


def imbalanced(points: Points, imbalance: str | None, seed: int) -> Points:
    """Return the points that stay when their classes are thinned out; all of them for None.

    Raises:
        DataError: the points have no classes.
    """
    if imbalance is None:
        return points
    if points.y is None:
        raise DataError(f"{given('imbalance', imbalance)} needs the classes of the points, and this data has none.")
    kept = points.only(imbalanced_subset(points.y, imbalance, seed))
    if not len(kept):
        raise DataError(f"{given('imbalance', imbalance)} leaves none of the {len(points)} points; load more of them.")
    return kept


def subset(points: Points, n_samples: int | None, seed: int) -> Points:
    """Return `n_samples` points in their order, drawn by `seed`; all of them for None.

    At one seed a smaller subset is part of a larger one.

    Raises:
        ParameterError: there are fewer points.
    """
    if n_samples is None or n_samples == len(points):
        return points
    if n_samples > len(points):
        raise ParameterError(
            [f"{is_given('n_samples', n_samples)}, and there are {len(points)} points; ask for at most that."]
        )
    chosen = generator(seed, "subset").permutation(len(points))[:n_samples]
    return points.only(np.sort(chosen).astype(np.int64))


def resampled(data: Dataset, share: float | None, seed: int, draw: int = 0) -> Dataset:
    """Return a share of the points in their order, and which they are; all of them for None.

    Args:
        data: any.
        share: of the points, in (0, 1); at least two are drawn.
        seed: >= 0.
        draw: which of many drawn at one seed, >= 0.

    Raises:
        DataError: there are fewer than two points, or no memory for them.
    """
    if share is None:
        return data
    n_points = len(data.x)
    if n_points < 2:
        raise DataError(f"{given('resample', share)} needs at least 2 points, and there are {n_points}.")
    order = generator(seed, "resample", round=draw).permutation(n_points)
    rows = np.sort(order[: max(2, round(share * n_points))]).astype(np.int64)
    y = None if data.y is None else data.y[rows]
    return replace(data, x=take(data.x, rows), y=y, rows=rows, **_of_rows(data, rows))


def _of_rows(data: Points | Dataset, rows: Rows) -> dict[str, Any]:
    """Return the names and the origins of some points."""
    names, origins = data.names, data.origins
    return {
        "names": None if names is None else tuple(names[row] for row in rows),
        "origins": None if origins is None else {name: column[rows] for name, column in origins.items()},
    }


def take(x: Array, rows: Rows) -> Array:
    """Return rows of `x`: a view where they are evenly spaced, else a copy.

    Args:
        x: any array.
        rows: (n,) ascending, without repetition.

    Raises:
        DataError: the copy would not fit into half of the machine's memory.
    """
    steps = np.diff(rows)
    if len(rows) and (steps == steps[:1]).all():
        return x[rows[0] : rows[-1] + 1 : int(steps[0]) if len(steps) else 1]
    check_fits(len(rows) * int(np.prod(x.shape[1:], dtype=np.int64)) * x.itemsize)
    return x[rows]


def check_fits(n_bytes: int) -> None:
    """Refuse what would take more than half of the machine's memory.

    Raises:
        DataError: it would.
    """
    if n_bytes > _memory() / 2:
        raise DataError(
            f"the points take {n_bytes / 2**30:.1f} GiB, more than half of this machine's {_memory() / 2**30:.1f} GiB "
            f"of memory. Take fewer of them with {option('n_samples')}, or cut windows at a larger {option('step')}."
        )


def fitting(n_bytes: float) -> float:
    """Return how many things of so many bytes fit into a quarter of the machine's memory."""
    return _memory() / 4 / n_bytes


def _memory() -> float:
    """Return the machine's memory in bytes, infinity where it is not told."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
