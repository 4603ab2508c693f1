"""Every file of tune_configs: its first line is its command, its names are known, and it runs small."""

import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml

from distclust.data import standard
from distclust.errors import DataError, ParameterError
from distclust.methods.selective import ABLATIONS
from distclust.published import compare
from distclust.run import main
from distclust.sweep import read_study
from distclust.sweep.table import COLUMNS, ours, settings, theirs
from distclust.sweep.trial import Outcome

FOLDER = Path(__file__).parents[1] / "tune_configs"
FILES = sorted(FOLDER.rglob("*.yaml"))
STUDIES = [path for path in FILES if "space" in yaml.safe_load(path.read_text(encoding="utf-8"))]
RUNS = [path for path in FILES if path not in STUDIES]
PICTURES = {"mice-figures-2-5"}  # run configs that are drawn
OF_PAPERS = [path for path in STUDIES if read_study(path).options.tables]

_CONTRASTIVE = ["n_epochs=1", "dataset=usps", "encoder=small-resnet", "queue_size=auto", "weights=null"]
SMALL = {
    "combination": ["n_epochs=1"],
    "entropy": ["n_epochs=1", "n_views=1"],
    "mice": _CONTRASTIVE,
    "moco": _CONTRASTIVE,
    "selective": ["pretrain_epochs=1"],
}


def named(path):
    return path.relative_to(FOLDER).as_posix()


def command(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# python -m ")
    return first.removeprefix("# ")


def test_how_many_there_are():
    assert (len(RUNS), len(STUDIES)) == (8, 24)


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNS, ids=named)
def test_a_run_names_its_command_and_runs_small(path, tmp_path, real_data, monkeypatch):
    monkeypatch.setenv("DISTCLUST_DATA", str(real_data))
    module = "report.embeddings" if path.stem in PICTURES else "run"
    assert command(path) == f"python -m distclust.{module} --config tune_configs/{named(path)}"
    method = yaml.safe_load(path.read_text(encoding="utf-8"))["method"]
    small = ["dataset.n_samples=600", "n_rounds=1", "pool.kind=local", "n_members=2", *SMALL[method]]
    assert main(["--config", str(path), *small, "--out", str(tmp_path / "r")]) in (0, 1)  # 1: so small, none may vote
    assert (tmp_path / "r" / "metrics.json").is_file()


@pytest.mark.parametrize("path", STUDIES, ids=named)
def test_a_study_names_its_command_and_can_be_used_in_all_sizes(path):
    assert shlex.split(command(path)) == f"python -m distclust.run sweep tune_configs/{named(path)}".split()
    sizes = list(yaml.safe_load(path.read_text(encoding="utf-8"))["size"])
    assert "smoke" in sizes
    for words in ([], *([f"size={size}"] for size in sizes)):
        study = read_study(path, words)
        study.check()
        assert study.name == path.stem


@pytest.mark.parametrize("path", OF_PAPERS, ids=named)
def test_every_setting_of_a_study_stands_beside_numbers_of_its_paper(path):
    study = read_study(path, ["random_state=0"])
    figures = dict.fromkeys([*COLUMNS, *(f"oracle_size_{k}" for k in range(10)), "voters"], 0.5)
    ended = [(trial, Outcome("finished", "", 1, figures)) for trial in study.trials()]
    numbers = theirs(study)
    for setting in settings(study, ended, lambda trial: None):
        assert compare(ours(study, [setting]), numbers), setting.values


def test_an_unknown_table_is_refused_before_anything_runs():
    study = read_study(FOLDER / "mice-table-3.yaml", ["study.published=[mice-3-left, mice-3]"])
    with pytest.raises(ParameterError, match=r"unknown table 'mice-3'.*mice-3-left"):
        study.check()


def test_the_sizes_of_clusters_stand_beside_those_of_their_class():
    study = read_study(FOLDER / "selective-tables-4-6.yaml", ["dataset=fashion-mnist"])
    ended = [(trial, Outcome("finished", "", 1, {"voters": 1, "oracle_size_2": 70.0})) for trial in study.trials()]
    rows = compare(ours(study, settings(study, ended, lambda trial: None)), theirs(study))
    assert [(r.theirs.method, r.theirs.setting, r.theirs.mean, r.mean) for r in rows] == [
        ("HDBSCAN", "class=Pullover", 56.0, 70.0),
        ("GMM", "class=Pullover", 16379.0, 70.0),
    ]


def test_the_ablations_of_selective_pseudo_labels_are_those_of_the_method():
    trials = read_study(FOLDER / "selective-table-2.yaml", ["dataset=usps"]).trials()
    found = {trial.values["setting"]: dict(trial.spec.parameters) for trial in trials}
    base = found.pop("SPC")
    assert found == {f"ablation={name}": base | changes for name, changes in ABLATIONS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=named)
def test_a_study_runs_small(path, tmp_path, monkeypatch):
    def refuse(name, part, folder):
        raise DataError(f"{name} is not here")

    monkeypatch.setattr(standard, "_torchvision", refuse)
    monkeypatch.setenv("DISTCLUST_DATA", str(tmp_path / "data"))
    out = tmp_path / "sweep"
    assert main(["sweep", str(path), "size=smoke", "pool.kind=local", "--out", str(out)]) == 0
    assert (out / "table.md").is_file()
    found = pd.read_parquet(out / "trials.parquet")
    assert len(found) == len(read_study(path, ["size=smoke"]).trials())
    assert set(found.status) <= {"finished", "missing"}
    assert (found.status == "finished").any()
