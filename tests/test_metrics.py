import math
import time
import tracemalloc
import warnings
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from distclust import matching, metrics
from distclust.errors import DataError, ParameterError

TEN = np.repeat(np.arange(10), 7)  # 10 equal classes


def labels_of(size, least=-1, most=4):
    return st.lists(st.integers(least, most), min_size=size, max_size=size)


@st.composite
def pairs(draw, least_label=-1, least_class=-1):
    """Labels and classes of the same points, at least one class known."""
    size = draw(st.integers(1, 12))
    labels, y = draw(labels_of(size, least_label)), draw(labels_of(size, least_class, 3))
    y[0] = max(y[0], 0)
    return np.array(labels), np.array(y)


def one_more_cluster(labels):
    return np.where(labels < 0, 99, labels)


def slow_accuracy(labels, y):
    """The best over all ways to give clusters names of classes, spare names on either side."""
    known = y >= 0
    labels, y = labels[known], y[known]
    n_names = 5  # of clusters and classes at most
    best = 0
    for names in permutations(range(n_names)):
        best = max(best, sum(a >= 0 and names[a] == b for a, b in zip(labels, y, strict=True)))
    return best / len(y)


def slow_contingency(a, b):
    table = np.zeros((max(a) + 1, max(b) + 1), dtype=int)
    for row, column in zip(a, b, strict=True):
        if row >= 0 and column >= 0:
            table[row, column] += 1
    return table


# with true classes


@given(pairs())
def test_contingency_against_a_slow_twin(pair):
    np.testing.assert_array_equal(metrics.contingency(*pair), slow_contingency(*pair))


@given(pairs())
def test_accuracy_against_a_slow_twin(pair):
    assert metrics.accuracy(*pair) == pytest.approx(slow_accuracy(*pair))


@given(pairs())
def test_nmi_and_ari_against_scikit_learn(pair):
    labels, y = pair
    clusters, classes = one_more_cluster(labels)[y >= 0], y[y >= 0]
    nmi, ari = normalized_mutual_info_score(classes, clusters), adjusted_rand_score(classes, clusters)
    assert metrics.normalised_mutual_information(labels, y) == pytest.approx(nmi, abs=1e-9)
    assert metrics.adjusted_rand_index(labels, y) == pytest.approx(ari, abs=1e-9)


@given(pairs(), st.permutations(range(5)), st.permutations(range(4)))
def test_names_make_no_difference(pair, cluster_names, class_names):
    labels, y = pair
    other = np.where(labels < 0, -1, np.array(cluster_names)[labels])
    other_y = np.where(y < 0, -1, np.array(class_names)[y])
    assert metrics.score(other, y, 5) == pytest.approx(metrics.score(labels, y, 5), abs=1e-9)
    for figure in (metrics.accuracy, metrics.normalised_mutual_information, metrics.adjusted_rand_index):
        assert figure(other, other_y) == pytest.approx(figure(labels, y), abs=1e-9)


@given(pairs())
def test_figures_stay_in_their_range(pair):
    labels, y = pair
    figures = metrics.score(labels, y, 5)
    assert list(figures) == ["acc", "nmi", "ari", "kl_star"]
    assert 0 <= figures["acc"] <= 1
    assert 0 <= figures["nmi"] <= 1
    assert figures["ari"] <= 1
    assert 0 <= figures["kl_star"] < math.inf


def test_perfect_labels_under_other_names():
    labels = (TEN + 3) % 10
    assert metrics.score(labels, TEN, 10) == pytest.approx({"acc": 1, "nmi": 1, "ari": 1, "kl_star": 0})


@pytest.mark.parametrize("label", [0, 9, -1])
def test_a_collapsed_model(label):
    figures = metrics.score(np.full_like(TEN, label), TEN, 10)
    acc = 0 if label == -1 else 0.1
    assert figures == pytest.approx({"acc": acc, "nmi": 0, "ari": 0, "kl_star": math.log(10)}, abs=1e-12)
    assert figures["kl_star"] == pytest.approx(2.30, abs=0.005)


