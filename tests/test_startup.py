"""What the README says of the first seconds: the import, the help, the first line, each in a process of its own."""

import subprocess
import sys
import time

import pytest

from distclust.methods import METHODS
from distclust.run import COMMANDS, main


def seconds(*words):
    """The least of three times of a command: other work on the machine only adds."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return min(found)


def test_the_import_takes_less_than_three_tenths_of_a_second():
    assert seconds("-c", "import distclust") - seconds("-c", "pass") < 0.3


@pytest.mark.parametrize("words", [(), *((name,) for name in [*METHODS, *COMMANDS])], ids=str)
def test_help_takes_less_than_a_second(words):
    assert seconds("-m", "distclust.run", *words, "--help") < 1


def first_line(*words, cwd):
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "distclust.run", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
    )
    line = process.stdout.readline()
    taken = time.perf_counter() - start
    process.kill()
    process.wait()
    process.stdout.close()
    return taken, line


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    words = ["combination", "dataset=blobs", "n_clusters=3", "n_epochs=2", "n_rounds=1", "pool.kind=local"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("combination", "dataset=digits", "pool.kind=local"),
        ("sweep", "{study}"),
        ("report", "{run}"),
        ("predict", "{run}", "blobs", "--out", "labels.parquet"),
    ],
    ids=lambda words: words[0],
)
def test_the_first_line_comes_within_two_seconds(words, run_folder, tmp_path):
    (tmp_path / "study.yaml").write_text("method: combination\nspace: {random_state: {seeds: 2}}\n")
    given = [word.format(study=tmp_path / "study.yaml", run=run_folder) for word in words]
    least, line = min(first_line(*given, cwd=tmp_path) for _ in range(2))
    assert least < 2
    assert line.startswith("distclust: ")
    assert "loading torch" in line
