"""One trial of a study: trained round by round, its figures and its outcome stored, no Ray."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from distclust.contracts import Dataset, Pool
from distclust.data import check_x
from distclust.distributed import rounds
from distclust.distributed.checkpoint import storage
from distclust.distributed.pool import lost_cause, threads
from distclust.errors import DistclustError, RunFolderError
from distclust.methods.base import EnsembleClusterer
from distclust.results import Record, figures, probes, silhouette, sizes_by_class, soft_sizes
from distclust.spec import Spec
from distclust.sweep.study import LABEL_FREE, TO_BE_SMALL, Trial

_OUTCOME, _SPEC = "outcome.json", "spec.yaml"
_WORST = -1.0  # of stability and silhouette, below all shares
_WORST_DIVERGENCE = -20.0  # nats, more than any number of clusters gives

Figures = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        status: "finished"; "stopped" by the scheduler before its last round; "failed"; "missing": its data cannot be
            had.
        cause: why it failed or its data is missing, a sentence; else "".
        n_rounds: number of rounds that it ran.
        figures: of its last round, and what was measured at the end.
    """

    status: Literal["finished", "stopped", "failed", "missing"]
    cause: str
    n_rounds: int
    figures: Figures

    @property
    def final(self) -> bool:
        """Whether a sweep that goes on leaves it as it is."""
        return self.status in ("finished", "stopped")


@dataclass(frozen=True)
class Watch:
    """Whom a sweep tells what happens.

    Args:
        connected: called with the address of Ray's dashboard, "" if there is none.
        began: called with every trial that begins, or goes on.
        restarted: called with every trial whose process died and that is to be run on, and with the cause.
        ended: called with every trial that ended.
    """

    connected: Callable[[str], None]
    began: Callable[[Trial], None]
    restarted: Callable[[Trial, str], None]
    ended: Callable[[Trial, Outcome], None]


@dataclass(frozen=True)
class Step:
    """A round of a trial.

    Args:
        round: 1, 2, ...
        figures: see `results.figures`, and at the end what was measured.
        done: whether it was the last.
        broken: why nothing can be stored any more, which ends the whole sweep; else "".
    """

    round: int
    figures: Figures
    done: bool
    broken: str = ""


def steps(trial: Trial, data: Dataset, where: str | Path, pool: Pool, measures: Sequence[str]) -> Iterator[Step]:
    """Train a trial from where it broke off and yield its rounds; at the end its outcome is stored.

    One that has ended already, whose process died before that was known, is not run again.

    Args:
        trial: what to train.
        data: on what; its true classes are read for figures alone.
        where: folder or URI of the trial's record.
        pool: where the members run, with the record's place for checkpoints as its storage.
        measures: see `StudyOptions`.

    Yields:
        A Step a round. A trial that fails ends with a last one without figures; the cause is in its outcome.
    """
    record = Record(where)
    try:
        if (before := outcome(where)) is not None and before.final:
            record.forget_members()
            yield Step(before.n_rounds, before.figures, True)
            return
        storage(record.where).delete(_OUTCOME)  # of an earlier attempt, which failed
        yield from _steps(trial, data, record, pool, measures)
    except RunFolderError as error:
        yield Step(0, {}, True, str(error))
    except Exception as error:  # a failed trial is a row of the table, and no reason to end the sweep
        cause = " ".join(str(error).split()) if isinstance(error, DistclustError) else lost_cause(error)
        yield _ended(record, Outcome("failed", cause, len(record.rounds()), {}))


def _steps(trial: Trial, data: Dataset, record: Record, pool: Pool, measures: Sequence[str]) -> Iterator[Step]:
    x = check_x(data.x, data.name)
    model = trial.spec.estimator(data)
    method = model.checked(x)
    record.write(_SPEC, trial.spec.to_yaml().encode())
    resume = last = record.last_round()
    for last in rounds(method, x, pool, resume=resume):
        found = figures(last, data, method.n_clusters)
        record.store(last, {"round": last.index, **found})
        done = last.index + 1 == method.n_rounds or method.finished(last)
        if done:
            yield _finished(record, model.adopt(method, x, last, pool.states()), data, measures)
            return
        yield Step(last.index + 1, found, False)
    assert last is not None, "a method has at least one round"
    yield _finished(record, model.adopt(method, x, last, pool.states()), data, measures)  # it broke off here


