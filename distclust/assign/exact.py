"""Combination assignment, exactly: successive shortest paths between clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import njit

from distclust.assign.costs import Floats, Ints, Kind, labels_like, log_integers, read_costs
from distclust.contracts import Labels

if TYPE_CHECKING:
    import torch


def exact(cost: Kind, log_prior: npt.ArrayLike | torch.Tensor | None = None) -> Kind:
    """Assign each point to a cluster at the lowest total cost there is.

    The labels minimise `sum_i (cost[i, k_i] - log_prior[k_i]) + sum_k log(n_k!)`, up to the rounding of float64.
    Points enter one at a time. The size of a cluster costs a convex sum, log 1 + log 2 + ... + log n, so the optimum of
    all points so far and one more differs from the one before along a shortest path over the K clusters: the new point
    enters one, a point of that one moves on to the next, and the last one grows. Among several optima the same input
    always gives the same one, not always the one with the lowest labels.

    Args:
        cost: (N, K) or (B, N, K) negative log-likelihoods, array or tensor, on any device; B = that many problems.
            +inf = the point may not go there. No NaN, no -inf, in every row a finite entry that the prior allows.
        log_prior: (K,) log p(k), in any normalisation; -inf = the cluster stays empty. None = uniform.

    Returns:
        (N,) or (B, N) int64 labels in 0 .. K - 1: an array for an array, a tensor on the same device for a tensor.

    Raises:
        DataError: the cost cannot be used.
        ParameterError: log_prior cannot be used.

    Source: Mahon & Lukasiewicz, AAAI 2024, eqs. (5) and (6), which the paper holds too slow to solve.
    """
    base = read_costs(cost, log_prior)
    # subtracting a constant from a row leaves the optimum as it is and keeps the digits of large costs
    with np.errstate(over="ignore"):
        rows = base - base.min(axis=-1, keepdims=True)
    marginal = log_integers(rows.shape[1])
    labels: Labels = np.empty(rows.shape[:2], dtype=np.int64)
    for b in range(len(rows)):
        _solve(rows[b], marginal, labels[b])
    return labels_like(labels, cost)


@njit(cache=True, nogil=True)
def _solve(rows: Floats, marginal: Floats, labels: Labels) -> None:
    """Fill `labels` (N,) from rows (N, K), each with minimum 0, and marginal[n] = log(n + 1).

    Held throughout: each point is where rows[i] + price is smallest, and log(n_k) <= price[k] <= log(n_k + 1). That
    makes the points so far optimally assigned, and no step less prices negative.
    """
    n_samples, n_clusters = rows.shape
    labels[:] = -1
    size = np.zeros(n_clusters, np.int64)
    price = np.zeros(n_clusters)
    step = np.full((n_clusters, n_clusters), np.inf)  # step[a, b]: the cheapest move of a point of a to b,
    mover = np.full((n_clusters, n_clusters), -1)  # and the point that makes it
    first = np.full(n_clusters, -1)  # the points of a cluster are a linked list: first, then along links
    links = np.empty((n_samples, 2), np.int64)  # the point after, the point before; -1 = none
    distance = np.empty(n_clusters)
    done = np.empty(n_clusters, np.bool_)
    source = np.empty(n_clusters, np.int64)
    stale = np.empty(n_clusters, np.int64)
    for point in range(n_samples):
        into = _shortest_path(rows[point], price, size, marginal, step, distance, done, source)
        size[into] += 1
        while source[into] >= 0:
            origin = source[into]
            moved = mover[origin, into]
            _leave(moved, origin, rows, step, mover, first, links, stale)
            _enter(moved, into, rows, labels, step, mover, first, links)
            into = origin
        _enter(point, into, rows, labels, step, mover, first, links)


@njit(cache=True, nogil=True)
def _shortest_path(
    row: Floats, price: Floats, size: Ints, marginal: Floats, step: Floats, distance: Floats, done: Ints, source: Ints
) -> int:
    """Return the cluster that grows when a point with costs `row` enters; raise the prices to match.

    Dijkstra's algorithm on steps less prices. source[k] is the cluster whose point moves to k, -1 = the new point does.
    """
    n_clusters = len(row)
    for k in range(n_clusters):
        distance[k] = row[k] + price[k]
        done[k] = False
        source[k] = -1
    shortest, last = np.inf, -1
    while True:
        near = -1
        for k in range(n_clusters):
            if not done[k] and distance[k] < shortest and (near < 0 or distance[k] < distance[near]):
                near = k
        if near < 0:
            break
        done[near] = True
        growing = distance[near] + (marginal[size[near]] - price[near])
        if growing < shortest:
            shortest, last = growing, near
        for k in range(n_clusters):
            onward = distance[near] + (step[near, k] + price[k] - price[near])
            if not done[k] and onward < distance[k]:
                distance[k] = onward
                source[k] = near
    for k in range(n_clusters):
        if done[k]:
            price[k] += shortest - distance[k]
    price[last] = marginal[size[last]]
    return last


@njit(cache=True, nogil=True)
def _enter(
    point: int, into: int, rows: Floats, labels: Labels, step: Floats, mover: Ints, first: Ints, links: Ints
) -> None:
    """Add a point to a cluster and see which moves it makes cheaper."""
    labels[point] = into
    after = first[into]
    links[point, 0], links[point, 1] = after, -1
    if after >= 0:
        links[after, 1] = point
    first[into] = point
    for k in range(rows.shape[1]):
        move = rows[point, k] - rows[point, into]
        if k != into and move < step[into, k]:
            step[into, k] = move
            mover[into, k] = point


@njit(cache=True, nogil=True)
def _leave(
    point: int, origin: int, rows: Floats, step: Floats, mover: Ints, first: Ints, links: Ints, stale: Ints
) -> None:
    """Take a point out of a cluster and look for the next cheapest of the moves that were its own."""
    after, before = links[point, 0], links[point, 1]
    if after >= 0:
        links[after, 1] = before
    if before >= 0:
        links[before, 0] = after
    else:
        first[origin] = after
    n_stale = 0
    for k in range(rows.shape[1]):
        if mover[origin, k] == point:
            step[origin, k] = np.inf
            mover[origin, k] = -1
            stale[n_stale] = k
            n_stale += 1
    other = first[origin]
    while other >= 0:
        for k in stale[:n_stale]:
            move = rows[other, k] - rows[other, origin]
            if move < step[origin, k]:
                step[origin, k] = move
                mover[origin, k] = other
        other = links[other, 0]
