import os
import pickle
import platform
import subprocess
import sys
import warnings
from itertools import combinations

import numpy as np
import pytest
from hdbscan import HDBSCAN
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage
from sklearn.metrics import adjusted_rand_score

from distclust import labelling
from distclust.errors import DataError, ParameterError, UnknownNameError
from distclust.labelling import Collapsed, NoCut, auto_label, cut, embed, label, nearest_neighbours, persistent_cut

WAYS = ["auto", "umap-hdbscan", "umap-gmm", "umap-k-means", "hdbscan", "gmm", "k-means"]
QUICK_WAYS = ["hdbscan", "gmm", "k-means"]


def same_partition(a, b):
    return adjusted_rand_score(a, b) == 1


def in_order_met(labels):
    """Numbered as the points meet the clusters, -1 stays."""
    names = {}
    return [-1 if name < 0 else names.setdefault(name, len(names)) for name in labels]


# cut


def tree_of(points, min_samples=3):
    """HDBSCAN's linkage tree, its own object."""
    density = HDBSCAN(min_cluster_size=2, min_samples=min_samples, approx_min_span_tree=False, core_dist_n_jobs=1)
    return density.fit(np.asarray(points, dtype=float)).single_linkage_tree_


def slow_cuts(tree, min_cluster_size):
    """HDBSCAN's own labels at every level, lowest first."""
    levels = [-1.0, *np.unique(tree.to_numpy()[:, 2])]
    return [tree.get_clusters(np.nextafter(level, np.inf), min_cluster_size) for level in levels]


def slow_persistence(levels, counts, highest):
    """The level above the highest one with K clusters, divided by the lowest in a row with as many below it."""
    lowest = highest
    while lowest > 0 and counts[lowest - 1] == counts[highest]:
        lowest -= 1
    return levels[highest + 1] / levels[lowest] if levels[lowest] > 0 else np.inf


def assert_cut_as_slowly(tree, n_clusters, min_cluster_size):
    found = slow_cuts(tree, min_cluster_size)
    counts = [labels.max() + 1 for labels in found]
    if n_clusters in counts:
        highest = max(i for i, count in enumerate(counts) if count == n_clusters)
        assert cut(tree.to_numpy(), n_clusters, min_cluster_size).tolist() == in_order_met(found[highest])
        assert persistent_cut(tree.to_numpy(), n_clusters, min_cluster_size).persistence == slow_persistence(
            [0.0, *np.unique(tree.to_numpy()[:, 2]), np.inf], counts, highest
        )
    else:
        with pytest.raises(NoCut) as caught:
            cut(tree.to_numpy(), n_clusters, min_cluster_size)
        assert caught.value.possible == tuple(sorted(set(counts)))


@st.composite
def grids(draw):
    """Points on a small grid: many equal distances, many equal points."""
    n_dimensions, side = draw(st.integers(1, 2)), draw(st.integers(1, 9))
    point = st.lists(st.integers(0, side), min_size=n_dimensions, max_size=n_dimensions)
    return draw(st.lists(point, min_size=2, max_size=25))


@given(grids(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))
@settings(deadline=None)
def test_cut_is_the_highest_of_all_levels_of_hdbscan_with_ties(points, min_samples, n_clusters, min_cluster_size):
    assert_cut_as_slowly(tree_of(points, min_samples), n_clusters, min_cluster_size)


@pytest.mark.parametrize("seed", range(5))
def test_cut_is_the_highest_of_all_levels_of_hdbscan(seed):
    rng = np.random.default_rng(seed)
    tree = tree_of(rng.normal(size=(120, 2)) + 3 * rng.integers(3, size=(120, 1)))
    for n_clusters in range(1, 9):
        for min_cluster_size in (1, 2, 5, 20):
            assert_cut_as_slowly(tree, n_clusters, min_cluster_size)


