"""Byte budgets: how much may be sent, and when.

Rates are in bits per second with 1 kbit = 1000 bit; a rate of 0 means no limit. A budget counts everything on the wire, as
`ams_common.framing` says: messages with all their headers, what receiving the other direction's messages costs in this one,
opening connections, and keeping them open.

The promise: over any window of 10 s or more at most rate x window + `burst_bytes` go. Large messages wait until the bucket
holds them and the reserve, small ones until it holds them, and what nobody can hold back (the receipts of TCP and HTTP/2) is
paid for afterwards: for that is the reserve. A network may hold a message up, and let go of all that it holds at once. So a
large one keeps its place in the burst until the other side has answered it.
"""

import math
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

from ams_common.clock import Clock
from ams_common.framing import UPKEEP_BPS, largest_message_bytes

RECEIPT_FRACTION = 0.04
"""Receipts of a burst, as a part of it: 3.0 to 4.1 % of messages of 16 kB and more, which leave a sixth of the burst."""
MOST_UPLINK = 8
"""An uplink budget is held to so many times the downlink's: its receipts then take a third of that. Updates do with little,
while pictures of few bits are labelled badly."""
MOST_DOWNLINK = 4
"""A downlink budget is held to so many times the uplink's."""
REFERENCE_UPLINK_BPS = 200_000
"""What a batch aims at when the uplink has no limit: the rate of the AMS paper."""
BURST_S = 12.0
"""A budget may be spent this many seconds at once after a silence: a message of ten seconds and the reserve."""
LEAST_BURST_BYTES = 32_000
"""Burst of slow links: a welcome with the names of a model's tensors has up to 15 kB."""
RESERVE_FRACTION = 1 / 6
"""Part of the burst that large messages leave for what cannot wait."""
MOST_MESSAGE_BYTES = 2**31 - 1
LOST_S = 60.0
"""What has no answer after so long, an update that was refused for example, will have none."""
ANSWER_S = 1.0
"""How soon to ask again where only an answer can make room."""
LEAST_BATCH_BYTES = 4096
"""One strongly compressed frame and its parameter sets."""


def burst_bytes(rate_bps: int) -> int:
    """Return the bytes that a budget of `rate_bps` may spend at once after a silence."""
    return max(LEAST_BURST_BYTES, int(BURST_S * rate_bps / 8))


def even_rates(uplink_bps: int, downlink_bps: int) -> tuple[int, int]:
    """Return both budgets, each held to MOST_UPLINK or MOST_DOWNLINK times the other where that has a limit."""
    most_up_bps, most_down_bps = MOST_UPLINK * downlink_bps, MOST_DOWNLINK * uplink_bps
    return _smaller_limit(uplink_bps, most_up_bps), _smaller_limit(downlink_bps, most_down_bps)


