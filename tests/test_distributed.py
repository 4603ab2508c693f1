"""The spine: driver, pools, checkpoints and resume, with a member that is quick and whose every step is known."""

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from distclust import CombinationAssignment, LocalPool, RayPool, rounds
from distclust.consensus import align, vote
from distclust.contracts import Member, MemberOutput
from distclust.errors import InputError, MembersLost, ParameterError, RunError, RunFolderError
from distclust.seeding import generator

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

N = 40


class CountingMember(Member):
    """Adds random numbers to a tensor: after r rounds its state depends on all r, so any lost round shows."""

    def __init__(self, method, index):
        self.method, self.index = method, index
        self.state = torch.zeros(3)

    def advance(self, x, agreed, round):
        self.method.misbehave(self.index, round)
        seen = 0.0 if agreed is None else float(agreed.share.sum())
        step = generator(0, "step", member=self.index, round=round).normal(size=3)
        self.state = 0.5 * self.state + torch.from_numpy(step).float() + seen
        labels = (np.arange(len(x)) + int(1000 * float(self.state.sum()))) % 3
        return MemberOutput(labels.astype(np.int64), None, {"sum": float(self.state.sum())})

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, state):
        self.state = state["state"]

    def predict_proba(self, x):
        raise NotImplementedError


@dataclass
class Counting:
    """A method of such members; the marker folder makes a fault happen once."""

    n_members: int = 3
    n_rounds: int = 4
    trains_on_agreement: bool = True
    markers: str = ""
    kill: tuple = ()  # (member, round): this process dies there, once
    fail: tuple = ()  # (member, round): an exception there, always
    die_always: tuple = ()
    wrong_input: bool = False
    slow: float = 0.0
    ends_after: int = 99  # a round

    def member(self, shape, index, device="cpu"):
        return CountingMember(self, index)

    def finished(self, last):
        return last.index == self.ends_after

    def agree(self, outputs, last=None):
        labellings = [o.labels if o.status == "voting" else np.full_like(o.labels, -1) for o in outputs]
        return vote(align(labellings, 3))

    def get_params(self):
        return {"n_members": self.n_members}

    def misbehave(self, index, round):
        time.sleep(self.slow)
        if self.wrong_input:
            raise InputError("this cannot be used")
        if (index, round) == self.fail:
            raise ZeroDivisionError("a bug")
        marker = os.path.join(self.markers, f"{index}-{round}")
        if (index, round) == self.die_always or ((index, round) == self.kill and not os.path.exists(marker)):
            if self.kill:
                open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def x():
    return np.arange(2 * N, dtype=np.float32).reshape(N, 2)


@pytest.fixture(scope="module")
def ray_two_cpus():
    """One Ray for the tests of this file; pools find it there and leave it running."""
    from ray import cloudpickle

    with RayPool(num_cpus=2) as pool:
        pool.connect()
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
        yield
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def drained(method, x, pool, resume=None):
    return list(rounds(method, x, pool, resume=resume))


def same(a, b):
    return (
        a.index == b.index
        and np.array_equal(a.agreement.labels, b.agreement.labels)
        and np.array_equal(a.agreement.share, b.agreement.share)
        and all(
            np.array_equal(p.labels, q.labels) and p.scores == q.scores
            for p, q in zip(a.outputs, b.outputs, strict=True)
        )
    )


def test_rounds_are_a_plain_loop_over_members(x):
    method = Counting()
    found = drained(method, x, LocalPool())
    members = [method.member((2,), m) for m in range(3)]
    agreed = None
    for index, round in enumerate(found):
        outputs = [m.advance(torch.from_numpy(x), agreed, index) for m in members]
        agreed = method.agree(outputs)
        assert round.index == index
        assert np.array_equal(round.agreement.labels, agreed.labels)
        assert [o.scores for o in round.outputs] == [o.scores for o in outputs]


def test_a_method_may_finish_early_and_is_not_taken_up_again(x):
    found = drained(Counting(ends_after=1), x, LocalPool())
    assert [round.index for round in found] == [0, 1]
    assert drained(Counting(ends_after=1), x, LocalPool(), resume=found[-1]) == []


