"""Combination assignment as an estimator: against a plain twin, through every door, for every support."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

from distclust import (
    CombinationAssignment,
    DistclustError,
    EntropyClustering,
    LocalPool,
    SelectivePseudoLabel,
    load_model,
    metrics,
    save_model,
)
from distclust.contracts import MemberOutput
from distclust.errors import DataError, ParameterError, UnknownNameError
from distclust.methods import METHODS, method_class
from distclust.methods.base import collapse
from distclust.methods.combination import CombinationMember, equidistant
from distclust.nets import MLPEncoder, Scaling
from distclust.seeding import generator, torch_generator, torch_stream

SUPPORTS = [
    "greedy",
    "exact",
    "sinkhorn",
    "sinkhorn-soft",
    "entropy",
    "sum-of-squares",
    "variance",
    "concrete-k-means",
    "none",
]
QUICK = {"n_epochs": 2, "n_rounds": 2}


def literal_assignment(squares, sigma, prior):
    """Algorithm 1 as it is printed, with the prior of eq. (7)."""
    n, k = squares.shape
    labels, counts = [-1] * n, [0] * k
    for _ in range(n):
        pairs = [
            (squares[i, j] - 2 * sigma * math.log(prior[j]) + 2 * sigma * math.log(counts[j] + 1), i, j)
            for i in range(n)
            if labels[i] < 0
            for j in range(k)
        ]
        _, i, j = min(pairs)
        labels[i] = j
        counts[j] += 1
    return labels


def test_training_is_algorithm_1_written_plainly(blobs):
    """One epoch of the member against TrainOnBatch of the paper, on the same streams."""
    x = torch.from_numpy(blobs[0])
    prior = (0.5, 0.3, 0.2)
    model = CombinationAssignment(
        n_clusters=3,
        encoder="mlp",
        n_epochs=1,
        n_rounds=1,
        centroids="normal",
        schedule="constant",
        batch_size=100,
        latent_dim=4,
        sigma=3.0,
        prior=prior,
        random_state=5,
    )
    member = CombinationMember(model, (8,), 2)
    output = member.advance(x, None, 0)

    with torch_stream(5, "encoder weights", member=2):
        encoder = MLPEncoder((8,), 4)
    centroids = torch.nn.Parameter(torch.randn(3, 4, generator=torch_generator(5, "centroids", member=2)))
    scaling = Scaling((8,)).fit(x, "standard")
    adam = torch.optim.Adam([centroids, *encoder.parameters()], lr=1e-3, betas=(0.9, 0.99))
    for batch in np.split(generator(5, "batch order", member=2, round=0).permutation(300), 3):
        latents = encoder(scaling(x[torch.from_numpy(batch)]))
        squares = ((latents[:, None] - centroids[None]) ** 2).sum(2)
        labels = literal_assignment(squares.detach().double().numpy(), 3.0, prior)
        loss = torch.stack([squares[i, j] for i, j in enumerate(labels)]).mean() / (2 * 3.0)
        adam.zero_grad()
        loss.backward()
        adam.step()
    # Not parameter by parameter: Adam blows up the rounding of biases before a batch norm, whose gradient is zero.
    torch.testing.assert_close(member.net.centroids, centroids, rtol=1e-4, atol=1e-5)
    member.net.train()
    torch.testing.assert_close(member.net.encode(x), encoder(scaling(x)), rtol=1e-3, atol=1e-4)
    encoder.eval()
    nearest = torch.cdist(encoder(scaling(x)), centroids).argmin(1)
    assert (nearest.numpy() == output.labels).mean() > 0.95


@pytest.mark.parametrize("support", ["greedy", "exact", "sinkhorn", "sinkhorn-soft"])
def test_clear_groups_are_found(blobs, support):
    x, y = blobs
    model = CombinationAssignment(n_clusters=3, support=support, n_epochs=40, n_members=3).fit(x)
    assert metrics.accuracy(model.labels_, y) > 0.97
    assert model.agreed_.mean() > 0.9


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 20), (6,)])
def test_every_support_runs_on_every_kind_of_data(support, shape):
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    model = CombinationAssignment(n_clusters=4, support=support, batch_size=20, latent_dim=5, **QUICK).fit(x)
    raw = model.last_round_.outputs[0].labels
    assert raw.shape == (60,)
    assert set(raw) <= set(range(4))
    assert all(math.isfinite(v) for v in model.last_round_.outputs[0].scores.values())


def test_supports_train_differently(blobs):
    found = {
        s: CombinationAssignment(n_clusters=3, support=s, latent_dim=4, **QUICK)
        .fit(blobs[0])
        .last_round_.outputs[0]
        .scores["loss"]
        for s in SUPPORTS
    }
    assert len({round(v, 9) for v in found.values()}) >= len(SUPPORTS) - 1  # greedy and exact may agree on easy batches


def test_estimated_covariances_find_long_clusters():
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], 200)
    x = np.stack([rng.normal(scale=8, size=400), y * 6 + rng.normal(size=400)], 1).astype(np.float32)
    accuracy = {}
    for covariance in ("isotropic", "estimated"):
        model = CombinationAssignment(
            n_clusters=2, covariance=covariance, encoder="mlp", sigma=1.0, n_epochs=20, latent_dim=4
        )
        accuracy[covariance] = metrics.accuracy(model.fit(x).labels_, y)
    assert accuracy["estimated"] > 0.97
    assert accuracy["estimated"] > accuracy["isotropic"] + 0.05


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_model(digits):
    model = CombinationAssignment(n_members=2, **QUICK)
    a, b = model.fit(digits.x).labels_, CombinationAssignment(n_members=2, **QUICK).fit(digits.x).labels_
    assert a.tobytes() == b.tobytes()
    other = CombinationAssignment(n_members=2, random_state=1, **QUICK).fit(digits.x)
    assert other.labels_.tobytes() != a.tobytes()


def test_a_member_does_not_depend_on_the_size_of_the_ensemble(digits):
    alone = CombinationAssignment(n_members=1, **QUICK).fit(digits.x)
    one_of_three = CombinationAssignment(n_members=3, **QUICK).fit(digits.x)
    assert np.array_equal(alone.last_round_.outputs[0].labels, one_of_three.last_round_.outputs[0].labels)


def test_the_global_random_streams_are_neither_read_nor_moved(digits):
    first = CombinationAssignment(**QUICK).fit(digits.x).labels_
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    second = CombinationAssignment(**QUICK).fit(digits.x).labels_
    assert np.array_equal(first, second)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_true_labels_change_nothing(digits):
    model = CombinationAssignment(n_members=2, **QUICK)
    shuffled = np.random.default_rng(0).permutation(digits.y)
    assert np.array_equal(model.fit(digits.x).labels_, model.fit(digits.x, digits.y).labels_)
    assert np.array_equal(model.fit(digits.x).labels_, model.fit(digits.x, shuffled).labels_)


def test_predict_gives_what_fit_gave(blobs):
    x, _ = blobs
    model = CombinationAssignment(n_clusters=3, n_members=4, n_epochs=10).fit(x)
    assert np.array_equal(model.predict(x), model.labels_)
    np.testing.assert_allclose(model.predict_agreement(x), model.agreement_)
    proba = model.predict_proba(x)
    assert proba.shape == (300, 3)
    np.testing.assert_allclose(proba.sum(1), 1)
    sure = model.agreed_
    assert (proba.argmax(1)[sure] == model.labels_[sure]).all()
    assert model.predict(x[:1]).shape == (1,)


def test_predict_refuses_other_shapes(blobs):
    model = CombinationAssignment(n_clusters=3, **QUICK).fit(blobs[0])
    with pytest.raises(DataError, match=r"X has 7 features.*expecting 8 features"):
        model.predict(blobs[0][:, :7])
    with pytest.raises(DataError, match=r"shape \(8, 1\).*fitted on \(8,\)"):
        model.predict(blobs[0][:, :, None])


def test_uint8_images_are_scaled_inside(digits):
    a = CombinationAssignment(**QUICK).fit(digits.x).labels_
    b = CombinationAssignment(**QUICK).fit(digits.x.astype(np.float32) * 2 - 5).labels_
    assert (a == b).mean() > 0.95  # equal but for rounding


def test_a_collapsed_member_is_reported_and_does_not_vote(blobs):
    model = CombinationAssignment(n_clusters=3, **QUICK)
    member = CombinationMember(model, (8,), 0)
    with torch.no_grad():
        member.net.centroids.fill_(1e6)
        member.net.centroids[1] = 0
    member._start = lambda x: member.net.scaling.fit(x, "standard")
    output = member.advance(torch.from_numpy(blobs[0]), None, 0)
    assert output.status == "collapsed"
    assert "one cluster holds 100.0% of all points" in output.cause
    good = MemberOutput(blobs[1])
    agreement = model.agree([output, good, good])
    assert agreement.voters == 2
    assert metrics.accuracy(agreement.labels, blobs[1]) == 1.0
    assert (agreement.aligned[0] == -1).all()
    nobody = model.agree([output])
    assert nobody.voters == 0
    assert (nobody.labels == -1).all()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_a_small_group_that_is_far_away_is_no_collapse(scale):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(scale * np.concatenate([rng.normal(size=(990, 4)), rng.normal(size=(10, 4)) + 15]))
    labels = np.repeat([0, 1], [990, 10])
    assert collapse(MemberOutput(labels), x, torch.nn.Identity()).status == "voting"
    tail = np.zeros(1000, np.int64)
    tail[np.argsort(-x[:990, 0].numpy())[:10]] = 1  # the edge of the large group
    for cut in (tail, rng.permutation(labels), np.zeros(1000, np.int64)):
        output = collapse(MemberOutput(cut), x[torch.from_numpy(rng.permutation(1000))], torch.nn.Identity())
        assert output.status == "collapsed"
        assert output.scores["largest_cluster"] >= 0.99


def test_a_loss_that_is_not_finite_is_named(blobs):
    model = CombinationAssignment(n_clusters=3, learning_rate=1e30, schedule="constant", n_epochs=10)
    with pytest.raises(DistclustError, match=r"the loss is not finite in round .*lower learning_rate"):
        model.fit(blobs[0])


def test_all_faults_of_the_parameters_come_together(blobs):
    model = CombinationAssignment(n_clusters=1, sigma=-1, support="gredy", batch_size="all")
    with pytest.raises(ParameterError) as caught:
        model.fit(blobs[0])
    assert len(caught.value.faults) == 4
    assert "Did you mean 'greedy'?" in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 301}, "cannot be more clusters than points"),
        ({"n_clusters": 3, "prior": (0.5, 0.5)}, "prior has 2 values.*3 clusters"),
        ({"n_clusters": 2, "prior": (0.5, 0.6)}, r"sum 1\.1; it must be a distribution"),
        ({"n_clusters": 2, "prior": (-0.5, 1.5)}, "prior="),
        ({"n_clusters": 3, "n_epochs": 5, "n_rounds": 10}, "n_rounds=10 cannot be used with n_epochs=5"),
        ({"n_clusters": 3, "encoder": "conv"}, "it takes images"),
        ({"n_clusters": 3, "random_state": None}, "random_state=None"),
    ],
)
def test_parameters_that_do_not_fit_the_data(blobs, parameters, message):
    with pytest.raises((ParameterError, DataError), match=message):
        CombinationAssignment(**parameters).fit(blobs[0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((20, 3)), "constant"),
        (np.full((20, 3), np.nan), "NaN"),
        (np.zeros(20), "Expected 2D array"),
        (np.zeros((0, 3)), "0 sample"),
        ([["a", "b"]] * 20, "."),
    ],
)
def test_data_that_cannot_be_used(x, message):
    with pytest.raises(ValueError, match=message):
        CombinationAssignment(n_clusters=2).fit(x)


def test_parameters_are_stored_as_given(blobs):
    prior = np.array([0.2, 0.3, 0.5])
    model = CombinationAssignment(n_clusters=np.int64(3), prior=prior, **QUICK).fit(blobs[0])
    assert model.prior is prior
    assert set(model.get_params()) >= {"n_clusters", "n_members", "support", "sigma", "random_state"}


def test_a_prior_moves_points_between_clusters():
    even = CombinationAssignment(n_clusters=3, sigma=1e6, n_epochs=1, n_rounds=1, schedule="constant")
    member = CombinationMember(even, (8,), 0)
    cost = torch.rand(90, 3) * 1e-9
    sizes = np.bincount(_assigned(member, cost), minlength=3)
    assert sizes.tolist() == [30, 30, 30]
    skewed = CombinationMember(CombinationAssignment(n_clusters=3, prior=(0.6, 0.3, 0.1)), (8,), 0)
    assert np.abs(np.bincount(_assigned(skewed, cost)) - [54, 27, 9]).max() <= 1


def test_a_prior_may_be_that_of_imbalanced_data():
    member = CombinationMember(CombinationAssignment(n_clusters=4, prior="imb3"), (8,), 0)
    np.testing.assert_allclose(np.exp(member.log_prior), np.array([1, 0.7, 0.4, 0.1]) / 2.2)


def _assigned(member, cost):
    from distclust import assign

    return assign.greedy(cost, member.log_prior).numpy()


@given(st.integers(2, 12), st.integers(2, 20), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_equidistant_centres_are_equidistant_and_look_where_the_centres_do(k, d, seed):
    centres = np.random.default_rng(seed).normal(size=(k, d)) * 7 + 3
    corners = equidistant(centres)
    assert corners.shape == (k, d)
    np.testing.assert_allclose(corners.mean(0), 0, atol=1e-8)
    assert abs(corners.std() - 1) < 1e-8
    assert ((centres - centres.mean(0)) * corners).sum() > 0
    if d >= k - 1:
        distances = np.linalg.norm(corners[:, None] - corners[None], axis=2)[~np.eye(k, dtype=bool)]
        np.testing.assert_allclose(distances, distances[0])


def test_equal_centres_do_not_break_the_start():
    assert np.isfinite(equidistant(np.ones((3, 4)))).all()


def test_a_saved_model_predicts_the_same(blobs, tmp_path):
    model = CombinationAssignment(n_clusters=3, n_members=2, n_epochs=10).fit(blobs[0])
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert np.array_equal(loaded.predict(blobs[0]), model.predict(blobs[0]))
    assert loaded.get_params() == model.get_params()
    assert not [p for p in (tmp_path / "model").iterdir() if p.suffix in (".pkl", ".pt", ".joblib")]
    with pytest.raises(DataError, match="exists already"):
        save_model(model, tmp_path / "model")


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="no model that can be read"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text('{"format": 99, "method": "combination"}')
    with pytest.raises(DataError, match="format 99"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(DataError):
        load_model(tmp_path)


ONE_CLUSTER = "asks for n_clusters=1, which is refused: nothing is to be learned"


@pytest.mark.slow
@parametrize_with_checks(
    [
        CombinationAssignment(n_epochs=30, n_rounds=2),
        SelectivePseudoLabel(n_members=2, labelling="k-means", pretrain_epochs=30, epochs=10, n_rounds=2),
        EntropyClustering(n_epochs=30, n_rounds=2),
    ],
    expected_failed_checks=lambda _: dict.fromkeys(
        [
            "check_dont_overwrite_parameters",
            "check_methods_subset_invariance",
            "check_fit2d_1sample",
            "check_fit2d_1feature",
            "check_fit2d_predict1d",
        ],
        ONE_CLUSTER,
    ),
)
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_methods_by_name():
    assert method_class("combination") is CombinationAssignment
    with pytest.raises(UnknownNameError, match="Did you mean 'combination'"):
        method_class("combinaton")
    for name in METHODS:
        assert method_class(name).__name__ == METHODS[name][1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("support", SUPPORTS)
def test_every_support_runs_on_a_gpu_and_its_model_on_the_cpu(support, blobs):
    pool = LocalPool(device="cuda")
    model = CombinationAssignment(n_clusters=3, support=support, n_epochs=40).fit(blobs[0], pool=pool)
    raw = model.last_round_.outputs[0].labels
    assert (model.members_[0].predict_proba(torch.from_numpy(blobs[0])).argmax(1).numpy() == raw).mean() > 0.99
    if support in ("greedy", "exact", "sinkhorn"):
        assert metrics.accuracy(model.labels_, blobs[1]) > 0.9


@pytest.mark.slow
def test_fashion_mnist_needs_a_support(real_data):
    """2 epochs on 20,000 images: greedy finds classes, no support does not (CA Table 1)."""
    from distclust import load

    data = load("fashion-mnist", data_dir=real_data, n_samples=20_000)
    accuracy = {
        s: metrics.accuracy(CombinationAssignment(support=s, **QUICK).fit(data.x).last_round_.outputs[0].labels, data.y)
        for s in ("greedy", "none")
    }
    assert accuracy["greedy"] > 0.5
    assert accuracy["none"] < 0.35
