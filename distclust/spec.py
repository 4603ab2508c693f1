"""The specification of a run: method, parameters, dataset and pool, from YAML and from key=value words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from distclust.contracts import Dataset, Listener, Pool
from distclust.errors import InputError, ParameterError, as_typed, as_word, nearest, option
from distclust.parameters import check, check_known, declared, plain_value
from distclust.yaml12 import NotYaml, Reading, Readings, dumped, parsed

if TYPE_CHECKING:
    from distclust.methods.base import EnsembleClusterer

BASE = {"method": "selective", "dataset": "digits"}
_NEEDED = ("method", "dataset", "dataset.name")  # no other text may be empty: nothing typed is None
_NULLS = ("", "~", "null", "Null", "NULL")
MAIN_JOB = {**BASE, "n_members": 5}  # what runs without a file


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Where the members run.

    Args:
        kind: "ray", or "local" for one after another in this process.
        workers_per_member: workers that train a member together, by Ray Train (mice and moco, on ray).
        cpus_per_member: CPUs a member owns, divided among its workers, and the threads it computes with.
        gpus_per_member: share of a GPU that a member owns (ray); with several workers one GPU a worker, or 0.
        device: "cpu", "cuda" or "auto" (local; on Ray a member uses a GPU if it owns a share).
        address: of a running Ray cluster, "auto", or "local" for a private Ray; None = RAY_ADDRESS, else "local".
        num_cpus: CPUs of the private Ray; None = all that this process may use.
        dashboard: start the dashboard of the private Ray and print its address.
        storage: folder or URI for the members' checkpoints that all nodes reach; None = the run folder.
        retries: how often a member is started again after its process died.
        autoscaling: ask for one worker a member and wait for the nodes that the cluster adds (ray).
    """

    kind: Annotated[Literal["ray", "local"], Field(description="where the members run")] = "ray"
    workers_per_member: Annotated[int, Field(ge=1, description="workers that train a member together")] = 1
    cpus_per_member: Annotated[int, Field(ge=1, description="CPUs a member owns")] = 1
    gpus_per_member: Annotated[float, Field(ge=0, allow_inf_nan=False, description="share of a GPU a member owns")] = (
        0.0
    )
    device: Annotated[str, Field(description="device of the local pool")] = "auto"
    address: Annotated[str | None, Field(description="address of a Ray cluster")] = None
    num_cpus: Annotated[Annotated[int, Field(ge=1)] | None, Field(description="CPUs of the private Ray")] = None
    dashboard: Annotated[bool, Field(description="start Ray's dashboard")] = False
    storage: Annotated[str | None, Field(description="where checkpoints go")] = None
    retries: Annotated[int, Field(ge=0, description="restarts after a process died")] = 3
    autoscaling: Annotated[bool, Field(description="ask the cluster to grow")] = False


@dataclass(frozen=True)
class Spec:
    """Everything needed to run something again.

    Args:
        method: name of the method.
        parameters: the method's constructor keywords that were given.
        dataset: name or path.
        dataset_options: options of `load` that were given.
        pool: where the members run.
    """

    method: str
    dataset: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    pool: PoolOptions = field(default_factory=PoolOptions)

    @property
    def title(self) -> str:
        """What the dashboard calls it, as in "selective/usps/seed3"."""
        return f"{self.method}/{Path(self.dataset).stem}/seed{self.parameters.get('random_state', 0)}"

    @property
    def n_members(self) -> int:
        """Number of members of the ensemble."""
        from distclust.methods import method_parameters

        return int(self.parameters.get("n_members", method_parameters(self.method)["n_members"].default))

    def to_yaml(self) -> str:
        """Return the specification as YAML that `read` understands."""
        given = {n: v for n, v in vars(self.pool).items() if v != declared(PoolOptions)[n].default}
        nested = {
            "method": self.method,
            "dataset": {"name": self.dataset, **self.dataset_options} if self.dataset_options else self.dataset,
            **self.parameters,
            **({"pool": given} if given else {}),
        }
        return as_yaml(nested)

    def load(self) -> Dataset:
        """Return the dataset."""
        from distclust.data import load

        return load(self.dataset, **self.dataset_options)

    def check(self) -> None:
        """Check method and parameters as far as they can be without the data, and without loading torch.

        Raises:
            UnknownNameError: no such method.
            ParameterError: parameters that are unknown or cannot be used, all faults together.
        """
        from distclust.methods import method_parameters

        check_known(method_parameters(self.method), self.parameters, others=("dataset", "method"))

    def check_data(self) -> None:
        """Check the dataset's name or path and its options, without reading it.

        Raises:
            UnknownNameError, ParameterError, DataError: see `data.load`.
        """
        from distclust.data.catalogue import check

        check(self.dataset, self.dataset_options)

    def estimator(self, data: Dataset) -> EnsembleClusterer:
        """Return the method with its parameters; the number of clusters is the data's unless it was given.

        Raises:
            UnknownNameError, ParameterError: as `check`, or there is no number of clusters to be had.
        """
        from distclust.methods import method_class

        self.check()
        if "n_clusters" not in self.parameters and data.n_clusters is None:
            raise ParameterError(
                [
                    f"n_clusters is missing: {data.name} has no known number of classes. Add n_clusters=10, or look "
                    f"for a number with tune_configs/choose_k.yaml."
                ]
            )
        return method_class(self.method)(**{"n_clusters": data.n_clusters, **self.parameters})

    def make_pool(self, storage: str, listener: Listener | None = None) -> Pool:
        """Return the pool.

        Args:
            storage: where checkpoints go unless the specification says it.
            listener: see `contracts.Event`.

        Raises:
            ParameterError: the pool's options do not go together.
        """
        o = self.pool
        if faults := _pool_faults(o):
            raise ParameterError(faults)
        where = o.storage or storage
        if o.kind == "local":
            from distclust.distributed.pool import LocalPool

            return LocalPool(cpus_per_member=o.cpus_per_member, device=o.device, storage=where, listener=listener)
        if o.workers_per_member > 1:
            from distclust.distributed.data_parallel import DataParallelPool

            return DataParallelPool(
                workers_per_member=o.workers_per_member,
                cpus_per_worker=o.cpus_per_member // o.workers_per_member,
                gpus_per_worker=int(o.gpus_per_member) // o.workers_per_member,
                address=o.address,
                num_cpus=o.num_cpus,
                dashboard=o.dashboard,
                storage=where,
                retries=o.retries,
                listener=listener,
            )
        from distclust.distributed.ray_pool import RayPool

        return RayPool(
            cpus_per_member=o.cpus_per_member,
            gpus_per_member=o.gpus_per_member,
            address=o.address,
            num_cpus=o.num_cpus,
            dashboard=o.dashboard,
            storage=where,
            retries=o.retries,
            autoscaling=o.autoscaling,
            name=self.title,
            listener=listener,
        )


