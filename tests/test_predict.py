"""The command predict: labels of new points by a kept model, without Ray or UMAP, and one message for bad input."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distclust import CombinationAssignment, load
from distclust.run import main


@pytest.fixture(scope="module")
def here(tmp_path_factory, blobs):
    """A folder with a model, its data, other data and a run."""
    path = tmp_path_factory.mktemp("here")
    np.save(path / "new.npy", blobs[0])
    np.save(path / "wide.npy", np.ones((5, 3), np.float32))
    model = CombinationAssignment(n_clusters=3, n_members=2, n_epochs=10, n_rounds=2).fit(blobs[0])
    model.save(path / "kept")
    (path / "list.json").write_text("[]")
    return path, model


@pytest.fixture(autouse=True)
def in_folder(here, monkeypatch):
    monkeypatch.chdir(here[0])


def test_labels_and_how_sure_they_are(here, blobs, capsys, tmp_path):
    assert main(["predict", "kept", "new.npy", "--out", str(tmp_path / "found.parquet")]) == 0
    found, model = pd.read_parquet(tmp_path / "found.parquet"), here[1]
    assert found["index"].tolist() == list(range(300))
    assert np.array_equal(found["label"], model.labels_)
    assert np.array_equal(found["agreement"], model.agreement_)
    assert np.array_equal(found["probability"], model.predict_proba(blobs[0])[np.arange(300), model.labels_])
    assert "300 of 300 points labelled, in 3 clusters of 100 to 100 points" in capsys.readouterr().out


def test_coverage_leaves_points_out(blobs, capsys, tmp_path):
    out = tmp_path / "found.parquet"
    assert main(["predict", "kept", "new.npy", "coverage=0.5", "dataset.n_samples=200", "--out", str(out)]) == 0
    assert (pd.read_parquet(out)["label"] >= 0).sum() == 100
    assert "100 of 200 points labelled" in capsys.readouterr().out


def test_a_single_cluster_is_named(here, blobs, capsys, tmp_path):
    np.save(tmp_path / "one.npy", blobs[0][here[1].labels_ == 2])
    assert main(["predict", "kept", str(tmp_path / "one.npy"), "--out", str(tmp_path / "found.parquet")]) == 0
    assert "100 of 100 points labelled, all in cluster 2; on average" in capsys.readouterr().out


def test_names_lead_back_and_remarks_are_said(blobs, capsys, tmp_path):
    table = pd.DataFrame(blobs[0], columns=list("abcdefgh"))
    table.insert(0, "id", [f"customer {i}" for i in range(300)])
    table.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", "kept", str(tmp_path / "new.csv"), "--out", str(tmp_path / "found.parquet")]) == 0
    assert pd.read_parquet(tmp_path / "found.parquet")["name"].tolist() == table["id"].tolist()
    assert "new: " in capsys.readouterr().out


def test_a_run_is_a_model_too(tmp_path, capsys):
    words = ["combination", "dataset=digits", "n_members=2", "n_epochs=2", "n_rounds=1", "pool.kind=local"]
    assert main([*words, "--out", str(tmp_path / "r")]) == 0
    assert main(["predict", str(tmp_path / "r"), "digits", "--out", str(tmp_path / "found.parquet")]) == 0
    labels = [
        pd.read_parquet(path)["label"] for path in (tmp_path / "r" / "labels.parquet", tmp_path / "found.parquet")
    ]
    assert labels[0].equals(labels[1])


@pytest.mark.parametrize("deep", [False, True])
def test_a_folder_of_images_is_read_as_the_fitted_ones_were(deep, tmp_path, capsys):
    rng = np.random.default_rng(0)
    dtype, top = (np.uint16, 65535) if deep else (np.uint8, 255)
    for index in range(24):
        dark = rng.integers(0, top // 4, (8, 8))
        write_image(tmp_path / "old" / f"{index}.png", dark + (index % 2) * top // 2, dtype)
        write_image(tmp_path / "same" / f"{index}.png", dark + (index % 2) * top // 2, dtype)
    data = load(tmp_path / "old")
    model = CombinationAssignment(n_clusters=2, n_epochs=4, n_rounds=2).fit(data.x)
    model.save(tmp_path / "model")
    # the same pictures among others of another size, mode and depth
    write_image(tmp_path / "same" / "large.png", rng.integers(0, 255, (200, 300, 3)), np.uint8)
    write_image(tmp_path / "same" / "other.png", rng.integers(0, 255, (9, 8)), np.uint8 if deep else np.uint16)
    out = tmp_path / "labels.parquet"
    assert main(["predict", str(tmp_path / "model"), str(tmp_path / "same"), "--out", str(out)]) == 0
    found = pd.read_parquet(out).set_index("name")["label"]
    assert found[list(data.names)].tolist() == model.labels_.tolist()
    assert main(["predict", str(tmp_path / "model"), str(tmp_path / "same"), "dataset.size=9", "--out", "x"]) == 2
    assert "was fitted on (1, 8, 8)" in capsys.readouterr().err


def write_image(path, values, dtype):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values.astype(dtype)).save(path)


BAD = {
    "nothing": ([], "give a model and data"),
    "no data": (["kept"], "give a model and data"),
    "a third word": (["kept", "new.npy", "more"], "give a model and data"),
    "no model": (["nowhere", "new.npy"], "nowhere holds no model that can be read"),
    "a file as model": (["new.npy", "new.npy"], "new.npy holds no model that can be read"),
    "a folder as model": ([".", "new.npy"], "holds no model that can be read"),
    "no such data": (["kept", "nowhere.npy"], "nowhere.npy does not exist"),
    "an unknown name": (["kept", "digit"], "Did you mean 'digits'"),
    "data of another shape": (["kept", "wide.npy"], "X has 3 features"),
    "images": (["kept", "digits"], "was fitted on (8,)"),
    "an unknown word": (["kept", "new.npy", "n_clusters=3"], "n_clusters=3 cannot be used here"),
    "an unknown option": (["kept", "new.npy", "dataset.chanels=last"], "Did you mean 'dataset.channels'"),
    "too much coverage": (["kept", "new.npy", "coverage=1.5"], "coverage=1.5 cannot be used"),
    "no coverage": (["kept", "new.npy", "coverage=0"], "coverage=0 cannot be used"),
    "coverage in words": (["kept", "new.npy", "coverage=most"], "coverage=most cannot be used"),
    "coverage that is a switch": (["kept", "new.npy", "coverage=true"], "coverage=true cannot be used"),
    "a file that exists": (["kept", "new.npy", "--out", "new.npy"], "new.npy exists already"),
    "a folder as file": (["kept", "new.npy", "--out", "kept"], "kept exists already"),
    "a place below a file": (["kept", "new.npy", "--out", "new.npy/labels.parquet"], "cannot write to new.npy"),
    "an unknown flag": (["kept", "new.npy", "--quiet"], "--help"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_message_and_leaves_nothing_behind(words, message, here, capsys):
    before = sorted(path.name for path in here[0].iterdir())
    assert main(["predict", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("distclust: ")
    assert "Traceback" not in err
    assert sorted(path.name for path in here[0].iterdir()) == before


BARE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "umap", "hdbscan", "pynndescent"):
            raise ImportError(name + " is not on this machine")

sys.meta_path.insert(0, Refuse())
from distclust.run import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_model_predicts_on_a_machine_without_ray_or_umap(here, tmp_path):
    words = ["predict", "kept", "new.npy", "--out", str(tmp_path / "found.parquet")]
    done = subprocess.run([sys.executable, "-c", BARE, *words], cwd=here[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(pd.read_parquet(tmp_path / "found.parquet")["label"], here[1].labels_)
