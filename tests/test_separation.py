"""Gaps between clusters: against a slow twin, on groups that are apart and on slices of a single one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust import separation as s
from distclust.errors import DataError


def slow_gap(above, below):
    """Count by hand, number by number, on every way."""
    if not len(above) or not len(below) or np.median(above) <= np.median(below):
        return 0.0
    ways = [(0.25, 0.75)]
    ways += [(0.75, 0.75), (0.95, 0.75)] if len(below) > 4 * len(above) else []
    ways += [(0.25, 0.25), (0.25, 0.05)] if len(above) > 4 * len(below) else []
    best = 0.0
    for low, high in ways:
        start, end = np.quantile(below, low), np.quantile(above, high)
        thirds = [0, 0, 0]
        for t in [*above, *below]:
            if start <= t <= end and start < end:
                thirds[min(2, int(3 * (t - start) / (end - start)))] += 1
        side = min(thirds[0], thirds[2])
        if side - thirds[1] > 2.5 * np.sqrt(side + thirds[1]):
            best = max(best, 1 - thirds[1] / side)
    return best


def slow_distance(x, labels, second, i, cluster):
    """Return the mean distance of a point to its three nearest in the other half of a cluster."""
    others = [j for j in range(len(x)) if labels[j] == cluster and second[j] != second[i]]
    nearest = sorted(float(np.linalg.norm(x[i] - x[j])) for j in others)[:3]
    return np.mean(nearest) if nearest else np.inf


def groups(sizes, distance, n_features, seed=0):
    """Return Gaussians of spread 1 on a line, and their labels."""
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((n, n_features)) + k * distance / np.sqrt(n_features) for k, n in enumerate(sizes)]
    return np.concatenate(x), np.repeat(np.arange(len(sizes)), sizes)


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 400), st.floats(0, 12))
def test_gap_counts_as_its_twin(seed, n_above, n_below, distance):
    rng = np.random.default_rng(seed)
    above, below = rng.normal(distance, size=n_above), rng.normal(size=n_below)
    assert s.gap(above, below) == pytest.approx(slow_gap(above, below), abs=1e-12)
    assert s.gap(-below, -above) == pytest.approx(slow_gap(-below, -above), abs=1e-12)


def test_pairs_are_placed_as_by_their_twin():
    x, labels = groups([30, 25, 20], 4.0, 3)
    second = s._halves(labels, 5)
    for cluster, n in enumerate([30, 25, 20]):
        assert abs(2 * second[labels == cluster].sum() - n) <= 1
    far = np.array([[slow_distance(x, labels, second, i, c) for c in range(3)] for i in range(len(x))])
    found = s.pairwise_separation(x, labels, 5)
    for a in range(3):
        for b in range(a):
            t = far[:, b] - far[:, a]
            assert found[a, b] == found[b, a] == pytest.approx(slow_gap(t[labels == a], t[labels == b]))


@pytest.mark.parametrize("n_features", [2, 20, 50])
@pytest.mark.parametrize("sizes", [[500, 500], [900, 100], [990, 10], [700, 200, 60, 30, 10]])
def test_groups_of_any_size_that_are_apart_are_separated(sizes, n_features):
    x, labels = groups(sizes, 10.0, n_features)
    assert (s.separation(x, labels) > 0.9).all()


def test_a_cut_through_a_group_has_no_gap():
    x, labels = groups([900, 100], 12.0, 6)
    assert (s.separation(x, labels) > 0.9).all()
    assert (s.separation(x, (x[:, 0] > np.median(x[:900, 0])).astype(int)) == 0).all()
    three = np.where(labels == 1, 2, x[:, 0] > np.median(x[:900, 0])).astype(int)
    found = s.pairwise_separation(x, three)
    assert found[0, 1] == 0
    assert found[0, 2] > 0.9
    assert found[1, 2] > 0.9
    assert s.separation(x, three).tolist() == [0, 0, found[2, :2].min()]


def test_rings_are_separated_though_they_share_their_center():
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 600), np.repeat([1.0, 3.0], 300) + 0.1 * rng.standard_normal(600)
    x = np.c_[radius * np.cos(angle), radius * np.sin(angle)]
    assert (s.separation(x, np.repeat([0, 1], 300)) > 0.9).all()


@pytest.mark.parametrize("n_features", [1, 2, 10, 300])
@pytest.mark.parametrize("draw", ["normal", "uniform", "heavy", "long"])
def test_slices_of_noise_are_not_separated(draw, n_features):
    from sklearn.cluster import KMeans

    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = {
            "normal": lambda r=rng: r.standard_normal((400, n_features)),
            "uniform": lambda r=rng: r.random((400, n_features)),
            "heavy": lambda r=rng: r.standard_t(2, (400, n_features)),
            "long": lambda r=rng: r.standard_normal((400, n_features)) * np.geomspace(10, 1, n_features),
        }[draw]()
        labels = KMeans(3, n_init=1, random_state=seed).fit_predict(x)
        assert np.nanmax(s.separation(x, labels)) < 0.1
        assert np.nanmax(s.separation(x, rng.integers(0, 3, 400))) < 0.1


@given(st.integers(0, 10), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
@settings(max_examples=20)
def test_neither_unit_nor_origin_nor_names_matter(seed, scale, shift):
    x, labels = groups([60, 40, 20], 6.0, 4, seed)
    found = s.separation(x, labels)
    assert np.allclose(s.separation(x * scale + shift * scale, labels), found, atol=0.2)
    renamed = s.separation(x, np.array([2, 0, 1])[labels])
    assert np.allclose(renamed[[2, 0, 1]], found, atol=0.2)  # other halves


def test_labels_without_points_and_points_without_labels():
    x, labels = groups([50, 50], 20.0, 3)
    found = s.separation(x, np.where(labels == 1, 2, 0))
    assert np.isnan(found[1])
    assert (found[[0, 2]] > 0.9).all()
    labels[:5] = -1
    assert (s.separation(x, labels) > 0.9).all()
    assert np.isnan(s.separation(x, np.zeros(100, int))).all()
    assert s.separation(x, np.full(100, -1)).shape == (0,)
    assert s.separation(x, np.append(np.zeros(99, int), 1)).tolist() == [0, 0]  # one point shows nothing


def test_broken_input_is_refused():
    with pytest.raises(DataError, match="have shapes"):
        s.separation(np.zeros((4, 2)), [0, 1])
    with pytest.raises(DataError, match="have shapes"):
        s.separation(np.zeros(4), [0, 1, 0, 1])