def over(base: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a base changed by others; with another dataset the options of the earlier one go."""
    kept = {k: v for k, v in base.items() if "dataset.name" not in keys or not k.startswith("dataset.")}
    return kept | dict(keys)


def read(config: str | Path | None = None, words: Sequence[str] = (), method: str | None = None) -> Spec:
    """Return the specification from a YAML file, overridden by key=value words.

    Keys are the method's parameters, `dataset`, `dataset.OPTION` and `pool.OPTION`; in YAML they may be nested.

    Args:
        config: path of a YAML file; None = the defaults.
        words: "key=value", see `split_word`.
        method: name of the method, before any other.

    Raises:
        InputError: the file cannot be read, a word is no key=value, or a key or a pool option cannot be used.
    """
    flat: dict[str, Any] = dict(MAIN_JOB if config is None else BASE)
    for later in ({} if config is None else read_yaml(Path(config)), dict(split_word(word) for word in words)):
        flat = over(flat, flattened(later))
    if method is not None:
        flat["method"] = method
    return from_flat(flat)


def with_pool(spec: Spec, words: Sequence[str]) -> Spec:
    """Return the specification with pool options changed by "pool.OPTION=value" words."""
    changed = {key.removeprefix("pool."): value for key, value in map(split_word, words)}
    return replace(spec, pool=_pool(vars(spec.pool) | changed))


def from_flat(flat: Mapping[str, Any]) -> Spec:
    """Return the specification of keys without nesting: parameters, method, dataset, dataset.OPTION, pool.OPTION.

    Raises:
        ParameterError: a key or a pool option cannot be used, all faults together.
    """
    faults: list[str] = []
    pool: dict[str, Any] = {}
    options: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for key, value in flat.items():
        head, _, tail = key.partition(".")
        if key in ("method", "dataset", "dataset.name"):
            continue
        if tail and head == "pool":
            pool[tail] = value
        elif tail and head == "dataset":
            options[tail] = value
        elif key == "pool":
            if value is not None:
                faults.append(f"pool={as_word(value)} cannot be used: say which option, as in pool.kind=local.")
        elif tail:
            near = nearest(head, ("dataset", "pool"))
            hint = f" Did you mean {near}.{tail}?" if near else ""
            faults.append(
                f"{key}={as_word(value)} cannot be used: keys with a dot begin with 'dataset.' or 'pool.'.{hint}"
            )
        else:
            parameters[key] = value
    dataset = flat["dataset.name"] if "dataset.name" in flat else flat["dataset"]
    if not isinstance(flat["method"], str):
        faults.append(f"method={as_word(flat['method'])} cannot be used: give a name, as in method=selective.")
    if not isinstance(dataset, str):
        faults.append(f"dataset={as_word(dataset)} cannot be used: give a name or a path, as in dataset=my.csv.")
    try:
        pool_options = _pool(pool)
    except ParameterError as error:
        faults += error.faults
    if faults:
        raise ParameterError(faults)
    return Spec(flat["method"], dataset, parameters, options, pool_options)


def _pool(given: Mapping[str, Any]) -> PoolOptions:
    options = PoolOptions(**check(PoolOptions, given, kind="pool option", of="pool"))
    if faults := _pool_faults(options):
        raise ParameterError(faults)
    return options


def _pool_faults(options: PoolOptions) -> list[str]:
    """Return what is wrong between the options of several workers a member."""
    workers, cpus, gpus = options.workers_per_member, options.cpus_per_member, options.gpus_per_member
    if workers == 1:
        return []
    given = f"{option('workers_per_member', workers, of='pool')} cannot be used with"
    several = option("cpus_per_member", workers, of="pool")
    faults = []
    if options.autoscaling:
        faults.append(
            f"{given} {option('autoscaling', True, of='pool')}: it takes the nodes that are there. Leave it out."
        )
    if options.kind == "local":
        faults.append(
            f"{given} {option('kind', 'local', of='pool')}, which has one process. "
            f"Use {option('kind', 'ray', of='pool')}, or {option('workers_per_member', 1, of='pool')}."
        )
    if cpus % workers:
        faults.append(
            f"{given} {option('cpus_per_member', cpus, of='pool')}: the member's CPUs are divided among its workers. "
            f"Give {several} or a multiple of it."
        )
    if gpus not in (0, workers):
        faults.append(
            f"{given} {option('gpus_per_member', gpus, of='pool')}: a worker owns one GPU or none. "
            f"Give {option('gpus_per_member', workers, of='pool')} or 0."
        )
    return faults


def as_yaml(nested: Mapping[str, Any]) -> str:
    """Return nested mappings as YAML that `read_yaml` understands."""
    return dumped(_listed(nested))


def reading(keys: tuple[str, ...]) -> Reading:
    """Return how the value of a key of a run is read, given the key or those that it is nested in.

    One rule for files and words: what a method, the data or the pool declares of the key decides.
    """
    head, _, tail = ".".join(keys).partition(".")
    if head == "dataset":
        from distclust.data.catalogue import READINGS

        return READINGS.get(tail, "value") if tail and tail != "name" else "text"
    if head == "pool":
        pool = declared(PoolOptions)
        return pool[tail].reading if tail in pool else "value"
    from distclust.methods import parameter_readings

    return parameter_readings().get(head, "value") if head != "method" else "text"


def read_yaml(path: Path, readings: Readings = reading) -> dict[str, Any]:
    """Return the content of a YAML file of key: value pairs.

    Args:
        path: of the file.
        readings: how the values of its keys are read.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        found = parsed(path.read_text(encoding="utf-8"), readings)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error}); give the path of a YAML file.") from error
    except NotYaml as error:
        raise InputError(f"{path} is not valid YAML: {error}. Correct it there.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold key: value pairs, as in 'dataset: digits'; it holds {found!r:.60}.")
    return found


