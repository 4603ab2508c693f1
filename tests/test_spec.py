"""Specifications: from YAML and words to a method, its data and its pool, and back."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distclust.contracts import Dataset
from distclust.errors import InputError, ParameterError, UnknownNameError
from distclust.methods import CombinationAssignment
from distclust.spec import MAIN_JOB, PoolOptions, Spec, read, with_pool

DATA = Dataset("seven", np.zeros((20, 3), np.float32), n_clusters=7)
UNNAMED = Dataset("unnamed", np.zeros((20, 3), np.float32))


@pytest.fixture
def config(tmp_path):
    """A function that writes a YAML file and returns its path."""

    def write(text):
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults():
    assert read() == Spec("selective", "digits", {"n_members": 5})
    assert MAIN_JOB == {"method": "selective", "dataset": "digits", "n_members": 5}
    assert read().pool == PoolOptions(kind="ray", cpus_per_member=1, retries=3)


NESTED = """
method: combination
dataset:
  name: points
  minimum: 3
pool: {kind: local, cpus_per_member: 2}
sigma: 50
prior: [0.25, 0.75]
"""
DOTTED = """
method: combination
dataset: points
dataset.minimum: 3
pool.kind: local
pool.cpus_per_member: 2
sigma: 50
prior: [0.25, 0.75]
"""


@pytest.mark.parametrize("text", [NESTED, DOTTED])
def test_yaml_may_be_nested_or_dotted(config, text):
    assert read(config(text)) == Spec(
        "combination",
        "points",
        {"sigma": 50, "prior": (0.25, 0.75)},
        {"minimum": 3},
        PoolOptions(kind="local", cpus_per_member=2),
    )


def test_words_come_before_the_file_and_the_file_before_the_defaults(config):
    path = config("dataset: usps\nn_members: 2\nsigma: 1\nmethod: mice\npool: {retries: 1, kind: local}")
    words = ["sigma=2", "sigma=3", "pool.retries=5", "dataset=stl10"]
    spec = read(str(path), words)
    assert spec == Spec("mice", "stl10", {"n_members": 2, "sigma": 3}, pool=PoolOptions(kind="local", retries=5))
    assert read(path, ["method=entropy"]).method == "entropy"
    assert read(path, ["method=entropy"], method="combination").method == "combination"


@pytest.mark.parametrize(
    "path_or_words",
    ["dataset: one", "dataset: {name: one}", "dataset.name: one"],
)
@pytest.mark.parametrize("word", ["dataset=two", "dataset.name=two", "dataset={name: two}"])
def test_a_later_dataset_takes_the_place_of_an_earlier_one(config, path_or_words, word):
    assert read(config(path_or_words)).dataset == "one"
    assert read(config(path_or_words), [word]).dataset == "two"


def test_the_options_of_an_earlier_dataset_go_with_it(config):
    assert read(config("dataset: {name: points, minimum: 3}"), ["dataset=digits"]).dataset_options == {}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("2.", 2.0),
        (".inf", float("inf")),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("", None),
        ("none", "none"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("'1e-4'", "1e-4"),
        ("a=b", "a=b"),
        ("[1e-3, auto]", (1e-3, "auto")),
    ],
)
def test_values_are_yaml_and_powers_of_ten_are_numbers(config, written, value):
    for found in (read(words=[f"x={written}"]).parameters["x"], read(config(f"x: {written}")).parameters["x"]):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("sigma", r"'sigma' cannot be used: .*key=value"),
        ("=3", r"'=3' cannot be used: .*key=value"),
        ("sigma={", r"'sigma={' cannot be used: '{' is not valid YAML\. Put it in quotes"),
        ("pool.knid=ray", r"unknown pool option 'knid'\. Did you mean 'kind'\?"),
        ("pool.kind=rya", r"kind='rya' cannot be used: .* one of 'ray', 'local'\. Did you mean 'ray'\?"),
        ("pool.retries=-1", r"retries=-1 cannot be used: .* a whole number >= 0"),
        ("pool.cpus_per_member=1.5", r"a whole number >= 1"),
        ("pool={kind: locl}", r"Did you mean 'local'\?"),
        ("opt.lr=3", r"opt\.lr=3 cannot be used: .*'dataset\.' or 'pool\.'"),
        ("optimiser={lr: 3}", r"optimiser\.lr=3 cannot be used"),
        ("pool=local", r"pool=local cannot be used"),
    ],
)
def test_words_that_cannot_be_used(word, says):
    with pytest.raises(InputError, match=says):
        read(words=[word])


def test_all_faults_come_together():
    with pytest.raises(ParameterError) as caught:
        read(words=["pool.knid=ray", "a.b=1", "pool.retries=-1", "c.d=1"])
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "is not valid YAML"),
        ("\ta: 1", "is not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("- a\n- b", "must hold key: value pairs"),
        ("just text", "must hold key: value pairs"),
        ("", "must hold key: value pairs"),
    ],
)
def test_files_that_cannot_be_used(config, text, says):
    path = config(text)
    with pytest.raises(InputError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "binary"):
        with pytest.raises(InputError, match="give the path of a YAML file") as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["!!int abc", "!!timestamp 2020-01-01", "[1", "{a: 1, a: 2}", "*a"])
def test_values_that_yaml_cannot_make(config, value):
    for make in (lambda: read(words=[f"x={value}"]), lambda: read(config(f"x: {value}"))):
        with pytest.raises(InputError):
            make()


names = st.sampled_from(
    ["digits", "0123", "yes", "null", "~", "a: b", "# x", "Größe", ".5", "1.5", "a/b c.npz", "", "- a"]
)
numbers = st.floats(allow_nan=False)
specs = st.builds(
    Spec,
    method=st.just("combination"),
    dataset=names,
    parameters=st.fixed_dictionaries(
        {"n_members": st.integers(1, 99)},
        optional={
            "sigma": numbers,
            "support": names,
            "support_weight": st.none() | numbers,
            "prior": st.just("uniform") | st.lists(numbers).map(tuple),
            "n_epochs": st.just("auto") | st.integers(),
            "schedule": st.booleans(),
        },
    ),
    dataset_options=st.dictionaries(st.sampled_from(["minimum", "split", "keep"]), names | numbers | st.none()),
    pool=st.builds(
        PoolOptions,
        kind=st.sampled_from(["ray", "local"]),
        gpus_per_member=st.floats(0, 8),
        retries=st.integers(0, 9),
        storage=st.none() | names,
        num_cpus=st.none() | st.integers(1, 64),
    ),
)


@settings(max_examples=80, deadline=None)
@given(specs)
@example(Spec("combination", "digits", {"n_members": 4, "learning_rate": 1e-5, "sigma": 1e22}))
def test_to_yaml_and_back(tmp_path_factory, spec):
    path = tmp_path_factory.mktemp("specs") / "spec.yaml"
    path.write_text(spec.to_yaml(), encoding="utf-8")
    assert read(path) == spec


def test_yaml_says_of_the_pool_what_was_changed():
    assert "pool" not in read().to_yaml()
    assert read(words=["pool.retries=5"]).to_yaml().endswith("pool:\n  retries: 5\n")


@pytest.mark.parametrize("text", ["1e5", "+.5", "1E-4"])
def test_texts_that_look_like_powers_of_ten_come_back_as_texts(config, text):
    spec = Spec("combination", "digits", {"n_members": 4, "label": text})
    assert read(config(spec.to_yaml())) == spec


def test_a_specification_without_n_members_comes_back_without(config):
    spec = Spec("combination", "digits", {"sigma": 3})
    assert read(config(spec.to_yaml())) == spec


def test_with_pool():
    spec = read(words=["pool.retries=5", "sigma=2"])
    changed = with_pool(spec, ["pool.kind=local", "pool.cpus_per_member=2"])
    assert changed.pool == PoolOptions(kind="local", cpus_per_member=2, retries=5)
    assert (changed.method, changed.dataset, changed.parameters) == (spec.method, spec.dataset, spec.parameters)
    assert spec.pool.kind == "ray"
    for words in (["pool.knid=local"], ["pool.kind=locl"], ["sigma=3"], ["pool.kind"]):
        with pytest.raises(InputError):
            with_pool(spec, words)


def test_estimator_takes_the_number_of_clusters_from_the_data():
    found = read(words=["sigma=50", "support=exact"], method="combination").estimator(DATA)
    assert type(found) is CombinationAssignment
    assert (found.n_clusters, found.n_members, found.sigma, found.support) == (7, 5, 50, "exact")
    assert read(words=["n_clusters=3"]).estimator(DATA).n_clusters == 3
    assert read(words=["n_clusters=3"]).estimator(UNNAMED).n_clusters == 3


def test_estimator_names_all_faults():
    with pytest.raises(ParameterError) as caught:
        read(words=["sigmaa=50", "suport=exact"], method="combination").estimator(UNNAMED)
    unknown, second = caught.value.faults
    assert "unknown parameter 'sigmaa'. Did you mean 'sigma'?" in unknown
    assert "Did you mean 'support'?" in second
    with pytest.raises(ParameterError, match=r"unnamed has no known number of classes\. Add n_clusters=10, or"):
        read().estimator(UNNAMED)


def test_estimator_of_an_unknown_method():
    with pytest.raises(UnknownNameError, match=r"unknown method 'combinatoin'\. Did you mean 'combination'\?"):
        read(method="combinatoin").estimator(DATA)


def test_load(monkeypatch):
    asked = []
    monkeypatch.setattr("distclust.data.load", lambda name, **options: asked.append((name, options)))
    read(words=["dataset=points", "dataset.minimum=3"]).load()
    assert asked == [("points", {"minimum": 3})]
