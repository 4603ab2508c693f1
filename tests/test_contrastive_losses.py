"""The terms of MiCE against its pseudocode and theorems: values, gradients, memory."""

import itertools
import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from distclust.contrastive_losses import (
    evidence_bound,
    expert_log_probs,
    gating_log_probs,
    info_nce,
    max_mahalanobis_prototypes,
    posterior,
    prototype_sums,
)
from distclust.errors import ParameterError

sizes = st.tuples(  # B, K, d, V, seed
    st.integers(1, 5), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**31)
)
temperatures = st.sampled_from([0.05, 0.3, 1.0, 10.0])
devices = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))],
)


def unit(shape, seed, dtype=torch.float64):
    return normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=shape)), dim=-1).to(dtype)


def drawn(size, dtype=torch.float64):
    """f, v, mu, queue and g of random embeddings; mu and g are not normalised."""
    b, k, d, v, seed = size
    f, taught, queue = (unit(shape, seed + i, dtype) for i, shape in enumerate([(b, k, d), (b, k, d), (k, v, d)]))
    return f, taught, 3 * unit((k, d), seed + 3, dtype), queue, 2 * unit((b, d), seed + 4, dtype)


def experts_of_pseudocode(f, v, mu, queue, tau):
    """The experts of A.3, literally but for the names; the queue is the paper's (V, K, d)."""
    B, K, _ = f.shape
    V = len(queue)
    v = v.detach()
    v_f = torch.einsum("bkd,bkd->bk", v, f)
    v_mu = torch.einsum("bkd,kd->bk", v, normalize(mu, dim=1))
    l_pos = v_f + v_mu
    queue_f = torch.einsum("vkd,bkd->bkv", queue.detach().clone(), f)
    queue_mu = torch.einsum("vkd,kd->kv", queue, normalize(mu, dim=1))
    l_neg = queue_f + queue_mu.view(1, K, V)
    experts_logits = torch.cat([l_pos.view(B, K, 1), l_neg], dim=2) / tau
    return torch.softmax(experts_logits, dim=2)[:, :, 0]


def bound_of_pseudocode(gating, experts):
    """The variational posterior and the ELBO of every point of A.3; gradient flows through the posterior."""
    variational_q = gating * experts
    variational_q = variational_q / variational_q.sum(dim=1, keepdim=True)
    return variational_q, (variational_q * (gating.log() + experts.log() - variational_q.log())).sum(1)


def traced(function, path):
    """What torch did on the CPU in a call."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        function()
    profile.export_chrome_trace(str(path))
    return json.loads(path.read_text())["traceEvents"]


def with_gradients(function, *inputs):
    """The values of a function and their gradients, under weights of their own."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    values = function(*leaves)
    weights = torch.linspace(0.5, 1.5, values.numel()).to(values).view_as(values)
    gradients = torch.autograd.grad((weights * values).sum(), leaves)
    return [values.detach(), *gradients]


@devices
@pytest.mark.parametrize("size", [(16, 5, 32, 300, 0), (7, 2, 8, 64, 1), (1, 3, 16, 1, 2)])
@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_the_pseudocode_in_single_precision(size, tau, device):
    f, v, mu, queue, g = (x.to(device) for x in drawn(size, torch.float32))
    omega = unit((size[1], size[2]), 9, torch.float32).to(device)

    def literally(f, mu, g):
        experts = experts_of_pseudocode(f, v, mu, queue.transpose(0, 1), tau)
        gating = torch.softmax(torch.einsum("kd,bd->bk", omega.detach().clone(), normalize(g, dim=1)) / 0.5, dim=1)
        return bound_of_pseudocode(gating, experts)[1]

    def ours(f, mu, g):
        experts = expert_log_probs(f, v, normalize(mu, dim=1), queue, tau=tau, block=100)
        return evidence_bound(gating_log_probs(normalize(g, dim=1), omega, 0.5), experts)

    found, expected = with_gradients(ours, f, mu, g), with_gradients(literally, f, mu, g)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found[0].device.type == device


