import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.contracts import Agreement, Round
from distclust.data import load
from distclust.errors import DataError, ParameterError, on_command_line
from distclust.results import Record
from distclust.run import main

RNG = np.random.default_rng(0)


def frame(n: int, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": RNG.normal(size=n), "y": np.arange(n, dtype=float), **more})


def write(folder: Path, table: pd.DataFrame, name: str = "walk.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False) if name.endswith("parquet") else table.to_csv(path, index=False)
    return path


def starts(data: Any) -> list[int]:
    """First row of each window, as its channel y counts them."""
    return [int(row) for row in data.x[:, data.feature_names.index("y"), 0]]


def origins(data: Any) -> list[tuple[Any, ...]]:
    """File, first and last row, start and end of each window."""
    names = ("file", "first_row", "last_row", "start_time", "end_time")
    rows = zip(*(data.origins[name].tolist() for name in names), strict=True)
    return [(file, first, last, start, round(end, 9)) for file, first, last, start, end in rows]


@pytest.mark.parametrize("name", ["walk.csv", "walk.parquet", "walk.tsv"])
def test_one_file(tmp_path: Path, name: str) -> None:
    table = frame(20)
    path = write(tmp_path, table, name)
    if name.endswith("tsv"):
        table.to_csv(path, index=False, sep="\t")
    data = load(path, window=6, step=4)
    expected = [table.to_numpy().T[:, start : start + 6] for start in (0, 4, 8, 12)]
    np.testing.assert_array_equal(data.x, np.array(expected))
    assert data.names == tuple(f"{name}:{start}" for start in (0, 4, 8, 12))
    assert (data.feature_names, data.y, data.name) == (("x", "y"), None, "walk")
    assert data.remarks[-1] == (
        "4 windows of 6 moments, one every 4, of 1 recording; 2 moments follow the last window of a recording"
    )
    assert starts(load(path, window=6)) == [0, 3, 6, 9, 12]
    assert load(path, window=1).x.shape == (20, 2, 1)


def test_columns_that_are_no_channels(tmp_path: Path) -> None:
    n = 40
    table = frame(n, time=np.arange(n) / 5, subject=1, label=2, kind_id=np.arange(n) % 3)
    table.to_csv(tmp_path / "walk.csv")  # with the index, under no name
    data = load(tmp_path / "walk.csv", window=8)
    assert data.feature_names == ("x", "y", "time", "subject", "label", "kind_id")
    said = " ".join(data.remarks)
    assert "column '' numbers or names the rows" in said
    assert "column 'time' grows from row to row" in said
    assert all(f"column {name!r} is a channel" in said for name in ("subject", "label", "kind_id"))
    data = load(tmp_path / "walk.csv", window=8, time_column="time", exclude=["subject", "label", "kind_id"])
    assert data.feature_names == ("x", "y")
    assert not any("is a channel" in remark for remark in data.remarks)
    assert load(tmp_path / "walk.csv", window=8, columns=["time", "x"]).feature_names == ("time", "x")


def test_folder_of_files(tmp_path: Path) -> None:
    for name, n in (("b/2.csv", 9), ("a.parquet", 12), ("c.csv", 3)):
        write(tmp_path, frame(n), name)
    (tmp_path / "notes.txt").write_text("x")
    data = load(tmp_path, window=5, step=2)
    assert data.names == (*(f"a.parquet:{row}" for row in (0, 2, 4, 6)), *(f"b/2.csv:{row}" for row in (0, 2, 4)))
    assert data.remarks[-1].startswith("1 of 3 recordings are shorter than a window")
    assert "c.csv (3 moments)" in data.remarks[-1]
    write(tmp_path, frame(9, z=1.0), "d.csv")
    with pytest.raises(DataError, match=r"d\.csv has the channels x, y, z; the files before have x, y"):
        load(tmp_path, window=5)
    assert len(load(tmp_path, window=5, step=2, columns=["x", "y"]).x) == 10
    write(tmp_path, frame(9)[["y", "x"]], "d.csv")
    assert starts(load(tmp_path, window=9)) == [0, 0, 0]  # channels go by their names, not by their places


def test_no_window_spans_two_recordings(tmp_path: Path) -> None:
    who = ["ann"] * 7 + ["bob"] * 6 + ["ann"] * 3
    path = write(tmp_path, frame(16, who=who))
    data = load(path, window=5, step=1, recording_column="who")
    assert data.names is not None
    assert data.names[:3] == ("walk.csv:ann:0", "walk.csv:ann:1", "walk.csv:ann:2")
    assert data.x[5, 1].tolist() == [5, 6, 13, 14, 15]  # ann's rows follow one another
    assert data.names[6:] == ("walk.csv:bob:7", "walk.csv:bob:8")
    path = write(tmp_path, frame(16, who=who, t=range(16)))
    assert starts(load(path, window=5, step=1, recording_column="who", time_column="t")) == [0, 1, 2, 7, 8]


def test_no_window_spans_a_gap(tmp_path: Path) -> None:
    t = np.r_[np.arange(10), 20 + np.arange(8)] * 0.02
    path = write(tmp_path, frame(18, t=t))
    data = load(path, window=4, step=3, time_column="t")
    assert starts(data) == [0, 3, 6, 10, 13]
    assert "cut at gaps into 2 pieces" in data.remarks[0]
    assert data.feature_names == ("x", "y")
    assert starts(load(path, window=4, step=3, time_column="t", gap=1)) == [0, 3, 6, 9, 12]
    assert starts(load(path, window=4, step=3, exclude="t")) == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("kind", ["seconds", "text", "timestamps", "zoned"])
def test_moments_may_be_dates_and_times(tmp_path: Path, kind: str) -> None:
    seconds = np.r_[np.arange(6), 60 + np.arange(6)]
    dates = pd.Timestamp("2026-01-31T23:59:58") + pd.to_timedelta(seconds, unit="s")
    times = {
        "seconds": seconds,
        "text": dates.astype(str),
        "timestamps": dates,
        "zoned": dates.tz_localize("CET"),
    }
    path = write(tmp_path, frame(12, t=times[kind]), "a.csv" if kind in ("seconds", "text") else "a.parquet")
    assert starts(load(path, window=3, step=2, time_column="t")) == [0, 2, 6, 8]


def test_missing_values_end_a_window(tmp_path: Path) -> None:
    table = frame(12)
    table.loc[5, "x"] = np.nan
    path = write(tmp_path, table)
    with pytest.raises(DataError, match=r"1 in 'x'\. .*\"drop\" or missing=\"interpolate\", or leave"):
        load(path, window=3)
    assert starts(load(path, window=3, step=1, missing="drop")) == [0, 1, 2, 6, 7, 8, 9]
    with pytest.raises(ParameterError, match="missing is 'mean'"):
        load(path, window=3, missing="mean")


def test_rate(tmp_path: Path) -> None:
    t = np.array([0, 0.1, 0.25, 0.3, 0.45, 0.5, 0.6, 0.75, 0.8, 1.0])
    path = write(tmp_path, pd.DataFrame({"t": t, "y": 10 * t, "kind": ["a"] * 4 + ["b"] * 6}))
    data = load(path, window=4, step=4, time_column="t", rate=10, gap=1, label_column="kind")
    np.testing.assert_allclose(data.x[:, 0], [[0, 1, 2, 3], [4, 5, 6, 7]], rtol=1e-6)
    assert data.y is not None
    assert data.y.tolist() == [0, 1]
    assert data.names == ("walk.csv:0", "walk.csv:3")
    assert origins(data) == [("walk.csv", 0, 3, 0.0, 0.3), ("walk.csv", 3, 7, 0.4, 0.7)]
    even = write(tmp_path, frame(101, t=np.arange(101) / 50))
    np.testing.assert_allclose(
        load(even, window=101, time_column="t", rate=50).x[0], load(even, window=101, exclude="t").x[0], rtol=1e-6
    )
    assert load(even, window=51, time_column="t", rate=25).x.shape == (1, 2, 51)


def test_class_of_a_window_is_its_most_frequent_one(tmp_path: Path) -> None:
    path = write(tmp_path, frame(9, kind=["sit", "sit", "run", "run", "run", None, None, None, "sit"]))
    data = load(path, window=3, step=3, label_column="kind")
    assert data.y is not None
    assert (data.y.tolist(), data.n_clusters) == ([1, 0, -1], 2)
    assert load(path, window=3, exclude="kind").y is None


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), window=st.integers(1, 6), step=st.integers(1, 4))
def test_against_a_naive_twin(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], window: int, step: int
) -> None:
    n = sum(lengths)
    table = frame(n, r=np.repeat(np.arange(len(lengths)), lengths))
    path = write(tmp_path_factory.mktemp("r"), table)
    expected = []
    for r in range(len(lengths)):
        rows = [row for row in range(n) if table["r"][row] == r]
        expected += [rows[i] for i in range(0, len(rows) - window + 1, step)]
    if not expected:
        with pytest.raises(DataError, match="is longer than every piece"):
            load(path, window=window, step=step, recording_column="r")
        return
    assert starts(load(path, window=window, step=step, recording_column="r")) == expected


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (frame(9), {"window": 10}, r"window=10 is longer than every piece .* has 9 moments\. Give a smaller window=\."),
        (frame(9), {"window": 3, "rate": 5}, "rate=5 needs .*time_column="),
        (frame(9), {"window": 3, "gap": 5}, "gap=5 needs .*time_column="),
        (frame(9), {"window": 3, "time_unit": "ms"}, r"time_unit=\"ms\" needs .*time_column="),
        (frame(9), {"window": 3, "time_format": "%H"}, r"time_format=\"%H\" needs .*time_column="),
        (frame(9), {"window": 3, "longest_gap": 2}, r"longest_gap=2 needs missing=\"interpolate\""),
        (frame(9), {"window": 3, "longest_gap": 2, "missing": "drop"}, "longest_gap=2 needs"),
        (frame(9, t=["x"] * 9), {"window": 3, "time_column": "t", "time_unit": "ms"}, "holds no numbers"),
        (frame(9, t=range(9)), {"window": 3, "time_column": "t", "rate": 1e13}, r"rate=.*lower rate=.*time_unit="),
        (frame(9, t=range(9)), {"window": 3, "time_column": "t", "gap": 0.5}, r"walk\.csv 1 s\. Give .* a larger gap="),
        (frame(9), {"window": 3, "time_column": "z"}, "unknown column 'z'"),
        (frame(9, t=[0, 1, 2, 2, 3, 4, 5, 6, 7]), {"window": 3, "time_column": "t"}, "time stands still at row 3"),
        (frame(3, t=[0, 1, np.nan]), {"window": 3, "time_column": "t"}, "misses 1 moments"),
        (frame(3, t=[0, 1, np.inf]), {"window": 3, "time_column": "t"}, "values that are not finite"),
        (frame(3, t=["a", "b", "c"]), {"window": 3, "time_column": "t"}, "holds no moment in row 0: 'a'"),
        (frame(3, who=["a", None, "b"]), {"window": 1, "recording_column": "who"}, "misses values"),
        (frame(3, who=["a", "a", "b"]), {"window": 1}, r"'who' \(text, such as 'a'\)"),
        (frame(9, t=np.cumsum(1 + 9 * (np.arange(9) % 3 == 0))), {"window": 9, "time_column": "t"}, "a larger gap="),
        (frame(3, k=[0.5, 1, 1]), {"window": 1, "label_column": "k"}, "no integers"),
        (pd.DataFrame({"t": [1, 2]}), {"window": 1, "time_column": "t"}, "no column is left"),
    ],
)
def test_refused(tmp_path: Path, table: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, ParameterError), match=message):
        load(write(tmp_path, table), **options)


