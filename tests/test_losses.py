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
from distclust.errors import ParameterError

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


ALPHAS = [0, 1e-3, 0.5, 0.999, 1 - 1e-9, 1, 1 + 1e-9, 1.001, 1.1, 1.2, 2, 7.5, 1e3, 1e300, math.inf]


def softmax(row):
    weights = [x.exp() for x in row]
    return [weight / sum(weights) for weight in weights]


def mean_divergence(p, q):
    return sum(a * (a / b).log() for i in range(len(p)) for a, b in zip(p[i], q[i], strict=True)) / len(p)


def mean_entropy(p):
    return -sum(a * a.log() for row in p for a in row) / len(p)


def entropy_of_mean(p):
    means = [sum(column) / len(p) for column in zip(*p, strict=True)]
    return -sum(mean * mean.log() for mean in means)


def one_hot(labels, k):
    """Logits whose softmax is one-hot to the last bit, (n, k)."""
    return 1e4 * torch.nn.functional.one_hot(torch.tensor(labels), k).double()


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_cross_entropy(size):
    n, k, _, seed = size
    targets = rows(n, k, seed)

    def twin(logits):
        p = [softmax(row) for row in logits]
        return -sum(float(targets[i, j]) * p[i][j].log() for i in range(n) for j in range(k)) / n

    assert_same(lambda logits: losses.cross_entropy(logits, targets), twin, normal((n, k), seed + 1))


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_reverse_cross_entropy(size):
    n, k, _, seed = size
    targets = rows(n, k, seed)

    def twin(logits):
        p = [softmax(row) for row in logits]
        return -sum(p[i][j] * math.log(targets[i, j]) for i in range(n) for j in range(k)) / n

    assert_same(lambda logits: losses.reverse_cross_entropy(logits, targets), twin, normal((n, k), seed + 1))


def test_both_cross_entropies_with_the_prediction_as_target_are_its_entropy():
    logits = normal((6, 4), 0)
    for loss in (losses.cross_entropy, losses.reverse_cross_entropy):
        torch.testing.assert_close(loss(logits, logits.softmax(1)), losses.decisiveness(logits))


def test_cross_entropy_with_certain_targets_is_that_of_the_labels():
    logits, labels = normal((6, 4), 0), torch.tensor([0, 3, 1, 1, 2, 0])
    targets = torch.nn.functional.one_hot(labels, 4).double()
    torch.testing.assert_close(losses.cross_entropy(logits, targets), torch.nn.functional.cross_entropy(logits, labels))


