"""Values in another unit are noticed, and other features are not called so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.units import mixed_units


@given(st.integers(1, 9), st.floats(0.02, 0.5), st.integers(0, 1000), st.booleans())
def test_a_share_of_the_values_in_another_unit_is_found(power, share, seed, small):
    rng = np.random.default_rng(seed)
    x = rng.normal(8, 1, size=(400, 3))
    wrong = rng.permutation(400) < share * 400
    x[wrong, 1] *= 10.0 ** (-power if small else power)
    (found,) = mixed_units(x)
    assert (found.feature, found.factor) == (1, 10**power)
    np.testing.assert_array_equal(found.larger, ~wrong if small else wrong)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.normal(size=(500, 4)),
        lambda rng: rng.lognormal(0, 3, size=(500, 4)),
        lambda rng: rng.pareto(1, size=(500, 4)) + 1,
        lambda rng: rng.choice([1.0, 10.0], size=(500, 4)),  # codes
        lambda rng: rng.integers(0, 1000, size=(500, 4)),
        lambda rng: rng.normal(5, 0.3, size=(500, 4)) * rng.choice([1, 30], size=(500, 1)),  # no power of ten
        lambda rng: np.ones((500, 4)),
        lambda rng: np.ones((3, 4)),
    ],
)
def test_other_features_are_not_called_so(draw):
    for seed in range(5):
        assert mixed_units(draw(np.random.default_rng(seed))) == []
