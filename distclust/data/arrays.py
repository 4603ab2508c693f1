"""Arrays: which types and shapes of x and y are taken, and what they become."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from distclust.contracts import Array, Labels
from distclust.data.frames import check_frame, is_frame
from distclust.errors import DataError

BLOCK = 1 << 22  # values looked at in one go, so that a memory-mapped array is never read whole


class NotANumberError(DataError, TypeError):
    """An array of objects holds something that is no number; a TypeError too, as scikit-learn's contract asks."""


def check_x(x: Any, name: str = "X", *, allow_constant: bool = False) -> Array:
    """Return `x` as an array that a method can train on.

    Memory-mapped and strided arrays of the right type come back as they are, without a copy; they are read block by
    block.

    Args:
        x: numpy array, torch tensor on the CPU, pandas DataFrame or nested lists; images (N, C, H, W), windows
            (N, C, T) or vectors (N, D). bool becomes uint8; every other number that is not uint8 becomes float32.
        name: what the messages call it.
        allow_constant: take data whose values are all equal, as prediction does.

    Returns:
        uint8 or float32 with 2, 3 or 4 dimensions; C-contiguous where it had to be copied.

    Raises:
        DataError: wrong number of dimensions, empty, not finite, constant, complex, strings, sparse, masked, or on
            another device.
        NotANumberError: objects that are no numbers.
    """
    array = _array(x, name)
    _check_shape(array, name)
    array = stored(array, name)
    _check_finite(array, name)
    if not allow_constant and _is_constant(array):
        raise DataError(f"{name} is constant: every value is {array[(0,) * array.ndim]}. There is nothing to cluster.")
    return array


def stored(x: Array, name: str) -> Array:
    """Return `x` as uint8 or float32; the array itself where it is that already.

    Args:
        x: any shape; bool becomes uint8, other numbers become float32.
        name: what the messages call it.

    Raises:
        DataError: complex, strings, objects, dates, records, or a value that float32 cannot hold.
    """
    if x.dtype in (np.dtype(np.uint8), np.dtype(np.float32)):
        return x
    if x.dtype.kind == "c":
        raise DataError(f"Complex data not supported: {name} is {x.dtype}. Give real numbers, such as its modulus.")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{name} is of type {x.dtype}; it must hold numbers. Convert it to uint8 or float32.")
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(x, dtype=np.uint8 if x.dtype.kind == "b" else np.float32)
    except FloatingPointError as error:
        raise DataError(f"{name} holds values too large for float32, which become inf. Scale it down.") from error


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
        raise DataError(
            f"{name} holds strings, the first at {place}; it must hold numbers. Convert it to uint8 or float32."
        )
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


def _blocks(x: Array) -> Iterator[tuple[int, Array]]:
    rows = max(1, BLOCK // x[0].size)
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows]


def _check_finite(x: Array, name: str) -> None:
    if x.dtype == np.uint8 or _is_finite(_viewed(x)):
        return
    for start, block in _blocks(x):
        finite = np.isfinite(block)
        if not finite.all():
            first = np.unravel_index(np.argmin(finite), block.shape)
            place = ", ".join(str(index) for index in (start + first[0], *first[1:]))
            value = "NaN" if np.isnan(block[first]) else str(block[first])
            raise DataError(f"{name} contains NaN or inf: {name}[{place}] is {value}. Fill in or drop such points.")


def _is_finite(x: Array) -> bool:
    return all(bool(np.isfinite(block).all()) for _, block in _blocks(x))


def _viewed(x: Array) -> Array:
    """Return the smaller array that `x` is a view of, as overlapping windows are of a recording, else `x`."""
    base = getattr(x, "base", None)
    while base is not None:
        if isinstance(base, np.ndarray) and base.dtype == x.dtype and base.ndim and 0 < base.size < x.size:
            return base
        base = getattr(base, "base", None)
    return x


def _is_constant(x: Array) -> bool:
    first = x[(0,) * x.ndim]
    return all(bool((block == first).all()) for _, block in _blocks(x))
