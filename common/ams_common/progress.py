"""What a person is told while a download takes long."""

from ams_common.budget import model_bps
from ams_common.clock import Clock

REPORT_INTERVAL_S = 10.0
PACE_S = REPORT_INTERVAL_S / 2
"""The speed is that of so much of an interval, its end: a budget's burst, which comes at once, says nothing of what follows."""


def download_time(wire_bytes: float, uplink_bps: int, downlink_bps: int) -> str:
    """Say how long what has so many `wire_bytes` takes at these budgets, as the end of a line; nothing without a limit.

    It takes less where some of it may go at once, or fewer pictures go up meanwhile.
    """
    if not downlink_bps:
        return ""
    seconds = 8 * wire_bytes / model_bps(uplink_bps, downlink_bps)
    return f", up to {seconds:.0f} s at {downlink_bps / 1000:g} kbit/s with pictures going up"


class Progress:
    """How far one download is, and how fast it has been lately."""

    def __init__(self, size_bytes: int, clock: Clock) -> None:
        """Begin a download of `size_bytes`."""
        self._size_bytes = size_bytes
        self._clock = clock
        self._done_bytes = self._mark_bytes = 0
        self._began_at_s = self._told_at_s = self._mark_at_s = clock.now_s()

    @property
    def left_bytes(self) -> int:
        """Bytes that are still to come."""
        return self._size_bytes - self._done_bytes

    def add(self, size_bytes: int) -> str | None:
        """Count further bytes; return what to say every REPORT_INTERVAL_S, and at the end of what took longer than that."""
        self._done_bytes += size_bytes
        now_s = self._clock.now_s()
        if self._done_bytes >= self._size_bytes:
            took_s = now_s - self._began_at_s
            return f"{self._size_bytes / 1000:.0f} kB in {took_s:.0f} s" if took_s >= REPORT_INTERVAL_S else None
        waited_s = now_s - self._told_at_s
        if waited_s < REPORT_INTERVAL_S:
            if waited_s <= REPORT_INTERVAL_S - PACE_S:
                self._mark(now_s)
            return None
        # From one arrival to another: chunks may be as far apart as lines.
        bytes_per_s = (self._done_bytes - self._mark_bytes) / (now_s - self._mark_at_s)
        self._told_at_s = now_s
        self._mark(now_s)
        left_s = self.left_bytes / bytes_per_s
        parts = f"{self._done_bytes / 1000:.0f} of {self._size_bytes / 1000:.0f} kB"
        return f"{parts} at {bytes_per_s / 125:.0f} kbit/s, about {left_s:.0f} s to go"

    def _mark(self, now_s: float) -> None:
        """Measure the speed from here on."""
        self._mark_bytes, self._mark_at_s = self._done_bytes, now_s
