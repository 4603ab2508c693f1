"""Recordings in csv or parquet: cut into pieces without gaps, and these into windows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array, Labels
from distclust.data import tables
from distclust.data.arrays import class_indices
from distclust.data.features import numbers_rows
from distclust.data.folder import Files, readable, remarks_on_links
from distclust.data.moments import Intervals, Moments, check_ascending, intervals, read_moments, told
from distclust.data.options import Options
from distclust.data.points import Points, Rows, check_fits
from distclust.data.tables import Table, check_missing, class_names, feature_columns, named, numbers, read_table
from distclust.data.timeseries import window_labels, window_starts, windows
from distclust.errors import DataError, ParameterError, option, option_name

_FILLED = 5  # rows in succession that are filled in unless longest_gap says otherwise
_LOST = 0.01  # share of the moments in no window above which a remark warns
_SPANS = 1.25  # times the shortest window, in seconds, that the longest may span unremarked
_FAST = 10  # times a recording's own rate above which a rate is remarked on
_SHOWN = 5
_MANY = 10  # rows, from which numbers that grow are no coincidence
_NAMES = re.compile(
    r"(?:^|[\W_])(?:id|subject|session|trial|user|participant|patient|label|class|target|activity)$", re.IGNORECASE
)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Recording:
    """The rows of one recording, in the order of the file.

    Args:
        file: its path, within the folder where one was given.
        name: the file, and the value of recording_column.
        values: (T, C), NaN = missing.
        rows: (T,) of the file's table, counted from 0.
        moments: (T,); None = not known.
        classes: (T,) names of classes, None = unknown; None = there are none.
    """

    file: str
    name: str
    values: Array
    rows: Rows
    moments: Moments | None
    classes: npt.NDArray[np.object_] | None

    def __len__(self) -> int:
        return len(self.values)

    def only(self, chosen: Any) -> Recording:
        """Return the chosen rows."""
        moments = None if self.moments is None else self.moments.only(chosen)
        classes = None if self.classes is None else self.classes[chosen]
        return replace(self, values=self.values[chosen], rows=self.rows[chosen], moments=moments, classes=classes)


@dataclass(frozen=True, eq=False)
class Piece:
    """Moments of a recording that follow one another without a gap.

    Args:
        of: the rows of the recording that it is made of.
        values: (T, C), complete.
        before: (T,) the row of `of` at or before each moment.
        after: (T,) the row of `of` at or after each moment.
        moments: (T,); None = not known.
        cut: whether a gap or a missing value ends it before, and after.
    """

    of: Recording
    values: Array
    before: Rows
    after: Rows
    moments: Moments | None
    cut: tuple[bool, bool]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Cut:
    """A recording, and the pieces that it was cut into.

    Args:
        recording: with its missing values.
        spacing: the intervals between its rows; None = not known.
        pieces: in their order.
        missing: number of rows left out because a value is missing.
        filled: number of values that were filled in.
        inserted: number of moments that were filled in between rows.
    """

    recording: Recording
    spacing: Intervals | None
    pieces: Sequence[Piece]
    missing: int
    filled: int
    inserted: int


def read_recordings(path: Path, options: Options) -> Points:
    """Return the windows of recordings, (N, C, window), as `load` describes them.

    Args:
        path: a .csv, .tsv or .parquet file, or a folder of such files, all with the same columns.
        options: window, step, time_column, time_unit, time_format, rate, gap, recording_column, columns, exclude,
            label_column, missing, longest_gap and links.

    Raises:
        DataError: a file, or what is in it, cannot be used, or no piece is as long as a window.
        ParameterError: a column that was named is not there, or options do not go together.
    """
    _check_together(options)
    channels, cuts, remarks = _read(path, options)
    window, step = options["window"], options["step"] or max(1, options["window"] // 2)
    found = [piece for cut in cuts for piece in cut.pieces]
    long = [piece for piece in found if len(piece) >= window]
    losses = [_loss(cut, window, step) for cut in cuts]
    if not long:
        raise DataError(_too_short(path, found, cuts, sum(losses, Loss()), options))
    starts = window_starts([len(piece) for piece in long], window, step)
    y, n_clusters = _classes(long, window, starts)
    origins = _origins(long, window, step, options)
    remarks += [_remark(cuts, sum(losses, Loss()), len(starts), window, step)]
    remarks += _remarks_on_loss(losses, cuts, options) + _remarks_on_time(cuts, long, options)
    return Points(
        windows(np.concatenate([piece.values for piece in long]), window, 1),
        y,
        n_clusters,
        rows=starts,
        names=tuple(f"{name}:{row}" for name, row in _first_rows(long, window, step)),
        feature_names=channels,
        origins=origins,
        remarks=tuple(remarks),
    )


def _read(path: Path, options: Options) -> tuple[tuple[str, ...], list[Cut], list[str]]:
    """Return the names of the channels, the recordings of all files, and what is to be said of how they were read."""
    cuts: list[Cut] = []
    channels: tuple[str, ...] = ()
    files, remarks = _files(path, options)
    for name, file in files:
        table = read_table(file, options)
        columns, of_columns = _channels(table, options)
        names, recordings = _recordings(table, columns, name, options)
        channels = channels or names
        places = _places(names, channels, file)
        recordings = [replace(one, values=one.values[:, places]) for one in recordings] if places else recordings
        _check_kinds([*(cut.recording for cut in cuts[:1]), recordings[0]], file)
        cuts += [_cut(recording, file, options) for recording in recordings]
        of_time = [recordings[0].moments.remark] if recordings[0].moments is not None else []
        of_file = [remark for remark in (*table.remarks, *of_columns, *of_time) if remark]
        remarks += [remark for remark in of_file if remark not in remarks]
    return channels, cuts, remarks


def _files(path: Path, options: Options) -> tuple[list[tuple[str, Path]], list[str]]:
    """Return the names of the recordings' files and the files, and what is to be said of links among them."""
    if not path.is_dir():
        return [(path.name, path)], []
    there = Files(path, follow=options["links"] == "follow")
    names = [name for name in there.names if name.lower().endswith(tables.SUFFIXES)]
    links = [*remarks_on_links(there)]
    if not names:
        other = f"; it holds {readable(there.names[0])!r}" if there.names else ""
        raise DataError(
            f"{path} has no {', '.join(tables.SUFFIXES)} to cut windows from{other}. Give a folder or a file of "
            f"recordings, or leave {option_name('window')} out."
            + "".join(f" {remark[0].upper()}{remark[1:]}." for remark in links)
        )
    return [(readable(name), path / name) for name in names], links


