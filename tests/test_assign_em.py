"""Pseudo-labels against the paper's steps written out, a general convex solver, and the conditions of the optimum."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distclust.assign import pseudo_labels_em, pseudo_labels_optimal
from distclust.assign.em import _eliminated
from distclust.errors import DataError, ParameterError

BOTH = (pseudo_labels_em, pseudo_labels_optimal)


def predictions(n, k, seed, sharpness=2.0):
    rng = np.random.default_rng(seed)
    logits = sharpness * (rng.normal(size=(n, k)) + rng.normal(size=k))
    share = np.exp(logits - logits.max(1, keepdims=True))
    return share / share.sum(1, keepdims=True)


def loss(sigma, y, lam, u):
    """H(sigma, y) + lambda KL(u || mean y) of eq. (42)."""
    return -(sigma * np.log(y)).sum(1).mean() + lam * (u * np.log(u / y.mean(0))).sum()


def steps_written_out(sigma, lam, u, n_steps):
    n, k = sigma.shape
    y = sigma.copy()
    for _ in range(n_steps):
        s = np.array([[y[i, c] / sum(y[j, c] for j in range(n)) for c in range(k)] for i in range(n)])  # (45)
        for i in range(n):
            below = 1 + lam * n * sum(u[c] * s[i, c] for c in range(k))
            for c in range(k):
                y[i, c] = (sigma[i, c] + lam * n * u[c] * s[i, c]) / below  # (46)
    return y


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**31), st.floats(0, 200), st.integers(1, 6), st.booleans())
def test_em_takes_the_steps_of_the_paper(n, k, seed, lam, n_steps, tensors):
    sigma = predictions(n, k, seed)
    u = np.random.default_rng(seed).dirichlet(np.ones(k) * 5)
    as_given = torch.tensor(sigma) if tensors else sigma
    y = np.asarray(pseudo_labels_em(as_given, lam, u, tol=0, max_iter=n_steps))
    np.testing.assert_allclose(y, steps_written_out(sigma, lam, u, n_steps), rtol=1e-7, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 2**31), st.floats(0.01, 1000), st.floats(0.1, 20))
def test_em_never_raises_the_loss(n, k, seed, lam, sharpness):
    sigma = predictions(n, k, seed, sharpness)
    u = np.full(k, 1 / k)
    values = [loss(sigma, pseudo_labels_em(sigma, lam, tol=0, max_iter=m), lam, u) for m in range(1, 12)]
    assert all(later <= earlier + 1e-9 * (1 + abs(earlier)) for earlier, later in pairwise(values))


@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_em_ends_where_no_label_moves_by_more_than_the_tolerance(tol):
    sigma = predictions(50, 4, 0)
    steps = [sigma] + [pseudo_labels_em(sigma, 10.0, tol=0, max_iter=m) for m in range(1, 200)]
    last = next(m for m in range(1, 200) if abs(steps[m] - steps[m - 1]).max() <= tol)
    assert 2 < last < 199
    np.testing.assert_array_equal(pseudo_labels_em(sigma, 10.0, tol=tol, max_iter=10_000), steps[last])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lam", [0.3, 5.0])
def test_the_optimum_is_that_of_a_general_convex_solver(seed, lam):
    n, k = 4, 3
    sigma, u = predictions(n, k, seed, 1.0), np.random.default_rng(seed).dirichlet(np.ones(k) * 10)

    np.testing.assert_allclose(pseudo_labels_optimal(sigma, lam, u), newton(sigma, lam, u), atol=1e-8)


def newton(sigma, lam, u):
    """Newton's method for a convex function under equations (Boyd & Vandenberghe, 10.2), with the whole Hessian."""
    n, k = sigma.shape
    y = np.full((n, k), 1 / k)
    rows = np.kron(np.eye(n), np.ones(k))
    for _ in range(100):
        gradient = ((-sigma / y - lam * u / y.mean(0)) / n).ravel()
        hessian = np.diag((sigma / y**2 / n).ravel())
        for c in range(k):
            hessian[c::k, c::k] += lam * u[c] / y[:, c].mean() ** 2 / n**2
        system = np.block([[hessian, rows.T], [rows, np.zeros((n, n))]])
        step = np.linalg.solve(system, np.append(-gradient, np.zeros(n)))[: n * k].reshape(n, k)
        length = 1.0
        while (y + length * step).min() <= 0 or loss(sigma, y + length * step, lam, u) > loss(sigma, y, lam, u) + 1e-15:
            length /= 2
            if length < 1e-12:
                return y
        y = y + length * step
    return y


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(2, 12),
    st.integers(0, 2**31),
    st.floats(1e-3, 1e5),
    st.floats(0.0, 60.0),
    st.floats(0.05, 50.0),
)
@example(13, 10, 41, 2644.0, 9.0, 0.0625)  # groups of clusters that share next to no points
def test_the_optimum_meets_its_conditions(n, k, seed, lam, sharpness, evenness):
    sigma = np.maximum(predictions(n, k, seed, sharpness), 1e-10)
    sigma /= sigma.sum(1, keepdims=True)
    u = np.maximum(np.random.default_rng(seed).dirichlet(np.full(k, evenness)), 1e-4)
    u /= u.sum()
    y = pseudo_labels_optimal(sigma, lam, u)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-12)
    assert (y > 0).all()
    # the gradient of the Lagrangian, times y: sigma_ik + lambda u_k y_ik / mean(y_k) = mu_i y_ik, mu_i = the sum over k
    pull = lam * u / y.mean(0) * y
    np.testing.assert_allclose((sigma + pull) / (1 + pull.sum(1, keepdims=True)), y, atol=1e-11)
    started = pseudo_labels_em(sigma, lam, u, tol=0, max_iter=30)
    assert loss(sigma, y, lam, u) <= loss(sigma, started, lam, u) + 1e-9 * (1 + lam)


