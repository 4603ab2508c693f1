import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust.contracts import Array
from distclust.data import arrays, check_x, load
from distclust.data.arrays import KEPT
from distclust.data.images import as_images
from distclust.errors import DataError, InputError, ParameterError

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(6, 5)).astype(np.float32)
GREY = RNG.integers(0, 256, (6, 8, 9), dtype=np.uint8)


def npy(folder: Path, x: Any, name: str = "x.npy") -> Path:
    np.save(folder / name, x)
    return folder / name


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


@pytest.mark.parametrize(
    "x", [VECTORS, np.asfortranarray(VECTORS), VECTORS.reshape(3, 2, 5), GREY, GREY.reshape(2, 3, 8, 9)]
)
def test_npy_stays_memory_mapped(tmp_path: Path, x: Array) -> None:
    data = load(npy(tmp_path, x))
    assert isinstance(data.x, np.memmap)
    assert data.name == "x"
    assert data.y is None
    assert data.n_clusters is None
    np.testing.assert_array_equal(data.x, x[:, None] if x is GREY else x)


def test_arrays_of_the_right_layout_are_views(tmp_path: Path) -> None:
    data = load(npy(tmp_path, RNG.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)))
    assert data.x.shape == (6, 3, 8, 9)
    assert isinstance(data.x, np.memmap)
    assert not data.x.flags.owndata