def test_points_without_a_label_are_wrong_and_those_of_unknown_class_left_out():
    labels, y = np.array([0, 0, 1, -1, 1, 0]), np.array([5, 5, 2, 2, -1, -1])
    assert metrics.accuracy(labels, y) == pytest.approx(3 / 4)


def test_more_clusters_than_classes():
    labels, y = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
    assert metrics.accuracy(labels, y) == pytest.approx(5 / 6)
    assert metrics.kl_star(labels, y, 3) == pytest.approx(0)  # cluster 1 counts towards class 0


def test_fewer_clusters_than_classes():
    labels, y = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    assert metrics.accuracy(labels, y) == pytest.approx(4 / 6)
    assert metrics.kl_star(labels, y, 2) == pytest.approx(1 / 3 * math.log(1) + 2 / 3 * math.log(2))


def test_kl_star_on_unequal_classes_goes_from_the_model_to_the_truth():
    labels, y = np.array([0] * 7 + [1] * 3), np.array([0] * 5 + [1] * 5)
    assert metrics.kl_star(labels, y, 2) == pytest.approx(entropy([0.7, 0.3], [0.5, 0.5]))
    labels, y = y, labels
    assert metrics.kl_star(labels, y, 2) == pytest.approx(entropy([0.5, 0.5], [0.7, 0.3]))


def test_soft_kl_star():
    y = np.array([0, 0, 0, 1])
    p = np.array([[0.1, 0.9], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])  # column 1 is class 0
    assert metrics.soft_kl_star(p, y) == pytest.approx(entropy([2.6, 1.4], [3, 1]))
    unknown = np.append(y, -1)
    assert metrics.soft_kl_star(np.vstack([p, [1, 0]]), unknown) == pytest.approx(metrics.soft_kl_star(p, y))


@given(pairs(least_label=0))
def test_soft_kl_star_of_certain_points_is_kl_star(pair):
    labels, y = pair
    assert metrics.soft_kl_star(np.eye(5)[labels], y) == pytest.approx(metrics.kl_star(labels, y, 5))


def test_neither_names_nor_empty_clusters_change_kl_star():
    labels, y = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])  # two matchings are best
    figures = {
        metrics.kl_star(labels, y, 2),
        metrics.kl_star(labels + 3, y, 9),
        metrics.soft_kl_star(np.eye(7)[labels], y),
    }
    figures |= {metrics.kl_star(1 - labels, y, 2), metrics.soft_kl_star(np.eye(2)[1 - labels], y)}
    assert len(figures) == 1


def test_uniform_probabilities_collapse_hard_but_not_soft():
    p = np.full((70, 10), 0.1)
    assert metrics.soft_kl_star(p, TEN) == pytest.approx(0, abs=1e-12)
    assert metrics.kl_star(p.argmax(axis=1), TEN, 10) == pytest.approx(math.log(10))


def test_labels_far_apart():
    labels, y = np.array([10**12, 5, 5, -1]), np.array([7, 10**9, 10**9, -1])
    assert metrics.accuracy(labels, y) == 1
    assert metrics.adjusted_rand_index(labels, y) == 1
    assert metrics.effective_clusters(labels) == pytest.approx(math.exp(entropy([1, 2])))


def of_both(labels, y):
    """Every figure that compares two labelings."""
    found = metrics.score(labels, y, int(max(labels.max(), 0)) + 1)
    return [*found.values(), metrics.stability([labels, y]), *metrics.correct(labels, y)]


@given(pairs())
@settings(deadline=None)
def test_large_tables_give_what_small_ones_do(pair):
    labels, y = pair
    shuffled = np.append(np.random.default_rng(0).permutation(5) + 7, -1)[labels]
    here = of_both(labels, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_CELLS", 0)
        there, again = of_both(labels, y), of_both(shuffled, y)
        np.testing.assert_array_equal(metrics.contingency(*pair), slow_contingency(*pair))
    np.testing.assert_allclose(there[:3], here[:3])  # acc, nmi, ari; KL* may break a tie between matchings otherwise
    np.testing.assert_allclose(there[4], here[4])
    assert sum(there[5:]) == sum(here[5:])
    np.testing.assert_allclose(again[:5], there[:5])  # names make no difference, ties included


def test_many_clusters_and_classes_cost_what_is_used():
    """A table of all pairs would take 3.2 GB."""
    y = np.arange(20_000)
    labels = np.random.default_rng(0).permutation(20_000)
    tracemalloc.start()
    found = metrics.score(labels, y, 20_000)
    stability = metrics.stability([labels, y])
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found["acc"], found["nmi"], found["ari"], found["kl_star"]) == pytest.approx((1, 1, 1, 0))
    assert stability == 1
    assert metrics.correct(labels, y).all()
    assert largest < 100e6