def _channels(table: Table, options: Options) -> tuple[list[str], list[str]]:
    """Return the names of the columns that are channels, and what is to be said of their choice."""
    others = [options[name] for name in ("time_column", "label_column", "recording_column")]
    if options["columns"] is not None:
        return feature_columns(table, options["columns"], options["exclude"], others), []
    known = {*named(options["exclude"]), *(str(other) for other in others if other is not None)}
    left = [name for name in table.columns if name not in known and numbers_rows(table, name)]
    found = feature_columns(table, None, options["exclude"], (*others, *left))
    remarks = [f"column {name!r} numbers or names the rows and is no channel ({_of('columns')})" for name in left]
    if options["time_column"] is None:
        remarks += [
            f"column {name!r} grows from row to row and is a channel; if it says when they were recorded, give "
            f"{option('time_column', name)}"
            for name in found
            if _grows(table[name])
        ]
    return found, remarks + [
        f"column {name!r} is a channel; if it names recordings or classes, say so with {option('recording_column')} or "
        f"{option('label_column')}"
        for name in found
        if _NAMES.search(name)
    ]


def _grows(column: Any) -> bool:
    """Return whether a column's numbers grow from each row to the next."""
    import pyarrow.types as pt

    if not (pt.is_integer(column.type) or pt.is_floating(column.type)) or column.null_count:
        return False
    values = np.asarray(column)
    return len(values) >= _MANY and bool((np.diff(values) > 0).all())