def test_folders_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \.csv, \.tsv, \.parquet to cut windows from"):
        load(tmp_path, window=3)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"it holds 'a\.txt'"):
        load(tmp_path, window=3)


@pytest.mark.parametrize(
    "options", [{"window": 0}, {"window": 2, "step": 0}, {"window": 2, "rate": -1}, {"window": "2"}]
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=list(options)[-1]):
        load(write(tmp_path, frame(9)), **options)


def test_parts_at_different_rates_all_survive(tmp_path: Path) -> None:
    for name, rate, n in (("a.csv", 50, 200), ("b.csv", 10, 200), ("c.csv", 1, 40)):
        write(tmp_path, frame(n, t=np.arange(n) / rate), name)
    both = np.concatenate([np.arange(200) / 50, 4 + np.arange(200) / 10])
    write(tmp_path, frame(400, t=both), "d.csv")
    data = load(tmp_path, window=20, time_column="t")
    assert data.origins is not None
    assert Counter(data.origins["file"].tolist()) == {"a.csv": 19, "b.csv": 19, "c.csv": 3, "d.csv": 39}
    assert not any("gaps" in remark for remark in data.remarks)
    assert any("0.02 s (a.csv) to 1 s (c.csv)" in r and "0.38 s to 19 s" in r and "rate=" in r for r in data.remarks)
    data = load(tmp_path, window=20, time_column="t", rate=50)
    assert data.origins is not None
    seconds = data.origins["end_time"] - data.origins["start_time"]
    np.testing.assert_allclose(seconds, 0.38)
    assert Counter(data.origins["file"].tolist()) == {"a.csv": 19, "b.csv": 98, "c.csv": 194, "d.csv": 118}