def cut_or_none(points, n_clusters, min_cluster_size):
    try:
        return cut(tree_of(points).to_numpy(), n_clusters, min_cluster_size)
    except NoCut:
        return None


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 5), st.integers(1, 8), st.booleans())
@settings(deadline=None)
def test_cut_gives_exactly_k_clusters_of_at_least_the_size(seed, n_points, n_clusters, min_cluster_size, ties):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n_points, 2))
    points = points.round(1) if ties else points
    labels = cut_or_none(points, n_clusters, min_cluster_size)
    assume(labels is not None)
    sizes = np.bincount(labels[labels >= 0])
    assert labels.dtype == np.int64
    assert len(sizes) == n_clusters
    assert sizes.min() >= min_cluster_size
    assert labels.tolist() == in_order_met(labels)
    order = rng.permutation(n_points)
    permuted = cut_or_none(points[order], n_clusters, min_cluster_size)
    assert permuted.tolist() == in_order_met(labels[order])


def test_of_several_levels_the_highest_is_taken():
    #   0 1    10 11 12        30: two clusters of two or more up to distance 9, and 30 is noise until the end
    tree = linkage(np.array([[0.0], [1.0], [10.0], [11.0], [12.5], [30.0]]), "single")
    assert cut(tree, 2, 2).tolist() == [0, 0, 1, 1, 1, -1]
    assert cut(tree, 1, 2).tolist() == [0] * 6
    assert cut(tree, 6, 1).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(NoCut, match="it can give 0 to 2"):
        cut(tree, 3, 2)


def test_a_cut_persists_from_the_merge_that_makes_its_clusters_to_the_merge_that_ends_them():
    tree = linkage(np.array([[0.0], [1.0], [10.0], [11.0], [12.5], [30.0]]), "single")
    assert persistent_cut(tree, 2, 2).persistence == 9.0  # from 1, where 10 and 11 join, to 9
    assert persistent_cut(tree, 1, 2).persistence == np.inf  # one cluster never ends
    doubles = linkage(np.array([[0.0], [0.0], [5.0], [5.0]]), "single")
    assert persistent_cut(doubles, 2, 2).persistence == np.inf  # they are distinct points


def test_no_cut_says_what_was_asked_what_is_possible_and_what_to_do():
    equal = np.array([[0, 1, 1.0, 2], [2, 4, 1.0, 3], [3, 5, 1.0, 4]])  # four points at equal distances
    with pytest.raises(NoCut) as caught:
        cut(equal, 3, 2)
    assert str(caught.value) == (
        "no level of the linkage tree gives exactly 3 clusters of at least 2 points; it can give 0 to 1. "
        "Take a smaller min_cluster_size, or umap-gmm, which cuts no tree."
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.n_clusters, again.min_cluster_size, again.possible) == (3, 2, (0, 1))


def test_a_tree_of_one_point():
    assert cut(np.empty((0, 4)), 1, 1).tolist() == [0]
    with pytest.raises(NoCut, match="it can give 0"):
        cut(np.empty((0, 4)), 1, 2)


def test_cut_refuses_what_is_no_tree_and_no_number():
    with pytest.raises(DataError, match=r"the tree has shape \(3, 3\)"):
        cut(np.zeros((3, 3)), 2, 2)
    with pytest.raises(ParameterError) as caught:
        cut(np.empty((0, 4)), 0, 1.5)
    assert caught.value.faults == (
        "n_clusters is 0; it must be an integer, at least 1.",
        "min_cluster_size is 1.5; it must be an integer, at least 1.",
    )


def test_a_chain_of_many_points_is_cut_at_once():
    n_points = 100_000
    chain = np.stack([np.arange(n_points - 1), np.arange(n_points - 1)], axis=1)
    chain[1:, 1] += n_points - 1  # each point joins all before it
    chain[0, 1] = n_points - 1
    chain[:, 0] = np.arange(n_points - 1)
    tree = np.column_stack([chain, np.arange(n_points - 1), np.arange(2, n_points + 1)])
    assert cut(tree, 1, 50).tolist() == [0] * n_points
    with pytest.raises(NoCut, match="it can give 0 to 1"):
        cut(tree, 2, 50)


# neighbours


