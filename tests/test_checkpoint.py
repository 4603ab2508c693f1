"""Checkpoints: what goes in comes out, whole or not at all, and nothing in them is ever executed."""

import math
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save

from distclust.distributed.checkpoint import LocalFolder, RemoteFolder, pack, storage, unpack
from distclust.errors import RunFolderError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


def same(a, b):
    """Equal in type, structure and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(type(k) is type(m) for k, m in zip(a, b, strict=True))
            and same([*a.values()], [*b.values()])
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and same(bits(a), bits(b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def bits(tensor):
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@st.composite
def tensors(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    return (3 * torch.randn(shape, generator=torch.manual_seed(draw(st.integers(0, 99))))).to(
        draw(st.sampled_from(DTYPES))
    )


arrays = hnp.arrays(
    st.sampled_from([np.bool_, np.int64, np.uint8, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | tensors() | arrays
keys = st.text() | st.integers() | st.booleans() | st.none()
states = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(states)
def test_round_trip(state):
    assert same(unpack(pack(state)), state)


def test_the_comparison_of_this_file_tells_states_apart():
    different = [{"a": 1}, {"a": True}, {"a": 1.0}, {1: 1}, {True: 1}, {"a": [1]}, {"a": (1,)}, {"a": None}]
    different += [{"a": torch.tensor(1.0)}, {"a": torch.tensor([1.0])}, {"a": np.array(1.0)}, {"a": torch.tensor(-0.0)}]
    assert [[same(a, b) for b in different] for a in different] == np.eye(len(different), dtype=bool).tolist()


def test_round_trip_of_awkward_tensors():
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "transposed": base.T,
        "every second": base[:, ::2],
        "shared": base,
        "shared again": base,
        "overlapping": base[1:],
        "repeated": torch.tensor([1.0, 2.0]).expand(3, 2),
        "trained": torch.nn.Parameter(torch.ones(2)),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "reversed": np.arange(4)[::-1],
    }
    found = unpack(pack(state))
    assert {name: type(value) for name, value in found.items()} == {
        name: np.ndarray if isinstance(value, np.ndarray) else torch.Tensor for name, value in state.items()
    }
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in state.items()}
    found["shared"][0] = -1  # what was one tensor are two now
    assert found["shared again"][0].tolist() == [0, 1, 2, 3]


def test_what_comes_out_can_be_written_to():
    found = unpack(pack({"tensor": torch.zeros(2), "array": np.zeros(2)}))
    found["tensor"][0] = 1
    found["array"][0] = 1
    assert found["tensor"].tolist() == found["array"].tolist() == [1, 0]


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j, np.int64(3), np.array(["text"]), len])
def test_what_a_state_cannot_hold(value):
    with pytest.raises(TypeError):
        pack({"nested": [value]})


def test_a_key_that_cannot_come_back_is_refused():
    with pytest.raises(TypeError):
        pack({("layer", 1): 0})


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimiser_takes_the_same_next_step(fused):
    def new():
        net = torch.nn.Linear(5, 3)
        return net, torch.optim.Adam(net.parameters(), lr=0.1, betas=(0.9, 0.99), fused=fused)

    def step(net, optimiser, seed):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        net(x).square().sum().backward()
        optimiser.step()
        return {"net": net.state_dict(), "optimiser": optimiser.state_dict()}

    first, second = new(), new()
    for seed in range(3):
        state = step(*first, seed)
    kept = unpack(pack(state))
    assert same(kept["optimiser"], state["optimiser"])
    second[0].load_state_dict(kept["net"])
    second[1].load_state_dict(kept["optimiser"])
    third, fourth = step(*first, 3), step(*second, 3)
    assert same({**third["net"]}, {**fourth["net"]})
    assert same(third["optimiser"], fourth["optimiser"])
    assert third["optimiser"]["state"][0]["step"] == 4


# What is no checkpoint


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data):
    with pytest.raises(RunFolderError, match="delete it to redo its rounds"):
        unpack(data)


def test_every_truncation_is_refused():
    whole = pack({"a": torch.arange(5), "b": [1, (2.5, None)], "c": np.ones(3)})
    unpack(whole)
    for length in range(len(whole)):
        with pytest.raises(RunFolderError):
            unpack(whole[:length])


@pytest.mark.parametrize("tree", [None, "{", '{"kind": "pickle", "items": []}', '{"kind": "tensor", "name": "7"}'])
def test_tensors_without_a_readable_structure_are_refused(tree):
    with pytest.raises(RunFolderError):
        unpack(save({"0": torch.zeros(2)}, metadata=None if tree is None else {"tree": tree}))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    trap = pickle.dumps({"net": Trap(tmp_path / "sprung")})
    with pytest.raises(RunFolderError):
        unpack(trap)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists()  # the trap was a live one


# Folders


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    return storage(tmp_path / "a" / "run" if request.param == "local" else (tmp_path / "a" / "run").as_uri())


def test_storage_by_path_or_uri(tmp_path):
    assert isinstance(storage(tmp_path), LocalFolder)
    assert isinstance(storage(str(tmp_path)), LocalFolder)
    assert isinstance(storage(tmp_path.as_uri()), RemoteFolder)


def test_write_read_replace_delete(folder):
    assert folder.names() == []
    assert folder.read("b") is None
    folder.write("b", b"first")
    folder.write("a", b"")
    folder.write("b", b"\x00second\xff")
    assert folder.read("b") == b"\x00second\xff"
    assert folder.read("a") == b""
    assert folder.names() == ["a", "b"]
    folder.delete("b")
    folder.delete("b")
    assert folder.read("b") is None
    assert folder.names() == ["a"]


def test_a_state_through_a_folder(folder):
    state = {"weights": torch.randn(300, 50), "round": 3}
    folder.write("member", pack(state))
    assert same(unpack(folder.read("member")), state)


def test_names_leaves_out_unfinished_files_and_folders(folder, tmp_path):
    folder.write("whole", b"1")
    (tmp_path / "a" / "run" / ".whole.0.part").write_bytes(b"half")
    (tmp_path / "a" / "run" / "folder").mkdir()
    assert folder.names() == ["whole"]


def test_two_storages_at_one_place_see_the_same(tmp_path):
    LocalFolder(tmp_path).write("a", b"1")
    remote = RemoteFolder(tmp_path.as_uri())
    assert remote.read("a") == b"1"
    remote.write("a", b"2")
    assert LocalFolder(tmp_path).read("a") == b"2"


def test_a_relative_path_is_fixed_when_the_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = LocalFolder(type(tmp_path)("run"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made.write("a", b"1")
    assert (tmp_path / "run" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    local = LocalFolder(tmp_path)
    local.write("member", b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(RunFolderError, match="No space left on device") as caught:
        local.write("member", b"new and longer")
    monkeypatch.undo()
    assert isinstance(caught.value.__cause__, OSError)
    assert local.read("member") == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["member"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        LocalFolder(tmp_path).write("member", b"content")
    assert not list(tmp_path.iterdir())


def test_a_file_is_complete_and_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    steps = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda number: steps.append(("on the disk", os.fstat(number).st_size)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append(("named", a.stat().st_size)), replace(a, b)))
    LocalFolder(tmp_path).write("member", b"content")
    assert steps == [("on the disk", 7), ("named", 7)]


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_place_that_cannot_be_written(tmp_path, kind):
    (tmp_path / "file").write_text("not a folder")
    place = tmp_path / "file" / "run"
    with pytest.raises(RunFolderError, match="give a place that can be written") as caught:
        storage(place if kind == "local" else place.as_uri())
    assert "file" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_place_that_vanished(folder, tmp_path):
    (tmp_path / "a" / "run").rmdir()
    with pytest.raises(RunFolderError, match="give a place that can be written"):
        folder.write("member", b"1")


@pytest.mark.parametrize("uri", ["nosuch://bucket/run", "file://not absolute"])
def test_a_uri_that_cannot_be_reached(uri):
    with pytest.raises(RunFolderError, match="give a place that can be written") as caught:
        storage(uri)
    assert uri in str(caught.value)


def test_a_failed_move_leaves_nothing_behind(tmp_path):
    remote = RemoteFolder(tmp_path.as_uri())
    (tmp_path / "member").mkdir()
    with pytest.raises(RunFolderError):
        remote.write("member", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["member"]


def test_what_cannot_be_read(folder, tmp_path):
    (tmp_path / "a" / "run" / "member").mkdir()
    with pytest.raises(RunFolderError):
        folder.read("member")
