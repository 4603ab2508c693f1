"""What is typed is taken as it is typed, and what cannot be used is answered with what can, before torch is loaded."""

import contextlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distclust import command
from distclust.data import load
from distclust.data.catalogue import _BY_PATH, _ENTRIES, READINGS
from distclust.errors import InputError, as_word, on_command_line
from distclust.methods import METHODS, method_class, method_parameters
from distclust.parameters import declared
from distclust.run import main
from distclust.spec import read, split_word
from distclust.sweep import read_study

STRANGE = ["photos #2", "No", "010", "1:30", "1e5", "a: b", "[x", "'quoted'", "null", "~", "2026-01-01", "{a}", " x "]
TEXT_KEYS = ["dataset", "dataset.name", "dataset.label_column", "dataset.id_column", "dataset.data_dir", "method"]
OPTIONAL = ["pool.address", "pool.storage", "weights", "seeds"]  # where null says none
texts = st.text(min_size=1) | st.sampled_from(STRANGE)


@pytest.mark.parametrize("key", [*TEXT_KEYS, *OPTIONAL])
@pytest.mark.parametrize("text", STRANGE)
def test_a_text_is_taken_as_it_is_typed(key, text):
    assert split_word(f"{key}={text}") == (key, None if key in OPTIONAL and text == "null" else text)


@settings(deadline=None)
@given(st.sampled_from(TEXT_KEYS), texts)
@example("dataset.columns", "photos #2")
def test_any_text_is_taken_as_it_is_typed(key, text):
    assert split_word(f"{key}={text}") == (key, text)


def test_nothing_typed_is_none_where_a_text_may_be_left_out():
    assert split_word("dataset.label_column=") == ("dataset.label_column", None)
    assert split_word("dataset=") == ("dataset", "")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("No", "No"),
        ("1e5", "1e5"),
        ("photos #2", "photos #2"),
        ("No,1e5, 2019", ["No", "1e5", "2019"]),
        ("[No, 1e5, 2019]", ["No", "1e5", "2019"]),
        ('["a,b", c #2]', ["a,b", "c #2"]),
        ("", None),
    ],
)
@pytest.mark.parametrize("key", ["dataset.columns", "dataset.exclude"])
def test_columns(key, word, value):
    assert split_word(f"{key}={word}") == (key, value)


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=3))
def test_what_is_suggested_is_read_as_what_was_meant(names):
    assert split_word(f"dataset.exclude={as_word(names)}")[1] == names


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *[("010", 10), ("0o10", 8), ("0x10", 16), ("1:30", "1:30"), ("1_000", "1_000"), ("yes", "yes"), ("true", True)],
        *[("1e-4", 1e-4), ("null", None), ("2026-01-01", "2026-01-01"), ("3 # three", "3 # three")],
    ],
)
def test_other_values_are_read_by_yaml_12_without_comments(word, value):
    assert split_word(f"n_clusters={word}") == ("n_clusters", value)


def test_files_take_texts_as_they_are_written(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        "dataset: {name: 010, label_column: 2019, columns: [1e5, No], exclude: 1e5, id_column: ~}\n"
        "pool.address: 1:30\nweights: 007\nn_clusters: 010\n"
    )
    found = read(path, method="entropy")
    assert found.dataset == "010"
    assert found.dataset_options == {
        "label_column": "2019",
        "columns": ("1e5", "No"),
        "exclude": "1e5",
        "id_column": None,
    }
    assert (found.pool.address, found.parameters["weights"], found.parameters["n_clusters"]) == ("1:30", "007", 10)
    path.write_text(found.to_yaml())
    assert read(path, method="entropy") == found


STUDY = """
name: 010
dataset: 2019
space:
  dataset.label_column: {grid: [2019, 1e5, ~]}
  n_clusters: {choice: [010, 0x10]}
  setting: {cases: {010: {dataset.id_column: 007, sigma: 010}, No: {}}}
  random_state: {seeds: 2}
size: {007: {dataset: {columns: 1e5}}}
study: {published_setting: 3, n_trials: 010}
"""


