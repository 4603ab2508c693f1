"""How long UMAP takes with exact neighbours and with its own index, and how well both keep neighbourhoods.

    python benchmarks/labelling.py [--data DIR] [--repeats 2]

On the 9,298 digits of USPS, 50 principal components, one thread. Each time is the least of several fresh processes, in
turns; cold = importing and the first call, warm = the second or third call. A bit more than a minute a repeat. The very
first run pays for files that numba writes beside umap and pynndescent; the least of two leaves that out. Warm, both
should take the same, for nearly all of it is UMAP's layout; 5% is what a busy machine leaves in doubt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from row import Row, at_least, at_most, show

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
N_NEIGHBORS, N_JUDGED = 10, 2_000
Points = npt.NDArray[np.float32]


def exact(latents: Points) -> Points:
    from distclust.labelling import embed

    return embed(latents, 0, N_NEIGHBORS)


def default(latents: Points) -> Points:
    from umap import UMAP

    positions: Points = UMAP(N_NEIGHBORS, min_dist=0.0, random_state=0, n_jobs=1).fit_transform(latents)
    return positions


WAYS: dict[str, Callable[[Points], Points]] = {"exact": exact, "default": default}


def child(way: str, folder: Path) -> None:
    """Time one way in this process, which has imported nothing but numpy."""
    latents = np.load(folder / "latents.npy")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        positions = WAYS[way](latents)
        seconds.append(time.perf_counter() - start)
    np.save(folder / f"{way}.npy", positions)
    print(json.dumps({"cold": seconds[0], "warm": min(seconds[1:])}))


def fresh(way: str, folder: Path) -> dict[str, float]:
    """Time one way in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", way, "--folder", str(folder)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=True)
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times


def usps(data: str | None) -> Points:
    """Return the digits' first 50 principal components, (9298, 50)."""
    from sklearn.decomposition import PCA

    from distclust import load

    digits = load("usps", **({"data_dir": data} if data else {})).x
    flat = digits.reshape(len(digits), -1).astype(np.float32) / 255
    return np.asarray(PCA(50, random_state=0).fit_transform(flat), dtype=np.float32)


def measure(data: str | None = None, repeats: int = 2) -> list[Row]:
    from sklearn.manifold import trustworthiness

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        latents = usps(data)
        np.save(folder / "latents.npy", latents)
        runs = [{way: fresh(way, folder) for way in ("default", "exact")} for _ in range(repeats)]
        judged = np.random.default_rng(0).permutation(len(latents))[:N_JUDGED]
        trust = {
            way: trustworthiness(latents[judged], np.load(folder / f"{way}.npy")[judged], n_neighbors=N_NEIGHBORS)
            for way in WAYS
        }
    least = {(way, when): min(run[way][when] for run in runs) for way in WAYS for when in ("cold", "warm")}
    rows = [Row(f"UMAP, {way}, {when}", least[way, when], "s") for when in ("cold", "warm") for way in WAYS]
    return [
        *rows,
        at_most("exact over default, cold", least["exact", "cold"] / least["default", "cold"], "x", 0.4),
        at_most("exact over default, warm", least["exact", "warm"] / least["default", "warm"], "x", 1.05),
        Row("trustworthiness, default", trust["default"], ""),
        at_least("trustworthiness, exact", trust["exact"], "", round(trust["default"] - 0.005, 3)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with usps.npz (default: DISTCLUST_DATA, else a download)")
    parser.add_argument("--repeats", type=int, default=2, help="fresh processes a way")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder)
        return 0
    return show(measure(arguments.data, arguments.repeats))


if __name__ == "__main__":
    sys.exit(main())
