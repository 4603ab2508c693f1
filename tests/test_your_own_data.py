"""docs/your-own-data.md keeps its word: its Python runs, and its commands load the data that they speak of."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distclust import load
from distclust.data import catalogue
from distclust.run import _method_and_pairs, _parser
from distclust.spec import read

PAGE = (Path(__file__).parents[1] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
RNG = np.random.default_rng(0)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that holds all that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    for index in range(20):
        path = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (70 + index, 90, 3), dtype=np.uint8)).save(path)
    people = pd.DataFrame({"name": list("abcdefghij"), "since": "2026-01-01", "age": range(10), "income": 1.5})
    people.assign(income=[None, *range(9)]).to_csv("customers.csv", index=False)
    people["email"] = people["name"] + "@example.org"
    people.to_parquet("customers.parquet")
    embeddings = pd.DataFrame({"embedding": list(RNG.normal(size=(20, 6))), "kind": ["x", "y"] * 10})
    embeddings.to_parquet("embeddings.parquet")
    moments = pd.DataFrame(RNG.normal(size=(400, 3)), columns=["x", "y", "z"]).assign(t=np.arange(400) / 40)
    moments.to_csv("walk.csv", index=False)
    (tmp_path / "recordings").mkdir()
    for name, sign in (("a", 1), ("b", -1)):
        moved = moments.assign(x=sign * moments["x"])
        moved.assign(activity=np.repeat(["sit", "run"], 200)).to_parquet(tmp_path / "recordings" / f"{name}.parquet")
    np.save("images.npy", RNG.integers(0, 256, (20, 32, 40, 3), dtype=np.uint8))
    np.save("windows.npy", RNG.normal(size=(20, 3, 64)).astype(np.float32))
    np.save("classes.npy", np.arange(20) % 4)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_load_their_data(folder, line):
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "distclust.run"]
    method, pairs = _method_and_pairs(_parser().parse_intermixed_args(words[3:]).words, words[3:])
    spec = read(None, pairs, method)
    data = spec.load()
    spec.estimator(data).checked(data.x)
    assert ("label" in line) == (data.y is not None)


def test_there_are_commands():
    assert len(COMMANDS) == 11


@pytest.mark.parametrize("code", blocks("python"))
def test_python_prints_what_it_says(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "your-own-data.md", "exec"), {})
    assert capsys.readouterr().out == "(200, 3) ('a', 'b', 'c')\n(200,)\n"


def test_every_option_is_told_of_with_its_default():
    told = set(
        re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")))
    )
    options = {*catalogue._IMAGE_FOLDER, *catalogue._TABLE, *catalogue._RECORDINGS} - {*catalogue._COMMON}
    assert told == options


def test_the_options_for_all_are_in_the_docstring():
    assert load.__doc__ is not None
    for option in {*catalogue._COMMON, *catalogue._IMAGE_FOLDER, *catalogue._TABLE, *catalogue._RECORDINGS}:
        assert f"{option}=" in load.__doc__, option
