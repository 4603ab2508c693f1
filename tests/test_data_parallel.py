"""One member on several workers: teams of two gloo processes without Ray, then the pool on Ray Train."""

import os
import signal
import sys
import threading
import time
from types import BuiltinFunctionType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from distclust import CombinationAssignment, MiCE, MoCo, rounds
from distclust.distributed import DataParallelPool, RayPool
from distclust.distributed.checkpoint import pack, unpack
from distclust.distributed.data_parallel import TeamWorker, TorchTeam, _death, _own_error, _part
from distclust.distributed.pool import prepared
from distclust.distributed.ray_pool import rooms_of
from distclust.errors import InputError, MembersLost, ParameterError
from distclust.methods import METHODS, method_class
from distclust.methods.mice import MiCEMember
from distclust.spec import PoolOptions, Spec, read, with_pool

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

SMALL = {
    "n_clusters": 5,
    "encoder": "small-resnet",
    "embedding_dim": 8,
    "queue_size": 40,
    "views": ("crop", "rotation"),
    "n_epochs": 2,
    "n_rounds": 2,
    "batch_size": 20,
    "learning_rate": 0.3,
    "batch_norm_groups": 2,  # one process then computes what two do, each of which has its own in any case
}
SECONDS = 100  # to wait for two processes


# Two processes without Ray


class TwoProcesses:
    """Calls a function in both of two processes that stay, as function(team, *arguments), and returns both answers."""

    def __init__(self, folder):
        context = torch.multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(2):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, f"file://{folder}/store", there), daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)

    def __call__(self, function, *arguments):
        for pipe in self.pipes:
            pipe.send((function, arguments))
        assert all(pipe.poll(SECONDS) for pipe in self.pipes), "a process hangs"
        answers = [pipe.recv() for pipe in self.pipes]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def close(self):
        for process in self.processes:
            process.kill()
            process.join()


def _serve(rank, where, pipe):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send(function(TorchTeam(), *arguments))
        except Exception as error:
            pipe.send(error)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    processes = TwoProcesses(tmp_path_factory.mktemp("two"))
    yield processes
    processes.close()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 30])
def test_parts_are_cut_as_tensor_split_cuts(n, size):
    rows = torch.arange(n)
    found = [rows[_part(n, rank, size)].tolist() for rank in range(size)]
    assert found == [part.tolist() for part in rows.tensor_split(size)]


def gathered(team, rows):
    own = rows[team.part(len(rows))].clone()
    found = team.gather(own.requires_grad_() if own.is_floating_point() else own, len(rows))
    return found.numpy(), found.requires_grad


TYPES = ["float32", "float64", "bfloat16", "int64", "uint8", "bool"]


@pytest.mark.parametrize("dtype", TYPES)
def test_gather_gives_every_process_all_rows(two, dtype):
    kind = torch.float32 if dtype == "bfloat16" else getattr(torch, dtype)  # numpy has no bfloat16
    for shape in [(2,), (5,), (6, 3), (7, 2, 3)]:
        rows = torch.from_numpy(np.random.default_rng(0).normal(size=shape) * 9).to(kind)
        for found, requires_grad in two(gathered, rows):
            assert found.dtype == rows.numpy().dtype
            assert np.array_equal(found, rows.numpy())
            assert not requires_grad


def gathered_transposed(team):
    rows = torch.arange(30.0).reshape(2, 3, 5).permute(2, 0, 1)  # (5, 2, 3), not contiguous
    return torch.equal(team.gather(rows[team.part(5)], 5), rows)


def test_gather_takes_rows_that_are_not_contiguous(two):
    assert two(gathered_transposed) == [True, True]


def refused_part(team):
    try:
        team.part(1)
    except InputError as error:
        return str(error)


def test_fewer_rows_than_workers_are_refused(two):
    assert all("1 points cannot be divided among the 2 workers" in answer for answer in two(refused_part))


