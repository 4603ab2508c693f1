"""What a report on a run is made from: what lies in the run's folder, its data, and latents of some points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from distclust import spec as specification
from distclust.command import typed
from distclust.contracts import Array, Dataset, Labels, Round
from distclust.errors import DataError, DistclustError, RunError, RunFolderError
from distclust.parameters import declared
from distclust.report.embeddings import chosen_points
from distclust.results import Labelled, RunFolder, measured
from distclust.seeding import generator
from distclust.spec import Spec

_LOOKED_AT = 2_000  # points at most, beside
_OF_EACH_CLUSTER = 20  # points at least, where it has as many


@dataclass(frozen=True, eq=False)
class Latents:
    """What a member makes of some of the points.

    Args:
        rows: (n,) which points, ascending.
        values: (n, D) finite.
        member: its index.
    """

    rows: Labels
    values: Array
    member: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a report is made from.

    Args:
        folder: name of the run's folder.
        spec: what was run.
        n_clusters: number of clusters K.
        labelled: the labels, with each point's agreement.
        rounds: what rounds.jsonl says, a mapping a round, at least one.
        finished: whether the run went to its end.
        with_truth: the figures with true classes, as `results.measured` gives them; None = no classes.
        calibration: what `calibration.Calibration` holds; None before the run is finished.
        verdict: as `results.told` gives it; None before the run is finished.
        baselines: as `results.baseline_figures` gives them.
        data: what it was run on; its classes are read for the part with true classes alone. None = cannot be had.
        latents: of some points; None = cannot be had.
        missing: why something cannot be had, a sentence: "data", "latents".
    """

    folder: str
    spec: Spec
    n_clusters: int
    labelled: Labelled
    rounds: Sequence[Mapping[str, Any]]
    finished: bool
    with_truth: Mapping[str, Any] | None
    calibration: Mapping[str, Any] | None
    verdict: Mapping[str, Any] | None
    baselines: Sequence[Mapping[str, Any]]
    data: Dataset | None
    latents: Latents | None
    missing: Mapping[str, str]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return _seed(self.spec)

    @property
    def voters(self) -> int:
        """How many had a vote in the last round."""
        return int(self.rounds[-1]["voters"])

    @property
    def has_agreement(self) -> bool:
        """Whether there is an agreement to report: not with a single member."""
        return not np.isnan(self.labelled.share).all()

    @property
    def members(self) -> Sequence[Mapping[str, Any]]:
        """What the last round says of each member: status, cause, and its figures."""
        found: Sequence[Mapping[str, Any]] = self.rounds[-1]["members"]
        return found

    def parameter(self, name: str) -> Any:
        """Return the value of a parameter of the method, given or by default; None where it has no such parameter."""
        return _parameter(self.spec, name)


def gathered(folder: RunFolder, data: Dataset | None = None) -> Evidence:
    """Return what a report on a run can be made from, whether it is finished or not.

    Args:
        folder: of the run.
        data: what it was run on; None = load it.

    Raises:
        RunFolderError: no round is finished, or a file cannot be read.
        InputError: its specification cannot be used.
    """
    spec = specification.read(folder.spec)
    spec.check()
    rounds, found, last = folder.rounds(), folder.metrics(), folder.last_round()
    labelled = folder.labels() or (None if last is None else _labelled(last))
    if labelled is None or not rounds:
        raise RunFolderError(
            f"{folder.path} has no finished round yet, so there is nothing to report; continue the run with "
            f"`{typed(['--resume', str(folder.path)])}`."
        )
    missing: dict[str, str] = {}
    try:
        data = _same(spec.load() if data is None else data, len(labelled.labels))
    except (DistclustError, OSError) as error:
        data, missing["data"] = None, str(error)
    n_clusters = found["n_clusters"] if found else _n_clusters(spec, labelled, data)
    if found is None and last is not None and data is not None:
        found = measured(last, data, n_clusters)
    latents = None
    try:
        votes = [member["status"] == "voting" for member in rounds[-1]["members"]]
        latents = _latents(folder, votes, data, points_to_look_at(labelled.labels, n_clusters, _seed(spec)))
    except (DistclustError, OSError) as error:
        missing["latents"] = str(error)
    return Evidence(
        folder=folder.path.resolve().name,
        spec=spec,
        n_clusters=n_clusters,
        labelled=labelled,
        rounds=rounds,
        finished=folder.finished,
        with_truth=found["with_truth"] if found else None,
        calibration=found.get("calibration") if found else None,
        verdict=found.get("verdict") if found else None,
        baselines=found.get("baselines", []) if found else [],
        data=data,
        latents=latents,
        missing=missing,
    )


