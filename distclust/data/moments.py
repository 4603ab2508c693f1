"""Moments: a time column in seconds, the intervals between its rows, and which of them are gaps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.contracts import Array
from distclust.errors import DataError, ParameterError, option, option_name

Seconds = npt.NDArray[np.float64]

UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NAMED = {  # units that the end of a column's name tells, as in "time_ms" or "t [us]"
    "ms": r"ms|msecs?|millis|milliseconds?",
    "us": r"us|usecs?|micros|microseconds?",
    "ns": r"ns|nanos|nanoseconds?",
}
_UNIX = (3.15e8, 4.1e9)  # Unix times of 1980 to 2099, in seconds
_DIGITS = (19800101000000, 21000101000000)  # dates and times as numbers, year to second

_GAP = 1.5  # a gap is longer than this many times the typical interval,
_UNEVEN = 5.0  # or, where a quarter of the intervals are up to this many times typical, than 1.5 times these,
_IRREGULAR = 20.0  # or, where rows are events rather than samples, than up to this many times,
_GAP_AT_RATE = 3.5  # or, where rows are interpolated to a rate, than this many: two lost rows are bridged
_AROUND = 32  # intervals around each
_TYPICAL = 60  # and the percentile of these that is typical
_FEW = 16  # fewer intervals do not show how they vary


@dataclass(frozen=True, eq=False)
class Moments:
    """When the rows of a recording were.

    Args:
        seconds: (T,) since the first.
        stamps: (T,) as the file has them: int64, float64, datetime64[ns] (in UTC where they have a zone), or
            timedelta64[ns] (times of day).
        unit: seconds that a stamp's 1 stands for.
        resolution: seconds by which an interval may be off, as stamps are rounded.
        zoned: whether the stamps are dates and times with a zone.
        remark: what is to be said of how they were read, "" for nothing.
    """

    seconds: Seconds
    stamps: Array
    unit: float
    resolution: float = 0.0
    zoned: bool = False
    remark: str = ""

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def kind(self) -> str:
        """What the stamps are: two recordings whose kinds differ cannot stand in one column."""
        kinds = {"M": "dates and times", "m": "times of day"}
        numbers = f"numbers of {next(unit for unit, size in UNITS.items() if size == self.unit)}"
        return kinds.get(self.stamps.dtype.kind, numbers) + (" with a time zone" if self.zoned else "")

    def only(self, chosen: Any) -> Moments:
        """Return the chosen moments."""
        return replace(self, seconds=self.seconds[chosen], stamps=self.stamps[chosen])

    def at(self, seconds: Seconds, before: npt.NDArray[np.int64]) -> Moments:
        """Return moments between these.

        Args:
            seconds: (n,) as in `seconds`.
            before: (n,) the index of the moment at or before each.
        """
        late = seconds - self.seconds[before]
        stamps = self.stamps[before]
        if stamps.dtype.kind in "mM":
            stamps = stamps + np.rint(late * 1e9).astype("timedelta64[ns]")
        elif stamps.dtype.kind == "i" and self.unit < 1:
            stamps = stamps + np.rint(late / self.unit).astype(np.int64)
        else:
            stamps = stamps + late / self.unit
        return replace(self, seconds=seconds, stamps=stamps)


def read_moments(column: Any, name: str, where: str, unit: str | None = None, form: str | None = None) -> Moments:
    """Return the moments of a column.

    Args:
        column: a pyarrow.ChunkedArray of numbers, dates and times, or texts.
        name: of the column.
        where: what the messages call it.
        unit: of numbers, one of UNITS; None = milliseconds, microseconds or nanoseconds where the name ends so or the
            numbers are such Unix times of 1980 to 2099, else seconds.
        form: of texts, as strftime writes it; None = ISO 8601, day.month.year, or day and month with slashes where a
            value tells which is which.

    Raises:
        DataError: some are missing, or no moments.
        ParameterError: unit or form do not go with what the column holds.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count or not len(column):
        missing = np.flatnonzero(np.asarray(column.is_null()))
        raise DataError(
            f"{where} misses {len(missing):,} moments{f', the first in row {missing[0]:,}' if len(missing) else ''}. "
            f"Fill them in, or leave {option_name('time_column')} out."
        )
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if form is not None or text or pa.types.is_temporal(kind):
        if unit is not None:
            raise ParameterError([f"{option('time_unit', unit)}: {where} holds no numbers ({kind}). Leave it out."])
        return _of_texts(column.cast(pa.string()), where, form) if form is not None or text else _of_dates(column)
    try:
        whole = pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
        narrow = pa.types.is_float32(kind) or pa.types.is_float16(kind)
        stamps = np.asarray(column.cast(pa.int64() if whole else pa.float64(), safe=False).to_numpy())
    except pa.ArrowException as error:
        raise DataError(f"{where} holds no moments ({kind}). Give numbers, or dates and times.") from error
    return _of_numbers(stamps, name, where, unit, np.float32 if narrow else np.float64)


