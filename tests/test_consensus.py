import time
import tracemalloc
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust import matching
from distclust.consensus import _in_order_met, _matched, _mode, _pivot, _spelled, align, rename, vote
from distclust.errors import DataError, ParameterError


@st.composite
def ensembles(draw, least=-1):
    """Small labellings with many ties, and the number of clusters."""
    n_clusters, n_members, n_points = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 10))
    label = st.integers(least, n_clusters - 1)
    row = st.lists(label, min_size=n_points, max_size=n_points)
    return np.array(draw(st.lists(row, min_size=n_members, max_size=n_members))), n_clusters


def planted(n_members, n_points, n_clusters, noise, seed=0):
    """Noisy copies of one labelling, each under names of its own; and that labelling."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_clusters, size=n_points)
    members = []
    for _ in range(n_members):
        labels = np.where(rng.random(n_points) < noise, rng.integers(n_clusters, size=n_points), truth)
        members.append(rng.permutation(n_clusters)[labels])
    return np.stack(members), truth


def renamed(row, names):
    return np.where(row < 0, -1, np.asarray(names)[row])


def partition(labels):
    """The groups of points as a set of sets; the points without a label apart."""
    groups = {label: frozenset(np.flatnonzero(labels == label)) for label in np.unique(labels)}
    return groups.pop(-1, frozenset()), frozenset(groups.values())


def said(agreement):
    """All that must not depend on names."""
    share = np.nan_to_num(agreement.share, nan=-1).tolist()
    return partition(agreement.labels), share, agreement.agreed.tolist(), agreement.voters


def most_agreeing(labels, reference, n_clusters):
    """The most points on which `labels` can equal `reference`, over all renamings."""
    best = 0
    for names in permutations(range(n_clusters)):
        best = max(best, int(((renamed(labels, names) == reference) & (labels >= 0)).sum()))
    return best


def slow_vote(aligned, threshold):
    voting = [row for row in aligned if any(label >= 0 for label in row)]
    given_in_all = Counter(label for row in voting for label in row if label >= 0)
    counts = len(voting) >= 2 and 2 * len(voting) >= len(aligned)  # the agreement of one, or of the few, is none
    labels, share, agreed = [], [], []
    for point in range(len(aligned[0])):
        votes = Counter(row[point] for row in voting if row[point] >= 0)
        label = min(votes, key=lambda name: (-votes[name], given_in_all[name], name), default=-1)
        labels.append(label)
        share.append(np.nan if len(aligned) == 1 else votes[label] / len(voting) if counts else 0.0)
        agreed.append(counts and label >= 0 and share[-1] >= threshold - 1e-9)
    return labels, share, agreed, len(voting)


# align


@given(ensembles())
def test_align_renames_each_member_one_to_one(ensemble):
    labellings, n_clusters = ensemble
    aligned = align(labellings, n_clusters)
    assert aligned.dtype == np.int64
    assert aligned.shape == labellings.shape
    assert aligned.max() < n_clusters
    for before, after in zip(labellings, aligned, strict=True):
        assert partition(before) == partition(after)


@given(ensembles())
def test_every_member_is_matched_to_the_vote_as_well_as_can_be(ensemble):
    labellings, n_clusters = ensemble
    aligned = align(labellings, n_clusters)
    consensus = vote(aligned).labels
    for row in aligned:
        assert ((row == consensus) & (row >= 0)).sum() == most_agreeing(row, consensus, n_clusters)


@given(ensembles())
def test_pivot_agrees_most_with_all_others(ensemble):
    labellings, n_clusters = ensemble
    codes = np.where(labellings < 0, n_clusters, labellings).astype(np.uint8)
    agreement = [
        sum(most_agreeing(a, b, n_clusters) for j, b in enumerate(labellings) if j != i)
        for i, a in enumerate(labellings)
    ]
    assert agreement[_pivot(codes, n_clusters)] == max(agreement)


def votes_at_pivot(labellings, n_clusters):
    codes = _in_order_met(np.where(labellings < 0, n_clusters, labellings).astype(np.uint8), n_clusters)
    matched = _matched(codes, codes[_pivot(codes, n_clusters)], n_clusters)
    return _mode(matched, n_clusters).votes.sum()


def votes_at_end(labellings, n_clusters):
    aligned = align(labellings, n_clusters)
    return int(((aligned == vote(aligned).labels) & (aligned >= 0)).sum())


@given(ensembles(least=0))
def test_votes_do_not_fall_from_the_pivot_to_the_end(ensemble):
    assert votes_at_end(*ensemble) >= votes_at_pivot(*ensemble)


def test_realigning_to_the_vote_gains_on_the_pivot_alone():
    gains = [votes_at_end(x, 5) - votes_at_pivot(x, 5) for x in (planted(5, 30, 5, 0.9, seed)[0] for seed in range(20))]
    assert min(gains) >= 0
    assert sum(gain > 0 for gain in gains) > 5


@given(ensembles(), st.data())
def test_names_and_order_of_the_members_make_no_difference(ensemble, data):
    labellings, n_clusters = ensemble
    threshold = data.draw(st.sampled_from([0.3, 0.5, 0.6, 0.83, 1.0]))
    names = [data.draw(st.permutations(range(n_clusters))) for _ in labellings]
    order = data.draw(st.permutations(range(len(labellings))))
    other = np.stack([renamed(row, name) for row, name in zip(labellings, names, strict=True)])[list(order)]
    aligned, aligned_other = align(labellings, n_clusters), align(other, n_clusters)
    np.testing.assert_array_equal(aligned_other, aligned[list(order)])
    assert said(vote(aligned, threshold)) == said(vote(aligned_other, threshold))


@pytest.mark.parametrize("seed", range(10))
def test_permuted_points_permute_the_answer(seed):
    labellings, _ = planted(7, 400, 4, 0.5, seed)
    labellings[np.random.default_rng(seed).random(labellings.shape) < 0.05] = -1
    order = np.random.default_rng(seed + 100).permutation(400)
    there, back = vote(align(labellings[:, order], 4), 0.8), np.argsort(order)
    here = vote(align(labellings, 4), 0.8)
    assert partition(there.labels[back]) == partition(here.labels)
    np.testing.assert_array_equal(there.share[back], here.share)
    np.testing.assert_array_equal(there.agreed[back], here.agreed)


def test_ties_that_no_rule_can_break_alike_under_points_and_members():
    pair = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    assert said(vote(align(pair, 2))) == said(vote(align(pair[::-1], 2)))


def test_noisy_copies_give_back_the_planted_clusters():
    labellings, truth = planted(9, 2000, 6, 0.4)
    agreement = vote(align(labellings, 6), 0.83)
    found = rename(agreement.labels, truth, 6)
    alone = max((rename(row, truth, 6) == truth).mean() for row in labellings)
    assert alone < 0.7
    assert (found == truth).mean() > 0.98
    assert (found == truth)[agreement.agreed].mean() == 1
    assert 0.1 < agreement.agreed.mean() < 0.8


def test_names_follow_the_pivot_in_the_order_in_which_the_points_meet_them():
    same = [[2, 2, 0, 1, 1], [1, 1, 2, 0, 0], [0, 0, 1, 2, 2]]
    np.testing.assert_array_equal(align(same, 3), [[0, 0, 1, 2, 2]] * 3)


def test_realigning_stops_where_the_vote_stands_still(monkeypatch):
    votes = []
    monkeypatch.setattr("distclust.consensus._mode", lambda *args: votes.append(1) or _mode(*args))
    align(planted(5, 100, 4, 0.1)[0], 4)
    assert len(votes) == 2


@given(st.lists(st.lists(st.integers(0, 70_000), min_size=3, max_size=3), min_size=2, max_size=6))
def test_the_alphabet_of_labellings_does_not_depend_on_their_type(rows):
    spelled = sorted(rows, key=lambda row: _spelled(np.array(row, dtype=np.uint32)))
    assert spelled == sorted(rows)


def test_members_without_a_say_come_back_so_and_change_nothing():
    labellings, _ = planted(3, 50, 4, 0.3)
    silent = np.full((1, 50), -1)
    with_silent = np.concatenate([silent, labellings, silent])
    aligned = align(with_silent, 4)
    np.testing.assert_array_equal(aligned[[0, 4]], np.full((2, 50), -1))
    np.testing.assert_array_equal(aligned[1:4], align(labellings, 4))
    assert said(vote(aligned, 0.6)) == said(vote(align(labellings, 4), 0.6))
    assert vote(aligned).voters == 3


def test_nobody_has_a_say():
    agreement = vote(align(np.full((3, 4), -1), 2), 0.1)
    np.testing.assert_array_equal(agreement.labels, [-1] * 4)
    np.testing.assert_array_equal(agreement.share, [0.0] * 4)
    assert not agreement.agreed.any()
    assert agreement.voters == 0
    np.testing.assert_array_equal(agreement.aligned, np.full((3, 4), -1))


def test_a_single_member_has_no_agreement():
    agreement = vote(align([[3, 3, -1, 0]], 5))
    np.testing.assert_array_equal(agreement.labels, [0, 0, -1, 1])
    assert np.isnan(agreement.share).all()
    assert not agreement.agreed.any()
    assert (agreement.voters, agreement.remarks) == (1, ())


@pytest.mark.parametrize(
    ("members", "voting", "counts"), [(2, 1, False), (3, 1, False), (5, 2, False), (4, 2, True), (3, 2, True)]
)
def test_one_of_several_or_fewer_than_half_agree_on_nothing(members, voting, counts):
    labellings = np.full((members, 6), -1)
    labellings[:voting] = [0, 0, 1, 1, 2, 2]
    agreement = vote(align(labellings, 3))
    np.testing.assert_array_equal(agreement.labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(agreement.share, [float(counts)] * 6)
    np.testing.assert_array_equal(agreement.agreed, [counts] * 6)
    assert agreement.voters == voting
    assert len(agreement.remarks) == (not counts)


@pytest.mark.parametrize("n_clusters", [127, 128, 254, 255, 256, 300])
def test_any_integer_type_and_number_of_clusters(n_clusters):
    labels = np.array([0, 1, 2, 1, n_clusters - 1, -1])
    other = np.array([n_clusters - 1, 1, 0, 1, 2, -1])
    small = np.array([0, 1, 2, 1, 100, -1], dtype=np.int8)
    aligned = align([labels, other.astype(np.int16), small], n_clusters)
    np.testing.assert_array_equal(aligned, [[0, 1, 2, 1, 3, -1]] * 3)


def test_inputs_are_not_changed():
    labellings, _ = planted(3, 20, 3, 0.3)
    before = labellings.copy()
    vote(align(labellings, 3))
    vote(labellings)
    np.testing.assert_array_equal(labellings, before)


# vote


@given(ensembles(), st.sampled_from([0.1, 0.34, 0.5, 0.6, 0.75, 0.83, 1.0]))
def test_vote_against_a_slow_twin(ensemble, threshold):
    aligned, _ = ensemble
    agreement = vote(aligned, threshold)
    labels, share, agreed, voters = slow_vote(aligned.tolist(), threshold)
    np.testing.assert_array_equal(agreement.labels, labels)
    np.testing.assert_allclose(agreement.share, share)
    np.testing.assert_array_equal(agreement.agreed, agreed)
    assert agreement.voters == voters
    assert agreement.labels.dtype == np.int64
    assert agreement.share.dtype == np.float64
    assert agreement.agreed.dtype == np.bool_
    np.testing.assert_array_equal(agreement.aligned, aligned)


@given(ensembles(), st.integers(1, 10**9))
def test_clusters_that_nobody_uses_make_no_difference_to_a_vote(ensemble, more):
    aligned, n_clusters = ensemble
    here, there = vote(aligned, 0.6, n_clusters), vote(aligned, 0.6, n_clusters + more)
    np.testing.assert_array_equal(here.labels, there.labels)
    np.testing.assert_array_equal(here.share, there.share)
    np.testing.assert_array_equal(here.agreed, there.agreed)


@pytest.mark.parametrize(
    ("threshold", "voters", "needed"),
    [
        (0.83, 6, 5),
        (0.83, 15, 13),
        (0.28, 25, 7),
        (0.6, 5, 3),
        (1 / 3, 3, 1),
        (2 / 3, 3, 2),
        (1.0, 15, 15),
        (0.1, 3, 1),
    ],
)
def test_threshold_counts_voters_and_forgives_rounding(threshold, voters, needed):
    # point p has p + 1 votes for label 0; the others give none
    aligned = np.where(np.arange(voters)[:, None] <= np.arange(voters), 0, -1)
    np.testing.assert_array_equal(vote(aligned, threshold).agreed, np.arange(voters) + 1 >= needed)


def test_a_member_without_a_label_at_a_point_still_counts():
    agreement = vote([[0, 1], [0, 1], [-1, 1]])
    np.testing.assert_allclose(agreement.share, [2 / 3, 1])
    np.testing.assert_array_equal(agreement.agreed, [False, True])


def test_a_tie_goes_to_the_rarer_label():
    collapsed, fine = [0] * 6, [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(vote([collapsed, fine]).labels, fine)


# rename


@given(ensembles())
def test_rename_is_the_best_of_all_renamings(ensemble):
    labellings, n_clusters = ensemble
    labels, reference = labellings[0], labellings[-1]
    new = rename(labels, reference, n_clusters)
    assert partition(new) == partition(labels)
    assert ((new == reference) & (labels >= 0)).sum() == most_agreeing(labels, reference, n_clusters)


@given(ensembles(), st.integers(1, 10**9))
def test_rename_keeps_the_reference_s_names_however_many_there_may_be(ensemble, more):
    labellings, n_clusters = ensemble
    labels, reference = labellings[0], np.where(labellings[-1] < 0, -1, labellings[-1] + more)
    new = rename(labels, reference, n_clusters + more)
    assert partition(new) == partition(labels)
    assert new.max() < n_clusters + more
    kept = np.where(new < more, -1, new - more)
    assert ((kept == labellings[-1]) & (kept >= 0)).sum() == most_agreeing(labels, labellings[-1], n_clusters)


# many names


@pytest.fixture
def sparse_tables(monkeypatch):
    monkeypatch.setattr(matching, "DENSE_CELLS", 0)
    monkeypatch.setattr("distclust.consensus.DENSE_CELLS", 0)


@pytest.mark.usefixtures("sparse_tables")
@pytest.mark.parametrize(
    "check",
    [
        test_align_renames_each_member_one_to_one,
        test_every_member_is_matched_to_the_vote_as_well_as_can_be,
        test_pivot_agrees_most_with_all_others,
        test_votes_do_not_fall_from_the_pivot_to_the_end,
        test_names_and_order_of_the_members_make_no_difference,
        test_rename_is_the_best_of_all_renamings,
    ],
)
def test_what_holds_of_small_tables_holds_of_large_ones(check):
    settings(max_examples=25, deadline=None)(check)()


@given(ensembles(), st.integers(20, 10**9))
def test_names_that_nobody_uses_make_no_difference_to_the_agreement(ensemble, more):
    labellings, n_clusters = ensemble
    aligned = align(labellings, n_clusters + more)
    assert [partition(row) for row in aligned] == [partition(row) for row in labellings]
    np.testing.assert_array_equal(aligned, align(labellings, n_clusters + 20))


def peak(function):
    """The most bytes that a call holds."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_names_cost_what_is_used_of_them():
    few = np.random.default_rng(0).integers(20_000, size=(4, 6))
    far = few * 10**12
    for call in (
        lambda: align(few, 20_000),
        lambda: align(far, 10**17),
        lambda: vote(few, 1.0, 20_000),
        lambda: vote(far, 1.0, 10**17),
        lambda: rename(far[0], far[1], 10**17),
    ):
        assert peak(call) < 1e6


