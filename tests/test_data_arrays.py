import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.estimator_checks import check_estimator

from distclust.data import arrays as module
from distclust.data import check_x, windows
from distclust.data.arrays import class_indices, known_classes
from distclust.errors import DataError, InputError

X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.astype(np.float16),
        X.astype(np.int16),
        X.astype(np.uint16),
        X.astype(">f4"),
        torch.tensor(X),
        pd.DataFrame(X),
    ],
    ids=["float32", "float16", "int16", "uint16", "big-endian", "tensor", "frame"],
)
def test_numbers_that_float32_holds_become_float32(x: Any) -> None:
    checked = check_x(x)
    assert checked.dtype == np.dtype("float32")
    np.testing.assert_array_equal(checked, X)


@pytest.mark.parametrize(
    "x",
    [
        *(X.astype(kind) for kind in (np.float64, ">f8", np.longdouble, np.int32, np.uint64, object)),
        *(X.tolist(), X.astype(int).tolist(), torch.tensor(X).double()),
    ],
)
def test_all_other_numbers_become_float64(x: Any) -> None:
    checked = check_x(x)
    assert checked.dtype == np.dtype("float64")
    np.testing.assert_array_equal(checked, X)


MINUTES = 1_700_000_000 + 60 * np.arange(6)


def test_what_float32_would_round_away_is_kept() -> None:
    np.testing.assert_array_equal(np.diff(check_x(MINUTES[:, None])[:, 0]), 60)  # unix times
    degrees = 52.5 + 1e-5 * np.arange(4)[:, None]
    assert check_x(degrees) is not None
    np.testing.assert_array_equal(check_x(degrees), degrees)
    np.testing.assert_array_equal(check_x(1e-9 * X.astype(np.float64)), 1e-9 * X.astype(np.float64))


def test_integers_that_float64_cannot_tell_apart_are_refused() -> None:
    moments = MINUTES[:, None] * 1_000_000_000
    assert check_x(moments)[1, 0] - check_x(moments)[0, 0] == 6e10  # nanoseconds: rounded, none is lost
    for close in (moments + np.arange(6)[:, None] % 2, X.astype(np.longdouble) + np.longdouble(2) ** -62 * (X % 2)):
        assert (check_x(close - close.min()) >= 0).all()
        assert check_x(close.astype(np.float64)).dtype == np.float64
    with pytest.raises(DataError, match=r"6 different values, of which float64 tells only 3 apart.*X\.min\(axis=0\)"):
        check_x(2**60 + np.arange(6)[:, None] // 2 * 256 + np.arange(6)[:, None] % 2)
    with pytest.raises(DataError, match="too large for float64"):
        check_x(np.array([[np.longdouble(10) ** 400, 2]]))


@pytest.mark.parametrize("n_bits", [64, 32])
def test_constant_is_relative_to_size_and_precision(n_bits: int) -> None:
    dtype = np.dtype(f"float{n_bits}")
    for size in (1e-30, 1.0, 1e30):
        value = dtype.type(size)
        noisy = np.array([[value], [np.nextafter(value, dtype.type(np.inf))]])
        with pytest.raises(DataError, match="constant"):
            check_x(noisy)
        assert check_x(noisy * (1 + 8 * np.arange(2, dtype=dtype)[:, None] * np.finfo(dtype).eps)).dtype == dtype


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-1], np.s_[::-2, ::-1]])
def test_views_that_run_backwards_are_copied(view: Any) -> None:
    for x in (X, X.astype(np.uint8), X.astype(np.float64)):
        checked = check_x(x[view])
        np.testing.assert_array_equal(checked, x[view])
        torch.from_numpy(checked)
    images = np.arange(48, dtype=np.uint8).reshape(2, 2, 3, 4)
    np.testing.assert_array_equal(
        torch.from_numpy(check_x(np.rot90(images, axes=(2, 3)))), np.rot90(images, axes=(2, 3))
    )


def test_a_field_of_a_record_is_copied() -> None:
    records = np.zeros((4, 3), dtype=[("flag", "u1"), ("value", "f4")])
    records["value"] = X
    torch.from_numpy(check_x(records["value"]))  # its strides are no whole numbers of values


def test_other_types() -> None:
    assert check_x(X.astype(np.uint8)).dtype == np.uint8
    assert check_x(X > 3).dtype == np.uint8
    assert check_x(torch.tensor(X, dtype=torch.bfloat16, requires_grad=True)).dtype == np.float32
    assert check_x(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})).tolist() == [[1, 0.5], [2, 1.5]]