def _of_numbers(stamps: Array, name: str, where: str, unit: str | None, precision: Any) -> Moments:
    finite = np.isfinite(stamps)
    if not finite.all():
        raise DataError(
            f"{where} holds values that are not finite, the first in row {int(np.argmin(finite)):,}. Correct them, or "
            f"leave {option_name('time_column')} out."
        )
    low, high = stamps.min(), stamps.max()
    if unit is None and stamps.dtype.kind == "i" and _DIGITS[0] <= low and high < _DIGITS[1]:
        found = _of_texts(_texts(stamps), where, "%Y%m%d%H%M%S")
        return replace(found, remark=f"{where} is taken as dates and times written as numbers, such as {stamps[0]}")
    chosen, remark = (unit, "") if unit is not None else _unit(name, where, float(low), float(high))
    if chosen == "s" and stamps.dtype.kind == "i":
        stamps = stamps.astype(np.float64)
    size = UNITS[chosen]
    resolution = 0.0 if stamps.dtype.kind == "i" else 4 * size * float(np.spacing(precision(np.abs(stamps).max())))
    return Moments((stamps - stamps[0]) * size, stamps, size, resolution, remark=remark)


def _unit(name: str, where: str, low: float, high: float) -> tuple[str, str]:
    """Return the unit of numbers, and what is to be said where it is not seconds."""
    override = f"give {option('time_unit', 's')} if they are seconds"
    for unit, words in _NAMED.items():
        if re.search(rf"(?:^|[^a-z])(?:{words})[^a-z0-9]*$", name.lower()):
            return unit, f"{where} is taken as {_NAMES[unit]}, as its name says; {override}"
    for unit in _NAMED:
        if _UNIX[0] <= low * UNITS[unit] and high * UNITS[unit] <= _UNIX[1]:
            first = np.datetime64(int(low * UNITS[unit]), "s")
            return unit, f"{where} is taken as Unix times in {_NAMES[unit]}, from {first} on; {override}"
    return "s", ""


def _texts(stamps: Array) -> Any:
    import pyarrow as pa

    return pa.chunked_array([pa.array(stamps).cast(pa.string())])


def _of_dates(column: Any) -> Moments:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        column = column.cast(pa.time64("ns")) if pa.types.is_time(kind) else column.cast(pa.duration("ns"))
        return _of_nanoseconds(np.asarray(column.cast(pa.int64())), "timedelta64[ns]", zoned=False)
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    return _of_nanoseconds(np.asarray(column.cast(pa.timestamp("ns")).cast(pa.int64())), "datetime64[ns]", zoned=zoned)


def _of_nanoseconds(moments: npt.NDArray[np.int64], dtype: str, *, zoned: bool) -> Moments:
    return Moments((moments - moments[0]) / 1e9, moments.astype(dtype), 1e-9, zoned=zoned)


_DAY_OF = re.compile(
    r"^(?P<first>\d{1,4})(?P<mark>[-/.])(?P<second>\d{1,2})[-/.](?P<third>\d{1,4})"
    r"(?:[T,\s]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<rest>\d{2}(?:[.,]\d+)?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?$"
)
_TIME_OF_DAY = r"^\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?$"
_ZONE = r":\d{2}(?:[.,]\d+)?\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"


