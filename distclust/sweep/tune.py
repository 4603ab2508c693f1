"""The trials of a study on Ray Tune: which run when, on what; their records are their own, see `trial`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from distclust.contracts import Dataset, Pool
from distclust.distributed.mapped import opened
from distclust.distributed.pool import LocalPool
from distclust.distributed.ray_pool import AUTOSCALING_PATIENCE, PATIENCE, Connection, RayPool, put_data, rooms
from distclust.errors import ParameterError, RunError, RunFolderError
from distclust.spec import PoolOptions
from distclust.sweep.draws import Draws
from distclust.sweep.study import Study, Trial
from distclust.sweep.trial import Outcome, Step, Watch, dataset_key, given_up, objective, outcome, steps, stopped

_PENDING = 200  # trials for which Tune asks the cluster at the same time, so that it grows by all of them at once


class StudyTrial(tune.Trainable):
    """A process that runs one trial after the other; a step is a round."""

    def setup(self, config: dict[str, Any], study: Study, data: Mapping[str, Any], where: str) -> None:
        """Take up a study and its first trial.

        Args:
            config: axis -> value, or name of the case.
            study: the whole study.
            data: key of a dataset -> reference to it.
            where: folder or URI of the trials' records.
        """
        self.study, self.data, self.where = study, data, where
        self.pool: LocalPool | RayPool | None = None
        self.loaded: tuple[str, Dataset] | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process, with its libraries loaded and its workers warm."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for a round."""
        step = next(self.steps)
        target = objective(step.figures, self.study.options.objective)
        return {**step.figures, "objective": target, "round": step.round, "done": step.done, "broken": step.broken}

    def cleanup(self) -> None:
        """End the workers."""
        if self.pool is not None:
            self.pool.close()

    def _begin(self, config: Mapping[str, Any]) -> None:
        trial = self.study.trial(config)
        where = f"{self.where}/{trial.name}"
        pool = self._pool(trial, f"{where}/members")
        self.steps: Iterator[Step] = steps(
            trial, self._dataset(dataset_key(trial.spec)), where, pool, self.study.options.measures
        )

    def _dataset(self, key: str) -> Dataset:
        if self.loaded is None or self.loaded[0] != key:
            dataset, x = ray.get(self.data[key])
            self.loaded = (key, replace(dataset, x=opened(ray.get(x))))
        return self.loaded[1]

    def _pool(self, trial: Trial, storage: str) -> Pool:
        options = self.study.pool
        if self.study.options.workers == 1:
            device = "cuda" if ray.get_gpu_ids() else "cpu"
            self.pool = LocalPool(cpus_per_member=options.cpus_per_member, device=device, storage=storage)
            return self.pool
        if not isinstance(self.pool, RayPool):
            self.pool = RayPool(
                cpus_per_member=options.cpus_per_member,
                gpus_per_member=options.gpus_per_member,
                retries=options.retries,
                n_workers=self.study.options.workers,
            )
        self.pool.storage, self.pool.name = storage, trial.title
        return self.pool


class _Queue(Searcher):
    """Hands Tune the trials, and those whose process died once more; Tune itself does so in most cases, not in all.

    Args:
        todo: the trials, as far as they are known.
        draws: where others come from; None = there are no others.
    """

    def __init__(self, todo: Sequence[Trial], draws: Draws | None) -> None:
        super().__init__(metric="objective", mode="max")
        self.waiting, self.draws = list(todo), draws
        self.n_open = 0  # trials that Tune has

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restoration that is not used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        trial = self.waiting.pop(0) if self.waiting else self.draws.draw() if self.draws else None
        if trial is None:  # one that Tune has may come back
            return None if self.n_open else Searcher.FINISHED
        self.n_open += 1
        return dict(trial.values)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.n_open -= 1


class _Stop(tune.Stopper):
    """Ends the sweep before its time: nothing can be stored any more, or the user wants it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.interrupted = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if result["broken"] and self.error is None:
            self.error = RunFolderError(result["broken"])
        return self.stop_all()

    def stop_all(self) -> bool:
        return self.interrupted or self.error is not None

    def interrupt(self, *_: object) -> None:
        """Take a signal; at the second one end at once."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True


