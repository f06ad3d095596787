"""The encoder: turns the samples of one interval into a batch for the server, in a thread of its own."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ams_common.clock import Clock
from ams_common.errors import CodecError
from ams_common.messages import FrameBatch
from ams_common.video_codec import VIDEO_CODEC, encode_frames
from ams_edge.sampler import Sample
from ams_edge.worker import Worker

WAITING_BATCHES = 2
"""Batches that wait to be encoded. Encoding takes a fraction of an interval, so more of them mean that the device is stuck."""

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    samples: Sequence[Sample]
    target_bytes: int


class EncoderWorker:
    """Encodes batches in the order they come and numbers those that fit their target from 1.

    When more than WAITING_BATCHES wait, the oldest whole batch is dropped and counted. A batch that cannot fit its target is
    dropped with a warning.
    """

    def __init__(self, on_batch: Callable[[FrameBatch, float], None], clock: Clock, *, scratch: Path | None = None) -> None:
        """Prepare to call `on_batch` with each batch and the milliseconds that encoding it took, from the encoder's thread.

        `scratch` is a folder for the encoder's own files, best in memory; None for the system's temporary folder.
        """
        self._on_batch = on_batch
        self._clock = clock
        self._scratch = scratch
        self._newest_id = 0
        self._worker: Worker[_Job] = Worker("encoder", self._encode, capacity=WAITING_BATCHES)

    @property
    def dropped(self) -> int:
        """Batches that made room for newer ones."""
        return self._worker.dropped

    @property
    def failure(self) -> Exception | None:
        """What ended the encoder, an error of `on_batch` for example; None while all is well."""
        return self._worker.failure

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._worker.alive

    def start(self) -> None:
        """Start the thread; once."""
        self._worker.start()

    def submit(self, samples: Sequence[Sample], target_bytes: int) -> None:
        """Hand over the samples of one batch, oldest first, to be encoded into at most `target_bytes`; returns at once."""
        self._worker.put_newest(_Job(samples, target_bytes))

    def stop(self) -> None:
        """Encode what is waiting, then see the thread end. May be called twice."""
        self._worker.stop()

    def _encode(self, job: _Job) -> None:
        started_s = self._clock.now_s()
        try:
            batch = encode_batch(job.samples, self._newest_id + 1, job.target_bytes, scratch=self._scratch)
        except (CodecError, OSError) as error:
            _log.warning("a batch was not sent: %s", error)
            return
        self._newest_id += 1
        self._on_batch(batch, (self._clock.now_s() - started_s) * 1000)


def encode_batch(samples: Sequence[Sample], batch_id: int, target_bytes: int, *, scratch: Path | None = None) -> FrameBatch:
    """Return `samples`, oldest first and at least one, as a batch of at most `target_bytes` of video.

    Raises:
        CodecError: the samples do not fit.
        OSError: `scratch`, the folder for the encoder's own files, cannot be written.
    """
    images = [sample.image for sample in samples]
    times_us = tuple(sample.capture_time_us for sample in samples)
    height, width, _ = images[0].shape
    return FrameBatch(
        batch_id=batch_id,
        video_codec=VIDEO_CODEC,
        width=width,
        height=height,
        capture_times_us=times_us,
        packets=encode_frames(images, times_us, target_bytes=target_bytes, scratch=scratch).packets,
    )
