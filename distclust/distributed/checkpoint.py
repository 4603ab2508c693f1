"""Checkpoints: a nested state as one file of tensors and JSON, no pickle, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from distclust.contracts import Array, State
from distclust.errors import RunFolderError


def pack(state: State) -> bytes:
    """Return a state as bytes in the safetensors format, its structure as JSON in the header.

    Args:
        state: nested dicts, lists and tuples of tensors, arrays, numbers, strings and None.

    Raises:
        TypeError: something else stands in the state.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _flatten(state, tensors)
    return save_tensors(tensors, metadata={"tree": json.dumps(tree)})


def unpack(data: bytes) -> State:
    """Return the state that `pack` wrote, tensors on the CPU.

    Raises:
        RunFolderError: the bytes are no such state.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        tree = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tree"])
        return _restore(tree, load_tensors(data))
    except Exception as error:
        raise RunFolderError(f"a checkpoint cannot be read ({error}); delete it to redo its rounds") from error


def narrowed(labels: Array) -> Array:
    """Return labels >= -1 in the smallest signed type that holds them: a file of them is eight times smaller."""
    return labels.astype(np.min_scalar_type(-int(labels.max(initial=0)) - 1))


def _flatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor | np.ndarray):
        name = str(len(tensors))
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format)
        return {"kind": kind, "name": name}
    if isinstance(value, dict):
        if wrong := [key for key in value if not (key is None or isinstance(key, bool | int | float | str))]:
            raise TypeError(f"a state cannot hold a key like {wrong[0]!r}")
        return {"kind": "dict", "items": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {"kind": kind, "items": [_flatten(item, tensors) for item in value]}
    raise TypeError(f"a state cannot hold {type(value).__name__}")


def _restore(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    match tree["kind"]:
        case "tensor":
            return tensors[tree["name"]]
        case "array":
            return tensors[tree["name"]].numpy()
        case "dict":
            return {key: _restore(item, tensors) for key, item in tree["items"]}
        case "list":
            return [_restore(item, tensors) for item in tree["items"]]
        case "tuple":
            return tuple(_restore(item, tensors) for item in tree["items"])
    raise ValueError(f"unknown kind {tree['kind']!r}")


class Storage(Protocol):
    """A folder somewhere."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        ...

    def names(self) -> list[str]:
        """Return the names of the files in the folder, sorted."""
        ...


def storage(path: str | Path) -> Storage:
    """Return the storage at a local folder or at a URI that pyarrow's filesystems reach, as in s3://bucket/run.

    Raises:
        RunFolderError: it cannot be reached or made.
    """
    return RemoteFolder(str(path)) if "://" in str(path) else LocalFolder(Path(path))


def located(path: str | Path) -> str:
    """Return where a folder is for every process, whatever its working folder: an absolute path, or the URI itself."""
    return str(path) if "://" in str(path) else str(Path(path).absolute())


class LocalFolder:
    """A folder on a disk that all workers share (one machine, or a network file system)."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(str(path), error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write to a file beside it, then rename."""
        beside = self.path / f".{name}.{uuid.uuid4().hex}.part"
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path / name)
        except OSError as error:
            raise _unwritable(str(self.path / name), error) from error
        finally:
            beside.unlink(missing_ok=True)  # is left by an interrupt as well

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(str(self.path / name), error) from error

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(str(self.path / name), error) from error

    def names(self) -> list[str]:
        """Return the names of the files, sorted; unfinished ones (they begin with a dot) are left out."""
        try:
            return sorted(p.name for p in self.path.iterdir() if p.is_file() and not p.name.startswith("."))
        except OSError as error:
            raise _unreadable(str(self.path), error) from error


class RemoteFolder:
    """A folder behind a URI, by pyarrow's filesystems; an upload there is seen whole or not at all."""

    def __init__(self, uri: str) -> None:
        from pyarrow import fs

        try:
            self.files, self.root = fs.FileSystem.from_uri(uri)
            self.files.create_dir(self.root, recursive=True)
        except Exception as error:
            raise _unwritable(uri, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write to a file beside it, then move."""
        beside = f"{self.root}/.{name}.{uuid.uuid4().hex}.part"
        try:
            with self.files.open_output_stream(beside) as stream:
                stream.write(data)
            self.files.move(beside, f"{self.root}/{name}")
        except OSError as error:
            with contextlib.suppress(OSError):
                self.files.delete_file(beside)
            raise _unwritable(f"{self.root}/{name}", error) from error

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""
        try:
            with self.files.open_input_stream(f"{self.root}/{name}") as stream:
                return bytes(stream.readall())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(f"{self.root}/{name}", error) from error

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            self.files.delete_file(f"{self.root}/{name}")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unwritable(f"{self.root}/{name}", error) from error

    def names(self) -> list[str]:
        """Return the names of the files, sorted; unfinished ones (they begin with a dot) are left out."""
        from pyarrow import fs

        try:
            found = self.files.get_file_info(fs.FileSelector(self.root))
        except OSError as error:
            raise _unreadable(self.root, error) from error
        return sorted(info.base_name for info in found if info.is_file and not info.base_name.startswith("."))


def _unreadable(where: str, error: Exception) -> RunFolderError:
    return RunFolderError(f"cannot read {where} ({error}); give the folder of a run, with the rights to read it")


def _unwritable(where: str, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"cannot write to {where} ({error}); give a place that can be written and has room, on a cluster one that "
        f"all nodes share"
    )
