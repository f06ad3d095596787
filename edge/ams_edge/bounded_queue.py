"""The queue between two threads of the edge: bounded, and whoever puts says what happens when it is full."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """At most `capacity` items in order of arrival, until it is finished or closed."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._finished = False
        self._changed = threading.Condition()
        self.dropped = 0
        """Items that made room for newer ones."""

    def put_newest(self, item: T) -> None:
        """Append `item` at once; when full, the oldest item is dropped and counted. After the end it has no effect."""
        with self._changed:
            if self._finished:
                return
            if len(self._items) == self._capacity:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def put_waiting(self, item: T) -> None:
        """Append `item`; when full, wait for room. Returns without effect once the queue has come to its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or len(self._items) < self._capacity)
            if not self._finished:
                self._items.append(item)
                self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> T | None:
        """Remove and return the oldest item, waiting for one; None when the queue has come to its end.

        Raises:
            TimeoutError: nothing arrived within `timeout_s` seconds; None waits for ever.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._finished or bool(self._items), timeout_s):
                raise TimeoutError
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def finish(self) -> None:
        """Take nothing more in; what is here can still be taken. May be called twice."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Finish and forget what is here. May be called twice."""
        with self._changed:
            self._items.clear()
            self._finished = True
            self._changed.notify_all()