def test_times_in_milliseconds_are_suspected_at_a_rate(tmp_path: Path) -> None:
    path = write(tmp_path, frame(60, t=np.arange(60) * 20))
    said = load(path, window=20, time_column="t", rate=50).remarks
    assert any("rate=50 is 1,000 times that of walk.csv, whose rows are 20 s apart" in remark for remark in said)
    data = load(path, window=20, step=20, time_column="t", rate=50, time_unit="ms")
    assert origins(data) == [("walk.csv", row, row + 19, 20.0 * row, 20.0 * row + 380) for row in (0, 20, 40)]
    renamed = write(tmp_path, frame(60, time_ms=np.arange(60) * 20), "b.csv")
    assert len(load(renamed, window=20, step=20, time_column="time_ms", rate=50).x) == 3


class Naive:
    """A recording cut row by row: the runs of rows between which there is no gap and in which nothing is missing."""

    def __init__(self, t: Any, missing: Any, gap: float) -> None:
        self.runs: list[list[int]] = []
        for row in range(len(t)):
            if missing[row]:
                continue
            if row == 0 or missing[row - 1] or t[row] - t[row - 1] > gap:
                self.runs.append([])
            self.runs[-1].append(row)

    def windows(self, window: int, step: int) -> list[list[int]]:
        return [run[i : i + window] for run in self.runs for i in range(0, len(run) - window + 1, step)]

    def lost(self, n: int, window: int, step: int) -> int:
        """Rows in no window because of gaps or missing values: all but those that follow the very last window."""
        inside = {row for rows in self.windows(window, step) for row in rows}
        last = self.runs[-1]
        to_the_end = last[-1] == n - 1 and len(last) >= min(window, n)
        return n - len(inside) - (sum(row not in inside for row in last) if to_the_end else 0)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 80),
    window=st.integers(1, 8),
    step=st.integers(1, 8),
    share=st.sampled_from([0.0, 0.03, 0.2]),
)
def test_cut_against_a_naive_twin(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, window: int, step: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    step = min(step, window)
    t = np.cumsum(np.where(rng.random(n) < 0.1, 1.0, 0.02))
    missing = rng.random(n) < share
    missing[rng.integers(n)] = False
    table = pd.DataFrame({"t": t, "x": np.where(missing, np.nan, rng.normal(size=n)), "y": np.arange(n, dtype=float)})
    path = write(tmp_path_factory.mktemp("r"), table, "walk.parquet")
    naive = Naive(t, missing, 0.5)
    expected = naive.windows(window, step)
    options = {"window": window, "step": step, "time_column": "t", "gap": 0.5, "missing": "drop"}
    if not expected:
        with pytest.raises(DataError, match="is longer than every piece"):
            load(path, **options)
        return
    data = load(path, **options)
    assert [[int(row) for row in rows] for rows in data.x[:, 1]] == expected
    assert origins(data) == [
        ("walk.parquet", rows[0], rows[-1], t[rows[0]], round(t[rows[-1]], 9)) for rows in expected
    ]
    lost = naive.lost(n, window, step)
    found = [remark for remark in data.remarks if "because of gaps or missing values" in remark]
    assert len(found) == (lost > 0)
    if lost:
        assert f"{lost} of {n} moments" in found[0]
        assert found[0].startswith("warning: ") == (lost > 0.01 * n)
        assert ('missing="interpolate"' in found[0]) == (lost > 0.01 * n)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), rate=st.floats(1, 200), window=st.integers(1, 6), n_gaps=st.integers(0, 3))
