"""Pseudo-labels of entropy clustering: near the predictions, and spread over the clusters as the target says.

Both functions minimise the terms of eq. (42) that hold the pseudo-labels y, H(sigma, y) + lambda KL(u || mean y), which
is convex in y: `pseudo_labels_em` by the paper's steps, as far as wanted; `pseudo_labels_optimal` to the end.

*Discriminative entropy clustering and its relation to K-means and SVM*, 2024. Equations are the paper's.
"""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from distclust.assign.costs import Floats, Kind, is_tensor, place, read_floats, read_shares
from distclust.errors import DataError, ParameterError, RunError

if TYPE_CHECKING:
    import torch

_FLOOR = 1e-10  # least probability: a cluster that no point believes in must still be able to get some
_MAX_STEPS = 500  # of Newton's method; it takes some 10 for predictions that are soft, some 50 for hard ones


def pseudo_labels_em(
    probs: Kind,
    lam: float,
    target: npt.ArrayLike | torch.Tensor | None = None,
    *,
    known: npt.ArrayLike | torch.Tensor | None = None,
    tol: float = 1e-3,
    max_iter: int = 100,
) -> Kind:
    """Return soft pseudo-labels by expectation-maximisation, eqs. (45) and (46), starting at the predictions.

    The loss never rises. At a large `lam` the steps are short long before the end: with 100 a tolerance of 1e-3 is met
    in a few steps, while the optimum takes thousands; see `pseudo_labels_optimal`.

    Args:
        probs: (N, K) predictions sigma, rows sum to one, array or tensor; entries below 1e-10 count as 1e-10.
        lam: lambda >= 0, weight of the fairness; 0 gives the predictions back.
        target: u, (K,) share of the points that each cluster is to have, > 0, sum 1; None = 1 / K.
        known: (N,) labels that stand fast, 0 .. K - 1, or -1 where there is none; None = none anywhere.
        tol: the steps end when no pseudo-label moves by more, >= 0.
        max_iter: steps at most, >= 1.

    Returns:
        y, of the shape, dtype and device of the predictions, rows sum to one; no gradient flows.

    Raises:
        DataError: the predictions or known labels cannot be used.
        ParameterError: another argument cannot be used.
    """
    problem = _read(probs, lam, target, known, tol=tol, max_iter=max_iter)
    soft = problem.sigma
    for _ in range(max_iter):
        fairness = problem.lam_u / (soft.sum(0) / problem.n_points + problem.fixed)  # (K,)
        pull = fairness * soft  # lambda N u_k S_i^k with S of (45)
        new = (problem.sigma + pull) / (1 + pull.sum(1, keepdim=True))  # (46)
        moved = float((new - soft).abs().max()) if len(soft) else 0.0
        soft = new
        if moved <= tol:
            break
    return _like(probs, problem, soft)


