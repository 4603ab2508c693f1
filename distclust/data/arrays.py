"""Arrays: which types and shapes of x and y are taken, and what they become."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.data.frames import check_frame, is_frame
from distclust.data.points import check_fits
from distclust.errors import DataError

BLOCK = 1 << 22  # values looked at in one go, so that a memory-mapped array is never read whole
KEPT = tuple(map(np.dtype, (np.uint8, np.float32, np.float64)))  # types that methods train on
_FINITE: set[tuple[str, int, int, str] | None] = set()  # files of which all values are finite
_LARGEST = np.finfo(np.float64).max / 4  # so that no difference of two values is out of bounds
_ROUNDINGS = {np.dtype(np.float32): 1, np.dtype(np.float64): 4}  # as in nets.scaling: what counts as equal


class NotANumberError(DataError, TypeError):
    """An array of objects holds something that is no number; a TypeError too, as scikit-learn's contract asks."""


def check_x(x: Any, name: str = "X", *, allow_constant: bool = False) -> Array:
    """Return `x` as an array that a method can train on.

    Memory-mapped and strided arrays of the right type come back as they are, without a copy; they are read block by
    block. Views that run backwards, as x[::-1] or numpy.rot90 make them, are copied.

    Args:
        x: numpy array, torch tensor on the CPU, pandas DataFrame or nested lists; images (N, C, H, W), windows
            (N, C, T) or vectors (N, D). Types become what `stored` says.
        name: what the messages call it.
        allow_constant: take data whose values are all equal, as prediction does.

    Returns:
        uint8, float32 or float64 with 2, 3 or 4 dimensions; C-contiguous where it had to be copied.

    Raises:
        DataError: wrong number of dimensions, empty, not finite, constant up to rounding, complex, strings, sparse,
            masked, or on another device; or values that float64 cannot hold or tell apart.
        NotANumberError: objects that are no numbers.
    """
    array = _array(x, name)
    _check_shape(array, name)
    array = forwards(stored(array, name))
    check_finite(array, name)
    if not allow_constant and _is_constant(array):
        raise DataError(f"{name} is constant: every value is {array[(0,) * array.ndim]}. There is nothing to cluster.")
    return array


def stored(x: Array, name: str) -> Array:
    """Return `x` as uint8, float32 or float64, whichever holds all its values; the array itself if it is one of them.

    Args:
        x: any shape. bool becomes uint8; float16 and integers of 8 or 16 bits become float32; longer ones float64.
        name: what the messages call it.

    Raises:
        DataError: complex, strings, objects, dates, records; or integers beyond 2^53 or long doubles that are different
            and become the same number, or infinite, in float64.
    """
    if x.dtype in KEPT:
        return x
    if x.dtype.kind == "c":
        raise DataError(f"Complex data not supported: {name} is {x.dtype}. Give real numbers, such as its modulus.")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{name} is of type {x.dtype}; it must hold numbers. Convert it to uint8, float32 or float64.")
    narrow = np.uint8 if x.dtype.kind == "b" else np.float32
    wide = narrow if np.result_type(x.dtype, np.float32) == np.float32 else np.float64
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(x, dtype=wide)
    if x.dtype.itemsize > 8 or (x.dtype.kind in "iu" and x.dtype.itemsize == 8):
        _check_kept_apart(x, found, name)
    return found


def forwards(x: Array) -> Array:
    """Return `x`, copied where torch cannot take its strides: those below 0, or of parts of a value.

    Raises:
        DataError: the copy would not fit into half of the machine's memory.
    """
    if all(stride >= 0 and stride % x.itemsize == 0 for stride in x.strides):
        return x
    check_fits(x.nbytes)
    return np.ascontiguousarray(x)


def class_indices(y: Array, n_samples: int, name: str = "y") -> tuple[Labels, int | None]:
    """Return the classes as 0 .. C - 1 in sorted order of their names, and C.

    Args:
        y: (N,) or (N, 1) integers, floats with integral values, bools or strings; the number -1 stands for unknown.
        n_samples: N.
        name: what the messages call it.

    Returns:
        (N,) int64 with -1 for unknown, and the number of known classes, None where there is none.

    Raises:
        DataError: wrong length, shape or type.
    """
    if y.shape not in ((n_samples,), (n_samples, 1)):
        raise DataError(f"{name} has shape {y.shape}; it must be ({n_samples},), one class for each point of x.")
    y = y.reshape(n_samples)
    if y.dtype.kind not in "biufUS":
        raise DataError(f"{name} is of type {y.dtype}; classes must be integers or strings, with -1 for unknown.")
    if y.dtype.kind == "f" and not (np.isfinite(y) & (np.trunc(y) == y)).all():
        raise DataError(f"{name} holds values that are no integers; name classes by integers, with -1 for unknown.")
    unknown = y == -1 if y.dtype.kind in "if" else np.zeros(n_samples, dtype=bool)
    names, known = np.unique(y[~unknown], return_inverse=True)
    labels = np.full(n_samples, -1, dtype=np.int64)
    labels[~unknown] = known
    return labels, len(names) or None


