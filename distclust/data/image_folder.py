"""Folders of images: which files are read, and how their pictures become points of one size and mode."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from distclust.contracts import Array, Labels
from distclust.data import image_files
from distclust.data.arrays import class_indices
from distclust.data.folder import Files, readable
from distclust.data.image_files import Frame, Picture
from distclust.data.image_remarks import Kinds, no_images, of_content, of_files, of_frame, of_pages, unreadable
from distclust.data.options import Options
from distclust.data.points import Points, Rows, check_fits, fitting
from distclust.data.threads import available_cpus, in_order
from distclust.errors import DataError, ParameterError, option
from distclust.seeding import generator

LARGEST_KEPT = 128  # pixels a side up to which images that are of one size already are left as they are
SPLITS = {"train", "test", "val", "valid", "validation"}
_BYTES_A_PIXEL = 16  # at most, while an image is decoded


def read_image_folder(folder: Path, options: Options) -> Points:
    """Return the images of a folder in the order of their paths, as `load` describes them.

    Args:
        folder: of images, nested or not.
        options: size, mode, depth, broken, pages, links, labels; and n_samples, seed and imbalance, so that no more
            files are decoded than are wanted.

    Raises:
        DataError: there are no images, some cannot be read, they do not fit into memory, or there are no classes.
    """
    files = Files(folder, follow=options["links"] == "follow")
    kinds = by_kind(folder, files)
    if not kinds.images:
        raise DataError(no_images(folder, kinds))
    all_pages = options["pages"] == "all"
    with image_files.quiet():
        pictures, broken = looked_at(folder, kinds.images, all_pages)
        n_images = len(pictures) + len(broken)
        if not pictures:
            raise DataError(unreadable(folder, broken, n_images))
        frame = chosen_frame(pictures, options["size"], options["mode"], options["depth"])
        wanted = len(pictures) if options["n_samples"] is None or options["imbalance"] else options["n_samples"]
        order = np.arange(len(pictures))
        if wanted < len(pictures):
            order = generator(options["seed"], "subset").permutation(len(pictures))
        x, rows, faults = decoded(folder, pictures, order, wanted, frame)
    names = [name_of(picture, all_pages) for picture in pictures]
    broken |= {names[row]: why for row, why in faults.items()}
    if broken and (options["broken"] == "refuse" or not len(x)):
        raise DataError(unreadable(folder, broken, n_images))
    y, n_clusters = _folder_classes(folder, names) if options["labels"] == "folders" else (None, None)
    kept = [readable(names[row]) for row in rows]
    remarks = (
        *of_files(kinds, pictures, broken),
        *of_pages(pictures, all_pages),
        *of_frame(pictures, names, frame),
        *of_content(x, kept),
    )
    return Points(
        x,
        None if y is None else y[rows],
        n_clusters,
        value_range=(0.0, 65535.0 if frame.deep else 255.0),
        names=tuple(kept),
        origins=_origins([pictures[row] for row in rows]) if all_pages else None,
        remarks=remarks,
    )


def by_kind(folder: Path, files: Files) -> Kinds:
    """Return files by what is done with them: an image's suffix decides, and the content where there is no suffix."""
    found = Kinds(files)
    content: list[str] = []
    for name in files.names:
        if image_files.cannot_be_read(name):
            found.unread.append(name)
        else:
            (found.images if image_files.format_of(name) else content).append(name)
    formats = in_order(lambda name: image_files.content_of(folder / name), content, available_cpus())
    for name, format in zip(content, formats, strict=True):
        if format is None:
            found.others.append(name)
        elif Path(name).suffix:
            found.misnamed.append(name)
        else:
            (found.unread if image_files.decoder_missing(format) else found.images).append(name)
    found.images.sort()
    return found


def looked_at(folder: Path, files: Sequence[str], all_pages: bool) -> tuple[list[Picture], dict[str, str]]:
    """Return the pictures of image files as far as they say of themselves, and why others cannot be read, by name."""

    def look(file: str) -> list[Picture] | str:
        try:
            return image_files.pictures_in(folder, file, all_pages)
        except Exception as error:  # Pillow's decoders raise errors of all kinds for bad files
            return image_files.fault(folder / file, error)

    pictures: list[Picture] = []
    broken: dict[str, str] = {}
    for file, found in zip(files, in_order(look, files, available_cpus()), strict=True):
        if isinstance(found, str):
            broken[file] = found
        else:
            pictures += found
    return pictures, broken


def name_of(picture: Picture, all_pages: bool) -> str:
    """Return what a point is called: its file, and its page, from 0, where a file has several and all are read."""
    return f"{picture.file}#{picture.page}" if all_pages and picture.n_pages > 1 else picture.file


def _origins(pictures: Sequence[Picture]) -> dict[str, Array]:
    """Return which page of which file each point is."""
    files = np.array([readable(picture.file) for picture in pictures], dtype=object)
    return {"file": files, "page": np.array([picture.page for picture in pictures], dtype=np.int64)}