def test_a_table_of_names_too_great_to_hold_is_refused():
    with pytest.raises(DataError, match="renumber them"):
        metrics.contingency([10**9, 0], [0, 10**9])


# of probabilities

D1 = [[0.98, 0.01, 0.01], [0.98, 0.01, 0.01], [0.49, 0.50, 0.01], [0.49, 0.01, 0.50]]
D2 = [[0.34, 0.33, 0.33]] * 4


def test_appendix_d_with_its_names_put_right():
    assert metrics.hard_entropy(D1) == pytest.approx(1.50)
    assert metrics.soft_entropy(D1) == pytest.approx(1.10, abs=0.005)
    assert metrics.soft_entropy(D1) == pytest.approx(entropy([0.735, 0.1325, 0.1325], base=2))
    assert metrics.hard_entropy(D2) == 0
    assert metrics.soft_entropy(D2) == pytest.approx(1.58, abs=0.005)


def collapsed(n_points, n_clusters):
    return np.eye(n_clusters)[np.zeros(n_points, dtype=int)]


def test_variance_of_a_collapsed_model_as_printed():
    # CA-S, Table 3, CIFAR 100, VarM: HVar 59400 (0), HEnt 0.0 (0.00)
    assert metrics.hard_variance(collapsed(60_000, 100)) == pytest.approx(59_400)
    assert metrics.hard_entropy(collapsed(60_000, 100)) == 0
    # the same, FashionMNIST, Var: 53950 (98), HEnt 0.0 (0.01)
    assert metrics.hard_variance(collapsed(60_000, 10)) == pytest.approx(53_950, abs=98)


def test_variances_of_d1():
    assert metrics.hard_variance(D1) == pytest.approx(np.var([2, 1, 1]) / (4 / 3))
    assert metrics.soft_variance(D1) == pytest.approx(np.var([2.94, 0.53, 0.53]) / (4 / 3))
    assert metrics.hard_variance(np.eye(5)) == 0
    assert metrics.soft_variance(D2) < metrics.hard_variance(D2)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_soft_is_hard_where_points_are_certain(labels):
    p = np.eye(5)[labels]
    assert metrics.soft_entropy(p) == pytest.approx(metrics.hard_entropy(p))
    assert metrics.soft_variance(p) == pytest.approx(metrics.hard_variance(p))
    assert 2 ** metrics.hard_entropy(p) == pytest.approx(metrics.effective_clusters(labels, 5))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounded_rows_are_probabilities(dtype):
    logits = np.random.default_rng(0).normal(size=(50, 100))
    p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(dtype)
    assert 0 < metrics.hard_entropy(p) <= math.log2(100)


@given(pairs(), st.integers(0, 100), st.integers(1, 7))
def test_reliability_counts_every_labelled_point_once(pair, seed, n_bins):
    labels, y = pair
    confidence = np.random.default_rng(seed).choice([0, 0.25, 0.5, 0.7, 1], len(y))
    bins = metrics.reliability(confidence, labels, y, n_bins)
    kept = (labels >= 0) & (y >= 0)
    assert sum(b.n_points for b in bins) == kept.sum()
    right = sum(b.n_points * b.accuracy for b in bins)
    assert right == pytest.approx(slow_accuracy(labels[kept], y[kept]) * kept.sum() if kept.any() else 0)
    for b in bins:
        inside = kept & (confidence <= b.high) & ((confidence > b.low) | (b.low == 0))
        assert b.n_points == inside.sum()
        assert b.confidence == pytest.approx(confidence[inside].mean())


