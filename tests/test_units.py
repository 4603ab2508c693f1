"""Units, types and the layout in memory do not matter: a method gives the same labels, whatever the data come in."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from distclust import (
    CombinationAssignment,
    EntropyClustering,
    MiCE,
    MoCo,
    RayPool,
    SelectivePseudoLabel,
    load,
    load_model,
)
from distclust.contracts import Dataset
from distclust.errors import DataWarning, ParameterError, on_command_line
from distclust.run import _checked, main

TINY = {"n_clusters": 3, "n_members": 2, "n_rounds": 1, "random_state": 1}
VECTORS = {
    "combination": CombinationAssignment(n_epochs=2, **TINY),
    "concrete k-means": CombinationAssignment(n_epochs=2, support="concrete-k-means", **TINY),
    "selective": SelectivePseudoLabel(labelling="k-means", pretrain_epochs=1, epochs=1, **TINY | {"n_rounds": 2}),
    "selective on the data": SelectivePseudoLabel(encoder="none", labelling="gmm", **TINY),
} | {
    f"entropy, {loss}": EntropyClustering(loss=loss, n_epochs=2, **TINY)
    for loss in ("self-labelling", "renyi", "mutual-information", "imsat", "sela", "miadm", "scan", "k-means")
}
IMAGES = {
    "combination": CombinationAssignment(n_epochs=1, **TINY),
    "selective": SelectivePseudoLabel(labelling="k-means", pretrain_epochs=1, **TINY),
    "entropy": EntropyClustering(n_epochs=1, **TINY),
    "mice": MiCE(n_epochs=1, **TINY | {"n_members": 1}),
    "moco": MoCo(n_epochs=1, **TINY | {"n_members": 1}),
}


def groups(shape, seed=0):
    """Return 60 points of whole numbers -100 .. 100 in three groups, float64, on which x + t is exact."""
    rng = np.random.default_rng(seed)
    centers = rng.integers(-80, 80, size=(3, *shape))
    return (centers[np.arange(60) % 3] + rng.integers(-15, 15, size=(60, *shape))).astype(np.float64)


def said(model, x):
    """Return the labels of the vote and of each member, which a collapsed one has too."""
    outputs = model.fit(x).last_round_.outputs
    return np.stack([model.labels_, *(output.labels for output in outputs)])


X = groups((6,))
SIZES = st.integers(-300, 300).map(lambda power: 2.0**power) | st.sampled_from([1e-12, 1e-300, 1e300, 3.6, 1e-9])
SHIFTS = st.integers(-(2**20), 2**20)


@pytest.mark.parametrize("name", VECTORS)
@settings(max_examples=2, deadline=None, phases=[Phase.generate])
@given(st.lists(SIZES, min_size=6, max_size=6), st.lists(SHIFTS, min_size=6, max_size=6))
def test_units_of_features_do_not_change_labels(name, sizes, shifts):
    model = VECTORS[name]
    expected = said(model, X)
    for other in (X * sizes, (X + shifts) * sizes):
        np.testing.assert_array_equal(said(model, other), expected)


@pytest.mark.parametrize("name", ["combination", "selective on the data", "entropy, self-labelling"])
def test_what_float32_cannot_tell_apart_is_clustered(name):
    """Unix times a minute apart, and map coordinates a metre apart."""
    at = np.arange(60) % 3
    noise = np.random.default_rng(0).normal(size=(60, 2))
    x = np.column_stack([1_700_000_000 + 60 * at, 52.5 + 1e-5 * (at == 1)]) + 0.01 * noise * [60, 1e-5]
    near = np.column_stack([60 * at, 1e-5 * (at == 1)]) + 0.01 * noise * [60, 1e-5]
    labels = VECTORS[name].fit_predict(x)
    np.testing.assert_array_equal(labels, VECTORS[name].fit_predict(near))
    assert len(np.unique(labels)) == 3


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy"])
def test_files_give_the_labels_of_arrays(suffix, tmp_path):
    x = (X + 2**30) * [1e-12, 1e12, 1, 1, 2**-30, 1e-300]
    frame, path = pd.DataFrame(x, columns=list("abcdef")), tmp_path / f"x.{suffix}"
    {"csv": lambda: frame.to_csv(path, index=False), "parquet": lambda: frame.to_parquet(path)}.get(
        suffix, lambda: np.save(path, x)
    )()
    data = load(path)
    np.testing.assert_array_equal(data.x, x)
    model = VECTORS["combination"]
    np.testing.assert_array_equal(model.fit_predict(data.x), model.fit_predict(X))


@pytest.mark.parametrize("shape", [(2, 16), (1, 8, 8)], ids=["windows", "images"])
@pytest.mark.parametrize("name", ["combination", "selective", "entropy"])
def test_units_of_windows_and_images_do_not_change_labels(name, shape):
    x = groups(shape)
    s, t = (np.array([1e-12, 2.0**40])[:, None], np.array([5, -300])[:, None]) if len(shape) == 2 else (1e-9, 2**20)
    np.testing.assert_array_equal(said(IMAGES[name], (x + t) * s), said(IMAGES[name], x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mice", "moco"])
def test_units_of_images_do_not_change_contrastive_labels(name):
    x = groups((3, 8, 8))
    np.testing.assert_array_equal(said(IMAGES[name], (x + 2**20) * 1e-9), said(IMAGES[name], x))


@pytest.mark.parametrize("name", ["combination", "entropy, self-labelling", "selective"])
def test_new_points_are_seen_in_the_units_of_the_old(name, tmp_path):
    x = (X + 2**30) * 2.0**-60
    model = clone(VECTORS[name]).fit(x)
    model.save(tmp_path / "model")
    plain = VECTORS[name].fit(X)
    for fitted in (model, load_model(tmp_path / "model")):
        for part in (slice(None), slice(7)):
            np.testing.assert_array_equal(fitted.predict(x[part]), plain.predict(X[part]))
            np.testing.assert_array_equal(fitted.predict_proba(x[part]), plain.predict_proba(X[part]))
            np.testing.assert_array_equal(fitted.transform(x[part]), plain.transform(X[part]))


def test_a_stream_is_seen_in_the_units_of_its_first_points():
    labels = []
    for x in (X, (X + 2**30) * 2.0**-60):
        model = CombinationAssignment(n_clusters=3)
        labels.append([model.partial_fit(part).labels_.tolist() for part in np.split(x, 3)])
    assert labels[0] == labels[1]


def test_the_command_predict_sees_the_units_of_a_file(tmp_path, capsys):
    frame = pd.DataFrame((X + 2**30) * 1e-12, columns=list("abcdef"))
    frame.to_csv(tmp_path / "x.csv", index=False)
    model = clone(VECTORS["combination"]).fit(X * 1e-12 + 2**30 * 1e-12)
    model.save(tmp_path / "kept")
    words = [str(tmp_path / "kept"), str(tmp_path / "x.csv"), "--out", str(tmp_path / "found.parquet")]
    assert main(["predict", *words]) == 0
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "found.parquet")["label"], model.labels_)


# What a cast loses


def told(model, x):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.checked(x)
    return [str(one.message) for one in found if one.category is DataWarning]


def test_values_that_float32_makes_equal_are_told():
    times = 1_700_000_000 + 60.0 * np.arange(120).reshape(60, 2)
    for model in (CombinationAssignment(n_clusters=3, scaling="none"), EntropyClustering(n_clusters=3, scaling="none")):
        assert 'scaling="standard"' in told(model, times)[0]
        assert told(model, 1e-45 * X)
        assert not told(model, X)
        assert not told(model, times.astype(np.float32))
    assert not told(CombinationAssignment(n_clusters=3), times)
    far = np.arange(60.0)[:, None] + [1, 2]
    far[7, 1] = 1e12
    assert "1 of 2 features" in told(CombinationAssignment(n_clusters=3), far)[0]


def test_the_command_run_says_it_before_the_run():
    data = Dataset("times", 1_700_000_000 + 60.0 * np.arange(120).reshape(60, 2))
    method, found = _checked(CombinationAssignment(n_clusters=3, scaling="none"), data)
    assert "scaling=standard" in on_command_line(found.remarks[0])
    assert method.scaling == "none"
    assert not _checked(CombinationAssignment(n_clusters=3), data)[1].remarks


def test_values_beyond_float32_must_be_scaled():
    with pytest.raises(ParameterError, match='scaling="standard"'):
        CombinationAssignment(n_clusters=3, scaling="none").fit(1e100 * X)
    assert CombinationAssignment(n_epochs=2, **TINY).fit(1e100 * X).labels_.max() == 2


# How the data lie in memory


VIEWS = {
    "rows backwards": lambda x: x[::-1],
    "features backwards": lambda x: x[:, ::-1],
    "both, every other": lambda x: x[::-2, ::-2],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("combination", np.float64), ("selective on the data", np.float32), ("entropy, self-labelling", np.uint8)],
)
def test_views_of_vectors_train_as_their_copies(name, dtype, view):
    x = view((X + 100).astype(dtype))
    model = VECTORS[name].fit(x)
    np.testing.assert_array_equal(model.labels_, VECTORS[name].fit_predict(x.copy()))
    np.testing.assert_array_equal(model.transform(x), model.transform(x.copy()))


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_views_of_images_train_as_their_copies(name):
    images = (groups((3, 8, 8)) + 100).astype(np.uint8)
    for view in (images[::-1], images[:, ::-1], np.rot90(images, axes=(2, 3)), np.rot90(images, 3, axes=(2, 3))):
        np.testing.assert_array_equal(said(IMAGES[name], view), said(IMAGES[name], view.copy()))


def test_a_mapped_view_trains_as_its_copy(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")[::-1]
    model = VECTORS["combination"]
    np.testing.assert_array_equal(model.fit_predict(x), model.fit_predict(np.array(x)))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_workers_on_ray_see_what_this_process_sees(tmp_path):
    np.save(tmp_path / "x.npy", (X + 2**30) * 2.0**-60)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = VECTORS["entropy, self-labelling"]
    with RayPool(num_cpus=2) as pool:
        for x in (mapped, mapped[::-1], X[::-1], X[:, ::-1].astype(np.int64)):
            found = model.fit(x, pool=pool).labels_
            np.testing.assert_array_equal(found, model.fit_predict(np.array(x)))


# Fewer different points than clusters


@pytest.mark.parametrize("name", [*VECTORS, "mice", "moco"])
def test_more_clusters_than_different_points_are_refused(name):
    model = (VECTORS | IMAGES)[name]
    x = np.repeat(groups((3, 8, 8) if name in ("mice", "moco") else (6,))[:2], 30, axis=0)
    with pytest.raises(ParameterError, match=r"only 2 are different.*n_clusters=2"):
        model.fit(x)


def test_zero_and_minus_zero_are_one_point():
    x = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 1.0]] * 9)
    with pytest.raises(ParameterError, match="only 2 are different"):
        CombinationAssignment(n_clusters=3).fit(x)
