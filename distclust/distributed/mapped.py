"""Memory-mapped data: workers on the same machine open its file, so that it is copied nowhere and may exceed memory."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distclust.contracts import Array
from distclust.errors import DataError


@dataclass(frozen=True)
class MappedArray:
    """Where an array lies in a file.

    Args:
        path: of the file, absolute.
        n_bytes: size of the file.
        changed: when it was last changed, nanoseconds.
        offset: of the array's first value in the file, bytes.
        dtype: as numpy writes it, as in "<f4".
        shape: of the array.
        strides: bytes from a value to the next along each axis, >= 0.
    """

    path: str
    n_bytes: int
    changed: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def open(self) -> Array:
        """Return the array, memory-mapped and read-only.

        Raises:
            DataError: the file is not there, or not the same any more.
        """
        try:
            found = os.stat(self.path)
            if (found.st_size, found.st_mtime_ns) != (self.n_bytes, self.changed):
                raise DataError(f"{self.path} has changed since the run began; start it anew, with a file that stays.")
            kind = np.dtype(self.dtype)
            reach = sum(
                (n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)
            )  # bytes to the last
            values = np.memmap(self.path, kind, "r", self.offset, (reach // kind.itemsize + 1,))
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read where a worker runs ({error}). It is too large for Ray's object store; "
                "put it into a folder that all nodes reach by the same path."
            ) from error
        return np.lib.stride_tricks.as_strided(values, self.shape, self.strides, subok=True, writeable=False)


def mapped(x: Array) -> MappedArray | None:
    """Return where a memory-mapped array, or a view of one, lies in its file.

    Returns:
        None for an array in memory, one that may be written to, one that runs backwards, or one whose file is gone.
    """
    if not isinstance(x, np.memmap) or x.mode != "r" or x.filename is None or min(x.strides, default=0) < 0:
        return None
    path = Path(x.filename).resolve()
    begin = x.offset - x.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping in the file; views keep their file's
    within = x.ctypes.data - np.frombuffer(x._mmap, np.uint8).ctypes.data  # type: ignore[attr-defined]
    try:
        found = os.stat(path)
    except OSError:  # deleted while it is mapped
        return None
    return MappedArray(
        str(path), found.st_size, found.st_mtime_ns, begin + within, x.dtype.str, x.shape, tuple(x.strides)
    )


def opened(x: Array | MappedArray) -> Array:
    """Return the array that was handed over, itself or by its file.

    Raises:
        DataError: the file is not there, or not the same any more.
    """
    return x.open() if isinstance(x, MappedArray) else x
