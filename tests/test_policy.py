"""The house rules, held by tests: who imports whom, where Ray and true labels may appear, what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import distclust

PACKAGE = Path(distclust.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "contracts": 0,
    "errors": 0,
    "matching": 0,
    "seeding": 0,
    "yaml12": 0,
    "command": 1,
    "parameters": 1,
    "data": 1,
    "nets": 1,
    "assign": 1,
    "losses": 1,
    "contrastive_losses": 1,
    "labelling": 1,
    "consensus": 1,
    "calibration": 1,
    "metrics": 1,
    "separation": 1,
    "units": 1,
    "baselines": 2,
    "distributed": 2,
    "methods": 3,
    "verdict": 4,
    "spec": 5,
    "results": 5,
    "published": 5,
    "predict": 6,
    "report": 6,
    "sweep": 7,
    "run": 8,
}
RAY_FILES = {"distributed/ray_pool.py", "distributed/data_parallel.py", "sweep/tune.py"}
LATE_IMPORTS = {"umap", "hdbscan", "matplotlib", "torchvision", "tensorboardX"}  # imported where they are used


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "distclust":
                yield from ((f"distclust.{alias.name}", node) for alias in node.names)
            else:
                yield (node.module, node)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [f for f in FILES if f.parent != PACKAGE or f.name != "__init__.py"], ids=relative)
def test_a_file_imports_from_lower_floors_or_its_own_room_only(path):
    here = room(path)
    for name, _ in imports(tree_of(path)):
        parts = name.split(".")
        if parts[0] != "distclust" or name in ("distclust", "distclust.__version__"):
            continue
        there = parts[1]
        assert there in FLOORS, f"{there} has no floor"
        assert there == here or FLOORS[there] < FLOORS[here], f"{here} must not import {there}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_ray_is_imported_in_its_files_alone(path):
    found = {name.split(".")[0] for name, _ in imports(tree_of(path))}
    assert "ray" not in found or relative(path) in RAY_FILES


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    top = {name.split(".")[0] for name, node in imports(tree_of(path)) if node.col_offset == 0}
    assert not top & LATE_IMPORTS


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_true_labels_are_read_by_metrics_results_and_report_alone(path):
    if room(path) in ("metrics", "results", "report", "contracts", "data"):  # data makes datasets and their classes
        return
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr != "y", f"{relative(path)}:{node.lineno} reads y"
        if isinstance(node, ast.Name):
            assert node.id != "y", f"{relative(path)}:{node.lineno} uses y"


def test_every_file_is_a_noun_of_the_domain():
    forbidden = {"utils", "common", "helpers", "core", "manager", "misc", "types"}
    assert not [relative(f) for f in FILES if f.stem in forbidden]


def test_public_names_are_sorted_and_all_there():
    assert distclust.__all__ == sorted(distclust.__all__)
    for name in distclust.__all__:
        assert getattr(distclust, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        distclust.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["distclust", "distclust.data", "distclust.nets", "distclust.assign"])
def test_rooms_say_what_they_export(name):
    module = __import__(name, fromlist=["x"])
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)


def test_importing_distclust_is_quick_and_pulls_neither_torch_nor_ray():
    code = (
        "import sys, time; t = time.perf_counter(); import distclust; s = time.perf_counter() - t;"
        "heavy = {'torch', 'ray', 'sklearn', 'numba', 'pandas'} & set(sys.modules); print(s, *heavy)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[1:] == []
    assert float(out[0]) < 0.3


def test_every_module_has_a_test_file():
    tests = {p.stem for p in Path(__file__).parent.glob("test_*.py")}
    wanted = {f"test_{room(f)}" for f in FILES if room(f) not in ("__init__", "contracts", "errors", "distributed")}
    missing = {name for name in wanted if not any(t.startswith(name) for t in tests)}
    assert not missing
