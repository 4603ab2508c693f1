"""Costs as they come in, checked, and labels as they go out, of the same kind.

torch is imported for those who give tensors, and they have imported it already.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.errors import DataError, ParameterError

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = TypeVar("Kind", Array, "torch.Tensor")  # what comes in is what goes out


def is_tensor(x: object) -> TypeGuard[torch.Tensor]:
    """Return whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def read_costs(cost: Any, log_prior: Any = None) -> Floats:
    """Return cost - log_prior (B, N, K), contiguous: +inf where a point may not go to a cluster, else finite.

    Args:
        cost: (N, K) or (B, N, K) array or tensor, without NaN and -inf.
        log_prior: (K,) without NaN and +inf, with a finite entry; None = nothing to subtract. In each row there is an
            entry with both finite.

    Raises:
        DataError: the cost has another shape, type or such values.
        ParameterError: log_prior has.
    """
    base = read_unchecked(cost, log_prior)
    if not np.isfinite(base).all():
        check_infinite(cost, base)
    return base


def read_unchecked(cost: Any, log_prior: Any = None) -> Floats:
    """Return what `read_costs` does, its values not looked at: where one is not finite, call `check_infinite`."""
    base = _read_table(cost)
    if log_prior is not None:
        prior = _read_log_prior(log_prior, base.shape[-1])
        with np.errstate(invalid="ignore", over="ignore"):
            base = np.subtract(base, prior, order="C")
    return base if base.flags.writeable else base.copy()  # numba compiles anew for read-only memory


@lru_cache(maxsize=8)
def log_integers(n: int) -> Floats:
    """Return log 1, log 2, ..., log n: what the next place in a cluster costs."""
    return np.log(np.arange(1, n + 1))


def read_floats(x: Any) -> Floats:
    """Return an array or tensor as a contiguous float64 array on the CPU, without its gradient.

    Raises:
        TypeError, ValueError: it does not hold real numbers.
    """
    if is_tensor(x):
        x = x.detach().cpu()
        x = (x.float() if x.dtype.itemsize < 4 else x).numpy()  # numpy has no bfloat16
    x = np.asarray(x)
    if x.dtype.kind == "c":
        raise TypeError("complex numbers")
    return np.ascontiguousarray(x, dtype=np.float64)


def read_shares(target: Any, n_clusters: int) -> Floats | None:
    """Return the target (K,), shares >= 0 that sum to 1, uniform where it is None; None where it is nothing such."""
    if target is None:
        return np.full(n_clusters, 1 / n_clusters)
    try:
        shares = read_floats(target)
    except (TypeError, ValueError):
        return None
    fits = shares.shape == (n_clusters,) and bool((shares >= 0).all())
    return shares if fits and math.isclose(shares.sum(), 1, rel_tol=1e-5) else None


def place(wrong: npt.NDArray[np.bool_]) -> str:
    """Return the index of the first True, as in "[0, 3]"."""
    return str([int(at) for at in np.unravel_index(int(wrong.argmax()), wrong.shape)])


def labels_like(labels: Labels, cost: Any) -> Any:
    """Return (B, N) labels as the cost came: array or tensor, on its device, with or without B."""
    shaped = labels if np.ndim(cost) == 3 else labels[0]
    if is_tensor(cost):
        import torch

        tensor = torch.from_numpy(shaped)
        return tensor if cost.device.type == "cpu" else tensor.to(cost.device)
    return shaped


def _read_table(cost: Any) -> Floats:
    try:
        table = read_floats(cost)
    except (TypeError, ValueError) as cause:
        given = getattr(cost, "dtype", type(cost).__name__)
        raise DataError(f"cost is of type {given}; it must hold real numbers. Give an array or tensor.") from cause
    shape = tuple(np.shape(cost))
    if len(shape) not in (2, 3):
        raise DataError(f"cost has shape {shape}; it must be (N, K) or (B, N, K). Add or drop axes.")
    if table.size == 0:
        raise DataError(f"cost has shape {shape}; every axis must be at least 1. Leave empty batches out.")
    return table.reshape(-1, *shape[-2:])


def _read_log_prior(log_prior: Any, n_clusters: int) -> Floats:
    try:
        prior = read_floats(log_prior)
    except (TypeError, ValueError) as cause:
        raise ParameterError([f"log_prior is {log_prior!r}; it must hold real numbers. Give log p(k)."]) from cause
    shape = tuple(np.shape(log_prior))
    if shape != (n_clusters,):
        raise ParameterError([f"log_prior has shape {shape}; it must be ({n_clusters},). Give one entry a cluster."])
    if not math.isfinite(prior.max()):  # NaN where there is one, -inf where all are
        given = prior.tolist()
        raise ParameterError([f"log_prior is {given}; NaN, +inf and nothing but -inf are not allowed. Give log p(k)."])
    return prior


def check_infinite(cost: Any, base: Floats) -> None:
    """Let costs pass if all that is not finite in them, or in them less the prior (B, N, K), is allowed +inf.

    Raises:
        DataError: as `read_costs`.
    """
    table, ndim = _read_table(cost), np.ndim(cost)
    for name, wrong in (("NaN", np.isnan(table)), ("-inf", np.isneginf(table))):
        if wrong.any():
            at = place(wrong if ndim == 3 else wrong[0])
            raise DataError(
                f"cost{at} is {name}; a cost must be finite or +inf (= forbidden). Look for a diverged network."
            )
    closed = ~np.isfinite(base.min(axis=-1))  # (B, N)
    if closed.any():
        at = place(closed if ndim == 3 else closed[0])
        raise DataError(
            f"cost{at} leaves the point no cluster: each entry is +inf or stands where log_prior is -inf. "
            "Every point must have a finite cost for some allowed cluster; give it one."
        )