def summed(team, value):
    own = (value * (team.rank + 1)).requires_grad_()
    found = team.sum(own)
    return found.numpy(), found.requires_grad, torch.equal(own, value * (team.rank + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sum_is_over_the_processes_and_leaves_the_value_alone(two, dtype):
    for value in (torch.tensor(2.5, dtype=dtype), torch.rand(3, 4, 5, 6, dtype=dtype)):
        value = value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for found, requires_grad, untouched in two(summed, value):
            assert np.allclose(found, 3 * value.numpy())
            assert not requires_grad
            assert untouched


def slopes(team, points):
    """The slopes of a mean over all points, of which the team computes parts; None for a parameter without."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    net.spare = torch.nn.Parameter(torch.ones(2))
    net[0].bias.requires_grad_(False)
    size, wrapped = (1, net) if team is None else (team.size, team.wrap(net))
    for _ in range(2):  # the second time, a wrapper complains of what it missed the first time
        net.zero_grad()
        own = points if team is None else points[team.part(len(points))]
        (wrapped(own).square().sum() * size / len(points)).backward()
    return [None if p.grad is None else p.grad.numpy() for p in net.parameters()]


@pytest.mark.parametrize("n", [6, 7])
def test_slopes_are_those_of_one_process(two, n):
    points = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    expected = slopes(None, points)
    for found in two(slopes, points):
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            assert a is None or np.allclose(a, b, atol=1e-6)


def wrapped_frozen(team):
    net = torch.nn.Linear(2, 2).requires_grad_(False)
    return team.wrap(net) is net


def test_a_network_without_slopes_is_left_as_it_is(two):
    assert two(wrapped_frozen) == [True, True]


def trained(team, method, x):
    """Two rounds of a member: losses, labels and state."""
    member = method.member(tuple(x.shape[1:]), 0, "cpu", team)
    outputs = [member.advance(torch.from_numpy(x), None, round) for round in range(2)]
    found = {"losses": [o.scores["loss"] for o in outputs], "labels": [o.labels for o in outputs]}
    return pack({**found, "state": member.state_dict()})


VARIANTS = {
    "the paper's": MiCE(**SMALL),
    "uniform gate": MiCE(**SMALL, gating="uniform"),
    "no class information": MiCE(**SMALL, class_information=False),  # the prototypes have no slope
    "analytical": MiCE(**SMALL, prototype_update="analytical"),  # the prototypes require none
    "learned omega": MiCE(**SMALL, gating_prototypes="learned"),
    "shared head": MiCE(**SMALL, expert_heads="shared"),
    "MoCo": MoCo(**SMALL),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_follow_one(two, digits, name):
    """Up to the rounding of sums: about 1e-6 here, which an optimiser's steps may stretch; running statistics differ.

    One process moves the running statistics by the first group, then by the second; two take the mean of both. So they
    are left out, and the labels and MoCo's centres, which are looked at with them.
    """
    method = VARIANTS[name]
    x = digits.x[: 57 if name == "the paper's" else 40]  # 57: batches of 19, parts of 10 and 9
    first, second = two(trained, method, x)
    assert first == second  # queue, prototypes, statistics, labels: all the same bytes
    found, expected = unpack(first), unpack(trained(None, method, x))
    assert np.allclose(found["losses"], expected["losses"], rtol=0, atol=1e-5)
    found, expected = found["state"], expected["state"]
    assert torch.allclose(found["queue"]["rows"], expected["queue"]["rows"], atol=1e-4)
    assert found["queue"]["filled"] == expected["queue"]["filled"] == 40
    for net in ("net", "teacher"):
        alike = [key for key in expected[net] if "running" not in key and "tracked" not in key and key != "centres"]
        assert len(alike) > 10
        for key in alike:
            assert torch.allclose(found[net][key], expected[net][key], atol=1e-4), key


def test_the_same_seed_gives_two_processes_the_same_bytes(two, digits):
    method, x = VARIANTS["the paper's"], digits.x[:40]
    assert two(trained, method, x) == two(trained, method, x)


def worked(team, job, x):
    worker = TeamWorker(1, "cpu", team)
    worker.take(job, x)
    return [worker.advance(0, None, round).labels for round in (0, 0, 1)]


def test_the_first_worker_stores_and_a_stored_round_is_not_done_again(two, digits, tmp_path):
    method, x = VARIANTS["the paper's"], digits.x[:40]
    expected = unpack(two(trained, method, x)[0])
    job = prepared(method, x, str(tmp_path), None)
    for labels in two(worked, job, x):
        assert np.array_equal(labels, [expected["labels"][round] for round in (0, 0, 1)])
    assert [path.name for path in tmp_path.iterdir()] == ["member-000-round-0001.safetensors"]
    assert pack(job.required(0, 1)["state"]) == pack(expected["state"])


# What is refused, and what a failure means


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workers_per_member": 0}, "workers_per_member=0"),
        ({"workers_per_member": True}, "workers_per_member=True"),
        ({"cpus_per_worker": 0.5}, "cpus_per_worker=0.5"),
        ({"gpus_per_worker": 2}, "gpus_per_worker=2 cannot be used: a worker owns one GPU or none"),
        ({"num_cpus": 0}, "num_cpus=0"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, says):
    with pytest.raises(ParameterError, match=says):
        DataParallelPool(**{"workers_per_member": 2, "storage": tmp_path} | options)


def test_all_faults_of_the_options_come_together(tmp_path):
    with pytest.raises(ParameterError) as caught:
        DataParallelPool(workers_per_member=0, cpus_per_worker=0, gpus_per_worker=3, retries=-1, storage=tmp_path)
    assert len(caught.value.faults) == 4


def test_a_method_that_cannot_train_in_a_team_is_refused(blobs, tmp_path):
    able = [name for name in METHODS if method_class(name).trains_in_teams]
    pool = DataParallelPool(workers_per_member=2, storage=tmp_path)
    with pytest.raises(
        ParameterError, match=f"CombinationAssignment cannot train .*; methods {' and '.join(able)} can"
    ):
        CombinationAssignment(n_clusters=3).fit(blobs[0], pool=pool)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cpus_per_member=3"], "cpus_per_member=3: .*Give cpus_per_member=2 or a multiple of it"),
        ([], "cpus_per_member=1: .*Give cpus_per_member=2"),
        (["cpus_per_member=2", "gpus_per_member=1"], "gpus_per_member=1: .*Give gpus_per_member=2 or 0"),
        (["cpus_per_member=2", "kind=local"], 'kind="local", which has one process. Use kind="ray"'),
        (["cpus_per_member=2", "autoscaling=true"], "autoscaling=True: it takes the nodes that are there"),
        (["workers_per_member=0"], "workers_per_member=0"),
    ],
)
def test_pool_options_that_do_not_go_together(tmp_path, words, says):
    words = ["pool.workers_per_member=2", *(f"pool.{word}" for word in words)]
    with pytest.raises(ParameterError, match=says):
        read(words=words, method="mice")
    with pytest.raises(ParameterError, match=says):
        with_pool(read(method="mice"), words)


def test_the_pool_options_choose_the_pool(tmp_path):
    words = ["pool.workers_per_member=2", "pool.cpus_per_member=6", "pool.gpus_per_member=2"]
    pool = read(words=words, method="mice").make_pool(str(tmp_path))
    assert isinstance(pool, DataParallelPool)
    assert (pool._workers, pool._cpus, pool._gpus) == (2, 3, 1)
    assert isinstance(read(words=["pool.cpus_per_member=6"]).make_pool(str(tmp_path)), RayPool)
    with pytest.raises(ParameterError, match='Use kind="ray"'):
        Spec("mice", "digits", pool=PoolOptions(kind="local", workers_per_member=1 + 1)).make_pool(str(tmp_path))


def test_deaths_are_told_from_errors_of_the_members_code():
    from ray.exceptions import ActorDiedError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError  # as it comes out of a run

    died, bug = WorkerHealthCheckFailedError("no answer", failure=ActorDiedError()), ZeroDivisionError("a bug")
    cut_off = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection closed by peer")
    assert _own_error(SimpleNamespace(worker_failures={0: cut_off, 1: died})) is None
    assert _own_error(SimpleNamespace(worker_failures={0: torch.distributed.DistBackendError("nccl")})) is None
    assert _own_error(SimpleNamespace(worker_failures={0: cut_off, 1: bug})) is bug
    assert _own_error(SimpleNamespace(worker_failures={0: RuntimeError("out of range")})) is not None
    assert _own_error(ActorDiedError()) is None
    assert _death(SimpleNamespace(worker_failures={0: cut_off, 1: died})).startswith("ActorDiedError")
    assert "closed by peer" in _death(SimpleNamespace(worker_failures={0: cut_off}))


def test_room_is_counted_node_by_node():
    assert rooms_of({"CPU": 7.0, "memory": 1e9}, 2, 0) == 3
    assert rooms_of({"CPU": 7.0, "GPU": 2.0}, 2, 1) == 2
    assert rooms_of({"CPU": 7.0}, 2, 1) == rooms_of({"GPU": 2.0}, 2, 1) == 0
    assert rooms_of({"CPU": 64.0, "GPU": 2.0}, 1, 0.4) == 4  # a share lies on one GPU
    assert rooms_of({"CPU": 3.0, "GPU": 2.0}, 1, 0.1) == 3


# The pool on Ray Train


class Faulty(MiCE):
    """Its members do something at the end of their last round's first epoch, in the second worker."""

    marker: ClassVar[str] = ""
    fault: ClassVar[str] = ""

    def member(self, shape, index, device="cpu", team=None):
        return FaultyMember(self, shape, index, device, team)


class FaultyMember(MiCEMember):
    def advance(self, x, agreed, round):
        self.round = round
        return super().advance(x, agreed, round)

    def _end_epoch(self):
        super()._end_epoch()
        method = self.settings
        if self.round < method.n_rounds - 1 or self.team.rank == 0 or os.path.exists(method.marker):
            return
        if method.fault == "input":
            raise InputError("this cannot be used")
        if method.fault == "bug" and self.index == 1:
            raise ZeroDivisionError("a bug")
        if method.fault in ("death", "slow"):
            open(method.marker, "w").close()
        if method.fault == "slow":
            time.sleep(60)
        if method.fault in ("death", "deaths"):
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def ray_two_cpus():
    """One Ray for the tests of this file; pools find it there and leave it running."""
    from ray import cloudpickle

    with RayPool(num_cpus=2) as pool:
        pool.connect()
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
        yield
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    """A function that returns a method with a fault."""

    def make(fault, **parameters):
        monkeypatch.setattr(Faulty, "marker", str(tmp_path / "marker"))
        monkeypatch.setattr(Faulty, "fault", fault)
        return Faulty(**SMALL | parameters)

    return make


@pytest.fixture(scope="module")
def expected(two, digits):
    """What two processes find without Ray."""
    return unpack(two(trained, VARIANTS["the paper's"], digits.x[:40])[0])


@pytest.mark.slow
def test_the_pool_gives_the_bytes_of_two_processes(digits, expected, ray_two_cpus, tmp_path):
    events, handler = [], signal.getsignal(signal.SIGINT)
    with DataParallelPool(workers_per_member=2, storage=tmp_path, listener=events.append) as pool:
        found = list(rounds(VARIANTS["the paper's"], digits.x[:40], pool))
        assert pack(pool.states()[0]) == pack(expected["state"])
        folder = pool._folder
    assert [round.outputs[0].scores["loss"] for round in found] == expected["losses"]
    assert np.array_equal([round.outputs[0].labels for round in found], expected["labels"])
    assert [(e.kind, e.member, e.round) for e in events] == [("finished", 0, 0), ("finished", 0, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["member-000-round-0001.safetensors"]
    assert not os.path.exists(folder)
    assert signal.getsignal(signal.SIGINT) is handler
    assert isinstance(print, BuiltinFunctionType)  # numba takes no other, and Ray would put its own there


@pytest.mark.slow
def test_a_killed_worker_costs_its_round_and_nothing_else(digits, expected, faulty, ray_two_cpus, tmp_path):
    events = []
    with DataParallelPool(workers_per_member=2, storage=tmp_path / "m", listener=events.append) as pool:
        found = list(rounds(faulty("death"), digits.x[:40], pool))
        assert pack(pool.states()[0]) == pack(expected["state"])
    assert [round.outputs[0].scores["loss"] for round in found] == expected["losses"]
    assert np.array_equal(found[-1].outputs[0].labels, expected["labels"][-1])
    assert [(e.kind, e.round) for e in events] == [("finished", 0), ("restarted", 1), ("finished", 1)]
    assert events[1].cause


@pytest.mark.slow
def test_a_member_whose_workers_always_die_is_lost_with_its_cause(digits, faulty, ray_two_cpus, tmp_path):
    pool = DataParallelPool(workers_per_member=2, storage=tmp_path, retries=1)
    with pool, pytest.raises(MembersLost, match="member 0: a worker died in each of 2 attempts: "):
        list(rounds(faulty("deaths", n_rounds=1), digits.x[:40], pool))


@pytest.mark.slow
def test_an_error_in_one_worker_loses_its_member_and_the_rest_go_on(digits, faulty, ray_two_cpus, tmp_path):
    events = []
    with DataParallelPool(workers_per_member=2, storage=tmp_path, listener=events.append) as pool:
        (last,) = rounds(faulty("bug", n_members=2, n_rounds=1), digits.x[:40], pool)
        states = pool.states()
    assert [output.status for output in last.outputs] == ["voting", "lost"]
    assert last.outputs[1].cause == "ZeroDivisionError: a bug"
    assert [(e.kind, e.member) for e in events] == [("finished", 0), ("lost", 1)]
    assert states[0] is not None
    assert states[1] is None


@pytest.mark.slow
def test_a_wrong_input_comes_back_as_it_is(digits, faulty, ray_two_cpus, tmp_path):
    pool = DataParallelPool(workers_per_member=2, storage=tmp_path)
    with pool, pytest.raises(InputError, match="this cannot be used"):
        list(rounds(faulty("input", n_rounds=1), digits.x[:40], pool))


@pytest.mark.slow
def test_an_interrupt_in_a_round_leaves_a_run_that_can_be_resumed(digits, expected, faulty, ray_two_cpus, tmp_path):
    method, marker = faulty("slow"), tmp_path / "marker"

    def interrupt():
        while not marker.exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt, daemon=True)
    with DataParallelPool(workers_per_member=2, storage=tmp_path / "m") as pool:
        driver = rounds(method, digits.x[:40], pool)
        last = next(driver)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(driver)
    with DataParallelPool(workers_per_member=2, storage=tmp_path / "m") as pool:
        resumed = next(rounds(method, digits.x[:40], pool, resume=last))
    assert np.array_equal(resumed.outputs[0].labels, expected["labels"][-1])


@pytest.mark.slow
def test_more_than_the_cluster_has_is_refused(digits, ray_two_cpus, tmp_path):
    for options in ({"workers_per_member": 3}, {"workers_per_member": 2, "gpus_per_worker": 1}):
        pool = DataParallelPool(**options, storage=tmp_path)
        with (
            pool,
            pytest.raises(ParameterError, match=r"a member asks for \d workers .*but Ray has room for [02]: 2 CPUs"),
        ):
            list(rounds(VARIANTS["the paper's"], digits.x[:40], pool))