def test_rate_against_a_naive_twin(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float, window: int, n_gaps: int
) -> None:
    rng = np.random.default_rng(seed)
    each = rng.uniform(0.01, 0.05, 60)
    each[rng.choice(60, n_gaps, replace=False)] = 2.0
    t = rng.choice([0.0, 1.7e9]) + np.concatenate([[0], np.cumsum(each)])
    path = write(tmp_path_factory.mktemp("r"), pd.DataFrame({"t": t, "x": rng.normal(size=61)}), "walk.parquet")
    x = pd.read_parquet(path)["x"].to_numpy()
    expected, rows = [], []
    runs = Naive(t, np.zeros(61, bool), 1.0).runs
    for run in runs:
        own, t0 = t[run] - t[0], t[run[0]] - t[0]
        n = int((own[-1] - t0) * rate * (1 + 1e-12) + 1e-6) + 1
        at = np.minimum(t0 + np.arange(n) / rate, own[-1])
        values = np.interp(at, own, x[run])
        for i in range(0, n - window + 1, window):
            expected.append(values[i : i + window])
            rows.append((t[0] + at[i], t[0] + at[i + window - 1]))
    options = {"window": window, "step": window, "time_column": "t", "rate": rate, "gap": 1}
    if not expected:
        with pytest.raises(DataError, match="is longer than every piece"):
            load(path, **options)
        return
    data = load(path, **options)
    assert data.origins is not None
    first, last, start, end = (data.origins[name] for name in ("first_row", "last_row", "start_time", "end_time"))
    np.testing.assert_allclose(data.x[:, 0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.stack([start, end], 1), rows, atol=1e-6)
    slack = 1e-5 / rate + 2e-6
    assert (t[first] <= start + slack).all()
    assert (t[last] >= end - slack).all()
    assert all((np.diff(t[a : z + 1]) <= 1).all() for a, z in zip(first, last, strict=True))
    ends = [max((z for z in last.tolist() if z in run), default=run[0] - 1) for run in runs]  # of the last windows
    lost = sum(run[-1] - end for run, end in zip(runs, ends, strict=True))
    if not n_gaps or ends[-1] in runs[-1]:
        lost -= runs[-1][-1] - ends[-1]  # not for a gap: there the recording ends
    found = [remark for remark in data.remarks if "because of gaps or missing values" in remark]
    assert [f"{lost} of 61 moments" in remark for remark in found] == [True] * (lost > 0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), longest=st.sampled_from([None, 1, 2, 4, 100]), timed=st.booleans())
