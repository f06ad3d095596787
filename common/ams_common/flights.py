"""Large messages on their way: when each was sent, until the other side says that it is there."""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from ams_common.clock import Clock

MOST_FLIGHTS = 32
"""Messages that are remembered; the oldest is forgotten when there are more."""


@dataclass(frozen=True, kw_only=True)
class Flight:
    """One message that has arrived."""

    wire_bytes: int
    duration_s: float
    """From handing it to the network until its answer was here; where it was behind another, from the other's answer."""
    behind: bool = False
    """Whether another message was on the way when it was sent."""


class Flights:
    """What was sent on one stream and not yet answered. May be used from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sent: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._answered_s = -math.inf

    def depart(self, key: int, wire_bytes: int) -> None:
        """Note that the message `key` is handed to the network now."""
        with self._lock:
            self._sent[key] = wire_bytes, self._clock.now_s()
            if len(self._sent) > MOST_FLIGHTS:
                self._sent.popitem(last=False)

    def arrive(self, key: int) -> Flight | None:
        """Return the flight of the message that is answered now; None where nothing is known of it."""
        with self._lock:
            if key not in self._sent:
                return None
            flight = self._flight(*self._sent.pop(key))
            self._answered_s = self._clock.now_s()
            return flight

    @property
    def waiting(self) -> Flight | None:
        """The flight of the message that was sent first of those not answered, as if its answer came now."""
        with self._lock:
            return self._flight(*next(iter(self._sent.values()))) if self._sent else None

    def _flight(self, wire_bytes: int, sent_s: float) -> Flight:
        began_s = max(sent_s, self._answered_s)
        return Flight(wire_bytes=wire_bytes, duration_s=self._clock.now_s() - began_s, behind=sent_s < began_s)
