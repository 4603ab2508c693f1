"""The run folder: what lies in it, that it reads without distclust, and that true labels touch the metrics alone."""

import json

import numpy as np
import pandas as pd
import pytest

from distclust import CombinationAssignment, Dataset, LocalPool, load_model, rounds
from distclust.contracts import Agreement, MemberOutput, Round
from distclust.errors import RunError, RunFolderError
from distclust.results import RunFolder, figures, measured, reliability

SPEC = "method: combination\ndataset: blobs\n"


def finished(path, data, n_members=2):
    model = CombinationAssignment(n_clusters=3, n_members=n_members, n_epochs=3, n_rounds=3)
    folder = RunFolder.create(path, SPEC)
    pool = LocalPool(storage=folder.members)
    method = model.checked(data.x)
    for last in rounds(method, data.x, pool):
        folder.store(last)
    folder.close()
    model.adopt(method, data.x, last, pool.states())
    return folder, model, folder.finish(model, data)


@pytest.fixture(scope="module")
def run(tmp_path_factory, blobs):
    x, y = blobs
    return finished(tmp_path_factory.mktemp("run") / "a", Dataset("blobs", x, y, 3))


def test_everything_of_the_design_is_there(run):
    folder, _, _ = run
    assert {p.name for p in folder.path.iterdir()} == {
        "spec.yaml",
        "rounds.jsonl",
        "labels.parquet",
        "metrics.json",
        "model",
        "members",
        "tensorboard",
    }
    assert folder.finished
    assert not list(folder.path.rglob("*.part"))


def test_labels_read_with_pandas(run, blobs):
    folder, model, _ = run
    table = pd.read_parquet(folder.path / "labels.parquet")
    assert list(table.columns) == ["index", "label", "agreement", "agreed", "member00", "member01"]
    assert np.array_equal(table["label"], model.labels_)
    assert np.array_equal(table["agreed"], model.agreed_)
    assert len(table) == len(blobs[0])


def test_rounds_read_as_json_lines(run):
    lines = [json.loads(line) for line in (run[0].path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]
    assert {"agreed", "agreement", "stability", "voters", "effective_clusters", "seconds"} <= set(lines[0])
    assert {m["status"] for line in lines for m in line["members"]} <= {"voting", "collapsed"}


def test_tensorboard_reads_the_events(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run[0].path / "tensorboard")).Reload()
    assert {"ensemble/agreed", "member00/loss", "member01/loss"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("ensemble/agreed")] == [0, 1, 2]


def test_the_model_of_a_run_predicts_its_labels(run, blobs):
    folder, model, _ = run
    assert np.array_equal(load_model(folder.path / "model").predict(blobs[0]), model.labels_)


def test_a_stored_round_comes_back_whole(run):
    folder, model, _ = run
    back, there = folder.last_round(), model.last_round_
    assert back.index == there.index
    for name in ("labels", "agreed", "share", "aligned"):
        assert np.array_equal(getattr(back.agreement, name), getattr(there.agreement, name))
    for a, b in zip(back.outputs, there.outputs, strict=True):
        assert np.array_equal(a.labels, b.labels)
        assert (a.scores, a.status, a.cause) == (b.scores, b.status, b.cause)


def test_true_labels_change_the_metrics_alone(tmp_path, blobs):
    x, y = blobs
    shuffled = np.random.default_rng(1).permutation(y)
    a, _, with_y = finished(tmp_path / "a", Dataset("blobs", x, y, 3))
    b, _, with_shuffled = finished(tmp_path / "b", Dataset("blobs", x, shuffled, 3))
    c, _, without = finished(tmp_path / "c", Dataset("blobs", x))
    names = [p.relative_to(a.path) for p in a.path.rglob("*") if p.is_file() and "tensorboard" not in str(p)]
    for name in names:
        if name.name in ("metrics.json", "rounds.jsonl", "last-round.safetensors"):
            continue  # the first by design, the others hold wall times
        assert (a.path / name).read_bytes() == (b.path / name).read_bytes() == (c.path / name).read_bytes(), name
    assert with_y["with_truth"] != with_shuffled["with_truth"]
    assert without["with_truth"] is None
    for found in (with_y, with_shuffled, without):
        found["label_free"].pop("seconds")
    assert with_y["label_free"] == with_shuffled["label_free"] == without["label_free"]


