"""The pool on Ray: a fixed set of long-lived actors, members dealt to the next free one."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from distclust.contracts import Agreement, Array, Event, Listener, MemberOutput, Method, Round, State
from distclust.data.threads import available_cpus
from distclust.distributed.checkpoint import located
from distclust.distributed.mapped import MappedArray, mapped, opened
from distclust.distributed.pool import (
    Job,
    Worker,
    finished_rounds,
    lost_cause,
    lost_members,
    lost_output,
    prepared,
    tell,
)
from distclust.errors import InputError, ParameterError, RunError, option, option_name

# The process died, not the member's code: the member starts again from its last finished round.
DEATHS = (RayActorError, OutOfMemoryError, ObjectLostError, NodeDiedError, WorkerCrashedError)
_CONNECT = 10.0  # seconds for a cluster's address to answer
_TICK = 1.0  # seconds between looks, so that Ctrl-C is heard
PATIENCE = 300.0  # seconds to wait for the first worker
AUTOSCALING_PATIENCE = 1800.0  # the same, where a node has to be found and set up first
_OBJECT_STORE = 512 * 2**20  # bytes that a private Ray takes where the data is small


class Connection:
    """A connection to a Ray cluster, or a private Ray; one that is there already is used and left running.

    Args:
        address: of a running cluster, or "auto"; None = RAY_ADDRESS, else a private Ray on this machine.
        num_cpus: CPUs of the private Ray; None = all that this process may use.
        dashboard: start the dashboard of the private Ray.

    Attributes:
        dashboard_url: its address, "" if there is none.
    """

    def __init__(self, address: str | None, num_cpus: int | None, dashboard: bool) -> None:
        self.address, self.num_cpus, self.dashboard = address, num_cpus, dashboard
        self.dashboard_url = ""
        self._own = False

    def open(self, n_bytes: int) -> bool:
        """Connect to Ray, or start it, and return whether that was needed.

        Args:
            n_bytes: size of the data, for the object store of a private Ray.

        Raises:
            ParameterError: the address is none, or nothing answers there.
            RunError: there is no cluster at the address.
        """
        os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # workers keep the folder that relative paths are from
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # numba, and so UMAP, compiles with Python's own print alone
        if ray.is_initialized():
            return False
        address = self.address or os.environ.get("RAY_ADDRESS")
        said = address_said(self.address)
        token = Path.home() / ".ray" / "auth_token"
        had_token = token.exists()
        quiet = {"log_to_driver": False, "logging_level": "error"}
        _reach(address, said, _instead(self.address))
        try:
            with _own_sigterm():
                if address and address != "local":
                    context = ray.init(address=address, **quiet)
                else:
                    context = ray.init(
                        address="local",
                        num_cpus=self.num_cpus or available_cpus(),
                        include_dashboard=self.dashboard,
                        # None = by the memory
                        object_store_memory=_OBJECT_STORE if 2 * n_bytes < _OBJECT_STORE else None,
                        **quiet,
                    )
        except (OSError, ValueError, RuntimeError) as error:
            where = f"to the Ray cluster at {address!r} of {said}" if said else "to a local Ray"
            other = f", or {_instead(self.address)}" if said else ""
            told = (
                f"cannot connect {where} ({lost_cause(error)}). Check that it runs (`ray status`) and, where it asks "
                f"for a token, that RAY_AUTH_MODE=token is set here too{other}."
            )
            raise (ParameterError([told]) if said and isinstance(error, ValueError) else RunError(told)) from error
        self._own = True
        if not had_token and token.exists():
            token.chmod(0o600)  # Ray leaves a new token readable for everyone
        self.dashboard_url = f"http://{context.dashboard_url}" if context.dashboard_url else ""
        return True

    def close(self) -> None:
        """End the connection, and a private Ray with it, where `open` made it."""
        if self._own:
            ray.shutdown()
            self._own = False


class RayPool:
    """Runs the members on Ray, on this machine or on a cluster.

    As many actors are started as the CPUs and GPUs allow, at most one a member; each takes the next member that waits,
    rather one that it ran before. The data is put into the object store once and read from there without a copy, unless
    it is memory-mapped: then workers on one machine open its file, and those of several nodes do so where it is larger
    than a node's store. A member whose process or node dies starts again from its last finished round on what is left.

    Args:
        cpus_per_member: CPUs a member owns, and the threads it computes with, >= 1.
        gpus_per_member: share of a GPU that a member owns: 0 .. 1, or a whole number.
        address: of a running cluster, "auto" for the one this machine belongs to, or "local" for a private Ray on this
            machine; None = the environment's RAY_ADDRESS, else "local".
        num_cpus: CPUs of the private Ray; None = all that this process may use.
        dashboard: start the dashboard of the private Ray; its address is in `dashboard_url`.
        storage: folder or URI for the members' checkpoints that all nodes reach; None = a temporary folder.
        retries: how often a member is started again within a round after its process died, >= 0, before it is lost.
        autoscaling: ask for one worker a member, whatever the cluster has now, and wait for the nodes that its
            autoscaler adds; workers that it does not find room for are done without.
        n_workers: workers at most, >= 1; None = one a member.
        name: what the dashboard calls the members' rounds, as in "selective/usps/seed3" for
            "selective/usps/seed3/member07".
        listener: called with an Event whenever a worker started, or a member finished, was restarted or was lost.

    Raises:
        ParameterError: an option cannot be used.
    """

    def __init__(
        self,
        *,
        cpus_per_member: int = 1,
        gpus_per_member: float = 0.0,
        address: str | None = None,
        num_cpus: int | None = None,
        dashboard: bool = False,
        storage: str | Path | None = None,
        retries: int = 3,
        autoscaling: bool = False,
        n_workers: int | None = None,
        name: str = "distclust",
        listener: Listener | None = None,
    ) -> None:
        _check_options(cpus_per_member, gpus_per_member, num_cpus, retries)
        self.storage = None if storage is None else located(storage)
        self.listener = listener
        self.name = name
        self._most = n_workers
        self._share = {"num_cpus": cpus_per_member, "num_gpus": gpus_per_member}
        self._ray = Connection(address, num_cpus, dashboard)
        self._retries = retries
        self._autoscaling = autoscaling
        self._temporary: str | None = None
        self.job: Any = None  # references into the object store
        self.x: Any = None
        self._workers: list[_Remote] = []
        self._starting: dict[Any, _Remote] = {}
        self._waiting_since = time.monotonic()

    def connect(self, n_bytes: int = 0) -> None:
        """Connect to Ray, or start it; called by `open` where it has not been.

        Args:
            n_bytes: size of the data, for the object store of a private Ray.

        Raises:
            ParameterError: nothing answers at the address.
            RunError: there is no cluster at the address.
        """
        if self._ray.open(n_bytes):
            tell(self.listener, Event("connected", -1, -1, cause=self.dashboard_url))

    @property
    def dashboard_url(self) -> str:
        """The address of the dashboard, "" if there is none."""
        return self._ray.dashboard_url

    def start(self, n_workers: int) -> None:
        """Start workers until there are `n_workers`, as far as the cluster's CPUs and GPUs allow or it grows.

        Raises:
            ParameterError: the cluster cannot hold a single one.
        """
        self.connect()
        wanted = n_workers if self._autoscaling else min(n_workers, self._slots())
        wanted = wanted if self._most is None else min(wanted, self._most)
        while len(self._workers) + len(self._starting) < wanted:
            self._start_worker()

    def open(self, method: Method, x: Array, resume: Round | None = None) -> None:
        """Make ready to advance the members of `method` on `x`; see `contracts.Pool`."""
        self.connect(x.nbytes)
        if self.storage is None and self._temporary is None:
            if len([node for node in ray.nodes() if node["Alive"]]) > 1:
                raise ParameterError(
                    [f"the cluster has several nodes: name one that they share with {option('storage', of='pool')}."]
                )
            self._temporary = tempfile.mkdtemp(prefix="distclust-")
        path = self.storage or self._temporary
        self.method, self.n_samples = method, len(x)
        self.job = ray.put(prepared(method, x, path, resume))
        self.x = put_data(x)
        self.finished = finished_rounds(method, resume)
        self.lost = lost_members(resume)
        self.deaths = dict.fromkeys(range(method.n_members), 0)
        self._failed_starts = 0
        before = [*self._workers, *self._starting.values()]  # those that still start may have the last run's job
        self._starting = {w.actor.take.remote(self.job, self.x): _Remote(w.actor, set()) for w in before}
        self._workers = []
        self.start(method.n_members)
        self._await_first_worker()  # so that no round is charged with the start

    def wait_for_workers(self) -> None:
        """Wait until all workers that were started are ready."""
        while self._starting:
            self._settle_starts()

    def _await_first_worker(self) -> None:
        self._waiting_since = time.monotonic()
        while not self._workers:
            self._settle_starts()
            self._await_worker(False)

    def _settle_starts(self) -> None:
        ready, _ = ray.wait(list(self._starting), timeout=_TICK)
        for ref in ready:
            self._settle_start(ref)

    def advance(self, agreed: Agreement | None, round: int) -> list[MemberOutput]:
        """Train every member that is not lost for one round; see `contracts.Pool`."""
        sent = put_agreement(agreed)
        waiting = [m for m in range(self.method.n_members) if m not in self.lost]
        running: dict[Any, _Task] = {}
        outputs: dict[int, MemberOutput] = {}
        try:
            while waiting or running:
                busy = {id(task.worker) for task in running.values()}
                for worker in [w for w in self._workers if id(w) not in busy]:
                    if waiting:
                        task = _Task(worker, _preferred(worker, waiting), time.perf_counter())
                        named = worker.actor.advance.options(name=f"{self.name}/member{task.member:02d}")
                        running[named.remote(task.member, sent, round)] = task
                self._await_worker(bool(running))
                ready, _ = ray.wait([*running, *self._starting], timeout=_TICK)
                for ref in ready:
                    if ref in self._starting:
                        self._settle_start(ref)
                    else:
                        self._settle(ref, running.pop(ref), round, waiting, outputs)
        finally:
            for task in running.values():  # the round broke off: end what is under way
                self._drop(task.worker)
        return [
            outputs[m] if m in outputs else lost_output(self.n_samples, self.lost[m])
            for m in range(self.method.n_members)
        ]

    def states(self) -> list[State | None]:
        """Return every member's state after its last round; None for a lost one."""
        return [None if m in self.lost else self._state(m) for m in range(self.method.n_members)]

    def close(self) -> None:
        """End the workers, and Ray where this pool started it."""
        if ray.is_initialized():
            for worker in [*self._workers, *self._starting.values()]:
                with contextlib.suppress(Exception):
                    ray.kill(worker.actor)
        self._workers, self._starting = [], {}
        self._ray.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self, ref: Any, task: _Task, round: int, waiting: list[int], outputs: dict[int, MemberOutput]) -> None:
        """Take in what came of a member's round."""
        member, seconds = task.member, time.perf_counter() - task.start
        try:
            output = ray.get(ref)
        except DEATHS as error:
            self._replace(task.worker)
            self.deaths[member] += 1
            if self.deaths[member] > self._retries:
                self._lose(member, round, f"its process died {self.deaths[member]} times: {lost_cause(error)}")
            else:
                waiting.append(member)
                tell(self.listener, Event("restarted", member, round, cause=lost_cause(error)))
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from error
            self._lose(member, round, lost_cause(error.cause))
        else:
            outputs[member] = _writable(output)
            self.finished[member] = round
            self.deaths[member] = 0
            task.worker.members.add(member)
            tell(self.listener, Event("finished", member, round, output.scores, seconds=seconds))

    def _lose(self, member: int, round: int, cause: str) -> None:
        self.lost[member] = cause
        tell(self.listener, Event("lost", member, round, cause=cause))

    def _slots(self) -> int:
        """Return how many workers the cluster can hold."""
        cpus, gpus = self._share["num_cpus"], self._share["num_gpus"]
        slots = rooms(cpus, gpus)
        if slots < 1:
            have = ray.cluster_resources()
            raise ParameterError(
                [
                    f"a member asks for {cpus} CPUs and {gpus:g} GPUs ({option_name('cpus_per_member', of='pool')}, "
                    f"{option_name('gpus_per_member', of='pool')}), but "
                    f"Ray has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs. Ask for less."
                ]
            )
        return slots

    def _start_worker(self) -> None:
        actor = ray.remote(RayWorker).options(max_restarts=0, **self._share).remote(self._share["num_cpus"])
        begun = actor.ready.remote() if self.job is None else actor.take.remote(self.job, self.x)
        self._starting[begun] = _Remote(actor, set())

    def _settle_start(self, ref: Any) -> None:
        worker = self._starting.pop(ref)
        try:
            ray.get(ref)
        except DEATHS as error:
            self._failed_starts += 1
            if self._failed_starts > self._retries + 1:
                raise RunError(f"workers cannot be started on Ray: {lost_cause(error)}") from error
            self._start_worker()
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from error
            raise RunError(f"a worker cannot take up the run: {lost_cause(error.cause)}") from error
        else:
            self._workers.append(worker)
            tell(self.listener, Event("started", -1, -1))

    def _await_worker(self, any_running: bool) -> None:
        """Complain when no worker runs and none comes up."""
        if any_running or self._workers:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > (patience := self._patience()):
            raise RunError(
                f"no worker could be started within {patience:.0f} s; the cluster's CPUs and GPUs are taken by others "
                f"(`ray status` shows by whom)"
            )

    def _patience(self) -> float:
        return AUTOSCALING_PATIENCE if self._autoscaling else PATIENCE

    def _replace(self, worker: _Remote) -> None:
        self._drop(worker)
        self._start_worker()

    def _drop(self, worker: _Remote) -> None:
        with contextlib.suppress(Exception):
            ray.kill(worker.actor)
        if worker in self._workers:
            self._workers.remove(worker)

    def _state(self, member: int) -> State:
        for _ in range(self._retries + 1):
            self._await_first_worker()
            holder = next((w for w in self._workers if member in w.members), self._workers[0])
            try:
                return ray.get(holder.actor.state.remote(member, self.finished[member]))
            except DEATHS as error:
                cause = error
                self._replace(holder)
        raise RunError(f"the state of member {member} cannot be had: {lost_cause(cause)}") from cause