def test_the_calibration_error_is_none_where_confidence_is_what_happens():
    rng = np.random.default_rng(0)
    y, confidence = rng.integers(0, 3, 30_000), rng.uniform(0.4, 1, 30_000)
    labels = np.where(rng.random(30_000) < confidence, y, (y + 1) % 3)

    def error(confidence):
        return metrics.expected_calibration_error(metrics.reliability(confidence, (labels + 1) % 3, y))

    assert error(confidence) < 0.02
    assert error(np.ones(30_000)) == pytest.approx(1 - confidence.mean(), abs=0.02)
    assert math.isnan(metrics.expected_calibration_error([]))


@given(pairs())
def test_correct_points_make_the_accuracy(pair):
    labels, y = pair
    right = metrics.correct(labels, y)
    assert not right[(labels < 0) | (y < 0)].any()
    assert right[y >= 0].mean() == pytest.approx(slow_accuracy(labels, y))
    for cluster in set(labels[right]):  # one to one
        assert len(set(y[right & (labels == cluster)])) == 1


def test_without_any_label_no_point_is_correct():
    assert not metrics.correct([-1, -1], [0, 1]).any()


def slow_coverage(confidence, values):
    rows = []
    for least in sorted(set(confidence), reverse=True):
        kept = [value for sure, value in zip(confidence, values, strict=True) if sure >= least]
        rows.append((least, len(kept) / len(values), sum(kept) / len(kept)))
    return rows


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, 0.6, 1.0]) | st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])),
        min_size=1,
        max_size=40,
    )
)
def test_the_coverage_curve_against_a_slow_twin(points):
    confidence, values = zip(*points, strict=True)
    curve = metrics.coverage_curve(confidence, values)
    found = np.stack([curve.confidence, curve.coverage, curve.mean], 1)
    assert found == pytest.approx(np.array(slow_coverage(confidence, values)))
    assert curve.coverage[-1] == 1
    assert curve.mean[-1] == pytest.approx(np.mean(values))


@pytest.mark.parametrize(("confidence", "values"), [([], []), ([1.0], [1.0, 0.0]), ([2.0], [1.0]), ([1.0], [-1.0])])
def test_a_coverage_curve_of_bad_values_is_refused(confidence, values):
    with pytest.raises(DataError):
        metrics.coverage_curve(confidence, values)


def test_bad_confidences_are_refused():
    for confidence, n_bins, error in (
        ([0.5, 1.5], 10, DataError),
        ([0.5], 10, DataError),
        ([0.5, 1], 0, ParameterError),
    ):
        with pytest.raises(error):
            metrics.reliability(confidence, np.array([0, 1]), np.array([0, 1]), n_bins)


# without true classes


@pytest.mark.parametrize(
    ("labels", "effective", "largest", "unlabelled"),
    [
        ([0, 1, 2, 3], 4, 0.25, 0),
        ([2, 2, 2, 2], 1, 1, 0),
        ([0, 0, 3, 3], 2, 0.5, 0),
        ([-1, -1, 0, 1], 2, 0.5, 0.5),
        ([-1, -1, -1, -1], 0, 0, 1),
    ],
)
def test_label_free_figures(labels, effective, largest, unlabelled):
    expected = {"effective_clusters": effective, "largest_cluster": largest, "unlabelled": unlabelled}
    assert metrics.label_free(labels, 4) == pytest.approx(expected)
    assert metrics.effective_clusters(labels) == pytest.approx(effective)


def test_label_free_figures_of_an_agreement():
    figures = metrics.label_free(
        [0, 1, 1, -1],
        2,
        share=[1, 1, 0.5, 0],
        agreed=[True, True, False, False],
        aligned=[[0, 1, 1, -1], [0, 1, 1, -1]],
    )
    assert (figures["agreement"], figures["agreed"], figures["stability"]) == (0.625, 0.5, 1)


@given(st.integers(1, 8).flatmap(lambda size: st.lists(labels_of(size), min_size=1, max_size=5)))
def test_stability_against_scikit_learn(aligned):
    voting = [one_more_cluster(np.array(row)) for row in aligned if max(row) >= 0]
    pair = [0 if len(set(a)) == len(set(b)) == 1 else adjusted_rand_score(a, b) for a, b in combinations(voting, 2)]
    expected = np.mean(pair) if pair else math.nan
    assert metrics.stability(aligned) == pytest.approx(expected, nan_ok=True)


