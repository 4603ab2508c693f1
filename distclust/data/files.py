"""Array files: .npy, memory-mapped, and .npz. Nothing is ever unpickled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distclust.contracts import Array, Labels
from distclust.data.arrays import check_finite, class_indices, stored
from distclust.data.images import as_images
from distclust.data.options import Options
from distclust.data.points import Points
from distclust.errors import DataError, ParameterError, given, is_given, option

SUFFIXES = (".npy", ".npz")
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt")
MAGIC = b"\x93NUMPY"  # first bytes of a .npy file
LFS_MAGIC = b"version https://git-lfs.github.com/spec/"  # first bytes of a Git LFS pointer
NDIM = {"images": (3, 4), "windows": (3,), "vectors": (2,)}


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a file's data.

    Args:
        x: the points, as stored in the file.
        y: their classes, as stored in the file; None = no classes.
    """

    x: Array
    y: Array | None = None


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return where data is looked for and kept: data_dir, else DISTCLUST_DATA, else the user's cache folder."""
    return expanded(data_dir or os.environ.get("DISTCLUST_DATA") or "~/.cache/distclust")


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with "~" filled in where that is possible."""
    return Path(os.path.expanduser(os.fsdecode(path)))


def lfs_pointer(path: Path) -> bool:
    """Return whether a file is a Git LFS pointer: a few lines of text in place of content that was never fetched.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(LFS_MAGIC)) == LFS_MAGIC


def check_fetched(path: Path) -> None:
    """Refuse a Git LFS pointer.

    Raises:
        DataError: the file is one.
        OSError: the file cannot be read.
    """
    if lfs_pointer(path):
        raise DataError(
            f"{path} is a Git LFS pointer: its content was never downloaded. Fetch it with `git lfs pull` in its "
            "repository."
        )


def read_points(path: Path, options: Options) -> Points:
    """Return the points of an array file, as `load` describes them.

    Args:
        path: a .npy or .npz file.
        options: split, kind, channels and labels.

    Raises:
        DataError: the file, or what is in it, cannot be used; NaN and infinite values are told with their place.
        ParameterError: a split was asked for that the file does not have.
    """
    parts = read_parts(path)
    if options["labels"] is not None:
        parts = _with_labels(parts, expanded(options["labels"]), path)
    split = options["split"]
    if split != "all" and split not in parts:
        raise ParameterError(
            [f"{is_given('split', split)}; {path} has no array x_{split}; use {option('split', 'all')}."]
        )
    xs = [arranged(part.x, options["kind"], options["channels"]) for part in parts.values()]
    for name, part in parts.items():
        drawn = isinstance(part.x, np.memmap) and options["n_samples"] is not None  # `load` looks at those alone
        if split in ("all", name) and not drawn:
            check_finite(part.x, "x" if name == "all" else f"x_{name}", f"{path}: ")
    y, n_clusters = _classes(list(parts.values()), path)
    x, y = choose_split(dict(zip(parts, xs, strict=True)), y, split)
    return Points(x, y, n_clusters, value_range(parts.get(split, next(iter(parts.values()))).x))


def read_parts(path: Path) -> dict[str, Part]:
    """Return the parts of an array file: "train", "test" and "unlabelled" as far as there are, else "all" alone.

    Args:
        path: a .npy file with x; or a .npz file with x and perhaps y, with x_train, y_train, x_test and y_test and
            perhaps x_unlabelled, or with one array of any name.

    Raises:
        DataError: the file cannot be read, or does not hold such arrays.
    """
    arrays = read_arrays(path)
    if "x_train" in arrays:
        names = [name for name in ("train", "test", "unlabelled") if f"x_{name}" in arrays]
        return {name: Part(arrays[f"x_{name}"], arrays.get(f"y_{name}")) for name in names}
    if "x" in arrays:
        return {"all": Part(arrays["x"], arrays.get("y"))}
    if len(arrays) == 1:
        return {"all": Part(next(iter(arrays.values())))}
    raise DataError(
        f"{path} holds the arrays {sorted(arrays)}; it must hold x (and y), or x_train, y_train, x_test and y_test, or "
        "one array alone. Save it with numpy.savez(path, x=..., y=...)."
    )


