"""The sweep command as a user meets it: what cannot be used is one message, exit code 2, and nothing left behind."""

import os
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from distclust.distributed.checkpoint import LocalFolder
from distclust.run import main
from distclust.sweep import SweepFolder

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

STUDY = {
    "method": "combination",
    "dataset": {"name": "digits", "n_samples": 300},
    "n_epochs": 2,
    "n_rounds": 2,
    "pool": {"kind": "local"},
    "space": {"support": {"grid": ["sinkhorn", "none"]}, "random_state": {"seeds": 2}},
    "size": {"smoke": {"n_epochs": 1}},
}
OPTUNA = {"space": {"sigma": {"uniform": [1, 2]}}, "study": {"search": "optuna", "objective": "agreed"}}
ASHA = {"scheduler": "asha", "objective": "agreed"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with a study in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / "list.yaml").write_text("- method: combination\n")
    (tmp_path / "torn.yaml").write_text("method: [combination\n")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.yaml").write_text("method: combination\n")
    return tmp_path


def content(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(words, message, folder, capsys):
    """One message on the error stream, exit code 2, and the folder as it was."""
    before = content(folder)
    words = words if {"--out", "--resume"} & set(words) else [*words, "--out", "out"]
    assert main(["sweep", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("distclust: ")
    assert "Traceback" not in err
    assert content(folder) == before


FILES = {
    "no file": ([], "give the YAML file of a study first"),
    "a word in its place": (["sigma=3"], "give the YAML file of a study first"),
    "a file that is not there": (["nowhere.yaml"], "cannot read nowhere.yaml"),
    "a folder": (["full"], "cannot read full"),
    "a list": (["list.yaml"], "list.yaml must hold key: value pairs"),
    "torn YAML": (["torn.yaml"], "torn.yaml is not valid YAML"),
    "a picture": (["picture.yaml"], "cannot read picture.yaml"),
    "two files": (["study.yaml", "list.yaml"], "key=value"),
    "an unknown flag": (["study.yaml", "--quiet"], "--help"),
    "an unknown size": (["study.yaml", "size=smok"], "Did you mean 'smoke'"),
    "an unknown objective": (["study.yaml", "study.objective=stabilty"], "Did you mean 'stability'"),
    "an unknown option": (["study.yaml", "study.seeds=3"], "unknown study option 'study.seeds'"),
    "an unknown search": (["study.yaml", "study.search=optun"], "Did you mean 'optuna'"),
    "an unknown parameter": (["study.yaml", "sigmaa=3"], "Did you mean 'sigma'"),
    "an unknown pool option": (["study.yaml", "pool.cpu=3"], "unknown pool option 'pool.cpu'"),
    "an unknown method": (["study.yaml", "method=combinaton"], "Did you mean 'combination'"),
    "an unknown dataset": (["study.yaml", "dataset=digit"], "Did you mean 'digits'"),
    "data that is not there": (["study.yaml", "dataset=nowhere.npy", "n_clusters=3"], "no dataset of the study"),
    "more clusters than points": (["study.yaml", "n_clusters=301"], "more clusters than points"),
    "no workers": (["study.yaml", "study.workers=0"], "workers=0"),
    "several workers a member": (["study.yaml", "pool.workers_per_member=2"], "workers_per_member"),
    "a folder that holds something": (["study.yaml", "--out", "full"], "exists already and is not empty"),
    "a file as folder": (["study.yaml", "--out", "file"], "exists already"),
    "a folder below a file": (["study.yaml", "--out", "file/below"], "cannot write to file/below"),
    "records below a file": (["study.yaml", "pool.storage=file/below"], "cannot write to"),
    "records where nothing is": (["study.yaml", "pool.storage=nowhere://bucket"], "cannot write to nowhere://bucket"),
    "a resumed sweep that is not there": (["--resume", "nowhere"], "nowhere is not the folder of a sweep"),
    "a resumed run": (["--resume", "run"], "run is not the folder of a sweep"),
    "a resumed file": (["--resume", "file"], "file is not the folder of a sweep"),
    "a resumed sweep and a parameter": (["--resume", "full", "sigma=3"], "only pool.OPTION"),
    "a resumed sweep and a file": (["--resume", "full", "study.yaml"], "only pool.OPTION"),
    "a resumed sweep and another folder": (["--resume", "full", "--out", "new"], "only pool.OPTION"),
}


@pytest.mark.parametrize(("words", "message"), FILES.values(), ids=FILES)
def test_bad_words_are_one_message_and_leave_nothing_behind(words, message, here, capsys):
    refused(words, message, here, capsys)


def test_a_fault_that_trials_share_is_one_line(here, capsys):
    words = ["study.yaml", "n_clusters=301", "space.support={grid: [greedy, none]}", "space.random_state={seeds: 3}"]
    assert main(["sweep", *words, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.count("more clusters than points") == 1
    assert "seed0 and 5 more: " in said


def test_how_the_data_was_read_is_said(here, capsys):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    table.insert(0, "id", range(60))
    table.to_csv(here / "mine.csv", index=False)
    words = ["dataset={name: mine.csv}", "n_clusters=3", "n_members=2", "n_epochs=2", "n_rounds=1"]
    assert main(["sweep", "study.yaml", *words, "--out", "out"]) == 0
    assert "mine: " in capsys.readouterr().out


STUDIES = {
    "an unknown axis": ({"space": {"sigmaa": {"grid": [1]}}, "n_members": 2}, "Did you mean 'sigma'"),
    "an unknown kind": ({"space": {"sigma": {"gird": [1]}}}, "Did you mean 'grid'"),
    "an empty grid": ({"space": {"sigma": {"grid": []}}}, "grid takes a list of at least one value"),
    "no seeds": ({"space": {"random_state": {"seeds": 0}}}, "seeds takes a list of at least one value"),
    "a plain value": ({"space": {"sigma": 3}}, "say how it varies"),
    "a list as space": ({"space": [1]}, "must hold key: value pairs"),
    "wrong ends": ({"space": {"sigma": {"log-uniform": [0, 1]}}}, "0 < low < high"),
    "a value of many": ({"space": {"sigma": {"grid": [1, -1]}}, "n_members": 2}, "sigma=-1"),
    "one that may be drawn": ({"space": {"support": {"choice": ["none", "gredy"]}}, "n_members": 2}, "support=gredy"),
    "no objective": ({"space": {}}, "there is no objective: stability compares members"),
    "a single seed": ({"space": {"random_state": {"seeds": 1}}}, "there is no objective"),
    "an objective that is not measured": ({"study": {"objective": "silhouette", "measures": []}}, "among `measures`"),
    "optuna and a grid": ({"study": {"search": "optuna"}, "pool": {}}, "cannot be used with axes whose values are lis"),
    "optuna in this process": (OPTUNA, "without search and scheduler"),
    "asha in this process": ({"study": ASHA}, "without search and scheduler"),
    "asha and other rounds": ({"study": ASHA, "pool": {}, "space": {"n_epochs": {"grid": [2, 3]}}}, "round by round"),
    "an unknown table": ({"study": {"published": "combination-11"}}, "unknown table 'combination-11'"),
}


@pytest.mark.parametrize(("changes", "message"), STUDIES.values(), ids=STUDIES)
def test_bad_studies_are_one_message_and_leave_nothing_behind(changes, message, here, capsys):
    (here / "bad.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))
    refused(["bad.yaml"], message, here, capsys)


def test_all_faults_of_a_study_are_in_one_message(here, capsys):
    words = ["study.yaml", "n_members=0", "sigma=-1", "study.objective=x", "space.latent_dim={grid: [0, 1]}"]
    before = content(here)
    assert main(["sweep", *words]) == 2
    err = capsys.readouterr().err
    assert all(fault in err for fault in ("n_members=0", "sigma=-1", "unknown objective 'x'", "latent_dim=0"))
    assert content(here) == before


def test_an_address_where_nothing_answers_is_refused_at_once(here, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["study.yaml", "pool.kind=ray", f"pool.address=127.0.0.1:{port}"]
    refused(words, "nothing answers there", here, capsys)


def test_a_sweep_whose_records_cannot_be_written_ends_with_one_message(here, capsys, monkeypatch):
    """The disk is full in the second trial: what ended is kept, and the sweep can go on."""
    write = LocalFolder.write

    def full(folder, name, data):
        if name == "rounds.jsonl" and "none-seed0" in str(folder.path):
            raise_unwritable(folder.path)
        write(folder, name, data)

    monkeypatch.setattr(LocalFolder, "write", full)
    assert main(["sweep", "study.yaml", "--out", "out"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("distclust: cannot write to")
    assert err.count("\n") == 1
    assert [outcome.status for _, outcome in SweepFolder.open("out").known()] == ["finished"]
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main(["sweep", "--resume", "out"]) == 0
    assert [outcome.status for _, outcome in SweepFolder.open("out").known()] == ["finished"] * 4


def raise_unwritable(path):
    from distclust.errors import RunFolderError

    raise RunFolderError(f"cannot write to {path} (no space left on device); make room there")


def private_mounts():
    """Whether this user may mount a file system that only its own processes see."""
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_a_full_disk_ends_the_sweep_with_one_message(kind, here):
    if not private_mounts():
        pytest.skip("needs `unshare -rm`, to mount a small file system")
    words = f"{sys.executable} -m distclust.run sweep study.yaml pool.kind={kind} pool.num_cpus=1 --out small/out"
    script = f"mount -t tmpfs -o size=200k none small && {words}"
    (here / "small").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=here, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("distclust: cannot write to ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_ray_cannot_hold_is_one_message_and_leaves_nothing_behind(here, capsys):
    words = ["study.yaml", "pool.kind=ray", "pool.num_cpus=1"]
    refused([*words, "pool.cpus_per_member=64"], "a trial asks for 64 CPUs", here, capsys)
    refused([*words, "study.workers=2"], "a trial asks for 2 times 1 CPUs", here, capsys)
    refused(
        [*words, "pool.autoscaling=true"], "may get other nodes (pool.autoscaling): give pool.storage", here, capsys
    )
