"""A sweep from its study to its tables: load the data, run the trials that are not done, write what was found."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distclust.contracts import Dataset, Labels
from distclust.data import check_x
from distclust.distributed.checkpoint import LocalFolder, located, storage
from distclust.distributed.pool import LocalPool
from distclust.errors import DataError, Message, ParameterError, RunFolderError
from distclust.published.compare import compare, markdown
from distclust.results import Labelled, Record
from distclust.sweep import choice, pictures
from distclust.sweep import table as tables
from distclust.sweep.choice import Choice, Labelling
from distclust.sweep.study import Study, Trial, no_data, read_study
from distclust.sweep.table import Ended, Setting
from distclust.sweep.trial import Outcome, Watch, copy_of, dataset_key, outcome, steps, store_outcome

_STUDY, _VALUES = "study.yaml", "values.json"


class SweepFolder:
    """The folder of a sweep.

    Files: study.yaml (everything needed to run it again), trials/ (a record each: values.json, spec.yaml, rounds.jsonl,
    labels.parquet, outcome.json), trials.parquet (a row a trial), rounds.parquet (a row a round of a trial), table.md,
    table.csv, table.tex (a row a setting), compare.md (beside a paper's numbers), best.yaml (what to run for the best
    setting), choice.json, choice.md (what is recommended, where the study chooses), objective.png, rounds.png (along
    each axis, and round by round), tune/ (Ray Tune's own, with TensorBoard's events).

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
            RunFolderError: it holds something already, or cannot be made; or the place of its records does.
        """
        target = Path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise RunFolderError(
                f"{target} exists already and is not empty; choose another --out, or continue the sweep that lies "
                f"there with --resume {target}"
            )
        there = target.exists()
        try:
            LocalFolder(target).write(_STUDY, study.to_yaml().encode())
            folder = cls(target, study)
            folder._claim()
        except RunFolderError:
            if not there:
                shutil.rmtree(target, ignore_errors=True)
            raise
        return folder

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
        return located(self.path / "trials") if own is None else f"{located(own)}/{self.path.name}"

    def record(self, trial: Trial) -> Path:
        """Where a trial's record lies in this folder."""
        return self.path / "trials" / trial.name

    def outcome(self, trial: Trial) -> Outcome | None:
        """Return how a trial ended; None while it has not."""
        return outcome(self.record(trial)) if self.record(trial).is_dir() else None

    def labels(self, trial: Trial) -> Labels | None:
        """Return a trial's consensus labels (N,); None where there are none."""
        found = self._labelled(trial)
        return None if found is None else found.labels

    def labellings(self, trial: Trial) -> list[Labelling]:
        """Return a trial's labels as `choice` compares them, see `choices`; none where there are none."""
        found = self._labelled(trial)
        if found is None:
            return []
        return [Labelling(row, found.rows) for row in ([found.labels] if self.study.seeds > 1 else found.aligned)]

    def begin(self, trial: Trial) -> None:
        """Note that a trial begins, or goes on."""
        LocalFolder(self.record(trial)).write(_VALUES, json.dumps(dict(trial.values)).encode())

    def discard_if_nothing_ran(self) -> None:
        """Delete the folder of a sweep of which no trial began."""
        if any((self.path / "trials").glob(f"*/{_VALUES}")):
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self.study.pool.storage is not None:
            with contextlib.suppress(RunFolderError):
                storage(self.records).delete(_STUDY)

    def trials(self) -> list[Trial]:
        """Return the trials in the order of the study; where it does not know them beforehand, those that began."""
        files = sorted((self.path / "trials").glob(f"*/{_VALUES}"))
        return self.study.trials() or [self.study.trial(json.loads(file.read_bytes())) for file in files]

    def known(self) -> list[Ended]:
        """Return the trials that have ended, in the order of the study."""
        return [(trial, found) for trial in self.trials() if (found := self.outcome(trial)) is not None]

    def _labelled(self, trial: Trial) -> Labelled | None:
        return Record(self.record(trial)).labels() if self.record(trial).is_dir() else None

    def _claim(self) -> None:
        """Mark the place of the records, so that none of another sweep are taken for ours.

        Raises:
            RunFolderError: another sweep has marked it.
        """
        if self.study.pool.storage is None:
            return
        place = storage(self.records)
        if place.read(_STUDY) is not None:
            raise RunFolderError(
                f"{self.records} holds the records of another sweep; choose another --out or pool.storage, or delete "
                f"them."
            )
        place.write(_STUDY, self.study.to_yaml().encode())


