"""Tables of a sweep: means and spreads, what is chosen and by what, Markdown, csv, LaTeX, ours beside a paper's."""

import csv
import io
import re

import numpy as np
import pytest
import yaml

from distclust.published import compare, table
from distclust.published import markdown as as_compared
from distclust.sweep import read_study
from distclust.sweep.table import best, comma_separated, frame, latex, markdown, ours, settings, trial_rows
from distclust.sweep.trial import Outcome

CASES = {"CA (ours)": {"support": "greedy"}, "SK": {"support": "sinkhorn"}}


def squeezed(table):
    """A table without the blanks that pad its columns."""
    return re.sub(r" +", " ", table)


@pytest.fixture
def study(tmp_path):
    def make(**changes):
        found = {
            "method": "combination",
            "dataset": "digits",
            "n_members": 3,
            "space": {"method": {"cases": CASES}, "random_state": {"seeds": 3}},
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**found, **changes}, sort_keys=False))
        return read_study(path)

    return make


def figures(stability=0.5, acc=0.5, voters=3, **more):
    return {
        "voters": voters,
        "collapsed": 3 - voters,
        "stability": stability,
        "oracle_acc": acc,
        "seconds": 1.0,
        **more,
    }


def ended(study, found):
    """Outcomes in the order of the trials: figures, or a status with its cause."""
    outcomes = [
        Outcome("finished", "", 1, one) if isinstance(one, dict) else Outcome(one[0], one[1], 0, {}) for one in found
    ]
    return list(zip(study.trials(), outcomes, strict=True))


def nothing(trial):
    return None


def test_means_and_standard_deviations_over_seeds(study):
    one = study()
    stabilities = [0.1, 0.2, 0.6, 0.5, 0.5, 0.5]
    first, second = settings(one, ended(one, [figures(s) for s in stabilities]), nothing)
    assert first.values == {"method": "CA (ours)"}
    assert first.means["stability"] == pytest.approx(0.3)
    assert first.stds["stability"] == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    assert (second.means["stability"], second.stds["stability"]) == (0.5, 0)
    assert (first.n_trials, first.n_ended, first.objective) == (3, 3, pytest.approx(0.3))


def test_the_objective_chooses_and_true_labels_do_not(study):
    one = study()
    found = settings(one, ended(one, [figures(0.4, 0.9)] * 3 + [figures(0.6, 0.1)] * 3), nothing)
    assert [s.values["method"] for s in best(one, found)] == ["SK"]
    assert "**SK**" in squeezed(markdown(one, found))
    assert "no true label chose it" in squeezed(markdown(one, found))


def test_true_labels_choose_only_by_name(study):
    one = study(study={"objective": "oracle_acc"})
    found = settings(one, ended(one, [figures(0.4, 0.9)] * 3 + [figures(0.6, 0.1)] * 3), nothing)
    assert [s.values["method"] for s in best(one, found)] == ["CA (ours)"]
    assert "true labels, as the study asks for chose it" in squeezed(markdown(one, found))


def test_a_divergence_is_to_be_small(study):
    one = study(study={"objective": "oracle_kl_star"})
    found = settings(one, ended(one, [figures(oracle_kl_star=0.1)] * 3 + [figures(oracle_kl_star=2.0)] * 3), nothing)
    assert [s.values["method"] for s in best(one, found)] == ["CA (ours)"]


def test_a_trial_without_the_objective_counts_as_the_worst(study):
    """Else a setting of which two seeds of three collapsed would be judged by the third."""
    one = study()
    lucky = [figures(0.9), figures(float("nan"), voters=0), figures(float("nan"), voters=0)]
    found = settings(one, ended(one, lucky + [figures(0.5)] * 3), nothing)
    assert found[0].means["stability"] == 0.9
    assert found[0].collapsed == 2
    assert [s.values["method"] for s in best(one, found)] == ["SK"]
    assert "| collapsed |" in squeezed(markdown(one, found))


def test_of_each_dataset_its_own_best_is_chosen(study):
    one = study(space={"dataset": {"grid": ["digits", "moons"]}, "method": {"cases": CASES}})
    found = settings(one, ended(one, [figures(s) for s in (0.9, 0.8, 0.1, 0.2)]), nothing)
    assert [(s.dataset, s.values["method"]) for s in best(one, found)] == [("digits", "CA (ours)"), ("moons", "SK")]