def _recordings(
    table: Table, columns: Sequence[str], name: str, options: Options
) -> tuple[tuple[str, ...], list[Recording]]:
    """Return the names of a table's channels, and its recordings, each in the order of its rows."""
    time, label, recording = options["time_column"], options["label_column"], options["recording_column"]
    values, channels = numbers(table, columns)
    if np.isnan(values).any():
        check_missing(table, values, channels, options["missing"], "drop", "interpolate")
    moments = None
    if time is not None:
        where = f"{table.path}: {option_name('time_column')} {str(time)!r}"
        moments = read_moments(table[time], str(time), where, options["time_unit"], options["time_format"])
    classes = None if label is None else class_names(table, label)
    whole = Recording(name, name, values, np.arange(len(table)), moments, classes)
    if recording is None:
        return channels, [whole]
    ids = table.texts(recording)
    if None in ids:
        raise DataError(
            f"{table.path}: {option_name('recording_column')} {str(recording)!r} misses values, the first "
            f"in row {ids.index(None):,}. Fill them in, or leave it out."
        )
    rows: dict[str | None, list[int]] = {}
    for row, one in enumerate(ids):
        rows.setdefault(one, []).append(row)
    return channels, [replace(whole.only(np.array(of)), name=f"{name}:{one}") for one, of in rows.items()]


def _places(names: Sequence[str], channels: Sequence[str], file: Path) -> list[int]:
    """Return where in `names` the channels are; nothing where all are in their place."""
    if sorted(names) != sorted(channels):
        raise DataError(
            f"{file} has the channels {_listed(names)}; the files before have {_listed(channels)}. Make them equal."
        )
    return [] if names == channels else [names.index(channel) for channel in channels]


def _check_kinds(recordings: Sequence[Recording], file: Path) -> None:
    kinds = list(dict.fromkeys(one.moments.kind for one in recordings if one.moments is not None))
    if len(kinds) > 1:
        raise DataError(
            f"{file}: {option_name('time_column')} holds {kinds[1]}; the files before have {kinds[0]}. Make them equal."
        )


def _cut(recording: Recording, file: Path, options: Options) -> Cut:
    """Return a recording cut at its gaps and at missing values, at the rate that was asked for.

    What is a gap is decided by the recording's own intervals and by the rate, before anything is left out.
    """
    spacing, longest, fills = None, options["longest_gap"], options["missing"] == "interpolate"
    if recording.moments is not None:
        part = recording.name[len(recording.file) + 1 :]  # the value of recording_column
        check_ascending(recording.moments, recording.rows, f"{file}, recording {part!r}" if part else str(file))
        spacing = intervals(recording.moments, options["gap"], options["rate"])
    filled = interpolated(recording, spacing, longest) if fills else recording
    complete: Flags = np.isnan(filled.values).sum(axis=1) == 0
    breaks = np.concatenate([[False], complete[1:] != complete[:-1]])
    if spacing is not None:
        bridged = spacing.seconds <= _longest(recording, spacing, longest) if fills else np.zeros(1, dtype=bool)
        breaks[1:] |= spacing.gaps & ~bridged
    parts = np.split(np.arange(len(filled)), np.flatnonzero(breaks))
    pieces = [
        _piece(filled, slice(part[0], part[-1] + 1), spacing if fills else None, options["rate"])
        for part in parts
        if complete[part[0]]
    ]
    n_filled = int(np.isnan(recording.values).sum() - np.isnan(filled.values).sum())
    inserted = sum(len(piece) - len(piece.of) for piece in pieces) if options["rate"] is None else 0
    return Cut(recording, spacing, pieces, int((~complete).sum()), n_filled, inserted)


