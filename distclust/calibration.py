"""Probabilities that keep their word without a label: one temperature for all members, fitted to one another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.errors import DataError

Floats = np.ndarray[Any, np.dtype[np.float64]]

_RANGE = (1e-2, 1e2)  # of the temperature


class Calibration(NamedTuple):
    """What was found when the members' probabilities were held against one another.

    Args:
        temperature: what `tempered` is to take; below 1 sharpens, above 1 softens, 1 leaves as it is.
        n_points: points that were looked at, 0 where fewer than two members could be.
        uncalibrated: mean greatest probability that the others give a cluster, as they say it; nan without points.
        calibrated: the same with the temperature.
        observed: how often the member that was left out says that cluster.
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
    """Return the temperature with which members are as sure as they are right about one another.

    Each member in turn is left out; the mean of the others' tempered probabilities is held against the cluster that it
    finds most probable. The temperature is the one at which the others' mean confidence, the greatest probability, is
    how often that cluster is theirs.

    Args:
        probabilities: (M, N, K) of M members that name their clusters alike, rows sum to 1.

    Returns:
        with a temperature of 0.01 to 100; 1 with fewer than two members or no points.

    Raises:
        DataError: not (M, N, K), or not probabilities.

    Source:
        mean confidence = accuracy: Clarte et al. 2023, *Expectation consistency for calibration of neural networks*.
        Another member in the place of the true class is ours.
    """
    from scipy.optimize import brentq

    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 3 or not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(axis=-1), 1, atol=1e-4):
        raise DataError(f"probabilities must be (M, N, K), >= 0, and sum to 1 over K; got shape {p.shape}.")
    if len(p) < 2 or not p.shape[1]:
        return Calibration()
    said = p.argmax(axis=-1)  # (M, N)

    def excess(log_temperature: float) -> float:
        confidence, observed = _consulted(tempered(p, float(np.exp(log_temperature))), said)
        return confidence - (said.size * observed + 1) / (said.size + 2)  # never quite certain, by Laplace's rule

    low, high = np.log(_RANGE)
    if excess(low) <= 0:
        best = low
    elif excess(high) >= 0:
        best = high
    else:
        best = brentq(excess, low, high, xtol=1e-6)
    temperature = float(np.exp(best))
    confidence, observed = _consulted(tempered(p, temperature), said)
    return Calibration(temperature, p.shape[1], _consulted(p, said)[0], confidence, observed)


def _consulted(p: Floats, said: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return how sure the others are of a cluster on average, and how often the member left out says it.

    Args:
        p: (M, N, K) probabilities.
        said: (M, N) clusters.
    """
    others = (p.sum(axis=0) - p) / (len(p) - 1)  # (M, N, K)
    return float(others.max(axis=-1).mean()), float((others.argmax(axis=-1) == said).mean())
