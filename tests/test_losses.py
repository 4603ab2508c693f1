"""Losses against loops over points and clusters, values and gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from distclust import losses

sizes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))  # N, K, D, seed


def rows(n, k, seed):
    """Random probabilities, (n, k)."""
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(k), size=n))


def normal(shape, seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def assert_same(loss, twin, *inputs):
    """Value and gradients of a loss are those of its twin."""
    found, expected = [], []
    for function, into in ((loss, found), (twin, expected)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        assert value.shape == ()
        into += [value.detach(), *torch.autograd.grad(value, leaves)]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def marginal(probs, k):
    total = 0
    for i in range(len(probs)):
        total = total + probs[i, k]
    return total / len(probs)


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_hard_cost(size):
    n, k, _, seed = size
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, k, size=n))

    def twin(cost):
        return sum(cost[i, int(labels[i])] for i in range(n)) / n

    assert_same(lambda cost: losses.hard_cost(cost, labels), twin, normal((n, k), seed))


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_soft_cost(size):
    n, k, _, seed = size
    targets = rows(n, k, seed)

    def twin(cost):
        return sum(float(targets[i, j]) * cost[i, j] for i in range(n) for j in range(k)) / n

    assert_same(lambda cost: losses.soft_cost(cost, targets), twin, normal((n, k), seed + 1))


def test_soft_cost_with_certain_targets_is_hard_cost_and_teaches_the_targets_nothing():
    cost, labels = normal((6, 4), 0).requires_grad_(), torch.tensor([0, 3, 1, 1, 2, 0])
    targets = torch.nn.functional.one_hot(labels, 4).double().requires_grad_()
    soft = losses.soft_cost(cost, targets)
    torch.testing.assert_close(soft, losses.hard_cost(cost, labels))
    soft.backward()
    assert cost.grad is not None
    assert targets.grad is None


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_negative_marginal_entropy(size):
    n, k, _, seed = size

    def twin(probs):
        return sum(marginal(probs, j) * marginal(probs, j).log() for j in range(k))

    assert_same(losses.negative_marginal_entropy, twin, rows(n, k, seed))


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_marginal_sum_of_squares(size):
    n, k, _, seed = size
    memberships = torch.from_numpy(np.random.default_rng(seed).random((n, k)))
    assert_same(
        losses.marginal_sum_of_squares, lambda q: sum(marginal(q, j) * marginal(q, j) for j in range(k)), memberships
    )


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_marginal_variance(size):
    n, k, _, seed = size

    def twin(q):
        mean = sum(marginal(q, j) for j in range(k)) / k
        return sum((marginal(q, j) - mean) ** 2 for j in range(k)) / k

    memberships = torch.from_numpy(np.random.default_rng(seed).random((n, k)))
    assert_same(losses.marginal_variance, twin, memberships)


@settings(max_examples=50, deadline=None)
@given(sizes)
def test_marginal_terms_are_least_at_uniform_and_blind_to_names_and_order(size):
    n, k, _, seed = size
    probs, uniform = rows(n, k, seed), torch.full((n, k), 1 / k, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    mixed = probs[rng.permutation(n)][:, rng.permutation(k)]
    bottom = {
        losses.negative_marginal_entropy: -math.log(k),
        losses.marginal_sum_of_squares: 1 / k,
        losses.marginal_variance: 0.0,
    }
    for loss, least in bottom.items():
        assert float(loss(uniform)) == pytest.approx(least, abs=1e-12)
        assert float(loss(probs)) >= least - 1e-12
        assert float(loss(mixed)) == pytest.approx(float(loss(probs)), abs=1e-12)


def test_marginal_terms_are_greatest_for_a_single_cluster():
    collapsed = torch.eye(4, dtype=torch.float64)[[2, 2, 2]]
    assert float(losses.negative_marginal_entropy(collapsed)) == pytest.approx(0, abs=1e-300)
    assert float(losses.marginal_sum_of_squares(collapsed)) == 1
    assert float(losses.marginal_variance(collapsed)) == pytest.approx(1 / 4 - 1 / 16)


def test_entropy_has_a_finite_gradient_when_no_point_is_near_a_cluster():
    cost = torch.tensor([[0.0, 200.0], [0.0, 300.0]], requires_grad=True)
    losses.negative_marginal_entropy((-cost).softmax(1)).backward()
    assert cost.grad.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(sizes, st.floats(0.2, 5))
def test_concrete_k_means(size, temperature):
    n, k, d, seed = size
    noise = torch.from_numpy(np.random.default_rng(seed).gumbel(size=(n, k)))

    def twin(latents, centroids):
        total = 0
        for i in range(n):
            logits = [(noise[i, j] - ((latents[i] - centroids[j]) ** 2).sum()) / temperature for j in range(k)]
            weights = torch.stack(logits).exp() / torch.stack(logits).exp().sum()
            sample = sum(weights[j] * centroids[j] for j in range(k))
            total = total + ((latents[i] - sample) ** 2).sum()
        return total / n

    assert_same(
        lambda latents, centroids: losses.concrete_k_means(
            latents, centroids, -losses.squared_distances(latents, centroids), noise, temperature
        ),
        twin,
        normal((n, d), seed),
        normal((k, d), seed + 1),
    )


def test_a_cold_concrete_sample_is_a_draw_from_the_posterior():
    n = 20_000
    latents, centroids = torch.zeros(n, 1, dtype=torch.float64), torch.tensor([[0.0], [1.0], [-1.5]]).double()
    noise = torch.from_numpy(np.random.default_rng(0).gumbel(size=(n, 3)))
    distances = centroids.square().flatten()
    expected = (distances * (-distances).softmax(0)).sum()  # E ||z - mu_k||^2 under p(k) ~ exp(-||z - mu_k||^2)
    found = losses.concrete_k_means(latents, centroids, -distances.expand(n, 3), noise, 1e-3)
    assert float(found) == pytest.approx(float(expected), abs=0.02)


def cross_entropy(logits, target):
    return logits.exp().sum().log() - logits[target]


def some_targets(n, k, seed):
    """Random targets, (n,), about half of them -1 = none."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.where(rng.random(n) < 0.5, -1, rng.integers(0, k, size=n)))


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_selected_cross_entropy(size):
    n, k, _, seed = size
    targets = some_targets(n, k, seed)

    def twin(logits):
        total = 0 * logits.sum()
        for i in range(n):
            if targets[i] >= 0:
                total = total + cross_entropy(logits[i], int(targets[i]))
        return total / n

    assert_same(lambda logits: losses.selected_cross_entropy(logits, targets), twin, normal((n, k), seed + 1))


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from([torch.float32, torch.float64]))
def test_selected_cross_entropy_without_any_target_is_zero_and_teaches_nothing(size, dtype):
    n, k, _, seed = size
    logits = normal((n, k), seed).to(dtype).requires_grad_()
    found = losses.selected_cross_entropy(logits, torch.full((n,), -1))
    found.backward()
    assert found.item() == 0
    assert logits.grad.tolist() == [[0] * k] * n


