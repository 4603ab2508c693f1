"""Folders of images: which files are images, and how they become points of one size and mode."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distclust.contracts import Array, Labels
from distclust.data.arrays import class_indices
from distclust.data.options import Options
from distclust.data.points import Points, Rows, check_fits
from distclust.errors import DataError, ParameterError
from distclust.seeding import generator

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
LARGEST_KEPT = 128  # pixels a side up to which images that are of one size already are left as they are
SPLITS = {"train", "test", "val", "valid", "validation"}
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow's decoders that do not start other programs
_DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N"}  # modes of 16 bits
_GREY = {"1", "L", "LA", "La", "F"} | _DEEP
_SHOWN = 5


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Args:
        height: pixels, as stored.
        width: pixels, as stored.
        mode: as Pillow names it.
    """

    height: int
    width: int
    mode: str


@dataclass(frozen=True)
class Frame:
    """What all images become.

    Args:
        height: pixels.
        width: pixels.
        colour: three channels, red, green and blue; else one.
        deep: grey levels 0 .. 65535 in float32; else 0 .. 255 in uint8.
    """

    height: int
    width: int
    colour: bool
    deep: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return (3 if self.colour else 1, self.height, self.width)


def read_image_folder(folder: Path, options: Options) -> Points:
    """Return the images of a folder in the order of their paths, as `load` describes them.

    Args:
        folder: of images, nested or not.
        options: size, mode, broken, labels; and n_samples, seed and imbalance, so that no more files are decoded than
            are wanted.

    Raises:
        DataError: there are no images, some cannot be read, they do not fit into memory, or there are no classes.
    """
    names, others = image_files(folder)
    if not names:
        raise DataError(_no_images(folder, others))
    headers, broken = looked_at(folder, names)
    if not headers:
        raise DataError(_broken(folder, broken, len(names)))
    frame = chosen_frame(list(headers.values()), options["size"], options["mode"])
    wanted = len(headers) if options["n_samples"] is None or options["imbalance"] else options["n_samples"]
    order = np.arange(len(headers))
    if wanted < len(headers):
        order = generator(options["seed"], "subset").permutation(len(headers))
    x, rows, faults = decoded(folder, list(headers), order, wanted, frame)
    broken |= faults
    if broken and (options["broken"] == "refuse" or not len(x)):
        raise DataError(_broken(folder, broken, len(names)))
    there = list(headers)
    y, n_clusters = _folder_classes(folder, there) if options["labels"] == "folders" else (None, None)
    return Points(
        x,
        None if y is None else y[rows],
        n_clusters,
        value_range=(0.0, 65535.0 if frame.deep else 255.0),
        names=tuple(readable(there[row]) for row in rows),
        remarks=tuple(_remarks(headers, frame, broken, others)),
    )


def image_files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the paths, relative to a folder, of the images in it and below, and of all other files, both sorted.

    What is hidden (".name", "__MACOSX") is left out; links are followed, and no folder is read twice.
    """
    images: list[str] = []
    others: list[str] = []
    for path in files_below(folder):
        (images if os.path.splitext(path)[1].lower() in SUFFIXES else others).append(path)
    return images, others


def files_below(folder: Path) -> list[str]:
    """Return the relative paths, with "/", of all files in a folder and below that are not hidden, sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    found: list[str] = []
    seen: set[str] = set()
    try:
        for here, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
            new = os.path.realpath(here) not in seen
            seen.add(os.path.realpath(here))
            folders[:] = sorted(name for name in folders if _shown(name)) if new else []
            paths = (os.path.relpath(os.path.join(here, name), folder) for name in files if _shown(name) and new)
            found.extend(path.replace(os.sep, "/") for path in paths)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error}). Allow reading it, or give another folder.") from error
    return sorted(found)


