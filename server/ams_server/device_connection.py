"""One connected device, on the side of the server: its greeting, its snapshots and what it asks for."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from ams_common.clock import Clock
from ams_common.flights import Flight
from ams_common.framing import CONNECTION_BYTES, sent_bytes
from ams_common.messages import Budget, Hello, ModelChunk, ServerMessage, SnapshotHeader, Update
from ams_common.progress import download_time
from ams_common.session.greeting import (
    Offer,
    StartingPoint,
    chunk_size,
    greeting_messages,
    known_way,
    snapshots,
)
from ams_common.session.server import AppliedReported, BatchArrived, BudgetWanted, ServerEvent, SnapshotWanted
from ams_common.wording import counted
from ams_server.admin import DeviceState
from ams_server.device_budget import Allotted, DeviceBudget
from ams_server.edge_session import EdgeSession, Mirror
from ams_server.scheduler import Scheduler
from ams_server.service import Outlet

_log = logging.getLogger(__name__)


class DeviceConnection:
    """One connected device."""

    def __init__(
        self,
        session: EdgeSession,
        start: StartingPoint,
        hello: Hello,
        outlet: Outlet,
        *,
        scheduler: Scheduler,
        clock: Clock,
        on_close: Callable[[EdgeSession], None],
        on_ask: Callable[[str, Budget], None],
    ) -> None:
        self.session = session
        """What is known of the device."""
        self._clock = clock
        self._connected_at_s = clock.now_s()
        # Opening the connection is paid for by now.
        self._spent_before_bytes = session.spending.downlink.spent_bytes - CONNECTION_BYTES
        self._received_bytes = 0
        session.model_age.connected(hello.run_id)
        self._on_ask = on_ask
        self._start = start
        self._hello = hello
        self._outlet = outlet
        self._scheduler = scheduler
        self.downlink = session.spending.downlink
        """Budget of the device."""
        self._on_close = on_close
        self._entry = threading.Lock()
        self._closed = False
        self._snapshot: asyncio.Future[None] | None = None
        self._holds_start = start.weights_digest in hello.weights
        """Whether the device has the starting weights by the time that it reads what is sent from now on."""

    def greeting(self) -> Sequence[ServerMessage]:
        """Return the welcome and what brings the device up to date; from then on it takes part in the round."""
        session = self.session
        if known_way(self._hello, self._offer(session.mirror)) is not None:
            mirror = self._attach()
        else:
            with session.lock:
                self._round_mirror()
                mirror = self._attach()
        hello = replace(self._hello, downlink_bps=session.budget.downlink_bps)
        messages = greeting_messages(hello, self._offer(mirror))
        headers = [message for message in messages if isinstance(message, SnapshotHeader)]
        self._holds_start |= any(not header.base_digest for header in headers)
        _log.info(
            "device %s: greeted with %s",
            self.session.device_id,
            _summary(messages, self.session.budget),
        )
        return messages

    def _attach(self) -> Mirror:
        with self._entry:
            # A stream that has broken off by now must not take the place of the one that came after it.
            attach = self._scheduler.attach
            return self.session.mirror if self._closed else attach(self.session, self._outlet, self._hello.run_id)

    def _round_mirror(self) -> bool:
        """Round the mirror for a snapshot, with the session's lock; return False without if the stream has ended.

        A later one may have been greeted with the mirror as it is.
        """
        with self._entry:
            if not self._closed:
                self.session.round_mirror(self._start.weights)
            return not self._closed

    def change_budget(self, held: Allotted) -> None:
        """Keep to `held` from now on, and tell the device."""
        self.session.change_budget(held)
        self._scheduler.tell(self.session, self._outlet)

    def count_received(self, wire_bytes: int) -> None:
        """Note what has come from the device, headers included."""
        self._received_bytes += wire_bytes

    def observe_downlink(self, flight: Flight) -> None:
        """Take how long an update took to the device."""
        self.session.spending.link_speed.observe(flight)

    def state(self, asked: DeviceBudget, held: Allotted, ceiling: DeviceBudget) -> DeviceState:
        """Return what the device, which asks for `asked` and has `held` under `ceiling`, has used since it connected."""
        return DeviceState(
            device_id=self.session.device_id,
            asked=asked,
            held=held,
            ceiling=ceiling,
            uplink_bytes=self._received_bytes,
            downlink_bytes=self.downlink.spent_bytes - self._spent_before_bytes,
            connected_s=self._clock.now_s() - self._connected_at_s,
            model_age_s=self.session.model_age.age_s,
        )

    def deliver(self, event: ServerEvent) -> None:
        """Take an event of the device.

        Raises:
            RefusedError: it asks for budgets that carry nothing.
        """
        match event:
            case BatchArrived():
                self.session.model_age.batch_came(event.batch.capture_times_us[-1])
                self._scheduler.submit(self.session, event.batch)
            case AppliedReported():
                self._note_applied(event.applied.version)
            case SnapshotWanted():
                _log.info("device %s wants a snapshot: %s", self.session.device_id, event.reason)
                self._snapshot = asyncio.get_running_loop().run_in_executor(None, self._send_snapshot)
            case BudgetWanted():
                self._on_ask(self.session.device_id, event.budget)
            case _:
                pass

    def close(self) -> None:
        """Take the device out of the round; its session stays."""
        with self._entry:
            self._closed = True
            self._scheduler.detach(self.session, self._outlet)
        self._on_close(self.session)

    def _note_applied(self, version: int) -> None:
        for update in self.session.mirror.recent_updates:
            if update.version == version:
                self.session.model_age.applied(update.newest_capture_time_us)

    def _send_snapshot(self) -> None:
        with self.session.lock:
            if not self._round_mirror():
                return
            self._scheduler.send_snapshot(self.session, self._outlet, self._snapshots)
        self._holds_start = True

    def _snapshots(self, mirror: Mirror) -> list[ServerMessage]:
        chunk_bytes = chunk_size(self.session.budget.downlink_bps)
        return snapshots(self._offer(mirror), holds_start=self._holds_start, chunk_bytes=chunk_bytes)

    def _offer(self, mirror: Mirror) -> Offer:
        return Offer(
            start=self._start,
            codec=self.session.codec.name,
            control=self.session.control(),
            version=mirror.version,
            weights=mirror.weights,
            weights_digest=mirror.digest,
            recent_updates=mirror.recent_updates,
        )


def _summary(messages: Sequence[ServerMessage], budget: DeviceBudget) -> str:
    """Say what a greeting holds and how long it takes at the device's budgets; less where some of it may go at once."""
    chunks = [len(message.data) for message in messages if isinstance(message, ModelChunk)]
    updates = [len(message.payload) for message in messages if isinstance(message, Update)]
    what = _content(messages, len(updates))
    if not chunks + updates:
        return what
    size_bytes = sum(chunks) + sum(updates)
    wire_bytes = sum(map(sent_bytes, chunks + updates))
    return f"{what}: {size_bytes / 1000:.0f} kB{download_time(wire_bytes, budget.uplink_bps, budget.downlink_bps)}"


def _content(messages: Sequence[ServerMessage], updates: int) -> str:
    headers = [message for message in messages if isinstance(message, SnapshotHeader)]
    missed = counted(updates, "missed update") if updates else ""
    if not headers:
        return missed or "nothing but a welcome"
    if any(header.first_byte for header in headers):
        return "the rest of a model"
    if not headers[0].base_digest:
        return "a whole model"
    if headers[0].base_digest != headers[0].weights_digest:
        return "what its model has learnt since the start"
    back = f"the way back to version {headers[0].version}"
    return f"{back}, {missed}" if missed else back
