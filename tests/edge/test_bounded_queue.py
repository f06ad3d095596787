import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_edge.bounded_queue import BoundedQueue


@given(st.lists(st.integers()), st.integers(1, 8))
def test_newest_items_survive_in_order(items: list[int], capacity: int) -> None:
    queue: BoundedQueue[int] = BoundedQueue(capacity)
    for item in items:
        queue.put_newest(item)
    queue.finish()
    taken = []
    while (item_or_end := queue.take()) is not None:
        taken.append(item_or_end)
    assert taken == items[-capacity:]
    assert queue.dropped == max(0, len(items) - capacity)


def test_an_empty_queue_times_out_and_then_still_works() -> None:
    queue: BoundedQueue[str] = BoundedQueue(1)
    with pytest.raises(TimeoutError):
        queue.take(0.0)
    queue.put_newest("late")
    assert queue.take(0.0) == "late"


def test_nothing_comes_in_after_the_end() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    queue.put_newest(1)
    queue.finish()
    queue.finish()
    queue.put_newest(2)
    queue.put_waiting(3)
    assert [queue.take(), queue.take(), queue.take()] == [1, None, None]


def test_closing_forgets_what_is_here() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    queue.put_newest(1)
    queue.close()
    queue.close()
    assert queue.take() is None


def test_a_waiting_put_goes_on_when_there_is_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)

    def produce() -> None:
        for item in range(100):
            queue.put_waiting(item)
        queue.finish()

    producer = threading.Thread(target=produce)
    producer.start()
    taken = [queue.take(5.0) for _ in range(100)]
    assert taken == list(range(100))
    assert queue.take(5.0) is None
    assert queue.dropped == 0
    producer.join(5.0)
    assert not producer.is_alive()


def test_closing_releases_a_waiting_put() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.put_waiting(1)
    producer = threading.Thread(target=queue.put_waiting, args=(2,))
    producer.start()
    queue.close()
    producer.join(5.0)
    assert not producer.is_alive()
    assert queue.take() is None
