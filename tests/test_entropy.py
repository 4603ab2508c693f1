"""Entropy clustering: against Algorithm 1 written plainly, every loss through every door, and the theory below it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.svm import SVC

from distclust import EntropyClustering, LocalPool, load_model, metrics, rounds, save_model
from distclust.assign import pseudo_labels_em
from distclust.data.views import compose
from distclust.errors import DataError, ParameterError
from distclust.methods.entropy import EntropyMember, fair_bias, volume_balanced
from distclust.nets import ResNet18, Scaling
from distclust.seeding import generator, torch_generator, torch_stream

LOSSES = ["self-labelling", "renyi", "mutual-information", "imsat", "iic", "sela", "miadm", "scan", "k-means", "seeds"]
QUICK = {"n_epochs": 2, "n_rounds": 2, "batch_size": 20}


def test_training_is_algorithm_1_written_plainly(blobs):
    """Two epochs of the member against the paper's loop, on the same streams."""
    x = torch.from_numpy(blobs[0])
    target = (0.5, 0.3, 0.2)
    model = EntropyClustering(
        n_clusters=3, target=target, lam=7.0, gamma=0.03, start="random", n_epochs=2, n_rounds=1, batch_size=100
    )
    member = EntropyMember(model, (8,), 2)
    member.advance(x, None, 0)

    with torch_stream(0, "network weights", member=2):
        head = torch.nn.Linear(8, 3)
    scaling = Scaling((8,)).fit(x, "standard")
    for epoch in range(2):
        for batch in np.split(generator(0, "batch order", member=2, round=epoch).permutation(300), 3):
            sigma = head(scaling(x[torch.from_numpy(batch)])).softmax(1)
            y = torch.from_numpy(pseudo_labels_em(sigma.detach().numpy(), 7.0, target))
            loss = -sum((sigma[i, k] * y[i, k].log()) for i in range(100) for k in range(3)) / 100
            loss = loss + 0.03 * (head.weight**2).sum()
            head.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(member.net.head.weight, head.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(member.net.head.bias, head.bias, rtol=1e-4, atol=1e-6)


def test_iic_trains_two_kinds_of_heads_in_turn_and_the_best_predicts(digits):
    """Three epochs of the member against its loop on the same streams; mutual information cell by cell."""

    def negative_information(logits, others):
        p, q, k = logits.softmax(1), others.softmax(1), logits.shape[1]
        joint = [[((p[:, c] * q[:, d]).mean() + (p[:, d] * q[:, c]).mean()) / 2 for d in range(k)] for c in range(k)]
        rows, columns = [sum(joint[c]) for c in range(k)], [sum(joint[c][d] for c in range(k)) for d in range(k)]
        cells = [joint[c][d] * (joint[c][d] / (rows[c] * columns[d])).log() for c in range(k) for d in range(k)]
        return -sum(cells)

    x = torch.from_numpy(digits.x[:40])
    model = EntropyClustering(
        n_clusters=3, loss="iic", backbone="linear", views=("shift", "rotation"), gamma=0.003, start="random",
        n_epochs=3, n_rounds=1, batch_size=20, learning_rate=5.0,
    )  # fmt: skip
    member = EntropyMember(model, (1, 8, 8), 2)
    output = member.advance(x, None, 0)

    with torch_stream(0, "network weights", member=2):
        heads, overclustering = ([torch.nn.Linear(64, k) for _ in range(5)] for k in (3, 15))
    scaled, view = Scaling((1, 8, 8)).fit(x, "unit")(x), compose(("shift", "rotation"))
    for epoch in range(3):
        noise = torch_generator(0, "views", member=2, round=epoch)
        for rows in np.split(generator(0, "batch order", member=2, round=epoch).permutation(40), 2):
            images = scaled[torch.from_numpy(rows)]
            features = [images.flatten(1), *(view(images, noise).flatten(1) for _ in range(2))]
            trained = overclustering if epoch == 2 else heads
            loss = 0.0
            for head in trained:
                of_views = [negative_information(head(features[0]), head(other)) for other in features[1:]]
                loss = loss + (sum(of_views) / 2 + 0.003 * (head.weight**2).sum()) / 5
            loss.backward()
            with torch.no_grad():
                for head in trained:
                    for parameter in head.parameters():
                        parameter -= 5.0 * parameter.grad
                        parameter.grad = None
    for ours, plain in zip([*member.net.heads, *member.net.overclustering], heads + overclustering, strict=True):
        torch.testing.assert_close(ours.weight, plain.weight, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(ours.bias, plain.bias, rtol=1e-3, atol=1e-5)

    noise, lost = torch_generator(0, "views for the choice", member=2, round=0), np.zeros(5)
    for rows in np.split(generator(0, "points for the choice", member=2, round=0).permutation(40), 2):
        images = scaled[torch.from_numpy(rows)]
        shown = [view(images, noise).flatten(1) for _ in range(2)]
        for at, head in enumerate(heads):
            lost[at] += sum(negative_information(head(images.flatten(1)), head(v)).item() for v in shown) / 4
    assert np.diff(np.sort(lost))[0] > 1e-5  # far above rounding
    assert int(member.net.chosen) == lost.argmin()
    assert output.scores["loss"] == pytest.approx(lost.min(), rel=1e-3)
    np.testing.assert_array_equal(heads[lost.argmin()](scaled.flatten(1)).argmax(1), output.labels)


@pytest.mark.parametrize("loss", LOSSES)
def test_clear_groups_are_found(blobs, loss):
    x, y = blobs
    if loss == "iic":
        pytest.skip("it compares views of images")
    seeds = tuple(np.where(np.arange(300) < 30, y, -1).tolist()) if loss == "seeds" else None
    model = EntropyClustering(n_clusters=3, loss=loss, seeds=seeds, n_members=3, n_epochs=100).fit(x)
    if loss == "miadm":  # its labels are softer than the predictions, which they soften in turn
        assert metrics.accuracy(model.labels_, y) > 0.6
    else:
        assert metrics.accuracy(model.labels_, y) > 0.97


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 8, 8), (3, 20), (6,)])
def test_every_loss_runs_on_every_kind_of_data(loss, shape):
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    if loss == "iic" and len(shape) != 3:
        pytest.skip("it compares views of images")
    backbone = {3: "conv", 2: "window", 1: "mlp"}[len(shape)] if loss != "k-means" else "linear"
    seeds = tuple([0, 1, 2, 3] + [-1] * 56) if loss == "seeds" else None
    model = EntropyClustering(n_clusters=4, loss=loss, backbone=backbone, seeds=seeds, **QUICK).fit(x)
    output = model.last_round_.outputs[0]
    assert set(output.labels) <= set(range(4))
    assert all(math.isfinite(v) for v in output.scores.values())
    np.testing.assert_array_equal(model.members_[0].predict_proba(torch.from_numpy(x)).argmax(1), output.labels)


