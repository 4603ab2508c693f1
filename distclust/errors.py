"""Errors of distclust.

    DistclustError
    ├── InputError (ValueError)      what the user gave cannot be used; the command line ends with code 2
    │   ├── DataError                the data: shape, type, values, file
    │   ├── ParameterError           a parameter or several of them, all faults in one message
    │   ├── UnknownNameError         a name that stands in no table
    │   └── RunFolderError           a run folder that cannot be read, written or resumed
    └── RunError (RuntimeError)      the run itself failed
        ├── MembersLost              every member of the ensemble was lost
        ├── NoCut                    HDBSCAN's tree cannot give so many clusters (in labelling)
        └── Collapsed                there are fewer distinct latents than clusters (in labelling)

    DataWarning (UserWarning)        what the data will lose; the command line says it before the run

Each message says what was given, what is allowed and what to do. What to do reads differently in Python
(`missing="drop"`) and on the command line (`dataset.missing=drop`). So a message holds both forms: write options with
`option`, `option_name` and `either` inside an f-string. `str(error)` is the form for Python, `on_command_line(error)`
the other.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

# Three characters that Unicode keeps for use inside programs: between them stand the two forms of a phrase.
_OPEN, _BETWEEN, _CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
_PHRASE = re.compile(f"{_OPEN}([^{_OPEN}]*?){_BETWEEN}([^{_OPEN}]*?){_CLOSE}", re.DOTALL)
_WITHOUT = object()


class Message(str):
    """A message as Python users read it; `typed` is the same message for the command line.

    Args:
        text: a text in which `option`, `option_name` or `either` may stand, or another message.
    """

    __slots__ = ("marked",)
    marked: str

    def __new__(cls, text: str) -> Message:
        """Return the message in its form for Python."""
        marked = _marked(text)
        made = super().__new__(cls, _PHRASE.sub(r"\1", marked))
        made.marked = marked
        return made

    def after(self, beginning: str) -> Message:
        """Return the message after a beginning, in both forms."""
        return Message(beginning + self.marked)

    @property
    def typed(self) -> str:
        """The message as it reads on the command line."""
        return _PHRASE.sub(r"\2", self.marked)

    def __reduce__(self) -> tuple[type[Message], tuple[str]]:
        return type(self), (str(self.marked),)  # messages travel between processes


def either(in_python: str, typed: str) -> str:
    """Return a phrase that reads differently in Python and on the command line, for a message."""
    return f"{_OPEN}{_plain(in_python)}{_BETWEEN}{_plain(typed)}{_CLOSE}"


def option(name: str, value: object = _WITHOUT, *, of: str = "dataset") -> str:
    """Return an option as the user would write it, for a message.

    Args:
        name: its keyword in Python.
        value: what to give it; without one the phrase ends in "=".
        of: "dataset" or "pool" where the command line's key begins with it, "" where it does not.
    """
    key = key_of(name, of)
    if value is _WITHOUT:
        return either(f"{name}=", f"{key}=")
    return either(f"{name}={in_python(value)}", as_typed(key, value))


def given(name: str, value: object, *, of: str = "dataset") -> str:
    """Return an option as it was given, for a message about its value; see `option`."""
    return either(f"{name}={value!r}", as_typed(key_of(name, of), value))


def is_given(name: str, value: object, *, of: str = "dataset") -> str:
    """Return that an option has a value, for a message: "split is 'all'" in Python, as typed on the command line."""
    return either(f"{name} is {value!r}", f"{as_typed(key_of(name, of), value)} is given")


def as_typed(key: str, value: object) -> str:
    """Return a key=value word as it is typed in a shell."""
    return shlex.quote(f"{key}={as_word(value)}")


def option_name(name: str, *, of: str = "dataset") -> str:
    """Return an option's name, for a message: `missing` in Python, `dataset.missing` on the command line."""
    return either(name, key_of(name, of))


def key_of(name: str, of: str = "dataset") -> str:
    """Return the key of an option on the command line."""
    return f"{of}.{name}" if of else name


def on_command_line(message: object) -> str:
    """Return an error or a message as it reads on the command line."""
    if isinstance(message, BaseException) and message.args:
        return on_command_line(message.args[0]) if len(message.args) == 1 else str(message)
    return message.typed if isinstance(message, Message) else str(message)


