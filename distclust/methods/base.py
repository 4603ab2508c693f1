"""What all methods share: parameters checked at the door, fitting by the one driver, prediction by vote."""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.metrics import silhouette_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from distclust.calibration import Calibration, calibrate, tempered
from distclust.consensus import align, vote
from distclust.contracts import Agreement, Array, Labels, Member, MemberOutput, Pool, Round, State
from distclust.data.arrays import check_x, n_different
from distclust.distributed.driver import rounds
from distclust.distributed.pool import LocalPool, threads
from distclust.errors import DataError, DataWarning, Message, ParameterError, RunError, option
from distclust.metrics import effective_clusters, stability
from distclust.nets.scaling import ChosenScaling, ScalingName, choose_scaling, left_different
from distclust.parameters import check, declared
from distclust.seeding import generator
from distclust.separation import separation

if TYPE_CHECKING:
    Rounds = int  # what everybody finds in a checked method
else:
    Rounds = Literal["auto"] | Annotated[int, Field(ge=1)]
AUTO_ROUNDS: Any = "auto"  # stands for a number of rounds that goes with n_epochs

Floats = np.ndarray[Any, np.dtype[np.float64]]

BLOCK = 4096  # points at a time when a network is only read
COLLAPSED = 0.99  # a member may have collapsed when one cluster holds this share of all points
_GAP = 0.5  # separation from which on the points outside of that cluster are a group of their own
_COMPARED = 1_000  # points of each side that this is judged by
_SCORED = 2_000  # points that the silhouette of `score` looks at
_CALIBRATED = 1_000  # points that the temperature of `predict_proba` is fitted to


