"""How fast SPC's autoencoder trains on a CPU, against the plain loop, on 16x16 images in batches of 64, one thread.

    python benchmarks/autoencoder.py

The plain loop: the layout that torch starts with, Adam without fusion, every point decoded. Every way is timed in turn,
five times over, and the ratios are those of the medians.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from distclust import SelectivePseudoLabel
from distclust.nets import PseudoClassifier, build_autoencoder

POINTS, BATCH, STEPS, REPEATS = 2048, 64, 16, 5


def plain(x: Tensor, targets: Tensor) -> object:
    """Return a step of the plain loop."""
    net, classifier = build_autoencoder("conv", (1, 16, 16), 20), PseudoClassifier(20, 10)
    optimiser = torch.optim.Adam([*net.parameters(), *classifier.parameters()], lr=1e-3, fused=False)

    def step(rows: Tensor) -> None:
        xb, chosen = x[rows], targets[rows]
        latents = net.encoder(xb)
        latents = latents + 0.45 * torch.randn_like(latents)
        error = (net.decoder(latents) - xb).abs().flatten(1).mean(1)
        cross_entropy = torch.nn.functional.cross_entropy(classifier(latents), chosen.clamp(min=0), reduction="none")
        loss = torch.where(chosen < 0, error, cross_entropy).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def ours(x: Tensor, targets: Tensor) -> object:
    """Return a step of a member."""
    member = SelectivePseudoLabel(scaling="none").member((1, 16, 16), 0)
    noise = torch.Generator()

    def step(rows: Tensor) -> None:
        cross_entropy, reconstruction = member._losses(x[rows], targets[rows], noise)
        member.optimiser.zero_grad()
        (cross_entropy + reconstruction).backward()
        member.optimiser.step()

    return step


def main() -> int:
    """Print the table."""
    torch.set_num_threads(1)
    x = torch.rand(POINTS, 1, 16, 16) * 2 - 1
    print("share of agreed points    plain    ours    ours over plain")
    for share in (0.0, 0.8, 0.95):
        targets = torch.where(torch.rand(POINTS) < share, torch.randint(10, (POINTS,)), -1)
        targets[0] = 0  # the member's loss has targets at all
        steps = {"plain": plain(x, targets), "ours": ours(x, targets)}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(REPEATS):
            for name, step in steps.items():
                start = time.perf_counter()
                for rows in torch.randperm(POINTS)[: STEPS * BATCH].split(BATCH):
                    step(rows)  # type: ignore[operator]
                seconds[name].append((time.perf_counter() - start) / STEPS)
        a, b = (1000 * statistics.median(seconds[name]) for name in ("plain", "ours"))
        print(f"{share:22.0%}  {a:6.1f} ms  {b:6.1f} ms  {b / a:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