def test_many_names_that_are_used_cost_what_is_used():
    """A table of all pairs of names would take 3.2 GB."""
    truth = np.arange(20_000)
    members = [np.random.default_rng(seed).permutation(20_000) for seed in range(2)]
    found = []
    assert peak(lambda: found.append(vote(align([truth, *members], 20_000)))) < 50e6
    assert found[0].share.min() == 1


# bad input


@pytest.mark.parametrize(
    ("labellings", "n_clusters", "message"),
    [
        ([], 2, "there are no labellings"),
        ([[]], 2, "at least one point"),
        ([[0, 1], [0, 1, 1]], 2, "labelling 1 has 3 points and labelling 0 has 2"),
        ([[0, 1], [0.0, 1.0]], 2, "labelling 1 is of float64"),
        ([[0, -2]], 2, "from -2 to 0"),
        ([[0, 2]], 2, r"from 0 to 2; they must lie in -1 .. 1"),
        ([[[0, 1]]], 2, r"shape \(1, 2\)"),
    ],
)
def test_align_refuses(labellings, n_clusters, message):
    with pytest.raises(DataError, match=message):
        align(labellings, n_clusters)


@pytest.mark.parametrize("n_clusters", [0, -1, 2.5, "3"])
def test_number_of_clusters_is_refused(n_clusters):
    with pytest.raises(ParameterError, match="n_clusters is"):
        align([[0, 1]], n_clusters)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_threshold_is_refused(threshold):
    with pytest.raises(ParameterError, match="threshold is"):
        vote([[0, 1]], threshold)


@pytest.mark.parametrize(
    ("aligned", "message"),
    [
        ([0, 1], "shape"),
        ([[0, 1], [0]], "no .members, points. array"),
        ([[0.5, 1]], "float64"),
        (np.empty((0, 3), int), "no labellings"),
        (np.empty((3, 0), int), "at least one point"),
        ([[-2, 0]], "from -2"),
    ],
)
def test_vote_refuses(aligned, message):
    with pytest.raises(DataError, match=message):
        vote(aligned)


# scale


def seconds(n_members, n_points, n_clusters, noise):
    labellings, _ = planted(n_members, n_points, n_clusters, noise)
    start = time.perf_counter()
    vote(align(labellings, n_clusters))
    return time.perf_counter() - start


@pytest.mark.parametrize(("n_points", "n_clusters"), [(100_000, 10), (20_000, 300)])
def test_fast_on_middling_sizes(n_points, n_clusters):
    assert seconds(15, n_points, n_clusters, 0.3) < 30


@pytest.mark.slow
@pytest.mark.parametrize(("n_points", "n_clusters"), [(1_000_000, 10), (100_000, 1000)])
def test_fast_on_large_sizes(n_points, n_clusters):
    assert seconds(15, n_points, n_clusters, 0.3) < 60
