"""The ratios that the README promises, each measured against the plain way in the same run: `make bench`.

    python benchmarks/ratios.py [--data DIR]

DIR holds fashion_mnist.npz (default: DISTCLUST_DATA); without it the training ratio is measured on random images of
the same size, which cost the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import assign
import consensus
import numpy as np
import torch
from row import Row, at_most, show

from distclust import CombinationAssignment, LocalPool, RayPool, load, rounds
from distclust.methods.combination import CombinationMember
from distclust.seeding import generator


def images(folder: str | None) -> np.ndarray:
    if folder and (Path(folder) / "fashion_mnist.npz").is_file():
        return load("fashion-mnist", data_dir=folder).x[:20_480]
    return np.random.default_rng(0).integers(0, 256, size=(20_480, 1, 28, 28), dtype=np.uint8)


def training(x: np.ndarray) -> list[Row]:
    """An epoch of combination assignment against the same loop without clustering, one thread, in turns."""
    torch.set_num_threads(1)
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    settings = CombinationAssignment(n_epochs=1, n_rounds=1, schedule="constant")
    member = CombinationMember(settings, (1, 28, 28), 0)
    member._start(tensor)
    plain = CombinationMember(settings, (1, 28, 28), 0)
    plain.net.scaling.fit(tensor, "unit")
    plain.optimiser = torch.optim.Adam(plain.net.encoder.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    plain._loss = lambda xb, noise, round: plain.net.encode(xb).square().mean()  # type: ignore[method-assign]
    parts = tensor.split(2048)
    times: dict[str, list[float]] = {"with": [], "without": []}
    for round, part in enumerate(parts):
        for name, who in (("with", member), ("without", plain)):
            start = time.perf_counter()
            who._train(part, 0)
            if round >= 2:  # the first two warm up
                times[name].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    return [
        Row("CA training, ms a step", 1e3 * median(times["with"]) / 8, "ms"),
        Row("the loop without clustering", 1e3 * median(times["without"]) / 8, "ms"),
        at_most("CA training over that loop", median(ratios), "x", 1.10),
    ]


def ensemble(x: np.ndarray) -> list[Row]:
    """Four members on two CPUs of Ray against LocalPool; workers are up before the clock starts."""
    method = CombinationAssignment(n_members=4, n_epochs=1, n_rounds=1)
    small = CombinationAssignment(n_members=2, n_epochs=1, n_rounds=1)
    x = np.ascontiguousarray(x)

    def seconds(pool: LocalPool | RayPool) -> tuple[float, np.ndarray]:
        for _ in rounds(small, x[:1024], pool):  # libraries loaded, functions compiled
            pass
        start = time.perf_counter()
        last = list(rounds(method, x, pool))[-1]
        return time.perf_counter() - start, last.agreement.labels

    with tempfile.TemporaryDirectory() as folder:
        local, labels = seconds(LocalPool(device="cpu", storage=f"{folder}/local"))
        with RayPool(num_cpus=2, storage=f"{folder}/ray") as pool:
            remote, remote_labels = seconds(pool)
    assert np.array_equal(labels, remote_labels)
    ratio = remote / local
    return [
        Row("4 members, LocalPool", local, "s"),
        Row("4 members, RayPool on 2 CPUs, same labels", remote, "s"),
        at_most("RayPool over LocalPool", ratio, "x", 0.65),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DISTCLUST_DATA"))
    x = images(parser.parse_args().data)
    order = generator(0, "benchmark").permutation(len(x))
    return show([*assign.measure(), *consensus.measure(), *training(x[order]), *ensemble(x[order])])


if __name__ == "__main__":
    sys.exit(main())
