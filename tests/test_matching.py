"""Contingency tables and one-to-one matching, dense and sparse, against slow twins."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from distclust import matching
from distclust.matching import cells, one_to_one, tabled, weight


@st.composite
def points(draw):
    """Names of some points in two labelings, and the shape of their table."""
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    name = st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1))
    pairs = np.array(draw(st.lists(name, max_size=25)), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], shape


def sparsely(function, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_CELLS", 0)
        return function(*arguments)


@given(points())
def test_tables_count_pairs_of_names(made):
    rows, columns, shape = made
    counts = Counter(zip(rows.tolist(), columns.tolist(), strict=True))
    dense, large = tabled(*made), sparsely(tabled, *made)
    assert isinstance(dense, np.ndarray)
    assert sparse.issparse(large)
    np.testing.assert_array_equal(dense, [[counts[r, c] for c in range(shape[1])] for r in range(shape[0])])
    np.testing.assert_array_equal(large.toarray(), dense)
    assert cells(dense).sum() == cells(large).sum() == len(rows)


@given(points(), st.integers(0, 1000))
def test_tables_of_points_that_stand_for_several(made, seed):
    counts = np.random.default_rng(seed).integers(1, 5, len(made[0]))
    rows, columns = (np.repeat(side, counts) for side in made[:2])
    np.testing.assert_array_equal(tabled(*made, counts), tabled(rows, columns, made[2]))
    np.testing.assert_array_equal(sparsely(tabled, *made, counts).toarray(), tabled(rows, columns, made[2]))


def most(table):
    """The greatest sum over cells of different rows and columns, by trying all."""
    table = table if table.shape[0] <= table.shape[1] else table.T
    return max(
        sum(table[r, c] for r, c in enumerate(order)) for order in permutations(range(table.shape[1]), len(table))
    )


@given(points())
@settings(max_examples=60, deadline=None)
def test_a_matching_is_the_best_of_all(made):
    dense, large = tabled(*made), sparsely(tabled, *made)
    best = most(dense)
    for table, pairs in ((dense, one_to_one(dense)), (large, one_to_one(large))):
        assert weight(table, pairs) == dense[pairs].sum() == best
        assert len(set(pairs.rows)) == len(set(pairs.columns)) == len(pairs.rows) == min(made[2])


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_sparse_matchings_of_many_names(noise):
    """More than the tests above can try out: entries that are surely in, and those that are not."""
    rng = np.random.default_rng(0)
    rows = rng.integers(300, size=1500)
    columns = rng.permutation(300)[np.where(rng.random(1500) < noise, rng.integers(300, size=1500), rows)]
    dense, large = tabled(rows, columns, (300, 300)), sparsely(tabled, rows, columns, (300, 300))
    best = dense[linear_sum_assignment(dense, maximize=True)].sum()
    assert weight(large, one_to_one(large)) == best
    assert dense[one_to_one(large)].sum() == best
