"""Combination assignment, greedily: the surest pair first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import njit

from distclust.assign.costs import Floats, Ints, Kind, check_infinite, labels_like, log_integers, read_unchecked
from distclust.contracts import Labels

if TYPE_CHECKING:
    import torch


def greedy(cost: Kind, log_prior: npt.ArrayLike | torch.Tensor | None = None) -> Kind:
    """Assign each point to a cluster, the surest pair first.

    At each of N steps the unassigned point i and the cluster k, of size n_k so far, with the smallest
    `cost[i, k] - log_prior[k] + log(n_k + 1)` are paired. Ties go to the lowest point, then to the lowest cluster. The
    labels equal those of the literal loop over the table in float64, bit for bit, and take O(N K log N) time.

    Args:
        cost: (N, K) or (B, N, K) negative log-likelihoods, array or tensor, on any device; B = that many problems.
            +inf = the point may not go there. No NaN, no -inf, in every row a finite entry that the prior allows.
        log_prior: (K,) log p(k), in any normalisation; -inf = the cluster stays empty. None = uniform.

    Returns:
        (N,) or (B, N) int64 labels in 0 .. K - 1: an array for an array, a tensor on the same device for a tensor.

    Raises:
        DataError: the cost cannot be used.
        ParameterError: log_prior cannot be used.

    Source: Mahon & Lukasiewicz, AAAI 2024, eq. (7) and Algorithm 1, the latter divided by 2 sigma.
    """
    base = read_unchecked(cost, log_prior)
    penalty = log_integers(base.shape[1])
    labels: Labels = np.empty(base.shape[:2], dtype=np.int64)
    for b in range(len(base)):
        keys, finite = _keys(base[b])
        if not finite:
            check_infinite(cost, base)
        keys.sort(axis=-1)
        _assign(base[b], keys, penalty, labels[b])
    return labels_like(labels, cost)


_EXPONENT = 0x7FF0000000000000  # the bits of a float64 that are all ones where it is not finite

# Each column is sorted by integers that ascend as its values do, but for the last bits, which hold the point's index.
# That takes a quarter of the time of an argsort; values that differ in the last bits alone are put in order afterwards.


@njit(cache=True, nogil=True)
def _keys(base: Floats) -> tuple[Ints, bool]:
    """Return the sorting keys (K, N) of base (N, K), and whether all its values are finite."""
    n_samples, n_clusters = base.shape
    index_mask = _index_mask(n_samples)
    bits = base.view(np.int64)
    keys = np.empty((n_clusters, n_samples), np.int64)
    finite = True
    for k in range(n_clusters):
        for i in range(n_samples):
            finite &= (bits[i, k] & _EXPONENT) != _EXPONENT
            ascending = np.int64(0)  # for -0.0 as for 0.0
            if base[i, k] != 0:
                sign = bits[i, k] >> 63  # -1 for negative floats, which descend as integers
                ascending = bits[i, k] ^ (sign & 0x7FFFFFFFFFFFFFFF)
            keys[k, i] = (ascending & ~index_mask) | i
    return keys, finite


@njit(cache=True, nogil=True)
def _index_mask(n_samples: int) -> int:
    """Return the ones of the bits that hold 0 .. n_samples - 1."""
    mask = 0
    while mask < n_samples - 1:
        mask = 2 * mask + 1
    return mask


@njit(cache=True, nogil=True)
def _settle(keys: Ints, base: Floats) -> None:
    """Turn sorted keys (K, N) into the stable order of each column of base (N, K)."""
    index_mask = _index_mask(keys.shape[1])
    for k in range(len(keys)):
        n_alike = 0
        for at in range(1, keys.shape[1]):
            n_alike += (keys[k, at] ^ keys[k, at - 1]) & ~index_mask == 0
        if n_alike:
            _settle_runs(keys[k], base[:, k], index_mask)
    keys &= index_mask


@njit(cache=True, nogil=True)
def _settle_runs(keys: Ints, column: Floats, index_mask: int) -> None:
    """Put runs of keys (N,) that differ in the index alone in the order of their values in column (N,)."""
    start = 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or (keys[stop] ^ keys[start]) & ~index_mask:
            if stop - start > 1:
                run = keys[start:stop]
                run[:] = run[np.argsort(column[run & index_mask], kind="mergesort")]
            start = stop


@njit(cache=True, nogil=True)
def _assign(base: Floats, keys: Ints, penalty: Floats, labels: Labels) -> None:
    """Fill `labels` (N,) from base (N, K), the sorted keys (K, N) of its columns, and log 1, ..., log N."""
    _settle(keys, base)
    order = keys  # from here on
    n_samples, n_clusters = base.shape
    labels[:] = -1
    size = np.zeros(n_clusters, np.int64)
    head = np.zeros(n_clusters, np.int64)  # the first place in order[k] whose point is unassigned
    end = np.zeros(n_clusters, np.int64)  # the first place after it with a larger value
    total = np.empty(n_clusters)  # the smallest total of each cluster
    point = np.full(n_clusters, -1)  # and the lowest point that has it
    tree = np.empty((n_clusters, 2 * n_samples), np.int64)  # filled for the clusters that come to need it
    rank = np.empty((n_clusters, n_samples), np.int64)
    planted = np.zeros(n_clusters, np.bool_)
    any_planted = False
    taken = -1
    for _ in range(n_samples):
        into, least, lowest = 0, np.inf, n_samples  # the smallest total, then the lowest point, then the lowest index
        for k in range(n_clusters):
            if any_planted and planted[k]:
                _fell(tree[k], rank[k, taken])
            if point[k] == taken:  # as is always so for the cluster that has just grown
                _advance(k, base, order, labels, head, end)
                point[k] = order[k, head[k]]
                total[k] = base[point[k], k] + penalty[size[k]]
                if end[k] < n_samples and base[order[k, end[k]], k] + penalty[size[k]] == total[k]:
                    if not planted[k]:
                        planted[k] = any_planted = True
                        _plant(tree[k], rank[k], order[k], labels)
                    run_end = _run_end(base[:, k], order[k], end[k], penalty[size[k]], total[k])
                    point[k] = _lowest(tree[k], head[k], run_end)
            if total[k] < least or (total[k] == least and point[k] < lowest):
                into, least, lowest = k, total[k], point[k]
        taken = lowest
        labels[taken] = into
        size[into] += 1


@njit(cache=True, nogil=True)
def _advance(k: int, base: Floats, order: Ints, labels: Labels, head: Ints, end: Ints) -> None:
    """Move head[k] to the next unassigned point and end[k] past the values equal to its own."""
    while labels[order[k, head[k]]] >= 0:
        head[k] += 1
    if end[k] <= head[k]:
        end[k] = head[k] + 1
        while end[k] < len(labels) and base[order[k, end[k]], k] == base[order[k, head[k]], k]:
            end[k] += 1


# Points of equal value stand in the order of their index, so the head is the lowest of them. But adding the penalty may
# round different values to one total; then the lowest point of a run of values is wanted, and a tree of minima over the
# sorted places finds it in O(log N), however long the run.


@njit(cache=True, nogil=True)
def _plant(tree: Ints, rank: Ints, order: Ints, labels: Labels) -> None:
    """Fill the tree of minima (2 N,) over the unassigned points of order (N,), and each point's place, rank (N,)."""
    n_samples = len(order)
    for at in range(n_samples):
        rank[order[at]] = at
        tree[n_samples + at] = order[at] if labels[order[at]] < 0 else n_samples
    for node in range(n_samples - 1, 0, -1):
        tree[node] = min(tree[2 * node], tree[2 * node + 1])


@njit(cache=True, nogil=True)
def _fell(tree: Ints, at: int) -> None:
    """Take the point at a place out of the tree."""
    n_samples = len(tree) // 2
    node = n_samples + at
    tree[node] = n_samples
    while node > 1:
        node //= 2
        tree[node] = min(tree[2 * node], tree[2 * node + 1])


@njit(cache=True, nogil=True)
def _lowest(tree: Ints, start: int, stop: int) -> int:
    """Return the lowest point in the places start .. stop - 1."""
    n_samples = len(tree) // 2
    lowest = n_samples
    left, right = n_samples + start, n_samples + stop
    while left < right:
        if left % 2:
            lowest = min(lowest, tree[left])
            left += 1
        if right % 2:
            right -= 1
            lowest = min(lowest, tree[right])
        left //= 2
        right //= 2
    return lowest


@njit(cache=True, nogil=True)
def _run_end(column: Floats, order: Ints, start: int, penalty: float, total: float) -> int:
    """Return the first place from `start` on where value + penalty is larger than `total`."""
    low, high = start, len(order)
    while low < high:
        middle = (low + high) // 2
        if column[order[middle]] + penalty > total:
            high = middle
        else:
            low = middle + 1
    return low
