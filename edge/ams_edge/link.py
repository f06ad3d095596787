"""The edge's connection to its server: a thread with one asyncio loop and the gRPC stream, which comes back by itself.

What may be said when is the business of `ams_common.session.client`; here are the socket, the waiting and the retries. All
state belongs to the loop; other threads hand over through `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, cast

import grpc.aio
from pydantic import Field

from ams_common.address import PeerAddress
from ams_common.budget import TokenBucket, allowance
from ams_common.clock import Clock
from ams_common.errors import AmsError
from ams_common.flights import Flight, Flights
from ams_common.framing import CONNECTION_BYTES, READ_AHEAD_BYTES
from ams_common.link_speed import LinkSpeed, worthwhile_bytes
from ams_common.messages import MAX_BATCH_BYTES, MAX_UPDATE_BYTES, Applied, Budget, FrameBatch, Hello
from ams_common.proto.adaptation_pb2_grpc import AdaptationStub
from ams_common.session.client import ClientEvent, ClientSession, ControlChanged, Disconnected, ProblemReported
from ams_common.session.holdings import Holdings
from ams_common.session.incoming import IncomingSnapshot
from ams_common.session.outbox import BatchOutbox
from ams_common.settings import PartConfig
from ams_edge.edge_stream import DRAIN_S, EdgeStream, Traffic, may_be_sent, wait_for

if TYPE_CHECKING:
    from ams_common.proto.adaptation_pb2_grpc import AdaptationAsyncStub

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
SLOW_RETRY_S = 30.0
"""Pause after the server has refused the stream, or sent what is not allowed: it will hardly do better at once."""
FINAL_RETRY_S = 300.0
"""Pause after a final problem: only a person can help, who may do so at the server and not come to this device."""
KEEPALIVE_TIMEOUT_S = 20.0
"""More than what is on the way takes on a link that has become slow, and than a moment without reception."""
UNEXPLAINED_TRIES = 3
"""A write that fails because the call has ended may hide why it has (grpc/grpc issue 36066): attempts that may find it out."""
SNAPSHOT_REQUEST_INTERVAL_S = 10.0
BUDGET_INTERVAL_S = 1.0
"""Time between two wishes for other budgets: of those that come sooner the newest counts."""
LAST_EVENTS_S = 0.2
"""Time for the last events of gRPC before the loop is closed."""
FRAMING_BYTES = 256 * 1024
"""Room in a message for everything but the video or the update."""

_log = logging.getLogger(__name__)


class LinkConfig(PartConfig):
    """Connection to the server."""

    server: PeerAddress = "localhost:50051"
    """Server to learn from, host:port."""
    keepalive_s: float = Field(default=8.0, ge=6.0, le=600.0)
    """A silent server is asked for a sign of life after so many seconds; without one the edge reconnects."""
    outbox_s: float = Field(default=20.0, ge=0, le=600)
    """Seconds of batches kept while the server cannot take them, older ones are dropped: twice the server's update interval is
    what it would still use."""


class Link:
    """Keeps a stream to the server open from `start` to `stop`, or until another stream takes the device's place."""

    def __init__(
        self,
        config: LinkConfig,
        *,
        make_hello: Callable[[], Hello],
        holdings: Callable[[], Holdings] = Holdings,
        on_event: Callable[[ClientEvent], None],
        uplink: TokenBucket,
        clock: Clock,
        random: Random,
    ) -> None:
        """Prepare the thread; nothing runs before `start`.

        Args:
            config: where to connect to.
            make_hello: called on the link's thread for every attempt, so that it tells what is held then.
            holdings: called likewise, before `make_hello`: what the server may build on.
            on_event: called on the link's thread with everything that the server says; must return quickly.
            uplink: budget, for all streams one after the other.
            clock: time between two requests for a snapshot, and between two wishes for other budgets.
            random: spreads the retries of many edges.
        """
        self._config = config
        self._make_hello = make_hello
        self._holdings = holdings
        self._on_event = on_event
        self._uplink = uplink
        self._clock = clock
        self._random = random
        self._outbox = BatchOutbox(config.outbox_s)
        self._incoming = IncomingSnapshot()
        self._session: ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._stopped = asyncio.Event()
        self._pause_over = asyncio.Event()
        self._attempt = 0
        self._down_reported = False
        self._asked_at_s: float | None = None
        self._wish: Budget | None = None
        """The wish for other budgets that waits."""
        self._wished_at_s = -math.inf
        self._wake = asyncio.Event()
        self._flights = Flights(clock)
        self._begun = False
        """Whether the server has accepted the present stream, and the outbox was made fit for it."""
        self._speed = LinkSpeed()
        self.traffic = Traffic()
        self.failure: Exception | None = None
        """What ended the thread against its will: an exception of a callback; None while all is well."""

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the present stream."""
        session = self._session
        return session is not None and session.welcomed

    @property
    def alive(self) -> bool:
        """Whether the thread runs; it ends by `stop`, by the problem "replaced" and by a failure."""
        return self._thread.is_alive()

    @property
    def dropped_batches(self) -> int:
        """Batches given up before the server had acknowledged them: too old, too large, or refused."""
        return self._outbox.dropped

    def start(self) -> None:
        """Start connecting; once."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Take leave of the server, close the stream and end the thread, within DRAIN_S or little more.

        May be called twice, before `start`, and by the link's own callbacks, which do not wait for the thread.
        """
        self._on_loop(self._begin_stop)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * DRAIN_S + LONGEST_RETRY_S)

    def send_batch(self, batch: FrameBatch) -> None:
        """Hand over a batch; it is sent when the budget allows and kept until the server has it.

        Batches older than `outbox_s` are dropped, those that would make the newest late, and one of more than MAX_BATCH_BYTES.
        """
        self._on_loop(self._add_batch, batch)

    def send_applied(self, applied: Applied) -> None:
        """Report that a version runs; without a stream there is nothing to do, because the next hello says it."""
        self._on_loop(self._report_applied, applied)

    def change_budget(self, budget: Budget) -> None:
        """Ask the server for other budgets than before; without a stream the next hello does, which then comes at once.

        The wish goes at once, but no sooner than BUDGET_INTERVAL_S after the last one.
        """
        self._on_loop(self._change_budget, budget)

    @property
    def carried_bps(self) -> float:
        """What the uplink carries, as far as batches have shown it; infinite where that is no limit."""
        return self._speed.usable_bps(0, self._flights.waiting) or math.inf

    def hold(self, budget: Budget) -> None:
        """Keep to the uplink rate of `budget`, headers included, from now on. What was overspent counts on."""
        self._uplink.change(allowance(budget.uplink_bps, budget.downlink_bps))
        self._on_loop(self._wake.set)

    def request_snapshot(self, reason: str) -> None:
        """Ask for the whole weights, at most once in SNAPSHOT_REQUEST_INTERVAL_S; without a stream the next hello does."""
        self._on_loop(self._request_snapshot, reason)

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        # After the end of the thread the loop is closed, and there is nobody to tell.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *arguments)

    def _begin_stop(self) -> None:
        if self._session is not None and not self._stopped.is_set():
            self._session.drain("edge stops")
            self._wake.set()
        self._stopped.set()
        self._pause_over.set()

    def _add_batch(self, batch: FrameBatch) -> None:
        if not may_be_sent(batch, self._uplink):
            self._outbox.dropped += 1
            return
        self._outbox.add(batch)
        self._wake.set()

    def _report_applied(self, applied: Applied) -> None:
        if self._session is not None:
            self._session.report_applied(applied)
            self._wake.set()

    def _change_budget(self, budget: Budget) -> None:
        waiting, self._wish = self._wish is not None, budget
        if not waiting:
            early_s = max(0.0, self._wished_at_s + BUDGET_INTERVAL_S - self._clock.now_s())
            asyncio.get_running_loop().call_later(early_s, self._send_wish)
        # Until the welcome the server judges what the hello asks for, and may refuse that.
        if not self.connected:
            self._pause_over.set()

    def _send_wish(self) -> None:
        assert self._wish is not None
        budget, self._wish = self._wish, None
        self._wished_at_s = self._clock.now_s()
        if self._session is not None:
            self._session.change_budget(budget)
            self._wake.set()

    def _request_snapshot(self, reason: str) -> None:
        now_s = self._clock.now_s()
        recently = self._asked_at_s is not None and now_s - self._asked_at_s < SNAPSHOT_REQUEST_INTERVAL_S
        if self._session is None or recently:
            return
        self._asked_at_s = now_s
        self._session.request_snapshot(reason)
        self._wake.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            self.failure = error
            _log.debug("link has stopped", exc_info=error)
        finally:
            self._session = None
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        while not self._stopped.is_set():
            self._pause_over.clear()
            wait_s = self._uplink.urgent_wait_s(CONNECTION_BYTES)
            await wait_for(self._pause_over, wait_s or await self._connect_once())
        # gRPC tells the end of a call a moment late; to a closed loop, that costs other loops of the process their events.
        await asyncio.sleep(LAST_EVENTS_S)

    async def _connect_once(self) -> float:
        """Hold one stream as long as it lasts; return the seconds until the next attempt."""
        self._uplink.spend(CONNECTION_BYTES)
        holdings = self._holdings()
        self._session = ClientSession(self._make_hello(), self._outbox, self._incoming, holdings)
        self._flights = Flights(self._clock)
        self._begun = False
        try:
            problem = await self._hold_stream(self._session)
        except grpc.aio.AioRpcError as error:
            # A stream that was accepted has ended in any case, and its end is told.
            if _unexplained(error) and not self._session.welcomed and self._attempt < UNEXPLAINED_TRIES:
                _log.debug("why the call ended is not known yet: %s", error.details())
                return self._pause_s()
            return self._lost(_failure(self._config.server, error))
        except asyncio.TimeoutError:
            return self._lost(f"server {self._config.server} does not answer")
        except AmsError as error:
            self._lost(f"server {self._config.server} sent what it may not: {error}")
            return SLOW_RETRY_S
        finally:
            self._session = None
        return self._lost("server has closed the stream") if problem is None else self._refused(problem)

    async def _hold_stream(self, session: ClientSession) -> ProblemReported | None:
        async with grpc.aio.insecure_channel(self._config.server, options=_channel_options(self._config)) as channel:
            stub = cast("AdaptationAsyncStub", AdaptationStub(channel))
            stream = EdgeStream(
                call=stub.Adapt(),
                session=session,
                uplink=self._uplink,
                traffic=self.traffic,
                wake=self._wake,
                stopped=self._stopped,
                on_event=self._receive_event,
                flights=self._flights,
                speed=self._speed,
                on_flight=self._observe,
            )
            return await stream.run()

    def _observe(self, flight: Flight) -> None:
        self._speed.observe(flight)
        self._outbox.shorten(worthwhile_bytes(flight, self._uplink))

    def _receive_event(self, event: ClientEvent) -> None:
        if isinstance(event, ControlChanged):
            self._attempt, self._down_reported = 0, False
        if isinstance(event, ControlChanged) and not self._begun:
            self._begun = True
            self._outbox.begin(self._uplink.room_bytes)
        self._on_event(event)

    def _lost(self, reason: str) -> float:
        if not self._down_reported and not self._stopped.is_set():
            self._down_reported = True
            self._on_event(Disconnected(reason=reason))
        return self._pause_s()

    def _pause_s(self) -> float:
        """Return the seconds until the next attempt, which is one more."""
        self._attempt += 1
        return retry_pause_s(self._attempt, self._random)

    def _refused(self, problem: ProblemReported) -> float:
        if problem.code == "replaced":
            # Two devices under one name would go on to replace each other for ever.
            self._begin_stop()
        if problem.code == "bad_request":
            self._outbox.clear()
        self._lost(problem.reason)
        return refusal_pause_s(problem)


def refusal_pause_s(problem: ProblemReported) -> float:
    """Return the seconds until the server that has refused the stream for `problem` is asked again."""
    return FINAL_RETRY_S if problem.final else SLOW_RETRY_S


def _failure(server: str, error: grpc.aio.AioRpcError) -> str:
    """Say why the stream could not be opened, or broke off."""
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        return f"{server} does not serve devices: --server takes the server's --listen, not its --admin-listen"
    return f"server {server} cannot be reached: {error.details()}"


def _unexplained(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether gRPC's own words for a write that failed have taken the place of the server's."""
    return error.code() == grpc.StatusCode.INTERNAL and "execute_batch" in (error.debug_error_string() or "")


