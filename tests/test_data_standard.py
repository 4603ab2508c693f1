import bz2
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets

from distclust.contracts import Array
from distclust.data import load
from distclust.data.standard import STANDARD, SUPERCLASSES, superclass_table
from distclust.errors import DataError, ParameterError

# https://www.cs.toronto.edu/~kriz/cifar.html: coarse label of each fine label, as in the published files
COARSE = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17
18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6
0 17 8 14 13
"""
DATA = Path(os.environ.get("DISTCLUST_DATA") or Path(__file__).parents[2] / "shared" / "data")

SIZES = {"train": 7, "test": 5, "unlabeled": 4}


class Fake:
    """Stands for one of torchvision's classes: same arguments, attributes, types and layouts, few points."""

    layout: Any = staticmethod(lambda x: x)
    shape: tuple[int, ...] = (28, 28)
    labels_name = "targets"
    labels_type: Any = list
    n_clusters = 10
    by_split = False
    asked: list[tuple[str, str]]

    def __init__(self, root: str, download: bool, **where: Any) -> None:
        assert download
        assert set(where) == {"split" if self.by_split else "train"}
        part = where["split"] if self.by_split else ("train" if where["train"] else "test")
        self.asked.append((part, root))
        rng = np.random.default_rng(len(part))
        self.data = self.layout(rng.integers(0, 256, (SIZES[part], *self.shape), dtype=np.uint8))
        labels = np.arange(SIZES[part]) * 13 % self.n_clusters
        setattr(self, self.labels_name, self.labels_type(-np.ones_like(labels) if part == "unlabeled" else labels))


def channels_last(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1)


def turned(x: Array) -> Array:
    return x.transpose(0, 1, 3, 2)