def slow_neighbours(points, k):
    """In float64, one pair at a time: the point itself, then by distance, then by index."""
    points = np.asarray(points, dtype=np.float64)
    distances = np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1))
    order = [sorted(range(len(points)), key=lambda j: (j != i, distances[i, j], j))[:k] for i in range(len(points))]
    return np.array(order), np.take_along_axis(distances, np.array(order), 1)


@given(grids(), st.data())
@settings(deadline=None)
def test_neighbours_with_ties_and_duplicates(points, data):
    k, block = data.draw(st.integers(1, len(points))), data.draw(st.integers(1, 30))
    found, (indices, distances) = nearest_neighbours(points, k, block), slow_neighbours(points, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    assert found.indices.dtype == np.int32
    assert found.distances.dtype == np.float32


@pytest.mark.parametrize("n_points", [3, 64, 65, 400])
@pytest.mark.parametrize("n_dimensions", [1, 3, 40])
def test_neighbours_of_random_points(n_points, n_dimensions):
    points = np.random.default_rng(n_points).normal(size=(n_points, n_dimensions)).astype(np.float32)
    for k in {1, 2, min(10, n_points), n_points}:
        found, (indices, distances) = nearest_neighbours(points, k), slow_neighbours(points, k)
        np.testing.assert_allclose(found.distances, distances, atol=5e-7 * distances.max())
        clear = np.diff(distances, axis=1, prepend=-1, append=np.inf) > 1e-5 * distances.max()  # no tie in float32
        clear = clear[:, :-1] & clear[:, 1:]
        clear[:, -1] &= k == n_points
        np.testing.assert_array_equal(found.indices[clear], indices[clear])
        assert clear.mean() > 0.3 or k == 1


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_neighbours_far_from_zero_of_any_scale_with_duplicates(scale):
    rng = np.random.default_rng(0)
    points = (1000 + rng.normal(size=(200, 8))) * scale
    points[100:] = points[rng.integers(100, size=100)]
    points = points.astype(np.float32)
    found, (_, distances) = nearest_neighbours(points, 12), slow_neighbours(points, 12)
    np.testing.assert_allclose(found.distances / scale, distances / scale, rtol=1e-4)
    np.testing.assert_array_equal(found.distances == 0, distances == 0)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(200))


def test_neighbours_where_nearly_all_points_are_equal():
    points = np.zeros((1000, 4))
    points[::100] = np.random.default_rng(0).integers(-3, 4, size=(10, 4))
    np.testing.assert_array_equal(nearest_neighbours(points, 7).indices, slow_neighbours(points, 7)[0])


def searched_with_torch(points, k, block, device):
    import torch

    blocks = labelling._search_with_torch(torch.from_numpy(points).to(device), k, block)
    return (np.concatenate(part) for part in zip(*blocks, strict=True))


@given(grids(), st.data())
@settings(deadline=None, max_examples=30)
def test_the_search_with_torch_finds_the_same(points, data):
    k = data.draw(st.integers(1, len(points)))
    found = nearest_neighbours(points, k)
    indices, distances = searched_with_torch(np.array(points, dtype=np.float32), k, 7, "cpu")
    np.testing.assert_array_equal(indices, found.indices)
    np.testing.assert_allclose(distances, found.distances, rtol=1e-6)


def test_a_tensor_on_cuda_is_searched_there(blobs):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    here, there = nearest_neighbours(blobs[0], 10), nearest_neighbours(torch.from_numpy(blobs[0]).cuda(), 10)
    np.testing.assert_array_equal(there.indices, here.indices)
    np.testing.assert_allclose(there.distances, here.distances, rtol=1e-5)
    labels = label(torch.from_numpy(blobs[0]).cuda(), 3)
    assert same_partition(labels, blobs[1])


def test_neighbours_refuse_numbers_out_of_range():
    with pytest.raises(ParameterError) as caught:
        nearest_neighbours(np.eye(3), 4, 0)
    assert caught.value.faults == (
        "n_neighbors is 4; it must be an integer, in 1 .. 3: there are as many points.",
        "block is 0; it must be an integer, at least 1.",
    )


# embed