def test_interpolation_against_a_naive_twin(
    tmp_path_factory: pytest.TempPathFactory, seed: int, longest: int | None, timed: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(60, 2))
    for channel in (0, 1):
        for start in rng.integers(0, 60, 3):
            values[start : start + rng.integers(1, 9), channel] = np.nan
    values[rng.integers(60)] = rng.normal(size=2)
    table = pd.DataFrame(values, columns=["x", "z"]).assign(**({"t": np.arange(60) / 4} if timed else {}))
    if not np.isnan(values).any():
        return
    options = {"window": 1, "missing": "interpolate", "longest_gap": longest, **({"time_column": "t"} if timed else {})}
    data = load(write(tmp_path_factory.mktemp("r"), table, "walk.parquet"), **options)
    rows = 5 if longest is None else 4 * longest - 1 if timed else longest  # in succession
    filled = values.copy()
    for channel in (0, 1):
        known = np.flatnonzero(~np.isnan(values[:, channel]))
        for a, z in itertools.pairwise(known):
            if 1 < z - a <= rows + 1:
                filled[a:z, channel] = np.interp(np.arange(a, z), [a, z], values[[a, z], channel])
    whole = ~np.isnan(filled).any(axis=1)
    assert data.origins is not None
    assert data.origins["first_row"].tolist() == np.flatnonzero(whole).tolist()
    np.testing.assert_allclose(data.x[:, :, 0], filled[whole], rtol=1e-5, atol=1e-6)
    n_filled = int(np.isnan(values).sum() - np.isnan(filled).sum())
    assert any(f"{n_filled} missing values are interpolated" in r for r in data.remarks) == (n_filled > 0)