@given(st.integers(2, 6), st.integers(0, 2**31))
def test_elimination_is_right_to_the_last_digits_where_groups_hardly_touch(k, seed):
    rng = np.random.default_rng(seed)
    links = 10 ** rng.uniform(-25, 0, (k, k))
    links += links.T
    masses, values = 10 ** rng.uniform(-12, 0, k), rng.random(k) + 0.1  # of one sign: nothing cancels
    np.testing.assert_allclose(
        _eliminated(links.copy(), masses.copy(), values.copy()), exactly(links, masses, values), rtol=1e-12
    )


def exactly(links, masses, values):
    """Gauss-Jordan elimination of masses_k x_k + sum_j links_kj (x_k - x_j) = values_k in fractions."""
    k = len(values)
    rows = [[-Fraction(links[i, j]) if i != j else Fraction(0) for j in range(k)] for i in range(k)]
    for i in range(k):
        rows[i][i] = Fraction(masses[i]) - sum(rows[i])
        rows[i].append(Fraction(values[i]))
    for i in range(k):
        rows[i] = [entry / rows[i][i] for entry in rows[i]]
        for j in range(k):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [float(row[-1]) for row in rows]


def test_em_reaches_the_optimum_where_it_can():
    sigma, u = predictions(40, 4, 1, 0.5), np.full(4, 0.25)
    np.testing.assert_allclose(
        pseudo_labels_em(sigma, 2.0, u, tol=1e-14, max_iter=5000), pseudo_labels_optimal(sigma, 2.0, u), atol=1e-9
    )


@pytest.mark.parametrize("solve", BOTH)
def test_no_weight_gives_the_predictions_back(solve):
    sigma = predictions(20, 4, 2)
    np.testing.assert_allclose(solve(sigma, 0), sigma, rtol=1e-9)


@pytest.mark.parametrize("solve", BOTH)
def test_a_heavy_weight_meets_the_target(solve):
    sigma, u = predictions(200, 3, 3, 0.5), np.array([0.6, 0.3, 0.1])
    y = solve(sigma, 1e5, u, tol=1e-6, max_iter=50_000) if solve is pseudo_labels_em else solve(sigma, 1e5, u)
    np.testing.assert_allclose(y.mean(0), u, atol=1e-3)


@pytest.mark.parametrize("solve", BOTH)
def test_a_cluster_without_believers_gets_some(solve):
    sigma = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.7, 0.3, 0.0]])
    y = solve(sigma, 100.0)
    assert np.isfinite(y).all()
    assert y[:, 2].mean() > 0.2


