from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol_support import batch

from ams_common.messages import FrameBatch
from ams_common.session import outbox as outbox_module
from ams_common.session.outbox import BatchOutbox


def contents(outbox: BatchOutbox) -> list[int]:
    """Return the ids of what is left, taken out as a stream does."""
    ids = []
    outbox.rewind()
    while (each := outbox.peek()) is not None:
        ids.append(each.batch_id)
        outbox.pop()
    return ids


def test_batches_stay_until_they_are_acknowledged_and_come_again_on_a_new_stream() -> None:
    outbox = BatchOutbox(20.0)
    for number in (1, 2, 3):
        outbox.add(batch(number))
        outbox.pop()
    outbox.acknowledge(1)
    assert len(outbox) == 2
    assert outbox.peek() is None
    outbox.rewind()
    assert outbox.peek() == batch(2)
    outbox.pop()
    assert outbox.peek() == batch(3)


@pytest.mark.parametrize(
    ("room_bytes", "kept"), [(10_000, [1, 2, 3]), (4000, [1, 2, 3]), (3999, [2, 3]), (2000, [3]), (-500, [3])]
)
def test_a_stream_begins_with_what_may_go_at_once_and_leaves_room_for_one_more(room_bytes: float, kept: list[int]) -> None:
    outbox = BatchOutbox(20.0)
    outbox.begin(room_bytes)
    for number in (1, 2, 3):
        outbox.add(batch(number, 1000))
    outbox.begin(room_bytes)
    assert contents(outbox) == kept
    assert outbox.dropped == 3 - len(kept)


def test_what_is_too_old_is_dropped_sent_or_not() -> None:
    outbox = BatchOutbox(1.0)
    outbox.add(batch(1))
    outbox.pop()
    for number in (2, 3, 4):
        outbox.add(batch(number))
    assert outbox.dropped == 2
    assert outbox.peek() == batch(3)
    outbox.acknowledge(1)
    assert contents(outbox) == [3, 4]


def test_it_takes_no_more_memory_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "OUTBOX_BYTES", 2500)
    outbox = BatchOutbox(600.0)
    for number in (1, 2, 3, 4):
        outbox.add(batch(number, 1000))
    assert (len(outbox), outbox.dropped) == (2, 2)
    outbox.add(batch(5, 4000))
    assert contents(outbox) == [5], "the newest stays, however large"


def test_a_span_of_nothing_keeps_the_newest() -> None:
    outbox = BatchOutbox(0.0)
    outbox.add(batch(1))
    outbox.add(batch(2))
    assert contents(outbox) == [2]


def test_shortening_spares_what_is_sent_and_the_newest() -> None:
    outbox = BatchOutbox(600.0)
    for number in (1, 2, 3, 4, 5):
        outbox.add(batch(number, 1000))
    outbox.pop()
    outbox.shorten(2999)
    assert (len(outbox), outbox.dropped) == (3, 2)
    outbox.shorten(float("inf"))
    assert len(outbox) == 3
    outbox.shorten(-1.0)
    assert contents(outbox) == [1, 5]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.floats(0, 30), st.floats(0, 50_000))
def test_what_is_left_is_the_newest_in_order_and_within_the_limits(sizes: list[int], span_s: float, most_bytes: float) -> None:
    outbox, batches = BatchOutbox(span_s), [batch(number, size) for number, size in enumerate(sizes, 1)]
    for each in batches:
        outbox.add(each)
    outbox.shorten(most_bytes)
    left = contents(outbox)
    assert left == [each.batch_id for each in batches[-len(left) :]]
    assert outbox.dropped == len(batches) - len(left)
    assert len(left) == 1 or (left[-1] - left[0] <= span_s and sum(sizes[-len(left) :]) <= most_bytes)
    longer: list[FrameBatch] = batches[-len(left) - 1 :]
    too_old = len(left) >= span_s
    assert len(longer) == len(left) or too_old or sum(each.payload_bytes for each in longer) > most_bytes


def test_a_clear_counts_what_is_lost() -> None:
    outbox = BatchOutbox(20.0)
    outbox.add(batch(1))
    outbox.pop()
    outbox.add(replace(batch(2)))
    outbox.clear()
    assert (len(outbox), outbox.dropped, outbox.peek()) == (0, 2, None)
