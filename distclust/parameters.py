"""Parameters: declared once as annotated class fields, checked once at the door, all faults reported together."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from distclust.errors import ParameterError, given, option_name, unknown_option
from distclust.yaml12 import Reading

_NONE = type(None)
_BOUNDS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class Parameter:
    """One declared parameter.

    Args:
        name: its keyword.
        annotation: its type, with bounds.
        default: its default.
        description: what it means, a phrase.
    """

    name: str
    annotation: Any
    default: Any
    description: str

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        return _in_words(self.annotation)

    @property
    def reading(self) -> Reading:
        """How a value is read that stands in a file or on the command line."""
        return _reading(self.annotation)

    @property
    def schema(self) -> dict[str, Any]:
        """The type, bounds, default and description as JSON Schema; `from_schema` goes back."""
        return {**TypeAdapter(self.annotation).json_schema(), "default": self.default}

    @classmethod
    def from_schema(cls, name: str, schema: Mapping[str, Any]) -> Parameter:
        """Return the parameter of a schema, whose numbers are finite."""
        return cls(name, _annotation(schema), plain_value(schema["default"]), schema["description"])

    def fault(self, value: Any, of: str = "") -> str | None:
        """Return what is wrong with a value, None if nothing is.

        Args:
            value: what was given.
            of: what the command line's key begins with, see `errors.option`.
        """
        try:
            TypeAdapter(self.annotation, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            near = get_close_matches(value, _names(self.annotation), n=1) if isinstance(value, str) else []
            hint = f" Did you mean {near[0]!r}?" if near else ""
            meaning = f" ({self.description})" if self.description else ""
            known = option_name(self.name, of=of)
            return f"{given(self.name, value, of=of)} cannot be used: {known}{meaning} must be {self.allowed}.{hint}"
        return None


def declared(owner: type) -> Mapping[str, Parameter]:
    """Return the parameters that a dataclass declares: name -> Parameter, in order of declaration."""
    return _declared(owner)


@functools.cache  # a study asks for every trial
def _declared(owner: type) -> Mapping[str, Parameter]:
    hints = get_type_hints(owner, include_extras=True)
    return {
        f.name: Parameter(
            f.name,
            hints[f.name],
            f.default if f.default is not MISSING else None,
            _description(hints[f.name]),
        )
        for f in fields(owner)
        if f.init and not f.name.startswith("_")
    }


def check(owner: type, values: Mapping[str, Any], *, kind: str = "parameter", of: str = "") -> dict[str, Any]:
    """Return checked values of all parameters that `owner` declares.

    Args:
        owner: a dataclass whose fields are annotated.
        values: name -> value; what is missing takes its default.
        kind: what to call an unknown name.
        of: what the command line's keys begin with, see `errors.option`.

    Raises:
        ParameterError: with all faults together.
    """
    return check_known(declared(owner), values, kind=kind, of=of)


def check_known(
    known: Mapping[str, Parameter],
    values: Mapping[str, Any],
    *,
    kind: str = "parameter",
    of: str = "",
    others: Iterable[str] = (),
) -> dict[str, Any]:
    """Return checked values of all parameters of a table.

    Args:
        known: name -> parameter.
        values: name -> value; what is missing takes its default.
        kind: what to call an unknown name.
        of: what the command line's keys begin with, see `errors.option`.
        others: names beside the parameters that may have been meant.

    Raises:
        ParameterError: with all faults together.
    """
    plain = {name: plain_value(value) for name, value in values.items()}
    found = [unknown_option(kind, name, known, of, others) for name in plain if name not in known]
    found += [fault for name, value in plain.items() if name in known and (fault := known[name].fault(value, of))]
    if found:
        raise ParameterError(found)
    return {name: plain.get(name, parameter.default) for name, parameter in known.items()}


def plain_value(value: Any) -> Any:
    """Return a value with numpy scalars and arrays as Python's own, and lists as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain_value(value.tolist())
    if isinstance(value, list | tuple):
        return tuple(plain_value(item) for item in value)
    return value


def _reading(annotation: Any) -> Reading:
    members = _members(annotation)
    lists = [get_args(member)[0] for member in members if get_origin(member) is tuple]
    if any("text" in _reading(item) for item in lists):
        return "texts"
    if any(get_origin(member) is Mapping and _reading(get_args(member)[1]) == "text" for member in members):
        return "text"
    if str in members:
        return "text or values" if lists else "text or null" if _NONE in members else "text"
    named = all(
        get_origin(m) is Literal and all(isinstance(o, str) for o in get_args(m)) for m in members if m is not _NONE
    )
    return "name" if named else "value"


def _members(annotation: Any) -> list[Any]:
    """Return the types that a type is one of."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for option in get_args(annotation) for member in _members(option)]
    return [annotation]


def _annotation(schema: Mapping[str, Any]) -> Any:
    """Return the type that a JSON Schema describes."""
    if "anyOf" in schema:
        return Union[tuple(_annotation(option) for option in schema["anyOf"])]  # noqa: UP007 - it is made here
    if names := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return Literal[tuple(names)]
    if schema["type"] == "array":
        return types.GenericAlias(tuple, (_annotation(schema["items"]), ...))
    kind: Any = {"integer": int, "number": float, "boolean": bool, "string": str, "null": None}[schema["type"]]
    rules: dict[str, Any] = {sign: schema[word] for word, sign in _BOUNDS.items() if word in schema}
    if kind is float:
        rules["allow_inf_nan"] = False
    return Annotated[(kind, Field(**rules))] if rules else kind


def _in_words(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        words = _in_words(inner)
        bounds = [bound for extra in extras for bound in _bounds(extra)]
        return f"{words} {' and '.join(bounds)}" if bounds else words
    if get_origin(annotation) in (Union, types.UnionType):
        return ", or ".join(_in_words(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        names = [repr(option) for option in get_args(annotation)]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if get_origin(annotation) is tuple:
        return f"a list, each item {_in_words(get_args(annotation)[0])}"
    if get_origin(annotation) is Mapping:
        key, value = get_args(annotation)
        return f"pairs of {_in_words(key)} and {_in_words(value)}"
    if annotation is type(None):
        return "None (null in YAML)"
    return _KINDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(extra: Any) -> list[str]:
    items = extra.metadata if isinstance(extra, FieldInfo) else [extra]
    signs = {annotated_types.Ge: (">=", "ge"), annotated_types.Gt: (">", "gt")}
    signs |= {annotated_types.Le: ("<=", "le"), annotated_types.Lt: ("<", "lt")}
    return [f"{signs[type(item)][0]} {getattr(item, signs[type(item)][1]):g}" for item in items if type(item) in signs]


def _description(annotation: Any) -> str:
    if get_origin(annotation) is not Annotated:
        return ""
    return next((e.description for e in get_args(annotation) if isinstance(e, FieldInfo) and e.description), "")


def _names(annotation: Any) -> list[str]:
    """Return the names that a parameter may take, where names are all it may take as text."""
    if get_origin(annotation) is Literal:
        return [option for option in get_args(annotation) if isinstance(option, str)]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [name for option in get_args(annotation) for name in _names(option)]
    return []
