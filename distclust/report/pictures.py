"""The pictures of `distclust.report`: panels of the plane, curves, clouds of points and bars, as PNG bytes."""

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

_WIDTH = 10.0  # inches
_BELOW = 0.14  # of a chart's height, from its axis to its legend
_GRID = 300  # points along a side of the shading
# Okabe and Ito, and two of Tol's: told apart by colour-blind eyes and in print
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#F0E442",
    "#882255",
    "#332288",
)
_MARKERS = ("o", "^", "s")
_HATCHES = ("", "//", "..", "xx")
_MOST_LARGE = 20  # groups of points whose numbers are written large


_SCALE = 0.5  # inches, of what stands below a matrix


class Format(NamedTuple):
    """The size of a picture."""

    width: float = _WIDTH  # inches
    row: float = 4.9  # inches, the height of a chart
    dots_per_inch: int = 120
    legend_columns: int = 11
    most_named: int = 40  # groups of points that a legend lists


WIDE = Format()
NARROW = Format(4.6, 3.4, 160, 5, 20)  # for a column of a page, so that its text can be read on a phone


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
    colour: int  # 0 .. 9
    dashed: bool = False
    spread: Array | None = None  # (n,) half the height of the error bars, or of the band
    joined: bool = True  # by a line; else points


class Chart(NamedTuple):
    """Curves over one axis."""

    title: str
    x_label: str
    value_label: str
    curves: Sequence[Curve]
    top: float | None = None  # of the value axis
    log: bool = False  # whether the axis below is logarithmic
    bands: bool = False  # whether spreads are bands, not error bars
    mark: tuple[str, float] | None = None  # a dotted line upright, and its name


class Cloud(NamedTuple):
    """Points of the plane in groups."""

    title: str
    points: Array  # (n, 2)
    labels: Labels  # (n,) 0 .. K - 1, -1 = in no group


class Graded(NamedTuple):
    """Points of the plane, each with a value."""

    points: Array  # (n, 2)
    values: Array  # (n,) lowest .. 1
    lowest: float  # below 1
    marked: Array  # (n,) bool, drawn as small dots; the others as triangles, on top of them
    names: tuple[str, str]  # of those that are marked, and of the others


class Matrix(NamedTuple):
    """Values of pairs."""

    values: Array  # (rows, columns) 0 .. 1, nan = none
    row_label: str
    column_label: str
    row_names: Sequence[str]
    column_names: Sequence[str]


class Bars(NamedTuple):
    """A bar for each name of a chart."""

    name: str  # in the legend; "" = not there
    values: Array  # (n,)
    colours: Sequence[int]  # one for all, or one a bar, counted round
    spread: Array | None = None  # (n,) half the height of the error bars


class BarChart(NamedTuple):
    """Bars over one axis, side by side where there are several kinds."""

    title: str
    x_label: str
    value_label: str
    names: Sequence[str]  # n, below the bars; or n + 1, of the edges between them
    bars: Sequence[Bars]
    level: tuple[str, float] | None = None  # a dashed line across, and its name


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


def clouds(title: str, panels: Sequence[Cloud], n_groups: int, group: str, form: Format = WIDE) -> bytes:
    """Return a picture of points as PNG, panel by panel, each group with its colour, marker and number.

    Args:
        title: of the whole.
        panels: side by side, in rows of up to three.
        n_groups: number of groups K.
        group: what they are called, as in "cluster".
        form: its size; the panels are square.
    """
    n_columns = 2 if len(panels) == 4 else min(3, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    side = min(7.0, form.width / n_columns)
    figure = _figure(title, (1.2 if title else 0.7) + n_rows * (side + 0.4), form)
    places = figure.subplots(n_rows, n_columns, squeeze=False).flat
    for place, panel in zip(places, panels, strict=False):
        _draw_cloud(place, panel, n_groups, size=45 / n_columns if n_columns > 1 else 28)
    for place in list(places)[len(panels) :]:
        place.set_axis_off()
    _name_groups(figure, panels, n_groups, group, form)
    return _png(figure)


def bar_charts(title: str, shown: Sequence[BarChart]) -> bytes:
    """Return a picture of charts of bars side by side as PNG, each with its legend below."""
    figure = _figure(title, 5.4)
    for place, chart in zip(figure.subplots(1, len(shown), squeeze=False).flat, shown, strict=True):
        _draw_bars(place, chart)
    return _png(figure)


def graded(cloud: Graded, name: str, form: Format = WIDE) -> bytes:
    """Return a picture of points as PNG, each coloured by its value and marked by its kind.

    Args:
        cloud: the points.
        name: of the value, as in "agreement".
        form: its size; the panel is square.
    """
    figure = _figure("", form.width + 1.1, form)
    place = figure.subplots()
    for rows, marker, size, label in zip((cloud.marked, ~cloud.marked), ("o", "^"), (7, 26), cloud.names, strict=True):
        at = cloud.points[rows]
        drawn = place.scatter(
            at[:, 0], at[:, 1], s=size, c=cloud.values[rows], marker=marker, cmap="cividis_r", vmin=cloud.lowest, vmax=1
        )
        drawn.set(label=label, edgecolors="#444444", linewidths=0.3)
    _square(place, cloud.points)
    figure.colorbar(drawn, ax=place, location="bottom", label=name, shrink=0.8, pad=0.02)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, handletextpad=0.1)
    return _png(figure)


