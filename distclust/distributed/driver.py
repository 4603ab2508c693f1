"""The one loop of the package."""

from __future__ import annotations

import time
from collections.abc import Iterator

from distclust.contracts import Array, Method, Pool, Round
from distclust.distributed.pool import threads
from distclust.errors import MembersLost
from distclust.metrics import stability


def rounds(method: Method, x: Array, pool: Pool, *, resume: Round | None = None) -> Iterator[Round]:
    """Train an ensemble round by round.

    Each round, every member trains on its own, their labellings become one agreement, and the agreement is yielded.
    It ends after the method's number of rounds, or when the method says that it has finished.
    The next round starts when the next Round is asked for, so whoever drains this has time to store the last one.

    Args:
        method: what to train.
        x: images (N, C, H, W), windows (N, C, T) or vectors (N, D), checked before.
        pool: where the members run; it is left open, so that the members' states can be asked for.
        resume: the last finished round of an interrupted run of the same method, data and storage.

    Yields:
        One Round after the other.

    Raises:
        MembersLost: no member survived a round.
    """
    pool.open(method, x, resume)
    last = resume
    for index in range(0 if last is None else last.index + 1, method.n_rounds):
        if last is not None and method.finished(last):
            return
        start = time.perf_counter()
        outputs = pool.advance(last.agreement if last and method.trains_on_agreement else None, index)
        causes = {m: o.cause for m, o in enumerate(outputs) if o.status == "lost"}
        if len(causes) == len(outputs):
            raise MembersLost(causes)
        with threads(1):  # so that its sums do not depend on the machine
            agreement = method.agree(outputs, last)
            stable = stability(agreement.aligned)
        counts = (*(last.agreed_counts if last else ()), int(agreement.agreed.sum()))
        independent = last.independent if last and method.trains_on_agreement else stable
        last = Round(index, tuple(outputs), agreement, time.perf_counter() - start, counts, stable, independent)
        yield last
