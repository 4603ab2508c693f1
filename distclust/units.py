"""Features of which some values look as if they were in another unit: meters and millimeters in one column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_FEWEST = 0.01  # share of the points that must be in either unit
_GAP = 0.5  # decades without a value between them
_TOLERANCE = 0.05  # decades by which the ratio of the medians may miss a power of ten
_MOST_FEATURES = 5_000


class MixedUnits(NamedTuple):
    """A feature whose values fall into two ranges, a power of ten apart.

    Args:
        feature: its column.
        factor: of the medians, 10, 100, ...
        larger: (N,) bool, the points in the larger range.
    """

    feature: int
    factor: int
    larger: npt.NDArray[np.bool_]


def mixed_units(x: npt.ArrayLike) -> list[MixedUnits]:
    """Return the features that look as if some of their values were in another unit.

    The absolute values of such a feature fall into two ranges with at least 1% of the points in each, a factor of 3 or
    more between them without a value, and medians whose ratio is 10, 100, 1,000, ... to within 12%. Features of two
    values alone are codes, and left out, as are those with zeros.

    Args:
        x: (N, D) raw values. Data of more than 5,000 features are not looked at.
    """
    values = np.abs(np.asarray(x, dtype=np.float64))
    n_points, n_features = values.shape
    least = max(2, int(np.ceil(_FEWEST * n_points)))
    if n_features > _MOST_FEATURES or n_points < 2 * least:
        return []
    found = []
    for feature in np.flatnonzero((values > 0).all(axis=0)).tolist():
        ordered = np.sort(np.log10(values[:, feature]))
        gaps = np.diff(ordered)[least - 1 : n_points - least]
        cut = int(gaps.argmax()) + least  # so many points are in the lower range
        decades = float(np.median(ordered[cut:]) - np.median(ordered[:cut]))
        apart = gaps.max() >= _GAP and round(decades) >= 1 and abs(decades - round(decades)) <= _TOLERANCE
        if apart and ordered[0] < ordered[cut - 1] and ordered[cut] < ordered[-1]:
            larger = np.log10(values[:, feature]) >= ordered[cut]
            found.append(MixedUnits(feature, 10 ** round(decades), larger))
    return found