def known_classes(y: Array, n_samples: int, n_clusters: int, name: str = "y") -> Labels:
    """Return classes that must be 0 .. n_clusters - 1 already, or -1 for unknown.

    Raises:
        DataError: wrong length or type, or a class out of range.
    """
    class_indices(y, n_samples, name)
    if y.dtype.kind in "US":
        raise DataError(f"{name} holds strings; its classes must be the integers 0 to {n_clusters - 1}.")
    y = y.reshape(n_samples)
    if n_samples and (y.max() >= n_clusters or (y.dtype.kind != "u" and y.min() < -1)):
        raise DataError(f"{name} goes from {y.min()} to {y.max()}; its classes must be 0 to {n_clusters - 1}.")
    return y.astype(np.int64)


def _array(x: Any, name: str) -> Array:
    if hasattr(x, "toarray"):
        raise DataError(f"{name} is a sparse matrix; sparse data are not supported. Convert with .toarray().")
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported torch
    if torch is not None and isinstance(x, torch.Tensor):
        x = _from_tensor(x, name)
    if np.ma.isMaskedArray(x) and np.ma.is_masked(x):
        raise DataError(f"{name} has masked values; fill them in first, with .filled().")
    if is_frame(x):
        check_frame(x, name)
    try:
        array: Array = x if type(x) is np.memmap else np.asarray(x)
    except Exception as error:
        raise DataError(f"{name} cannot be read as an array ({error}). Give rows of equal length.") from error
    return _from_objects(array, name) if array.dtype == object else array


def _from_tensor(x: Any, name: str) -> Array:
    if x.device.type != "cpu":
        raise DataError(f"{name} is a tensor on {x.device}; give it on the CPU, with .cpu().")
    if x.layout != sys.modules["torch"].strided:
        raise DataError(f"{name} is a sparse tensor; sparse data are not supported. Convert with .to_dense().")
    x = x.detach()
    return (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()


def _from_objects(x: Array, name: str) -> Array:
    text = next((place for place, value in np.ndenumerate(x) if isinstance(value, (str, bytes))), None)
    if text is not None:
        place = _told(name, text)
        raise DataError(f"{name} holds strings, the first at {place}; it must hold numbers. Convert it to numbers.")
    try:
        return x.astype(np.float64)
    except TypeError as error:
        raise NotANumberError(f"{name} holds objects that are no numbers{_first(x, name)}: {error}.") from error
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{name} holds objects that are no numbers{_first(x, name)}: {error}. Convert it to numbers."
        ) from error


def _first(x: Array, name: str) -> str:
    """Return where the first object is that is no number."""
    for place, value in np.ndenumerate(x):
        try:
            float(value)
        except Exception:
            return f", the first at {_told(name, place)}, {value!r:.60}"
    return ""


def _told(name: str, place: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, place))}]"


def _check_shape(x: Array, name: str) -> None:
    if x.ndim < 2:
        got = "scalar" if x.ndim == 0 else "1D"
        raise DataError(
            f"Expected 2D array, got {got} array instead: {name} has shape {x.shape}. Reshape your data with "
            "array.reshape(-1, 1) if it has a single feature, or array.reshape(1, -1) if it is a single sample."
        )
    if x.ndim > 4:
        raise DataError(
            f"{name} has {x.ndim} dimensions, shape {x.shape}; give images (N, C, H, W), windows (N, C, T) or "
            "vectors (N, D)."
        )
    if x.size == 0:
        what = "sample" if len(x) == 0 else "feature"
        raise DataError(f"{name}: found array with 0 {what}(s) (shape={x.shape}) while a minimum of 1 is required.")


def _blocks(x: Array, n_values: int = 0) -> Iterator[tuple[int, Array]]:
    """Yield some rows at a time and the place of the first, for points of so many values (as x has them)."""
    rows = max(1, BLOCK // (n_values or x[0].size))
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]


