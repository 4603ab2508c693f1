"""YAML 1.2 by its core schema, for configuration files and for the values of key=value words.

PyYAML reads YAML 1.1, where `No` is false, 010 is 8 and 1:30 is 90. Here true and false are the only truth values (also
True, TRUE, ...), whole numbers are decimal, 0o17 or 0x1f, dates are text, and 1e-4 is a number. A scalar where a text
is wanted is taken as it is written, whatever it looks like: the column 2019, the id 007.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import yaml

# How a key's value is read: "value" by YAML; "text" as it is written, but in a file for a plain null; "text or null" in
# a word too; "texts" as one text or a list of them; "text or values" as one text or a list read by YAML; "name", one of
# a few texts, by YAML in a file.
Reading = Literal["value", "name", "text", "text or null", "texts", "text or values"]
# The keys that lead to a value, of the file and of each mapping in it -> how the value is read.
Readings = Callable[[tuple[str, ...]], Reading]

_MOST_PARTS = 1_000_000  # of a text
_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
_CORE = {  # tag -> how its values are written, the characters they begin with
    _NULL: (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    _BOOL: (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    _INT: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class NotYaml(ValueError):
    """A text is not valid YAML, or cannot be used."""


def values_only(keys: tuple[str, ...]) -> Reading:
    """Return "value" for all keys."""
    return "value"


def parsed(text: str, readings: Readings = values_only, keys: tuple[str, ...] = (), *, comments: bool = True) -> Any:
    """Return what a text in YAML says; the keys of mappings are texts.

    Args:
        text: in YAML.
        readings: how the values of keys are read.
        keys: those that lead to the text.
        comments: whether " #" begins a comment.

    Raises:
        NotYaml: it is none, or its anchors make it endless or huge.
    """
    try:
        found = _constructed(text, readings, keys, "#" if comments else _stand_in(text))
        n_parts = _n_parts(found, {})
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise NotYaml(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise NotYaml("it is nested too deep") from error
    if n_parts > _MOST_PARTS:
        raise NotYaml("its anchors (&) and aliases (*) make it endless, or far too large")
    return found


def dumped(nested: Mapping[str, Any]) -> str:
    """Return nested mappings, lists and scalars as YAML that `parsed` and YAML 1.1 read alike."""
    return yaml.dump(nested, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _constructed(text: str, readings: Readings, keys: tuple[str, ...], number_sign: str) -> Any:
    loader = _Loader(text.replace("#", number_sign))
    loader.number_sign = number_sign
    try:
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(_as_read(node, readings, keys, set()))
    finally:
        loader.dispose()


def _stand_in(text: str) -> str:
    """Return a character that does not occur in a text, in place of "#"."""
    return next(c for c in map(chr, range(0xE000, 0xF8FF)) if c not in text)


def _as_read(node: yaml.Node, readings: Readings, keys: tuple[str, ...], seen: set[int]) -> yaml.Node:
    """Return a node in which scalars are marked as texts where their keys ask for texts, and keys are texts."""
    if not keys and not isinstance(node, yaml.MappingNode):
        return node
    if isinstance(node, yaml.ScalarNode):
        texts = node.style is None and node.tag != _NULL and readings(keys) not in ("value", "name")
        return _text(node) if texts else node
    if id(node) in seen:
        return node
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        node.value = [(k, _as_read(v, readings, (*keys, k.value), seen)) for k, v in map(_with_text_key, node.value)]
    elif readings(keys) != "text or values":
        node.value = [_as_read(item, readings, keys, seen) for item in node.value]
    return node


def _with_text_key(pair: tuple[yaml.Node, yaml.Node]) -> tuple[yaml.ScalarNode, yaml.Node]:
    key, value = pair
    if not isinstance(key, yaml.ScalarNode):
        raise NotYaml("a key must be text")
    return _text(key), value


def _text(node: yaml.ScalarNode) -> yaml.ScalarNode:
    return yaml.ScalarNode(_STR, node.value, node.start_mark, node.end_mark, node.style)


def _n_parts(value: Any, known: dict[int, float]) -> float:
    """Return the number of parts of nested lists and mappings, aliases written out; infinite if one holds itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # until it is known
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_n_parts(part, known) for part in inside)
    return known[id(value)]


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the core schema, which refuses a key given twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own are not inherited
    number_sign = "#"  # what stands in the text for it

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Return a scalar with the number sign where its stand-in was."""
        node = super().compose_scalar_node(anchor)
        node.value = node.value.replace(self.number_sign, "#")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping.

        Raises:
            yaml.YAMLError: a key is given twice.
        """
        keys = [key.value for key, _ in node.value]
        if twice := [key for index, key in enumerate(keys) if key in keys[:index]]:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)

    def construct_int(self, node: Any) -> int:
        """Return a whole number, by YAML 1.2."""
        text = self.construct_scalar(node)
        if not re.fullmatch(_CORE[_INT][0], text):
            raise yaml.YAMLError(f"{text!r} is no whole number")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def construct_float(self, node: Any) -> float:
        """Return a number, by YAML 1.2."""
        text = self.construct_scalar(node)
        if not re.fullmatch(_CORE[_FLOAT][0], text):
            raise yaml.YAMLError(f"{text!r} is no number")
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which puts texts in quotes that YAML 1.1 or 1.2 would read as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return a text, in double quotes where it holds line breaks that PyYAML folds into others."""
        return self.represent_scalar(_STR, text, style='"' if re.search("[\x85\u2028\u2029]", text) else None)


for _tag, (_form, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_form})\Z"), _first)
_Loader.yaml_constructors = {  # nothing else can be made: no dates, no sets, no merging of mappings
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag in (_NULL, _BOOL, _STR, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map", None)
}
_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor(_INT, _Loader.construct_int)
_Loader.add_constructor(_FLOAT, _Loader.construct_float)