def as_word(value: object) -> str:
    """Return a value as it is written after "key=" on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        texts = [as_word(item) for item in value]
        simple = all(
            isinstance(item, str) and item and item == item.strip() and not set(item) & set(",[]") for item in value
        )
        if simple and len(texts) > 1:
            return ",".join(texts)
        return f"[{', '.join(map(_quoted, value))}]"
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def in_python(value: object) -> str:
    """Return a value as it is written in Python, texts in double quotes."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(in_python, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(in_python, value))}{',' if len(value) == 1 else ''})"
    return in_python(os.fspath(value)) if isinstance(value, os.PathLike) else repr(value)


def _quoted(value: Any) -> str:
    """Return a text in double quotes as Python and YAML read it, other values as a word."""
    if not isinstance(value, str):
        return as_word(value)
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _marked(text: str) -> str:
    return text.marked if isinstance(text, Message) else text


def _plain(text: str) -> str:
    return re.sub(f"[{_OPEN}{_BETWEEN}{_CLOSE}]", "\ufffd", text)


class DistclustError(Exception):
    """Base class of all errors raised on purpose by distclust.

    Args:
        message: the message, in which `option`, `option_name` and `either` may stand.
    """

    def __init__(self, message: str = "") -> None:
        self.message = Message(message)
        super().__init__(self.message)


class InputError(DistclustError, ValueError):
    """What the user gave cannot be used."""


class DataError(InputError):
    """The data cannot be used: shape, type, values or file."""


class DataWarning(UserWarning):
    """Some of what the data hold does not reach the networks."""


class ParameterError(InputError):
    """One parameter or several cannot be used.

    Args:
        faults: one sentence a fault; all are shown.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(Message(fault) for fault in faults)
        super().__init__("\n".join(fault.marked for fault in self.faults))

    def __reduce__(self) -> tuple[type[ParameterError], tuple[tuple[Message, ...]]]:
        return type(self), (self.faults,)  # errors travel between processes


class UnknownNameError(InputError):
    """A name that stands in no table.

    Args:
        kind: what was asked for, as in "dataset".
        given: the name that was given.
        known: the names that are known.
        cure: what else the user can do, a sentence.
    """

    def __init__(self, kind: str, given: object, known: Iterable[str], cure: str = "") -> None:
        self.kind, self.given, self.known, self.cure = kind, given, tuple(sorted(known)), cure
        super().__init__(unknown_name(kind, given, self.known) + (f" {cure}" if cure else ""))

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, object, tuple[str, ...], str]]:
        return type(self), (self.kind, self.given, self.known, self.cure)


class RunFolderError(InputError):
    """A run folder cannot be read, written or resumed."""


class RunError(DistclustError, RuntimeError):
    """The run itself failed."""


class MembersLost(RunError):
    """Every member of the ensemble was lost.

    Args:
        causes: member index -> why it was lost.
    """

    def __init__(self, causes: Mapping[int, str]) -> None:
        self.causes = dict(causes)
        lines = "\n".join(f"  member {index}: {cause}" for index, cause in sorted(self.causes.items()))
        super().__init__(f"every member of the ensemble was lost:\n{lines}")

    def __reduce__(self) -> tuple[type[MembersLost], tuple[dict[int, str]]]:
        return type(self), (self.causes,)


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """Return a sentence that names the known names and the nearest match."""
    known = sorted(known)
    hint = f" Did you mean {near!r}?" if (near := nearest(given, known)) else ""
    return f"unknown {kind} {given!r}.{hint} Known: {', '.join(known)}."


def unknown_option(kind: str, given: str, known: Iterable[str], of: str = "", others: Iterable[str] = ()) -> str:
    """Return a sentence that names the known options and the nearest match.

    Args:
        kind: what was asked for, as in "parameter".
        given: the name that was given.
        known: the names that are known.
        of: what the command line's keys begin with, see `option`.
        others: names beside them that may have been meant.
    """
    known = sorted(known)
    near = nearest(given, [*known, *others])
    hint = f" Did you mean {either(repr(near), repr(key_of(near, of)))}?" if near else ""
    called = either(repr(given), repr(key_of(given, of)))
    return f"unknown {kind} {called}.{hint} Known: {', '.join(option_name(k, of=of) for k in known)}."


def nearest(given: object, known: Iterable[str]) -> str:
    """Return the known name that is nearest to the given one, "" if none is near."""
    return next(iter(get_close_matches(str(given), list(known), n=1, cutoff=0.5)), "")
