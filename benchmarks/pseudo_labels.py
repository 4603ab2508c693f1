"""The pseudo-labels of entropy clustering: EM, Newton's method, the interior-point method (the paper's Table 1).

    python benchmarks/pseudo_labels.py

Predictions are softmaxes of normal logits, lambda is 100, one thread, float64. "EM, 2 steps" is what the paper's
Table 1 calls converged; "EM" and "squared EM" (Varadhan & Roland 2008) run until no label moves by 1e-8 or for 3,000
steps. The gap is the loss above the least that any of them finds. Times are medians of 5, of one run of the slow ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from distclust.assign import pseudo_labels_em, pseudo_labels_optimal

LAM, MOST = 100.0, 3000


def loss(sigma: Tensor, soft: Tensor) -> float:
    """H(sigma, y) + lambda KL(u || mean y) of eq. (42), u uniform."""
    share = 1 / sigma.shape[1]
    fairness = (share * (share / soft.mean(0)).log()).sum()
    return float(-(sigma * soft.log()).sum(1).mean() + LAM * fairness)


def newton(sigma: Tensor) -> tuple[Tensor, int]:
    """Newton's method on y with the rows' sums held, by its K x K system (Kelley 1995; Boyd & Vandenberghe, 10.2)."""
    n, k = sigma.shape
    soft = torch.full_like(sigma, 1 / k)
    for step in range(1, 101):  # noqa: B007
        volume = soft.sum(0)
        slope = -sigma / soft - LAM * n / k / volume  # N times the gradient
        inverse = soft**2 / sigma  # of the diagonal part of the Hessian
        coupling = LAM * n / k / volume**2
        row = inverse.sum(1, keepdim=True)

        def held(values: Tensor, inverse: Tensor = inverse, row: Tensor = row) -> Tensor:
            return inverse * (values - (inverse * values).sum(1, keepdim=True) / row)

        shared = torch.diag(inverse.sum(0)) - (inverse / row).T @ inverse
        sums = torch.linalg.solve(torch.eye(k, dtype=sigma.dtype) + shared * coupling, -held(slope).sum(0))
        move = -held(slope + coupling * sums)
        length = min(1.0, 0.95 / max(1e-300, float((-move / soft).max())))
        value = loss(sigma, soft)
        while length > 1e-10 and loss(sigma, soft + length * move) > value + 1e-12 * abs(value):
            length /= 2
        soft = soft + length * move
        if float(move.abs().max()) < 1e-8:
            break
    return soft, step


def em(sigma: Tensor) -> tuple[Tensor, int]:
    """Plain EM."""
    soft = sigma
    for step in range(1, MOST + 1):  # noqa: B007
        new = em_step(sigma, soft)
        moved = float((new - soft).abs().max())
        soft = new
        if moved < 1e-8:
            break
    return soft, step


def squared_em(sigma: Tensor) -> tuple[Tensor, int]:
    """EM with squared extrapolation of the logarithms, taken back where the loss rises."""
    soft, step = sigma, 0
    while step < MOST:
        one = em_step(sigma, soft)
        two = em_step(sigma, one)
        step += 3
        if float((two - one).abs().max()) < 1e-8:
            break
        first = one.log() - soft.log()
        second = two.log() - one.log() - first
        reach = max(1.0, float(first.norm() / second.norm()))
        leap = em_step(sigma, (soft.log() + 2 * reach * first + reach**2 * second).softmax(1))
        soft = leap if loss(sigma, leap) <= loss(sigma, two) else two
    return soft, step


def em_step(sigma: Tensor, soft: Tensor) -> Tensor:
    """Eqs. (45) and (46)."""
    pull = LAM / sigma.shape[1] / soft.mean(0) * soft
    return (sigma + pull) / (1 + pull.sum(1, keepdim=True))


WAYS: dict[str, Callable[[Tensor], tuple[Tensor, int | str]]] = {
    "EM, 2 steps": lambda sigma: (pseudo_labels_em(sigma, LAM, tol=0, max_iter=2), 2),
    "Newton": newton,
    "interior point": lambda sigma: (pseudo_labels_optimal(sigma, LAM), "-"),
    "EM": em,
    "squared EM": squared_em,
}
SLOW = ("EM", "squared EM")


def main() -> int:
    """Print the table."""
    torch.set_num_threads(1)
    print("| N | K | way | steps | time | over EM, 2 steps | gap |\n|---|---|---|---|---|---|---|")
    for n in (250, 10_000):
        for k in (2, 20, 200):
            draw = torch.Generator().manual_seed(0)
            logits = 2 * torch.randn(n, k, generator=draw, dtype=torch.float64)
            sigma = (logits + torch.randn(k, generator=draw, dtype=torch.float64)).softmax(1)
            found = {}
            for name, way in WAYS.items():
                times = []
                for _ in range(1 if name in SLOW else 5):
                    start = time.perf_counter()
                    soft, steps = way(sigma)
                    times.append(time.perf_counter() - start)
                found[name] = (steps, statistics.median(times), loss(sigma, soft))
            least = min(value for _, _, value in found.values())
            base = found["EM, 2 steps"][1]
            for name, (steps, seconds, value) in found.items():
                print(
                    f"| {n} | {k} | {name} | {steps} | {1000 * seconds:.2f} ms | {seconds / base:.1f} "
                    f"| {max(0.0, value - least):.1e} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