@settings(max_examples=60, deadline=None)
@given(sizes, temperatures, st.integers(1, 12), st.data())
def test_the_experts_in_double_precision(size, tau, block, data):
    f, v, mu, queue, _ = drawn(size)
    filled = data.draw(st.integers(0, size[3]))
    queue[:, filled:] = math.nan  # never looked at

    def literally(f, mu):
        return experts_of_pseudocode(f, v, mu, queue[:, :filled].transpose(0, 1), tau).log()

    def ours(f, mu):
        return expert_log_probs(f, v, normalize(mu, dim=1), queue, tau=tau, filled=filled, block=block)

    found, expected = with_gradients(ours, f, mu), with_gradients(literally, f, mu)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures, st.integers(1, 12))
def test_the_experts_without_prototypes_are_those_with_prototypes_of_zero(size, tau, block):
    f, v, _, queue, _ = drawn(size)
    none = torch.zeros(size[1], size[2], dtype=torch.float64)
    without = with_gradients(lambda f: expert_log_probs(f, v, None, queue, tau=tau, block=block), f)
    zero = with_gradients(lambda f: expert_log_probs(f, v, none, queue, tau=tau, block=block), f)
    torch.testing.assert_close(without, zero)


@settings(max_examples=15, deadline=None)
@given(sizes, st.integers(1, 5), st.data())
def test_gradients_of_the_experts_by_differences(size, block, data):
    f, v, mu, queue, _ = drawn(size)
    filled = data.draw(st.sampled_from([0, size[3] // 2, size[3], None]))

    def function(f, mu):
        return expert_log_probs(f, v, mu, queue, tau=0.5, filled=filled, block=block)

    assert torch.autograd.gradcheck(function, (f.requires_grad_(), mu.requires_grad_()))
    assert torch.autograd.gradcheck(lambda f: function(f, None), (f,))


@pytest.mark.parametrize(("n_rows", "filled", "block"), [(12, 12, 5), (12, 12, 4), (12, 7, 3), (12, 1, 1), (12, 0, 4)])
def test_gradients_of_the_experts_by_differences_in_each_case_of_blocks(n_rows, filled, block):
    f, v, mu, queue, _ = drawn((3, 2, 4, n_rows, 0))
    leaves = f.requires_grad_(), mu.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f, mu: expert_log_probs(f, v, mu, queue, tau=0.2, filled=filled, block=block), leaves
    )


def test_gradients_of_the_other_terms_by_differences():
    g, omega = unit((3, 4), 0).requires_grad_(), unit((5, 4), 1).requires_grad_()
    gating, experts = unit((3, 5), 2).requires_grad_(), unit((3, 5), 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda g, omega: gating_log_probs(g, omega, 0.3), (g, omega))
    assert torch.autograd.gradcheck(posterior, (gating, experts))
    assert torch.autograd.gradcheck(evidence_bound, (gating, experts))


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures, st.integers(1, 12), st.integers(1, 12))
def test_blocks_of_any_size_give_the_same(size, tau, block, other):
    f, v, mu, queue, _ = drawn(size)
    found = [
        with_gradients(lambda f, mu, b=b: expert_log_probs(f, v, mu, queue, tau=tau, block=b), f, mu)
        for b in (block, other, 1024)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures)
def test_experts_are_bounded_and_blind_to_the_order_of_queue_and_experts(size, tau):
    b, k, _, n_rows, seed = size
    f, v, mu, queue, _ = drawn(size)
    mu = normalize(mu, dim=1)
    found = expert_log_probs(f, v, mu, queue, tau=tau)
    assert found.shape == (b, k)
    # as in A.4, all logits lie within 2 / tau of 0
    assert found.max() <= min(0, -math.log(n_rows) + 4 / tau)
    assert found.min() >= -math.log1p(n_rows) - 4 / tau
    rng = np.random.default_rng(seed)
    shuffled, renamed = rng.permutation(n_rows), rng.permutation(k)
    torch.testing.assert_close(expert_log_probs(f, v, mu, queue[:, shuffled], tau=tau), found)
    renamed_experts = expert_log_probs(f[:, renamed], v[:, renamed], mu[renamed], queue[renamed], tau=tau)
    torch.testing.assert_close(renamed_experts, found[:, renamed])


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures)
def test_the_more_the_queue_holds_the_less_likely_is_the_image(size, tau):
    f, v, mu, queue, _ = drawn(size)
    found = [expert_log_probs(f, v, mu, queue, tau=tau, filled=filled) for filled in range(size[3] + 1)]
    assert not found[0].any()  # alone, it is certain
    for fewer, more in itertools.pairwise(found):
        assert (more <= fewer + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_queue_teaches_nothing(dtype):
    f, v, mu, queue, _ = drawn((3, 2, 4, 5, 0), dtype)
    for rows, filled in ((queue, 0), (queue[:, :0], None), (queue[:, :0], 0)):
        found = with_gradients(lambda f, mu, q=rows, n=filled: expert_log_probs(f, v, mu, q, tau=1, filled=n), f, mu)
        assert [x.tolist() for x in found] == [torch.zeros_like(x).tolist() for x in (found[0], f, mu)]


def test_no_gradient_flows_into_teacher_and_queue():
    f, v, mu, queue, _ = (x.requires_grad_() for x in drawn((3, 2, 4, 5, 0)))
    expert_log_probs(f, v, mu, queue, tau=1).sum().backward()
    assert f.grad.any(2).all()
    assert mu.grad.any(1).all()
    assert v.grad is None
    assert queue.grad is None


def test_the_queue_may_change_before_the_backward_pass():
    f, v, mu, queue, _ = drawn((3, 2, 4, 50, 0))
    expected = with_gradients(lambda f: expert_log_probs(f, v, mu, queue, tau=0.3), f)

    def enqueues(f):
        found = expert_log_probs(f, v, mu, queue, tau=0.3)
        queue[:, :3] = v.transpose(0, 1)
        return found

    assert all(map(torch.equal, with_gradients(enqueues, f), expected))


def test_there_is_no_second_derivative_and_it_is_said():
    f, v, mu, queue, _ = drawn((3, 2, 4, 5, 0))
    (slope,) = torch.autograd.grad(
        expert_log_probs(f.requires_grad_(), v, mu, queue, tau=1).sum(), f, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_half_the_work_is_spared_without_gradients(tmp_path):
    f, v, mu, queue, _ = drawn((3, 2, 4, 5, 0))
    f.requires_grad_()
    found = []

    def experts():
        found.append(expert_log_probs(f, v, mu, queue, tau=0.3))

    with_gradient = {event["name"] for event in traced(experts, tmp_path / "with.json")}
    with torch.no_grad():
        without = {event["name"] for event in traced(experts, tmp_path / "without.json")}
    assert torch.equal(*found)
    assert [x.requires_grad for x in found] == [True, False]
    assert {"aten::bmm", "aten::baddbmm_"} <= with_gradient
    assert "aten::baddbmm_" not in without


def test_the_same_call_gives_the_same_bytes():
    f, v, mu, queue, _ = drawn((40, 6, 32, 700, 0), torch.float32)
    first, second = (
        with_gradients(lambda f, mu: expert_log_probs(f, v, mu, queue, tau=0.1, block=200), f, mu) for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("tau", [1e-4, 1e-2, 1e4])
@pytest.mark.parametrize("block", [1, 7, 1024])
def test_extreme_temperatures_in_single_precision_are_those_in_double(tau, block):
    f, v, _, queue, _ = drawn((8, 3, 16, 50, 0))
    found, expected = (
        with_gradients(
            lambda f, dtype=dtype: expert_log_probs(f, v.to(dtype), None, queue.to(dtype), tau=tau, block=block),
            f.to(dtype),
        )
        for dtype in (torch.float32, torch.float64)
    )
    assert all(x.isfinite().all() for x in found)
    torch.testing.assert_close([x.double() for x in found], expected, rtol=1e-3, atol=1e-5 / tau)


@devices
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype, device):
    f, v, mu, queue, g = (x.to(device, dtype) for x in drawn((6, 3, 16, 50, 0)))
    mu = normalize(mu, dim=1)

    def ours(f, mu, g, v=v, queue=queue):
        experts = expert_log_probs(f, v, mu, queue, tau=0.07, filled=45, block=20)
        return evidence_bound(gating_log_probs(g, mu, 0.5), experts)

    found = with_gradients(ours, f, mu, g)
    single = with_gradients(lambda f, mu, g: ours(f, mu, g, v.float(), queue.float()), f.float(), mu.float(), g.float())
    assert [x.dtype for x in found] == [torch.float32, dtype, dtype, dtype]
    torch.testing.assert_close(found[0], single[0])
    torch.testing.assert_close([x.float() for x in found[1:]], single[1:], rtol=1e-2, atol=1e-2)


def test_a_queue_in_half_precision_serves_embeddings_in_single():
    f, v, mu, queue, _ = drawn((6, 3, 16, 50, 0), torch.float32)
    half = queue.bfloat16()
    found = with_gradients(lambda f: expert_log_probs(f, v, mu, half, tau=0.07, block=20), f)
    expected = with_gradients(lambda f: expert_log_probs(f, v, mu, half.float(), tau=0.07, block=20), f)
    torch.testing.assert_close(found, expected)


@devices
def test_autocast_changes_nothing(device):
    f, v, mu, queue, g = (x.to(device) for x in drawn((6, 3, 16, 50, 0), torch.float32))

    def ours(f, mu, g):
        experts = expert_log_probs(f, v, mu, queue, tau=0.07, block=20)
        gating = gating_log_probs(g, unit((3, 16), 9, torch.float32).to(device), 0.5)
        assert posterior(gating, experts).dtype == torch.float32
        return evidence_bound(gating, experts)

    expected = with_gradients(ours, f, mu, g)
    with torch.autocast(device, torch.bfloat16):
        found = with_gradients(ours, f, mu, g)  # the backward pass too
    torch.testing.assert_close(found[:3], expected[:3])
    torch.testing.assert_close(found[3], expected[3], rtol=2e-2, atol=2e-2)  # torch's own product, in bfloat16


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from([0.1, 1.0, math.inf]))
def test_gating_log_probs(size, kappa):
    b, k, d, _, seed = size
    g, omega = unit((b, d), seed), unit((k, d), seed + 1)

    def twin(g, omega):
        rows = []
        for n in range(b):
            weights = [((omega[j] * g[n]).sum() / kappa).exp() for j in range(k)]
            rows.append(torch.stack([(weight / sum(weights)).log() for weight in weights]))
        return torch.stack(rows)

    found = with_gradients(lambda g, omega: gating_log_probs(g, omega, kappa), g, omega)
    torch.testing.assert_close(found, with_gradients(twin, g, omega), rtol=1e-9, atol=1e-12)
    if kappa == math.inf:
        torch.testing.assert_close(found[0], torch.full((b, k), -math.log(k), dtype=torch.float64))
        assert not found[1].any()


def test_gating_takes_prototypes_of_another_precision():
    g, omega = unit((3, 4), 0, torch.float32), unit((5, 4), 1)
    found = gating_log_probs(g, omega, 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, gating_log_probs(g, omega.float(), 1))


def log_probs(size, scale=3.0):
    """Log probabilities of a gating function, whose rows sum to one, and of experts, (B, K)."""
    b, k, _, _, seed = size
    a, c = (torch.from_numpy(scale * np.random.default_rng(seed + i).normal(size=(b, k))) for i in range(2))
    return a.log_softmax(1), -c.abs()


@settings(max_examples=50, deadline=None)
@given(sizes, st.floats(0.1, 10))
def test_posterior_and_bound_are_those_of_the_pseudocode_and_no_gradient_flows_through_q(size, scale):
    gating, experts = log_probs(size, scale)
    q, bound = bound_of_pseudocode(gating.exp(), experts.exp())
    torch.testing.assert_close(posterior(gating, experts), q)
    torch.testing.assert_close(evidence_bound(gating, experts), bound)
    found = with_gradients(evidence_bound, gating, experts)
    through_q = with_gradients(lambda a, b: bound_of_pseudocode(a.exp(), b.exp())[1], gating, experts)
    fixed_q = with_gradients(lambda a, b: (q * (a + b - q.log())).sum(1), gating, experts)
    torch.testing.assert_close(found, through_q, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found, fixed_q, rtol=1e-6, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(sizes, st.floats(0, 1e3))
def test_the_posterior_is_a_distribution_and_the_bound_the_greatest_of_all(size, scale):
    gating, experts = log_probs(size, scale)
    q, bound = posterior(gating, experts), evidence_bound(gating, experts)
    torch.testing.assert_close(q.sum(1), torch.ones(size[0], dtype=torch.float64))
    assert (q >= 0).all()
    assert (bound <= 1e-12).all()
    other = log_probs(size, 2.0)[0]  # any other distribution in the place of q gives no more, eq. (7)
    assert ((other.exp() * (gating + experts - other)).sum(1) <= bound + 1e-9).all()


def test_certain_experts_and_gates_have_finite_gradients():
    gating = torch.tensor([[0.0, -1e4], [-1e4, 0.0]]).log_softmax(1)
    found = with_gradients(evidence_bound, gating, torch.tensor([[-1e4, 0.0], [-9.0, -1e4]]))
    assert all(x.isfinite().all() for x in found)


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_prototype_sums(size):
    b, k, d, _, seed = size
    v, labels = unit((b, k, d), seed), torch.from_numpy(np.random.default_rng(seed).integers(0, k, size=b))
    expected = torch.zeros(k, d, dtype=torch.float64)
    for n in range(b):
        expected[labels[n]] += v[n, labels[n]]
    torch.testing.assert_close(prototype_sums(v, labels, k), expected)
    one_hot = torch.nn.functional.one_hot(labels, k).double()
    torch.testing.assert_close(prototype_sums(v, labels, k), torch.einsum("bkd,bk->kd", v, one_hot))  # A.3
    parts = prototype_sums(v[:2], labels[:2], k) + prototype_sums(v[2:], labels[2:], k)
    torch.testing.assert_close(parts, expected)


def test_prototype_sums_of_half_precision_are_not_rounded_to_it():
    v = torch.full((1000, 2, 3), 0.3, dtype=torch.bfloat16)
    found = prototype_sums(v, torch.zeros(1000, dtype=torch.int64), 2)
    torch.testing.assert_close(found, torch.tensor([[1000 * v[0, 0, 0].item()] * 3, [0.0] * 3]))


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures)
def test_normalised_prototype_sums_are_the_best_of_prototypes(size, tau):
    b, k, d, _, seed = size
    v, labels = unit((b, k, d), seed), torch.from_numpy(np.random.default_rng(seed).integers(0, k, size=b))
    mu = normalize(prototype_sums(v, labels, k), dim=1)

    def objective(mu):  # of A.2, without what is constant in mu
        return sum((v[n, labels[n]] * mu[labels[n]]).sum() / tau for n in range(b))

    for i in range(5):
        assert objective(unit((k, d), seed + i)) <= objective(mu) + 1e-9


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures, st.integers(1, 12), st.data())
def test_info_nce(size, tau, block, data):
    b, _, d, n_rows, seed = size
    f, v, queue = unit((b, d), seed), unit((b, d), seed + 1), unit((n_rows, d), seed + 2)
    filled = data.draw(st.integers(0, n_rows))

    def twin(f):  # MoCo's own program: cross-entropy with the positive in the first place
        logits = torch.cat([(f * v).sum(1, keepdim=True), f @ queue[:filled].T], dim=1) / tau
        return torch.nn.functional.cross_entropy(logits, torch.zeros(b, dtype=torch.int64))

    found = with_gradients(lambda f: info_nce(f, v, queue, tau=tau, filled=filled, block=block), f)
    torch.testing.assert_close(found, with_gradients(twin, f), rtol=1e-9, atol=1e-12)
    assert found[0].shape == ()


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures)
def test_theorem_3_uniform_gates_and_shared_heads_without_prototypes_are_moco(size, tau):
    b, k, d, n_rows, seed = size
    f, v, queue, g = (unit(shape, seed + i) for i, shape in enumerate([(b, d), (b, d), (n_rows, d), (b, d)]))
    gating = gating_log_probs(g, unit((k, d), seed + 4), math.inf)  # A3

    def experts(f):  # A4: one head for all; A5: no prototype
        return expert_log_probs(
            f[:, None].expand(b, k, d), v[:, None].expand(b, k, d), None, queue.expand(k, n_rows, d), tau=tau
        )

    found = with_gradients(lambda f: -evidence_bound(gating, experts(f)).mean(), f)
    torch.testing.assert_close(found, with_gradients(lambda f: info_nce(f, v, queue, tau=tau), f))
    uniform = torch.full((b, k), 1 / k, dtype=torch.float64)
    torch.testing.assert_close(posterior(gating, experts(f)), uniform)  # Lemma 1