@pytest.mark.parametrize("backbone", ["vgg4", "resnet18"])
def test_large_backbones_train(backbone):
    x = np.random.default_rng(0).integers(0, 256, size=(24, 3, 16, 16)).astype(np.uint8)
    model = EntropyClustering(n_clusters=3, backbone=backbone, n_epochs=1, n_rounds=1, batch_size=12).fit(x)
    member = model.members_[0]
    head, trunk = (group["lr"] for group in member.optimiser.param_groups)
    assert (head, trunk) == ((1e-4, 1e-4) if backbone == "vgg4" else (0.1, 1e-5))
    assert member.transform(torch.from_numpy(x)).shape == (24, 512)


@pytest.mark.slow
def test_losses_and_updates_train_differently(digits):
    found = {}
    for loss in LOSSES:
        if loss in ("iic", "k-means", "seeds"):
            continue
        for update in ("batch", "epoch") if loss in ("self-labelling", "sela", "miadm") else ("auto",):
            member = EntropyMember(
                EntropyClustering(loss=loss, update=update, backbone="linear", n_epochs=3, n_rounds=1), (1, 8, 8), 0
            )
            member.advance(torch.from_numpy(digits.x), None, 0)
            found[loss, update] = member.net.head.weight.detach().clone()
    names = list(found)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not torch.equal(found[a], found[b]), (a, b)


def test_k_means_is_that_of_scikit_learn(digits):
    model = EntropyClustering(loss="k-means", backbone="linear", scaling="none", n_rounds=2, n_epochs=2).fit(digits.x)
    flat = digits.x.reshape(len(digits.x), -1).astype(np.float64)
    inertia = model.last_round_.outputs[0].scores["loss"]
    best = KMeans(10, n_init=10, random_state=0).fit(flat).inertia_ / len(flat)
    assert inertia == pytest.approx(best, rel=0.01)
    centres = model.members_[0].net.head.weight.detach().double().numpy() / 2
    nearest = ((flat[:, None] - centres) ** 2).sum(2)
    np.testing.assert_array_equal(nearest.argmin(1), model.last_round_.outputs[0].labels)
    assert nearest.min(1).mean() == pytest.approx(inertia, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(2, 6), st.integers(0, 2**31))
