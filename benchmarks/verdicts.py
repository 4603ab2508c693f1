"""The verdict on data sets with groups and without: the table in docs/trust.md.

    python benchmarks/verdicts.py [--methods combination,selective] [--out FILE]

Half of the data sets have no groups to find: noise, one long group, shuffled pixels, repeated rows, a mistake of
units. Wrong is a verdict of "good" where there are no groups or the labels miss them (adjusted Rand index below 0.5),
and one of "do not use" where the labels are right (above 0.9). Classes are read for the table alone, after the verdict.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import distclust
from distclust import metrics


class Case(NamedTuple):
    """A data set: x, its classes (None = there are no groups to find), and the number of clusters asked for."""

    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any] | None
    n_clusters: int


def _groups(sizes: list[int], distance: float, n_features: int, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((n_features, n_features)))[0]
    x = [rng.standard_normal((n, n_features)) + distance * directions[k] for k, n in enumerate(sizes)]
    return Case(np.concatenate(x), np.repeat(np.arange(len(sizes)), sizes), len(sizes))


def _noise(n_features: int, n_clusters: int, *, scale: float = 1.0) -> Case:
    x = np.random.default_rng(0).standard_normal((800, n_features))
    x[:, 0] *= scale
    return Case(x, None, n_clusters)


def _uniform() -> Case:
    return Case(np.random.default_rng(0).random((800, 3)), None, 4)


def _heavy_tails() -> Case:
    return Case(np.random.default_rng(0).standard_t(2, (800, 4)), None, 3)


def _digits() -> Case:
    data = distclust.load("digits")
    return Case(data.x, data.y, 10)


def _shuffled_pixels() -> Case:
    x = np.random.default_rng(0).permuted(_digits().x.reshape(-1, 64), axis=1)
    return Case(x.reshape(-1, 1, 8, 8), None, 10)


def _duplicated_noise() -> Case:
    return Case(np.repeat(np.random.default_rng(0).standard_normal((100, 8)), 8, axis=0), None, 4)


def _mixed_units() -> Case:
    """Noise of which every third row has its first feature in millimeters in place of meters."""
    x = np.random.default_rng(0).standard_normal((900, 6)) + 5
    x[::3, 0] *= 1000
    return Case(x, None, 3)


def _moons() -> Case:
    data = distclust.load("moons", n_samples=800)
    return Case(data.x, data.y, 2)


GROUPS: dict[str, Callable[[], Case]] = {
    "5 groups of 160, 8 sd apart": lambda: _groups([160] * 5, 8, 10),
    "3 groups of 250, 6 sd apart": lambda: _groups([250] * 3, 6, 4),
    "990 and 10, 30 sd apart": lambda: _groups([990, 10], 30, 6),
    "900 and 100, 12 sd apart": lambda: _groups([900, 100], 12, 6),
    "700, 200, 60, 30, 10, 12 sd apart": lambda: _groups([700, 200, 60, 30, 10], 12, 8),
    "two moons": _moons,
    "digits": _digits,
}
NO_GROUPS: dict[str, Callable[[], Case]] = {
    "one Gaussian, 8 features": lambda: _noise(8, 4),
    "one long Gaussian": lambda: _noise(5, 2, scale=6.0),
    "uniform in a cube": _uniform,
    "heavy tails (t, 2 degrees)": _heavy_tails,
    "digits, pixels shuffled": _shuffled_pixels,
    "100 rows of noise, 8 times each": _duplicated_noise,
    "noise, a third of it in other units": _mixed_units,
}
METHODS: dict[str, Callable[[int], Any]] = {
    "combination": lambda k: distclust.CombinationAssignment(n_clusters=k, n_members=5),
    "entropy": lambda k: distclust.EntropyClustering(n_clusters=k, n_members=5),
    "selective": lambda k: distclust.SelectivePseudoLabel(n_clusters=k, n_members=5),
}


def is_wrong(level: str, found: float | None) -> bool:
    """Return whether a verdict misleads.

    Args:
        level: of the verdict.
        found: adjusted Rand index of the labels with the groups; None = there are no groups.
    """
    if found is None or found < 0.5:
        return level == "good"
    return found > 0.9 and level == "do not use"


def main() -> int:
    """Print the table, and write it if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    names = arguments.methods.split(",")
    lines = [f"| data | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    wrong = 0
    for quality, cases in (("groups", GROUPS), ("no groups", NO_GROUPS)):
        for title, make in cases.items():
            case, cells = make(), []
            for name in names:
                start = time.perf_counter()
                model = METHODS[name](case.n_clusters).fit(case.x)
                verdict = distclust.judge(model, case.x)
                found = None if case.y is None else metrics.adjusted_rand_index(model.labels_, case.y)
                wrong += is_wrong(verdict.level, found)
                cells.append(verdict.name if found is None else f"{verdict.name}, ARI {found:.2f}")
                seconds = time.perf_counter() - start
                print(f"{title}, {name}, {seconds:.0f} s: {verdict.line}", file=sys.stderr, flush=True)
            lines.append(f"| {title} ({quality}) | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(f"{wrong} wrong verdicts")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
