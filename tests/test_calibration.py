"""Probabilities of several members are held against one another: found temperatures, properties, a slow twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from distclust import CombinationAssignment, DistclustError, load, load_model
from distclust.calibration import Calibration, calibrate, tempered


@pytest.mark.parametrize(("scale", "low", "high"), [(0.1, 0.0, 0.5), (30.0, 2.0, 100.0)])
def test_hesitant_members_are_sharpened_and_boastful_ones_softened(scale, low, high):
    rng = np.random.default_rng(1)
    common = 2.5 * rng.normal(size=(1000, 6))
    p = np.stack([softmax(scale * (common + rng.normal(size=common.shape)), axis=-1) for _ in range(5)])
    found = calibrate(p)
    assert low < found.temperature < high
    assert abs(found.calibrated - found.observed) < 0.03 < abs(found.uncalibrated - found.observed)


def test_what_is_found_is_what_the_slow_twin_counts():
    p = np.random.default_rng(2).dirichlet(np.full(4, 0.3), size=(3, 50))
    found = calibrate(p)
    sure, hits = {1.0: [], found.temperature: []}, []
    for m in range(3):
        for n in range(50):
            for temperature, values in sure.items():
                mean = np.mean([softmax(np.log(p[o, n]) / temperature) for o in range(3) if o != m], axis=0)
                values.append(mean.max())
            hits.append(mean.argmax() == p[m, n].argmax())
    assert found.uncalibrated == pytest.approx(np.mean(sure[1.0]))
    assert found.calibrated == pytest.approx(np.mean(sure[found.temperature]))
    assert found.observed == pytest.approx(np.mean(hits))
    assert found.calibrated == pytest.approx((150 * found.observed + 1) / 152, abs=0.01)


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.05, 3))
def test_members_become_as_sure_as_they_agree(seed, n_members, concentration):
    """Drawn alike, so that nobody is in a better place; but for what no temperature can reach."""
    rng = np.random.default_rng(seed)
    common = rng.dirichlet(np.full(4, concentration), size=300)
    p = np.stack([tempered(common * rng.gamma(2, size=common.shape) + 1e-9, 1.0) for _ in range(n_members)])
    found = calibrate(p)
    if 0.0101 < found.temperature < 99:
        assert found.calibrated == pytest.approx(found.observed, abs=0.02)


@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_a_temperature_changes_no_order(seed, temperature):
    p = np.random.default_rng(seed).dirichlet(np.ones(5), size=7)
    found = tempered(p, temperature)
    assert np.allclose(found.sum(-1), 1)
    assert (found.argmax(-1) == p.argmax(-1)).all()
    assert np.allclose(tempered(p, 1.0), p)


def test_zeros_stay_zeros():
    assert np.array_equal(tempered([[0.0, 0.0], [0.0, 1.0]], 100.0), [[0, 0], [0, 1]])


@pytest.mark.parametrize("shape", [(0, 5, 3), (1, 5, 3), (4, 0, 3)])
def test_who_has_nobody_to_be_held_against_is_left_as_he_is(shape):
    found = calibrate(np.full(shape, 1 / 3))
    assert (found.temperature, found.n_points) == (1.0, 0)


def test_members_that_agree_on_everything_are_not_taken_to_be_certain():
    p = np.tile(softmax(2 * np.eye(4)[np.arange(200) % 4], axis=-1), (3, 1, 1))
    found = calibrate(p)
    assert 0.99 < found.calibrated < 1
    assert found.observed == 1


@pytest.mark.parametrize(
    "p", [np.ones((2, 3)), np.full((2, 3, 2), np.nan), np.full((2, 3, 2), 0.7), -np.ones((2, 1, 1))]
)
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(DistclustError, match=r"\(M, N, K\)"):
        calibrate(p)


@pytest.fixture(scope="module")
def fitted():
    x = load("digits", n_samples=400).x
    return x, CombinationAssignment(n_clusters=10, n_members=3, n_rounds=1, n_epochs=4).fit(x)


def test_a_model_says_how_often_another_member_agrees(fitted):
    x, model = fitted
    found = model.calibration_
    assert found.n_points == 400
    assert abs(found.calibrated - found.observed) < 0.05
    raw = model.posteriors(x)
    assert np.allclose(model.predict_proba(x), tempered(raw, found.temperature).mean(0))
    votes = raw.argmax(-1)
    assert (model.predict_agreement(x) == (votes == model.predict(x)).mean(0)).all()


def test_a_saved_model_keeps_its_temperature(fitted, tmp_path):
    x, model = fitted
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.calibration_ == model.calibration_
    assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))


def test_a_single_member_is_left_as_it_is():
    x = load("blobs").x
    model = CombinationAssignment(n_clusters=3, n_rounds=1, n_epochs=2).fit(x)
    assert model.calibration_.temperature == 1
    assert np.allclose(model.predict_proba(x), model.posteriors(x)[0])
    assert str(model.calibration_) == str(Calibration())