def interpolated(recording: Recording, spacing: Intervals | None, longest_gap: float | None) -> Recording:
    """Return a recording with its missing values interpolated linearly between known ones, channel by channel.

    Args:
        recording: any.
        spacing: the intervals between its rows; None = not known.
        longest_gap: seconds between the known values, or, without times, rows between them, that are bridged at most;
            None = 5 rows, or as long as these take. Values before a channel's first and after its last stay missing.
    """
    values = recording.values.copy()
    places = np.arange(len(recording)) if recording.moments is None else recording.moments.seconds
    for channel in values.T:
        missing = np.isnan(channel)
        known, unknown = np.flatnonzero(~missing), np.flatnonzero(missing)
        after = np.searchsorted(known, unknown)
        inside = (after > 0) & (after < len(known))
        unknown, left, right = unknown[inside], known[after[inside] - 1], known[after[inside]]
        if spacing is None:
            short = right - left - 1 <= (longest_gap or _FILLED)
        else:
            short = places[right] - places[left] <= _longest(recording, spacing, longest_gap)[left]
        if short.any():
            channel[unknown[short]] = np.interp(places[unknown[short]], places[known], channel[known])
    return replace(recording, values=values)


def _longest(recording: Recording, spacing: Intervals, longest_gap: float | None) -> npt.NDArray[np.float64]:
    """Return (T - 1,) how many seconds are interpolated at most from each row on."""
    assert recording.moments is not None
    longest = (_FILLED + 1) * spacing.typical if longest_gap is None else np.full(len(spacing.typical), longest_gap)
    return longest * (1 + 1e-6) + recording.moments.resolution


def _piece(recording: Recording, part: slice, filled: Intervals | None, rate: float | None) -> Piece:
    """Return a part of a recording, at a rate or with moments in its gaps where these are asked for.

    Args:
        recording: complete in this part.
        part: of its rows.
        filled: the intervals between its rows, where gaps are to be filled.
        rate: Hz; None = as it is.
    """
    own = recording.only(part)
    cut = (part.start > 0, part.stop < len(recording))
    if rate is not None and own.moments is not None:
        return resampled(own, rate, cut)
    inside = slice(part.start, part.stop - 1)
    if filled is not None and own.moments is not None and filled.gaps[inside].any():
        n = np.where(filled.gaps[inside], np.rint(filled.seconds[inside] / filled.typical[inside]), 1)
        return between(own, np.maximum(n, 1).astype(np.int64), cut)
    rows = np.arange(len(own))
    return Piece(own, own.values, rows, rows, own.moments, cut)


def resampled(own: Recording, rate: float, cut: tuple[bool, bool] = (False, False)) -> Piece:
    """Return rows at `rate` moments a second, interpolated linearly, from the first on.

    Args:
        own: complete, with moments.
        rate: Hz.
        cut: as in `Piece`.

    Raises:
        DataError: they do not fit into memory.
    """
    assert own.moments is not None
    seconds = own.moments.seconds
    n = (seconds[-1] - seconds[0]) * rate * (1 + 1e-12) + 1e-6
    try:
        check_fits(int(n + 1) * own.values[0].nbytes)
    except DataError as error:
        raise DataError(
            f"{own.name}: {option('rate', rate)} makes {n:,.0f} rows of {len(own):,}, which do not fit into memory. "
            f"Give a lower {option('rate')}, or {option('time_unit')} if the times are not in seconds."
        ) from error
    return _at(own, np.minimum(seconds[0] + np.arange(int(n) + 1) / rate, seconds[-1]), 1e-6 / rate, cut)


def between(own: Recording, n: Rows, cut: tuple[bool, bool] = (False, False)) -> Piece:
    """Return rows with moments between them, interpolated linearly.

    Args:
        own: complete, with moments.
        n: (T - 1,) >= 1, into how many equal intervals each interval is divided.
        cut: as in `Piece`.

    Raises:
        DataError: they do not fit into memory.
    """
    assert own.moments is not None
    seconds = own.moments.seconds
    check_fits(int(n.sum() + 1) * own.values[0].nbytes)
    first = np.repeat(np.arange(len(n)), n)  # the row before each
    share = (np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)) / n[first]
    return _at(own, np.append(seconds[first] + share * np.diff(seconds)[first], seconds[-1]), 0.0, cut)


