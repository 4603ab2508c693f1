"""Embeddings in pictures: their numbers against a plain twin, no class seen before its time, and the command."""

import json
import shutil
import struct
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure

from distclust import labelling, load
from distclust.contracts import Dataset
from distclust.distributed import LocalPool, rounds
from distclust.distributed.checkpoint import LocalFolder
from distclust.distributed.pool import threads
from distclust.errors import DataError, MembersLost, RunError
from distclust.methods import CombinationAssignment, EntropyClustering, MiCE, SelectivePseudoLabel
from distclust.methods.base import revived
from distclust.methods.selective import SelectiveMember
from distclust.metrics import accuracy
from distclust.report import embeddings, pictures
from distclust.report.embeddings import (
    Course,
    Seen,
    chosen_points,
    default_rounds,
    drawn,
    epochs_done,
    finished_run,
    flat,
    main,
    perplexity,
    posterior_counts,
    trained,
)
from distclust.report.pictures import BarChart, Bars, Cloud, bar_charts, clouds
from distclust.run import main as run
from distclust.spec import read

QUICK = ["n_clusters=10", "n_epochs=6", "n_rounds=4", "latent_dim=8"]
CHOSEN = ["--rounds", "4", "1", "2", "--points", "50"]


def saved(folder, x, y, name="some.npz"):
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, x=x, y=y)


@pytest.fixture(scope="module")
def small(digits):
    return load("digits", n_samples=200)


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """A folder with data, what the command said there, and what it drew into `out`."""
    found = tmp_path_factory.mktemp("drawn")
    saved(found, small.x, small.y)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found)
        assert main(["combination", "dataset=some.npz", *QUICK, *CHOSEN, "--out", "out"]) == 0
    return found