class _Events(tune.Callback):
    """Sees to it that every trial has an outcome, and tells of it."""

    def __init__(self, study: Study, where: str, queue: _Queue, stop: _Stop, watch: Watch) -> None:
        self.study, self.where, self.queue, self.stop, self.watch = study, where, queue, stop, watch
        self.actors: set[Any] = set()
        self.deaths: Counter[str] = Counter()  # of a trial's process since its last round
        self.patience = AUTOSCALING_PATIENCE if study.pool.autoscaling else PATIENCE
        self.running_at = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as in _Queue

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        if any(trial.status == "RUNNING" for trial in trials):
            self.running_at = now
        elif now - self.running_at > self.patience and not self.stop.stop_all():
            self.stop.error = RunError(
                f"no trial could be started within {self.patience:.0f} s; the cluster's CPUs and GPUs are taken by "
                f"others, or gone (`ray status` shows it); continue with --resume"
            )

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ours, actor = _ours(self.study, trial), trial.temporary_state.ray_actor
        self.actors.add(actor)
        _name_rounds(actor, ours.title)
        self._do(self.watch.began, ours)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.stop.stop_all():  # else Tune would wait for the rounds that are under way
            for actor in self.actors:
                ray.kill(actor)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self.deaths.pop(_ours(self.study, trial).name, None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._do(self._ended, _ours(self.study, trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ours, cause = _ours(self.study, trial), _cause(trial.error_file)
        self.deaths[ours.name] += 1
        if self.deaths[ours.name] > self.study.pool.retries:
            self._do(self._gave_up, ours, cause)
        else:
            self.queue.waiting.insert(0, ours)
            self._do(self.watch.restarted, ours, cause)

    def _ended(self, trial: Trial) -> None:
        where = f"{self.where}/{trial.name}"
        self._tell(trial, outcome(where) or stopped(where))

    def _gave_up(self, trial: Trial, cause: str) -> None:
        times = "once" if self.deaths[trial.name] == 1 else f"{self.deaths[trial.name]} times"
        self._tell(trial, given_up(f"{self.where}/{trial.name}", f"its process died {times} within a round: {cause}"))

    def _tell(self, trial: Trial, found: Outcome) -> None:
        if self.queue.draws is not None:
            self.queue.draws.tell(trial, found)
        self.watch.ended(trial, found)

    def _do(self, what: Callable[..., None], *arguments: Any) -> None:
        """Do something whose failure ends the sweep: Tune would take it for one of the trial, and run that again."""
        if not self.stop.stop_all():
            try:
                what(*arguments)
            except Exception as error:
                self.stop.error = error


def run_on_ray(
    study: Study,
    todo: Sequence[Trial],
    known: Mapping[str, tuple[Trial, Outcome]],
    data: Mapping[str, Dataset],
    where: str,
    folder: Path,
    watch: Watch,
) -> None:
    """Run trials on Ray Tune.

    Args:
        study: the study.
        todo: the trials that are not done yet; with search="optuna" those of them that were begun.
        known: the trials that are, by name.
        data: key of a dataset -> dataset.
        where: folder or URI that all nodes reach, for the trials' records.
        folder: for Tune's own files, among them TensorBoard's.
        watch: told what happens.

    Raises:
        ParameterError: the cluster cannot hold a trial, or has several nodes and no shared storage.
        RunFolderError: what has to be stored cannot be.
        RunError: Ray broke down.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    draws = Draws(study, known.values(), todo) if study.options.search == "optuna" else None
    connection = Connection(study.pool.address, study.pool.num_cpus, study.pool.dashboard)
    connection.open(sum(dataset.x.nbytes for dataset in data.values()))
    try:
        watch.connected(connection.dashboard_url)
        _check_cluster(study)
        references = {key: ray.put((replace(d, x=d.x[:0]), put_data(d.x))) for key, d in data.items()}
        stop, queue = _Stop(), _Queue(todo, draws)
        try:
            with _quiet(_PENDING if draws is None else 1), _signals(stop.interrupt):
                _tuner(study, references, where, folder, queue, stop, watch).fit()
        except (TuneError, OSError, ray.exceptions.RayError) as error:
            raise stop.error or _as_ours(error, folder) from error
        if stop.error is not None:
            raise stop.error
        if stop.interrupted:
            raise KeyboardInterrupt
    finally:
        connection.close()


def _tuner(
    study: Study,
    data: Mapping[str, Any],
    where: str,
    folder: Path,
    queue: _Queue,
    stop: _Stop,
    watch: Watch,
) -> tune.Tuner:
    options = study.options
    n_trials = options.n_trials if queue.draws else len(queue.waiting)
    return tune.Tuner(
        _trainable(study, data, where),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            num_samples=n_trials * (study.pool.retries + 1) * _most_rounds(study),
            search_alg=queue,
            scheduler=_scheduler(study),
            max_concurrent_trials=options.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: _ours(study, trial).title,
            trial_dirname_creator=lambda trial: _ours(study, trial).name,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.absolute()),
            verbose=0,
            stop=stop,
            callbacks=[_Events(study, where, queue, stop, watch)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the records are ours
        ),
    )


def _trainable(study: Study, data: Mapping[str, Any], where: str) -> Any:
    """Return what Tune starts: a StudyTrial that knows the study and its data, and what it holds of the cluster."""
    found = tune.with_parameters(StudyTrial, study=study, data=dict(data), where=where)
    found = tune.with_resources(found, _bundles(study))
    found.__name__ = found.__qualname__ = study.name.replace(".", "-")  # what Ray's dashboard and `ps` show
    return found


def _ours(study: Study, trial: Any) -> Trial:
    """Return one of Tune's trials as ours."""
    return study.trial({axis.name: trial.config[axis.name] for axis in study.axes})


def _name_rounds(actor: Any, title: str) -> None:
    """Have Ray show the rounds of a trial, each a call of its process, under the trial's title."""
    vars(actor).pop("train", None)  # that of the trial before
    actor.train = actor.train.options(name=title)


def _scheduler(study: Study) -> Any:
    if study.options.scheduler == "none":
        return None
    return ASHAScheduler(time_attr="round", max_t=max(2, _most_rounds(study)), grace_period=1, reduction_factor=3)


def _most_rounds(study: Study) -> int:
    return max(_n_rounds(trial) for trial in study.samples())


def _n_rounds(trial: Trial) -> int:
    from distclust.methods import method_class
    from distclust.methods.base import auto_rounds

    given = trial.spec.parameters
    if given.get("n_rounds", "auto") != "auto":
        return int(given["n_rounds"])
    return auto_rounds(given.get("n_epochs", "auto"), method_class(trial.spec.method).most_rounds)


def _bundles(study: Study) -> tune.PlacementGroupFactory:
    """Return what a trial holds: a process, and a share for each of its workers where it has any."""
    share = _share(study.pool)
    if study.options.workers == 1:
        return tune.PlacementGroupFactory([share])
    return tune.PlacementGroupFactory([{}, *[share] * study.options.workers])


def _share(options: PoolOptions) -> dict[str, float]:
    share: dict[str, float] = {"CPU": options.cpus_per_member}
    return share | ({"GPU": options.gpus_per_member} if options.gpus_per_member else {})


def _check_cluster(study: Study) -> None:
    options, workers = study.pool, study.options.workers
    several = sum(node["Alive"] for node in ray.nodes()) > 1
    if options.storage is None and (several or options.autoscaling):
        has = "has several nodes" if several else "may get other nodes (pool.autoscaling)"
        raise ParameterError([f"the cluster {has}: give pool.storage, a place that all of them share."])
    room = rooms(options.cpus_per_member, options.gpus_per_member)
    if room < workers and not options.autoscaling:
        have = ray.cluster_resources()
        wants = " and ".join(f"{amount:g} {name}s" for name, amount in _share(options).items())
        has = " and ".join(f"{have.get(name, 0):g} {name}s" for name in _share(options))
        times = "" if workers == 1 else f"{workers} times "
        raise ParameterError(
            [
                f"a trial asks for {times}{wants} (study.workers, pool.cpus_per_member, pool.gpus_per_member), but "
                f"Ray has {has}, room for {room}. Ask for less."
            ]
        )


@contextlib.contextmanager
def _quiet(pending: int) -> Iterator[None]:
    """Keep what Tune prints to itself, its hands off signals, and let so many trials wait for room."""
    logger, level = logging.getLogger("ray.tune"), logging.getLogger("ray.tune").level
    settings = {"TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_MAX_PENDING_TRIALS_PG": str(pending)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _signals(take: Callable[..., None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM call something, so that Tune can close its files and processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {which: signal.signal(which, take) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _as_ours(error: Exception, folder: Path) -> Exception:
    """Return an error of Ray as one of ours; those of Tune hold a traceback as their text."""
    cause = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error).strip().splitlines()[-1]
    if "Error: [Errno" in cause:
        return RunFolderError(f"cannot write to {folder} ({cause}); make room there.")
    return RunError(f"the sweep broke off: {cause}; continue it with --resume")


def _cause(path: str | None) -> str:
    """Return why a process died, from the file where Tune keeps the errors of a trial."""
    with contextlib.suppress(OSError, IndexError, TypeError):
        last = Path(str(path)).read_text(encoding="utf-8").rpartition("Failure #")[2]
        lines = [line.strip() for line in last.splitlines()[1:] if line.strip()]
        return lines[-1] if lines[0].startswith("ray::") else lines[0]  # of a traceback, or what Ray says
    return "no cause is known"
