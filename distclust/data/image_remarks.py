"""What is to be said of a folder of images: which files were not read and why, and what became of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from distclust.contracts import Array
from distclust.data import image_files
from distclust.data.folder import Files, counted, listed, readable, remarks_on_links
from distclust.data.image_files import Frame, Picture
from distclust.errors import option

LEAST_KEPT = 0.5  # share of an image's area below which its cropping is remarked on
MOST_ENLARGED = 8  # times that an image may be enlarged without a remark


@dataclass
class Kinds:
    """The files of a folder by what is done with them, each list in the order of the paths.

    Args:
        files: all of them.
        images: files that are read.
        unread: pictures of kinds that cannot be read here.
        misnamed: files that hold an image and have the suffix of something else.
        others: all other files.
    """

    files: Files
    images: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def unreadable(folder: Path, broken: Mapping[str, str], n_images: int) -> str:
    """Return which images cannot be read and why, and what to do.

    Args:
        folder: they lie in.
        broken: name -> fault.
        n_images: all that were to be read.
    """
    return (
        f"{len(broken):,} of {n_images:,} image files in {folder} cannot be read: {_with_faults(broken)}. Repair or "
        f"delete them, or leave them out with {option('broken', 'skip')}."
    )


def _with_faults(broken: Mapping[str, str]) -> str:
    return listed([f"{name} ({fault})" for name, fault in sorted(broken.items())])


def no_images(folder: Path, kinds: Kinds) -> str:
    """Return why nothing in a folder can be read, and what to do."""
    said = [f"{folder} is a folder without images that can be read."]
    said += [f"{remark[0].upper()}{remark[1:]}." for remark in _not_read(kinds)]
    if any(name.lower().endswith((".csv", ".tsv", ".parquet")) for name in kinds.others):
        said.append(f"For windows of the recordings in its tables give their length, as in {option('window', 128)}.")
    if len(said) == 1:
        said.append("It holds no file. Give a folder that has images, in sub-folders or not.")
    return " ".join(said)


def _not_read(kinds: Kinds) -> Iterator[str]:
    """Yield what is to be said of the files that are not read."""
    if kinds.unread:
        yield f"pictures of kinds that cannot be read, left out: {image_files.unread(kinds.unread)}"
    if kinds.misnamed:
        n = counted(len(kinds.misnamed), "file holds an image but has", "files hold images but have")
        yield f"{n} another suffix, left out: {listed(kinds.misnamed)}; rename them to read them"
    if kinds.others:
        yield f"no images, left alone: {counted(len(kinds.others), 'other file')}, such as {readable(kinds.others[0])}"
    yield from remarks_on_links(kinds.files)


def of_files(kinds: Kinds, pictures: Sequence[Picture], broken: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to be said of which files were read, and which were not."""
    if broken:
        yield f"{counted(len(broken), 'image file')} cannot be read, left out: {_with_faults(broken)}"
    yield from _not_read(kinds)
    bare = sorted({picture.file for picture in pictures if not Path(picture.file).suffix})
    if bare:
        n = counted(len(bare), "file has no suffix and holds an image", "files have no suffix and hold images")
        yield f"{n}, read as such: {listed(bare)}"
    other = {p.file: p.format for p in pictures if p.format != (image_files.format_of(p.file) or p.format)}
    if other:
        n = counted(len(other), "file is", "files are")
        shown = listed([f"{file} ({format})" for file, format in other.items()])
        yield f"{n} of another format than the suffix says, read as what it is: {shown}"


def of_pages(pictures: Sequence[Picture], all_pages: bool) -> Iterator[str]:
    """Yield what is to be said of files with several pages."""
    paged = [picture for picture in pictures if picture.n_pages > 1 and picture.page == 0]
    if paged:
        n = counted(len(paged), "file has", "files have")
        total = sum(picture.n_pages for picture in paged)
        done = (
            "each page is a point, named file#page from 0"
            if all_pages
            else f"the first of each file is read ({option('pages', 'all')} reads all)"
        )
        yield f"{n} several pages, {total:,} in all; {done}: {listed([picture.file for picture in paged])}"


def of_frame(pictures: Sequence[Picture], names: Sequence[str], frame: Frame) -> Iterator[str]:
    """Yield what is to be said of sizes and modes."""
    sizes = sorted({(picture.height, picture.width) for picture in pictures})
    if sizes != [(frame.height, frame.width)]:
        heights, widths = zip(*sizes, strict=True)
        given = f"{_span(heights)} pixels high and {_span(widths)} wide"
        yield (
            f"the images are {given}; each is resized to cover {frame.height} x {frame.width} pixels and cropped to "
            f"its center ({option('size')})"
        )
    cropped = [name for name, p in zip(names, pictures, strict=True) if frame.kept(p) < LEAST_KEPT]
    if cropped:
        n = counted(len(cropped), "image loses", "images lose")
        yield f"{n} more than half of the area when cropped, being long and narrow: {listed(cropped)}"
    small = [name for name, p in zip(names, pictures, strict=True) if frame.enlarges(p) > MOST_ENLARGED]
    if small:
        n = counted(len(small), "image is", "images are")
        yield f"{n} so small as to be enlarged more than {MOST_ENLARGED} times: {listed(small)}"
    n_grey = sum(map(attrgetter("grey"), pictures))
    if 0 < n_grey < len(pictures):
        kept = "RGB" if frame.colour else "grey"
        yield f"{n_grey:,} of {len(pictures):,} images are stored as grey; all are read as {kept} ({option('mode')})"
    n_deep = sum(map(attrgetter("deep"), pictures))
    if frame.deep or (n_deep and not frame.colour):
        kept = "65,535" if frame.deep else "255"
        yield f"{n_deep:,} of {len(pictures):,} images have 16 bits; all are read as grey levels from 0 to {kept}"


def of_content(x: Array, names: Sequence[str]) -> Iterator[str]:
    """Yield what is to be said of images that hold nothing, or nothing new."""
    seen: dict[bytes, int] = {}
    blank, repeated = [], []
    for row, image in enumerate(x):
        if (image == image[:, :1, :1]).all():
            blank.append(names[row])
            continue
        first = seen.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), row)
        if first != row:
            repeated.append(f"{names[row]} (as {names[first]})")
    if blank:
        yield f"{counted(len(blank), 'image is', 'images are')} of one single color: {listed(blank)}"
    if repeated:
        n = counted(len(repeated), "image equals", "images equal")
        yield f"{n} another, as read: {listed(repeated)}"


def _span(pixels: Sequence[int]) -> str:
    low, high = min(pixels), max(pixels)
    return f"{low}" if low == high else f"{low} to {high}"
