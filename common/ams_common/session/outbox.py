"""Batches that wait for their acknowledgement."""

from collections import deque

from ams_common.messages import MAX_BATCH_BYTES, FrameBatch

OUTBOX_BYTES = 3 * MAX_BATCH_BYTES
"""Most video that is kept."""


class BatchOutbox:
    """Keeps whole batches until the server has them and offers them again on a new stream; when full, the oldest is dropped."""

    def __init__(self, span_s: float) -> None:
        """Hold batches whose newest frames lie at most `span_s` seconds of capture time apart, in OUTBOX_BYTES; one always."""
        self._span_us = 1e6 * span_s
        self._waiting: deque[FrameBatch] = deque()
        self._sent: deque[FrameBatch] = deque()
        self._held = False
        self.dropped = 0
        """Batches dropped because there were too many."""

    def __len__(self) -> int:
        return len(self._sent) + len(self._waiting)

    def add(self, batch: FrameBatch) -> None:
        """Take a batch in; the oldest go where there are too many."""
        self._waiting.append(batch)
        while len(self) > 1 and self._is_too_much:
            self._drop(self._sent or self._waiting)

    def shorten(self, most_bytes: float) -> None:
        """Drop the oldest of what was not sent on this stream, until the video of the rest has `most_bytes` or is one batch."""
        excess = sum(batch.payload_bytes for batch in self._waiting) - most_bytes
        while len(self._waiting) > 1 and excess > 0:
            excess -= self._waiting[0].payload_bytes
            self._drop(self._waiting)

    def begin(self, room_bytes: float) -> None:
        """Drop the oldest of what was kept for a new stream, so that the rest may go at once, and one more like the newest.

        Otherwise every later batch, as large as what the budget brings until then, would wait as long, and every update too.
        """
        newest_bytes = self._waiting[-1].payload_bytes if self._waiting else 0
        self.shorten(room_bytes - newest_bytes)

    def peek(self) -> FrameBatch | None:
        """Return the oldest batch that was not sent on this stream."""
        return self._waiting[0] if self._waiting and not self._held else None

    def give_up(self) -> None:
        """Drop the batch that `peek` shows."""
        self._drop(self._waiting)

    def pop(self) -> None:
        """Note that the batch which `peek` shows is being sent; it stays until it is acknowledged."""
        self._sent.append(self._waiting.popleft())

    def acknowledge(self, batch_id: int) -> None:
        """Let go of a batch; one that is not here is no error, it may have been dropped."""
        self._sent = deque(batch for batch in self._sent if batch.batch_id != batch_id)

    def rewind(self) -> None:
        """Make everything that was not acknowledged due again, for a new stream."""
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        self._held = False

    def hold(self) -> None:
        """Offer nothing until the next `rewind`."""
        self._held = True

    def clear(self) -> None:
        """Drop all, because the server refused one of them."""
        self.dropped += len(self)
        self._waiting.clear()
        self._sent.clear()

    @property
    def _is_too_much(self) -> bool:
        oldest, newest = (self._sent or self._waiting)[0], self._waiting[-1]
        size_bytes = sum(batch.payload_bytes for kept in (self._sent, self._waiting) for batch in kept)
        return size_bytes > OUTBOX_BYTES or newest.capture_times_us[-1] - oldest.capture_times_us[-1] > self._span_us

    def _drop(self, kept: deque[FrameBatch]) -> None:
        kept.popleft()
        self.dropped += 1
