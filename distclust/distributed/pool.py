"""The worker that runs members, a plain class without Ray, and the pool that runs them in this process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import distclust
from distclust.contracts import Agreement, Array, Event, Listener, Member, MemberOutput, Method, Round, State
from distclust.distributed.checkpoint import narrowed, pack, storage, unpack
from distclust.errors import InputError, ParameterError, RunFolderError, option


@dataclass(frozen=True)
class Job:
    """What a worker needs to know of a run.

    Args:
        method: what to train.
        token: the same for the same method and data, so that no checkpoint of another run is taken up.
        path: where members keep their checkpoints; None = in memory only.
    """

    method: Method
    token: str
    path: str | None

    def stored(self, index: int, round: int) -> State | None:
        """Return a member's checkpoint of a round, None if there is none.

        Raises:
            RunFolderError: it cannot be read or is of another run.
        """
        data = None if self.path is None else storage(self.path).read(checkpoint_name(index, round))
        if data is None:
            return None
        found = unpack(data)
        if found["token"] != self.token:
            raise RunFolderError(
                f"{self.path} holds checkpoints of another run (other data, parameters or version); resume with "
                f"what it was started with, or choose another folder"
            )
        return found

    def required(self, index: int, round: int) -> State:
        """Return a member's checkpoint of a round.

        Raises:
            RunFolderError: there is none, or as `stored`.
        """
        found = self.stored(index, round)
        if found is None:
            raise RunFolderError(
                f"member {index} has no checkpoint of round {round} under {self.path}; on several machines give a "
                f"storage that all of them share"
            )
        return found


class Worker:
    """Runs members one at a time on some CPUs, perhaps on a GPU.

    Args:
        threads: CPU threads, >= 1.
        device: where members compute, as torch names it.
    """

    def __init__(self, threads: int, device: str) -> None:
        self.threads, self.device = threads, device
        self.members: dict[int, tuple[int, Member]] = {}  # index -> (round it finished, member)

    def take(self, job: Job, x: Array) -> None:
        """Make ready for a run; members of the run before are forgotten."""
        self.job, self.members = job, {}
        self.storage = None if job.path is None else storage(job.path)
        self.shape = tuple(x.shape[1:])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes into the data
            self.x = torch.from_numpy(x).to(self.device)

    def advance(self, index: int, agreed: Agreement | None, round: int) -> MemberOutput:
        """Train a member for one round and store its state; a round that is stored already is not done again."""
        with threads(self.threads):
            done = self.job.stored(index, round)
            if done is not None:
                return stored_output(done)
            member = self._member(index, round)
            self.members.pop(index, None)  # not to be trusted should this round break off
            output = member.advance(self.x, agreed, round)
            if self.storage is not None:
                self._store(index, round, member, output)
            self.members[index] = (round, member)
            return output

    def state(self, index: int, round: int) -> State:
        """Return a member's state after a round."""
        return self._member(index, round + 1).state_dict()

    def _member(self, index: int, round: int) -> Member:
        """Return a member that has finished the round before `round`."""
        finished, member = self.members.get(index, (-2, None))
        if member is not None and finished == round - 1:
            return member
        member = self._new_member(index)
        if round > 0:
            member.load_state_dict(self.job.required(index, round - 1)["state"])
        return member

    def _new_member(self, index: int) -> Member:
        return self.job.method.member(self.shape, index, self.device)

    def _store(self, index: int, round: int, member: Member, output: MemberOutput) -> None:
        assert self.storage is not None
        state = {"token": self.job.token, "state": member.state_dict(), "output": _plain(output)}
        self.storage.write(checkpoint_name(index, round), pack(state))
        if round > 0:
            self.storage.delete(checkpoint_name(index, round - 1))


