"""The pictures of `distclust.report.theory`: panels of the plane and charts of curves, as PNG bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distclust.contracts import Array, Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 120
_WIDTH = 10.0  # inches: 1,200 pixels
_GRID = 300  # points along a side of the shading
# Okabe and Ito: told apart by colour-blind eyes and in print
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "^", "s")


class Panel(NamedTuple):
    """Points of the plane and how a model divides it."""

    title: str
    x: Array  # (N, 2)
    labels: Labels  # (N,)
    posterior: Callable[[Array], Array]  # (n, 2) -> (n, K), rows sum to one


class Curve(NamedTuple):
    """One curve of a chart."""

    name: str  # in the legend; "" = not there
    x: Array  # (n,)
    values: Array  # (n,)
    colour: int  # 0 .. 6
    dashed: bool = False
    spread: Array | None = None  # (n,) half the height of the error bars


class Chart(NamedTuple):
    """Curves over one axis."""

    title: str
    x_label: str
    value_label: str
    curves: Sequence[Curve]
    top: float | None = None  # of the value axis


def planes(title: str, panels: Sequence[Panel], n_columns: int) -> bytes:
    """Return a picture of panels side by side as PNG, all on the same scale.

    Points have the colour of their cluster, which goes by its place from left to right; the plane has the clusters'
    colours mixed by their probabilities, so that a soft boundary is a broad one.
    """
    n_rows = math.ceil(len(panels) / n_columns)
    height = 0.7 + n_rows * (0.4 + _WIDTH / n_columns)
    figure = _figure(title, height)
    places = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).flat
    reach = 1.08 * max(float(np.abs(panel.x).max()) for panel in panels)
    for place, panel in zip(places, panels, strict=True):
        _draw_panel(place, panel, reach, size=32 / n_columns)
    return _png(figure)


def charts(title: str, shown: Sequence[Chart]) -> bytes:
    """Return a picture of charts side by side as PNG, each with its legend below."""
    figure = _figure(title, 5.9 if len(shown) > 1 else 6.4)
    for place, chart in zip(figure.subplots(1, len(shown), squeeze=False).flat, shown, strict=True):
        _draw_chart(place, chart, n_columns=2 if len(shown) > 1 else 4)
    return _png(figure)


def _draw_panel(place: Axes, panel: Panel, reach: float, size: float) -> None:
    along = np.linspace(-reach, reach, _GRID)
    grid = np.stack(np.meshgrid(along, along), 2).reshape(-1, 2)  # (_GRID^2, 2)
    probs = panel.posterior(grid)  # (_GRID^2, K)
    order = _from_left_to_right(panel, probs.shape[1])
    pale = 0.45 * _rgb()[order] + 0.55  # (K, 3)
    image = (probs @ pale).reshape(_GRID, _GRID, 3).clip(0, 1)
    place.imshow(image, extent=(-reach, reach, -reach, reach), origin="lower", interpolation="bilinear")
    for k, colour in enumerate(order):
        at = panel.x[panel.labels == k]  # (n, 2)
        place.scatter(
            at[:, 0], at[:, 1], s=size, c=_COLOURS[colour], marker=_MARKERS[colour], edgecolors="white", linewidths=0.4
        )
    place.set_title(panel.title, fontsize=11)
    place.set_xticks([])
    place.set_yticks([])


def _from_left_to_right(panel: Panel, n_clusters: int) -> Labels:
    """Return the place of each cluster by the mean of its points, (K,); empty ones come last."""
    members = [panel.x[panel.labels == k, 0] for k in range(n_clusters)]
    return np.argsort(np.argsort([at.mean() if len(at) else np.inf for at in members]))


def _draw_chart(place: Axes, chart: Chart, n_columns: int) -> None:
    for curve in chart.curves:
        style: dict[str, Any] = {
            "color": _COLOURS[curve.colour],
            "linestyle": "--" if curve.dashed else "-",
            "label": curve.name or None,
            "linewidth": 1.8,
        }
        if curve.spread is None:
            place.plot(curve.x, curve.values, **style)
        else:
            marker = _MARKERS[curve.colour % len(_MARKERS)]
            place.errorbar(curve.x, curve.values, curve.spread, marker=marker, capsize=4, **style)
    place.set_title(chart.title, fontsize=11)
    place.set_xlabel(chart.x_label)
    place.set_ylabel(chart.value_label)
    place.grid(alpha=0.3)
    place.spines[["top", "right"]].set_visible(False)
    if chart.top is not None:
        place.set_ylim(0, chart.top)
    place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=n_columns, frameon=False)


def _figure(title: str, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DOTS_PER_INCH)
    figure.suptitle(title, fontsize=13)
    figure.set_layout_engine("constrained", h_pad=0.1)
    return figure


def _rgb() -> Array:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(colour) for colour in _COLOURS])


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()
