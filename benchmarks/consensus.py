"""How long the consensus of 15 members takes on 1,000,000 points: `python benchmarks/consensus.py`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before numpy is loaded

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.consensus import align, vote
from distclust.metrics import stability

N_MEMBERS, N_POINTS, N_CLUSTERS, NOISE = 15, 1_000_000, 10, 0.3


class Row(NamedTuple):
    """One measured figure and what it should be."""

    name: str
    value: float
    unit: str
    target: str
    holds: bool


def labellings() -> npt.NDArray[np.int64]:
    """Return (M, N) noisy copies of one labelling, each under names of its own."""
    rng = np.random.default_rng(0)
    truth = rng.integers(N_CLUSTERS, size=N_POINTS)
    noise = (
        np.where(rng.random(N_POINTS) < NOISE, rng.integers(N_CLUSTERS, size=N_POINTS), truth) for _ in range(N_MEMBERS)
    )
    return np.stack([rng.permutation(N_CLUSTERS)[row] for row in noise])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def at_most(name: str, value: float, limit: float) -> Row:
    return Row(name, value, "s", f"<= {limit:g}", value <= limit)


def measure() -> list[Row]:
    members = labellings()
    size = f"{N_MEMBERS} members, {N_POINTS:,} points, K = {N_CLUSTERS}"
    aligned = align(members, N_CLUSTERS)
    return [
        at_most(f"align and vote, {size}", seconds(lambda: vote(align(members, N_CLUSTERS))), 5),
        at_most(f"stability, {size}", seconds(lambda: stability(aligned)), 5),
    ]


def main() -> None:
    rows = measure()
    width = max(len(row.name) for row in rows)
    print(f"{'what':<{width}}  {'value':>8}  {'unit':<4}  {'target':<8}  holds")
    for row in rows:
        print(f"{row.name:<{width}}  {row.value:>8.2f}  {row.unit:<4}  {row.target:<8}  {'yes' if row.holds else 'NO'}")


if __name__ == "__main__":
    main()