class Recorder:
    """Stands for UMAP and keeps what it was given."""

    def __init__(self, n_neighbors, **given):
        Recorder.given = {"n_neighbors": n_neighbors, **given}

    def fit_transform(self, points):
        Recorder.points = points
        return np.zeros((len(points), 2), dtype=np.float32)


@pytest.fixture
def recorder(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # umap misses tensorflow
        monkeypatch.setattr("umap.UMAP", Recorder)


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize(
    ("n_points", "n_neighbors", "used"),
    [(3, None, 2), (8, None, 7), (300, None, 10), (9_298, None, 10), (70_000, None, 30), (300, 4, 4), (9, 20, 8)],
)
def test_neighbours_of_umap_grow_with_the_points_between_bounds(n_points, n_neighbors, used):
    embed(np.random.default_rng(0).normal(size=(n_points, 2)), 5, n_neighbors)
    known = Recorder.given.pop("precomputed_knn", None)
    assert Recorder.given == {
        "n_neighbors": used,
        "n_epochs": 200,
        "a": pytest.approx(1.9328084),
        "b": pytest.approx(0.790495),
        "init": "random" if n_points == 3 else "spectral",
        "random_state": 5,
        "n_jobs": 1,
    }
    assert (known is None) == (n_points == 70_000)  # there the index is cheaper
    if known:
        indices, distances, index = known
        assert indices.shape == distances.shape == (n_points, used)
        assert index is None
        np.testing.assert_array_equal(indices, nearest_neighbours(Recorder.points, used).indices)


@pytest.mark.usefixtures("recorder")  # for the import of umap
def test_the_curve_is_that_of_min_dist_0():
    from umap.umap_ import find_ab_params

    assert find_ab_params(spread=1.0, min_dist=0.0) == pytest.approx(tuple(labelling._CURVE.values()), abs=1e-6)


@pytest.mark.usefixtures("recorder")
def test_umap_is_given_the_points_at_unit_scale_with_their_distances_unchanged():
    latents = (50 + np.random.default_rng(0).normal(size=(40, 3))).astype(np.float32)
    embed(latents, 0)
    assert 0.5 <= np.linalg.norm(Recorder.points, axis=1).max() <= 1
    there, here = nearest_neighbours(Recorder.points, 5), nearest_neighbours(latents, 5)
    np.testing.assert_array_equal(there.indices, here.indices)
    np.testing.assert_allclose(there.distances * 4, here.distances, rtol=1e-4)


@pytest.mark.parametrize("n_points", [3, 4, 5, 6, 10, 11, 40])
@pytest.mark.parametrize("n_dimensions", [1, 5])
def test_umap_takes_few_points_quietly(n_points, n_dimensions):
    positions = embed(np.random.default_rng(n_points).normal(size=(n_points, n_dimensions)), 0)
    assert positions.shape == (n_points, 2)
    assert positions.dtype == np.float32
    assert np.isfinite(positions).all()


def awkward():
    rng = np.random.default_rng(0)
    return {
        "3 distinct of 40": rng.normal(size=(3, 4))[rng.integers(3, size=40)],
        "half equal": np.where(rng.random((100, 1)) < 0.5, 0, rng.normal(size=(100, 4))),
        "grid": np.argwhere(np.ones((10, 10))),
        "line": np.arange(100)[:, None],
        "one far away": np.append(rng.normal(size=(99, 4)), np.full((1, 4), 1e7), axis=0),
        "far apart": 1e4 * rng.normal(size=(12, 30))[rng.integers(12, size=200)] + rng.normal(size=(200, 30)),
        "tiny": 1e-30 * rng.normal(size=(100, 4)),
        "huge": 1e30 * rng.normal(size=(100, 4)),
        "nearly equal": 1 + 1e-6 * rng.normal(size=(100, 4)),
    }


@pytest.mark.parametrize("name", awkward())
@pytest.mark.parametrize("by", WAYS)
def test_awkward_latents_are_labelled_quietly_and_again_alike(by, name):
    latents = awkward()[name]
    try:
        labels = label(latents, 3, by=by, min_cluster_size=2)
    except NoCut:
        assert by.endswith("hdbscan")  # as it may
        return
    assert labels.shape == (len(latents),)
    assert labels.tolist() == in_order_met(labels)
    assert labels.max() == 2 or by.endswith("gmm") or by == "auto"
    np.testing.assert_array_equal(label(latents, 3, by=by, min_cluster_size=2), labels)


@pytest.mark.slow
def test_umap_without_neighbours_given_does_the_same_work(monkeypatch, blobs):
    monkeypatch.setattr(labelling, "_EXACT_WORK", 0)
    assert same_partition(label(blobs[0], 3), blobs[1])


# label


@pytest.mark.parametrize("by", WAYS)
def test_separate_groups_are_found(blobs, by):
    labels = label(blobs[0], 3, by=by)
    assert labels.dtype == np.int64
    assert same_partition(labels, blobs[1])
    assert labels.tolist() == in_order_met(labels)


@pytest.mark.parametrize("by", WAYS)
def test_same_seed_same_labels_whatever_the_global_random_state(by):
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(160, 3)) + 3 * rng.normal(size=(4, 3))[rng.integers(4, size=160)]
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = label(latents, 4, by=by, seed=3, min_cluster_size=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(label(latents, 4, by=by, seed=3, min_cluster_size=2), first)


def test_same_seed_same_positions_to_the_byte():
    latents = np.random.default_rng(1).normal(size=(200, 3))
    first, second, other = embed(latents, 7), embed(latents.copy(), 7), embed(latents, 8)
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("by", ["hdbscan", "umap-hdbscan"])
def test_tensors_are_taken(blobs, by):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(blobs[0]).requires_grad_()
    np.testing.assert_array_equal(label(tensor, 3, by=by), label(blobs[0], 3, by=by))
    np.testing.assert_array_equal(label(tensor.half(), 3, by="k-means"), label(blobs[0], 3, by="k-means"))


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("size", [(2, 2), (3, 2), (5, 4), (6, 4), (10, 3), (11, 10), (1, 1), (7, 1)])
def test_hardly_more_points_than_clusters(by, size):
    n_points, n_clusters = size
    latents = np.random.default_rng(n_points).normal(size=(n_points, 6))
    labels = label(latents, n_clusters, by=by)
    assert labels.tolist() == in_order_met(labels)
    assert set(labels) == set(range(n_clusters)) or by.endswith("gmm") or by == "auto"


@given(grids(), st.integers(1, 6), st.sampled_from(QUICK_WAYS))
@settings(deadline=None, max_examples=60)
def test_every_point_is_labelled_and_all_clusters_are_used(points, n_clusters, by):
    n_distinct = len({tuple(point) for point in points})
    assume(n_clusters <= len(points))
    if n_distinct < n_clusters:
        with pytest.raises(Collapsed, match=f"{n_distinct} distinct points and {n_clusters} are needed"):
            label(points, n_clusters, by=by)
        return
    try:
        labels = label(points, n_clusters, by=by)
    except NoCut:
        assert by == "hdbscan"
        return
    assert labels.min() == 0
    assert labels.max() == n_clusters - 1 or by == "gmm"
    assert labels.tolist() == in_order_met(labels)


@given(grids(), st.data())
@settings(deadline=None)
def test_noise_takes_the_label_of_a_nearest_clustered_point(points, data):
    space = np.array(points, dtype=np.float64)
    labels = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=len(points), max_size=len(points))))
    assume((labels >= 0).any())
    filled = labelling._with_noise_labelled(space, labels.copy())
    np.testing.assert_array_equal(filled[labels >= 0], labels[labels >= 0])
    for point in np.flatnonzero(labels < 0):
        distances = np.linalg.norm(space - space[point], axis=1)
        nearest = distances[labels >= 0].min()
        assert filled[point] in labels[(labels >= 0) & (distances <= nearest + 1e-9)]


