"""Recordings in csv or parquet: cut into pieces without gaps, and these into windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.data import tables
from distclust.data.arrays import class_indices
from distclust.data.folder import Files, readable
from distclust.data.options import Options
from distclust.data.points import Points, Rows
from distclust.data.tables import Table, check_missing, class_names, feature_columns, numbers, read_table
from distclust.data.timeseries import window_labels, window_starts, windows
from distclust.errors import DataError, ParameterError

_GAP = 1.5  # times the median interval; longer ones are gaps

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Piece:
    """Moments that follow one another without a gap.

    Args:
        name: of the recording.
        values: (T, C) float32.
        rows: (T,) of the file's table, counted from 0.
        times: (T,) seconds; None = not known.
        classes: (T,) names of classes, None = unknown; None = there are none.
    """

    name: str
    values: Array
    rows: Rows
    times: Times | None
    classes: npt.NDArray[np.object_] | None

    def __len__(self) -> int:
        return len(self.values)

    def only(self, chosen: Any) -> Piece:
        """Return the chosen moments."""
        times = None if self.times is None else self.times[chosen]
        classes = None if self.classes is None else self.classes[chosen]
        return replace(self, values=self.values[chosen], rows=self.rows[chosen], times=times, classes=classes)


def read_recordings(path: Path, options: Options) -> Points:
    """Return the windows of recordings, (N, C, window) float32, as `load` describes them.

    Args:
        path: a .csv, .tsv or .parquet file, or a folder of such files, all with the same columns.
        options: window, step, time_column, rate, gap, recording_column, columns, exclude, label_column and missing.

    Raises:
        DataError: a file, or what is in it, cannot be used, or no piece is as long as a window.
        ParameterError: a column that was named is not there, or options do not go together.
    """
    _check_together(options)
    found: list[Piece] = []
    remarks: list[str] = []
    channels: tuple[str, ...] = ()
    for name, file in _files(path):
        table = read_table(file, options)
        names, recordings = _recordings(table, name, options)
        if channels and names != channels:
            raise DataError(
                f"{file} has the channels {_told(names)}; the files before have {_told(channels)}. Make them equal."
            )
        channels = names
        found += [piece for recording in recordings for piece in _pieces(recording, file, options)]
        remarks += [remark for remark in table.remarks if remark not in remarks]
    window, step = options["window"], options["step"] or max(1, options["window"] // 2)
    long = [piece for piece in found if len(piece) >= window]
    if not long:
        raise DataError(_too_short(path, found, options))
    starts = window_starts([len(piece) for piece in long], window, step)
    rows = np.concatenate([piece.rows for piece in long])[starts]
    of_piece = np.searchsorted(np.cumsum([len(piece) for piece in long]), starts, side="right")
    y, n_clusters = _classes(long, window, starts)
    return Points(
        windows(np.concatenate([piece.values for piece in long]), window, 1),
        y,
        n_clusters,
        rows=starts,
        names=tuple(f"{long[of].name}:{row}" for of, row in zip(of_piece, rows, strict=True)),
        feature_names=channels,
        remarks=(*remarks, _remark(found, long, len(starts), window, step)),
    )


def seconds(column: Any, where: str) -> Times:
    """Return the moments of a column in seconds.

    Args:
        column: a pyarrow.ChunkedArray of numbers (seconds), dates and times, or texts in ISO 8601.
        where: what the messages call it.

    Returns:
        (T,) float64; of dates and times since the first.

    Raises:
        DataError: some are missing, or no moments.
    """
    import pandas as pd
    import pyarrow as pa

    if column.null_count or not len(column):
        raise DataError(f"{where} misses {column.null_count:,} moments. Fill them in, or leave time_column out.")
    kind = column.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = pa.chunked_array([pa.array(pd.to_datetime(column.to_pandas(), format="ISO8601", utc=True))])
        if pa.types.is_temporal(column.type):
            moments = np.asarray(column.cast(pa.timestamp("ns")).cast(pa.int64()), dtype=np.int64)
            return (moments - moments[0]) / 1e9
        found = np.asarray(column.cast(pa.float64(), safe=False), dtype=np.float64)
    except Exception as error:  # pandas and pyarrow have errors of their own
        told = " ".join(str(error).split())
        raise DataError(f"{where} holds no moments ({told}). Give seconds, or dates and times in ISO 8601.") from error
    if not np.isfinite(found).all():
        raise DataError(f"{where} holds values that are not finite. Give seconds, or leave time_column out.")
    return found


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield path.name, path
        return
    there = Files(path, follow=True).names
    names = [name for name in there if name.lower().endswith(tables.SUFFIXES)]
    if not names:
        other = f"; it holds {readable(there[0])!r}" if there else ""
        raise DataError(
            f"{path} has no {', '.join(tables.SUFFIXES)} to cut windows from{other}. Give a folder or a file of "
            "recordings, or leave window= out."
        )
    for name in names:
        yield readable(name), path / name


def _recordings(table: Table, name: str, options: Options) -> tuple[tuple[str, ...], list[Piece]]:
    """Return the names of a table's channels, and its recordings, each in the order of its rows."""
    time, label, recording = options["time_column"], options["label_column"], options["recording_column"]
    columns = feature_columns(table, options["columns"], options["exclude"], (time, label, recording))
    values, channels = numbers(table, columns)
    if np.isnan(values).any():
        check_missing(table, values, channels, options["missing"], "drop")
    times = None if time is None else seconds(table[time], f"{table.path}: time_column {str(time)!r}")
    classes = None if label is None else class_names(table, label)
    whole = Piece(name, values, np.arange(len(table)), times, classes)
    if recording is None:
        return channels, [whole]
    of = np.asarray(table.texts(recording), dtype=object)
    ids = list(dict.fromkeys(of))
    if None in ids:
        raise DataError(
            f"{table.path}: recording_column {str(recording)!r} misses values. Fill them in, or leave it out."
        )
    return channels, [replace(whole.only(of == one), name=f"{name}:{one}") for one in ids]


