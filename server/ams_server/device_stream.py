"""One gRPC stream of the server, from the hello to its end: what `ams_common.session.server` allows goes over the socket."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import grpc.aio
from google.protobuf.message import DecodeError

from ams_common.budget import TokenBucket, Unanswered
from ams_common.clock import Clock
from ams_common.errors import ProtocolError
from ams_common.flights import Flight, Flights
from ams_common.framing import CONNECTION_BYTES, receipt_bytes, sent_bytes
from ams_common.messages import (
    Applied,
    ChunkReceived,
    ClientMessage,
    Control,
    Drain,
    Hello,
    ModelChunk,
    Problem,
    ServerMessage,
    SnapshotHeader,
    Update,
    Welcome,
)
from ams_common.progress import Progress
from ams_common.proto import adaptation_pb2 as pb
from ams_common.session.server import HelloReceived, ServerEvent, ServerSession
from ams_common.wire import client_message_from_proto, server_message_to_proto
from ams_server.downlinks import Downlinks
from ams_server.uplink_watch import UplinkWatch

HELLO_TIMEOUT_S = 10.0
CHUNK_FIELDS_BYTES = 32
"""What is in a chunk beside its data, at most."""
END_TIMEOUT_S = 2.0
"""Time that an edge has to take the last message of a stream."""

Context: TypeAlias = "grpc.aio.ServicerContext[pb.ClientMessage, pb.ServerMessage]"


_log = logging.getLogger(__name__)


class Connection(Protocol):
    """One connected device, on the side of the server's daemon."""

    def count_received(self, wire_bytes: int) -> None:
        """Note what has come from the device, headers included."""
        ...

    def observe_downlink(self, flight: Flight) -> None:
        """Take how long an update took to the device."""
        ...

    def greeting(self) -> Sequence[ServerMessage]:
        """Return the welcome and what brings the device up to date; called once, in a thread of its own.

        From the moment that it reads the version of the device on, every later update must go through the outlet.

        Raises:
            AmsError: the device cannot be served.
        """
        ...

    def deliver(self, event: ServerEvent) -> None:
        """Take an event of the device; called on the service's loop, must return quickly.

        Raises:
            AmsError: the event cannot be used and the stream should end.
        """
        ...

    def close(self) -> None:
        """Note that the stream has ended; called once, on the service's loop, after the last event."""
        ...


class _Budgeted:
    """What goes to one device on one stream: each message waits for the device's budget, and is paid from it."""

    def __init__(self, downlink: TokenBucket, flights: Flights) -> None:
        """Begin with the connection, which is there already."""
        self.downlink = downlink
        self._flights = flights
        self._updates = Unanswered(downlink)
        """By their versions."""
        self._chunks = Unanswered(downlink)
        """By their number on this stream."""
        self._chunks_sent = 0
        downlink.spend(CONNECTION_BYTES)

    def wait_s(self, message: ServerMessage, wire_bytes: int) -> float:
        """Return the seconds until a message may go; the last one of a stream does not wait."""
        match message:
            case Drain() | Problem():
                return 0.0
            case Welcome() | ModelChunk() | Update():
                return self.downlink.wait_s(wire_bytes)
            case _:
                return self.downlink.urgent_wait_s(wire_bytes)

    def spend(self, message: ServerMessage, wire_bytes: int) -> None:
        """Pay for a message that is handed to the network now."""
        match message:
            case Update():
                self._flights.depart(message.version, wire_bytes)
                self._updates.depart(message.version, wire_bytes)
            case ModelChunk():
                self._chunks_sent += 1
                self._chunks.depart(self._chunks_sent, wire_bytes)
            case _:
                self.downlink.spend(wire_bytes)

    def land(self, message: ClientMessage) -> Flight | None:
        """Note what `message` says to have come; return the flight of an update that shows what the link carries."""
        match message:
            case ChunkReceived():
                self._chunks.arrive(message.chunks)
            case Applied():
                self._updates.arrive(message.version)
                flight = self._flights.arrive(message.version)
                return flight.less(message.build_time_ms / 1e3) if flight is not None else None
            case _:
                pass
        return None

    def end(self) -> None:
        """Note that nothing of the stream is on its way any more."""
        self._updates.end()
        self._chunks.end()


