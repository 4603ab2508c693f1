"""Random streams: one address, one stream, whatever was drawn before."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.seeding import generator, integer, sequence, torch_generator, torch_stream

indices = st.integers(0, 2**32 - 1)
addresses = st.tuples(st.integers(0, 2**128 - 1), st.text(max_size=20), indices, indices)
ADDRESS = (7, "batch order", 2, 3)


def words(address):
    seed, purpose, member, round = address
    return sequence(seed, purpose, member=member, round=round).generate_state(4).tolist()


def draws(address):
    """What every kind of stream gives at one address."""
    seed, purpose, member, round = address
    where = {"member": member, "round": round}
    with torch_stream(seed, purpose, **where):
        inside = torch.rand(3).tolist()
    return (
        generator(seed, purpose, **where).random(3).tolist(),
        integer(seed, purpose, **where),
        torch.rand(3, generator=torch_generator(seed, purpose, **where)).tolist(),
        inside,
    )


@settings(max_examples=200, deadline=None)
@given(addresses, addresses)
def test_streams_are_equal_at_equal_addresses_alone(a, b):
    assert words(a) == words(a)
    assert (words(a) == words(b)) == (a == b)


@pytest.mark.parametrize("other", [(8, *ADDRESS[1:]), (7, "batch orders", 2, 3), (7, "batch order", 3, 3)])
def test_each_part_of_the_address_counts(other):
    assert all(a != b for a, b in zip(draws(ADDRESS), draws(other), strict=True))


def test_member_and_round_are_not_interchangeable():
    assert len({tuple(words((0, "p", m, r))) for m in range(20) for r in range(20)}) == 400


@settings(max_examples=30, deadline=None)
@given(st.lists(addresses, min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_calls_does_not_matter(some, random):
    first = {address: draws(address) for address in some}
    random.shuffle(some)
    for address in some:
        torch.rand(5)
        assert draws(address) == first[address]


def test_torch_stream_leaves_the_global_stream_as_it_was():
    before = torch.random.get_rng_state()
    with torch_stream(0, "weights"):
        torch.rand(10)
        assert not torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(torch.random.get_rng_state(), before)
    with contextlib.suppress(KeyError), torch_stream(0, "weights"):
        torch.rand(10)
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), before)


def test_torch_stream_and_torch_generator_draw_the_same():
    _, _, own, inside = draws(ADDRESS)
    assert own == inside


def test_numpys_global_stream_is_not_touched():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    draws(ADDRESS)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@settings(deadline=None)
@given(addresses)
def test_integers_have_31_bits(address):
    seed, purpose, member, round = address
    assert 0 <= integer(seed, purpose, member=member, round=round) < 2**31


def test_first_values_are_pinned():
    # A change here changes every labelling: it belongs in the changelog.
    seed, purpose, member, round = ADDRESS
    where = {"member": member, "round": round}
    assert generator(seed, purpose, **where).integers(0, 2**32, 4).tolist() == [
        671886298,
        1295593454,
        673681377,
        2833831143,
    ]
    assert integer(seed, purpose, **where) == 1825692229
    own = torch_generator(seed, purpose, **where)
    assert torch.randint(2**31, (3,), generator=own).tolist() == [1249358914, 1036322150, 1298701513]


@pytest.mark.parametrize("address", [(-1, "p", 0, 0), (0, "p", -1, 0), (0, "p", 0, -1)])
def test_negative_parts_are_refused(address):
    with pytest.raises(ValueError, match="non-negative"):
        words(address)
