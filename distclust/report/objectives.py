"""What a sweep found, in pictures: what it looks for along each axis, round by round, and beside structureless data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from distclust.contracts import Array
from distclust.report.pictures import BarChart, Bars, Chart, Curve, panels

_WIDE = 50.0  # numbers that reach further than this are shown on a logarithmic axis
_MOST_LINES = 6  # of one panel


class Line(NamedTuple):
    """Figures along an axis, of one dataset or setting."""

    name: str  # in the legend; "" = not there
    values: Sequence[Any]  # (n,) of the axis, numbers or names
    means: Sequence[float]  # (n,) nan = not known
    spreads: Sequence[float]  # (n,) nan = not known


class Effect(NamedTuple):
    """How a figure moves along one axis."""

    axis: str
    lines: Sequence[Line]  # with equal values where they are names
    drawn: bool = False  # whether the values were drawn, so that no two trials share one
    log: bool = False  # whether it is logarithmic whatever the values


class Course(NamedTuple):
    """How a figure moves over the rounds."""

    figure: str
    lines: Sequence[Line]  # values are rounds, 1, 2, ...


class Curves(NamedTuple):
    """What was measured of each value of an axis, on data and on structureless references, (n,) each; nan = not."""

    axis: str
    values: Sequence[Any]
    stability: Sequence[float]
    spread: Sequence[float]
    reference: Sequence[float]
    reference_spread: Sequence[float]
    agreed: Sequence[float]  # 0 .. 1
    silhouette: Sequence[float]  # -1 .. 1
    recommended: Any = None  # a value that is marked
    title: str = ""


def is_wide(values: Sequence[Any]) -> bool:
    """Return whether numbers are better shown on a logarithmic axis: all above 0, the greatest 50 times the least."""
    return numeric(values) and min(values) > 0 and max(values) >= _WIDE * min(values)


def numeric(values: Sequence[Any]) -> bool:
    """Return whether there are values and all are numbers."""
    return len(values) > 0 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def effects(title: str, figure: str, shown: Sequence[Effect]) -> bytes:
    """Return a picture of a figure along axes as PNG, a panel an axis.

    Numbers make lines with their spread, drawn ones points; names make bars. Of more than six lines in a panel the
    first six are shown.

    Args:
        title: of the whole.
        figure: what it is called.
        shown: at least one axis.
    """
    return panels(title, [_effect(figure, effect) for effect in shown])


def courses(title: str, shown: Sequence[Course]) -> bytes:
    """Return a picture of figures over the rounds as PNG, a panel a figure, a line a setting.

    Args:
        title: of the whole.
        shown: at least one figure; of more than six lines the first six are shown.
    """
    return panels(title, [Chart(c.figure, "round", c.figure, _curves(c.lines), bands=True) for c in shown])


def beside_references(title: str, shown: Sequence[Curves]) -> bytes:
    """Return a picture of stability on data and on structureless data, of agreement and of the silhouette, as PNG.

    Args:
        title: of the whole.
        shown: at least one; two panels each, side by side.
    """
    return panels(title, [panel for curves in shown for panel in _beside_references(curves)], n_columns=2)


def _beside_references(found: Curves) -> list[Chart | BarChart]:
    data = Line("the data", found.values, found.stability, found.spread)
    reference = Line("without structure", found.values, found.reference, found.reference_spread)
    nothing = [math.nan] * len(found.values)
    agreed = Line("share of agreed points", found.values, found.agreed, nothing)
    silhouette = Line("silhouette", found.values, found.silhouette, nothing)
    parts = [("stability", [data, reference]), ("agreement and silhouette", [agreed, silhouette])]
    return [_marked(name, found, lines) for name, lines in parts]


def _effect(figure: str, effect: Effect) -> Chart | BarChart:
    values = [value for line in effect.lines for value in line.values]
    if not numeric(values):
        return _bars(figure, effect.axis, effect.lines)
    log = effect.log or is_wide(values)
    return Chart(effect.axis, effect.axis, figure, _curves(effect.lines, not effect.drawn), log=log, bands=True)


def _marked(name: str, found: Curves, lines: Sequence[Line]) -> Chart | BarChart:
    known = [line for line in lines if not np.isnan(line.means).all()]
    title, at = f"{found.title}: {name}" if found.title else name, found.recommended
    if not numeric(found.values):
        return _bars(name, found.axis, known)._replace(title=title if at is None else f"{title} (recommended: {at})")
    mark = None if at is None else (f"recommended: {at:.4g}", float(at))
    curves = [curve._replace(dashed=index == 1) for index, curve in enumerate(_curves(known))]
    return Chart(title, found.axis, name, curves, log=is_wide(found.values), bands=True, mark=mark)


def _bars(figure: str, axis: str, lines: Sequence[Line]) -> BarChart:
    names = [str(value) for value in lines[0].values] if lines else []
    bars = [
        Bars(line.name, _array(line.means), [index], _spread(line)) for index, line in enumerate(lines[:_MOST_LINES])
    ]
    return BarChart(axis, axis, figure, names, bars)


def _curves(lines: Sequence[Line], joined: bool = True) -> list[Curve]:
    """Return the first lines as curves, by ascending values, each with a colour and a marker; what is nan is left out.

    Lines after the third are dashed, as their markers come a second time.
    """
    found = []
    for index, line in enumerate(lines[:_MOST_LINES]):
        means = _array(line.means)
        known = np.flatnonzero(~np.isnan(means))
        order = known[np.argsort(_array(line.values)[known], kind="stable")]
        spread = _spread(line)
        at = None if spread is None else spread[order]
        found.append(Curve(line.name, _array(line.values)[order], means[order], index, index > 2, at, joined))
    return found


def _spread(line: Line) -> Array | None:
    """Return the spreads, 0 where one is not known; None where none is."""
    spreads = _array(line.spreads)
    return None if np.isnan(spreads).all() else np.nan_to_num(spreads, nan=0.0)


def _array(values: Sequence[Any]) -> Array:
    return np.asarray(values, dtype=np.float64)
