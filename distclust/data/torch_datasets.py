"""Map-style datasets of torch: their items become points."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from distclust.contracts import Array, Labels
from distclust.data.arrays import check_finite, class_indices
from distclust.data.files import arranged, value_range
from distclust.data.options import Options
from distclust.data.points import Points, check_fits
from distclust.errors import DataError


def is_torch_dataset(given: object) -> bool:
    """Return whether something is a dataset of torch; whoever holds one has imported torch."""
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data is not None and isinstance(given, torch_data.Dataset)


def read_torch_dataset(dataset: Any, options: Options) -> Points:
    """Return the items of a dataset, each fetched once, in order, as `load` describes them.

    Args:
        dataset: `dataset[i]` is x, or a tuple or list that begins with x (and y); x is a tensor, an array, an image of
            Pillow, or numbers, of one shape.
        options: kind, channels and labels.

    Raises:
        DataError: it has no length or no items, an item cannot be had, or items do not fit together.
    """
    called = type(dataset).__name__
    if not hasattr(dataset, "__len__"):
        raise DataError(f"{called} has no length; give a map-style Dataset, with __len__ and __getitem__.")
    n = len(dataset)
    if n < 1:
        raise DataError(f"{called} has no items. Give a Dataset that has some.")
    x, names = None, []
    for index in range(n):
        item = _item(dataset, index)
        point = _point(item, index, called)
        if x is None:
            check_fits(n * point.nbytes)
            x = np.empty((n, *point.shape), point.dtype)
        if (point.shape, point.dtype) != (x.shape[1:], x.dtype):
            raise DataError(
                f"{called}: item {index} is {point.shape} {point.dtype}, those before are {x.shape[1:]} {x.dtype}; all "
                "must be alike. Resize or convert them in the Dataset's transform."
            )
        x[index] = point
        names.append(_class_of(item, index, called) if options["labels"] else None)
    assert x is not None
    y, n_clusters = _classes(names, called) if options["labels"] else (None, None)
    found = arranged(x, options["kind"], options["channels"])
    check_finite(x, "x", f"{called}: ")
    return Points(found, y, n_clusters, value_range(x))


def _item(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except Exception as error:  # the user's own code
        raise DataError(
            f"{type(dataset).__name__}: item {index} cannot be had ({error!r}). Mend the Dataset."
        ) from error


def _point(item: Any, index: int, called: str) -> Array:
    x = item[0] if isinstance(item, (tuple, list)) and len(item) and not isinstance(item[0], (int, float)) else item
    try:
        found = np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
    except Exception as error:
        raise DataError(f"{called}: item {index} is no array ({error}). Give x, or (x, y).") from error
    if found.dtype.kind not in "biuf" or found.ndim == 0:
        raise DataError(
            f"{called}: item {index} is {type(x).__name__}, from which no array of numbers comes. Give x, or (x, y)."
        )
    return found


def _class_of(item: Any, index: int, called: str) -> Any:
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError(
            f"{called}: item {index} has no class, and labels=True asks for it. Give (x, y), or leave it out."
        )
    y = item[1]
    return y.item() if hasattr(y, "item") and np.size(y) == 1 else y


def _classes(names: list[Any], called: str) -> tuple[Labels, int | None]:
    try:
        return class_indices(np.asarray(names), len(names))
    except ValueError as error:
        raise DataError(f"{called}: {error}") from error
