"""The table of names, and `load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distclust.contracts import Dataset
from distclust.data import options as o
from distclust.data.arrays import check_finite
from distclust.data.builtin import blobs, digits, moons
from distclust.data.features import read_features
from distclust.data.files import SUFFIXES as ARRAYS
from distclust.data.files import expanded, read_points
from distclust.data.image_folder import read_image_folder
from distclust.data.moments import UNITS
from distclust.data.points import Points, imbalanced, resampled, subset
from distclust.data.recordings import read_recordings
from distclust.data.reference import reference_of
from distclust.data.standard import STANDARD, plain, standard
from distclust.data.tables import SUFFIXES as TABLES
from distclust.data.timeseries import N_SUBJECTS, realdisp
from distclust.data.torch_datasets import is_torch_dataset, read_torch_dataset
from distclust.errors import DataError, UnknownNameError
from distclust.yaml12 import Reading

if TYPE_CHECKING:
    from torch.utils.data import Dataset as TorchDataset


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
_IMAGE_FOLDER = {
    **_COMMON,
    "size": o.side(),
    "mode": o.one_of(None, "grey", "gray", "rgb", None),
    "depth": o.DEPTH,
    "broken": o.one_of("refuse", "refuse", "skip"),
    "pages": o.one_of("first", "first", "all"),
    "links": o.one_of("inside", "inside", "follow"),
    "labels": o.one_of(None, "folders", None),
}
_TABLE = {
    **_COMMON,
    "columns": o.columns(),
    "exclude": o.columns(),
    "id_column": o.column(),
    "label_column": o.column(),
    "missing": o.one_of("refuse", "refuse", "drop", "mean"),
    "categories": o.one_of("refuse", "refuse", "one-hot", "ordinal"),
    **o.READING,
}
_RECORDINGS = {
    **_COMMON,
    "window": o.count(1),
    "step": o.SUBSET,
    "time_column": o.column(),
    "time_unit": o.one_of(None, *UNITS, None),
    "time_format": o.text(),
    "rate": o.positive(),
    "gap": o.positive(),
    "recording_column": o.column(),
    "columns": o.columns(),
    "exclude": o.columns(),
    "label_column": o.column(),
    "missing": o.one_of("refuse", "refuse", "drop", "interpolate"),
    "longest_gap": o.positive(),
    "links": _IMAGE_FOLDER["links"],
    **o.READING,
}
_TORCH = {
    **_COMMON,
    "kind": _FILE["kind"],
    "channels": _FILE["channels"],
    "labels": o.switch(False),
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
_BY_PATH = (_IMAGE_FOLDER, _TABLE, _RECORDINGS, _FILE)  # the last comes last: labels= of a file is any path
# How the options are read that stand in a file or on the command line; those of one name are read alike.
READINGS: Mapping[str, Reading] = {
    name: option.reading
    for options in (*(entry.options for entry in _ENTRIES.values()), *_BY_PATH)
    for name, option in options.items()
}


def load(name_or_path: str | os.PathLike[str] | TorchDataset[Any], **options: Any) -> Dataset:
    """Return a dataset by its name, from a file or folder, or of a torch Dataset.

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

    Folders: of images, in sub-folders or not, in the order of their paths (`Dataset.names`): .avif, .bmp, .gif, .jp2,
        .jpg, .png, .ppm, .tif, .webp and others, .heic after pip install 'distclust[heif]', and files without a suffix
        that hold such an image. size= is a square's side or (height, width); each image is resized so that it covers
        this and cropped to its center. size=None keeps images that all have one size of at most 128 pixels a side;
        otherwise they become 64 x 64 if at least half have a short side of 64 pixels or more, else 32 x 32. mode=None
        is "grey" if all are stored as grey, else "rgb". Images stand upright as EXIF says, and on white where they are
        transparent; x is uint8, or, of grey images with depth=16, float32 in 0 .. 65535; depth=None is 16 if some grey
        image has 16 bits, else 8. Of a file with several pages the first is read; pages="all" makes each page a point,
        named file#page, from 0 (`Dataset.origins` has the columns file and page). Links that lead out of the folder are
        not followed, unless links="follow". Files that cannot be read, and images of 1 x 1 pixel, are refused, or left
        out with broken="skip". labels="folders" makes the topmost sub-folder an image's class; without it there are no
        classes. What was left out or looks wrong (blank images, equal ones, long and narrow ones) is in
        `Dataset.remarks`.

    Tables: .csv, .tsv or .parquet, a row a point (N, D), float32 where that holds all values of the columns' types, as
        in embeddings that are stored so, else float64. All columns are features unless columns= names them or
        exclude= leaves some out; bools are 0 and 1, a column of lists of one length (an embedding) is as many features,
        and columns of dates are refused by name. Columns of text or categories are refused, or categories="one-hot"
        makes each category a feature of 0 and 1, "ordinal" the column one feature, the category's position in declared
        order (ordered pandas categoricals), otherwise alphabetical. id_column= names the points, as text exactly as
        written; None takes the first column that looks like an id (called "id", "index" or nothing, or ending in "ID"
        or "_id", with distinct whole numbers or texts; "Unnamed: 0"; a row number). Such columns are features only if
        columns= lists them. label_column= holds classes; in a column of text every text is one, "NA" too. Missing
        values are refused, or missing="drop" leaves their rows out, or missing="mean" fills in their column's mean;
        infinite ones are refused. missing_values= lists values that mean "missing" in addition to empty cells and, in
        columns of numbers, NA, N/A, NaN, NULL, None, ?, - and . in any case.

        In csv, header=None takes the first row as names unless a cell of it is a number above a column of numbers (and
        none is text above numbers); True or False overrides. separator=None is detected; it takes a character, or
        "comma", "semicolon", "tab", "pipe" or "space". decimal="." or ",", thousands=None or the sign that groups
        digits, encoding=None (UTF-8) or for example "cp1252".

    Recordings: with window= such a table, or a folder of them, is recordings, a row a moment and a column a channel,
        and x their windows (N, C, window) of so many rows, one every step= rows (None: half a window). No window spans
        two files, two values of recording_column=, a row with a missing value, or a gap in time.
        time_column= gives numbers, in time_unit= "d", "h", "min", "s", "ms", "us" or "ns" (None: seconds, unless the
        column's name ends in a unit or the numbers are Unix times in ms, us or ns); or dates and times, as text in ISO
        8601 or as time_format= says in strftime's words. They must ascend.
        gap= is the longest interval in seconds that is no gap. None: 1.5 times the typical interval, which is the 60th
        percentile of the 32 around it, so that parts at different rates are each judged by their own; more where
        intervals vary: 1.5 times their upper quartile, and up to 20 times the typical one where rows are events.
        rate= interpolates linearly to so many rows a second, so that window and step count those; intervals up to 3.5
        times the typical one, and up to 1.5 times those of the rate, are then no gaps.
        missing="drop" leaves out rows with a missing value; "interpolate" fills in missing values, channel by channel,
        and gaps, linearly between known values at most longest_gap= seconds apart (rows in between, where there is no
        time_column; None: five rows), and nothing before the first and after the last.
        links= is as for folders of images.
        A window's class is its most frequent label of label_column=. Names are file:recording:first row;
        `Dataset.origins` has the columns file, recording (with recording_column), first_row and last_row (of the
        table, from 0; at a rate, the rows that enclose the window), start_time and end_time (as in time_column; dates
        and times in UTC where they have a zone).

    torch Datasets of map style: item i is x, or (x, y); each is fetched once. labels=True takes y as classes.

    Files: .npy, memory-mapped and not copied where the type is right already, with its classes in another file if
        `labels=` names one; or .npz with x (and y), with x_train, y_train, x_test, y_test
        (and x_unlabelled), or with one array of any name. uint8, float32 and float64 are kept; bool becomes uint8,
        float16 and integers of 16 bits or less become float32, longer ones float64. NaN and infinite values are refused
        with their place.
        Three-dimensional uint8 or bool arrays are grey images (N, H, W), all others windows (N, C, T), unless
        kind="images" or "windows" says it. Four-dimensional arrays are images, with channels last if the last
        dimension is 1, 3 or 4 and the second is not, else first, unless channels="first" or "last" says it. Classes
        are integers or strings, counted 0 .. C - 1 in their sorted order; the integer -1 is unknown.

    Args:
        name_or_path: a name, a path, or a torch Dataset. A string that is no known name is a path if it has a separator
            or a suffix or exists.
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
    name, entry = _entry(name_or_path, options)
    chosen = o.check_options(entry.options, options)
    points = imbalanced(entry.read(chosen), chosen["imbalance"], chosen["seed"])
    if not entry.makes:
        points = subset(points, chosen["n_samples"], chosen["seed"])
    if isinstance(points.x, np.memmap) and points.rows is not None:
        check_finite(points.x, "x", f"{name_or_path}: ", points.rows)
    data = points.dataset(name)
    if chosen["reference"] is not None:
        data = reference_of(data, chosen["reference"], chosen["seed"], chosen["reference_draw"])
    return resampled(data, chosen["resample"], chosen["seed"], chosen["resample_draw"])


def is_image_folder(name_or_path: object, options: Mapping[str, Any]) -> bool:
    """Return whether `load` reads a folder of images for this name or path and these options."""
    return _entry(name_or_path, options)[1].options is _IMAGE_FOLDER


def check(name_or_path: str, options: Mapping[str, Any]) -> None:
    """Check the name or path of data and its options, without reading any.

    Raises:
        UnknownNameError, ParameterError, DataError: as `load`, where there is no such data, or its options are unknown
            or not allowed.
    """
    name, entry = _entry(name_or_path, options)
    chosen = o.check_options(entry.options, options)
    if name not in NAMES and not expanded(name_or_path).exists():
        entry.read(chosen)  # says so, and what can be read


def is_data(word: str) -> bool:
    """Return whether a word names data: a name of the table, a path that exists, or what can only be a path."""
    if plain(word) in {plain(name) for name in NAMES} or os.path.exists(word):
        return True
    return "/" in word or os.sep in word or Path(word).suffix.lower() in (*ARRAYS, *TABLES)


def _entry(given: Any, options: Mapping[str, Any]) -> tuple[str, Entry]:
    """Return what data is called, and how it is read."""
    if is_torch_dataset(given):
        return type(given).__name__, Entry(partial(read_torch_dataset, given), _TORCH)
    if isinstance(given, str):
        known = {plain(name): name for name in NAMES}.get(plain(given))
        if known is not None:
            return known, _ENTRIES[known]
        if not _is_path(given):
            cure = f"Or give the path of a folder of images or of a {', '.join((*ARRAYS, *TABLES))} file."
            raise UnknownNameError("dataset", given, NAMES, cure)
    elif not isinstance(given, os.PathLike):
        raise DataError(
            f"{given!r:.60} is neither a name, a path nor a torch Dataset; give one of {', '.join(NAMES)}, or a path. "
            "Arrays need no loading: a method's fit takes them as they are."
        )
    return _entry_of_path(expanded(given), options)


def _entry_of_path(path: Path, options: Mapping[str, Any]) -> tuple[str, Entry]:
    is_folder, is_table = os.path.isdir(path), path.suffix.lower() in TABLES
    if (is_folder or is_table) and options.get("window") is not None:
        entry = Entry(partial(read_recordings, path), _RECORDINGS)
    elif is_table and not is_folder:
        entry = Entry(partial(read_features, path), _TABLE)
    elif is_folder:
        entry = Entry(partial(read_image_folder, path), _IMAGE_FOLDER)
    else:
        entry = Entry(partial(read_points, path), _FILE)
    return (path.resolve().name or "data") if is_folder else path.stem, entry


def _is_path(given: str) -> bool:
    return "/" in given or os.sep in given or bool(Path(given).suffix) or os.path.exists(given)