@pytest.mark.parametrize("by", WAYS)
def test_equal_latents_are_said_to_have_collapsed(by):
    with pytest.raises(Collapsed, match="1 distinct points and 3 are needed: the encoder has collapsed") as caught:
        label(np.ones((50, 4)), 3, by=by)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.n_distinct, again.n_needed) == (1, 3)


def test_latents_so_far_apart_that_rounding_makes_the_rest_equal():
    with pytest.raises(Collapsed, match="2 distinct points and 3 are needed"):
        label(np.array([[1e20], [0.0], [1.0], [2.0], [3.0]]), 3, by="k-means")


def test_embedding_equal_latents():
    with pytest.raises(Collapsed):
        embed(np.ones((50, 4)), 0)


def test_a_size_that_no_level_reaches_is_named_with_what_is_possible(blobs):
    with pytest.raises(NoCut, match="exactly 3 clusters of at least 150 points; it can give 0 to 1") as caught:
        label(blobs[0], 3, by="hdbscan", min_cluster_size=150)
    assert caught.value.possible == (0, 1)


@pytest.mark.parametrize(
    ("latents", "said"),
    [
        (np.zeros(5), r"shape \(5,\); they must be \(points, dimensions\)"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.array([["a", "b"]]), "they must be numbers"),
        (
            np.array([[1.0], [np.nan], [2.0], [np.inf]]),
            "2 of 4 latents are not finite.*first is number 1",
        ),
        (np.array([[1.0], [1e300]]), "1 of 2 latents are not finite"),
    ],
)
def test_latents_that_cannot_be_labelled(latents, said):
    for refuse in (lambda: label(latents, 1), lambda: embed(latents, 0), lambda: nearest_neighbours(latents, 1)):
        with pytest.raises(DataError, match=said):
            refuse()


