"""Image files: which files are images, what they say of themselves, and how they become arrays of one shape."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distclust.contracts import Array
from distclust.data.files import lfs_pointer

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's decoders that do not start other programs, and the suffixes of their files.
FORMATS = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "PNG": (".apng", ".png"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
    "BMP": (".bmp", ".dib"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "QOI": (".qoi",),
    "ICO": (".ico",),
    "PCX": (".pcx",),
    "TGA": (".tga",),
}
_BY_SUFFIX_ALONE = {"TGA", "PCX"}  # whose content could be anything
_OF = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
_DECODERS = {  # those that not every Pillow has, and what brings them
    "HEIF": "pip install 'distclust[heif]'",
    "AVIF": "pip install --upgrade pillow",
    "JPEG2000": "pip install --upgrade pillow",
    "WEBP": "pip install --upgrade pillow",
}
_PAGED = {"AVIF", "GIF", "HEIF", "PNG", "TIFF", "WEBP"}  # of JPEG, further pictures are previews and gain maps
_NEVER = {  # pictures that are not read: what to do, and their suffixes
    "raw files of cameras: export them as JPEG, PNG or TIFF": (
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 "
        ".srf .srw .x3f"
    ),
    "drawings and pages: export them as PNG": ".ai .cdr .djvu .emf .eps .pdf .ps .svg .svgz .wmf",
    "files of image editors: export them as PNG": ".afphoto .clip .kra .psb .psd .xcf",
    "measurements: save them as one .npy": (
        ".czi .dcm .dicom .exr .fit .fits .hdr .lif .lsm .mha .mhd .mrc .nd2 .nii .nrrd .oib .pfm .svs"
    ),
    "videos: save their frames as images": ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .webm .wmv",
    "convert them to PNG": ".bpg .cur .dds .flif .icns .jbig2 .jls .jxl .jxr .ras .rgb .sgi .sun .wbmp .wdp .xbm .xpm",
}
_CURES = {suffix: cure for cure, suffixes in _NEVER.items() for suffix in suffixes.split()}
_MAGIC = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (8, b"WEBP", "WEBP"),
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((4, b"ftyp" + brand, "HEIF") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1")),
)
_DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N"}  # modes of 16 bits
_GREY = {"1", "L", "LA", "La", "F"} | _DEEP


@dataclass(frozen=True)
class Picture:
    """A picture in a file: what the file says of it, and where it is.

    Args:
        file: path within the folder.
        page: which of the file's pictures it is, from 0.
        n_pages: of the file.
        height: pixels, as stored.
        width: pixels, as stored.
        mode: as Pillow names it.
        format: of the file, as Pillow names it.
    """

    file: str
    page: int
    n_pages: int
    height: int
    width: int
    mode: str
    format: str

    @property
    def grey(self) -> bool:
        """Whether it is stored as grey."""
        return self.mode in _GREY

    @property
    def deep(self) -> bool:
        """Whether it is grey with 16 bits."""
        return self.mode in _DEEP


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

    def kept(self, picture: Picture) -> float:
        """Return the share of a picture that is left when it is resized to cover the frame and cropped."""
        ratio = picture.width * self.height / (picture.height * self.width)
        return min(ratio, 1 / ratio)

    def enlarges(self, picture: Picture) -> float:
        """Return how many times a side of a picture is enlarged."""
        return max(self.height / picture.height, self.width / picture.width)


class Unreadable(ValueError):
    """A file that Pillow may open, and that is no picture to cluster."""


def format_of(path: str) -> str | None:
    """Return the format that a file's suffix stands for, as Pillow names it; None where it stands for no image."""
    return _OF.get(_suffix(path))


def decoder_missing(format: str) -> str:
    """Return the command that brings the decoder of a format, "" where it is there."""
    return "" if format in _decoders() else _DECODERS.get(format, "pip install --upgrade pillow")


def unread(paths: Sequence[str]) -> str:
    """Return how many pictures of each kind cannot be read here, and what to do about it, "" for none.

    Args:
        paths: files whose suffix is that of a picture.
    """
    kinds: dict[str, Counter[str]] = {}
    for path in paths:
        format = format_of(path)
        cure = decoder_missing(format) if format else _CURES[_suffix(path)]
        kinds.setdefault(cure, Counter())[_suffix(path)] += 1
    said = (
        f"{', '.join(f'{number:,} {suffix}' for suffix, number in sorted(suffixes.items()))} ({cure})"
        for cure, suffixes in kinds.items()
    )
    return "; ".join(said)


