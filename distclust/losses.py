"""Losses: tensors in, a scalar out; no network (one takes a callable), device or trainer inside."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distclust.errors import ParameterError


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


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy H(targets, softmax) in nats (DEC-EM eqs. (8) and (9)).

    Args:
        logits: (N, K), finite.
        targets: (N, K) probabilities, rows sum to one; no gradient flows into them.
    """
    return soft_cost(-logits.log_softmax(1), targets)


def reverse_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean reverse cross-entropy H(softmax, targets) in nats, which trains less on uncertain targets.

    The term that trains the network in DEC-EM eq. (42). A target of 0 counts as the least normal number of its type:
    -ln of it is 87 in float32 and 708 in float64.

    Args:
        logits: (N, K), finite.
        targets: (N, K) probabilities, rows sum to one; no gradient flows into them.
    """
    floored = targets.detach().clamp(min=torch.finfo(targets.dtype).tiny)
    return -(logits.softmax(1) * floored.log()).sum(1).mean()


def decisiveness(logits: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the mean Renyi entropy R_alpha of the softmax in nats, 0 .. ln K (DEC-EM eqs. (16)-(18) and (37)).

    Args:
        logits: (N, K), finite.
        alpha: order, >= 0: 0 gives ln K, 1 Shannon's entropy, math.inf -ln of the greatest probability.

    Raises:
        ParameterError: alpha is negative or not a number.
    """
    if not alpha >= 0:
        raise ParameterError([f"alpha is {alpha}; it must be at least 0: take 1 for Shannon's entropy, or math.inf."])
    log_probs = logits.log_softmax(1)  # (N, K)
    if alpha == 1:
        return -(log_probs.exp() * log_probs).sum(1).mean()
    if alpha > 1 / torch.finfo(log_probs.dtype).eps:  # as R_inf <= R_alpha <= R_inf alpha / (alpha - 1)
        return -log_probs.amax(1).mean()
    if alpha > 1.1:
        return (log_probs * alpha).logsumexp(1).mean() / (1 - alpha)
    # sum p^alpha is 1 + change where alpha < 1 and 1 - change where alpha > 1; near 1 its logarithm would cancel
    lesser, gap = min(alpha, 1.0), abs(1 - alpha)
    change = -((log_probs * lesser).exp() * (log_probs * gap).expm1()).sum(1)  # (N,), >= 0
    return (change if alpha < 1 else -change).log1p().mean() / (1 - alpha)


def negative_mutual_information(logits: Tensor, fairness_weight: float = 1.0) -> Tensor:
    """Return the mean entropy of the softmax less the weighted entropy of its mean, in nats (DEC-EM eq. (5)).

    Args:
        logits: (N, K), finite.
        fairness_weight: of the entropy of the mean, >= 0; 1 is the mutual information of points and clusters, IMSAT
            (Hu et al. 2017) takes 4.
    """
    return decisiveness(logits) + fairness_weight * negative_marginal_entropy(logits.softmax(1))


