from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from test_consensus import ensembles, partition, peak, planted, renamed, said

import distclust.consensus as module
from distclust import CombinationAssignment, matching
from distclust.consensus import align, consensus, rename, vote
from distclust.contracts import Agreement, MemberOutput
from distclust.errors import DataError, ParameterError, UnknownNameError

METHODS = ["vote", "weighted-vote", "co-association", "bipartite"]
ANY_NAMES = METHODS[2:]  # these take members with any numbers of clusters


@st.composite
def free_ensembles(draw):
    """Small labellings with numbers of clusters of their own and holes, and the consensus' number."""
    n_members, n_points = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    sizes = draw(st.lists(st.integers(0, 5), min_size=n_members, max_size=n_members))
    rows = [draw(st.lists(st.integers(-1, size - 1), min_size=n_points, max_size=n_points)) for size in sizes]
    return np.array(rows), draw(st.integers(1, 5))


def holed(labellings, share, seed=0):
    return np.where(np.random.default_rng(seed).random(labellings.shape) < share, -1, labellings)


def merged_and_split(truth, noise, seed):
    """Noisy members of a planted labelling with 3 .. 9 clusters, some of its clusters merged or split."""
    rng = np.random.default_rng(seed)
    members = []
    for size in (3, 4, 5, 6, 7, 8, 9, 9, 8, 6, 5):
        fine = truth + truth.max() * rng.integers(2, size=len(truth)) + truth
        labels = (fine if size > truth.max() + 1 else truth) % size
        members.append(np.where(rng.random(len(truth)) < noise, rng.integers(size, size=len(truth)), labels))
    return members


def tuples_of(labellings):
    """Codes (M, U), counts (U,) and the number of names, as the two methods get them."""
    codes, n_names = module._own_codes(list(labellings))
    tuples = module._tuples(codes, n_names)
    return tuples.codes, tuples.counts, n_names


def same_partition(a, b):
    return partition(np.asarray(a))[1] == partition(np.asarray(b))[1]


# every method


@pytest.mark.parametrize("method", METHODS)
@given(ensembles())
@settings(max_examples=25, deadline=None)
def test_the_agreement_keeps_its_contract(method, ensemble):
    labellings, n_clusters = ensemble
    found = consensus(labellings, n_clusters, method=method, threshold=0.6)
    voting = (labellings >= 0).any(axis=1)
    assert found.voters == voting.sum()
    assert found.labels.dtype == np.int64
    assert found.aligned.dtype == np.int64
    assert found.share.dtype == np.float64
    assert found.labels.max() < n_clusters
    np.testing.assert_array_equal(found.labels < 0, (labellings < 0).all(axis=0))
    np.testing.assert_array_equal(found.aligned < 0, labellings < 0)
    behind = ((found.aligned == found.labels) & (found.aligned >= 0)).sum(axis=0)
    if found.voters > 1 and 2 * found.voters >= len(labellings):
        np.testing.assert_allclose(found.share, behind / found.voters)
        np.testing.assert_array_equal(found.agreed, (found.share >= 0.6 - 1e-9) & (found.labels >= 0))
    else:
        assert np.isnan(found.share).all() if len(labellings) == 1 else not found.share.any()
        assert not found.agreed.any()
    for before, after in zip(labellings, found.aligned, strict=True):
        assert partition(before) == partition(after)  # no member has more clusters than the consensus


@pytest.mark.parametrize("method", METHODS)
@given(ensembles(), st.data())
@settings(max_examples=25, deadline=None)
def test_names_and_order_of_the_members_make_no_difference(method, ensemble, data):
    labellings, n_clusters = ensemble
    names = [data.draw(st.permutations(range(n_clusters))) for _ in labellings]
    order = list(data.draw(st.permutations(range(len(labellings)))))
    other = np.stack([renamed(row, name) for row, name in zip(labellings, names, strict=True)])[order]
    here, there = (consensus(x, n_clusters, method=method, threshold=0.6) for x in (labellings, other))
    assert said(here) == said(there)
    np.testing.assert_array_equal(there.aligned, here.aligned[order])