class LocalPool:
    """Runs the members one after another in this process.

    The labels are those of RayPool, bit for bit, as long as `cpus_per_member` is the same: the order of floating-point
    sums depends on the number of threads.

    Args:
        cpus_per_member: CPU threads a member computes with, >= 1.
        device: "cpu", "cuda", "cuda:1", ... or "auto": a GPU if there is one.
        storage: folder or URI for the members' checkpoints; None = keep them in memory, without resume.
        listener: called with an Event whenever a member has finished a round or was lost.
    """

    def __init__(
        self,
        *,
        cpus_per_member: int = 1,
        device: str = "auto",
        storage: str | Path | None = None,
        listener: Listener | None = None,
    ) -> None:
        if not isinstance(cpus_per_member, int) or cpus_per_member < 1:
            raise ParameterError(
                [f"{option('cpus_per_member', cpus_per_member, of='pool')} cannot be used: give a whole number >= 1."]
            )
        self.storage = None if storage is None else str(storage)
        self.listener = listener
        self.worker: Worker | None = None
        self._cpus_per_member, self._device = cpus_per_member, device

    def open(self, method: Method, x: Array, resume: Round | None = None) -> None:
        """Make ready to advance the members of `method` on `x`; see `contracts.Pool`."""
        self.worker = Worker(self._cpus_per_member, chosen_device(self._device))
        self.job = prepared(method, x, self.storage, resume)
        self.worker.take(self.job, x)
        self.finished = finished_rounds(method, resume)
        self.lost = lost_members(resume)

    def advance(self, agreed: Agreement | None, round: int) -> list[MemberOutput]:
        """Train every member that is not lost for one round; see `contracts.Pool`."""
        assert self.worker is not None, "open comes first"
        return [self._advance_member(self.worker, m, agreed, round) for m in range(self.job.method.n_members)]

    def states(self) -> list[State | None]:
        """Return every member's state after its last round; None for a lost one."""
        assert self.worker is not None, "open comes first"
        return [
            None if m in self.lost else self.worker.state(m, self.finished[m]) for m in range(self.job.method.n_members)
        ]

    def close(self) -> None:
        """Let go of members and data."""
        self.worker = None

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance_member(self, worker: Worker, index: int, agreed: Agreement | None, round: int) -> MemberOutput:
        start = time.perf_counter()
        if index not in self.lost:
            try:
                output = worker.advance(index, agreed, round)
            except InputError:
                raise
            except Exception as error:
                self.lost[index] = lost_cause(error)
                tell(self.listener, Event("lost", index, round, cause=self.lost[index]))
            else:
                self.finished[index] = round
                tell(
                    self.listener,
                    Event("finished", index, round, output.scores, seconds=time.perf_counter() - start),
                )
                return output
        return lost_output(len(worker.x), self.lost[index])


def prepared(method: Method, x: Array, path: str | None, resume: Round | None) -> Job:
    """Return the job of a run; without `resume`, checkpoints that lie in the way are deleted."""
    if path is not None and resume is None:
        folder = storage(path)
        for name in folder.names():
            if name.startswith("member-"):
                folder.delete(name)
    return Job(method, token(method, x), path)


def token(method: Method, x: Array) -> str:
    """Return a fingerprint of method and data: parameters, shape, type and about a thousand points."""
    described = json.dumps({k: repr(v) for k, v in sorted(method.get_params().items())})
    digest = hashlib.blake2b(f"{distclust.__version__} {type(method).__name__} {described}".encode(), digest_size=16)
    digest.update(f"{x.shape} {x.dtype}".encode())
    digest.update(np.ascontiguousarray(x[:: max(1, len(x) // 1000)]).tobytes())
    return digest.hexdigest()


def checkpoint_name(index: int, round: int) -> str:
    """Return the name of the file that holds a member after a round."""
    return f"member-{index:03d}-round-{round:04d}.safetensors"


def finished_rounds(method: Method, resume: Round | None) -> dict[int, int]:
    """Return for every member the round it has finished, -1 = none."""
    return dict.fromkeys(range(method.n_members), -1 if resume is None else resume.index)


def lost_members(resume: Round | None) -> dict[int, str]:
    """Return the members that were lost before, with the causes."""
    outputs = () if resume is None else resume.outputs
    return {index: o.cause for index, o in enumerate(outputs) if o.status == "lost"}


def lost_output(n_samples: int, cause: str) -> MemberOutput:
    """Return what stands for a lost member."""
    return MemberOutput(np.full(n_samples, -1, np.int64), status="lost", cause=cause)


def lost_cause(error: BaseException) -> str:
    """Return an error as a cause, one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def tell(listener: Listener | None, event: Event) -> None:
    """Tell a listener, if there is one."""
    if listener is not None:
        listener(event)


def chosen_device(device: str) -> str:
    """Return the device to compute on; "auto" is a GPU if torch sees one.

    Raises:
        ParameterError: torch knows no such device, or does not see it.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        given = option("device", device, of="pool")
        raise ParameterError([f"{given} cannot be used ({error}). Use 'cpu', 'cuda' or 'auto'."]) from error
    return device


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Run the block with n CPU threads in torch and in the libraries under numpy and scikit-learn."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before)


def stored_output(checkpoint: State) -> MemberOutput:
    """Return the output that stands in a checkpoint."""
    plain = checkpoint["output"]
    return MemberOutput(**plain | {"labels": plain["labels"].astype(np.int64)})


def _plain(output: MemberOutput) -> dict[str, Any]:
    return {
        "labels": narrowed(output.labels),
        "latents": output.latents,
        "scores": output.scores,
        "status": output.status,
        "cause": output.cause,
    }
