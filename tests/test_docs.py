"""The pages under docs/ keep their word: their Python runs, their commands parse, what they point to is there."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import distclust
from distclust import LocalPool, rounds

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def code(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(page):
    """The names that a page's Python leaves behind."""
    names = {"__name__": page.stem}
    for block in code(page):
        exec(compile(block, str(page), "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if code(page) and page.stem != "your-own-data"], ids=lambda page: page.stem
)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a page may write files
    run(page)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_reference_is_what_the_docstrings_say():
    for page, text in runpy.run_path(str(ROOT / "docs" / "reference.py"))["pages"]().items():
        assert page.read_text(encoding="utf-8") == text, f"run python docs/reference.py: {page.name} is out of date"


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in reference or f"`distclust.{name}`" in reference for name in distclust.__all__)


def test_the_worked_method_is_short_and_goes_on_after_a_crash(blobs, tmp_path):
    page = ROOT / "docs" / "new-method.md"
    assert len([line for line in code(page)[0].splitlines() if line.strip()]) < 100
    method = run(page)["LatentKMeans"](n_clusters=3, n_members=2, n_rounds=3, n_epochs=2)
    through = list(rounds(method, blobs[0], LocalPool(storage=tmp_path / "through")))
    pool = LocalPool(storage=tmp_path / "broken")
    first = next(iter(rounds(method, blobs[0], pool)))
    resumed = list(rounds(method, blobs[0], LocalPool(storage=tmp_path / "broken"), resume=first))
    assert np.array_equal(through[-1].agreement.labels, resumed[-1].agreement.labels)
    assert np.array_equal(through[-1].outputs[1].latents, resumed[-1].outputs[1].latents)
