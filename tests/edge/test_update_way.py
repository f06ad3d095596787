from dataclasses import replace

import pytest
from tests.protocol_support import batch, update_to

from ams_common.clock import ManualClock
from ams_common.messages import Update
from ams_edge.update_way import REMEMBERED_BATCHES, WayTimer

NEWEST_US = 1_000_000
"""Capture time of the newest frame of the batches here."""
UPDATE = replace(
    update_to(7),
    newest_batch_id=3,
    newest_capture_time_us=NEWEST_US,
    queue_ms=100.0,
    label_ms=200.0,
    train_ms=300.0,
    code_ms=400.0,
)


class Journey:
    """A batch and its update on a clock of the test."""

    def __init__(self) -> None:
        self.clock = ManualClock(50.0)
        self.timer = WayTimer(self.clock)

    def send(self, batch_id: int = 3, newest_us: int = NEWEST_US) -> None:
        self.timer.cut(newest_us, 0.5)
        self.clock.sleep(0.25)
        self.timer.encoded(replace(batch(batch_id), capture_times_us=(0, newest_us)))

    def acknowledge(self, after_s: float) -> None:
        self.clock.sleep(after_s)
        self.timer.acknowledged(3)

    def receive(self, after_s: float, update: Update = UPDATE) -> None:
        self.clock.sleep(after_s)
        self.timer.arrived(update)


def test_the_parts_have_no_gaps() -> None:
    journey = Journey()
    journey.send()
    journey.acknowledge(1.5)
    journey.receive(3.0)
    journey.clock.sleep(0.125)
    way = journey.timer.way_of(UPDATE)
    assert way is not None
    assert way == pytest.approx((0.5, 0.25, 1.5, 0.1, 0.2, 0.3, 0.4, 2.0, 0.125))
    assert way.total_s == pytest.approx(0.5 + journey.clock.now_s() - 50.0)


def test_a_late_acknowledgement_takes_nothing_from_the_server() -> None:
    journey = Journey()
    journey.send()
    journey.acknowledge(2.0)
    journey.receive(0.5)
    way = journey.timer.way_of(UPDATE)
    assert way is not None
    assert (way.upload_s, way.download_s) == pytest.approx((1.5, 0.0))
    assert way.total_s == pytest.approx(0.5 + 0.25 + 2.5)


def test_without_an_acknowledgement_the_network_is_one_part() -> None:
    journey = Journey()
    journey.send()
    journey.receive(2.5)
    way = journey.timer.way_of(UPDATE)
    assert way is not None
    assert (way.upload_s, way.download_s, way.build_s) == pytest.approx((1.5, 0.0, 0.0))


def test_batches_of_another_run_and_those_that_were_never_sent_have_no_way() -> None:
    journey = Journey()
    assert journey.timer.way_of(UPDATE) is None
    journey.timer.cut(NEWEST_US, 0.0)
    assert journey.timer.way_of(UPDATE) is None, "the encoder dropped it"
    journey.send()
    assert journey.timer.way_of(replace(UPDATE, newest_batch_id=4)) is None
    assert journey.timer.way_of(replace(UPDATE, newest_capture_time_us=5)) is None
    assert journey.timer.way_of(UPDATE) is not None


def test_what_is_long_past_is_forgotten() -> None:
    journey = Journey()
    for number in range(REMEMBERED_BATCHES + 1):
        journey.send(number + 1, NEWEST_US + number)
        journey.receive(0.0, replace(UPDATE, version=number))
    assert journey.timer.way_of(replace(UPDATE, newest_batch_id=1)) is None
    last = replace(UPDATE, newest_batch_id=2, newest_capture_time_us=NEWEST_US + 1)
    assert journey.timer.way_of(last) is not None
