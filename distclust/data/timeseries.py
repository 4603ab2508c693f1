"""Time series: windows of a recording, and RealDisp from its published recordings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.data.arrays import class_indices
from distclust.data.files import data_folder
from distclust.data.options import Options
from distclust.data.points import Points, Rows
from distclust.errors import DataError, ParameterError, given, option

N_SUBJECTS = 17
N_SENSORS = 117  # 9 sensors of 13 values
N_COLUMNS = 2 + N_SENSORS + 1  # seconds, microseconds; sensors; activity
N_ACTIVITIES = 33  # 1 .. 33, and 0 for none


@dataclass(frozen=True, eq=False)
class Recording:
    """One subject's recording.

    Args:
        values: (T, C) float32, one row a moment.
        activities: (T,) int64, 1 .. 33.
        rows: (T,) line of the file, counted from 0.
        seconds: (T,) Unix times.
        n_lines: of the file, with those that were left out.
    """

    values: Array
    activities: Labels
    rows: Rows
    seconds: npt.NDArray[np.float64]
    n_lines: int


def windows(recording: Array, window: int, step: int) -> Array:
    """Return the windows of a recording as a view: no value is copied until windows are taken out by index.

    Args:
        recording: (T, C), one row a moment.
        window: moments in a window, 1 .. T.
        step: moments from the start of a window to the start of the next, >= 1.

    Returns:
        ((T - window) // step + 1, C, window), read-only.

    Raises:
        DataError: the recording is not two-dimensional, or shorter than a window.
        ParameterError: window or step below 1.
    """
    given = {"window": window, "step": step}
    faults = [f"{name} is {value}; it must be at least 1." for name, value in given.items() if value < 1]
    if faults:
        raise ParameterError(faults)
    if recording.ndim != 2 or len(recording) < window:
        raise DataError(f"the recording has shape {recording.shape}; it must be (T, C) with T at least {window}.")
    return np.lib.stride_tricks.sliding_window_view(recording, window, axis=0)[::step]  # (N, C, window)


def window_labels(labels: Labels, window: int, starts: Rows) -> Labels:
    """Return the most frequent label of each window, the lowest of equally frequent ones.

    Args:
        labels: (T,) >= 0.
        window: moments in a window.
        starts: (N,) first moment of each window, at most T - window.

    Returns:
        (N,) int64.
    """
    one_hot = labels[:, None] == np.arange(labels.max() + 1)  # (T, L)
    before = np.zeros((len(labels) + 1, one_hot.shape[1]), dtype=np.int32)
    np.cumsum(one_hot, axis=0, out=before[1:])  # label counts before each moment
    return np.argmax(before[starts + window] - before[starts], axis=1).astype(np.int64)


def realdisp(options: Options) -> Points:
    """Return RealDisp's windows, (N, 117, window) float32, a view of the recordings as long as nothing is chosen.

    Moments without an activity and moments with a missing value are left out, then windows are cut from what
    remains; a window's class is its most frequent activity, and classes are counted 0 .. C - 1 as far as they occur.

    Windows stay within a subject. The program of Mahon & Lukasiewicz (AAAI 2024) puts all subjects one after the other
    first, so that some of its windows hold the end of one subject and the start of another; `cross_subjects=True`
    does the same. Evenly spaced windows are a view, whose memory is that of the recordings; windows that stay within
    several subjects are not evenly spaced, so those that are taken are copied, and refused if they do not fit.

    Args:
        options: data_dir, subjects, window, step and cross_subjects.

    Raises:
        DataError: the recordings are missing or cannot be read.
    """
    folder = _recordings_folder(options["data_dir"])
    subjects = options["subjects"] or sorted(_ideal_files(folder))
    recordings = {subject: _read(_ideal_files(folder), subject, folder) for subject in sorted(subjects)}
    window, step = options["window"], options["step"]
    _check_lengths(recordings, window)
    lengths = [len(recording.values) for recording in recordings.values()]
    starts = window_starts([sum(lengths)] if options["cross_subjects"] else lengths, window, step)
    activities = np.concatenate([recording.activities for recording in recordings.values()])
    y, n_clusters = class_indices(window_labels(activities, window, starts), len(starts))
    values = np.concatenate([recording.values for recording in recordings.values()])  # (T, 117)
    name = "" if len(recordings) == N_SUBJECTS else f"realdisp ({len(recordings)} of {N_SUBJECTS} subjects)"
    n_lines = sum(recording.n_lines for recording in recordings.values())
    remark = (
        f"{n_lines - len(values):,} of {n_lines:,} moments have no activity or miss a value and are left out; windows "
        "are cut from the rest, as if nothing had been in between"
    )
    origins = _origins(recordings, starts, starts + window - 1)
    return Points(windows(values, window, 1), y, n_clusters, rows=starts, name=name, origins=origins, remarks=(remark,))


def _origins(recordings: dict[int, Recording], first: Rows, last: Rows) -> dict[str, Array]:
    """Return the file and line, and the time, of the first and the last moment of each window."""
    files = np.array([f"subject{subject}_ideal.log" for subject in recordings])
    of = np.repeat(np.arange(len(files)), [len(recording.rows) for recording in recordings.values()])
    rows = np.concatenate([recording.rows for recording in recordings.values()])
    seconds = np.concatenate([recording.seconds for recording in recordings.values()])
    found: dict[str, Array] = {"file": files[of[first]], "first_row": rows[first], "last_row": rows[last]}
    if (of[first] != of[last]).any():
        found["last_file"] = files[of[last]]
    return found | {"start_time": seconds[first], "end_time": seconds[last]}


def window_starts(lengths: Sequence[int], window: int, step: int) -> Rows:
    """Return the first moments of the windows within recordings that lie one after the other.

    Args:
        lengths: moments of each recording, at least one of them.
        window: moments in a window.
        step: moments from the start of a window to the start of the next.

    Returns:
        (N,) int64, ascending.
    """
    offsets = np.cumsum([0, *lengths[:-1]])
    each = [offset + np.arange(0, n - window + 1, step) for offset, n in zip(offsets, lengths, strict=True)]
    return np.concatenate(each).astype(np.int64)


def _check_lengths(recordings: dict[int, Recording], window: int) -> None:
    short = {subject: len(r.values) for subject, r in recordings.items() if len(r.values) < window}
    if short:
        told = ", ".join(f"subject {subject} has {n}" for subject, n in short.items())
        raise DataError(
            f"realdisp: {given('window', window)} is longer than some recordings have moments with an activity: "
            f"{told}. Choose a smaller {option('window')} or leave them out with {option('subjects')}."
        )


def _recordings_folder(data_dir: str | None) -> Path:
    """Return the folder that holds the ideal recordings."""
    root = data_folder(data_dir)
    folders = (root, root / "realdisp")
    for folder in folders:
        if _ideal_files(folder):
            return folder
    others = sorted(path.name for folder in folders for path in folder.glob("*.log"))
    found = f", only {', '.join(others[:3])}{' ...' if len(others) > 3 else ''}" if others else ""
    raise DataError(
        f"realdisp: no subject<number>_ideal.log in {root} or {root / 'realdisp'}{found}. Only the ideal recordings "
        "are read. Get 'REALDISP Activity Recognition Dataset' from the UCI Machine Learning Repository, unpack "
        f"it, and put subject1_ideal.log to subject17_ideal.log there; or name another folder with "
        f"{option('data_dir')} or the environment variable DISTCLUST_DATA. There is no automatic download."
    )


def _ideal_files(folder: Path) -> dict[int, Path]:
    """Return the ideal recordings of a folder by the number of their subject."""
    found = ((re.fullmatch(r"subject(\d+)_ideal\.log", path.name), path) for path in folder.glob("*.log"))
    return {int(match[1]): path for match, path in found if match}


def _read(files: dict[int, Path], subject: int, folder: Path) -> Recording:
    if subject not in files:
        raise DataError(
            f"realdisp: subject {subject} was asked for, and {folder} has no subject{subject}_ideal.log; it has "
            f"subjects {', '.join(map(str, sorted(files)))}."
        )
    return read_recording(files[subject])


def read_recording(path: Path) -> Recording:
    """Return a RealDisp recording without the moments that have no activity or miss a value.

    Args:
        path: text; a line holds 120 numbers: seconds, microseconds, 9 sensors of 13 values, activity 0 .. 33.

    Raises:
        DataError: the file cannot be read or does not hold such lines.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, sep=r"\s+", header=None, dtype=np.float64).to_numpy()
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path} cannot be read as a RealDisp recording ({error}). Unpack it anew.") from error
    if table.shape[1] != N_COLUMNS:
        raise DataError(f"{path} has {table.shape[1]} columns; a RealDisp recording has {N_COLUMNS}. Unpack it anew.")
    activities = table[:, -1]
    if not np.isin(activities, np.arange(N_ACTIVITIES + 1)).all():
        raise DataError(f"{path}: a line ends without an activity from 0 to {N_ACTIVITIES}. Unpack it anew.")
    values = table[:, 2:-1].astype(np.float32)  # (T, 117)
    kept = (activities != 0) & ~np.isnan(values).any(axis=1)
    seconds = table[kept, 0] + table[kept, 1] / 1e6
    return Recording(values[kept], activities[kept].astype(np.int64), np.flatnonzero(kept), seconds, len(table))
