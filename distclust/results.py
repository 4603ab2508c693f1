"""Where a run lands: a folder that pandas, TensorBoard and a browser can read without distclust."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from distclust import metrics
from distclust.contracts import Agreement, Array, Dataset, Labels, MemberOutput, Round, Status
from distclust.distributed.checkpoint import located, narrowed, pack, storage, unpack
from distclust.errors import RunError, RunFolderError
from distclust.methods.base import EnsembleClusterer, in_blocks
from distclust.methods.saved import save_model
from distclust.seeding import generator
from distclust.verdict import Evidence, Verdict, judge

_SPEC, _ROUNDS, _LABELS, _METRICS = "spec.yaml", "rounds.jsonl", "labels.parquet", "metrics.json"
_LAST = "last-round.safetensors"
_RELIABILITY_POINTS = 2_000
_SILHOUETTE_POINTS = 2_000


class Labelled(NamedTuple):
    """What labels.parquet holds."""

    rows: Labels  # (N,) its column `index`
    labels: Labels  # (N,) of the consensus, -1 = none
    share: npt.NDArray[np.float64]  # (N,) see `Agreement`
    agreed: npt.NDArray[np.bool_]  # (N,)
    aligned: Labels  # (M, N) the members' labels in the consensus' names


class Record:
    """What is stored of a run while it goes on, on a disk or behind a URI: rounds.jsonl and members/ (checkpoints).

    Args:
        where: folder, or URI that pyarrow's filesystems reach.
    """

    of_a_round: ClassVar[set[str]] = {"round", "seconds"}  # what a line of rounds.jsonl holds at least

    def __init__(self, where: str | Path) -> None:
        self.where = located(where)

    @property
    def members(self) -> str:
        """Where the members' checkpoints go."""
        return f"{self.where}/members"

    def store(self, round: Round, line: dict[str, Any] | None = None) -> None:
        """Store a round, so that the run can be resumed after it.

        Args:
            round: its labels.
            line: what rounds.jsonl says of it; None = its label-free figures.
        """
        lines = [json.dumps(one) for one in self.rounds()[: round.index]]
        lines.append(json.dumps(_finite(described(round) if line is None else line)))
        self.write(_ROUNDS, ("\n".join(lines) + "\n").encode())
        storage(self.members).write(_LAST, pack(_plain(round)))

    def last_round(self) -> Round | None:
        """Return the last round that was stored; None before the first."""
        data = storage(self.members).read(_LAST)
        return None if data is None else _round(unpack(data))

    def rounds(self) -> list[dict[str, Any]]:
        """Return what rounds.jsonl says, a mapping a round.

        Raises:
            RunFolderError: it cannot be read.
        """
        try:
            found = [json.loads(line) for line in (self.read(_ROUNDS) or b"").splitlines()]
            for line in found:
                _has(line, self.of_a_round)
        except (ValueError, TypeError) as error:
            raise RunFolderError(f"{_ROUNDS} in {self.where} cannot be read ({error}); put it back.") from error
        return found

    def store_labels(
        self,
        round: Round,
        rows: Labels | None = None,
        names: tuple[str, ...] | None = None,
        origins: Mapping[str, Array] | None = None,
    ) -> None:
        """Write labels.parquet.

        Args:
            round: its labels.
            rows: (N,) its column `index`, see `Dataset.rows`; None = 0 .. N - 1.
            names: (N,) its column `name`, see `Dataset.names`; None = no such column.
            origins: (N,) further columns, see `Dataset.origins`; None = none.
        """
        self.write(_LABELS, _parquet(round, rows, names, origins))

    def labels(self) -> Labelled | None:
        """Return what labels.parquet holds; None before there is one."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = self.read(_LABELS)
        if data is None:
            return None
        try:
            table = pq.read_table(pa.BufferReader(data))
            column = {name: table[name].to_numpy() for name in table.column_names}
            members = np.stack([column[name] for name in table.column_names if name.startswith("member")])
            return Labelled(column["index"], column["label"], column["agreement"], column["agreed"], members)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise RunFolderError(f"{_LABELS} in {self.where} cannot be read ({error}); put it back.") from error

    def forget_members(self) -> None:
        """Delete the members' checkpoints and the last round's labels: the run cannot be resumed any more."""
        folder = storage(self.members)
        for name in folder.names():
            folder.delete(name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        storage(self.where).write(name, data)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""
        return storage(self.where).read(name)


class RunFolder(Record):
    """A run's folder.

    Files: spec.yaml (everything needed to run it again), rounds.jsonl (a line a round), labels.parquet (index, name
    where the points have names, `Dataset.origins`, label, agreement, agreed, one column a member), metrics.json
    (label-free always; with truth only if there is any), model/, members/ (checkpoints), tensorboard/.

    Args:
        path: of the folder.
    """

    of_a_round: ClassVar[set[str]] = Record.of_a_round | {
        *("voters", "remarks", "members", "agreed", "agreement", "stability", "effective_clusters")
    }

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.path = Path(path)
        self._writer: Any = None  # of TensorBoard's events, one file a process

    @classmethod
    def create(cls, path: str | Path, spec: str) -> RunFolder:
        """Make the folder of a new run.

        Args:
            path: of the folder; must be empty or not there.
            spec: the run's specification, as YAML.

        Raises:
            RunFolderError: it holds something already, or cannot be made.
        """
        folder = cls(path)
        if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise RunFolderError(
                f"{folder.path} exists already and is not empty; choose another --out, or continue the run that lies "
                f"there with --resume {folder.path}"
            )
        there = folder.path.exists()
        try:
            folder.write(_SPEC, spec.encode())
        except RunFolderError:
            if not there:
                folder.discard()
            raise
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Return the folder of a run that was started before.

        Raises:
            RunFolderError: there is none.
        """
        folder = cls(path)
        if not (folder.path / _SPEC).is_file():
            raise RunFolderError(f"{folder.path} is not a run folder (it has no {_SPEC}); give one that a run made.")
        return folder

    @property
    def spec(self) -> Path:
        """Where the run's specification lies."""
        return self.path / _SPEC

    @property
    def finished(self) -> bool:
        """Whether the run went to its end."""
        return (self.path / _METRICS).is_file()

    def discard(self) -> None:
        """Delete the folder of a run that never began."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Close the file of TensorBoard's events."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def store(self, round: Round, line: dict[str, Any] | None = None) -> None:
        """Store a round, so that the run can be resumed after it, and show it in TensorBoard; see `Record`."""
        super().store(round, line)
        self._to_tensorboard(round)

    def metrics(self) -> dict[str, Any] | None:
        """Return what metrics.json says; None before the run is finished.

        Raises:
            RunFolderError: it cannot be read.
        """
        data = self.read(_METRICS)
        if data is None:
            return None
        try:
            return _has(json.loads(data), {"n_clusters", "with_truth"})
        except (ValueError, TypeError) as error:
            raise RunFolderError(f"{_METRICS} in {self.where} cannot be read ({error}); put it back.") from error

    def finish(self, model: EnsembleClusterer, data: Dataset) -> dict[str, Any]:
        """Write labels, model and metrics, and return the metrics.

        Args:
            model: fitted.
            data: what it was fitted on; the true classes, if there are any, are read here and nowhere before.
        """
        self.store_labels(model.last_round_, data.rows, data.names, data.origins)
        if not (self.path / "model").exists():
            save_model(model, self.path / "model")
        found = measured(model.last_round_, data, int(model.names_.shape[1]))
        found["calibration"] = model.calibration_._asdict()
        verdict = judge(model, data.x)
        found |= {"verdict": told(verdict), "baselines": baseline_figures(verdict.evidence)}
        if found["with_truth"] is not None:
            found["with_truth"]["reliability"] = reliability(model, data)
            found["with_truth"]["baselines"] = baseline_scores(verdict.evidence, data.y)
        self.write(_METRICS, (json.dumps(_finite(found), indent=1) + "\n").encode())
        return found

    def _to_tensorboard(self, round: Round) -> None:
        # Event by event: SummaryWriter hands them to a thread over a queue, and a thread that died would block the run.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        try:
            if self._writer is None:
                (self.path / "tensorboard").mkdir(exist_ok=True)
                self._writer = EventsWriter(str(self.path / "tensorboard" / "events"))
            for name, value in _scalars(round).items():
                self._writer.write_event(Event(wall_time=time.time(), step=round.index, summary=scalar(name, value)))
            self._writer.flush()
        except OSError as error:
            raise RunFolderError(f"cannot write to {self.path / 'tensorboard'} ({error}); make room there.") from error


def described(round: Round) -> dict[str, Any]:
    """Return a round's label-free figures, as rounds.jsonl holds them."""
    a = round.agreement
    free = metrics.label_free(a.labels, _n_names(a), share=a.share, agreed=a.agreed, aligned=a.aligned)
    return {
        "round": round.index,
        "seconds": round.seconds,
        "voters": a.voters,
        "remarks": list(a.remarks),
        **free,
        "agreed": free["agreed"] if len(a.aligned) > 1 else math.nan,  # one member agrees with nobody
        "members": [{"status": o.status, "cause": o.cause, **o.scores} for o in round.outputs],
    }


