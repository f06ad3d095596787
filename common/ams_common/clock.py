"""The one source of time, so that a recorded stream can be replayed faster or slower than real time by the same code."""

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time in seconds from an arbitrary origin."""

    def now_s(self) -> float:
        """Return the time now, in seconds; never runs backwards."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Let `duration_s` seconds pass; returns at once for durations of zero or less."""
        ...


class SystemClock:
    """Real time of this machine."""

    def now_s(self) -> float:
        """Return seconds of the machine's monotonic clock."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Block the calling thread for `duration_s` seconds."""
        if duration_s > 0:
            time.sleep(duration_s)


class ManualClock:
    """Time that moves only when it is told to: for tests and for replay under a virtual clock."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Return the time that was set last."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Advance the clock instead of blocking."""
        self._now_s += max(0.0, duration_s)

    def advance_to(self, time_s: float) -> None:
        """Move the clock forward to `time_s`; a time in the past leaves it where it is."""
        self._now_s = max(self._now_s, time_s)
