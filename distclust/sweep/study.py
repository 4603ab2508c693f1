"""A study: a base specification, a space of what varies, and how to choose, from one YAML file."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from distclust.errors import (
    DataError,
    InputError,
    Message,
    ParameterError,
    UnknownNameError,
    either,
    option,
    unknown_name,
)
from distclust.errors import (
    given as as_given,
)
from distclust.parameters import check, declared, plain_value
from distclust.published import table_names
from distclust.seeding import generator
from distclust.spec import BASE, PoolOptions, Spec, as_yaml, flattened, from_flat, over, read_yaml, reading, split_word
from distclust.yaml12 import Reading

SEED = "random_state"
LABEL_FREE = ("stability", "agreed", "agreement", "effective_clusters", "silhouette")
OF_SEVERAL = ("stability", "agreed", "agreement")  # those that compare the members of a trial
ORACLES = ("oracle_acc", "oracle_nmi", "oracle_ari", "oracle_kl_star")
TO_BE_SMALL = ("oracle_kl_star",)

_STUDY = either("study: ", "")  # how a fault of its options begins
_LISTED = ("grid", "seeds", "cases")  # kinds of axes whose values are all tried
_DRAWN = ("choice", "uniform", "log-uniform")  # kinds whose values are drawn
_SECTIONS = ("space", "study", "size")
# Keys that change what a round is, so that trials which differ in them cannot be compared round by round.
_ROUND_KEYS = {"method", "dataset", "n_rounds", "n_epochs", "pretrain_epochs", "epochs", "encoder", "backbone"}


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """How a study is run and what it chooses by.

    Args:
        objective: what is to be great: "stability" (mean adjusted Rand index between members, or between seeds where a
            trial has a single member), "agreed" (share of agreed points), "agreement", "effective_clusters",
            "silhouette", or, with true labels in sight, "oracle_acc", "oracle_nmi", "oracle_ari", "oracle_kl_star" (to
            be small).
        n_trials: how often the axes that are drawn from are drawn, each time with all values of the others.
        seed: of these draws.
        search: "random" draws on its own, "optuna" by what earlier trials gave (needs the extra `optuna`).
        scheduler: "none", or "asha", which ends trials early that are behind after a round.
        workers: members of a trial that train at the same time.
        concurrent: trials at the same time; None = as many as fit.
        choose: the axis of which a value is to be recommended without labels, see `choice`; None = none.
        resample: share of the points that each seed is given, drawn by it, in (0, 1); with `choose`; None = all.
        measures: what else to measure at the end of a trial: "silhouette" of the labels in the latents of a member,
            "probes" (with true classes), "soft" (entropies, variances and KL* of the soft assignments), "sizes" of the
            clusters by class (with true classes). A single member is measured whether it votes or not.
        published: the tables to compare with, as `table` names them, or one of them; None = none.
        published_method: their method, where no axis `method` says it.
        published_setting: their setting, where no axis `setting` says it.
        published_names: name of a case -> the dataset, method or setting that it is in the tables, where its own name
            does not say it.
    """

    objective: Annotated[str, Field(description="what is to be great")] = "stability"
    n_trials: Annotated[int, Field(ge=1, description="how often the drawn axes are drawn")] = 20
    seed: Annotated[int, Field(ge=0, description="of the draws")] = 0
    search: Annotated[Literal["random", "optuna"], Field(description="how values are drawn")] = "random"
    scheduler: Annotated[Literal["none", "asha"], Field(description="what ends trials early")] = "none"
    workers: Annotated[int, Field(ge=1, description="members of a trial at the same time")] = 1
    concurrent: Annotated[Annotated[int, Field(ge=1)] | None, Field(description="trials at the same time")] = None
    choose: Annotated[str | None, Field(description="axis of which a value is to be recommended")] = None
    resample: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None, Field(description="share of the points that each seed is given")
    ] = None
    measures: Annotated[
        tuple[Literal["silhouette", "probes", "soft", "sizes"], ...], Field(description="what else to measure")
    ] = ("silhouette",)
    published: Annotated[tuple[str, ...] | str | None, Field(description="tables to compare with")] = None
    published_method: Annotated[str | None, Field(description="their method")] = None
    published_setting: Annotated[str | None, Field(description="their setting")] = None
    published_names: Annotated[
        Mapping[str, Mapping[Literal["dataset", "method", "setting"], str]] | None,
        Field(description="what cases are called in the tables"),
    ] = None

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables to compare with."""
        return (self.published,) if isinstance(self.published, str) else self.published or ()


