"""distclust: ensembles of deep clusterers that say what they agree on.

Public names are loaded when first used, so that `import distclust` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Agreement": "contracts",
    "CombinationAssignment": "methods",
    "DataParallelPool": "distributed",
    "Dataset": "contracts",
    "DistclustError": "errors",
    "EntropyClustering": "methods",
    "InputError": "errors",
    "LocalPool": "distributed",
    "MiCE": "methods",
    "MoCo": "methods",
    "RayPool": "distributed",
    "SelectivePseudoLabel": "methods",
    "align": "consensus",
    "assign": "",
    "consensus": "",
    "export_onnx": "methods.exported",
    "judge": "verdict",
    "labelling": "",
    "load": "data",
    "load_model": "methods.saved",
    "metrics": "",
    "nets": "",
    "rounds": "distributed",
    "save_model": "methods.saved",
    "vote": "consensus",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'distclust' has no attribute {name!r}")
    home = _HOME[name]
    if not home:
        return importlib.import_module(f"distclust.{name}")
    return getattr(importlib.import_module(f"distclust.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