@dataclass(kw_only=True, eq=False, repr=False)
class EnsembleClusterer(ClusterMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of all methods: an ensemble of members, trained in rounds, that votes.

    Args:
        n_clusters: number of clusters K.
        n_members: number of members M; 1 is the paper's single model.
        agreement_threshold: share of the voting members that must agree for a point to count as agreed.
        random_state: the seed; the same seed gives the same labels.

    Attributes:
        labels_: (N,) consensus labels; -1 where no member has a say.
        agreement_: (N,) share of the voting members whose aligned label is the consensus label.
        agreed_: (N,) bool, True where that share reaches the threshold.
        clusters_: the labels that occur in labels_, ascending; new points get no other.
        members_: the trained members, None for one that was lost.
        last_round_: the last Round, with every member's output.
        calibration_: the temperature of `predict_proba`, and how it was found; see `calibration.calibrate`.
        names_: (M, K) the consensus' name for each member's cluster; -1 throughout for a member without a say.
        shape_: shape of one data point.
        dtype_: type of the data, as in "uint8"; None of a model saved by an earlier version.
        n_features_in_: size of the second axis of X.
        feature_names_in_: names of its columns, where X was a table that has them.
    """

    trains_on_agreement: ClassVar[bool] = False
    trains_in_teams: ClassVar[bool] = False  # whether `member` takes a team of workers, see `contracts.TeamMethod`
    most_rounds: ClassVar[int] = 10  # that n_rounds="auto" stands for
    may_end_early: ClassVar[bool] = False  # whether `finished` may say so before all rounds are done
    shares_parameter: ClassVar[str] = ""  # the parameter that holds the clusters' expected shares, equal by default

    n_clusters: Annotated[int, Field(ge=2, description="number of clusters")] = 10
    n_members: Annotated[int, Field(ge=1, description="number of members of the ensemble")] = 1
    agreement_threshold: Annotated[
        float, Field(gt=0, le=1, description="share of members that must agree for a point to count as agreed")
    ] = 1.0
    random_state: Annotated[int, Field(ge=0, description="the seed")] = 0

    def fit(self, X: Any, y: object = None, *, pool: Pool | None = None) -> Self:
        """Train the ensemble and take its consensus.

        Args:
            X: images (N, C, H, W), windows (N, C, T) or vectors (N, D).
            y: ignored; there for scikit-learn's sake.
            pool: where the members run; None = one after another in this process.

        Raises:
            ParameterError: parameters that cannot be used, all faults together.
            DataError: data that cannot be used.
            MembersLost: no member survived.
        """
        x = check_x(X)
        method = self.checked(x)
        validate_data(self, X, skip_check_array=True, ensure_2d=False)  # keeps the names of a table's columns
        own = LocalPool() if pool is None else pool
        try:
            last = None
            for last in rounds(method, x, own):  # noqa: B007
                pass
            assert last is not None
            return self.adopt(method, x, last, own.states())
        finally:
            if pool is None:
                own.close()

    def fit_predict(self, X: Any, y: object = None, *, pool: Pool | None = None) -> Labels:
        """Return the consensus labels of X; arguments as in `fit`."""
        return self.fit(X, pool=pool).labels_

    def predict(self, X: Any, *, coverage: float = 1.0) -> Labels:
        """Return the members' vote for new points, (N,) int64; never a cluster that no point had in `fit`.

        Args:
            X: new points, of the shape of those that were fitted.
            coverage: share of the points that get their label, in (0, 1]: those on which most members agree, and of
                equal agreement those of the greatest probability. The others get -1.

        Raises:
            DataError: X cannot be used.
            ParameterError: coverage is out of range.
        """
        agreement, probabilities = self.consult(X)
        return covered(agreement, probabilities, coverage)

    def predict_agreement(self, X: Any) -> Floats:
        """Return for new points the share of the voting members that give the label of `predict`, (N,)."""
        return self.consult(X)[0].share

    def predict_proba(self, X: Any) -> Floats:
        """Return the mean of the voting members' calibrated probabilities, (N, K), in the consensus' names.

        With two voting members or more, a probability of 0.9 says that nine in ten times another member would give
        that cluster: all members have one temperature, fitted to one another without a label, which changes none. How
        often the cluster is right no one can say without labels. A cluster that no point had in `fit` gets 0. Without a
        voting member all are 0.
        """
        return self.consult(X)[1]

    def posteriors(self, X: Any) -> Floats:
        """Return each voting member's own probabilities, (V, N, K), in the consensus' names, not calibrated."""
        return self._posteriors(self._door(X))

    def consult(self, X: Any) -> tuple[Agreement, Floats]:
        """Return the members' vote for new points, and `predict_proba`, for the work of one prediction."""
        return self._vote(self._door(X))

    def transform(self, X: Any) -> Array:
        """Return the latents of the members that have a say side by side, (N, D of all of them) float32."""
        return self._latents(self._door(X))

    def scaled(self, x: Array) -> Array:
        """Return checked points as the first member's network sees them, (N, D); as they are, where it does not say."""
        member = next(m for m in self.members_ if m is not None)
        scale: Callable[[torch.Tensor], torch.Tensor] = getattr(member, "scaled", torch.nn.Identity())
        return in_blocks(lambda block: scale(block).flatten(1), x)

    def score(self, X: Any, y: object = None) -> float:
        """Return how good the clusters of X are without a label, the greater the better, in -1 .. 1.

        With several members it is their stability, the mean adjusted Rand index of all pairs of them, where a pair with
        one that has no say counts 0; with a single one the silhouette of its labels in its latents, of 2,000 points
        drawn by the seed. The two are not to be compared with each other.

        Args:
            X: as in `predict`.
            y: ignored; there for scikit-learn's sake.
        """
        x = self._door(X)
        if self.n_members > 1:
            agreement, _ = self._vote(x)
            there = math.comb(agreement.voters, 2) / math.comb(self.n_members, 2)
            return there * stability(agreement.aligned) if there else 0.0
        rows = np.sort(generator(self.random_state, "points of the score").permutation(len(x))[:_SCORED])
        labels = self._vote(x[rows])[0].labels
        if not 1 < len(np.unique(labels)) < len(labels):
            return -1.0
        return float(silhouette_score(self._latents(x[rows]), labels))

    def save(self, folder: str | Path) -> None:
        """Write the fitted model to a new folder; `distclust.load_model` reads it. See `saved.save_model`."""
        from distclust.methods.saved import save_model

        save_model(self, folder)

    def checked(self, x: Array) -> Self:
        """Return a copy with checked parameters, fit for the data.

        Args:
            x: the data, checked before.

        Raises:
            ParameterError: with all faults together.
        """
        given = {name: getattr(self, name) for name in declared(type(self))}
        faults: list[str] = []
        values: dict[str, Any] = {}
        try:
            values = check(type(self), given)
        except ParameterError as error:
            faults += error.faults
        if not faults:
            values = self._resolved(values, x)
            faults += self._faults(values, x)
        if faults:
            raise ParameterError(faults)
        _say_what_is_lost(x, values.get("scaling", "auto"))
        return type(self)(**values)

    def chosen_scaling(self, x: Array) -> ChosenScaling | None:
        """Return how vectors are scaled and why, for the run to state; None for other data.

        Args:
            x: the data, checked before.
        """
        how = getattr(self, "scaling", None)
        if how is None or x.ndim != 2:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a mapped file cannot be written to, and is not
            return choose_scaling(torch.from_numpy(x), how)

    def agree(self, outputs: Sequence[MemberOutput], last: Round | None = None) -> Agreement:
        """Align the labellings of the members that have a say and take their vote."""
        labellings = [o.labels if o.status == "voting" else np.full_like(o.labels, -1) for o in outputs]
        return vote(align(labellings, self.n_clusters), self.agreement_threshold, self.n_clusters)

    def names(self, output: MemberOutput, aligned: Labels) -> Labels:
        """Return the consensus' name for each of a member's clusters, (K,), for prediction; -1 throughout = no say."""
        return renaming(output.labels, aligned, self.n_clusters)

    def finished(self, last: Round) -> bool:
        """Return whether training may end early; see `contracts.Method`."""
        return False

    def adopt(self, method: Self, x: Array, last: Round, states: Sequence[State | None]) -> Self:
        """Take up the result of a run as this estimator's fitted state.

        Args:
            method: the checked copy that ran.
            x: the data it ran on.
            last: its last round.
            states: every member's state, None for a lost one.
        """
        self.labels_ = last.agreement.labels
        self.agreement_ = last.agreement.share
        self.agreed_ = last.agreement.agreed
        self.last_round_ = last
        self.clusters_ = np.unique(self.labels_[self.labels_ >= 0])
        self.n_features_in_ = int(x.shape[1])
        self.shape_ = tuple(x.shape[1:])
        self.dtype_: str | None = str(x.dtype)
        self.names_ = np.stack([method.names(o, a) for o, a in zip(last.outputs, last.agreement.aligned, strict=True)])
        self.members_ = [
            None if state is None else revived(method.member(self.shape_, index), state)
            for index, state in enumerate(states)
        ]
        self.calibration_ = self._calibration(x)
        return self

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu") -> Member:
        """Return a new member; see `contracts.Method`."""
        raise NotImplementedError

    def _resolved(self, values: dict[str, Any], x: Array) -> dict[str, Any]:
        """Return the parameters with those in place of "auto" that the driver has to know."""
        if values.get("n_rounds") != "auto":
            return values
        return {**values, "n_rounds": auto_rounds(values.get("n_epochs", "auto"), self.most_rounds)}

    def _faults(self, values: dict[str, Any], x: Array) -> list[str]:
        """Return the faults that only show against the data or between parameters."""
        k = values["n_clusters"]
        if k > len(x):
            return [
                f"n_clusters={k} cannot be used: the data has {len(x)} points (n_samples={len(x)}), and there cannot "
                f"be more clusters than points. Give fewer clusters."
            ]
        different = n_different(x, k)
        if k > different:
            return [
                f"n_clusters={k} cannot be used: of the {len(x):,} points only {different} are different, and equal "
                f"points cannot be told apart. Give n_clusters={different} or less."
                if different > 1
                else f"the {len(x):,} points are all equal. There is nothing to cluster."
            ]
        return []

    def _door(self, X: Any) -> Array:
        check_is_fitted(self)
        x = check_x(X, allow_constant=True)
        if x.ndim == 2 and len(self.shape_) == 1 and x.shape[1] != self.shape_[0]:
            raise DataError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting {self.shape_[0]} features as "
                f"input, those it was fitted on."
            )
        if tuple(x.shape[1:]) != self.shape_:
            raise DataError(
                f"X has data points of shape {tuple(x.shape[1:])}, but this {type(self).__name__} was fitted on "
                f"{self.shape_}. Give data of the shape it was fitted on."
            )
        validate_data(self, X, skip_check_array=True, ensure_2d=False, reset=False)
        return x

    def _voting(self) -> Iterator[tuple[int, Any, Labels]]:
        """Yield the members that have a say: index, member, and its clusters' names in the consensus (K,)."""
        for index, (member, names) in enumerate(zip(self.members_, self.names_, strict=True)):
            if member is not None and names[0] >= 0:
                yield index, member, names

    def _probabilities(self, x: Array) -> Iterator[tuple[int, Floats]]:
        """Yield the index of each member that has a say and its probabilities (N, K) in the consensus' names."""
        empty = np.setdiff1d(np.arange(self.names_.shape[1]), self.clusters_)
        for index, member, names in self._voting():
            found = np.zeros((len(x), len(names)))
            found[:, names] = near(in_blocks(member.predict_proba, x))
            if len(empty):
                found[:, empty] = 0
                total = found.sum(axis=1, keepdims=True)
                found[:, self.clusters_] += total == 0  # all of it was on clusters that nobody had
                found /= found.sum(axis=1, keepdims=True)
            yield index, found

    def _posteriors(self, x: Array) -> Floats:
        found = [found for _, found in self._probabilities(x)]
        return np.stack(found) if found else np.zeros((0, len(x), self.names_.shape[1]))

    def _calibration(self, x: Array) -> Calibration:
        """Return the temperature of `predict_proba`, fitted to some of the points."""
        rows = np.sort(generator(self.random_state, "points of the calibration").permutation(len(x))[:_CALIBRATED])
        # one thread, so that the numbers are the same on any number of CPUs; selective pseudo-labels that ended before
        # their classifiers saw a target have no posteriors
        with threads(1), contextlib.suppress(RunError):
            return calibrate(self._posteriors(x[rows]))
        return Calibration()

    def _vote(self, x: Array) -> tuple[Agreement, Floats]:
        """Return the members' vote for checked points, and the mean of their calibrated probabilities (N, K)."""
        n_members, n_clusters = self.names_.shape
        rows, total, voting = np.full((n_members, len(x)), -1, np.int64), np.zeros((len(x), n_clusters)), 0
        for index, found in self._probabilities(x):
            rows[index], voting = found.argmax(axis=1), voting + 1
            total += tempered(found, self.calibration_.temperature)
        return vote(rows, self.agreement_threshold, n_clusters), total / max(1, voting)

    def _latents(self, x: Array) -> Array:
        found = [near(in_blocks(member.transform, x)) for _, member, _ in self._voting()]
        return np.concatenate(found, axis=1) if found else np.zeros((len(x), 0), np.float32)

    @property
    def _n_features_out(self) -> int:
        """Number of columns of `transform`, for scikit-learn's `set_output`."""
        check_is_fitted(self)
        return self._latents(np.zeros((1, *self.shape_), np.float32)).shape[1]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = []  # latents are float32 whatever comes in
        return tags


