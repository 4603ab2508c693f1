"""The trials of a study on Ray Tune: which run when, on what; their records are their own, see `trial`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator

from distclust.contracts import Dataset, Pool
from distclust.distributed.pool import LocalPool
from distclust.distributed.ray_pool import Connection, RayPool
from distclust.errors import ParameterError, RunError, RunFolderError
from distclust.spec import PoolOptions
from distclust.sweep.study import Axis, Study, Trial
from distclust.sweep.trial import Outcome, Step, dataset_key, objective, outcome, steps, stopped, store_outcome

Done = Callable[[Trial, Outcome], None]


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
            self.loaded = (key, ray.get(self.data[key]))
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


class _Broken(tune.Stopper):
    """Ends the sweep when nothing can be stored any more."""

    def __init__(self) -> None:
        self.cause = ""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.cause = self.cause or result["broken"]
        return bool(self.cause)

    def stop_all(self) -> bool:
        return bool(self.cause)


class _Ends(tune.Callback):
    """Sees to it that every trial has an outcome, and tells of it."""

    def __init__(self, study: Study, where: str, broken: _Broken, done: Done) -> None:
        self.study, self.where, self.broken, self.done = study, where, broken, done

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "done": None}  # Tune pickles it for a restoration that is not used

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self.broken.cause:
            return
        ours = self._ours(trial)
        where = f"{self.where}/{ours.name}"
        self.done(ours, outcome(where) or stopped(where))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ours = self._ours(trial)
        found = Outcome(
            "failed", f"its process failed {trial.num_failures} times: {_last_line(trial.error_file)}", 0, {}
        )
        store_outcome(f"{self.where}/{ours.name}", found)
        self.done(ours, found)

    def _ours(self, trial: Any) -> Trial:
        return self.study.trial({axis.name: trial.config[axis.name] for axis in self.study.axes})


def run_on_ray(
    study: Study,
    todo: Sequence[Trial],
    known: Mapping[str, tuple[Trial, Outcome]],
    data: Mapping[str, Dataset],
    where: str,
    folder: Path,
    done: Done,
    connected: Callable[[str], None],
) -> None:
    """Run trials on Ray Tune.

    Args:
        study: the study.
        todo: the trials that are not done yet; with search="optuna" none.
        known: the trials that are, by name.
        data: key of a dataset -> dataset.
        where: folder or URI that all nodes reach, for the trials' records.
        folder: for Tune's own files, among them TensorBoard's.
        done: called with every trial that ended.
        connected: called with the address of the dashboard, "" if there is none.

    Raises:
        ParameterError: the cluster cannot hold a trial, or has several nodes and no shared storage.
        RunFolderError: what has to be stored cannot be.
    """
    options = study.pool
    connection = Connection(options.address, options.num_cpus, options.dashboard)
    connection.open(sum(dataset.x.nbytes for dataset in data.values()))
    try:
        connected(connection.dashboard_url)
        _check_cluster(study, todo or study.samples())
        references = {key: ray.put(dataset) for key, dataset in data.items()}
        broken = _Broken()
        tuner = _tuner(study, todo, known, references, where, folder, broken, _Ends(study, where, broken, done))
        with _quiet():
            try:
                tuner.fit()
            except OSError as error:
                raise RunFolderError(f"cannot write to {folder} ({error}); make room there.") from error
            except ray.exceptions.RayError as error:
                raise RunError(f"the sweep broke off: {error}; continue it with --resume") from error
        if broken.cause:
            raise RunFolderError(broken.cause)
    finally:
        connection.close()


def _tuner(
    study: Study,
    todo: Sequence[Trial],
    known: Mapping[str, tuple[Trial, Outcome]],
    data: Mapping[str, Any],
    where: str,
    folder: Path,
    broken: _Broken,
    ends: _Ends,
) -> tune.Tuner:
    options = study.options
    guided = options.scheduler != "none" or options.search != "random"
    trainable = tune.with_parameters(StudyTrial, study=study, data=dict(data), where=where)
    return tune.Tuner(
        tune.with_resources(trainable, _bundles(study)),
        param_space={axis.name: _domain(axis) for axis in study.axes},
        tune_config=tune.TuneConfig(
            metric="objective" if guided else None,
            mode="max" if guided else None,
            num_samples=len(todo) if options.search == "random" else options.n_trials - len(known),
            search_alg=_search(study, todo, known),
            scheduler=_scheduler(study),
            max_concurrent_trials=options.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: _named(study, trial).title,
            trial_dirname_creator=lambda trial: _named(study, trial).name,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.absolute()),
            verbose=0,
            stop=broken,
            callbacks=[ends],
            failure_config=tune.FailureConfig(max_failures=study.pool.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the records are ours
        ),
    )


def _named(study: Study, trial: Any) -> Trial:
    return study.trial({axis.name: trial.config[axis.name] for axis in study.axes})


def _domain(axis: Axis) -> Any:
    """Return an axis as Tune's."""
    if axis.kind == "uniform":
        return tune.uniform(*axis.values)
    if axis.kind == "log-uniform":
        return tune.loguniform(*axis.values)
    return tune.choice(list(axis.values))


