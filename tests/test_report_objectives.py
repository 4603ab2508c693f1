"""Pictures of sweeps: what they show of given numbers, and that they are drawn."""

import math
import struct

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distclust.report import objectives
from distclust.report.objectives import Course, Curves, Effect, Line, beside_references, courses, effects, is_wide
from distclust.report.pictures import BarChart, Chart, panels
from distclust.sweep import read_study
from distclust.sweep.choice import Candidate, choose
from distclust.sweep.pictures import choice_picture, objective_picture, rounds_picture
from distclust.sweep.table import settings
from distclust.sweep.trial import Outcome

NAN = math.nan


@pytest.fixture
def drawn(monkeypatch):
    """The panels that a picture was drawn of, instead of the picture."""
    seen = []

    def keep(title, shown, n_columns=None):
        seen.append((title, list(shown)))
        return panels(title, shown, n_columns)

    monkeypatch.setattr(objectives, "panels", keep)
    return seen


def size(png):
    """Width and height of a PNG in pixels."""
    assert png.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", png[16:24])


NUMBERS = Line("digits", [1.0, 100.0, 10.0], [0.2, 0.4, 0.3], [0.02, 0.04, 0.03])
NAMES = Line("digits", ["ours", "theirs"], [0.5, 0.4], [0.1, NAN])


def test_numbers_make_lines_with_spreads_by_ascending_values(drawn):
    assert size(effects("a study", "stability", [Effect("sigma", [NUMBERS])]))[0] == 1200
    ((title, (chart,)),) = drawn
    assert (title, chart.x_label, chart.value_label, chart.log) == ("a study", "sigma", "stability", True)
    (curve,) = chart.curves
    assert curve.x.tolist() == [1, 10, 100]
    assert curve.values.tolist() == [0.2, 0.3, 0.4]
    assert curve.spread.tolist() == [0.02, 0.03, 0.04]
    assert curve.joined


def test_names_make_bars_with_spreads(drawn):
    size(effects("a study", "stability", [Effect("method", [NAMES, NAMES._replace(name="usps")])]))
    ((_, (chart,)),) = drawn
    assert isinstance(chart, BarChart)
    assert chart.names == ["ours", "theirs"]
    assert [bars.name for bars in chart.bars] == ["digits", "usps"]
    assert chart.bars[0].spread.tolist() == [0.1, 0.0]
    assert chart.bars[0].colours != chart.bars[1].colours


def test_drawn_values_make_points(drawn):
    line = Line("", [0.3, 0.1], [0.5, NAN], [NAN, NAN])
    size(effects("a study", "stability", [Effect("rate", [line], drawn=True, log=True)]))
    ((_, (chart,)),) = drawn
    assert chart.log
    assert not chart.curves[0].joined
    assert chart.curves[0].x.tolist() == [0.3]  # what is not known is left out
    assert chart.curves[0].spread is None


def test_six_lines_at_most_and_all_of_them_told_apart_without_colour(drawn):
    lines = [Line(f"setting {k}", [1, 2, 3], [k, k, k], [NAN] * 3) for k in range(8)]
    size(courses("a study", [Course("agreed %", lines), Course("accuracy", lines[:1])]))
    ((_, (chart, _)),) = drawn
    assert [curve.name for curve in chart.curves] == [f"setting {k}" for k in range(6)]
    assert len({(curve.colour % 3, curve.dashed) for curve in chart.curves}) == 6  # marker and line
    assert chart.x_label == "round"


CURVES = Curves(
    "n_clusters",
    [2, 3, 4],
    [0.5, 1.0, 0.8],
    [0.1, 0, 0.1],
    [0.6, 0.5, 0.4],
    [0.1] * 3,
    [0.7, 1.0, 0.8],
    [0.1, 0.5, 0.3],
)


def test_stability_stands_beside_that_without_structure(drawn):
    size(beside_references("which", [CURVES._replace(recommended=3)]))
    ((_, (stability, rest)),) = drawn
    assert [(c.name, c.dashed) for c in stability.curves] == [("the data", False), ("without structure", True)]
    assert [c.name for c in rest.curves] == ["share of agreed points", "silhouette"]
    assert stability.mark == rest.mark == ("recommended: 3", 3.0)
    assert stability.bands
    assert not stability.log


def test_what_was_not_measured_is_not_shown_and_nothing_is_marked(drawn):
    found = CURVES._replace(values=[1.0, 100.0, 10_000.0], reference=[NAN] * 3, reference_spread=[NAN] * 3)
    size(beside_references("which", [found, found._replace(title="usps")]))
    ((_, shown),) = drawn
    assert len(shown) == 4
    assert [c.name for c in shown[0].curves] == ["the data"]
    assert shown[0].mark is None
    assert shown[0].log
    assert shown[2].title == "usps: stability"


