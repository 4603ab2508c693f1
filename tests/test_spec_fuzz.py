"""Whatever a file or a word holds, a specification or a study comes out of it, or one message."""

import contextlib
import string

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distclust.errors import DistclustError
from distclust.spec import Spec, read
from distclust.sweep import read_study
from distclust.sweep.study import Study

# words that mean something, beside any others
WORDS = [
    *("method", "dataset", "name", "pool", "kind", "space", "study", "size", "seeds", "grid", "choice", "uniform"),
    *("log-uniform", "cases", "n_clusters", "n_members", "sigma", "support", "random_state", "objective", "stability"),
    *("n_trials", "scheduler", "asha", "search", "optuna", "workers", "smoke", "n_epochs", "combination", "selective"),
    *("entropy", "digits", "blobs", "local", "ray", "storage", "retries", "labelling", "prior", "n_samples"),
]
# doubles with every line
LAUGHS = "a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{x: *a{i}, y: *a{i}}}\n" for i in range(40))
texts = st.sampled_from(WORDS) | st.text(string.printable, max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dates()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    max_leaves=8,
)
files = (
    st.dictionaries(st.sampled_from(WORDS), values, max_size=6).map(yaml.safe_dump)
    | values.map(yaml.safe_dump)
    | st.text(max_size=200)
)
words = st.lists(
    st.builds("{}={}".format, texts, values.map(lambda value: yaml.safe_dump(value, default_flow_style=True)))
    | st.text(string.printable, max_size=20),
    max_size=3,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file.yaml"


def checked(found):
    """Look at everything that a specification or a study is asked before it runs."""
    with contextlib.suppress(DistclustError):
        found.check()
        if isinstance(found, Study):
            assert found.samples()


@settings(max_examples=300, deadline=None)
@given(text=files, given=words)
@example(text="n_clusters: 3", given=["n_clusters=4"])
@example(text="space: {sigma: {uniform: [1, .inf]}}", given=[])
@example(text="pool: {}", given=["pool=1"])
@example(text="{}", given=["size=[]"])
@example(text="? {a: b}\n: c", given=[])
@example(text="&a [*a]", given=[])
@example(text="{" * 1000, given=[])
@example(text="a: &a {b: *a}", given=[])
@example(text=LAUGHS, given=[])
@example(text="2026-13-45: 1", given=["=", "=="])
def test_any_text_is_a_specification_or_a_message(place, text, given):
    place.write_text(text, encoding="utf-8", errors="replace")
    for make in (read, read_study):
        try:
            found = make(place, given)
        except DistclustError as error:
            assert len(str(error)) > 10  # noqa: PT017  # that it says something
            continue
        assert isinstance(found, Spec | Study)
        checked(found)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_specification_or_a_message(place, content):
    place.write_bytes(content)
    for make in (read, read_study):
        with contextlib.suppress(DistclustError):
            checked(make(place))