def test_a_round_knows_the_agreed_counts_of_all_rounds_before(x):
    found = drained(Counting(), x, LocalPool())
    counts = [int(round.agreement.agreed.sum()) for round in found]
    assert [round.agreed_counts for round in found] == [tuple(counts[: n + 1]) for n in range(4)]


def test_members_that_ignore_the_agreement_are_not_sent_it(x):
    method = Counting(trains_on_agreement=False)
    last = drained(method, x, LocalPool())[-1]
    alone = method.member((2,), 0)
    for index in range(4):
        output = alone.advance(torch.from_numpy(x), None, index)
    assert output.scores == last.outputs[0].scores


def test_a_run_with_storage_equals_one_in_memory(x, tmp_path):
    a, b = drained(Counting(), x, LocalPool()), drained(Counting(), x, LocalPool(storage=tmp_path / "m"))
    assert all(same(p, q) for p, q in zip(a, b, strict=True))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        f"member-{m:03d}-round-0003.safetensors" for m in range(3)
    ]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_resumed_run_equals_one_that_ran_through(x, tmp_path, after):
    through = drained(Counting(), x, LocalPool())
    pool = LocalPool(storage=tmp_path)
    for round in rounds(Counting(), x, pool):
        if round.index == after:
            break  # the process ends here
    resumed = drained(Counting(), x, LocalPool(storage=tmp_path), resume=round)
    assert [r.index for r in resumed] == list(range(after + 1, 4))
    assert all(same(p, q) for p, q in zip(through[after + 1 :], resumed, strict=True))


def test_a_round_that_some_members_have_stored_is_not_done_again(x, tmp_path):
    through = drained(Counting(), x, LocalPool())
    driver = rounds(Counting(), x, LocalPool(storage=tmp_path))
    first = next(driver)
    with pytest.raises(KeyboardInterrupt):
        _interrupted_after_first_member(driver, tmp_path)
    resumed = drained(Counting(), x, LocalPool(storage=tmp_path), resume=first)
    assert all(same(p, q) for p, q in zip(through[1:], resumed, strict=True))


def _interrupted_after_first_member(driver, path):
    def listener(event):
        raise KeyboardInterrupt

    pool = driver.gi_frame.f_locals["pool"]
    pool.listener = listener
    next(driver)


def test_a_new_run_deletes_checkpoints_that_lie_in_the_way(x, tmp_path):
    drained(Counting(n_rounds=2), x, LocalPool(storage=tmp_path))
    (tmp_path / "notes.txt").write_text("keep me")
    other = drained(Counting(n_rounds=1), x + 1, LocalPool(storage=tmp_path))
    assert len(other) == 1
    assert (tmp_path / "notes.txt").exists()
    assert len(list(tmp_path.glob("member-*"))) == 3


def test_checkpoints_of_other_data_are_not_taken_up(x, tmp_path):
    last = drained(Counting(n_rounds=2), x, LocalPool(storage=tmp_path))[-1]
    with pytest.raises(RunFolderError, match="another run"):
        drained(Counting(), x + 1, LocalPool(storage=tmp_path), resume=last)


def test_missing_checkpoints_are_named(x, tmp_path):
    last = drained(Counting(n_rounds=2), x, LocalPool(storage=tmp_path))[-1]
    (tmp_path / "member-001-round-0001.safetensors").unlink()
    with pytest.raises(RunFolderError, match="member 1 has no checkpoint of round 1"):
        drained(Counting(), x, LocalPool(storage=tmp_path), resume=last)


def test_a_member_that_raises_is_lost_and_named_and_the_rest_go_on(x):
    events = []
    found = drained(Counting(fail=(1, 2)), x, LocalPool(listener=events.append))
    assert [o.status for o in found[1].outputs] == ["voting"] * 3
    for round in found[2:]:
        assert [o.status for o in round.outputs] == ["voting", "lost", "voting"]
        assert round.outputs[1].cause == "ZeroDivisionError: a bug"
        assert round.agreement.voters == 2
    assert [(e.member, e.round) for e in events if e.kind == "lost"] == [(1, 2)]


