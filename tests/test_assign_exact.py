"""Exact against a general assignment solver, brute force, and a certificate of optimality."""

from itertools import product
from math import lgamma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from distclust.assign import exact, greedy


def objective(cost, labels, log_prior=None):
    """Eq. (5)."""
    base = np.asarray(cost, dtype=np.float64) - (0 if log_prior is None else log_prior)
    sizes = np.bincount(labels, minlength=base.shape[1])
    return base[np.arange(len(base)), labels].sum() + sum(lgamma(size + 1) for size in sizes)


def by_expansion(cost, log_prior=None):
    """The j-th place in a cluster costs log j more: an assignment of N points to N K places."""
    base = np.asarray(cost, dtype=np.float64) - (0 if log_prior is None else log_prior)
    n, k = base.shape
    places = base[:, :, None] + np.log(np.arange(1, n + 1))  # (N, K, N)
    _, place = linear_sum_assignment(places.reshape(n, k * n))
    return place // n


def by_brute_force(cost, log_prior=None):
    n, k = cost.shape
    return min(objective(cost, np.array(labels), log_prior) for labels in product(range(k), repeat=n))


def cheapest_cycle(cost, labels):
    """The change in the objective of the best chain or ring of moves between clusters; < 0 = not optimal."""
    k = cost.shape[1]
    sizes = np.bincount(labels, minlength=k)
    length = np.full((k + 1, k + 1), np.inf)  # node k stands for a size that shrinks or grows
    for a in range(k):
        members = cost[labels == a]
        if len(members):
            length[a, :k] = (members - members[:, [a]]).min(axis=0)
            length[k, a] = -np.log(sizes[a])
        length[a, k] = np.log(sizes[a] + 1)
    np.fill_diagonal(length, np.inf)
    for through in range(k + 1):
        length = np.minimum(length, length[:, [through]] + length[[through], :])
    return length.diagonal().min()


COSTS = {
    "uniform": lambda rng, n, k: rng.random((n, k)),
    "sharp": lambda rng, n, k: 50 * rng.random((n, k)),
    "negative": lambda rng, n, k: -10 * rng.random((n, k)),
    "latent": lambda rng, n, k: ((rng.normal(size=(n, 1, 8)) - rng.normal(size=(1, k, 8))) ** 2).sum(-1) / 2,
    "float32": lambda rng, n, k: rng.normal(size=(n, k)).astype(np.float32),
    "collapsed": lambda rng, n, k: 1e-3 * rng.random((n, k)) + 2 * np.arange(k),
    "equal": lambda rng, n, k: np.zeros((n, k)),
    "integers": lambda rng, n, k: rng.integers(0, 4, size=(n, k)),
    "large rows": lambda rng, n, k: rng.integers(0, 9, size=(n, k)) + 1e9 * rng.integers(0, 9, size=(n, 1)),
    "half forbidden": lambda rng, n, k: np.where(
        (rng.random((n, k)) < 0.5) & (np.arange(k) > 0), np.inf, rng.random((n, k))
    ),
}


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (4, 9), (20, 3), (60, 8)])
@pytest.mark.parametrize("kind", COSTS)
def test_equals_the_optimum_of_the_expansion(kind, shape):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        cost = COSTS[kind](rng, *shape)
        for log_prior in (None, np.log(rng.dirichlet(np.ones(shape[1])))):
            optimum = objective(cost, by_expansion(cost, log_prior), log_prior)
            assert objective(cost, exact(cost, log_prior), log_prior) == pytest.approx(optimum, rel=1e-12, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.integers(1, 3).flatmap(
            lambda k: st.lists(
                st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.69, 0.7, 1.0, 3.0, -2.0]), min_size=k, max_size=k),
                min_size=n,
                max_size=n,
            )
        )
    ),
    st.lists(st.sampled_from([0.0, -0.7, -2.0, -np.inf]), min_size=2, max_size=2),
)
def test_equals_brute_force(rows, rest):
    cost = np.array(rows)
    log_prior = np.array([0.0, *rest])[: cost.shape[1]]
    best = by_brute_force(cost, log_prior)
    assert objective(cost, exact(cost, log_prior), log_prior) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("shape", [(2000, 10), (500, 60)])
@pytest.mark.parametrize("kind", ["uniform", "latent", "collapsed", "integers"])
def test_no_chain_of_moves_improves_a_large_problem(kind, shape):
    cost = COSTS[kind](np.random.default_rng(1), *shape).astype(np.float64)
    assert cheapest_cycle(cost, exact(cost)) > -1e-9
    assert cheapest_cycle(cost, greedy(cost)) < -1e-9 or kind == "integers"  # the certificate can fail


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**31), st.sampled_from(sorted(COSTS)))
def test_is_never_worse_than_greedy_and_blind_to_order(n, k, seed, kind):
    rng = np.random.default_rng(seed)
    cost = COSTS[kind](rng, n, k)
    log_prior = np.log(rng.dirichlet(np.ones(k)))
    best = objective(cost, exact(cost, log_prior), log_prior)
    near = pytest.approx(best, rel=1e-12, abs=1e-9)
    assert best <= objective(cost, greedy(cost, log_prior), log_prior) + 1e-9 + 1e-12 * abs(best)
    points, clusters = rng.permutation(n), rng.permutation(k)
    assert objective(cost[points], exact(cost[points], log_prior), log_prior) == near
    cost, log_prior = cost[:, clusters], log_prior[clusters]
    assert objective(cost, exact(cost, log_prior), log_prior) == near


def test_greedy_can_be_worse():
    cost = np.array([[0.0, 0.1], [0.05, 1.0]])
    assert greedy(cost).tolist() == [0, 0]
    assert exact(cost).tolist() == [1, 0]


def test_a_constant_added_to_a_row_changes_nothing():
    rng = np.random.default_rng(0)
    cost = rng.integers(0, 4, size=(50, 5)).astype(np.float64)
    shift = 2.0**52 + rng.integers(1, 9, size=(50, 1)) * 4  # the sums are exact, but have no room for a logarithm
    np.testing.assert_array_equal(exact(cost + shift), exact(cost))


def test_the_same_input_gives_the_same_labels_among_ties():
    assert len({tuple(exact(np.zeros((25, 4))).tolist()) for _ in range(5)}) == 1


def test_values_at_the_edge_of_float64_are_no_trouble():
    cost = np.array([[1e308, -1e308, 0.0], [1e308, 1e308, 1e308], [np.inf, -1e308, 1e308]])
    assert exact(cost).tolist() in ([1, 0, 1], [1, 2, 1])