def _at(own: Recording, seconds: npt.NDArray[np.float64], slack: float, cut: tuple[bool, bool]) -> Piece:
    """Return rows interpolated linearly at other moments, those within `slack` seconds of a row being at that row."""
    assert own.moments is not None
    rows = own.moments.seconds
    before = np.clip(np.searchsorted(rows, seconds + slack, side="right") - 1, 0, len(rows) - 1)
    after = np.clip(np.searchsorted(rows, seconds - slack, side="left"), before, len(rows) - 1)
    values = np.empty((len(seconds), own.values.shape[1]), own.values.dtype)
    for place, channel in enumerate(own.values.T):
        values[:, place] = np.interp(seconds, rows, channel)
    at = np.where(before == after, rows[before], seconds)
    return Piece(own, values, before, after, own.moments.at(at, before), cut)


def _check_together(options: Options) -> None:
    timed = ("rate", "gap", "time_unit", "time_format")
    faults = []
    if options["time_column"] is None:
        faults = [
            f"{option(name, options[name])} needs the times of the rows; give {option('time_column')}."
            for name in timed
            if options[name] is not None
        ]
    if options["longest_gap"] is not None and options["missing"] != "interpolate":
        faults.append(f"{option('longest_gap', options['longest_gap'])} needs {option('missing', 'interpolate')}.")
    if faults:
        raise ParameterError(faults)


def _classes(pieces: Sequence[Piece], window: int, starts: Rows) -> tuple[Labels | None, int | None]:
    """Return the most frequent class of each window, -1 where most of it has none, and the number of classes."""
    if pieces[0].of.classes is None:
        return None, None
    named = np.concatenate([piece.of.classes[piece.before] for piece in pieces if piece.of.classes is not None])
    known = np.array([name is not None for name in named])
    moments = np.full(len(named), -1, dtype=np.int64)
    if known.any():
        moments[known], _ = class_indices(np.asarray(named[known].tolist()), int(known.sum()), "label_column")
    found = window_labels(moments + 1, window, starts) - 1
    return class_indices(found, len(found))