def test_all_faults_of_the_parameters_are_said_at_once():
    with pytest.raises(ParameterError) as caught:
        label(np.eye(4), 5, seed=-1, n_neighbors=1, min_cluster_size=0)
    assert caught.value.faults == (
        "n_clusters is 5; it must be an integer, in 1 .. 4: there are as many latents.",
        "seed is -1; it must be an integer, in 0 .. 4294967295.",
        "n_neighbors is 1; it must be an integer, at least 2.",
        "min_cluster_size is 0; it must be an integer, at least 1.",
    )
    with pytest.raises(ParameterError, match=r"n_neighbors is 2\.5; it must be an integer, at least 2"):
        embed(np.eye(4), 0, 2.5)
    with pytest.raises(DataError, match="there are 2 latents; UMAP needs at least 3"):
        embed(np.eye(2), 0)


def test_an_unknown_way_is_answered_with_the_known_ones():
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'umap-gmm'.*Known: auto, gmm, hdbscan, k-means, umap-gmm, "
    ):
        label(np.eye(4), 2, by="umap-gm")


# groups of uneven size

UNEVEN = {"990:10": (990, 10), "900:100": (900, 100), "five": (700, 200, 60, 30, 10)}


def groups(sizes, n_dimensions, separation, seed=0):
    """Normal groups of unit deviation, the nearest two centres so many deviations apart."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), n_dimensions))
    centres *= separation / min(np.linalg.norm(a - b) for a, b in combinations(centres, 2))
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (centres[y] + rng.normal(size=(len(y), n_dimensions))).astype(np.float32), y


@pytest.mark.parametrize("n_dimensions", [2, 20])
@pytest.mark.parametrize("separation", [10, 30])
@pytest.mark.parametrize("sizes", UNEVEN.values(), ids=UNEVEN)
def test_auto_finds_groups_of_uneven_size(sizes, separation, n_dimensions):
    x, y = groups(sizes, n_dimensions, separation)
    found = auto_label(x, len(sizes))
    assert adjusted_rand_score(found.labels, y) > 0.98
    assert found.min_cluster_size <= min(sizes)
    np.testing.assert_array_equal(label(x, len(sizes), by="auto"), found.labels)


@pytest.mark.parametrize("separation", [4, 10])
def test_auto_is_the_papers_cut_where_groups_are_even(separation):
    x, y = groups((200, 200, 200), 6, separation)
    found = auto_label(x, 3, seed=1)
    assert (found.by, found.min_cluster_size) == ("umap-hdbscan", 100)
    np.testing.assert_array_equal(found.labels, label(x, 3, seed=1))
    assert adjusted_rand_score(found.labels, y) > 0.9


def test_auto_is_the_papers_cut_on_digits(digits):
    x = digits.x.reshape(len(digits.x), -1)
    np.testing.assert_array_equal(label(x, 10, by="auto"), label(x, 10))


@pytest.mark.parametrize("together", [True, False])
def test_five_outliers_do_not_replace_a_group(together):
    x, y = groups((334, 333, 333), 10, 4)
    rng = np.random.default_rng(1)
    away = rng.normal(size=(1 if together else 5, 10))
    outliers = 60 * away / np.linalg.norm(away, axis=1, keepdims=True) + rng.normal(size=(5, 10))
    labels = label(np.concatenate([x, outliers]), 3, by="auto")
    assert adjusted_rand_score(labels[:-5], y) > 0.85


def test_auto_is_a_mixture_where_no_cut_is_clear():
    one_group = np.random.default_rng(0).normal(size=(300, 5))
    found = auto_label(one_group, 4, seed=2)
    assert (found.by, found.min_cluster_size) == ("umap-gmm", 0)
    np.testing.assert_array_equal(found.labels, label(one_group, 4, by="umap-gmm", seed=2))


def test_auto_tries_no_other_than_a_given_size():
    x, _ = groups((700, 200, 60, 30, 10), 20, 30)
    assert auto_label(x, 5, min_cluster_size=100).by == "umap-gmm"
    assert auto_label(x, 5, min_cluster_size=8).min_cluster_size == 8


# real data and whole processes


def components(real_data):
    from sklearn.decomposition import PCA

    from distclust import load

    digits = load("usps", data_dir=str(real_data)).x
    return PCA(50, random_state=0).fit_transform(digits.reshape(len(digits), -1).astype(np.float32) / 255)


@pytest.mark.slow
def test_real_digits_are_labelled_alike_from_seed_to_seed(real_data):
    latents = components(real_data)[::3]
    found = [label(latents, 10, seed=seed, min_cluster_size=60) for seed in range(3)]
    assert min(adjusted_rand_score(a, b) for a, b in combinations(found, 2)) > 0.85


HASH = """
import hashlib, numpy as np
from distclust.labelling import embed, label
latents = np.random.default_rng(0).normal(size=(300, 5))
parts = [embed(latents, 1), label(latents, 4, min_cluster_size=2, seed=1), label(latents, 4, by="gmm", seed=1)]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