def cannot_be_read(path: str) -> bool:
    """Return whether a file's suffix is that of a picture that cannot be read here."""
    format = format_of(path)
    return _suffix(path) in _CURES if format is None else bool(decoder_missing(format))


def content_of(path: Path) -> str | None:
    """Return the format of an image by the first bytes of its file, None where they are not those of an image."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return None
    return next((format for start, magic, format in _MAGIC if head[start:].startswith(magic)), None)


def pictures_in(folder: Path, file: str, all_pages: bool) -> list[Picture]:
    """Return what a file says of its pictures, of the first alone unless all are asked for; nothing is decoded.

    Raises:
        Exception: of any kind, if the file cannot be read; `fault` says why.
    """
    with opened(folder / file) as image:
        format = "JPEG" if image.format == "MPO" else str(image.format)
        n_pages = int(getattr(image, "n_frames", 1)) if format in _PAGED else 1
        if n_pages > (folder / file).stat().st_size:
            raise Unreadable(f"damaged: it claims to have {n_pages:,} pages")
        found = []
        for page in range(n_pages if all_pages else 1):
            if page and format in ("HEIF", "TIFF"):  # whose pictures have sizes and modes of their own
                image.seek(page)
            width, height = _upright_size(image)
            if width == height == 1:
                raise Unreadable("1 x 1 pixel, a placeholder")
            found.append(Picture(file, page, n_pages, height, width, image.mode, format))
    return found


def framed(path: Path, pages: Sequence[int], frame: Frame) -> Iterator[Array | str]:
    """Yield pictures of one file as arrays (C, H, W), or why one cannot be read.

    Each stands upright as its EXIF orientation says, on white where it is transparent, and is resized so that it
    covers the frame, and cropped to its centre.

    Args:
        path: of the file.
        pages: which of its pictures, ascending.
        frame: what they become.
    """
    done = 0
    try:
        with opened(path) as image:
            for page in pages:
                if page:
                    image.seek(page)
                yield _framed(image, frame)
                done += 1
    except Exception as error:  # Pillow's decoders raise errors of all kinds for bad files
        yield from [fault(path, error)] * (len(pages) - done)


def fault(path: Path, error: Exception) -> str:
    """Return why a file cannot be read, one line without the file's name."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"more than {limit:,} pixels, which could be a decompression bomb"
    if isinstance(error, UnidentifiedImageError):
        return _content(path)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said or type(error).__name__).strip().splitlines()[0].rstrip(".")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """Open an image file for the block.

    Raises:
        OSError: no file, or no image; a decoder raises others too.
    """
    from PIL import Image

    if not path.is_file():  # opening a pipe would wait for ever
        raise OSError("a link that leads nowhere" if path.is_symlink() else "no file is there")
    own = format_of(path.name)
    formats = [name for name in _decoders() if name not in _BY_SUFFIX_ALONE or name == own]
    with Image.open(path, formats=formats) as image:
        yield image


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Do not show the warnings of Pillow's decoders in the block; what matters of them is an error or a remark.

    This is for all threads together, and must not be entered by one of several.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _decoders() -> tuple[str, ...]:
    """Return those of FORMATS that can be decoded here."""
    from PIL import Image, features

    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    lacking = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
    there = (name for name in FORMATS if name in Image.OPEN)
    return tuple(name for name in there if name not in lacking or features.check(lacking[name]))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _content(path: Path) -> str:
    """Return what a file is that is no image Pillow knows."""
    if not path.stat().st_size:
        return "empty: 0 bytes"
    if lfs_pointer(path):
        return "a Git LFS pointer in place of the image: run `git lfs pull`"
    format = content_of(path)
    if format:
        command = decoder_missing(format)
        return f"{format}, which cannot be read here: {command}" if command else f"damaged: it begins as {format} does"
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    return "a web page, no image" if head.startswith((b"<!doctype html", b"<html")) else "no image of a known kind"


def _upright_size(image: Image) -> tuple[int, int]:
    """Return width and height as EXIF's orientation turns them; of a TIFF, Pillow has turned them already."""
    if image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8):
        return image.height, image.width
    return image.size


def _framed(image: Image, frame: Frame) -> Array:
    from PIL import ImageOps

    image.draft(None, (2 * max(frame.height, frame.width),) * 2)  # JPEG: decode no more than is needed
    with ImageOps.exif_transpose(image) as upright:
        if frame.deep:
            return np.clip(np.asarray(_fitted(_sixteen_bits(upright), frame)), 0, 65535)[None]
        fitted = np.asarray(_fitted(_eight_bits(upright).convert("RGB" if frame.colour else "L"), frame))
    return fitted.transpose(2, 0, 1) if frame.colour else fitted[None]


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