@pytest.mark.parametrize("method", ANY_NAMES)
@given(free_ensembles(), st.data())
@settings(max_examples=25, deadline=None)
def test_names_may_be_any_integers(method, ensemble, data):
    labellings, n_clusters = ensemble
    names = data.draw(st.permutations([0, 7, 10**12, 3, 2**62]))
    order = list(data.draw(st.permutations(range(len(labellings)))))
    here = consensus(labellings, n_clusters, method=method)
    there = consensus(renamed(labellings, names)[order], n_clusters, method=method)
    np.testing.assert_array_equal(there.labels, here.labels)
    np.testing.assert_array_equal(there.aligned, here.aligned[order])


@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_permuted_points_permute_the_answer(method, seed):
    labellings = holed(planted(9, 300, 4, 0.12, seed)[0], 0.03, seed)
    order = np.random.default_rng(seed).permutation(300)
    back = np.argsort(order)
    here, there = (consensus(x, 4, method=method, threshold=0.8) for x in (labellings, labellings[:, order]))
    if adjusted_rand_score(there.labels[back], here.labels) == 1:
        np.testing.assert_array_equal(there.share[back], here.share)
        np.testing.assert_array_equal(there.agreed[back], here.agreed)
    else:  # ties: only a point that the members do not agree on may lie on either side of one
        names = rename(there.labels[back], here.labels, 4)
        assert (here.share[names != here.labels] < 0.7).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hole", [0, 0.2])
def test_planted_clusters_are_found_better_than_by_the_members(method, hole):
    labellings, truth = planted(11, 1500, 5, 0.4)
    labellings = holed(labellings, hole)
    alone = np.mean([adjusted_rand_score(truth[row >= 0], row[row >= 0]) for row in labellings])
    assert alone < 0.5
    assert adjusted_rand_score(truth, consensus(labellings, 5, method=method).labels) > 0.85


@pytest.mark.parametrize("method", ANY_NAMES)
def test_planted_clusters_are_found_from_members_with_other_numbers_of_clusters(method):
    truth = np.random.default_rng(1).integers(6, size=1200)
    members = merged_and_split(truth, 0.1, 1)
    alone = np.mean([adjusted_rand_score(truth, row) for row in members])
    assert adjusted_rand_score(truth, consensus(members, 6, method=method).labels) > max(0.9, alone)


@pytest.mark.parametrize("method", METHODS)
def test_one_member_is_its_own_consensus(method):
    found = consensus([[3, 3, -1, 0]], 5, method=method)
    np.testing.assert_array_equal(found.labels, [0, 0, -1, 1])
    np.testing.assert_array_equal(found.aligned, [[0, 0, -1, 1]])
    assert np.isnan(found.share).all()
    assert not found.agreed.any()


@pytest.mark.parametrize("method", ANY_NAMES)
def test_one_member_with_more_clusters_than_asked_for_has_some_merged(method):
    member = np.repeat(np.arange(5), [9, 7, 5, 3, 1])
    found = consensus([member], 3, method=method)
    assert len(set(found.labels)) == 3
    np.testing.assert_array_equal(found.aligned[0], found.labels)


@pytest.mark.parametrize("method", METHODS)
def test_members_without_a_say_change_nothing(method):
    labellings, _ = planted(4, 200, 3, 0.3)
    silent = np.full((1, 200), -1)
    here = consensus(labellings, 3, method=method, threshold=0.7)
    there = consensus(np.concatenate([silent, labellings, silent]), 3, method=method, threshold=0.7)
    assert said(there) == said(here)
    np.testing.assert_array_equal(there.aligned, np.concatenate([silent, here.aligned, silent]))


@pytest.mark.parametrize("method", METHODS)
def test_nobody_has_a_say(method):
    found = consensus(np.full((3, 4), -1), 2, method=method, threshold=0.1)
    np.testing.assert_array_equal(found.labels, [-1] * 4)
    np.testing.assert_array_equal(found.share, [0.0] * 4)
    np.testing.assert_array_equal(found.aligned, np.full((3, 4), -1))
    assert not found.agreed.any()
    assert found.voters == 0


