from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust.contracts import Array, Dataset
from distclust.data import load
from distclust.errors import DataError, InputError, ParameterError


def csv(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parquet(folder: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def loaded(tmp_path: Path, text: str | bytes, **options: Any) -> Dataset:
    return load(csv(tmp_path, text), **options)


@pytest.mark.parametrize(
    ("text", "x", "features"),
    [
        ("a,b\n1,2\n3,4\n", [[1, 2], [3, 4]], ("a", "b")),
        ("a;b\n1;2.5\n3;4\n", [[1, 2.5], [3, 4]], ("a", "b")),
        ("a\tb\r\n1\t2\r\n3\t4", [[1, 2], [3, 4]], ("a", "b")),
        (b"\xef\xbb\xbfa,b\n1,2\n", [[1, 2]], ("a", "b")),
        ("\n\na, b \n\n1, 2\n", [[1, 2]], ("a", "b")),
        ('"a, too","b"\n"1",2\n', [[1, 2]], ("a, too", "b")),
        ("a,b\nTrue,false\nFALSE,true\n", [[1, 0], [0, 1]], ("a", "b")),
        ("a,b\n1e3,-0.5\n", [[1000, -0.5]], ("a", "b")),
        ("temperatur_°c\n7\n", [[7]], ("temperatur_°c",)),
    ],
)
def test_csv(tmp_path: Path, text: str | bytes, x: Any, features: tuple[str, ...]) -> None:
    data = loaded(tmp_path, text)
    assert data.x.tolist() == x
    assert data.x.dtype == (np.float32 if "True" in str(text) else np.float64)
    assert (data.feature_names, data.name, data.names, data.y, data.remarks) == (features, "a", None, None, ())


def test_numbers_in_the_first_line_are_a_row(tmp_path: Path) -> None:
    data = loaded(tmp_path, "1,2.5\n3,4\n")
    assert data.x.tolist() == [[1, 2.5], [3, 4]]
    assert data.feature_names == ("0", "1")
    assert "the first line holds numbers alone" in data.remarks[0]
    assert loaded(tmp_path, "1,2.5\n3,4\n", columns=[1]).x.tolist() == [[2.5], [4]]


def test_columns(tmp_path: Path) -> None:
    text = "id,a,b,kind\nx,1,2,dog\ny,3,4,cat\n"
    with pytest.raises(DataError, match=r"'kind' \(text, such as 'dog'\)\. Leave them out with exclude="):
        loaded(tmp_path, text)
    data = loaded(tmp_path, text, label_column="kind")
    assert data.y is not None
    assert (data.x.tolist(), data.y.tolist(), data.n_clusters) == ([[1, 2], [3, 4]], [1, 0], 2)
    assert data.names == ("x", "y")
    assert loaded(tmp_path, text, exclude="kind").y is None
    assert loaded(tmp_path, text, columns=("b", "a")).feature_names == ("b", "a")
    assert loaded(tmp_path, text, columns="b", id_column="kind").names == ("dog", "cat")


@pytest.mark.parametrize("header", ["", "id", "Index", "__index_level_0__"])
def test_what_names_the_rows_is_no_feature(tmp_path: Path, header: str) -> None:
    data = loaded(tmp_path, f"{header},a\n7,1\n9,2\n")
    assert (data.names, data.feature_names) == (("7", "9"), ("a",))
    assert "taken as the points' names" in data.remarks[0]
    repeated = loaded(tmp_path, f"{header},a\n7,1\n7,2\n")
    assert (repeated.names, repeated.feature_names) == (None, (header, "a"))
    assert "is a feature, as it does not name every row differently" in repeated.remarks[0]
    if header:
        asked = loaded(tmp_path, f"{header},a\n7,1\n9,2\n", columns=[header, "a"])
        assert (asked.names, asked.feature_names, asked.remarks) == (None, (header, "a"), ())


def test_frames_of_pandas_come_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, 2], "b": [3, 4]}, index=["p", "q"])
    frame.to_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        data = load(tmp_path / name)
        np.testing.assert_array_equal(data.x, frame.to_numpy())
        assert (data.names, data.feature_names) == (("p", "q"), ("a", "b"))