def spherical_k_means_step(points, centroids):
    """Labels and new centroids of one iteration; a centroid without points is zero."""
    labels, sums = [], torch.zeros_like(centroids)
    for point in points:
        cosines = [float((point * centroid).sum()) for centroid in centroids]
        labels.append(cosines.index(max(cosines)))
        sums[labels[-1]] += point
    return torch.tensor(labels), torch.stack([s / s.norm() if s.any() else s for s in sums])


@settings(max_examples=25, deadline=None)
@given(sizes, temperatures)
def test_theorem_4_the_analytical_update_is_a_step_of_spherical_k_means(size, tau):
    b, k, d, _, seed = size
    f, v, mu, g = (unit(shape, seed + i) for i, shape in enumerate([(b, d), (b, d), (k, d), (b, d)]))
    gating = gating_log_probs(g, unit((k, d), seed + 4), math.inf)  # A3
    ln_phi = (v[:, None] * (f[:, None] + mu)).sum(2) / tau  # A4: one head for all
    labels = posterior(gating, ln_phi - 7.5).argmax(1)  # A1: hard; A2: the normaliser is a constant
    cosines = (v @ mu.T).sort(1).values
    assume((cosines.diff(dim=1)[:, -1:] > 1e-9).all())  # a tie has no right answer
    expected_labels, expected = spherical_k_means_step(v, mu)
    assert labels.tolist() == expected_labels.tolist()
    sums = prototype_sums(v[:, None].expand(b, k, d), labels, k)
    torch.testing.assert_close(normalize(sums, dim=1), expected)