def _pieces(recording: Piece, file: Path, options: Options) -> list[Piece]:
    """Return a recording cut at its gaps in time and at missing values, at the sampling rate that was asked for."""
    whole = np.isnan(recording.values).sum(axis=1) == 0
    after_missing = np.concatenate([[False], ~whole[:-1]])[whole]
    kept = recording.only(whole)
    cuts = after_missing
    if kept.times is not None and len(kept) > 1:
        intervals = np.diff(kept.times)
        _check_ascending(kept, intervals, file)
        longest = options["gap"] or _GAP * float(np.median(intervals))
        cuts = cuts | np.concatenate([[False], intervals > longest])
    pieces = [kept.only(part) for part in np.split(np.arange(len(kept)), np.flatnonzero(cuts)) if len(part)]
    return pieces if options["rate"] is None else [resampled(piece, options["rate"]) for piece in pieces]


def resampled(piece: Piece, rate: float) -> Piece:
    """Return a piece at `rate` moments a second, its values interpolated linearly, its classes those of the row before.

    Args:
        piece: with times.
        rate: Hz.
    """
    assert piece.times is not None
    n = int((piece.times[-1] - piece.times[0]) * rate * (1 + 1e-12) + 1e-6) + 1
    times = np.minimum(piece.times[0] + np.arange(n) / rate, piece.times[-1])
    before = np.searchsorted(piece.times, times, side="right") - 1
    values = np.stack([np.interp(times, piece.times, channel) for channel in piece.values.T], axis=1)
    return replace(piece.only(before), values=values.astype(np.float32), times=times)


def _check_ascending(recording: Piece, intervals: Times, file: Path) -> None:
    if (intervals <= 0).any():
        row = int(recording.rows[int(np.argmax(intervals <= 0)) + 1])
        raise DataError(
            f"{file}: time does not go on at row {row:,} of {recording.name}. Sort the rows by time and keep one a "
            "moment; if the file holds several recordings, say which column tells them apart with recording_column=."
        )


def _check_together(options: Options) -> None:
    without_time = [f"{name} is {options[name]!r}" for name in ("rate", "gap") if options[name] is not None]
    if without_time and options["time_column"] is None:
        raise ParameterError(
            [f"{told}, which needs the times of the rows; give time_column=." for told in without_time]
        )


def _classes(pieces: Sequence[Piece], window: int, starts: Rows) -> tuple[Labels | None, int | None]:
    """Return the most frequent class of each window, -1 where most of it has none, and the number of classes."""
    if pieces[0].classes is None:
        return None, None
    named = np.concatenate([piece.classes for piece in pieces if piece.classes is not None])
    known = np.array([name is not None for name in named])
    moments = np.full(len(named), -1, dtype=np.int64)
    if known.any():
        moments[known], _ = class_indices(np.asarray(named[known].tolist()), int(known.sum()), "label_column")
    found = window_labels(moments + 1, window, starts) - 1
    return class_indices(found, len(found))


def _too_short(path: Path, pieces: Sequence[Piece], options: Options) -> str:
    longest = max((len(piece) for piece in pieces), default=0)
    cure = " a larger gap=, or a rate= if the rows are unevenly spaced" if options["time_column"] is not None else ""
    return (
        f"{path}: window={options['window']} is longer than every piece without a gap; the longest of {len(pieces):,} "
        f"has {longest:,} moments. Give a smaller window={',' if cure else ''}{cure}."
    )


def _remark(found: Sequence[Piece], long: Sequence[Piece], n: int, window: int, step: int) -> str:
    n_recordings, lost = len({piece.name for piece in found}), sum(map(len, found)) - sum(map(len, long))
    told = (
        f"{n:,} windows of {window} moments, one every {step}, of {n_recordings:,} recording{'s' * (n_recordings > 1)}"
    )
    cut = f" cut at gaps into {len(found):,} pieces" if len(found) > n_recordings else ""
    return told + cut + (f"; {lost:,} moments lie in pieces shorter than a window" if lost else "")


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
