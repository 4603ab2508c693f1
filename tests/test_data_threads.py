import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distclust.data.threads import in_order


@settings(max_examples=20, deadline=None)
@given(items=st.lists(st.integers(), max_size=40), n_threads=st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items: list[int], n_threads: int) -> None:
    assert list(in_order(lambda item: item * 2, items, n_threads)) == [item * 2 for item in items]


def test_several_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=30)
    assert len(list(in_order(lambda _: together.wait(), range(6), 3))) == 6


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_more_is_begun_after_an_error(error: type[BaseException]) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise error
        return item

    done: list[int] = []
    with pytest.raises(error):
        done.extend(in_order(work, iter(range(1000)), 2))
    assert max(begun) < 3 + 2 * 2


def test_few_items_are_under_way() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    for done, _ in enumerate(in_order(lambda item: item, items(), 3)):
        assert len(taken) - done <= 6
