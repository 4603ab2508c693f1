"""A fitted model as a folder of safetensors and JSON; no pickle, so a stranger's model cannot run code."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from distclust.calibration import Calibration
from distclust.distributed.checkpoint import pack, unpack
from distclust.errors import DataError
from distclust.methods import METHODS, method_class
from distclust.methods.base import EnsembleClusterer, revived
from distclust.parameters import declared, plain_value

_FORMAT = 3
_MANIFEST = "model.json"


def save_model(model: EnsembleClusterer, folder: str | Path) -> None:
    """Write a fitted model to a new folder, whole or not at all.

    Args:
        model: fitted.
        folder: must not exist yet.

    Raises:
        DataError: the folder exists or cannot be written.
    """
    target = Path(folder)
    if target.exists():
        raise DataError(f"{target} exists already; choose another folder for the model.")
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        beside.mkdir(parents=True)
        for index, member in enumerate(model.members_):
            if member is not None:
                state = {name: part for name, part in member.state_dict().items() if name != "optimiser"}
                (beside / _member_file(index)).write_bytes(pack(state))
        (beside / _MANIFEST).write_text(json.dumps(_manifest(model), indent=1), encoding="utf-8")
        os.replace(beside, target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise DataError(f"cannot write the model to {target} ({error}); give a folder with room.") from error


def load_model(folder: str | Path) -> EnsembleClusterer:
    """Return the model that `save_model` wrote, ready to predict.

    Args:
        folder: as given to `save_model`, or the `model` folder of a run.

    Raises:
        DataError: there is no such model, or it is of a format that this version does not know.
    """
    path = Path(folder)
    try:
        found = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if found["format"] != _FORMAT or found["method"] not in METHODS:
            raise DataError(f"{path} holds a model of format {found['format']!r}, this version reads format {_FORMAT}.")
        model = method_class(found["method"])(**{k: plain_value(v) for k, v in found["parameters"].items()})
        model.names_ = np.array(found["names"], dtype=np.int64)
        model.clusters_ = np.array(found["clusters"], dtype=np.int64)
        model.calibration_ = Calibration(**found["calibration"] or {})
        model.shape_ = tuple(found["shape"])
        model.n_features_in_ = model.shape_[0]
        model.members_ = [
            revived(model.member(model.shape_, index), unpack((path / _member_file(index)).read_bytes()))
            if there
            else None
            for index, there in enumerate(found["members"])
        ]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} holds no model that can be read ({error}); give a folder that was saved.") from error
    return model


def _manifest(model: EnsembleClusterer) -> dict[str, Any]:
    from distclust import __version__

    name = next(n for n, (_, cls, _) in METHODS.items() if cls == type(model).__name__)
    return {
        "format": _FORMAT,
        "distclust": __version__,
        "method": name,
        "parameters": {key: plain_value(getattr(model, key)) for key in declared(type(model))},
        "shape": list(model.shape_),
        "names": model.names_.tolist(),
        "clusters": model.clusters_.tolist(),
        "calibration": model.calibration_._asdict() if model.calibration_.n_points else None,
        "members": [member is not None for member in model.members_],
    }


def _member_file(index: int) -> str:
    return f"member-{index:03d}.safetensors"