def test_studies_take_texts_as_they_are_written(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    study = read_study(tmp_path / "study.yaml", ["size=007", "setting=010", "dataset.id_column=No"])
    axes = {axis.name: axis for axis in study.axes}
    assert (study.name, study.base["dataset.name"], study.base["dataset.columns"]) == ("010", "2019", "1e5")
    assert study.base["dataset.id_column"] == "No"
    assert axes["dataset.label_column"].values == ("2019", "1e5", None)
    assert axes["n_clusters"].values == (10, 16)
    assert axes["setting"].cases == {"010": {"sigma": 10}}
    assert (study.options.published_setting, study.options.n_trials) == ("3", 10)
    (tmp_path / "again.yaml").write_text(study.to_yaml())
    assert read_study(tmp_path / "again.yaml") == study


def test_a_key_is_read_alike_wherever_it_is_declared():
    for declarations in (*(entry.options for entry in _ENTRIES.values()), *_BY_PATH):
        for name, option in declarations.items():
            assert {option.reading, READINGS[name]} in ({option.reading}, {"name", "text"}), name
    readings = {}
    for method in METHODS:
        for name, parameter in method_parameters(method).items():
            assert readings.setdefault(name, parameter.reading) == parameter.reading, name


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_known_without_torch_as_the_class_declares_them(method):
    known = method_parameters(method)
    assert list(known) == list(declared(method_class(method)))
    for name, parameter in declared(method_class(method)).items():
        assert known[name].default == parameter.default
        for value in ("ten", -1, 0, 0.5, 3, True, None, (0.5, 0.5), (), float("nan"), [], "auto", parameter.default):
            assert known[name].fault(value) == parameter.fault(value)


# words -> what stands in the answer
TYPOS = {
    "photos": "distclust dataset=photos\n",
    "photos n_clusters=3 --out 'a b'": "distclust dataset=photos n_clusters=3 --out 'a b'\n",
    "n_clusters=3 my.csv": "distclust n_clusters=3 dataset=my.csv\n",
    "nowhere.npy": "dataset=nowhere.npy",
    "'photos #2/'": "'dataset=photos #2/'",
    "n_clusters=3 entropy": "distclust entropy n_clusters=3\n",
    "spec.yaml": "distclust --config spec.yaml\n",
    "run": "distclust --resume run\n",
    "labelling": "labelling=",
    "digit": "distclust dataset=digits\n",
    "selectiv": "'selective'",
    "swep spec.yaml": "'sweep'",
    "n_cluster=8": "'n_clusters'",
    "n_clusters=ten": "n_clusters=ten",
    "n_clusters=1:30": "n_clusters=1:30",
    "n_clusters=1": ">= 2",
    "labelling=hdbscn": "'hdbscan'",
    "--n-clusters=3": "n_clusters=3",
    "--resum run": "--resume",
    "dataest=photos": "'dataset'",
    "datset.size=3": "dataset.size",
    "dataset=photoz": "'photoz'",
    "dataset=nowhere.csv": "nowhere.csv",
    "dataset=": "''",
    "dataset=my.csv dataset.missin=drop": "'dataset.missing'",
    "dataset=my.csv dataset.missing=all": "dataset.missing=all",
    "dataset=photos dataset.broken=yes": "dataset.broken=yes",
    "dataset=digits dataset.n_samples=none": "or null",
    "dataset=my.csv dataset.label_column=Nope": "'No'",
    "dataset=my.csv dataset.label_column=No dataset.columns=a,c": "'c'",
    "pool.kind=rya": "pool.kind=rya",
    "pool.retrys=1": "'pool.retries'",
    "pool=local": "pool.kind=local",
    "pool.workers_per_member=2 pool.cpus_per_member=3": "pool.cpus_per_member=2",
    "--config nowhere.yaml": "nowhere.yaml",
    "--resume photos": "spec.yaml",
    "--resume rnu": "run?",
    "report photos": "spec.yaml",
    "compare photos": "study.yaml",
    "table combination-11": "'combination-1'",
    "predict photos my.csv": "model.json",
    "predict model nowhere.csv": "nowhere.csv",
    "predict model my.csv dataset.missin=drop": "'dataset.missing'",
    "predict model my.csv coverage=most": "coverage=most",
    "sweep study.yaml n_cluster=8": "'n_clusters'",
    "sweep study.yaml photos": "dataset=photos",
    "sweep study.yaml dataset=nowhere.csv": "nowhere.csv",
    "sweep study.yaml dataset.n_sample=3": "'dataset.n_samples'",
    "sweep study.yaml 'space.sigma={gird: [1]}'": "'grid'",
    "sweep --resume photos": "study.yaml",
}
PROGRAM = """
import contextlib, io, json, shlex, sys
from distclust.run import main
sys.argv = ["/somewhere/bin/distclust"]
found = {}
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(line))
    found[line] = [code, err.getvalue(), "torch" in sys.modules]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each line of `TYPOS` is answered with: code, message, whether torch was loaded; all in one process."""
    here = tmp_path_factory.mktemp("here")
    (here / "photos").mkdir()
    (here / "my.csv").write_text("a,b,No\n1,2,x\n3,4,y\n")
    (here / "spec.yaml").write_text("method: combination\n")
    (here / "study.yaml").write_text("method: combination\ndataset: digits\nspace: {random_state: {seeds: 2}}\n")
    (here / "run").mkdir()
    (here / "run" / "spec.yaml").write_text("method: combination\n")
    (here / "model").mkdir()
    (here / "model" / "model.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(list(TYPOS)),
        capture_output=True,
        text=True,
        check=True,
        cwd=here,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", TYPOS)
def test_a_typo_is_answered_with_what_can_be_typed_before_torch_is_loaded(line, answers):
    code, told, torch = answers[line]
    assert code == 2
    assert TYPOS[line] in told
    assert told.startswith("distclust: ")
    assert "python -m" not in told
    assert not torch


@pytest.mark.parametrize(
    ("started", "called"),
    [
        ("/usr/bin/distclust", "distclust"),
        ("C:/Scripts/distclust.exe", "distclust"),
        ("/site-packages/distclust/run.py", "python -m distclust.run"),
        ("", "python -m distclust.run"),
    ],
)
def test_the_command_is_named_as_it_was_started(started, called, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started])
    assert command.typed(["--resume", "a b"]) == f"{called} --resume 'a b'"
    parser = command.subcommand("predict", "MODEL DATA", "", "  {program} predict model data")
    assert f"usage: {called} predict MODEL DATA" in parser.format_help()
    assert f"  {called} predict model data" in parser.format_help()


@settings(max_examples=200, deadline=None)
@given(st.lists(texts.map(lambda text: text.replace("\x00", "")), max_size=3))
def test_any_words_are_a_specification_or_a_message(words):
    with contextlib.suppress(InputError):
        assert read(words=words).to_yaml()


def test_pool_options_are_named_as_they_are_typed():
    with pytest.raises(InputError) as caught:
        read(words=["pool.workers_per_member=2", "pool.kind=local"])
    assert "pool." not in str(caught.value)
    assert "Use pool.kind=ray, or pool.workers_per_member=1." in caught.value.message.typed


# files -> words that their reading or use refuses -> what can be typed; n_clusters is given where a run would begin
BAD_DATA = {
    "columns of text": ("text.csv", [], "dataset.exclude="),
    "missing values": ("gaps.csv", [], "dataset.missing=drop"),
    "nothing left": ("gaps.csv", ["dataset.exclude=a,b"], "dataset.columns="),
    "empty columns": ("empty.csv", [], "dataset.exclude="),
    "named twice": ("gaps.csv", ["dataset.columns=a", "dataset.label_column=a"], "dataset.columns"),
    "names that repeat": ("gaps.csv", ["dataset.id_column=b"], "dataset.exclude=b"),
    "broken pictures": ("photos", [], "dataset.broken=skip"),
    "no pictures": ("recordings", [], "dataset.window="),
    "too many": ("points.npy", ["dataset.n_samples=99"], "dataset.n_samples=99"),
    "no split": ("points.npy", ["dataset.split=test"], "dataset.split=test"),
    "another kind": ("points.npy", ["dataset.kind=images"], "dataset.kind=images"),
    "no classes": ("points.npy", ["dataset.imbalance=imb1"], "dataset.imbalance=imb1"),
    "channels of vectors": ("points.npy", ["dataset.channels=last"], "dataset.channels=last"),
    "a made set": ("blobs", ["dataset.n_samples=2"], "dataset.n_samples=2"),
    "data that is not there": ("realdisp", ["dataset.data_dir=."], "dataset.data_dir="),
    "long windows": ("gaps.csv", ["dataset.window=99", "dataset.missing=drop"], "dataset.window"),
    "a gap without times": ("gaps.csv", ["dataset.window=2", "dataset.gap=3"], "dataset.time_column="),
}
OPTION = re.compile(rf"(?<![\w.])(?:{'|'.join(READINGS)})=")


@pytest.fixture(scope="module")
def bad_data(tmp_path_factory):
    here = tmp_path_factory.mktemp("bad")
    (here / "text.csv").write_text("a,b\n1,x\n2,y\n3,z\n")
    (here / "gaps.csv").write_text("a,b\n1,2\n,2\n3,4\n5,7\n")
    (here / "empty.csv").write_text("a,b\n1,\n2,\n3,\n")
    (here / "photos").mkdir()
    (here / "photos" / "a.png").write_bytes(b"no picture")
    (here / "recordings").mkdir()
    (here / "recordings" / "walk.csv").write_text("t,x\n0,1\n1,2\n")
    np.save(here / "points.npy", np.arange(30.0).reshape(10, 3))
    return here


@pytest.mark.parametrize(("data", "words", "typed"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_answered_with_what_can_be_typed(data, words, typed, bad_data, monkeypatch, capsys):
    monkeypatch.chdir(bad_data)
    assert main([f"dataset={data}", "n_clusters=3", "pool.kind=local", *words]) == 2
    told = capsys.readouterr().err
    assert typed in told
    assert not OPTION.findall(told)
    assert '="' not in told
    assert not (bad_data / "runs").exists()


@pytest.mark.parametrize(("data", "words", "typed"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_answered_in_python_as_python_writes_it(data, words, typed, bad_data, monkeypatch):
    monkeypatch.chdir(bad_data)
    options = {key.removeprefix("dataset."): value for key, value in map(split_word, words)}
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "dataset." not in str(caught.value)


def test_what_is_said_of_data_is_written_as_it_is_typed_too(tmp_path):
    (tmp_path / "numbered.csv").write_text("Unnamed: 0,a,b\n0,1,2\n1,3,4\n2,5,7\n")
    remarks = load(tmp_path / "numbered.csv").remarks
    typed = " ".join(map(on_command_line, remarks))
    assert "dataset.columns=" in typed
    assert " columns=" in " ".join(remarks)
    assert not {"\ufdd0", "\ufdd1", "\ufdd2"} & set(typed + " ".join(remarks))