def _nothing(*_: object) -> None:
    """Listen to nothing."""


def sweep(
    folder: SweepFolder,
    done: Callable[[Trial, Outcome], None] = _nothing,
    connected: Callable[[str], None] = _nothing,
    restarted: Callable[[Trial, str], None] = _nothing,
    remarked: Callable[[str], None] = _nothing,
) -> list[Setting]:
    """Run the trials of a sweep that are not done yet, write its tables, and return its settings.

    Args:
        folder: of a new sweep, or of one that was interrupted.
        done: called with every trial that ends.
        connected: called with the address of Ray's dashboard, "" if there is none.
        restarted: called with every trial whose process died and that is to be run on, and with the cause.
        remarked: called with what is to be said of how the data was read.

    Raises:
        InputError: the study or its data cannot be used; all faults together.
        RunFolderError: what has to be stored cannot be.
        RunError: Ray broke down.
    """
    study = folder.study
    study.check()
    known = {trial.name: (trial, found) for trial, found in folder.known() if found.final}
    todo = [trial for trial in folder.trials() if trial.name not in known]
    to_draw = study.options.search == "optuna" and len(known) < study.options.n_trials
    expected = [*todo, *(study.samples() if to_draw else [])]
    data, missing = loaded(expected)
    for remark in dict.fromkeys(
        Message(remark).after(f"{dataset.name}: ") for dataset in data.values() for remark in dataset.remarks
    ):
        remarked(remark)
    _check_missing(expected, missing, any_will_do=not to_draw)
    _check_on_data(expected, data)
    todo = _without_missing(folder, todo, missing, done)

    def ended(trial: Trial, found: Outcome) -> None:
        copy_of(f"{folder.records}/{trial.name}", folder.record(trial))
        done(trial, found)

    watch = Watch(connected, folder.begin, restarted, ended)
    if study.pool.kind == "local":
        _run_here(folder, todo, data, watch)
    elif todo or to_draw:
        from distclust.sweep.tune import run_on_ray

        run_on_ray(study, todo, known, data, folder.records, folder.path / "tune", watch)
    return write_tables(folder)


def loaded(trials: Sequence[Trial]) -> tuple[dict[str, Dataset], dict[str, Message]]:
    """Return the datasets of trials by key, and why others cannot be had."""
    data: dict[str, Dataset] = {}
    missing: dict[str, Message] = {}
    for trial in trials:
        key = dataset_key(trial.spec)
        if key not in data and key not in missing:
            try:
                data[key] = trial.spec.load()
            except DataError as error:
                missing[key] = error.message
    return data, missing


def write_tables(folder: SweepFolder) -> list[Setting]:
    """Write what is known of a sweep, and return its settings."""
    study, ended = folder.study, folder.known()
    # seeds that are given different points are compared by `choice`
    found = tables.settings(study, ended, folder.labels if study.options.resample is None else _nothing)
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
    if study.options.choose is not None:
        _write_choices(folder, ended, found)
    else:
        _write_picture(files, "objective.png", pictures.objective_picture(study, found))
    rounds = [(trial.values, Record(folder.record(trial)).rounds()) for trial, _ in ended]
    _write_picture(files, "rounds.png", pictures.rounds_picture(study, found, rounds))
    return found


def _write_picture(files: LocalFolder, name: str, picture: bytes | None) -> None:
    if picture is not None:
        files.write(name, picture)


def _write_choices(folder: SweepFolder, ended: Sequence[Ended], found: Sequence[Setting]) -> None:
    """Write what a study says of the axis that it chooses from."""
    study, files = folder.study, LocalFolder(folder.path)
    made = choice.choices(study, ended, folder.labellings, _whole)
    files.write("choice.json", (json.dumps([choice.plain(one) for one in made], indent=1) + "\n").encode())
    files.write("choice.md", ("\n\n".join(map(choice.markdown, made)) + "\n").encode())
    remarks = "\n\n".join(choice.titled(one) for one in made)
    files.write("table.md", f"{tables.markdown(study, found)}\n{remarks}\n".encode())
    files.write("objective.png", pictures.choice_picture(study, made))
    if len(made) == 1 and made[0].recommended is not None:
        files.write("best.yaml", _recommended(folder, made[0]).encode())