def read_arrays(path: Path) -> Mapping[str, Array]:
    """Return the arrays of a file by name; the array of a .npy file is called "x" and memory-mapped.

    Raises:
        DataError: missing, a folder, of another type, corrupt, or in need of unpickling.
    """
    cure = (
        "Give a .npy or .npz file, as numpy.save and numpy.savez write them, a .csv, .tsv or .parquet table, or a "
        "folder of images."
    )
    if not os.path.exists(path):  # Path.exists raises for a name that is too long
        raise DataError(f"{path} does not exist. {cure}")
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder. {cure}")
    if path.suffix.lower() not in SUFFIXES:
        pickle = path.suffix.lower() in PICKLES
        risk = " Such files can run code when they are read, and are never loaded." if pickle else ""
        raise DataError(f"{path} is of a type that is not read: {path.suffix or 'no suffix'}.{risk} {cure}")
    try:
        check_fetched(path)
        with path.open("rb") as file:  # opened here: numpy leaves a bad archive open
            if file.read(len(MAGIC)) == MAGIC:
                return {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each have errors of their own for a bad file
        raise DataError(
            f"{path} cannot be read ({error}). It is corrupt, empty, or holds pickled objects, which are never loaded. "
            "Save plain arrays of numbers again, with numpy.save or numpy.savez."
        ) from error
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def arranged(x: Array, kind: str | None = None, channels: str | None = None) -> Array:
    """Return x as uint8, float32 or float64 with its channels first; a view where it is one of them already.

    Args:
        x: (N, D) vectors; three-dimensional: uint8 or bool are grey images (N, H, W), all else windows (N, C, T);
            four-dimensional: images.
        kind: "images", "windows" or "vectors" says what three-dimensional data are; None: the rule above.
        channels: where the channels of images are, as `images.as_images` takes it.

    Raises:
        DataError: wrong number of dimensions, empty, or not of numbers.
    """
    if x.ndim not in (2, 3, 4):
        raise DataError(
            f"x has shape {x.shape}; it must be vectors (N, D), windows (N, C, T), or images (N, H, W), (N, C, H, W) "
            "or (N, H, W, C). Reshape your data."
        )
    if x.size == 0:
        raise DataError(f"x is empty: its shape is {x.shape}.")
    kind = kind or _kind(x)
    if x.ndim not in NDIM[kind]:
        raise DataError(
            f"{given('kind', kind)} needs {' or '.join(map(str, NDIM[kind]))} dimensions; x has shape {x.shape}."
        )
    if kind != "images" and channels is not None:
        raise DataError(
            f"{given('channels', channels)} is for images; x has shape {x.shape} and holds {kind}. Leave it out."
        )
    return stored(as_images(x, channels) if kind == "images" else x, "x")


def value_range(x: Array) -> tuple[float, float] | None:
    """Return the range that the type of stored data declares: bool 0 .. 1, uint8 0 .. 255, others none."""
    return {np.dtype(bool): (0.0, 1.0), np.dtype(np.uint8): (0.0, 255.0)}.get(x.dtype)


def choose_split(parts: Mapping[str, Array], y: Array | None, split: str) -> tuple[Array, Array | None]:
    """Return x and y of one split.

    Args:
        parts: x by the name of its part, in order.
        y: the classes of all parts, one after the other.
        split: the name of a part, or "all" for all of them in order.

    Raises:
        DataError: the parts do not fit together.
    """
    if split in parts:
        ends = dict(zip(parts, np.cumsum([len(x) for x in parts.values()]), strict=True))
        end = int(ends[split])
        return parts[split], None if y is None else y[end - len(parts[split]) : end]
    shapes = {name: (x.shape[1:], str(x.dtype)) for name, x in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"the parts do not fit together: {shapes}. They must have points of one shape and type.")
    xs = list(parts.values())
    return (xs[0] if len(xs) == 1 else np.concatenate(xs)), y


def _kind(x: Array) -> str:
    if x.ndim == 3:
        return "images" if x.dtype in (np.dtype(np.uint8), np.dtype(bool)) else "windows"
    return "vectors" if x.ndim == 2 else "images"


def _with_labels(parts: Mapping[str, Part], labels: Path, path: Path) -> dict[str, Part]:
    if set(parts) != {"all"} or parts["all"].y is not None:
        raise ParameterError([f"{is_given('labels', str(labels))}, and {path} holds the classes itself; leave it out."])
    y = read_parts(labels)
    if set(y) != {"all"} or y["all"].y is not None:
        raise DataError(f"{labels} must hold one array, the classes (N,).")
    return {"all": Part(parts["all"].x, y["all"].x)}


def _classes(parts: list[Part], path: Path) -> tuple[Labels | None, int | None]:
    """Return the classes of all parts, one after the other, -1 for a part without them, and their number."""
    named = [part_classes(part) for part in parts if part.y is not None]
    if not named:
        return None, None
    if len({y.dtype.kind in "US" for y in named}) > 1:
        raise DataError(f"{path}: the classes of one part are strings, those of another are not. Use one type.")
    try:
        joined = np.concatenate(named)
    except TypeError as error:
        raise DataError(f"{path}: the classes of the parts do not fit together: {error}") from error
    labels, n_clusters = class_indices(joined, len(joined))
    known = np.concatenate([np.full(len(part.x), part.y is not None) for part in parts])
    y = np.full(len(known), -1, dtype=np.int64)
    y[known] = labels
    return y, n_clusters


def part_classes(part: Part) -> Array:
    """Return a part's classes (N,), all -1 where it has none.

    Raises:
        DataError: their number is not that of the points.
    """
    if part.y is None:
        return np.full(len(part.x), -1, dtype=np.int64)
    if part.y.shape not in ((len(part.x),), (len(part.x), 1)):
        raise DataError(f"y has shape {part.y.shape}; it must be ({len(part.x)},), one class for each point of x.")
    return part.y.reshape(len(part.x))
