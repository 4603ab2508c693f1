"""Memory-mapped data reaches the workers by its file."""

import os
import sys
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
import torch

from distclust import LocalPool, RayPool, load, rounds
from distclust.contracts import MemberOutput
from distclust.data import check_x
from distclust.distributed.mapped import MappedArray, mapped, opened
from distclust.errors import DataError

pytestmark = pytest.mark.xdist_group("ray")  # one at a time: they start Rays and kill what is in them

RNG = np.random.default_rng(0)


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "x.npy", RNG.normal(size=(3000, 4, 5)).astype(np.float32))
    return tmp_path / "x.npy"


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x[7:],
        lambda x: x[2999:],
        lambda x: x[3:2000:7],
        lambda x: x[:, None],
        lambda x: x.transpose(0, 2, 1)[:, 1:],
        lambda x: x[::3][5:],
        lambda x: x[0:1, 2:3],
    ],
)
def test_a_view_is_found_again(file, view):
    x = view(np.load(file, mmap_mode="r"))
    place = mapped(x)
    again = opened(place)
    assert isinstance(place, MappedArray)
    np.testing.assert_array_equal(again, x)
    assert (again.dtype, again.strides, again.flags.writeable) == (x.dtype, x.strides, False)
    assert mapped(again) == place
    assert torch.from_numpy(again).shape == x.shape


def test_what_load_and_check_x_give_is_mapped(file):
    x = check_x(load(file).x)
    assert mapped(x) is not None
    assert mapped(load(file, n_samples=10).x) is None


def test_what_is_in_memory_is_handed_over_itself(file):
    x = np.load(file)
    assert mapped(x) is None
    assert opened(x) is x
    assert mapped(np.load(file, mmap_mode="c")) is None
    assert mapped(np.load(file, mmap_mode="r")[::-1]) is None


def test_a_file_that_changed_or_went_is_refused(file):
    place = mapped(np.load(file, mmap_mode="r"))
    os.utime(file, ns=(1, 1))
    with pytest.raises(DataError, match="has changed since the run began"):
        place.open()
    file.unlink()
    with pytest.raises(DataError, match="cannot be read where a worker runs"):
        place.open()


STORE = 80 * 2**20  # bytes, of Ray's objects on a node


class SummingMember:
    """Sums the data and says how much memory of its own the process takes, and whether it maps the file."""

    def __init__(self, path):
        self.path = path

    def advance(self, x, agreed, round):
        total = sum(float(block.double().sum()) for block in x.split(4096))
        memory = psutil.Process().memory_full_info().uss
        files = [map.path for map in psutil.Process().memory_maps()]
        scores = {"sum": total, "memory": float(memory), "mapped": float(self.path in files), "process": os.getpid()}
        return MemberOutput(np.arange(len(x), dtype=np.int64) % 3, None, scores)

    def predict_proba(self, x):
        raise NotImplementedError

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@dataclass
class Summing:
    path: str
    n_members: int = 2
    n_rounds: int = 1
    trains_on_agreement: bool = False

    def get_params(self):
        return {}

    def member(self, shape, index, device="cpu"):
        return SummingMember(self.path)

    def agree(self, outputs, last=None):
        from distclust.consensus import align, vote

        return vote(align([output.labels for output in outputs], 3))

    def finished(self, last):
        return False


def summed(path, pool):
    with pool:
        return list(rounds(Summing(str(path)), check_x(load(path).x), pool))[-1].outputs


@pytest.fixture
def large(tmp_path):
    """400 MB, five times as much as Ray's store holds."""
    x = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (100_000, 4000))
    for start in range(0, len(x), 10_000):
        x[start : start + 10_000] = RNG.integers(0, 256, (10_000, 4000), dtype=np.uint8)
    x.flush()
    del x
    return (tmp_path / "large.npy").resolve()


@pytest.fixture
def by_value():
    """Workers cannot import this file."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def same(here, there):
    for one, other in zip(here, there, strict=True):
        assert one.scores["sum"] == other.scores["sum"]
        assert one.scores["mapped"] == other.scores["mapped"] == 1
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.slow
def test_data_larger_than_the_object_store(large, by_value):
    import ray

    here = summed(large, LocalPool())
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=STORE, log_to_driver=False)
    try:
        there = summed(large, RayPool())
        used = STORE - ray.available_resources().get("object_store_memory", 0)
    finally:
        ray.shutdown()
    same(here, there)
    assert max(output.scores["memory"] for output in there) < 550 * 2**20  # torch and Ray take 330 of it
    assert used < 20 * 2**20


@pytest.mark.slow
def test_data_larger_than_the_object_store_of_each_of_three_nodes(large, by_value, tmp_path):
    import ray
    from ray.cluster_utils import Cluster

    here = summed(large, LocalPool())
    small = {"include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **small)
        there = summed(large, RayPool(address=cluster.address, storage=tmp_path / "members"))
    finally:
        ray.shutdown()
        cluster.shutdown()
    same(here, there)
    assert len({output.scores["process"] for output in here + there}) == 3  # this one, and one on each node
