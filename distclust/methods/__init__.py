"""The methods by name; each is an estimator, loaded when first used."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from distclust.errors import UnknownNameError
from distclust.parameters import Parameter
from distclust.yaml12 import Reading

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
    "method_class",
    "method_parameters",
    "parameter_readings",
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


def method_parameters(name: str) -> Mapping[str, Parameter]:
    """Return the parameters of a method, name -> Parameter in order of declaration, without loading torch for it.

    They are read from a file that `python docs/reference.py` writes from the classes.

    Raises:
        UnknownNameError: no such method.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return _parameters()[name]


@functools.cache
def parameter_readings() -> Mapping[str, Reading]:
    """Return how each parameter is read that stands in a file or on the command line; all methods read it alike."""
    return {name: parameter.reading for known in _parameters().values() for name, parameter in known.items()}


@functools.cache
def _parameters() -> dict[str, dict[str, Parameter]]:
    found = json.loads(resources.files(__name__).joinpath("parameters.json").read_bytes())
    return {
        method: {name: Parameter.from_schema(name, schema) for name, schema in schemas.items()}
        for method, schemas in found.items()
    }


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"distclust.methods.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