def test_uncertain_targets_train_nothing_in_reverse_but_they_do_forward():
    targets = torch.full((6, 4), 0.25, dtype=torch.float64, requires_grad=True)
    gradients = []
    for loss in (losses.reverse_cross_entropy, losses.cross_entropy):
        logits = normal((6, 4), 0).requires_grad_()
        loss(logits, targets).backward()
        gradients.append(logits.grad.abs().max())
    assert gradients[0] < 1e-15
    assert gradients[1] > 1e-2
    assert targets.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_target_of_zero_costs_much_but_not_infinity(dtype):
    logits = torch.tensor([[0.0, 0.0], [1e4, 0.0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype)
    found = losses.reverse_cross_entropy(logits, targets)
    found.backward()
    assert found.item() == pytest.approx(-math.log(torch.finfo(dtype).tiny) * (0.5 + 1) / 2)
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] > 0 > logits.grad[0, 0]  # towards the target


@settings(max_examples=50, deadline=None)
@given(sizes, st.sampled_from([0, 0.3, 0.9, 1, 1.05, 1.2, 2, 7.5, math.inf]))
def test_decisiveness(size, alpha):
    n, k, _, seed = size

    def twin(logits):
        p = [softmax(row) for row in logits]
        if alpha == 1:
            return mean_entropy(p)
        if alpha == math.inf:
            return -sum(max(row).log() for row in p) / n
        return sum(sum(a**alpha for a in row).log() for row in p) / (1 - alpha) / n

    assert_same(lambda logits: losses.decisiveness(logits, alpha), twin, normal((n, k), seed))


@settings(max_examples=50, deadline=None)
@given(sizes, st.floats(0.1, 100))
def test_decisiveness_never_rises_with_alpha(size, scale):
    n, k, _, seed = size
    found = [float(losses.decisiveness(scale * normal((n, k), seed), alpha)) for alpha in ALPHAS]
    assert found[0] == pytest.approx(math.log(k), abs=1e-12)
    assert found[-1] >= 0
    assert (np.diff(found) <= 1e-12).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decisiveness_of_uniform_and_of_one_hot_predictions(alpha, dtype):
    uniform, certain = torch.full((3, 1000), 7.0, dtype=dtype), 100 * one_hot([0, 3, 3], 4).to(dtype)
    assert losses.decisiveness(uniform, alpha).item() == pytest.approx(math.log(1000), rel=1e-5)
    assert losses.decisiveness(certain, alpha).item() == pytest.approx(math.log(4) if alpha == 0 else 0, abs=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_decisiveness_in_single_precision_is_that_in_double(alpha):
    logits = 3 * normal((20, 100), 0)
    found, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        value = losses.decisiveness(leaf, alpha)
        value.backward()
        found.append(value.item())
        gradients.append(leaf.grad.double())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("step", [1e-3, -1e-3, 1e-6, -1e-6, 1e-9, -1e-9, 2.0**-52, -(2.0**-53)])
def test_decisiveness_is_smooth_about_the_shannon_entropy(step):
    logits = 3 * normal((20, 10), 0)
    log_probs = logits.log_softmax(1)
    entropies = -(log_probs.exp() * log_probs).sum(1)
    slope = -((log_probs.exp() * log_probs.square()).sum(1) - entropies.square()).mean() / 2  # dR / d alpha at 1
    found = losses.decisiveness(logits, 1 + step) - losses.decisiveness(logits, 1)
    assert float(found) == pytest.approx(float(step * slope), rel=0.01, abs=1e-14)


def test_decisiveness_of_order_infinity_is_exactly_minus_the_greatest_log_probability():
    logits = normal((6, 4), 0)
    assert losses.decisiveness(logits, math.inf) == -logits.log_softmax(1).max(1).values.mean()


@pytest.mark.parametrize("alpha", [-1e-9, -1, -math.inf, math.nan])
def test_decisiveness_of_an_order_below_zero_is_refused(alpha):
    with pytest.raises(ParameterError, match=f"alpha is {alpha}; it must be at least 0"):
        losses.decisiveness(normal((6, 4), 0), alpha)


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from([0, 1, 4]))
def test_negative_mutual_information(size, weight):
    n, k, _, seed = size

    def twin(logits):
        p = [softmax(row) for row in logits]
        return mean_entropy(p) - weight * entropy_of_mean(p)

    logits = normal((n, k), seed)
    assert_same(lambda logits: losses.negative_mutual_information(logits, weight), twin, logits)
    assert -math.log(k) - 1e-12 <= float(losses.negative_mutual_information(logits)) <= 1e-12


def test_negative_mutual_information_is_least_for_certain_predictions_in_balance():
    assert float(losses.negative_mutual_information(one_hot([0, 1, 2, 2, 1, 0], 3))) == pytest.approx(-math.log(3))
    assert float(losses.negative_mutual_information(one_hot([0, 1, 2], 3), 4)) == pytest.approx(-4 * math.log(3))
    assert float(losses.negative_mutual_information(one_hot([1, 1, 1], 3))) == pytest.approx(0, abs=1e-300)
    assert float(losses.negative_mutual_information(torch.zeros(5, 3))) == pytest.approx(0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_symmetric_divergence(size):
    n, k, _, seed = size

    def twin(logits, others):
        p, q = [softmax(row) for row in logits], [softmax(row) for row in others]
        return mean_divergence(p, q) + mean_divergence(q, p)

    assert_same(losses.symmetric_divergence, twin, normal((n, k), seed), normal((n, k), seed + 1))


@settings(max_examples=25, deadline=None)
@given(sizes, st.floats(0.1, 10))
def test_symmetric_divergence_is_symmetric_and_zero_for_the_same_predictions_only(size, scale):
    n, k, _, seed = size
    a, b = scale * normal((n, k), seed), scale * normal((n, k), seed + 1)
    there, back = losses.symmetric_divergence(a, b), losses.symmetric_divergence(b, a)
    assert there == back
    assert there > 0 if k > 1 else there == 0
    assert losses.symmetric_divergence(a, a) == 0
    assert float(losses.symmetric_divergence(a, a + 2)) == pytest.approx(0, abs=1e-20)  # the same softmax


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_paired_mutual_information(size):
    n, k, _, seed = size

    def twin(logits, others):
        p, q = [softmax(row) for row in logits], [softmax(row) for row in others]
        joint = [
            [sum(p[i][a] * q[i][b] + p[i][b] * q[i][a] for i in range(n)) / (2 * n) for b in range(k)] for a in range(k)
        ]
        total = 0
        for a in range(k):
            for b in range(k):
                independent = sum(joint[a]) * sum(row[b] for row in joint)
                total = total - joint[a][b] * (joint[a][b] / independent).log()
        return total

    a, b = normal((n, k), seed), normal((n, k), seed + 1)
    assert_same(losses.paired_mutual_information, twin, a, b)
    assert -math.log(k) - 1e-12 <= float(losses.paired_mutual_information(a, b)) <= 1e-12
    torch.testing.assert_close(losses.paired_mutual_information(a, b), losses.paired_mutual_information(b, a))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_paired_mutual_information_of_known_pairs(dtype):
    balanced, other = one_hot([0, 1, 2, 3], 4).to(dtype), one_hot([1, 1, 1, 1], 4).to(dtype)
    assert losses.paired_mutual_information(balanced, balanced).item() == pytest.approx(-math.log(4))
    assert losses.paired_mutual_information(other, other).item() == pytest.approx(0, abs=1e-30)  # collapsed
    uniform = torch.zeros(5, 4, dtype=dtype)
    assert losses.paired_mutual_information(uniform, uniform).item() == pytest.approx(0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from([0, 1, 5]))
def test_neighbour_consistency(size, weight):
    n, k, _, seed = size

    def twin(logits, neighbours):
        p, q = [softmax(row) for row in logits], [softmax(row) for row in neighbours]
        together = [sum(a * b for a, b in zip(p[i], q[i], strict=True)) for i in range(n)]
        return -sum(t.log() for t in together) / n - weight * entropy_of_mean(p)

    assert_same(
        lambda a, b: losses.neighbour_consistency(a, b, weight), twin, normal((n, k), seed), normal((n, k), seed + 1)
    )


def test_neighbour_consistency_of_known_predictions():
    balanced, uniform = one_hot([0, 1, 2, 2, 1, 0], 3), torch.zeros(6, 3, dtype=torch.float64)
    assert float(losses.neighbour_consistency(balanced, balanced)) == pytest.approx(-5 * math.log(3))
    assert float(losses.neighbour_consistency(uniform, uniform, 2)) == pytest.approx(math.log(3) - 2 * math.log(3))
    apart = losses.neighbour_consistency(balanced, balanced.roll(1, 1), 0)  # <p_i, q_i> = 2 exp(-1e4)
    assert float(apart) == pytest.approx(1e4 - math.log(2), rel=1e-12)


def some_confident(n, k, seed):
    """Logits of which about half are confident, (n, k)."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, k)) * np.where(rng.random((n, 1)) < 0.5, 20, 0.1))


@settings(max_examples=50, deadline=None)
@given(sizes, st.sampled_from([0.6, 0.99]))
def test_confident_cross_entropy(size, threshold):
    n, k, _, seed = size
    confident = some_confident(n, k, seed)
    members = [[] for _ in range(k)]
    for i in range(n):
        p = softmax(confident[i])
        if max(p) > threshold:
            members[p.index(max(p))].append(i)

    def twin(logits):
        total = 0 * logits.sum()
        for j in range(k):
            for i in members[j]:
                total = total + cross_entropy(logits[i], j) / len(members[j])
        return total / max(sum(bool(some) for some in members), 1)

    assert_same(
        lambda logits: losses.confident_cross_entropy(logits, confident, threshold), twin, normal((n, k), seed + 1)
    )


def test_confident_cross_entropy_is_the_weighted_mean_of_torch():
    logits, confident = normal((40, 5), 0), some_confident(40, 5, 1)
    confident[:, 4] = -100  # a cluster without points
    greatest, targets = confident.softmax(1).max(1)
    targets = targets[greatest > 0.99]
    counts = torch.bincount(targets, minlength=5)
    weights = torch.where(counts > 0, len(targets) / counts, 1.0).double()
    expected = torch.nn.functional.cross_entropy(logits[greatest > 0.99], targets, weight=weights)
    torch.testing.assert_close(losses.confident_cross_entropy(logits, confident), expected)


def test_confident_cross_entropy_ignores_points_that_are_not_and_teaches_the_weak_view_nothing():
    logits, confident = normal((6, 3), 0).requires_grad_(), some_confident(6, 3, 1)
    confident[:2], confident[2] = 0.1, torch.tensor([9.0, 0.0, 0.0])
    confident.requires_grad_()
    found = losses.confident_cross_entropy(logits, confident)
    found.backward()
    assert not logits.grad[:2].any()
    assert logits.grad[2].all()
    assert confident.grad is None
    torch.testing.assert_close(losses.confident_cross_entropy(logits[2:], confident[2:]), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confident_cross_entropy_without_a_confident_point_is_zero_and_teaches_nothing(dtype):
    logits = (1e4 * normal((6, 3), 0)).to(dtype).requires_grad_()
    found = losses.confident_cross_entropy(logits, torch.zeros(6, 3, dtype=dtype))
    found.backward()
    assert found.item() == 0
    assert logits.grad.tolist() == [[0] * 3] * 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, inputs=3, k=4):
    """A small smooth network with weights of its own seed, float64."""
    net = torch.nn.Sequential(torch.nn.Linear(inputs, 5), torch.nn.Tanh(), torch.nn.Linear(5, k)).double()
    for index, parameter in enumerate(net.parameters()):
        parameter.data = normal(parameter.shape, seed + index)
    return net


@settings(max_examples=25, deadline=None)
@given(sizes, st.booleans())
def test_virtual_adversarial_of_a_linear_network(size, alike):
    n, k, d, seed = size
    k = k + 1  # of one cluster there is no slope
    x, probe, radius = normal((n, d), seed), 0.7, [1.5 if alike else 0.5 + i for i in range(n)]
    drawn = torch.randn(n, d, generator=generator(seed), dtype=torch.float64)

    def twin(weights):
        fixed, p, q = weights.detach(), [], []
        for i in range(n):
            direction = drawn[i] / math.sqrt(sum(float(value) ** 2 for value in drawn[i]))
            p.append(softmax(x[i] @ fixed))
            probed = softmax((x[i] + probe * direction) @ fixed)
            slope = sum((probed[j] - p[i][j]) * fixed[:, j] for j in range(k))  # of KL, over a positive factor
            worst = slope / math.sqrt(sum(float(value) ** 2 for value in slope))
            q.append(softmax((x[i] + radius[i] * worst) @ weights))
        return mean_divergence(p, q)

    given_radius = 1.5 if alike else torch.tensor(radius)
    assert_same(
        lambda weights: losses.virtual_adversarial(lambda z: z @ weights, x, given_radius, generator(seed), probe),
        twin,
        normal((d, k), seed + 1),
    )


def test_virtual_adversarial_leaves_no_gradient_of_the_search():
    net, x = network(), normal((6, 3), 9)
    loss = losses.virtual_adversarial(net, x, 0.5, generator())
    assert all(parameter.grad is None for parameter in net.parameters())
    seen = []
    losses.virtual_adversarial(lambda z: seen.append(z.detach()) or net(z), x, 0.5, generator())
    assert len(seen) == 3
    worst = torch.nn.functional.kl_div(
        net(seen[2]).log_softmax(1), net(x).detach().log_softmax(1), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(loss, worst)
    expected = torch.autograd.grad(worst, list(net.parameters()))
    loss.backward()
    torch.testing.assert_close([parameter.grad for parameter in net.parameters()], list(expected))


@pytest.mark.parametrize("shape", [(6, 3), (6, 1, 3, 1)])
@pytest.mark.parametrize("radius", [0.5, torch.arange(6.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_virtual_adversarial_keeps_to_its_radius(shape, radius, dtype):
    net, x, moves = network().to(dtype), normal(shape, 9).to(dtype), []

    def logits_of(z):
        moves.append((z - x).detach().flatten(1).norm(dim=1))
        return net(z.flatten(1))

    losses.virtual_adversarial(logits_of, x, radius, generator())
    expected = [torch.zeros(6), torch.full((6,), 10.0), torch.as_tensor(radius) * torch.ones(6)]
    torch.testing.assert_close(torch.stack(moves), torch.stack(expected).to(dtype), rtol=1e-4, atol=1e-6)


def test_virtual_adversarial_of_two_linear_clusters_moves_across_their_boundary():
    weights, x, seen = normal((3, 2), 0), normal((6, 3), 1), []
    normal_vector = weights[:, 1] - weights[:, 0]
    losses.virtual_adversarial(lambda z: seen.append(z.detach()) or z @ weights, x, 0.5, generator())
    cosines = (seen[2] - x) @ normal_vector / (0.5 * normal_vector.norm())
    torch.testing.assert_close(cosines.abs(), torch.ones(6, dtype=torch.float64))


def test_virtual_adversarial_finds_worse_than_chance():
    net, x = network(inputs=20), normal((50, 20), 9)
    log_p = net(x).log_softmax(1).detach()
    chance = torch.nn.functional.normalize(normal(x.shape, 10), dim=1)
    by_chance = torch.nn.functional.kl_div(
        net(x + 0.1 * chance).log_softmax(1), log_p, reduction="batchmean", log_target=True
    )
    found = losses.virtual_adversarial(net, x, 0.1, generator(), probe=0.1)
    assert found.item() > 3 * by_chance.item()


def test_virtual_adversarial_is_the_same_for_the_same_seed():
    net, x = network(), normal((6, 3), 9)
    found = [losses.virtual_adversarial(net, x, 0.5, generator(seed), 1.0).item() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_virtual_adversarial_can_be_reported_without_gradients():
    net, x = network(), normal((6, 3), 9)
    with torch.no_grad():
        found = losses.virtual_adversarial(net, x, 0.5, generator())
    assert not found.requires_grad
    assert found == losses.virtual_adversarial(net, x, 0.5, generator())


def test_virtual_adversarial_stays_where_there_is_no_slope():
    x, weights = normal((6, 3), 9), normal((3, 4), 0).requires_grad_()
    found = losses.virtual_adversarial(lambda z: 0 * z @ weights, x, 0.5, generator())
    found.backward()
    assert found.item() == 0
    assert not weights.grad.any()


def test_virtual_adversarial_follows_slopes_whose_squares_are_zero():
    x, weights, seen = normal((6, 3), 9).float(), normal((3, 4), 0).float(), []
    certain = torch.tensor([60.0, 0.0, 0.0, 0.0])  # the slopes are about exp(-60)
    losses.virtual_adversarial(lambda z: seen.append(z.detach()) or z @ weights + certain, x, 0.5, generator(), 1.0)
    torch.testing.assert_close((seen[2] - x).norm(dim=1), torch.full((6,), 0.5))


FORMS = {
    "cross_entropy": lambda a, b: losses.cross_entropy(a, b.softmax(1)),
    "reverse_cross_entropy": lambda a, b: losses.reverse_cross_entropy(a, b.softmax(1)),
    **{f"decisiveness of order {alpha}": lambda a, b, alpha=alpha: losses.decisiveness(a, alpha) for alpha in ALPHAS},
    "negative_mutual_information": lambda a, b: losses.negative_mutual_information(a, 4),
    "symmetric_divergence": losses.symmetric_divergence,
    "paired_mutual_information": losses.paired_mutual_information,
    "neighbour_consistency": losses.neighbour_consistency,
    "confident_cross_entropy": losses.confident_cross_entropy,
    "virtual_adversarial": lambda a, b: losses.virtual_adversarial(lambda z: z * a, b, 0.5, generator()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_extreme_logits_have_finite_losses_and_gradients(form, dtype, seed):
    levels = torch.tensor([-1e4, 0.0, 1e4], dtype=dtype)
    picks = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, size=(2, 7, 4)))
    for a, b in (levels[picks], (levels[picks[0]], levels[picks[0]]), (levels[picks[0]], -levels[picks[0]])):
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        found = FORMS[form](a, b)
        found.backward()
        assert found.shape == ()
        assert found.dtype == dtype
        assert found.isfinite()
        assert a.grad.isfinite().all()
        assert b.grad is None or b.grad.isfinite().all()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "virtual_adversarial"])
def test_gradients_of_predictions_by_differences(form):
    a, b = normal((4, 3), 0).requires_grad_(), 3 * normal((4, 3), 1)
    assert torch.autograd.gradcheck(lambda a: FORMS[form](a, b), (a,))
    if form in ("symmetric_divergence", "paired_mutual_information", "neighbour_consistency"):
        assert torch.autograd.gradcheck(FORMS[form], (a, b.requires_grad_()))
