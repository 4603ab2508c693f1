"""What a sweep found: a row a trial, a row a setting, as Markdown, csv and LaTeX, ours beside a paper's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distclust import published
from distclust.contracts import Labels
from distclust.metrics import stability
from distclust.published.compare import Ours, Published
from distclust.sweep.study import SEED, Study, Trial, grouped, value_text
from distclust.sweep.trial import Outcome, objective

if TYPE_CHECKING:
    import pandas as pd

Ended = tuple[Trial, Outcome]

# figure -> (heading, by what it is multiplied, digits); those with true classes come last
COLUMNS = {
    "seed_stability": ("stability of seeds", 1.0, 2),
    "stability": ("stability of members", 1.0, 2),
    "agreed": ("agreed %", 100.0, 1),
    "collapsed": ("collapsed members", 1.0, 1),
    "abstained": ("abstained members", 1.0, 1),
    "lost": ("lost members", 1.0, 1),
    "effective_clusters": ("clusters in effect", 1.0, 1),
    "silhouette": ("silhouette", 1.0, 2),
    "hard_entropy": ("hard entropy", 1.0, 2),
    "soft_entropy": ("soft entropy", 1.0, 2),
    "hard_variance": ("hard variance", 1.0, 4),
    "soft_variance": ("soft variance", 1.0, 4),
    "seconds": ("seconds", 1.0, 0),
    "oracle_acc": ("accuracy", 100.0, 1),
    "oracle_nmi": ("NMI", 100.0, 1),
    "oracle_ari": ("ARI", 100.0, 1),
    "oracle_kl_star": ("KL*", 1.0, 2),
    "oracle_soft_kl_star": ("soft KL*", 1.0, 2),
    "oracle_linear_probe": ("linear probe", 100.0, 1),
    "oracle_knn_probe": ("KNN probe", 100.0, 1),
}
_SIZE = "oracle_size_"  # and the class
_SILENT = ("collapsed", "abstained", "lost")  # columns that are there only where an ensemble has such members
# metric of a published table -> our figure
_METRICS = {
    "acc": "oracle_acc",
    "nmi": "oracle_nmi",
    "ari": "oracle_ari",
    "kl*": "oracle_kl_star",
    "kl": "oracle_kl_star",
    "hard kl*": "oracle_kl_star",
    "soft kl*": "oracle_soft_kl_star",
    "hvar": "hard_variance",
    "svar": "soft_variance",
    "hent": "hard_entropy",
    "sent": "soft_entropy",
}
_PROBES = {"probe=linear": "oracle_linear_probe", "probe=KNN": "oracle_knn_probe"}  # setting -> our figure


@dataclass(frozen=True)
class Setting:
    """The trials that differ in the seed alone.

    Args:
        values: axis -> value, without the seed.
        dataset: its name.
        n_trials: number of trials.
        n_ended: number of those that have figures.
        collapsed: number of those in which no member votes and at least one collapsed.
        objective: mean of the objective, the greater the better, the worst for a trial without it, failed ones among
            them; None = unknown.
        means: figure -> mean over the trials that have it.
        stds: figure -> standard deviation over them; none where there is a single one.
        counts: figure -> number of trials that have it.
        causes: why the others have no figures, each once.
    """

    values: Mapping[str, Any]
    dataset: str
    n_trials: int
    n_ended: int
    collapsed: int
    objective: float | None
    means: Mapping[str, float]
    stds: Mapping[str, float]
    counts: Mapping[str, int]
    causes: tuple[str, ...]


def trial_rows(study: Study, ended: Iterable[Ended]) -> list[dict[str, Any]]:
    """Return a row a trial: its name, its axes, its seed, how it ended, and its figures."""
    rows = []
    for trial, outcome in ended:
        axes = {name: _plain(trial.values[name]) for name in study.shown}
        told = {"status": outcome.status, "cause": outcome.cause, "rounds": outcome.n_rounds}
        rows.append(
            {"trial": trial.name, "dataset": trial.spec.dataset, **axes, SEED: seed(trial), **told, **outcome.figures}
        )
    return rows


def settings(study: Study, ended: Sequence[Ended], labels: Callable[[Trial], Labels | None]) -> list[Setting]:
    """Return the settings of a study in the order of its axes.

    Args:
        study: the study.
        ended: its trials that ended.
        labels: a trial's consensus labels (N,); None where there are none.
    """
    outcomes = {trial.name: outcome for trial, outcome in ended}
    groups = grouped([trial for trial, _ in ended], study.shown)
    return [
        _setting(study, dict(zip(study.shown, values, strict=True)), [(t, outcomes[t.name]) for t in trials], labels)
        for values, trials in groups.items()
    ]


def best(study: Study, found: Sequence[Setting]) -> list[Setting]:
    """Return of each dataset the setting with the best mean of the objective; none where `choice` chooses."""
    chosen: list[Setting] = []
    if study.options.choose is not None:
        return chosen
    for dataset in dict.fromkeys(setting.dataset for setting in found):
        known = [(s.objective, s) for s in found if s.dataset == dataset and s.objective is not None]
        if len(known) > 1:
            chosen.append(max(known, key=lambda pair: pair[0])[1])
    return chosen


def markdown(study: Study, found: Sequence[Setting]) -> str:
    """Return the settings as a table in Markdown, the best by the objective in bold."""
    head, rows = _cells(study, found)
    chosen = [id(setting) for setting in best(study, found)]
    strong = [
        [f"**{cell}**" if id(setting) in chosen and cell else cell for cell in cells]
        for setting, cells in zip(found, rows, strict=True)
    ]
    table = published.in_columns(head, strong)
    return "\n\n".join([table, *_remarks(study, found)]) + "\n"


def latex(study: Study, found: Sequence[Setting]) -> str:
    """Return the settings as a LaTeX table for the package booktabs, the best by the objective in bold."""
    head, rows = _cells(study, found)
    chosen = [id(setting) for setting in best(study, found)]
    shown = len(study.shown)
    lines = [
        rf"\begin{{tabular}}{{{'l' * shown}{'r' * (len(head) - shown)}}}",
        r"\toprule",
        " & ".join(map(_escaped, head)) + r" \\",
        r"\midrule",
    ]
    for setting, cells in zip(found, rows, strict=True):
        escaped = map(_escaped, cells)
        strong = (rf"\textbf{{{cell}}}" if id(setting) in chosen and cell else cell for cell in escaped)
        lines.append(" & ".join(strong) + r" \\")
    remarks = [f"% {line}" for remark in _remarks(study, found) for line in remark.splitlines()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *remarks]) + "\n"


def comma_separated(study: Study, found: Sequence[Setting]) -> str:
    """Return the settings as csv: mean and standard deviation of every figure in full, and how many seeds have it."""
    names = list(dict.fromkeys(name for setting in found for name in setting.counts))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    columns = [column for name in names for column in (f"{name}_mean", f"{name}_std", f"{name}_seeds")]
    writer.writerow([*study.shown, "dataset_name", "seeds", "ended", "collapsed", *columns])
    for s in found:
        cells = [of.get(name, "") for name in names for of in (s.means, s.stds, s.counts)]
        axes = [_plain(s.values[name]) for name in study.shown]
        writer.writerow([*axes, s.dataset, s.n_trials, s.n_ended, s.collapsed, *cells])
    return sink.getvalue()


def theirs(study: Study) -> list[Published]:
    """Return the numbers of the study's published tables."""
    return [number for name in study.options.tables for number in published.table(name)]