@dataclass(frozen=True)
class Axis:
    """Something that varies.

    Args:
        name: a key of the specification, or any name where the values are cases.
        kind: "grid", "seeds" (integers), "cases" (named sets of keys): all values are tried. "choice", "uniform" and
            "log-uniform" (between two numbers): values are drawn.
        values: those of grid, seeds and choice; the names of the cases; the two ends.
        cases: name -> key -> value, for cases.
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether values are drawn."""
        return self.kind in _DRAWN

    def keys(self, value: Any) -> dict[str, Any]:
        """Return the keys of the specification that a value of the axis sets."""
        return dict(self.cases[value]) if self.kind == "cases" else flattened({self.name: value})

    def draw(self, seed: int, index: int) -> Any:
        """Return the value of a draw; the same for the same axis, seed and index."""
        rng = generator(seed, f"axis {self.name}", round=index)
        if self.kind == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        low, high = self.values
        if self.kind == "log-uniform":
            return float(math.exp(rng.uniform(math.log(low), math.log(high))))
        return float(rng.uniform(low, high))


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Args:
        name: tells it from all others of the study, fit for a file; the same for the same specification.
        title: what the dashboards call it, as in "combination/usps/seed3".
        spec: what runs.
        values: axis -> value or name of the case, the seed among them.
    """

    name: str
    title: str
    spec: Spec
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A base specification, the axes of what varies, and the options.

    Args:
        name: that of its file.
        base: keys of the specification, without nesting.
        axes: in the order of the tables.
        options: see `StudyOptions`.
    """

    name: str
    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    options: StudyOptions

    @property
    def pool(self) -> PoolOptions:
        """Where trials run."""
        return from_flat({**flattened(BASE), **{k: v for k, v in self.base.items() if k.startswith("pool.")}}).pool

    @property
    def shown(self) -> tuple[str, ...]:
        """The axes that tell settings apart, without the seed."""
        return tuple(axis.name for axis in self.axes if axis.name != SEED)

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return next((len(axis.values) for axis in self.axes if axis.name == SEED), 1)

    @property
    def references(self) -> tuple[str, ...]:
        """The axes that tell the data from structureless references to it."""
        return tuple(a.name for a in self.axes if any("dataset.reference" in a.keys(value) for value in a.values))

    def trial(self, values: Mapping[str, Any]) -> Trial:
        """Return the trial at one value of every axis (axis -> value, or the name of a case).

        Raises:
            ParameterError: the keys do not make a specification, all faults together.
        """
        flat = dict(self.base)
        for axis in self.axes:
            flat |= axis.keys(values[axis.name])
        if self.options.resample is not None:
            flat |= {"dataset.resample": self.options.resample, "dataset.resample_draw": flat.get(SEED, 0)}
        spec = from_flat(flat)
        told = replace(spec, pool=PoolOptions()).to_yaml()  # where it runs is no part of what it is
        digest = hashlib.blake2b(told.encode(), digest_size=3).hexdigest()
        seed = spec.parameters.get(SEED, 0)
        named = [value_text(values[name]) for name in self.shown]
        what = [spec.method, Path(spec.dataset).stem]
        title = "/".join([*what, *(word for word in named if word not in (*what, spec.dataset))])
        slug = re.sub(r"[^a-z0-9.]+", "-", "-".join(named).lower()).strip("-.")[:60] or spec.method
        return Trial(f"{slug}-seed{seed}-{digest}", f"{title}/seed{seed}", spec, dict(values))

    def trials(self) -> list[Trial]:
        """Return all trials that are known beforehand, each once; with search="optuna" none."""
        return list(self._trials)

    @cached_property
    def _trials(self) -> list[Trial]:
        if self.options.search == "optuna":
            return []
        drawn = [axis for axis in self.axes if axis.drawn]
        draws = range(self.options.n_trials if drawn else 1)
        listed = [axis for axis in self.axes if not axis.drawn]
        found: dict[str, Trial] = {}
        for *combination, index in itertools.product(*(axis.values for axis in listed), draws):
            values = dict(zip((axis.name for axis in listed), combination, strict=True))
            values |= {axis.name: axis.draw(self.options.seed, index) for axis in drawn}
            trial = self.trial({axis.name: values[axis.name] for axis in self.axes})
            found.setdefault(trial.name, trial)
        return list(found.values())

    def to_yaml(self) -> str:
        """Return the study as YAML that `read_study` understands."""
        options = {n: v for n, v in vars(self.options).items() if v != declared(StudyOptions)[n].default}
        space = {a.name: {a.kind: a.cases if a.kind == "cases" else a.values} for a in self.axes}
        return as_yaml({"name": self.name, **self.base, "space": space, **({"study": options} if options else {})})

    def check(self) -> None:
        """Check all that can be checked without the data.

        Raises:
            UnknownNameError: no such method.
            ParameterError: all faults together.
        """
        faults = _option_faults(self) + _published_faults(self.options) + _choice_faults(self)
        for trial in self.samples():
            try:
                trial.spec.check()
            except ParameterError as error:
                faults += error.faults
            except UnknownNameError as error:
                faults.append(error.message)
        faults = faults or _objective_faults(self)
        if faults:
            raise ParameterError(dict.fromkeys(faults))

    def check_data(self) -> None:
        """Check the datasets' names or paths and their options, without reading any.

        Raises:
            UnknownNameError, ParameterError: see `data.load`.
            DataError: no dataset of the study can be had; if one can, the others are reported with the results.
        """
        specs = {str((spec.dataset, spec.dataset_options)): spec for spec in (t.spec for t in self.samples())}
        missing = []
        for spec in specs.values():
            try:
                spec.check_data()
            except DataError as error:
                missing.append(error.message)
        if len(missing) == len(specs):
            raise no_data(missing)

    def samples(self) -> list[Trial]:
        """Return trials to check the study by: all that are known beforehand, or some, with every value of choices."""
        values = {axis.name: _any(axis) for axis in self.axes}
        choices = [{axis.name: value} for axis in self.axes if axis.kind == "choice" for value in axis.values]
        return self.trials() or [self.trial(values | choice) for choice in choices or [{}]]


