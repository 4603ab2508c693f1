"""Parameters: what a declaration takes, what it refuses and how it says so."""

import math
import pickle
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import Field

from distclust.errors import DataError, MembersLost, ParameterError, UnknownNameError
from distclust.methods import CombinationAssignment
from distclust.parameters import check, declared, plain_value
from distclust.spec import PoolOptions


@dataclass(kw_only=True)
class Oven:
    shelves: Annotated[int, Field(ge=1, le=5, description="number of shelves")] = 2
    heat: Annotated[float, Field(gt=0, lt=500, allow_inf_nan=False, description="in degrees")] = 180.0
    mode: Annotated[Literal["grill", "bake"], Field(description="source of heat")] = "bake"
    timer: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], Field(description="minutes")] = "auto"
    shares: Annotated[
        Literal["uniform"] | tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(description="heat of each shelf")
    ] = "uniform"
    tare: Annotated[Annotated[float, Field(ge=0)] | None, Field(description="weight")] = None
    light: Annotated[bool, Field(description="lamp")] = False
    label: Annotated[str, Field(description="on the door")] = ""
    serial: int = 0
    _hidden: int = 0
    age: int = field(init=False, default=0)


DEFAULTS = {
    "shelves": 2,
    "heat": 180.0,
    "mode": "bake",
    "timer": "auto",
    "shares": "uniform",
    "tare": None,
    "light": False,
    "label": "",
    "serial": 0,
}


def test_what_is_declared_and_its_defaults():
    assert list(declared(Oven)) == list(DEFAULTS)
    assert check(Oven, {}) == DEFAULTS
    assert check(Oven, {"shelves": 3, "tare": 1.5}) == DEFAULTS | {"shelves": 3, "tare": 1.5}
    assert declared(Oven)["heat"].description == "in degrees"
    assert declared(Oven)["serial"].description == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shelves", "a whole number >= 1 and <= 5"),
        ("heat", "a number > 0 and < 500"),
        ("mode", "one of 'grill', 'bake'"),
        ("timer", "'auto', or a whole number >= 1"),
        ("shares", "'uniform', or a list, each item a number >= 0 and <= 1"),
        ("tare", "a number >= 0, or None (null in YAML)"),
        ("light", "true or false"),
        ("label", "a text"),
    ],
)
def test_allowed_in_words(name, words):
    assert declared(Oven)[name].allowed == words


def test_all_faults_come_together():
    given = {"shelves": 9, "heat": -1.0, "mode": "gril", "lihgt": True, "label": "fine"}
    with pytest.raises(ParameterError) as caught:
        check(Oven, given, kind="oven option")
    assert caught.value.faults == (
        "unknown oven option 'lihgt'. Did you mean 'light'? Known: "
        "heat, label, light, mode, serial, shares, shelves, tare, timer.",
        "shelves=9 cannot be used: shelves (number of shelves) must be a whole number >= 1 and <= 5.",
        "heat=-1.0 cannot be used: heat (in degrees) must be a number > 0 and < 500.",
        "mode='gril' cannot be used: mode (source of heat) must be one of 'grill', 'bake'. Did you mean 'grill'?",
    )
    assert str(caught.value) == "\n".join(caught.value.faults)
    assert isinstance(caught.value, ValueError)


def test_hidden_and_derived_fields_cannot_be_given():
    with pytest.raises(ParameterError) as caught:
        check(Oven, {"_hidden": 1, "age": 1})
    assert len(caught.value.faults) == 2


def test_the_nearest_match_is_named_only_where_one_is_near():
    assert "Did you mean 'auto'?" in declared(Oven)["timer"].fault("atuo")
    assert "Did you mean" not in declared(Oven)["mode"].fault("microwave")
    assert "Did you mean" not in declared(Oven)["mode"].fault(3)


@settings(deadline=None)
@given(st.one_of(st.integers(-3, 9), st.booleans(), st.floats(), st.text(max_size=3), st.none()))
def test_whole_numbers(value):
    fine = type(value) is int and 1 <= value <= 5
    assert (declared(Oven)["shelves"].fault(value) is None) == fine


