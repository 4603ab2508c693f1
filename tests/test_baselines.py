"""Cheap clusterers next to an ensemble, and what stability to expect of data without groups."""

import numpy as np
import pytest

from distclust.baselines import baselines


@pytest.fixture(scope="module")
def groups():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(60, 4)) + 12 * k for k in range(3)]).astype(np.float32)


def test_both_find_groups_that_are_apart(groups):
    found = baselines(groups, 3, seed=0)
    assert [b.name for b in found] == ["k-means", "UMAP + HDBSCAN"]
    for baseline in found:
        assert baseline.labels.shape == (3, 180)
        assert baseline.stability == 1
        assert (baseline.separation > 0.9).all()
        assert all(len(np.unique(row[60 * k : 60 * k + 60])) == 1 for row in baseline.labels for k in range(3))


def test_the_same_seed_gives_the_same(groups):
    x = np.random.default_rng(1).normal(size=(150, 5)).astype(np.float32)
    first, again, other = (baselines(x, 4, seed) for seed in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
        assert not np.array_equal(a.labels, c.labels)
        assert a.chance == b.chance


def chances(x, n_clusters):
    return [baseline.chance for baseline in baselines(x.astype(np.float32), n_clusters, 0)]


def test_chance_is_high_where_one_long_group_is_cut_in_two_and_low_where_nothing_is_long():
    rng = np.random.default_rng(0)
    assert chances(rng.normal(size=(300, 4)) * [10, 1, 1, 1], 2)[0] > 0.9
    assert max(chances(rng.normal(size=(300, 20)), 5)) < 0.6


def test_chance_does_not_see_the_groups(groups):
    """Reference data has the covariance of the data, not its gaps."""
    far = np.concatenate([groups, groups @ np.diag([1, -1, 1, -1]).astype(np.float32)])
    assert baselines(far, 6, 0)[0].stability > chances(far, 6)[0]


def test_few_points_and_many_clusters():
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    assert all(0 <= chance <= 1 for chance in chances(x, 12))