def test_short_gaps_are_filled_and_longer_ones_cut(tmp_path: Path) -> None:
    t = np.delete(np.arange(60) * 0.02, [10, 11, 30, *range(40, 48)])
    path = write(tmp_path, pd.DataFrame({"t": t, "x": np.sin(t), "y": 50 * t}))
    options = {"window": 5, "step": 1, "time_column": "t", "missing": "interpolate"}
    data = load(path, **options)
    expected = [*range(36), *range(48, 56)]
    assert data.origins is not None
    np.testing.assert_allclose(data.x[:, 1, 0], expected, atol=1e-4)
    np.testing.assert_allclose(data.origins["end_time"] - data.origins["start_time"], 0.08)
    at = expected.index(10)  # a moment that is no row: its window begins at the row before
    assert (int(data.origins["first_row"][at]), int(data.origins["last_row"][at])) == (9, 12)
    assert "3 moments are interpolated in gaps" in " ".join(data.remarks)
    few = load(path, **options, longest_gap=0.04)
    np.testing.assert_allclose(few.x[:, 1, 0], [*range(6), *range(12, 36), *range(48, 56)], atol=1e-4)
    everything = load(path, **options, longest_gap=1)
    np.testing.assert_allclose(everything.x[:, 1, 0], np.arange(56), atol=1e-4)
    resampled = load(path, **options, longest_gap=1, rate=50)
    np.testing.assert_allclose(resampled.x, everything.x, atol=1e-5)


@pytest.mark.parametrize(("step", "lost"), [(3, 2), (5, 1), (8, 0), (9, 2)])
def test_rows_that_a_long_step_skips_are_not_lost(tmp_path: Path, step: int, lost: int) -> None:
    t = np.concatenate([np.arange(11), 20 + np.arange(30)])  # step 5: windows at 0 and 5, 8 and 9 are skipped, 10 lost
    said = load(write(tmp_path, frame(41, t=t)), window=3, step=step, time_column="t").remarks
    assert [f"{lost} of 41 moments" in remark for remark in said if "because of gaps" in remark] == [True] * (lost > 0)


def test_messages_name_what_is_typed(tmp_path: Path) -> None:
    t = np.concatenate([np.arange(20), 40 + np.arange(20)]) / 5
    path = write(tmp_path, frame(40, t=t).assign(x=lambda d: d["x"].where(d["y"] != 30)), "a.parquet")
    warning = next(r for r in load(path, window=6, time_column="t", missing="drop").remarks if "warning" in r)
    for said, gap, fill in (
        (str(warning), " gap= ", 'missing="interpolate"'),
        (on_command_line(warning), " dataset.gap= ", "dataset.missing=interpolate"),
    ):
        assert gap in said
        assert fill in said
        assert "0.2 s (0.2 s to 4.2 s)" in said
    with pytest.raises(DataError) as caught:
        load(path, window=60, time_column="t", missing="drop")
    assert "dataset.longest_gap=" in on_command_line(caught.value)


def test_the_order_of_files_changes_no_window(tmp_path: Path) -> None:
    several = [frame(n, t=np.arange(n) * step) for n, step in ((40, 0.02), (30, 0.1), (25, 1.0))]
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        folder = tmp_path / str(order[0])
        for name, index in zip("abc", order, strict=True):
            write(folder, several[index], f"{name}.csv")
        x = load(folder, window=8, time_column="t", rate=50).x
        found.append(sorted(one.tobytes() for one in x))
    assert found[0] == found[1]


def test_kinds_of_time_differ(tmp_path: Path) -> None:
    write(tmp_path, frame(9, t=pd.date_range("2026-01-01", periods=9).astype(str)), "a.csv")
    write(tmp_path, frame(9, t=range(9)), "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: time_column holds numbers of s; the files before have dates"):
        load(tmp_path, window=3, time_column="t")