def symmetric_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Return the mean over pairs of KL(p || q) + KL(q || p) of the softmaxes in nats (DEC-EM eq. (7) over the pairs).

    Args:
        logits: (N, K) of the points, finite.
        others: (N, K) of their augmentations, finite; gradient flows into both.
    """
    log_p, log_q = logits.log_softmax(1), others.log_softmax(1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1).mean()  # no term is below zero


def paired_mutual_information(logits: Tensor, others: Tensor) -> Tensor:
    """Return the negative mutual information of the clusters of two views in nats (IIC, Ji et al. 2019, eqs. (3)-(5)).

    The joint distribution is the mean of p_i q_i^T, made symmetric. Its cells have the least normal number of their
    type as a floor, where the authors' program has 2.2e-16.

    Args:
        logits: (N, K) of the points, finite.
        others: (N, K) of their other views, finite; gradient flows into both.
    """
    joint = logits.softmax(1).T @ others.softmax(1) / len(logits)  # (K, K)
    joint = ((joint + joint.T) / 2).clamp(min=torch.finfo(joint.dtype).tiny)  # the slope of p log p at 0 is infinite
    marginal = joint.sum(1).log()  # (K,), of rows and columns alike
    return -(joint * (joint.log() - marginal[:, None] - marginal)).sum()


def neighbour_consistency(logits: Tensor, neighbours: Tensor, entropy_weight: float = 5.0) -> Tensor:
    """Return the mean -ln <p_i, q_i> less the weighted entropy of the mean p, in nats.

    The clustering loss of SCAN (Van Gansbeke et al. 2020, eq. (2)).

    Args:
        logits: (N, K) of the points, finite; their softmax is p.
        neighbours: (N, K) of one neighbour of each, finite; their softmax is q; gradient flows into both.
        entropy_weight: lambda, >= 0.
    """
    agreement = (logits.log_softmax(1) + neighbours.log_softmax(1)).logsumexp(1)  # (N,), ln <p_i, q_i>
    return -agreement.mean() + entropy_weight * negative_marginal_entropy(logits.softmax(1))


def confident_cross_entropy(logits: Tensor, confident: Tensor, threshold: float = 0.99) -> Tensor:
    """Return the cross-entropy with the confident points' own clusters (SCAN's self-labelling, Van Gansbeke 2020).

    Each point is weighted by the inverse of its cluster's share among the confident points, as in the authors'
    program: that makes it the mean over the clusters present of the mean over their confident points. It is 0 where no
    point is confident.

    Args:
        logits: (N, K) of strongly augmented points, finite.
        confident: (N, K) logits of the same points weakly augmented; no gradient flows into them.
        threshold: a point counts where its greatest probability exceeds this, 0 .. 1.
    """
    greatest, targets = confident.detach().softmax(1).max(1)
    chosen = greatest > threshold  # (N,)
    targets = targets[chosen]  # (n,)
    costs = torch.nn.functional.cross_entropy(logits[chosen], targets, reduction="none")  # (n,)
    counts = targets.bincount(minlength=logits.shape[1])  # (K,)
    return (costs / counts[targets]).sum() / (counts > 0).sum().clamp(min=1)


def virtual_adversarial(
    logits_of: Callable[[Tensor], Tensor],
    x: Tensor,
    radius: float | Tensor,
    noise: torch.Generator,
    probe: float = 10.0,
) -> Tensor:
    """Return the mean KL divergence to the softmax at the worst near point, in nats (VAT, Miyato et al. 2016; IMSAT).

    The direction is found by one power iteration from a random one, as in the authors' program of IMSAT (Hu et al.
    2017); a point where the divergence has no slope stays in its place. Gradient flows through the softmax at the
    worst near point alone, and the search leaves no gradient behind.

    Args:
        logits_of: (N, ...) -> (N, K), finite. It is called three times and should not update batch-norm statistics, as
            two of the calls are off the data.
        x: (N, ...) the points.
        radius: distance of the worst near point, one for all or (N,); IMSAT takes 0.25 of the distance to the tenth
            neighbour.
        noise: draws the first directions, on its own device.
        probe: distance at which the slope is taken, > 0; xi of the authors' program.
    """
    lengths = torch.as_tensor(radius, dtype=x.dtype, device=x.device)
    lengths = lengths.reshape(-1, *[1] * (x.ndim - 1))  # (N or 1, 1, ...)
    with torch.no_grad():
        log_probs = logits_of(x).log_softmax(1)
    drawn = torch.randn(x.shape, generator=noise, dtype=x.dtype, device=noise.device).to(x.device)
    with torch.enable_grad():  # also where the loss is only reported
        directions = _unit(drawn).requires_grad_()
        cost = _divergence(log_probs, logits_of(x + probe * directions).log_softmax(1))
        (slopes,) = torch.autograd.grad(cost, directions)
    return _divergence(log_probs, logits_of(x + lengths * _unit(slopes)).log_softmax(1))


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the mean of KL(p || q) over the rows, for (N, K) log probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def _unit(directions: Tensor) -> Tensor:
    """Return (N, ...) directions of length 1 a point; those of length 0 stay."""
    tiny, flat = torch.finfo(directions.dtype).tiny, directions.flatten(1)  # (N, D)
    scaled = flat / flat.abs().amax(1, keepdim=True).clamp(min=tiny)  # the squares of small slopes would be 0
    return torch.nn.functional.normalize(scaled, dim=1, eps=tiny).view_as(directions)