class DeviceStream:
    """A stream and its session; the daemon uses it as its `Outlet`."""

    def __init__(self, context: Context, session: ServerSession, downlinks: Downlinks, clock: Clock) -> None:
        """Wrap the stream of `context`, to be paid from one of `downlinks`; to be made on the loop that runs it."""
        self._context = context
        self._session = session
        self._downlinks = downlinks
        self._budgeted: _Budgeted | None = None
        """None until the device has said who it is: all that it gets from then on is paid for."""
        self._uplink: UplinkWatch | None = None
        """None until the device has been told its uplink."""
        self._connection: Connection | None = None
        """None until the device is accepted."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._wake = asyncio.Event()
        self._halted = False
        self._flights = Flights(clock)
        """Updates that were sent and not reported as applied, by their versions."""
        self._clock = clock
        self._device_id = ""
        self._progress: Progress | None = None
        """How far the newest snapshot is; None before there was one."""
        self.ended = asyncio.Event()
        """Set by the service once nothing of this stream is left."""

    @property
    def device(self) -> str:
        """Whose stream it is, for the log: known once the hello has come."""
        return f"device {self._device_id}" if self._device_id else "a device that has sent no hello"

    @property
    def downlink(self) -> TokenBucket:
        """Budget of the device, once its hello has come; all messages wait for it, those of the model longer."""
        assert self._budgeted is not None
        return self._budgeted.downlink

    @property
    def backlog(self) -> int:
        """Number of chunks and updates that wait to be written, or do not get through. May be read from any thread."""
        return self._session.backlog + self._flights.late

    def send(self, message: ServerMessage) -> None:
        """Queue a message and return at once; after the end of the stream it is forgotten. May be called from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue, message)

    def close(self, last: Drain | Problem) -> None:
        """End the stream with `last`; on the loop's thread."""
        self._queue(last)

    def cancel(self) -> None:
        """End the stream of an edge that does not take the last message; on the loop's thread."""
        if self._task is not None:
            self._task.cancel()

    async def read_hello(self) -> Hello:
        """Return the first message.

        Raises:
            ProtocolError: something else came, or nothing in time.
            RefusedError: the edge speaks another version of the protocol.
        """
        try:
            proto = await asyncio.wait_for(self._read_proto(), HELLO_TIMEOUT_S)
        except asyncio.TimeoutError as error:
            raise ProtocolError(f"no hello came within {HELLO_TIMEOUT_S:g} s") from error
        if proto is None:
            raise ProtocolError("stream ended before the hello")
        message = client_message_from_proto(proto)
        if isinstance(message, Hello):
            self._device_id = message.device_id
            self._budgeted = _Budgeted(self._downlinks.of(message), self._flights)
        (event,) = self._session.receive(message)
        assert isinstance(event, HelloReceived)
        return event.hello

    async def run(self, connection: Connection) -> None:
        """Greet the device, then read and write until either side ends the stream.

        Raises:
            AmsError: the edge sent what it may not, or `connection` cannot go on.
        """
        assert self._budgeted is not None
        self._connection = connection
        connection.count_received(CONNECTION_BYTES)
        greeting = await asyncio.to_thread(connection.greeting)
        self._session.greet(greeting)
        self._uplink = _watched_from(greeting, self._clock)
        reader = asyncio.ensure_future(self._read_all(connection, self._budgeted, self._uplink))
        writer = asyncio.ensure_future(self._write_all())
        try:
            done, _ = await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            reader.cancel()
            await self._halt(writer)
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._budgeted.end()

    async def _halt(self, writer: "asyncio.Future[None]") -> None:
        """End the writer after the message that it is writing.

        A call whose write was cancelled half-way cannot be written to again, not even its status: the edge would wait for ever.
        """
        self._halted = True
        self._wake.set()
        await asyncio.wait((writer,), timeout=END_TIMEOUT_S)
        writer.cancel()
        self._halted = False

    async def refuse(self, problem: Problem) -> None:
        """Tell the edge why the stream ends, if it listens."""
        self._session.send(problem)
        with contextlib.suppress(asyncio.TimeoutError, grpc.aio.BaseError):
            await asyncio.wait_for(self._write_all(), END_TIMEOUT_S)

    def _queue(self, message: ServerMessage) -> None:
        for event in self._session.send(message):
            if self._connection is not None:
                self._connection.deliver(event)
        self._wake.set()

    async def _read_all(self, connection: Connection, budgeted: _Budgeted, uplink: UplinkWatch) -> None:
        while (proto := await self._read_proto()) is not None:
            budgeted.downlink.spend(receipt_bytes(proto.ByteSize()))
            connection.count_received(sent_bytes(proto.ByteSize()))
            uplink.take(sent_bytes(proto.ByteSize()))
            message = client_message_from_proto(proto)
            events = self._session.receive(message)
            flight = budgeted.land(message)
            if flight is not None:
                connection.observe_downlink(flight)
            for event in events:
                connection.deliver(event)
            self._wake.set()

    async def _read_proto(self) -> pb.ClientMessage | None:
        try:
            proto = await self._context.read()
        except DecodeError as error:
            raise ProtocolError("message is no protobuf of this protocol") from error
        return proto if isinstance(proto, pb.ClientMessage) else None

    async def _write_all(self) -> None:
        while not (self._session.finished or self._halted):
            self._wake.clear()
            self._fit_chunk()
            message = self._session.peek()
            if message is None:
                await self._wake.wait()
                continue
            proto = server_message_to_proto(message)
            wire_bytes = sent_bytes(proto.ByteSize())
            budgeted = self._budgeted
            wait_s = budgeted.wait_s(message, wire_bytes) if budgeted is not None else 0.0
            if wait_s > 0:
                if not self._session.let_end_pass():
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), wait_s)
                continue
            self._session.pop()
            if budgeted is not None:
                budgeted.spend(message, wire_bytes)
            if self._connection is not None:
                self._connection.count_received(receipt_bytes(proto.ByteSize()))
            if self._uplink is not None and isinstance(message, Control):
                self._uplink.tell(message.uplink_bps)
            await self._context.write(proto)
            self._tell(message)

    def _tell(self, message: ServerMessage) -> None:
        """Say how far a snapshot is that takes long."""
        if isinstance(message, SnapshotHeader):
            self._progress = Progress(message.encoded_bytes - message.first_byte, self._clock)
        elif isinstance(message, ModelChunk) and message.part == "weights" and self._progress is not None:
            line = self._progress.add(len(message.data))
            if line is not None:
                _log.info("device %s: sent %s", self._device_id, line)

    def _fit_chunk(self) -> None:
        """See that the next chunk fits the burst: the budget may have become smaller since it was made."""
        if self._budgeted is not None:
            self._session.split_chunk(max(1, self._budgeted.downlink.largest_message_bytes - CHUNK_FIELDS_BYTES))


def _watched_from(greeting: Sequence[ServerMessage], clock: Clock) -> UplinkWatch:
    """Return the watch over what comes after a greeting."""
    welcome = greeting[0]
    assert isinstance(welcome, Welcome)
    return UplinkWatch(welcome.control.uplink_bps, clock)