class RayWorker(Worker):
    """A worker as an actor: it computes on what Ray granted.

    Args:
        threads: CPU threads.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, "cuda" if ray.get_gpu_ids() else "cpu")

    def take(self, job: Job, x: Array | MappedArray) -> None:
        """Make ready for a run; members of the run before are forgotten."""
        super().take(job, opened(x))

    def ready(self) -> None:
        """Answer once the process is up."""


@dataclass(eq=False)
class _Remote:
    actor: Any
    members: set[int]  # those whose last state it may hold


@dataclass(eq=False)
class _Task:
    worker: _Remote
    member: int
    start: float


def put_agreement(agreed: Agreement | None) -> Any:
    """Return a reference to an agreement in the object store, without the members' labels; None for none."""
    return None if agreed is None else ray.put(replace(agreed, aligned=agreed.aligned[:, :0]))


def put_data(x: Array) -> Any:
    """Return a reference to data, or to where memory-mapped data lies; its value goes through `opened`."""
    place = mapped(x)
    stores = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]]
    if place is not None and (len(stores) == 1 or x.nbytes > min(stores)):
        return ray.put(place)
    return ray.put(np.asarray(x))


def _preferred(worker: _Remote, waiting: list[int]) -> int:
    """Take out of `waiting` the member for this worker: rather one that it ran before."""
    known = [m for m in waiting if m in worker.members]
    member = (known or waiting)[0]
    waiting.remove(member)
    return member