def matrix(shown: Matrix, form: Format = WIDE) -> bytes:
    """Return a picture of values of pairs as PNG: the darker, the nearer to 1."""
    n_rows, n_columns = shown.values.shape
    figure = _figure("", _SCALE + form.width * min(1.5, max(0.3, n_rows / n_columns)), form)
    place = figure.subplots()
    image = place.imshow(shown.values, cmap="Blues", vmin=0, vmax=1)
    rows, columns = (range(0, n, math.ceil(n / 10)) for n in shown.values.shape)
    place.set_yticks(rows, [shown.row_names[at] for at in rows])
    place.set_xticks(columns, [shown.column_names[at] for at in columns])
    place.set_ylabel(shown.row_label)
    place.set_xlabel(shown.column_label)
    figure.colorbar(image, ax=place, location="bottom", shrink=0.8, pad=0.02)
    return _png(figure)


def panels(title: str, shown: Sequence[Chart | BarChart], n_columns: int | None = None, form: Format = WIDE) -> bytes:
    """Return a picture of charts of curves or bars as PNG, each with its legend below.

    Args:
        title: of the whole.
        shown: the charts, at least one.
        n_columns: how many side by side; None = up to three.
        form: its size.
    """
    n_columns = n_columns or (2 if len(shown) == 4 else min(3, len(shown)))
    n_rows = math.ceil(len(shown) / n_columns)
    figure = _figure(title, (0.7 if title else 0) + form.row * n_rows, form)
    places = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for place, chart in zip(places, shown, strict=False):
        if isinstance(chart, Chart):
            _draw_chart(place, chart, n_columns=2 if n_columns < 3 else 1, below=_BELOW * WIDE.row / form.row)
        else:
            _draw_bars(place, chart)
    for place in places[len(shown) :]:
        place.set_axis_off()
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
            at[:, 0], at[:, 1], s=size, c=COLOURS[colour], marker=_MARKERS[colour], edgecolors="white", linewidths=0.4
        )
    place.set_title(panel.title, fontsize=11)
    place.set_xticks([])
    place.set_yticks([])


def _from_left_to_right(panel: Panel, n_clusters: int) -> Labels:
    """Return the place of each cluster by the mean of its points, (K,); empty ones come last."""
    members = [panel.x[panel.labels == k, 0] for k in range(n_clusters)]
    return np.argsort(np.argsort([at.mean() if len(at) else np.inf for at in members]))


def _draw_chart(place: Axes, chart: Chart, n_columns: int, below: float = _BELOW) -> None:
    for curve in chart.curves:
        style: dict[str, Any] = {
            "color": COLOURS[curve.colour],
            "linestyle": "--" if curve.dashed else "-",
            "label": curve.name or None,
            "linewidth": 1.8,
        }
        marker = _MARKERS[curve.colour % len(_MARKERS)]
        if not curve.joined:
            place.plot(curve.x, curve.values, **style | {"linestyle": "", "marker": marker})
        elif chart.bands:
            spread = np.zeros(1) if curve.spread is None else curve.spread
            low, high = curve.values - spread, curve.values + spread
            place.fill_between(curve.x, low, high, color=COLOURS[curve.colour], alpha=0.18, linewidth=0)
            place.plot(curve.x, curve.values, marker=marker, **style)
        elif curve.spread is None:
            place.plot(curve.x, curve.values, **style)
        else:
            place.errorbar(curve.x, curve.values, curve.spread, marker=marker, capsize=4, **style)
    if chart.mark is not None:
        place.axvline(chart.mark[1], color="#444444", linestyle=":", linewidth=1.6, label=chart.mark[0])
    if chart.log:
        place.set_xscale("log")
    elif all((curve.x == np.round(curve.x)).all() for curve in chart.curves):
        place.locator_params(axis="x", integer=True)
    place.set_title(chart.title, fontsize=11)
    place.set_xlabel(chart.x_label)
    place.set_ylabel(chart.value_label)
    place.grid(alpha=0.3)
    place.spines[["top", "right"]].set_visible(False)
    if chart.top is not None:
        place.set_ylim(0, chart.top)
    if chart.mark is not None or any(curve.name for curve in chart.curves):
        place.legend(loc="upper center", bbox_to_anchor=(0.5, -below), ncols=n_columns, frameon=False)


