"""The encoder: turns the samples of one interval into a batch for the server, in a thread of its own."""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ams_common.clock import Clock
from ams_common.errors import CodecError
from ams_common.messages import Control, FrameBatch
from ams_common.video_codec import encode_frames
from ams_common.video_formats import VIDEO_CODEC
from ams_edge.sampler import Sample
from ams_edge.worker import Worker

WAITING_BATCHES = 2
"""Batches that wait to be encoded. Encoding takes a fraction of an interval, so more of them mean that the device is stuck."""

CARRIED = 0.02
"""Share of its bytes that a batch may have in addition, from what the last one left: as much as the search for a quantiser aims
below its target. More would not fit into the burst of a budget, which is one batch of the default interval."""

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    samples: Sequence[Sample]
    target_bytes: int
    video_codec: str


class BatchEncoder:
    """Makes numbered batches of samples; what a batch leaves of its bytes, the next one may have as well."""

    def __init__(self) -> None:
        self._newest_id = 0
        self._unspent_bytes = 0
        self.left_out = 0
        """Samples left out of batches because their bytes were too few for all of them."""

    def encode(self, samples: Sequence[Sample], target_bytes: int, video_codec: str = VIDEO_CODEC) -> FrameBatch:
        """Return `samples`, oldest first and at least one, as the next batch, of about `target_bytes` of video.

        It has at most `target_bytes` and what the batch before left of its own, a CARRIED share of them at most. Where not all
        frames fit, some are left out evenly, and the newest stays.

        Raises:
            CodecError: not even the newest sample fits.
        """
        allowed_bytes = target_bytes + min(self._unspent_bytes, int(CARRIED * target_bytes))
        images = [sample.image for sample in samples]
        encoded = encode_frames(images, target_bytes=allowed_bytes, video_codec=video_codec)
        self._unspent_bytes = allowed_bytes - encoded.size_bytes
        self._count_left_out(len(samples), len(encoded.kept), allowed_bytes)
        self._newest_id += 1
        height, width, _ = images[0].shape
        return FrameBatch(
            batch_id=self._newest_id,
            video_codec=video_codec,
            width=width,
            height=height,
            capture_times_us=tuple(samples[index].capture_time_us for index in encoded.kept),
            packets=encoded.packets,
        )

    def _count_left_out(self, count: int, kept: int, allowed_bytes: int) -> None:
        if kept < count and not self.left_out:
            _log.warning(
                "%d of %d frames are left out of a batch to fit into %d bytes, and so from now on where needed: "
                "a larger --uplink-kbps leaves them more (without one the server aims at a usual rate), "
                "and so do smaller frames (its --frame-width)",
                *(count - kept, count, allowed_bytes),
            )
        self.left_out += count - kept


class EncoderWorker:
    """Encodes batches in the order they come and numbers those that fit their target from 1.

    When more than WAITING_BATCHES wait, the oldest whole batch is dropped and counted. A batch of which not even one frame fits
    is dropped with a warning.
    """

    def __init__(self, on_batch: Callable[[FrameBatch, float], None], clock: Clock) -> None:
        """Prepare to call `on_batch` with each batch and the milliseconds that encoding it took, from the encoder's thread."""
        self._on_batch = on_batch
        self._clock = clock
        self._encoder = BatchEncoder()
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

    def submit(self, samples: Sequence[Sample], target_bytes: int, video_codec: str = VIDEO_CODEC) -> None:
        """Hand over the samples of one batch, oldest first, to be encoded into `target_bytes`; returns at once."""
        self._worker.put_newest(_Job(samples, target_bytes, video_codec))

    def stop(self) -> None:
        """Encode what is waiting, then see the thread end. May be called twice."""
        self._worker.stop()

    def _encode(self, job: _Job) -> None:
        started_s = self._clock.now_s()
        try:
            batch = self._encoder.encode(*job)
        except CodecError as error:
            _log.warning("a batch was not sent: %s", error)
            return
        self._on_batch(batch, (self._clock.now_s() - started_s) * 1000)


def agreed_codec(wanted: str, control: Control) -> str:
    """Return the video codec that is `wanted` if the server can decode it, else the one that every server can."""
    return wanted if wanted in control.video_codecs else VIDEO_CODEC