@settings(max_examples=25, deadline=None)
@given(sizes, st.integers(0, 5))
def test_selected_cross_entropy_divides_by_all_points(size, more):
    n, k, _, seed = size
    logits, targets = normal((n, k), seed), some_targets(n, k, seed)
    alone = losses.selected_cross_entropy(logits, targets)
    logits = torch.cat((logits, 1e3 * normal((more, k), seed + 1))).requires_grad_()
    among = losses.selected_cross_entropy(logits, torch.cat((targets, torch.full((more,), -1))))
    torch.testing.assert_close(among, alone * n / (n + more))
    among.backward()
    assert not logits.grad[n:].any()  # what has no target has no say


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 6), st.integers(0, 2**31))
def test_mean_l1(n, shape, more, seed):
    n_points = max(n + more, 1)

    def twin(rebuilt, original):
        total = 0 * (rebuilt.sum() + original.sum())
        for i in range(n):
            values = zip(rebuilt[i].flatten(), original[i].flatten(), strict=True)
            total = total + sum((a - b).abs() for a, b in values) / math.prod(shape)
        return total / n_points

    rebuilt, original = normal((n, *shape), seed), normal((n, *shape), seed + 1)
    assert_same(lambda a, b: losses.mean_l1(a, b, n_points), twin, rebuilt, original)
    assert float(losses.mean_l1(rebuilt, rebuilt, n_points)) == 0


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_both_terms_together_are_the_selective_loss(size):
    n, k, d, seed = size
    targets, original = some_targets(n, k, seed), normal((n, d), seed)

    def loss(logits, rebuilt):
        rest = targets < 0
        return losses.selected_cross_entropy(logits, targets) + losses.mean_l1(rebuilt[rest], original[rest], n)

    def twin(logits, rebuilt):  # SPC eq. (2) of one member
        total = 0 * (logits.sum() + rebuilt.sum())
        for i in range(n):
            if targets[i] >= 0:
                total = total + cross_entropy(logits[i], int(targets[i]))
            else:
                total = total + sum((rebuilt[i, j] - original[i, j]).abs() for j in range(d)) / d
        return total / n

    assert_same(loss, twin, normal((n, k), seed + 1), normal((n, d), seed + 2))


