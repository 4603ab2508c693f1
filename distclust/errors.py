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

Each message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class DistclustError(Exception):
    """Base class of all errors raised on purpose by distclust."""


class InputError(DistclustError, ValueError):
    """What the user gave cannot be used."""


class DataError(InputError):
    """The data cannot be used: shape, type, values or file."""


class ParameterError(InputError):
    """One parameter or several cannot be used.

    Args:
        faults: one sentence a fault; all are shown.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type[ParameterError], tuple[tuple[str, ...]]]:
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
    nearest = get_close_matches(str(given), known, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {given!r}.{hint} Known: {', '.join(known)}."
