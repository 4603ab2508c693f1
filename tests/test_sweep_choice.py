"""Choosing without labels: the rules on made candidates and labellings, and whole studies of blobs and of noise."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, silhouette_score

from distclust import load
from distclust.errors import ParameterError
from distclust.run import main
from distclust.spec import read
from distclust.sweep import read_study
from distclust.sweep.choice import (
    AHEAD,
    Candidate,
    Evidence,
    Labelling,
    _cause,
    candidate,
    choices,
    choose,
    consensus_of_draws,
    is_settled,
    lead,
    markdown,
    over_draws,
    over_references,
    pair_stabilities,
    plain,
    shared_space,
    silhouette_in,
)
from distclust.sweep.trial import Outcome

NAN = math.nan


def candidate_of(value, strength, error=0.1, **changes):
    plain = {
        "value": value,
        "n_clusters": 5,
        "n_labellings": 5,
        "stability": 0.9,
        "spread": 0.02,
        "reference": 0.4,
        "reference_spread": 0.05,
        "gap": 0.8,
        "strength": strength,
        "error": error,
        "agreed": 0.9,
        "effective_clusters": 4.8,
        "silhouette": 0.3,
        "faults": (),
    }
    return Candidate(**plain | changes)


def draws(labels, n_draws=5, share=0.8, wrong=0.0, seed=0, names=True):
    """Labellings of draws of the points: the labels by other names, some of them at random."""
    rng = np.random.default_rng(seed)
    k, found = int(labels.max()) + 1, []
    for _ in range(n_draws):
        rows = np.sort(rng.permutation(len(labels))[: round(share * len(labels))])
        mine = labels[rows].copy()
        flipped = rng.random(len(rows)) < wrong
        mine[flipped] = rng.integers(k, size=int(flipped.sum()))
        found.append(Labelling(rng.permutation(k)[mine] if names else mine, rows))
    return found


def labels_of(n_clusters, n=300, seed=0):
    return np.random.default_rng(seed).integers(n_clusters, size=n)


# The rules on candidates


def test_the_strongest_is_recommended_where_it_leads_all_others():
    made = choose("n_clusters", [candidate_of(4, 1.0), candidate_of(5, 3.0), candidate_of(6, 2.0)])
    assert (made.recommended, made.level) == (5, (5,))
    assert made.margin == pytest.approx(1.0 / math.log(1.5) * AHEAD)
    assert made.sentence.startswith("n_clusters=5 is recommended, 5 leads 6 by 4.9 standard errors; stability 0.90")


def test_those_within_the_margin_are_level_and_nothing_is_recommended():
    made = choose("n_clusters", [candidate_of(k, s, 0.5) for k, s in [(2, 0.1), (4, 2.5), (5, 3.0), (9, 2.2)]])
    assert (made.recommended, made.level) == (None, (4, 5, 9))
    assert made.margin == pytest.approx(0.5 / math.hypot(0.5, 0.5))
    assert made.sentence.startswith("cannot tell: n_clusters 4, 5 and 9 are level, 5 leads 4 by 0.7 standard errors")


def test_half_as_much_disagreement_again_is_the_least_lead():
    made = choose("n_clusters", [candidate_of(2, 3.0, 1e-6), candidate_of(3, 3.0 - math.log(1.49), 1e-6)])
    assert made.level == (2, 3)
    made = choose("n_clusters", [candidate_of(2, 3.0, 1e-6), candidate_of(3, 3.0 - math.log(1.51), 1e-6)])
    assert made.recommended == 2


def test_equal_values_without_any_spread_are_level():
    made = choose("sigma", [candidate_of(value, 4.6, 0.0, reference=NAN, gap=NAN) for value in (1.0, 10.0)])
    assert (made.recommended, made.margin, made.level) == (None, 0.0, (1.0, 10.0))
    assert "without structure" not in made.sentence


def test_a_value_with_a_fault_is_neither_recommended_nor_a_rival():
    strong = candidate_of(9, 5.0, faults=("uses 3.0 of 9 clusters in effect",))
    made = choose("n_clusters", [candidate_of(5, 3.0), strong])
    assert made.recommended == 5
    assert math.isnan(made.margin)
    assert "no other is beyond structureless data" in made.sentence
    assert "uses 3.0 of 9 clusters in effect" in markdown(made)


def test_nothing_is_recommended_where_all_have_faults():
    faint = [candidate_of(k, 0.1 * k, faults=("not beyond structureless data",)) for k in (2, 3, 4)]
    made = choose("n_clusters", faint)
    assert (made.recommended, made.level) == (None, ())
    assert made.sentence.startswith("cannot tell: no n_clusters from 2 to 4 is clearly more stable on the data than on")
    assert "the nearest is 4" in made.sentence
    lost = [candidate_of(2, NAN, NAN, gap=NAN, faults=("0 labellings, 3 are needed",))]
    assert choose("n_clusters", lost).sentence == (
        "cannot tell: no n_clusters can be judged; 2: 0 labellings, 3 are needed."
    )


def test_the_greatest_value_that_was_tried_is_said_to_be_it():
    made = choose("n_clusters", [candidate_of(k, float(k)) for k in (2, 3, 4)])
    assert made.recommended == 4
    assert made.sentence.endswith("4 is the greatest that was tried, so try greater ones.")
    assert "was tried" not in choose("n_clusters", [candidate_of(k, -float(k)) for k in (2, 3, 4)]).sentence
    assert "3 is the least that was tried" in choose("n_clusters", [candidate_of(k, -k) for k in (3, 4, 5)]).sentence
    assert "was tried" not in choose("n_clusters", [candidate_of(k, k) for k in (3, 4)]).sentence


def test_cases_can_be_chosen_from_too():
    made = choose("method", [candidate_of("ours", 4.0), candidate_of("theirs", 2.0)])
    assert made.recommended == "ours"


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 2), st.booleans()), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_what_is_recommended_does_not_depend_on_the_order_and_leads_all_that_can_be(given_values, random):
    found = [candidate_of(k, s, e, faults=("out",) if out else ()) for k, (s, e, out) in enumerate(given_values)]
    made = choose("n_clusters", found)
    fit = [c for c in found if not c.faults]
    assert (made.level == ()) == (not fit)
    if fit:
        best = max(fit, key=lambda c: c.strength)
        assert best.value in made.level
        assert all(lead(best, c) >= AHEAD for c in fit if c.value not in made.level)
    if made.recommended is not None:
        chosen = found[made.recommended]
        assert chosen in fit
        assert all(c.strength < chosen.strength for c in fit if c is not chosen)
    strengths = [c.strength for c in fit]
    if len(set(strengths)) == len(strengths):
        mixed = list(found)
        random.shuffle(mixed)
        again = choose("n_clusters", mixed)
        assert (again.recommended, set(again.level)) == (made.recommended, set(made.level))


@given(st.lists(st.integers(-5000, 5000), min_size=2, max_size=6), st.floats(0, 1), st.integers(-3000, 3000))
@settings(deadline=None)
def test_a_strength_added_to_all_changes_nothing(thousandths, error, more):
    first, second = (
        choose("n_clusters", [candidate_of(k, (s + added) / 1000, error) for k, s in enumerate(thousandths)])
        for added in (0, more)
    )
    assert second.margin == pytest.approx(first.margin, abs=1e-6)
    assert lead(candidate_of(0, 1.0, error), candidate_of(1, -1.0, error)) > 0


def test_of_settled_values_the_finest_is_recommended_and_the_others_are_named():
    settled = [candidate_of(k, s, stability=0.999, n_clusters=k) for k, s in [(2, 2.0), (3, 3.5), (4, 3.4)]]
    made = choose("n_clusters", [*settled, candidate_of(5, 1.0, n_clusters=5)])
    assert (made.recommended, made.level) == (4, (4,))
    assert made.margin == lead(settled[2], candidate_of(5, 1.0))
    assert "2 and 3 are as stable, with fewer clusters" in made.sentence
    unsure = candidate_of(5, 3.4, 2.0, n_clusters=5)
    made = choose("n_clusters", [*settled, unsure])
    assert (made.recommended, made.level) == (None, (4, 5))


def test_settled_is_more_than_with_one_cluster_too_many():
    assert is_settled(candidate_of(10, 1.0, stability=0.991, n_clusters=10))
    assert not is_settled(candidate_of(100, 1.0, stability=0.991, n_clusters=100))
    k, n = 30, 30_000
    labels = np.arange(n) % k
    split = [np.where((labels == which) & (np.arange(n) % (2 * k) < k), k, labels) for which in range(3)]
    found = candidate(Evidence(k + 1, k + 1, [Labelling(one, np.arange(n)) for one in split]))
    assert 1 - found.stability == pytest.approx(1 / (2 * k), rel=0.1)
    assert not is_settled(found)


def test_values_of_one_number_of_clusters_have_no_finest():
    found = [candidate_of(value, 4.6, 0.0, stability=1.0) for value in (1.0, 10.0)]
    assert choose("sigma", found).level == (1.0, 10.0)


# Labellings of draws


def test_pairs_against_a_twin_that_looks_for_points_one_by_one():
    found = draws(labels_of(4), n_draws=4, wrong=0.3)
    stabilities = pair_stabilities(found)
    for (i, a), (j, b) in itertools.combinations(enumerate(found), 2):
        both = [row for row in a.rows if row in set(b.rows)]
        theirs = [dict(zip(one.rows.tolist(), one.labels.tolist(), strict=True)) for one in (a, b)]
        pair = adjusted_rand_score(*([of[row] for row in both] for of in theirs))
        assert stabilities[i, j] == stabilities[j, i] == pytest.approx(pair)
    assert np.isnan(np.diagonal(stabilities)).all()


def test_a_labelling_without_labels_counts_as_one_cluster():
    rows, right = np.arange(30), np.repeat([0, 1, 2], 10)
    silent = Labelling(np.full(30, -1), rows)
    found = candidate(Evidence(3, 3, [Labelling(right, rows), Labelling(right, rows), silent]))
    assert found.effective_clusters == pytest.approx((3 + 3 + 1) / 3)


@pytest.mark.parametrize(
    ("figures", "cause"),
    [
        ({"voters": 2, "collapsed": 1, "abstained": 0, "lost": 0}, "has 1 collapsed member"),
        (
            {"voters": 2, "collapsed": 2, "abstained": 1, "lost": 1},
            "has 2 collapsed members and 1 abstained member and 1 lost member",
        ),
        ({"voters": 0, "collapsed": 0, "abstained": 3, "lost": 0}, "has no member with a vote"),
        ({"voters": 3, "collapsed": 0, "abstained": 0, "lost": 0}, ""),
    ],
)
def test_members_that_do_not_vote_are_said(figures, cause):
    assert _cause(Outcome("finished", "", 1, figures)) == cause


def test_collapsed_and_unlabelled_draws_count_nothing_and_strangers_do_not_count():
    rows = np.arange(10)
    one = Labelling(np.arange(10) % 2, rows)
    collapsed, silent = Labelling(np.zeros(10, dtype=np.int64), rows), Labelling(np.full(10, -1), rows)
    found = pair_stabilities([one, one, collapsed, collapsed, silent, Labelling(one.labels, rows + 10)])
    assert found[0, 1] == 1
    assert found[2, 3] == found[0, 2] == found[0, 4] == found[4, 2] == 0
    assert np.isnan(found[5]).all()


@given(st.integers(3, 7), st.integers(0, 100))
@settings(deadline=None)
def test_the_error_is_the_jackknifes(n, seed):
    pairs = np.random.default_rng(seed).random((n, n))
    pairs = (pairs + pairs.T) / 2
    np.fill_diagonal(pairs, np.nan)
    without = [
        np.mean([pairs[i, j] for i, j in itertools.combinations(range(n), 2) if draw not in (i, j)])
        for draw in range(n)
    ]
    found = over_draws(pairs)
    assert found.mean == pytest.approx(np.nanmean(pairs))
    assert found.error == pytest.approx(math.sqrt((n - 1) / n * sum((w - np.mean(without)) ** 2 for w in without)))


def test_the_jackknife_knows_how_means_of_independent_numbers_vary():
    rng = np.random.default_rng(0)
    n, means, errors = 6, [], []
    for _ in range(2000):  # pairs that are sums of what each draw brings: the mean varies by 4 / n
        each = rng.normal(size=n)
        pairs = each[:, None] + each
        np.fill_diagonal(pairs, np.nan)
        found = over_draws(pairs)
        means.append(found.mean)
        errors.append(found.error)
    assert np.std(means) == pytest.approx(2 / math.sqrt(n), rel=0.05)
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(2 / math.sqrt(n), rel=0.05)


def test_references_vary_by_their_draws_or_from_one_to_the_other():
    far = [over_draws(np.full((3, 3), value)) for value in (0.0, 2.0)]
    assert over_references(far) == (1.0, pytest.approx(1.0))
    rough = [far[0]._replace(error=3.0), far[0]._replace(error=4.0)]
    assert over_references(rough).error == pytest.approx(2.5)
    assert over_references([far[0], far[1]._replace(error=NAN)]).mean == 0
    assert math.isnan(over_references([far[0]._replace(error=NAN)]).mean)


def test_the_consensus_of_draws_is_the_labels_by_some_names():
    labels = labels_of(4)
    found = consensus_of_draws(draws(labels, 6), 4)
    known = found.labels >= 0
    assert adjusted_rand_score(found.labels[known], labels[: len(found.labels)][known]) == 1
    assert found.agreed == 1


def test_agreed_points_are_those_to_which_all_that_hold_them_give_one_label():
    rows = [np.array([0, 1, 2, 3, 4, 5]), np.array([0, 1, 2, 3, 4, 5]), np.array([1, 2, 3, 4, 6])]
    labels = [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, -1], [0, 0, 1, 1, 0]]
    found = consensus_of_draws([Labelling(np.array(a), r) for a, r in zip(labels, rows, strict=True)], 2)
    assert found.agreed == pytest.approx(5 / 6)  # of 0 to 5; the last has a label by one of two, 6 is held by one
    assert found.labels[[0, 1, 2, 3, 4]].tolist() == [0, 0, 0, 1, 1]


# Candidates of labellings


def evidence(n_clusters=4, wrong=0.02, reference_wrong=0.6, n_references=2, **changes):
    labels = labels_of(n_clusters)
    references = [draws(labels, 5, wrong=reference_wrong, seed=7 + i) for i in range(n_references)]
    return Evidence(n_clusters, n_clusters, draws(labels, 5, wrong=wrong), references)._replace(**changes)


def test_a_stable_value_is_beyond_references_that_are_not():
    found = candidate(evidence())
    assert found.faults == ()
    assert found.stability > 0.85 > found.reference + 0.5
    assert found.gap == pytest.approx(1 - (1 - found.stability) / (1 - found.reference))
    assert found.strength > 5 * found.error > 0
    assert found.effective_clusters == pytest.approx(4, abs=0.1)
    assert choose("n_clusters", [found]).recommended == 4


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.3, 0.6])
def test_what_is_as_stable_without_structure_is_not_recommended(wrong):
    found = candidate(evidence(wrong=wrong, reference_wrong=wrong))
    assert found.faults == ("not beyond structureless data",)


def test_less_than_half_the_disagreement_is_asked_for():
    assert candidate(evidence(wrong=0.30, reference_wrong=0.40)).faults  # clear, but not much
    assert not candidate(evidence(wrong=0.10, reference_wrong=0.40)).faults


def test_a_value_that_uses_few_of_its_clusters_is_out():
    found = candidate(evidence(n_clusters=4)._replace(n_clusters=6))
    assert found.faults == ("uses 4.0 of 6 clusters in effect",)


def test_too_few_labellings_cannot_be_judged():
    few = evidence()
    assert candidate(few._replace(data=few.data[:2])).faults == ("2 labellings, 3 are needed",)
    assert candidate(few._replace(data=[])).faults == ("0 labellings, 3 are needed",)
    references = [few.references[0][:2], []]
    assert candidate(few._replace(references=references)).faults == (
        "too few labellings of structureless data to compare with",
    )
    assert not candidate(few._replace(references=[few.references[0], []])).faults


def test_without_references_values_are_compared_by_their_disagreement():
    found = [candidate(evidence(wrong=wrong, references=())._replace(value=wrong)) for wrong in (0.4, 0.02, 0.2)]
    assert all(math.isnan(c.gap) and not c.faults for c in found)
    assert choose("sigma", found).recommended == 0.02


@given(st.integers(2, 6), st.floats(0, 0.9), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_names_of_clusters_make_no_difference(n_clusters, wrong, seed):
    found = draws(labels_of(n_clusters, 120, seed), 4, wrong=wrong, seed=seed)
    rng = np.random.default_rng(seed)
    renamed = [Labelling(rng.permutation(n_clusters)[draw.labels], draw.rows) for draw in found]
    first, second = (candidate(Evidence(1, n_clusters, of_one, [of_one])) for of_one in (found, renamed))
    assert second.stability == pytest.approx(first.stability)
    assert second.effective_clusters == pytest.approx(first.effective_clusters)
    assert (second.strength, first.strength) == (0, 0)  # as stable as itself


def test_all_values_are_looked_at_in_one_space():
    data = load("digits")
    space = shared_space(data.x, 3)
    assert space.points.shape == (1797, 50)
    large = shared_space(np.random.default_rng(0).random((2500, 3)), 0)
    assert large.points.shape == (2000, 3)
    np.testing.assert_allclose(large.points.std(0), 1)
    labels = np.arange(1797) % 7
    labels[::5] = -1
    kept = labels >= 0
    assert silhouette_in(space, labels) == pytest.approx(silhouette_score(space.points[kept], labels[kept]))
    assert math.isnan(silhouette_in(space, np.zeros(1797, dtype=np.int64)))
    assert silhouette_in(space, labels[:1000]) == pytest.approx(
        silhouette_score(space.points[:1000][kept[:1000]], labels[:1000][kept[:1000]])
    )


# A study


SPACE = {
    "n_clusters": {"grid": [2, 3, 4, 5, 6]},
    "reference": {
        "cases": {
            "data": {},
            "reference 1": {"dataset.reference": "gaussian"},
            "reference 2": {"dataset.reference": "gaussian", "dataset.reference_draw": 1},
        }
    },
    "random_state": {"seeds": 4},
}
KMEANS = {"method": "entropy", "loss": "k-means", "backbone": "linear", "n_rounds": 1}
OPTIONS = {"choose": "n_clusters", "resample": 0.8, "measures": []}


@pytest.fixture
def study(tmp_path):
    def make(words=(), **changes):
        found = {**KMEANS, "dataset": "digits", "pool": {"kind": "local"}, "space": SPACE, "study": OPTIONS, **changes}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(found, sort_keys=False))
        return read_study(path, words)

    return make


def test_every_seed_is_given_its_own_draw_of_the_points(study):
    trials = study().trials()
    assert len(trials) == 5 * 3 * 4
    for trial in trials:
        options = trial.spec.dataset_options
        assert options["resample"] == 0.8
        assert options["resample_draw"] == trial.values["random_state"]
        assert ("reference" in options) == (trial.values["reference"] != "data")
    assert study().references == ("reference",)
    again = yaml.safe_load(study().to_yaml())["study"]
    assert again == {"choose": "n_clusters", "resample": 0.8, "measures": []}


def test_another_dataset_keeps_its_references(study):
    made = study(["dataset=usps", "dataset.n_samples=200"])
    assert made.references == ("reference",)
    options = [trial.spec.dataset_options for trial in made.trials() if trial.values["reference"] == "reference 2"]
    assert all((o["reference"], o["reference_draw"], o["n_samples"]) == ("gaussian", 1, 200) for o in options)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": {"resample": 0.8}}, "resample is for studies that choose"),
        ({"study": {"choose": "sigma"}}, "choose='sigma' cannot be used"),
        ({"study": {"choose": "reference"}}, "one of n_clusters"),
        ({"study": {**OPTIONS, "objective": "oracle_acc"}}, "goes by no true label"),
        ({"study": {**OPTIONS, "resample": 1.5}}, "resample"),
        ({"space": {**SPACE, "random_state": {"seeds": 2}}}, "at least three labellings"),
        ({"space": {**SPACE, "n_clusters": {"choice": [2, 3]}}}, "there is none. Add one to `space`"),
        ({"study": {**OPTIONS, "scheduler": "asha"}, "pool": {}}, "scheduler: none"),
    ],
)
def test_faults_of_a_study_that_chooses(study, changes, said):
    with pytest.raises(ParameterError, match=said):
        study(**changes).check()


def test_members_are_compared_where_there_is_one_seed(study):
    study(n_members=3, space={**SPACE, "random_state": {"seeds": 1}}).check()


def ended_of(study, fate):
    return [
        (trial, fate(trial) or Outcome("finished", "", 1, {"voters": 1, "collapsed": 0})) for trial in study.trials()
    ]


def labellings_of(trial, true=3):
    """The labels of three groups cut into as many as were asked for, at random without structure."""
    k, seed = trial.spec.parameters["n_clusters"], trial.values["random_state"]
    rng = np.random.default_rng([seed, k])
    labels = np.arange(300) % true if "reference" not in trial.spec.dataset_options else rng.integers(k, size=300)
    if k != true:
        labels = np.where(rng.random(300) < 0.5, labels % k, rng.integers(k, size=300))
    rows = np.sort(rng.permutation(300)[:240])
    return [Labelling(labels[rows], rows)]


def test_a_study_says_one_thing_of_each_setting_and_names_what_failed(study):
    made = study(space={"dataset": {"grid": ["digits", "moons"]}, **SPACE})

    def fate(trial):
        if (
            trial.values["n_clusters"] == 4
            and trial.values["random_state"] == 2
            and trial.values["reference"] == "data"
        ):
            return Outcome("failed", "it ran out of memory.", 0, {})
        if (
            trial.values["n_clusters"] == 5
            and trial.values["random_state"] == 1
            and trial.values["reference"] == "data"
        ):
            return Outcome("finished", "", 1, {"voters": 0, "collapsed": 1})
        return None

    found = choices(made, ended_of(made, fate), labellings_of, lambda trial: None)
    assert [choice.setting for choice in found] == [{"dataset": "digits"}, {"dataset": "moons"}]
    for choice in found:
        assert choice.recommended == 3
        remarks = {c.value: c.remarks for c in choice.candidates}
        assert remarks[4] == ("seed 2 failed: it ran out of memory.",)
        assert remarks[5] == ("seed 1 collapsed",)
        assert [c.n_labellings for c in choice.candidates] == [4, 4, 3, 4, 4]
        assert "seed 2 failed" in markdown(choice)
        assert json.loads(json.dumps(plain(choice)))["recommended"] == 3


def run_study(tmp_path, name, words):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**KMEANS, "pool": {"kind": "local"}, "space": SPACE, "study": OPTIONS}))
    out = tmp_path / name
    assert main(["sweep", str(path), *words, "--out", str(out)]) == 0
    return out, json.loads((out / "choice.json").read_text())


@pytest.mark.slow
def test_a_whole_study_finds_the_number_of_blobs_and_nothing_in_noise(tmp_path, capsys):
    blobs = ["dataset=blobs", "dataset.n_clusters=4", "dataset.n_features=5", "dataset.n_samples=300", "dataset.seed=1"]
    out, (found,) = run_study(tmp_path, "blobs", blobs)
    assert found["recommended"] == 4
    assert found["level"] == [4]
    told = capsys.readouterr().out
    assert f"{found['sentence']}" in told
    for name in ("choice.md", "table.md"):
        assert found["sentence"] in (out / name).read_text()
    assert (out / "objective.png").read_bytes().startswith(b"\x89PNG")
    trial = read_study(out / "study.yaml").trials()[0]
    index = pd.read_parquet(out / "trials" / trial.name / "labels.parquet")["index"]
    assert index.tolist() == trial.spec.load().rows.tolist()  # which points of the data a draw holds
    spec = read(out / "best.yaml")
    assert spec.parameters["n_clusters"] == 4
    assert not {"resample", "resample_draw", "reference"} & set(spec.dataset_options)
    assert main(["--config", str(out / "best.yaml"), "--out", str(tmp_path / "best")]) == 0

    noise = ["dataset=blobs", "dataset.n_clusters=1", "dataset.n_features=5", "dataset.n_samples=300"]
    out, (found,) = run_study(tmp_path, "noise", noise)
    assert found["recommended"] is None
    assert "cannot tell" in found["sentence"]
    assert not (out / "best.yaml").exists()