def retry_pause_s(attempt: int, random: Random) -> float:
    """Return the seconds before attempt + 1: doubling from FIRST_RETRY_S to LONGEST_RETRY_S, jittered down to a half."""
    longest_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt - 1, 10))
    return random.uniform(0.5, 1.0) * longest_s


def _channel_options(config: LinkConfig) -> list[tuple[str, int]]:
    longest_ms = int(1000 * LONGEST_RETRY_S)
    return [
        ("grpc.keepalive_time_ms", int(1000 * config.keepalive_s)),
        ("grpc.keepalive_timeout_ms", int(1000 * KEEPALIVE_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", int(1000 * FIRST_RETRY_S)),
        ("grpc.min_reconnect_backoff_ms", longest_ms),
        ("grpc.max_reconnect_backoff_ms", longest_ms),
        ("grpc.max_receive_message_length", MAX_UPDATE_BYTES + FRAMING_BYTES),
        ("grpc.max_send_message_length", MAX_BATCH_BYTES + FRAMING_BYTES),
        # Each attempt is a fresh connection, without the back-off of the one before.
        ("grpc.use_local_subchannel_pool", 1),
        # It would send a message again by itself, and without paying for it.
        ("grpc.enable_retries", 0),
        # Pings that measure the bandwidth would take a part of a small one.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", READ_AHEAD_BYTES),
        # A proxy of the environment is meant for web pages, not for a stream that stays open for days.
        ("grpc.enable_http_proxy", 0),
    ]