def pseudo_labels_optimal(
    probs: Kind,
    lam: float,
    target: npt.ArrayLike | torch.Tensor | None = None,
    *,
    known: npt.ArrayLike | torch.Tensor | None = None,
) -> Kind:
    """Return the pseudo-labels at the minimum, which `pseudo_labels_em` approaches; arguments and errors as there.

    Where the loss is least, y_ik (mu_i - a_k) = sigma_ik with a_k = lambda u_k / mean(y_k): the conditions of a central
    path with a barrier of weight sigma_ik for each entry. So they are solved as interior-point methods do, by Newton
    steps on y and mu - a at once; each needs one symmetric K x K system. Weights below a threshold count as the
    threshold, which falls to nothing as fast as the steps allow.

    Raises:
        RunError: the steps did not come to an end, which only predictions and parameters at the edge of the number
            range can bring about.
    """
    import torch

    problem = _read(probs, lam, target, known)
    sigma, lam_u = problem.sigma, problem.lam_u
    if lam == 0 or not len(sigma):
        return _like(probs, problem, sigma)
    soft = (sigma + 1 / sigma.shape[1]) / 2
    slack = torch.ones_like(sigma)  # mu_i - a_k
    a = torch.full_like(lam_u, float(lam))
    threshold, length, change = float(soft.mean()), 1.0, math.inf
    for _ in range(_MAX_STEPS):
        threshold *= 0.01 if length > 0.9 else 0.1 if length > 0.5 else 0.5
        goal = sigma.clamp(min=threshold) / slack
        ratio = soft / slack
        row = ratio.sum(1)
        excess = (goal.sum(1) - 1) / row
        volume = soft.sum(0) / problem.n_points + problem.fixed
        wanted = lam_u / a - problem.fixed - (goal - ratio * excess[:, None]).sum(0) / problem.n_points
        step_a = _solved((ratio / row[:, None]).T @ ratio / problem.n_points, volume / a, wanted, (lam_u / a).sum() - 1)
        apart = step_a - step_a[-1]  # only differences move the pseudo-labels
        step_slack = (excess + ratio @ apart / row)[:, None] - apart
        step = goal - soft - ratio * step_slack
        nearest = max(float((-by / at).max()) for by, at in ((step, soft), (step_slack, slack), (step_a, a)))
        length = min(1.0, 0.95 / max(nearest, 1e-300))  # all stay positive
        soft, slack, a = soft + length * step, slack + length * step_slack, a + length * step_a
        before, change = change, float((step / (soft + 1e-3)).abs().max())
        settled = change < 1e-8 or before / 2 < change < 1e-6  # the next would be its square; only rounding is left
        if length == 1.0 and threshold < _FLOOR and settled:
            return _like(probs, problem, soft)
    raise RunError(f"the pseudo-labels did not settle in {_MAX_STEPS} steps at lam={lam:g}. Use pseudo_labels_em.")