def max_mahalanobis_by_loop(n_clusters, dim):
    """Algorithm 2; the last diagonal entry is 0 but for rounding, and has no place where K = d + 1."""
    omega = np.zeros((n_clusters, dim))
    omega[0, 0] = 1
    for i in range(1, n_clusters):
        for j in range(i):
            omega[i, j] = -(1 / (n_clusters - 1) + omega[i] @ omega[j]) / omega[j, j]
        if i < dim:
            omega[i, i] = math.sqrt(max(0, 1 - omega[i] @ omega[i]))
    return omega


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(0, 10))
def test_max_mahalanobis_prototypes(n_clusters, more):
    dim = n_clusters - 1 + more
    found = max_mahalanobis_prototypes(n_clusters, dim)
    assert found.shape == (n_clusters, dim)
    np.testing.assert_allclose(found, max_mahalanobis_by_loop(n_clusters, dim), atol=1e-6)
    cosines = found @ found.T
    expected = torch.full((n_clusters, n_clusters), -1 / (n_clusters - 1), dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-14)


def test_known_max_mahalanobis_prototypes():
    assert max_mahalanobis_prototypes(2, 1).tolist() == [[1], [-1]]
    half = math.sqrt(3) / 2
    triangle = torch.tensor([[1, 0], [-0.5, half], [-0.5, -half]], dtype=torch.float64)
    torch.testing.assert_close(max_mahalanobis_prototypes(3, 2), triangle)
    largest = max_mahalanobis_prototypes(1001, 1000)
    torch.testing.assert_close(largest @ largest.T, 1.001 * torch.eye(1001).double() - 0.001, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_clusters", "dim"), [(1, 4), (0, 4), (-1, 4), (6, 4), (3, 1), (2, 0)])
def test_prototypes_that_cannot_be_equally_far_apart_are_refused(n_clusters, dim):
    with pytest.raises(ParameterError, match=f"n_clusters is {n_clusters} and dim is {dim}; .* take more dimensions"):
        max_mahalanobis_prototypes(n_clusters, dim)


@pytest.mark.parametrize(
    ("given_values", "fault"),
    [
        ({"tau": 0}, "tau is 0; it must be above 0"),
        ({"tau": -1.0}, "tau is -1.0; it must be above 0"),
        ({"tau": math.nan}, "tau is nan; it must be above 0"),
        ({"tau": 1, "filled": -1}, "filled is -1; it must be 0 to 5"),
        ({"tau": 1, "filled": 6}, "filled is 6; it must be 0 to 5"),
        ({"tau": 1, "block": 0}, "block is 0; it must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(given_values, fault):
    f, v, mu, queue, _ = drawn((3, 2, 4, 5, 0))
    with pytest.raises(ParameterError, match=fault):
        expert_log_probs(f, v, mu, queue, **given_values)
    with pytest.raises(ParameterError, match=fault):
        info_nce(f[:, 0], v[:, 0], queue[0], **given_values)


def test_all_values_out_of_range_are_told_together():
    f, v, mu, queue, _ = drawn((3, 2, 4, 5, 0))
    with pytest.raises(ParameterError) as caught:
        expert_log_probs(f, v, mu, queue, tau=0, filled=9, block=0)
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("kappa", [0, -1, math.nan])
def test_a_gating_temperature_not_above_zero_is_refused(kappa):
    with pytest.raises(ParameterError, match=f"kappa is {kappa}; it must be above 0"):
        gating_log_probs(unit((3, 4), 0), unit((2, 4), 1), kappa)


def peak_memory(function, path):
    """The greatest number of bytes that a function held on the CPU beyond what there was before."""
    changes = [(event["ts"], event["args"]["Bytes"]) for event in traced(function, path) if event["name"] == "[memory]"]
    return int(np.cumsum([change for _, change in sorted(changes, key=lambda change: change[0])]).max())


def forward_and_backward(size, **options):
    """A step of the experts by the pseudocode and by ours, float32."""
    f, v, mu, queue, _ = drawn(size, torch.float32)
    as_in_paper = queue.transpose(0, 1).contiguous()
    leaves = f.requires_grad_(), mu.requires_grad_()

    def literally():
        experts = experts_of_pseudocode(f, v, mu, as_in_paper, 1.0).log()
        return torch.autograd.grad(experts.mean(), leaves)

    def ours():
        experts = expert_log_probs(f, v, normalize(mu, dim=1), queue, tau=1.0, **options)
        return torch.autograd.grad(experts.mean(), leaves)

    return literally, ours


def test_memory_is_a_tenth_of_that_of_the_pseudocode(tmp_path):
    literally, ours = forward_and_backward((64, 4, 32, 2048, 0), block=128)
    plain, found = (peak_memory(step, tmp_path / f"{step.__name__}.json") for step in (literally, ours))
    assert plain > 3 * 64 * 4 * 2048 * 4  # several tensors (B, K, V): the measure sees them
    assert found < plain / 10
    assert found < 64 * 4 * 4 * (128 + 6 * 32)  # the block, and some (B, K, d)


@pytest.mark.slow
def test_memory_and_time_at_the_size_of_the_paper(tmp_path):
    literally, ours = forward_and_backward((256, 10, 128, 16384, 0))
    torch.testing.assert_close(literally(), ours(), rtol=1e-4, atol=1e-8)
    plain, found = (peak_memory(step, tmp_path / f"{step.__name__}.json") for step in (literally, ours))
    assert found < plain / 10
    seconds = {literally: [], ours: []}
    for _ in range(3):
        for step, taken in seconds.items():
            start = time.process_time()  # of this process: others may be busy
            step()
            taken.append(time.process_time() - start)
    print(f"peak {plain / 1e6:.0f} -> {found / 1e6:.1f} MB, time {seconds[literally]} -> {seconds[ours]}")
    assert min(seconds[ours]) < min(seconds[literally])