def no_data(causes: Iterable[Message]) -> DataError:
    """Return what to say where no dataset of a study can be had."""
    return DataError("no dataset of the study can be had:\n" + "\n".join(cause.marked for cause in causes))


def read_study(path: str | Path, words: Sequence[str] = ()) -> Study:
    """Return the study of a YAML file, changed by key=value words.

    Beside the keys of a run the file has `space` (axis -> {kind: values}), `study` (see `StudyOptions`) and `size`
    (name -> keys, space and study of that size). Words: `size=NAME`, `study.OPTION=...`, `space.AXIS={kind: values}`,
    `AXIS=value` for one value of an axis (one of its cases by name), and any key of a run, also in the place of what
    cases say. With another dataset the options of one that was named go, those that the file gives to any stay.

    Args:
        path: of the file.
        words: "key=value", see `spec.split_word`.

    Raises:
        InputError: the file or a word cannot be used, all faults together.
    """
    found = read_yaml(Path(path), _reading)
    cases = {
        name for name, axis in _section(found, "space", path).items() if isinstance(axis, dict) and "cases" in axis
    }
    given = dict(split_word(word, lambda keys: "text" if keys[0] in cases else _reading(keys)) for word in words)
    parts = [found, *_of_size(found, given.pop("size", None), Path(path))]
    base: dict[str, Any] = flattened(BASE)
    space: dict[str, Any] = {}
    options: dict[str, Any] = {}
    of_any: dict[str, Any] = {}  # options of the dataset, whichever it is
    for part in parts:
        keys = flattened({k: v for k, v in part.items() if k not in (*_SECTIONS, "name")})
        of_any = {} if "dataset.name" in keys else of_any | {k: v for k, v in keys.items() if k.startswith("dataset.")}
        base = over(base, keys)
        space |= _section(part, "space", path)
        options |= _section(part, "study", path)
    space |= {k.removeprefix("space."): given.pop(k) for k in list(given) if k.startswith("space.")}
    options |= {k.removeprefix("study."): given.pop(k) for k in list(given) if k.startswith("study.")}
    axes, faults = _axes(space)
    axes, keys, more = _fixed(axes, given)
    try:
        checked = StudyOptions(**check(StudyOptions, options, kind="study option", of="study"))
    except ParameterError as error:
        faults += [fault.after(_STUDY) for fault in error.faults]
    if faults + more:
        raise ParameterError(faults + more)
    base = {key: value for key, value in (of_any | over(base, keys)).items() if key != "dataset"}  # has dataset.name
    return Study(str(found.get("name", Path(path).stem)), base, tuple(axes), checked)