def test_volume_balanced_labels_written_out(n, k, seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(k), size=n)
    q = np.array([[p[i, c] / math.sqrt(sum(p[j, c] for j in range(n))) for c in range(k)] for i in range(n)])
    q = np.array([row / sum(row) for row in q])
    np.testing.assert_allclose(volume_balanced(torch.from_numpy(p)), q, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 60), st.integers(2, 6), st.integers(0, 2**31), st.floats(0.1, 10))
def test_fair_biases_make_the_mean_prediction_the_target(n, k, seed, spread):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(spread * rng.normal(size=(n, k)))
    target = rng.dirichlet(np.full(k, 20.0))
    mean = (logits + fair_bias(logits, target.tolist())).softmax(1).mean(0)
    np.testing.assert_allclose(mean, target, atol=0.02)
    even = (logits + fair_bias(logits)).softmax(1).mean(0)
    np.testing.assert_allclose(even, 1 / k, atol=0.02)


def test_a_fair_start_uses_all_clusters_and_lies_lower_than_a_random_one(digits):
    x = torch.from_numpy(digits.x)
    values = {}
    for start in ("fair", "random"):
        member = EntropyMember(EntropyClustering(start=start, backbone="linear"), (1, 8, 8), 0)
        member.net.scaling.fit(x, "standard")
        if start == "fair":
            member._fair_start(x)
        probs = member._look(x)
        values[start] = probs.mean(0)
    assert values["fair"].min() > 0.08
    assert values["random"].min() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mutual-information", "self-labelling"])
def test_the_margin_is_maximal_where_k_means_cuts_through(loss):
    """Section 2.2: on long clusters, with a small gamma, the linear split is that of an SVM with the true labels."""
    close, split = 0, 0
    for seed in range(10):
        x, y = elongated(seed)
        normal = SVC(kernel="linear", C=1e6).fit(x, y).coef_[0]
        model = EntropyClustering(
            n_clusters=2,
            loss=loss,
            backbone="linear",
            scaling="none",
            start="fair",  # k-means is where this data misleads
            gamma=1e-4,
            learning_rate=1.0,
            n_starts=100,
            n_epochs=1000,
            n_rounds=1,
            random_state=seed,
        ).fit(x)
        first, second = model.members_[0].net.head.weight.detach().double().numpy()
        close += angle(first - second, normal) < 3
        split += metrics.accuracy(KMeans(2, n_init=10, random_state=seed).fit_predict(x), y) < 0.7
    assert close >= 9
    assert split == 10


def elongated(seed):
    """Two strips of 100 points, four long and half wide, their near edges 1.2 apart, turned by any angle."""
    rng = np.random.default_rng(seed)
    y = np.arange(200) % 2
    along, across = rng.uniform(-2, 2, size=200), (2 * y - 1) * rng.uniform(0.6, 1.1, size=200)
    turn = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return (np.stack([along, across], 1) @ axes).astype(np.float32), y


def angle(a, b):
    """Degrees between two lines."""
    return np.degrees(np.arccos(min(1.0, abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b))))


@pytest.mark.slow
def test_seeds_name_the_clusters_and_raise_accuracy(digits, tmp_path):
    y = digits.y.astype(np.int64)
    few = np.where(np.random.default_rng(0).random(len(y)) < 0.05, y, -1)
    with_seeds = EntropyClustering(backbone="linear", n_epochs=100, seeds=few.tolist()).fit(digits.x)
    without = EntropyClustering(backbone="linear", n_epochs=100).fit(digits.x)
    alone = EntropyClustering(backbone="linear", loss="seeds", n_epochs=100, seeds=few.tolist()).fit(digits.x)
    right = (with_seeds.labels_ == y).mean()  # as they are called, not matched
    assert right > 0.9
    assert right > metrics.accuracy(without.labels_, y) + 0.05
    assert 0.7 < (alone.labels_ == y).mean() < right
    assert (with_seeds.predict(digits.x) == with_seeds.labels_).all()
    np.save(tmp_path / "seeds.npy", few)
    from_file = EntropyClustering(backbone="linear", seeds=str(tmp_path / "seeds.npy")).checked(digits.x)
    assert from_file.seeds == tuple(few.tolist())


def test_true_labels_change_nothing(digits):
    model = EntropyClustering(backbone="linear", n_epochs=2, n_rounds=1)
    np.testing.assert_array_equal(model.fit(digits.x, digits.y).labels_, model.fit(digits.x, digits.y[::-1]).labels_)


@pytest.mark.parametrize("loss", ["self-labelling", "imsat", "scan", "sela"])
def test_a_resumed_run_gives_the_same_labels(loss, tmp_path):
    x = np.random.default_rng(1).random((80, 1, 10, 10)).astype(np.float32)
    model = EntropyClustering(
        n_clusters=4, loss=loss, backbone="conv", n_epochs=4, n_rounds=4, batch_size=20, n_members=2
    )
    whole = model.fit(x).labels_
    method = model.checked(x)
    with LocalPool(storage=tmp_path) as pool:
        for last in rounds(method, x, pool):
            if last.index == 1:
                break
    with LocalPool(storage=tmp_path) as pool:
        *_, last = rounds(method, x, pool, resume=last)
    np.testing.assert_array_equal(last.agreement.labels, whole)


