"""The ONNX file says what the model says, in onnxruntime, for any number of points."""

import builtins

import numpy as np
import pytest

from distclust import CombinationAssignment, EntropyClustering, MoCo, SelectivePseudoLabel, export_onnx
from distclust.errors import DataError, InputError, RunFolderError

onnxruntime = pytest.importorskip("onnxruntime")
QUICK = {"n_clusters": 3, "n_rounds": 2}


def ran(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x.astype(np.float32)})


def same(model, x, path):
    export_onnx(model, path)
    for points in (x, x[:7]):
        labels, agreement, probabilities = ran(path, points)
        assert np.array_equal(labels, model.predict(points))
        assert np.array_equal(agreement, model.predict_agreement(points))
        np.testing.assert_allclose(probabilities, model.predict_proba(points), atol=1e-4)


def test_the_file_says_what_the_model_says(blobs, tmp_path):
    """Also where a member has no say and a cluster no point."""
    model = CombinationAssignment(n_members=4, n_epochs=2, **QUICK).fit(blobs[0])
    model.names_[2] = -1
    model.clusters_ = np.array([0, 2])
    same(model, blobs[0], tmp_path / "folder" / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "shape"),
    [
        (CombinationAssignment(n_members=2, n_epochs=4, covariance="estimated", **QUICK), (5, 32)),
        (SelectivePseudoLabel(n_members=2, labelling="k-means", pretrain_epochs=2, epochs=1, **QUICK), (1, 12, 12)),
        (EntropyClustering(n_members=2, n_epochs=4, backbone="vgg4", **QUICK), (3, 16, 16)),
    ],
    ids=["windows", "grey images", "colour images"],
)
def test_every_method_and_shape(method, shape, tmp_path):
    rng, groups = np.random.default_rng(0), np.arange(90) % 3
    x = (rng.normal(size=(90, *shape)) + 3 * rng.normal(size=(3, *shape))[groups]).astype(np.float32)
    model = method.fit(x)
    model.names_, model.clusters_ = np.tile(np.arange(3), (2, 1)), np.arange(3)  # a few epochs may collapse
    same(model, x, tmp_path / "model.onnx")


def test_a_file_that_cannot_be_written_says_so(blobs, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    model = CombinationAssignment(n_epochs=2, **QUICK).fit(blobs[0])
    with pytest.raises(RunFolderError, match="cannot write"):
        export_onnx(model, tmp_path / "file" / "model.onnx")


def test_what_cannot_be_exported_says_so(blobs, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    model = CombinationAssignment(n_epochs=2, **QUICK).fit(blobs[0])
    images = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)
    with pytest.raises(InputError, match="MoCo cannot be exported"):
        export_onnx(MoCo(n_clusters=3, n_epochs=1, n_rounds=1).fit(images), path)
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match="exists already"):
        export_onnx(model, path)
    model.names_[:] = -1
    with pytest.raises(InputError, match="no member has a say"):
        export_onnx(model, tmp_path / "other.onnx")
    found = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *a, **k: found("no " * (name == "onnxscript") + name, *a, **k)
    )
    with pytest.raises(InputError, match=r"pip install 'distclust\[onnx\]'"):
        export_onnx(model, tmp_path / "other.onnx")
    assert path.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_takes_float64_where_float32_could_not_tell_points_apart(blobs, tmp_path):
    x = 1_700_000_000 + 60 * np.round(blobs[0].astype(np.float64), 2)
    model = CombinationAssignment(n_members=2, n_epochs=2, **QUICK).fit(x)
    export_onnx(model, path := tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    labels, _, probabilities = session.run(None, {"x": x})
    assert session.get_inputs()[0].type == "tensor(double)"
    assert np.array_equal(labels, model.predict(x))
    np.testing.assert_allclose(probabilities, model.predict_proba(x), atol=1e-4)
