"""The theory made visible: each computed thing against a plain twin, and the command through its door."""

import json
import math
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from distclust.assign import pseudo_labels_optimal
from distclust.contracts import Dataset
from distclust.distributed.pool import threads
from distclust.errors import DataError
from distclust.methods.entropy import EntropyClustering
from distclust.report import figures, trials
from distclust.report.figures import FIGURES, Request, divergences, log_odds, renyi_entropies
from distclust.report.pictures import Panel, _from_left_to_right
from distclust.report.planar import (
    LinearSoftmax,
    SoftKMeans,
    degrees_between,
    entropy_minimum,
    linear_fit,
    means_of,
    minima,
    same_clusters,
    soft_k_means,
    soft_k_means_minimum,
    strips,
)
from distclust.report.theory import main
from distclust.report.trials import (
    corrupted_labels,
    known_points,
    noise_trial,
    self_labelling_loss,
    soft_targets,
    update_trial,
)

# Plain twins


def entropy(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


def loss_14(x, weights, bias, gamma):
    sigma = softmax(x @ weights.T + bias, axis=1)
    return gamma * (weights**2).sum() + entropy(sigma).mean() - entropy(sigma.mean(0))


def loss_11(x, soft, centroids, gamma):
    cost = [sum(soft[i, k] * ((x[i] - centroids[k]) ** 2).sum() for k in range(len(centroids))) for i in range(len(x))]
    return np.mean(cost) - gamma * entropy(soft).mean()


def slope(f, at, step=1e-6):
    return np.array([(f(at + step * e) - f(at - step * e)) / (2 * step) for e in np.eye(len(at))])


# The plane


@pytest.mark.parametrize("n_clusters", [2, 3])
def test_strips_are_long_and_apart(n_clusters):
    x, classes = strips(n_clusters, seed=3)
    assert x.shape == (100 * n_clusters, 2)
    assert (np.bincount(classes) == 100).all()
    for k in range(n_clusters):
        own, others = x[classes == k], x[classes != k]
        thin, long = np.sqrt(np.linalg.eigvalsh(np.cov(own.T)))
        assert long > 6 * thin
        assert np.linalg.norm(own[:, None] - others, axis=2).min() > 0.7
    assert not np.array_equal(x, strips(n_clusters, seed=4).x)


@given(st.floats(0, 3.1), st.floats(0, 3.1))
def test_degrees_between_lines(first, second):
    a, b = (np.array([math.cos(angle), math.sin(angle)]) for angle in (first, second))
    apart = math.degrees(abs(first - second)) % 180
    assert degrees_between(a, -3 * b) == pytest.approx(min(apart, 180 - apart), abs=1e-4)


def test_clusters_are_the_same_under_other_names_only():
    a = np.array([0, 0, 1, 1, 2])
    assert same_clusters(a, np.array([2, 2, 0, 0, 1]))
    assert not same_clusters(a, np.array([2, 2, 0, 0, 0]))
    assert not same_clusters(np.array([2, 2, 0, 0, 0]), a)
    assert not same_clusters(a, np.array([2, 0, 2, 0, 1]))


# Entropy clustering


@pytest.mark.parametrize(("n_clusters", "gamma"), [(2, 1e-5), (2, 0.15), (3, 1e-3)])
def test_the_entropy_minimum_is_stationary_and_lowest(n_clusters, gamma):
    x, classes = strips(n_clusters)
    found = entropy_minimum(x, n_clusters, gamma)
    assert found.weights.shape == (n_clusters, 2)

    def loss(packed):
        return loss_14(x, packed[:-n_clusters].reshape(n_clusters, 2), packed[-n_clusters:], gamma)

    packed = np.concatenate([found.weights.ravel(), found.bias])
    assert found.loss == pytest.approx(loss(packed), abs=1e-12)
    assert np.abs(slope(loss, packed)).max() < 1e-6
    assert found.loss <= entropy_minimum(x, n_clusters, gamma, linear_fit(x, classes, n_clusters)).loss + 1e-9
    assert found.loss < min(loss(start) for start in np.random.default_rng(0).normal(size=(50, 3 * n_clusters)))


def test_descent_starts_where_it_is_told():
    x, _ = strips()
    across = entropy_minimum(x, 2, 1e-5, linear_fit(x, (x[:, 0] > 0).astype(int), 2))
    assert across.loss > entropy_minimum(x, 2, 1e-5).loss + 0.01
    still = entropy_minimum(x, 2, 1e-5, across)
    np.testing.assert_allclose(still.weights, across.weights, rtol=1e-3)


def test_more_starts_lie_no_higher():
    x, _ = strips(3)
    losses = [entropy_minimum(x, 3, 1e-5, n_starts=n).loss for n in (1, 5, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0]


def test_the_linear_fit_is_logistic_regression():
    x, _ = strips()
    labels = (x[:, 0] > 0.3).astype(np.int64)
    found = linear_fit(x, labels, 2, gamma=0.01)
    twin = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10, max_iter=10_000).fit(x, labels)
    np.testing.assert_allclose(found.weights[1] - found.weights[0], twin.coef_[0], rtol=1e-4)
    np.testing.assert_allclose(found.bias[1] - found.bias[0], twin.intercept_[0], atol=1e-4)


def test_the_gap_is_twice_the_distance_to_the_nearest_point():
    model = LinearSoftmax(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([-5.0, 0.0]))  # the line 3 a + 4 b = 5
    assert model.gap(np.array([[3.0, 4.0], [0.0, 0.0], [-3.0, 1.0]])) == pytest.approx(2.0)
    np.testing.assert_array_equal(model.labels(np.array([[3.0, 4.0], [0.0, 0.0]])), [0, 1])


# Soft K-means


def test_soft_k_means_at_a_tiny_gamma_is_k_means():
    x = np.random.default_rng(0).normal(size=(120, 2)) + 4 * np.repeat(np.eye(3)[:, :2], 40, axis=0)
    found = soft_k_means_minimum(x, 3, 1e-5)
    twin = KMeans(3, n_init=20, random_state=0).fit(x)
    assert found.loss == pytest.approx(twin.inertia_ / len(x), rel=1e-6)
    assert same_clusters(found.labels(x), twin.labels_.astype(np.int64))


@pytest.mark.parametrize("gamma", [0.01, 1.0, 5.0])
def test_soft_k_means_is_a_fixed_point_of_its_two_steps(gamma):
    x, _ = strips(seed=1)
    found = soft_k_means(x, gamma, x[:2])
    weights = np.exp(-((x[:, None] - found.centroids) ** 2).sum(2) / gamma)
    soft = weights / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(found.posterior(x), soft, atol=1e-9)
    np.testing.assert_allclose(found.centroids, (soft.T @ x) / soft.sum(0)[:, None], atol=1e-6)
    assert found.loss == pytest.approx(loss_11(x, soft, found.centroids, gamma), rel=1e-9)
    others = np.random.default_rng(0).dirichlet(np.ones(2), size=len(x))
    assert found.loss < loss_11(x, others, found.centroids, gamma)


def test_an_empty_cluster_keeps_its_centroid():
    x, _ = strips()
    found = soft_k_means(x, 1e-5, np.array([[0.0, 0.0], [1e3, 1e3]]))
    np.testing.assert_allclose(found.centroids, [x.mean(0), [1e3, 1e3]])


def test_means_of_clusters_written_out():
    x, classes = strips(3)
    np.testing.assert_allclose(means_of(x, classes, 3)[1], x[classes == 1].mean(0))


# What the figures say


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figure_1_entropy_clustering_is_an_svm_and_k_means_is_not(seed):
    numbers = figures.figure_1(Request(seeds=(seed,))).numbers
    assert numbers["entropy_clustering"]["degrees_from_svm"] < 3
    assert numbers["k_means"]["degrees_from_svm"] > 30
    assert numbers["entropy_clustering"]["gap"] > 1.7


def test_figure_3_each_loss_leads_back_to_its_own_minimum():
    x, classes = strips()
    found = minima(x)
    assert found.entropy_local.loss > found.entropy_global.loss + 0.01
    assert found.k_means_local.loss > found.k_means_global.loss + 0.1
    assert same_clusters(found.entropy_global.labels(x), classes)
    assert same_clusters(found.k_means_local.labels(x), classes)
    assert not same_clusters(found.k_means_global.labels(x), classes)
    assert found.entropy_returns
    assert found.k_means_returns
    assert found.entropy_global.gap(x) > 5 * found.entropy_local.gap(x)


def test_figure_4_a_large_gamma_turns_the_entropy_minimum_alone():
    numbers = figures.figure_4(Request(seeds=(0,))).numbers
    assert numbers["gamma"] == [1e-5, 0.005, 0.01, 0.15]
    off = [model["degrees_from_svm"] for model in numbers["entropy"]]
    assert max(off[:3]) < 3
    assert off[3] > 30
    assert min(model["degrees_from_svm"] for model in numbers["k_means"]) > 30
    norms = [np.linalg.norm(model["weights"]) for model in numbers["entropy"]]
    assert norms == sorted(norms, reverse=True)


def test_figure_8_three_strips_are_found_by_entropy_clustering():
    numbers = figures.figure_8(Request(seeds=(0,))).numbers
    assert numbers["entropy_clustering"]["accuracy"] == 1
    assert numbers["soft_k_means"]["accuracy"] < 0.9


@settings(max_examples=50, deadline=None)
@given(st.floats(-8, 8), st.sampled_from([0.1, 0.5, 2.0, 5.0]))
def test_renyi_entropies_are_equation_16(odds, alpha):
    s = expit(odds)
    expected = math.log(s**alpha + (1 - s) ** alpha) / (1 - alpha)
    assert renyi_entropies(np.array([odds]), alpha)[0] == pytest.approx(expected, abs=1e-9)


def test_renyi_entropies_at_their_limits():
    odds = log_odds(5.0)
    s = expit(odds)
    np.testing.assert_allclose(renyi_entropies(odds, 0.0), math.log(2))
    np.testing.assert_allclose(renyi_entropies(odds, 1.0), entropy(np.stack([s, 1 - s], 1)), atol=1e-12)
    np.testing.assert_allclose(renyi_entropies(odds, math.inf), -np.log(np.maximum(s, 1 - s)), atol=1e-12)


def test_log_odds_reach_both_ends():
    odds = log_odds(9.0, 101)
    assert odds[[0, 50, 100]] == pytest.approx([-9, 0, 9])
    assert (np.diff(odds) > 0).all()
    assert np.diff(odds)[50] < np.diff(odds)[0] / 2


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(-8, 8))
def test_divergences_written_out(share, odds):
    p, s = (share, 1 - share), expit(odds)
    q = (s, 1 - s)
    found = divergences(p, np.array([odds]))
    kl = [sum(a * math.log(a / b) for a, b in zip(*pair, strict=True)) for pair in ((p, q), (q, p))]
    cross = [-sum(a * math.log(b) for a, b in zip(*pair, strict=True)) for pair in ((q, p), (p, q))]
    np.testing.assert_allclose(np.ravel(found), [*kl, *cross], rtol=1e-6, atol=1e-9)