def test_a_saved_model_predicts_the_same(digits, tmp_path):
    model = EntropyClustering(backbone="linear", n_members=2, n_epochs=5).fit(digits.x)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(digits.x), model.predict(digits.x))
    np.testing.assert_allclose(loaded.predict_proba(digits.x), model.predict_proba(digits.x))
    np.testing.assert_array_equal(model.predict(digits.x), model.labels_)


def test_a_model_from_trained_weights_does_without_their_file(tmp_path):
    x = np.random.default_rng(0).random((20, 3, 12, 12)).astype(np.float32)
    trained = ResNet18((3, 12, 12))
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    parameters = {"n_clusters": 3, "backbone": "resnet18", "n_epochs": 1, "n_rounds": 1, "views": ()}
    model = EntropyClustering(weights=str(tmp_path / "weights.pt"), trunk_learning_rate=1e-12, **parameters).fit(x)
    torch.testing.assert_close(model.members_[0].net.trunk.conv1.weight, trained.conv1.weight)
    save_model(model, tmp_path / "model")
    (tmp_path / "weights.pt").unlink()
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(x), model.predict(x))
    with pytest.raises(DataError, match="there is no file of weights"):
        EntropyClustering(weights="missing.pt", **parameters).fit(x)


IMAGES = np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32)
VECTORS = IMAGES.reshape(20, 64)


@pytest.mark.parametrize(
    ("x", "parameters", "says"),
    [
        (VECTORS, {"loss": "entropy"}, "one of 'self-labelling'"),
        (VECTORS, {"loss": "iic"}, "compares views"),
        (VECTORS, {"imsat_term": "views", "loss": "imsat"}, "compares views"),
        (VECTORS, {"views": ["flip"]}, "for images"),
        (IMAGES, {"views": ["flop"]}, "known are flip"),
        (IMAGES, {"scaling": "standard", "views": ["flip"]}, "Give scaling='unit' or views"),
        (IMAGES, {"loss": "k-means", "backbone": "vgg4"}, "trains no network"),
        (VECTORS, {"loss": "renyi", "update": "epoch"}, "losses with pseudo-labels"),
        (VECTORS, {"weights": "w.pt"}, "for backbone='resnet18'"),
        (VECTORS, {"lam": -1.0}, ">= 0"),
        (VECTORS, {"target": [0.5, 0.5, 0.5]}, "sum to 1"),
        (VECTORS, {"target": [0.5, 0.5, 0.0]}, "> 0"),
        (VECTORS, {"n_epochs": 2, "n_rounds": 3}, "n_rounds=2 or fewer"),
        (VECTORS, {"loss": "seeds"}, "Give seeds"),
        (VECTORS, {"seeds": [0, 1]}, "2 labels for 20 points"),
        (VECTORS, {"seeds": [3] + [-1] * 19}, r"seeds\[0\] is 3"),
        (VECTORS, {"seeds": [-1] * 20}, "nothing but -1"),
        (VECTORS, {"seeds": "missing.npy"}, "cannot be read"),
        (VECTORS, {"seeds": [0] + [-1] * 19, "loss": "k-means"}, "cannot be used with loss='k-means'"),
    ],
)
def test_refuses_what_cannot_be_used(x, parameters, says):
    with pytest.raises(ParameterError, match=says):
        EntropyClustering(**{"n_clusters": 3, "n_epochs": 2, "n_rounds": 2, **parameters}).fit(x)


def test_refuses_a_network_for_other_data():
    with pytest.raises(DataError, match="vgg4"):
        EntropyClustering(n_clusters=3, backbone="vgg4").fit(VECTORS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("loss", ["self-labelling", "imsat", "iic", "sela", "miadm", "scan", "k-means"])
def test_every_loss_runs_on_a_gpu_and_its_model_on_the_cpu(loss):
    x = np.random.default_rng(0).random((60, 3, 12, 12)).astype(np.float32)
    backbone = "linear" if loss == "k-means" else "vgg4"
    model = EntropyClustering(n_clusters=4, loss=loss, backbone=backbone, **QUICK).fit(x, pool=LocalPool(device="cuda"))
    raw = model.last_round_.outputs[0].labels
    assert (model.members_[0].predict_proba(torch.from_numpy(x)).argmax(1).numpy() == raw).mean() > 0.95
