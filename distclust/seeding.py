"""Random streams, each addressed by (seed, member, round, purpose).

A stream depends on its address alone: not on what was drawn before, in which process or in which order. So a round
that is done again after a crash, on another node or in another process, draws the same numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def sequence(seed: int, purpose: str, *, member: int = 0, round: int = 0) -> np.random.SeedSequence:
    """Return the seed sequence of one address.

    Args:
        seed: the run's seed, >= 0.
        purpose: what the numbers are for, as in "batch order"; every use has a purpose of its own.
        member: index of the member, >= 0.
        round: index of the round, >= 0.
    """
    digest = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
    words = (int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big"))
    return np.random.SeedSequence(entropy=seed, spawn_key=(member, round, *words))


def generator(seed: int, purpose: str, *, member: int = 0, round: int = 0) -> np.random.Generator:
    """Return the numpy generator of one address; arguments as in `sequence`."""
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, member=member, round=round)))


def integer(seed: int, purpose: str, *, member: int = 0, round: int = 0) -> int:
    """Return the 31-bit integer of one address, for libraries that take a seed; arguments as in `sequence`."""
    return int(sequence(seed, purpose, member=member, round=round).generate_state(1)[0] >> 1)


def torch_generator(
    seed: int, purpose: str, *, member: int = 0, round: int = 0, device: str = "cpu"
) -> torch.Generator:
    """Return the torch generator of one address on `device`; other arguments as in `sequence`."""
    import torch

    return torch.Generator(device).manual_seed(integer(seed, purpose, member=member, round=round))


@contextlib.contextmanager
def torch_stream(seed: int, purpose: str, *, member: int = 0, round: int = 0) -> Iterator[None]:
    """Run the block on the CPU stream of one address and leave torch's global stream as it was.

    For code that draws from torch's global generator, as the constructors of layers do; arguments as in `sequence`.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(integer(seed, purpose, member=member, round=round))
        yield
