"""The methods by name; each is an estimator, loaded when first used."""

from __future__ import annotations

import importlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from distclust.errors import UnknownNameError

if TYPE_CHECKING:
    from distclust.methods.base import EnsembleClusterer
    from distclust.methods.combination import CombinationAssignment
    from distclust.methods.entropy import EntropyClustering
    from distclust.methods.mice import MiCE
    from distclust.methods.moco import MoCo
    from distclust.methods.selective import SelectivePseudoLabel

__all__ = [
    "METHODS",
    "CombinationAssignment",
    "EnsembleClusterer",
    "EntropyClustering",
    "MiCE",
    "MoCo",
    "SelectivePseudoLabel",
    "described_parameters",
    "method_class",
]

# name in YAML and on the command line -> (module, class, what it is)
METHODS = {
    "selective": ("selective", "SelectivePseudoLabel", "selective pseudo-label clustering"),
    "combination": ("combination", "CombinationAssignment", "combination assignment and its rival partition supports"),
    "entropy": ("entropy", "EntropyClustering", "discriminative entropy clustering and its rivals"),
    "mice": ("mice", "MiCE", "mixture of contrastive experts"),
    "moco": ("moco", "MoCo", "momentum contrast and spherical k-means, MiCE's baseline"),
}
_HOME = {
    "CombinationAssignment": "combination",
    "EnsembleClusterer": "base",
    "EntropyClustering": "entropy",
    "MiCE": "mice",
    "MoCo": "moco",
    "SelectivePseudoLabel": "selective",
}


def method_class(name: str) -> type[EnsembleClusterer]:
    """Return the class of a method.

    Raises:
        UnknownNameError: no such method.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    module, cls, _ = METHODS[name]
    return getattr(importlib.import_module(f"distclust.methods.{module}"), cls)


def described_parameters(name: str) -> list[dict[str, str]]:
    """Return name, default, allowed values and description of a method's parameters, without loading torch for it.

    They are read from a file that `python docs/reference.py` writes from the classes.

    Raises:
        UnknownNameError: no such method.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    found: list[dict[str, str]] = json.loads(resources.files(__name__).joinpath("parameters.json").read_bytes())[name]
    return found


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"distclust.methods.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
