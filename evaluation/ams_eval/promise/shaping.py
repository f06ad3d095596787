"""One direction of a slow link in real time: a rate, a delay, and stalls, in which nothing goes and nothing is lost."""

import asyncio
import socket
from dataclasses import dataclass
from random import Random

from ams_common.clock import Clock

SEGMENT_HEADER_BYTES = 52
"""IPv4 and TCP with time stamps, as on this loopback."""
SEGMENT_BYTES = 1448
"""Payload of a full segment of Ethernet."""
READ_BYTES = 65_536
PIECE_S = 0.02
"""A link with a rate takes what it carries in this time, and at least a segment, at once."""
MOST_PIECES = 64
"""Pieces that are on the way at once: with 64 kB and more as much as any trial here sends in a delay."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What one direction of a link is like."""

    rate_bps: float = 0.0
    """Bits of IP packets a second, acknowledgements left out; 0 for no limit."""
    delay_s: float = 0.0
    """From the end of sending a piece to its arrival."""


class ShapedDirection:
    """Hands on what comes on sockets, under conditions that may change; belongs to one asyncio loop."""

    def __init__(self, clock: Clock) -> None:
        """Begin without a limit."""
        self._clock = clock
        self.conditions = Conditions()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._free_at_s = 0.0

    def stall(self) -> None:
        """Let nothing through until `resume`: what a program sees of packets that are lost and sent again."""
        self._flowing.clear()

    def resume(self) -> None:
        """Go on after a stall."""
        self._flowing.set()

    async def carry(self, source: socket.socket, target: socket.socket) -> None:
        """Hand on what `source` receives until either end is closed.

        Raises:
            OSError: an end was closed by force.
        """
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_PIECES)
        tasks = [asyncio.ensure_future(part) for part in (self._take(source, on_the_way), self._deliver(on_the_way, target))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, source: socket.socket, on_the_way: "asyncio.Queue[tuple[float, bytes]]") -> None:
        loop = asyncio.get_running_loop()
        data = bytes(1)
        while data:
            data = await loop.sock_recv(source, self._piece_bytes)
            await self._pass(len(data))
            await on_the_way.put((self._clock.now_s() + self.conditions.delay_s, data))

    async def _deliver(self, on_the_way: "asyncio.Queue[tuple[float, bytes]]", target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await on_the_way.get()
            await asyncio.sleep(due_s - self._clock.now_s())
            if not data:
                return
            await loop.sock_sendall(target, data)

    @property
    def _piece_bytes(self) -> int:
        rate_bps = self.conditions.rate_bps
        return min(READ_BYTES, max(SEGMENT_BYTES, int(rate_bps * PIECE_S / 8))) if rate_bps else READ_BYTES

    async def _pass(self, size_bytes: int) -> None:
        """Wait until a piece has left, one after the other, whichever connection it is of."""
        if self.conditions.rate_bps:
            wire_bytes = size_bytes + SEGMENT_HEADER_BYTES * -(-size_bytes // SEGMENT_BYTES)
            now_s = self._clock.now_s()
            self._free_at_s = max(now_s, self._free_at_s) + 8 * wire_bytes / self.conditions.rate_bps
            await asyncio.sleep(self._free_at_s - now_s)
        await self._flowing.wait()


def drawn_stalls(
    seed: int, duration_s: float, *, pause_s: float, shortest_s: float = 0.2, longest_s: float = 1.0
) -> list[tuple[float, float]]:
    """Return begin and end of stalls within `duration_s`, as a lossy link shows them: `pause_s` apart on average."""
    random = Random(seed)
    stalls: list[tuple[float, float]] = []
    end_s = 0.0
    while True:
        begin_s = end_s + random.expovariate(1 / pause_s)
        end_s = begin_s + random.uniform(shortest_s, longest_s)
        if end_s > duration_s:
            return stalls
        stalls.append((begin_s, end_s))
