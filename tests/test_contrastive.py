"""What MiCE and MoCo share: the queue, the scaling, the teacher's shuffled batch norm, the course of training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust import MiCE, MoCo
from distclust.methods.contrastive import Queue, encoder_name
from distclust.nets import Scaling
from distclust.seeding import torch_generator

SMALL = {"n_clusters": 3, "embedding_dim": 4, "views": ("rotation",), "n_epochs": 1, "n_rounds": 1, "batch_size": 20}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(3, 12), st.lists(st.integers(0, 3), max_size=12))
def test_the_queue_holds_the_latest_embeddings(heads, size, lengths):
    queue, latest, count = Queue(heads, size, 2, "cpu"), [], 0
    for length in lengths:
        batch = torch.arange(count, count + length).float()[:, None, None].expand(-1, heads, 2)
        queue.put(batch)
        count += length
        latest = (latest + list(range(count - length, count)))[-size:]
    assert queue.filled == len(latest)
    assert sorted(queue.rows[0, : queue.filled, 0].tolist()) == latest
    assert (queue.rows[:, : queue.filled] == queue.rows[:1, : queue.filled, :1]).all()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_images_are_scaled_to_the_unit_for_views_and_then_to_mean_0_and_deviation_1(kind):
    x = torch.from_numpy(np.random.default_rng(0).integers(20, 240, size=(30, 3, 8, 8)).astype(kind))
    member = MoCo(**SMALL).member((3, 8, 8), 0)
    member._start(x)
    student = member.net.student
    images = student.scaling(x)
    assert (float(images.min()), float(images.max())) == (0, pytest.approx(1))
    torch.testing.assert_close(student.standard(images), Scaling((3, 8, 8)).fit(x, "standard")(x), rtol=1e-4, atol=1e-4)


def test_the_teacher_sees_the_batch_in_another_order_and_answers_in_the_first():
    images = torch.rand(8, 1, 8, 8, generator=torch_generator(0, "images"))
    shuffled = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    together, apart = (MoCo(**SMALL, batch_norm_groups=groups).member((1, 8, 8), 0) for groups in (1, 2))
    for member in (together, apart):
        member.net.train()
        member.teacher.train()
    expected = together.teacher(images)
    torch.testing.assert_close(together._teach(images, shuffled), expected, rtol=1e-4, atol=1e-5)
    found = apart._teach(images, shuffled)
    for half in (shuffled[:4], shuffled[4:]):
        torch.testing.assert_close(found[half], together.teacher(images[half]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, expected, atol=1e-3)


def test_the_teacher_follows_slowly(digits):
    x = torch.from_numpy(digits.x[:40])
    member = MoCo(**SMALL, teacher_momentum=0.9).member((1, 8, 8), 0)
    member._start(x)
    before = [p.clone() for p in member.teacher.parameters()]
    member.net.train()
    member.teacher.train()
    member._step(x[:20], torch_generator(0, "views"), np.arange(20))
    for old, new, student in zip(before, member.teacher.parameters(), member.net.student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student)


def test_what_auto_stands_for():
    paper = MiCE(n_rounds=10)
    assert paper.total_epochs((3, 32, 32), 60_000) == 1000  # CIFAR-10
    assert [paper.rate(epoch, 1000) for epoch in (0, 479, 480, 640, 800, 999)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.001, 0.001]
    )
    assert encoder_name("auto", (3, 32, 32)) == encoder_name("auto", (3, 96, 96)) == "resnet34"
    assert encoder_name("auto", (1, 28, 28)) == "small-resnet"
    assert (paper.teachers_momentum((3, 32, 32)), paper.teachers_momentum((1, 8, 8))) == (0.999, 0.99)
    assert (paper.queue_rows(60_000), paper.queue_rows(1797)) == (16384, 1797)


@pytest.mark.parametrize("method", [MiCE, MoCo])
def test_training_out_of_bounds_ends_the_member(digits, method):
    with pytest.raises(Exception, match="lower learning_rate"):
        method(**SMALL, learning_rate=1e38).fit(digits.x[:40])


@pytest.mark.slow
def test_compiled_networks_train_alike(digits):
    x, found = torch.from_numpy(digits.x[:40]), {}
    for compiled in (False, True):
        member = MiCE(**SMALL, compile=compiled).member((1, 8, 8), 0)
        found[compiled] = member.advance(x, None, 0).scores["loss"], member.state_dict()["net"]
    assert found[True][0] == pytest.approx(found[False][0], abs=1e-4)
    assert list(found[True][1]) == list(found[False][1])  # a saved model does not depend on it


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", [MiCE, MoCo])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_on_cuda_follows_the_cpu(digits, method, precision):
    x = torch.from_numpy(digits.x[:200])
    losses = {}
    for device in ("cpu", "cuda"):
        member = method(**{**SMALL, "n_epochs": 4, "precision": precision}).member((1, 8, 8), 0, device)
        losses[device] = member.advance(x.to(device), None, 0).scores["loss"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)  # views draw other numbers there
