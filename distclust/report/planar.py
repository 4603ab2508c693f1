"""Two-dimensional examples of linear entropy clustering and soft K-means, for figures 1, 3, 4 and 8.

They stand on strips of points; soft K-means here is eq. (11) as a mean over points and without its constant. Equations
are those of *Discriminative entropy clustering and its relation to K-means and SVM*, submitted to TPAMI, 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from distclust.contracts import Array, Labels
from distclust.seeding import generator

if TYPE_CHECKING:
    from torch import Tensor

SMALL_GAMMA = 1e-5  # of figures 1, 3 and 8: the greatest for which the paper's figure 3 holds

_TURN = math.radians(30)  # of the strips
_HALF_THICKNESS = 0.375
_START_NORM = 3.0  # of random linear models, on data of unit spread
_MAX_STEPS = 5000


# Points of the plane


class Strips(NamedTuple):
    """Parallel strips of points."""

    x: Array  # (N, 2) float64
    classes: Labels  # (N,) which strip


class _Wheel(NamedTuple):
    """How strips lie around the origin: each is turned by 360 / K degrees from the one before."""

    length: float
    distance: float  # of a strip's middle line from the origin
    shift: float  # of its middle along that line


_WHEELS = {2: _Wheel(6.0, 1.275, 0.0), 3: _Wheel(7.0, 2.6, 1.0)}


def strips(n_clusters: int = 2, n_per_strip: int = 100, seed: int = 0) -> Strips:
    """Return strips of uniform points around the origin.

    Two are parallel, 6 long and 0.75 thick, with 1.8 between them. On this scale the four gamma of figure 4 show both
    ends of rEC: at 0.01 it still has the greatest margin, at 0.15 no more. Three are 7 long and lie like the sides of a
    triangle.

    Args:
        n_clusters: number of strips K, 2 or 3.
        n_per_strip: points a strip, >= 1.
        seed: >= 0.
    """
    rng, wheel = generator(seed, "strips"), _WHEELS[n_clusters]
    classes = np.arange(n_clusters * n_per_strip) % n_clusters
    along = wheel.shift + wheel.length * rng.uniform(-0.5, 0.5, len(classes))
    across = wheel.distance + rng.uniform(-_HALF_THICKNESS, _HALF_THICKNESS, len(classes))
    turns = _TURN + 2 * math.pi * classes / n_clusters
    x = along * np.cos(turns) - across * np.sin(turns), along * np.sin(turns) + across * np.cos(turns)
    return Strips(np.stack(x, 1), classes)


def degrees_between(a: Array, b: Array) -> float:
    """Return the angle between two lines of directions (D,), 0 .. 90 degrees."""
    cosine = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    return math.degrees(math.acos(min(1.0, float(cosine))))


def svm_normal(x: Array, classes: Labels) -> Array:
    """Return the normal (D,) of the split of greatest margin between two classes.

    Args:
        x: (N, D), linearly separable.
        classes: (N,) 0 or 1.
    """
    from sklearn.svm import SVC

    normal: Array = SVC(kernel="linear", C=1e6).fit(x, classes).coef_[0]
    return normal


def same_clusters(a: Labels, b: Labels) -> bool:
    """Return whether two labellings (N,) are the same up to the clusters' names."""
    from distclust.metrics import contingency

    return bool((np.count_nonzero(contingency(a, b), axis=0) <= 1).all()) and len(np.unique(a)) == len(np.unique(b))


# Linear entropy clustering


class LinearSoftmax(NamedTuple):
    """A linear softmax model, eq. (3), with its loss."""

    weights: Array  # (K, D)
    bias: Array  # (K,)
    loss: float = math.nan

    def posterior(self, x: Array) -> Array:
        """Return the softmax of points (N, D), (N, K)."""
        from scipy.special import softmax

        probs: Array = softmax(x @ self.weights.T + self.bias, axis=1)
        return probs

    def labels(self, x: Array) -> Labels:
        """Return the most probable cluster of points (N, D), (N,)."""
        return np.argmax(x @ self.weights.T + self.bias, axis=1)

    def gap(self, x: Array) -> float:
        """Return the width of the empty band around the boundary of two clusters, for points (N, D)."""
        normal, offset = self.weights[0] - self.weights[1], self.bias[0] - self.bias[1]
        return float(2 * np.abs(x @ normal + offset).min() / np.linalg.norm(normal))


