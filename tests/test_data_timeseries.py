import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.contracts import Array
from distclust.data import load, points, window_labels, windows
from distclust.errors import DataError, ParameterError


def table(n: int, seed: int) -> Array:
    """Lines of a recording: seconds, microseconds, 117 sensor values, activity."""
    rng = np.random.default_rng(seed)
    lines = np.empty((n, 120))
    lines[:, 0], lines[:, 1] = 1_300_000_000 + np.arange(n) // 50, np.arange(n) % 50 * 20_000
    lines[:, 2:119] = rng.normal(size=(n, 117))
    lines[:, 119] = np.repeat(rng.choice([0, 2, 5, 33], size=n // 6 + 1), 6)[:n]
    lines[rng.integers(0, n, 3), rng.integers(2, 119, 3)] = np.nan
    return lines


def write(folder: Path, subject: int, lines: Array, kind: str = "ideal") -> None:
    text = "\n".join("\t".join([*(repr(float(v)) for v in line[:-1]), str(int(line[-1]))]) for line in lines)
    (folder / f"subject{subject}_{kind}.log").write_text(text.replace("nan", "NaN") + "\n")


def naive(tables: list[Array], window: int, step: int) -> tuple[Array, list[int]]:
    """Windows and their classes, one line and one window at a time; windows stay within a table."""
    xs, activities = [], []
    for lines in tables:
        kept = [line for line in lines if line[119] != 0 and not any(np.isnan(v) for v in line[2:119])]
        for start in range(0, len(kept) - window + 1, step):
            cut = kept[start : start + window]
            xs.append([[np.float32(line[2 + sensor]) for line in cut] for sensor in range(117)])
            counts = Counter(int(line[119]) for line in cut)
            activities.append(min(counts, key=lambda activity: (-counts[activity], activity)))
    names = sorted(set(activities))
    return np.array(xs, dtype=np.float32), [names.index(activity) for activity in activities]


@pytest.fixture
def tables(tmp_path: Path) -> list[Array]:
    tables = [table(90, 0), table(70, 1), table(83, 2)]
    for subject, lines in zip((1, 2, 10), tables, strict=True):
        write(tmp_path, subject, lines)
    write(tmp_path, 3, tables[0], kind="self")  # not an ideal recording: must not be read
    return tables


@pytest.mark.parametrize(("window", "step"), [(16, 5), (8, 3), (1, 1)])
def test_realdisp_against_a_naive_twin(tables: list[Array], tmp_path: Path, window: int, step: int) -> None:
    data = load("RealDisp", data_dir=tmp_path, window=window, step=step)
    x, y = naive(tables, window, step)
    assert data.y is not None
    np.testing.assert_array_equal(data.x, x)
    assert data.y.tolist() == y
    assert (data.n_clusters, data.x.dtype, data.value_range) == (max(y) + 1, np.float32, None)
    assert data.name == "realdisp (3 of 17 subjects)"


@pytest.mark.parametrize("crossing", [False, True])
def test_windows_of_realdisp_lead_back_to_lines(tables: list[Array], tmp_path: Path, crossing: bool) -> None:
    data = load("realdisp", data_dir=tmp_path, window=16, cross_subjects=crossing)
    of = dict(zip(("subject1_ideal.log", "subject2_ideal.log", "subject10_ideal.log"), tables, strict=True))
    assert data.origins is not None
    assert ("last_file" in data.origins) == crossing
    names = ("file", "first_row", "start_time"), ("last_file" if crossing else "file", "last_row", "end_time")
    for moment, (file, row, time) in zip((0, -1), names, strict=True):
        for x, name, line, seconds in zip(data.x, *(data.origins[key] for key in (file, row, time)), strict=True):
            np.testing.assert_array_equal(x[:, moment], of[name][line, 2:119].astype(np.float32))
            assert seconds == of[name][line, 0] + of[name][line, 1] / 1e6
    kept = sum(int(((lines[:, 119] != 0) & ~np.isnan(lines).any(axis=1)).sum()) for lines in tables)
    assert data.remarks[0].startswith(f"{243 - kept} of 243 moments")


def test_all_subjects_bear_the_plain_name(tmp_path: Path) -> None:
    (tmp_path / "realdisp").mkdir()
    for subject in range(1, 18):
        write(tmp_path / "realdisp", subject, table(30, subject))
    assert load("realdisp", data_dir=tmp_path, window=2).name == "realdisp"


def test_one_subject_is_a_view_of_its_recording(tables: list[Array], tmp_path: Path) -> None:
    data = load("realdisp", data_dir=tmp_path, window=16, subjects=[2])
    x, y = naive(tables[1:2], 16, 5)
    assert data.y is not None
    np.testing.assert_array_equal(data.x, x)
    assert data.y.tolist() == y
    assert np.shares_memory(data.x[0], data.x[1])
    assert data.x[[0, 1]].base is None


def test_windows_across_subjects_are_a_view_too(tables: list[Array], tmp_path: Path) -> None:
    data = load("realdisp", data_dir=tmp_path, window=16, cross_subjects=True)
    x, y = naive([np.concatenate(tables)], 16, 5)
    assert data.y is not None
    np.testing.assert_array_equal(data.x, x)
    assert data.y.tolist() == y
    assert np.shares_memory(data.x[0], data.x[1])


def test_points_of_realdisp(tables: list[Array], tmp_path: Path) -> None:
    whole, few = (load("realdisp", data_dir=tmp_path, window=16, n_samples=n, seed=4) for n in (None, 6))
    assert whole.y is not None
    assert few.y is not None
    rows = [int(np.flatnonzero((whole.x == point).all(axis=(1, 2)))[0]) for point in few.x]
    assert rows == sorted(rows)
    assert whole.y[rows].tolist() == few.y.tolist()
    thinned = load("realdisp", data_dir=tmp_path, window=16, imbalance="imb3").y
    assert thinned is not None
    assert len(thinned) < len(whole.y)


def test_copy_that_does_not_fit(tables: list[Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "_memory", lambda: 10_000.0)
    with pytest.raises(DataError, match="more than half of this machine's"):
        load("realdisp", data_dir=tmp_path, window=16)
    assert len(load("realdisp", data_dir=tmp_path, window=16, cross_subjects=True).x)


def test_environment_variable(tables: list[Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTCLUST_DATA", str(tmp_path))
    assert load("realdisp", window=16).x.shape[1:] == (117, 16)


def test_recordings_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UCI Machine Learning Repository") as caught:
        load("realdisp", data_dir=tmp_path)
    assert str(tmp_path / "realdisp") in str(caught.value)
    write(tmp_path, 1, table(20, 0), kind="mutual4")
    with pytest.raises(DataError, match=r"only subject1_mutual4\.log"):
        load("realdisp", data_dir=tmp_path)


def test_subjects_that_are_missing_or_short(tables: list[Array], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no subject4_ideal\.log; it has subjects 1, 2, 10"):
        load("realdisp", data_dir=tmp_path, subjects=(1, 4))
    with pytest.raises(DataError, match=r"window=512 is longer.*subject 1 has"):
        load("realdisp", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("1 2 3\n4 5 6\n", "3 columns"),
        ("\t".join(["x"] * 120), "cannot be read"),
        ("\t".join(["1"] * 119 + ["34"]), "without an activity"),
        ("\t".join(["1"] * 120) + "\n1\t2\t3", "without an activity"),
        ("\t".join(["1"] * 120) + "\n" + "\t".join(["1"] * 121), "cannot be read"),
        ("\t".join(["1"] * 119 + ["0"]), "subject 1 has 0"),
    ],
)
def test_bad_recordings(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "subject1_ideal.log").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        load("realdisp", data_dir=tmp_path, window=1)


@pytest.mark.parametrize(
    "options", [{"subjects": [0]}, {"subjects": [1, 1]}, {"subjects": []}, {"subjects": 1}, {"cross_subjects": 1}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        load("realdisp", **options)


@given(st.integers(1, 30), st.integers(1, 3), st.integers(1, 30), st.integers(1, 12))
def test_windows_against_a_naive_twin(n: int, n_channels: int, window: int, step: int) -> None:
    recording = np.arange(n * n_channels, dtype=np.float32).reshape(n, n_channels)
    if window > n:
        with pytest.raises(DataError, match=f"T at least {window}"):
            windows(recording, window, step)
        return
    x = windows(recording, window, step)
    expected = [recording[start : start + window].T for start in range(0, n - window + 1, step)]
    np.testing.assert_array_equal(x, expected)
    assert np.shares_memory(x, recording)


def test_windows_refused() -> None:
    with pytest.raises(ParameterError) as caught:
        windows(np.zeros((4, 2)), 0, 0)
    assert len(caught.value.faults) == 2
    with pytest.raises(DataError, match="must be"):
        windows(np.zeros(4), 2, 1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 30), st.integers(1, 5))
def test_window_labels_against_a_naive_twin(labels: list[int], window: int, step: int) -> None:
    starts = range(0, len(labels) - window + 1, step)
    expected = []
    for start in starts:
        cut = labels[start : start + window]
        expected.append(max(sorted(set(cut)), key=cut.count))
    assert window_labels(np.array(labels), window, np.array(starts, dtype=np.int64)).tolist() == expected
