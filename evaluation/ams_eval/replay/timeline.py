"""Virtual time: what happens when, without waiting for it."""

import heapq
import itertools
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from ams_common.clock import Clock

T = TypeVar("T")
Action: TypeAlias = Callable[[], None]


class VirtualClock:
    """The clock of a replay: it stands still while the product's parts work, unless their work is timed."""

    def __init__(self, stopwatch: Clock | None) -> None:
        """Start at 0 s. With a `stopwatch`, the real time that timed work takes counts; with None all work takes no time."""
        self._now_s = 0.0
        self._stopwatch = stopwatch
        self._started_s = 0.0
        self._timing = False

    def now_s(self) -> float:
        """Return the time now, in seconds."""
        return self._now_s + self._elapsed_s()

    def sleep(self, duration_s: float) -> None:
        """Advance the clock instead of blocking."""
        self._now_s += max(0.0, duration_s)

    def advance_to(self, time_s: float) -> None:
        """Move the clock forward to `time_s`; a time in the past leaves it where it is."""
        self._now_s = max(self._now_s, time_s)

    def time(self, work: Callable[[], T]) -> tuple[T, float]:
        """Do `work`, during which the clock runs if there is a stopwatch.

        Returns the result and the seconds that it took on this clock, which afterwards shows the time of the start again:
        whoever asked decides when the result is there.
        """
        assert not self._timing, "timed work is not nested"
        self._started_s = self._stopwatch.now_s() if self._stopwatch is not None else 0.0
        self._timing = True
        try:
            result = work()
            return result, self._elapsed_s()
        finally:
            self._timing = False

    def _elapsed_s(self) -> float:
        return self._stopwatch.now_s() - self._started_s if self._timing and self._stopwatch is not None else 0.0


class Timeline:
    """Actions in the order of virtual time; those of one instant in the order in which they were planned."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._order = itertools.count()
        self._planned: list[tuple[float, int, Action]] = []

    @property
    def now_s(self) -> float:
        """The time now, in seconds."""
        return self.clock.now_s()

    def at(self, time_s: float, action: Action) -> None:
        """Plan `action` for `time_s`; a time in the past means as soon as possible."""
        heapq.heappush(self._planned, (time_s, next(self._order), action))

    def run_until(self, time_s: float) -> None:
        """Do all that is due up to and at `time_s`, what it plans meanwhile included; the clock then shows `time_s`."""
        while self._planned and self._planned[0][0] <= time_s:
            due_s, _, action = heapq.heappop(self._planned)
            self.clock.advance_to(due_s)
            action()
        self.clock.advance_to(time_s)
