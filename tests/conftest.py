import os
from pathlib import Path

import numpy as np
import pytest

# One BLAS thread: tests share small machines, and labels are compared bit for bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _small_verdicts(monkeypatch):
    """Look at 300 points for a verdict, as runs are many; tests/test_verdict.py looks at as many as a user's run."""
    monkeypatch.setattr("distclust.verdict._MOST_POINTS", 300)


@pytest.fixture(scope="session")
def digits():
    from distclust import load

    return load("digits")


@pytest.fixture(scope="session")
def blobs():
    """Three well separated groups of 100 points in 8 dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=6, size=(3, 8))
    y = np.repeat(np.arange(3), 100)
    x = (centres[y] + rng.normal(size=(300, 8))).astype(np.float32)
    order = rng.permutation(300)
    return x[order], y[order]


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data: DISTCLUST_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("DISTCLUST_DATA", SHARED_DATA))
    if not (folder / "usps.npz").is_file():
        pytest.skip(f"no real data: set DISTCLUST_DATA to a folder with usps.npz (looked in {folder})")
    return folder