def test_a_lost_member_stays_lost_in_a_resumed_run(x, tmp_path):
    through = drained(Counting(fail=(1, 1)), x, LocalPool(storage=tmp_path / "a"))
    for round in rounds(Counting(fail=(1, 1)), x, LocalPool(storage=tmp_path / "b")):
        if round.index == 2:
            break
    resumed = drained(Counting(), x, LocalPool(storage=tmp_path / "b"), resume=round)
    assert same(resumed[-1], through[-1])


def test_when_all_members_are_lost_the_error_names_each_cause(x):
    with pytest.raises(MembersLost, match="member 0: ZeroDivisionError: a bug"):
        drained(Counting(n_members=1, fail=(0, 1)), x, LocalPool())


def test_a_wrong_input_is_an_error_at_once_and_no_lost_member(x):
    with pytest.raises(InputError, match="this cannot be used"):
        drained(Counting(wrong_input=True), x, LocalPool())


def test_the_pool_leaves_torch_threads_as_they_were(x):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        drained(Counting(), x, LocalPool(cpus_per_member=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cpus_per_member": 0}, "cpus_per_member=0"), ({"cpus_per_member": 1.5}, "whole number")],
)
def test_local_pool_options_are_checked(options, message):
    with pytest.raises(ParameterError, match=message):
        LocalPool(**options)


def test_an_unknown_device_is_refused(x):
    with pytest.raises(ParameterError, match='device="gpu7" cannot be used'):
        drained(Counting(), x, LocalPool(device="gpu7"))


def test_ray_pool_options_are_checked_all_together():
    with pytest.raises(ParameterError) as caught:
        RayPool(cpus_per_member=0, gpus_per_member=1.5, num_cpus=0, retries=-1)
    assert len(caught.value.faults) == 4


def test_ray_gives_the_same_as_this_process(x, ray_two_cpus):
    local = drained(Counting(n_members=5), x, LocalPool())
    with RayPool() as pool:
        remote = drained(Counting(n_members=5), x, pool)
        assert len(pool._workers) <= 2
        states = pool.states()
    assert all(same(p, q) for p, q in zip(local, remote, strict=True))
    assert all(len(s["state"]) == 3 for s in states)


def test_a_killed_worker_costs_its_round_and_nothing_else(x, ray_two_cpus, tmp_path):
    events = []
    through = drained(Counting(), x, LocalPool())
    with RayPool(storage=tmp_path / "m", listener=events.append) as pool:
        killed = drained(Counting(markers=str(tmp_path), kill=(1, 2)), x, pool)
    assert all(same(p, q) for p, q in zip(through, killed, strict=True))
    assert [(e.member, e.round) for e in events if e.kind == "restarted"] == [(1, 2)]


def test_a_member_whose_process_always_dies_is_lost_with_its_cause(x, ray_two_cpus):
    with RayPool(retries=1) as pool:
        last = drained(Counting(n_rounds=2, die_always=(0, 1)), x, pool)[-1]
    assert [o.status for o in last.outputs] == ["lost", "voting", "voting"]
    assert "process died 2 times" in last.outputs[0].cause


def test_workers_that_still_start_take_up_the_next_run(x, ray_two_cpus):
    with RayPool() as pool:
        pool.open(Counting(n_members=4, wrong_input=True), x)  # is back with the first of them
        pool.open(Counting(n_members=4, slow=0.2), x)
        pool.wait_for_workers()
        outputs = pool.advance(None, 0)
    assert [o.scores for o in outputs] == [o.scores for o in drained(Counting(n_members=4), x, LocalPool())[0].outputs]


def test_an_exception_on_ray_is_a_lost_member_with_its_cause(x, ray_two_cpus):
    with RayPool() as pool:
        last = drained(Counting(fail=(2, 1)), x, pool)[-1]
    assert last.outputs[2].cause == "ZeroDivisionError: a bug"


def test_a_wrong_input_on_ray_comes_back_as_it_is(x, ray_two_cpus):
    with RayPool() as pool, pytest.raises(InputError, match="this cannot be used"):
        drained(Counting(wrong_input=True), x, pool)


def test_more_than_the_cluster_has_is_refused(x, ray_two_cpus):
    with RayPool(cpus_per_member=64) as pool, pytest.raises(ParameterError, match="asks for 64 CPUs"):
        drained(Counting(), x, pool)
    with RayPool(gpus_per_member=0.5) as pool, pytest.raises(ParameterError, match=r"and 0\.5 GPUs"):
        drained(Counting(), x, pool)


@pytest.mark.slow
def test_a_run_begun_on_ray_is_resumed_in_this_process_and_back(x, ray_two_cpus, tmp_path):
    through = drained(Counting(), x, LocalPool())
    with RayPool(storage=tmp_path) as pool:
        for round in rounds(Counting(), x, pool):
            if round.index == 1:
                break
    local = LocalPool(storage=tmp_path)
    round = next(rounds(Counting(), x, local, resume=round))
    with RayPool(storage=tmp_path) as pool:
        last = drained(Counting(), x, pool, resume=round)[-1]
    assert same(last, through[-1])


def test_an_interrupt_in_a_round_leaves_a_run_that_can_be_resumed(x, ray_two_cpus, tmp_path):
    through = drained(Counting(), x, LocalPool())
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with RayPool(storage=tmp_path) as pool:
        driver = rounds(Counting(slow=1.0), x, pool)
        last = next(driver)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(driver)
    resumed = drained(Counting(), x, LocalPool(storage=tmp_path), resume=last)
    assert same(resumed[-1], through[-1])


@pytest.mark.slow
def test_combination_assignment_on_ray_equals_this_process(digits, ray_two_cpus):
    model = CombinationAssignment(n_clusters=10, n_members=3, n_epochs=2, n_rounds=2)
    local = model.fit(digits.x).labels_
    with RayPool() as pool:
        remote = model.fit(digits.x, pool=pool)
    assert np.array_equal(local, remote.labels_)
    assert np.array_equal(remote.predict(digits.x), local)


def test_a_wrong_address_is_one_clear_error(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refuse(**_):
        raise ConnectionError("no such cluster")

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RunError, match=rf"cannot connect to the Ray cluster at '{address}'.*ray status"):
            RayPool(address=address).connect()


def test_a_pool_that_lets_the_cluster_grow_asks_for_a_worker_a_member(monkeypatch):
    asked = {}
    for grows in (False, True):
        pool = RayPool(autoscaling=grows)
        monkeypatch.setattr(pool, "connect", lambda: None)
        monkeypatch.setattr(pool, "_slots", lambda: 2)
        monkeypatch.setattr(pool, "_start_worker", lambda pool=pool: pool._starting.append(None))
        pool._starting = []
        pool.start(5)
        asked[grows] = len(pool._starting)
        pool._starting = []
    assert asked == {False: 2, True: 5}


def test_an_address_where_nothing_answers_is_refused_at_once(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ParameterError, match="nothing answers there"):
        RayPool(address=f"127.0.0.1:{port}").connect()


def test_ray_address_is_named_where_it_is_the_cause(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given, named, not_named in ((None, f"RAY_ADDRESS={address}", "pool.address=127"), (address, "leave", "unset")):
        with pytest.raises(ParameterError) as caught:
            RayPool(address=given).connect()
        told = caught.value.message
        assert named in told
        assert "pool." not in told
        assert "pool.address=local" in told.typed
        assert 'address="local"' in told
        assert not_named not in told.typed
    assert f"pool.address={address} cannot be used" in told.typed


@pytest.mark.parametrize(("error", "kind"), [(ConnectionError("none"), RunError), (ValueError("bad"), ParameterError)])
def test_a_ray_address_that_ray_refuses_is_named(error, kind, monkeypatch):
    import ray

    def refuse(**_):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "no where")
    with pytest.raises(kind, match=r"RAY_ADDRESS='no where'.*`unset RAY_ADDRESS`"):
        RayPool().connect()


def test_a_private_ray_can_be_had_whatever_the_environment_says(monkeypatch):
    import ray

    def refuse(**asked):
        raise ConnectionError(str(asked["num_cpus"]))

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(RunError, match="3"):
        RayPool(address="local", num_cpus=3).connect()