def test_kinds_of_columns_in_parquet(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, 2], pa.int8()),
        "u": pa.array([1, 2], pa.uint64()),
        "h": pa.array([1, 2], pa.float16()) if hasattr(np, "float16") else [1, 2],
        "d": pa.array([1, 2], pa.decimal128(5, 2)),
        "b": [True, False],
        "list": [[1.0, 2.0], [3.0, 4.0]],
        "fixed": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
    }
    data = load(parquet(tmp_path, **columns))
    assert data.x.tolist() == [[1, 1, 1, 1, 1, 1, 2, 1, 2], [2, 2, 2, 2, 0, 3, 4, 3, 4]]
    assert data.feature_names == ("i", "u", "h", "d", "b", "list[0]", "list[1]", "fixed[0]", "fixed[1]")
    refused = {
        "when": pa.array([0, 1], pa.timestamp("s")),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "pair": [{"a": 1}, {"a": 2}],
        "raw": [b"a", b"b"],
        "words": [["a"], ["b"]],
        "span": pa.array([0, 1], pa.duration("s")),
    }
    for name, column in refused.items():
        with pytest.raises(DataError, match=f"do not hold numbers: '{name}'"):
            load(parquet(tmp_path, a=[1, 2], **{name: column}))
        assert load(parquet(tmp_path, a=[1, 2], **{name: column}), exclude=[name]).x.shape == (2, 1)
    with pytest.raises(DataError, match="lists of one length"):
        load(parquet(tmp_path, e=[[1.0], [1.0, 2.0]]))
    with pytest.raises(DataError, match="lists of one length"):
        load(parquet(tmp_path, e=[[1.0], None]))


def test_missing_values(tmp_path: Path) -> None:
    text = "a,b,c\n1,,5\n2,3,6\nNaN,4,7\n"
    with pytest.raises(DataError, match='missing="drop" or missing="mean"'):
        loaded(tmp_path, text)
    dropped = loaded(tmp_path, text, missing="drop", label_column="c")
    assert dropped.y is not None
    assert (dropped.x.tolist(), dropped.names, dropped.y.tolist()) == ([[2, 3]], ("1",), [1])
    assert dropped.remarks == ("2 of 3 rows miss a value and are left out",)
    filled = loaded(tmp_path, text, missing="mean")
    assert filled.x.tolist() == [[1, 3.5, 5], [2, 3, 6], [1.5, 4, 7]]
    assert filled.remarks == ("2 of 3 rows miss a value, which becomes the mean of its column",)
    assert loaded(tmp_path, text, columns="c").remarks == ()
    with pytest.raises(DataError, match="columns without any value: 'b'"):
        loaded(tmp_path, "a,b\n1,\n2,\n", missing="mean")
    with pytest.raises(DataError, match="leaves none"):
        loaded(tmp_path, "a,b\n1,\n,2\n", missing="drop")
    both = parquet(tmp_path, a=[1.0, None, 3.0], b=[1.0, 2.0, float("nan")])
    assert load(both, missing="drop").x.tolist() == [[1, 1]]


def test_classes(tmp_path: Path) -> None:
    for values, y in (("3\n1\n-1\n3", [1, 0, -1, 1]), ("a\n\nb\na", [0, -1, 1, 0]), ("1.0\n\n2.0\n1", [0, -1, 1, 0])):
        rows = "\n".join(f"{i},{v}" for i, v in enumerate(values.split("\n")))
        data = loaded(tmp_path, f"x,y\n{rows}\n", label_column="y")
        assert data.y is not None
        assert data.y.tolist() == y
        assert data.n_clusters == 2
    with pytest.raises(DataError, match=r"column 'y' holds values that are no integers"):
        loaded(tmp_path, "x,y\n1,0.5\n", label_column="y")