def _origins(pieces: Sequence[Piece], window: int, step: int, options: Options) -> Mapping[str, Array]:
    """Return where each window comes from, (N,) each, as `load` describes it."""
    n = [(len(piece) - window) // step + 1 for piece in pieces]
    found: dict[str, Array] = {"file": np.repeat([piece.of.file for piece in pieces], n)}
    if options["recording_column"] is not None:
        found["recording"] = np.repeat([piece.of.name[len(piece.of.file) + 1 :] for piece in pieces], n)
    found["first_row"] = np.concatenate([p.of.rows[p.before[: len(p) - window + 1 : step]] for p in pieces])
    found["last_row"] = np.concatenate([p.of.rows[p.after[window - 1 :: step]] for p in pieces])
    stamps = [piece.moments.stamps for piece in pieces if piece.moments is not None]
    if stamps:
        found["start_time"] = np.concatenate([stamp[: len(stamp) - window + 1 : step] for stamp in stamps])
        found["end_time"] = np.concatenate([stamp[window - 1 :: step] for stamp in stamps])
    return found


def _first_rows(pieces: Sequence[Piece], window: int, step: int) -> Iterator[tuple[str, int]]:
    """Yield the recording and the first row of each window."""
    for piece in pieces:
        for row in piece.of.rows[piece.before[: len(piece) - window + 1 : step]]:
            yield piece.of.name, int(row)


@dataclass(frozen=True)
class Loss:
    """How many rows are in no window, and why; rows that a step longer than a window skips are not counted.

    Args:
        total: rows of all recordings.
        missing: left out because a value is missing.
        short: in pieces shorter than a window, between gaps or missing values.
        n_short: number of these pieces.
        tails: after the last window before a gap or a missing value.
        whole: of recordings that are shorter than a window without being cut.
        ends: after the last window of a recording.
    """

    total: int = 0
    missing: int = 0
    short: int = 0
    n_short: int = 0
    tails: int = 0
    whole: int = 0
    ends: int = 0

    def __add__(self, other: Loss) -> Loss:
        return Loss(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def cut(self) -> int:
        """Rows that are in no window because of gaps or missing values."""
        return self.missing + self.short + self.tails


def _loss(cut: Cut, window: int, step: int) -> Loss:
    found = Loss(total=len(cut.recording), missing=cut.missing)
    for piece in cut.pieces:
        n = len(piece.of)
        if len(piece) < window:
            found += Loss(short=n, n_short=1) if any(piece.cut) else Loss(whole=n)
            continue
        last = (len(piece) - window) // step * step  # where the last window starts
        end = int(piece.after[last + window - 1])
        if step > window:
            end = max(end, int(piece.before[min(last + step, len(piece)) - 1]))
        found += Loss(tails=n - 1 - end) if piece.cut[1] else Loss(ends=n - 1 - end)
    return found


def _why(loss: Loss) -> str:
    """Return what the rows that gaps and missing values cost are."""
    pieces = f"{loss.n_short:,} piece{'s' * (loss.n_short > 1)}"
    parts = [
        f"{loss.missing:,} miss a value" if loss.missing else "",
        f"{loss.short:,} are in {pieces} shorter than a window" if loss.short else "",
        f"{loss.tails:,} follow the last window before a cut" if loss.tails else "",
    ]
    return ", ".join(part for part in parts if part)


def _cures(cuts: Sequence[Cut], options: Options) -> str:
    """Return the options that let fewer rows be lost to gaps and missing values."""
    cures = [f"a smaller {option('window')}"]
    if any(cut.spacing is not None and cut.spacing.gaps.any() for cut in cuts):
        cures.append(f"a larger {option('gap')} (seconds)")
        cures += [] if options["rate"] is not None else [f"{option('rate')} (rows a second)"]
    if options["missing"] == "interpolate":
        unit = "rows" if options["time_column"] is None else "seconds"
        cures.append(f"a larger {option('longest_gap')} ({unit})")
    else:
        cures.append(f"{option('missing', 'interpolate')} with {option('longest_gap')}")
    return " or ".join([", ".join(cures[:-1]), cures[-1]])


def _spacings(cuts: Sequence[Cut]) -> str:
    """Return the intervals of recordings, "" where there are no times."""
    timed = [(cut.recording.name, cut.spacing) for cut in cuts if cut.spacing is not None and len(cut.spacing.seconds)]
    each = [f"{name} {told(float(np.median(s.seconds)))}{_range(s.seconds)}" for name, s in timed[:_SHOWN]]
    more = f" and {len(timed) - _SHOWN:,} more recordings" if len(timed) > _SHOWN else ""
    return f"The median interval between rows, and the range: {', '.join(each)}{more}. " if each else ""


def _range(seconds: npt.NDArray[np.float64]) -> str:
    least, most = told(float(seconds.min())), told(float(seconds.max()))
    return "" if least == most else f" ({least} to {most})"


def _too_short(path: Path, pieces: Sequence[Piece], cuts: Sequence[Cut], loss: Loss, options: Options) -> str:
    longest = max((len(piece) for piece in pieces), default=0)
    why = f" Of {loss.total:,} rows, {_why(loss)}." if loss.cut else ""
    return (
        f"{path}: {option('window', options['window'])} is longer than every piece without a gap; the longest "
        f"of {len(pieces):,} has {longest:,} moments.{why} {_spacings(cuts) if loss.cut else ''}"
        f"Give {_cures(cuts, options) if loss.cut else 'a smaller ' + option('window')}."
    )


def _remark(cuts: Sequence[Cut], loss: Loss, n: int, window: int, step: int) -> str:
    n_pieces = sum(len(cut.pieces) for cut in cuts)
    cut = f" cut at gaps into {n_pieces:,} pieces" if n_pieces > len(cuts) else ""
    recordings = f"{len(cuts):,} recording{'s' * (len(cuts) > 1)}"
    ends = f"; {loss.ends:,} moments follow the last window of a recording" if loss.ends else ""
    return f"{n:,} windows of {window} moments, one every {step}, of {recordings}{cut}{ends}"


def _remarks_on_loss(each: Sequence[Loss], cuts: Sequence[Cut], options: Options) -> list[str]:
    """Return what is to be said of rows that are in no window, and of those that were filled in."""
    loss = sum(each, Loss())
    found = []
    if n_filled := sum(cut.filled for cut in cuts):
        found.append(f"{n_filled:,} missing values are interpolated ({_of('missing', 'longest_gap')})")
    if inserted := sum(cut.inserted for cut in cuts):
        found.append(f"{inserted:,} moments are interpolated in gaps ({_of('missing', 'longest_gap')})")
    if loss.cut > _LOST * loss.total:
        worst = sorted(zip(each, cuts, strict=True), key=lambda pair: -pair[0].cut)
        found.append(
            f"warning: {loss.cut:,} of {loss.total:,} moments ({loss.cut / loss.total:.1%}) are in no window because "
            f"of gaps or missing values: {_why(loss)}. {_spacings([cut for one, cut in worst if one.cut])}"
            f"Give {_cures(cuts, options)} to keep more"
        )
    elif loss.cut:
        found.append(f"{loss.cut:,} of {loss.total:,} moments are in no window because of gaps or missing values")
    if short := [cut for one, cut in zip(each, cuts, strict=True) if one.whole]:
        shown = ", ".join(f"{cut.recording.name} ({len(cut.pieces[0]):,} moments)" for cut in short[:_SHOWN])
        more = f" and {len(short) - _SHOWN:,} more" if len(short) > _SHOWN else ""
        found.append(
            f"{len(short):,} of {len(cuts):,} recordings are shorter than a window and left out: {shown}{more}"
        )
    return found


def _remarks_on_time(cuts: Sequence[Cut], pieces: Sequence[Piece], options: Options) -> list[str]:
    """Return what is to be said of how far apart the rows are."""
    medians = {
        cut.recording.name: float(np.median(cut.spacing.seconds))
        for cut in cuts
        if cut.spacing is not None and len(cut.spacing.seconds)
    }
    if not medians:
        return []
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    least, most = told(medians[low]), told(medians[high])
    if (rate := options["rate"]) is not None:
        fast = rate * medians[high]
        if fast <= _FAST:
            return []
        return [
            f"{option('rate', rate)} is {fast:,.0f} times that of {high}, whose rows are {most} apart: most values are "
            f"interpolated; give {option('time_unit')} if its times are not in seconds"
        ]
    found = [f"rows are {least} apart" if least == most else f"rows are {least} ({low}) to {most} ({high}) apart"]
    spans = _spans(pieces, options["window"], options["step"] or max(1, options["window"] // 2))
    if spans.max() > _SPANS * spans.min():
        found[0] += (
            f", and windows of {options['window']} span {told(float(spans.min()))} to {told(float(spans.max()))}; give "
            f"{option('rate')} to bring all to one rate"
        )
    return found


def _spans(pieces: Sequence[Piece], window: int, step: int) -> npt.NDArray[np.float64]:
    """Return the seconds from the first to the last moment of each window."""
    each = [piece.moments.seconds for piece in pieces if piece.moments is not None]
    return np.concatenate([(s[window - 1 :] - s[: len(s) - window + 1])[::step] for s in each])


def _of(*names: str) -> str:
    return ", ".join(map(option_name, names))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