def _of_texts(column: Any, where: str, form: str | None) -> Moments:
    import pandas as pd

    texts = column.to_pandas().str.strip()
    if form is not None:
        return _parsed(texts, texts, where, form)
    dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    if dates.notna().all():
        return _of_parsed(dates, texts, where)
    if texts.str.match(_TIME_OF_DAY).all():
        delta = pd.to_timedelta(texts.str.replace(",", ".", regex=False))
        return _of_nanoseconds(delta.to_numpy("timedelta64[ns]").astype(np.int64), "timedelta64[ns]", zoned=False)
    parts = texts.str.extract(_DAY_OF)
    if parts["first"].notna().all():
        return _parsed(_in_iso(texts, parts, where), texts, where, "ISO8601")
    named = bool(texts.str.contains("[A-Za-z]{3}").all())  # a month's name, which no one can misread
    return _parsed(texts, texts, where, "mixed" if named else "ISO8601")


def _in_iso(texts: Any, parts: Any, where: str) -> Any:
    """Return dates and times in ISO 8601.

    Args:
        texts: (T,) as they are written.
        parts: (T,) what `_DAY_OF` finds in them.
        where: what the messages call the column.

    Raises:
        DataError: nothing tells days from months.
    """
    first, second, third = (parts[name] for name in ("first", "second", "third"))
    if (first.str.len() == 4).all():
        year, month, day = first, second, third
    elif not (third.str.len() == 4).all():
        raise DataError(_unreadable(where, texts, 0))
    elif (parts["mark"] == ".").all() or (first.astype(int) > 12).any():
        day, month, year = first, second, third
    elif (second.astype(int) > 12).any():
        month, day, year = first, second, third
    else:
        raise DataError(
            f"{where} holds dates such as {texts[0]!r}, of which nothing tells day from month. Say which it is with "
            f"{option('time_format', '%d/%m/%Y %H:%M:%S')} or {option('time_format', '%m/%d/%Y %H:%M:%S')}."
        )
    hour = parts["hour"].fillna("0").astype(int)
    half = parts["half"].fillna("").str.lower().str[:1]
    hour = hour.where(half == "", hour % 12 + 12 * (half == "p"))
    time = hour.astype(str).str.zfill(2) + ":" + parts["minute"].fillna("00") + ":" + parts["rest"].fillna("00")
    zone = parts["zone"].fillna("").replace({"UTC": "Z", "GMT": "Z"})
    date = year + "-" + month.str.zfill(2) + "-" + day.str.zfill(2)
    return date + "T" + time.str.replace(",", ".", regex=False) + zone


def _parsed(texts: Any, written: Any, where: str, form: str) -> Moments:
    import pandas as pd

    dates = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
    if (wrong := dates.isna().to_numpy()).any():
        raise DataError(_unreadable(where, written, int(np.argmax(wrong))))
    return _of_parsed(dates, written, where)


def _of_parsed(dates: Any, written: Any, where: str) -> Moments:
    """Return the moments of dates in UTC, given the texts that they were written as."""
    zoned = written.str.contains(_ZONE).to_numpy()
    if zoned.any() != zoned.all():
        row = int(np.argmin(zoned))
        raise DataError(
            f"{where} holds times with and without a zone, the first without in row {row:,}: {written[row]!r}. Write "
            "all in UTC."
        )
    moments = dates.dt.tz_convert(None).to_numpy("datetime64[ns]").astype(np.int64)
    return _of_nanoseconds(moments, "datetime64[ns]", zoned=bool(zoned.all()))


def _unreadable(where: str, texts: Any, row: int) -> str:
    return (
        f"{where} holds no moment in row {row:,}: {str(texts[row])[:40]!r}. Give numbers, or dates and times in ISO "
        "8601 as in 2026-01-31T23:59:58.5, or say how they are written, as in "
        f"{option('time_format', '%d/%m/%y %H:%M')}."
    )


@dataclass(frozen=True, eq=False)
class Intervals:
    """The intervals between the rows of a recording.

    Args:
        seconds: (T - 1,).
        typical: (T - 1,) seconds, the 60th percentile of the 32 around each.
        gaps: (T - 1,) bool.
    """

    seconds: Seconds
    typical: Seconds
    gaps: npt.NDArray[np.bool_]