def test_right_type_is_not_copied(tmp_path: Path) -> None:
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert np.shares_memory(check_x(tensor), tensor.numpy())
    assert np.shares_memory(check_x(X[:, ::2]), X)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert check_x(mapped) is mapped
    assert np.shares_memory(check_x(x := X.astype(np.float64)[:, ::2]), x)
    assert check_x(X.astype(np.int32)[:, ::2]).flags.c_contiguous


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.float32(3), "Expected 2D array.*scalar"),
        (X[0], "Expected 2D array.*Reshape your data"),
        (np.zeros((1, 1, 1, 1, 1)), "5 dimensions"),
        (X[:0], r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
        (X[:, :0], r"0 feature\(s\) \(shape=\(4, 0\)\) while a minimum of 1 is required\."),
        (X + 1j, "Complex data not supported"),
        (np.array([["a", "b"]]), "must hold numbers"),
        (np.array([["1", "2"]], dtype=object), "holds strings"),
        (np.array([[1 + 1j, 2]], dtype=object), "no numbers"),
        (np.array([[None, 2]], dtype=object), "NaN"),
        (np.array([[10**400, 2]], dtype=object), "no numbers"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), "must hold numbers"),
        ([[1, 2], [3]], "cannot be read as an array"),
        (np.full((3, 2), 7.0), "constant: every value is 7"),
        (np.zeros((3, 2, 4, 4), dtype=np.uint8), "constant: every value is 0"),
        (np.array([[1e308, 2]]), r"X\[0, 0\] is 1e\+308, which is too large"),
        (scipy.sparse.csr_matrix(X), r"sparse.*\.toarray\(\)"),
        (torch.tensor(X).to_sparse(), r"sparse.*\.to_dense\(\)"),
        (torch.tensor(X, device="meta"), r"on meta.*\.cpu\(\)"),
        (np.ma.masked_less(X, 3), "masked"),
    ],
)
def test_refused(x: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its sparse tensors are in beta
        with pytest.raises(DataError, match=message):
            check_x(x)


@pytest.mark.parametrize(("value", "told"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_first_place_that_is_not_finite(value: float, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 24)  # blocks of 2 rows
    x = np.random.default_rng(0).normal(size=(9, 3, 4))
    x[5, 2, 1] = x[7, 0, 0] = value
    with pytest.raises(DataError, match=rf"pixels\[5, 2, 1\] is {told}"):
        check_x(x, "pixels")


def test_constant_is_fine_for_prediction() -> None:
    assert check_x(np.zeros((1, 3)), allow_constant=True).shape == (1, 3)


def test_objects_that_are_no_numbers_are_a_type_error_too() -> None:
    with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
        check_x(np.array([[{"a": 1}, 2.0]], dtype=object))


def test_overlapping_windows_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    x = windows(recording, 50, 1)
    seen: list[int] = []
    monkeypatch.setattr(module, "_is_finite", lambda x: seen.append(x.size) or True)
    assert check_x(x) is x
    assert seen == [200]


def test_overlapping_windows_beside_a_gap_are_fine() -> None:
    recording = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    recording[10, 1] = np.nan
    x = windows(recording, 50, 1)
    assert check_x(x[11:]).shape == (40, 2, 50)
    with pytest.raises(DataError, match=r"X\[0, 1, 10\] is NaN"):
        check_x(x)


class Door(ClusterMixin, BaseEstimator):
    """An estimator that does little more than to check its data."""

    def fit(self, X: Any, y: Any = None) -> "Door":
        x = check_x(X)
        if x.ndim != 2 or len(x) < 2:
            raise ValueError("needs more than n_samples = 1 in two dimensions")
        self.labels_ = (x[:, 0] > np.median(x[:, 0])).astype(np.int64)
        self.n_features_in_ = x.shape[1]
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        return self

    def fit_predict(self, X: Any, y: Any = None) -> Any:
        return self.fit(X).labels_


def test_scikit_learns_own_contract() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's notes on checks that it skips
        results = check_estimator(Door(), on_fail=None, on_skip=None)
    failed = {result["check_name"]: repr(result["exception"]) for result in results if result["status"] == "failed"}
    assert failed == {}


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        dtype=hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | st.just(np.dtype(object)),
        shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    )
)
def test_any_array_comes_through_or_is_refused(x: Any) -> None:
    try:
        checked = check_x(x)
    except InputError:
        return
    assert checked.dtype in module.KEPT
    assert checked.shape == x.shape
    np.testing.assert_array_equal(checked, x.astype(checked.dtype))


@pytest.mark.parametrize(
    ("y", "labels", "n_clusters"),
    [
        ([5, -1, 3, 5], [1, -1, 0, 1], 2),
        ([-7, -1, 3, 5], [0, -1, 1, 2], 3),
        ([2.0, -1.0, 0.0, 2.0], [1, -1, 0, 1], 2),
        (["b", "a", "-1", "b"], [2, 1, 0, 2], 3),
        ([True, False, True, True], [1, 0, 1, 1], 2),
        ([[1], [2], [1], [2]], [0, 1, 0, 1], 2),
        ([-1, -1, -1, -1], [-1, -1, -1, -1], None),
    ],
)
def test_classes_are_counted_in_sorted_order(y: Any, labels: list[int], n_clusters: int | None) -> None:
    got, n = class_indices(np.array(y), 4)
    assert got.dtype == np.int64
    assert got.tolist() == labels
    assert n == n_clusters


def test_large_unsigned_classes() -> None:
    assert class_indices(np.array([2**64 - 1, 0], dtype=np.uint64), 2)[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 2], r"shape \(2,\).*must be \(3,\)"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], r"shape \(3, 3\)"),
        ([1.5, 1, 2], "no integers"),
        ([np.nan, 1, 2], "no integers"),
        ([1j, 1, 2], "complex"),
    ],
)
def test_classes_refused(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_indices(np.array(y), 3)


def test_known_classes() -> None:
    assert known_classes(np.array([0, 9, -1]), 3, 10).tolist() == [0, 9, -1]
    for y in ([0, 10, 1], [0, -2, 1]):
        with pytest.raises(DataError, match="must be 0 to 9"):
            known_classes(np.array(y), 3, 10)
    with pytest.raises(DataError, match="strings"):
        known_classes(np.array(["a", "b"]), 2, 10)
