"""Byte budgets: how much may be sent, and when.

Rates are in bits per second with 1 kbit = 1000 bit; a rate of 0 means no limit. A budget counts everything on the wire, so what
is planned for video or parameters leaves room for framing: FRAMING_FRACTION of the budget for protobuf, HTTP/2, TLS and TCP/IP
headers (40 of 1,500 bytes a segment, 22 a TLS record, 9 an HTTP/2 frame: 3.4 % of full segments), and MESSAGE_BYTES an
interval for the small messages that go the same way (acknowledgements, control, keepalive).
"""

import math
import threading

from ams_common.clock import Clock
from ams_common.errors import ConfigurationError

FRAMING_FRACTION = 0.05
MESSAGE_BYTES = 1024
REFERENCE_UPLINK_BPS = 200_000
"""What a batch aims at when the uplink has no limit: the rate of the AMS paper."""
BURST_S = 10.0
"""A budget may be spent this many seconds at once after a silence: one batch or update of the default interval."""
UNLIMITED_PARAMETERS = 2**63 - 1
LEAST_BATCH_BYTES = 4096
"""One strongly compressed frame and its parameter sets."""
LEAST_UPDATE_BYTES = 4096
"""About a thousand parameters."""


def burst_bytes(rate_bps: int) -> int:
    """Return the bytes that a budget of `rate_bps` may spend at once after a silence, at least 1."""
    return max(1, int(BURST_S * rate_bps / 8))


class TokenBucket:
    """Says when bytes may go. May be used from several threads.

    Who waits for `wait_s` before each `spend` sends, over any window, at most rate x window + burst bytes. A message larger
    than the burst waits for a full bucket and is paid for afterwards: its own size then takes the place of the burst.
    """

    def __init__(self, rate_bps: int, burst_bytes: int, clock: Clock) -> None:
        """Start with a full bucket.

        Args:
            rate_bps: bits per second that flow in; 0 for no limit.
            burst_bytes: bytes that may go at once after a silence.
            clock: time.
        """
        assert rate_bps >= 0
        assert burst_bytes > 0
        self._bytes_per_s = rate_bps / 8
        self._burst_bytes = burst_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._level_bytes = float(burst_bytes)
        self._filled_at_s = clock.now_s()

    def wait_s(self, size_bytes: int) -> float:
        """Return the seconds until `size_bytes` may go; 0.0 when they may go now."""
        if self._bytes_per_s == 0:
            return 0.0
        with self._lock:
            missing = min(size_bytes, self._burst_bytes) - self._fill()
        # Half a byte of slack: after sleeping for the time that was asked for, rounding must not ask for more.
        return missing / self._bytes_per_s if missing > 0.5 else 0.0

    def duration_s(self, size_bytes: int) -> float:
        """Return the seconds until `size_bytes` have gone in messages smaller than the burst, if nothing else goes."""
        if self._bytes_per_s == 0:
            return 0.0
        with self._lock:
            return max(0.0, size_bytes - self._fill()) / self._bytes_per_s

    @property
    def level_bytes(self) -> float:
        """Bytes that may go now, negative while earlier ones are still to be paid for; of no meaning without a limit."""
        with self._lock:
            return self._fill()

    def spend(self, size_bytes: int) -> None:
        """Take `size_bytes` out; what is sent without waiting becomes a debt that later messages wait for."""
        if self._bytes_per_s == 0:
            return
        with self._lock:
            self._level_bytes = self._fill() - size_bytes

    def _fill(self) -> float:
        now_s = self._clock.now_s()
        flowed_in = (now_s - self._filled_at_s) * self._bytes_per_s
        self._level_bytes = min(self._burst_bytes, self._level_bytes + flowed_in)
        self._filled_at_s = now_s
        return self._level_bytes


def batch_target_bytes(uplink_bps: float, interval_s: float) -> int:
    """Return the bytes of video that one batch may have, at least 0, when one batch goes every `interval_s` seconds.

    Without a limit (`uplink_bps` 0) a batch aims at REFERENCE_UPLINK_BPS.
    """
    return payload_bytes((uplink_bps or REFERENCE_UPLINK_BPS) * interval_s / 8)


def payload_bytes(wire_bytes: float) -> int:
    """Return how many of the `wire_bytes` of an interval, at least 0, are left for the batch or update that goes in it."""
    return max(0, int(wire_bytes * (1 - FRAMING_FRACTION)) - MESSAGE_BYTES)


def least_uplink_bps(interval_s: float) -> int:
    """Return the smallest uplink budget, in bit/s, that carries a frame every `interval_s` seconds."""
    return _least_bps(LEAST_BATCH_BYTES, interval_s)


def least_downlink_bps(interval_s: float) -> int:
    """Return the smallest downlink budget, in bit/s, that carries an update worth sending every `interval_s` seconds."""
    return _least_bps(LEAST_UPDATE_BYTES, interval_s)


def _least_bps(payload_bytes: int, interval_s: float) -> int:
    # One byte more than needed, because payload_bytes rounds down.
    return int((payload_bytes + MESSAGE_BYTES + 1) * 8 / (1 - FRAMING_FRACTION) / interval_s) + 1


def require_workable(uplink_bps: int, downlink_bps: int, interval_s: float) -> None:
    """Refuse budgets that cannot carry anything useful; 0 is no limit and always works.

    Raises:
        ConfigurationError: a budget is negative or below the least, which the message names.
    """
    _require("uplink", uplink_bps, least_uplink_bps(interval_s), interval_s)
    _require("downlink", downlink_bps, least_downlink_bps(interval_s), interval_s)


def _require(direction: str, rate_bps: int, least_bps: int, interval_s: float) -> None:
    if rate_bps == 0 or rate_bps >= least_bps:
        return
    raise ConfigurationError(
        f"{direction} budget of {rate_bps / 1000:g} kbit/s carries nothing at one update every {interval_s:g} s: "
        f"the least is {math.ceil(least_bps / 100) / 10:g} kbit/s, or let the server update less often"
    )
