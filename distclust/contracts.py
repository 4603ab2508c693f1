"""The types and protocols between the rooms of distclust; no logic beyond their own consistency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Labels = npt.NDArray[np.int64]  # (N,), -1 = no label
Array = npt.NDArray[Any]
State = dict[str, Any]  # nested dicts and lists of tensors, arrays, numbers, strings, None

Status = Literal["voting", "abstained", "collapsed", "lost"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset.

    Args:
        name: what it is called in tables and reports.
        x: images (N, C, H, W), windows (N, C, T) or vectors (N, D); uint8, float32 or float64.
        y: true classes (N,) int64, -1 = unknown; read by metrics, results and report alone.
        n_clusters: number of classes, None = not known.
        value_range: lowest and highest value that x can take, None = not bounded.
        rows: (N,) which points of the data that was resampled these are, ascending; None = all.
        names: (N,) what leads back to each point's origin, as a file's path within its folder; None = there is none.
        feature_names: (D,) names of a vector's features, or (C,) of the channels of a window; None = not known.
        origins: columns (N,) that say more of where each point comes from, as a window's file, first and last row, and
            start and end time; labels.parquet has them. None = there are none.
        remarks: what else is to be said of how the data was read, a sentence each.
    """

    name: str
    x: Array
    y: Labels | None = None
    n_clusters: int | None = None
    value_range: tuple[float, float] | None = None
    rows: Labels | None = None
    names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    origins: Mapping[str, Array] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MemberOutput:
    """What a member says after a round.

    Args:
        labels: (N,) int64 in -1 .. n_clusters - 1; a collapsed member keeps its labels, they just do not vote.
        latents: (N, D) float32, or None where the method has no use for them outside the member.
        scores: label-free figures of the round by name, as in {"loss": 0.31}.
        status: "voting", or why the member has no say: "abstained", "collapsed", "lost".
        cause: why the status is not "voting", a sentence; else "".
    """

    labels: Labels
    latents: Array | None = None
    scores: dict[str, float] = field(default_factory=dict)
    status: Status = "voting"
    cause: str = ""


@dataclass(frozen=True, eq=False)
class Agreement:
    """What the members say together.

    Args:
        labels: (N,) consensus labels, -1 where no member has a say.
        agreed: (N,) bool, True where the share reaches the threshold.
        share: (N,) float64 in 0 .. 1, the share of voting members whose aligned label is the consensus label; 0 where
            one of several members votes or fewer than half of them; nan where there is one member in all.
        voters: number of voting members.
        aligned: (M, N) the members' labels in the consensus' names; a row of -1 for a member without a say.
        remarks: what else is to be said of the vote, a sentence each.
    """

    labels: Labels
    agreed: npt.NDArray[np.bool_]
    share: npt.NDArray[np.float64]
    voters: int
    aligned: npt.NDArray[np.int64]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Round:
    """One round of the whole ensemble.

    Args:
        index: 0, 1, ...
        outputs: one a member, in the members' order.
        agreement: what they say together.
        seconds: wall time of the round.
        agreed_counts: the number of agreed points after each round so far, this one included.
        stability: mean adjusted Rand index of each two voting members; nan with fewer than two.
        independent: the same of the last round before which no member had seen what the others say.
    """

    index: int
    outputs: tuple[MemberOutput, ...]
    agreement: Agreement
    seconds: float
    agreed_counts: tuple[int, ...]
    stability: float = float("nan")
    independent: float = float("nan")


@dataclass(frozen=True)
class Event:
    """Something a pool tells its listener while a round runs.

    Args:
        kind: "connected" (to Ray; the cause is the dashboard's address if there is one), "started" (a worker is ready),
            "finished" (a member ended its round), "restarted" or "lost".
        member: index of the member, -1 where the event is of no single one.
        round: index of the round.
        scores: the member's scores when it finished.
        cause: why it was restarted or lost, "" if nothing is to be said.
        seconds: how long the member took.
    """

    kind: Literal["connected", "started", "finished", "restarted", "lost"]
    member: int
    round: int
    scores: Mapping[str, float] = field(default_factory=dict)
    cause: str = ""
    seconds: float = 0.0


Listener = Callable[[Event], None]


class Team(Protocol):
    """The workers that train one member together; every one of them has the whole data and the same random numbers."""

    size: int

    def part(self, n: int) -> slice:
        """Return which of n rows this worker has to do with."""
        ...

    def gather(self, rows: torch.Tensor, n: int) -> torch.Tensor:
        """Return all n rows, of which each worker gives its part; no gradient flows."""
        ...

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of the workers' values; no gradient flows."""
        ...

    def wrap(self, net: torch.nn.Module) -> torch.nn.Module:
        """Return the network with slopes that are the mean over the workers."""
        ...


class Member(Protocol):
    """One network with its optimiser; a plain class that knows nothing of Ray."""

    def advance(self, x: torch.Tensor, agreed: Agreement | None, round: int) -> MemberOutput:
        """Train for one round.

        Args:
            x: the data, on the member's device.
            agreed: what the ensemble agreed on after the round before; None in round 0.
            round: index of the round.
        """
        ...

    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, K) probabilities, rows sum to one."""
        ...

    def state_dict(self) -> State:
        """Return all that is needed to do the next round again bit for bit."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave."""
        ...


class Method(Protocol):
    """What the driver needs to know of a method."""

    n_members: int
    n_rounds: int
    trains_on_agreement: bool  # False: `agreed` is not sent to the members

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu") -> Member:
        """Return a new member.

        Args:
            shape: shape of one data point.
            index: 0 .. n_members - 1.
            device: where it computes, as torch names it.
        """
        ...

    def get_params(self) -> dict[str, Any]:
        """Return the parameters by name; the same parameters and data give the same run."""
        ...

    def agree(self, outputs: Sequence[MemberOutput], last: Round | None = None) -> Agreement:
        """Return what the members say together; a pure function of its arguments.

        Args:
            outputs: one a member, in the members' order.
            last: the round before, None in round 0.
        """
        ...

    def finished(self, last: Round) -> bool:
        """Return whether training may end after a round before all `n_rounds` are done."""
        ...


class TeamMethod(Method, Protocol):
    """A method whose members can be trained by a team of workers."""

    trains_in_teams: bool

    def member(self, shape: tuple[int, ...], index: int, device: str = "cpu", team: Team | None = None) -> Member:
        """Return a new member; `team` are the workers that train it together, None = this process alone."""
        ...


class Pool(Protocol):
    """Where members run: LocalPool in this process, RayPool on Ray (the same labels out), DataParallelPool."""

    def open(self, method: Method, x: Array, resume: Round | None = None) -> None:
        """Make ready to advance the members of `method` on `x`, after round `resume` if one is given."""
        ...

    def advance(self, agreed: Agreement | None, round: int) -> list[MemberOutput]:
        """Train every member that is not lost for one round; one output a member, in order."""
        ...

    def states(self) -> list[State | None]:
        """Return every member's state after its last round; None for a lost one."""
        ...

    def close(self) -> None:
        """Let go of what `open` took."""
        ...