def test_names_stay_with_their_points(tmp_path: Path) -> None:
    rows = "".join(f"p{i},{i},{i % 4}\n" for i in range(40))
    for options in ({"n_samples": 7}, {"resample": 0.5}, {"imbalance": "imb3"}):
        data = loaded(tmp_path, f"id,x,y\n{rows}", label_column="y", **options)
        assert data.names == tuple(f"p{int(x)}" for x in data.x[:, 0])
        assert len(data.x) < 40


REFUSED: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty": ("", {}, "is empty"),
    "blank lines": ("\n \n", {}, "is empty"),
    "no rows": ("a,b\n", {}, "has no rows"),
    "names twice": ("a,b,a\n1,2,3\n", {}, "several columns are called 'a'"),
    "no names twice": (",,a\n1,2,3\n", {}, "several columns are called ''"),
    "a line too long": ("a,b\n1,2\n1,2,3\n", {}, "cannot be read as a table"),
    "all lines too long": ("a,b\n1,2,3\n4,5,6\n", {}, "cannot be read as a table"),
    "open quotes": ('a,b\n1,"2\n', {}, "cannot be read as a table"),
    "another encoding": ("ä,b\n1,2\n".encode("latin-1"), {}, "is no text in UTF-8"),
    "two bytes a letter": ("a,b\n1,2\n".encode("utf-16"), {}, "is no text in UTF-8"),
    "nul bytes": (b"\x00\x00\x00", {}, "do not hold numbers|cannot be read|has no rows"),
    "infinite": ("a,b\n1,inf\n2,-inf\n", {}, "infinite values: 2 in 'b'"),
    "too large": ("a\n1e400\n2\n", {}, "1 in 'a'"),
    "decimal commas": ("a;b\n1,5;2\n", {}, r"'a' \(text, such as '1,5'\)"),
    "an odd cell": ("a,b\n1,2\n2,?\n", {}, r"'b' \(text, such as '\?'\)"),
    "no such column": ("a,b\n1,2\n", {"columns": ["c"]}, r"unknown column 'c'\. Known: a, b"),
    "a near name": ("width,b\n1,2\n", {"exclude": "with"}, "Did you mean 'width'"),
    "no such label": ("a,b\n1,2\n", {"label_column": "c"}, "unknown column 'c'"),
    "named twice": ("a,b\n1,2\n", {"columns": ["a", "b"], "label_column": "b"}, "which other options name too"),
    "nothing left": ("a,b\n1,2\n", {"exclude": ["a", "b"]}, "no column is left"),
    "ids twice": ("a,b\n1,2\n1,3\n", {"id_column": "a"}, "has '1' 2 times"),
    "ids missing": ("a,b\n1,2\n,3\n", {"id_column": "a"}, "misses 1 values"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(tmp_path: Path, name: str) -> None:
    text, options, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, text, **options)


@pytest.mark.parametrize(
    "options", [{"columns": []}, {"columns": ["a", "a"]}, {"exclude": 1.5}, {"id_column": ["a"]}, {"missing": "zero"}]
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        loaded(tmp_path, "a,b\n1,2\n", **options)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read as a table"):
        load(csv(tmp_path, b"PAR1 nothing PAR1", "a.parquet"))
    with pytest.raises(DataError, match="has no columns"):
        load(parquet(tmp_path))


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32)))
def test_numbers_survive(tmp_path_factory: pytest.TempPathFactory, x: Array) -> None:
    folder = tmp_path_factory.mktemp("table")
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])])
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet", index=False)
    for name in ("a.csv", "a.parquet"):
        np.testing.assert_array_equal(load(folder / name).x.astype(np.float32), x)


def test_ids_are_text_as_written(tmp_path: Path) -> None:
    text = "k,a\n007,1\n1e5,2\nNA,3\n7,4\n1.0,5\nNone,6\n"
    assert loaded(tmp_path, text, id_column="k").names == ("007", "1e5", "NA", "7", "1.0", "None")
    assert loaded(tmp_path, "id,a\n007,1\n7,2\n").names == ("007", "7")
    with pytest.raises(DataError, match="misses 1 values"):
        loaded(tmp_path, "k,a\nx,1\n,2\n", id_column="k")


