"""Options of `load`: declared once, checked at the door, all faults reported together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from distclust.data.imbalance import FREQUENCIES
from distclust.errors import ParameterError, as_typed, as_word, either, key_of, option, unknown_option
from distclust.yaml12 import Reading

Options = dict[str, Any]
NONE, NOTHING = either("None", "null"), either("None", "nothing")
SEVERAL = either("in a list or tuple", "as in a,b or [a, b]")
give = option  # as messages about data write an option
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " ", "\\s+": " "}


@dataclass(frozen=True)
class Option:
    """An option.

    Args:
        default: its value when it is not given.
        rule: what is allowed, as in "an integer of at least 1".
        allows: whether a value is allowed.
        reading: how a value is read that stands in a file or on the command line: "text" as it is typed, "texts" as
            one text or a list of them, "name" as a text or null, "value" by YAML.
    """

    default: object
    rule: str
    allows: Callable[[Any], bool]
    reading: Reading = "value"


def one_of(default: object, *allowed: object) -> Option:
    """Return an option that takes one of a few strings, or None where that is among them."""

    def allows(value: object) -> bool:
        return (value is None or isinstance(value, str)) and value in allowed

    rule = either(", ".join(map(repr, allowed)), ", ".join(map(as_word, allowed)))
    return Option(default, f"one of {rule}", allows, "name")


def count(default: int, at_least: int = 1) -> Option:
    """Return an option that takes an integer of at least `at_least`."""
    return Option(default, f"an integer of at least {at_least}", lambda value: _is_integer(value, at_least))


def number(default: float) -> Option:
    """Return an option that takes a finite number of at least 0."""

    def allows(value: object) -> bool:
        return isinstance(value, Real) and not _is_bool(value) and 0 <= float(value) < float("inf")

    return Option(default, "a finite number of at least 0", allows)


def positive() -> Option:
    """Return an option that takes a finite number above 0, or None."""

    def allows(value: object) -> bool:
        return value is None or (isinstance(value, Real) and not _is_bool(value) and 0 < float(value) < float("inf"))

    return Option(None, f"a finite number above 0, or {NONE}", allows)


def side() -> Option:
    """Return an option that takes the size of an image: pixels of a square's side, (height, width), or None."""

    def allows(value: object) -> bool:
        pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
        return value is None or all(_is_integer(pixels, 1) for pixels in pair)

    return Option(None, f"a whole number of pixels, a pair [height, width], or {NONE}", allows)


def column() -> Option:
    """Return an option that takes the name of a column, or None."""
    return Option(None, f"the name of a column, or {NOTHING}", lambda value: value is None or _is_column(value), "text")


def columns() -> Option:
    """Return an option that takes one or several names of columns, or None."""

    def allows(value: object) -> bool:
        several = value if isinstance(value, (list, tuple)) else [value]
        return value is None or (all(map(_is_column, several)) and 0 < len(set(map(str, several))) == len(several))

    return Option(None, f"the name of a column, different names {SEVERAL}, or {NOTHING}", allows, "texts")


def separator() -> Option:
    """Return an option that takes a character that separates cells, or its name, or None."""

    def allows(value: object) -> bool:
        return value is None or (
            isinstance(value, str) and (value in SEPARATORS or (len(value) == 1 and value not in '"\n\r'))
        )

    return Option(None, f"a single character, {', '.join(map(repr, SEPARATORS))}, or {NOTHING}", allows, "text")


def sign(default: str | None, allowed: str) -> Option:
    """Return an option that takes one of a few characters, or None where that is the default."""

    def allows(value: object) -> bool:
        return value is default or (isinstance(value, str) and len(value) == 1 and value in allowed)

    rule = " or ".join([*map(repr, allowed), *(["None"] if default is None else [])])
    return Option(default, rule, allows, "text")


def encoding() -> Option:
    """Return an option that takes the name of an encoding that Python knows, or None."""

    def allows(value: object) -> bool:
        try:
            return value is None or (isinstance(value, str) and bool("a".encode(value)))
        except (LookupError, ValueError):
            return False

    return Option(None, f"an encoding that Python knows, such as 'cp1252' or 'utf-16', or {NOTHING}", allows, "text")