def test_single_members_are_compared_between_seeds(study):
    one = study(n_members=1)
    rng = np.random.default_rng(0)
    right, wrong = np.repeat([0, 1, 2], 50), [rng.integers(0, 3, 150) for _ in range(3)]
    labels = dict(zip([t.name for t in one.trials()], [right, (right + 1) % 3, right, *wrong], strict=True))
    alone = figures(float("nan"), voters=1, collapsed=0)
    found = settings(one, ended(one, [alone] * 6), lambda trial: labels[trial.name])
    assert found[0].means["seed_stability"] == 1  # names of clusters do not matter
    assert abs(found[1].means["seed_stability"]) < 0.05
    assert [s.values["method"] for s in best(one, found)] == ["CA (ours)"]
    assert "stability of seeds" in squeezed(markdown(one, found))


def test_a_collapsed_seed_counts_against_the_stability_of_seeds(study):
    one = study(n_members=1)
    right = np.repeat([0, 1, 2], 50)
    found = settings(
        one,
        ended(one, [figures(float("nan"), voters=1)] * 6),
        lambda trial: np.full(150, -1) if trial.spec.parameters["random_state"] == 0 else right,
    )
    assert found[0].means["seed_stability"] == pytest.approx(1 / 3)  # one pair of three


def test_failed_and_missing_trials_are_named(study):
    one = study()
    found = settings(
        one, ended(one, [figures()] * 2 + [("failed", "it broke.")] + [("missing", "no cifar10.")] * 3), nothing
    )
    shown = squeezed(markdown(one, found))
    assert "| CA (ours) | 2 of 3 |" in shown
    assert "| SK | 0 of 3 |" in shown
    assert "CA (ours): failed: it broke." in shown
    assert shown.count("digits: missing: no cifar10.") == 1
    assert best(one, found) == []  # nothing to choose among


def test_a_cause_of_many_settings_is_told_once(study):
    one = study(space={"sigma": {"grid": [1.0, 2.0, 3.0, 4.0, 5.0]}})
    found = settings(one, ended(one, [("failed", "it broke.")] * 5), nothing)
    assert markdown(one, found).splitlines()[-1] == "1; 2; 3 and 2 more: failed: it broke."


def test_percentages_and_digits(study):
    one = study()
    found = settings(one, ended(one, [figures(0.123, 0.6174)] * 6), nothing)
    assert "| CA (ours) | 3 | 0.12 (0.00) | 1 (0) | 61.7 (0.0) |" in squeezed(markdown(one, found)).replace("**", "")


def test_csv_holds_every_figure_in_full(study):
    one = study()
    found = settings(one, ended(one, [figures(s, 1 / 3) for s in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]), nothing)
    rows = list(csv.DictReader(io.StringIO(comma_separated(one, found))))
    assert [row["method"] for row in rows] == ["CA (ours)", "SK"]
    assert float(rows[0]["stability_mean"]) == pytest.approx(0.2)
    assert float(rows[1]["stability_std"]) == pytest.approx(0.1)
    assert float(rows[0]["oracle_acc_mean"]) == 1 / 3