def covered(agreement: Agreement, probabilities: Floats, coverage: float) -> Labels:
    """Return the labels (N,) of the points that the members are surest of, -1 for the others.

    Args:
        agreement: the members' vote.
        probabilities: (N, K) that they give the clusters.
        coverage: share of the points to label, in (0, 1]: those on which most agree, then the most probable.

    Raises:
        ParameterError: coverage is out of range.
    """
    if not 0 < coverage <= 1:
        raise ParameterError([f"coverage={coverage!r} cannot be used: it takes a share in (0, 1], as in 0.9."])
    labels = agreement.labels.copy()
    probability = probabilities[np.arange(len(labels)), labels]
    surest = np.lexsort((-probability, -agreement.share))
    labels[surest[math.ceil(round(coverage * len(labels), 9)) :]] = -1
    return labels


def _say_what_is_lost(x: Array, scaling: ScalingName) -> None:
    """Warn of features whose values differ and become equal in float32, in which networks compute.

    At most 1,000 points are looked at. Some equal ones among hundreds come about by chance.

    Raises:
        ParameterError: the values are too large for float32 and are not scaled.
    """
    if x.dtype != np.float64:
        return
    some = np.array(x[:: max(1, len(x) // 1000)])
    if scaling == "none" and np.abs(some).max() > np.finfo(np.float32).max:
        raise ParameterError(
            [
                f"scaling='none' cannot be used: the values go up to {np.abs(some).max():.3g}, beyond float32. Give "
                f"{option('scaling', 'standard', of='')}."
            ]
        )
    before, after = (found.numpy() for found in left_different(torch.from_numpy(some), scaling))
    if not (lost := 1 - after / before).max() > 0.01:
        return
    worst, what = int(np.argmax(lost)), "feature" if x.ndim == 2 else "channel"
    cure = "Look for values far from all others, and for those that differ by rounding alone."
    if scaling == "none":
        cure = f"Give {option('scaling', 'standard', of='')}, which centers them first."
    message = Message(
        f"different values of {(lost > 0.01).sum():,} of {len(lost):,} {what}s become equal in float32, in which "
        f"networks compute: of {before[worst]:,} in {what} {worst}, {after[worst]:,} are left. {cure}"
    )
    warnings.warn(DataWarning(message), stacklevel=4)


def in_blocks(function: Callable[[torch.Tensor], torch.Tensor], x: Array) -> Array:
    """Return a function of all points (N, ...), of some of them at a time."""
    blocks = [function(torch.as_tensor(np.array(x[i : i + BLOCK]))) for i in range(0, len(x), BLOCK)]
    return torch.cat(blocks).numpy()


def near(found: Array) -> Array:
    """Return the scaled values of points, or what a network makes of them, (N, ...), if they are finite.

    Raises:
        DataError: some are not; the message counts the points and names the first.
    """
    fine = np.asarray(np.isfinite(found).reshape(len(found), -1).all(axis=1))
    if not fine.all():
        raise DataError(
            f"{int((~fine).sum()):,} of {len(fine):,} points lie so far from those that were fitted that numbers "
            f"overflow, the first is X[{int(np.argmin(fine))}]. Check its units, or leave it out."
        )
    return found


def collapse(output: MemberOutput, x: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor]) -> MemberOutput:
    """Return a member's output with its largest cluster among the scores, marked if the member collapsed.

    It collapsed if one cluster holds 99% of all points or more and no gap in the data separates the others from it: a
    small group that is far away is a group.

    Args:
        output: with labels of all points.
        x: (N, *shape) raw values.
        scale: raw values -> what the network sees.
    """
    largest = float(np.bincount(output.labels).max() / len(output.labels))
    scores = {**output.scores, "largest_cluster": largest}
    if not collapsed(output.labels, x, scale):
        return replace(output, scores=scores)
    rest = "" if largest == 1 else ", and no gap separates the others from it"
    cause = f"one cluster holds {largest:.1%} of all points{rest}"
    return replace(output, scores=scores, status="collapsed", cause=cause)


def collapsed(labels: Labels, x: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Return whether labels (N,) are those of a member that collapsed; arguments as in `collapse`."""
    largest = np.bincount(labels).max() / len(labels)
    return bool(largest == 1 or (largest >= COLLAPSED and _apart(labels, x, scale) < _GAP))


def _apart(labels: Labels, x: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return how far the points outside of the largest cluster are separated from it, see `separation`."""
    inside = labels == np.bincount(labels).argmax()
    sides = [np.flatnonzero(inside), np.flatnonzero(~inside)]
    rows = np.concatenate([s[np.linspace(0, len(s) - 1, min(len(s), _COMPARED)).astype(int)] for s in sides])
    with torch.no_grad():
        points = scale(x[torch.from_numpy(rows).to(x.device)]).flatten(1).cpu().numpy()
    distinct, first = np.unique(points, axis=0, return_index=True)
    return float(separation(distinct, inside[rows][first].astype(int)).min())


def most_probable(
    probs: torch.Tensor, loss: float, x: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor]
) -> MemberOutput:
    """Return a member's output of which each label is the most probable cluster, marked if it collapsed.

    Args:
        probs: (N, K) of all points.
        loss: mean of the round.
        x: (N, *shape) raw values.
        scale: raw values -> what the network sees.
    """
    labels = probs.argmax(1).cpu().numpy()
    confidence, clusters = float(probs.amax(1).mean()), float(effective_clusters(labels))
    scores = {"loss": loss, "confidence": confidence, "effective_clusters": clusters}
    return collapse(MemberOutput(labels, None, scores), x, scale)


def batches(order: Array, batch_size: int) -> list[Array]:
    """Return the order (N,) cut into nearly equal batches: as few as keep to `batch_size`, none of a single point."""
    return np.array_split(order, n_batches(len(order), batch_size))


def n_batches(n_samples: int, batch_size: int) -> int:
    """Return the number of batches that `batches` makes."""
    return max(1, min(math.ceil(n_samples / batch_size), n_samples // 2))


def epochs_of_round(n_epochs: int, n_rounds: int, round: int) -> range:
    """Return the epochs of `n_epochs` that fall into a round, evenly spread."""
    return range(round * n_epochs // n_rounds, (round + 1) * n_epochs // n_rounds)


def share_faults(name: str, values: dict[str, Any]) -> list[str]:
    """Return what is wrong with the expected shares of the clusters, a parameter that may be a name as "uniform"."""
    shares, k = values[name], values["n_clusters"]
    if isinstance(shares, str) or (len(shares) == k and abs(sum(shares) - 1) <= 1e-6):
        return []
    return [
        f"{name} has {len(shares)} values with sum {sum(shares):g}; it must be a distribution over the {k} clusters: "
        f"{k} shares that sum to 1. Divide them by their sum, or use {name}='uniform'."
    ]


def auto_rounds(n_epochs: Any, most: int) -> int:
    """Return what n_rounds="auto" stands for: `most`, or one for each epoch where fewer were asked for."""
    return most if n_epochs == "auto" else min(most, n_epochs)


def round_faults(values: dict[str, Any]) -> list[str]:
    """Return what is wrong between n_rounds and n_epochs, where a number of epochs is given."""
    if values["n_epochs"] == "auto" or values["n_rounds"] <= values["n_epochs"]:
        return []
    return [
        f"n_rounds={values['n_rounds']} cannot be used with n_epochs={values['n_epochs']}: a round takes at least one "
        f"epoch. Give n_rounds={values['n_epochs']} or fewer."
    ]


def renaming(labels: Labels, aligned: Labels, n_clusters: int) -> Labels:
    """Return the aligned name of each cluster of a labelling, (K,); clusters without points get the names left over."""
    if (aligned < 0).all():
        return np.full(n_clusters, -1, np.int64)
    names = np.full(n_clusters, -1, np.int64)
    names[labels[labels >= 0]] = aligned[labels >= 0]
    names[names < 0] = np.setdiff1d(np.arange(n_clusters), names)
    return names


def restore_optimiser(optimiser: torch.optim.Optimizer, state: State) -> None:
    """Take up an optimiser's state, each tensor in the memory format of its parameter.

    A fused step goes through memory without a look at the strides: with channels-last parameters, moments that come
    contiguous out of a checkpoint would go to the wrong weights.
    """
    optimiser.load_state_dict(state)
    for parameter, own in optimiser.state.items():
        for name, value in own.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                own[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def revived(member: Member, state: State) -> Member:
    """Return the member with its state taken up."""
    member.load_state_dict(copy.deepcopy(state))
    return member
