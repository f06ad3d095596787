"""Large messages on their way: when each was sent, until the other side says that it is there."""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from ams_common.budget import LOST_S
from ams_common.clock import Clock

PROMPT_S = 1.0
"""An answer that takes longer is late: what is sent behind such a message waits in the network, where it cannot give way."""
MOST_FLIGHTS = 32
"""Messages that are remembered; the oldest is forgotten when there are more."""


@dataclass(frozen=True, kw_only=True)
class Flight:
    """One message that has arrived."""

    wire_bytes: int
    duration_s: float
    """From handing it to the network until its answer was here; where it was behind another, from the other's answer."""
    waited_s: float = 0.0
    """From handing it to the network until the answer of the other one that was on the way then; 0 where none was."""

    def less(self, seconds: float) -> "Flight":
        """Return this flight without `seconds` that the other side took before its answer: they are no fault of the link."""
        return replace(self, duration_s=max(0.0, self.duration_s - seconds))


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
        """Return the flight of the message that is answered now; None where nothing is known of it.

        Keys ascend, and so do answers: messages with smaller keys will have none and are forgotten.
        """
        with self._lock:
            for earlier in [each for each in self._sent if each < key]:
                del self._sent[earlier]
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

    @property
    def count(self) -> int:
        """How many messages are not answered."""
        with self._lock:
            return len(self._sent)

    @property
    def late(self) -> int:
        """How many messages are not answered while the first of them is late; 0 while answers are prompt.

        What has no answer after LOST_S will have none and counts no more.
        """
        with self._lock:
            oldest_s = next((sent_s for _, sent_s in self._sent.values()), self._clock.now_s())
            return len(self._sent) if PROMPT_S < self._clock.now_s() - oldest_s < LOST_S else 0

    def _flight(self, wire_bytes: int, sent_s: float) -> Flight:
        began_s = max(sent_s, self._answered_s)
        return Flight(wire_bytes=wire_bytes, duration_s=self._clock.now_s() - began_s, waited_s=began_s - sent_s)
