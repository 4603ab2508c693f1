"""Data files from strangers: whatever is in them, a dataset or one clear message, and no code of theirs runs."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from distclust.contracts import Dataset
from distclust.data import load
from distclust.errors import DataError, InputError

RNG = np.random.default_rng(0)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def npy(path: Path, trap: Trap) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([trap], dtype=object), allow_pickle=True)


def npz(path: Path, trap: Trap) -> None:
    np.savez(path, x=np.zeros((3, 2)), y=np.array([trap], dtype=object))


def plain_pickle(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


def torch_file(path: Path, trap: Trap) -> None:
    torch.save(trap, path)


def pickle_in_a_zip(path: Path, trap: Trap) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", pickle.dumps(trap))


def parquet(path: Path, trap: Trap) -> None:
    """An extension type of the kind that pyarrow unpickled until its version 14.0.1, and pickled metadata."""
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(trap),
    }
    fields = [pa.field("a", pa.int64(), metadata=extension), pa.field("b", pa.int64())]
    table = pa.table([[1, 2], [3, 4]], schema=pa.schema(fields, metadata={b"pandas": pickle.dumps(trap)}))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("write", "suffix", "message"),
    [
        (npy, ".npy", "pickled objects, which are never loaded"),
        (npz, ".npz", "pickled objects, which are never loaded"),
        (pickle_in_a_zip, ".npz", "must hold x"),
        (plain_pickle, ".npy", "pickled objects, which are never loaded"),
        (plain_pickle, ".pkl", "can run code when they are read, and are never loaded"),
        (plain_pickle, ".csv", "cannot be read as a table|is no text|hold numbers|has no rows"),
        (plain_pickle, ".parquet", "cannot be read as a table"),
        (torch_file, ".pt", "can run code when they are read, and are never loaded"),
        (torch_file, ".PTH", "can run code when they are read, and are never loaded"),
        (torch_file, ".npz", "must hold x"),
        (parquet, ".parquet", None),
    ],
)
def test_no_code_of_a_file_runs(tmp_path: Path, write: Any, suffix: str, message: str | None) -> None:
    path, trap = tmp_path / f"gift{suffix}", Trap(tmp_path / "sprung")
    write(path, trap)
    if message is None:
        with contextlib.suppress(DataError):
            load(path)
    else:
        with pytest.raises(DataError, match=message):
            load(path)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.path.exists()  # the trap is one


def test_no_code_of_an_image_runs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n")
    with pytest.raises(DataError, match="no image of a known kind"):
        load(tmp_path)


def samples() -> dict[str, bytes]:
    """A small valid file of each kind."""
    image = Image.fromarray(RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    found = {}
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm"):
        sink = io.BytesIO()
        image.save(sink, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
        found[suffix] = sink.getvalue()
    sink = io.BytesIO()
    Image.fromarray(RNG.integers(0, 65536, (9, 8), dtype=np.uint16)).save(sink, "PNG")
    found["deep.png"] = sink.getvalue()
    frame = pd.DataFrame({"id": ["p", "q", "r"], "a": [1.5, 2, 3], "b": [True, False, True], "e": [[1.0, 2.0]] * 3})
    found["csv"] = frame[["id", "a", "b"]].to_csv(index=False).encode()
    sink = io.BytesIO()
    frame.to_parquet(sink)
    found["parquet"] = sink.getvalue()
    for suffix, save in (("npy", np.save), ("npz", np.savez)):
        sink = io.BytesIO()
        save(sink, np.arange(12.0).reshape(4, 3))
        found[suffix] = sink.getvalue()
    return found


SAMPLES = samples()
IMAGES = {"png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "deep.png"}


def outcome(folder: Path, kind: str, content: bytes, **options: Any) -> None:
    """Load a file of some content: a dataset, or a message of ours."""
    path = folder / f"fuzz.{kind}"
    path.write_bytes(content)
    try:
        data = load(folder if kind in IMAGES else path, **options)
    except InputError:
        return
    finally:
        path.unlink()
    assert isinstance(data, Dataset)
    assert data.x.dtype in (np.uint8, np.float32, np.float64)
    assert data.names is None or len(data.names) == len(data.x)


@pytest.mark.parametrize("kind", sorted(SAMPLES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6), cut=st.integers(0, 5000))
def test_damaged_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(SAMPLES[kind])
    for place, value in changes:
        content[place % len(content)] = value
    outcome(tmp_path, kind, bytes(content[: cut if cut < len(content) else len(content)]))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", sorted(SAMPLES))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), n_kept=st.integers(0, 60))
def test_any_bytes(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, content: bytes, n_kept: int) -> None:
    outcome(tmp_path, kind, SAMPLES[kind][:n_kept] + content)
    assert capfd.readouterr().err == ""


CELLS = st.sampled_from(
    ["", "1", "2.5", "-0", "inf", "nan", "1e400", "x", '"', '"a,b"', "True", "2026-01-01", "\n", ";"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=6),
    missing=st.sampled_from(["refuse", "drop", "mean"]),
    window=st.none() | st.integers(1, 3),
    label=st.none() | st.sampled_from(["x", "1", "0"]),
)
def test_any_cells(tmp_path: Path, rows: list[list[str]], missing: str, window: int | None, label: str | None) -> None:
    text = "\n".join(",".join(row) for row in rows)
    more = {} if window is None else {"window": window, "time_column": "0"}
    outcome(tmp_path, "csv", text.encode(), missing=missing, label_column=label, **more)