@pytest.fixture(scope="module")
def numbers(folder):
    return json.loads((folder / "out" / "figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def twin(small):
    """What the drawn member says after each round: labels, posterior, latents."""
    method = CombinationAssignment(n_clusters=10, n_epochs=6, n_rounds=4, latent_dim=8).checked(small.x)
    found, x = [], torch.from_numpy(np.array(small.x))
    with LocalPool() as pool, threads(1):
        for last in rounds(method, small.x, pool):
            member = revived(method.member(small.x.shape[1:], 0), pool.states()[0])
            found.append((last.outputs[0].labels, member.predict_proba(x).numpy(), member.transform(x).numpy()))
    return found


def course(small, labels, counts=None, latents=None, y=None, when=None):
    """A course of looks at points of a dataset, one a labelling."""
    rows = np.arange(len(small.x))[:40]
    data = Dataset(small.name, small.x, y, 3)
    latents = np.random.default_rng(0).normal(size=(40, 5)) if latents is None else latents
    counts = [None] * len(labels) if counts is None else counts
    seen = [
        Seen(*((r, None) if when is None else when), "", latents, own, count)
        for r, (own, count) in enumerate(zip(labels, counts, strict=True), 1)
    ]
    return Course(read(), data, 3, 0, 0, rows, seen)


# The numbers behind the pictures


def test_the_folder_holds_pictures_and_numbers(folder):
    out = folder / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "classes.png",
        "clusters.png",
        "figures.json",
        "posteriors.png",
    ]
    for path in out.glob("*.png"):
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", data[16:20]) == (1200,)
        assert len(data) > 20_000
        assert b"tIME" not in data


def test_panels_are_the_chosen_rounds(numbers):
    assert [panel["round"] for panel in numbers["panels"]] == [1, 2, 4]
    assert [panel["epoch"] for panel in numbers["panels"]] == [1 * 6 // 4, 2 * 6 // 4, 6]
    assert numbers["parameters"]["n_samples"] == 200
    assert numbers["parameters"]["by"] == "tsne"
    assert numbers["parameters"]["perplexity"] == 50 / 4
    assert "latent_dim: 8" in numbers["parameters"]["spec"]


def test_sizes_and_labels_are_those_of_the_rounds(numbers, twin):
    points = numbers["points"]
    assert len(points) == 50
    assert points == sorted(set(points))
    for panel in numbers["panels"]:
        labels = twin[panel["round"] - 1][0]
        sizes = [sum(labels == k) for k in range(10)]
        assert sorted(panel["sizes"]) == sorted(sizes)
        pairs = set(zip(panel["labels"], labels[points].tolist(), strict=True))  # one name for another, one to one
        assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
        assert panel["without_label"] == 0
    assert numbers["panels"][-1]["labels"] == twin[3][0][points].tolist()


def test_posterior_values_are_counted_by_tenths(numbers, twin):
    for panel in numbers["panels"]:
        values = twin[panel["round"] - 1][1].ravel().tolist()
        edges = np.linspace(0, 1, 11).tolist()
        tenths = [sum(low <= v < high for v in values) for low, high in pairwise(edges)]
        tenths[-1] += sum(v == 1 for v in values)
        assert panel["posterior_counts"] == tenths
        assert sum(tenths) == 200 * 10


def test_positions_keep_neighbours(numbers, twin):
    latents = twin[3][2][numbers["points"]]
    positions = np.array(numbers["panels"][-1]["positions"])
    assert positions.shape == (50, 2)
    apart = [np.linalg.norm(at[:, None] - at, axis=2) + 1e9 * np.eye(50) for at in (latents, positions)]
    nearest = [np.argsort(distances, axis=1)[:, :10] for distances in apart]
    shared = np.mean([len(set(a) & set(b)) for a, b in zip(*nearest, strict=True)])
    assert shared > 2 * 10 * 10 / 49  # chance


def test_accuracy_is_that_of_all_points(numbers, twin, small):
    expected = [accuracy(twin[r - 1][0], small.y) for r in (1, 2, 4)]
    assert numbers["with_truth"] == {"accuracy": pytest.approx(expected)}


def test_other_classes_change_their_picture_and_the_accuracy_alone(folder, numbers, small, tmp_path, monkeypatch):
    saved(tmp_path, small.x, np.random.default_rng(1).permutation(small.y))
    monkeypatch.chdir(tmp_path)
    with threads(2):  # nor do threads
        assert main(["combination", "dataset=some.npz", *QUICK, *CHOSEN, "--out", "out"]) == 0
    for name in ("clusters.png", "posteriors.png"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()
    assert (tmp_path / "out" / "classes.png").read_bytes() != (folder / "out" / "classes.png").read_bytes()
    found = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    assert found.pop("with_truth") != numbers["with_truth"]
    assert found == {name: value for name, value in numbers.items() if name != "with_truth"}


def test_the_same_course_gives_the_same_bytes(small):
    labels = [np.arange(200) % 3, np.arange(200) // 70]
    counts = [np.arange(10), np.arange(10)[::-1]]
    first, second = (drawn(course(small, labels, counts, y=small.y), "tsne") for _ in range(2))
    assert first == second


def test_a_cluster_keeps_its_name_from_panel_to_panel(small):
    last = np.arange(200) // 70
    found = json.loads(drawn(course(small, [(last + 1) % 3, last]), "tsne").files["figures.json"])
    assert found["panels"][0]["labels"] == found["panels"][1]["labels"]
    assert found["panels"][0]["sizes"] == [70, 70, 60]


def test_data_without_classes_has_no_picture_of_them(small):
    for y in (None, np.full(200, -1)):
        found = drawn(course(small, [np.arange(200) % 3], y=y), "tsne")
        assert sorted(found.files) == ["clusters.png", "figures.json", "posteriors.png"]
        assert json.loads(found.files["figures.json"])["with_truth"] is None
        assert "accuracy" not in found.lines[0]


def test_points_without_a_label_are_counted_and_drawn(small):
    labels = np.where(np.arange(200) < 20, -1, np.arange(200) % 3)
    found = drawn(course(small, [labels], when=(None, None)), "tsne")
    panel = json.loads(found.files["figures.json"])["panels"][0]
    assert panel["without_label"] == 20
    assert sum(panel["sizes"]) == 180
    assert found.lines[0].startswith("end of training: ")
    assert "20 of 200 points without a label" in found.lines[0]


# What is looked at


@given(arrays(np.float64, (7, 4), elements=st.floats(0, 1)))
def test_tenths_written_out(posterior):
    counts = [0] * 10
    edges = np.linspace(0, 1, 11)
    for value in posterior.ravel():
        counts[next(k for k in reversed(range(10)) if value >= edges[k])] += 1
    assert posterior_counts(posterior).tolist() == counts


def test_rounding_above_one_counts_in_the_last_tenth():
    assert posterior_counts(np.array([[1 + 1e-12, -1e-12]])).tolist() == [1, *[0] * 8, 1]


@pytest.mark.parametrize(("n", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (10, (1, 5, 10))])
def test_first_middle_and_last_round(n, expected):
    assert default_rounds(n) == expected


def test_points_are_drawn_by_the_seed():
    a, b, c = (chosen_points(100, 30, seed) for seed in (0, 0, 1))
    assert len(set(a.tolist())) == 30
    assert (a == b).all()
    assert (a != c).any()
    np.testing.assert_array_equal(chosen_points(20, 30, 0), np.arange(20))


def test_epochs_of_every_method(small):
    assert epochs_done(CombinationAssignment(n_epochs=7, n_rounds=3), small.x, 1) == 2
    assert epochs_done(EntropyClustering(n_epochs=7, n_rounds=3), small.x, 2) == 4
    assert epochs_done(MiCE(n_epochs=7, n_rounds=3), small.x, 3) == 7
    assert epochs_done(SelectivePseudoLabel(), small.x, 1) is None


def test_perplexity_is_the_papers_where_there_are_points_enough():
    assert [perplexity(n) for n in (2, 40, 600, 2000, 8000, 60_000)] == [0.5, 10, 30, 50, 200, 200]


def test_latents_in_the_plane_at_their_limits():
    assert not flat(np.ones((12, 3)), "tsne", 0).any()
    assert not flat(np.ones((12, 3)), "umap", 0).any()
    huge = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32) * np.float32(1e30)
    for latents in (np.arange(12.0)[:, None], np.array([[0.0, 1.0], [2.0, 3.0]]), huge, huge[:3]):
        found = flat(latents, "tsne", 0)
        assert found.shape == (len(latents), 2)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, flat(latents, "tsne", 0))


def test_umap_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(labelling, "embed", lambda latents, *rest: asked.append(rest) or latents[:, :2])
    latents = np.random.default_rng(0).normal(size=(30, 4))
    for seed in (0, 0, 1):
        np.testing.assert_array_equal(flat(latents, "umap", seed), latents[:, :2])
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.slow
def test_umap_draws(small, tmp_path):
    words = ["combination", "dataset=digits", "dataset.n_samples=200", *QUICK, *CHOSEN, "--by", "umap"]
    for name in ("a", "b"):
        assert main([*words, "--out", str(tmp_path / name)]) == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_mice_is_seen_by_its_gate(capsys):
    words = ["dataset=digits", "dataset.n_samples=120", "n_epochs=2", "n_rounds=2", "embedding_dim=9"]
    found = trained(read(words=words, method="mice"), [2], 30)
    assert "round 2/2" in capsys.readouterr().out
    model = MiCE(n_clusters=10, n_epochs=2, n_rounds=2, embedding_dim=9).fit(found.data.x)
    member, (seen,) = model.members_[0], found.seen
    member.net.eval()
    with torch.no_grad():
        images = member.net.student.scaling(torch.from_numpy(found.data.x[found.rows]))
        gate = member.net.read(images).gate
    np.testing.assert_allclose(seen.latents, gate, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(seen.latents, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(seen.labels, model.last_round_.outputs[0].labels)
    assert (seen.round, seen.epoch, found.n_clusters, len(found.rows)) == (2, 2, 10, 30)


def test_members_that_do_not_learn_from_others_are_trained_alone(blobs, tmp_path, monkeypatch):
    saved(tmp_path, *blobs)
    monkeypatch.chdir(tmp_path)
    words = ["dataset=some.npz", "n_epochs=2", "n_rounds=1", "n_clusters=3"]
    alone, five = (trained(read(words=[*words, f"n_members={n}"], method="combination"), [], 20) for n in (1, 5))
    np.testing.assert_array_equal(alone.seen[0].latents, five.seen[0].latents)


def test_an_ensemble_that_learns_together_is_seen_until_its_early_end(blobs, tmp_path, monkeypatch, capsys):
    saved(tmp_path, *blobs)
    monkeypatch.chdir(tmp_path)
    words = ["dataset=some.npz", "n_members=2", "labelling=k-means", "pretrain_epochs=2", "patience=1", "epochs=1"]
    found = trained(read(words=[*words, "n_rounds=20", "n_clusters=3"], method="selective"), [1, 20], 20)
    first, last = found.seen
    assert first.round == 1
    assert 1 < last.round < 20
    assert f"training ended after round {last.round}" in capsys.readouterr().out
    assert first.counts is None  # no classifier has seen a target
    assert last.counts.sum() == 300 * 3
    result = drawn(found, "tsne")
    assert "no posterior yet" in result.lines[0]
    assert json.loads(result.files["figures.json"])["panels"][0]["posterior_counts"] is None


def test_a_lost_member_is_named(blobs, tmp_path, monkeypatch):
    saved(tmp_path, *blobs)
    monkeypatch.chdir(tmp_path)
    advance = SelectiveMember.advance

    def fail(member, *rest):
        if member.index == 0:
            raise FloatingPointError("went out of all bounds")
        return advance(member, *rest)

    monkeypatch.setattr(SelectiveMember, "advance", fail)
    words = ["dataset=some.npz", "n_clusters=3", "pretrain_epochs=1", "labelling=k-means"]
    with pytest.raises(RunError, match=r"member 0, which is drawn, was lost in round 1: .* out of all bounds"):
        trained(read(words=[*words, "n_members=2"]), [1], 20)
    with pytest.raises(MembersLost):
        trained(read(words=[*words, "n_members=1"]), [1], 20)


# A finished run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "mine"
    words = ["combination", "dataset=digits", "dataset.n_samples=150", "pool.kind=local", "n_members=2", *QUICK]
    assert (
        run([*words, "--out", str(path)]) == 1
    )  # so few steps leave no member a vote; there is a picture all the same
    return path


def test_a_finished_run_is_drawn_as_it_ended(finished, tmp_path, capsys):
    capsys.readouterr()
    assert main(["--run", str(finished), "--points", "40", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    measured = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert found["with_truth"]["accuracy"] == [measured["with_truth"]["members"][0]["acc"]]
    (panel,) = found["panels"]
    assert (panel["round"], panel["epoch"]) == (4, 6)
    assert sum(panel["sizes"]) == 150
    assert sum(panel["posterior_counts"]) == 150 * 10
    assert said.startswith("round 4, epoch 6: ")
    assert f"accuracy (true classes) {found['with_truth']['accuracy'][0]:.1%}" in said


def test_a_run_without_its_checkpoints_is_labelled_by_its_model(finished, tmp_path):
    whole = finished_run(finished, ["pool.device=cpu"], 40)
    bare = tmp_path / "bare"
    shutil.copytree(finished, bare, ignore=shutil.ignore_patterns("members"))
    found = finished_run(bare, [], 40)
    np.testing.assert_array_equal(found.seen[0].labels, whole.seen[0].labels)
    assert found.seen[0].when == "end of training"
    assert whole.seen[0].when == "round 4, epoch 6"


def test_the_first_member_that_is_left_is_drawn(finished, tmp_path):
    left = tmp_path / "left"
    shutil.copytree(finished, left)
    manifest = json.loads((left / "model" / "model.json").read_text(encoding="utf-8"))
    (left / "model" / "model.json").write_text(json.dumps(manifest | {"members": [False, True]}), encoding="utf-8")
    found = finished_run(left, [], 40)
    assert found.member == 1
    assert (found.seen[0].latents != finished_run(finished, [], 40).seen[0].latents).any()


def test_a_run_on_other_data_is_refused(finished, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    spec = (other / "spec.yaml").read_text(encoding="utf-8")
    for words, says in (("n_samples: 151", "150 points of 1 x 8 x 8"), ("name: blobs", "points of 2 now")):
        changed = spec.replace("n_samples: 150", words) if "name" not in words else spec.replace("name: digits", words)
        (other / "spec.yaml").write_text(changed, encoding="utf-8")
        with pytest.raises(DataError, match=says):
            finished_run(other, [], 40)


def test_a_run_that_is_not_finished_or_not_there_is_refused(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "begun", ignore=shutil.ignore_patterns("model", "metrics.json"))
    shutil.copytree(finished, "broken")
    (tmp_path / "broken" / "model" / "model.json").write_text("{", encoding="utf-8")
    for path, says in (("begun", "--resume begun"), ("none", "not a run folder"), ("broken", "no model that can be")):
        assert main(["--run", path, "--out", "out"]) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


# The command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["combinaton"], "Did you mean 'combination'?"),
        (["combination", "n_epoch=2"], "Did you mean 'n_epochs'?"),
        (["combination", "n_epochs=0"], "n_epochs=0 cannot be used"),
        (["combination", "dataset=digit"], "Did you mean 'digits'?"),
        (["combination", "mice"], "'mice' cannot be used: it is no key=value pair"),
        (["combination", "n_rounds=4", "--rounds", "1", "5"], "--rounds 5 cannot be used: training has 4 rounds"),
        (["combination", "n_rounds=4", "--rounds", "5", "7"], "n_rounds=7"),
        (["combination", "--rounds", "0"], "'0'; it takes integers of at least 1"),
        (["combination", "--rounds", "first"], "'first'"),
        (["combination", "--rounds"], "--rounds"),
        (["combination", "--points", "9"], "'9'; it takes integers of at least 10"),
        (["combination", "--by", "tnse"], "Did you mean 'tsne'?"),
        (["combination", "pool.kind=ray"], "pool.kind=ray cannot be used"),
        (["combination", "pool.device=gpu"], "pool.device=gpu cannot be used"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["mice", "dataset=blobs"], "compares views of images"),
        (["--run", "missing"], "missing is not a run folder"),
        (["combination", "--run", "missing"], "with --run only"),
        (["--run", "missing", "--rounds", "1"], "with --run only"),
        (["--run", "missing", "pool.cpus_per_member=2"], "pool.cpus_per_member=2 cannot be used"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_what_cannot_be_used_is_refused(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--out", "out"]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.startswith("distclust: ")
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["combination", "--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing(tmp_path, capsys, monkeypatch):
    words = ["combination", "dataset=digits", "dataset.n_samples=60", "n_epochs=1", "n_rounds=1", "latent_dim=2"]
    monkeypatch.setattr(embeddings, "flat", interrupt)
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "distclust: interrupted; nothing is drawn, as pictures come at the end.\n"
    assert not list(tmp_path.iterdir())


def test_files_are_written_all_or_none(tmp_path, monkeypatch):
    write = LocalFolder.write
    monkeypatch.setattr(
        LocalFolder, "write", lambda self, name, data: (interrupt if name == "b" else write)(self, name, data)
    )
    folder = LocalFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        embeddings._write(folder, {"a": b"1", "b": b"2"})
    assert not list(tmp_path.iterdir())


def test_embeddings_out_of_all_bounds_are_not_drawn(small):
    method = CombinationAssignment(n_epochs=1, n_rounds=1).checked(small.x)
    with LocalPool() as pool:
        list(rounds(method, small.x, pool))
        state = pool.states()[0]
    for value in state["net"].values():
        if value.is_floating_point():
            value.fill_(float("nan"))
    subject = embeddings.Subject(method, small.x, np.arange(20), "cpu")
    with pytest.raises(RunError, match="lower learning_rate"):
        embeddings._look(subject, 0, state, np.zeros(200, np.int64))


def test_help_names_what_there_is(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("clusters.png", "classes.png", "posteriors.png", "--run", "--rounds", "tsne"))


def test_arguments_are_checked_before_torch_is_loaded():
    code = (
        "import sys; from distclust.report.embeddings import main; code = main(['mice', '--by', 'pca']);"
        "print(code, *({'torch', 'sklearn', 'matplotlib', 'umap', 'ray'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == ["2"]


# The drawing


def test_twenty_groups_look_different():
    place = Figure().subplots()
    at = np.random.default_rng(0).normal(size=(42, 2))
    pictures._draw_cloud(place, Cloud("", at, np.arange(42) % 21 - 1), 20, 10)
    crosses, *marked = place.collections
    assert len(crosses.get_offsets()) == 2  # -1
    looks = {(turn, tuple(colour)) for turn, dots in enumerate(marked) for colour in dots.get_facecolors()}
    assert len(looks) == 20
    assert sorted(text.get_text() for text in place.texts) == sorted(map(str, range(20)))
    left, right = place.get_xlim()
    assert left < at[:, 0].min() < at[:, 0].max() < right


def test_many_groups_one_point_and_no_bars_can_be_drawn():
    points = np.random.default_rng(0).normal(size=(120, 2))
    assert clouds("", [Cloud("", points, np.arange(120))] * 5, 120, "cluster")[:4] == b"\x89PNG"
    assert clouds("", [Cloud("", np.zeros((1, 2)), np.array([-1]))], 3, "class")[:4] == b"\x89PNG"
    edges = [str(edge) for edge in range(11)]
    many = Bars("", np.arange(120), range(120))
    shown = [BarChart("", "", "", edges, []), BarChart("", "", "", [str(k) for k in range(120)], [many], ("even", 60))]
    assert bar_charts("", shown)[:4] == b"\x89PNG"
