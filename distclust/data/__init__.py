"""Data: `load(name_or_path, **options)` gives a `Dataset`; `check_x` is the door that estimators put before theirs.

Nothing is scaled here: `x` is given as it is stored, and `Dataset.value_range` declares its range.
"""

from __future__ import annotations

from distclust.data.arrays import check_x
from distclust.data.catalogue import NAMES, load
from distclust.data.imbalance import FREQUENCIES, imbalance_frequencies, imbalance_prior, imbalanced_subset
from distclust.data.timeseries import window_labels, windows

__all__ = [
    "FREQUENCIES",
    "NAMES",
    "check_x",
    "imbalance_frequencies",
    "imbalance_prior",
    "imbalanced_subset",
    "load",
    "window_labels",
    "windows",
]
