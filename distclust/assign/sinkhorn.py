"""Balanced soft assignment: Sinkhorn-Knopp in the logarithmic domain."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from distclust.assign.costs import Floats, Kind, is_tensor, place, read_shares
from distclust.contracts import Array
from distclust.errors import DataError, ParameterError

if TYPE_CHECKING:
    import torch


def sinkhorn(scores: Kind, epsilon: float, n_iter: int, target: npt.ArrayLike | torch.Tensor | None = None) -> Kind:
    """Return soft assignments whose columns are brought close to a target distribution.

    Q = exp(scores / epsilon) is scaled `n_iter` times: its columns to sum to target * N, then its rows to sum to one.
    So the rows always sum to one, and the columns the closer to their target the larger `n_iter` is. No gradient flows.

    Args:
        scores: (N, K) or (B, N, K) finite scores, the larger the likelier, array or tensor; B = that many problems.
        epsilon: > 0; the smaller, the harder the assignments.
        n_iter: >= 1.
        target: (K,) share of the points that each cluster is to have, >= 0, sum 1; None = 1 / K.

    Returns:
        Q, of the shape, dtype and device of the scores; integers give float64. Half precision is computed in float32.

    Raises:
        DataError: the scores cannot be used.
        ParameterError: epsilon, n_iter or target cannot be used.

    Source: Asano, Rupprecht & Vedaldi, ICLR 2020, Section 3; Caron et al., NeurIPS 2020 (SwAV), eqs. (3) to (5).
    """
    _check_shape(scores)
    shares = _read_parameters(epsilon, n_iter, target, scores.shape[-1])
    with np.errstate(divide="ignore"):
        log_target = np.log(shares)  # (K,); -inf where a cluster is to stay empty; the rows' scaling takes care of N
    compute: Callable[..., Any] = _sinkhorn_torch if is_tensor(scores) else _sinkhorn_numpy
    return compute(scores, float(epsilon), n_iter, log_target)


def _balance(
    scaled: Any,
    log_target: Any,
    n_iter: int,
    log_sum_exp: Callable[[Any, int], Any],
    softmax: Callable[[Any, int], Any],
) -> Any:
    """Return Q from scaled (..., N, K) and log_target (K,).

    The scalings are kept apart from the scores: a column that is to stay empty cannot spoil the others.
    """
    row: Any = 0.0
    for _ in range(n_iter):
        column = log_target - log_sum_exp(scaled + row, -2)  # (..., 1, K)
        row = -log_sum_exp(scaled + column, -1)  # (..., N, 1)
    return softmax(scaled + column, -1)


def _sinkhorn_torch(scores: torch.Tensor, epsilon: float, n_iter: int, log_target: Floats) -> torch.Tensor:
    import torch

    out = scores.dtype if scores.is_floating_point() else torch.float64
    inner = torch.promote_types(out, torch.float32)
    scaled = scores.detach().to(inner) / epsilon
    if not (scaled.abs() <= torch.finfo(inner).max / 16).all():
        raise _not_finite(scores.detach().cpu().double().numpy(), epsilon)
    column = torch.as_tensor(log_target, dtype=inner, device=scores.device)

    def log_sum_exp(x: torch.Tensor, axis: int) -> torch.Tensor:
        return torch.logsumexp(x, axis, keepdim=True)

    return _balance(scaled, column, n_iter, log_sum_exp, torch.softmax).to(out)


def _sinkhorn_numpy(scores: Array, epsilon: float, n_iter: int, log_target: Floats) -> Array:
    out = scores.dtype if np.issubdtype(scores.dtype, np.floating) else np.dtype(np.float64)
    inner = np.promote_types(out, np.float32)
    with np.errstate(all="ignore"):
        scaled = scores.astype(inner) / inner.type(epsilon)
    if not (np.abs(scaled) <= np.finfo(inner).max / 16).all():
        raise _not_finite(scores, epsilon)
    return _balance(scaled, log_target.astype(inner), n_iter, _log_sum_exp, _softmax).astype(out)


def _log_sum_exp(x: Array, axis: int) -> Array:
    top = x.max(axis=axis, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))


def _softmax(x: Array, axis: int) -> Array:
    share = np.exp(x - x.max(axis=axis, keepdims=True))
    return share / share.sum(axis=axis, keepdims=True)


def _check_shape(scores: Any) -> None:
    shape = getattr(scores, "shape", None)
    if shape is None or np.ndim(scores) not in (2, 3):
        given = f"type {type(scores).__name__}" if shape is None else f"shape {tuple(shape)}"
        raise DataError(f"scores are of {given}; they must be an array or tensor (N, K) or (B, N, K). Give one.")
    if 0 in shape:
        raise DataError(f"scores are of shape {tuple(shape)}; every axis must be at least 1. Leave empty batches out.")


def _read_parameters(epsilon: Any, n_iter: Any, target: Any, n_clusters: int) -> Floats:
    """Return the target (K,), all three parameters checked."""
    faults = []
    if not isinstance(epsilon, numbers.Real) or not 0 < float(epsilon) < math.inf:
        faults.append(f"epsilon is {epsilon!r}; it must be a finite number > 0. Try 0.05.")
    if not isinstance(n_iter, numbers.Integral) or int(n_iter) < 1:
        faults.append(f"n_iter is {n_iter!r}; it must be an integer >= 1. Try 3.")
    shares = read_shares(target, n_clusters)
    if shares is None:
        faults.append(f"target is {target!r}; it must be {n_clusters} shares >= 0 that sum to 1. Divide it by its sum.")
    if faults or shares is None:
        raise ParameterError(faults)
    return shares


def _not_finite(scores: Array, epsilon: float) -> DataError | ParameterError:
    """Return why scores / epsilon is not finite everywhere."""
    wrong = ~np.isfinite(scores)
    if wrong.any():
        at = place(wrong)
        value = scores[tuple(index[0] for index in wrong.nonzero())]
        return DataError(f"scores{at} is {value}; scores must be finite. Look for a diverged network.")
    return ParameterError([f"epsilon is {epsilon!r}; scores / epsilon must not overflow. Give a larger one."])