def _finished(record: Record, model: EnsembleClusterer, data: Dataset, measures: Sequence[str]) -> Step:
    """Measure and store what remains of a trial."""
    last = model.last_round_
    found = figures(last, data, int(model.names_.shape[1]))
    found["seconds"] = sum(line["seconds"] for line in record.rounds())
    with threads(1):  # so that its sums do not depend on the machine
        found |= measured(model, data, measures)
    record.store_labels(last, data.rows, data.names, data.origins)
    return _ended(record, Outcome("finished", "", last.index + 1, found))


def measured(model: EnsembleClusterer, data: Dataset, measures: Sequence[str]) -> Figures:
    """Return what a study measures at the end of a trial, whether a member votes or not; see `StudyOptions`."""
    found: Figures = {}
    if "silhouette" in measures:
        found["silhouette"] = silhouette(model, data.x)
    if "probes" in measures:
        found |= probes(model, data)
    if "soft" in measures:
        found |= soft_sizes(model, data)
    if "sizes" in measures:
        found |= sizes_by_class(model.last_round_, data)
    return found


def _ended(record: Record, outcome: Outcome) -> Step:
    try:
        _conclude(record, outcome)
    except RunFolderError as error:
        return Step(outcome.n_rounds, {}, True, str(error))
    return Step(outcome.n_rounds, outcome.figures, True)


def _conclude(record: Record, outcome: Outcome) -> None:
    store_outcome(record.where, outcome)
    record.forget_members()


def store_outcome(where: str | Path, outcome: Outcome) -> None:
    """Store how a trial ended."""
    plain = asdict(outcome) | {"figures": {name: _finite(value) for name, value in outcome.figures.items()}}
    Record(where).write(_OUTCOME, (json.dumps(plain, indent=1) + "\n").encode())


def outcome(where: str | Path) -> Outcome | None:
    """Return how a trial ended; None while it has not.

    Raises:
        RunFolderError: what is stored cannot be read.
    """
    data = Record(where).read(_OUTCOME)
    if data is None:
        return None
    try:
        plain = json.loads(data)
        numbers = {name: math.nan if value is None else value for name, value in plain.pop("figures").items()}
        return Outcome(figures=numbers, **plain)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{where}/{_OUTCOME} cannot be read ({error}); delete it to run the trial again."
        ) from error


def stopped(where: str | Path) -> Outcome:
    """Store and return the outcome of a trial that the scheduler ended after some of its rounds.

    Raises:
        RunFolderError: it cannot be stored.
    """
    record = Record(where)
    lines, last = record.rounds(), record.last_round()
    numbers = {name: math.nan if value is None else value for name, value in lines[-1].items() if name != "round"}
    numbers["seconds"] = sum(line["seconds"] for line in lines)
    found = Outcome("stopped", "", len(lines), numbers)
    if last is not None:
        record.store_labels(last)
    _conclude(record, found)
    return found


def given_up(where: str | Path, cause: str) -> Outcome:
    """Store and return the outcome of a trial whose process died too often; its rounds are kept for a resumed sweep.

    Raises:
        RunFolderError: it cannot be stored.
    """
    found = Outcome("failed", cause, len(Record(where).rounds()), {})
    store_outcome(where, found)
    return found


def objective(figures: Mapping[str, float], name: str) -> float:
    """Return what a sweep looks at to choose, the greater the better; the worst where it is not known.

    So it is without true labels where no member votes: a collapse may have a fine silhouette.
    """
    value = figures.get(name, math.nan)
    if name in LABEL_FREE and figures.get("voters") == 0:
        return _WORST
    if name in TO_BE_SMALL:
        return _WORST_DIVERGENCE if math.isnan(value) else -value
    return _WORST if math.isnan(value) else value


def copy_of(where: str, folder: Path) -> None:
    """Copy a trial's files from where it ran to the folder of the sweep, if that is another place."""
    if "://" not in where and Path(where).absolute() == folder.absolute():
        return
    source, target = storage(where), storage(folder)
    for name in sorted(source.names(), key=_OUTCOME.__eq__):  # last what says that all is there
        data = source.read(name)
        if data is not None:
            target.write(name, data)


def dataset_key(spec: Spec) -> str:
    """Return what tells the datasets of trials apart."""
    return json.dumps([spec.dataset, dict(spec.dataset_options)], sort_keys=True, default=str)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
