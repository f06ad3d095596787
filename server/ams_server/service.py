"""The gRPC service: all devices' streams on one asyncio loop; what a device gets is the business of a `Backend`."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from typing import Protocol

import grpc.aio
from pydantic import Field

from ams_common.address import Address, split_address
from ams_common.budget import TokenBucket
from ams_common.clock import Clock
from ams_common.errors import AmsError, CodecError, ConfigurationError, ProtocolError, system_reason
from ams_common.framing import READ_AHEAD_BYTES
from ams_common.messages import MAX_BATCH_BYTES, MAX_UPDATE_BYTES, Drain, ErrorCode, Hello, Problem, ServerMessage
from ams_common.proto.adaptation_pb2_grpc import AdaptationServicer, add_AdaptationServicer_to_server
from ams_common.session.server import BatchLedger, RefusedError, ServerSession
from ams_common.settings import PartConfig
from ams_common.wording import counted
from ams_server.device_stream import END_TIMEOUT_S, Connection, Context, DeviceStream
from ams_server.downlinks import Downlinks

SNAPSHOT_INTERVAL_S = 5.0
"""Least time between two snapshots on one stream; an edge asks less often by itself."""
GRACE_S = 5.0
"""Time that a stop gives the streams to end."""
KEEPALIVE_S = 10.0
KEEPALIVE_TIMEOUT_S = 60.0
"""More than an update takes on a link that has become slow: a ping waits behind it, and it would be sent again as a whole."""
LEAST_PING_INTERVAL_S = 1.0
"""Edges may ask for a sign of life this often."""
FRAMING_BYTES = 256 * 1024
"""Room in a message for everything but the video or the update."""
_STREAMS_BEFORE_HELLO = 64
WILDCARDS = ("", "::", "0.0.0.0")
"""Hosts that stand for all addresses of this machine."""

_log = logging.getLogger(__name__)


class ServiceConfig(PartConfig):
    """Where devices connect."""

    listen: Address = "[::]:50051"
    """Address to listen on, host:port; port 0 takes a free one."""
    max_devices: int = Field(default=64, ge=1, le=4096)
    """Devices served at once; more are asked to come back later."""


class Outlet(Protocol):
    """The way to one connected device; may be used from any thread."""

    def send(self, message: ServerMessage) -> None:
        """Queue an update, control, snapshot header or chunk; a drain or problem ends the stream. Returns at once.

        When MAX_WAITING_UPDATES updates wait for a slow reader, they give way and the connection gets a SnapshotWanted.
        """
        ...

    @property
    def backlog(self) -> int:
        """Number of chunks and updates that wait to be written; while it is not 0, a further update only waits too."""
        ...


class Backend(Protocol):
    """What the service offers to devices."""

    async def connect(self, hello: Hello, outlet: Outlet, downlink: TokenBucket) -> Connection:
        """Accept a device; an earlier connection of the same device has been closed before.

        Args:
            hello: what the device says of itself.
            outlet: the way to it.
            downlink: what all that goes this way waits for and is paid from, the same one for all streams of the device. What
                it lets through from now on is for the backend to say.

        Raises:
            RefusedError: the device is refused, with the code that it is told.
            ConfigurationError: what the device asks for cannot work; it is told "unsupported".
        """
        ...


class AdaptationService(AdaptationServicer):
    """Admits streams, replaces older ones of the same device, and turns errors into problems that the edge is told."""

    def __init__(self, config: ServiceConfig, backend: Backend, clock: Clock) -> None:
        self._config = config
        self._backend = backend
        self._clock = clock
        self._ledger = BatchLedger()
        self._downlinks = Downlinks(clock)
        self._streams: dict[str, DeviceStream] = {}

    # The stub knows servicers that are iterators only; grpc.aio takes a coroutine that reads and writes by itself too.
    async def Adapt(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Serve one stream to its end."""
        session = ServerSession(self._ledger, self._clock, SNAPSHOT_INTERVAL_S)
        stream = DeviceStream(context, session, self._downlinks, self._clock)
        try:
            await self._serve_stream(stream)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            # The edge is gone, or did not take its last message: the end of this stream and of nothing else.
            _log.debug("the stream of %s from %s is cut off", stream.device, context.peer())
        except AmsError as error:
            _log.warning("the stream of %s from %s ends: %s", stream.device, context.peer(), error)
            await stream.refuse(Problem(code=_code_for(error), reason=str(error)))
        except Exception:
            _log.exception("the stream of %s from %s failed", stream.device, context.peer())
            await stream.refuse(Problem(code="internal", reason="the server failed, its log says why"))

    def drain(self, reason: str) -> None:
        """End all streams in an orderly way."""
        for stream in self._streams.values():
            stream.close(Drain(reason=reason))

    async def _serve_stream(self, stream: DeviceStream) -> None:
        hello = await stream.read_hello()
        await self._replace(hello.device_id)
        if len(self._streams) >= self._config.max_devices:
            raise RefusedError("busy", f"the server has {counted(self._config.max_devices, 'device')} and takes no more")
        self._streams[hello.device_id] = stream
        try:
            await self._serve_device(hello, stream)
        finally:
            del self._streams[hello.device_id]
            self._downlinks.keep(hello.device_id, stream.downlink)
            stream.ended.set()

    async def _serve_device(self, hello: Hello, stream: DeviceStream) -> None:
        connection = await self._backend.connect(hello, stream, stream.downlink)
        _log.info("device %s is connected", hello.device_id)
        try:
            await stream.run(connection)
        finally:
            connection.close()
            _log.info("device %s has left", hello.device_id)

    async def _replace(self, device_id: str) -> None:
        """End the present stream of a device; two newcomers at once replace one after the other."""
        while (older := self._streams.get(device_id)) is not None:
            older.close(Problem(code="replaced", reason=_replaced(device_id)))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(older.ended.wait(), END_TIMEOUT_S)
                continue
            older.cancel()
            await older.ended.wait()


