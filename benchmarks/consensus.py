"""How long the consensus of 15 members takes on 1,000,000 points: `python benchmarks/consensus.py`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before numpy is loaded

import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from row import Row, at_most, show

from distclust.consensus import align, consensus, vote
from distclust.metrics import stability

N_MEMBERS, N_POINTS, N_CLUSTERS, NOISE = 15, 1_000_000, 10, 0.3
HARD = 0.005  # the share of points on which members differ where they mostly agree


def labellings(hard: float = 1.0) -> npt.NDArray[np.int64]:
    """Return (M, N) copies of one labelling, noisy on a share of the points, each under names of its own."""
    rng = np.random.default_rng(0)
    truth = rng.integers(N_CLUSTERS, size=N_POINTS)
    noisy = NOISE * (np.arange(N_POINTS) < hard * N_POINTS)
    noise = (
        np.where(rng.random(N_POINTS) < noisy, rng.integers(N_CLUSTERS, size=N_POINTS), truth) for _ in range(N_MEMBERS)
    )
    return np.stack([rng.permutation(N_CLUSTERS)[row] for row in noise])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure() -> list[Row]:
    members = labellings()
    size = f"{N_MEMBERS} members, {N_POINTS:,} points, K = {N_CLUSTERS}"
    aligned = align(members, N_CLUSTERS)
    return [
        at_most(f"align and vote, {size}", seconds(lambda: vote(align(members, N_CLUSTERS))), "s", 5),
        at_most(f"stability, {size}", seconds(lambda: stability(aligned)), "s", 5),
        *(timed(method, members, "noise everywhere") for method in ("weighted-vote", "bipartite")),
        *(timed(method, labellings(HARD), "few label tuples") for method in ("co-association", "bipartite")),
    ]


def timed(method: str, members: npt.NDArray[np.int64], what: str) -> Row:
    return Row(f"{method}, {what}", seconds(lambda: consensus(members, N_CLUSTERS, method=method)), "s")


if __name__ == "__main__":
    sys.exit(show(measure()))
