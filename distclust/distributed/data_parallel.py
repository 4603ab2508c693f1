"""One member over several devices: a team of processes by torch.distributed, and the pool that runs teams on Ray Train.

Every worker of a team has the whole data and draws the same random numbers; it computes its part of each batch. Slopes
are averaged by DistributedDataParallel, over gloo on CPUs and over nccl on GPUs.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, cast

import ray
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distclust.contracts import (
    Agreement,
    Array,
    Event,
    Listener,
    Member,
    MemberOutput,
    Method,
    Round,
    State,
    TeamMethod,
)
from distclust.distributed.checkpoint import located
from distclust.distributed.mapped import opened
from distclust.distributed.pool import (
    Worker,
    finished_rounds,
    lost_cause,
    lost_members,
    lost_output,
    prepared,
    stored_output,
    tell,
)
from distclust.distributed.ray_pool import (
    DEATHS,
    PATIENCE,
    Connection,
    cluster_faults,
    put_agreement,
    put_data,
    rooms,
)
from distclust.errors import InputError, ParameterError, RunError, option, option_name

_OPTIONS = signature(DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {  # the older name is going away
    "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers": False
}
_TICK = 0.5  # seconds between Ray Train's looks at the workers
_START = 60.0  # seconds that Ray Train waits for the workers' CPUs and GPUs before it asks anew


class TorchTeam:
    """The processes of torch's default process group as a team; see `contracts.Team`.

    Attributes:
        rank: of this process, 0 .. size - 1.
        size: number of processes.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def part(self, n: int) -> slice:
        """Return which of n rows this process has to do with: the first parts are one longer where n is uneven.

        Raises:
            ParameterError: there are fewer rows than processes.
        """
        if n < self.size:
            raise ParameterError(
                [f"{n} points cannot be divided among the {self.size} workers of a member; use fewer workers."]
            )
        return _part(n, self.rank, self.size)

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """Return all n rows, of which each process gives its part; no gradient flows."""
        parts = [_part(n, rank, self.size) for rank in range(self.size)]
        own, longest = parts[self.rank], parts[0].stop
        assert len(rows) == own.stop - own.start, "rows are not this process' part"
        width = math.prod(rows.shape[1:])
        sent = rows.new_zeros(longest, width)
        sent[: len(rows)] = rows.detach().reshape(len(rows), width)
        data = sent.view(torch.uint8)  # (longest, bytes of a row): neither backend takes all types, both take bytes
        found = [torch.empty_like(data) for _ in parts]
        dist.all_gather(found, data)
        kept = [f[: part.stop - part.start] for f, part in zip(found, parts, strict=True)]
        return torch.cat(kept).view(rows.dtype).reshape(n, *rows.shape[1:])

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of the processes' values, the same bytes on all; no gradient flows."""
        total = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the network with slopes that are the mean over the processes.

        A parameter that the loss does not depend on has none, as in one process. Buffers stay the process' own.
        """
        if not any(parameter.requires_grad for parameter in net.parameters()):
            return net
        return DistributedDataParallel(net, find_unused_parameters=True, **_OWN_BUFFERS)


class TeamWorker(Worker):
    """One of the processes that train a member together; the first one keeps the checkpoints.

    Args:
        threads: CPU threads, >= 1.
        device: where it computes, as torch names it.
        team: the processes.
    """

    def __init__(self, threads: int, device: str, team: TorchTeam) -> None:
        super().__init__(threads, device)
        self.team = team

    def _new_member(self, index: int) -> Member:
        return cast(TeamMethod, self.job.method).member(self.shape, index, self.device, self.team)

    def _store(self, index: int, round: int, member: Member, output: MemberOutput) -> None:
        if self.team.rank == 0:
            super()._store(index, round, member, output)
        dist.barrier()  # so that all of them find the checkpoint from now on


class DataParallelPool:
    """Runs each member on several workers by Ray Train, on this machine or on a cluster, one member after another.

    For members that are too large for one device. Each round starts its workers anew (some ten seconds), reads the
    member's last checkpoint and stores the next. When a worker or its node dies, the round starts again from that
    checkpoint on what is left. Same seed and same number of workers: the same bytes on CPUs.

    The loss follows that of one worker with the same batches and `batch_norm_groups=workers_per_member` up to the
    rounding of sums. One thing differs: one worker moves a batch norm's running statistics by each group in turn, a
    team takes the mean of what its workers' statistics have become. Training does not use them, the labels do.

    Args:
        workers_per_member: workers that train a member together, >= 1.
        storage: folder or URI for the members' checkpoints that all nodes reach.
        cpus_per_worker: CPUs a worker owns, and the threads it computes with, >= 1.
        gpus_per_worker: GPUs a worker owns, 0 or 1.
        address: of a running cluster, "auto" for the one this machine belongs to, or "local" for a private Ray on this
            machine; None = the environment's RAY_ADDRESS, else "local".
        num_cpus: CPUs of the private Ray; None = all that this process may use.
        dashboard: start the dashboard of the private Ray; its address is in `dashboard_url`.
        retries: how often a member's round is started again after a worker died, >= 0, before the member is lost.
        listener: called with an Event when Ray is there, or a member finished, was restarted or was lost.

    Raises:
        ParameterError: an option cannot be used.
    """

    def __init__(
        self,
        *,
        workers_per_member: int,
        storage: str | Path,
        cpus_per_worker: int = 1,
        gpus_per_worker: int = 0,
        address: str | None = None,
        num_cpus: int | None = None,
        dashboard: bool = False,
        retries: int = 3,
        listener: Listener | None = None,
    ) -> None:
        faults = _option_faults(workers_per_member, cpus_per_worker, gpus_per_worker)
        if faults := faults + cluster_faults(num_cpus, retries):
            raise ParameterError(faults)
        self.storage = located(storage)
        self.listener = listener
        self._workers, self._cpus, self._gpus = workers_per_member, cpus_per_worker, gpus_per_worker
        self._retries = retries
        self._ray = Connection(address, num_cpus, dashboard)
        self._folder: str | None = None  # of Ray Train's own files

    @property
    def dashboard_url(self) -> str:
        """The address of the dashboard, "" if there is none."""
        return self._ray.dashboard_url

    def open(self, method: Method, x: Array, resume: Round | None = None) -> None:
        """Make ready to advance the members of `method` on `x`; see `contracts.Pool`.

        Raises:
            ParameterError: the method cannot be trained so, or the cluster has no room for the workers.
        """
        if not getattr(method, "trains_in_teams", False):
            raise ParameterError(
                [
                    f"{type(method).__name__} cannot train one member on several workers "
                    f"({option('workers_per_member', self._workers, of='pool')}); methods mice and moco can. "
                    f"Use {option('workers_per_member', 1, of='pool')}: members then run side by side."
                ]
            )
        if self._ray.open(x.nbytes):
            tell(self.listener, Event("connected", -1, -1, cause=self.dashboard_url))
        self._check_room()
        self._folder = self._folder or tempfile.mkdtemp(prefix="distclust-")
        self.n_samples = len(x)
        self.job = prepared(method, x, self.storage, resume)
        self._sent_job, self._x = ray.put(self.job), put_data(x)
        self.finished = finished_rounds(method, resume)
        self.lost = lost_members(resume)

    def advance(self, agreed: Agreement | None, round: int) -> list[MemberOutput]:
        """Train every member that is not lost for one round; see `contracts.Pool`."""
        sent = put_agreement(agreed)
        return [self._advance_member(member, sent, round) for member in range(self.job.method.n_members)]

    def states(self) -> list[State | None]:
        """Return every member's state after its last round; None for a lost one."""
        return [
            None if m in self.lost else self.job.required(m, self.finished[m])["state"]
            for m in range(self.job.method.n_members)
        ]

    def close(self) -> None:
        """Let go of the data, and end Ray where this pool started it."""
        self._sent_job = self._x = None
        self._ray.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> DataParallelPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance_member(self, member: int, agreed: Any, round: int) -> MemberOutput:
        start = time.perf_counter()
        if member not in self.lost:
            task = _Task(self._sent_job, self._x, agreed, member, round, self._cpus, self._gpus > 0)
            if cause := self._run(task):
                self.lost[member] = cause
                tell(self.listener, Event("lost", member, round, cause=cause))
        if member in self.lost:
            return lost_output(self.n_samples, self.lost[member])
        output = stored_output(self.job.required(member, round))
        self.finished[member] = round
        tell(self.listener, Event("finished", member, round, output.scores, seconds=time.perf_counter() - start))
        return output

    def _run(self, task: _Task) -> str:
        """Have a member's round done, again where workers die; return why the member is lost, "" if it is not."""
        for deaths in range(1, self._retries + 2):
            failure = self._attempt(task)
            if failure is None:
                return ""
            error = _own_error(failure)
            if isinstance(error, InputError):
                raise error from failure
            if error is not None:
                return lost_cause(error)
            cause = _death(failure)
            if deaths <= self._retries:
                tell(self.listener, Event("restarted", task.member, task.round, cause=cause))
        return f"a worker died in each of {deaths} attempts: {cause}"

    def _attempt(self, task: _Task) -> Exception | None:
        """Have one group of workers do a member's round and return why it broke off, None if it did not."""
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(_TICK))
        from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
        from ray.train.torch import TorchTrainer

        trainer = TorchTrainer(
            _train,
            train_loop_config={"task": task},
            scaling_config=ScalingConfig(
                num_workers=self._workers,
                use_gpu=self._gpus > 0,
                resources_per_worker={"CPU": self._cpus, "GPU": self._gpus},
            ),
            run_config=RunConfig(
                name=uuid.uuid4().hex,
                storage_path=self._folder,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=int(PATIENCE / _START) - 1),
            ),
        )
        try:
            with _interrupts(), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of what Ray Train calls in Ray Data
                trainer.fit()
        except (WorkerGroupError, *DEATHS) as error:
            return error
        except ControllerError as error:
            raise RunError(
                f"the workers of a member cannot be started ({lost_cause(error.controller_failure)}); if the cluster's "
                f"CPUs and GPUs are taken by others, `ray status` shows by whom"
            ) from error
        return None

    def _check_room(self) -> None:
        """Complain where the cluster cannot hold the workers of a member."""
        found = rooms(self._cpus, self._gpus)
        if found < self._workers:
            have = ray.cluster_resources()
            raise ParameterError(
                [
                    f"a member asks for {self._workers} workers with {self._cpus} CPUs and {self._gpus} GPUs each "
                    f"({option_name('workers_per_member', of='pool')}, {option_name('cpus_per_member', of='pool')}, "
                    f"{option_name('gpus_per_member', of='pool')}), but Ray has room for "
                    f"{found}: {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs. Ask for less."
                ]
            )