def _reading(keys: tuple[str, ...]) -> Reading:
    """Return how the value of a key of a study is read: as the key of a run that it sets, wherever it stands."""
    section, _, tail = keys[0].partition(".")
    inside = ((tail,) if tail else ()) + keys[1:]
    if section == "study":
        options = declared(StudyOptions)
        return options[inside[0]].reading if inside and inside[0] in options else "value"
    if section == "size":  # NAME: keys
        return _reading(inside[1:]) if len(inside) > 1 else "text"
    if section != "space":
        return "text" if keys == ("name",) else reading(keys)
    if inside[1:2] == ("cases",):  # AXIS: {cases: {NAME: keys}}
        return reading(inside[3:]) if len(inside) > 3 else "text"
    return reading(inside[:1]) if len(inside) == 2 else "value"  # AXIS: {kind: values}


def _of_size(found: Mapping[str, Any], name: Any, path: Path) -> list[Mapping[str, Any]]:
    """Return what a size changes, in a list; that of "full" where none is named and it is there."""
    sizes = _section(found, "size", path)
    if name is None:
        return [_section(sizes, "full", path)] if "full" in sizes else []
    if not isinstance(name, str) or name not in sizes:
        raise UnknownNameError("size", name, sizes, f"Sizes are the keys under `size:` in {path}.")
    return [_section(sizes, name, path)]


def _section(part: Mapping[str, Any], name: str, path: str | Path) -> dict[str, Any]:
    section = part.get(name) or {}
    if not isinstance(section, dict):
        raise InputError(f"{name}: {section!r:.60} in {path} cannot be used: it must hold key: value pairs.")
    return section


def _axes(space: Mapping[str, Any]) -> tuple[list[Axis], list[str]]:
    axes: list[Axis] = []
    faults: list[str] = []
    for name, given in space.items():
        try:
            axes.append(_axis(name, given))
        except InputError as error:
            faults.append(error.message)
    return axes, faults


def _axis(name: str, given: Any) -> Axis:
    kinds = (*_LISTED, *_DRAWN)
    if not isinstance(given, dict) or len(given) != 1:
        raise InputError(
            f"space.{name}={given!r} cannot be used: say how it varies, as in {name}: {{grid: [1, 2]}}; "
            f"there are {', '.join(kinds)}."
        )
    ((kind, values),) = given.items()
    if kind not in kinds:
        raise InputError(f"space.{name}: {unknown_name('kind', kind, kinds)}")
    if kind == "cases":
        return _cases(name, values)
    if kind == "seeds" and isinstance(values, int) and not isinstance(values, bool):
        values = list(range(values))
    if not isinstance(values, list | tuple) or not values:
        raise InputError(f"space.{name}={given!r} cannot be used: {kind} takes a list of at least one value.")
    if kind in ("uniform", "log-uniform"):
        _check_ends(name, kind, values)
    return Axis(name, kind, tuple(plain_value(value) for value in values))


