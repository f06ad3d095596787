from dataclasses import replace

from tests.protocol_support import batch

from ams_common.messages import MAX_BATCH_BYTES
from ams_server.inbox import INBOX_BATCHES, INBOX_BYTES, INBOX_FRAMES, INBOX_UPDATES, Arrival, Inbox


def batch_at(batch_id: int, time_s: float, size: int = 1000) -> Arrival:
    time_us = round(1e6 * time_s)
    return Arrival(replace(batch(batch_id, size), capture_times_us=(time_us - 500_000, time_us)), 100.0 + time_s)


def ids(arrivals: list[Arrival]) -> list[int]:
    return [each.batch.batch_id for each in arrivals]


def test_batches_come_out_in_their_order() -> None:
    inbox = Inbox()
    assert [inbox.add(batch_at(number, 2.0 * number), 10.0) for number in (1, 2, 3)] == [0, 0, 0]
    assert (len(inbox), inbox.newest.batch_id) == (3, 3)
    assert (ids(inbox.take(1)), ids(inbox.take(5)), ids(inbox.take(1))) == ([1], [2, 3], [])


def test_frames_older_than_some_update_intervals_give_way() -> None:
    inbox = Inbox()
    dropped = [inbox.add(batch_at(number, 2.0 * number), 5.0) for number in range(9)]
    assert dropped == [0] * 6 + [1] * 3
    assert ids(inbox.take(9)) == [3, 4, 5, 6, 7, 8]
    assert INBOX_UPDATES * 5.0 == 2.0 * (8 - 3)


def test_a_jump_of_the_capture_clock_leaves_the_newest() -> None:
    inbox = Inbox()
    for number in range(3):
        inbox.add(batch_at(number, float(number)), 10.0)
    assert inbox.add(batch_at(3, 1e6), 10.0) == 3
    assert ids(inbox.take(9)) == [3]


def test_memory_is_bounded_whatever_the_times_say() -> None:
    inbox = Inbox()
    assert sum(inbox.add(batch_at(number, 0.0), 10.0) for number in range(50)) == 50 - INBOX_BATCHES
    for number in range(50, 60):
        inbox.add(batch_at(number, 0.0, MAX_BATCH_BYTES), 10.0)
    assert ids(inbox.take(99)) == [57, 58, 59]
    assert INBOX_BYTES == 3 * MAX_BATCH_BYTES


def test_one_turn_labels_no_more_frames_than_some_hundred() -> None:
    inbox, times_us = Inbox(), (0,) * (INBOX_FRAMES // 2)
    dropped = [inbox.add(Arrival(replace(batch(number, 10), capture_times_us=times_us), 0.0), 10.0) for number in range(5)]
    assert dropped == [0, 0, 1, 1, 1]
    assert sum(len(each.batch.capture_times_us) for each in inbox.take(9)) == INBOX_FRAMES
