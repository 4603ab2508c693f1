"""The README keeps its word: its Python runs, its commands and those of docs/ parse, its names exist."""

import re
import shlex
from pathlib import Path

import pytest

from distclust import load
from distclust.predict import _words
from distclust.report import embeddings, theory
from distclust.run import COMMANDS, _parser
from distclust.spec import read
from distclust.sweep import read_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language, pages=PAGES):
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python", PAGES[:1]))
def test_python_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"\d+% of the points are agreed on", capsys.readouterr().out)


@pytest.mark.parametrize("size", [(), ("size=smoke",)])
@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_study_can_be_run(text, size, tmp_path):
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    study = read_study(tmp_path / "study.yaml", size)
    study.check()
    assert len(study.samples()) > 1


def commands(page):
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in found for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_known(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, line
        elif words[1:3] == ["-m", "distclust.run"] and words[3:] and words[3] in COMMANDS:
            if words[3] == "sweep" and words[4] != "--resume":
                read_study(ROOT / words[4], [word for word in words[5:] if "=" in word]).check()
            if words[3] == "predict":
                _words(words[4:] if "--out" not in words else words[4 : words.index("--out")])
        elif words[1:3] == ["-m", "distclust.run"]:
            arguments = _parser().parse_intermixed_args(words[3:])
            if not arguments.help and not arguments.resume:
                method = arguments.words[0] if arguments.words and "=" not in arguments.words[0] else None
                read(arguments.config, [w for w in arguments.words if "=" in w], method)
        elif words[1:3] == ["-m", "distclust.report.theory"]:
            theory._checked(theory._parser().parse_intermixed_args(words[3:]))
        elif words[1:3] == ["-m", "distclust.report.embeddings"]:
            embeddings._checked(embeddings._parser().parse_intermixed_args(words[3:]))
        elif words[0] in ("ray", "export", ".venv/bin/pip"):
            continue
        elif words[0] == "source":
            assert words[1] == ".venv/bin/activate"
        else:
            assert words[0] == "python", line
            assert (ROOT / words[1]).is_file(), line


def test_ci_calls_the_test_commands_of_the_readme():
    assert "make test" in README
    assert re.findall(r"^make .*$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE) == [
        "make check",
        "make test",
        "make test-slow",
    ]


def test_the_map_shows_what_is_there():
    package = ROOT / "distclust"
    drawn = README.split("## The map")[1]
    for path in package.iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            assert path.name in drawn
        elif path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in drawn


def test_the_names_that_load_knows_are_in_the_readme():
    from distclust.data import NAMES

    assert all(f"`{name}`" in README for name in NAMES)
    assert load("blobs").x.ndim == 2