@pytest.mark.slow
def test_same_bytes_in_fresh_processes_with_other_threads_and_instructions():
    def run(**changed):
        env = os.environ | changed
        return subprocess.run([sys.executable, "-c", HASH], env=env, capture_output=True, text=True, check=True).stdout

    older = {"NUMBA_CPU_NAME": "haswell", "OPENBLAS_CORETYPE": "Nehalem"} if platform.machine() == "x86_64" else {}
    assert run(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1") == run(OMP_NUM_THREADS="2", NUMBA_NUM_THREADS="2", **older)


@pytest.mark.slow
def test_umaps_own_index_takes_over_where_there_are_many_points(monkeypatch, real_data):
    from sklearn.manifold import trustworthiness

    latents = components(real_data)[:4200]  # below 4,096 UMAP compares all points, too
    exact = trustworthiness(latents[:1000], embed(latents, 0)[:1000])
    monkeypatch.setattr(labelling, "_EXACT_WORK", 0)
    assert trustworthiness(latents[:1000], embed(latents, 0)[:1000]) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("by", ["k-means", "gmm", "hdbscan", "umap-k-means"])
def test_units_of_float64_latents_do_not_matter(by):
    groups = np.repeat(np.eye(3), 20, axis=0)
    points = np.round(50 * groups + np.random.default_rng(0).normal(size=(60, 3)), 2)
    expected = label(points, 3, by=by)
    for other in (points * 1e-30, points * 1e30, 1e9 + points):
        np.testing.assert_array_equal(label(other, 3, by=by), expected)
