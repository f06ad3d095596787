import threading
from typing import Any

import numpy as np
import pytest

from ams_common.clock import ManualClock
from ams_common.messages import FrameBatch
from ams_common.video_codec import EncodedFrames, decode_frames, encode_frames
from ams_edge.encoder import CARRIED, WAITING_BATCHES, BatchEncoder, EncoderWorker
from ams_edge.sampler import Sample

AMPLE_BYTES = 100_000


def samples(count: int, *, level: int = 100, start_s: float = 0.0, width: int = 64, height: int = 32) -> list[Sample]:
    return [
        Sample(
            image=np.full((height, width, 3), level + 10 * index, np.uint8),
            capture_time_us=round((start_s + index) * 1e6),
        )
        for index in range(count)
    ]


class Inbox:
    """Collects what the encoder hands out."""

    def __init__(self) -> None:
        self.batches: list[FrameBatch] = []
        self.threads: set[str] = set()

    def __call__(self, batch: FrameBatch, encode_ms: float) -> None:
        assert encode_ms >= 0
        self.batches.append(batch)
        self.threads.add(threading.current_thread().name)


def test_batches_come_in_order_with_ids_from_one_and_decode_to_the_samples() -> None:
    inbox = Inbox()
    encoder = EncoderWorker(inbox, ManualClock())
    encoder.start()
    encoder.submit(samples(2), AMPLE_BYTES)
    encoder.submit(samples(3, level=150, start_s=10.0), AMPLE_BYTES)
    encoder.stop()
    encoder.stop()
    assert not encoder.alive
    assert [batch.batch_id for batch in inbox.batches] == [1, 2]
    assert inbox.threads == {"encoder"}
    second = inbox.batches[1]
    assert (second.width, second.height, second.video_codec) == (64, 32, "h264")
    assert second.capture_times_us == (10_000_000, 11_000_000, 12_000_000)
    frames = decode_frames(second, max_pixels=64 * 32, max_frames=3)
    expected = np.stack([sample.image for sample in samples(3, level=150)])
    assert np.abs(frames.astype(int) - expected).max() <= 3


def noisy(count: int, start_s: float = 0.0) -> list[Sample]:
    """Samples of which no two resemble each other, and which cost many bytes."""
    images = np.random.default_rng(0).integers(0, 256, (count, 128, 256, 3), np.uint8)
    return [Sample(image=image, capture_time_us=round(1e6 * (start_s + index))) for index, image in enumerate(images)]


def test_what_a_batch_leaves_the_next_ones_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []

    def fill_in_part(frames: list[Any], *, target_bytes: int, video_codec: str) -> EncodedFrames:
        allowed.append(target_bytes)
        share = (0.96, 1.0, 0.3, 0.99)[len(allowed) - 1]
        return EncodedFrames(((0, bytes(round(share * target_bytes))),), (0,))

    monkeypatch.setattr("ams_edge.encoder.encode_frames", fill_in_part)
    encoder = BatchEncoder()
    sizes = [encoder.encode(samples(1), 10_000).payload_bytes for _ in range(4)]
    assert allowed == [10_000, 10_200, 10_000, 10_200], "at most a CARRIED share more"
    assert CARRIED == 0.02
    for count in range(1, 5):
        assert sum(sizes[:count]) <= 10_000 * count


def test_after_a_scene_that_needed_little_a_batch_is_hardly_larger() -> None:
    encoder = BatchEncoder()
    assert encoder.encode(samples(4), 60_000).payload_bytes < 10_000
    assert encoder.encode(noisy(4), 60_000).payload_bytes <= (1 + CARRIED) * 60_000


def test_frames_that_do_not_fit_are_left_out_and_the_newest_stays(caplog: pytest.LogCaptureFixture) -> None:
    encoder = BatchEncoder()
    batch = encoder.encode(noisy(8), 4000)
    times_us = batch.capture_times_us
    assert 1 <= len(times_us) < 8
    assert times_us[-1] == 7_000_000
    assert batch.payload_bytes <= 4000
    assert len(decode_frames(batch, max_pixels=128 * 256, max_frames=8)) == len(times_us)
    encoder.encode(noisy(8), 4000)
    assert encoder.left_out == 2 * (8 - len(times_us))
    assert f"{8 - len(times_us)} of 8 frames are left out of a batch to fit into 4000 bytes" in caplog.text
    assert len(caplog.records) == 1


def test_a_batch_of_which_nothing_fits_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    encoder = EncoderWorker(inbox, ManualClock())
    encoder.start()
    encoder.submit(samples(4), 10)
    encoder.submit(samples(2), AMPLE_BYTES)
    encoder.stop()
    assert [(batch.batch_id, len(batch.capture_times_us)) for batch in inbox.batches] == [(1, 2)]
    assert encoder.failure is None
    assert "a batch was not sent: a frame of 64x32 does not fit into 10 bytes" in caplog.text


def test_a_stuck_encoder_drops_the_oldest_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def slow_encode(*arguments: Any, **options: Any) -> EncodedFrames:
        busy.set()
        assert go_on.wait(10.0)
        return encode_frames(*arguments, **options)

    monkeypatch.setattr("ams_edge.encoder.encode_frames", slow_encode)
    inbox = Inbox()
    encoder = EncoderWorker(inbox, ManualClock())
    encoder.start()
    encoder.submit(samples(2), AMPLE_BYTES)
    assert busy.wait(10.0)
    for number in range(1, WAITING_BATCHES + 3):
        encoder.submit(samples(2, start_s=10.0 * number), AMPLE_BYTES)
    go_on.set()
    encoder.stop()
    assert encoder.dropped == 2
    assert [batch.capture_times_us[0] for batch in inbox.batches] == [0, 30_000_000, 40_000_000]
    assert [batch.batch_id for batch in inbox.batches] == [1, 2, 3]


def test_the_time_of_encoding_is_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(5.0)

    def encode_for_a_quarter_second(*arguments: Any, **options: Any) -> EncodedFrames:
        clock.sleep(0.25)
        return encode_frames(*arguments, **options)

    monkeypatch.setattr("ams_edge.encoder.encode_frames", encode_for_a_quarter_second)
    times_ms: list[float] = []
    encoder = EncoderWorker(lambda batch, encode_ms: times_ms.append(encode_ms), clock)
    encoder.start()
    encoder.submit(samples(1), AMPLE_BYTES)
    encoder.stop()
    assert times_ms == pytest.approx([250.0])


def test_an_error_of_the_receiver_ends_the_encoder_and_is_kept() -> None:
    def refuse(batch: FrameBatch, encode_ms: float) -> None:
        raise RuntimeError("the link is gone")

    encoder = EncoderWorker(refuse, ManualClock())
    encoder.start()
    encoder.submit(samples(1), AMPLE_BYTES)
    encoder.stop()
    assert isinstance(encoder.failure, RuntimeError)
    assert not encoder.alive