@pytest.mark.parametrize("method", METHODS)
def test_inputs_are_not_changed(method):
    labellings, _ = planted(3, 30, 3, 0.3)
    before = labellings.copy()
    consensus(labellings, 3, method=method)
    np.testing.assert_array_equal(labellings, before)


@pytest.mark.parametrize("method", ANY_NAMES)
@given(free_ensembles())
@settings(max_examples=40, deadline=None)
def test_names_are_in_the_order_in_which_the_points_meet_them(method, ensemble):
    labels = consensus(*ensemble, method=method).labels
    met = list(dict.fromkeys(labels[labels >= 0].tolist()))
    assert met == list(range(len(met)))


# the votes


@given(ensembles(), st.sampled_from([0.3, 0.6, 1.0]))
def test_vote_is_align_and_vote(ensemble, threshold):
    labellings, n_clusters = ensemble
    found, twin = consensus(labellings, n_clusters, threshold=threshold), vote(align(*ensemble), threshold, n_clusters)
    for name in Agreement.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(twin, name))


def slow_adjusted_rand(a, b):
    """By its definition over pairs of points that both label."""
    pairs = list(combinations([(p, q) for p, q in zip(a, b, strict=True) if p >= 0 and q >= 0], 2))
    in_a, in_b = (sum(p[side] == q[side] for p, q in pairs) for side in (0, 1))
    together = sum(p == q for p, q in pairs)
    if not pairs or in_a + in_b == Fraction(2 * in_a * in_b, len(pairs)):
        return Fraction(0)
    chance = Fraction(in_a * in_b, len(pairs))
    return (together - chance) / (Fraction(in_a + in_b, 2) - chance)


def slow_weights(aligned):
    voting = [row for row in aligned if max(row) >= 0]
    means = [
        sum(slow_adjusted_rand(row, other) for other in voting if other is not row) / max(1, len(voting) - 1)
        for row in voting
    ]
    return voting, [max(1, round(mean * 2**20)) for mean in means]


@given(ensembles())
@settings(deadline=None)
def test_weighted_vote_against_a_slow_twin(ensemble):
    labellings, n_clusters = ensemble
    found = consensus(labellings, n_clusters, method="weighted-vote")
    aligned = align(labellings, n_clusters)
    np.testing.assert_array_equal(found.aligned, aligned)
    voting, weights = slow_weights(aligned.tolist())
    given_in_all = [sum(row.count(label) for row in voting) for label in range(n_clusters)]
    for point, label in enumerate(found.labels):
        votes = [
            sum(weight for row, weight in zip(voting, weights, strict=True) if row[point] == name)
            for name in range(n_clusters)
        ]
        best = min(range(n_clusters), key=lambda name: (-votes[name], given_in_all[name], name))
        assert label == (best if any(votes) else -1)


@given(ensembles())
def test_one_or_two_members_have_equal_weights(ensemble):
    labellings, n_clusters = ensemble
    found, plain = (consensus(labellings[:2], n_clusters, method=method) for method in ("weighted-vote", "vote"))
    assert said(found) == said(plain)


def test_members_that_agree_with_nobody_lose_their_weight_but_not_their_vote():
    labellings, truth = planted(3, 2000, 4, 0.2)
    with_noise = np.concatenate([labellings, np.random.default_rng(5).integers(4, size=(6, 2000))])
    plain, weighted = (consensus(with_noise, 4, method=method) for method in ("vote", "weighted-vote"))
    alone = adjusted_rand_score(truth, vote(align(labellings, 4)).labels)
    assert adjusted_rand_score(truth, plain.labels) < alone - 0.1
    assert adjusted_rand_score(truth, weighted.labels) > alone - 0.02
    assert weighted.voters == 9
    assert weighted.share.max() <= 1
    assert weighted.share.mean() < plain.share.mean()  # a share counts members: the vote has the most behind it


def test_collapsed_members_say_nothing_for_each_other():
    labellings, _ = planted(2, 300, 3, 0.2)
    collapsed = np.zeros((5, 300), dtype=int)
    weights = module._weights(module._codes(np.concatenate([labellings, collapsed]), 3), 3)
    assert min(weights[:2]) > 10_000
    np.testing.assert_array_equal(weights[2:], 1)