def test_chosen_points_keep_their_origins(tmp_path: Path) -> None:
    path = write(tmp_path, frame(90, t=np.arange(90) / 4, who=["ann"] * 40 + ["bob"] * 50))
    options = {"window": 4, "step": 1, "time_column": "t", "recording_column": "who"}
    for more in ({"n_samples": 20}, {"resample": 0.3}, {"n_samples": 30, "resample": 0.5}):
        data = load(path, **options, **more)
        assert data.origins is not None
        first, who = data.origins["first_row"], data.origins["recording"]
        assert starts(data) == first.tolist()
        assert (data.origins["start_time"] == first / 4).all()
        assert data.names == tuple(f"walk.csv:{one}:{row}" for one, row in zip(who, first, strict=True))


def test_labels_say_when_each_window_was(tmp_path: Path) -> None:
    dates = pd.date_range("2026-01-31T23:59", periods=30, freq="s", tz="Europe/Berlin")
    data = load(write(tmp_path, frame(30, t=dates), "a.parquet"), window=10, time_column="t")
    n = len(data.x)
    aligned = np.zeros((2, n), dtype=np.int64)
    agreement = Agreement(aligned[0], np.ones(n, dtype=bool), np.ones(n), 2, aligned)
    record = Record(tmp_path / "run")
    record.store_labels(Round(0, (), agreement, 0.0, (n,)), data.rows, data.names, data.origins)
    found = pd.read_parquet(tmp_path / "run" / "labels.parquet")
    assert found["file"].tolist() == ["a.parquet"] * n
    assert found["first_row"].tolist() == [0, 5, 10, 15, 20]
    assert found["start_time"].tolist() == [dates[row].tz_convert(None) for row in found["first_row"]]
    assert found["end_time"].tolist() == [dates[row].tz_convert(None) for row in found["last_row"]]
    assert record.labels() is not None


def test_links_that_lead_out_are_not_followed_unless_asked(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    outside.mkdir()
    write(outside, frame(9), "b.csv")
    (folder / "b.csv").symlink_to(outside / "b.csv")
    with pytest.raises(DataError, match=r"1 link leads out of the folder, not followed: b\.csv"):
        load(folder, window=3)
    write(folder, frame(9), "a.csv")
    (folder / "again").symlink_to(folder)
    data = load(folder, window=3, step=3)
    assert len(data.x) == 3
    assert sum("b.csv" in remark and 'links="follow"' in remark for remark in data.remarks) == 1
    assert len(load(folder, window=3, step=3, links="follow").x) == 6


@pytest.mark.slow
def test_a_run_says_when_each_window_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    t = np.delete(np.arange(900), range(300, 420)) / 50
    for name, start in (("a.csv", "2026-03-01T10:00:00"), ("b.csv", "2026-03-02T10:00:00")):
        wave = np.sin(2 * np.pi * np.where(np.arange(len(t)) % 260 < 130, 1, 6) * t)
        dates = pd.Timestamp(start) + pd.to_timedelta(t, unit="s")
        table = pd.DataFrame({"x": wave + rng.normal(0, 0.1, len(t)), "time": dates.strftime("%Y-%m-%dT%H:%M:%S.%fZ")})
        write(tmp_path / "walks", table, name)
    here = str(tmp_path / "walks")
    given = ["dataset.window=26", "dataset.step=13", "dataset.time_column=time"]
    words = ["combination", f"dataset={here}", *given, "n_clusters=2", "n_members=2", "n_epochs=2", "n_rounds=1"]
    assert main([*words, "pool.kind=local", "--out", str(tmp_path / "run")]) in (0, 1)  # 1 where no point has a label
    assert "cut at gaps into 4 pieces" in " ".join(capsys.readouterr().out.split())
    assert main(["predict", str(tmp_path / "run"), here, *given, "--out", str(tmp_path / "new.parquet")]) == 0
    names = ["file", "first_row", "last_row", "start_time", "end_time"]
    for path in (tmp_path / "run" / "labels.parquet", tmp_path / "new.parquet"):
        found = pd.read_parquet(path)
        assert len(found) == 2 * (22 + 35)
        for file, first, last, start_time, end_time in found[names].itertuples(index=False):
            assert last - first == 25
            written = pd.read_csv(tmp_path / "walks" / file)["time"]
            assert pd.Timestamp(written[first]) == start_time.tz_localize("UTC")
            assert pd.Timestamp(written[last]) == end_time.tz_localize("UTC")
