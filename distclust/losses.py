"""Losses: tensors in, a scalar out; no network, device or trainer inside."""

from __future__ import annotations

import torch
from torch import Tensor


def hard_cost(cost: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cost of the chosen clusters, the first term of CA eq. (5) over N.

    Args:
        cost: (N, K) cost of every point in every cluster.
        labels: (N,) int64 chosen clusters.
    """
    return cost.gather(1, labels[:, None]).mean()


def soft_cost(cost: Tensor, targets: Tensor) -> Tensor:
    """Return the mean expected cost under soft targets.

    Args:
        cost: (N, K) cost of every point in every cluster.
        targets: (N, K) probabilities, rows sum to one; no gradient flows into them.
    """
    return (cost * targets.detach()).sum(1).mean()


def negative_marginal_entropy(probs: Tensor) -> Tensor:
    """Return -H(mean of the rows) in nats, the term ENT adds (CA, Section 2; Hu et al. 2017; Li et al. 2020).

    Args:
        probs: (N, K) probabilities, rows sum to one.
    """
    marginal = probs.mean(0).clamp(min=torch.finfo(probs.dtype).tiny)  # the slope of p log p at 0 is infinite
    return -torch.special.entr(marginal).sum()


def marginal_sum_of_squares(memberships: Tensor) -> Tensor:
    """Return the sum over clusters of the squared mean membership, the term of SS (Zhong et al. 2020; CA, Section 2).

    Args:
        memberships: (N, K) values in 0 .. 1; rows need not sum to one.
    """
    return memberships.mean(0).square().sum()


def marginal_variance(memberships: Tensor) -> Tensor:
    """Return the variance over clusters of the mean membership, the term of VarM (CA, appendix C).

    Args:
        memberships: (N, K) values in 0 .. 1; rows need not sum to one.
    """
    return memberships.mean(0).var(unbiased=False)


def concrete_k_means(latents: Tensor, centroids: Tensor, scores: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Return the mean squared distance to a concrete sample of the centroids (Gao et al. 2020, the k-means term).

    The assignment is drawn by the Gumbel-softmax from p(k) proportional to exp(scores).

    Args:
        latents: (N, D).
        centroids: (K, D).
        scores: (N, K) log probabilities of the assignments, up to a constant a row.
        noise: (N, K) standard Gumbel variates.
        temperature: of the softmax, > 0; towards 0 the sample becomes one-hot.
    """
    sample = ((scores + noise) / temperature).softmax(1)  # (N, K)
    return (latents - sample @ centroids).square().sum(1).mean()


def selected_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the points that have a target, over the number of all points (SPC eq. (2), top).

    Args:
        logits: (N, K).
        targets: (N,) int64, -1 = no target.
    """
    return torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1, reduction="sum") / len(targets)


def mean_l1(rebuilt: Tensor, original: Tensor, n_points: int) -> Tensor:
    """Return the sum over points of their values' mean absolute error, over `n_points` (SPC eq. (2), bottom).

    Args:
        rebuilt: (n, ...).
        original: (n, ...).
        n_points: number of points that the sum is divided by, >= n.
    """
    return (rebuilt - original).abs().flatten(1).mean(1).sum() / n_points


def squared_distances(latents: Tensor, centroids: Tensor) -> Tensor:
    """Return ||z_i - mu_k||^2, (N, K), for latents (N, D) and centroids (K, D); never below zero."""
    cross = latents @ centroids.T  # (N, K)
    squares = latents.square().sum(1, keepdim=True) + centroids.square().sum(1)
    return (squares - 2 * cross).clamp(min=0)


def mahalanobis_cost(latents: Tensor, centroids: Tensor, whitening: Tensor) -> Tensor:
    """Return the first term of d(z_i, mu_k, Sigma_k) of CA eq. (5), (N, K).

    The second, log |Sigma_k| / 2, is a constant where all clusters have the same volume.

    Args:
        latents: (N, D).
        centroids: (K, D).
        whitening: (K, D, D) lower-triangular W_k with W_k^T W_k = Sigma_k^-1.
    """
    shifted = latents[None] - centroids[:, None]  # (K, N, D)
    whitened = shifted @ whitening.mT  # (K, N, D)
    return 0.5 * whitened.square().sum(2).T