def readable(name: str) -> str:
    r"""Return a file's name as valid text; bytes that are none become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def looked_at(folder: Path, names: Sequence[str]) -> tuple[dict[str, Header], dict[str, str]]:
    """Return what each image file says of itself, and why the others cannot be read, both by name."""
    headers: dict[str, Header] = {}
    broken: dict[str, str] = {}
    for name in names:
        try:
            with opened(folder / name) as image:
                headers[name] = Header(image.height, image.width, image.mode)
        except Exception as error:  # Pillow's decoders raise errors of all kinds for bad files
            broken[name] = _fault(error)
    return headers, broken


def chosen_frame(headers: Sequence[Header], size: int | Sequence[int] | None, mode: str | None) -> Frame:
    """Return what images become.

    Args:
        headers: of all images.
        size: pixels of a square's side, or (height, width). None: the images' own size if all have the same and no side
            has more than 128 pixels; else 64 x 64 if at least half of them have a short side of 64 pixels or more, and
            32 x 32 if not.
        mode: "grey" or "rgb". None: grey if all images are stored as grey, else RGB.
    """
    modes = {header.mode for header in headers}
    colour = bool(modes - _GREY) if mode is None else mode == "rgb"
    height, width = _chosen_size(headers) if size is None else (size, size) if isinstance(size, int) else size
    return Frame(int(height), int(width), colour, deep=not colour and bool(modes & _DEEP))


def _chosen_size(headers: Sequence[Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and max(first := sizes.pop()) <= LARGEST_KEPT:
        return first
    large = np.median([min(header.height, header.width) for header in headers]) >= 64
    return (64, 64) if large else (32, 32)


def decoded(
    folder: Path, names: Sequence[str], order: Rows, wanted: int, frame: Frame
) -> tuple[Array, Rows, dict[str, str]]:
    """Return images, which names they are of, and why others cannot be read.

    Args:
        folder: they lie in.
        names: of the files.
        order: (n,) in which the files are decoded, until there are enough images.
        wanted: how many images are enough.
        frame: what they become.

    Returns:
        (N, C, H, W), (N,) ascending indices of names, and name -> fault.

    Raises:
        DataError: the images do not fit into memory.
    """
    dtype = np.dtype(np.float32 if frame.deep else np.uint8)
    n = min(wanted, len(order))
    check_fits(n * int(np.prod(frame.shape)) * dtype.itemsize)
    x = np.empty((n, *frame.shape), dtype)
    rows: list[int] = []
    broken: dict[str, str] = {}
    for index in order:
        if len(rows) == n:
            break
        try:
            x[len(rows)] = framed(folder / names[index], frame)
            rows.append(index)
        except Exception as error:  # as in looked_at
            broken[names[index]] = _fault(error)
    kept = np.asarray(rows, dtype=np.int64)
    in_order = np.argsort(kept)
    ascending = bool((np.diff(kept) > 0).all())
    return (x[: len(kept)] if ascending else x[in_order]), kept[in_order], broken


def framed(path: Path, frame: Frame) -> Array:
    """Return one image, (C, H, W): upright as its EXIF orientation says, on white where it is transparent, its first
    picture where it has several, resized so that it covers the frame, and cropped to its centre.
    """  # noqa: D205
    from PIL import ImageOps

    with opened(path) as image:
        image.draft(None, (2 * max(frame.height, frame.width),) * 2)  # JPEG: decode no more than is needed
        with ImageOps.exif_transpose(image) as upright:
            if frame.deep:
                return np.clip(np.asarray(_fitted(_sixteen_bits(upright), frame)), 0, 65535)[None]
            fitted = np.asarray(_fitted(_eight_bits(upright).convert("RGB" if frame.colour else "L"), frame))
    return fitted.transpose(2, 0, 1) if frame.colour else fitted[None]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """Open an image file for the block; the warnings of its decoder are not shown.

    Raises:
        OSError: no file, or no image; a decoder raises others too.
    """
    from PIL import Image

    if not path.is_file():  # opening a pipe would wait for ever
        raise OSError("no file is there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=_FORMATS) as image:
            yield image


def _sixteen_bits(image: Image) -> Image:
    """Return a grey image with values 0 .. 65535, in Pillow's mode F."""
    from PIL import Image

    if image.mode not in _DEEP:
        return Image.fromarray(np.asarray(_eight_bits(image).convert("L"), dtype=np.float32) * 257)
    values = np.asarray(image).astype(np.float32)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("values beyond 16 bits; save all images as one .npy")
    return Image.fromarray(values)