def chosen_frame(
    pictures: Sequence[Picture], size: int | Sequence[int] | None, mode: str | None, depth: int | None
) -> Frame:
    """Return what images become.

    Args:
        pictures: all of them.
        size: pixels of a square's side, or (height, width). None: the images' own size if all have the same and no side
            has more than 128 pixels; else 64 x 64 if at least half of them have a short side of 64 pixels or more, and
            32 x 32 if not.
        mode: "grey" (or "gray") or "rgb". None: grey if all images are stored as grey, else RGB.
        depth: bits of a grey level, 8 or 16. None: 16 if some grey image has them, else 8.

    Raises:
        ParameterError: 16 bits are asked for, and the images have colors.
    """
    colour = not all(picture.grey for picture in pictures) if mode is None else mode == "rgb"
    if colour and depth == 16:
        raise ParameterError(
            [f"{option('depth', 16)} is for grey images, and these have colors. Give {option('mode', 'grey')} too."]
        )
    deep = any(picture.deep for picture in pictures) if depth is None else depth == 16
    height, width = _chosen_size(pictures) if size is None else size if isinstance(size, Sequence) else (size, size)
    return Frame(int(height), int(width), colour, deep=deep and not colour)


def _chosen_size(pictures: Sequence[Picture]) -> tuple[int, int]:
    sizes = {(picture.height, picture.width) for picture in pictures}
    if len(sizes) == 1 and max(first := sizes.pop()) <= LARGEST_KEPT:
        return first
    large = np.median([min(picture.height, picture.width) for picture in pictures]) >= 64
    return (64, 64) if large else (32, 32)


def decoded(
    folder: Path, pictures: Sequence[Picture], order: Rows, wanted: int, frame: Frame
) -> tuple[Array, Rows, dict[int, str]]:
    """Return images, which pictures they are, and why others cannot be read.

    Args:
        folder: they lie in.
        pictures: sorted by file and page.
        order: (n,) in which the pictures are taken, until there are enough images.
        wanted: how many images are enough.
        frame: what they become.

    Returns:
        (N, C, H, W), (N,) ascending indices of pictures, and index -> fault, ascending.

    Raises:
        DataError: the images do not fit into memory.
    """
    dtype = np.dtype(np.float32 if frame.deep else np.uint8)
    n = min(wanted, len(order))
    check_fits(n * int(np.prod(frame.shape)) * dtype.itemsize)
    x = np.empty((n, *frame.shape), dtype)
    rows = np.full(n, -1, dtype=np.int64)  # which picture each image is, -1 = none yet
    faults: dict[int, str] = {}
    left = iter(order.tolist())
    while batch := sorted(itertools.islice(left, int((rows < 0).sum()))):
        free = np.flatnonzero(rows < 0)[: len(batch)]
        rows[free] = batch
        for slot, why in _decode(folder, pictures, rows, free, frame, x):
            faults[int(rows[slot])] = why
            rows[slot] = -1
    filled = np.flatnonzero(rows >= 0)
    ordered = filled[np.argsort(rows[filled])]
    ascending = np.array_equal(ordered, np.arange(len(filled)))
    return (x[: len(filled)] if ascending else x[ordered]), rows[ordered], dict(sorted(faults.items()))


def _decode(
    folder: Path, pictures: Sequence[Picture], rows: Rows, slots: Rows, frame: Frame, x: Array
) -> Iterator[tuple[int, str]]:
    """Write pictures to their slots of x, by several threads, and yield the slots of those that cannot be read."""

    def decode(of_file: list[int]) -> list[tuple[int, str]]:
        wanted = [pictures[int(rows[slot])] for slot in of_file]
        found = image_files.framed(folder / wanted[0].file, [picture.page for picture in wanted], frame)
        faults = []
        for slot, image in zip(of_file, found, strict=True):
            if isinstance(image, str):
                faults.append((slot, image))
            else:
                x[slot] = image
        return faults

    files = [list(group) for _, group in itertools.groupby(slots.tolist(), lambda slot: pictures[int(rows[slot])].file)]
    largest = max(picture.height * picture.width for picture in pictures)
    n_threads = max(1, int(min(available_cpus(), fitting(_BYTES_A_PIXEL * largest))))
    for faults in in_order(decode, files, n_threads):
        yield from faults


def _folder_classes(folder: Path, names: Sequence[str]) -> tuple[Labels, int | None]:
    """Return the classes of images, the topmost folder that each lies in, -1 for one that lies in none."""
    inside = np.array([name.partition("/")[0] if "/" in name else "" for name in names])
    known = inside != ""
    asked = option("labels", "folders")
    if not known.any():
        raise DataError(f"{asked} needs images in sub-folders, and all of {folder} lie directly in it. Leave it out.")
    if (found := set(inside[known])) <= SPLITS:
        raise ParameterError(
            [
                f"{asked} cannot be used: the sub-folders of {folder}, {', '.join(sorted(found))}, are no classes. "
                "Give one of them as the dataset, or leave it out."
            ]
        )
    y = np.full(len(names), -1, dtype=np.int64)
    y[known], n_clusters = class_indices(inside[known], int(known.sum()))
    return y, n_clusters