def _search(study: Study, todo: Sequence[Trial], known: Mapping[str, tuple[Trial, Outcome]]) -> Any:
    if study.options.search == "random":  # the draws are ours, so that a sweep that goes on has the same
        return BasicVariantGenerator(points_to_evaluate=[dict(trial.values) for trial in todo])
    try:
        import optuna  # noqa: F401
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise ParameterError(
            [
                "study: search='optuna' needs Optuna, which is not installed. `pip install 'distclust[optuna]'`, or "
                "use search: random."
            ]
        ) from error
    done = list(known.values())
    name = study.options.objective
    return OptunaSearch(
        seed=study.options.seed,
        points_to_evaluate=[dict(trial.values) for trial, _ in done] or None,
        evaluated_rewards=[objective(found.figures, name) for _, found in done] or None,
    )


def _scheduler(study: Study) -> Any:
    if study.options.scheduler == "none":
        return None
    n_rounds = max(_n_rounds(trial) for trial in study.samples())
    return ASHAScheduler(time_attr="round", max_t=max(2, n_rounds), grace_period=1, reduction_factor=3)


def _n_rounds(trial: Trial) -> int:
    from distclust.methods import method_class
    from distclust.parameters import declared

    default = declared(method_class(trial.spec.method))["n_rounds"].default
    return int(trial.spec.parameters.get("n_rounds", default))


def _bundles(study: Study) -> tune.PlacementGroupFactory:
    """Return what a trial holds: a process, and a share for each of its workers where it has any."""
    share = _share(study.pool)
    if study.options.workers == 1:
        return tune.PlacementGroupFactory([share])
    return tune.PlacementGroupFactory([{}, *[share] * study.options.workers])


def _share(options: PoolOptions) -> dict[str, float]:
    share: dict[str, float] = {"CPU": options.cpus_per_member}
    return share | ({"GPU": options.gpus_per_member} if options.gpus_per_member else {})


def _check_cluster(study: Study, trials: Sequence[Trial]) -> None:
    options = study.pool
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1 and options.storage is None:
        raise ParameterError(["the cluster has several nodes: give pool.storage, a place that all of them share."])
    have = ray.cluster_resources()
    asked = {name: amount * study.options.workers for name, amount in _share(options).items()}
    short = [name for name, amount in asked.items() if have.get(name, 0) < amount]
    if short and not options.autoscaling:
        wants = " and ".join(f"{amount:g} {name}s" for name, amount in asked.items())
        has = " and ".join(f"{have.get(name, 0):g} {name}s" for name in asked)
        raise ParameterError(
            [
                f"a trial asks for {wants} (study.workers, pool.cpus_per_member, pool.gpus_per_member), but Ray has "
                f"{has}. Ask for less."
            ]
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Tune prints to itself, and let Ctrl-C through."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)


def _last_line(path: str | None) -> str:
    with contextlib.suppress(OSError, IndexError, TypeError):
        return Path(str(path)).read_text(encoding="utf-8").strip().splitlines()[-1]
    return "no cause is known"