def entropy_minimum(
    x: Array, n_clusters: int, gamma: float, start: LinearSoftmax | None = None, n_starts: int = 30, seed: int = 0
) -> LinearSoftmax:
    """Return the linear model at a minimum of eq. (14): the one below `start`, or the lowest from random starts.

    Args:
        x: (N, D) float64.
        n_clusters: K, >= 2.
        gamma: weight of ||v||^2 without the bias, > 0.
        start: where to descend from; None = from random models.
        n_starts: number of random models, >= 1.
        seed: of the random models, >= 0.
    """
    from distclust import losses

    def loss(logits: Tensor, weights: Tensor) -> Tensor:
        return losses.negative_mutual_information(logits) + gamma * weights.square().sum()

    starts = [start] if start is not None else _random_models(x, n_clusters, n_starts, seed)
    return min((_descended(x, loss, model) for model in starts), key=lambda model: model.loss)


def linear_fit(x: Array, labels: Labels, n_clusters: int, gamma: float = SMALL_GAMMA) -> LinearSoftmax:
    """Return the logistic regression on hard labels with the norm of eq. (14): a start in their basin.

    Args:
        x: (N, D) float64.
        labels: (N,) 0 .. K - 1.
        n_clusters: K, >= 2.
        gamma: weight of ||v||^2 without the bias, > 0.
    """
    import torch

    from distclust import losses

    targets = torch.from_numpy(np.eye(n_clusters)[labels])  # (N, K)

    def loss(logits: Tensor, weights: Tensor) -> Tensor:
        return losses.cross_entropy(logits, targets) + gamma * weights.square().sum()

    return _descended(x, loss, LinearSoftmax(np.zeros((n_clusters, x.shape[1])), np.zeros(n_clusters)))


def _random_models(x: Array, n_clusters: int, n_starts: int, seed: int) -> Iterator[LinearSoftmax]:
    """Yield models with normal weights, each logit zero at a random point."""
    rng = generator(seed, "linear models to start from")
    for _ in range(n_starts):
        weights = _START_NORM / x.std() * rng.normal(size=(n_clusters, x.shape[1]))
        yield LinearSoftmax(weights, -(weights * x[rng.integers(len(x), size=n_clusters)]).sum(1))


def _descended(x: Array, loss: Callable[[Tensor, Tensor], Tensor], start: LinearSoftmax) -> LinearSoftmax:
    """Return the model at the minimum of a loss of logits (N, K) and weights (K, D) that L-BFGS finds from a start."""
    import torch
    from scipy.optimize import minimize

    rows, shape = torch.from_numpy(x), start.weights.shape

    def value_and_slope(packed: Array) -> tuple[float, Array]:
        flat = torch.tensor(packed, requires_grad=True)
        weights, bias = flat[: -shape[0]].reshape(shape), flat[-shape[0] :]
        value = loss(rows @ weights.T + bias, weights)
        (slope,) = torch.autograd.grad(value, flat)
        return value.item(), slope.numpy()

    options = {"maxiter": _MAX_STEPS, "maxfun": 2 * _MAX_STEPS, "ftol": 1e-15, "gtol": 1e-9}
    packed = np.concatenate([start.weights.ravel(), start.bias])
    found = minimize(value_and_slope, packed, jac=True, method="L-BFGS-B", options=options)
    return LinearSoftmax(found.x[: -shape[0]].reshape(shape), found.x[-shape[0] :], float(found.fun))


# Soft K-means