def _draw_cloud(place: Axes, panel: Cloud, n_groups: int, size: float) -> None:
    nowhere = panel.points[panel.labels < 0]
    place.scatter(nowhere[:, 0], nowhere[:, 1], s=size, c="#777777", marker="x", linewidths=0.7)
    for turn, marker in enumerate(_MARKERS[: math.ceil(n_groups / len(COLOURS))]):
        # all of a marker at once, in the points' order: no group lies on top of all others
        rows = (panel.labels >= 0) & (panel.labels // len(COLOURS) % len(_MARKERS) == turn)
        at, colours = panel.points[rows], [_colour(label) for label in panel.labels[rows]]
        place.scatter(at[:, 0], at[:, 1], s=size, c=colours, marker=marker, edgecolors="#444444", linewidths=0.2)
    for k in range(n_groups):
        _number(place, panel.points[panel.labels == k], str(k), 11 if n_groups <= _MOST_LARGE else 7)
    _square(place, panel.points)
    place.set_title(panel.title, fontsize=11)


def _square(place: Axes, points: Array) -> None:
    """Make room for points (n, 2) on the same scale both ways; the numbers of an embedding's axes mean nothing."""
    low, high = points.min(0), points.max(0)
    reach = 0.54 * float((high - low).max()) or 1.0
    place.set_xlim((low + high)[0] / 2 - reach, (low + high)[0] / 2 + reach)
    place.set_ylim((low + high)[1] / 2 - reach, (low + high)[1] / 2 + reach)
    place.set_box_aspect(1)
    place.set_xticks([])
    place.set_yticks([])


def _number(place: Axes, points: Array, name: str, size: int) -> None:
    """Write a group's number just above the point, of (n, 2), that is nearest to the group's median."""
    from matplotlib.patheffects import withStroke

    if len(points):
        at = points[np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin()]
        above: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        halo = [withStroke(linewidth=2.5, foreground="white")]
        place.annotate(name, (at[0], at[1]), fontsize=size, fontweight="bold", path_effects=halo, **above)


def _name_groups(figure: Figure, panels: Sequence[Cloud], n_groups: int, group: str, form: Format) -> None:
    """Put a legend below the panels, unless there are too many groups for one."""
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": "", "markersize": 8}
    marks = [
        Line2D([], [], color=_colour(k), marker=_MARKERS[k // len(COLOURS) % len(_MARKERS)], label=str(k), **style)
        for k in range(n_groups if n_groups <= form.most_named else 0)
    ]
    if any((panel.labels < 0).any() for panel in panels):
        marks.append(Line2D([], [], color="#777777", marker="x", label="none", **style))
    if marks:
        figure.legend(
            handles=marks,
            title=group,
            loc="outside lower center",
            ncols=min(form.legend_columns, len(marks)),
            frameon=False,
            handletextpad=0.1,
        )


def _draw_bars(place: Axes, chart: BarChart) -> None:
    n_bars = len(chart.bars[0].values) if chart.bars else len(chart.names)
    width = 0.86 / max(1, len(chart.bars))
    for index, bars in enumerate(chart.bars):
        colours = [_colour(bars.colours[k % len(bars.colours)]) for k in range(n_bars)]
        offset = (index - (len(chart.bars) - 1) / 2) * width
        at = np.arange(n_bars) + offset
        hatch = _HATCHES[index % len(_HATCHES)]
        place.bar(
            at, bars.values, width, color=colours, label=bars.name or None, hatch=hatch, yerr=bars.spread, capsize=3
        )
    if chart.level is not None:
        place.axhline(chart.level[1], color="#444444", linestyle="--", linewidth=1.2, label=chart.level[0])
    every = math.ceil(len(chart.names) / 20)
    at = np.arange(len(chart.names)) - (len(chart.names) - n_bars) / 2
    place.set_xticks(at[::every], chart.names[::every])
    place.set_title(chart.title, fontsize=11)
    place.set_xlabel(chart.x_label)
    place.set_ylabel(chart.value_label)
    place.grid(axis="y", alpha=0.3)
    place.set_axisbelow(True)
    place.spines[["top", "right"]].set_visible(False)
    if any(bars.name for bars in chart.bars) or chart.level is not None:
        place.legend(loc="upper center", bbox_to_anchor=(0.5, -_BELOW), ncols=2, frameon=False)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _figure(title: str, height: float, form: Format = WIDE) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(form.width, height), dpi=form.dots_per_inch)
    if title:
        figure.suptitle(title, fontsize=13)
    figure.set_layout_engine("constrained", h_pad=0.1)
    return figure


def _rgb() -> Array:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(colour) for colour in COLOURS])


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()