def _cases(name: str, given: Any) -> Axis:
    if not isinstance(given, dict) or not given or not all(isinstance(v, dict | None) for v in given.values()):
        raise InputError(
            f"space.{name}={given!r:.80} cannot be used: cases are names with key: value pairs, as in "
            f"{name}: {{cases: {{ours: {{support: greedy}}, none: {{support: none}}}}}}."
        )
    cases = {str(case): flattened(keys or {}) for case, keys in given.items()}
    return Axis(name, "cases", tuple(cases), cases)


def _check_ends(name: str, kind: str, values: Sequence[Any]) -> None:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    least = "0 < low < high" if kind == "log-uniform" else "low < high"
    if not numbers or len(values) != 2 or not values[0] < values[1] or (kind == "log-uniform" and values[0] <= 0):
        raise InputError(f"space.{name}={{{kind}: {list(values)}}} cannot be used: it takes [low, high], {least}.")


def _fixed(axes: Sequence[Axis], given: Mapping[str, Any]) -> tuple[list[Axis], dict[str, Any], list[str]]:
    """Return axes of which some are fixed by words, the keys that remain, and what is wrong."""
    keys, faults, kept = flattened(given), [], []
    for axis in axes:
        if axis.name not in given:
            kept.append(_without(axis, keys))
            continue
        value = given[axis.name]
        if axis.kind != "cases":
            continue  # the key takes its place
        if value in axis.cases:
            keys = {key: v for key, v in keys.items() if key not in (axis.name, f"{axis.name}.name")}
            kept.append(_without(replace(axis, values=(value,), cases={value: axis.cases[value]}), keys))
        elif axis.name != "dataset":  # another dataset may take the place of all cases
            faults.append(unknown_name(f"case of {axis.name}", value, axis.cases))
    return kept, keys, faults


def _without(axis: Axis, keys: Mapping[str, Any]) -> Axis:
    """Return an axis whose cases leave out what words say; a dataset that a case names with its options."""

    def kept(key: str, case: Mapping[str, Any]) -> bool:
        renamed = "dataset.name" in keys and "dataset.name" in case
        return key not in keys and not (renamed and key.partition(".")[0] == "dataset")

    cases = {name: {k: v for k, v in case.items() if kept(k, case)} for name, case in axis.cases.items()}
    return replace(axis, cases=cases)


def _option_faults(study: Study) -> list[str]:
    """Return what is wrong between options and axes."""
    faults = []
    options, drawn = study.options, [axis for axis in study.axes if axis.drawn]
    if options.objective not in (*LABEL_FREE, *ORACLES):
        faults.append("study: " + unknown_name("objective", options.objective, (*LABEL_FREE, *ORACLES)))
    if options.search == "optuna" and (len(drawn) < len(study.axes) or not drawn):
        listed = ", ".join(axis.name for axis in study.axes if not axis.drawn) or "nothing"
        faults.append(
            f"{_STUDY}{as_given('search', 'optuna', of='study')} cannot be used with axes whose "
            f"values are listed ({listed}): write them as choice, or set them outside `space`."
        )
    varied = sorted({key for axis in study.axes for value in axis.values[:1] for key in axis.keys(value)} & _ROUND_KEYS)
    if options.scheduler == "asha" and varied:
        faults.append(
            f"{_STUDY}{as_given('scheduler', 'asha', of='study')} compares trials round by round and cannot "
            f"be used where {', '.join(varied)} varies. Use scheduler: none, or fix it."
        )
    if options.objective == "silhouette" and ("silhouette" not in options.measures or options.scheduler == "asha"):
        silhouette, none = as_given("objective", "silhouette", of="study"), option("scheduler", "none", of="study")
        faults.append(f"{_STUDY}{silhouette} needs it among `measures`, and {none}.")
    if study.pool.workers_per_member > 1:
        faults.append("pool.workers_per_member cannot be used in a sweep. Leave it out, or run trials one by one.")
    if study.pool.kind == "local" and (options.search == "optuna" or options.scheduler == "asha"):
        faults.append(
            f"{as_given('kind', 'local', of='pool')} runs trials one after another, without search and scheduler. Use "
            f"{option('kind', 'ray', of='pool')}."
        )
    return faults