class SoftKMeans(NamedTuple):
    """Centroids of soft K-means, with their loss: eq. (11) as a mean over points, without its constant ||X||^2."""

    centroids: Array  # (K, D)
    gamma: float
    loss: float = math.nan

    def posterior(self, x: Array) -> Array:
        """Return the soft labels of least loss for points (N, D), (N, K)."""
        from scipy.special import softmax

        probs: Array = softmax(-_squared_distances(x, self.centroids) / self.gamma, axis=1)
        return probs

    def labels(self, x: Array) -> Labels:
        """Return the nearest centroid of points (N, D), (N,)."""
        return np.argmin(_squared_distances(x, self.centroids), axis=1)


def soft_k_means(x: Array, gamma: float, centroids: Array) -> SoftKMeans:
    """Return the minimum of eq. (11) that Lloyd's algorithm finds: soft labels and their means in turn.

    Args:
        x: (N, D) float64.
        gamma: weight of the entropy of the soft labels, > 0.
        centroids: (K, D) to start from.
    """
    from scipy.special import logsumexp

    for _ in range(_MAX_STEPS):
        soft = SoftKMeans(centroids, gamma).posterior(x)  # (N, K)
        masses = soft.sum(0)  # (K,)
        means = np.where(masses[:, None] > 0, soft.T @ x / np.maximum(masses, 1e-300)[:, None], centroids)
        moved, centroids = float(np.abs(means - centroids).max()), means
        if moved < 1e-10:
            break
    # with the best soft labels, sum_k y_k d_k - gamma H(y) is -gamma ln sum_k exp(-d_k / gamma)
    loss = -gamma * logsumexp(-_squared_distances(x, centroids) / gamma, axis=1).mean()
    return SoftKMeans(centroids, gamma, float(loss))


def soft_k_means_minimum(x: Array, n_clusters: int, gamma: float, n_starts: int = 20, seed: int = 0) -> SoftKMeans:
    """Return the lowest minimum of eq. (11) from random points as centroids; arguments as in `entropy_minimum`."""
    rng = generator(seed, "centroids to start from")
    starts = [x[rng.choice(len(x), n_clusters, replace=False)] for _ in range(n_starts)]
    return min((soft_k_means(x, gamma, start) for start in starts), key=lambda found: found.loss)


def means_of(x: Array, labels: Labels, n_clusters: int) -> Array:
    """Return the mean of each cluster, (K, D); none may be empty."""
    return np.stack([x[labels == k].mean(0) for k in range(n_clusters)])


def _squared_distances(x: Array, centroids: Array) -> Array:
    """Return (N, K)."""
    return np.asarray(((x[:, None] - centroids) ** 2).sum(2))


# The four minima of figure 3


class Minima(NamedTuple):
    """The minima of figure 3, and whether each loss leads back from the other's."""

    entropy_global: LinearSoftmax  # (a)
    entropy_local: LinearSoftmax  # (b), from (d)
    k_means_local: SoftKMeans  # (c), from (a)
    k_means_global: SoftKMeans  # (d)
    entropy_returns: bool  # rEC from (c) ends in the clusters of (a)
    k_means_returns: bool  # Lloyd from (b) ends in the clusters of (d)


def minima(x: Array, seed: int = 0) -> Minima:
    """Return the global and local minima of eqs. (14) and (11) at gamma 1e-5 for two clusters; figure 3.

    Args:
        x: (N, D) float64.
        seed: of the starts, >= 0.
    """
    lowest = entropy_minimum(x, 2, SMALL_GAMMA, seed=seed)
    compact = soft_k_means_minimum(x, 2, SMALL_GAMMA, seed=seed)
    local = _entropy_from(x, compact.labels(x))
    split = _k_means_from(x, lowest.labels(x))
    return Minima(
        lowest,
        local,
        split,
        compact,
        entropy_returns=same_clusters(_entropy_from(x, split.labels(x)).labels(x), lowest.labels(x)),
        k_means_returns=same_clusters(_k_means_from(x, local.labels(x)).labels(x), compact.labels(x)),
    )


def _entropy_from(x: Array, labels: Labels) -> LinearSoftmax:
    return entropy_minimum(x, 2, SMALL_GAMMA, start=linear_fit(x, labels, 2))


def _k_means_from(x: Array, labels: Labels) -> SoftKMeans:
    return soft_k_means(x, SMALL_GAMMA, means_of(x, labels, 2))
