"""Vectors of many features: scaling chosen by the data, starts that keep distances, defaults that go together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD

from distclust import CombinationAssignment, EntropyClustering, MiCE, SelectivePseudoLabel
from distclust.errors import ParameterError
from distclust.methods.combination import CombinationMember
from distclust.methods.entropy import centered_start
from distclust.metrics import accuracy
from distclust.nets import LinearEncoder, Scaling, build_autoencoder, choose_scaling


def mixture(n, d, k, seed, spread=0.7, decay=0.6):
    """Points about k centers; all variances fall with a power of the direction, as those of embeddings do."""
    rng = np.random.default_rng(seed)
    size = (1 + np.arange(d)) ** -decay
    y = rng.integers(0, k, n)
    x = (rng.normal(size=(k, d)) * spread)[y] + rng.normal(size=(n, d))
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (x * size / np.linalg.norm(size)) @ turn, y


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# Scaling


def chosen(x):
    return choose_scaling(torch.from_numpy(np.ascontiguousarray(x))).name


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("d", [16, 384])
def test_rows_of_one_length_are_recognized(d, dtype):
    x = unit(mixture(300, d, 4, 0)[0] + 0.01)
    assert chosen(x.astype(dtype)) == "length"
    assert chosen((7e-9 * x).astype(np.float64)) == "length"


def test_component_scores_are_recognized():
    x = np.random.default_rng(0).normal(size=(400, 60)) @ np.diag(0.9 ** np.arange(60)) + 1
    assert chosen(PCA(12).fit_transform(x)) == "center"
    assert chosen(TruncatedSVD(12, algorithm="arpack").fit_transform(x)) == "length"
    assert chosen(PCA(12, whiten=True).fit_transform(x)) == "standard"


def test_features_of_a_network_are_recognized():
    x, _ = mixture(300, 64, 4, 1)
    features = np.maximum(x @ np.random.default_rng(0).normal(size=(64, 200)), 0)
    assert chosen(features) == "length"
    assert chosen(features - features.mean(0)) == "center"
    assert (
        chosen(features * np.exp(np.random.default_rng(0).normal(size=(300, 1)))) == "center"
    )  # lengths say something


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 31), st.booleans())
@example(3616, 7, True)  # one offset makes all rows nearly as long
def test_a_table_in_units_of_its_own_is_standardized_whatever_they_are(seed, d, shift):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, d))
    x = x * 10 ** rng.uniform(-6, 6, d) + shift * 10 ** rng.uniform(-3, 3, d)
    assert chosen(x) == "standard"


def test_many_columns_of_mixed_units_or_far_from_zero_are_standardized():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 64))
    assert chosen(x * 10 ** rng.uniform(-3, 3, 64)) == "standard"
    assert chosen(x + 1e3) == "standard"


@pytest.mark.parametrize("how", ["center", "length"])
def test_center_and_length_written_plainly(how):
    x = np.random.default_rng(0).normal(size=(50, 9)) * 3 + 1
    x[3] = 0
    plain = x.copy()
    if how == "length":
        for row in plain:
            row /= math.sqrt(sum(row**2)) or 1
    plain = plain - plain.mean(0)
    plain /= math.sqrt((plain**2).mean())
    fitted = Scaling((9,)).fit(torch.from_numpy(x), how)
    np.testing.assert_allclose(fitted(torch.from_numpy(x)), plain, rtol=1e-5, atol=1e-6)
    again = Scaling((9,))
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again(torch.from_numpy(x)), fitted(torch.from_numpy(x)))


def test_length_does_not_mind_the_size_of_a_row():
    x = np.random.default_rng(0).normal(size=(50, 9))
    size = 10.0 ** np.random.default_rng(1).integers(-150, 150, (50, 1))
    fitted = Scaling((9,)).fit(torch.from_numpy(x), "length")
    np.testing.assert_allclose(fitted(torch.from_numpy(x * size)), fitted(torch.from_numpy(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [EntropyClustering, CombinationAssignment, SelectivePseudoLabel])
def test_a_method_says_how_vectors_are_scaled(method):
    x = unit(mixture(300, 40, 4, 0)[0])
    x.flags.writeable = False
    assert method().chosen_scaling(x) == ("length", "all rows have the same length")
    assert method(scaling="standard").chosen_scaling(x).name == "standard"
    assert method().chosen_scaling(np.zeros((4, 1, 8, 8))) is None


# Starts


def test_a_centered_start_labels_as_k_means_does_at_a_confidence_of_three_quarters():
    x = torch.from_numpy(mixture(300, 40, 5, 0)[0] + 3).float()
    k_means = KMeans(5, n_init=3, random_state=0).fit(x.numpy())
    start = centered_start(x, torch.from_numpy(k_means.cluster_centers_))
    probs = (x @ start.weight.T + start.bias).softmax(1)
    np.testing.assert_array_equal(probs.argmax(1), k_means.labels_)
    assert float(probs.amax(1).mean()) == pytest.approx(0.75, abs=1e-3)


def test_the_weight_of_the_norm_is_a_share_of_the_balance():
    """At the balance, scaling all logits changes gamma ||v||^2 + H neither up nor down."""
    x = torch.from_numpy(mixture(300, 40, 5, 0)[0]).double()
    start = centered_start(x, torch.from_numpy(KMeans(5, n_init=3, random_state=0).fit(x).cluster_centers_))
    logits = x @ start.weight.T + start.bias

    def loss(scale):
        p = (scale * logits).softmax(1)
        return start.gamma / 0.7 * float((scale * start.weight).square().sum()) - float((p * p.log()).sum(1).mean())

    slope = (loss(1 + 1e-4) - loss(1 - 1e-4)) / 2e-4
    assert abs(slope) < 1e-4
    assert abs(loss(1.01) - loss(1)) > 1e-6  # it does change with the scale, by its curvature


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_centered_start_trains_alike_in_any_unit(factor):
    x, _ = mixture(300, 40, 5, 0)
    kwargs = {"n_clusters": 5, "n_epochs": 5, "scaling": "none"}
    plain = EntropyClustering(**kwargs).fit(x.astype(np.float32))
    other = EntropyClustering(**kwargs).fit((x * factor).astype(np.float32))
    assert accuracy(plain.labels_, other.labels_) > 0.98
    assert plain.last_round_.outputs[0].scores["effective_clusters"] > 4


def test_a_linear_encoder_keeps_distances():
    x = torch.from_numpy(mixture(60, 12, 3, 0)[0]).float()
    encoder = LinearEncoder((12,), 20)
    encoder.start_at_components(x, 0)
    z = encoder(x).detach()
    ratio = torch.pdist(z) / torch.pdist(x)
    assert float(ratio.std() / ratio.mean()) < 1e-4
    assert float(z.square().sum(1).mean()) == pytest.approx(20, rel=0.05)
    assert float(z.mean(0).abs().max()) < 1e-4


def test_a_linear_autoencoder_starts_at_the_best_reconstruction():
    x = torch.from_numpy(mixture(80, 30, 3, 0)[0] + 2).float()
    autoencoder = build_autoencoder("linear", (30,), 5)
    autoencoder.start_at_components(x, 0)
    pca = PCA(5).fit(x.numpy())
    expected = pca.inverse_transform(pca.transform(x.numpy()))
    np.testing.assert_allclose(autoencoder(x).detach(), expected, atol=1e-4)


def test_centroids_stay_where_no_simplex_fits():
    x = torch.from_numpy(mixture(200, 3, 8, 0)[0])
    member = CombinationMember(CombinationAssignment(n_clusters=8), (3,), 0)
    member._start(x)
    latents = member.transform(x)
    nearest = torch.cdist(latents, member.net.centroids).argmin(1)
    means = torch.stack([latents[nearest == k].mean(0) for k in range(8)])
    torch.testing.assert_close(member.net.centroids.detach(), means, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [EntropyClustering, CombinationAssignment])
@pytest.mark.parametrize("kind", ["unit", "long", "scores"])
def test_embeddings_are_clustered_at_least_as_well_as_by_k_means(method, kind):
    x, y = mixture(600, 128, 6, 3, spread=0.5)
    if kind == "unit":
        x = unit(x + 0.02)
    if kind == "long":
        x = 30 * x * np.exp(0.2 * np.random.default_rng(0).normal(size=(600, 1)))
    if kind == "scores":
        x = PCA(50).fit_transform(x)
    x = x.astype(np.float32)
    k_means = np.mean([accuracy(KMeans(6, n_init=1, random_state=s).fit_predict(x), y) for s in range(5)])
    ours = [accuracy(method(n_clusters=6, random_state=s).fit(x).labels_, y) for s in range(3)]
    assert np.mean(ours) >= k_means - 0.02  # less than the spread between seeds


# Defaults that go together


@pytest.mark.parametrize("method", [EntropyClustering, CombinationAssignment, MiCE])
@pytest.mark.parametrize("n_epochs", [1, 3, 40])
def test_the_default_number_of_rounds_follows_the_epochs(method, n_epochs):
    x = np.random.default_rng(0).random((40, 1, 12, 12)).astype(np.float32)
    model = method(n_clusters=3, n_epochs=n_epochs)
    assert model.checked(x).n_rounds == min(method.most_rounds, n_epochs)
    assert model.get_params()["n_rounds"] == "auto"  # what was given stays
    with pytest.raises(ParameterError, match=r"n_rounds=41"):
        method(n_clusters=3, n_epochs=n_epochs, n_rounds=41).checked(x)


def test_defaults_give_way_to_what_is_given():
    images = np.random.default_rng(0).random((40, 1, 12, 12)).astype(np.float32)
    vectors = images.reshape(40, -1)
    assert SelectivePseudoLabel(n_clusters=3, encoder="none").checked(vectors).n_rounds == 1
    assert EntropyClustering(n_clusters=3, loss="k-means").checked(images)
    assert EntropyClustering(n_clusters=3, scaling="standard").checked(images)
    assert EntropyClustering(n_clusters=3, n_rounds=30).checked(vectors).total_epochs((144,), 40) >= 30


@pytest.mark.parametrize("method", [EntropyClustering, CombinationAssignment])
def test_a_small_fit_takes_few_steps(method):
    """What a fit of a few hundred vectors costs is its steps: 2,000 and 500 before, at some milliseconds each."""
    x = np.random.default_rng(0).normal(size=(180, 6))
    model = method(n_clusters=3, n_members=2, n_rounds=2).checked(x)
    assert model.total_epochs((6,), 180) <= 200


def test_given_labels_name_the_clusters_of_a_centered_start():
    x, y = mixture(300, 40, 4, 0, spread=2.0)
    seeds = np.where(np.arange(300) < 40, y, -1)
    model = EntropyClustering(n_clusters=4, seeds=tuple(seeds.tolist()), n_epochs=3).fit(x.astype(np.float32))
    assert (model.labels_ == y).mean() > 0.95