# co-association


def slow_distances(labellings):
    n_points = len(labellings[0])
    distances = np.zeros((n_points, n_points))
    for i, j in np.ndindex(n_points, n_points):
        both = [(row[i], row[j]) for row in labellings if row[i] >= 0 and row[j] >= 0]
        distances[i, j] = 1 - (sum(a == b for a, b in both) / len(both) if both else 0)
    return distances


@given(free_ensembles())
@settings(deadline=None)
def test_distances_against_a_slow_twin(ensemble):
    labellings = ensemble[0][:, (ensemble[0] >= 0).any(axis=0)]
    if labellings.size == 0:
        return
    codes, counts, n_names = tuples_of(labellings)
    sums = module._distance_sums(codes, counts, n_names)
    distances = slow_distances(np.where(codes == n_names, -1, codes.astype(int)))
    np.testing.assert_allclose(sums, len(codes) * distances * np.outer(counts, counts), atol=1e-12)
    np.testing.assert_array_equal(sums, sums.T)


def cut(pairs, heights, n_rows, n_clusters):
    """Which rows are together after the lowest merges."""
    labels = np.arange(n_rows)
    for a, b in pairs[np.argsort(heights, kind="stable")][: n_rows - n_clusters]:
        labels[labels == labels[b]] = labels[a]
    return labels