def _writable(output: MemberOutput) -> MemberOutput:
    """Return the output with arrays of its own; those from the object store are read-only."""
    latents = None if output.latents is None else np.array(output.latents)
    return replace(output, labels=np.array(output.labels), latents=latents)


def _check_options(cpus: int, gpus: float, num_cpus: int | None, retries: int) -> None:
    faults = []
    if not isinstance(cpus, int) or isinstance(cpus, bool) or cpus < 1:
        faults.append(f"{option('cpus_per_member', cpus, of='pool')} cannot be used: give a whole number >= 1.")
    if isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        faults.append(
            f"{option('gpus_per_member', gpus, of='pool')} cannot be used: give a share from 0 to 1, or a whole number."
        )
    faults += cluster_faults(num_cpus, retries)
    if faults:
        raise ParameterError(faults)


def address_said(given: str | None) -> str:
    """Return who says where the cluster is: the option or RAY_ADDRESS, as it is written; "" if none does."""
    if given:
        return option("address", given, of="pool")
    named = os.environ.get("RAY_ADDRESS")
    return f"RAY_ADDRESS={shlex.quote(named)}" if named else ""


def _instead(given: str | None) -> str:
    """Return what to do for a Ray on this machine where an address cannot be used."""
    local = option("address", "local", of="pool")
    if given:
        return f"leave it out for a Ray on this machine (or give {local} where RAY_ADDRESS is set)"
    return f"`unset RAY_ADDRESS` in the shell or give {local} for a Ray on this machine"


