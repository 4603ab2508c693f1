"""What greedy, exact and sinkhorn have in common: arrays and tensors, batches, what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from distclust import assign
from distclust.errors import DataError, InputError, ParameterError

RNG = np.random.default_rng(3)
COST = RNG.normal(size=(30, 4))
LOG_PRIOR = np.log([0.4, 0.3, 0.2, 0.1])

both = pytest.mark.parametrize("solve", [assign.greedy, assign.exact])


def test_public_names_are_sorted_and_there():
    assert assign.__all__ == sorted(assign.__all__)
    assert all(callable(getattr(assign, name)) for name in assign.__all__)


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_tensors_give_the_labels_of_arrays(solve, dtype):
    cost = torch.tensor(COST * 10).to(dtype).requires_grad_(dtype.is_floating_point)
    labels = solve(cost, torch.tensor(LOG_PRIOR))
    assert labels.dtype == torch.int64
    assert not labels.requires_grad
    of_array = solve(cost.detach().double().numpy(), LOG_PRIOR)
    assert of_array.dtype == np.int64
    assert isinstance(of_array, np.ndarray)
    np.testing.assert_array_equal(labels.numpy(), of_array)


@both
def test_strides_and_read_only_memory_make_no_difference(solve):
    expected = solve(COST, LOG_PRIOR)
    read_only = COST.copy()
    read_only.setflags(write=False)
    for cost in (np.asfortranarray(COST), np.repeat(COST, 2, axis=0)[::2], read_only):
        np.testing.assert_array_equal(solve(cost, LOG_PRIOR), expected)
        np.testing.assert_array_equal(solve(cost), solve(COST))
    np.testing.assert_array_equal(solve(torch.tensor(COST).T.contiguous().T, LOG_PRIOR), expected)


@both
def test_the_input_is_left_as_it_was(solve):
    cost, log_prior = COST.copy(), LOG_PRIOR.copy()
    solve(cost, log_prior)
    solve(cost)
    np.testing.assert_array_equal(cost, COST)
    np.testing.assert_array_equal(log_prior, LOG_PRIOR)


@both
@pytest.mark.parametrize("log_prior", [None, LOG_PRIOR])
def test_a_batch_is_a_loop(solve, log_prior):
    batch = RNG.normal(size=(5, 12, 4))
    expected = [solve(cost, log_prior) for cost in batch]
    np.testing.assert_array_equal(solve(batch, log_prior), expected)
    np.testing.assert_array_equal(solve(torch.tensor(batch), log_prior).numpy(), expected)
    assert solve(batch[:1], log_prior).shape == (1, 12)


@both
def test_no_prior_is_a_uniform_prior(solve):
    np.testing.assert_array_equal(solve(COST), solve(COST, np.zeros(4)))
    np.testing.assert_array_equal(solve(COST), solve(COST, [0, 0, 0, 0]))


@both
def test_a_large_prior_draws_points(solve):
    labels = solve(np.zeros((20, 3)), np.array([0.0, 5.0, 0.0]))
    assert np.bincount(labels, minlength=3).argmax() == 1


@both
def test_one_point_one_cluster_and_more_clusters_than_points(solve):
    assert solve(np.array([[3.0, 1.0, 2.0]])).tolist() == [1]
    assert solve(np.arange(4.0)[:, None]).tolist() == [0, 0, 0, 0]
    assert solve(np.zeros((2, 5))).shape == (2,)
    assert solve(-5 * np.eye(3, 6)).tolist() == [0, 1, 2]


@both
def test_infinite_costs_and_priors_forbid(solve):
    cost = np.zeros((12, 3))
    cost[:6, 0] = np.inf
    labels = solve(cost)
    assert 0 not in labels[:6]
    assert 0 in labels[6:]
    assert 1 not in solve(cost, np.array([0.0, -np.inf, 0.0]))


@both
@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (np.zeros(3), r"shape \(3,\).*\(N, K\)"),
        (np.zeros((1, 1, 3, 2)), r"shape \(1, 1, 3, 2\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\).*at least 1"),
        (np.zeros((3, 0)), r"shape \(3, 0\).*at least 1"),
        (np.zeros((0, 3, 2)), r"at least 1"),
        (np.array([[0, 1], [np.nan, 1], [np.nan, 0]]), r"cost\[1, 0\] is NaN.*finite or \+inf"),
        (np.array([[[0, 1.0]], [[0, np.nan]]]), r"cost\[1, 0, 1\] is NaN"),
        (np.array([[0, 1], [0, -np.inf]]), r"cost\[1, 1\] is -inf"),
        (np.array([[0, 1], [np.inf, np.inf]]), r"cost\[1\] leaves the point no cluster"),
        (np.array([[[0, 1.0]], [[np.inf, np.inf]]]), r"cost\[1, 0\] leaves the point no cluster"),
        (np.array([["a", "b"]]), r"type .*real numbers"),
        (np.array([[1j, 2]]), r"complex.*real numbers"),
        (None, "real numbers|shape"),
    ],
)
def test_bad_costs_are_refused(solve, cost, message):
    with pytest.raises(DataError, match=message):
        solve(cost)
    if isinstance(cost, np.ndarray) and cost.dtype.kind in "fc":
        with pytest.raises(DataError, match=message):
            solve(torch.tensor(cost))


@both
@pytest.mark.parametrize(
    ("log_prior", "message"),
    [
        (np.zeros(3), r"shape \(3,\).*\(4,\)"),
        (np.zeros((4, 1)), r"shape \(4, 1\)"),
        (0.0, r"shape \(\)"),
        (np.array([0, np.nan, 0, 0]), "nan.*not allowed"),
        (np.array([0, np.inf, 0, 0]), "inf.*not allowed"),
        (np.full(4, -np.inf), "-inf.*not allowed"),
        (["a", "b", "c", "d"], "real numbers"),
    ],
)
def test_bad_priors_are_refused(solve, log_prior, message):
    with pytest.raises(ParameterError, match=message) as caught:
        solve(COST, log_prior)
    assert isinstance(caught.value, InputError)


@both
def test_a_point_with_finite_costs_only_where_the_prior_forbids_is_refused(solve):
    cost = np.array([[0.0, 1.0], [0.0, np.inf]])
    with pytest.raises(DataError, match=r"cost\[1\] leaves the point no cluster"):
        solve(cost, np.array([-np.inf, 0.0]))
    with pytest.raises(DataError, match=r"cost\[0, 0\] is -inf"):
        solve(np.array([[-np.inf, 1.0]]), np.array([-np.inf, 0.0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_tensors_stay_on_their_device():
    cost = torch.tensor(COST, device="cuda", dtype=torch.float32)
    for solve in (assign.greedy, assign.exact):
        labels = solve(cost, torch.tensor(LOG_PRIOR, device="cuda"))
        assert labels.device == cost.device
        np.testing.assert_array_equal(labels.cpu(), solve(cost.cpu(), LOG_PRIOR))
    target = torch.full((4,), 0.25, device="cuda")
    q = assign.sinkhorn(cost, 0.5, 3, target)
    assert q.device == cost.device
    torch.testing.assert_close(q.cpu(), assign.sinkhorn(cost.cpu(), 0.5, 3))


def test_arrays_need_no_torch():
    program = (
        "import sys, numpy; from distclust import assign; x = numpy.eye(3); "
        "assign.greedy(x); assign.exact(x); assign.sinkhorn(x, 1.0, 2); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