@pytest.mark.parametrize("header", ["Unnamed: 0", "unnamed: 0", "Unnamed: 0.1", "level_0", "rownames"])
@pytest.mark.parametrize("more", [{}, {"id_column": "k"}, {"label_column": "k"}, {"columns": "a"}])
def test_the_index_of_pandas_is_no_feature(tmp_path: Path, header: str, more: dict[str, Any]) -> None:
    text = f"{header},k,a\n0,x,1.5\n1,y,2.5\n2,z,3.5\n"
    data = loaded(tmp_path, text, **(more or {"exclude": "k"}))
    assert data.feature_names == ("a",)
    assert data.names == (("x", "y", "z") if "id_column" in more else ("0", "1", "2"))
    asked = loaded(tmp_path, text, columns=[header, "a"])
    assert asked.x[:, 0].tolist() == [0, 1, 2]


def test_an_index_that_starts_again_is_no_feature(tmp_path: Path) -> None:
    data = loaded(tmp_path, "Unnamed: 0,a\n0,1\n1,2\n0,3\n")
    assert (data.feature_names, data.names) == (("a",), None)
    assert "columns=" in data.remarks[0]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("header", ["row", "No", "#", "nr.", "S.No", "RowNumber", "X", ""])
def test_row_numbers_are_no_features(tmp_path: Path, header: str, first: int) -> None:
    order = np.random.default_rng(0).permutation(12)
    rows = "".join(f"{i + first},{i * i % 7}\n" for i in order)
    data = loaded(tmp_path, f"{header},a\n{rows}")
    assert (data.feature_names, data.names) == (("a",), tuple(str(i + first) for i in order))
    assert "columns=" in data.remarks[0]


def test_a_column_without_a_name_elsewhere_is_a_feature(tmp_path: Path) -> None:
    data = loaded(tmp_path, "a,,b\n1,5,2\n3,7,4\n")
    assert data.feature_names == ("a", "", "b")
    assert loaded(tmp_path, "a,,b\n1,5,2\n3,7,4\n", exclude="").feature_names == ("a", "b")


def test_other_ids_are_no_features(tmp_path: Path) -> None:
    rows = "".join(f"{i},{15600000 + 7 * i},u{i},{i * i % 7}\n" for i in range(1, 13))
    data = loaded(tmp_path, f"RowNumber,CustomerId,user_id,a\n{rows}")
    assert data.feature_names == ("a",)
    assert data.names == tuple(map(str, range(1, 13)))
    assert [name for name in ("RowNumber", "CustomerId", "user_id") if any(name in r for r in data.remarks)] == [
        "RowNumber",
        "CustomerId",
        "user_id",
    ]
    assert loaded(tmp_path, "acid,humid\n1,2\n2,3\n").feature_names == ("acid", "humid")


def test_a_time_that_counts_rows_is_a_feature_and_said(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * i % 7}\n" for i in range(12))
    data = loaded(tmp_path, f"time,a\n{rows}")
    assert data.feature_names == ("time", "a")
    assert "'time'" in data.remarks[0]
    assert 'exclude="time"' in data.remarks[0]
    assert loaded(tmp_path, rows).feature_names == ("1",)  # the first column of a file without header is a row number


def test_labels_that_look_like_missing_values_are_classes(tmp_path: Path) -> None:
    def labels(*cells: str, **options: Any) -> Any:
        text = "".join(f"{cell},{i}.5\n" for i, cell in enumerate(cells))
        y = loaded(tmp_path, f"y,x\n{text}", label_column="y", **options).y
        return None if y is None else y.tolist()

    assert labels("NA", "DE", "None", "") == [1, 0, 2, -1]
    assert labels("null", "?", "x", missing_values="?") == [0, -1, 1]
    assert labels("1", "NA", "2", "?") == [0, -1, 1, -1]
    assert labels("1", "2", "-9", missing_values=-9) == [0, 1, -1]
    assert labels("007", "7", "07") == [0, 2, 1]
    assert labels("99999999999999999998", "99999999999999999999") == [0, 1]
    assert labels("true", "false", "TRUE") == [1, 0, 1]
    assert labels("yes", "no", "NA") == [2, 1, 0]


