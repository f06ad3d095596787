"""The batches of one device that wait for the worker; too many or too old ones give way: fresh frames teach more than stale."""

from collections import deque
from typing import NamedTuple

from ams_common.messages import MAX_BATCH_BYTES, FrameBatch

INBOX_BATCHES = 16
"""Most batches that wait."""
INBOX_BYTES = 3 * MAX_BATCH_BYTES
"""Most video that waits."""
INBOX_FRAMES = 600
"""Most frames that wait, unless a single batch has more: those of two update intervals at 30 a second. All that waits may be
labelled in one turn, for which other devices wait."""
INBOX_UPDATES = 2
"""Update intervals behind the newest frame that are waited for: older frames would only keep the newer ones waiting."""


class Arrival(NamedTuple):
    """A batch that came."""

    batch: FrameBatch
    time_s: float
    """When, on the owner's clock."""


class Inbox:
    """Oldest first. Used under the lock of its owner."""

    def __init__(self) -> None:
        self._waiting: deque[Arrival] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def newest(self) -> FrameBatch:
        """The batch that came last; there must be one."""
        return self._waiting[-1].batch

    def add(self, arrival: Arrival, update_interval_s: float) -> int:
        """Take a batch of a device that is trained every `update_interval_s`; return how many had to give way."""
        self._waiting.append(arrival)
        before = len(self._waiting)
        while len(self._waiting) > 1 and self._is_too_much(1e6 * INBOX_UPDATES * update_interval_s):
            self._waiting.popleft()
        return before - len(self._waiting)

    def take(self, count: int) -> list[Arrival]:
        """Return the oldest `count` batches, or all where there are fewer; they wait no longer."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def _is_too_much(self, span_us: float) -> bool:
        oldest_us, newest_us = (each.batch.capture_times_us[-1] for each in (self._waiting[0], self._waiting[-1]))
        size_bytes = sum(each.batch.payload_bytes for each in self._waiting)
        frames = sum(len(each.batch.capture_times_us) for each in self._waiting)
        too_many = len(self._waiting) > INBOX_BATCHES or frames > INBOX_FRAMES
        return too_many or size_bytes > INBOX_BYTES or newest_us - oldest_us > span_us
