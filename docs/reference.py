"""Writes the API reference and the methods' parameters from docstrings and declarations.

    python docs/reference.py

That is docs/api.md, what stands between the markers `parameters` in docs/*.md, and distclust/methods/parameters.json,
which the command's help is read from.

A test holds what is committed against what this would write.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import distclust
from distclust.methods import METHODS, EnsembleClusterer, method_class
from distclust.parameters import declared

DOCS = Path(__file__).parent
HEAD = """# API reference

Written by `python docs/reference.py` from the docstrings: change those, not this page. All of it is imported from
`distclust`; what begins with a module's name, as in `metrics.accuracy`, is `distclust.metrics.accuracy`.
"""
MODULES = ["assign", "calibration", "consensus", "labelling", "metrics", "nets"]


def pages() -> dict[Path, str]:
    """Return the text of each page that is written, or partly written, from the code."""
    found = {DOCS / "api.md": api()}
    for method in METHODS:
        page = DOCS / f"{method}.md"
        found[page] = with_parameters(page.read_text(encoding="utf-8"), method)
    known = {
        method: {name: parameter.schema for name, parameter in declared(method_class(method)).items()}
        for method in METHODS
    }
    found[Path(distclust.__file__).parent / "methods" / "parameters.json"] = json.dumps(known, indent=1) + "\n"
    return found


def api() -> str:
    """Return the API reference."""
    methods = [cls for _, cls, _ in METHODS.values()]
    names = [name for name in distclust.__all__ if name not in [*MODULES, *methods]]
    parts = [HEAD, "## Methods\n"]
    parts += ["What all methods share:\n", *of_class("EnsembleClusterer", EnsembleClusterer)]
    for method, (_, cls, _) in METHODS.items():
        own = getattr(distclust, cls)
        summary = inspect.cleandoc(own.__doc__).split("\n\n")[0]
        parts += [f"### `{cls}`\n", f"{summary}\n", f"Parameters, equations and figures: [{method}]({method}.md).\n"]
        parts += members(own, own.__name__, without=EnsembleClusterer)
    parts.append("## Data, models, pools\n")
    for name in names:
        value = getattr(distclust, name)
        parts += of_class(name, value) if inspect.isclass(value) else of_function(name, value)
    for name in MODULES:
        module = importlib.import_module(f"distclust.{name}")
        parts += [f"## `distclust.{name}`\n", rendered(module), *of_module(name, module)]
    return "\n".join(parts).rstrip() + "\n"


def with_parameters(text: str, method: str) -> str:
    """Return a page with the method's table of parameters between its markers."""
    first, last = f"<!-- parameters: {method} -->", "<!-- /parameters -->"
    rows = ["| parameter | default | what may be given | what it means |", "|---|---|---|---|"]
    for p in parameters(method):
        cells = (f"`{p['name']}`", f"`{p['default']}`", p["allowed"], p["description"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return re.sub(
        f"{first}.*?{last}", lambda _: "\n".join([first, "", *rows, "", last]), text, count=1, flags=re.DOTALL
    )


def parameters(method: str) -> list[dict[str, str]]:
    """Return name, default, allowed values and description of a method's parameters."""
    return [
        {"name": p.name, "default": str(p.default), "allowed": p.allowed, "description": p.description}
        for p in declared(method_class(method)).values()
    ]


def of_module(name: str, module: ModuleType) -> Iterator[str]:
    """Yield what a module defines in public, in the order of its file, or of its `__all__` where it has one."""
    public = getattr(module, "__all__", None) or [
        key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
    ]
    for key in public:
        value = getattr(module, key)
        if key.startswith("_"):
            continue
        if inspect.isclass(value):
            yield from of_class(f"{name}.{key}", value)
        elif inspect.isfunction(value):
            yield from of_function(f"{name}.{key}", value)


def of_class(name: str, cls: type) -> Iterator[str]:
    """Yield a class: its docstring, and those of its public methods."""
    yield f"### `{name}`\n"
    yield rendered(cls)
    yield from members(cls, cls.__name__)


def members(cls: type, name: str, without: type = object) -> Iterator[str]:
    """Yield the public methods that a class defines itself, less those that another one has."""
    for key, value in vars(cls).items():
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if key.startswith("_") or hasattr(without, key) or not (inspect.isfunction(value) and value.__doc__):
            continue
        yield f"#### `{name}.{key}{signature(value)}`\n"
        yield rendered(value)


def of_function(name: str, function: Any) -> Iterator[str]:
    """Yield a function: its signature and docstring."""
    yield f"### `{name}{signature(function)}`\n"
    yield rendered(function)


def signature(function: Any) -> str:
    """Return a function's parameters with their defaults, without types, which the docstring has in words."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    return str(inspect.Signature([p for p in parameters if p.name not in ("self", "cls")]))


def rendered(owner: Any) -> str:
    """Return a docstring as Markdown: its sections as bold words, their items as lists."""
    doc = inspect.cleandoc(owner.__doc__ or "")
    lines, section = [], ""
    for paragraph in re.split(r"\n\s*\n", doc):
        heading = re.match(r"(Args|Attributes|Returns|Raises|Source|Yields):\n", paragraph)
        section = heading.group(1) if heading else section if paragraph.startswith("    ") else ""
        body = textwrap.dedent(paragraph[heading.end() :] if heading else paragraph)
        if heading:
            lines.append(f"**{section}**\n")
        lines.append(items(body) + "\n" if section in ("Args", "Attributes", "Raises") else f"{body}\n")
    return "\n".join(lines)


def items(body: str) -> str:
    """Return `name: what it is` lines as a list, lines that go on joined."""
    joined = re.sub(r"\n\s+", " ", body)
    return "\n".join(re.sub(r"^([\w, *|]+): ", r"- `\1`: ", line) for line in joined.splitlines())


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