COLOUR = {"shape": (3, 32, 32), "layout": staticmethod(channels_last)}
BY_SPLIT = {"labels_name": "labels", "labels_type": np.asarray, "by_split": True}
FAKES: dict[str, dict[str, Any]] = {
    "MNIST": {"layout": staticmethod(torch.from_numpy), "labels_type": torch.from_numpy},
    "FashionMNIST": {"layout": staticmethod(torch.from_numpy), "labels_type": torch.from_numpy},
    "USPS": {"shape": (16, 16)},
    "CIFAR10": COLOUR,
    "CIFAR100": {**COLOUR, "n_clusters": 100},
    "STL10": {**BY_SPLIT, "shape": (3, 96, 96), "layout": staticmethod(turned)},
    "SVHN": {**BY_SPLIT, "shape": (3, 32, 32)},
}
SHAPES = {
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "cifar100-20": (3, 32, 32),
    "fashion-mnist": (1, 28, 28),
    "mnist": (1, 28, 28),
    "stl10": (3, 96, 96),
    "svhn": (3, 32, 32),
    "usps": (1, 16, 16),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Put fakes in the place of torchvision's classes; what was asked of them."""
    asked: list[tuple[str, str]] = []
    for name, made in FAKES.items():
        monkeypatch.setattr(torchvision.datasets, name, type(name, (Fake,), {**made, "asked": asked}))
    return asked


def expected(name: str, part: str) -> tuple[Array, Array]:
    """x and y of a part, put together by hand."""
    fake = FAKES[STANDARD[name].torchvision]
    rng = np.random.default_rng(len(part))
    x = rng.integers(0, 256, (SIZES[part], *fake.get("shape", (28, 28))), dtype=np.uint8)
    if name == "stl10":
        x = turned(x)
    y = np.arange(SIZES[part]) * 13 % fake.get("n_clusters", 10)
    if name == "cifar100-20":
        y = np.array([int(COARSE.split()[fine]) for fine in y])
    return (x if x.ndim == 4 else x[:, None]), y


@pytest.mark.parametrize("split", ["all", "train", "test"])
@pytest.mark.parametrize("name", sorted(STANDARD))
def test_each_by_torchvision(name: str, split: str, asked: list[tuple[str, str]], tmp_path: Path) -> None:
    data = load(name, split=split, data_dir=tmp_path)
    parts = ["train", "test"] if split == "all" else [split]
    assert asked == [(part, str(tmp_path)) for part in parts]
    assert data.y is not None
    np.testing.assert_array_equal(data.x, np.concatenate([expected(name, part)[0] for part in parts]))
    np.testing.assert_array_equal(data.y, np.concatenate([expected(name, part)[1] for part in parts]))
    assert data.x.shape[1:] == SHAPES[name]
    assert (data.x.dtype, data.y.dtype, data.x.flags.c_contiguous) == (np.uint8, np.int64, True)
    assert (data.name, data.value_range) == (name, (0, 255))
    assert data.n_clusters == {"cifar100": 100, "cifar100-20": 20}.get(name, 10)


def test_unlabelled(asked: list[tuple[str, str]], tmp_path: Path) -> None:
    data = load("stl10", unlabelled=True, data_dir=tmp_path)
    assert [part for part, _ in asked] == ["train", "test", "unlabeled"]
    assert data.y is not None
    assert (data.y[-4:] == -1).all()
    assert (data.y[:-4] >= 0).all()
    assert len(load("stl10", split="train", unlabelled=True, data_dir=tmp_path).x) == 11
    with pytest.raises(ParameterError, match="no unlabelled"):
        load("stl10", split="test", unlabelled=True, data_dir=tmp_path)
    with pytest.raises(ParameterError, match="unknown option 'unlabelled'"):
        load("mnist", unlabelled=True, data_dir=tmp_path)


def test_torchvision_itself_reads_what_lies_in_the_folder(tmp_path: Path) -> None:
    for file, digit in (("usps.bz2", 3), ("usps.t.bz2", 9)):
        line = " ".join([str(digit + 1), *(f"{pixel + 1}:{-1 if pixel % 2 else 1}" for pixel in range(256))])
        (tmp_path / file).write_bytes(bz2.compress(f"{line}\n".encode()))
    data = load("usps", data_dir=tmp_path)
    assert data.y is not None
    assert data.y.tolist() == [3, 9]
    np.testing.assert_array_equal(data.x, np.tile(np.uint8([255, 0]), 256).reshape(2, 1, 16, 16))
    (tmp_path / "usps.bz2").write_bytes(b"cut short")
    with pytest.raises(DataError, match="OSError"):
        load("usps", data_dir=tmp_path)


def test_torchvision_has_the_parts_that_are_asked_for() -> None:
    assert {"train", "test", "unlabeled"} <= set(torchvision.datasets.STL10.splits)
    assert {"train", "test"} <= set(torchvision.datasets.SVHN.split_list)


def test_superclasses_are_the_published_ones() -> None:
    table = superclass_table()
    assert table.tolist() == [int(coarse) for coarse in COARSE.split()]
    assert np.bincount(table).tolist() == [5] * 20
    fine = sorted(name for members in SUPERCLASSES.values() for name in members)
    assert (len(set(fine)), fine[:4], fine[-2:]) == (100, ["apple", "aquarium_fish", "baby", "bear"], ["woman", "worm"])
    assert list(SUPERCLASSES) == sorted(SUPERCLASSES)


@pytest.mark.parametrize("error", [RuntimeError("Error downloading x"), OSError("no route to host"), EOFError()])
def test_download_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    def refuse(**_: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", refuse)
    with pytest.raises(DataError, match=r"fashion-mnist\.npz") as caught:
        load("fashion-mnist", data_dir=tmp_path)
    for told in (str(tmp_path), str(error), "data_dir=", "DISTCLUST_DATA"):
        assert told in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("there", "file"), [(True, False), (False, False), (False, True)])
def test_a_failed_download_leaves_no_empty_folder_of_its_own_and_deletes_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool, file: bool
) -> None:
    def half(root: str, **_: Any) -> None:
        (Path(root) / "FashionMNIST" / "raw").mkdir(parents=True)
        if file:
            (Path(root) / "FashionMNIST" / "of-somebody").write_bytes(b"whole")
        raise EOFError

    folder = tmp_path / "data"
    if there:
        folder.mkdir()
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", half)
    with pytest.raises(DataError):
        load("fashion-mnist", data_dir=folder)
    assert folder.exists() == (there or file)
    assert (folder / "FashionMNIST" / "of-somebody").exists() == file
    assert (folder / "FashionMNIST" / "raw").exists() == there


