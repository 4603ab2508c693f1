"""Reference data and resampling: against obvious twins, and where they stand among the other options."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust.contracts import Dataset
from distclust.data import load
from distclust.data import points as points_module
from distclust.data.points import resampled
from distclust.data.reference import alike, reference_of, shuffled
from distclust.errors import DataError, ParameterError
from distclust.seeding import generator

KINDS = ("gaussian", "uniform", "shuffled")


def naive_alike(x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Mix the numbers by the root of the covariance: the same distribution, one entry after the other."""
    mean = [float(np.mean(column)) for column in x.T]
    covariance = np.zeros((x.shape[1],) * 2)
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            covariance[i, j] = np.mean((x[:, i] - mean[i]) * (x[:, j] - mean[j]))
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1]  # as singular values are sorted
    return numbers * np.sqrt(values[order].clip(min=0)) @ vectors[:, order].T + mean


def data(x: np.ndarray) -> Dataset:
    return Dataset("data", x, np.zeros(len(x), dtype=np.int64), 3, (0.0, 9.0))


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_references_have_the_covariance_of_the_data_as_a_naive_twin_has(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200_000, 3)) @ rng.normal(size=(3, 3)) + [1, -5, 30]).astype(np.float32)
    found = reference_of(data(x), kind, seed=4).x
    twin = naive_alike(x, generator(9, "twin").standard_normal(x.shape))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), twin.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(found.T), np.cov(twin.T), atol=0.05)


def test_a_gaussian_reference_is_the_naive_twin_up_to_the_signs_of_the_axes() -> None:
    x = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32) * [4, 3, 2, 1]
    numbers = np.random.default_rng(2).normal(size=(50, 4))
    found = alike(x, lambda rng, shape: numbers, np.random.default_rng(0)).astype(np.float64)
    twin = naive_alike(x, numbers)
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    ours, theirs = (points - x.mean(0) for points in (found, twin))
    np.testing.assert_allclose(np.abs(ours @ axes.T), np.abs(theirs @ axes.T), atol=1e-4)


def test_two_groups_along_one_feature_are_gone_from_all_references_but_the_shuffled_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 2)).astype(np.float32)
    x[:1000, 0] += 20
    between = {kind: (np.abs(reference_of(data(x), kind, 0).x[:, 0] - 10) < 4).mean() for kind in KINDS}
    assert between["shuffled"] == (np.abs(x[:, 0] - 10) < 4).mean() == 0
    assert between["gaussian"] > 0.2
    assert between["uniform"] > 0.2


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6)),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_shuffling_keeps_every_features_values_type_and_range(x: np.ndarray, seed: int, draw: int) -> None:
    found = reference_of(data(x), "shuffled", seed, draw)
    assert found.x.dtype == x.dtype
    assert found.value_range == (0.0, 9.0)
    np.testing.assert_array_equal(np.sort(found.x, axis=0), np.sort(x, axis=0))


def test_shuffling_against_a_twin_that_permutes_one_feature_after_the_other() -> None:
    x = np.arange(60_000).reshape(20_000, 3)
    found = shuffled(x, np.random.default_rng(0))
    twin = np.stack([np.random.default_rng(k).permutation(column) for k, column in enumerate(x.T)], axis=1)
    for points in (found, twin):  # the features have nothing to do with each other any more
        assert np.abs(np.corrcoef(points.T) - np.eye(3)).max() < 0.05
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(twin, axis=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(30, 4), (30, 1, 4, 5), (5, 2, 9)])
def test_shape_stays_and_no_class_does(kind: str, shape: tuple[int, ...]) -> None:
    found = reference_of(data(np.random.default_rng(0).random(shape)), kind, seed=1)
    assert found.x.shape == shape  # with more features than points, too
    assert (found.y, found.n_clusters, found.rows) == (None, None, None)
    assert found.name == f"data, {kind} reference"
    assert np.isfinite(found.x).all()


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_and_draw_same_bytes(kind: str) -> None:
    first, again, seed, draw = (
        load("digits", n_samples=100, reference=kind, **options)
        for options in ({}, {}, {"seed": 1}, {"reference_draw": 1})
    )
    assert first.x.tobytes() == again.x.tobytes()
    assert first.x.tobytes() != draw.x.tobytes()
    assert first.x.tobytes() != seed.x.tobytes()


def test_constant_features_stay_constant() -> None:
    x = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    x[:, 1] = 7
    for kind in KINDS:
        np.testing.assert_allclose(reference_of(data(x), kind, 0).x[:, 1], 7, rtol=1e-6)


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=50)
def test_resampling_keeps_a_share_in_order_and_says_which(n: int, share: float, seed: int, draw: int) -> None:
    x = np.arange(n, dtype=np.float32)[:, None]
    whole = Dataset("data", x, np.arange(n, dtype=np.int64), n)
    found = resampled(whole, share, seed, draw)
    assert found.rows is not None
    assert found.y is not None
    assert len(found.x) == max(2, round(share * n))
    assert sorted(set(found.rows.tolist())) == found.rows.tolist()
    np.testing.assert_array_equal(found.x, x[found.rows])
    np.testing.assert_array_equal(found.y, found.rows)
    again = resampled(whole, share, seed, draw)
    assert again.rows is not None
    assert again.rows.tobytes() == found.rows.tobytes()


def test_draws_differ_and_together_hold_all_points() -> None:
    draws = [load("digits", resample=0.8, resample_draw=draw).rows for draw in range(12)]
    rows = [row for row in draws if row is not None]
    assert {len(row) for row in rows} == {round(0.8 * 1797)}
    assert len({row.tobytes() for row in rows}) == 12
    assert len(np.unique(np.concatenate(rows))) == 1797


def test_a_reference_is_drawn_after_imbalance_and_subset_and_before_resampling() -> None:
    options: dict[str, Any] = {"imbalance": "imb3", "n_samples": 300, "seed": 2}
    some = load("digits", **options)
    whole = load("digits", **options, reference="shuffled")
    np.testing.assert_array_equal(np.sort(whole.x, axis=0), np.sort(some.x, axis=0))
    found = load("digits", **options, reference="shuffled", resample=0.5, resample_draw=3)
    assert found.rows is not None
    assert len(found.x) == 150
    np.testing.assert_array_equal(found.x, whole.x[found.rows])
    assert load("digits").rows is None


def test_made_data_and_files_have_references_too(tmp_path: Any) -> None:
    assert load("moons", n_samples=50, reference="uniform").y is None
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((20, 3)))
    found = load(tmp_path / "x.npy", reference="gaussian", resample=0.5)
    assert found.x.shape == (10, 3)


def test_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError) as caught:
        load("digits", reference="normal", resample=1, reference_draw=-1, resample_draw=0.5)
    assert len(caught.value.faults) == 4
    assert "resample is 1; it must be a number between 0 and 1, or None." in caught.value.faults
    with pytest.raises(DataError, match="at least 2 points"):
        load("digits", n_samples=1, resample=0.5)
    monkeypatch.setattr(points_module, "_memory", lambda: 1000.0)
    with pytest.raises(DataError, match="n_samples"):
        load("digits", reference="gaussian")


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "shuffled"])
def test_float64_stays_and_keeps_what_float32_would_round_away(kind):
    x = 1_700_000_000 + 60 * np.random.default_rng(0).normal(size=(400, 3))
    found = reference_of(Dataset("times", x), kind, 0).x
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.std(0), x.std(0), rtol=0.2)
    assert len(np.unique(found)) == found.size
