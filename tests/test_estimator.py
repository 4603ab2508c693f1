"""What a scikit-learn user expects of every method: pipelines, searches, tables, coverage, streams."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from distclust import CombinationAssignment, EntropyClustering, MiCE, SelectivePseudoLabel, load, load_model, metrics
from distclust.calibration import Calibration
from distclust.errors import DataError, ParameterError
from distclust.methods.combination import CombinationMember, _Stream

QUICK = {"n_clusters": 3, "n_epochs": 10, "n_rounds": 2}


@pytest.fixture(scope="module")
def fitted(blobs):
    return CombinationAssignment(n_members=3, **QUICK).fit(blobs[0])


# prediction


def test_predict_gives_for_the_fitted_points_what_fit_gave(fitted, blobs):
    assert np.array_equal(fitted.predict(blobs[0]), fitted.labels_)
    assert np.array_equal(fitted.predict_agreement(blobs[0]), fitted.agreement_)
    np.testing.assert_allclose(fitted.predict_proba(blobs[0]).sum(1), 1)


class Fixed:
    """A member whose probabilities are given by the first feature."""

    device = "cpu"

    def __init__(self, table):
        self.table = torch.tensor(table, dtype=torch.float64)

    def predict_proba(self, x):
        return self.table[x[:, 0].long()]


def voting(tables, clusters):
    """A model of such members, which all call the clusters alike."""
    model = CombinationAssignment(n_clusters=len(tables[0][0]), n_members=len(tables))
    model.members_, model.shape_, model.n_features_in_ = [Fixed(t) for t in tables], (2,), 2
    model.names_ = np.tile(np.arange(model.n_clusters), (len(tables), 1))
    model.clusters_ = np.array(clusters)
    model.calibration_ = Calibration()
    return model


POINTS = np.stack([np.arange(4.0), np.ones(4)], axis=1)


def test_a_cluster_that_no_point_had_is_never_given():
    table = [[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [1.0, 0.0, 0.0], [0.0, 0.4, 0.6]]
    model = voting([table], clusters=[1, 2])
    assert model.predict(POINTS).tolist() == [1, 1, 1, 2]
    expected = [[0, 2 / 3, 1 / 3], [0, 7 / 9, 2 / 9], [0, 0.5, 0.5], [0, 0.4, 0.6]]
    np.testing.assert_allclose(model.predict_proba(POINTS), expected)


def test_coverage_keeps_the_points_that_are_agreed_on_then_the_probable_ones():
    one = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]
    two = [[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]  # disagrees on the last point
    model = voting([one, two], clusters=[0, 1])
    whole = model.predict(POINTS)
    assert model.predict(POINTS, coverage=0.75).tolist() == [0, 0, 1, -1]
    assert model.predict(POINTS, coverage=0.5).tolist() == [0, -1, 1, -1]
    assert model.predict(POINTS, coverage=0.01).tolist().count(-1) == 3
    assert np.array_equal(model.predict(POINTS, coverage=1.0), whole)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), share=st.floats(0.01, 1), more=st.floats(0.01, 1))
def test_more_coverage_labels_the_same_points_and_more(seed, share, more):
    tables = np.random.default_rng(seed).dirichlet(np.ones(3), size=(3, 20)).tolist()
    model, x = voting(tables, [0, 1, 2]), np.stack([np.arange(20.0), np.ones(20)], axis=1)
    low, high = sorted((share, more))
    few, many = model.predict(x, coverage=low), model.predict(x, coverage=high)
    assert (few >= 0).sum() == np.ceil(round(low * 20, 9))
    assert np.array_equal(many[few >= 0], few[few >= 0])
    assert np.array_equal(many[many >= 0], model.predict(x)[many >= 0])


@pytest.mark.parametrize("coverage", [0, -0.1, 1.5, float("nan")])
def test_coverage_is_a_share(fitted, blobs, coverage):
    with pytest.raises(ParameterError, match=r"it takes a share in \(0, 1\]"):
        fitted.predict(blobs[0], coverage=coverage)


# latents and scores


def test_latents_are_those_of_all_members_side_by_side(fitted, blobs):
    found = fitted.transform(blobs[0])
    assert found.shape == (300, 3 * 128)
    own = fitted.members_[1].transform(torch.from_numpy(blobs[0])).numpy()
    assert np.array_equal(found[:, 128:256], own)


@pytest.mark.parametrize(
    ("method", "shape"),
    [
        (SelectivePseudoLabel(n_clusters=3, n_members=2, n_rounds=2, labelling="k-means", pretrain_epochs=20), None),
        (EntropyClustering(n_clusters=3, n_members=2, n_epochs=2, n_rounds=1), None),
        (MiCE(n_clusters=3, n_epochs=1, n_rounds=1), (1, 8, 8)),
    ],
    ids=["selective", "entropy", "mice"],
)
def test_every_method_has_latents_a_score_and_names(method, shape, blobs, tmp_path):
    x = blobs[0] if shape is None else np.random.default_rng(0).random((60, *shape)).astype(np.float32)
    model = clone(method).fit(x)
    latents = model.transform(x)
    assert latents.shape == (len(x), len(model.get_feature_names_out()))
    assert -1 <= model.score(x) <= 1
    model.save(tmp_path / "model")
    assert np.array_equal(load_model(tmp_path / "model").transform(x), latents)


def test_the_score_of_several_members_is_their_stability(fitted, blobs):
    rows = np.stack([o.labels for o in fitted.last_round_.outputs])
    assert fitted.score(blobs[0]) == pytest.approx(metrics.stability(rows))


def test_members_without_a_say_lower_the_score(blobs):
    model = CombinationAssignment(n_members=3, **QUICK).fit(blobs[0])
    whole = model.score(blobs[0])
    model.names_[2] = -1
    pair = metrics.stability(model.last_round_.agreement.aligned[:2])
    assert model.score(blobs[0]) == pytest.approx(pair / 3)
    assert model.score(blobs[0]) < whole
    model.names_[1] = -1
    assert model.score(blobs[0]) == 0


def test_the_score_of_a_single_member_is_the_silhouette_of_its_latents(blobs):
    model = CombinationAssignment(**QUICK).fit(blobs[0])
    assert model.score(blobs[0]) == pytest.approx(silhouette_score(model.transform(blobs[0]), model.labels_), abs=1e-6)
    model.clusters_ = np.array([1])
    assert model.score(blobs[0]) == -1


# scikit-learn's machinery


def test_a_pipeline_scales_trains_and_predicts(blobs):
    x = blobs[0] * 1000 + 5
    pipe = make_pipeline(StandardScaler(), CombinationAssignment(scaling="none", **QUICK)).fit(x)
    assert metrics.accuracy(pipe.predict(x), blobs[1]) > 0.9
    assert pipe.transform(x).shape == (300, 128)
    assert pipe.predict(x, coverage=0.5).tolist().count(-1) == 150


def test_a_search_without_labels_finds_the_number_of_groups(blobs):
    search = GridSearchCV(CombinationAssignment(n_members=3, n_epochs=10, n_rounds=2), {"n_clusters": [3, 9]}, cv=2)
    search.fit(blobs[0])
    assert search.best_params_ == {"n_clusters": 3}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_search_takes_images():
    images = load("digits", n_samples=200).x
    search = GridSearchCV(CombinationAssignment(n_members=2, n_epochs=2, n_rounds=1), {"sigma": [1.0, 100.0]}, cv=2)
    search.fit(images)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(images).shape == (200,)


def test_tables_go_in_and_come_out(blobs):
    table = pd.DataFrame(blobs[0], columns=[f"sensor {i}" for i in range(8)])
    model = CombinationAssignment(**QUICK).set_output(transform="pandas").fit(table)
    assert model.feature_names_in_.tolist() == list(table.columns)
    latents = model.transform(table)
    assert list(latents.columns[:2]) == ["combinationassignment0", "combinationassignment1"]
    assert np.array_equal(model.predict(table), CombinationAssignment(**QUICK).fit(blobs[0]).labels_)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table.rename(columns={"sensor 0": "other"}))


# streams


def stream(x, n_parts, seed=0):
    return np.array_split(x[np.random.default_rng(seed).permutation(len(x))], n_parts)


@pytest.mark.parametrize("n_members", [1, 3])
def test_a_stream_finds_the_groups(blobs, n_members):
    model = CombinationAssignment(n_clusters=3, n_members=n_members)
    for part in stream(np.concatenate([blobs[0]] * 10), 30):
        assert model.partial_fit(part) is model
        assert model.labels_.shape == model.agreement_.shape == (len(part),)
    assert metrics.accuracy(model.predict(blobs[0]), blobs[1]) > 0.95
    assert model.clusters_.tolist() == [0, 1, 2]


def test_clusters_keep_their_names_along_a_stream_even_when_some_are_missing(blobs):
    model = CombinationAssignment(n_clusters=3, n_members=3)
    for part in stream(np.concatenate([blobs[0]] * 10), 10):
        model.partial_fit(part)
    before = model.predict(blobs[0])
    for group in range(3):
        model.partial_fit(blobs[0][blobs[1] == group][:20])
    assert (model.predict(blobs[0]) == before).mean() > 0.95


def test_a_stream_goes_on_after_fit_and_fit_begins_anew(blobs):
    model = CombinationAssignment(n_members=2, **QUICK).fit(blobs[0])
    first = model.labels_
    model.partial_fit(blobs[0][:100])
    assert (model.predict(blobs[0]) == first).mean() > 0.95
    assert np.array_equal(model.fit(blobs[0]).labels_, first)


def test_the_same_stream_gives_the_same_model_saved_or_not(blobs, tmp_path):
    one, two = (CombinationAssignment(n_clusters=3, n_members=2) for _ in range(2))
    for part in stream(blobs[0], 3):
        one.partial_fit(part)
        two.partial_fit(part)
    assert np.array_equal(one.predict_proba(blobs[0]), two.predict_proba(blobs[0]))
    one.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert np.array_equal(loaded.predict(blobs[0]), one.predict(blobs[0]))
    loaded.partial_fit(blobs[0])
    assert metrics.accuracy(loaded.labels_, one.predict(blobs[0])) > 0.9


def test_a_stream_is_learned_with_one_thread_whatever_is_set(blobs, monkeypatch):
    seen, learn, before = [], CombinationMember.learn, torch.get_num_threads()

    def watched(*arguments):
        seen.append(torch.get_num_threads())
        return learn(*arguments)

    monkeypatch.setattr(CombinationMember, "learn", watched)
    torch.set_num_threads(2)
    try:
        CombinationAssignment(n_clusters=3).partial_fit(blobs[0])
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_a_stream_needs_points_of_one_shape(blobs):
    model = CombinationAssignment(n_clusters=3).partial_fit(blobs[0])
    with pytest.raises(DataError, match="expecting 8 features"):
        model.partial_fit(blobs[0][:, :5])
    with pytest.raises(ParameterError, match="more clusters than points"):
        CombinationAssignment(n_clusters=30).partial_fit(blobs[0][:20])


def test_names_along_a_stream():
    names = _Stream(np.array([[1, 0], [0, 1], [0, 1]]))
    first, swapped = np.array([0, 0, 1]), np.array([1, 1, 0])
    assert names.names([first, swapped, None], [True] * 3).tolist() == [[1, 0], [0, 1], [-1, -1]]
    assert names.names([first, swapped, first], [True] * 3).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert names.names([None, swapped, first], [True] * 3).tolist() == [[-1, -1], [0, 1], [1, 0]]
    assert names.names([None, None, None], [True] * 3).tolist() == [[-1, -1]] * 3


def test_a_member_that_gives_one_label_for_long_loses_its_say_and_gets_it_back():
    names, mixed, one = _Stream(np.array([[0, 1]])), np.array([0, 1]), np.zeros(2, np.int64)
    said = (
        [names.names([mixed], [True] * 1)]
        + [names.names([one], [True] * 1) for _ in range(8)]
        + [names.names([mixed], [True] * 1)]
    )
    assert [row[0, 0] for row in said] == [0] * 5 + [-1] * 4 + [0]


def test_a_stream_out_of_all_bounds_says_so(blobs):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        CombinationAssignment(n_clusters=3, learning_rate=1e30).partial_fit(blobs[0])
