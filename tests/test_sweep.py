"""A sweep in this process, end to end: its folder, its tables, going on after a break, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from distclust import CombinationAssignment, LocalPool, load
from distclust.contracts import Dataset
from distclust.errors import DataError, ParameterError, RunFolderError
from distclust.results import Record
from distclust.sweep import SweepFolder, driver, read_study, sweep, trial

SMALL = {
    "method": "combination",
    "dataset": {"name": "digits", "n_samples": 300},
    "n_epochs": 2,
    "n_rounds": 2,
    "n_members": 2,
    "pool": {"kind": "local"},
    "space": {"support": {"grid": ["greedy", "none"]}, "random_state": {"seeds": 2}},
}


def maker(parent):
    def folder(name="sweep", **changes):
        path = parent / "small.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
        return SweepFolder.create(parent / name, read_study(path))

    return folder


@pytest.fixture
def make(tmp_path):
    return maker(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep from its beginning to its end, its settings, and how its trials ended."""
    folder, seen = maker(tmp_path_factory.mktemp("whole"))(), []
    found = sweep(folder, lambda trial, outcome: seen.append((trial.name, outcome.status)))
    return folder, found, seen


def tables(folder):
    """The tables without the seconds, which are never the same."""
    found = pd.read_parquet(folder.path / "trials.parquet").drop(columns="seconds")
    rounds = pd.read_parquet(folder.path / "rounds.parquet").drop(columns="seconds")
    return found, rounds


def test_a_sweep_and_its_folder(whole):
    folder, found, seen = whole
    assert [status for _, status in seen] == ["finished"] * 4
    assert [setting.values["support"] for setting in found] == ["greedy", "none"]
    trials, rounds = tables(folder)
    assert list(trials["trial"]) == [name for name, _ in seen]
    assert list(trials["random_state"]) == [0, 1, 0, 1]
    assert len(rounds) == 8
    assert {"stability", "agreed", "silhouette", "oracle_acc", "effective_clusters"} <= set(trials.columns)
    for name in ("table.md", "table.csv", "table.tex", "best.yaml", "study.yaml"):
        assert (folder.path / name).stat().st_size
    for name, _ in seen:
        assert not any((folder.path / "trials" / name / "members").iterdir())  # checkpoints are not kept


def test_the_labels_are_those_of_a_plain_run(whole):
    folder = whole[0]
    data = load("digits", n_samples=300)
    for one in folder.study.trials():
        model = CombinationAssignment(n_clusters=10, **one.spec.parameters).fit(data.x, pool=LocalPool())
        assert np.array_equal(folder.labels(one), model.labels_)


def test_the_best_can_be_run_again(whole, tmp_path):
    from distclust.run import main

    folder, out = whole[0], tmp_path / "run"
    assert main(["--config", str(folder.path / "best.yaml"), "pool.kind=local", "--out", str(out)]) == 0
    chosen = yaml.safe_load((folder.path / "best.yaml").read_text())["support"]
    one = next(t for t in folder.study.trials() if t.values == {"support": chosen, "random_state": 0})
    assert np.array_equal(pd.read_parquet(out / "labels.parquet")["label"], folder.labels(one))


class Break(Exception):
    """Stands for a process that dies."""