def test_the_reliability_is_that_of_labelled_points_of_known_class(run, blobs):
    _, model, found = run
    x, y = blobs
    whole = found["with_truth"]["reliability"]
    assert whole["n_samples"] == len(x)
    for name in ("agreement", "predict_proba"):
        right = sum(b["n_points"] * b["accuracy"] for b in whole[name]["bins"]) / len(x)
        assert right == pytest.approx(found["with_truth"]["consensus"]["acc"])
        assert 0 <= whole[name]["expected_calibration_error"] <= 1
    mean = sum(b["n_points"] * b["confidence"] for b in whole["agreement"]["bins"]) / len(x)
    assert mean == pytest.approx(model.agreement_.mean())
    some = np.where(np.arange(len(y)) < 50, y, -1)
    assert reliability(model, Dataset("blobs", x, some, 3))["n_samples"] == 50
    assert reliability(model, Dataset("blobs", x, np.full_like(y, -1), 3)) is None


def test_a_model_that_predicts_nothing_new_has_the_reliability_of_its_agreement(run, blobs, monkeypatch):
    def refuse(x):
        raise RunError("no target was seen.")

    model = run[1]
    monkeypatch.setattr(model, "predict_proba", refuse, raising=False)
    found = reliability(model, Dataset("blobs", *blobs, 3))
    assert found["agreement"] == run[2]["with_truth"]["reliability"]["agreement"]
    assert "predict_proba" not in found


def test_partly_known_classes_are_measured_on_what_is_known(run, blobs):
    _, model, _ = run
    y = blobs[1].copy()
    y[:250] = -1
    found = measured(model.last_round_, Dataset("blobs", blobs[0], y, 3), 3)
    assert 0 <= found["with_truth"]["consensus"]["acc"] <= 1
    y[:] = -1
    assert measured(model.last_round_, Dataset("blobs", blobs[0], y, 3), 3)["with_truth"] is None


def test_metrics_are_strict_json_with_one_member(tmp_path, blobs):
    folder, _, _ = finished(tmp_path / "a", Dataset("blobs", *blobs, 3), n_members=1)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((folder.path / "metrics.json").read_text(), parse_constant=refuse)
    assert found["label_free"]["stability"] is None  # one member has nobody to agree with


def test_a_folder_that_holds_something_is_not_taken(run, tmp_path):
    with pytest.raises(RunFolderError, match="--resume"):
        RunFolder.create(run[0].path, SPEC)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="exists already"):
        RunFolder.create(tmp_path / "file", SPEC)
    with pytest.raises(RunFolderError, match="cannot write to"):
        RunFolder.create(tmp_path / "file" / "below", SPEC)


def test_what_is_no_run_folder_is_not_opened(tmp_path):
    with pytest.raises(RunFolderError, match=r"no spec\.yaml"):
        RunFolder.open(tmp_path)


def test_a_full_disk_leaves_the_last_round_as_it_was(tmp_path, blobs, monkeypatch):
    x, y = blobs
    folder, _, _ = finished(tmp_path / "a", Dataset("blobs", x, y, 3))
    before = folder.last_round()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distclust.distributed.checkpoint.os.fsync", full)
    with pytest.raises(RunFolderError, match=r"No space left on device.*has room"):
        folder.store(before)
    assert folder.last_round().index == before.index
    assert not list(folder.path.rglob("*.part"))


def test_one_member_has_no_stability_to_store(tmp_path, blobs, capfd):
    model = CombinationAssignment(n_clusters=3, n_epochs=1, n_rounds=1).checked(blobs[0])
    folder = RunFolder.create(tmp_path / "one", "method: combination\n")
    for last in rounds(model, blobs[0], LocalPool()):
        folder.store(last)
    folder.close()
    assert "NaN" not in "".join(capfd.readouterr())


def test_labels_by_the_concatenation_of_the_latents_alone_are_measured(blobs):
    """Selective pseudo-labels of members that all abstained: there are labels, and no member's own."""
    x, y = blobs
    nobody = MemberOutput(np.full(300, -1), status="abstained", cause="no cut")
    agreement = Agreement(y.astype(np.int64), np.zeros(300, bool), np.ones(300), 1, np.full((2, 300), -1))
    found = figures(Round(0, (nobody, nobody), agreement, 0.1, (0,)), Dataset("blobs", x, y), 3)
    assert found["effective_clusters"] == pytest.approx(3.0)
    assert found["oracle_acc"] == 1.0
    assert np.isnan(found["stability"])