def test_members_without_a_say_do_not_count():
    assert metrics.stability([[0, 1, 1], [-1, -1, -1], [1, 0, 0]]) == 1
    assert math.isnan(metrics.stability([[0, 1, 1], [-1, -1, -1]]))


def test_collapse_is_not_stable():
    assert metrics.stability(np.zeros((5, 20), dtype=int)) == 0


def test_pairwise_stability_is_what_stability_is_the_mean_of():
    rows = np.random.default_rng(0).integers(-1, 3, (4, 30))
    rows[1] = -1
    pairs = metrics.pairwise_stability(rows)
    assert np.array_equal(pairs, pairs.T, equal_nan=True)
    assert np.isnan(pairs[1]).all()
    assert np.array_equal(pairs.diagonal()[[0, 2, 3]], np.ones(3))
    assert np.mean([pairs[0, 2], pairs[0, 3], pairs[2, 3]]) == metrics.stability(rows)


def test_stability_does_not_need_common_names():
    rows = np.random.default_rng(0).integers(3, size=(4, 40))
    other = np.stack([np.roll([0, 1, 2], index)[row] for index, row in enumerate(rows)])
    assert metrics.stability(other) == pytest.approx(metrics.stability(rows))


# of latents


def blobs(n_points=300, gap=4.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n_points)
    latents = rng.normal(size=(n_points, 5)).astype(np.float32)
    latents[:, 0] += gap * y
    return latents, y


@pytest.mark.parametrize("probe", [metrics.linear_probe, metrics.knn_probe])
def test_probes_see_what_there_is(probe):
    latents, y = blobs(gap=8.0)
    assert probe(latents, y, 0) > 0.95
    assert probe(latents, np.random.default_rng(1).permutation(y), 0) < 0.55


@pytest.mark.parametrize("probe", [metrics.linear_probe, metrics.knn_probe])
def test_probes_are_addressed_by_their_seed(probe):
    latents, y = blobs(gap=1.0)
    figures = [probe(latents, y, seed) for seed in range(5)]
    assert figures == [probe(latents, y, seed) for seed in range(5)]
    assert len(set(figures)) > 1


@pytest.mark.parametrize("probe", [metrics.linear_probe, metrics.knn_probe])
def test_probes_score_a_third_that_they_did_not_see(probe):
    latents, y = blobs(n_points=100, gap=1.0)
    assert probe(latents, y, 0) * 33 == pytest.approx(round(probe(latents, y, 0) * 33))
    noise = np.random.default_rng(2).integers(2, size=100)
    assert metrics.knn_probe(latents, noise, 0, n_neighbours=1) < 0.8  # 1 on points it has seen


def test_probes_leave_out_unknown_classes():
    latents, y = blobs(gap=2.0)
    more, more_y = np.vstack([latents, latents[:50] * 100]), np.append(y, np.full(50, -1))
    assert metrics.linear_probe(more, more_y, 3) == metrics.linear_probe(latents, y, 3)
    assert metrics.knn_probe(more, more_y, 3) == metrics.knn_probe(latents, y, 3)


