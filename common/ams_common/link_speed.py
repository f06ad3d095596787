"""How much of a budget a link carries, measured on the messages that go over it.

A large message leaves at the speed of the link whatever the budget, so that each one that is answered tells this speed, also
while little is sent: what is planned follows it down and up again without trying out.
"""

import math
import threading
from collections import deque
from collections.abc import Sequence

from ams_common.budget import TokenBucket
from ams_common.flights import Flight

FLIGHTS = 3
"""Messages that the estimate is made of."""
ANSWER_S = 0.2
"""Part of a flight that is not the link's: the way there and back, and the other side's answer. Less of it where the message
waited behind another one, whose answer took its time too: none after this long."""
SHARE = 0.85
"""Part of what the link carries that is planned for, so that what waits for it becomes less."""
LEAST_BUSY_S = 1.0
"""A link on which the last messages took less than this together is fast enough."""
WAITING_S = 3.0
"""What waits for a link may take it so long: behind more, the newest would be late."""
PLENTY_BPS = 10e6
"""A link of this speed is no limit where the budget is none."""


class LinkSpeed:
    """The speed of one direction of a link. May be used from several threads."""

    def __init__(self) -> None:
        self._flights: deque[Flight] = deque(maxlen=FLIGHTS)
        self._lock = threading.Lock()

    def observe(self, flight: Flight) -> None:
        """Take a message that was answered."""
        with self._lock:
            self._flights.append(flight)

    def is_less_than(self, budget_bps: float) -> bool:
        """Tell whether less can be planned for than `budget_bps`, 0 for no limit."""
        return self.usable_bps(budget_bps) != budget_bps

    def usable_bps(self, budget_bps: float, waiting: Flight | None = None) -> float:
        """Return what to plan for: the budget, or SHARE of what the link carries where that is less; 0 for no limit.

        `waiting` is the message that has waited longest for its answer, as if that came now: a link that stands still is slow.
        """
        with self._lock:
            flights = list(self._flights)
        # The newest alone tells at once of a link that has become slow, where it took long enough to be believed.
        newest = flights[-1:]
        if waiting is not None and waiting.duration_s > max((each.duration_s for each in flights), default=0.0):
            flights.append(waiting)
        usable_bps = SHARE * min(_carried_bps(flights), _carried_bps(newest))
        if budget_bps == 0:
            return usable_bps if usable_bps < PLENTY_BPS else 0.0
        return min(budget_bps, usable_bps)


def _carried_bps(flights: Sequence[Flight]) -> float:
    """Return the rate at which these went; infinite where they were too quick to tell."""
    busy_s = sum(max(0.0, each.duration_s - max(0.0, ANSWER_S - each.waited_s)) for each in flights)
    return 8 * sum(each.wire_bytes for each in flights) / busy_s if busy_s >= LEAST_BUSY_S else math.inf


def worthwhile_bytes(flight: Flight, bucket: TokenBucket) -> float:
    """Return how many bytes may wait for their turn after `flight`, whose answer has just come; infinite for any number.

    That is what the budget lets go now and in WAITING_S, and no more than the link takes in WAITING_S. A flight tells the speed
    of the link where it was behind another one: without that it may have stood still for a while, and now go on at any speed.
    """
    allowed = bucket.room_bytes + WAITING_S * bucket.bps / 8
    return min(allowed, WAITING_S * flight.wire_bytes / max(flight.duration_s, 1e-3)) if flight.waited_s else allowed