def intervals(moments: Moments, gap: float | None = None, rate: float | None = None) -> Intervals:
    """Return the intervals between moments, and which of them are gaps.

    Args:
        moments: ascending.
        gap: seconds; a longer interval is a gap. None = longer than 1.5 times the typical interval, which is the 60th
            percentile of the 32 around it, so that each part of a recording is judged by its own rate. Where intervals
            vary, that is 1.5 times their upper quartile, or, where rows are events, up to 20 times the typical one.
        rate: of the moments that are interpolated, Hz, None = none. Where gap is None, a gap is then longer than 3.5
            times the typical interval, and than 1.5 times that of the rate.
    """
    each = np.diff(moments.seconds)
    typical = _typical(each)
    if gap is None:
        longest = _factor(each / typical) * typical
        if rate is not None:
            longest = np.maximum(np.maximum(longest, _GAP_AT_RATE * typical), _GAP / rate)
    else:
        longest = np.full(len(each), float(gap))
    slack = moments.resolution + 4 * np.spacing(np.abs(moments.seconds).max())
    return Intervals(each, typical, each > longest * (1 + 1e-9) + slack)


def _typical(each: Seconds) -> Seconds:
    """Return the 60th percentile of the intervals around each; of intervals that alternate, that is the longer kind."""
    from scipy.ndimage import percentile_filter

    if not len(each) or each.max() <= _GAP * each.min():
        return np.full(len(each), np.median(each) if len(each) else 0.0)
    return np.asarray(percentile_filter(each, _TYPICAL, size=min(_AROUND, 2 * len(each)), mode="reflect"))


def _factor(ratios: Seconds) -> float:
    """Return how many times the typical interval a gap is longer than, given each interval as a multiple of it."""
    if len(ratios) < _FEW:
        return _GAP
    *tenths, three_quarters = np.quantile(ratios, (0.1, 0.2, 0.3, 0.4, 0.5, 0.75), method="lower")
    uneven = _GAP * three_quarters if three_quarters <= _UNEVEN else _GAP
    steps = sorted(longer / shorter for shorter, longer in itertools.pairwise(tenths))
    spread = steps[1]  # more than 1 where intervals vary throughout, not where there are two or three kinds of them
    return float(max(_GAP, uneven, min(_IRREGULAR, spread**10)))


def check_ascending(moments: Moments, rows: Sequence[int] | Array, where: str) -> None:
    """Refuse moments that do not follow one another.

    Args:
        moments: of a recording.
        rows: (T,) of the file.
        where: what the messages call the recording.

    Raises:
        DataError: a moment is that of the row before, or earlier.
    """
    each = np.diff(moments.seconds)
    if not (wrong := np.flatnonzero(each <= 0)).size:
        return
    at = int(wrong[0])
    back = -float(each[at])
    what = f"goes back by {told(back)}" if back > 0 else "stands still"
    cure = ""
    if moments.stamps.dtype.kind == "M" and not moments.zoned and 0 < back <= 3600:
        cure = " If a clock was set back for daylight saving, write its times in UTC."
    elif moments.stamps.dtype.kind == "m" and back > 0:
        cure = " If a day ends there, write dates and times."
    raise DataError(
        f"{where}: time {what} at row {int(rows[at + 1]):,}, from {_shown(moments.stamps[at])} to "
        f"{_shown(moments.stamps[at + 1])}, and so in {len(wrong):,} of {len(rows):,} rows.{cure} Sort the rows by "
        "time and keep one a moment; if the file holds several recordings, say which column tells them apart with "
        f"{option('recording_column')}."
    )


def _shown(stamp: Any) -> str:
    if stamp.dtype.kind == "m":
        return _shown(np.datetime64(0, "ns") + stamp).partition("T")[2]
    return str(stamp).rstrip("0").rstrip(".") if stamp.dtype.kind == "M" else str(stamp)


def told(seconds: float) -> str:
    """Return seconds with three digits, as in '0.02 s'."""
    return f"{float(f'{seconds:.3g}'):,.10g} s"
