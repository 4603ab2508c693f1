"""The pictures of a sweep: its settings and choices as `distclust.report.objectives` draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from distclust.report.objectives import Course, Curves, Effect, Line, beside_references, courses, effects
from distclust.sweep.choice import Choice
from distclust.sweep.study import TO_BE_SMALL, Axis, Study, value_text
from distclust.sweep.table import COLUMNS, Setting

_COURSES = ("agreed", "oracle_agreed_acc", "oracle_acc")  # figures that are shown round by round
_HEADINGS = {"oracle_agreed_acc": "accuracy of agreed points", "oracle_acc": "accuracy of all points"}
_MOST_SETTINGS = 6

Rows = Sequence[Mapping[str, Any]]


def objective_picture(study: Study, found: Sequence[Setting]) -> bytes | None:
    """Return how the objective moves along each axis, as PNG; None where there is nothing to compare."""
    there = [setting for setting in found if setting.objective is not None]
    drawn = [effect for axis in study.axes if axis.name in study.shown for effect in _effects(study, axis, there)]
    if not drawn:
        return None
    heading = _scaled(study)[0]
    return effects(f"{study.name}: {heading}", heading, drawn)


def choice_picture(study: Study, made: Sequence[Choice]) -> bytes:
    """Return stability along the axis that is chosen from, beside that of structureless data, as PNG."""
    return beside_references(f"{study.name}: which {study.options.choose}", [_curves(one) for one in made])


def rounds_picture(
    study: Study, found: Sequence[Setting], rows: Iterable[tuple[Mapping[str, Any], Rows]]
) -> bytes | None:
    """Return what members agree on round by round, as PNG; None where no trial had two rounds.

    Args:
        study: the study.
        found: its settings; the six best by the objective are shown.
        rows: of each trial its values, axis -> value, and its rounds as rounds.jsonl says them.
    """
    by_setting: dict[tuple[Any, ...], list[Rows]] = {}
    for values, rounds in rows:
        by_setting.setdefault(tuple(values[name] for name in study.shown), []).append(rounds)
    if not any(len(rounds) > 1 for trials in by_setting.values() for rounds in trials):
        return None
    best = sorted(found, key=_rank, reverse=True)[:_MOST_SETTINGS]
    alone = all(trial.spec.n_members == 1 for trial in study.samples())  # a single member always agrees
    lines = {figure: _courses(study, best, by_setting, figure) for figure in (_COURSES[2:] if alone else _COURSES)}
    drawn = [Course(_heading(figure), known) for figure, known in lines.items() if known]
    of = "" if len(best) == len(found) else f", the best {len(best)} of {len(found)} settings"
    return courses(f"{study.name}: round by round{of}", drawn) if drawn else None


def _rank(setting: Setting) -> float:
    return -math.inf if setting.objective is None else setting.objective


def _scaled(study: Study) -> tuple[str, float]:
    """Return what the objective is called, and by what it is multiplied: its sign is turned where it is to be small."""
    name = study.options.objective
    heading, scale, _ = COLUMNS.get(name, (name, 1.0, 2))
    return heading if name != "stability" else name, -scale if name in TO_BE_SMALL else scale


def _effects(study: Study, axis: Axis, found: Sequence[Setting]) -> list[Effect]:
    """Return how the objective moves along an axis, none where fewer than two values are known."""
    if len({_key(setting.values[axis.name]) for setting in found}) < 2:
        return []
    datasets = list(dict.fromkeys(setting.dataset for setting in found))
    if axis.name == "dataset" or len(datasets) == 1:
        lines = [_line(study, "", axis, found)]
    else:
        lines = [_line(study, one, axis, [s for s in found if s.dataset == one]) for one in datasets]
    return [Effect(axis.name, lines, axis.drawn, axis.kind == "log-uniform")]


def _line(study: Study, title: str, axis: Axis, found: Sequence[Setting]) -> Line:
    """Return the mean of the objective at each value of an axis over all other axes, and its standard deviation."""
    values = list(dict.fromkeys(_key(s.values[axis.name]) for s in found)) if axis.drawn else map(_key, axis.values)
    scale = _scaled(study)[1]
    at = {value: [s for s in found if _key(s.values[axis.name]) == value] for value in values}
    means = [scale * float(np.mean([_rank(s) for s in there])) if there else math.nan for there in at.values()]
    return Line(title, list(at), means, [abs(scale) * _spread(study, there) for there in at.values()])


def _spread(study: Study, found: Sequence[Setting]) -> float:
    """Return the standard deviation over settings, of a single one that over its seeds; nan where there is none."""
    if len(found) == 1:
        return found[0].stds.get(study.options.objective, math.nan)
    return float(np.std([_rank(setting) for setting in found], ddof=1)) if found else math.nan


def _courses(
    study: Study, best: Sequence[Setting], by_setting: Mapping[tuple[Any, ...], Sequence[Rows]], figure: str
) -> list[Line]:
    lines = []
    for setting in best:
        trials = by_setting.get(tuple(setting.values[name] for name in study.shown), ())
        line = _course(_title(study, setting), trials, figure)
        lines += [line] if line.values else []
    return lines


def _course(title: str, trials: Sequence[Rows], figure: str) -> Line:
    """Return the mean of a figure after each round over the trials that had it, and its standard deviation."""
    by_round: dict[int, list[float]] = {}
    for line in (line for rounds in trials for line in rounds):
        if line.get(figure) is not None:
            by_round.setdefault(int(line["round"]) + 1, []).append(100 * float(line[figure]))
    rounds = sorted(by_round)
    spreads = [float(np.std(by_round[r], ddof=1)) if len(by_round[r]) > 1 else math.nan for r in rounds]
    return Line(title, rounds, [float(np.mean(by_round[r])) for r in rounds], spreads)


def _title(study: Study, setting: Setting) -> str:
    varied = [a.name for a in study.axes if a.name in study.shown and (a.drawn or len(a.values) > 1)]
    return ", ".join(value_text(setting.values[name]) for name in varied) or setting.dataset


def _heading(figure: str) -> str:
    return f"{_HEADINGS[figure]} %" if figure in _HEADINGS else COLUMNS[figure][0]


def _curves(made: Choice) -> Curves:
    c = made.candidates
    return Curves(
        axis=made.axis,
        values=[_key(one.value) for one in c],
        stability=[one.stability for one in c],
        spread=[one.spread for one in c],
        reference=[one.reference for one in c],
        reference_spread=[one.reference_spread for one in c],
        agreed=[one.agreed for one in c],
        silhouette=[one.silhouette for one in c],
        recommended=made.recommended,
        title=", ".join(value_text(value) for value in made.setting.values()),
    )


def _key(value: Any) -> Any:
    """Return a value of an axis as a picture shows it: numbers as they are, all else as text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
