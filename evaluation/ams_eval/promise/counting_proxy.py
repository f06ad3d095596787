"""A TCP proxy between an edge and its server that counts what either sends, headers included, and that can be slow and fail.

The kernel tells of each connection how many bytes and segments have come in (TCP_INFO of Linux), also of segments that carry
nothing but an acknowledgement. Segments are as large as on Ethernet, although this is loopback.
"""

import asyncio
import contextlib
import socket
import struct
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from ams_common.clock import Clock
from ams_eval.promise.shaping import SEGMENT_HEADER_BYTES, Conditions, ShapedDirection
from ams_eval.promise.windows import worst_excess_bytes

OPENING_SEGMENTS = 2
"""SYN and FIN, or their answers, which the kernel may not count; for each connection and direction."""
ETHERNET_MSS = 1460
"""What the proxy announces; 12 of it go to time stamps."""
SAMPLE_S = 0.02
QUEUE_BYTES = 32_768
"""What waits before a slow link; the rest waits at its sender."""
_TCP_INFO = struct.Struct("=128xQII")
"""bytes_received, segs_out and segs_in of the kernel's struct tcp_info."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset and forgets what waits."""


@dataclass(eq=False)
class Trace:
    """What went in one direction, in the order of time."""

    times_s: list[float] = field(default_factory=list)
    payload_bytes: list[int] = field(default_factory=list)
    """Payload of TCP."""
    wire_bytes: list[int] = field(default_factory=list)
    """The same with the headers of IP and TCP, acknowledgements included."""

    def add(self, time_s: float, payload_bytes: int, segments: int) -> None:
        """Note what has come since the last time."""
        self.times_s.append(time_s)
        self.payload_bytes.append(payload_bytes)
        self.wire_bytes.append(payload_bytes + segments * SEGMENT_HEADER_BYTES)

    def worst_excess_bytes(self, rate_bps: float) -> float:
        """Return the largest bytes - rate x length over all windows that the promise is about."""
        return worst_excess_bytes(self.times_s, self.wire_bytes, rate_bps)

    def mean_bps(self, duration_s: float) -> float:
        """Return the mean rate of all of it over `duration_s`."""
        return 8 * sum(self.wire_bytes) / duration_s

    def between(self, begin_s: float, end_s: float) -> "Trace":
        """Return what went from `begin_s` until before `end_s`."""
        first, last = bisect_left(self.times_s, begin_s), bisect_left(self.times_s, end_s)
        return Trace(self.times_s[first:last], self.payload_bytes[first:last], self.wire_bytes[first:last])


class _Meter:
    """What has come in on one socket since the last look."""

    def __init__(self, end: socket.socket, trace: Trace, clock: Clock) -> None:
        self._end = end
        self._trace = trace
        self._clock = clock
        self._bytes = 0
        self._segments = -OPENING_SEGMENTS

    def look(self) -> None:
        """Add what has come in since to the trace."""
        info = self._end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        received, _, segments = _TCP_INFO.unpack(info)
        if (received, segments) != (self._bytes, self._segments):
            self._trace.add(self._clock.now_s(), received - self._bytes, segments - self._segments)
            self._bytes, self._segments = received, segments


class CountingProxy:
    """Forwards connections to a server on this machine; all methods belong to one asyncio loop."""

    def __init__(self, server_port: int, clock: Clock, *, slow: bool = False) -> None:
        """Forward to `server_port`; `slow` where `shape` will be used, so that little is on the way unseen."""
        self._server_port = server_port
        self._clock = clock
        self._slow = slow
        self._up, self._down = ShapedDirection(clock), ShapedDirection(clock)
        self._listener = _ethernet_socket(slow)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[socket.socket] = set()
        self._meters: set[_Meter] = set()
        self._refusing = False
        self.connections = 0
        """Connections so far, those refused left out."""
        self.uplink = Trace()
        """What the edge has sent."""
        self.downlink = Trace()
        """What the server has sent."""

    def start(self) -> int:
        """Listen on a free port of loopback and return it."""
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._spawn(self._accept)
        self._spawn(self._look_often)
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self) -> None:
        """Reset all connections and refuse new ones, until `restore`."""
        self._refusing = True
        self._look()
        for end in self._open:
            # The tasks of the connection see the shutdown and close both of its ends.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Take connections again."""
        self._refusing = False

    def shape(self, uplink: Conditions, downlink: Conditions) -> None:
        """Be such a link from now on."""
        self._up.conditions, self._down.conditions = uplink, downlink

    def stall(self) -> None:
        """Let nothing through in either direction until `resume`, with all connections open."""
        for direction in (self._up, self._down):
            direction.stall()

    def resume(self) -> None:
        """Go on after `stall`."""
        for direction in (self._up, self._down):
            direction.resume()

    async def close(self) -> None:
        """End all connections and the proxy."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    def _spawn(self, part: Callable[[], Awaitable[None]]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(_run(part))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            edge, _ = await loop.sock_accept(self._listener)
            self._spawn(lambda edge=edge: self._serve(edge))  # type: ignore[misc]

    async def _serve(self, edge: socket.socket) -> None:
        edge.setblocking(False)
        server = _ethernet_socket(self._slow)
        with edge, server, self._counted(edge, self.uplink), self._counted(server, self.downlink):
            if self._refusing:
                edge.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self._server_port))
            self.connections += 1
            both = (self._up, edge, server), (self._down, server, edge)
            directions = [asyncio.ensure_future(_carry(*way)) for way in both]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)

    @contextlib.contextmanager
    def _counted(self, end: socket.socket, trace: Trace) -> Iterator[None]:
        meter = _Meter(end, trace, self._clock)
        self._meters.add(meter)
        self._open.add(end)
        try:
            yield
        finally:
            meter.look()
            self._meters.discard(meter)
            self._open.discard(end)

    async def _look_often(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_S)

    def _look(self) -> None:
        for meter in self._meters:
            meter.look()


async def _run(part: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(OSError):
        await part()


async def _carry(direction: ShapedDirection, source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        await direction.carry(source, target)


def _ethernet_socket(slow: bool) -> socket.socket:
    end = socket.socket()
    end.setblocking(False)
    if slow:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_MSS)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return end