# Label noise


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0.2, 0.4, 0.8]), st.integers(2, 10), st.integers(0, 1000))
def test_corrupted_labels_are_drawn_from_all_classes(share, n_clusters, seed):
    classes = np.arange(20_000) % n_clusters
    labels = corrupted_labels(classes, share, n_clusters, np.random.default_rng(seed))
    assert (labels != classes).mean() == pytest.approx(share * (n_clusters - 1) / n_clusters, abs=0.02)
    assert np.bincount(labels, minlength=n_clusters) == pytest.approx(20_000 / n_clusters, rel=0.15)
    np.testing.assert_array_equal(classes, np.arange(20_000) % n_clusters)  # the classes themselves stay


def test_no_noise_changes_no_label():
    classes = np.arange(30) % 3
    np.testing.assert_array_equal(corrupted_labels(classes, 0.0, 3, np.random.default_rng(0)), classes)


@given(st.floats(0, 1), st.integers(2, 8))
def test_soft_targets_mix_the_observed_label_with_all(share, n_clusters):
    labels = np.arange(3 * n_clusters) % n_clusters
    targets = soft_targets(labels, share, n_clusters)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    observed = targets[np.arange(len(labels)), labels]
    np.testing.assert_allclose(observed, 1 - share * (n_clusters - 1) / n_clusters, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(targets.min(1), share / n_clusters, rtol=1e-5, atol=1e-6)


def test_networks_learn_from_clean_and_from_corrupted_labels(digits, monkeypatch):
    monkeypatch.setattr(trials, "_MIN_STEPS", 60)
    monkeypatch.setattr(trials, "_MIN_EPOCHS", 1)
    clean, noisy = noise_trial(digits, 0.0, 0), noise_trial(digits, 0.6, 0)
    assert min(clean.reverse, clean.forward) > 0.85
    assert 0.3 < noisy.forward < clean.forward - 0.1
    assert noise_trial(digits, 0.6, 0) == noisy


def test_networks_are_tested_on_points_they_have_not_seen(monkeypatch):
    monkeypatch.setattr(trials, "_MIN_STEPS", 60)
    rng = np.random.default_rng(0)
    meaningless = Dataset("noise", rng.normal(size=(400, 20)).astype(np.float32), rng.integers(2, size=400))
    found = noise_trial(meaningless, 0.0, 0)
    assert 0.3 < found.forward < 0.7
    assert 0.3 < found.reverse < 0.7


@pytest.mark.slow
def test_reverse_cross_entropy_is_more_robust_to_label_noise(digits):
    for share in (0.4, 0.6):
        found = noise_trial(digits, share, 0)
        assert found.reverse > found.forward + 0.1


# Pseudo-labels once a batch or once an epoch


def test_loss_42_written_out(digits):
    x = torch.from_numpy(digits.x)
    settings_ = EntropyClustering(backbone="linear", start="random", n_epochs=2, n_rounds=2)
    member = settings_.checked(digits.x).member((1, 8, 8), 0)
    member.advance(x, None, 0)
    weight, bias = (parameter.detach().double().numpy() for parameter in member.net.head.parameters())
    flat = digits.x.reshape(len(x), -1).astype(np.float64)
    sigma = softmax((flat - flat.mean()) / flat.std() @ weight.T + bias, axis=1)  # one channel, one scale
    soft = pseudo_labels_optimal(sigma, 100.0)
    unfairness = sum(0.1 * math.log(0.1 / soft[:, k].mean()) for k in range(10))
    expected = 0.01 * (weight**2).sum() - (sigma * np.log(soft)).sum(1).mean() + 100 * unfairness
    assert self_labelling_loss(member, x) == pytest.approx(expected, rel=1e-4)


def test_both_updates_train_and_differ(digits):
    batch, epoch = (update_trial(digits, update, 0, n_epochs=4) for update in ("batch", "epoch"))
    for trial in (batch, epoch):
        assert len(trial.losses) == 4
        assert trial.losses[-1] < trial.losses[0]
        assert 0.2 < trial.accuracy < 0.9
    assert batch.losses[0] != epoch.losses[0]


def test_points_of_unknown_class_are_left_out():
    y = np.repeat([0, 1, -1], 20)
    found = known_points(Dataset("some", np.arange(60.0)[:, None], y))
    np.testing.assert_array_equal(found.x[:, 0], np.arange(40))
    assert found.n_clusters == 2
    assert known_points(Dataset("some", np.zeros((60, 1)), y, 3)).n_clusters == 3


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (None, "no classes"),
        (np.full(60, -1), "no classes"),
        (np.zeros(60, int), "one class"),
        (np.arange(60), "a class"),
    ],
)
def test_data_without_enough_classes_is_refused(y, says):
    with pytest.raises(DataError, match=says):
        known_points(Dataset("some", np.zeros((60, 2)), y))


