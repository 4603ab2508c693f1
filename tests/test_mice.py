"""MiCE against the paper's pseudocode on the same streams, EM's bound, the ablations, and what it refuses."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from distclust import LocalPool, MiCE, metrics, rounds
from distclust.contrastive_losses import evidence_bound, expert_log_probs, gating_log_probs
from distclust.data.views import compose
from distclust.errors import ParameterError
from distclust.methods.mice import MiCEMember
from distclust.seeding import generator, torch_generator

SHAPE = (1, 8, 8)
VIEWS = ("rotation", "colour")
SMALL = {
    "n_clusters": 4,
    "embedding_dim": 6,
    "views": VIEWS,
    "n_epochs": 2,
    "n_rounds": 1,
    "batch_size": 20,
    "queue_size": 30,
    "learning_rate": 0.3,
}


def small(digits, n=40):
    return torch.from_numpy(digits.x[:n])


def pseudocode(member, x, settings, n_epochs):
    """Algorithm 1 of appendix A.3 from the member's start; its letters, its einsums; returns the end of it."""
    m, tau, kappa, k = settings.teacher_momentum, settings.tau, settings.kappa, settings.n_clusters
    net = copy.deepcopy(member.net)
    net.student.fit(x)
    encoder_t = copy.deepcopy(net.student)
    optimiser = torch.optim.SGD(net.parameters(), settings.learning_rate, momentum=0.9, weight_decay=1e-4)
    queue, omega, losses = torch.zeros(0, k, 6), member.net.gating_prototypes.detach(), []
    for epoch in range(n_epochs):
        noise = torch_generator(0, "views", member=1, round=epoch)
        shuffled = generator(0, "teacher's order", member=1, round=epoch)
        order = generator(0, "batch order", member=1, round=epoch).permutation(len(x))
        mu_hat = torch.zeros(k, 6)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * 0.1 ** sum(epoch >= at * n_epochs for at in settings.decay_at)
        net.train()
        encoder_t.train()
        for rows in np.split(order, 2):
            images = net.student.scaling(x[torch.from_numpy(rows)])
            x_f, x_v, x_g = (compose(VIEWS)(images, noise) for _ in range(3))
            shuffled.permutation(len(rows))  # one group of batch norm: the order changes rounding alone
            f = net.student(x_f)
            v = encoder_t(x_v).detach()
            g = normalize(net.gate(net.student.trunk(net.student.standard(x_g))))
            mu = net.prototypes / net.prototypes.norm(dim=1, keepdim=True)
            l_pos = torch.einsum("bkd,bkd->bk", v, f) + torch.einsum("bkd,kd->bk", v, mu)
            l_neg = torch.einsum("vkd,bkd->bkv", queue, f) + torch.einsum("vkd,kd->kv", queue, mu)
            experts = (torch.cat([l_pos[:, :, None], l_neg], dim=2) / tau).softmax(2)[:, :, 0]
            gating = (torch.einsum("kd,bd->bk", omega, g) / kappa).softmax(1)
            q = gating * experts
            q = q / q.sum(1, keepdim=True)
            loss = -(q * (gating.log() + experts.log() - q.log())).sum() / len(rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for theirs, ours in zip(encoder_t.parameters(), net.student.parameters(), strict=True):
                    theirs.copy_(m * theirs + (1 - m) * ours)
            queue = torch.cat([queue, v])[-30:]
            mu_hat += torch.einsum("bkd,bk->kd", v, torch.nn.functional.one_hot(q.argmax(1), k).float())
            losses.append(float(loss.detach()) * len(rows))
        with torch.no_grad():
            there = mu_hat.norm(dim=1) > 0
            net.prototypes[there] = normalize(mu_hat)[there]
    return net, encoder_t, queue, sum(losses) / (n_epochs * len(x))


def test_training_is_the_papers_pseudocode(digits):
    x, settings = small(digits), MiCE(**SMALL, teacher_momentum=0.8, tau=0.7, kappa=0.5)
    member = MiCEMember(settings, SHAPE, 1)
    net, encoder_t, queue, loss = pseudocode(member, x, settings, 2)
    output = member.advance(x, None, 0)
    assert output.scores["loss"] == pytest.approx(loss, abs=1e-4)
    for ours, theirs in [(member.net, net), (member.teacher, encoder_t)]:
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)
    ring = member.queue.rows.roll(-member.queue.at, dims=1).transpose(0, 1)
    torch.testing.assert_close(ring, queue, rtol=1e-3, atol=1e-3)
    assert member.queue.filled == 30


