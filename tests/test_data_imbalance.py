import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.data import FREQUENCIES, imbalance_frequencies, imbalance_prior, imbalanced_subset
from distclust.errors import DataError, ParameterError, UnknownNameError

NAMES = ("imb1", "imb2", "imb3")


def stretched(ten: tuple[float, ...], n_clusters: int) -> list[float]:
    """Linear interpolation, spelled out."""
    out = []
    for c in range(n_clusters):
        place = 9 * c / (n_clusters - 1) if n_clusters > 1 else 0.0
        left = min(int(place), 8)
        out.append(ten[left] + (place - left) * (ten[left + 1] - ten[left]))
    return out


def test_frequencies_are_those_of_appendix_e() -> None:
    assert imbalance_frequencies("imb1", 10).tolist() == [1, 1, 1, 1, 1, 1, 0.95, 0.9, 0.85, 0.8]
    assert imbalance_frequencies("imb2", 10).tolist() == [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]
    assert imbalance_frequencies("imb3", 10).tolist() == [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("n_clusters", [1, 2, 5, 9, 11, 20, 33, 100])
@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_of_classes_are_interpolated(name: str, n_clusters: int) -> None:
    np.testing.assert_allclose(imbalance_frequencies(name, n_clusters), stretched(FREQUENCIES[name], n_clusters))


def test_prior_is_normalised_frequencies() -> None:
    prior = imbalance_prior("imb3", 10)
    np.testing.assert_allclose(prior, np.arange(10, 0, -1) / 55)


@given(
    st.lists(st.integers(-1, 6), min_size=1, max_size=200).filter(lambda y: max(y) >= 0),
    st.sampled_from(NAMES),
    st.integers(0, 3),
)
def test_counts_against_a_naive_twin(labels: list[int], name: str, seed: int) -> None:
    y = np.array(labels)
    kept = imbalanced_subset(y, name, seed)
    assert kept.dtype == np.int64
    assert sorted(set(kept.tolist())) == kept.tolist()
    frequencies = stretched(FREQUENCIES[name], max(labels) + 1)
    for c, frequency in enumerate(frequencies):
        assert (y[kept] == c).sum() == round(frequency * labels.count(c))
    assert (y[kept] == -1).sum() == labels.count(-1)


def test_same_seed_same_points_and_milder_imbalance_keeps_more_of_the_same() -> None:
    y = np.repeat(np.arange(10), 40)
    one, two, three = (set(imbalanced_subset(y, name, 3).tolist()) for name in NAMES)
    assert three < two < one
    assert imbalanced_subset(y, "imb3", 3).tobytes() == imbalanced_subset(y, "imb3", 3).tobytes()
    assert imbalanced_subset(y, "imb3", 3).tobytes() != imbalanced_subset(y, "imb3", 4).tobytes()


def test_faults() -> None:
    with pytest.raises(UnknownNameError, match="imb1, imb2, imb3"):
        imbalance_frequencies("imb4", 10)
    with pytest.raises(ParameterError, match="at least 1"):
        imbalance_prior("imb1", 0)
    with pytest.raises(DataError, match="known class"):
        imbalanced_subset(np.array([-1, -1]), "imb1", 0)
