"""Time of the assignments against the plain ways to compute them: `python benchmarks/assign.py`.

Medians over repeats, both sides of a ratio in turn in the same run; nothing that is timed uses a second thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from row import Row, at_least, at_most, show
from scipy.optimize import linear_sum_assignment

from distclust import assign
from distclust.contracts import Array


def latent_costs(n_samples: int, n_clusters: int) -> Array:
    """Return (N, K) costs of normal latents in 128 dimensions against normal centroids at variance 100, float32."""
    rng = np.random.default_rng(0)
    z, centroids = rng.normal(size=(n_samples, 128)), rng.normal(size=(n_clusters, 128))
    squares = (z**2).sum(axis=1)[:, None] - 2 * z @ centroids.T + (centroids**2).sum(axis=1)
    return np.asarray(squares / 200, dtype=np.float32)


def literal_greedy(cost: Array) -> Array:
    """Algorithm 1 as it is printed, line by line, with its names, in units of negative log-likelihood."""
    labels = np.zeros(len(cost), dtype=np.int64)
    counts = np.zeros(cost.shape[1], dtype=np.int64)
    is_assigned = np.zeros(len(cost), dtype=bool)
    distances = cost.astype(np.float64)
    for _ in range(len(cost)):
        table = distances + np.log(counts + 1)
        a, k = np.unravel_index(np.where(is_assigned[:, None], np.inf, table).argmin(), table.shape)
        counts[k] += 1
        is_assigned[a] = True
        labels[a] = k
    return labels


def expanded_exact(cost: Array) -> Array:
    """A general solver on N places a cluster, of which the j-th costs log j more."""
    n_samples = len(cost)
    places = cost.astype(np.float64)[:, :, None] + np.log(np.arange(1, n_samples + 1))
    place: Array = linear_sum_assignment(places.reshape(n_samples, -1))[1]
    return place // n_samples


def objective(cost: Array, labels: Array) -> float:
    """Eq. (5)."""
    sizes = np.bincount(labels, minlength=cost.shape[1])
    steps = sum(float(np.log(np.arange(1, size + 1)).sum()) for size in sizes)
    return float(cost.astype(np.float64)[np.arange(len(cost)), labels].sum()) + steps


def milliseconds(*calls: Callable[[], object], repeats: int, loops: tuple[int, ...] | None = None) -> list[float]:
    """Return the median time of each call in ms; the calls take turns, call j running loops[j] times a turn."""
    loops = loops or (1,) * len(calls)
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, n, taken in zip(calls, loops, times, strict=True):
            start = time.perf_counter()
            for _ in range(n):
                call()
            taken.append((time.perf_counter() - start) / n * 1e3)
    return [median(taken) for taken in times]


def measure() -> list[Row]:
    """Return all rows; about ten seconds."""
    return [*_measure_greedy(), *_measure_exact(), *_measure_large()]


def _measure_greedy() -> list[Row]:
    cost = latent_costs(256, 10)
    tensor = torch.from_numpy(cost)
    assert (assign.greedy(cost) == literal_greedy(cost)).all()
    fast, literal = milliseconds(
        lambda: assign.greedy(tensor), lambda: literal_greedy(cost), repeats=51, loops=(100, 1)
    )
    return [
        at_most("greedy, N=256 K=10, float32 tensor", fast, "ms", 0.25),
        Row("literal loop, N=256 K=10", literal, "ms"),
        at_least("literal loop over greedy", literal / fast, "x", 100),
    ]


def _measure_exact() -> list[Row]:
    cost, wide = latent_costs(256, 10), latent_costs(256, 100)
    assert abs(objective(cost, assign.exact(cost)) - objective(cost, expanded_exact(cost))) < 1e-6
    fast, general = milliseconds(lambda: assign.exact(cost), lambda: expanded_exact(cost), repeats=15, loops=(50, 1))
    (hundred,) = milliseconds(lambda: assign.exact(wide), repeats=51)
    return [
        at_most("exact, N=256 K=10", fast, "ms", 1),
        Row("linear_sum_assignment, N=256 K=10", general, "ms"),
        at_least("linear_sum_assignment over exact", general / fast, "x", 50),
        at_most("exact, N=256 K=100", hundred, "ms", 20),
    ]


def _measure_large() -> list[Row]:
    rows = []
    for n_samples, n_clusters in ((10_000, 10), (10_000, 100)):
        cost = latent_costs(n_samples, n_clusters)
        greedy, exact = milliseconds(lambda c=cost: assign.greedy(c), lambda c=cost: assign.exact(c), repeats=3)  # type: ignore[misc]
        rows += [
            Row(f"greedy, N={n_samples} K={n_clusters}", greedy, "ms"),
            Row(f"exact, N={n_samples} K={n_clusters}", exact, "ms"),
        ]
    return rows


if __name__ == "__main__":
    sys.exit(show(measure()))