def test_categories_one_hot(tmp_path: Path) -> None:
    text = "size,x,kind\nS,1,b\nL,2,a\nM,3,b\n,4,a\n"
    with pytest.raises(DataError, match=r'categories="one-hot" or categories="ordinal"'):
        loaded(tmp_path, text)
    with pytest.raises(DataError, match=r"1 in 'size=L'"):
        loaded(tmp_path, text, categories="one-hot")
    data = loaded(tmp_path, text, categories="one-hot", missing="drop")
    assert data.feature_names == ("size=L", "size=M", "size=S", "x", "kind=a", "kind=b")
    assert data.x.tolist() == [[0, 0, 1, 1, 0, 1], [1, 0, 0, 2, 1, 0], [0, 1, 0, 3, 0, 1]]
    ordinal = loaded(tmp_path, text, categories="ordinal", missing="drop")
    assert ordinal.feature_names == ("size", "x", "kind")
    assert ordinal.x.tolist() == [[2, 1, 1], [0, 2, 0], [1, 3, 1]]
    assert "0 'L', 1 'M', 2 'S'" in ordinal.remarks[0]
    assert "'?'" in loaded(tmp_path, "a,b\n?,1\nx,2\n", categories="one-hot").remarks[0]


def test_categories_of_parquet(tmp_path: Path) -> None:
    sizes = pd.Categorical(["S", "L", None, "S"], categories=["S", "M", "L"], ordered=True)
    frame = pd.DataFrame({"size": sizes, "kind": pd.Categorical(["b", "a", "b", "c"])})
    frame.to_parquet(tmp_path / "a.parquet")
    ordinal = load(tmp_path / "a.parquet", categories="ordinal", missing="drop")
    assert ordinal.x.tolist() == [[0, 1], [2, 0], [0, 2]]
    one_hot = load(tmp_path / "a.parquet", categories="one-hot", missing="drop", columns=["size", "kind"])
    assert one_hot.feature_names == ("size=S", "size=L", "kind=a", "kind=b", "kind=c")
    assert one_hot.x.tolist() == [[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    shuffled = frame.sample(frac=1, random_state=1)
    shuffled.to_parquet(tmp_path / "b.parquet")
    same = load(tmp_path / "b.parquet", categories="ordinal", missing="mean").x
    whole = load(tmp_path / "a.parquet", categories="ordinal", missing="mean").x
    np.testing.assert_array_equal(same, whole[shuffled.index])


def test_wide_tables_keep_the_kinds_of_their_columns(tmp_path: Path) -> None:
    n, width = 5, 40
    x = np.random.default_rng(0).normal(size=(n, width)).round(4)
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(width)])
    frame.insert(7, "flag", [True, False, True, True, False])
    frame.insert(20, "n", range(10, 15))
    frame.loc[2, "f30"] = np.nan
    frame["kind"] = list("ababa")
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = load(tmp_path / "a.csv", label_column="kind", missing="drop")
    expected = frame.drop(columns="kind").dropna().to_numpy(dtype=float)
    np.testing.assert_allclose(data.x, expected, rtol=1e-6)


def test_whole_numbers_that_float64_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    moments = 2**60 + 256 * np.arange(4)
    assert (np.diff(load(parquet(tmp_path, t=moments, u=range(4))).x[:, 0]) == 256).all()
    with pytest.raises(DataError, match=r"equal ones: 't'.*exclude="):
        load(parquet(tmp_path, t=2**60 + np.array([0, 1, 512, 513]), u=range(4)))


def test_embeddings_that_are_float32_stay_so(tmp_path: Path) -> None:
    wide, narrow = np.random.default_rng(0).normal(size=(2, 5, 3))
    for x, dtype in ((wide, np.float64), (narrow.astype(np.float32), np.float32)):
        data = load(parquet(tmp_path, e=list(x)))
        assert data.x.dtype == dtype
        np.testing.assert_array_equal(data.x, x)
