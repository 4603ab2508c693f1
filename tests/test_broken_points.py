"""What no method can use, given from Python: a DistclustError that is a ValueError, with a sentence, each time."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from distclust import (
    CombinationAssignment,
    EntropyClustering,
    MiCE,
    MoCo,
    SelectivePseudoLabel,
    align,
    consensus,
    export_onnx,
    load,
    vote,
)
from distclust.errors import InputError

RNG = np.random.default_rng(0)
GOOD = np.concatenate([RNG.normal(size=(20, 4)) + 8 * k for k in range(3)]).astype(np.float32)
METHODS = [CombinationAssignment, EntropyClustering, SelectivePseudoLabel]


def with_value(value):
    x = GOOD.copy()
    x[3, 1] = value
    return x


class Unreadable:
    """Breaks whatever asks for its values."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no values here")


POINTS = {
    "NaN": with_value(np.nan),
    "infinity": with_value(np.inf),
    "minus infinity": with_value(-np.inf),
    "None": None,
    "a number": 3.0,
    "a text": "digits.npy",
    "texts": np.array([["a", "b"], ["c", "d"], ["e", "f"]]),
    "objects": np.array([[object(), object()]] * 5, dtype=object),
    "ragged lists": [[1, 2], [3], [4, 5, 6]],
    "an empty list": [],
    "an empty array": np.zeros((0, 4), np.float32),
    "no features": np.zeros((30, 0), np.float32),
    "one axis": np.arange(30.0),
    "five axes": np.zeros((30, 1, 2, 2, 2)),
    "a single point": GOOD[:1],
    "fewer points than clusters": GOOD[:2],
    "the same point again and again": np.ones((30, 4)),
    "complex numbers": GOOD.astype(complex),
    "dates": np.full((30, 2), np.datetime64("2026-01-01")),
    "a sparse matrix": sparse.csr_matrix(GOOD),
    "a mapping": {"x": GOOD},
    "a set": {1.0, 2.0, 3.0},
    "a table of texts": pd.DataFrame({"a": ["x", "y", "z"] * 10, "b": range(30)}),
    "a table with a gap": pd.DataFrame({"a": [1.0, None, 2.0] * 10, "b": range(30)}),
    "images without height": np.zeros((30, 1, 0, 8), np.float32),
    "numbers whose differences overflow": np.full((30, 4), 1e308) * (-1.0) ** np.arange(30)[:, None],
    "equal points": np.tile(np.arange(4.0), (30, 1)),
    "fewer different points than clusters": GOOD[[0, 20] * 15],
    "what has no values": Unreadable(),
    "a tensor of NaN": torch.full((30, 4), float("nan")),
    "masked values": np.ma.masked_greater(GOOD, 5.0),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("x", POINTS.values(), ids=POINTS)
def test_no_method_fits_it(method, x):
    with pytest.raises((InputError, TypeError)) as caught:  # scikit-learn asks for a TypeError where X is sparse
        method(n_clusters=3).fit(x)
    assert len(str(caught.value)) > 20


@pytest.fixture(scope="module")
def fitted():
    return CombinationAssignment(n_clusters=3, n_members=2, n_epochs=2, n_rounds=1).fit(GOOD)


NEW = {name: x for name, x in POINTS.items() if name not in ("a single point", "fewer points than clusters")} | {
    "another number of features": np.zeros((10, 7), np.float32),
    "images": np.zeros((10, 1, 8, 8), np.float32),
    "windows": np.zeros((10, 4, 8), np.float32),
    "numbers beyond all that was fitted": np.full((30, 4), 1e200) * np.arange(30)[:, None],
}
for name in ("the same point again and again", "equal points", "fewer different points than clusters"):
    del NEW[name]  # new points may be alike


@pytest.mark.parametrize("what", ["predict", "predict_proba", "predict_agreement", "transform", "score", "partial_fit"])
@pytest.mark.parametrize("x", NEW.values(), ids=NEW)
def test_no_fitted_method_takes_it(what, x, fitted):
    with pytest.raises((InputError, TypeError)) as caught:
        getattr(fitted, what)(x)
    assert len(str(caught.value)) > 20


PARAMETERS = {
    "one cluster": {"n_clusters": 1},
    "no clusters": {"n_clusters": 0},
    "half a cluster": {"n_clusters": 2.5},
    "clusters in words": {"n_clusters": "three"},
    "clusters that are a switch": {"n_clusters": True},
    "more clusters than points": {"n_clusters": 61},
    "no members": {"n_members": 0},
    "members of None": {"n_members": None},
    "a negative seed": {"random_state": -1},
    "a seed that is a generator": {"random_state": np.random.default_rng(0)},
    "no threshold": {"agreement_threshold": 0.0},
    "a threshold above 1": {"agreement_threshold": 1.5},
    "a threshold of NaN": {"agreement_threshold": float("nan")},
    "no rounds": {"n_rounds": 0},
    "a learning rate of 0": {"learning_rate": 0.0},
    "an infinite learning rate": {"learning_rate": float("inf")},
    "a negative learning rate": {"learning_rate": -0.1},
    "batches of one": {"batch_size": 1},
    "batches in words": {"batch_size": "all"},
    "a scaling that is not known": {"scaling": "standart"},
    "a list for a number": {"n_clusters": [3]},
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_no_method_runs_with_it(method, parameters):
    with pytest.raises(InputError) as caught:
        method(**{"n_clusters": 3} | parameters).fit(GOOD)
    (name,) = parameters
    assert name in str(caught.value)


@pytest.mark.parametrize("method", [MiCE, MoCo])
@pytest.mark.parametrize("x", [GOOD, RNG.normal(size=(30, 4, 50)).astype(np.float32)], ids=["vectors", "windows"])
def test_contrastive_methods_take_images_alone(method, x):
    with pytest.raises(InputError, match="image"):
        method(n_clusters=3).fit(x)


LABELLINGS = {
    "none": [],
    "empty ones": [[], []],
    "a number": 3,
    "None": None,
    "a text": "0120",
    "of different lengths": [[0, 1, 2], [0, 1]],
    "of floats": [[0.0, 1.0], [1.0, 0.0]],
    "of texts": [["a", "b"], ["b", "a"]],
    "with a label too high": [[0, 1, 3], [0, 1, 2]],
    "with a label below -1": [[0, 1, -2], [0, 1, 2]],
    "with NaN": [[0, np.nan, 1], [0, 1, 1]],
    "of objects": [[object(), object()]],
    "of tables": np.zeros((2, 3, 3), np.int64),
    "of a single number each": np.int64(1),
    "nested too deep": [[[0, 1]], [[1, 0]]],
    "of complex numbers": np.ones((2, 3), complex),
    "of truth values": np.array([[True, False], [False, True]]),
}


@pytest.mark.parametrize("labellings", LABELLINGS.values(), ids=LABELLINGS)
def test_no_consensus_is_taken_of_it(labellings):
    takes = [partial(align, n_clusters=3), partial(vote, n_clusters=3), partial(consensus.consensus, n_clusters=3)]
    for take in takes:
        with pytest.raises(InputError):
            take(labellings)


@pytest.mark.parametrize(
    ("n_clusters", "method", "threshold"),
    [(0, "vote", 1.0), (-1, "vote", 1.0), (2.5, "vote", 1.0), (3, "votes", 1.0), (3, "vote", 0.0), (3, "vote", 2.0)],
)
def test_no_consensus_is_taken_so(n_clusters, method, threshold):
    with pytest.raises(InputError):
        consensus.consensus([[0, 1, 2], [0, 1, 2]], n_clusters, method=method, threshold=threshold)


EXPORTS = {
    "a file that exists": lambda here: here / "there.onnx",
    "a folder": lambda here: here,
    "a place below a file": lambda here: here / "there.onnx" / "model.onnx",
}


@pytest.mark.parametrize("place", EXPORTS.values(), ids=EXPORTS)
def test_no_model_is_exported_there(place, fitted, tmp_path):
    (tmp_path / "there.onnx").write_text("mine")
    with pytest.raises(InputError):
        export_onnx(fitted, place(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]
    assert (tmp_path / "there.onnx").read_text() == "mine"


@pytest.mark.parametrize("place", EXPORTS.values(), ids=EXPORTS)
def test_no_model_is_saved_there(place, fitted, tmp_path):
    (tmp_path / "there.onnx").write_text("mine")
    with pytest.raises(InputError):
        fitted.save(place(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


@pytest.mark.parametrize("name", ["", "digit", "nowhere/x.npy", ".", 3, None, b"digits", ["digits"]])
def test_nothing_is_loaded_by_such_a_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load(name)
    assert len(str(caught.value)) > 20
