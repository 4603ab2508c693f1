"""Greedy against the literal loop of Algorithm 1, label for label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distclust.assign import greedy


def literal(cost, log_prior=None):
    """Algorithm 1 in units of negative log-likelihood: the whole table again at each step."""
    base = np.asarray(cost, dtype=np.float64)
    if log_prior is not None:
        base = base - log_prior
    labels = np.full(len(base), -1)
    counts = np.zeros(base.shape[1], dtype=np.int64)
    for _ in range(len(base)):
        total = base + np.log(counts + 1)
        total[labels >= 0] = np.inf
        point, cluster = np.unravel_index(total.argmin(), total.shape)
        labels[point] = cluster
        counts[cluster] += 1
    return labels


def offset(scale, shift):
    return lambda rng, n, k: shift + scale * rng.integers(0, 50, size=(n, k))


COSTS = {
    "uniform": lambda rng, n, k: rng.random((n, k)),
    "latent": lambda rng, n, k: ((rng.normal(size=(n, 1, 8)) - rng.normal(size=(1, k, 8))) ** 2).sum(-1) / 2,
    "float32": lambda rng, n, k: rng.normal(size=(n, k)).astype(np.float32),
    "equal": lambda rng, n, k: np.zeros((n, k)),
    "equal rows": lambda rng, n, k: np.repeat(rng.random((1, k)), n, axis=0),
    "integers": lambda rng, n, k: rng.integers(0, 4, size=(n, k)),
    "large": offset(1.0, 1e16),
    "large, close": offset(0.125, 1e15),
    "large, negative": offset(0.125, -1e15),
    "tiny": offset(1e-20, 0.0),
    "tiny, of both signs": offset(1e-18, -25e-18),
    "one ulp apart": lambda rng, n, k: 1 + 2.0**-52 * rng.integers(0, 9, size=(n, k)),
    "totals near zero": lambda rng, n, k: -np.log(rng.integers(1, 6, size=(n, k))) + 1e-17 * rng.integers(0, 9, (n, k)),
    "half forbidden": lambda rng, n, k: np.where(
        (rng.random((n, k)) < 0.5) & (np.arange(k) > 0), np.inf, rng.random((n, k))
    ),
    "forbidden and tied": lambda rng, n, k: np.where((rng.random((n, k)) < 0.7) & (np.arange(k) > 0), np.inf, 1.0),
}


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (4, 9), (20, 3), (150, 10)])
@pytest.mark.parametrize("kind", COSTS)
def test_equals_the_literal_loop(kind, shape):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        cost = COSTS[kind](rng, *shape)
        np.testing.assert_array_equal(greedy(cost), literal(cost))
        log_prior = np.log(rng.dirichlet(np.ones(shape[1])))
        np.testing.assert_array_equal(greedy(cost, log_prior), literal(cost, log_prior))


SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-300, 5e-324, 1e-17, -1e-17, 0.5, 1e15, 1e15 + 0.125, 1e308, np.inf])


@st.composite
def problems(draw):
    n, k = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    values = draw(st.sampled_from([SPECIAL, st.floats(-1e3, 1e3), st.integers(-3, 3).map(float)]))
    cost = draw(arrays(np.float64, (n, k), elements=values))
    log_prior = draw(st.none() | arrays(np.float64, k, elements=st.sampled_from([0.0, -1.0, -0.1, -np.inf])))
    if log_prior is not None and np.isneginf(log_prior).all():
        log_prior[0] = 0
    open_cluster = 0 if log_prior is None else int(np.isfinite(log_prior).argmax())
    cost[~np.isfinite(cost if log_prior is None else cost - log_prior).any(axis=1), open_cluster] = 0
    return cost, log_prior


@settings(max_examples=300, deadline=None)
@given(problems())
def test_equals_the_literal_loop_on_odd_values(problem):
    np.testing.assert_array_equal(greedy(*problem), literal(*problem))


def test_a_long_run_of_rounded_ties_gives_the_lowest_points():
    # descending tiny values: all equal once log 2 is added, so the points then go in ascending order
    cost = 1e-20 * np.arange(2000, 0, -1.0)[:, None] + np.zeros((1, 2))
    labels = greedy(cost)
    assert labels[1999] == 0  # first step: the smallest value itself
    assert labels[1998] == 1  # second step: cluster 1 is still empty
    np.testing.assert_array_equal(labels, literal(cost))


def test_ties_go_to_the_lowest_point_then_the_lowest_cluster():
    # each round of 3 fills the clusters in order, one point each
    assert greedy(np.zeros((7, 3))).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_surest_pair_goes_first():
    # in the order of the rows point 0 would take cluster 0, and point 1 pay log 2 to follow it or 0.6 to go elsewhere
    cost = np.array([[0.5, 0.7], [0.0, 0.6]])
    assert greedy(cost).tolist() == [1, 0]
