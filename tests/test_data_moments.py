"""A time column in seconds: units, texts, zones; and which intervals are gaps."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.data.moments import UNITS, Moments, check_ascending, intervals, read_moments
from distclust.errors import DataError, ParameterError

DATES = pd.date_range("2026-01-31T23:59:00", periods=150, freq="1s")


def read(values: Any, name: str = "t", unit: str | None = None, form: str | None = None) -> Moments:
    return read_moments(pa.chunked_array([pa.array(values)]), name, "the column", unit, form)


def of(seconds: Any) -> Moments:
    return read(np.asarray(seconds, dtype=np.float64))


@pytest.mark.parametrize("unit", list(UNITS))
def test_numbers_in_each_unit(unit: str) -> None:
    seconds = np.arange(50) * 0.25
    found = read(7 / UNITS[unit] + seconds / UNITS[unit], unit=unit)
    np.testing.assert_allclose(found.seconds, seconds, atol=1e-6)
    assert found.remark == ""


@pytest.mark.parametrize(("unit", "step"), [("ms", 20), ("us", 20_000), ("ns", 20_000_000)])
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_unix_times_are_known_by_their_size_and_said(unit: str, step: int, dtype: Any) -> None:
    stamps = np.int64(1_764_000_000 * round(1 / UNITS[unit])) + np.arange(100) * step
    found = read(stamps.astype(dtype))
    np.testing.assert_allclose(found.seconds, np.arange(100) * 0.02, atol=3e-7)
    assert "2025-11-24" in found.remark
    assert np.array_equal(found.stamps, stamps.astype(dtype))
    told = read(stamps.astype(dtype), unit="s")
    np.testing.assert_allclose(told.seconds, (stamps - stamps[0]).astype(float), rtol=1e-5, atol=1e3)
    assert told.remark == ""


@pytest.mark.parametrize("name", ["time_ms", "t [ms]", "Time(ms)", "ms", "Elapsed_Millis", "timeMs ms"])
def test_the_name_tells_milliseconds(name: str) -> None:
    found = read(np.arange(10) * 20, name=name)
    np.testing.assert_allclose(found.seconds, np.arange(10) * 0.02)
    assert "milliseconds" in found.remark


@pytest.mark.parametrize("name", ["t", "items", "params", "bus", "status", "time_s", "timestamp"])
def test_other_names_do_not(name: str) -> None:
    assert read(np.arange(10) * 20, name=name).seconds[1] == 20


@pytest.mark.parametrize(
    "form",
    [
        *("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S,%f", "%Y-%m-%dT%H:%M:%SZ", "%Y%m%dT%H%M%S"),
        *("%Y/%m/%d %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y, %H:%M:%S", "%d/%m/%Y %H:%M:%S"),
        *("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d-%m-%Y %H:%M:%S", "%d %b %Y %H:%M:%S", "%b %d, %Y %H:%M:%S"),
        *("%d-%b-%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S+01:00"),
    ],
)
def test_common_ways_to_write_dates(form: str) -> None:
    dates = pd.date_range("2026-01-30T23:59:00", periods=150, freq="1s")
    found = read(dates.strftime(form).tolist())
    np.testing.assert_array_equal(found.seconds, np.arange(150))
    hours = pd.Timedelta(hours=1 if "+01" in form else 0)
    np.testing.assert_array_equal(found.stamps, (dates - hours).to_numpy("datetime64[ns]"))
    assert found.zoned == ("+" in form or form.endswith("Z"))


@pytest.mark.parametrize("form", ["%d.%m.%y %H:%M:%S", "%H:%M:%S on %d/%m/%Y", "%Y%m%d%H%M%S"])
def test_time_format_says_how_they_are_written(form: str) -> None:
    found = read(DATES.strftime(form).tolist(), form=form)
    np.testing.assert_array_equal(found.stamps, DATES.to_numpy("datetime64[ns]"))
    assert np.array_equal(read([20260131, 20260201], form="%Y%m%d").seconds, [0, 86400])


def test_dates_written_as_numbers_are_known_and_said() -> None:
    found = read(DATES.strftime("%Y%m%d%H%M%S").astype(np.int64))
    np.testing.assert_array_equal(found.seconds, np.arange(150))
    assert "20260131235900" in found.remark


def test_fractions_may_come_and_go() -> None:
    for texts in (
        ["2026-01-01 00:00:00", "2026-01-01 00:00:00.5"],
        ["13.01.2026 00:00:00.0", "13.01.2026 00:00:00.5"],
        ["00:00:00", "00:00:00.5"],
    ):
        assert read(texts).seconds.tolist() == [0, 0.5]


def test_arrow_types() -> None:
    zoned = DATES.tz_localize("Europe/Berlin")
    for column, kind in (
        (pa.array(DATES), "dates and times"),
        (pa.array(DATES.date.tolist())[:60:59], "dates and times"),
        (pa.array(zoned), "dates and times with a time zone"),
        (pa.array((DATES - DATES[0]).to_numpy()), "times of day"),
        (pa.array(DATES.time.tolist()[60:]), "times of day"),
        (pa.array(DATES.astype(str)).dictionary_encode(), "dates and times"),
    ):
        found = read_moments(pa.chunked_array([column]), "t", "t")
        assert found.kind == kind
        assert found.seconds[1] in (1, 0)
    assert found.zoned is False
    assert read(pa.array(zoned)).stamps[0] == np.datetime64("2026-01-31T22:59:00")


def test_clocks_that_are_set_back() -> None:
    utc = pd.date_range("2026-10-25T00:00", periods=180, freq="1min", tz="UTC").tz_convert("Europe/Berlin")
    found = read(utc.astype(str).tolist())
    np.testing.assert_array_equal(found.seconds, np.arange(180) * 60)
    local = read(utc.tz_localize(None).astype(str).tolist())
    with pytest.raises(DataError, match=r"goes back .* row 60, .*daylight saving"):
        check_ascending(local, np.arange(180), "walk.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, None, 3.0], "misses 1 moments, the first in row 1"),
        ([1.0, 2.0, float("inf")], "not finite, the first in row 2"),
        (["2026-01-01 00:00", "2026-01-01 25:00"], "no moment in row 1: '2026-01-01 25:00'"),
        (["01/02/2026 10:00", "01/02/2026 11:00"], "day from month.*time_format"),
        (["01/02/26 10:00"], "time_format"),
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:01"], "with and without a zone, the first without in row 1"),
        (["a", "b"], "no moment in row 0: 'a'"),
        ([[1.0], [2.0]], "holds no moments"),
    ],
)
def test_refused(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(values)
    with pytest.raises(ParameterError, match="time_unit"):
        read(["2026-01-01"], unit="ms")


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ([0, 1, 2, 2, 3], "stands still at row 13, from 2.0 to 2.0, and so in 1 of 5"),
        ([0, 1, 0.5, 2, 1.5], "goes back by 0.5 s at row 12, from 1.0 to 0.5, and so in 2 of 5"),
    ],
)
def test_moments_that_do_not_ascend_are_refused_by_place(seconds: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_ascending(of(seconds), np.arange(10, 15), "walk.csv")


def cut_at(seconds: Any, gap: float | None = None, rate: float | None = None) -> list[int]:
    """The rows before a gap."""
    return np.flatnonzero(intervals(of(seconds), gap, rate).gaps).tolist()


def with_gap(each: Any, at: int, gap: float) -> Any:
    """Moments of these intervals, one of them replaced."""
    each = np.array(each, dtype=float)
    each[at] = gap
    return np.concatenate([[0], np.cumsum(each)])


RNG = np.random.default_rng(0)
SAMPLED = {
    "even": np.full(400, 0.02),
    "even, unix times": np.diff(1.764e9 + np.arange(401) * 0.02),
    "two rates": np.repeat([0.02, 0.1], 200),
    "two rates, slow first": np.repeat([1.0, 0.01], [40, 360]),
    "jitter of a tenth": 0.02 * RNG.normal(1, 0.1, 400),
    "jitter of a third": 0.02 * RNG.uniform(0.66, 1.34, 400),
    "alternating": np.tile([0.02, 0.08], 200),
    "one short of four": np.tile([0.02, 0.08, 0.08, 0.08], 100),
    "three kinds": np.tile([0.02, 0.04, 0.08, 0.08], 100),
    "alternating, an odd number": np.tile([0.02, 0.08], 201)[:401],
    "rounded to seconds": np.diff(np.floor(np.arange(401) / 0.7)),
    "events": RNG.exponential(0.5, 400) + 1e-3,
    "events of a heavy tail": RNG.lognormal(0, 1, 400),
}


@pytest.mark.parametrize("kind", list(SAMPLED))
def test_only_gaps_are_gaps(kind: str) -> None:
    each = SAMPLED[kind]
    assert len(cut_at(np.concatenate([[0], np.cumsum(each)]))) <= (2 if "heavy" in kind else 0)
    for at in (3, len(each) // 2, len(each) - 2):
        assert at in cut_at(with_gap(each, at, 60 * each[at - 3 : at + 3].max()))


def test_one_lost_row_is_a_gap_of_even_rows_unless_they_are_interpolated() -> None:
    assert cut_at(with_gap(np.full(100, 0.02), 50, 0.04)) == [50]
    assert cut_at(with_gap(np.full(100, 0.02), 50, 0.04), rate=50) == []
    assert cut_at(with_gap(np.full(100, 0.02), 50, 0.08), rate=50) == [50]
    assert cut_at(with_gap(np.full(100, 0.02), 50, 0.08), rate=10) == []  # less than a row of what is asked for
    assert cut_at(with_gap(np.full(100, 0.02), 50, 0.04), gap=0.04) == []
    assert cut_at(1.764e9 + np.arange(100) * 0.02, gap=0.02) == []


@settings(deadline=None, max_examples=50)
@given(
    rates=st.lists(st.sampled_from([0.01, 0.05, 0.2, 1.0]), min_size=1, max_size=4),
    factor=st.floats(20, 1000),
    scale=st.sampled_from([1e-3, 1.0, 60.0]),
)
def test_each_part_is_judged_by_its_own_rate(rates: list[float], factor: float, scale: float) -> None:
    each = scale * np.repeat(rates, 50)
    assert cut_at(np.concatenate([[0], np.cumsum(each)])) == []
    at = 25 + 50 * (len(rates) - 1)
    assert cut_at(with_gap(each, at, factor * each[at])) == [at]
