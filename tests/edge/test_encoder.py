import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ams_common.clock import ManualClock
from ams_common.messages import FrameBatch
from ams_common.video_codec import EncodedFrames, decode_frames, encode_frames
from ams_edge.encoder import WAITING_BATCHES, EncoderWorker
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


def test_a_batch_stays_within_its_target() -> None:
    inbox = Inbox()
    encoder = EncoderWorker(inbox, ManualClock())
    encoder.start()
    noise = np.random.default_rng(0).integers(0, 256, (8, 128, 256, 3), np.uint8)
    encoder.submit([Sample(image=image, capture_time_us=index * 1_000_000) for index, image in enumerate(noise)], 40_000)
    encoder.stop()
    assert 20_000 < inbox.batches[0].payload_bytes <= 40_000


def test_a_batch_that_cannot_fit_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    encoder = EncoderWorker(inbox, ManualClock())
    encoder.start()
    encoder.submit(samples(4), 10)
    encoder.submit(samples(2), AMPLE_BYTES)
    encoder.stop()
    assert [(batch.batch_id, len(batch.capture_times_us)) for batch in inbox.batches] == [(1, 2)]
    assert encoder.failure is None
    assert "a batch was not sent: 4 frames do not fit into 10 bytes" in caplog.text


def test_a_scratch_folder_that_is_gone_costs_a_batch_and_not_the_encoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    scratch = tmp_path / "scratch"
    encoder = EncoderWorker(inbox, ManualClock(), scratch=scratch)
    encoder.start()
    encoder.submit(samples(2), AMPLE_BYTES)
    encoder.stop()
    assert inbox.batches == []
    assert encoder.failure is None
    assert "a batch was not sent" in caplog.text


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