def measured(round: Round, data: Dataset, n_clusters: int) -> dict[str, Any]:
    """Return what is known of a result: label-free figures, and those with true classes if there are any.

    Members that collapsed or abstained count in the members' mean; only those that were lost have no scores.

    Args:
        round: the last one.
        data: with its true classes, if there are any.
        n_clusters: number of clusters.
    """
    found: dict[str, Any] = {"n_samples": len(data.x), "n_clusters": n_clusters, "label_free": described(round)}
    if data.y is None or not (data.y >= 0).any():
        return found | {"with_truth": None}
    y, a = data.y, round.agreement
    members = [None if o.status == "lost" else metrics.score(o.labels, y, n_clusters) for o in round.outputs]
    there = [m for m in members if m is not None]
    return found | {
        "with_truth": {
            "consensus": metrics.score(a.labels, y, n_clusters),
            "agreed_points": metrics.score(a.labels[a.agreed], y[a.agreed], n_clusters) if _known(y, a) else None,
            "members": members,
            "members_mean": {name: float(np.mean([m[name] for m in there])) for name in there[0]} if there else None,
            "members_std": {name: float(np.std([m[name] for m in there])) for name in there[0]} if there else None,
        }
    }


def told(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as metrics.json holds it: its name, level, line and advice, and the figures behind it."""
    e = verdict.evidence
    return {
        "name": verdict.name,
        "level": verdict.level,
        "line": verdict.line,
        "advice": verdict.advice,
        "n_points": len(e.rows),
        "stability": e.stability,
        "stability_before_training_on_agreement": e.independent,
        "stability_by_chance": e.chance,
        "clusters": e.n_used,
        "separated_clusters": e.n_separated,
        "separation": [float(value) for value in e.separation],
    }


def baseline_figures(evidence: Evidence) -> list[dict[str, Any]]:
    """Return what needs no label of the baselines: name, n_points, stability, agreement with the consensus, sizes."""
    return [
        {
            "name": baseline.name,
            "n_points": len(evidence.rows),
            "stability": baseline.stability,
            "agreement_with_consensus": evidence.agreement_with(baseline),
            "effective_clusters": float(np.mean([metrics.effective_clusters(row) for row in baseline.labels])),
        }
        for baseline in evidence.baselines
    ]


def baseline_scores(evidence: Evidence, y: Labels | None) -> list[dict[str, float] | None]:
    """Return the baselines' scores with true classes, means over their seeds; None where no class is known."""
    assert y is not None
    known = y[evidence.rows]
    found: list[dict[str, float] | None] = []
    for baseline in evidence.baselines:
        scores = (
            [metrics.score(row, known, evidence.n_clusters) for row in baseline.labels] if (known >= 0).any() else []
        )
        found.append({name: float(np.mean([one[name] for one in scores])) for name in scores[0]} if scores else None)
    return found


def reliability(model: EnsembleClusterer, data: Dataset) -> dict[str, Any] | None:
    """Return how far a point's agreement, and the probability of its label, can be taken at their word.

    Args:
        model: fitted.
        data: what it was fitted on, with true classes. 2,000 points that have a label and a class are looked at, drawn
            by the model's seed, as every member has to predict them; all, if there are fewer.

    Returns:
        n_samples, and for "agreement" and "predict_proba" the expected_calibration_error and the bins of
        `metrics.reliability`; "agreement" is left out for a single member, "predict_proba" where the model predicts no
        new points. None where no point has a label and a class, or both are left out.
    """
    assert data.y is not None
    known = np.flatnonzero((data.y >= 0) & (model.labels_ >= 0))
    drawn = generator(model.random_state, "points whose reliability is measured").permutation(len(known))
    rows = np.sort(known[drawn[:_RELIABILITY_POINTS]])
    if not len(rows):
        return None
    labels, y = model.labels_[rows], data.y[rows]
    confidences = {} if model.n_members == 1 else {"agreement": model.agreement_[rows]}
    with contextlib.suppress(RunError):  # selective pseudo-labels that ended before their classifiers saw a target
        probability = model.predict_proba(data.x[rows])[np.arange(len(rows)), labels]
        confidences["predict_proba"] = probability.clip(0, 1)
    found: dict[str, Any] = {"n_samples": len(rows)}
    for name, confidence in confidences.items():
        bins = metrics.reliability(confidence, labels, y)
        error = metrics.expected_calibration_error(bins)
        found[name] = {"expected_calibration_error": error, "bins": [asdict(b) for b in bins]}
    return found if confidences else None


def figures(round: Round, data: Dataset, n_clusters: int) -> dict[str, float]:
    """Return a round's figures by plain names, those with true classes under names that begin with "oracle_".

    Args:
        round: its outputs and agreement.
        data: with its true classes, if there are any.
        n_clusters: number of clusters.

    Returns:
        voters, abstained, collapsed and lost (numbers of members), seconds, effective_clusters, largest_cluster and
        unlabelled; with true classes oracle_acc, oracle_nmi, oracle_ari and oracle_kl_star. They are of a single
        member's own labels, whether it votes or not, else of the consensus; where none of several members votes, the
        three of the clusters' sizes are means over the members' own labels. nan = no labels to measure.
        Only with several members: stability (over all pairs of members, one with a member that does not vote counts 0;
        nan with fewer than two voters), agreed, agreement and, with true classes, oracle_agreed_acc and
        oracle_members_acc, the mean over all members but the lost ones.
    """
    found = measured(round, data, n_clusters)
    free, truth = found["label_free"], found["with_truth"]
    plain = {name: value for name, value in free.items() if isinstance(value, int | float) and name != "round"}
    plain |= {status: sum(o.status == status for o in round.outputs) for status in ("abstained", "collapsed", "lost")}
    plain |= _sizes(round, n_clusters)
    alone = len(round.outputs) == 1
    if alone:  # one member agrees with nobody
        plain = {name: value for name, value in plain.items() if name not in ("stability", "agreed", "agreement")}
    else:
        voting = int((round.agreement.aligned >= 0).any(axis=1).sum())
        plain["stability"] *= math.comb(voting, 2) / math.comb(len(round.outputs), 2)
    if truth:
        scores = truth["members"][0] if alone else truth["consensus"]
        plain |= {f"oracle_{name}": value for name, value in (scores or truth["consensus"]).items()}
    if truth and not alone:
        plain["oracle_agreed_acc"] = truth["agreed_points"]["acc"] if truth["agreed_points"] else math.nan
        plain["oracle_members_acc"] = truth["members_mean"]["acc"] if truth["members_mean"] else math.nan
    return plain


def silhouette(model: EnsembleClusterer, x: Array) -> float:
    """Return the silhouette of the labels in the latents of a member.

    Args:
        model: fitted.
        x: what it was fitted on. 2,000 points that have a label are looked at, drawn by the model's seed.

    Returns:
        -1 .. 1, of the consensus labels in the latents of the first voting member; of a single member's own labels in
        its own latents, whether it votes or not, and the mean of those of all members where none votes. nan where there
        are fewer than two clusters, or the latents are not finite.
    """
    return _mean([_silhouette(model, x, member, labels) for member, labels in _looked_at(model.last_round_)])


def _silhouette(model: EnsembleClusterer, x: Array, member: int, labels: Labels) -> float:
    from sklearn.metrics import silhouette_score

    known = np.flatnonzero(labels >= 0)
    rows = np.sort(generator(model.random_state, "points of the silhouette").permutation(known)[:_SILHOUETTE_POINTS])
    if not 1 < len(np.unique(labels[rows])) < len(rows):
        return math.nan
    latents = _latents(model, x[rows], member)
    return math.nan if latents is None else float(silhouette_score(latents, labels[rows]))


def probes(model: EnsembleClusterer, data: Dataset) -> dict[str, float]:
    """Return the accuracies of a linear and a nearest-neighbour probe of a member's latents.

    Returns:
        oracle_linear_probe and oracle_knn_probe, of the members that `silhouette` looks at; nan where their latents are
        not finite; none without true classes.
    """
    if data.y is None:
        return {}
    linear, nearest = [], []
    for member, _ in _looked_at(model.last_round_):
        if (latents := _latents(model, data.x, member)) is not None:
            linear.append(metrics.linear_probe(latents, data.y, model.random_state))
            nearest.append(metrics.knn_probe(latents, data.y, model.random_state))
    return {"oracle_linear_probe": _mean(linear), "oracle_knn_probe": _mean(nearest)}


def soft_sizes(model: EnsembleClusterer, data: Dataset) -> dict[str, float]:
    """Return what the soft assignments say of the clusters' sizes.

    Returns:
        hard_entropy, soft_entropy, hard_variance, soft_variance of the mean of the voting members' posteriors; with
        true classes oracle_soft_kl_star. Of a single member they are those of its own posterior, whether it votes or
        not, and where none of several votes, the means over all members. nan where there is no finite posterior.
    """
    found = [p for p in _soft_assignments(model, data.x) if np.isfinite(p).all()]
    of: dict[str, Callable[[Array], float]] = {
        "hard_entropy": metrics.hard_entropy,
        "soft_entropy": metrics.soft_entropy,
        "hard_variance": metrics.hard_variance,
        "soft_variance": metrics.soft_variance,
    }
    if (y := data.y) is not None:
        of["oracle_soft_kl_star"] = lambda p: metrics.soft_kl_star(p, y)
    return {name: _mean([measure(p) for p in found]) for name, measure in of.items()}


def _soft_assignments(model: EnsembleClusterer, x: Array) -> list[Array]:
    """Return the probabilities (N, K) to measure: the voting members' mean, or each member's own; see `soft_sizes`."""
    with contextlib.suppress(RunError):  # selective pseudo-labels that ended before their classifiers saw a target
        if model.n_members > 1 and model.last_round_.agreement.voters and len(voting := model.posteriors(x)):
            return [voting.mean(axis=0)]
        there: list[Any] = [member for member in model.members_ if member is not None]
        return [in_blocks(member.predict_proba, x) for member in there]
    return []


def sizes_by_class(round: Round, data: Dataset) -> dict[str, float]:
    """Return the size of the cluster that is matched to each class: oracle_size_0, ...; none without true classes.

    A class that is left without a cluster has size 0. Of a single member the clusters are its own, whether it votes or
    not, and where none of several votes, sizes are means over the members' own; nan where none has labels.
    """
    if data.y is None:
        return {}
    labelled = [labels for _, labels in _looked_at(round) if ((data.y >= 0) & (labels >= 0)).any()]
    sizes = [_sizes_by_class(labels, data.y) for labels in labelled]
    return {f"oracle_size_{k}": _mean([of_one[k] for of_one in sizes]) for k in range(int(data.y.max()) + 1)}


def _sizes_by_class(labels: Labels, y: Labels) -> Array:
    """Return the size of the cluster that is matched to each class, (classes,)."""
    from scipy.optimize import linear_sum_assignment

    table = metrics.contingency(labels, y)
    clusters, classes = linear_sum_assignment(table, maximize=True)
    found = np.zeros(int(y.max()) + 1)
    found[classes] = np.bincount(labels[labels >= 0])[clusters]
    return found


def _looked_at(round: Round) -> list[tuple[int, Labels]]:
    """Return the members whose latents are measured, and the labels that are, (N,) each.

    The consensus labels and the first voting member; of a single member, and where none votes, each member that is
    there with its own labels. The concatenation of all latents may vote alone: then it is the first that is there.
    """
    there = [index for index, output in enumerate(round.outputs) if output.status != "lost"]
    if len(round.outputs) == 1 or not round.agreement.voters:
        return [(index, round.outputs[index].labels) for index in there]
    voting = [index for index in there if round.outputs[index].status == "voting"]
    return [(index, round.agreement.labels) for index in (voting or there)[:1]]


def _sizes(round: Round, n_clusters: int) -> dict[str, float]:
    """Return effective_clusters, largest_cluster and unlabelled; see `figures`."""
    found = [metrics.label_free(labels, n_clusters) for _, labels in _looked_at(round)]
    there = [one for one in found if one["unlabelled"] < 1]
    sizes = {name: _mean([one[name] for one in there]) for name in ("effective_clusters", "largest_cluster")}
    return sizes | {"unlabelled": _mean([one["unlabelled"] for one in found])}


def _latents(model: EnsembleClusterer, x: Array, member: int) -> Array | None:
    """Return the latents (N, D) of a member; None where they are not finite."""
    there: Any = model.members_[member]
    found = in_blocks(there.transform, x)
    return found if np.isfinite(found).all() else None


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are known; nan where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _scalars(round: Round) -> dict[str, float]:
    """Return a round's figures by the names that TensorBoard shows; one member has no stability to show."""
    figures = described(round)
    shown = ("agreed", "agreement", "stability", "effective_clusters", "seconds")
    members = {
        f"member{index:02d}/{name}": value
        for index, output in enumerate(round.outputs)
        for name, value in output.scores.items()
    }
    found = {f"ensemble/{name}": figures[name] for name in shown} | members
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _known(y: np.ndarray[Any, Any], agreement: Agreement) -> bool:
    return bool((y[agreement.agreed] >= 0).any())


def _n_names(agreement: Agreement) -> int:
    """Return the number of names in use; where no member votes, there may be labels all the same."""
    return max(0, int(agreement.labels.max()), int(agreement.aligned.max())) + 1


def _parquet(
    round: Round, rows: Labels | None, names: tuple[str, ...] | None, origins: Mapping[str, Array] | None
) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    a = round.agreement
    index = np.arange(len(a.labels)) if rows is None else rows
    columns: dict[str, Any] = {"index": index} | ({} if names is None else {"name": pa.array(names, pa.string())})
    columns |= dict(origins or {})
    columns |= {"label": a.labels, "agreement": a.share, "agreed": a.agreed}
    columns |= {f"member{m:02d}": row for m, row in enumerate(a.aligned)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _has(found: Any, names: set[str]) -> dict[str, Any]:
    """Return a mapping that has all these names, or raise ValueError."""
    if not isinstance(found, dict) or names - found.keys():
        raise ValueError(f"it does not hold {', '.join(sorted(names))}")
    return found


def _finite(value: Any) -> Any:
    """Return the value with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(round: Round) -> dict[str, Any]:
    a = round.agreement
    return {
        "index": round.index,
        "seconds": round.seconds,
        "outputs": [[narrowed(o.labels), o.scores, o.status, o.cause] for o in round.outputs],
        "agreement": {
            "labels": narrowed(a.labels),
            "agreed": a.agreed,
            "share": a.share,
            "voters": a.voters,
            "aligned": narrowed(a.aligned),
            "remarks": a.remarks,
        },
        "agreed_counts": round.agreed_counts,
        "stability": round.stability,
        "independent": round.independent,
    }


def _round(plain: dict[str, Any]) -> Round:
    outputs = tuple(
        MemberOutput(labels.astype(np.int64), None, scores, cast(Status, status), cause)
        for labels, scores, status, cause in plain["outputs"]
    )
    agreement = plain["agreement"]
    wide = {name: agreement[name].astype(np.int64) for name in ("labels", "aligned")}
    wide["remarks"] = tuple(agreement["remarks"])
    counts = tuple(plain["agreed_counts"])
    stable, independent = plain.get("stability", math.nan), plain.get("independent", math.nan)
    return Round(plain["index"], outputs, Agreement(**agreement | wide), plain["seconds"], counts, stable, independent)