def test_npy_subset_is_the_rows_it_says(tmp_path: Path) -> None:
    path = npy(tmp_path, np.arange(100, dtype=np.float32).reshape(50, 2))
    first, again, other = (load(path, n_samples=20, seed=seed).x for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert (np.diff(first[:, 0]) > 0).all()
    assert set(load(path, n_samples=10, seed=1).x[:, 0]) < set(first[:, 0])
    assert isinstance(load(path, n_samples=50).x, np.memmap)


@pytest.mark.parametrize(
    ("dtype", "becomes", "value_range"),
    [
        ("uint8", "uint8", (0, 255)),
        ("bool", "uint8", (0, 1)),
        ("int64", "float64", None),
        ("int32", "float64", None),
        ("uint16", "float32", None),
        ("float64", "float64", None),
        ("float16", "float32", None),
        (">f4", "float32", None),
    ],
)
def test_types(tmp_path: Path, dtype: str, becomes: str, value_range: Any) -> None:
    x = RNG.integers(0, 2, (6, 5)).astype(dtype)
    data = load(npy(tmp_path, x))
    assert data.x.dtype == np.dtype(becomes)
    assert data.value_range == value_range
    np.testing.assert_array_equal(data.x, x.astype(becomes))


def test_three_dimensions(tmp_path: Path) -> None:
    assert load(npy(tmp_path, GREY)).x.shape == (6, 1, 8, 9)
    assert load(npy(tmp_path, GREY > 9)).x.shape == (6, 1, 8, 9)
    assert load(npy(tmp_path, GREY), kind="windows").x.shape == (6, 8, 9)
    assert load(npy(tmp_path, GREY / 255)).x.shape == (6, 8, 9)
    assert load(npy(tmp_path, GREY / 255), kind="images").x.shape == (6, 1, 8, 9)


@pytest.mark.parametrize(
    ("shape", "channels", "becomes"),
    [
        ((2, 3, 8, 9), None, (2, 3, 8, 9)),
        ((2, 8, 9, 3), None, (2, 3, 8, 9)),
        ((2, 8, 9, 4), None, (2, 4, 8, 9)),
        ((2, 8, 9, 1), None, (2, 1, 8, 9)),
        ((2, 8, 9, 2), None, (2, 8, 9, 2)),
        ((2, 3, 8, 3), None, (2, 3, 8, 3)),
        ((2, 3, 8, 3), "last", (2, 3, 3, 8)),
        ((2, 8, 9, 3), "first", (2, 8, 9, 3)),
        ((2, 8, 9), None, (2, 1, 8, 9)),
    ],
)
def test_channels(shape: tuple[int, ...], channels: str | None, becomes: tuple[int, ...]) -> None:
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    images = as_images(x, channels)
    assert images.shape == becomes
    assert np.shares_memory(images, x)


def test_npz_forms(tmp_path: Path) -> None:
    y = np.array(["dog", "cat", "dog", "owl", "cat", "cat"])
    data = load(npz(tmp_path, x=VECTORS, y=y))
    assert data.y is not None
    assert (data.y.tolist(), data.n_clusters, data.name) == ([1, 0, 1, 2, 0, 0], 3, "data")
    assert load(npz(tmp_path, anything=VECTORS)).x.shape == (6, 5)
    assert load(npz(tmp_path, x=VECTORS, other=y)).y is None


def test_npz_of_two_parts(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=GREY[:4], y_train=[7, 3, -1, 7], x_test=GREY[4:], y_test=[3, 9])
    everything, train, test = (load(path, split=split) for split in ("all", "train", "test"))
    assert everything.y is not None
    assert train.y is not None
    assert test.y is not None
    np.testing.assert_array_equal(everything.x, GREY[:, None])
    np.testing.assert_array_equal(train.x, GREY[:4, None])
    np.testing.assert_array_equal(test.x, GREY[4:, None])
    assert (everything.y.tolist(), train.y.tolist(), test.y.tolist()) == ([1, 0, -1, 1, 0, 2], [1, 0, -1, 1], [0, 2])
    assert everything.n_clusters == train.n_clusters == test.n_clusters == 3


def test_parts_without_classes(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=GREY[:2], y_train=["b", "a"], x_test=GREY[2:4], x_unlabelled=GREY[4:])
    data = load(path)
    assert data.y is not None
    assert data.y.tolist() == [1, 0, -1, -1, -1, -1]
    assert load(npz(tmp_path, x_train=GREY[:2], x_test=GREY[2:4])).y is None


def test_labels_beside_a_memory_mapped_file(tmp_path: Path) -> None:
    labels = npy(tmp_path, [4, 4, 2, 2, -1, 4], "y.npy")
    data = load(npy(tmp_path, VECTORS), labels=labels)
    assert isinstance(data.x, np.memmap)
    assert data.y is not None
    assert (data.y.tolist(), data.n_clusters) == ([1, 1, 0, 0, -1, 1], 2)
    with pytest.raises(DataError, match="one class for each point"):
        load(npy(tmp_path, VECTORS[:3]), labels=labels)
    with pytest.raises(ParameterError, match="holds the classes itself"):
        load(npz(tmp_path, x=VECTORS, y=np.arange(6)), labels=labels)
    with pytest.raises(DataError, match="must hold one array"):
        load(npy(tmp_path, VECTORS), labels=npz(tmp_path, x=VECTORS, y=np.arange(6)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": VECTORS, "y": np.arange(5)}, r"shape \(5,\); it must be \(6,\)"),
        ({"x": VECTORS, "y": np.linspace(0, 1, 6)}, "no integers"),
        ({"x": VECTORS[:0]}, "empty"),
        ({"x": VECTORS + 1j}, "Complex"),
        ({"x": VECTORS.astype(str)}, "must hold numbers"),
        ({"x": VECTORS.astype(object)}, "pickled"),
        ({"x": VECTORS[0]}, "Reshape your data"),
        ({"x": np.array([[1, 2], [3, 1e308]])}, r"x\[1, 1\] is 1e\+308, which is too large"),
        ({"x": np.array([[1, 2], [np.nan, 4]])}, r"x\[1, 0\] is NaN"),
        ({"a": VECTORS, "b": VECTORS}, r"\['a', 'b'\].*must hold x"),
        ({}, "must hold x"),
        ({"x_train": VECTORS, "x_test": VECTORS[:, :2]}, "do not fit together"),
        ({"x_train": VECTORS, "x_test": VECTORS[:, :2], "y_train": [1]}, r"shape \(1,\)"),
        ({"x_train": VECTORS, "x_test": VECTORS, "y_train": ["a"] * 6, "y_test": range(6)}, "Use one type"),
        (
            {"x_train": VECTORS, "x_test": VECTORS, "y_train": np.zeros(6), "y_test": np.zeros(6, "datetime64[D]")},
            "do not fit together",
        ),
    ],
)
def test_contents_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(npz(tmp_path, **arrays))


def test_options_that_do_not_fit_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kind='windows' needs 3 dimensions"):
        load(npy(tmp_path, VECTORS), kind="windows")
    with pytest.raises(DataError, match="kind='vectors' needs 2 dimensions"):
        load(npy(tmp_path, GREY), kind="vectors")
    with pytest.raises(DataError, match="channels='first' is for images"):
        load(npy(tmp_path, VECTORS), channels="first")
    with pytest.raises(DataError, match="channels='last' is for 4-d images"):
        load(npy(tmp_path, GREY), channels="last")
    with pytest.raises(ParameterError, match="no array x_test"):
        load(npy(tmp_path, VECTORS), split="test")
    with pytest.raises(ParameterError, match="there are 6 points"):
        load(npy(tmp_path, VECTORS), n_samples=7)
    with pytest.raises(DataError, match="needs the classes"):
        load(npy(tmp_path, VECTORS), imbalance="imb1")


def save(path: Path, x: Any) -> None:
    with path.open("wb") as file:  # numpy.save would add a suffix to the name
        np.save(file, x, allow_pickle=True)


def truncated(path: Path) -> None:
    save(path, VECTORS)
    path.write_bytes(path.read_bytes()[:-8])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": 1}))


def objects(path: Path) -> None:
    save(path, np.array([{}, None]))


def header(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00\x20\x00" + b"{'descr': 'zz', 'shape': (1,) }\n")


def enormous(path: Path) -> None:
    save(path, VECTORS)
    path.write_bytes(path.read_bytes().replace(b"(6, 5), }            ", b"(6, 999999999999), } "))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("write", [truncated, pickled, objects, header, enormous, Path.touch, Path.mkdir])
def test_bad_files(tmp_path: Path, write: Any, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    write(path)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_git_lfs_pointer_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    with pytest.raises(DataError, match=r"Git LFS pointer.*git lfs pull"):
        load(path)


def test_bad_archive(tmp_path: Path) -> None:
    path = npz(tmp_path, x=VECTORS)
    whole = bytearray(path.read_bytes())
    whole[150] ^= 0xFF  # in the data: the checksum fails
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match="cannot be read"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "no array")
    with pytest.raises(DataError):
        load(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "none.npy")
    with pytest.raises(DataError, match="does not exist"):
        load("n" * 5000 + ".npy")
    with pytest.raises(DataError, match="does not exist"):
        load("~nobody-of-this-name/x.npy")
    (tmp_path / "table.xlsx").write_text("1,2\n")
    with pytest.raises(DataError, match=r"not read: \.xlsx"):
        load(tmp_path / "table.xlsx")
    with pytest.raises(DataError, match="is a folder"):
        load(tmp_path)


DTYPES = hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes() | hnp.datetime64_dtypes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)),
    y=st.none() | hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)),
    kind=st.sampled_from([None, "images", "windows", "vectors"]),
    channels=st.sampled_from([None, "first", "last"]),
)
def test_any_array_comes_back_or_is_refused(
    tmp_path: Path, x: Array, y: Array | None, kind: str | None, channels: str | None
) -> None:
    path = npy(tmp_path, x) if y is None else npz(tmp_path, x=x, y=y)
    try:
        data = load(path, kind=kind, channels=channels)
    except InputError:
        return
    assert data.x.dtype in KEPT
    assert data.x.size == x.size
    with np.errstate(all="ignore"):
        expected = x.astype(data.x.dtype)
    if x.ndim == data.x.ndim and x.shape == data.x.shape:
        np.testing.assert_array_equal(data.x, expected)
    elif x.ndim == 3:
        np.testing.assert_array_equal(data.x[:, 0], expected)
    else:
        np.testing.assert_array_equal(data.x, np.moveaxis(expected, 3, 1))
    if data.y is not None:
        assert data.y.shape == (len(x),)
        assert data.y.dtype == np.int64


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x80\x04"]))
def test_other_bytes_are_refused(tmp_path: Path, content: bytes, start: bytes) -> None:
    path = tmp_path / "fuzz.npy"
    path.write_bytes(start + content)
    with pytest.raises(DataError):
        load(path)


