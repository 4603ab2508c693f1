import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from distclust.data import NAMES, load
from distclust.data import points as points_module
from distclust.data.points import take
from distclust.errors import DataError, ParameterError, UnknownNameError


def test_names() -> None:
    standard = ("cifar10", "cifar100", "cifar100-20", "fashion-mnist", "mnist", "stl10", "svhn", "usps")
    assert set(NAMES) == {*standard, "blobs", "digits", "moons", "realdisp"}


def test_importing_is_cheap() -> None:
    heavy = "{'torch', 'torchvision', 'sklearn', 'scipy', 'pandas'}"
    code = f"import sys, distclust.data; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_digits() -> None:
    data = load("digits")
    assert data.y is not None
    assert (data.x.shape, data.x.dtype, data.y.dtype) == ((1797, 1, 8, 8), np.uint8, np.int64)
    assert (data.n_clusters, data.value_range, data.x.max()) == (10, (0, 16), 16)
    np.testing.assert_array_equal(data.x[:, 0], load_digits().images)
    np.testing.assert_array_equal(data.y, load_digits().target)


def test_blobs() -> None:
    data = load("blobs", n_samples=60, n_clusters=4, n_features=7, spread=0.0, seed=2)
    assert data.y is not None
    assert (data.x.shape, data.x.dtype, data.n_clusters, data.value_range) == ((60, 7), np.float32, 4, None)
    assert len(np.unique(data.x, axis=0)) == 4  # no spread: each cluster is a point
    assert np.bincount(data.y).tolist() == [15] * 4
    with pytest.raises(ParameterError, match="at least n_clusters"):
        load("blobs", n_samples=2)


def test_moons() -> None:
    data = load("moons", n_samples=50, noise=0)
    assert data.y is not None
    assert (data.x.shape, data.x.dtype, data.n_clusters) == ((50, 2), np.float32, 2)
    np.testing.assert_allclose(np.linalg.norm(data.x[data.y == 0], axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("blobs", {"n_samples": 40}),
        ("moons", {"n_samples": 40}),
        ("digits", {"n_samples": 40}),
        ("digits", {"imbalance": "imb2"}),
        ("blobs", {"imbalance": "imb3"}),
    ],
)
def test_same_seed_same_bytes(name: str, options: dict[str, Any]) -> None:
    first, again, other = (load(name, seed=seed, **options) for seed in (7, 7, 8))
    assert first.y is not None
    assert again.y is not None
    assert first.x.tobytes() == again.x.tobytes() != other.x.tobytes()
    assert first.y.tobytes() == again.y.tobytes()


def test_subset_keeps_order_and_classes() -> None:
    whole, few = load("digits"), load("digits", n_samples=100)
    assert whole.y is not None
    assert few.y is not None
    keys = {point.tobytes(): index for index, point in enumerate(whole.x)}
    rows = [keys[point.tobytes()] for point in few.x]
    assert rows == sorted(rows)
    np.testing.assert_array_equal(whole.y[rows], few.y)
    assert few.n_clusters == 10
    assert load("digits", n_samples=1797).x.tobytes() == whole.x.tobytes()


def test_imbalance_before_subset() -> None:
    whole, thinned = load("digits"), load("digits", imbalance="imb3")
    assert whole.y is not None
    assert thinned.y is not None
    counts = [round((10 - c) / 10 * n) for c, n in enumerate(np.bincount(whole.y))]
    assert np.bincount(thinned.y).tolist() == counts
    assert len(load("digits", imbalance="imb3", n_samples=500).x) == 500
    with pytest.raises(ParameterError, match=f"there are {sum(counts)} points"):
        load("digits", imbalance="imb3", n_samples=1797)
    assert len(load("blobs", n_samples=300, n_clusters=10, imbalance="imb3").x) == 165  # n_samples are made first


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'fashion-mnist'\?.*Known: blobs.*usps"):
        load("fashon_mnist")
    with pytest.raises(UnknownNameError, match="path of a"):
        load("")
    with pytest.raises(DataError, match="neither a name, a path nor a torch Dataset"):
        load(3)  # type: ignore[arg-type]


def test_what_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("digits.npy", "./digits", Path("digits")):
        with pytest.raises(DataError, match="does not exist"):
            load(given)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        load("folder")
    np.save("x.npy", np.ones((2, 2), dtype=np.float32))
    assert load("x.npy").x.shape == (2, 2)
    (tmp_path / "digits").mkdir()
    assert len(load("digits").x) == 1797  # a known name comes first


def test_all_faults_in_one_error() -> None:
    with pytest.raises(ParameterError) as caught:
        load("blobs", n_sample=3, n_clusters=0, spread="wide", seed=-1, imbalance="imb9")
    faults = caught.value.faults
    assert len(faults) == 5
    assert "Did you mean 'n_samples'?" in faults[0]
    assert "Known: imbalance, n_clusters, n_features, n_samples, reference, reference_draw, " in faults[0]
    for name in ("n_clusters is 0", "spread is 'wide'", "seed is -1", "imbalance is 'imb9'; it must be one of 'imb1'"):
        assert any(fault.startswith(name) for fault in faults)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits", {"split": "train"}),
        ("digits", {"split": None}),
        ("usps", {"split": "validation"}),
        ("usps", {"split": ["all"]}),
        ("digits", {"n_samples": 0}),
        ("digits", {"n_samples": 2.0}),
        ("digits", {"n_samples": True}),
        ("digits", {"seed": None}),
        ("digits", {"data_dir": "."}),
        ("usps", {"data_dir": ""}),
        ("usps", {"data_dir": 3}),
        ("moons", {"n_clusters": 2}),
        ("moons", {"n_samples": 1}),
        ("moons", {"noise": float("nan")}),
        ("moons", {"noise": float("inf")}),
        ("moons", {"noise": -0.1}),
        ("blobs", {"n_samples": None}),
        ("stl10", {"unlabelled": "yes"}),
        ("x.npy", {"kind": "image"}),
        ("x.npy", {"channels": 3}),
        ("x.npy", {"data_dir": "."}),
        ("x.npy", {"imbalance": np.zeros(3)}),
    ],
)
def test_options_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        load(name, **options)


def test_numpy_numbers_are_fine() -> None:
    assert len(load("moons", n_samples=np.int64(4), noise=np.float32(0), seed=np.int32(1)).x) == 4


def test_imbalance_that_leaves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x_train=np.eye(1), y_train=[9], x_test=np.eye(1)[:, :1], y_test=[8])
    assert len(load(tmp_path / "one.npz", imbalance="imb3").x) == 1
    with pytest.raises(DataError, match="leaves none"):
        load(tmp_path / "one.npz", imbalance="imb3", split="train")


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 3, 5], [4], [0, 1, 3], []])
def test_take(rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    taken = take(x, np.array(rows, dtype=np.int64))
    np.testing.assert_array_equal(taken, x[rows] if rows else x[:0])
    assert np.shares_memory(taken, x) == (rows not in ([0, 1, 3], []))
    monkeypatch.setattr(points_module, "_memory", lambda: 60.0)
    if rows == [0, 1, 3]:
        with pytest.raises(DataError, match="n_samples="):
            take(x, np.array(rows))