def test_cases_are_chosen_from_in_bars(drawn):
    size(beside_references("which", [CURVES._replace(values=["a", "b", "c"], recommended="b")]))
    assert all(isinstance(chart, BarChart) for chart in drawn[0][1])
    assert drawn[0][1][0].title == "stability (recommended: b)"


def test_more_panels_make_more_rows():
    chart = Chart("a", "b", "c", [])
    heights = [size(panels("title", [chart] * n))[1] for n in (1, 3, 4, 6, 7)]
    assert heights[0] == heights[1] < heights[2] == heights[3] < heights[4]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5))
def test_wide_numbers_are_those_that_reach_fifty_times_as_far(values):
    assert is_wide(values) == (max(values) / min(values) >= 50)
    assert not is_wide([0.0, *values])
    assert not is_wide([True, 100])
    assert not is_wide(["1", "100"])
    assert not is_wide([])


# A sweep's


@pytest.fixture
def study(tmp_path):
    def make(**changes):
        found = {
            "method": "combination",
            "dataset": "digits",
            "n_members": 3,
            "space": {
                "sigma": {"grid": [1.0, 100.0]},
                "start": {"cases": {"ours": {}, "theirs": {"schedule": "constant"}}},
                "random_state": {"seeds": 2},
            },
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**found, **changes}, sort_keys=False))
        return read_study(path)

    return make


def ended(study, figure):
    return [
        (trial, Outcome("finished", "", 1, {"voters": 3, "collapsed": 0, **figure(trial.values)}))
        for trial in study.trials()
    ]


def test_the_objective_is_shown_along_each_axis_as_a_mean_over_the_others(study, drawn):
    made = study()

    def figure(values):
        return {"stability": (values["sigma"] == 100.0) * 0.5 + (values["start"] == "ours") * 0.2}

    size(objective_picture(made, settings(made, ended(made, figure), lambda trial: None)))
    ((title, (sigma, start)),) = drawn
    assert title == "study: stability"
    assert sigma.curves[0].values == pytest.approx([0.1, 0.6])
    assert sigma.curves[0].spread == pytest.approx([0.2 / math.sqrt(2)] * 2)
    assert start.bars[0].values == pytest.approx([0.45, 0.25])


def test_each_dataset_has_a_line_and_what_is_to_be_small_its_own_sign(study, drawn):
    space = {"dataset": {"grid": ["digits", "moons"]}, "sigma": {"grid": [1.0, 100.0]}, "random_state": {"seeds": 2}}
    made = study(space=space, study={"objective": "oracle_kl_star"})
    found = settings(made, ended(made, lambda values: {"oracle_kl_star": values["sigma"]}), lambda trial: None)
    size(objective_picture(made, found))
    ((_, (dataset, sigma)),) = drawn
    assert isinstance(dataset, BarChart)
    assert [curve.name for curve in sigma.curves] == ["digits", "moons"]
    assert sigma.curves[0].values == pytest.approx([1, 100])
    assert sigma.value_label == "KL*"


def test_there_is_no_picture_without_anything_to_compare(study):
    made = study(space={"random_state": {"seeds": 2}})
    found = settings(made, ended(made, lambda values: {"stability": 0.5}), lambda trial: None)
    assert objective_picture(made, found) is None
    assert rounds_picture(made, found, [({"random_state": 0}, [{"round": 0, "agreed": 0.5}])]) is None


def test_rounds_are_means_over_the_trials_that_had_them(study, drawn):
    made = study(space={"sigma": {"grid": [1.0, 100.0]}, "random_state": {"seeds": 2}})
    known = ended(made, lambda values: {"stability": values["sigma"] / 200})
    found = settings(made, known, lambda trial: None)
    rows = [
        (
            trial.values,
            [{"round": r, "agreed": 0.5 + r / 10, "oracle_acc": 0.9} for r in range(2 + trial.values["random_state"])],
        )
        for trial, _ in known
    ]
    size(rounds_picture(made, found, rows))
    ((title, (agreed, accuracy)),) = drawn
    assert title == "study: round by round"
    assert [curve.name for curve in agreed.curves] == ["100", "1"]  # the best first
    assert agreed.curves[0].x.tolist() == [1, 2, 3]
    assert agreed.curves[0].values == pytest.approx([50, 60, 70])
    assert accuracy.value_label == "accuracy of all points %"


def test_a_choice_is_drawn_with_its_value_marked(study, drawn):
    made = study(space={"n_clusters": {"grid": [2, 3]}, "random_state": {"seeds": 3}}, study={"choose": "n_clusters"})
    found = [
        Candidate(k, k, 3, 0.9, 0.01, 0.4, 0.1, 0.8, float(k), 0.1, 0.9, float(k), np.float64(0.3), ()) for k in (2, 3)
    ]
    size(choice_picture(made, [choose("n_clusters", found)]))
    ((title, (stability, _)),) = drawn
    assert title == "study: which n_clusters"
    assert stability.mark == ("recommended: 3", 3.0)
