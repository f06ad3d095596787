"""A thread that does one thing to every item it is given, behind a bounded queue."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ams_edge.bounded_queue import BoundedQueue

T = TypeVar("T")
LOW_PRIORITY = 10
"""Added to the nice value of a thread whose work inference must not feel."""
UPDATE_PRIORITY = 5
"""Added to that of the patcher: a frame comes before an update, and an update before batches and drawing.

At the lowest priority it would wait on a busy core for as long as that is busy, and inference with it now and then: a thread
that has Python's lock lets go of it only once it gets the core. This is as true of what prepares later updates.
"""
_LOWEST_PRIORITY = 19
STOP_TIMEOUT_S = 30.0
"""A stop waits this long for the items in hand: far more than they need unless a disk or a network share hangs."""

_log = logging.getLogger(__name__)


class Worker(Generic[T]):
    """Calls `handle` with each item in a thread of its own, at low priority; its first exception, `failure`, ends it.

    Whoever has the worker tells of it.
    """

    def __init__(self, name: str, handle: Callable[[T], None], *, capacity: int) -> None:
        self._name = name
        self._handle = handle
        self._queue: BoundedQueue[T] = BoundedQueue(capacity)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.failure: Exception | None = None
        """What ended the worker; None while all is well."""

    @property
    def dropped(self) -> int:
        """Items that made room for newer ones."""
        return self._queue.dropped

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def put_newest(self, item: T) -> None:
        """Hand `item` over at once; when the queue is full its oldest item is dropped and counted."""
        self._queue.put_newest(item)

    def put_waiting(self, item: T) -> None:
        """Hand `item` over, waiting for room while the worker lives."""
        self._queue.put_waiting(item)

    def stop(self) -> None:
        """Let the worker finish what it was given, then see its thread end. May be called twice, and before the start."""
        self._queue.finish()
        if self._thread.ident is None:
            return
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            _log.warning("%s does not end: it has been busy for %g s", self._name, STOP_TIMEOUT_S)

    def _run(self) -> None:
        lower_priority()
        try:
            while (item := self._queue.take()) is not None:
                self._handle(item)
        except Exception as error:
            self.failure = error
            _log.debug("%s has stopped", self._name, exc_info=error)
        finally:
            self._queue.close()


def lower_priority(by: int = LOW_PRIORITY) -> None:
    """Add `by` to the calling thread's nice value, where the system knows a priority of single threads; for good.

    Counted from what the thread has: an edge that was started with `nice` keeps the order of its threads. An ordinary user
    cannot take it back.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(_LOWEST_PRIORITY, os.getpriority(os.PRIO_PROCESS, thread) + by))