@settings(deadline=None)
@given(st.one_of(st.floats(), st.floats(0, 600), st.integers(-3, 600), st.booleans(), st.text(max_size=3), st.none()))
def test_numbers(value):
    fine = type(value) in (int, float) and 0 < value < 500
    assert (declared(Oven)["heat"].fault(value) is None) == fine


@settings(deadline=None)
@given(st.one_of(st.just("uniform"), st.floats(), st.lists(st.floats()), st.lists(st.floats(0, 1))))
def test_lists(value):
    fine = value == "uniform" or (isinstance(value, list) and all(0 <= item <= 1 for item in value))
    assert (declared(Oven)["shares"].fault(plain_value(value)) is None) == fine


def test_a_number_is_no_truth_value():
    assert declared(Oven)["light"].fault(True) is None
    for value in (0, 1, "yes", None):
        assert "must be true or false" in declared(Oven)["light"].fault(value)


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("shelves", np.int64(3), 3),
        ("shelves", np.array(3, np.uint8), 3),
        ("heat", np.float32(0.5), 0.5),
        ("light", np.True_, True),
        ("mode", np.str_("grill"), "grill"),
        ("shares", [0.5, np.float64(0.5)], (0.5, 0.5)),
        ("shares", np.array([0.25, 0.75], np.float32), (0.25, 0.75)),
        ("shares", (1, 0), (1, 0)),
    ],
)
def test_numpy_values_and_lists_are_taken_as_pythons_own(name, given, taken):
    found = check(Oven, {name: given})[name]
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize("value", [np.True_, np.float64(2), np.array([2]), np.float64("nan")])
def test_numpy_values_of_another_kind_are_refused(value):
    with pytest.raises(ParameterError):
        check(Oven, {"shelves": value})


@settings(deadline=None)
@given(hnp.arrays(st.sampled_from([np.int32, np.float32, np.bool_]), hnp.array_shapes(max_dims=3, max_side=3)))
def test_plain_value_keeps_the_numbers(array):
    def plain(value):
        return tuple(plain(v) for v in value) if isinstance(value, np.ndarray) else value.item()

    assert repr(plain_value(array)) == repr(plain(array))


@pytest.mark.parametrize("owner", [CombinationAssignment, PoolOptions])
def test_every_parameter_of_the_package_is_described_in_words(owner):
    assert declared(owner)
    for parameter in declared(owner).values():
        assert parameter.description, parameter.name
        assert parameter.fault(plain_value(parameter.default)) is None, parameter.name
        for repr_of_python in ("<", "typing", "Annotated", "Field", "NoneType", "Literal", "object at"):
            assert repr_of_python not in parameter.allowed.replace("<=", "").replace("< ", ""), parameter.name


def test_the_keywords_of_the_constructor_are_the_parameters():
    assert sorted(declared(CombinationAssignment)) == sorted(CombinationAssignment().get_params())


@pytest.mark.parametrize("owner", [CombinationAssignment, PoolOptions])
def test_no_number_of_the_package_may_be_nan_or_infinite(owner):
    numbers = [p for p in declared(owner).values() if isinstance(p.default, float) or p.name == "support_weight"]
    assert numbers
    taken = [(p.name, v) for p in numbers for v in (math.nan, math.inf) if p.fault(v) is None]
    assert taken == []


def test_errors_are_user_mistakes_by_their_type():
    error = UnknownNameError("network", "cnov", ["mlp", "conv"], cure="Or bring your own.")
    assert str(error) == "unknown network 'cnov'. Did you mean 'conv'? Known: conv, mlp. Or bring your own."
    assert error.known == ("conv", "mlp")
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("error", [DataError("no"), MembersLost({1: "out of memory", 0: "killed"})])
def test_errors_survive_the_way_between_processes(error):
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("error", [ParameterError(["a=1", "b=2"]), UnknownNameError("network", "cnov", ["conv"])])
def test_errors_with_parts_survive_the_way_between_processes(error):
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), vars(found)) == (str(error), vars(error))
