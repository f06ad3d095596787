import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ams_common.clock import ManualClock
from ams_common.events import EventLog, EventValue, read_events
from ams_common.messages import Applied, FrameBatch, Update
from ams_edge.statistics import LOG_S, REPORT_S, Rates, Statistics, Totals

APPLIED = Applied(version=5, weights_digest=bytes(16), build_time_ms=20.5)


class Counting:
    """Statistics on a clock of the test, and what they write."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock(100.0)
        self.log = EventLog(path, self.clock)
        self.statistics = Statistics(self.clock, self.log)
        self._path = path

    def events(self, name: str) -> list[dict[str, EventValue]]:
        return [event for event in read_events(self._path) if event["event"] == name]

    def frames(self, count: int, infer_ms: float = 10.0) -> None:
        for _ in range(count):
            self.statistics.count_frame(infer_ms)

    def report(self, capture_time_s: float = 0.0, skipped: int = 0, uplink_bytes: int = 0, downlink_bytes: int = 0) -> None:
        self.statistics.report(
            capture_time_us=round(1e6 * capture_time_s),
            version=4,
            sampling_hz=0.5,
            skipped=skipped,
            uplink_bytes=uplink_bytes,
            downlink_bytes=downlink_bytes,
        )


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    counting = Counting(tmp_path / "events.jsonl")
    yield counting
    counting.log.close()


def batch(batch_id: int) -> FrameBatch:
    packets = ((0, bytes(700)), (1, bytes(300)))
    return FrameBatch(
        batch_id=batch_id, video_codec="h264", width=8, height=8, capture_times_us=(0, 2_000_000), packets=packets
    )


def update(batch_id: int) -> Update:
    return Update(
        version=5,
        base_version=4,
        base_digest=bytes(16),
        result_digest=bytes(16),
        codec="gap-zstd",
        payload=bytes(321),
        newest_batch_id=batch_id,
        newest_capture_time_us=2_000_000,
        changed=9,
        loss=0.25,
    )


def test_rates_are_means_over_the_time_between_two_totals() -> None:
    rates = Totals(14.0, 130, 5000, 26_000).since(Totals(10.0, 10, 1000, 1000))
    assert rates == Rates(fps=30.0, uplink_kbps=8.0, downlink_kbps=50.0)
    assert str(rates) == "30.0 frames/s, up 8 kbit/s, down 50 kbit/s"


def test_a_report_covers_the_time_since_the_last_one(counting: Counting) -> None:
    counting.frames(20)
    counting.clock.sleep(2 * REPORT_S)
    counting.report(uplink_bytes=1000, downlink_bytes=2000)
    counting.frames(9, infer_ms=5.0)
    counting.frames(1, infer_ms=105.0)
    counting.clock.sleep(REPORT_S)
    counting.report(skipped=3, uplink_bytes=1500, downlink_bytes=2000)
    first, second = counting.events("statistics")
    assert (first["frames"], first["fps"], first["uplink_kbps"], first["downlink_kbps"]) == (20, 10.0, 4.0, 8.0)
    assert (second["frames"], second["fps"], second["uplink_kbps"], second["downlink_kbps"]) == (10, 10.0, 4.0, 0.0)
    assert (second["infer_ms_p50"], second["infer_ms_p99"]) == (5.0, 96.0)
    assert (second["version"], second["sampling_hz"], second["uplink_bytes"]) == (4, 0.5, 1500)
    assert (first["skipped"], second["skipped"]) == (0, 3)
    assert second["model_age_s"] is None


def test_nothing_is_reported_too_early_or_without_frames(counting: Counting) -> None:
    counting.frames(3)
    counting.clock.sleep(0.9 * REPORT_S)
    counting.report()
    assert not counting.events("statistics")
    counting.clock.sleep(0.1 * REPORT_S)
    counting.report()
    counting.clock.sleep(5.0)
    counting.report()
    assert len(counting.events("statistics")) == 1


def test_a_person_reads_mean_rates_now_and_then(counting: Counting, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(round(LOG_S)):
        counting.frames(12)
        counting.clock.sleep(1.0)
        counting.report()
    assert [record.getMessage() for record in caplog.records] == ["12.0 frames/s, up 0 kbit/s, down 0 kbit/s, version 4"]


def sent(counting: Counting, batch_id: int) -> None:
    counting.statistics.batch_cut(2_000_000, 0.125)
    counting.statistics.batch_encoded(batch(batch_id), encode_ms=250.0)


def test_an_update_is_timed_from_the_capture_of_its_newest_frame_to_the_switch(counting: Counting) -> None:
    counting.statistics.batch_cut(2_000_000, 0.125)
    counting.clock.sleep(0.25)
    counting.statistics.batch_encoded(batch(3), encode_ms=250.0)
    counting.clock.sleep(0.5)
    counting.statistics.batch_taken(3)
    counting.clock.sleep(0.75)
    counting.statistics.update_received(update(3))
    counting.clock.sleep(0.25)
    counting.statistics.applied(APPLIED, update(3))
    (encoded,) = counting.events("batch")
    assert (encoded["batch_id"], encoded["frames"], encoded["payload_bytes"], encoded["newest_capture_s"]) == (3, 2, 1000, 2.0)
    assert encoded["video_codec"] == "h264"
    (swap,) = counting.events("swap")
    assert (swap["latency_s"], swap["payload_bytes"], swap["changed"]) == (1.875, 321, 9)
    assert (swap["wait_s"], swap["encode_s"], swap["upload_s"], swap["download_s"]) == (0.125, 0.25, 0.5, 0.75)
    assert (swap["queue_s"], swap["train_s"], swap["build_s"]) == (0.0, 0.0, 0.25)
    counting.frames(1)
    counting.report(capture_time_s=7.5)
    assert counting.events("statistics")[0]["model_age_s"] == 5.5


def test_the_summary_counts_frames_and_updates(counting: Counting) -> None:
    counting.statistics.count_frame(3.0)
    counting.statistics.applied(APPLIED, None)
    counting.statistics.applied(APPLIED, update(3))
    assert counting.statistics.summary == "1 frame labelled, 1 update applied"


def test_the_summary_and_the_line_for_a_person_tell_the_model_age(counting: Counting, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sent(counting, 3)
    counting.statistics.applied(APPLIED, update(3))
    for second in range(11):
        counting.frames(1)
        counting.clock.sleep(1.0)
        counting.report(capture_time_s=5.0 + second)
    assert counting.statistics.summary.endswith(", model age 8.0 s on average, 12.5 s at the 95th percentile")
    assert "version 5 runs: 9 parameters in 321 bytes, 0.12 s after the newest frame learnt" in caplog.messages
    assert "1.0 frames/s, up 0 kbit/s, down 0 kbit/s, version 4, model age 12.0 s" in caplog.messages


def test_frames_that_were_not_sent_are_in_the_summary(counting: Counting) -> None:
    counting.frames(1)
    counting.report(skipped=7)
    assert counting.statistics.summary.endswith(" updates applied, 7 frames known to the model and not sent")


def test_what_was_learnt_counts_for_the_stream_that_brought_it(counting: Counting) -> None:
    sent(counting, 3)
    counting.statistics.applied(APPLIED, update(3))
    assert counting.statistics.learnt_us == 2_000_000
    counting.statistics.stream_ended()
    assert counting.statistics.learnt_us is None
    assert counting.statistics.model_age_s(7_500_000) == 5.5
    counting.statistics.applied(APPLIED, update(3))
    assert counting.statistics.learnt_us == 2_000_000
    counting.statistics.applied(APPLIED, None)
    assert counting.statistics.learnt_us is None


def test_a_whole_model_is_no_swap(counting: Counting) -> None:
    counting.statistics.applied(APPLIED, None)
    assert counting.events("model")[0]["version"] == 5
    assert not counting.events("swap")


def test_a_whole_model_has_no_age_since_what_it_has_learnt_from_is_not_known(counting: Counting) -> None:
    sent(counting, 3)
    counting.statistics.applied(APPLIED, update(3))
    assert counting.statistics.model_age_s(7_500_000) == 5.5
    counting.statistics.applied(APPLIED, None)
    assert counting.statistics.model_age_s(7_500_000) is None


def test_updates_that_were_missed_by_an_earlier_run_have_no_age(counting: Counting) -> None:
    """Their capture times are those of another clock, though their batches may have the ids of this run's."""
    sent(counting, 3)
    earlier = replace(update(3), newest_capture_time_us=900_000_000)
    for each in (earlier, update(3)):
        counting.statistics.applied(APPLIED, each)
        counting.frames(1)
        counting.clock.sleep(REPORT_S)
        counting.report(capture_time_s=7.5)
    assert [each["model_age_s"] for each in counting.events("statistics")] == [None, 5.5]
    assert [each["latency_s"] is None for each in counting.events("swap")] == [True, False]
    assert [each["label_s"] is None for each in counting.events("swap")] == [True, False]
