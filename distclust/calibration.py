"""Probabilities that keep their word without a label: one temperature for all members, fitted to one another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.errors import DataError

Floats = np.ndarray[Any, np.dtype[np.float64]]

_RANGE = (1e-2, 1e2)  # of the temperature
_STEPS = 17  # of the first look at that range
_TINY = float(np.finfo(np.float32).tiny)  # the smallest probability that a logarithm is taken of


class Calibration(NamedTuple):
    """What was found when the members' probabilities were held against one another.

    Args:
        temperature: what `tempered` is to take; below 1 sharpens, above 1 softens, 1 leaves as it is.
        n_points: points that were looked at, 0 where fewer than two members could be.
        uncalibrated: mean greatest probability that the others give a cluster, as they say it; nan without points.
        calibrated: the same with the temperature.
        observed: how often the member that was left out says the same cluster.
    """

    temperature: float = 1.0
    n_points: int = 0
    uncalibrated: float = float("nan")
    calibrated: float = float("nan")
    observed: float = float("nan")


def tempered(probabilities: npt.ArrayLike, temperature: float) -> Floats:
    """Return p^(1 / temperature) over its sum; rows of zeros stay.

    Args:
        probabilities: (..., K) >= 0.
        temperature: > 0.

    Source:
        Guo et al. 2017, section 4.2, on probabilities in place of logits.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    greatest = p.max(axis=-1, keepdims=True)
    raised = (p / np.where(greatest > 0, greatest, 1)) ** (1 / temperature)
    total: Floats = raised.sum(axis=-1, keepdims=True)
    found: Floats = raised / np.where(total > 0, total, 1)
    return found


def calibrate(probabilities: npt.ArrayLike) -> Calibration:
    """Return the temperature with which members tell best what another one says.

    Each member in turn is left out; the mean of the others' tempered probabilities is held against the cluster that it
    finds most probable. The temperature is the one of the least log loss over all points and members. The targets are
    smoothed by one point in n, so that members that agree on everything are not taken to be certain.

    Args:
        probabilities: (M, N, K) of M members that name their clusters alike, rows sum to 1.

    Returns:
        with a temperature of 0.01 to 100; 1 with fewer than two members or no points.

    Raises:
        DataError: not (M, N, K), or not probabilities.

    Source:
        temperature by log loss: Guo et al. 2017; smoothed targets: Platt 1999, section 2.2. Another member in the
        place of a label is ours.
    """
    from scipy.optimize import minimize_scalar

    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 3 or not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(axis=-1), 1, atol=1e-4):
        raise DataError(f"probabilities must be (M, N, K), >= 0, and sum to 1 over K; got shape {p.shape}.")
    if len(p) < 2 or not p.shape[1]:
        return Calibration()
    said = p.argmax(axis=-1)  # (M, N)

    def loss(log_temperature: float) -> float:
        return _log_loss(_others(tempered(p, float(np.exp(log_temperature)))), said)

    grid = np.log(np.geomspace(_RANGE[0], _RANGE[1], _STEPS))
    least = int(np.argmin([loss(t) for t in grid]))
    bounds = grid[max(0, least - 1)], grid[min(_STEPS - 1, least + 1)]
    best = float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x))
    before, after = _others(p), _others(tempered(p, best))
    observed = float((after.argmax(axis=-1) == said).mean())
    return Calibration(best, p.shape[1], _mean_greatest(before), _mean_greatest(after), observed)


def _others(p: Floats) -> Floats:
    """Return for each member the mean of all others, (M, N, K)."""
    found: Floats = (p.sum(axis=0) - p) / (len(p) - 1)
    return found.clip(0)  # a difference of equal sums may be a hair below


def _mean_greatest(p: Floats) -> float:
    return float(p.max(axis=-1).mean())


def _log_loss(p: Floats, said: npt.NDArray[np.int64]) -> float:
    """Return the mean log loss of probabilities (M, N, K) for the clusters said (M, N), smoothed by a point in n."""
    logs = np.log(np.maximum(p, _TINY))
    smooth = 1 / (said.size + 1)
    hit = np.take_along_axis(logs, said[..., None], axis=-1).mean()
    return -float((1 - smooth) * hit + smooth * logs.mean())
