"""A sweep from its study to its tables: load the data, run the trials that are not done, write what was found."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distclust.contracts import Dataset, Labels
from distclust.data import check_x
from distclust.distributed.checkpoint import LocalFolder
from distclust.distributed.pool import LocalPool
from distclust.errors import DataError, ParameterError, RunFolderError
from distclust.published.compare import compare, markdown, table
from distclust.results import Record
from distclust.sweep import table as tables
from distclust.sweep.study import Study, Trial, read_study
from distclust.sweep.table import Ended, Setting
from distclust.sweep.trial import Outcome, copy_of, dataset_key, outcome, steps, store_outcome

_STUDY = "study.yaml"

Listener = Callable[[Trial, Outcome], None]


class SweepFolder:
    """The folder of a sweep.

    Files: study.yaml (everything needed to run it again), trials/ (a record each: spec.yaml, rounds.jsonl,
    labels.parquet, outcome.json), trials.parquet (a row a trial), rounds.parquet (a row a round of a trial), table.md,
    table.csv, table.tex (a row a setting), compare.md (beside a paper's numbers), best.yaml (what to run for the best
    setting), tune/ (Ray Tune's own, with TensorBoard's events).

    Args:
        path: of the folder.
        study: what it is of.
    """

    def __init__(self, path: Path, study: Study) -> None:
        self.path, self.study = path, study

    @classmethod
    def create(cls, path: str | Path, study: Study) -> SweepFolder:
        """Make the folder of a new sweep.

        Raises:
            RunFolderError: it holds something already, or cannot be made.
        """
        target = Path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RunFolderError(
                f"{target} exists already and is not empty; choose another --out, or continue the sweep that lies "
                f"there with --resume {target}"
            )
        LocalFolder(target).write(_STUDY, study.to_yaml().encode())
        return cls(target, study)

    @classmethod
    def open(cls, path: str | Path, words: Sequence[str] = ()) -> SweepFolder:
        """Return the folder of a sweep that was started before.

        Args:
            path: of the folder.
            words: "pool.OPTION=value", where its own does not suit.

        Raises:
            RunFolderError: there is none.
        """
        if not (Path(path) / _STUDY).is_file():
            raise RunFolderError(
                f"{path} is not the folder of a sweep (it has no {_STUDY}); give one that a sweep made."
            )
        return cls(Path(path), read_study(Path(path) / _STUDY, words))

    @property
    def records(self) -> str:
        """Where the trials' records are written while they run."""
        own = self.study.pool.storage
        return str((self.path / "trials").absolute()) if own is None else f"{own}/{self.path.name}"

    def record(self, trial: Trial) -> Path:
        """Where a trial's record lies in this folder."""
        return self.path / "trials" / trial.name

    def outcome(self, trial: Trial) -> Outcome | None:
        """Return how a trial ended; None while it has not."""
        return outcome(self.record(trial)) if self.record(trial).is_dir() else None

    def labels(self, trial: Trial) -> Labels | None:
        """Return a trial's consensus labels (N,); None where there are none."""
        path = self.record(trial) / "labels.parquet"
        if not path.is_file():
            return None
        import pyarrow.parquet as pq

        return np.asarray(pq.read_table(path, columns=["label"])["label"], dtype=np.int64)

    def discard_if_nothing_ran(self) -> None:
        """Delete the folder of a sweep of which no trial began."""
        if not (self.path / "trials").exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def known(self) -> list[Ended]:
        """Return the trials that have ended, in the order of the study."""
        trials = self.study.trials() or self._found()
        return [(trial, found) for trial in trials if (found := self.outcome(trial)) is not None]

    def _found(self) -> list[Trial]:
        """Return the trials that the folder holds, where the study does not know them beforehand, by name."""
        files = sorted((self.path / "trials").glob("*/values.json"))
        return [self.study.trial(json.loads(file.read_text(encoding="utf-8"))) for file in files]


def sweep(
    folder: SweepFolder,
    done: Listener | None = None,
    connected: Callable[[str], None] | None = None,
) -> list[Setting]:
    """Run the trials of a sweep that are not done yet, write its tables, and return its settings.

    Args:
        folder: of a new sweep, or of one that was interrupted.
        done: called with every trial that ends.
        connected: called with the address of Ray's dashboard, "" if there is none.

    Raises:
        InputError: the study or its data cannot be used; all faults together.
        RunFolderError: what has to be stored cannot be.
    """
    study = folder.study
    study.check()
    known = {trial.name: (trial, found) for trial, found in folder.known() if found.final}
    todo = [trial for trial in study.trials() if trial.name not in known]
    data, missing = loaded(todo or (study.samples() if study.options.search == "optuna" else []))
    todo = _without_missing(folder, todo, missing, done)
    _check_on_data(todo, data)

    def ended(trial: Trial, found: Outcome) -> None:
        copy_of(f"{folder.records}/{trial.name}", folder.record(trial))
        if study.options.search == "optuna":
            LocalFolder(folder.record(trial)).write("values.json", json.dumps(dict(trial.values)).encode())
        if done is not None:
            done(trial, found)

    open_trials = study.options.search == "optuna" and len(known) < study.options.n_trials and data
    if study.pool.kind == "local":
        _run_here(folder, todo, data, ended)
    elif todo or open_trials:
        from distclust.sweep.tune import run_on_ray

        run_on_ray(
            study, todo, known, data, folder.records, folder.path / "tune", ended, connected or (lambda url: None)
        )
    return write_tables(folder)


