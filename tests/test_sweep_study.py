"""Studies: what a YAML file and words make of one, the trials they stand for, and what is refused."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distclust.errors import InputError, ParameterError, UnknownNameError
from distclust.sweep import read_study
from distclust.sweep.study import Axis, grouped, value_text

SMALL = {
    "method": "combination",
    "dataset": {"name": "digits", "n_samples": 300},
    "n_members": 2,
    "space": {"sigma": {"grid": [1.0, 10.0]}, "random_state": {"seeds": 3}},
}


def write(tmp_path, found, name="study.yaml"):
    path = tmp_path / name
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    return path


def study(tmp_path, *words, **changes):
    return read_study(write(tmp_path, {**SMALL, **changes}), words)


def parameters(found):
    return [dict(trial.spec.parameters) for trial in found.trials()]


def test_all_listed_values_are_tried_with_all_others(tmp_path):
    trials = study(tmp_path).trials()
    assert [(t.spec.parameters["sigma"], t.spec.parameters["random_state"]) for t in trials] == [
        (s, seed) for s in (1.0, 10.0) for seed in range(3)
    ]
    assert len({t.name for t in trials}) == 6
    assert {t.spec.dataset_options["n_samples"] for t in trials} == {300}
    assert trials[0].title == "combination/digits/1/seed0"


def test_the_first_axis_varies_slowest(tmp_path):
    space = {"random_state": {"seeds": [7, 3]}, "sigma": {"grid": [5.0, 6.0]}}
    found = parameters(study(tmp_path, space=space))
    assert [(p["random_state"], p["sigma"]) for p in found] == [(7, 5.0), (7, 6.0), (3, 5.0), (3, 6.0)]


def test_cases_set_several_keys_under_one_name(tmp_path):
    space = {"row": {"cases": {"ours": {}, "the paper's": {"centroids": "normal", "dataset": {"n_samples": 200}}}}}
    ours, theirs = study(tmp_path, space=space).trials()
    assert "centroids" not in ours.spec.parameters
    assert theirs.spec.parameters["centroids"] == "normal"
    assert (ours.spec.dataset_options["n_samples"], theirs.spec.dataset_options["n_samples"]) == (300, 200)
    assert theirs.values == {"row": "the paper's"}


def test_a_dataset_of_an_axis_keeps_the_options_of_the_base(tmp_path):
    trials = study(tmp_path, space={"dataset": {"grid": ["digits", "usps"]}}).trials()
    assert [(t.spec.dataset, t.spec.dataset_options) for t in trials] == [
        ("digits", {"n_samples": 300}),
        ("usps", {"n_samples": 300}),
    ]


def test_drawn_axes_are_drawn_together_and_paired_with_the_listed_ones(tmp_path):
    space = {
        "sigma": {"log-uniform": [1, 1000]},
        "learning_rate": {"uniform": [0.001, 0.01]},
        "support": {"choice": ["greedy", "exact"]},
        "random_state": {"seeds": 2},
    }
    found = parameters(study(tmp_path, space=space, study={"n_trials": 5}))
    assert len(found) == 10
    first, second = [[{**p, "random_state": 0} for p in found if p["random_state"] == seed] for seed in (0, 1)]
    assert first == second  # each draw with each seed
    assert len({p["sigma"] for p in first}) == 5
    assert all(1 <= p["sigma"] <= 1000 and 0.001 <= p["learning_rate"] <= 0.01 for p in first)


def test_draws_follow_their_seed(tmp_path):
    space = {"sigma": {"uniform": [1, 2]}}
    one, again, other = (study(tmp_path, space=space, study={"seed": s}).trials() for s in (0, 0, 1))
    assert [t.name for t in one] == [t.name for t in again]
    assert not {t.name for t in one} & {t.name for t in other}


@given(low=st.floats(0.001, 1e3), ratio=st.floats(1.001, 1e6), index=st.integers(0, 100))
def test_draws_lie_between_the_ends(low, ratio, index):
    high = low * ratio
    for kind in ("uniform", "log-uniform"):
        value = Axis("sigma", kind, (low, high)).draw(0, index)
        assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)


def test_log_uniform_draws_are_even_in_the_logarithm():
    axis = Axis("sigma", "log-uniform", (1.0, 1e4))
    logs = [math.log10(axis.draw(0, index)) for index in range(2000)]
    assert sum(value < 2 for value in logs) / 2000 == pytest.approx(0.5, abs=0.04)


def test_equal_trials_are_run_once(tmp_path):
    found = study(tmp_path, space={"support": {"choice": ["greedy"]}}, study={"n_trials": 4})
    assert len(found.trials()) == 1


def test_words_change_keys_options_and_axes(tmp_path):
    found = study(tmp_path, "n_epochs=7", "study.objective=agreed", "space.sigma={grid: [3]}", "random_state=1")
    assert parameters(found) == [{"n_members": 2, "n_epochs": 7, "sigma": 3, "random_state": 1}]
    assert found.options.objective == "agreed"


def test_a_word_picks_a_case(tmp_path):
    space = {"method": {"cases": {"CA (ours)": {"support": "greedy"}, "SK": {"support": "sinkhorn"}}}}
    found = study(tmp_path, "method=SK", space=space)
    assert [(t.spec.method, t.spec.parameters["support"]) for t in found.trials()] == [("combination", "sinkhorn")]
    with pytest.raises(ParameterError, match=r"unknown case of method 'SQ'.*Known: CA \(ours\), SK"):
        study(tmp_path, "method=SQ", space=space)


def test_another_dataset_takes_the_place_of_all_of_an_axis_and_of_its_options(tmp_path):
    found = study(tmp_path, "dataset=usps", space={"dataset": {"grid": ["digits", "mnist"]}})
    assert [(t.spec.dataset, t.spec.dataset_options) for t in found.trials()] == [("usps", {})]


def test_sizes_change_keys_options_and_axes(tmp_path):
    size = {
        "smoke": {"n_epochs": 1, "space": {"sigma": {"grid": [2.0]}}, "study": {"objective": "agreed"}},
        "full": {"n_epochs": 50},
    }
    smoke, full = study(tmp_path, "size=smoke", size=size), study(tmp_path, size=size)
    assert [t.spec.parameters["n_epochs"] for t in smoke.trials()] == [1] * 3
    assert (smoke.options.objective, full.options.objective) == ("agreed", "stability")
    assert [t.spec.parameters["n_epochs"] for t in full.trials()] == [50] * 6
    with pytest.raises(UnknownNameError, match=r"unknown size 'smoky'. Did you mean 'smoke'\?.*full, smoke"):
        study(tmp_path, "size=smoky", size=size)


def test_a_study_written_and_read_is_the_same(tmp_path):
    space = {
        "dataset": {"cases": {"a": {"dataset": {"name": "blobs", "n_clusters": 4}}, "b": {"dataset": "moons"}}},
        "sigma": {"log-uniform": [1e-4, 1e4]},
        "random_state": {"seeds": 2},
    }
    one = study(tmp_path, "pool.kind=local", space=space, study={"n_trials": 3, "objective": "agreed"})
    again = read_study(write(tmp_path, yaml.safe_load(one.to_yaml()), "again.yaml"))
    assert again == one
    assert [t.name for t in again.trials()] == [t.name for t in one.trials()]
    assert again.pool.kind == "local"


def test_names_do_not_depend_on_where_a_trial_runs(tmp_path):
    names = [[t.name for t in study(tmp_path, *words).trials()] for words in ([], ["pool.cpus_per_member=2"])]
    assert names[0] == names[1]


def test_trials_are_grouped_by_all_but_the_seed(tmp_path):
    found = study(tmp_path)
    groups = grouped(found.trials(), found.shown)
    assert {key: len(trials) for key, trials in groups.items()} == {(1.0,): 3, (10.0,): 3}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"sigma": {"grid": []}}, r"space.sigma=\{'grid': \[\]\} cannot be used: grid takes a list of at least one"),
        ({"sigma": [1, 2]}, r"space.sigma=\[1, 2\] cannot be used: say how it varies, as in sigma: \{grid: \[1, 2\]\}"),
        ({"sigma": {"gird": [1]}}, r"space.sigma: unknown kind 'gird'. Did you mean 'grid'\?"),
        ({"sigma": {"uniform": [2, 1]}}, r"it takes \[low, high\], low < high"),
        ({"sigma": {"log-uniform": [0, 1]}}, r"it takes \[low, high\], 0 < low < high"),
        ({"sigma": {"uniform": [1, "x"]}}, r"it takes \[low, high\]"),
        ({"row": {"cases": ["a"]}}, r"cases are names with key: value pairs"),
        ({"row": {"cases": {"a": 3}}}, r"cases are names with key: value pairs"),
        ({"random_state": {"seeds": 0}}, r"seeds takes a list of at least one value"),
    ],
)
def test_a_space_that_cannot_be_used(tmp_path, space, message):
    with pytest.raises(InputError, match=message):
        study(tmp_path, space=space)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"sgima": {"grid": [1.0]}}}, r"unknown parameter 'sgima'. Did you mean 'sigma'\?"),
        ({"space": {"sigma": {"grid": [1.0, -1.0]}}}, r"sigma=-1.0 cannot be used"),
        ({"method": "combinaton"}, r"unknown method 'combinaton'. Did you mean 'combination'\?"),
        ({"study": {"objective": "stabilty"}}, r"unknown objective 'stabilty'. Did you mean 'stability'\?"),
        ({"n_members": 1, "space": {}}, r"there is no objective: stability compares members"),
        ({"n_members": 1, "study": {"scheduler": "asha"}}, r"there is no objective"),
        ({"n_members": 1, "study": {"objective": "agreed"}}, r"there is no objective: agreed compares members"),
        ({"study": {"search": "optuna"}}, r"search='optuna' cannot be used with axes whose values are listed \(sigma"),
        (
            {"study": {"scheduler": "asha"}, "space": {"n_epochs": {"grid": [1, 2]}}},
            r"cannot be used where n_epochs varies",
        ),
        ({"study": {"scheduler": "asha"}, "pool": {"kind": "local"}}, r"kind='local' runs trials one after another"),
        ({"pool": {"workers_per_member": 2, "cpus_per_member": 2}}, r"workers_per_member cannot be used in a sweep"),
        ({"study": {"objective": "silhouette", "measures": []}}, r"objective='silhouette' needs it among `measures`"),
    ],
)
def test_what_is_refused_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        study(tmp_path, **changes).check()


def test_all_faults_are_reported_together(tmp_path):
    space = {"sgima": {"grid": [1.0]}, "support": {"grid": ["greedy", "gready"]}}
    with pytest.raises(ParameterError) as caught:
        study(tmp_path, space=space, study={"objective": "accuracy"}).check()
    assert len(caught.value.faults) == 3


def test_options_are_checked_with_the_axes(tmp_path):
    with pytest.raises(ParameterError) as caught:
        study(tmp_path, space={"sigma": 3}, study={"n_trails": 3})
    assert len(caught.value.faults) == 2


def test_seeds_of_single_members_are_an_objective(tmp_path):
    study(tmp_path, n_members=1).check()


@pytest.mark.parametrize("content", ["- a\n", "space: 3\n", "size: [1]\n", "a: [\n"])
def test_a_file_that_is_no_study(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bad.yaml"):
        read_study(path, ["size=smoke"] if "size" in content else [])


def test_a_word_takes_the_place_of_what_cases_say(tmp_path):
    one = {"support": "none", "dataset": {"name": "digits", "seed": 3}}
    space = {"row": {"cases": {"a": one, "b": {"sigma": 2.0}}}}
    found = study(tmp_path, "support=exact", "dataset=usps", space=space).trials()
    assert [t.spec.parameters["support"] for t in found] == ["exact"] * 2
    assert [(t.spec.dataset, t.spec.dataset_options) for t in found] == [("usps", {})] * 2


def test_options_of_any_dataset_stay_with_another(tmp_path):
    size = {"smoke": {"dataset.n_samples": 50}}
    found = study(tmp_path, "size=smoke", "dataset=usps", dataset={"name": "digits", "seed": 1}, size=size)
    assert {(t.spec.dataset, *t.spec.dataset_options.items()) for t in found.trials()} == {("usps", ("n_samples", 50))}
    assert read_study(write(tmp_path, yaml.safe_load(found.to_yaml()), "again.yaml")) == found


def test_values_are_written_with_four_digits_whole_numbers_with_all():
    values = (1.0, 3.16, 1e4, 31600.0, 0.123456, 1e-5, 7, "greedy", 1e12)
    assert [value_text(v) for v in values] == ["1", "3.16", "10000", "31600", "0.1235", "1e-05", "7", "greedy", "1e+12"]
