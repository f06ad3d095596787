"""Large messages on their way: when each was sent, until the other side says that it is there."""

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
    """From handing it to the network until the other side's answer was here."""


class Flights:
    """What was sent on one stream and not yet answered; for one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: OrderedDict[int, tuple[int, float]] = OrderedDict()

    def depart(self, key: int, wire_bytes: int) -> None:
        """Note that the message `key` is handed to the network now."""
        self._sent[key] = wire_bytes, self._clock.now_s()
        if len(self._sent) > MOST_FLIGHTS:
            self._sent.popitem(last=False)

    def arrive(self, key: int) -> Flight | None:
        """Return the flight of the message that is answered now; None where nothing is known of it."""
        if key not in self._sent:
            return None
        wire_bytes, sent_s = self._sent.pop(key)
        return Flight(wire_bytes=wire_bytes, duration_s=self._clock.now_s() - sent_s)