@pytest.mark.parametrize("seed", range(20))
def test_weighted_average_linkage_is_average_linkage_on_the_points(seed):
    rng = np.random.default_rng(seed)
    n_rows = int(rng.integers(2, 25))
    counts = rng.integers(1, 8, size=n_rows)
    between = squareform(rng.random(n_rows * (n_rows - 1) // 2))  # no ties
    pairs, heights = module._average_linkage(between * np.outer(counts, counts), counts)
    row = np.repeat(np.arange(n_rows), counts)
    tree = linkage(squareform(between[np.ix_(row, row)], checks=False), method="average")
    copies = len(row) - n_rows
    np.testing.assert_array_equal(tree[:copies, 2], 0)
    np.testing.assert_allclose(np.sort(heights), tree[copies:, 2])
    for n_clusters in range(1, n_rows + 1):
        theirs = fcluster(tree, n_clusters, criterion="maxclust")
        assert same_partition(cut(pairs, heights, n_rows, n_clusters)[row], theirs)


@given(free_ensembles(), st.integers(0, 10**6))
@settings(deadline=None)
def test_every_merge_joins_two_of_the_nearest_clusters(ensemble, seed):
    """Ties leave a choice; whatever is chosen, each merge must be one that average linkage on the points allows."""
    labellings = np.repeat(ensemble[0], np.random.default_rng(seed).integers(1, 4, ensemble[0].shape[1]), axis=1)
    labellings = labellings[:, (labellings >= 0).any(axis=0)]
    if labellings.size == 0:
        return
    codes, n_names = module._own_codes(list(labellings))
    tuples, distances = module._tuples(codes, n_names), slow_distances(labellings)
    clusters = {row: np.flatnonzero(tuples.index == row) for row in range(len(tuples.counts))}
    sums = module._distance_sums(tuples.codes, tuples.counts, n_names)
    pairs, heights = module._average_linkage(sums, tuples.counts)
    for step in np.argsort(heights, kind="stable"):
        means = {(a, b): distances[np.ix_(clusters[a], clusters[b])].mean() for a, b in combinations(clusters, 2)}
        kept, gone = pairs[step].tolist()
        pair = (kept, gone) if (kept, gone) in means else (gone, kept)
        assert means[pair] <= min(means.values()) + 1e-9
        assert means[pair] == pytest.approx(heights[step] / len(codes), abs=1e-9)
        clusters[kept] = np.concatenate([clusters[kept], clusters.pop(gone)])
    assert len(clusters) == 1


def test_scipy_gives_the_same_where_members_mostly_agree():
    for seed in range(10):
        labellings, _ = planted(15, 60, 4, 0.2, seed)
        tree = linkage(squareform(slow_distances(labellings), checks=False), method="average")
        found = consensus(labellings, 4, method="co-association").labels
        assert same_partition(found, fcluster(tree, 4, criterion="maxclust"))


@given(free_ensembles())
@settings(deadline=None)
def test_co_association_gives_the_clusters_asked_for(ensemble):
    labellings, n_clusters = ensemble
    found = consensus(labellings, n_clusters, method="co-association")
    tuples = {column for column in zip(*labellings.tolist(), strict=True) if max(column) >= 0}
    assert len(set(found.labels[found.labels >= 0])) == min(n_clusters, len(tuples))
    together = {}
    for column, label in zip(zip(*labellings.tolist(), strict=True), found.labels, strict=True):
        assert together.setdefault(column, label) == label  # equal tuples have equal labels


def test_points_that_no_member_labels_together_are_far_apart():
    labellings = [[0, 0, 0, -1, -1, -1], [-1, -1, -1, 0, 0, 1]]
    np.testing.assert_array_equal(consensus(labellings, 3, method="co-association").labels, [0, 0, 0, 1, 1, 2])


def test_too_many_tuples_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_MAX_TUPLES", 5)
    labellings, _ = planted(5, 50, 3, 0.8)
    with pytest.raises(DataError, match=r'different tuples .* at most 5, .* "bipartite"'):
        consensus(labellings, 3, method="co-association")
    assert len(set(consensus([[0, 1, 2, 3, 4, 4]], 3, method="co-association").labels)) == 3


# the bipartite graph


def slow_embedding(labellings, n_clusters):
    """Rows of length 1 of all clusters and points, from the whole graph of N + C vertices."""
    columns = [row == label for row in labellings for label in np.unique(row[row >= 0])]
    incidence = np.stack(columns, axis=1).astype(float)
    n_points, n_own = incidence.shape
    graph = np.zeros((n_own + n_points, n_own + n_points))
    graph[n_own:, :n_own], graph[:n_own, n_own:] = incidence, incidence.T
    roots = np.sqrt(graph.sum(axis=1))
    values, vectors = np.linalg.eigh(graph / np.outer(roots, roots))
    vectors = vectors[:, -n_clusters:]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.diff(values)[-n_clusters], n_own


@pytest.mark.parametrize("hole", [0, 0.15])
def test_embedding_is_that_of_the_whole_graph(hole):
    compared = 0
    for seed in range(10):
        labellings = holed(planted(6, 80, 4, 0.3, seed)[0], hole, seed)
        labellings = labellings[:, (labellings >= 0).any(axis=0)]
        theirs, gap, n_own = slow_embedding(labellings, 4)
        codes, n_names = module._own_codes(list(labellings))
        tuples = module._tuples(codes, n_names)
        ours = module._embedded(module._incidence(tuples.codes, n_names), tuples.counts, 4)[n_own:][tuples.index]
        if gap > 0.01:
            np.testing.assert_allclose(ours @ ours.T, theirs[n_own:] @ theirs[n_own:].T, atol=1e-6)
            compared += 1
    assert compared > 5


@pytest.mark.parametrize("seed", range(6))
def test_bipartite_against_a_slow_twin(seed):
    labellings, _ = planted(9, 150, 4, 0.3, seed)
    theirs, _, n_own = slow_embedding(labellings, 4)
    labels = KMeans(4, n_init=10, random_state=0).fit_predict(theirs)[n_own:]
    assert adjusted_rand_score(labels, consensus(labellings, 4, method="bipartite").labels) > 0.97


def test_signs_of_eigenvectors_make_no_difference(monkeypatch):
    labellings, _ = planted(7, 300, 4, 0.5)
    here = consensus(labellings, 4, method="bipartite").labels
    eigh = module.linalg.eigh

    def flipped(*args, **options):
        values, vectors = eigh(*args, **options)
        return values, vectors * np.array([1, -1, -1, 1])

    monkeypatch.setattr(module.linalg, "eigh", flipped)
    np.testing.assert_array_equal(consensus(labellings, 4, method="bipartite").labels, here)


def test_a_start_on_some_of_the_rows_gives_the_same(monkeypatch):
    labellings, truth = planted(9, 2000, 5, 0.4)
    here = consensus(labellings, 5, method="bipartite", seed=3).labels
    monkeypatch.setattr(module, "_START_ROWS", 100)
    there = consensus(labellings, 5, method="bipartite", seed=3).labels
    assert adjusted_rand_score(here, there) > 0.98
    assert adjusted_rand_score(truth, there) > 0.9


@given(free_ensembles())
@settings(max_examples=60, deadline=None)
def test_bipartite_gives_at_most_the_clusters_asked_for(ensemble):
    labellings, n_clusters = ensemble
    labels = consensus(labellings, n_clusters, method="bipartite").labels
    tuples = {column for column in zip(*labellings.tolist(), strict=True) if max(column) >= 0}
    assert labels.max() < n_clusters
    if len(tuples) <= n_clusters:
        assert len(set(labels[labels >= 0])) == len(tuples)


def test_bipartite_of_more_clusters_than_the_members_can_tell_apart():
    labellings = np.array(list(np.ndindex(2, 2, 2))).T  # 8 tuples of 3 members with 2 clusters each
    labels = consensus(labellings, 7, method="bipartite").labels
    assert 1 <= len(set(labels)) <= 7


def test_too_many_clusters_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_MAX_OWN_CLUSTERS", 5)
    with pytest.raises(DataError, match="6 clusters together; bipartite takes at most 5"):
        consensus(planted(2, 50, 3, 0.5)[0], 3, method="bipartite")


# what both share


@given(free_ensembles())
@settings(deadline=None)
def test_clusters_left_over_take_the_name_most_of_their_points_have(ensemble):
    labellings, n_clusters = ensemble
    found = consensus(labellings, n_clusters, method="co-association")
    for before, after in zip(labellings, found.aligned, strict=True):
        own = np.unique(before[before >= 0])
        names = [set(after[before == label].tolist()) for label in own]
        assert all(len(name) == 1 for name in names)
        table = np.array(
            [[((before == label) & (found.labels == k)).sum() for k in range(n_clusters)] for label in own]
        )
        kept = [table[i, name.pop()] for i, name in enumerate(names)]
        if len(own) <= n_clusters:
            assert partition(before) == partition(after)
        else:
            # K clusters are matched one to one, so at most K are not where most of their points are
            assert sum(k < row.max() for k, row in zip(kept, table, strict=True)) <= n_clusters
            assert set(range(n_clusters)) <= set(after.tolist())


def test_a_finer_member_agrees_with_the_consensus_it_refines():
    coarse = np.repeat([0, 1, 2], 20)
    fine = np.repeat(np.arange(6), 10)
    found = consensus([coarse, coarse, fine], 3, method="co-association")
    np.testing.assert_array_equal(found.labels, coarse)
    np.testing.assert_array_equal(found.aligned, [coarse] * 3)
    assert found.agreed.all()


@pytest.mark.parametrize(("n_members", "n_names"), [(3, 4), (40, 9), (70, 2), (5, 100_000)])
def test_tuples_are_told_apart_whatever_their_length(n_members, n_names):
    rng = np.random.default_rng(0)
    kinds = rng.integers(n_names + 1, size=(n_members, 30))
    kinds[:, 1] = kinds[:, 0]
    kinds[-1, 1] = (kinds[-1, 0] + 1) % (n_names + 1)  # differs in its last digit alone
    kinds[:, 2] = kinds[:, 0]
    kinds[0, 2] = (kinds[0, 0] + 1) % (n_names + 1)
    codes = kinds[:, rng.integers(30, size=500)].astype(np.min_scalar_type(n_names))
    tuples = module._tuples(codes, n_names)
    assert len(tuples.counts) == len(np.unique(codes, axis=1).T)
    np.testing.assert_array_equal(tuples.codes[:, tuples.index], codes)
    np.testing.assert_array_equal(np.bincount(tuples.index), tuples.counts)
    np.testing.assert_array_equal(codes[:, tuples.first], tuples.codes)
    assert (np.diff(tuples.counts) <= 0).all()


# bad input


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labellings", "message"),
    [
        ([], "there are no labellings"),
        ([[]], "at least one point"),
        ([[0, 1], [0, 1, 1]], "labelling 1 has 3 points and labelling 0 has 2"),
        ([[0, 1], [0.0, 1.0]], "labelling 1 is of float64"),
        ([[0, -2]], "from -2 to 0; they must be at least -1"),
        ([[[0, 1]]], r"shape \(1, 2\)"),
    ],
)
def test_bad_labellings_are_refused(method, labellings, message):
    with pytest.raises(DataError, match=message):
        consensus(labellings, 2, method=method)


@pytest.mark.parametrize("method", METHODS[:2])
def test_the_votes_refuse_names_beyond_the_clusters(method):
    with pytest.raises(DataError, match=r"from 0 to 2; they must lie in -1 .. 1"):
        consensus([[0, 2]], 2, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_bad_parameters_are_refused_together(method):
    with pytest.raises(ParameterError) as error:
        consensus([[0, 1]], 0, method=method, threshold=1.5, seed=-1)
    assert len(error.value.faults) == 3
    for part in ("n_clusters is 0; it must", "threshold is 1.5; it must", "seed is -1; it must"):
        assert part in str(error.value)


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="Did you mean 'co-association'") as e:
        consensus([[0, 1]], 2, method="coassociation")
    assert e.value.known == tuple(sorted(METHODS))


# scale


@pytest.mark.parametrize("method", METHODS)
def test_fast_where_members_mostly_agree(method):
    rng = np.random.default_rng(0)
    labellings, truth = planted(15, 100_000, 10, 0)
    noisy = rng.random(labellings.shape) < 0.3 * (np.arange(100_000) < 1000)
    labellings = np.where(noisy, rng.integers(10, size=labellings.shape), labellings)
    found = consensus(labellings, 10, method=method)
    assert adjusted_rand_score(truth, found.labels) > 0.999


@pytest.mark.parametrize("method", METHODS)
def test_names_cost_what_is_used_of_them(method):
    few = np.random.default_rng(0).integers(20_000, size=(4, 6))
    found = []
    assert peak(lambda: found.append(consensus(few, 20_000, method=method))) < 2e6
    assert peak(lambda: found.append(consensus(few, 10**9, method=method))) < 2e6
    small = [np.unique(row, return_inverse=True)[1] for row in few]
    assert said(found[0]) == said(found[1]) == said(consensus(small, 12, method=method))


@pytest.mark.parametrize("method", ANY_NAMES)
def test_names_may_be_as_great_as_can_be(method):
    labellings, _ = planted(5, 60, 3, 0.2)
    names = np.array([2**62, 5, 10**15])
    assert said(consensus(names[labellings], 3, method=method)) == said(consensus(labellings, 3, method=method))


@given(free_ensembles())
@settings(max_examples=30, deadline=None)
def test_large_tables_join_clusters_as_small_ones_do(ensemble):
    labellings, n_clusters = ensemble
    here = consensus(labellings, n_clusters, method="co-association")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_CELLS", 0)
        there = consensus(labellings, n_clusters, method="co-association")
        test_clusters_left_over_take_the_name_most_of_their_points_have.hypothesis.inner_test(ensemble)
    np.testing.assert_array_equal(here.labels, there.labels)


# data frames, and arrays the wrong way round


def frames(labellings):
    """The same members in all that has columns."""
    names = [f"run {index}" for index in range(len(labellings))]
    table = pd.DataFrame(dict(zip(names, labellings, strict=True)))
    return [table, pa.Table.from_pandas(table), dict(zip(names, labellings, strict=True)), table.astype("Int64")]


@pytest.mark.parametrize("method", METHODS)
def test_the_columns_of_a_data_frame_are_members(method):
    labellings = holed(planted(4, 40, 3, 0.2)[0], 0.1, 0)
    plain = consensus(labellings, 3, method=method)
    for table in frames(labellings):
        found = consensus(table, 3, method=method)
        np.testing.assert_array_equal(found.labels, plain.labels)
        np.testing.assert_array_equal(found.aligned, plain.aligned)
    np.testing.assert_array_equal(align(frames(labellings)[0], 3), align(labellings, 3))
    aligned = align(labellings, 3)
    np.testing.assert_array_equal(vote(frames(aligned)[0]).labels, vote(aligned).labels)


@pytest.mark.parametrize("method", ANY_NAMES)
def test_names_may_be_text_with_holes(method):
    labellings = holed(planted(4, 40, 3, 0.2)[0], 0.1, 0)
    names = np.array(["north", "south", "east", None], dtype=object)
    text = pd.DataFrame({f"run {index}": names[row] for index, row in enumerate(labellings)})
    plain = consensus(labellings, 3, method=method)
    for table in (text, text.astype("category"), text.astype("string"), [text[name].to_numpy() for name in text]):
        assert said(consensus(table, 3, method=method)) == said(plain)
    full = [np.array(["a", "b", "c"])[row] for row in planted(4, 40, 3, 0.2)[0]]
    assert said(consensus(full, 3, method=method)) == said(consensus(planted(4, 40, 3, 0.2)[0], 3, method=method))


@pytest.mark.parametrize(
    ("column", "method", "parts"),
    [
        (["a", "b", "a"], "vote", ["column 'mine' holds text", '"co-association"', '"bipartite"']),
        (["a", "b", "a"], "weighted-vote", ["column 'mine' holds text", '"co-association"']),
        (["0", "-1", "0"], "bipartite", ["column 'mine'", "astype(int)"]),
        ([0.0, 1.0, np.nan], "vote", ["column 'mine' is of float64", "fill in -1"]),
        ([0.0, 1.0, np.nan], "bipartite", ["column 'mine' is of float64"]),
        ([True, False, True], "vote", ["column 'mine' is of bool"]),
        ([0, "a", 0], "bipartite", ["column 'mine' holds int, str"]),
        (pd.date_range("2020", periods=3), "bipartite", ["column 'mine' is of datetime64"]),
        ([0, 1, 5], "vote", ["column 'mine' has labels from 0 to 5", '"co-association"', '"bipartite"']),
        ([0, -2, 1], "vote", ["column 'mine' has labels from -2"]),
    ],
)
def test_a_column_that_cannot_be_used_is_named(column, method, parts):
    with pytest.raises(DataError) as error:
        consensus(pd.DataFrame({"first": [0, 1, 1], "mine": column}), 2, method=method)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_members", [1, 2, 9])
def test_a_table_the_wrong_way_round_is_refused(method, n_members):
    labellings, _ = planted(n_members, 60, 3, 0.2)
    for table in (labellings.T, pd.DataFrame(labellings)):
        with pytest.raises(DataError, match=r"shape .*labellings\.T.* give a list"):
            consensus(table, 3, method=method)
    with pytest.raises(DataError, match=r"labellings\.T"):
        align(labellings.T, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_list_is_never_the_wrong_way_round(method):
    labellings, _ = planted(9, 4, 2, 0.2)
    found = consensus(list(labellings), 2, method=method)
    assert found.aligned.shape == (9, 4)
    few = consensus(labellings[:5], 2, method=method)  # some rows of a few points are no table of points
    assert few.aligned.shape == (5, 4)


def test_an_ensemble_may_have_more_members_than_points():
    outputs = [MemberOutput(np.array([0, 0, 1])) for _ in range(9)]
    found = CombinationAssignment(n_clusters=2, n_members=9).agree(outputs)
    assert found.aligned.shape == (9, 3)


@pytest.mark.parametrize("method", METHODS[:2])
def test_members_with_other_numbers_of_clusters_are_told_what_takes_them(method):
    coarse, fine = np.repeat([0, 1], 6), np.repeat([0, 1, 2, 3], 3)
    with pytest.raises(DataError) as error:
        consensus([coarse, fine], 2, method=method)
    for part in ("labelling 1", "-1 .. 1", 'method="co-association"', 'method="bipartite"'):
        assert part in str(error.value)
    for other in ANY_NAMES:
        np.testing.assert_array_equal(consensus([coarse, fine], 2, method=other).labels, coarse)


def test_a_single_labelling_is_no_list_of_labellings():
    with pytest.raises(DataError, match="give a list of labellings"):
        consensus(np.array([0, 1, 1, 0]), 2)
