"""csv as people bring it: what is read right, and what is answered with the option to give."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust import spec
from distclust.contracts import Array, Dataset
from distclust.data import load
from distclust.data.options import READING
from distclust.data.tables import numbers, read_table
from distclust.errors import DataError, InputError, ParameterError, on_command_line

IRIS = "5.1,3.5,setosa\n4.9,3.0,setosa\n6.3,3.3,virginica\n"


def loaded(folder: Path, text: str | bytes, suffix: str = ".csv", **options: Any) -> Dataset:
    path = folder / f"a{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, **options)


@pytest.mark.parametrize(
    ("text", "options", "x"),
    [
        (IRIS, {"label_column": 2}, [[5.1, 3.5], [4.9, 3.0], [6.3, 3.3]]),
        (",3.5\n4.9,3.0\n", {"missing": "mean"}, [[4.9, 3.5], [4.9, 3.0]]),
        ("NA,3.5\n4.9,3.0\n", {"missing": "mean"}, [[4.9, 3.5], [4.9, 3.0]]),
        ("5.1,?\n4.9,3.0\n", {"missing": "mean"}, [[5.1, 3.0], [4.9, 3.0]]),
        ("5.1,missing\n4.9,3.0\n", {"missing": "mean", "missing_values": "missing"}, [[5.1, 3.0], [4.9, 3.0]]),
        ("5.1,x\n4.9,3.0\n", {"header": False, "missing": "mean", "missing_values": "x"}, [[5.1, 3.0], [4.9, 3.0]]),
        (",,setosa\n4.9,3,setosa\n", {"label_column": 2, "missing": "drop"}, [[4.9, 3]]),
        ("true,3\nfalse,4\n", {}, [[1, 3], [0, 4]]),
        ("1,5;2,5\n3,5;4,5\n", {"decimal": ","}, [[1.5, 2.5], [3.5, 4.5]]),
        ("7,1,2\n8,3,4\n", {"columns": [1, 2]}, [[1, 2], [3, 4]]),
        ("5.1,3,a\n", {"label_column": 2}, [[5.1, 3]]),
        ("7\n8\n", {}, [[7], [8]]),
    ],
)
def test_the_first_row_is_kept(tmp_path: Path, text: str, options: dict[str, Any], x: Any) -> None:
    data = loaded(tmp_path, text, **options)
    np.testing.assert_allclose(data.x, x, rtol=1e-6)
    assert any("header=True" in remark for remark in data.remarks) == ("header" not in options)


@pytest.mark.parametrize(
    ("text", "options", "features"),
    [
        ("a,b\n1,2\n", {}, ("a", "b")),
        ("a,2020\n1,2\n", {}, ("a", "2020")),
        ("2019,2020\n1,2\n", {"header": True}, ("2019", "2020")),
        (",0,1\n0,1.5,2.5\n1,3,4\n", {}, ("0", "1")),
        ("0,1,2\n0.5,1.5,2.5\n3,4,5\n", {}, ("0", "1", "2")),
        ("name,kind,a\nann,x,1\nbob,y,2\n", {"exclude": ["name", "kind"]}, ("a",)),
        ("# a,b\n1,2\n", {}, ("a", "b")),
        ("# made today\n# with care, twice\na,b\n1,2\n# half\n3,4\n", {}, ("a", "b")),
        ('"a" "b"\n"one" 1.5 2\n"two" 2.5 3\n', {}, ("a", "b")),  # as R's write.table does
        ('"","a","b"\n"1",1.5,2\n"2",2.5,3\n', {}, ("a", "b")),
    ],
)
def test_the_first_row_holds_names(tmp_path: Path, text: str, options: dict[str, Any], features: Any) -> None:
    data = loaded(tmp_path, text, **options)
    assert data.feature_names == features
    assert not any("header" in remark for remark in data.remarks)


def test_the_first_row_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 4)))
    for header in (True, False):
        for index in (True, False):
            frame.to_csv(tmp_path / "a.csv", header=header, index=index)
            np.testing.assert_array_equal(load(tmp_path / "a.csv").x, frame)


RIGHT: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "sep= of Excel": ("sep=;\r\na;b\r\n1;2\r\n3;4\r\n", {}),
    "sep= of Excel, told": ("sep=;\na;b\n1;2\n3;4\n", {"separator": ";"}),
    "trailing commas": ("a,b,\n1,2,\n3,4,\n", {}),
    "trailing commas of rows": ("a,b\n1,2,\n3,4,\n", {}),
    "a trailing comma of the header": ("a,b,\n1,2\n3,4\n", {}),
    "many trailing semicolons": ("a;b;;;\n1;2;;;\n3;4;;;\n", {}),
    "pipes": ("a|b\n1|2\n3|4\n", {}),
    "spaces": ("a b\n 1   2\n3 4  \n", {}),
    "spaces, told": ("a b\n 1   2\n3 4  \n", {"separator": "space"}),
    "tabs and spaces": ("a b\tc\n1 2\t'x'\n3   4\t'y'\n", {"exclude": "c"}),
    "the separator of regular expressions": ("a b\n1 2\n3 4\n", {"separator": r"\s+"}),
    "tsv in commas": ("a,b\n1,2\n3,4\n", {}),
    "an odd separator": ("a:b\n1:2\n3:4\n", {"separator": ":"}),
    "separators in quotes": ('"a";b\n1;"2"\n3;"4"\n', {}),
    "spaces before quotes": ('"a", "b"\n"1", "2"\n"3", "4"\n', {}),
    "semicolons between decimal commas": ("a;b\n1,0;2,0\n3,0;4,0\n", {"decimal": ","}),
    "a decimal comma in quotes": ('a,b\n"1,0",2\n"3,0",4\n', {"decimal": ","}),
    "grouped digits": ("a;b\n1;2\n3;4\n", {"thousands": "'"}),
    "old Mac": ("a,b\r1,2\r3,4\r", {}),
    "UTF-16": ("ä,b\n1,2\n3,4\n".encode("utf-16"), {"encoding": "utf-16"}),
    "cp1252": ("ä,b\n1,2\n3,4\n".encode("cp1252"), {"encoding": "cp1252"}),
    "spaces that do not break": ("a;b\n1;2\n3;4\n", {"thousands": " "}),
    "a marker of one's own": ("a,b\n1,2\n-999,0\n3,4\n-999.0,0\n", {"missing_values": -999, "missing": "drop"}),
    "several of them": ("a,b\n1,2\nx,0\n3,4\n-1,0\n", {"missing_values": ["x", -1], "missing": "drop"}),
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_read_right(tmp_path: Path, name: str) -> None:
    text, options = RIGHT[name]
    suffix = ".tsv" if name.startswith("tsv") else ".csv"
    assert loaded(tmp_path, text, suffix, **options).x.tolist() == [[1, 2], [3, 4]]


def test_grouped_digits_and_signs(tmp_path: Path) -> None:
    european = "a;b\n1.234,5;-2\n1.234.567;+3\n"
    assert loaded(tmp_path, european, decimal=",", thousands=".").x.tolist() == [[1234.5, -2], [1234567, 3]]
    spaced = loaded(tmp_path, "a;b\n1\u00a0234,5;2\n1\u202f234 567;3\n", decimal=",", thousands=" ")
    assert spaced.x.tolist() == [[1234.5, 2], [1234567, 3]]
    assert loaded(tmp_path, 'a,b\n"1,234.5",−2\n"12",3\n', thousands=",").x.tolist() == [[1234.5, -2], [12, 3]]
    with pytest.raises(DataError, match=r"text, such as '1\.5'"):
        loaded(tmp_path, "a;b\n1,5;2\n1.5;3\n", decimal=",")
    with pytest.raises(ParameterError, match="decimal and thousands"):
        loaded(tmp_path, "a;b\n1;2\n", decimal=",", thousands=",")


# text -> what the message has to name
ANSWERED: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "decimal comma": ("a;b\n1,5;2\n", {}, r"decimal=.,"),
    "decimal comma without header": ("1,5;2,5\n3,5;4,5\n", {}, r"decimal=.,"),
    "decimal comma in quotes": ('a,b\n"1,5",2\n"2,25",2\n', {}, r"decimal=.,"),
    "decimal comma and categories": ("a;b\n1,5;x\n2,5;y\n", {"categories": "one-hot"}, r"decimal=.,"),
    "decimal point where a comma is": ("a;b\n1.5;2\n2.5;2\n", {"decimal": ","}, r"decimal=.\."),
    "grouped digits": ('a,b\n"1,234",2\n"5,678",2\n', {}, r"thousands=.,.*decimal=.,"),
    "both": ("a;b\n1.234,5;2\n", {}, r"decimal=.,.* thousands=.\."),
    "apostrophes": ("a;b\n1'234;2\n", {}, r"thousands="),
    "cp1252": ("ä,b\n1,2\n".encode("cp1252"), {}, r"encoding=.cp1252.*ä,b"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), {}, r"encoding=.utf-16"),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), {}, r"encoding=.utf-16-le"),
    "UTF-16, the other": ("a,b\n1,2\n".encode("utf-16-be"), {}, r"encoding=.utf-16-be"),
    "another encoding than told": ("ä,b\n1,2\n".encode("cp1252"), {"encoding": "ascii"}, "no text in ascii.*encoding="),
    "a column of decimal commas": ("a\n1,5\n2,5\n", {}, r"decimal=.,"),
    "categories": ("a,b\n1,x\n2,y\n", {}, "categories="),
    "yes and no": ("a,b\n1,yes\n2,no\n", {}, "categories="),
    "a marker": ("a,b\n1,1\n2,1\nnone so far,3\n", {}, r"missing_values=.none so far"),
    "a marker and categories": ("a,b\n1,1\n2,1\n*,3\n", {"categories": "one-hot"}, r"missing_values=.\*"),
    "missing values": ("a,b\n1,1\n?,1\n", {}, r"missing=.drop"),
    "dates": ("a,b\n31.1.2026,1\n", {"categories": "one-hot"}, r"'a' \(dates, such as '31\.1\.2026'\)"),
    "too long a row": ("a,b\n1,2\n1,2,3\n4,5\n", {}, "row 3 has 3 cells.*'1,2,3'.*separator="),
    "too short a row": ("a,b\n1,2\n1\n4,5\n", {}, "row 3 has 1 cell,"),
    "a title": ("My table\n\na,b,c\n1,2,3\n4,5,6\n", {}, "first line has 1 cell, the rows below have 3"),
    "a short first row": ("1,2\n4,5,6\n1,2,3\n", {"header": False}, "first line has 2 cells"),
    "a workbook": (b"PK\x03\x04 ...", {}, "workbook of Excel"),
    "a web page": ("<!DOCTYPE html><html></html>", {}, "a web page"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", {}, "git lfs pull"),
    "names of people": ("n,a\n" + "".join(f"p{i},{i * i}\n" for i in range(30)), {"categories": "one-hot"}, "exclude="),
}


@pytest.mark.parametrize("name", sorted(ANSWERED))
def test_answered_with_the_option_to_give(tmp_path: Path, name: str) -> None:
    text, options, message = ANSWERED[name]
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, text, **options)


def test_a_doubtful_encoding_is_said(tmp_path: Path) -> None:
    data = loaded(tmp_path, "größe,b\n1,2\n", encoding="cp1252")
    assert 'encoding="utf-8"' in data.remarks[0]
    assert loaded(tmp_path, "größe,b\n1,2\n".encode("latin-1"), encoding="latin-1").remarks == ()


def test_a_header_that_was_not_seen_is_thought_of(tmp_path: Path) -> None:
    text = "country,2019,2020\nAT,1,2\nDE,3,4\n"
    with pytest.raises(DataError, match=r"'0' \(text, such as 'country'\).*header=True"):
        loaded(tmp_path, text)
    with pytest.raises(ParameterError, match=r"unknown column 'country'.*header=True"):
        loaded(tmp_path, text, id_column="country")
    assert loaded(tmp_path, text, header=True, id_column="country").x.tolist() == [[1, 2], [3, 4]]


def test_a_git_lfs_pointer_is_named_as_parquet_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="git lfs pull"):
        loaded(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", ".parquet")


@pytest.mark.parametrize(
    "options",
    [
        {"header": 1},
        {"encoding": "utf-88"},
        {"decimal": ";"},
        {"separator": "ab"},
        {"missing_values": [None]},
        {"categories": "yes"},
        {"thousands": "x"},
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        loaded(tmp_path, "a,b\n1,2\n", **options)


def test_options_of_csv_are_not_for_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, -9.0], "b": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ParameterError, match=r"decimal=.* is for csv"):
        load(tmp_path / "a.parquet", decimal=",")
    assert load(tmp_path / "a.parquet", missing_values=-9, missing="drop").x.tolist() == [[1, 1]]


MARKERS = ["", "NA", "n/a", "NaN", "null", "None", "?", "-", ".", "#N/A", "gone", "-999"]
TABLES = hnp.arrays(
    np.float32, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32)
)


def written(x: Array, separator: str, decimal: str, marker: str, end: str) -> list[str]:
    """The lines of a table, a marker for NaN."""
    cells = [[marker if np.isnan(v) else repr(float(v)).replace(".", decimal) for v in row] for row in x]
    return [
        separator.join(f'"{cell}"' if separator in cell or not cell else cell for cell in row) + end for row in cells
    ]


@settings(deadline=None, max_examples=60)
@given(
    x=TABLES,
    gaps=hnp.arrays(bool, (6, 4)),
    separator=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    marker=st.sampled_from(MARKERS),
    encoding=st.sampled_from([None, "utf-16", "cp1252", "utf-8-sig"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_with_and_without_header_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    x: Array,
    gaps: Array,
    separator: str,
    decimal: str,
    marker: str,
    encoding: str | None,
    end: str,
) -> None:
    assume(not (marker == "-999" and (x == -999).any()))
    x = np.where(gaps[: len(x), : x.shape[1]], np.nan, x)
    assume(not np.isnan(x).all(axis=1).any() and not np.isnan(x).all(axis=0).any())
    lines = written(x, separator, decimal, marker, end)
    names = separator.join(f"größe {i}" for i in range(x.shape[1]))
    path = tmp_path_factory.mktemp("t") / "a.csv"
    options: dict[str, Any] = {name: option.default for name, option in READING.items()}
    options |= {"decimal": decimal, "encoding": encoding, "missing_values": ["gone", -999]}
    if separator == "|" or decimal == separator == ",":  # cells in quotes
        options["separator"] = separator
    for text in ("".join(lines), names + end + "".join(lines)):
        path.write_bytes(text.encode(encoding or "utf-8"))
        table = read_table(path, options)
        np.testing.assert_array_equal(numbers(table, list(table.columns))[0], x)


@settings(deadline=None, max_examples=40)
@given(x=TABLES, header=st.booleans(), data=st.data())
@example(x=np.arange(6, dtype=np.float32).reshape(3, 2), header=False, data=None)
def test_permuting_rows_permutes_points(
    tmp_path_factory: pytest.TempPathFactory, x: Array, header: bool, data: Any
) -> None:
    order = [2, 0, 1] if data is None else data.draw(st.permutations(range(len(x))))
    kinds = ["ab"[i % 2] for i in range(len(x))]
    lines = [f"{line.rstrip()},{kind}\n" for line, kind in zip(written(x, ",", ".", "", "\n"), kinds, strict=True)]
    path, names = tmp_path_factory.mktemp("t") / "a.csv", ",".join([*(f"f{i}" for i in range(x.shape[1])), "kind"])
    found = []
    for rows in (range(len(x)), order):
        path.write_text((f"{names}\n" if header else "") + "".join(lines[row] for row in rows))
        found.append(load(path, label_column="kind" if header else x.shape[1]))
    np.testing.assert_array_equal(found[0].x[list(order)], found[1].x)
    assert found[0].y is not None
    assert found[1].y is not None
    np.testing.assert_array_equal(found[0].y[list(order)], found[1].y)
    np.testing.assert_array_equal(found[0].x, x)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b\n1,5;2\n", "dataset.decimal=,"),
        ("ä,b\n1,2\n".encode("cp1252"), "dataset.encoding=cp1252"),
        ("a,b\n1,x\n2,y\n", "dataset.categories=one-hot"),
        ("a,b\n1,1\n2,1\n*,1\n", "dataset.missing_values=*"),
        ("a,b\n1,?\n2,3\n", "dataset.missing=drop"),
        ("country,2019\nAT,1\nDE,3\n", "dataset.header=true"),
    ],
)
def test_what_to_type_on_the_command_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.csv")
    assert words in on_command_line(caught.value)
    assert "dataset." not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["dataset.separator=;", "dataset.decimal=,"],
        ["dataset.separator=semicolon", "dataset.decimal=,", "dataset.header=true"],
        ["dataset.decimal=,", "dataset.missing_values=?,-999", "dataset.encoding=cp1252"],
    ],
)
def test_options_as_they_are_typed(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "a.csv").write_text("a;b\n1,5;2\n3,5;4\n")
    data = spec.read(None, [f"dataset={tmp_path / 'a.csv'}", *words], "entropy").load()
    assert data.x.tolist() == [[1.5, 2], [3.5, 4]]
