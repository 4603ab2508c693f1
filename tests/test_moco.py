"""MoCo: its loss on the same streams, spherical k-means against a slow twin, and the road from it to MiCE."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from distclust import MoCo, load_model, metrics, save_model
from distclust.errors import ParameterError
from distclust.methods.moco import MoCoMember, spherical_k_means

SMALL = {
    "n_clusters": 4,
    "embedding_dim": 6,
    "views": ("rotation", "colour"),
    "n_epochs": 2,
    "n_rounds": 1,
    "batch_size": 20,
    "queue_size": 30,
    "learning_rate": 0.3,
}


def unit(rng, *size):
    points = rng.normal(size=size)
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def test_the_loss_is_info_nce_written_out(digits):
    member = MoCoMember(MoCo(**SMALL, tau=0.3), (1, 8, 8), 0)
    x = torch.from_numpy(digits.x[:40])
    member._start(x)
    images = member.net.student.scaling(x[:10])
    taught = torch.from_numpy(unit(np.random.default_rng(0), 10, 1, 6)).float()
    for filled in (0, 12):
        member.queue.put(torch.from_numpy(unit(np.random.default_rng(1), filled, 1, 6)).float())
        found = member._losses([images, images], taught).detach()
        f = member.net.student(images).detach()
        for n in range(10):
            positive = math.exp(float(f[n, 0] @ taught[n, 0]) / 0.3)
            others = sum(math.exp(float(f[n, 0] @ member.queue.rows[0, i]) / 0.3) for i in range(filled))
            assert float(found[n]) == pytest.approx(-math.log(positive / (positive + others)), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 40), st.integers(1, 4), st.integers(2, 6), st.integers(0, 2**31 - 1))
def test_spherical_k_means_stands_still_and_is_consistent(n, k, d, seed):
    points = unit(np.random.default_rng(seed), n, d)
    found = spherical_k_means(points, k, seed)
    cosines = np.array([[sum(p * c) for c in found.centres] for p in points])
    chosen = cosines[np.arange(n), found.labels]
    np.testing.assert_allclose(chosen, cosines.max(1), atol=1e-12)
    assert found.cosine == pytest.approx(chosen.mean())
    for cluster in set(found.labels):
        total = points[found.labels == cluster].sum(0)
        np.testing.assert_allclose(found.centres[cluster], total / np.linalg.norm(total), atol=1e-9)


def test_spherical_k_means_finds_clear_groups_and_leaves_no_cluster_empty():
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(5), 30)
    points = unit(rng, 5, 12)[true] + 0.05 * rng.normal(size=(150, 12))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = spherical_k_means(points, 5, 0)
    assert adjusted_rand_score(true, found.labels) == 1
    twice = np.repeat(points[:3], 10, axis=0)
    assert len(set(spherical_k_means(twice, 3, 0).labels)) == 3


def test_a_saved_model_predicts_the_labels_and_can_be_started_from(digits, tmp_path):
    x = digits.x[:60]
    model = MoCo(**SMALL, n_members=2).fit(x)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    np.testing.assert_array_equal(model.predict(x), model.labels_)

    gentle = {**SMALL, "n_epochs": 1, "learning_rate": 1e-9}
    tuned = MoCo(**gentle, n_members=3, weights=str(tmp_path / "model")).fit(x)
    for index, member in enumerate(tuned.members_):
        start = model.members_[index % 2].net.student.heads.weight
        torch.testing.assert_close(member.net.student.heads.weight, start, rtol=0, atol=1e-6)
    with pytest.raises(ParameterError, match="n_clusters=4, not 5"):
        MoCo(**{**gentle, "n_clusters": 5}, weights=str(tmp_path / "model")).fit(x)


def test_members_differ_and_the_same_seed_gives_the_same_bytes(digits):
    x = digits.x[:40]
    a, b = MoCo(**SMALL, n_members=2).fit(x), MoCo(**SMALL, n_members=2).fit(x)
    np.testing.assert_array_equal(a.predict_proba(x), b.predict_proba(x))
    first, second = (member.net.student.heads.weight for member in a.members_)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_digits_are_clustered(digits):
    model = MoCo(n_epochs=60, n_rounds=1).fit(digits.x)
    assert metrics.accuracy(model.labels_, digits.y) > 0.6