def split_word(word: str, readings: Readings = reading) -> tuple[str, Any]:
    """Return key and value of a "key=value" word.

    A text is taken as it is typed, several are `a,b` or `[a, b]`; nothing is None, and so is null where no column, name
    or place in the data may be called so. Other values are read as YAML, in which " #" begins no comment.

    Args:
        word: as the shell gave it.
        readings: how the values of keys are read.

    Raises:
        InputError: it is no such word.
    """
    key, sign, value = word.partition("=")
    if not sign or not key:
        from distclust.data.catalogue import is_data

        cure = f" Data is given as {as_typed('dataset', word)}." if is_data(word) else ""
        raise InputError(f"{word!r} cannot be used: it is no key=value pair, as sigma=50 is.{cure}")
    keys, how = (key,), readings((key,))
    if value == "null" and how in ("text or null", "text or values"):
        return key, None
    if how in ("text", "text or null") and not _names_a_dataset(key, value):
        return key, None if not value and key not in _NEEDED else value
    if how == "name":
        return key, None if value in _NULLS else value
    listed = value.startswith("[") and value.endswith("]")
    if how in ("texts", "text or values") and not listed:
        several = [text.strip() for text in value.split(",")] if how == "texts" else [value]
        return key, several if len(several) > 1 else value or None
    try:
        return key, parsed(value, readings, keys, comments=False)
    except NotYaml as error:
        raise InputError(f"{word!r} cannot be used: {value!r} is not valid YAML. Put it in quotes.") from error


def _names_a_dataset(key: str, value: str) -> bool:
    """Return whether a word says the data's name and options at once, as dataset={name: blobs, n_samples: 100} does."""
    return key == "dataset" and bool(re.match(r"\{\s*name\s*:.*\}\Z", value, re.DOTALL))


def flattened(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings as one, with keys like "dataset.n_samples"; the dataset's name as "dataset.name" too."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": v for inner, v in flattened(value).items()}
        else:
            flat[key] = plain_value(value)
    if "dataset" in flat:
        flat["dataset.name"] = flat["dataset"]
    return flat


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    value = plain_value(value)
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