def _solved(shared: torch.Tensor, weights: torch.Tensor, wanted: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Solve (L + diag(weights)) step = wanted, where L is the Laplacian with the off-diagonal entries -shared.

    The weights are a trifle beside L, which says nothing of a shift of all unknowns: that is left to the sum of all
    rows, weights . step = total.
    """
    import torch

    links = (shared + shared.T).cpu().numpy() / 2
    masses = weights.cpu().numpy().copy()
    given = (wanted - weights * total / weights.sum()).cpu().numpy()
    apart = torch.from_numpy(_eliminated(links, masses, given)).to(wanted.device)
    return apart + (total - weights @ apart) / weights.sum()


@njit(cache=True, nogil=True)
def _eliminated(links: Floats, masses: Floats, values: Floats) -> Floats:
    """Solve masses_k x_k + sum_j links_kj (x_k - x_j) = values_k, overwriting all three.

    Gauss's elimination on links and masses, which are only added up: where groups of clusters share next to no points,
    the diagonal of the matrix would have lost what little there is (Grassmann, Taksar and Heyman 1985).
    """
    n = len(values)
    pivots = np.empty(n)
    for k in range(n):
        pivots[k] = masses[k]
        for i in range(k + 1, n):
            pivots[k] += links[k, i]
        for i in range(k + 1, n):
            factor = links[k, i] / pivots[k]
            masses[i] += factor * masses[k]
            values[i] += factor * values[k]
            for j in range(i + 1, n):  # what is left of the diagonal is not read
                links[i, j] += factor * links[k, j]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            values[k] += links[k, j] * values[j]
        values[k] /= pivots[k]
    return values


class _Problem(NamedTuple):
    """What is to be solved, in float64 on the device of the predictions."""

    sigma: torch.Tensor  # (n, K) of the points whose label is not known
    lam_u: torch.Tensor  # (K,) lambda u
    fixed: torch.Tensor  # (K,) share of all points that is known to be in each cluster
    n_points: int  # N
    known: torch.Tensor | None  # (N,)


def _read(probs: Any, lam: Any, target: Any, known: Any, tol: Any = 0.0, max_iter: Any = 1) -> _Problem:
    """Check everything and return the problem."""
    import torch

    table = _read_probs(probs)
    n_points, n_clusters = table.shape
    faults = []
    if not isinstance(lam, numbers.Real) or not 0 <= float(lam) < math.inf:
        faults.append(f"lam is {lam!r}; it must be a finite number >= 0. Try 100.")
    if not isinstance(tol, numbers.Real) or not float(tol) >= 0:
        faults.append(f"tol is {tol!r}; it must be a number >= 0. Try 0.001.")
    if not isinstance(max_iter, numbers.Integral) or int(max_iter) < 1:
        faults.append(f"max_iter is {max_iter!r}; it must be an integer >= 1. Try 100.")
    shares = read_shares(target, n_clusters)
    if shares is None or not (shares > 0).all():
        shares = None
        faults.append(
            f"target is {target!r}; it must be {n_clusters} shares > 0 that sum to 1: a cluster of volume 0 would "
            "have an infinite penalty. Divide it by its sum, or leave the cluster out."
        )
    if faults or shares is None:
        raise ParameterError(faults)
    labels = None if known is None else _read_known(known, n_points, n_clusters)
    counts = np.bincount(labels[labels >= 0], minlength=n_clusters) if labels is not None else np.zeros(n_clusters)
    sigma = table.clamp(min=_FLOOR)
    sigma /= sigma.sum(1, keepdim=True)

    def beside(values: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(table.device)

    where = None if labels is None else beside(labels)
    return _Problem(
        sigma if where is None else sigma[where < 0],
        float(lam) * beside(shares / shares.sum()),
        beside(counts / n_points),
        n_points,
        where,
    )


def _read_probs(probs: Any) -> torch.Tensor:
    import torch

    shape = getattr(probs, "shape", None)
    if shape is None or len(shape) != 2 or 0 in shape:
        given = f"of type {type(probs).__name__}" if shape is None else f"of shape {tuple(shape)}"
        raise DataError(f"probs are {given}; they must be (N, K), N and K at least 1. Leave empty batches out.")
    try:
        table = probs.detach() if is_tensor(probs) else torch.from_numpy(read_floats(probs))
    except (TypeError, ValueError) as cause:
        raise DataError(f"probs are of type {probs.dtype}; they must be real numbers.") from cause
    if not (table.is_floating_point() if is_tensor(probs) else probs.dtype.kind == "f"):
        raise DataError(f"probs are of type {probs.dtype}; they must be floating-point numbers. Give a softmax.")
    accuracy = 1e-4 if probs.dtype.itemsize >= 4 else 3e-2
    table = table.double()
    wrong = ~((table >= 0).all(1) & ((table.sum(1) - 1).abs() <= accuracy))  # also where there is NaN
    if wrong.any():
        at = int(wrong.nonzero()[0, 0])
        raise DataError(
            f"probs[{at}] has least entry {float(table[at].min()):.6g} and sum {float(table[at].sum()):.6g}; each row "
            "must be probabilities >= 0 that sum to 1. Give a softmax."
        )
    return table


def _read_known(known: Any, n_points: int, n_clusters: int) -> npt.NDArray[np.int64]:
    labels = known.detach().cpu().numpy() if is_tensor(known) else np.asarray(known)
    if labels.shape != (n_points,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"known labels are of shape {labels.shape} and type {labels.dtype}; they must be ({n_points},) integers, "
            f"-1 where the label is not known."
        )
    wrong = (labels < -1) | (labels >= n_clusters)
    if wrong.any():
        raise DataError(
            f"known{place(wrong)} is {labels[wrong][0]}; known labels must be 0 .. {n_clusters - 1}, or -1 where there "
            "is none."
        )
    return labels.astype(np.int64)


def _like(probs: Any, problem: _Problem, soft: torch.Tensor) -> Any:
    """Return the pseudo-labels of all points, of the kind and type of the predictions."""
    soft = soft / soft.sum(1, keepdim=True)
    if problem.known is not None:
        whole = soft.new_zeros(problem.n_points, soft.shape[1])
        whole[problem.known < 0] = soft
        sure = problem.known >= 0
        whole[sure, problem.known[sure]] = 1
        soft = whole
    return soft.to(probs.dtype) if is_tensor(probs) else soft.numpy().astype(probs.dtype)
