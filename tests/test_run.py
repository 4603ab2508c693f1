"""The command as a user meets it: results, progress, bad input, Ctrl-C, kill -9 and resume."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from distclust.run import main

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

QUICK = ["combination", "dataset=digits", "pool.kind=local", "n_epochs=2", "n_rounds=2", "n_members=2"]


@pytest.fixture
def command():
    """Starts the command in a process of its own; what a test leaves running is ended."""
    with contextlib.ExitStack() as stack:

        def start(*words, **options):
            process = subprocess.Popen(
                [sys.executable, "-m", "distclust.run", *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


def labels(path):
    return pd.read_parquet(path / "labels.parquet")["label"].to_numpy()


def test_a_run_ends_with_labels_a_user_can_open(tmp_path, capsys):
    assert main([*QUICK, "--out", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert "digits: 1,797 points of 1 x 8 x 8, 10 clusters, 2 members, 2 rounds, seed 0" in out
    assert "round 1/2" in out
    assert "round 2/2" in out
    assert "consensus" in out
    verdict = json.loads((tmp_path / "r" / "metrics.json").read_text())["verdict"]
    assert verdict["line"] in out
    assert out.index(verdict["line"]) < out.index("member 0  ")  # the first line of the result
    assert out.index("UMAP + HDBSCAN") > out.index("member 0  ")
    assert "true classes, which no training step has seen" in out
    told = re.search(
        r"label is right, agreement is off by (.*)% and predict_proba is off by (.*)% \(mean over 1,797", out
    )
    found = json.loads((tmp_path / "r" / "metrics.json").read_text())["with_truth"]["reliability"]
    for said, name in zip(told.groups(), ("agreement", "predict_proba"), strict=True):
        assert float(said) == pytest.approx(100 * found[name]["expected_calibration_error"], abs=0.051)
    assert len(labels(tmp_path / "r")) == 1797
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["with_truth"]["consensus"]["acc"] > 0.1


def test_a_run_that_ends_early_says_so_and_a_member_that_abstains_is_named(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)  # one group
    np.save(tmp_path / "mine.npy", x)
    words = [f"dataset={tmp_path}/mine.npy", "n_clusters=5", "pool.kind=local", "n_members=2", "n_rounds=30"]
    assert main([*words, "labelling=hdbscan", "--out", str(tmp_path / "r")]) == 1  # no point has a label
    out = capsys.readouterr().out
    assert "2 members, up to 30 rounds" in out
    assert "round 1: member 0 has no vote, abstained: no level of the linkage tree" in out
    assert "round 1: the concatenation of all latents has no vote" in out
    assert "ended after 3 rounds: the number of agreed points grows no more" in out
    assert "no member has a vote, so no point has a label" in out


def test_a_run_without_a_number_of_clusters_begins_with_ten_and_says_so(tmp_path, capsys):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    words = ["combination", f"dataset={tmp_path}/mine.npy", "pool.kind=local", "n_epochs=2", "n_rounds=1"]
    assert main([*words, "dataset.n_samples=40", "--out", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert "n_clusters was not given: 10 clusters are a start, not a finding." in out
    assert f"sweep tune_configs/choose_k.yaml dataset={tmp_path}/mine.npy dataset.n_samples=40" in out
    assert yaml.safe_load((tmp_path / "r" / "spec.yaml").read_text())["n_clusters"] == 10


def test_a_long_round_says_how_far_it_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("distclust.run._SILENCE", 0)
    words = ["combination", "dataset=blobs", "pool.kind=local", "n_members=3", "n_epochs=2", "n_rounds=2"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    lines = [line[:40] for line in capsys.readouterr().out.splitlines() if re.match(r"round \d", line)]
    assert [line.split("  ")[0] for line in lines] == [
        "round 1: 1 of 3 members are through",
        "round 1: 2 of 3 members are through",
        "round 1/2",
        "round 2: 1 of 3 members are through",
        "round 2: 2 of 3 members are through",
        "round 2/2",
    ]


def test_a_run_without_classes_shows_no_accuracy(tmp_path, capsys):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    words = [
        "combination",
        f"dataset={tmp_path}/mine.npy",
        "n_clusters=3",
        "pool.kind=local",
        "n_epochs=1",
        "n_rounds=1",
    ]
    assert main([*words, "pool.kind=local", "--out", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert "accuracy" not in out
    assert "agree on" in out


def test_a_folder_of_images_leads_back_to_its_files(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for index in range(30):
        path = tmp_path / "photos" / f"{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + index, 30), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    words = ["combination", f"dataset={tmp_path}/photos", "n_clusters=3", *QUICK[2:], "--out", str(tmp_path / "r")]
    assert main(words) == 2
    assert "1 of 31 image files" in capsys.readouterr().err
    assert main([*words, "dataset.broken=skip", "dataset.size=[16, 20]"]) == 1  # both members collapse on noise
    out = capsys.readouterr().out
    assert "photos: 30 points of 1 x 16 x 20, 3 clusters" in out
    assert "photos: 1 image file cannot be read, left out: broken.png (no image of a known kind)" in out
    assert "photos: the images are 20 to 49 pixels high and 30 wide; each is resized to cover 16 x 20" in out
    assert "accuracy" not in out
    table = pd.read_parquet(tmp_path / "r" / "labels.parquet")
    assert list(table.columns[:3]) == ["index", "name", "label"]
    assert table["name"].tolist() == sorted(f"{index % 3}/{index}.png" for index in range(30))


def test_spec_yaml_runs_the_same_again(tmp_path):
    main([*QUICK, "sigma=50", "dataset.n_samples=300", "--out", str(tmp_path / "a")])
    assert main(["--config", str(tmp_path / "a" / "spec.yaml"), "--out", str(tmp_path / "b")]) == 0
    assert np.array_equal(labels(tmp_path / "a"), labels(tmp_path / "b"))
    assert len(labels(tmp_path / "a")) == 300


def test_help_is_quick_and_names_what_there_is(command):
    start = time.perf_counter()
    process = command("--help")
    out, err = process.communicate()
    assert process.returncode == 0
    assert time.perf_counter() - start < 1.0
    assert not err
    for word in ("combination", "dataset=NAME", "--resume", "--config", "pool.cpus_per_member"):
        assert word in out


def test_help_of_a_method_lists_every_parameter(capsys):
    from distclust import CombinationAssignment
    from distclust.parameters import declared

    assert main(["combination", "--help"]) == 0
    out = capsys.readouterr().out
    for name in declared(CombinationAssignment):
        assert f"  {name}=" in out


BAD = {
    "unknown method": (["combinaton"], "Did you mean 'combination'"),
    "unknown dataset": (["dataset=digit"], "Did you mean 'digits'"),
    "unknown parameter": (["combination", "sigmaa=3"], "Did you mean 'sigma'"),
    "unknown pool option": (["pool.cpu=3"], "pool"),
    "unknown dataset option": (["dataset.n_sample=3"], "Did you mean 'dataset.n_samples'"),
    "one cluster": (["n_clusters=1"], "n_clusters=1 cannot be used"),
    "more clusters than points": (["n_clusters=50", "dataset.n_samples=40"], "more clusters than points"),
    "a negative sigma": (["combination", "sigma=-1"], "must be a number > 0"),
    "a word for a number": (["combination", "sigma=big"], "sigma=big"),
    "no distribution": (["combination", "prior=[0.5, 0.5]"], "must be a distribution"),
    "unknown support": (["combination", "support=gredy"], "Did you mean 'greedy'"),
    "no file": (["dataset=nowhere.npy", "n_clusters=3"], "nowhere.npy"),
    "a folder without images": (["dataset=.", "n_clusters=3"], "is a folder without images"),
    "an option of another kind of data": (["dataset=.", "dataset.columns=[a]"], "unknown option 'dataset.columns'"),
    "no key": (["combination", "sigma"], "key=value"),
    "invalid YAML": (["prior=[0.5"], "YAML"),
    "no config": (["--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
    "unknown flag": (["--quiet"], "--help"),
    "no run to resume": (["--resume", "nowhere"], "not a run folder"),
    "parameters with resume": (["--resume", "nowhere", "sigma=3"], "only pool.OPTION"),
    "too many CPUs": (["pool.kind=local", "pool.cpus_per_member=0"], "cpus_per_member=0"),
    "unknown device": (["pool.kind=local", "pool.device=tpu"], "pool.device=tpu"),
    "no method for the data": (["combination", "encoder=window"], "it takes windows"),
    "no autoencoder for the data": (["encoder=window"], "it takes windows"),
    "a word for a way of labelling": (["labelling=hdbscn"], "Did you mean 'hdbscan'"),
    "no network and many rounds": (["encoder=none", "n_rounds=2"], "there is nothing to train"),
    "a dataset option as parameter": (["dataset.split=train"], "split"),
    "several faults": (["combination", "sigma=-1", "support=gredy", "n_members=0"], "n_members=0"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_message_and_exit_code_2(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "--resume" not in words:
        words = [*words, "--out", "out"]
    if not any(word.startswith("pool.") for word in words):
        words = [*words, "pool.kind=local"] if "sigma" not in words and "--resume" not in words else words
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("distclust: ")
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((20, 3), np.nan, np.float32), "NaN"),
        (np.ones((20, 3), np.float32), "constant"),
        (np.zeros((0, 3), np.float32), "empty"),
        (np.zeros(20, np.float32), "2"),
    ],
)
def test_bad_data_is_one_message_and_exit_code_2(array, message, tmp_path, capsys):
    np.save(tmp_path / "bad.npy", array)
    words = [f"dataset={tmp_path}/bad.npy", "n_clusters=3", "pool.kind=local", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_used_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main([*QUICK, "--out", str(tmp_path / "file")]) == 2
    assert main([*QUICK, "--out", str(tmp_path / "file" / "below")]) == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    assert main([*QUICK, "--out", str(tmp_path / "full")]) == 2
    assert capsys.readouterr().err.count("distclust: ") == 3
    assert (tmp_path / "full" / "notes").read_text() == "mine"


def test_a_finished_run_is_left_as_it_is(tmp_path, capsys):
    main([*QUICK, "--out", str(tmp_path / "r")])
    before = (tmp_path / "r" / "metrics.json").read_bytes()
    assert main(["--resume", str(tmp_path / "r")]) == 0
    assert "is finished" in capsys.readouterr().out
    assert (tmp_path / "r" / "metrics.json").read_bytes() == before


def test_every_member_lost_is_exit_code_1(tmp_path, capsys):
    words = [*QUICK, "learning_rate=1e30", "schedule=constant", "--out", str(tmp_path / "r")]
    assert main(words) == 1
    assert "every member of the ensemble was lost" in capsys.readouterr().err


# A shell shows 130 for both: where the interrupt fell into code that runs from a string, as a library's import may do,
# Python ends itself by SIGINT after all is said and done.
INTERRUPTED = (130, -signal.SIGINT)
SLOW = ["combination", "dataset=digits", "pool.kind=local", "n_epochs=60", "n_rounds=60", "n_members=2"]


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    path = tmp_path_factory.mktemp("through") / "r"
    assert main([*SLOW, "--out", str(path)]) == 0
    return labels(path)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_an_interrupted_run_is_resumed_to_the_same_labels(how, through, tmp_path, capsys, command):
    path = tmp_path / "r"
    process = command(*SLOW, "--out", path)
    while not (path / "rounds.jsonl").exists() or len((path / "rounds.jsonl").read_text().splitlines()) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how != signal.SIGKILL:
        assert process.returncode in INTERRUPTED
        assert f"--resume {path}" in err
        assert "Traceback" not in err
    assert not (path / "metrics.json").exists()
    assert main(["--resume", str(path)]) == 0
    assert np.array_equal(labels(path), through)
    rounds = [json.loads(line)["round"] for line in (path / "rounds.jsonl").read_text().splitlines()]
    assert rounds == list(range(60))


def test_an_interrupt_before_the_first_round_can_be_resumed_too(tmp_path, command):
    path = tmp_path / "r"
    process = command("combination", "dataset=digits", "pool.kind=local", "n_epochs=3000", "n_rounds=1", "--out", path)
    while not (path / "spec.yaml").exists():
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED
    assert "no round finished" in err


@pytest.mark.slow
def test_a_run_on_ray_survives_the_death_of_a_worker(tmp_path, command):
    """On Ray one worker is killed in mid-run; the labels are those of this process alone."""
    import psutil

    path = tmp_path / "r"
    words = ["combination", "n_members=4", "n_rounds=20"]
    process = command(*words, "--out", path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (path / "rounds.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    ray = psutil.Process(process.pid).children(recursive=True)
    workers = [p for p in ray if re.match("ray::(combination/digits/seed0/member0|RayWorker)", " ".join(p.cmdline()))]
    assert len(workers) == 2
    workers[0].kill()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "restarted in round" in out
    assert main([*words, "pool.kind=local", "--out", str(tmp_path / "local")]) == 0
    assert np.array_equal(labels(path), labels(tmp_path / "local"))
