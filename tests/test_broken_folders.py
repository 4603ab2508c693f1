"""Run folders and models that were damaged or come from strangers: one message each, and none of their code runs."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distclust import DistclustError, load_model
from distclust.errors import InputError
from distclust.run import main

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
X[:20] += 8
X[20:40] -= 8


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a finished run, and that of one that was interrupted after its first round."""
    place = tmp_path_factory.mktemp("base")
    np.save(place / "x.npy", X)
    np.save(place / "shorter.npy", X[:50])
    words = ["combination", f"dataset={place / 'x.npy'}", "n_clusters=3", "n_members=2", "n_epochs=3", "n_rounds=3"]
    assert main([*words, "pool.kind=local", "--out", str(place / "run")]) == 0

    def stop(round, method):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distclust.run._round_line", stop)
        assert main([*words, "pool.kind=local", "--out", str(place / "interrupted")]) == 130
    return place


@pytest.fixture
def here(base, tmp_path, monkeypatch):
    """Copies of both in the working folder."""
    for name in ("run", "interrupted"):
        shutil.copytree(base / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(words, message, capsys):
    """One message that begins as all do, exit code 2, and nothing changed."""
    before = content(Path())
    code = main(words)
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.startswith("distclust: ")
    assert err.count("distclust: ") == 1
    assert "Traceback" not in err
    assert message in err
    assert content(Path()) == before


def damaged(name, damage):
    """Damage a file: bytes are its new content, None deletes it, a function gets its path."""
    path = Path(name)
    if damage is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        damage(path)


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def folder(path):
    path.unlink()
    path.mkdir()


def without(column):
    return lambda path: pd.read_parquet(path).drop(columns=column).to_parquet(path)


def shorter(path):
    pd.read_parquet(path).head(10).to_parquet(path)


def edited(**changes):
    """Change entries of a JSON file; None deletes one."""

    def change(path):
        found = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return change


def swapped(old, new):
    """Replace words of a text file."""

    def change(path):
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def line(text):
    return lambda path: path.write_text(path.read_text() + text)


WORDS = {
    "no folder": ([], "the folder of a run"),
    "two folders": (["run", "interrupted"], "the folder of a run"),
    "a folder that is not there": (["nowhere"], "nowhere is not a run folder"),
    "a file": (["run/spec.yaml"], "not a run folder"),
    "a folder of another kind": (["run/model"], "not a run folder"),
    "an unknown flag": (["run", "--quiet"], "--help"),
    "a key": (["run", "n_clusters=3"], "the folder of a run"),
}


@pytest.mark.parametrize(("words", "message"), WORDS.values(), ids=WORDS)
def test_a_report_of_what_is_no_run_is_refused(words, message, here, capsys):
    refused(["report", *words], message, capsys)


REPORT = {
    "no specification": ("spec.yaml", None, "not a run folder"),
    "an empty specification of another method": ("spec.yaml", b"method: nothing\n", "unknown method 'nothing'"),
    "a specification of bytes": ("spec.yaml", bytes(range(256)), "spec.yaml"),
    "a specification that is a list": ("spec.yaml", b"- 1\n- 2\n", "spec.yaml"),
    "a specification with tabs": ("spec.yaml", b"a:\n\t- b\n", "spec.yaml"),
    "an unknown parameter": ("spec.yaml", line("sigmaa: 3\n"), "Did you mean 'sigma'"),
    "a parameter out of range": ("spec.yaml", line("sigma: -3\n"), "sigma=-3"),
    "a specification that is a folder": ("spec.yaml", folder, "not a run folder"),
    "labels cut off": ("labels.parquet", cut, "labels.parquet"),
    "labels of bytes": ("labels.parquet", b"PAR1 nothing PAR1", "labels.parquet"),
    "labels without labels": ("labels.parquet", without("label"), "labels.parquet"),
    "labels without agreement": ("labels.parquet", without("agreement"), "labels.parquet"),
    "labels without members": ("labels.parquet", without(["member00", "member01"]), "labels.parquet"),
    "rounds cut off": ("rounds.jsonl", cut, "rounds.jsonl"),
    "rounds of bytes": ("rounds.jsonl", bytes(range(256)), "rounds.jsonl"),
    "rounds that are numbers": ("rounds.jsonl", b"1\n2\n", "rounds.jsonl"),
    "rounds without what they hold": ("rounds.jsonl", b"{}\n", "rounds.jsonl"),
    "no rounds": ("rounds.jsonl", None, "no finished round"),
    "metrics cut off": ("metrics.json", cut, "metrics.json"),
    "metrics that are a list": ("metrics.json", b"[1]", "metrics.json"),
    "metrics without what they hold": ("metrics.json", b"{}", "metrics.json"),
    "a folder where the report goes": ("report.html", folder, "report.html"),
}


@pytest.mark.parametrize(("name", "damage", "message"), REPORT.values(), ids=REPORT)
def test_a_report_of_a_broken_run_is_refused(name, damage, message, here, capsys):
    damaged(f"run/{name}", damage)
    refused(["report", "run"], message, capsys)


LEFT_OUT = {
    "no model": ("model", None),
    "a model cut off": ("model/member-000.safetensors", cut),
    "a model of another version": ("model/model.json", edited(format=99)),
    "fewer points than labels": ("labels.parquet", shorter),
}


@pytest.mark.parametrize(("name", "damage"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_report_says_what_it_has_to_do_without(name, damage, here, capsys):
    damaged(f"run/{name}", damage)
    assert main(["report", "run"]) == 0
    assert "There is no map" in Path("run/report.html").read_text()


RESUME_WORDS = {
    "a folder that is not there": (["nowhere"], "not a run folder"),
    "a file": (["run/spec.yaml"], "not a run folder"),
    "a parameter": (["interrupted", "sigma=3"], "only pool.OPTION"),
    "a method": (["interrupted", "combination"], "--resume"),
    "another output folder": (["interrupted", "--out", "other"], "only pool.OPTION"),
    "an unknown pool option": (["interrupted", "pool.cpus=3"], "Did you mean"),
    "a pool option out of range": (["interrupted", "pool.retries=-1"], "retries=-1"),
}


@pytest.mark.parametrize(("words", "message"), RESUME_WORDS.values(), ids=RESUME_WORDS)
def test_what_cannot_be_resumed_is_refused(words, message, here, capsys):
    refused(["--resume", *words], message, capsys)


RESUME = {
    "no specification": ("spec.yaml", None, "not a run folder"),
    "a specification of bytes": ("spec.yaml", bytes(range(256)), "spec.yaml"),
    "an unknown method": ("spec.yaml", b"method: nothing\n", "unknown method 'nothing'"),
    "an unknown parameter": ("spec.yaml", line("sigmaa: 3\n"), "Did you mean 'sigma'"),
    "another dataset": ("spec.yaml", line("dataset: nowhere.npy\n"), "spec.yaml"),
    "more members": ("spec.yaml", swapped("n_members: 2", "n_members: 3"), "checkpoints of another run"),
    "other clusters": ("spec.yaml", swapped("n_clusters: 3", "n_clusters: 2"), "checkpoints of another run"),
    "fewer rounds": ("spec.yaml", swapped("n_rounds: 3", "n_rounds: 1"), "checkpoints of another run"),
    "data of another length": ("spec.yaml", swapped("x.npy", "shorter.npy"), "checkpoints of another run"),
    "a last round cut off": ("members/last-round.safetensors", cut, "cannot be read"),
    "a last round of bytes": ("members/last-round.safetensors", b"\x00" * 64, "cannot be read"),
    "a last round that is a pickle": ("members/last-round.safetensors", pickle.dumps({"index": 1}), "cannot be read"),
    "rounds cut off": ("rounds.jsonl", cut, "rounds.jsonl"),
    "rounds of bytes": ("rounds.jsonl", bytes(range(256)), "rounds.jsonl"),
}


@pytest.mark.parametrize(("name", "damage", "message"), RESUME.values(), ids=RESUME)
def test_a_broken_run_is_not_resumed(name, damage, message, here, capsys):
    damaged(f"interrupted/{name}", damage)
    before = content(Path())
    assert main(["--resume", "interrupted"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("distclust: ")
    assert "Traceback" not in err
    assert message in err
    assert content(Path()) == before


@pytest.mark.parametrize("name", ["member-000", "member-001"])
def test_a_member_whose_checkpoint_is_broken_is_named(name, here, capsys):
    found = sorted(Path("interrupted/members").glob("**/*"))
    broken = [path for path in found if path.is_file() and path.name != "last-round.safetensors"]
    assert broken
    for path in broken:
        cut(path)
    assert main(["--resume", "interrupted"]) in (1, 2)
    err = capsys.readouterr().err
    assert "checkpoint" in err
    assert "Traceback" not in err


# models


def tensors(change):
    """Change the tensors of a member's file."""
    from distclust.distributed.checkpoint import pack, unpack

    def damage(path):
        state = unpack(path.read_bytes())
        change(state["net"])
        path.write_bytes(pack(state))

    return damage


def some(net):
    return next(name for name, value in net.items() if value.ndim == 2)


MEMBER = "member-000.safetensors"
MODELS = {
    "no manifest": ("model.json", None),
    "an empty manifest": ("model.json", b""),
    "a manifest of bytes": ("model.json", bytes(range(256))),
    "a manifest that is a list": ("model.json", b"[1, 2]"),
    "a manifest that is a number": ("model.json", b"3"),
    "a manifest without anything": ("model.json", b"{}"),
    "another format": ("model.json", edited(format=2)),
    "a format of a later version": ("model.json", edited(format=99)),
    "an unknown method": ("model.json", edited(method="nothing")),
    "a method that is a path": ("model.json", edited(method="../../os")),
    "a method that is code": ("model.json", edited(method="__import__('os').system('true')")),
    "a method that is no text": ("model.json", edited(method=["combination"])),
    "parameters that are unknown": ("model.json", edited(parameters={"sigmaa": 3})),
    "parameters out of range": ("model.json", edited(parameters={"n_clusters": -3})),
    "parameters that are a list": ("model.json", edited(parameters=[1])),
    "no names": ("model.json", edited(names=None)),
    "names of another shape": ("model.json", edited(names=[[0, 1]])),
    "names that are texts": ("model.json", edited(names=[["a", "b", "c"]] * 2)),
    "names that are no clusters": ("model.json", edited(names=[[0, 1, 77], [0, 1, 2]])),
    "names twice": ("model.json", edited(names=[[0, 1, 1], [0, 1, 2]])),
    "clusters that are none": ("model.json", edited(clusters=[0, 1, 55])),
    "a shape of text": ("model.json", edited(shape=["four"])),
    "an empty shape": ("model.json", edited(shape=[])),
    "another shape": ("model.json", edited(shape=[7])),
    "a huge shape": ("model.json", edited(shape=[10**12])),
    "a negative shape": ("model.json", edited(shape=[-4])),
    "no calibration": ("model.json", edited(calibration=3)),
    "a calibration of text": ("model.json", edited(calibration={"temperature": "hot", "n_points": 3})),
    "a calibration of nothing": ("model.json", edited(calibration={"temperature": 0, "n_points": 3})),
    "more members than files": ("model.json", edited(members=[True] * 3)),
    "fewer members than names": ("model.json", edited(members=[True])),
    "members in another place": ("model.json", edited(members="../../etc")),
    "a member that is gone": (MEMBER, None),
    "a member cut off": (MEMBER, cut),
    "a member of bytes": (MEMBER, b"\x00" * 100),
    "a member that is a folder": (MEMBER, folder),
    "a tensor too few": (MEMBER, tensors(lambda net: net.pop(some(net)))),
    "a tensor too many": (MEMBER, tensors(lambda net: net.update(other=torch.zeros(3)))),
    "a tensor of another shape": (MEMBER, tensors(lambda net: net.update({some(net): torch.zeros(2, 2)}))),
    "a tensor of NaN": (MEMBER, tensors(lambda net: net[some(net)].fill_(float("nan")))),
}


@pytest.mark.parametrize(("name", "damage"), MODELS.values(), ids=MODELS)
def test_a_broken_model_is_refused(name, damage, here, capsys):
    damaged(f"run/model/{name}", damage)
    with pytest.raises(InputError) as caught:
        load_model("run/model")
    assert "run/model" in str(caught.value)
    np.save("new.npy", X)
    refused(["predict", "run", "new.npy"], "run/model", capsys)


@pytest.mark.parametrize("path", ["nowhere", "run/spec.yaml", "run", "", "\0"])
def test_what_is_no_model_is_refused(path, here):
    with pytest.raises(InputError):
        load_model(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_model_is_a_message_or_the_same_model(data, base, tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    shutil.copytree(base / "run" / "model", place / "model")
    name = data.draw(st.sampled_from(sorted(path.name for path in (place / "model").iterdir())))
    whole = (place / "model" / name).read_bytes()
    at, length = data.draw(st.integers(0, min(len(whole), 3000) - 1)), data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=40))
    (place / "model" / name).write_bytes(whole[:at] + put + whole[at + length :])
    try:
        labels = load_model(place / "model").predict(X)
    except DistclustError:
        return
    assert labels.shape == (60,)


def gifts(trap, path):
    """What would run code if it were unpickled, or read as any YAML."""
    torch.save(trap, path)
    yaml = f"!!python/object/apply:os.mkdir ['{trap.path}']\n"
    return [pickle.dumps(trap), path.read_bytes(), yaml.encode(), f"method: {yaml}".encode()]


@pytest.mark.parametrize("words", [["report", "run"], ["predict", "run", "new.npy"], ["--resume", "interrupted"]])
def test_no_code_of_a_run_or_its_model_runs(words, here, capsys):
    trap, place = Trap(here / "sprung"), here / words[1]
    np.save(here / "new.npy", X)
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    assert len(files) > 4
    shutil.copytree(place, here / "kept")
    for path in files:
        for gift in gifts(trap, here / "gift.pt"):
            path.write_bytes(gift)
            assert main(words) in (0, 1, 2)
            shutil.rmtree(place)
            shutil.copytree(here / "kept", place)
            (here / "labels.parquet").unlink(missing_ok=True)
    assert not trap.path.exists()
    assert "Traceback" not in capsys.readouterr().err
    pickle.loads(pickle.dumps(trap))
    assert trap.path.exists()  # the trap is one


@pytest.mark.parametrize(
    "words",
    [
        ["report", "run"],
        ["predict", "run", "new.npy", "--out", "found.parquet"],
        ["combination", "dataset=new.npy", "n_clusters=3", "n_epochs=1", "n_rounds=1", "pool.kind=local", "--out", "o"],
        ["--resume", "interrupted"],
    ],
    ids=lambda words: words[0],
)
def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(words, here, capsys, monkeypatch):
    np.save(here / "new.npy", X)
    before = content(Path())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distclust.distributed.checkpoint.os.fsync", full)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("distclust: cannot write")
    assert "No space left on device" in err
    assert err.count("distclust: ") == 1
    assert content(Path()) == before


def test_a_model_is_not_half_saved_on_a_full_disk(here, monkeypatch):
    model = load_model("run/model")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distclust.methods.saved.os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        model.save("kept")
    assert sorted(path.name for path in here.iterdir()) == ["interrupted", "run"]