def _whole(trial: Trial) -> Dataset | None:
    """Return the data of a trial as it is, neither resampled nor replaced by a reference; None where it is missing."""
    try:
        return choice.undisturbed(trial.spec).load()
    except DataError:
        return None


def _recommended(folder: SweepFolder, made: Choice) -> str:
    """Return the specification of the recommended value, on all of the data, with a word on how it was chosen."""
    trials = folder.study.trials()
    trial = next(t for t in trials if t.values[made.axis] == made.recommended and not choice.on_reference(t))
    return (
        f"# {made.sentence}\n"
        f"# python -m distclust.run --config {folder.path / 'best.yaml'}\n{choice.undisturbed(trial.spec).to_yaml()}"
    )


def compared(study: Study, found: Sequence[Setting]) -> str:
    """Return ours beside the study's published tables in Markdown, and why trials have no figures.

    "" where the study names no table, or nothing is in both.
    """
    rows = compare(tables.ours(study, found), tables.theirs(study))
    return "\n\n".join([markdown(rows), *tables.failures(found)]) if rows else ""


def _without_missing(
    folder: SweepFolder, todo: Sequence[Trial], missing: Mapping[str, str], done: Callable[[Trial, Outcome], None]
) -> list[Trial]:
    """Store that the data of some trials cannot be had, and return the others."""
    for trial in todo:
        cause = missing.get(dataset_key(trial.spec))
        if cause is not None:
            found = Outcome("missing", cause, 0, {})
            store_outcome(folder.record(trial), found)
            done(trial, found)
    return [trial for trial in todo if dataset_key(trial.spec) not in missing]


def _check_missing(expected: Sequence[Trial], missing: Mapping[str, Message], any_will_do: bool) -> None:
    """Check that there is data to run on.

    Raises:
        DataError: there is none; or some is missing and trials are yet to be drawn, perhaps on that.
    """
    if missing and not (any_will_do and any(dataset_key(trial.spec) not in missing for trial in expected)):
        raise no_data(missing.values())


def _check_on_data(todo: Sequence[Trial], data: Mapping[str, Dataset]) -> None:
    """Check the trials' parameters against their data.

    Raises:
        ParameterError: all faults together.
    """
    checked: dict[str, Any] = {}
    faults: dict[Message, list[str]] = {}  # a fault -> the trials that have it
    for trial in todo:
        key = dataset_key(trial.spec)
        if key not in data:  # it is missing
            continue
        if key not in checked:
            checked[key] = check_x(data[key].x, data[key].name)
        try:
            trial.spec.estimator(data[key]).checked(checked[key])
        except ParameterError as error:
            for fault in error.faults:
                faults.setdefault(fault, []).append(trial.title)
    if faults:
        raise ParameterError(fault.after(f"{_first_of(titles)}: ") for fault, titles in faults.items())


def _first_of(titles: Sequence[str]) -> str:
    return titles[0] + (f" and {len(titles) - 1} more" if len(titles) > 1 else "")


def _run_here(folder: SweepFolder, todo: Sequence[Trial], data: Mapping[str, Dataset], watch: Watch) -> None:
    """Run trials one after another in this process."""
    options = folder.study.pool
    for trial in todo:
        watch.began(trial)
        where = f"{folder.records}/{trial.name}"
        pool = LocalPool(cpus_per_member=options.cpus_per_member, device=options.device, storage=Record(where).members)
        with pool:
            for step in steps(trial, data[dataset_key(trial.spec)], where, pool, folder.study.options.measures):
                if step.broken:
                    raise RunFolderError(step.broken)
        found = outcome(where)
        assert found is not None
        watch.ended(trial, found)


def _rounds(folder: SweepFolder, trial: Trial) -> list[dict[str, Any]]:
    return [{"trial": trial.name, **line} for line in Record(folder.record(trial)).rounds()]


def _best(folder: SweepFolder, ended: Sequence[Ended], chosen: Setting) -> str:
    """Return the specification of a trial of the chosen setting that has a vote, with a word on how it was chosen."""
    study = folder.study
    there = [(t, o) for t, o in ended if o.figures and all(t.values[n] == v for n, v in chosen.values.items())]
    trial = max(there, key=lambda pair: pair[1].figures["voters"] > 0)[0]
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