# The command


def test_the_command_draws_what_it_is_asked_for(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["figure-10", "figure-5", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["figure-05.png", "figure-10.png", "figures.json"]
    for name in ("figure-05.png", "figure-10.png"):
        data = (out / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", data[16:20]) == (1200,)
        assert len(data) > 20_000
    found = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    assert found["parameters"] == {"seeds": [0, 1, 2], "dataset": None, "n_samples": None}
    assert list(found["figures"]) == ["figure-5", "figure-10"]
    assert found["figures"]["figure-5"]["entropies_at_0.1"]["inf"] == pytest.approx(-math.log(0.9))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["figure-5", "figure-10", "numbers"]
    assert str(out / "figure-05.png") in lines[0]


def test_the_same_command_gives_the_same_numbers(tmp_path):
    found = []
    for name, seed, n_threads in (("a", "5", 1), ("b", "5", 2), ("c", "6", 1)):
        with threads(n_threads):
            assert main(["figure-1", "--seeds", seed, "--out", str(tmp_path / name)]) == 0
        found.append((tmp_path / name / "figures.json").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_figures_11_and_12_on_a_subset(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_MIN_STEPS", 4)
    monkeypatch.setattr(trials, "_MIN_EPOCHS", 1)
    monkeypatch.setattr(figures, "N_EPOCHS", 3)
    words = ["figure-11", "figure-12", "--dataset", "digits", "--n-samples", "200", "--seeds", "1", "2"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert found["parameters"] == {"seeds": [1, 2], "dataset": "digits", "n_samples": 200}
    noise = found["figures"]["figure-11"]
    assert noise["shares"] == [0.2, 0.4, 0.6, 0.8]
    for row in (*noise["reverse"], *noise["forward"], found["figures"]["figure-12"]["batch"]["accuracy"]):
        assert len(row["seeds"]) == 2
        assert row["mean"] == pytest.approx(np.mean(row["seeds"]))
        assert row["standard_deviation"] == pytest.approx(np.std(row["seeds"]))
    assert (tmp_path / "figure-11.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["figure-2"], "unknown figure 'figure-2'"),
        (["figure-1", "--seeds", "-1"], "--seeds"),
        (["figure-1", "--seeds", "one"], "'one'; it takes integers of at least 0"),
        (["figure-1", "--seeds", "1", "1"], "twice"),
        (["figure-1", "--seeds"], "--seeds"),
        (["figure-1", "--seeds", "9" * 5000], "integers of at least 0"),
        (["figure-11", "--dataset", ""], "unknown dataset ''"),
        (["figure-12", "--n-samples", "0"], "'0'; it takes integers of at least 1"),
        (["figure-12", "--n-samples", "1.5"], "'1.5'"),
        (["figure-12", "--n-samples", "99"], "100 together"),
        (["figure-12", "--n-samples", "1798"], "1797 points"),
        (["figure-11", "--dataset", "digit"], "Did you mean 'digits'?"),
        (["figure-11", "--dataset", "missing.npz"], "missing.npz"),
        (["figure-11", "--dataset", "realdisp", "--data-dir", "nowhere"], "nowhere"),
        (["figure-11", "--data-dir", "nowhere"], "data_dir"),
        (["figure-5", "--dataset", "digits"], "neither is asked for"),
        (["figure-5", "--colour", "red"], "--colour"),
    ],
)
def test_what_cannot_be_used_is_refused(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--out", "out"]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.startswith("distclust: ")
    assert said.out == ""
    assert not list(tmp_path.iterdir())


def test_data_without_classes_is_refused_before_any_figure(tmp_path, capsys):
    np.save(tmp_path / "plain.npy", np.random.default_rng(0).random((50, 4)).astype(np.float32))
    out = tmp_path / "out"
    assert main(["figure-5", "figure-12", "--dataset", str(tmp_path / "plain.npy"), "--out", str(out)]) == 2
    assert "has no classes" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_in_use_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["figure-5", "--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["figure-5", "--out", str(tmp_path / "notes.txt")]) == 2
    assert main(["figure-5", "--out", str(tmp_path / "notes.txt" / "below")]) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken_and_kept(tmp_path):
    assert main(["figure-11", "--dataset", "nonsense", "--out", str(tmp_path)]) == 2
    assert tmp_path.is_dir()
    assert main(["figure-5", "--out", str(tmp_path)]) == 0


def interrupt(request):
    raise KeyboardInterrupt


def test_an_interrupt_leaves_the_figures_that_are_done(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FIGURES, "figure-10", interrupt)
    assert main(["figure-5", "figure-10", "--out", str(tmp_path / "some")]) == 130
    assert capsys.readouterr().err == "distclust: interrupted; drawn so far: figure-5.\n"
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["figure-05.png", "figures.json"]
    assert main(["figure-10", "--out", str(tmp_path / "none")]) == 130
    assert "no figure" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_help_names_every_figure(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in FIGURES)


def test_arguments_are_checked_before_torch_is_loaded():
    code = (
        "import sys; from distclust.report.theory import main; code = main(['figure-9']);"
        "print(code, *({'torch', 'sklearn', 'matplotlib', 'ray'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == ["2"]


def test_colours_go_from_left_to_right():
    x = np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 1.0]])
    model = SoftKMeans(x, 1.0)
    panel = Panel("", x, model.labels(x), model.posterior)

    np.testing.assert_array_equal(_from_left_to_right(panel, 4), [2, 0, 1, 3])