def test_latex_escapes_what_it_must(study):
    one = study(space={"row": {"cases": {"50% & more_of\\it": {}, "b": {"support": "none"}}}})
    found = settings(one, ended(one, [figures(0.6), figures(0.5)]), nothing)
    shown = latex(one, found)
    assert r"\textbf{50\% \& more\_of\textbackslash it}" in shown
    assert shown.startswith("\\begin{tabular}{l")
    rows = [line for line in shown.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1


def test_a_pipe_in_a_name_does_not_break_the_table(study):
    one = study(space={"row": {"cases": {"a|b": {}, "b": {"support": "none"}}}})
    found = settings(one, ended(one, [figures(0.6), figures(0.5)]), nothing)
    assert r"a\|b" in squeezed(markdown(one, found))


def test_rows_of_trials(study):
    one = study()
    rows = trial_rows(one, ended(one, [figures()] * 5 + [("failed", "it broke.")]))
    assert rows[0] | {"method": "CA (ours)", "random_state": 0, "status": "finished", "dataset": "digits"} == rows[0]
    assert (rows[5]["status"], rows[5]["cause"], rows[5]["random_state"]) == ("failed", "it broke.", 2)
    found = frame(rows)
    assert len(found) == 6
    assert np.isnan(found["stability"][5])


def test_ours_has_the_names_and_units_of_the_published_table(study):
    one = study(
        dataset="fashion-mnist",
        study={"published": "combination-1"},
        space={
            "method": {"cases": CASES},
            "start": {"cases": {"ours": {}, "the paper's": {"centroids": "normal"}}},
            "random_state": {"seeds": 2},
        },
    )
    found = settings(one, ended(one, [figures(0.5, acc) for acc in (0.6, 0.62, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2)]), nothing)
    rows = compare(ours(one, found), table("combination-1"))
    assert [(r.theirs.method, r.variant, r.mean) for r in rows] == [
        ("CA (ours)", "start ours", pytest.approx(61)),
        ("CA (ours)", "start the paper's", pytest.approx(40)),
        ("SK", "start ours", pytest.approx(30)),
        ("SK", "start the paper's", pytest.approx(20)),
    ]
    assert {r.n_seeds for r in rows} == {2}


def test_sizes_by_class_are_columns(study):
    one = study(space={"support": {"grid": ["greedy", "none"]}})
    sizes = {f"oracle_size_{k}": 10.0 + k for k in (0, 10, 2)}
    shown = squeezed(markdown(one, settings(one, ended(one, [figures(0.5, **sizes)] * 2), nothing)))
    assert "| size of class 0 | size of class 2 | size of class 10 |" in shown
    assert "| 10 | 12 | 20 |" in shown


NAN = float("nan")


def test_a_column_that_fewer_seeds_have_says_so_everywhere(study):
    cases = {"CA": {"support": "greedy"}, "SK": {"support": "sinkhorn"}}
    space = {"method": {"cases": cases}, "random_state": {"seeds": 3}}
    options = {"objective": "silhouette", "published": "combination-4"}
    one = study(n_members=1, study=options, dataset="fashion-mnist", space=space)
    three = [figures(silhouette=s, oracle_soft_kl_star=1.0 + s) for s in (0.1, NAN, 0.3)]
    none = [figures(silhouette=NAN) for _ in range(3)]
    found = settings(one, ended(one, three + none), nothing)
    assert found[0].counts["silhouette"] == 2
    assert found[0].counts["oracle_acc"] == 3
    assert found[1].counts["silhouette"] == 0
    shown = squeezed(markdown(one, found)).replace("**", "")
    assert "| 0.20 (0.14) [2 of 3] |" in shown
    assert "| [0 of 3] |" in shown
    assert "[k of n]" in shown
    assert "0.20 (0.14) [2 of 3]" in latex(one, found)
    first, second = csv.DictReader(io.StringIO(comma_separated(one, found)))
    assert (first["silhouette_seeds"], first["oracle_acc_seeds"]) == ("2", "3")
    assert (second["silhouette_seeds"], second["silhouette_mean"]) == ("0", "")
    rows = [r for r in compare(ours(one, found), table("combination-4")) if r.theirs.metric == "soft kl*"]
    assert rows
    assert {(r.n_seeds, r.n_trials) for r in rows} == {(2, 3)}
    assert "| 2 of 3 |" in squeezed(as_compared(rows))


def test_a_column_that_all_seeds_have_says_nothing(study):
    one = study()
    found = settings(one, ended(one, [figures()] * 6), nothing)
    assert "of" not in re.sub(r"stability of members", "", markdown(one, found).splitlines()[2])
    assert "[k of n]" not in markdown(one, found)


def test_members_that_do_not_vote_are_columns(study):
    one = study()
    lost = [figures(voters=2, collapsed=0, lost=1, abstained=0)] * 3
    shown = markdown(one, settings(one, ended(one, lost + [figures(voters=1)] * 3), nothing))
    assert "lost members" in shown
    assert "collapsed members" in shown
    assert "abstained members" not in shown


def test_only_collapse_counts_as_collapse(study):
    one = study()
    found = settings(one, ended(one, [figures(NAN, voters=0, collapsed=0, abstained=3)] * 3 + [figures()] * 3), nothing)
    assert found[0].collapsed == 0
    assert "abstained members" in markdown(one, found)


def test_a_failed_trial_counts_as_the_worst(study):
    """Else a setting of which two seeds of three crashed would be judged by the third."""
    one = study()
    lucky = [figures(0.9), ("failed", "no room."), ("failed", "no room.")]
    found = settings(one, ended(one, lucky + [figures(0.5)] * 3), nothing)
    assert [s.values["method"] for s in best(one, found)] == ["SK"]
    assert "CA (ours): failed: no room." in markdown(one, found)
    assert "% CA (ours): failed: no room." in latex(one, found)


def test_a_failed_seed_counts_against_the_stability_of_seeds(study):
    one = study(n_members=1)
    right = np.repeat([0, 1, 2], 50)
    alone = figures(NAN, voters=1, collapsed=0)
    found = settings(one, ended(one, [alone, alone, ("failed", "no room.")] + [alone] * 3), lambda trial: right)
    assert (found[0].means["seed_stability"], found[0].counts["seed_stability"]) == (1, 2)
    assert found[0].objective == pytest.approx(1 / 3)  # one pair of three
    assert found[1].objective == 1