def _eight_bits(image: Image) -> Image:
    """Return an image without transparency, with 8 bits a channel."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point values; save all images as one .npy")
    if image.mode in _DEEP:
        return Image.fromarray(np.rint(np.asarray(_sixteen_bits(image)) / 257).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _fitted(image: Image, frame: Frame) -> Image:
    from PIL import Image, ImageOps

    size = (frame.width, frame.height)
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.BICUBIC)


def _folder_classes(folder: Path, names: Sequence[str]) -> tuple[Labels, int | None]:
    """Return the classes of images, the topmost folder that each lies in, -1 for one that lies in none."""
    inside = np.array([name.partition("/")[0] if "/" in name else "" for name in names])
    known = inside != ""
    if not known.any():
        raise DataError(f"labels='folders' needs images in sub-folders, and all of {folder}'s lie in it. Leave it out.")
    if (found := set(inside[known])) <= SPLITS:
        raise ParameterError(
            [
                f"labels='folders' cannot be used: the sub-folders of {folder}, {', '.join(sorted(found))}, are no "
                "classes. Give one of them as the dataset, or leave labels out."
            ]
        )
    y = np.full(len(names), -1, dtype=np.int64)
    y[known], n_clusters = class_indices(inside[known], int(known.sum()))
    return y, n_clusters


def _broken(folder: Path, broken: Mapping[str, str], n_files: int) -> str:
    return (
        f"{len(broken):,} of {n_files:,} image files in {folder} cannot be read: {_listed(broken)}. Mend or delete "
        "them, or leave them out with broken='skip'."
    )


def _listed(broken: Mapping[str, str]) -> str:
    shown = ", ".join(f"{readable(name)} ({fault})" for name, fault in list(broken.items())[:_SHOWN])
    return shown + (f" and {len(broken) - _SHOWN:,} more" if len(broken) > _SHOWN else "")


def _fault(error: Exception) -> str:
    """Return why a file cannot be read, one line without the file's name."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image of a known kind"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said or type(error).__name__).strip().splitlines()[0].rstrip(".")


def _no_images(folder: Path, others: Sequence[str]) -> str:
    there = f"only {_other_files(others)}" if others else "no other file either"
    tables = any(name.lower().endswith((".csv", ".tsv", ".parquet")) for name in others)
    cure = " For windows of the recordings in its tables give window=, as in window=128." if tables else ""
    return (
        f"{folder} is a folder without images ({', '.join(SUFFIXES)}); it holds {there}. Give a folder that has some, "
        f"in sub-folders or not.{cure}"
    )


def _other_files(others: Sequence[str]) -> str:
    return f"{_count(others, 'other file')}, such as {readable(others[0])}"


def _count(items: Collection[str], what: str) -> str:
    return f"{len(items):,} {what}{'s' if len(items) > 1 else ''}"


def _remarks(
    headers: Mapping[str, Header], frame: Frame, broken: Mapping[str, str], others: Sequence[str]
) -> Iterator[str]:
    """Yield what is to be said of how the images were read."""
    if broken:
        yield f"{_count(broken, 'image file')} cannot be read, left out: {_listed(broken)}"
    if others:
        yield f"no images, left alone: {_other_files(others)}"
    sizes = sorted({(header.height, header.width) for header in headers.values()})
    if sizes != [(frame.height, frame.width)]:
        heights, widths = zip(*sizes, strict=True)
        given = f"{_span(heights)} pixels high and {_span(widths)} wide"
        yield (
            f"the images are {given}; each is resized to cover {frame.height} x {frame.width} pixels and cropped to "
            "its centre (dataset.size)"
        )
    n_grey = sum(header.mode in _GREY for header in headers.values())
    if 0 < n_grey < len(headers):
        kept = "RGB" if frame.colour else "grey"
        yield f"{n_grey:,} of {len(headers):,} images are stored as grey; all are read as {kept} (dataset.mode)"
    if frame.deep:
        yield "some images have 16 bits; all are read as grey levels from 0 to 65,535"


def _span(pixels: Sequence[int]) -> str:
    low, high = min(pixels), max(pixels)
    return f"{low}" if low == high else f"{low} to {high}"


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _raise(error: OSError) -> None:
    raise error