def test_a_sweep_that_broke_off_goes_on_and_runs_nothing_twice(make, whole, monkeypatch):
    folder, store, count = make("broken"), Record.store, []

    def dies(record, *arguments):
        store(record, *arguments)
        count.append(record.where)
        if len(count) == 3:
            raise KeyboardInterrupt  # in the first round of the second trial

    monkeypatch.setattr(Record, "store", dies)
    with pytest.raises(KeyboardInterrupt):
        sweep(folder)
    assert [outcome.status for _, outcome in folder.known()] == ["finished"]
    sweep(SweepFolder.open(folder.path))
    assert len(count) == 8  # four trials of two rounds, each once
    for ours, theirs in zip(tables(folder), tables(whole[0]), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_a_finished_sweep_loads_no_data_again(whole, monkeypatch):
    folder, before, _ = whole
    monkeypatch.setattr(driver, "loaded", lambda trials: pytest.fail("loaded") if trials else ({}, {}))
    assert [s.means for s in sweep(SweepFolder.open(folder.path))] == [s.means for s in before]


def test_true_labels_do_not_reach_training(make, whole, monkeypatch):
    from distclust.spec import Spec

    plain, blind = whole[0], make("blind")
    read = Spec.load

    def scrambled(spec):
        data = read(spec)
        return Dataset(data.name, data.x, data.y[::-1].copy(), data.n_clusters, data.value_range)

    monkeypatch.setattr(Spec, "load", scrambled)
    sweep(blind)
    for one in plain.study.trials():
        assert np.array_equal(plain.labels(one), blind.labels(one))
    label_free = ["stability", "agreed", "effective_clusters", "silhouette"]
    assert tables(plain)[0][label_free].equals(tables(blind)[0][label_free])
    assert not tables(plain)[0]["oracle_acc"].equals(tables(blind)[0]["oracle_acc"])


def test_data_without_classes(make, tmp_path):
    np.save(tmp_path / "mine.npy", load("digits", n_samples=300).x)
    folder = make(dataset=str(tmp_path / "mine.npy"), n_clusters=10)
    sweep(folder)
    assert not [name for name in tables(folder)[0].columns if name.startswith("oracle_")]
    assert "true classes" not in (folder.path / "table.md").read_text()


def test_missing_data_is_a_row_with_its_reason(make, tmp_path):
    space = {"dataset": {"grid": ["digits", str(tmp_path / "absent.npy")]}}
    folder, seen = make(dataset=None, space=space, n_clusters=10), []
    sweep(folder, lambda trial, outcome: seen.append(outcome.status))
    assert sorted(seen) == ["finished", "missing"]
    assert "missing: " in (folder.path / "table.md").read_text()
    assert "absent.npy" in tables(folder)[0]["cause"][1]


def test_a_sweep_whose_data_is_all_missing_is_refused(make, tmp_path):
    with pytest.raises(DataError, match="no dataset of the study can be had"):
        sweep(make(dataset=str(tmp_path / "absent.npy"), n_clusters=10))


def test_faults_that_show_against_the_data_are_found_before_anything_runs(make):
    folder = make(space={"n_clusters": {"grid": [10, 301, 302]}})
    with pytest.raises(ParameterError) as caught:
        sweep(folder)
    assert len(caught.value.faults) == 2
    assert not (folder.path / "trials").exists()


def test_a_trial_that_fails_is_a_row_and_the_others_go_on(make, monkeypatch):
    advance = LocalPool.advance

    def fails(pool, agreed, round):
        if pool.job.method.support == "none":
            raise MemoryError("no room")
        return advance(pool, agreed, round)

    monkeypatch.setattr(LocalPool, "advance", fails)
    folder = make()
    sweep(folder)
    assert list(tables(folder)[0]["status"]) == ["finished"] * 2 + ["failed"] * 2
    assert "none: failed: MemoryError: no room" in (folder.path / "table.md").read_text()
    monkeypatch.setattr(LocalPool, "advance", advance)
    sweep(SweepFolder.open(folder.path))  # the cause is gone: failed trials are tried again
    assert list(tables(folder)[0]["status"]) == ["finished"] * 4


def test_a_full_disk_ends_the_whole_sweep(make, monkeypatch):
    def full(record, *arguments):
        raise RunFolderError(f"cannot write to {record.where}; make room there.")

    monkeypatch.setattr(Record, "store", full)
    folder = make()
    with pytest.raises(RunFolderError, match="make room there"):
        sweep(folder)
    assert folder.known() == []


def test_an_outcome_that_cannot_be_read_is_named(make):
    folder = make()
    one = folder.study.trials()[0]
    folder.record(one).mkdir(parents=True)
    (folder.record(one) / "outcome.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"outcome.json cannot be read .*; delete it to run the trial again"):
        sweep(folder)


def test_a_sweep_resumed_after_its_last_round_was_stored(make, whole, monkeypatch):
    """The process died between the last round and the outcome."""
    folder = make()
    monkeypatch.setattr(trial, "_finished", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sweep(folder)
    monkeypatch.undo()
    sweep(SweepFolder.open(folder.path))
    for ours, theirs in zip(tables(folder), tables(whole[0]), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_all_measures(make):
    folder = make(study={"measures": ["silhouette", "probes", "soft", "sizes"]}, space={}, n_members=2)
    sweep(folder)
    row = tables(folder)[0].iloc[0]
    assert 0.5 < row["oracle_linear_probe"] <= 1
    assert 0.5 < row["oracle_knn_probe"] <= 1
    assert row["oracle_soft_kl_star"] >= 0
    assert {"hard_entropy", "soft_entropy", "hard_variance", "soft_variance"} <= set(row.index)
    assert sum(row[f"oracle_size_{k}"] for k in range(10)) == 300
    one = folder.study.trials()[0]
    sizes = sorted(np.bincount(folder.labels(one), minlength=10))
    assert sorted(row[f"oracle_size_{k}"] for k in range(10)) == sizes


def test_outcomes_survive_nan(tmp_path):
    found = trial.Outcome("finished", "", 2, {"stability": float("nan"), "agreed": 0.5})
    trial.store_outcome(tmp_path, found)
    assert json.loads((tmp_path / "outcome.json").read_text())["figures"]["stability"] is None
    again = trial.outcome(tmp_path)
    assert np.isnan(again.figures["stability"])
    assert again.figures["agreed"] == 0.5


@pytest.mark.parametrize(
    ("figures", "name", "value"),
    [
        ({"stability": 0.4}, "stability", 0.4),
        ({"stability": float("nan")}, "stability", -1.0),
        ({}, "agreed", -1.0),
        ({"oracle_kl_star": 0.3}, "oracle_kl_star", -0.3),
        ({"silhouette": 0.9, "voters": 0}, "silhouette", -1.0),  # a cluster and an outlier
        ({"oracle_acc": 0.3, "voters": 0}, "oracle_acc", 0.3),
    ],
)
def test_the_objective_is_the_greater_the_better(figures, name, value):
    assert trial.objective(figures, name) == value


def test_a_folder_that_is_no_sweep(tmp_path):
    with pytest.raises(RunFolderError, match="is not the folder of a sweep"):
        SweepFolder.open(tmp_path)


def test_a_folder_that_holds_something(make):
    make()
    with pytest.raises(RunFolderError, match=r"exists already and is not empty; .*--resume"):
        make()


def test_a_table_of_collapse_is_of_all_seeds(make):
    """The paper's Table 4: sums of squares at a rate at which most runs collapse."""
    space = {"random_state": {"seeds": 4}}
    changes = {"support": "sum-of-squares", "learning_rate": 0.3, "n_members": 1, "n_rounds": 1}
    folder = make(
        space=space, study={"objective": "silhouette", "measures": ["silhouette", "soft", "sizes"]}, **changes
    )
    (found,) = sweep(folder)
    assert found.collapsed >= 1
    table = tables(folder)[0]
    soft = ["hard_entropy", "soft_entropy", "hard_variance", "soft_variance", "oracle_soft_kl_star"]
    assert np.isfinite(table[[*soft, *(f"oracle_size_{k}" for k in range(10))]]).all(axis=None)
    collapsed = table[table["collapsed"] == 1]
    assert (collapsed["effective_clusters"] >= 1).all()
    assert (collapsed["effective_clusters"] < 1.1).all()
    assert (collapsed["oracle_soft_kl_star"] > 0.5).all()
    assert {found.counts[name] for name in soft} == {4}
    shown = pd.read_csv(folder.path / "table.csv").iloc[0]
    assert shown["oracle_soft_kl_star_seeds"] == 4
    assert shown["effective_clusters_mean"] >= 1
    if found.counts["silhouette"] < 4:
        assert f"[{found.counts['silhouette']} of 4]" in (folder.path / "table.md").read_text()


def test_the_best_to_run_has_a_vote(make):
    folder = make(space={"support": {"grid": ["greedy"]}, "random_state": {"seeds": 2}})
    first, second = folder.study.trials()
    ended = [
        (first, trial.Outcome("finished", "", 1, {"voters": 0})),
        (second, trial.Outcome("finished", "", 1, {"voters": 2})),
    ]
    (chosen,) = driver.tables.settings(folder.study, ended, lambda one: None)
    assert yaml.safe_load(driver._best(folder, ended, chosen))["random_state"] == 1
