"""YAML 1.2 by its core schema: what is a number, what is text, and that what is written comes back."""

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.yaml12 import NotYaml, dumped, parsed

VALUES = {
    "010": 10,
    "+7": 7,
    "-0": 0,
    "0o17": 15,
    "0x1F": 31,
    "1e-4": 1e-4,
    "1E5": 1e5,
    ".5": 0.5,
    "2.": 2.0,
    "-.INF": -math.inf,
    "true": True,
    "FALSE": False,
    "null": None,
    "~": None,
    "": None,
    "[010, No, 1:30]": [10, "No", "1:30"],
}
TEXTS = [
    *("yes", "No", "on", "Off", "y", "N", "tRue", "nULL", "none", "NaN", "1:30", "190:20:30", "1_000", "0b11", "0o8"),
    *("2026-01-01", "2026-13-45", "2001-12-14t21:59:43.10-05:00", "=", "<<", "1.2.3", "e5", "0x", "+-1", "."),
]


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_values(text, value):
    found = parsed(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text):
    assert parsed(text) == text
    assert parsed(f"{text}: [{text}]") == {text: [text]}


@pytest.mark.parametrize(
    "text",
    ["!!int abc", "!!timestamp 2026-01-01", "!!set {a}", "{a: 1, a: 2}", "[1", "*a", "\x00", "[a]: 1", "1" * 5000],
)
def test_what_is_no_yaml_or_cannot_be_used(text):
    with pytest.raises(NotYaml):
        parsed(text)


def test_keys_are_texts_and_nothing_is_merged():
    assert parsed("{010: 1, No: 2, <<: {a: 3}, ~: 4}") == {"010": 1, "No": 2, "<<": {"a": 3}, "~": 4}


def test_a_key_that_asks_for_text_gets_it_as_it_is_written():
    text = "{a: 010, b: [1e5, {c: 1e5}], d: {a: 2019-01, e: 0x1F}, f: ~, a.b: 'x'}"
    found = parsed(text, lambda keys: "text" if keys[-1] in "abf" else "value")
    assert found == {"a": "010", "b": ["1e5", {"c": 1e5}], "d": {"a": "2019-01", "e": 31}, "f": None, "a.b": "x"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("a #b", "a #b"), ("[1 #, '#']", ["1 #", "#"]), ("{a: #b}", {"a": "#b"}), ("# 3", "# 3"), ("3 # 4", "3 # 4")],
)
def test_a_word_has_no_comments(text, value):
    assert parsed(text, comments=False) == value


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(TEXTS)
nested = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text() | st.sampled_from(TEXTS), nested, max_size=4))
def test_what_is_written_comes_back_and_other_programs_read_the_same(value):
    written = dumped(value)
    assert parsed(written) == value
    assert yaml.safe_load(written) == value  # YAML 1.1
