"""How far labels can be used: each rule on evidence made by hand, and whole runs on data with groups and without."""

from dataclasses import replace

import numpy as np
import pytest

import distclust
from distclust import CombinationAssignment, EntropyClustering, verdict
from distclust.baselines import Baseline
from distclust.contracts import Dataset
from distclust.data.reference import reference_of
from distclust.errors import DataError
from distclust.verdict import RULES, Evidence, decide, judge

POINTS = verdict._MOST_POINTS
TWO = np.repeat([0, 1], 50)
UNEVEN = np.repeat([0, 1], [90, 10])


@pytest.fixture(autouse=True)
def _as_a_user(monkeypatch):
    monkeypatch.setattr(verdict, "_MOST_POINTS", POINTS)


def baseline(labels, gap, stability=1.0, chance=0.4):
    return Baseline("k-means", np.stack([labels] * 3), stability, np.full(int(labels.max()) + 1, gap), chance)


def evidence(**changes):
    """Return what a good ensemble shows, changed."""
    good = Evidence(
        n_clusters=2,
        members=3,
        voters=3,
        collapsed=0,
        seats=3,
        rows=np.arange(100),
        labels=TWO,
        stability=0.95,
        independent=0.95,
        separation=np.array([0.9, 0.9]),
        baselines=[baseline(TWO, 0.9)],
    )
    return replace(good, **changes)


NONE = np.zeros(2)  # no gaps


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("good", "good", {}),
        ("no labels", "do not use", {"voters": 0, "labels": np.full(100, -1), "separation": np.full(2, np.nan)}),
        ("collapsed", "do not use", {"voters": 1, "collapsed": 2}),
        ("collapsed", "do not use", {"voters": 2, "members": 5, "seats": 5}),
        ("collapsed", "do not use", {"labels": np.zeros(100, int), "separation": np.full(2, np.nan)}),
        ("chance", "do not use", {"separation": NONE, "independent": 0.5}),
        ("chance", "do not use", {"separation": NONE, "independent": 0.99, "baselines": [baseline(TWO, 0, 0.99, 1.0)]}),
        ("chance", "do not use", {"separation": NONE, "independent": 0.99, "baselines": [baseline(TWO, 0, 0.5, 0.4)]}),
        ("overlapping", "with care", {"separation": NONE, "baselines": [baseline(TWO, 0, 0.5, 0.4)], "vectors": False}),
        ("chance", "do not use", {"separation": NONE, "independent": 0.3, "stability": 0.99}),
        ("uneven", "do not use", {"separation": NONE, "baselines": [baseline(UNEVEN, 0.9)]}),
        ("uneven", "do not use", {"separation": NONE, "independent": 0.2, "baselines": [baseline(UNEVEN, 0.9)]}),
        ("units", "with care", {"mixed_units": (3, 1000)}),
        ("unstable", "with care", {"stability": 0.4, "independent": 0.4, "baselines": []}),
        ("beaten", "with care", {"separation": NONE, "baselines": [baseline(np.arange(100) % 2, 0.9)]}),
        ("beaten", "with care", {"separation": np.array([0.9, 0.2]), "independent": 0.8}),
        ("single", "with care", {"members": 1, "seats": 1, "voters": 1, "stability": np.nan, "independent": np.nan}),
        ("overlapping", "with care", {"separation": np.array([0.05, 0.0]), "baselines": []}),
        ("good", "good", {"separation": np.array([0.9, 0.05]), "baselines": []}),
        ("good", "good", {"baselines": []}),
    ],
)
def test_each_rule_decides_its_case(name, level, changes):
    found = decide(evidence(**changes))
    assert (found.name, found.level) == (name, level)
    assert found.line.startswith(
        {"good": "Good: ", "with care": "Use ", "do not use": "Do not use these labels"}[level]
    )
    assert "nan" not in found.line


def test_every_rule_has_a_case_and_the_last_always_applies():
    assert list(RULES) == [
        *("no labels", "collapsed", "uneven", "chance", "units", "beaten", "unstable", "single", "overlapping", "good")
    ]


def test_a_baseline_that_is_unsure_or_agrees_contradicts_nothing():
    for one in (baseline(UNEVEN, 0.9, stability=0.85), baseline(UNEVEN, 0.3), baseline(TWO, 0.9)):
        assert decide(evidence(separation=NONE, baselines=[one])).name == "overlapping"


def test_uneven_shares_are_offered_to_the_method_that_expects_equal_ones():
    found = decide(evidence(separation=NONE, baselines=[baseline(UNEVEN, 0.9)], equal_shares="prior"))
    assert "prior=[0.9,0.1]" in found.advice


def two_groups(sizes, distance=30.0, n_features=6):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((sum(sizes), n_features))
    x[sizes[0] :] += distance / np.sqrt(n_features)
    return x.astype(np.float32)


QUICK = {
    CombinationAssignment: {"n_epochs": 8, "n_rounds": 2, "n_members": 3},
    EntropyClustering: {"n_epochs": 8, "n_rounds": 2, "n_members": 3},
}


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("sizes", [[990, 10], [900, 100]])
def test_methods_of_equal_shares_say_that_groups_are_uneven(method, sizes):
    x = two_groups(sizes)
    model = method(n_clusters=2, **QUICK[method]).fit(x)
    found = judge(model, x)
    right = np.repeat([0, 1], sizes)
    if distclust.metrics.adjusted_rand_index(model.labels_, right) > 0.9:
        assert found.level != "do not use"
    else:
        assert found.level == "do not use"
        assert f"{model.shares_parameter}=[{sizes[0] / 1000:g},{sizes[1] / 1000:g}]" in found.advice


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_noise_is_not_to_be_used_and_groups_are(blobs, kind):
    model = CombinationAssignment(n_clusters=3, **QUICK[CombinationAssignment])
    assert judge(model.fit(blobs[0]), blobs[0]).name == "good"
    noise = reference_of(Dataset("blobs", blobs[0]), kind, 0).x
    found = judge(model.fit(noise), noise)
    assert found.level == "do not use"
    assert found.evidence.n_separated == 0


def test_repeated_rows_are_seen_once(blobs):
    x = np.repeat(np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32), 5, axis=0)
    model = CombinationAssignment(n_clusters=3, **QUICK[CombinationAssignment]).fit(x)
    found = judge(model, x)
    assert len(found.evidence.rows) == 100
    assert found.level != "good"


def test_clusters_that_follow_a_mistake_of_units_are_not_called_good():
    x = np.random.default_rng(0).standard_normal((600, 4)) + 5
    x[::3, 2] *= 1000
    model = CombinationAssignment(n_clusters=2, prior=(1 / 3, 2 / 3), **QUICK[CombinationAssignment]).fit(x)
    found = judge(model, x)
    assert found.level != "good"
    if distclust.metrics.adjusted_rand_index(model.labels_, (np.arange(600) % 3 == 0).astype(int)) > 0.9:
        assert found.evidence.mixed_units == (2, 1000)
        assert found.name == "units"


def test_the_verdict_is_the_same_again_and_reads_no_class(blobs):
    model = CombinationAssignment(n_clusters=3, **QUICK[CombinationAssignment]).fit(blobs[0])
    first, again = judge(model, blobs[0]), judge(model, blobs[0])
    assert first.line == again.line
    np.testing.assert_array_equal(first.evidence.separation, again.evidence.separation)


def test_other_data_than_was_fitted_is_refused(blobs):
    model = CombinationAssignment(n_clusters=3, **QUICK[CombinationAssignment]).fit(blobs[0])
    with pytest.raises(DataError, match="Give the data it was fitted on"):
        judge(model, blobs[0][:50])