def ours(study: Study, found: Sequence[Setting]) -> list[Ours]:
    """Return the settings under the names of the study's published tables."""
    classes = _classes(theirs(study))
    numbers = []
    for setting in found:
        names, variant = _names(study, setting), _variant(study, setting)
        named = [(names["setting"], metric, figure) for metric, figure in _METRICS.items()]
        named += [(probe, "acc", figure) for probe, figure in _PROBES.items()]
        named += [(at, "size", f"oracle_size_{k}") for k, at in enumerate(classes.get(names["dataset"], []))]
        for at, metric, figure in named:
            if figure in setting.means:
                what = (names["dataset"], names["method"], at, metric)
                mean, std, n_seeds = setting.means[figure], setting.stds.get(figure), setting.counts[figure]
                numbers.append(Ours(*what, mean, std, n_seeds, variant, setting.n_trials))
    return numbers


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame that parquet takes: columns of mixed types as text."""
    import pandas as pd

    found = pd.DataFrame(list(rows))
    for name in found.columns:
        if found[name].dtype == object:
            found[name] = found[name].map(lambda value: value if value is None or value != value else str(value))
    return found


def _names(study: Study, setting: Setting) -> dict[str, str]:
    """Return the dataset, method and setting that a setting of ours is in the study's published tables."""
    options = study.options
    found = {
        "dataset": setting.dataset,
        "method": options.published_method or "",
        "setting": options.published_setting or "",
    }
    found |= {name: str(value) for name, value in setting.values.items() if name in found}
    for value in setting.values.values():
        for name, called in (options.published_names or {}).get(str(value), {}).items():
            found[name] = called
    return found


