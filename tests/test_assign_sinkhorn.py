"""Sinkhorn against the scalings written out without logarithms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.assign import sinkhorn
from distclust.errors import DataError, ParameterError


def naive(scores, epsilon, n_iter, target=None):
    n, k = scores.shape
    target = np.full(k, 1 / k) if target is None else np.asarray(target)
    q = np.exp(np.asarray(scores, dtype=np.float64) / epsilon)
    for _ in range(n_iter):
        q = q / q.sum(axis=0) * target * n
        q = q / q.sum(axis=1, keepdims=True)
    return q


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(0, 2**31),
    st.floats(0.05, 5),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
)
def test_equals_the_naive_scalings(n, k, seed, epsilon, n_iter, with_target, tensors):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-1, 1, size=(n, k))
    target = rng.dirichlet(np.ones(k) * 5) if with_target else None
    given_scores = torch.tensor(scores) if tensors else scores
    q = np.asarray(sinkhorn(given_scores, epsilon, n_iter, target))
    np.testing.assert_allclose(q, naive(scores, epsilon, n_iter, target), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", [None, [0.5, 0.3, 0.2], [0.7, 0.3, 0.0]])
@pytest.mark.parametrize("as_given", [np.asarray, torch.tensor])
def test_reaches_both_marginals(target, as_given):
    scores = np.random.default_rng(0).normal(size=(40, 3))
    q = np.asarray(sinkhorn(as_given(scores), 0.5, 300, target))
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(q.sum(axis=0) / 40, target or np.full(3, 1 / 3), atol=1e-10)


@pytest.mark.parametrize("as_given", [np.asarray, torch.tensor])
def test_small_epsilon_is_stable_and_hard(as_given):
    scores = as_given(1000 * np.eye(6)[[0, 1, 2, 3, 4, 5]])
    np.testing.assert_allclose(np.asarray(sinkhorn(scores, 1e-3, 5)), np.eye(6), atol=1e-300)


@pytest.mark.parametrize(
    ("dtype", "accuracy"), [("float64", 1e-14), ("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 1e-2)]
)
def test_keeps_the_type_and_the_rows_sum_to_one(dtype, accuracy):
    scores = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    q = sinkhorn(scores.requires_grad_(), 0.05, 3)
    assert q.dtype == scores.dtype
    assert not q.requires_grad
    np.testing.assert_allclose(q.double().sum(dim=1), 1, atol=5 * accuracy)
    expected = naive(scores.detach().double().numpy(), 0.05, 3)
    np.testing.assert_allclose(q.double(), expected, atol=20 * accuracy)
    if dtype != "bfloat16":
        array = sinkhorn(scores.detach().numpy(), 0.05, 3)
        assert array.dtype == dtype
        np.testing.assert_allclose(array, q, atol=accuracy)


def test_integers_are_float64():
    scores = np.arange(6).reshape(3, 2)
    assert sinkhorn(scores, 1.0, 2).dtype == np.float64
    assert sinkhorn(torch.tensor(scores), 1.0, 2).dtype == torch.float64


@pytest.mark.parametrize("as_given", [np.asarray, torch.tensor])
def test_a_batch_is_a_loop(as_given):
    batch = np.random.default_rng(0).normal(size=(4, 10, 3))
    q = sinkhorn(as_given(batch), 0.3, 4, [0.2, 0.3, 0.5])
    for scores, one in zip(batch, q, strict=True):
        np.testing.assert_allclose(one, sinkhorn(scores, 0.3, 4, [0.2, 0.3, 0.5]), rtol=1e-12)


SCORES = np.zeros((4, 2))


@pytest.mark.parametrize("as_given", [np.asarray, torch.tensor])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((0, 3)), "at least 1"),
        (np.array([[0, 1], [0, np.nan]]), r"scores\[1, 1\] is nan"),
        (np.array([[0, 1], [-np.inf, 0]]), r"scores\[1, 0\] is -inf"),
    ],
)
def test_bad_scores_are_refused(as_given, scores, message):
    with pytest.raises(DataError, match=message):
        sinkhorn(as_given(scores), 0.1, 3)


def test_what_is_no_array_is_refused():
    with pytest.raises(DataError, match="type list"):
        sinkhorn([[0.0, 1.0]], 0.1, 3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((0, 3), "epsilon is 0"),
        ((-1.0, 3), "epsilon is -1.0"),
        ((np.nan, 3), "epsilon is nan"),
        ((np.inf, 3), "epsilon is inf"),
        (("1", 3), "epsilon is '1'"),
        ((0.1, 0), "n_iter is 0"),
        ((0.1, 2.5), "n_iter is 2.5"),
        ((0.1, 3, [0.5, 0.4]), "target.*sum to 1"),
        ((0.1, 3, [1.5, -0.5]), "target"),
        ((0.1, 3, [1.0, np.nan]), "target"),
        ((0.1, 3, [0.5, 0.3, 0.2]), "target.*2 shares"),
        ((0.1, 3, "even"), "target is 'even'"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        sinkhorn(SCORES, *parameters)


def test_all_faults_are_told_together():
    with pytest.raises(ParameterError) as caught:
        sinkhorn(SCORES, 0, 0, [1.0])
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("as_given", [np.asarray, torch.tensor])
@pytest.mark.parametrize("epsilon", [1e-320, 1e-300])
def test_an_overflow_is_refused(as_given, epsilon):
    with pytest.raises(ParameterError, match="overflow"):
        sinkhorn(as_given(np.full((4, 2), 1e10)), epsilon, 3)