def markers() -> Option:
    """Return an option that takes one or several texts or numbers, or None."""

    def allows(value: object) -> bool:
        several = value if isinstance(value, (list, tuple)) else [value]
        return all(isinstance(item, (str, Real)) and not _is_bool(item) for item in several) or value is None

    return Option(None, f"a text or a number, several of them {SEVERAL}, or {NOTHING}", allows, "texts")


def text() -> Option:
    """Return an option that takes a text that is not empty, or None."""
    return Option(
        None, f"a text, or {NOTHING}", lambda value: value is None or (isinstance(value, str) and bool(value)), "text"
    )


def switch(default: bool | None) -> Option:
    """Return an option that takes True or False, or None where that is its default."""
    if default is None:
        rule = either("True, False or None", "true, false or null")
        return Option(None, rule, lambda value: value is None or _is_bool(value))
    return Option(default, either("True or False", "true or false"), _is_bool)


def part() -> Option:
    """Return an option that takes a number between 0 and 1, or None."""

    def allows(value: object) -> bool:
        return value is None or (isinstance(value, Real) and not _is_bool(value) and 0 < float(value) < 1)

    return Option(None, f"a number between 0 and 1, or {NONE}", allows)


def integers(at_least: int, at_most: int) -> Option:
    """Return an option that takes different integers of a range in a list or tuple, or None."""

    def allows(value: object) -> bool:
        if not isinstance(value, (list, tuple)):
            return value is None
        inside = all(_is_integer(item, at_least) and item <= at_most for item in value)
        return inside and 0 < len(set(value)) == len(value)

    return Option(
        None,
        f"different integers from {at_least} to {at_most} {either('in a list or tuple', 'as in [1, 2]')}, or {NONE}",
        allows,
    )


def path() -> Option:
    """Return an option that takes a path or None."""

    def allows(value: object) -> bool:
        return value is None or (isinstance(value, (str, os.PathLike)) and bool(os.fspath(value)))

    return Option(None, f"a path or {NOTHING}", allows, "text")


def _is_bool(value: object) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_column(value: object) -> bool:
    return isinstance(value, str) or _is_integer(value, 0)  # columns without names are counted


def _is_integer(value: object, at_least: int) -> bool:
    return isinstance(value, Integral) and not _is_bool(value) and int(value) >= at_least


SEED = count(0, at_least=0)
IMBALANCE = one_of(None, *FREQUENCIES, None)
SUBSET = Option(None, f"an integer of at least 1, or {NONE}", lambda value: value is None or _is_integer(value, 1))
DEPTH = Option(None, f"8, 16 or {NONE}", lambda value: value is None or (_is_integer(value, 8) and value in (8, 16)))
REFERENCE = one_of(None, "gaussian", "uniform", "shuffled", None)
SPLIT = one_of("all", "all", "train", "test")
READING = {  # how a csv file is written
    "header": switch(None),
    "encoding": encoding(),
    "decimal": sign(".", ".,"),
    "thousands": sign(None, ",. '"),
    "separator": separator(),
    "missing_values": markers(),
}
NO_SPLIT = Option(
    "all", "'all', as this data has no split", lambda value: isinstance(value, str) and value == "all", "name"
)


def wrong(name: str, value: object) -> str:
    """Return how a fault of an option begins: "missing is 'all'; it" in Python, as typed on the command line."""
    return either(f"{name} is {value!r}; it", f"{as_typed(key_of(name), value)} cannot be used; it")


def check_options(declared: Mapping[str, Option], given: Mapping[str, Any]) -> Options:
    """Return the options with their defaults filled in.

    Args:
        declared: the options that there are.
        given: name -> value, as the user gave them.

    Raises:
        ParameterError: at least one name is unknown or one value not allowed; all faults are shown.
    """
    faults = [unknown_option("option", name, declared, of="dataset") for name in given if name not in declared]
    for name, known in declared.items():
        if name in given and not known.allows(given[name]):
            faults.append(f"{wrong(name, given[name])} must be {known.rule}.")
    if faults:
        raise ParameterError(faults)
    return {name: given.get(name, known.default) for name, known in declared.items()}