@pytest.mark.parametrize("solve", BOTH)
def test_known_labels_stand_fast_and_count(solve):
    sigma = predictions(30, 3, 4)
    known = np.full(30, -1)
    known[:12] = 0
    y = solve(sigma, 50.0, known=known)
    np.testing.assert_array_equal(y[:12], np.eye(3)[np.zeros(12, int)])
    alone = solve(sigma[12:], 50.0)
    assert y[12:, 0].mean() < alone[:, 0].mean() - 0.1  # cluster 0 has had its share
    np.testing.assert_array_equal(solve(sigma, 50.0, known=np.full(30, -1)), solve(sigma, 50.0))
    everything = solve(sigma, 50.0, known=torch.arange(30) % 3)
    np.testing.assert_array_equal(everything, np.eye(3)[np.arange(30) % 3])


def test_the_optimum_with_known_labels_meets_its_conditions():
    sigma, lam = predictions(40, 4, 5), 20.0
    known = np.where(np.arange(40) < 10, np.arange(40) % 2, -1)
    y = pseudo_labels_optimal(sigma, lam, known=known)
    free = known < 0
    pull = lam * 0.25 / y.mean(0) * y[free]
    np.testing.assert_allclose(sigma[free] + pull, (1 + pull.sum(1, keepdims=True)) * y[free], atol=1e-9)


@pytest.mark.parametrize("solve", BOTH)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_keeps_type_and_device_and_stops_the_gradient(solve, dtype):
    logits = torch.tensor(predictions(20, 4, 6)).log().to(getattr(torch, dtype)).requires_grad_()
    y = solve(logits.softmax(1), 100.0)
    assert (y.dtype, y.device, y.requires_grad) == (logits.dtype, logits.device, False)
    torch.testing.assert_close(y.double().sum(1), torch.ones(20).double(), atol=2e-2, rtol=0)
    if dtype == "float32":
        assert solve(logits.detach().softmax(1).numpy(), 100.0).dtype == np.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("solve", BOTH)
def test_cuda_gives_what_the_cpu_gives(solve):
    sigma = torch.tensor(predictions(100, 5, 7))
    y = solve(sigma.cuda(), 100.0)
    assert y.is_cuda
    torch.testing.assert_close(y.cpu(), solve(sigma, 100.0), atol=1e-9, rtol=0)


GOOD = predictions(5, 3, 8)


@pytest.mark.parametrize("solve", BOTH)
@pytest.mark.parametrize(
    ("probs", "arguments", "error", "says"),
    [
        (GOOD * 2, {}, DataError, "sum to 1"),
        (-GOOD, {}, DataError, "sum to 1"),
        (np.where(np.eye(5, 3) > 0, np.nan, GOOD), {}, DataError, r"probs\[0\]"),
        (GOOD[0], {}, DataError, r"shape \(3,\)"),
        (GOOD[:0], {}, DataError, "empty batches"),
        (GOOD.tolist(), {}, DataError, "type list"),
        (np.eye(3, dtype=int), {}, DataError, "floating-point"),
        (GOOD, {"lam": -1.0}, ParameterError, "lam is -1.0"),
        (GOOD, {"lam": math.inf}, ParameterError, "finite"),
        (GOOD, {"target": [0.5, 0.5, 0.0]}, ParameterError, "infinite penalty"),
        (GOOD, {"target": [0.5, 0.5]}, ParameterError, "3 shares"),
        (GOOD, {"target": [0.5, 0.5, 0.5]}, ParameterError, "sum to 1"),
        (GOOD, {"target": "even"}, ParameterError, "'even'"),
        (GOOD, {"known": [0, 1, 2]}, DataError, r"\(5,\) integers"),
        (GOOD, {"known": [0, 1, 2, 3, -1]}, DataError, r"known\[3\] is 3"),
        (GOOD, {"known": [0, 1, 2, -2, -1]}, DataError, "-2"),
        (GOOD, {"known": [0.0] * 5}, DataError, "integers"),
    ],
)
def test_refuses_what_cannot_be_used(solve, probs, arguments, error, says):
    with pytest.raises(error, match=says):
        solve(probs, **{"lam": 100.0, **arguments})


def test_refuses_steps_that_make_no_sense_all_at_once():
    with pytest.raises(ParameterError) as caught:
        pseudo_labels_em(GOOD, -1, tol=-1, max_iter=0)
    assert len(caught.value.faults) == 3