def write(path: Path, shape: tuple[int, ...] = (28, 28), n_clusters: int = 10, **more: Any) -> Array:
    x = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    y = (np.arange(12) * 7 % n_clusters).astype(np.uint8)
    np.savez(path, **{"x_train": x[:8], "y_train": y[:8], "x_test": x[8:], "y_test": y[8:], **more})
    return x


@pytest.mark.parametrize("asked_for", ["fashion-mnist", "Fashion_MNIST", "FASHION mnist"])
@pytest.mark.parametrize("file", ["fashion_mnist.npz", "fashion-mnist.npz", "Fashion_MNIST.npz"])
def test_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, asked_for: str) -> None:
    x = write(tmp_path / file)
    monkeypatch.setenv("DISTCLUST_DATA", str(tmp_path))
    data = load(asked_for)
    np.testing.assert_array_equal(data.x, x[:, None])
    assert (data.name, data.n_clusters) == ("fashion-mnist", 10)
    assert len(load(asked_for, split="test").x) == 4


@pytest.mark.parametrize("shape", [(3, 32, 32), (32, 32, 3)])
def test_layouts_of_a_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = write(tmp_path / "cifar10.npz", shape)
    np.testing.assert_array_equal(
        load("cifar-10", data_dir=str(tmp_path)).x, x if shape[0] == 3 else x.transpose(0, 3, 1, 2)
    )


def test_file_of_fine_classes_gives_superclasses(tmp_path: Path) -> None:
    write(tmp_path / "cifar100.npz", (3, 32, 32), 100)
    fine, coarse = (load(name, data_dir=tmp_path) for name in ("cifar100", "cifar100_20"))
    assert fine.y is not None
    assert coarse.y is not None
    assert coarse.y.tolist() == [int(COARSE.split()[label]) for label in fine.y]
    assert coarse.n_clusters == 20


def test_unlabelled_from_a_file(tmp_path: Path) -> None:
    x = write(tmp_path / "stl10.npz", (3, 96, 96))
    with pytest.raises(DataError, match="has no x_unlabelled"):
        load("stl10", unlabelled=True, data_dir=tmp_path)
    write(tmp_path / "stl10.npz", (3, 96, 96), x_unlabelled=x[:3])
    data = load("stl10", unlabelled=True, data_dir=tmp_path)
    assert data.y is not None
    assert data.y[-4:].tolist() == [11 * 7 % 10, -1, -1, -1]
    assert len(load("stl10", data_dir=tmp_path).x) == 12


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "usps.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load("usps", data_dir=tmp_path)
    np.savez(path, x=np.zeros((3, 16, 16)))
    with pytest.raises(DataError, match="has no x_train, x_test"):
        load("usps", data_dir=tmp_path)
    np.savez(path, x_train=np.zeros((3, 16, 16)), x_test=np.zeros((3, 16, 16)))
    with pytest.raises(DataError, match="has no y_train, y_test"):
        load("usps", data_dir=tmp_path)
    write(path, (16, 16), n_clusters=11)
    with pytest.raises(DataError, match="must be 0 to 9"):
        load("usps", data_dir=tmp_path)
    write(path, (256,))
    with pytest.raises(DataError, match="usps: kind='images'"):
        load("usps", data_dir=tmp_path)
    write(path, (16, 16), y_test=[1])
    with pytest.raises(DataError, match="one class for each point"):
        load("usps", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("usps", (9298, 1, 16, 16), [1553, 1269, 929, 824, 852, 716, 834, 792, 708, 821]),
        ("fashion-mnist", (70000, 1, 28, 28), [7000] * 10),
    ],
)
def test_real_data(name: str, shape: tuple[int, ...], sizes: list[int]) -> None:
    if not (DATA / f"{name.replace('-', '_')}.npz").exists():
        pytest.skip(f"no {name} in {DATA}: set DISTCLUST_DATA to a folder that has it")
    data = load(name, data_dir=DATA)
    assert data.y is not None
    assert (data.x.shape, np.bincount(data.y).tolist()) == (shape, sizes)
    thinned = load(name, data_dir=DATA, imbalance="imb3", seed=5)
    assert thinned.y is not None
    assert np.bincount(thinned.y).tolist() == [round((10 - c) / 10 * n) for c, n in enumerate(sizes)]