def _choice_faults(study: Study) -> list[str]:
    """Return what is wrong with the axis that is to be chosen from."""
    name, resample = study.options.choose, study.options.resample
    if name is None:
        return [] if resample is None else ["study: resample is for studies that choose. Give study.choose, or none."]
    axes = {axis.name: axis for axis in study.axes if axis.name not in (SEED, *study.references)}
    if name not in axes or axes[name].drawn or len(axes[name].values) < 2:
        listed = [axis.name for axis in axes.values() if not axis.drawn and len(axis.values) > 1]
        return [
            f"{_STUDY}{as_given('choose', name, of='study')} cannot be used: it must be an axis of "
            "at least two listed values"
            + (f", one of {', '.join(listed)}." if listed else "; there is none. Add one to `space`.")
        ]
    faults = []
    if study.options.search == "optuna" or study.options.scheduler == "asha":
        faults.append("study: choose compares all seeds of all values. Give search: random and scheduler: none.")
    if study.options.objective.startswith("oracle_"):
        objective = as_given("objective", study.options.objective, of="study")
        faults.append(f"{_STUDY}choose goes by no true label, {objective} does. Leave it out.")
    members = min(trial.spec.n_members for trial in study.samples())
    if (members if study.seeds == 1 else study.seeds) < 3:
        faults.append("study: choose needs at least three labellings of each value. Give random_state: {seeds: 5}.")
    return faults


def _published_faults(options: StudyOptions) -> list[str]:
    """Return what is wrong with the tables to compare with: better before the trials than after them."""
    known = table_names() if options.tables else []
    return ["study: " + unknown_name("table", name, known) for name in options.tables if name not in known]


def _objective_faults(study: Study) -> list[str]:
    """Return what is wrong where stability or agreement has nothing to compare."""
    single, objective = [trial for trial in study.samples() if trial.spec.n_members < 2], study.options.objective
    if objective not in OF_SEVERAL or not single or study.options.choose is not None:
        return []
    seeds = next((axis for axis in study.axes if axis.name == SEED), None)
    alone = seeds is None or len(seeds.values) < 2
    guided = study.options.scheduler != "none" or study.options.search != "random"
    if objective == "stability" and not alone and not guided:
        return []
    return [
        f"study: there is no objective: {objective} compares members, and a trial ({single[0].title}) has a single one"
        + (" and no other seed. " if objective == "stability" and not guided else ". ")
        + f"Give n_members=2 or more{'' if guided else ', or objective: stability with random_state: {seeds: 2}'}, or "
        + f"another objective: {', '.join(name for name in LABEL_FREE if name not in OF_SEVERAL)}."
    ]


def _any(axis: Axis) -> Any:
    return axis.draw(0, 0) if axis.drawn else axis.values[0]


def value_text(value: Any) -> str:
    """Return the value of an axis as names and tables show it: four digits of a fraction, all of a whole number."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def grouped(trials: Iterable[Trial], shown: Sequence[str]) -> dict[tuple[Any, ...], list[Trial]]:
    """Return the trials by setting: the values of the axes `shown` -> the trials that differ in the seed alone."""
    found: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        found.setdefault(tuple(trial.values[name] for name in shown), []).append(trial)
    return found
