"""The numbers of the four papers' tables, as printed, and ours beside theirs.

One csv file a paper: paper, table, dataset, method, setting, metric, mean, std, note. Numbers are as printed; every
table was copied twice, independently, and the copies were compared. Notes say where one is to be read with care.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from distclust.errors import UnknownNameError

PAPERS = ("combination", "entropy", "mice", "selective")
_CHOSEN = "chosen with true labels"  # how the notes of such numbers begin, or go on
_SHARES = {"acc", "nmi", "ari"}  # ours are 0 .. 1, the papers print percent,
_AS_SHARES = {("combination", "5")}  # but for these tables


@dataclass(frozen=True)
class Published:
    """A number of a paper's table.

    Args:
        paper: "combination", "combination-supplement" (CA-S), "selective", "mice" or "entropy".
        table: its number, as printed.
        dataset: as `load` names it, where it can.
        method: as printed.
        setting: what else tells it from the others, "key=value" by "; ", or "".
        metric: "acc", "nmi", "ari", "kl*", ... as printed, in lower case.
        mean: as printed: percent, or a share, or in units of its own.
        std: its spread, None where none is printed.
        note: why it is to be read with care, or "".
    """

    paper: str
    table: str
    dataset: str
    method: str
    setting: str
    metric: str
    mean: float
    std: float | None
    note: str

    @property
    def chosen_with_truth(self) -> bool:
        """Whether an epoch, round or alignment was chosen by true labels, as far as that is known."""
        return _CHOSEN in self.note

    @property
    def scale(self) -> float:
        """By what ours are multiplied to be in its units."""
        return 100.0 if self.metric in _SHARES and (self.paper, self.table) not in _AS_SHARES else 1.0


@dataclass(frozen=True)
class Ours:
    """A number of ours; names as those of the number it is to stand beside.

    Args:
        dataset: as in `Published`.
        method: as in `Published`.
        setting: as in `Published`.
        metric: as in `Published`.
        mean: accuracy, NMI and ARI in 0 .. 1.
        std: standard deviation over the seeds, None for a single one.
        n_seeds: number of seeds that have it, >= 1.
        variant: what else of ours stands beside the same number, in words; "" = nothing.
        n_trials: number of seeds that were tried; None = n_seeds.
    """

    dataset: str
    method: str
    setting: str
    metric: str
    mean: float
    std: float | None
    n_seeds: int
    variant: str = ""
    n_trials: int | None = None


@dataclass(frozen=True)
class Comparison:
    """A number of ours beside theirs, both in their units.

    Args:
        theirs: the published number.
        mean: ours.
        std: spread of ours, None for a single seed.
        n_seeds: number of our seeds that have it.
        difference: ours less theirs.
        beyond_spreads: whether the difference is greater than either spread; None where one of them is not known.
        variant: as in `Ours`.
        n_trials: as in `Ours`.
    """

    theirs: Published
    mean: float
    std: float | None
    n_seeds: int
    difference: float
    beyond_spreads: bool | None
    variant: str = ""
    n_trials: int | None = None


def published(paper: str) -> list[Published]:
    """Return the numbers of a paper, in its order.

    Args:
        paper: a name of `PAPERS`; "combination" holds its supplement as well.

    Raises:
        UnknownNameError: there is no such paper.
    """
    if paper not in PAPERS:
        raise UnknownNameError("paper", paper, PAPERS)
    return list(_numbers(paper))


@cache
def _numbers(paper: str) -> tuple[Published, ...]:
    with (Path(__file__).parent / f"{paper}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_number(row) for row in csv.DictReader(file))


def table_names() -> list[str]:
    """Return the names of all tables, as in "combination-1", paper by paper."""
    return list(dict.fromkeys(_table_name(number) for paper in PAPERS for number in published(paper)))


def table(name: str) -> list[Published]:
    """Return the numbers of a table, in its order.

    Args:
        name: as in "combination-1", "combination-supplement-3", "mice-3-left".

    Raises:
        UnknownNameError: there is no such table.
    """
    found = [number for paper in PAPERS for number in published(paper) if _table_name(number) == name]
    if not found:
        raise UnknownNameError("table", name, table_names())
    return found


def as_printed(numbers: Sequence[Published]) -> str:
    """Return a table's numbers in Markdown: a row a dataset, method and setting, a column a metric; then the notes."""
    metrics = list(dict.fromkeys(number.metric for number in numbers))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for n in numbers:
        rows.setdefault((n.dataset, n.method, n.setting), {})[n.metric] = _with_spread(n.mean, n.std)
    kept = [at for at, _ in enumerate(("dataset", "method", "setting")) if any(row[at] for row in rows)]
    head = [("dataset", "method", "setting")[at] for at in kept] + metrics
    body = [[row[at] for at in kept] + [cells.get(metric, "") for metric in metrics] for row, cells in rows.items()]
    notes = [f"- {note}" for note in dict.fromkeys(number.note for number in numbers) if note]
    return "\n".join([in_columns(head, body), *(["", *notes] if notes else [])])


def in_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are as wide as their widest cell, so that it reads well as text too."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = [" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(f"| {line} |" for line in [first, " | ".join("-" * w for w in widths), *others])


def compare(ours: Iterable[Ours], theirs: Iterable[Published]) -> list[Comparison]:
    """Return ours beside theirs, in their order, where dataset, method, setting and metric are the same.

    A number that stands in several tables is compared in each, and with each of our variants.
    """
    known: dict[tuple[str, ...], list[Ours]] = {}
    for o in ours:
        known.setdefault((o.dataset, o.method, o.setting, o.metric), []).append(o)
    return [_beside(t, o) for t in theirs for o in known.get((t.dataset, t.method, t.setting, t.metric), ())]


def markdown(rows: Sequence[Comparison]) -> str:
    """Return comparisons as a table in Markdown."""
    varied = any(row.variant for row in rows)
    head = ["table", "dataset", "method", "setting", *(["variant"] if varied else []), "metric", "ours", "seeds"]
    cells = []
    for row in rows:
        t = row.theirs
        chosen = ", chosen with true labels" if t.chosen_with_truth else ""
        beyond = {True: "yes", False: "no", None: "a spread is missing"}[row.beyond_spreads]
        what = [f"{t.paper} {t.table}", t.dataset, t.method, t.setting, *([row.variant] if varied else []), t.metric]
        seeds = str(row.n_seeds) if row.n_trials in (None, row.n_seeds) else f"{row.n_seeds} of {row.n_trials}"
        mine = [_with_spread(row.mean, row.std), seeds]
        cells.append([*what, *mine, _with_spread(t.mean, t.std) + chosen, f"{row.difference:+.2f}", beyond])
    return in_columns([*head, "published", "difference", "beyond both spreads"], cells)


def _table_name(number: Published) -> str:
    return f"{number.paper}-{number.table}".replace(" ", "-")


def _number(row: dict[str, str]) -> Published:
    return Published(
        row["paper"],
        row["table"],
        row["dataset"],
        row["method"],
        row["setting"],
        row["metric"],
        float(row["mean"]),
        float(row["std"]) if row["std"] else None,
        row["note"],
    )


def _beside(theirs: Published, ours: Ours) -> Comparison:
    mean, std = ours.mean * theirs.scale, None if ours.std is None else ours.std * theirs.scale
    difference = mean - theirs.mean
    known = std is not None and theirs.std is not None
    beyond = abs(difference) > max(std or 0.0, theirs.std or 0.0) if known else None
    return Comparison(theirs, mean, std, ours.n_seeds, difference, beyond, ours.variant, ours.n_trials)


def _with_spread(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ({std:.2f})"
