"""The blocks of combination assignment: epochs, batches, covariances, starting centroids, posterior."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from torch import nn

from distclust.methods import CombinationAssignment
from distclust.methods.base import n_batches
from distclust.methods.combination import _MIN_STEPS, equidistant
from distclust.seeding import generator, integer

D = 4


def new_member(index=0, **parameters):
    """Return a member whose latents are the data."""
    settings = {"n_clusters": 3, "latent_dim": D, "scaling": "none", "encoder": "mlp"} | parameters
    member = CombinationAssignment(**settings).member((D,), index)
    member.net.encoder = nn.Identity()
    return member


def points(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, D)) @ rng.normal(size=(D, D)) + 5 * rng.integers(0, 3, size=n)[:, None]
    return torch.from_numpy(x.astype(np.float32))


@settings(deadline=None)
@given(st.integers(2, 100_000), st.integers(1, 60), st.integers(2, 2000), st.none() | st.integers(0, 200))
def test_rounds_share_the_epochs_evenly(n_samples, n_rounds, batch_size, more):
    n_epochs = "auto" if more is None else n_rounds + more
    method = CombinationAssignment(n_rounds=n_rounds, n_epochs=n_epochs, batch_size=batch_size)
    shares = [method.epochs((1, 28, 28), n_samples, round) for round in range(n_rounds)]
    total = method.total_epochs((1, 28, 28), n_samples)
    assert [epoch for share in shares for epoch in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) >= 1
    if more is not None:
        assert total == n_epochs


@settings(deadline=None)
@given(st.integers(2, 100_000), st.integers(1, 60), st.integers(2, 2000))
def test_auto_is_ten_epochs_or_as_many_as_small_data_needs(n_samples, n_rounds, batch_size):
    total = CombinationAssignment(n_rounds=n_rounds, batch_size=batch_size).total_epochs((1, 28, 28), n_samples)
    steps = n_batches(n_samples, batch_size)
    assert total >= max(10, n_rounds)
    assert total * steps >= _MIN_STEPS
    assert total in (10, n_rounds) or (total - 1) * steps < _MIN_STEPS  # no more than needed


@settings(deadline=None)
@given(st.integers(2, 3000), st.integers(2, 3000))
def test_batches_are_even_and_none_is_a_single_point(n, batch_size):
    sizes = [len(part) for part in np.array_split(np.arange(n), n_batches(n, batch_size))]
    assert sum(sizes) == n
    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= (3 if batch_size == 2 else batch_size)  # pairs of an odd number of points: one has three
    assert len(sizes) == math.ceil(n / batch_size) or batch_size == 2  # as few as can be


@settings(deadline=None)
@given(st.integers(2, 50), st.integers(2, 60))
def test_every_point_is_in_one_batch(n, batch_size):
    member = new_member(batch_size=batch_size)
    x, order = torch.arange(n)[:, None], np.random.default_rng(n).permutation(n)
    assert torch.cat(list(member._batches(x, order))).flatten().tolist() == order.tolist()


def covariances_by_hand(x, labels, k, sigma):
    d = x.shape[1]
    pooled, found = np.cov(x.T, bias=True), []
    for cluster in range(k):
        z = x[labels == cluster]
        own = np.cov(z.T, bias=True) if len(z) else np.zeros((d, d))
        found.append((len(z) * own + d * pooled) / (len(z) + d))  # few points: lean on the pooled shape
    jitter = 1e-3 * np.mean([np.trace(c) / d for c in found])
    found = [c + jitter * np.eye(d) for c in found]
    return np.stack([c * sigma / np.linalg.det(c) ** (1 / d) for c in found])  # the volume of sigma I


@pytest.mark.parametrize("sigma", [0.5, 100.0])
@pytest.mark.parametrize("sizes", [(40, 30, 20, 10), (97, 1, 2, 0), (5000, 300, 3, 0)])  # 4,096 points a block
def test_estimated_covariances(sizes, sigma):
    k = len(sizes)
    member = new_member(n_clusters=k, covariance="estimated", sigma=sigma)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(k), sizes))
    x = points(len(labels))
    member._estimate_covariances(x, torch.from_numpy(labels))
    expected = covariances_by_hand(x.numpy().astype(np.float64), labels, k, sigma)
    w = member.net.whitening.double()
    assert torch.equal(w, w.tril())
    np.testing.assert_allclose(w.mT @ w @ torch.from_numpy(expected), np.tile(np.eye(D), (k, 1, 1)), atol=1e-4)
    np.testing.assert_allclose(torch.logdet(w.mT @ w), -D * math.log(sigma), atol=1e-4)


def test_estimated_covariances_enter_the_cost():
    sigma = 2.0
    member = new_member(covariance="estimated", sigma=sigma)
    x, labels = points(200), torch.arange(200) % 3
    member._estimate_covariances(x, labels)
    covariances = covariances_by_hand(x.numpy().astype(np.float64), labels.numpy(), 3, sigma)
    centroids = member.net.centroids.detach().double().numpy()
    densities = [multivariate_normal(m, c).logpdf(x.numpy()) for m, c in zip(centroids, covariances, strict=True)]
    expected = -np.stack(densities, axis=1) - D / 2 * math.log(2 * math.pi * sigma)
    np.testing.assert_allclose(member.net.cost(x).detach(), expected, rtol=1e-3)


def test_before_the_first_estimate_the_clusters_are_round():
    x = points(50)
    estimated, isotropic = new_member(covariance="estimated", sigma=3.0), new_member(sigma=3.0)
    torch.testing.assert_close(estimated.net.cost(x), isotropic.net.cost(x), rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(0, 999), st.floats(0.1, 1000))
def test_the_posterior_is_greatest_at_the_nearest_centroid(k, seed, sigma):
    member = new_member(n_clusters=k, random_state=seed, sigma=sigma)
    x = points(100, seed)
    squares = cdist(x.double(), member.net.centroids.detach().double(), "sqeuclidean")
    probs = member.predict_proba(x)
    weights = np.exp(-(squares - squares.min(1, keepdims=True)) / (2 * sigma))
    np.testing.assert_allclose(probs, weights / weights.sum(1, keepdims=True), rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-12)
    first, second = np.sort(squares, axis=1)[:, :2].T
    clear = second - first > 1e-3
    assert clear.sum() > 50
    assert (probs.argmax(1).numpy() == squares.argmin(1))[clear].all()
    assert torch.equal(member._look(x), probs.argmax(1))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(0, 4), st.integers(0, 2**31), st.floats(0.1, 100), st.floats(-100, 100))
def test_the_regular_simplex_nearest_to_the_centres(k, more, seed, scale, shift):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, k - 1 + more))
    corners = equidistant(centres)
    distances = cdist(corners, corners)[~np.eye(k, dtype=bool)]
    np.testing.assert_allclose(distances, distances[0], rtol=1e-6)
    np.testing.assert_allclose(corners.mean(0), 0, atol=1e-9)
    assert corners.std() == pytest.approx(1)
    np.testing.assert_allclose(equidistant(corners), corners, atol=1e-6)
    np.testing.assert_allclose(equidistant(scale * centres + shift), corners, atol=1e-5)
    for _ in range(5):  # no turned simplex of the same size lies nearer
        turned = corners @ np.linalg.qr(rng.normal(size=(corners.shape[1],) * 2))[0]
        assert (centres * turned).sum() <= (centres * corners).sum() + 1e-9


def test_many_centres_in_few_dimensions_spread_equally_in_all_directions():
    corners = equidistant(np.random.default_rng(0).normal(size=(20, 3)) * [1, 5, 0.2] + 7)
    np.testing.assert_allclose(corners.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(corners.T @ corners / 20, np.eye(3), atol=1e-12)
    assert not equidistant(np.ones((4, 5))).any()  # no direction is seen


@pytest.mark.parametrize("n", [60, 700])
def test_centroids_start_at_the_k_means_centres_made_equidistant(n):
    member = new_member(index=2, random_state=5, batch_size=64)
    x = points(n)
    member._start(x)
    order = generator(5, "points for k-means", member=2).permutation(n)
    seed = integer(5, "k-means", member=2)
    centres = KMeans(3, n_init=10, random_state=seed).fit(x[order].double().numpy()).cluster_centers_
    centred = centres - centres.mean(0)
    corners = np.linalg.pinv(sqrtm(centred @ centred.T).real, rcond=1e-5) @ centred  # (C C^T)^(-1/2) C
    np.testing.assert_allclose(member.net.centroids.detach(), corners / corners.std(), atol=1e-4)


def test_k_means_sees_ten_thousand_points_at_most(monkeypatch):
    seen = []
    monkeypatch.setattr(
        KMeans, "fit", lambda self, x: (seen.append(len(x)), setattr(self, "cluster_centers_", x[:3]))[0] or self
    )
    new_member()._centroids_from_k_means(points(10_500))
    assert seen == [10_000]


def test_members_start_apart_and_the_same_member_starts_the_same():
    def start(index, centroids):
        member = CombinationAssignment(n_clusters=3, latent_dim=D, encoder="mlp", centroids=centroids).member(
            (D,), index
        )
        member._start(points(80))
        return member.net.centroids.detach()

    for centroids in ("k-means", "normal"):
        assert torch.equal(start(0, centroids), start(0, centroids))
        assert not torch.allclose(start(0, centroids), start(1, centroids))
    assert not torch.allclose(start(0, "k-means"), start(0, "normal"))


@pytest.mark.parametrize("covariance", ["isotropic", "estimated"])
def test_the_labels_of_a_round_are_those_of_the_model_it_leaves(covariance):
    member = new_member(covariance=covariance, n_epochs=2, n_rounds=2, batch_size=50)
    x = points(300)
    labels = member.advance(x, None, 0).labels
    assert (member.predict_proba(x).argmax(1).numpy() != labels).mean() < 0.01  # but for ties