def _check_kept_apart(x: Array, found: Array, name: str) -> None:
    """Refuse integers and long doubles of which float64 makes equal numbers, or infinite ones."""
    with np.errstate(invalid="ignore", over="ignore"):
        pairs = zip(_blocks(x), _blocks(found), strict=True)
        if x.size == 0 or all((kept.astype(x.dtype) == given).all() for (_, given), (_, kept) in pairs):
            return
    if (np.isinf(found) & ~np.isinf(x)).any():
        raise DataError(f"{name} holds values too large for float64, which become inf. Scale it down.")
    before, after = _n_different(x), _n_different(found)
    if after < before:
        raise DataError(
            f"{name} is {x.dtype} and holds {before:,} different values, of which float64 tells only {after:,} apart. "
            f"Subtract the least value first, as in {name} - {name}.min(axis=0); or, where such differences do not "
            f"matter, convert it with {name}.astype('float64')."
        )


def _n_different(x: Array) -> int:
    """Return the number of different values of each feature, summed."""
    columns = x[:, None] if x.ndim == 1 else x
    return sum(len(np.unique(columns[:, c])) for c in range(columns.shape[1]))


def check_finite(x: Array, name: str, where: str = "", rows: Array | None = None) -> None:
    """Refuse NaN, infinite values, and values so large that their differences would be infinite.

    A file that is memory-mapped to be read alone is looked through once, whatever views of it are given later.

    Args:
        x: (N, ...) numbers.
        name: what the message calls it.
        where: what the message begins with, as in "numbers.npy: ".
        rows: (n,) the points to look at, by ascending index; None = all.

    Raises:
        DataError: there is one; the message has its place.
    """
    file = _file(x)
    if x.dtype.kind != "f" or file in _FINITE or (rows is None and _is_finite(_viewed(x))):
        if file is not None and rows is None and not isinstance(x.base, np.ndarray):  # no view: all of it
            _FINITE.add(file)
        return
    rows = np.arange(len(x)) if rows is None else rows
    for start, places in _blocks(rows, x[0].size):
        good = _good(block := x[places])
        if not good.all():
            first = np.unravel_index(np.argmin(good), block.shape)
            place = ", ".join(str(index) for index in (rows[start + first[0]], *first[1:]))
            if np.isfinite(value := block[first]):
                raise DataError(
                    f"{where}{name}[{place}] is {value:g}, which is too large to compute with. Scale it down."
                )
            told = "NaN" if np.isnan(value) else str(value)
            raise DataError(
                f"{where}{name} contains NaN or inf: {name}[{place}] is {told}. Fill in or drop such points."
            )


def _file(x: Array) -> tuple[str, int, int, str] | None:
    """Return name, time and size of the file that an array is mapped from, and its type; None where it may change."""
    if not isinstance(x, np.memmap) or x.mode != "r" or x.filename is None:
        return None
    try:
        found = os.stat(x.filename)
    except OSError:  # deleted while it is mapped
        return None
    return os.fspath(x.filename), found.st_mtime_ns, found.st_size, x.dtype.str


def _good(block: Array) -> npt.NDArray[np.bool_]:
    if block.dtype == np.float64:
        return np.asarray(np.abs(block) <= _LARGEST)  # False for NaN
    return np.asarray(np.isfinite(block))


def _is_finite(x: Array) -> bool:
    return all(bool(_good(block).all()) for _, block in _blocks(x))


def _viewed(x: Array) -> Array:
    """Return the smaller array that `x` is a view of, as overlapping windows are of a recording, else `x`."""
    base = getattr(x, "base", None)
    while base is not None:
        if isinstance(base, np.ndarray) and base.dtype == x.dtype and base.ndim and 0 < base.size < x.size:
            return base
        base = getattr(base, "base", None)
    return x


def n_different(x: Array, enough: int) -> int:
    """Return the number of different points (N, ...), or `enough` if there are more."""
    seen: set[bytes] = set()
    rows = max(1, min(BLOCK // x[0].size, 2 * enough))  # as a rule the first rows settle it
    for start in range(0, len(x), rows):
        block = np.ascontiguousarray(x[start : start + rows]).reshape(min(rows, len(x) - start), -1)
        block = block if block.dtype == np.uint8 else block + 0.0  # so that -0 is 0
        seen.update(row.tobytes() for row in block)
        if len(seen) >= enough:
            return enough
    return len(seen)


def _is_constant(x: Array) -> bool:
    """Return whether all values are equal, or differ by rounding alone."""
    first = x[(0,) * x.ndim]
    if x.dtype == np.uint8:
        return all(bool((block == first).all()) for _, block in _blocks(x))
    reach = _ROUNDINGS[x.dtype] * np.finfo(x.dtype).eps * abs(first)
    return all(bool((np.abs(block - first) <= reach).all()) for _, block in _blocks(x))
