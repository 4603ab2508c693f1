"""A fitted model as a folder of safetensors and JSON; no pickle, so a stranger's model cannot run code."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distclust.calibration import Calibration
from distclust.contracts import State
from distclust.distributed.checkpoint import pack, unpack
from distclust.errors import DataError
from distclust.methods import METHODS, method_class
from distclust.methods.base import EnsembleClusterer, revived
from distclust.parameters import check, declared, plain_value

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
        found = _read_manifest(path / _MANIFEST)
        model = method_class(found.method)(**{k: plain_value(v) for k, v in found.parameters.items()})
        model.names_ = np.array(found.names, dtype=np.int64)
        model.clusters_ = np.array(found.clusters, dtype=np.int64)
        model.calibration_ = Calibration(**found.calibration.model_dump()) if found.calibration else Calibration()
        model.shape_, model.dtype_ = tuple(found.shape), found.dtype
        model.n_features_in_ = model.shape_[0]
        model.members_ = [
            revived(model.member(model.shape_, index), _state(path / _member_file(index))) if there else None
            for index, there in enumerate(found.members)
        ]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
        raise DataError(f"{path} holds no model that can be read ({error}); give a folder that was saved.") from error
    return model


class _Calibration(BaseModel):
    """What model.json holds of `calibration.Calibration`."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(gt=0)
    n_points: int = Field(ge=1)
    uncalibrated: float
    calibrated: float
    observed: float


class _Manifest(BaseModel):
    """What model.json holds."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal[3]
    distclust: str
    method: str
    parameters: dict[str, Any]
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=3)
    dtype: str | None = None  # earlier versions did not write it
    names: list[list[int]]  # (M, K)
    clusters: list[int]
    calibration: _Calibration | None
    members: list[bool]  # (M,)


def _read_manifest(path: Path) -> _Manifest:
    """Return what a manifest holds, if its parts fit one another.

    Raises:
        ValueError: they do not, or it cannot be read.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(found, dict) and found.get("format") != _FORMAT:
        raise ValueError(f"it is of format {found.get('format')!r}, this version reads format {_FORMAT}")
    try:
        known = _Manifest.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{_MANIFEST}, {place}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    values = check(method_class(known.method), known.parameters)
    clusters = set(range(values["n_clusters"]))
    if not {len(known.names), len(known.members)} == {values["n_members"]}:
        raise ValueError(f"it does not have {values['n_members']} members")
    for row in known.names:
        if set(row) not in (clusters, {-1}) or len(row) != len(clusters):
            raise ValueError(f"the clusters of a member are called {row}")
    if known.clusters != sorted(clusters & set(known.clusters)):
        raise ValueError(f"its clusters are {known.clusters}")
    return known


def _state(path: Path) -> State:
    """Return a member's state.

    Raises:
        ValueError: a number in it is not finite.
    """
    state = unpack(path.read_bytes())
    if not all(part.isfinite().all() for part in _tensors(state)):
        raise ValueError(f"{path.name} has numbers that are not finite")
    return state


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _tensors(part)


def _manifest(model: EnsembleClusterer) -> dict[str, Any]:
    from distclust import __version__

    name = next(n for n, (_, cls, _) in METHODS.items() if cls == type(model).__name__)
    return {
        "format": _FORMAT,
        "distclust": __version__,
        "method": name,
        "parameters": {key: plain_value(getattr(model, key)) for key in declared(type(model))},
        "shape": list(model.shape_),
        "dtype": model.dtype_,
        "names": model.names_.tolist(),
        "clusters": model.clusters_.tolist(),
        "calibration": model.calibration_._asdict() if model.calibration_.n_points else None,
        "members": [member is not None for member in model.members_],
    }


def _member_file(index: int) -> str:
    return f"member-{index:03d}.safetensors"
