"""The table of names, and `load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distclust.contracts import Dataset
from distclust.data import options as o
from distclust.data.builtin import blobs, digits, moons
from distclust.data.files import expanded, read_points
from distclust.data.points import Points, imbalanced, resampled, subset
from distclust.data.reference import reference_of
from distclust.data.standard import STANDARD, plain, standard
from distclust.data.timeseries import N_SUBJECTS, realdisp
from distclust.errors import DataError, UnknownNameError


@dataclass(frozen=True)
class Entry:
    """A dataset that `load` knows.

    Args:
        read: options -> points.
        options: the options that there are.
        makes: whether the data is made, so that n_samples says how many points are made, not how many are drawn.
    """

    read: Callable[[o.Options], Points]
    options: Mapping[str, o.Option]
    makes: bool = False


_COMMON = {
    "split": o.NO_SPLIT,
    "n_samples": o.SUBSET,
    "imbalance": o.IMBALANCE,
    "seed": o.SEED,
    "reference": o.REFERENCE,
    "reference_draw": o.count(0, at_least=0),
    "resample": o.part(),
    "resample_draw": o.count(0, at_least=0),
}
_MADE = {**_COMMON, "n_samples": o.count(1000)}
_STANDARD = {**_COMMON, "split": o.SPLIT, "data_dir": o.path()}
_FILE = {
    **_COMMON,
    "split": o.SPLIT,
    "kind": o.one_of(None, "images", "windows", "vectors", None),
    "channels": o.one_of(None, "first", "last", None),
    "labels": o.path(),
}

_ENTRIES = {
    "blobs": Entry(
        blobs, {**_MADE, "n_clusters": o.count(3), "n_features": o.count(2), "spread": o.number(1.0)}, makes=True
    ),
    "digits": Entry(digits, _COMMON),
    "moons": Entry(moons, {**_MADE, "n_samples": o.count(1000, at_least=2), "noise": o.number(0.05)}, makes=True),
    "realdisp": Entry(
        realdisp,
        {
            **_COMMON,
            "data_dir": o.path(),
            "window": o.count(512),
            "step": o.count(5),
            "subjects": o.integers(1, N_SUBJECTS),
            "cross_subjects": o.switch(False),
        },
    ),
    **{name: Entry(partial(standard, name), _STANDARD) for name in STANDARD},
    "stl10": Entry(partial(standard, "stl10"), {**_STANDARD, "unlabelled": o.switch(False)}),
}

NAMES = tuple(sorted(_ENTRIES))


def load(name_or_path: str | os.PathLike[str], **options: Any) -> Dataset:
    """Return a dataset by its name or from a file.

    x is given as stored and never scaled: uint8 stays uint8, and `value_range` declares its range.

    Names, in which case, '-' and '_' do not matter:
        digits: 1,797 images (1, 8, 8) in 0 .. 16, held by scikit-learn.
        blobs: made; options n_samples=1000, n_clusters=3, n_features=2, spread=1.0 (standard deviation).
        moons: made; options n_samples=1000, noise=0.05 (standard deviation).
        mnist, fashion-mnist, usps, cifar10, cifar100 (100 classes), cifar100-20 (its 20 superclasses), svhn, stl10
        (with unlabelled=True its 100,000 unlabelled images too, y = -1, after the others): taken from <name>.npz with
        x_train, y_train, x_test, y_test (and x_unlabelled), else found or downloaded by torchvision, in the folder
        `data_dir`, else that of the environment variable DISTCLUST_DATA, else ~/.cache/distclust. torchvision rounds
        the grey levels of usps down.
        realdisp: windows (117, 512) of the ideal recordings in data_dir, data_dir/realdisp or the same under
        DISTCLUST_DATA; options window=512, step=5 (moments), subjects=None (those to read; None = all that are
        there), cross_subjects=False (whether a window may hold the end of one subject and the start of the next, as in
        the program of its authors). x is a view or a copy as `timeseries.realdisp` says; indexing a view copies only
        what is taken.

    Files: .npy, memory-mapped and not copied where the type is right already, with its classes in another file if
        `labels=` names one; or .npz with x (and y), with x_train, y_train, x_test, y_test
        (and x_unlabelled), or with one array of any name. float64
        and integers other than uint8 become float32, bool becomes uint8. Values are not looked at; `check_x` does.
        Three-dimensional uint8 or bool arrays are grey images (N, H, W), all others windows (N, C, T), unless
        kind="images" or "windows" says it. Four-dimensional arrays are images, with channels last if the last
        dimension is 1, 3 or 4 and the second is not, else first, unless channels="first" or "last" says it. Classes
        are integers or strings, counted 0 .. C - 1 in their sorted order; the integer -1 is unknown.

    Args:
        name_or_path: a name, or a path. A string that is no known name is a path if it has a separator or a suffix or
            exists.
        **options: those of the dataset, and for all: split="all", "train" or "test" ("all" is train, then test; data
            without a split take "all" alone); imbalance=None, "imb1", "imb2" or "imb3" (see `imbalanced_subset`);
            n_samples=None, how many points to draw after that, kept in their order; reference=None, or "gaussian",
            "uniform" or "shuffled" for structureless data in place of the points then (see `reference_of`), and
            reference_draw=0, which of many; resample=None, or the share of the points then to keep, in their order,
            with `Dataset.rows` saying which, and resample_draw=0, which of many; seed=0 for all of it.

    Raises:
        UnknownNameError: neither a known name nor a path.
        ParameterError: options unknown or not allowed, all in one message.
        DataError: the data cannot be had or cannot be used.
    """
    name, entry = _entry(name_or_path)
    chosen = o.check_options(entry.options, options)
    points = imbalanced(entry.read(chosen), chosen["imbalance"], chosen["seed"])
    if not entry.makes:
        points = subset(points, chosen["n_samples"], chosen["seed"])
    data = points.dataset(name)
    if chosen["reference"] is not None:
        data = reference_of(data, chosen["reference"], chosen["seed"], chosen["reference_draw"])
    return resampled(data, chosen["resample"], chosen["seed"], chosen["resample_draw"])


def _entry(name_or_path: str | os.PathLike[str]) -> tuple[str, Entry]:
    if isinstance(name_or_path, str):
        known = {plain(name): name for name in NAMES}.get(plain(name_or_path))
        if known is not None:
            return known, _ENTRIES[known]
        if not _is_path(name_or_path):
            raise UnknownNameError("dataset", name_or_path, NAMES, "Or give the path of a .npy or .npz file.")
    elif not isinstance(name_or_path, os.PathLike):
        raise DataError(f"{name_or_path!r} is neither a name nor a path; give one of {', '.join(NAMES)}, or a path.")
    path = expanded(name_or_path)
    return path.stem, Entry(partial(read_points, path), _FILE)


def _is_path(given: str) -> bool:
    return "/" in given or os.sep in given or bool(Path(given).suffix) or os.path.exists(given)
