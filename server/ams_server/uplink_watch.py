"""Whether a device keeps to the uplink that it was told, with a margin that no honest one comes near.

A device counts what it sends when it sends it, the server when it reads it. What is read in any time was sent in that time, at
most rate x time and a burst; or it was on its way before, which by HTTP/2's flow control is no more than AHEAD_BYTES and a
message, itself no larger than a burst. Two bursts more are for a lower rate that is read late, and for a server whose clock
stood still. Receipts are not counted, nor is what keeping the connection open takes.
"""

import math
from collections import deque

from ams_common.budget import Allowance, TokenBucket, burst_bytes
from ams_common.clock import Clock
from ams_common.errors import ProtocolError
from ams_common.framing import READ_AHEAD_BYTES, sent_bytes
from ams_common.messages import MAX_BATCH_BYTES

MARGIN_BURSTS = 4
AHEAD_BYTES = 2 * READ_AHEAD_BYTES
"""What gRPC takes of a device while the server reads nothing, beside one message: 1.6 MB were measured."""
LOWERED_S = 60.0
"""A lower rate counts so long after it was told: it may wait in the network, behind an update on a slow link."""


class UplinkWatch:
    """What comes on one stream against what its device was told there.

    Each stream is watched anew: a device that was started again has a full bucket too, and what is on the way on its earlier
    stream does not come on this one.
    """

    def __init__(self, uplink_bps: int, clock: Clock) -> None:
        """Begin with the rate of the welcome, 0 for no limit; before that a device sends nothing but its hello."""
        self._clock = clock
        self._told: deque[tuple[float, float]] = deque([(uplink_bps or math.inf, math.inf)])
        """Rates in bit/s and until when they count, each below the one before; the last one holds."""
        self._margin_bytes = _margin_bytes(uplink_bps)
        self._bucket = TokenBucket(self._allowed(), clock)
        self._since_s = clock.now_s()
        """When the bucket was last full."""
        self._came_bytes = 0
        """What has come since."""

    def tell(self, uplink_bps: int) -> None:
        """Note that the next message to the device says `uplink_bps`, 0 for no limit; to be called before it is written."""
        rate_bps = uplink_bps or math.inf
        earlier_bps, _ = self._told.pop()
        self._told.append((earlier_bps, self._clock.now_s() + LOWERED_S))
        while self._told and self._told[-1][0] <= rate_bps:
            self._told.pop()
        self._told.append((rate_bps, math.inf))
        # What was made for a larger burst may be on its way for as long as it takes.
        self._margin_bytes = max(self._margin_bytes, _margin_bytes(uplink_bps))
        self._bucket.change(self._allowed())

    def take(self, wire_bytes: int) -> None:
        """Note a message that has come, headers included.

        Raises:
            ProtocolError: no device that keeps to what it was told could have sent so much.
        """
        self._bucket.change(self._allowed())
        if self._bucket.room_bytes >= self._margin_bytes:
            self._since_s, self._came_bytes = self._clock.now_s(), 0
        self._came_bytes += wire_bytes
        self._bucket.spend(wire_bytes)
        if self._bucket.room_bytes < 0:
            raise ProtocolError(self._excess(self._came_bytes + self._bucket.room_bytes))

    def _allowed(self) -> Allowance:
        """Return what is let through: the largest of the rates that count."""
        while self._told[0][1] < self._clock.now_s():
            self._told.popleft()
        rate_bps = self._told[0][0]
        return Allowance(bps=0 if rate_bps == math.inf else rate_bps, burst_bytes=self._margin_bytes)

    def _excess(self, allowed_bytes: float) -> str:
        seconds = max(1, math.ceil(self._clock.now_s() - self._since_s))
        came = f"{self._came_bytes / 1000:.0f} kB came within {seconds} s"
        holds = f"the uplink is {self._told[-1][0] / 1000:g} kbit/s"
        return f"{came}, more than the {allowed_bytes / 1000:.0f} kB that are let pass with all margin: {holds}"


def _margin_bytes(uplink_bps: int) -> int:
    """Return what is let pass at once. Without a limit the largest message stands for a burst."""
    burst = burst_bytes(uplink_bps) if uplink_bps else sent_bytes(MAX_BATCH_BYTES)
    return MARGIN_BURSTS * burst + AHEAD_BYTES
