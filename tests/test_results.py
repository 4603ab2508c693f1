"""The run folder: what lies in it, that it reads without distclust, and that true labels touch the metrics alone."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distclust import CombinationAssignment, Dataset, LocalPool, load_model, rounds
from distclust.contracts import Agreement, MemberOutput, Round
from distclust.errors import RunError, RunFolderError
from distclust.results import RunFolder, figures, measured, reliability
from distclust.sweep import trial

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


# What is measured of members that do not vote


MEASURES = ("silhouette", "probes", "soft", "sizes")


def fitted(data, n_members):
    """A model and what `adopt` takes to make it again."""
    model = CombinationAssignment(n_clusters=3, n_members=n_members, n_epochs=2, n_rounds=1)
    pool, method = LocalPool(), model.checked(data.x)
    (last,) = rounds(method, data.x, pool)
    return model.adopt(method, data.x, last, pool.states()), method, last, pool.states()


def with_statuses(data, made, statuses, **changes):
    """The same members with other statuses; a lost one has no labels and no state, an abstained one no labels."""
    _, method, last, states = made
    nothing = np.full(len(data.x), -1)
    outputs = tuple(
        replace(o, status=s, cause="as the test says", labels=nothing if s in ("lost", "abstained") else o.labels)
        for o, s in zip(last.outputs, statuses, strict=True)
    )
    outputs = tuple(replace(output, **changes) for output in outputs)
    agreement = method.agree([*outputs])
    kept = [None if s == "lost" else state for s, state in zip(statuses, states, strict=True)]
    last = replace(last, outputs=outputs, agreement=agreement)
    return CombinationAssignment(**method.get_params()).adopt(method, data.x, last, kept)


def everything(model, data):
    return figures(model.last_round_, data, 3) | trial.measured(model, data, MEASURES)


@pytest.fixture(scope="module")
def alone(blobs):
    data = Dataset("blobs", blobs[0], blobs[1], 3)
    return data, fitted(data, 1)


@pytest.fixture(scope="module")
def three(blobs):
    data = Dataset("blobs", blobs[0], blobs[1], 3)
    return data, fitted(data, 3)


def test_a_single_member_is_measured_whether_it_votes_or_not(alone):
    data, made = alone
    here, there = (everything(with_statuses(data, made, [s]), data) for s in ("voting", "collapsed"))
    assert here == everything(made[0], data)
    told = {"voters", "collapsed"}
    assert (there["voters"], there["collapsed"]) == (0, 1)
    assert {k: v for k, v in there.items() if k not in told} == {k: v for k, v in here.items() if k not in told}
    assert not {name for name, value in there.items() if np.isnan(value)}
    assert {"silhouette", "soft_entropy", "oracle_soft_kl_star", "oracle_linear_probe", "oracle_size_2"} <= set(there)


def test_one_member_agrees_with_nobody(alone):
    data, made = alone
    assert not {"stability", "agreed", "agreement", "oracle_agreed_acc"} & set(everything(made[0], data))


def test_a_collapse_has_one_cluster_in_effect(alone):
    data, made = alone
    found = everything(with_statuses(data, made, ["collapsed"], labels=np.full(300, 2)), data)
    assert (found["effective_clusters"], found["largest_cluster"], found["unlabelled"]) == (1, 1, 0)
    assert found["oracle_acc"] == pytest.approx(1 / 3, abs=0.01)
    assert np.isnan(found["silhouette"])  # of one cluster there is none
    assert sorted(found[f"oracle_size_{k}"] for k in range(3)) == [0, 0, 300]


def test_a_member_without_labels_is_not_a_number_of_clusters(alone):
    data, made = alone
    found = everything(with_statuses(data, made, ["abstained"]), data)
    unknown = {"effective_clusters", "largest_cluster", "silhouette", "oracle_size_0", "oracle_size_1", "oracle_size_2"}
    assert {name for name, value in found.items() if np.isnan(value)} == unknown
    assert (found["unlabelled"], found["abstained"], found["oracle_acc"]) == (1, 1, 0)


def test_a_network_that_is_no_longer_finite_is_measured_as_far_as_can_be(alone):
    data, made = alone
    model = with_statuses(data, made, ["collapsed"], labels=np.arange(300) // 298)
    for parameter in model.members_[0].net.parameters():
        parameter.data.fill_(np.nan)
    found = everything(model, data)
    assert np.isnan(
        [found[name] for name in ("silhouette", "soft_entropy", "oracle_soft_kl_star", "oracle_knn_probe")]
    ).all()
    assert found["effective_clusters"] > 1


def test_posteriors_that_cannot_be_had_do_not_fail_a_trial(alone, monkeypatch):
    data, made = alone

    def untrained(*_):
        raise RunError("no target was seen")

    model = with_statuses(data, made, ["collapsed"])
    monkeypatch.setattr(model.members_[0], "predict_proba", untrained)
    found = everything(model, data)
    assert np.isnan(found["soft_entropy"])
    assert np.isfinite(found["silhouette"])


def test_members_that_do_not_vote_count_in_the_members_mean_and_lost_ones_apart(three):
    data, made = three
    found = measured(with_statuses(data, made, ["voting", "collapsed", "abstained"]).last_round_, data, 3)["with_truth"]
    own = [m["acc"] for m in measured(made[2], data, 3)["with_truth"]["members"]]
    assert [m["acc"] for m in found["members"]] == [own[0], own[1], 0]
    assert found["members_mean"]["acc"] == pytest.approx((own[0] + own[1]) / 3)
    model = with_statuses(data, made, ["voting", "collapsed", "lost"])
    found = measured(model.last_round_, data, 3)["with_truth"]
    assert found["members"][2] is None
    assert found["members_mean"]["acc"] == pytest.approx((own[0] + own[1]) / 2)
    plain = everything(model, data)
    assert [plain[name] for name in ("voters", "collapsed", "abstained", "lost")] == [1, 1, 0, 1]
    assert plain["oracle_members_acc"] == pytest.approx((own[0] + own[1]) / 2)


def test_two_that_agree_among_many_that_do_not_vote_are_not_stable(three):
    data, made = three
    whole = everything(made[0], data)["stability"]
    two = with_statuses(data, made, ["voting", "voting", "collapsed"])
    between = measured(two.last_round_, data, 3)["label_free"]["stability"]
    assert everything(two, data)["stability"] == pytest.approx(between / 3)  # one pair of three
    assert whole > 0.5  # so that the line above says something


def test_where_no_member_votes_sizes_are_means_over_all(three):
    data, made = three
    model = with_statuses(data, made, ["collapsed", "collapsed", "lost"])
    found = everything(model, data)
    each = [everything(with_statuses(data, fitted_alone(made, m), ["collapsed"]), data) for m in (0, 1)]
    for name in ("effective_clusters", "silhouette", "soft_entropy", "oracle_soft_kl_star", "oracle_linear_probe"):
        assert found[name] == pytest.approx(np.mean([one[name] for one in each])), name
    assert found["oracle_acc"] == 0  # there are no consensus labels, and a point without one is wrong


def fitted_alone(made, member):
    """One member of an ensemble as a single model."""
    model, method, last, states = made
    outputs = (last.outputs[member],)
    single = replace(method, n_members=1)
    # the silhouette's points are drawn by the seed, which is the same
    return model, single, replace(last, outputs=outputs, agreement=single.agree(outputs)), [states[member]]


def test_latents_of_a_vote_of_the_concatenation_alone(three):
    """No member votes, and there are labels all the same: the first member's latents are looked at."""
    data, made = three
    model = with_statuses(data, made, ["abstained"] * 3)
    model.last_round_ = replace(model.last_round_, agreement=made[2].agreement)
    found = trial.measured(model, data, MEASURES)
    assert np.isfinite([found["silhouette"], found["oracle_linear_probe"]]).all()