def test_nan_is_told_at_load_with_its_place(tmp_path: Path) -> None:
    x = RNG.normal(size=(40, 3)).astype(np.float64)
    x[31, 2] = np.nan
    told = r"x contains NaN or inf: x\[31, 2\] is NaN"
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'x.npy'}: ") + told):
        load(npy(tmp_path, x))
    with pytest.raises(DataError, match=told):
        load(npy(tmp_path, x), n_samples=39, seed=1)
    assert load(npy(tmp_path, x[:31])).x.shape == (31, 3)  # a file that has changed is looked at again
    with pytest.raises(DataError, match=r"x_test\[31, 2\] is NaN"):
        load(npz(tmp_path, x_train=x[:5], x_test=x))
    assert load(npz(tmp_path, x_train=x[:5], x_test=x), split="train").x.shape == (5, 3)
    windows = np.moveaxis(np.stack([x, x]), 1, 2)  # (2, 3, 40)
    with pytest.raises(DataError, match=r"x\[0, 2, 31\] is NaN"):
        load(npy(tmp_path, windows))


def test_a_mapped_file_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(arrays, "_is_finite", lambda x: seen.append(x.size) or True)
    data = load(npy(tmp_path, VECTORS.astype(np.float64)))
    check_x(data.x)
    check_x(data.x[::-1])
    check_x(data.x[::2])
    assert seen == [VECTORS.size, VECTORS.size]  # the second is the copy of what runs backwards
