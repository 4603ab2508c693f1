"""Sweeps: a study of seeds and parameters on Ray Tune, its tables, and a paper's numbers beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distclust.sweep.study import Axis, Study, StudyOptions, Trial, read_study

if TYPE_CHECKING:
    from distclust.sweep.driver import SweepFolder, sweep

__all__ = ["Axis", "Study", "StudyOptions", "SweepFolder", "Trial", "read_study", "sweep"]


def __getattr__(name: str) -> Any:
    if name in ("SweepFolder", "sweep"):  # torch is loaded where it is used
        from distclust.sweep import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