def _variant(study: Study, setting: Setting) -> str:
    """Return what else tells a setting of ours from others, in words."""
    named = study.options.published_names or {}
    return ", ".join(
        f"{name} {value_text(value)}"
        for name, value in setting.values.items()
        if name not in ("dataset", "method", "setting") and str(value) not in named
    )


def _classes(numbers: Iterable[Published]) -> dict[str, list[str]]:
    """Return the settings of the sizes of clusters by dataset, one a class: tables print them in the classes' order."""
    found: dict[str, list[str]] = {}
    for number in numbers:
        if number.metric == "size" and number.setting not in found.setdefault(number.dataset, []):
            found[number.dataset].append(number.setting)
    return found


def seed(trial: Trial) -> int:
    """Return a trial's seed."""
    return int(trial.spec.parameters.get(SEED, 0))


def _setting(
    study: Study, values: dict[str, Any], ended: Sequence[Ended], labels: Callable[[Trial], Labels | None]
) -> Setting:
    there = [outcome.figures for _, outcome in ended if outcome.figures]
    means, stds, counts = {}, {}, {}
    for name in dict.fromkeys(name for figures in there for name in figures):
        numbers = [f[name] for f in there if name in f and not math.isnan(f[name])]
        counts[name] = len(numbers)
        if numbers:
            means[name] = float(np.mean(numbers))
        if len(numbers) > 1:
            stds[name] = float(np.std(numbers, ddof=1))
    labellings = [labels(trial) for trial, outcome in ended if outcome.figures]
    if (between := _between_seeds(labellings)) is not None:
        means["seed_stability"], counts["seed_stability"] = between, sum(one is not None for one in labellings)
    return Setting(
        values,
        ended[0][0].spec.dataset,
        len(ended),
        len(there),
        sum(figures["voters"] == 0 and figures.get("collapsed", 0) > 0 for figures in there),
        _objective(study, ended, means, counts),
        means,
        stds,
        counts,
        tuple(dict.fromkeys(f"{outcome.status}: {outcome.cause}" for _, outcome in ended if outcome.cause)),
    )


def _objective(
    study: Study, ended: Sequence[Ended], means: Mapping[str, float], counts: Mapping[str, int]
) -> float | None:
    """Return the mean of the objective over trials; trials of a single member are stable from seed to seed, or not.

    A failed trial counts as the worst, and so do its pairs with other seeds; one whose data is missing does not count.
    """
    name, tried = study.options.objective, [outcome for _, outcome in ended if outcome.status != "missing"]
    if not any(outcome.figures for outcome in tried):
        return None
    if name == "stability" and all(trial.spec.n_members == 1 for trial, _ in ended):
        between = means.get("seed_stability")
        pairs = math.comb(counts.get("seed_stability", 0), 2) / max(1, math.comb(len(tried), 2))
        return None if between is None else between * pairs
    return float(np.mean([objective(outcome.figures, name) for outcome in tried]))