@settings(max_examples=50, deadline=None)
@given(sizes)
def test_squared_distances(size):
    n, k, d, seed = size
    z, mu = normal((n, d), seed), normal((k, d), seed + 1)
    found = losses.squared_distances(z, mu)
    np.testing.assert_allclose(found, cdist(z, mu, "sqeuclidean"), atol=1e-12)
    rotation = torch.linalg.qr(normal((d, d), seed + 2))[0]
    moved = losses.squared_distances(z @ rotation + 3, mu @ rotation + 3)
    torch.testing.assert_close(moved, found, rtol=1e-9, atol=1e-11)
    assert_same(
        lambda a, b: losses.squared_distances(a, b).sum(),
        lambda a, b: sum(((a[i] - b[j]) ** 2).sum() for i in range(n) for j in range(k)),
        z,
        mu,
    )


def test_squared_distances_are_never_below_zero():
    z = 100 * normal((50, 20), 0).float()
    plain = z.square().sum(1)[:, None] + z.square().sum(1) - 2 * z @ z.T
    assert plain.min() < 0  # rounding would take it there
    assert losses.squared_distances(z, z).min() == 0


@settings(max_examples=50, deadline=None)
@given(sizes)
def test_mahalanobis_cost_is_the_negative_log_density_without_its_constants(size):
    n, k, d, seed = size
    z, mu, factors = normal((n, d), seed), normal((k, d), seed + 1), normal((k, d, d + 2), seed + 2)
    covariances = factors @ factors.mT + 0.1 * torch.eye(d)
    found = losses.mahalanobis_cost(z, mu, torch.linalg.inv(torch.linalg.cholesky(covariances)))
    assert found.shape == (n, k)
    for j in range(k):
        density = multivariate_normal(mu[j].numpy(), covariances[j].numpy())
        constants = d / 2 * math.log(2 * math.pi) + float(torch.logdet(covariances[j])) / 2
        for i in range(n):
            assert float(found[i, j]) == pytest.approx(-density.logpdf(z[i].numpy()) - constants, rel=1e-6, abs=1e-6)


def test_mahalanobis_cost_of_round_clusters_is_the_isotropic_cost():
    z, mu, sigma, (k, d) = normal((7, 4), 0), normal((3, 4), 1), 2.5, (3, 4)
    whitening = (torch.eye(d, dtype=torch.float64) / math.sqrt(sigma)).expand(k, d, d)
    found = losses.mahalanobis_cost(z, mu, whitening)
    torch.testing.assert_close(found, losses.squared_distances(z, mu) / (2 * sigma))


def test_gradients_by_differences():
    z, mu = normal((4, 3), 0).requires_grad_(), normal((2, 3), 1).requires_grad_()
    whitening = normal((2, 3, 3), 2).tril().requires_grad_()
    noise = torch.from_numpy(np.random.default_rng(0).gumbel(size=(4, 2)))
    assert torch.autograd.gradcheck(losses.mahalanobis_cost, (z, mu, whitening))
    scores = normal((4, 2), 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, c: losses.concrete_k_means(a, b, c, noise, 0.7), (z, mu, scores))