@dataclass(frozen=True)
class _Task:
    """A round of a member; the first three are references into the object store."""

    job: Any
    x: Any
    agreed: Any
    member: int
    round: int
    threads: int
    on_gpu: bool


def _train(config: dict[str, _Task]) -> None:
    """Do one worker's share of a member's round."""
    from ray.train.torch import get_device

    task = config["task"]
    device = "cpu"  # without a GPU of its own, `get_device` would name one that it sees
    if task.on_gpu:
        device = str(get_device())
        torch.cuda.set_device(device)
    worker = TeamWorker(task.threads, device, TorchTeam())
    worker.take(ray.get(task.job), opened(ray.get(task.x)))
    worker.advance(task.member, None if task.agreed is None else ray.get(task.agreed), task.round)


def _part(n: int, rank: int, size: int) -> slice:
    """Return the rank's part of n rows, cut as `tensor_split` cuts."""
    least, longer = divmod(n, size)
    start = rank * least + min(rank, longer)
    return slice(start, start + least + (rank < longer))


def _own_error(failure: Exception) -> Exception | None:
    """Return the error of the member's own code, None where workers died and the others lost touch with them."""
    errors = getattr(failure, "worker_failures", {})
    return next((errors[rank] for rank in sorted(errors) if not _from_a_death(errors[rank])), None)


def _from_a_death(error: Exception) -> bool:
    """Return whether a worker's error says that a process died, its own or another."""
    if isinstance(error, dist.DistError) or type(error).__module__.startswith("ray."):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)  # gloo has no type of its own


def _death(failure: Exception) -> str:
    """Return the death behind a failure as a cause, one line."""
    errors = list(getattr(failure, "worker_failures", {}).values())
    deaths = [getattr(error, "health_check_failure", None) for error in errors]
    return lost_cause(next((error for error in [*deaths, *errors] if error is not None), failure))


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Ray Train stops its workers at one, but then asks the process to exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _option_faults(workers: int, cpus: int, gpus: int) -> list[str]:
    faults = [
        f"{name}={value!r} cannot be used: give a whole number >= 1."
        for name, value in (("workers_per_member", workers), ("cpus_per_worker", cpus))
        if not isinstance(value, int) or isinstance(value, bool) or value < 1
    ]
    if gpus not in (0, 1):
        faults.append(f"gpus_per_worker={gpus!r} cannot be used: a worker owns one GPU or none.")
    return faults