def _between_seeds(labellings: Sequence[Labels | None]) -> float | None:
    """Return the stability of the consensus labellings of several seeds; None where there is nothing to compare.

    As among members, pairs of which one collapsed count 0.
    """
    there = [labels for labels in labellings if labels is not None]
    if len(there) < 2 or len({len(labels) for labels in there}) > 1:
        return None
    found = stability(np.stack(there))
    alive = sum(bool((labels >= 0).any()) for labels in there)
    return 0.0 if math.isnan(found) else found * math.comb(alive, 2) / math.comb(len(there), 2)


def _cells(study: Study, found: Sequence[Setting]) -> tuple[list[str], list[list[str]]]:
    there = {name for setting in found for name in setting.means}
    names = [name for name in COLUMNS if name in there and (name not in _SILENT or _in_ensembles(study, found, name))]
    names += sorted((name for name in there if name.startswith(_SIZE)), key=lambda name: int(name.removeprefix(_SIZE)))
    collapsed = any(setting.collapsed for setting in found)
    head = [*study.shown, "seeds", *(["collapsed"] if collapsed else []), *(_column(name)[0] for name in names)]
    rows = []
    for s in found:
        count = f"{s.n_ended}" if s.n_ended == s.n_trials else f"{s.n_ended} of {s.n_trials}"
        cells = (
            [value_text(s.values[name]) for name in study.shown] + [count] + ([str(s.collapsed)] if collapsed else [])
        )
        rows.append(cells + [_spread(s, name) for name in names])
    return head, rows


def _in_ensembles(study: Study, found: Sequence[Setting], name: str) -> bool:
    """Return whether some ensembles have members of this status; of single members `collapsed` counts the trials."""
    ensembles = any(trial.spec.n_members > 1 for trial in study.samples())
    return (ensembles or name != "collapsed") and any(setting.means.get(name, 0) > 0 for setting in found)


def _column(figure: str) -> tuple[str, float, int]:
    return COLUMNS.get(figure) or (f"size of class {figure.removeprefix(_SIZE)}", 1.0, 0)


def _spread(setting: Setting, name: str) -> str:
    if name not in setting.counts:
        return ""
    n_seeds = setting.counts[name]
    of = "" if n_seeds == setting.n_ended else f"[{n_seeds} of {setting.n_ended}]"
    if not n_seeds:
        return of
    _, scale, digits = _column(name)
    spread = f"({scale * setting.stds[name]:.{digits}f})" if name in setting.stds else ""
    return " ".join(filter(None, (f"{scale * setting.means[name]:.{digits}f}", spread, of)))


def _remarks(study: Study, found: Sequence[Setting]) -> list[str]:
    lines = []
    if any(setting.stds for setting in found):
        lines.append("Mean (standard deviation) over seeds.")
    if any(count < setting.n_ended for setting in found for count in setting.counts.values()):
        lines.append("[k of n]: the figure exists for k of the n seeds only, and the mean is of those.")
    if best(study, found):
        by = "true labels, as the study asks for" if study.options.objective.startswith("oracle_") else "no true label"
        lines.append(f"Bold: the best by {study.options.objective}, of each dataset; {by} chose it.")
    if any(name.startswith("oracle_") for setting in found for name in setting.means):
        lines.append(
            "Accuracy, NMI, ARI, KL* and probes are computed from the true classes, which no training has seen."
        )
    return lines + failures(found)


def failures(found: Sequence[Setting]) -> list[str]:
    """Return why trials have no figures: a line a cause, with the settings it is of."""
    return [f"{_listed(names)}: {cause}" for cause, names in _causes(found).items()]


def _causes(found: Sequence[Setting]) -> dict[str, list[str]]:
    """Return why trials have no figures, each cause once, and which settings or missing datasets it is of."""
    causes: dict[str, dict[str, None]] = {}
    for setting in found:
        values = ", ".join(value_text(value) for value in setting.values.values())
        for cause in setting.causes:
            name = setting.dataset if cause.startswith("missing") or not values else values
            causes.setdefault(cause, {})[name] = None
    return {cause: list(names) for cause, names in causes.items()}


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return "; ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _escaped(text: str) -> str:
    for letter in "\\&%$#_{}":
        text = text.replace(letter, r"\textbackslash " if letter == "\\" else f"\\{letter}")
    return text