def test_labels_are_the_greatest_of_the_posterior_written_out(digits):
    x, settings = small(digits), MiCE(**SMALL, teacher_momentum=0.8)
    member = MiCEMember(settings, SHAPE, 0)
    output = member.advance(x, None, 0)
    member.net.eval()
    member.teacher.eval()
    with torch.no_grad():
        images = member.net.student.scaling(x)
        f, v = member.net.student(images), member.teacher(images)
        g = normalize(member.net.gate(member.net.student.features(images)))
        mu, omega, queue = normalize(member.net.prototypes), member.net.gating_prototypes, member.queue.rows
        weights = torch.zeros(40, 4)
        for n in range(40):
            for k in range(4):
                phi = math.exp(float(v[n, k] @ (f[n, k] + mu[k])))
                others = sum(math.exp(float(queue[k, i] @ (f[n, k] + mu[k]))) for i in range(30))
                weights[n, k] = math.exp(float(omega[k] @ g[n])) * phi / (phi + others)
    expected = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(member.predict_proba(x).float(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(output.labels, expected.argmax(1))
    torch.testing.assert_close(member.transform(x), g)


def test_an_expert_without_images_keeps_its_prototype_and_the_others_move_by_equation_13(digits):
    member = MiCEMember(MiCE(**SMALL), SHAPE, 0)
    before = member.net.prototypes.detach().clone()
    member.sums = torch.tensor([[0.0] * 6, [3.0, 4.0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -2.0], [0.0] * 6])
    member._end_epoch()
    found = member.net.prototypes.detach()
    torch.testing.assert_close(found[[0, 3]], before[[0, 3]])
    torch.testing.assert_close(found[1], torch.tensor([0.6, 0.8, 0, 0, 0, 0]))
    torch.testing.assert_close(found[2], torch.tensor([0, 0, 0, 0, 0, -1.0]))
    assert not member.sums.any()


def test_the_bound_does_not_fall_where_the_normaliser_is_exact():
    """EM on free embeddings of 12 points, each told from all the others: the mean over seeds rises at every step."""
    n, k, d, traces = 12, 3, 5, []
    for seed in range(8):
        stream = torch.Generator().manual_seed(seed)

        def drawn(*size, stream=stream):
            return normalize(torch.randn(*size, generator=stream), dim=-1)

        f, v, g, mu = drawn(n, k, d), drawn(n, k, d), drawn(n, d), drawn(k, d)
        omega = drawn(k, d)
        free = [f.requires_grad_(), g.requires_grad_(), mu.requires_grad_()]
        optimiser, trace = torch.optim.SGD(free, lr=0.05), []
        for _ in range(40):
            gating = gating_log_probs(normalize(g), omega, 1.0)
            experts = torch.cat(
                [
                    expert_log_probs(
                        normalize(f[i : i + 1], dim=2), v[i : i + 1], normalize(mu),
                        torch.cat([v[:i], v[i + 1 :]]).transpose(0, 1), tau=1.0,
                    )
                    for i in range(n)
                ]
            )  # fmt: skip
            bound = evidence_bound(gating, experts).mean()  # the E-step is exact: q is the posterior
            trace.append(float(bound.detach()))
            optimiser.zero_grad()
            (-bound).backward()
            optimiser.step()
        traces.append(trace)
    mean = np.mean(traces, axis=0)
    assert (np.diff(mean) > 0).all()
    assert mean[-1] > mean[0] + 0.03


@pytest.mark.parametrize(
    "changes",
    [
        {"gating": "uniform"},
        {"expert_heads": "shared"},
        {"gating": "uniform", "expert_heads": "shared"},
        {"class_information": False},
        {"prototype_update": "gradient"},
        {"prototype_update": "analytical"},
        {"gating_prototypes": "random"},
        {"gating_prototypes": "learned"},
        {"batch_norm_groups": 2},
        {"encoder": "resnet18", "batch_size": 40},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_every_ablation_trains_and_differs(digits, changes):
    x = small(digits)
    plain = MiCEMember(MiCE(**SMALL), SHAPE, 0)
    other = MiCEMember(MiCE(**{**SMALL, **changes}), SHAPE, 0)
    plain.advance(x, None, 0)
    output = other.advance(x, None, 0)
    assert all(math.isfinite(value) for value in output.scores.values())
    assert not torch.equal(plain.predict_proba(x), other.predict_proba(x))
    torch.testing.assert_close(other.predict_proba(x).sum(1), torch.ones(40, dtype=torch.float64))


def test_prototypes_move_as_their_ablation_says(digits):
    x = small(digits)

    def moved(name, **changes):
        member = MiCEMember(MiCE(**{**SMALL, **changes, "n_epochs": 1}), SHAPE, 0)
        before = getattr(member.net, name).detach().clone()
        member.advance(x, None, 0)
        return before, getattr(member.net, name).detach()

    before, after = moved("prototypes", prototype_update="gradient")
    assert not torch.equal(before, after)
    assert not torch.allclose(after.norm(dim=1), torch.ones(4), atol=1e-6)  # gradient and weight decay change lengths
    _, after = moved("prototypes", prototype_update="analytical")
    torch.testing.assert_close(after.norm(dim=1), torch.ones(4))
    before, after = moved("gating_prototypes")
    assert torch.equal(before, after)
    torch.testing.assert_close((after @ after.T)[0, 1:], torch.full((3,), -1 / 3))
    before, after = moved("gating_prototypes", gating_prototypes="learned")
    assert not torch.equal(before, after)


def test_an_ensemble_is_aligned_and_voted(digits):
    model = MiCE(**{**SMALL, "n_members": 3, "n_rounds": 2}).fit(digits.x[:60])
    assert model.last_round_.agreement.voters + sum(o.status == "collapsed" for o in model.last_round_.outputs) == 3
    assert set(model.labels_) <= set(range(-1, 4))
    np.testing.assert_allclose(model.predict_proba(digits.x[:9]).sum(1), 1)


def test_a_run_goes_on_in_the_middle_with_the_same_bytes(digits, tmp_path):
    settings = MiCE(**{**SMALL, "n_epochs": 3, "n_rounds": 3}).checked(digits.x[:40])
    with LocalPool() as pool:
        *_, whole = rounds(settings, digits.x[:40], pool)
        expected = pool.states()[0]
    with LocalPool(storage=tmp_path) as pool:
        first = next(rounds(settings, digits.x[:40], pool))
    with LocalPool(storage=tmp_path) as pool:
        *_, last = rounds(settings, digits.x[:40], pool, resume=first)
        found = pool.states()[0]
    np.testing.assert_array_equal(whole.outputs[0].labels, last.outputs[0].labels)
    assert whole.outputs[0].scores == last.outputs[0].scores
    torch.testing.assert_close(found["queue"]["rows"], expected["queue"]["rows"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n_clusters": 1}, "n_clusters"),
        ({"n_clusters": 8, "embedding_dim": 6}, "embedding_dim=7 or more"),
        ({"queue_size": 5}, "smaller than a batch of 20"),
        ({"views": "nonsense"}, "known recipes are"),
        ({"views": ("nonsense",)}, "known views are"),
        ({"weights": "/no/such/folder"}, "give the model folder of a run"),
        ({"batch_norm_groups": 11}, "a group needs two points"),
        ({"n_rounds": 3}, "n_rounds=3"),
        ({"tau": 0.0}, "tau"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"n_clusters": 41, "embedding_dim": 64}, "more clusters than points"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(digits, changes, told):
    with pytest.raises(ParameterError, match=told):
        MiCE(**{**SMALL, **changes}).fit(digits.x[:40])


@pytest.mark.parametrize("shape", [(50, 7), (50, 3, 20), (50, 2, 12, 12), (50, 1, 7, 7)])
def test_data_that_are_no_images_or_too_small_are_refused(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with pytest.raises(ParameterError, match=r"images|sides of at least 8 pixels"):
        MiCE(**SMALL).fit(x)


@pytest.mark.slow
def test_digits_are_clustered_without_collapse(digits):
    model = MiCE(n_epochs=60, n_rounds=2).fit(digits.x)
    assert model.last_round_.outputs[0].scores["effective_clusters"] > 7
    assert metrics.accuracy(model.labels_, digits.y) > 0.4
