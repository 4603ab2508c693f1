"""Messages that read one way in Python and another on the command line."""

import pickle
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.errors import (
    DataError,
    Message,
    ParameterError,
    UnknownNameError,
    either,
    on_command_line,
    option,
    option_name,
    unknown_option,
)


@pytest.mark.parametrize(
    ("phrase", "in_python", "typed"),
    [
        (option("broken", "skip"), 'broken="skip"', "dataset.broken=skip"),
        (option("exclude"), "exclude=", "dataset.exclude="),
        (option("columns", ["a", "b c"]), 'columns=["a", "b c"]', "'dataset.columns=a,b c'"),
        (option("columns", ["a,b"]), 'columns=["a,b"]', """'dataset.columns=["a,b"]'"""),
        (option("size", (32, 48)), "size=(32, 48)", "'dataset.size=[32, 48]'"),
        (option("cross_subjects", True), "cross_subjects=True", "dataset.cross_subjects=true"),
        (option("gap", None), "gap=None", "dataset.gap=null"),
        (option("address", "auto", of="pool"), 'address="auto"', "pool.address=auto"),
        (option("n_clusters", 8, of=""), "n_clusters=8", "n_clusters=8"),
        (option_name("window"), "window", "dataset.window"),
        (option("decimal", '"'), 'decimal="\\""', "'dataset.decimal=\"'"),
    ],
)
def test_an_option_reads_as_the_user_would_write_it(phrase, in_python, typed):
    message = Message(f"give {phrase}.")
    assert message == f"give {in_python}."
    assert message.typed == f"give {typed}."


ERRORS = [
    DataError(f"a {option('missing', 'drop')}"),
    ParameterError([f"a {option('missing', 'drop')}", "b"]),
    UnknownNameError("dataset", "a", ["b"], f"Or {option('missing', 'drop')}."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_keep_both_forms_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    for e in (error, again):
        assert 'missing="drop"' in str(e)
        assert "dataset." not in str(e)
        assert "dataset.missing=drop" in on_command_line(e)
        assert '"' not in on_command_line(e)


def test_faults_keep_both_forms_when_they_are_raised_again():
    first = ParameterError([f"a {option('missing', 'drop')}"])
    again = ParameterError([*first.faults, "b"])
    assert again.faults == ('a missing="drop"', "b")
    assert on_command_line(again) == "a dataset.missing=drop\nb"


def test_an_unknown_option_is_answered_with_what_can_be_typed():
    told = Message(unknown_option("option", "brokn", ["broken", "size"], of="dataset"))
    assert "'brokn'. Did you mean 'broken'? Known: broken, size." in told
    assert "'dataset.brokn'. Did you mean 'dataset.broken'? Known: dataset.broken, dataset.size." in told.typed


@given(st.text(), st.text())
def test_any_text_goes_through(first, second):
    message = Message(f"{first}{either(first, second)}{option('a', second)}")
    assert isinstance(message.typed, str)
    clean = first.translate({0xFDD0: None, 0xFDD1: None, 0xFDD2: None})
    if clean == first:
        assert message.startswith(first + first)
        assert message.typed.startswith(first)


@given(st.text(st.characters(exclude_characters="\ufdd0\ufdd1\ufdd2", exclude_categories=["Cs"])))
def test_what_is_suggested_can_be_pasted_into_a_shell(value):
    (word,) = shlex.split(Message(option("label_column", value)).typed)
    assert word == f"dataset.label_column={value}"
