"""One gRPC stream of the edge, from the hello to its end: what `ams_common.session.client` allows goes over the socket."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import grpc.aio

from ams_common.budget import TokenBucket, Unanswered
from ams_common.errors import ProtocolError
from ams_common.flights import Flight, Flights
from ams_common.framing import receipt_bytes, sent_bytes
from ams_common.link_speed import LinkSpeed
from ams_common.messages import MAX_BATCH_BYTES, ClientMessage, Drain, FrameBatch
from ams_common.proto import adaptation_pb2 as pb
from ams_common.session.client import BatchTaken, ClientEvent, ClientSession, ProblemReported
from ams_common.wire import client_message_to_proto, server_message_from_proto

WELCOME_TIMEOUT_S = 60.0
"""A server may have to load a model before its welcome."""
MOST_ON_THE_WAY = 2
"""Batches on the way where the link is slow: one that it takes now, and one that follows at once. Others wait here, where they
can give way to newer ones."""
DRAIN_S = 2.0
"""Time that the server has to close the stream after a drain."""

_log = logging.getLogger(__name__)

Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.ClientMessage, pb.ServerMessage]"


@dataclass
class Traffic:
    """Bytes of all messages since the start, before gRPC's framing."""

    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeStream:
    """The parts of one stream, and the two loops that run it."""

    call: Call
    session: ClientSession
    uplink: TokenBucket
    """Budget: all messages wait for it, batches longer; receipts of what comes in are counted."""
    traffic: Traffic
    wake: asyncio.Event
    """Set whenever the session may have something new to send."""
    stopped: asyncio.Event
    """Set when the edge takes its leave; the session has queued its drain then."""
    on_event: Callable[[ClientEvent], None]
    flights: Flights
    """Batches that were sent on this stream and not acknowledged, by their ids."""
    speed: LinkSpeed
    """Of this link, as far as earlier streams have shown it too."""
    on_flight: Callable[[Flight], None]
    """Told of each batch that was acknowledged."""

    async def run(self) -> ProblemReported | None:
        """Send and receive until either side ends the stream; return the server's reason if it was an error.

        Raises:
            grpc.aio.AioRpcError: the connection failed.
            asyncio.TimeoutError: no welcome came.
            AmsError: the server sent what it may not.
        """
        parts = (self._receive(), self._send(), self._take_leave(), self._require_welcome())
        tasks = {asyncio.ensure_future(part) for part in parts}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task.done()).result()
        finally:
            await _end(tasks)
            self._unanswered.end()

    async def _receive(self) -> ProblemReported | None:
        while True:
            proto = await self.call.read()
            if proto is None:
                raise ProtocolError("message is no protobuf of this protocol")
            if not isinstance(proto, pb.ServerMessage):
                return None
            self.traffic.received_bytes += proto.ByteSize()
            self.uplink.spend(receipt_bytes(proto.ByteSize()))
            for event in self.session.receive(server_message_from_proto(proto)):
                if isinstance(event, BatchTaken):
                    self._land(event)
                self.on_event(event)
                if isinstance(event, ProblemReported):
                    return event
            self.wake.set()

    def _land(self, taken: BatchTaken) -> None:
        self._unanswered.arrive(taken.batch_id)
        flight = self.flights.arrive(taken.batch_id)
        if flight is not None:
            self.on_flight(flight)

    async def _send(self) -> None:
        while True:
            message = self.session.peek()
            if message is None:
                await self._wait_for_more(None)
                continue
            if isinstance(message, FrameBatch) and self._crowded:
                await self._wait_for_more(None)
                continue
            if isinstance(message, FrameBatch) and not may_be_sent(message, self.uplink):
                self.session.give_up_batch()
                continue
            proto = client_message_to_proto(message)
            wire_bytes = sent_bytes(proto.ByteSize())
            wait = self.uplink.wait_s if isinstance(message, FrameBatch) else self.uplink.urgent_wait_s
            wait_s = wait(wire_bytes)
            if wait_s > 0:
                await self._wait_for_more(wait_s)
                continue
            self.session.pop()
            if isinstance(message, FrameBatch):
                self.flights.depart(message.batch_id, wire_bytes)
                self._unanswered.depart(message.batch_id, wire_bytes)
            else:
                self.uplink.spend(wire_bytes)
            await self._write(message, proto)

    @cached_property
    def _unanswered(self) -> Unanswered:
        """Batches of this stream, by their ids."""
        return Unanswered(self.uplink)

    @property
    def _crowded(self) -> bool:
        flights = self.flights
        slow = flights.late > 0 or self.speed.is_less_than(self.uplink.bps)
        return slow and flights.count >= MOST_ON_THE_WAY

    async def _write(self, message: ClientMessage, proto: pb.ClientMessage) -> None:
        self.traffic.sent_bytes += proto.ByteSize()
        try:
            await self.call.write(proto)
            if isinstance(message, Drain):
                await self.call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream is over: the receiver, which gets all that was on the way first, knows why.
            await asyncio.Future()

    async def _wait_for_more(self, timeout_s: float | None) -> None:
        await wait_for(self.wake, timeout_s)
        self.wake.clear()

    async def _require_welcome(self) -> None:
        """Raise asyncio.TimeoutError when no welcome comes."""
        await asyncio.sleep(WELCOME_TIMEOUT_S)
        if not self.session.welcomed:
            raise asyncio.TimeoutError
        await asyncio.Future()

    async def _take_leave(self) -> None:
        await self.stopped.wait()
        if self.session.welcomed:
            await asyncio.sleep(DRAIN_S)


def may_be_sent(batch: FrameBatch, uplink: TokenBucket) -> bool:
    """Tell whether the budget, which may have become less since the batch was made, has room for it at all; warn if not."""
    most = min(MAX_BATCH_BYTES, uplink.largest_message_bytes)
    if batch.payload_bytes > most:
        _log.warning("batch %d of %d bytes is dropped: at most %d can be sent", batch.batch_id, batch.payload_bytes, most)
    return batch.payload_bytes <= most


async def _end(tasks: "set[asyncio.Task[ProblemReported | None]]") -> None:
    """Cancel what still runs, and let go of all.

    An error holds the frames that it came through. A frame that held the task with the error would keep the call until the next
    garbage collection, and with it the channel, which goes on connecting by itself.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()


async def wait_for(event: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until `event` is set or `timeout_s` seconds are over; None waits for ever."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