def test_linear_probe_standardises_and_converges_without_warnings():
    latents, y = blobs(gap=6.0)
    scaled = latents * np.array([1e-3, 1e3, 1e3, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.linear_probe(scaled, y, 0) > 0.95


# bad input


@pytest.mark.parametrize(
    ("labels", "y", "message"),
    [
        ([0, 1], [0], "labels has 2 points and y has 1"),
        ([], [], r"labels is of shape \(0,\)"),
        ([0.0, 1.0], [0, 1], "float64"),
        ([0, 1], [True, False], "y is of shape .* bool"),
        ([[0, 1]], [0, 1], r"shape \(1, 2\)"),
        ([0, -2], [0, 1], "labels goes down to -2"),
        ([0, 1], [0, -3], "y goes down to -3"),
        ([0, 1], [-1, -1], "y is -1 throughout"),
    ],
)
@pytest.mark.parametrize(
    "figure",
    [
        metrics.accuracy,
        metrics.normalised_mutual_information,
        metrics.adjusted_rand_index,
        lambda labels, y: metrics.kl_star(labels, y, 2),
    ],
)
def test_bad_labels_are_refused(figure, labels, y, message):
    with pytest.raises(DataError, match=message):
        figure(labels, y)


def test_labels_beyond_the_number_of_clusters_are_refused():
    for figure in (lambda: metrics.kl_star([0, 3], [0, 1], 3), lambda: metrics.label_free([0, 3], 3)):
        with pytest.raises(DataError, match=r"labels go up to 3; they must lie in -1 \.\. 2"):
            figure()
    with pytest.raises(ParameterError, match="n_clusters is 0"):
        metrics.effective_clusters([0], 0)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\)"),
        (np.empty((0, 3)), r"shape \(0, 3\)"),
        ([["a", "b"]], "type <U1"),
        ([[math.nan, 1.0]], "not finite"),
        ([[-0.5, 1.5]], "negative"),
        ([[0.5, 0.5], [1.0, 2.0]], "row 1 sum to 3"),
        ([[0.0, 0.0]], "row 0 sum to 0"),
    ],
)
@pytest.mark.parametrize(
    "figure",
    [
        metrics.hard_entropy,
        metrics.soft_entropy,
        metrics.hard_variance,
        metrics.soft_variance,
        lambda p: metrics.soft_kl_star(p, [0]),
    ],
)
def test_what_is_no_probability_is_refused(figure, probabilities, message):
    with pytest.raises(DataError, match=message):
        figure(probabilities)


@pytest.mark.parametrize(
    ("given_too", "message"),
    [
        ({"share": [0.5]}, "share is of shape"),
        ({"share": [0.5, 1.5]}, "share is of shape"),
        ({"share": [0.5, math.nan]}, "share is of shape"),
        ({"agreed": ["a", "b"]}, "agreed is of shape"),
        ({"aligned": [0, 1]}, "aligned is of shape"),
        ({"aligned": [[0, 1], [0]]}, "aligned is no"),
        ({"aligned": [[0, -2]]}, r"aligned\[0\] goes down to -2"),
    ],
)
def test_figures_that_do_not_fit_are_refused(given_too, message):
    with pytest.raises(DataError, match=message):
        metrics.label_free([0, 1], 2, **given_too)


@pytest.mark.parametrize("probe", [metrics.linear_probe, metrics.knn_probe])
@pytest.mark.parametrize(
    ("latents", "y", "message"),
    [
        (np.zeros(4), [0, 1, 0, 1], r"shape \(4,\)"),
        (np.full((4, 2), math.nan), [0, 1, 0, 1], "finite"),
        (np.zeros((3, 2)), [0, 1, 0, 1], "latents has 3 points and y has 4"),
        (np.zeros((4, 2)), [0, -1, -1, -1], "1 points have a known class"),
    ],
)
def test_probes_refuse(probe, latents, y, message):
    with pytest.raises(DataError, match=message):
        probe(latents, y, 0)


def test_probes_refuse_what_they_cannot_fit():
    with pytest.raises(DataError, match="of one class"):
        metrics.linear_probe(np.zeros((9, 2)), np.zeros(9, dtype=int), 0)
    with pytest.raises(DataError, match="6 points are left to fit on and n_neighbours is 10"):
        metrics.knn_probe(np.zeros((9, 2)), np.zeros(9, dtype=int), 0)
    with pytest.raises(ParameterError, match="n_neighbours is 0"):
        metrics.knn_probe(np.zeros((9, 2)), np.zeros(9, dtype=int), 0, n_neighbours=0)


# scale


def seconds(n_points):
    rng = np.random.default_rng(0)
    aligned, y = rng.integers(10, size=(15, n_points)), rng.integers(10, size=n_points)
    start = time.perf_counter()
    metrics.label_free(aligned[0], 10, aligned=aligned)
    metrics.score(aligned[0], y, 10)
    return time.perf_counter() - start


def test_fast_on_middling_sizes():
    assert seconds(100_000) < 3


@pytest.mark.slow
def test_fast_on_large_sizes():
    assert seconds(1_000_000) < 10
