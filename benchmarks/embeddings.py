"""Accuracy and CPU seconds of the methods for vectors on real embeddings, compared with k-means and UMAP + k-means.

    python benchmarks/embeddings.py [METHOD ...] [--seeds 0 1 2 3 4] [--n-members 3] [--out FILE]

A method is k-means, umap-k-means, entropy, combination or selective; the default is all of them. Every .npz file with
`x` and `y` in DISTCLUST_DATA/features, or in ../shared/data/features next to the project, is a data set. All methods
have their defaults. Classes are used for the table alone. One line of JSON a run is appended to FILE; the table over
seeds is printed for each method as it is done. A first, small fit of each method is not timed: it compiles and imports.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans

import distclust
from distclust import metrics
from distclust.distributed.pool import threads
from distclust.labelling import label
from distclust.methods import method_class

HERE = Path(__file__).resolve().parent
ENSEMBLES = ("entropy", "combination", "selective")
Fit = Callable[[np.ndarray, int, int, int], dict[str, Any]]


def main() -> int:
    given = _arguments()
    folder = Path(os.environ.get("DISTCLUST_DATA", HERE.parent.parent / "shared" / "data")) / "features"
    files = sorted(folder.glob("*.npz"))
    if not files:
        print(f"no .npz files in {folder}; set DISTCLUST_DATA to the folder that holds features/", file=sys.stderr)
        return 2
    for path in files:
        with np.load(path, allow_pickle=False) as held:
            x, y = held["x"].astype(np.float32), held["y"].astype(np.int64)
        for method in given.methods:
            _show(path.stem, method, _runs(path.stem, x, y, method, given))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=[*FITS], metavar="METHOD")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--n-members", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "embeddings.jsonl")
    given = parser.parse_args()
    unknown = sorted(set(given.methods) - set(FITS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(FITS)}")
    return given


def _runs(name: str, x: np.ndarray, y: np.ndarray, method: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit once a seed, and append each run to the file."""
    n_clusters, runs = len(np.unique(y)), []
    with threads(1):
        FITS[method](x[: max(200, 5 * n_clusters)], n_clusters, 0, 2)
        for seed in given.seeds:
            start = time.process_time()
            found = FITS[method](x, n_clusters, seed, given.n_members)
            seconds = time.process_time() - start
            labels, members = found["labels"], found.get("members", [])
            run = {
                "data": name,
                "method": method,
                "seed": seed,
                "n_members": given.n_members if method in ENSEMBLES else 1,
                "accuracy": metrics.accuracy(labels, y),
                "member_accuracy": [metrics.accuracy(own, y) for own in members],
                "cpu_seconds": seconds,
                **found["scores"],
                **_machine(),
            }
            runs.append(run)
            with given.out.open("a") as out:
                out.write(json.dumps(run) + "\n")
    return runs


def _machine() -> dict[str, str]:
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": f"distclust {distclust.__version__}, torch {torch.__version__}, numpy {np.__version__}",
    }


def _ensemble(method: str) -> Fit:
    def fit(x: np.ndarray, n_clusters: int, seed: int, n_members: int) -> dict[str, Any]:
        model = method_class(method)(n_clusters=n_clusters, n_members=n_members, random_state=seed).fit(x)
        last = model.last_round_
        return {
            "labels": model.labels_,
            "members": [output.labels for output in last.outputs if output.status == "voting"],
            "scores": {
                "stability": metrics.stability(last.agreement.aligned),
                "agreed": float(model.agreed_.mean()),
                "rounds": last.index + 1,
            },
        }

    return fit


def _k_means(x: np.ndarray, n_clusters: int, seed: int, n_members: int) -> dict[str, Any]:
    return {"labels": KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(x), "scores": {}}


def _k_means_10(x: np.ndarray, n_clusters: int, seed: int, n_members: int) -> dict[str, Any]:
    return {"labels": KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(x), "scores": {}}


def _umap(x: np.ndarray, n_clusters: int, seed: int, n_members: int) -> dict[str, Any]:
    return {"labels": label(x, n_clusters, by="umap-k-means", seed=seed), "scores": {}}


FITS: dict[str, Fit] = {
    "k-means": _k_means,
    "k-means-best-of-10": _k_means_10,
    "umap-k-means": _umap,
    **{method: _ensemble(method) for method in ENSEMBLES},
}


def _show(name: str, method: str, runs: list[dict[str, Any]]) -> None:
    accuracy = 100 * np.array([run["accuracy"] for run in runs])
    seconds = np.mean([run["cpu_seconds"] for run in runs])
    own = [100 * value for run in runs for value in run["member_accuracy"]]
    members = f"  members {np.mean(own):5.1f} ({np.std(own):.1f})" if own else ""
    agreed = f"  stability {np.mean([run['stability'] for run in runs]):.2f}" if own else ""
    print(
        f"{name:<22} {method:<19} {accuracy.mean():5.1f} ({accuracy.std():.1f})%{members}{agreed}"
        f"  {seconds:6.1f} CPU s  {len(runs)} seeds",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