def _smaller_limit(first_bps: int, second_bps: int) -> int:
    return min(filter(None, (first_bps, second_bps)), default=0)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a TokenBucket lets through."""

    bps: float
    """Bits per second that flow in; 0 for no limit."""
    burst_bytes: int
    """Bytes that may go at once after a silence, at least 1."""
    reserve_bytes: int = 0
    """Part of the burst that large messages leave for what cannot wait."""


def allowance(rate_bps: int, other_bps: int = 0) -> Allowance:
    """Return what a budget of `rate_bps` allows, less what keeping a connection open takes.

    With a budget of `other_bps` in the other direction the burst is so small that its receipts fit into the reserve there.
    """
    burst = burst_bytes(rate_bps)
    if other_bps:
        burst = min(burst, int(RESERVE_FRACTION * burst_bytes(other_bps) / RECEIPT_FRACTION))
    bps = max(rate_bps / 2, rate_bps - UPKEEP_BPS)
    return Allowance(bps=bps, burst_bytes=burst, reserve_bytes=int(RESERVE_FRACTION * burst))


def model_bps(uplink_bps: int, downlink_bps: int) -> float:
    """Return what of a limited downlink a model has at least, in bit/s, while the device sends all that its uplink allows."""
    most_up_bps = min(uplink_bps or REFERENCE_UPLINK_BPS, MOST_UPLINK * downlink_bps)
    return allowance(downlink_bps).bps - RECEIPT_FRACTION * most_up_bps


class TokenBucket:
    """Says when bytes may go. May be used from several threads.

    Who waits for `wait_s` before each `spend` sends, over any window, at most rate x window + burst bytes. A message larger
    than the burst waits for a full bucket and is paid for afterwards: its own size then takes the place of the burst.

    That is said of the moments at which messages are handed to the network, which may keep them for a while. Of those that
    `hold` their bytes until they `release` them it is true of any moment between the two, since the bucket fills no further
    than to the burst less what is held. For take a window, and the last such message sent before it ends. What may leave in
    the window is what is held after that message, U, and what was released since the window began, R. Level and held bytes
    together were the burst at most when it began; since then the rate came in and R went out, and the level is not below 0. So
    U + R is at most rate x window + burst.
    """

    def __init__(self, allowed: Allowance, clock: Clock) -> None:
        """Start with a full bucket."""
        assert allowed.bps >= 0
        assert allowed.burst_bytes > allowed.reserve_bytes >= 0
        self._allowed = allowed
        self._clock = clock
        self._lock = threading.Lock()
        self._level_bytes = float(allowed.burst_bytes)
        self._filled_at_s = clock.now_s()
        self._held: OrderedDict[int, tuple[int, float]] = OrderedDict()
        """Bytes and time of each hold, by its number."""
        self._held_bytes = 0
        self._holds = 0
        """How many there have been."""
        self.spent_bytes = 0
        """All that was ever spent."""

    @property
    def bps(self) -> float:
        """Bits per second that flow in; 0 for no limit."""
        return self._allowed.bps

    @property
    def room_bytes(self) -> float:
        """Bytes that large messages may have now, the reserve left; what is owed is below 0. Infinite without a limit."""
        if self._allowed.bps == 0:
            return math.inf
        with self._lock:
            return self._fill() - self._allowed.reserve_bytes

    @property
    def largest_message_bytes(self) -> int:
        """Protobuf bytes of a large message that the burst has room for."""
        allowed = self._allowed
        return largest_message_bytes(allowed.burst_bytes - allowed.reserve_bytes) if allowed.bps else MOST_MESSAGE_BYTES

    def change(self, allowed: Allowance) -> None:
        """Let through what is `allowed` from now on; debts stay, and so does what was saved as far as the new burst goes."""
        with self._lock:
            self._fill()
            self._allowed = allowed
            self._level_bytes = min(self._level_bytes, self._ceiling_bytes)

    def wait_s(self, size_bytes: int) -> float:
        """Return the seconds until a large message of `size_bytes` may go and leave the reserve; 0.0 when it may go now."""
        return self._wait_s(size_bytes, self._allowed.reserve_bytes)

    def urgent_wait_s(self, size_bytes: int) -> float:
        """Return the seconds until a small message of `size_bytes` may go, which may use the reserve."""
        return self._wait_s(size_bytes, 0)

    def spend(self, size_bytes: int) -> None:
        """Take `size_bytes` out; what is sent without waiting becomes a debt that later messages wait for."""
        with self._lock:
            self.spent_bytes += size_bytes
            if self._allowed.bps:
                self._level_bytes = self._fill() - size_bytes

    def hold(self, size_bytes: int) -> int:
        """Keep the place of `size_bytes`, which are spent now, until they are released; return what to release them by."""
        with self._lock:
            self._fill()
            self._holds += 1
            self._held[self._holds] = size_bytes, self._clock.now_s()
            self._held_bytes += size_bytes
            return self._holds

    def release(self, hold: int) -> None:
        """Note that what `hold` stands for has left the network; what was given up after LOST_S is known already."""
        with self._lock:
            self._fill()
            self._forget(hold)

    @property
    def _ceiling_bytes(self) -> float:
        """How far the bucket fills. What left under a larger burst does not keep small messages from going."""
        return max(self._allowed.burst_bytes - self._held_bytes, self._allowed.reserve_bytes)

    def _wait_s(self, size_bytes: int, reserve_bytes: int) -> float:
        allowed = self._allowed
        if allowed.bps == 0:
            return 0.0
        with self._lock:
            needed = min(size_bytes + reserve_bytes, allowed.burst_bytes)
            missing = needed - self._fill()
            least_s = ANSWER_S if needed > self._ceiling_bytes else 0.0
        # Half a byte of slack: after sleeping for the time that was asked for, rounding must not ask for more.
        return max(least_s, missing * 8 / allowed.bps) if missing > 0.5 else 0.0

    def _fill(self) -> float:
        now_s = self._clock.now_s()
        flowed_in = (now_s - self._filled_at_s) * self._allowed.bps / 8 if self._allowed.bps else math.inf
        self._level_bytes = min(self._ceiling_bytes, self._level_bytes + flowed_in)
        self._filled_at_s = now_s
        while self._held and now_s - next(iter(self._held.values()))[1] > LOST_S:
            self._forget(next(iter(self._held)))
        return self._level_bytes

    def _forget(self, hold: int) -> None:
        size_bytes, _ = self._held.pop(hold, (0, 0.0))
        self._held_bytes -= size_bytes


class Unanswered:
    """Large messages that were sent on one stream, each holding its place in a budget until the other side answers it."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        self._holds: deque[tuple[int, int]] = deque()

    def depart(self, key: int, wire_bytes: int) -> None:
        """Pay for the message `key`, which is handed to the network now; keys ascend."""
        self._bucket.spend(wire_bytes)
        self._holds.append((key, self._bucket.hold(wire_bytes)))

    def arrive(self, key: float) -> None:
        """Note that all messages up to `key` are there: they go in order."""
        while self._holds and self._holds[0][0] <= key:
            self._bucket.release(self._holds.popleft()[1])

    def end(self) -> None:
        """Note that the stream is over: nothing more of it is on its way."""
        self.arrive(math.inf)
