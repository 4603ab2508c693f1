from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.data import load
from distclust.errors import DataError, ParameterError

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


@pytest.mark.parametrize("name", ["walk.csv", "walk.parquet", "walk.tsv"])
def test_one_file(tmp_path: Path, name: str) -> None:
    table = frame(20)
    path = write(tmp_path, table, name)
    if name.endswith("tsv"):
        table.to_csv(path, index=False, sep="\t")
    data = load(path, window=6, step=4)
    expected = [table.to_numpy().T[:, start : start + 6] for start in (0, 4, 8, 12)]
    np.testing.assert_array_equal(data.x, np.array(expected, dtype=np.float32))
    assert data.names == tuple(f"{name}:{start}" for start in (0, 4, 8, 12))
    assert (data.feature_names, data.y, data.name) == (("x", "y"), None, "walk")
    assert data.remarks == ("4 windows of 6 moments, one every 4, of 1 recording",)
    assert starts(load(path, window=6)) == [0, 3, 6, 9, 12]
    assert load(path, window=1).x.shape == (20, 2, 1)


def test_folder_of_files(tmp_path: Path) -> None:
    for name, n in (("b/2.csv", 9), ("a.parquet", 12), ("c.csv", 3)):
        write(tmp_path, frame(n), name)
    (tmp_path / "notes.txt").write_text("x")
    data = load(tmp_path, window=5, step=2)
    assert data.names == (*(f"a.parquet:{row}" for row in (0, 2, 4, 6)), *(f"b/2.csv:{row}" for row in (0, 2, 4)))
    assert data.remarks[-1].endswith("of 3 recordings; 3 moments lie in pieces shorter than a window")
    write(tmp_path, frame(9, z=1.0), "d.csv")
    with pytest.raises(DataError, match=r"d\.csv has the channels x, y, z; the files before have x, y"):
        load(tmp_path, window=5)
    assert len(load(tmp_path, window=5, step=2, columns=["x", "y"]).x) == 10


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
    assert data.remarks[0].endswith("cut at gaps into 2 pieces")
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
    with pytest.raises(DataError, match=r"missing values: 1 in 'x'\. .*missing='drop', or leave"):
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
        (frame(9), {"window": 3, "rate": 5}, "rate is 5, which needs the times"),
        (frame(9), {"window": 3, "gap": 5}, "gap is 5, which needs the times"),
        (frame(9), {"window": 3, "time_column": "z"}, "unknown column 'z'"),
        (frame(9, t=[0, 1, 2, 2, 3, 4, 5, 6, 7]), {"window": 3, "time_column": "t"}, "time does not go on at row 3"),
        (frame(3, t=[0, 1, np.nan]), {"window": 3, "time_column": "t"}, "misses 1 moments"),
        (frame(3, t=[0, 1, np.inf]), {"window": 3, "time_column": "t"}, "values that are not finite"),
        (frame(3, t=["a", "b", "c"]), {"window": 3, "time_column": "t"}, "holds no moments"),
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
