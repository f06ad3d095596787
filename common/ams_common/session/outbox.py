"""Batches that wait for their acknowledgement."""

from collections import deque

from ams_common.messages import FrameBatch


class BatchOutbox:
    """Keeps whole batches until the server has them and offers them again on a new stream; when full, the oldest is dropped."""

    def __init__(self, capacity: int) -> None:
        """Hold at most `capacity` batches, at least 1."""
        assert capacity >= 1
        self._capacity = capacity
        self._waiting: deque[FrameBatch] = deque()
        self._sent: deque[FrameBatch] = deque()
        self._held = False
        self.dropped = 0
        """Batches dropped because the outbox was full."""

    def __len__(self) -> int:
        return len(self._sent) + len(self._waiting)

    def add(self, batch: FrameBatch) -> None:
        """Take a batch in; the oldest goes when there are more than the capacity."""
        if len(self) == self._capacity:
            (self._sent or self._waiting).popleft()
            self.dropped += 1
        self._waiting.append(batch)

    def peek(self) -> FrameBatch | None:
        """Return the oldest batch that was not sent on this stream."""
        return self._waiting[0] if self._waiting and not self._held else None

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
