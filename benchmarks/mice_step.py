"""What a training step of MiCE costs, and how near it comes to the device's ceiling.

    python benchmarks/mice_step.py [--device cuda] [--encoder resnet34] [--shape 3 32 32] [--batch-size 256]
                                   [--n-clusters 10] [--precision auto] [--compile] [--steps 50] [--out FILE]

Prints the seconds of a step, images a second, seconds an epoch of CIFAR-10's 60,000 images (the paper: 108 s on a GTX
1080 Ti, 30 hours for 1,000), the share of the views in a step, the greatest memory, and the step's floating-point
operations over what a product of large matrices reaches in the same precision. The images are random: no cost depends
on them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import distclust
from distclust import MiCE
from distclust.methods.mice import MiCEMember
from distclust.seeding import torch_generator

_CIFAR, _PAPER = 60_000, 108.0  # images; seconds an epoch
_SIDE = {"cuda": 8192, "cpu": 1024}  # of the matrices of the ceiling


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Return the mean seconds of some work, after three that do not count."""
    for _ in range(3):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def ceiling(device: str, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a product of large matrices."""
    side = _SIDE["cpu" if device == "cpu" else "cuda"]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, device, 10)


def measured(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the figures of a step."""
    device, batch = arguments.device, arguments.batch_size
    settings = MiCE(
        n_clusters=arguments.n_clusters,
        encoder=arguments.encoder,
        batch_size=batch,
        precision=arguments.precision,
        compile=arguments.compile,
        queue_size=16384,
        views="moco" if arguments.shape[0] == 3 else "digits",
        n_epochs=1,
        n_rounds=1,
    )
    member = MiCEMember(settings, tuple(arguments.shape), 0, device)
    shape = (4 * batch, *arguments.shape)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size=shape).astype(np.uint8)).to(device)
    member._start(images)
    member.queue.filled = 16384  # a step costs most with a full queue
    member.queue.rows.normal_()
    member.net.train()
    member.teacher.train()
    noise, order = torch_generator(0, "views", device=device), np.arange(batch)
    with FlopCounterMode(display=False) as counter:
        member._step(images[:batch], noise, order)
    scaled = member.net.student.scaling(images[:batch])
    of_views = 3 * seconds(lambda: member.view(scaled, noise), device, arguments.steps)
    of_step = seconds(lambda: member._step(images[:batch], noise, order), device, arguments.steps)
    half = member._autocast()._enabled
    top = ceiling(device, torch.bfloat16 if half else torch.float32)
    return {
        "encoder": arguments.encoder,
        "shape": arguments.shape,
        "batch_size": batch,
        "n_clusters": arguments.n_clusters,
        "precision": "bfloat16" if half else "float32",
        "compile": arguments.compile,
        "seconds_a_step": of_step,
        "images_a_second": batch / of_step,
        "seconds_an_epoch_of_60000": of_step * _CIFAR / batch,
        "epoch_of_the_paper_over_ours": _PAPER * batch / (of_step * _CIFAR),
        "share_of_views": of_views / of_step,
        "share_of_ceiling": counter.get_total_flops() / of_step / top,
        "ceiling_teraflops": top / 1e12,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device != "cpu" else None,
        "device": torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads",
        "date": datetime.date.today().isoformat(),
        "versions": f"distclust {distclust.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def main() -> None:
    """Measure, print, and append the figures to FILE if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoder", default="resnet34", choices=["resnet34", "resnet18", "small-resnet"])
    parser.add_argument("--shape", type=int, nargs=3, default=[3, 32, 32])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--n-clusters", type=int, default=10)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, help="file that a line of JSON is appended to")
    arguments = parser.parse_args()
    found = measured(arguments)
    for name, value in found.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