def _reach(address: str | None, said: str, instead: str) -> None:
    """Look whether something answers at an address; Ray itself would wait there for many minutes.

    Args:
        address: of the cluster.
        said: who says so.
        instead: what to do where it cannot be used.

    Raises:
        ParameterError: nothing does.
    """
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if not host or not port.isdecimal():
        return  # none, or "auto", which Ray knows of
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ParameterError(
            [
                f"{said} cannot be used: nothing answers there ({error}). Give the address of a Ray cluster that runs "
                f"(`ray status` shows whether it does), or {instead}."
            ]
        ) from error


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does: Ray has it end the process, with a stack trace, whatever was set before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before not in (None, signal.SIG_DFL):
            signal.signal(signal.SIGTERM, before)


def rooms(cpus: float, gpus: float) -> int:
    """Return how many workers the cluster has room for, each on one node.

    Args:
        cpus: CPUs a worker owns, > 0.
        gpus: share of a GPU that it owns, or a whole number of them, >= 0.
    """
    return sum(rooms_of(node["Resources"], cpus, gpus) for node in ray.nodes() if node["Alive"])


def rooms_of(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers a node has room for, given its resources; arguments as in `rooms`."""
    by_cpus, there = int(node.get("CPU", 0) // cpus), int(node.get("GPU", 0))
    if not gpus:
        return by_cpus
    return min(by_cpus, there * int(1 / gpus + 1e-9) if gpus < 1 else int(there // gpus))  # no share spans two GPUs


def cluster_faults(num_cpus: int | None, retries: int) -> list[str]:
    """Return what is wrong with the options that all pools on Ray have."""
    faults = []
    if num_cpus is not None and (not isinstance(num_cpus, int) or num_cpus < 1):
        faults.append(
            f"{option('num_cpus', num_cpus, of='pool')} cannot be used: give a whole number >= 1, or none for all."
        )
    if not isinstance(retries, int) or retries < 0:
        faults.append(f"{option('retries', retries, of='pool')} cannot be used: give a whole number >= 0.")
    return faults
