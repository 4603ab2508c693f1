"""The terms of MiCE (Tsai et al. 2021), and MoCo's loss as their special case; tensors in, tensors out.

Half-precision embeddings are computed with in float32, also under autocast: a logit of 20 would be off by 0.06 in
bfloat16. A queue kept in half precision is widened block by block, so it may stay so on a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

from distclust.errors import ParameterError

_BLOCK = 1024  # on a CPU 256 to 2048 are within 12 % of one another; on a GPU larger blocks are fewer launches


def gating_log_probs(gate: Tensor, prototypes: Tensor, kappa: float) -> Tensor:
    """Return ln p(z = k | x) of the gating function in nats, (B, K) (MiCE eq. (4)).

    Args:
        gate: (B, d) embeddings g of length 1.
        prototypes: (K, d) omega of length 1; gradient flows into both.
        kappa: temperature, > 0; the paper takes 1, math.inf makes all experts equally likely (its assumption A3).

    Raises:
        ParameterError: kappa is not above 0.
    """
    if not kappa > 0:
        raise ParameterError([f"kappa is {kappa}; it must be above 0: take the paper's 1, or math.inf."])
    with torch.autocast(gate.device.type, enabled=False):
        gate = _widened(gate)
        cosines = gate @ prototypes.to(gate.dtype).T  # (B, K)
        return (cosines / kappa).log_softmax(1)


def expert_log_probs(
    student: Tensor,
    teacher: Tensor,
    prototypes: Tensor | None,
    queue: Tensor,
    *,
    tau: float,
    filled: int | None = None,
    block: int = _BLOCK,
) -> Tensor:
    """Return ln(Phi / Z_hat) of every expert in nats, (B, K), never above 0 (MiCE eqs. (6) and (9)).

    The (B, K, V) logits never exist together: memory is that of (B, K, block). The queue's part of the gradient is
    made along with the value, so the queue may change before the backward pass; there is no second derivative.

    Args:
        student: (B, K, d) embeddings f of length 1.
        teacher: (B, K, d) embeddings v of length 1; no gradient flows into them.
        prototypes: (K, d) mu of length 1, or None to leave out the class-level term (assumption A5).
        queue: (K, V, d) earlier embeddings of the teacher, of length 1; no gradient flows into them. The paper's
            (V, K, d) transposed is as fast.
        tau: temperature, > 0; the paper takes 1.
        filled: how many of each expert's V rows hold embeddings, from the first on, 0 .. V; None = all. The rest is
            not read. With an empty queue, all values are 0.
        block: rows of the queue looked at together, >= 1.

    Raises:
        ParameterError: tau, filled or block is out of its range.
    """
    filled = queue.shape[1] if filled is None else filled
    _check(tau, filled, block, queue.shape[1])
    with torch.autocast(student.device.type, enabled=False):
        queries = _widened(student)  # (B, K, d)
        if prototypes is not None:
            queries = queries + prototypes.to(queries.dtype)
        queries = queries / tau
        positive = (queries * teacher.detach().to(queries.dtype)).sum(2)  # (B, K)
        negative = _QueueLogSumExp.apply(queries.transpose(0, 1), queue[:, :filled].detach(), block)  # (K, B)
        return logsigmoid(positive - negative.T)  # ln(a / (a + b)) from ln a and ln b


def posterior(gating_log: Tensor, experts_log: Tensor) -> Tensor:
    """Return q(z = k | x, y), (B, K), rows sum to one (MiCE eq. (10)).

    Args:
        gating_log: (B, K) from gating_log_probs.
        experts_log: (B, K) from expert_log_probs.
    """
    return (gating_log + experts_log).softmax(1)


def evidence_bound(gating_log: Tensor, experts_log: Tensor) -> Tensor:
    """Return the evidence lower bound of every point in nats, (B,), not above 0 but for rounding (MiCE eq. (11)).

    As q is the very posterior of the two terms, the bound is the log of their mixture, and no gradient flows through q.

    Args:
        gating_log: (B, K) from gating_log_probs.
        experts_log: (B, K) from expert_log_probs; gradient flows into both.
    """
    return (gating_log + experts_log).logsumexp(1)


def prototype_sums(teacher: Tensor, labels: Tensor, n_clusters: int) -> Tensor:
    """Return the sum of each cluster's teacher embeddings, (K, d): mu_hat of MiCE eq. (13).

    Sums of batches add up to that of the epoch; made of length 1, it is the new prototype.

    Args:
        teacher: (B, K, d) embeddings v; half precision is summed in float32.
        labels: (B,) int64 clusters 0 .. K - 1, the most likely ones under the posterior.
        n_clusters: K.
    """
    chosen = _widened(teacher[torch.arange(len(labels), device=labels.device), labels])  # (B, d)
    return chosen.new_zeros(n_clusters, teacher.shape[2]).index_add_(0, labels, chosen)


def info_nce(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    *,
    tau: float,
    filled: int | None = None,
    block: int = _BLOCK,
) -> Tensor:
    """Return MoCo's loss, the mean of -ln p(y | x) in nats (He et al. 2020; MiCE eq. (2)): one expert, no prototype.

    Args:
        student: (B, d) embeddings of length 1.
        teacher: (B, d) embeddings of length 1; no gradient flows into them.
        queue: (V, d) earlier embeddings of the teacher, of length 1; no gradient flows into them.
        tau: temperature, > 0; MiCE's authors take 1, MoCo's 0.07.
        filled: how many of the V rows hold embeddings, from the first on, 0 .. V; None = all.
        block: rows of the queue looked at together, >= 1.

    Raises:
        ParameterError: tau, filled or block is out of its range.
    """
    return -expert_log_probs(
        student[:, None], teacher[:, None], None, queue[None], tau=tau, filled=filled, block=block
    ).mean()


def max_mahalanobis_prototypes(n_clusters: int, dim: int) -> Tensor:
    """Return the centres of the Max-Mahalanobis distribution, (K, d) float64 (MiCE Algorithm 2; Pang et al. 2018).

    They have length 1 and the least possible cosine, -1 / (K - 1), with one another. The algorithm's loop is solved in
    closed form: all entries under one diagonal entry are equal.

    Args:
        n_clusters: K, 2 .. d + 1.
        dim: d, >= 1.

    Raises:
        ParameterError: there are fewer than 2 clusters, or more than dim + 1.
    """
    if not 2 <= n_clusters <= dim + 1:
        raise ParameterError(
            [
                f"n_clusters is {n_clusters} and dim is {dim}; so many prototypes cannot be equally far apart: "
                "n_clusters must be 2 to dim + 1: take more dimensions or fewer clusters, 2 at least."
            ]
        )
    later = torch.arange(n_clusters - 1, 0, -1, dtype=torch.float64)  # (K - 1,), prototypes after each
    diagonal = (n_clusters * later / ((n_clusters - 1) * (later + 1))).sqrt()
    prototypes = torch.zeros(n_clusters, dim, dtype=torch.float64)
    prototypes[:, : n_clusters - 1] = (-diagonal / later).expand(n_clusters, -1).tril(-1)
    prototypes.diagonal()[: n_clusters - 1] = diagonal  # the last prototype has 0 there
    return prototypes


def _check(tau: float, filled: int, block: int, n_rows: int) -> None:
    faults = []
    if not tau > 0:
        faults.append(f"tau is {tau}; it must be above 0: take MiCE's 1 or MoCo's 0.07.")
    if not 0 <= filled <= n_rows:
        faults.append(f"filled is {filled}; it must be 0 to {n_rows}, the rows of the queue: take None for all.")
    if block < 1:
        faults.append(f"block is {block}; it must be at least 1: take {_BLOCK}.")
    if faults:
        raise ParameterError(faults)


def _widened(values: Tensor) -> Tensor:
    """Return half precision as float32, anything wider as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _QueueLogSumExp(torch.autograd.Function):
    """ln sum_i exp(q_i . query) over a queue, in blocks; its gradient is the softmax's mean of the q_i.

    The mean is made with the value, as in attention: the logits are multiplied out once, not again for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, queue: Tensor, block: int) -> Tensor:
        n_experts, n_points, _ = queries.shape  # (K, B, d); the queue is (K, V, d)
        n_rows = queue.shape[1]
        greatest = queries.new_full((n_experts, n_points, 1), -math.inf)
        total = torch.zeros_like(greatest)  # of exp(logit - greatest)
        mean = torch.zeros_like(queries) if ctx.needs_input_grad[0] else None  # times total
        buffer = queries.new_empty(n_experts * n_points * min(block, n_rows))
        for start in range(0, n_rows, block):
            keys = queue[:, start : start + block].to(queries.dtype)  # (K, v, d)
            space = buffer[: n_experts * n_points * keys.shape[1]].view(n_experts, n_points, -1)
            logits = torch.bmm(queries, keys.mT, out=space)  # (K, B, v)
            before, greatest = greatest, torch.maximum(greatest, logits.amax(2, keepdim=True))
            weights, shrinkage = logits.sub_(greatest).exp_(), (before - greatest).exp_()
            total.mul_(shrinkage).add_(weights.sum(2, keepdim=True))
            if mean is not None:
                mean.mul_(shrinkage).baddbmm_(weights, keys)
        if mean is not None:
            ctx.save_for_backward(mean.div_(total.clamp(min=1)))  # the total is at least 1, or 0 of an empty queue
        return (total.log() + greatest)[..., 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[..., None] * mean, None, None