def loaded(trials: Sequence[Trial]) -> tuple[dict[str, Dataset], dict[str, str]]:
    """Return the datasets of trials by key, and why others cannot be had."""
    data: dict[str, Dataset] = {}
    missing: dict[str, str] = {}
    for trial in trials:
        key = dataset_key(trial.spec)
        if key not in data and key not in missing:
            try:
                data[key] = trial.spec.load()
            except DataError as error:
                missing[key] = str(error)
    return data, missing


def write_tables(folder: SweepFolder) -> list[Setting]:
    """Write what is known of a sweep, and return its settings."""
    study, ended = folder.study, folder.known()
    found = tables.settings(study, ended, folder.labels)
    files = LocalFolder(folder.path)
    files.write("trials.parquet", _parquet(tables.trial_rows(study, ended)))
    files.write("rounds.parquet", _parquet([row for trial, _ in ended for row in _rounds(folder, trial)]))
    files.write("table.md", tables.markdown(study, found).encode())
    files.write("table.csv", tables.comma_separated(study, found).encode())
    files.write("table.tex", tables.latex(study, found).encode())
    if beside := compared(study, found):
        files.write("compare.md", (beside + "\n").encode())
    chosen = tables.best(study, found)
    if len(chosen) == 1:
        files.write("best.yaml", _best(folder, ended, chosen[0]).encode())
    return found


def compared(study: Study, found: Sequence[Setting]) -> str:
    """Return ours beside the study's published table in Markdown; "" where it names none, or nothing is in both."""
    if study.options.published is None:
        return ""
    rows = compare(tables.ours(study, found), table(study.options.published))
    return markdown(rows) if rows else ""


def _without_missing(
    folder: SweepFolder, todo: Sequence[Trial], missing: Mapping[str, str], done: Listener | None
) -> list[Trial]:
    """Store that the data of some trials cannot be had, and return the others.

    Raises:
        DataError: no trial is left.
    """
    left = [trial for trial in todo if dataset_key(trial.spec) not in missing]
    if missing and not left:
        raise DataError("no dataset of the study can be had:\n" + "\n".join(missing.values()))
    for trial in todo:
        cause = missing.get(dataset_key(trial.spec))
        if cause is not None:
            found = Outcome("missing", cause, 0, {})
            store_outcome(folder.record(trial), found)
            if done is not None:
                done(trial, found)
    return left


def _check_on_data(todo: Sequence[Trial], data: Mapping[str, Dataset]) -> None:
    """Check the trials' parameters against their data.

    Raises:
        ParameterError: all faults together.
    """
    checked: dict[str, Any] = {}
    faults: list[str] = []
    for trial in todo:
        key = dataset_key(trial.spec)
        if key not in checked:
            checked[key] = check_x(data[key].x, data[key].name)
        try:
            trial.spec.estimator(data[key]).checked(checked[key])
        except ParameterError as error:
            faults += [f"{trial.title}: {fault}" for fault in error.faults]
    if faults:
        raise ParameterError(dict.fromkeys(faults))


def _run_here(folder: SweepFolder, todo: Sequence[Trial], data: Mapping[str, Dataset], ended: Listener) -> None:
    """Run trials one after another in this process."""
    options = folder.study.pool
    for trial in todo:
        where = f"{folder.records}/{trial.name}"
        pool = LocalPool(cpus_per_member=options.cpus_per_member, device=options.device, storage=Record(where).members)
        with pool:
            for step in steps(trial, data[dataset_key(trial.spec)], where, pool, folder.study.options.measures):
                if step.broken:
                    raise RunFolderError(step.broken)
        found = outcome(where)
        assert found is not None
        ended(trial, found)


def _rounds(folder: SweepFolder, trial: Trial) -> list[dict[str, Any]]:
    return [{"trial": trial.name, **line} for line in Record(folder.record(trial)).rounds()]


def _best(folder: SweepFolder, ended: Sequence[Ended], chosen: Setting) -> str:
    """Return the specification of a trial of the chosen setting, with a word on how it was chosen."""
    study = folder.study
    trial = next(t for t, o in ended if o.figures and all(t.values[name] == v for name, v in chosen.values.items()))
    return (
        f"# The best setting by {study.options.objective} of the sweep in {folder.path.name}.\n"
        f"# python -m distclust.run --config {folder.path / 'best.yaml'}\n{trial.spec.to_yaml()}"
    )


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.BytesIO()
    tables.frame(rows).to_parquet(sink)
    return sink.getvalue()


def default_name(study: Study) -> str:
    """Return the name of a new sweep's folder."""
    return f"{study.name}-{time.strftime('%Y%m%d-%H%M%S')}"