def points_to_look_at(labels: Labels, n_clusters: int, seed: int) -> Labels:
    """Return the rows of 2,000 points and of 20 of each cluster, ascending; all there are, where there are fewer.

    The map's, `chosen_points` of the same seed, are among them.

    Args:
        labels: (N,) in -1 .. n_clusters - 1.
        n_clusters: number of clusters.
        seed: of the draw.
    """
    order = generator(seed, "points of a report").permutation(len(labels))
    by_cluster = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_cluster], np.arange(n_clusters + 1))
    of_each = [by_cluster[a:b][:_OF_EACH_CLUSTER] for a, b in pairwise(starts)]
    whole = chosen_points(len(labels), _LOOKED_AT, seed)
    return np.unique(np.concatenate([whole, *of_each]))


def _labelled(last: Round) -> Labelled:
    a = last.agreement
    return Labelled(np.arange(len(a.labels)), a.labels, a.share, a.agreed, a.aligned)


def _same(data: Dataset, n_samples: int) -> Dataset:
    """Return the data if it is what the run was on, as far as can be seen."""
    if len(data.x) != n_samples:
        raise DataError(f"{data.name} holds {len(data.x):,} points now, and the run was on {n_samples:,}.")
    return data


def _n_clusters(spec: Spec, labelled: Labelled, data: Dataset | None) -> int:
    """Return the number of clusters of a run that is not finished, as far as it is known."""
    known = spec.parameters.get("n_clusters") or (data.n_clusters if data else None)
    return known or int(max(labelled.labels.max(), labelled.aligned.max())) + 1


def _latents(folder: RunFolder, votes: Sequence[bool], data: Dataset | None, rows: Labels) -> Latents:
    """Return what the first member that has a vote, or else the first that is there, makes of some points.

    Raises:
        DistclustError: there is no data, no model, or no latents to show.
    """
    from distclust.distributed.pool import threads
    from distclust.methods.base import in_blocks
    from distclust.methods.saved import load_model

    if data is None:
        raise DataError("the data is missing.")
    if not (folder.path / "model").is_dir():
        raise RunFolderError("there is no model yet; it is written when a run ends.")
    model = load_model(folder.path / "model")
    if data.x.shape[1:] != model.shape_:
        raise DataError(f"the model is of points of shape {model.shape_}, and {data.name} has {data.x.shape[1:]} now.")
    there = [m for m, member in enumerate(model.members_) if member is not None]
    index = max(there, key=lambda m: (votes[m], -m))
    member: Any = model.members_[index]
    with threads(1):  # the numbers are then the same on any number of CPUs
        values = in_blocks(member.transform, data.x[rows])
    if not np.isfinite(values).all():
        raise RunError(f"the latents of member {index} are not all finite numbers; lower learning_rate.")
    return Latents(rows, values, index)


def _parameter(spec: Spec, name: str) -> Any:
    from distclust.methods import method_class

    known = declared(method_class(spec.method))
    return spec.parameters.get(name, known[name].default if name in known else None)


def _seed(spec: Spec) -> int:
    return int(_parameter(spec, "random_state"))