async def serve(
    config: ServiceConfig, backend: Backend, *, stop: asyncio.Event, clock: Clock, on_bound: Callable[[int], None]
) -> None:
    """Serve devices until `stop` is set, then drain all streams and return.

    Args:
        config: where to listen.
        backend: what to serve.
        stop: to be set on this loop.
        clock: time.
        on_bound: called with the port once devices can connect.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    # It reports every edge that vanishes in the middle of a message with a traceback; the service has its own lines.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    server = grpc.aio.server(options=_server_options(), maximum_concurrent_rpcs=config.max_devices + _STREAMS_BEFORE_HELLO)
    service = AdaptationService(config, backend, clock)
    add_AdaptationServicer_to_server(service, server)
    port = _bind(server, config.listen)
    await server.start()
    try:
        _log.info("listening on port %d", port)
        on_bound(port)
        await stop.wait()
        _log.info("stopping")
        service.drain("the server stops")
    finally:
        await server.stop(GRACE_S)


def _replaced(device_id: str) -> str:
    return f"another stream came under the device id {device_id!r}; another device needs a --device-id of its own"


def _bind(server: grpc.aio.Server, address: str) -> int:
    require_free(address, "--listen")
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error}") from error


_LISTEN_HINTS = {
    errno.EADDRINUSE: ": another program uses this port, choose another with {flag}",
    errno.EADDRNOTAVAIL: ": this machine has no such address, name one of its own or 0.0.0.0 for all with {flag}",
}


def require_free(address: str, flag: str) -> None:
    """See with a socket of our own that the address of `flag` can be listened on: gRPC does not say why it cannot.

    Raises:
        ConfigurationError: it cannot; the message says why.
    """
    host, port = split_address(address)
    try:
        # Where IPv6 is missing, gRPC listens on all IPv4 addresses instead; both cannot be had when either is taken.
        found = socket.getaddrinfo("0.0.0.0" if host in WILDCARDS else host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen()
    except OSError as error:
        hint = _LISTEN_HINTS.get(error.errno or 0, "").format(flag=flag)
        raise ConfigurationError(f"cannot listen on {address}: {system_reason(error)}{hint}") from error


def _server_options() -> list[tuple[str, int]]:
    return [
        # A second server on the same port must fail instead of taking half of the devices.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", int(1000 * KEEPALIVE_S)),
        ("grpc.keepalive_timeout_ms", int(1000 * KEEPALIVE_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(1000 * LEAST_PING_INTERVAL_S)),
        ("grpc.http2.max_pings_without_data", 0),
        # Pings that measure the bandwidth would take a part of a small one.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
        ("grpc.max_receive_message_length", MAX_BATCH_BYTES + FRAMING_BYTES),
        ("grpc.max_send_message_length", MAX_UPDATE_BYTES + FRAMING_BYTES),
    ]


def _code_for(error: AmsError) -> ErrorCode:
    match error:
        case RefusedError():
            return error.code
        case ProtocolError() | CodecError():
            return "bad_request"
        case ConfigurationError():
            return "unsupported"
        case _:
            return "internal"
