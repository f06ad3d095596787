"""How either side of a replay sends over its link: in order, and within the budget."""

import functools
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ams_common.budget import TokenBucket
from ams_eval.replay.link import Link
from ams_eval.replay.timeline import Timeline

MessageT = TypeVar("MessageT")


class PacedSender(Generic[MessageT]):
    """Sends messages one after the other as the budget and the link allow; small ones overtake and only count."""

    def __init__(
        self,
        timeline: Timeline,
        link: Link,
        *,
        on_sent: Callable[[MessageT, float], None],
        on_arrival: Callable[[MessageT], None],
    ) -> None:
        """Call `on_sent` with each message and the time at which its last byte leaves, and `on_arrival` when it arrives."""
        self._timeline = timeline
        self._link = link
        self._on_sent = on_sent
        self._on_arrival = on_arrival
        self._small: deque[tuple[MessageT, int, TokenBucket]] = deque()
        self._large: deque[tuple[MessageT, int, TokenBucket]] = deque()

    @property
    def backlog(self) -> int:
        """Large messages that have not left yet."""
        return len(self._large)

    def send(self, message: MessageT, size_bytes: int, bucket: TokenBucket, *, large: bool) -> None:
        """Queue a message of `size_bytes`, paid for from `bucket`; only a large one waits until that allows it."""
        (self._large if large else self._small).append((message, size_bytes, bucket))
        self._pump()

    def _pump(self) -> None:
        """Send what may go now, and come back for the rest."""
        while queue := self._small or self._large:
            message, size_bytes, bucket = queue[0]
            wait_s = bucket.wait_s(size_bytes) if queue is self._large else 0.0
            due_s = max(self._timeline.now_s + wait_s, self._link.free_at_s)
            if due_s > self._timeline.now_s:
                self._timeline.at(due_s, self._pump)
                return
            queue.popleft()
            bucket.spend(size_bytes)
            left_s = self._link.send(size_bytes, functools.partial(self._on_arrival, message))
            self._on_sent(message, left_s)
