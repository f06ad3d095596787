"""What the service offers to devices: one model, from which every device starts, and a session for each."""

import asyncio
import copy
import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ams_common.budget import TokenBucket, require_workable
from ams_common.classes import ClassSet, load_class_set
from ams_common.clock import Clock
from ams_common.errors import ConfigurationError
from ams_common.flights import Flight
from ams_common.framing import sent_bytes
from ams_common.layout import weights_digest
from ams_common.messages import Budget, Hello, ModelChunk, ModelManifest, ServerMessage, SnapshotHeader, Update
from ams_common.session.greeting import (
    Offer,
    StartingPoint,
    chunk_size,
    greeting_messages,
    known_way,
    snapshots,
    starting_point,
)
from ams_common.session.server import BatchArrived, BudgetWanted, RefusedError, ServerEvent, SnapshotWanted
from ams_common.update_codec import CODECS, create_codec
from ams_server.admin import DeviceState
from ams_server.allotment import Allotment
from ams_server.checkpoint_writer import CheckpointWriter
from ams_server.checkpoints import CheckpointStore, session_identity
from ams_server.edge_session import DeviceBudget, EdgeSession, Mirror
from ams_server.flat_model import FlatModel
from ams_server.learners.factory import create_learner, shortest_update_interval_s
from ams_server.rounding import rounded_start
from ams_server.scheduler import Scheduler
from ams_server.service import Outlet
from ams_server.settings import AdaptationConfig, ServerSettings
from ams_server.students.export import build_manifest, student_vector
from ams_server.students.factory import create_student
from ams_server.teachers.base import Teacher

KEPT_SESSIONS = 32
"""Devices whose sessions are kept while they are away, some 100 MB each; the one that was away longest is forgotten first."""
KEPT_FILES_PER_DEVICE = 2
"""Sessions kept on disk for each device that may be connected; the one that was written longest ago is forgotten first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingModel:
    """The model from which every device starts."""

    module: nn.Module
    """Copied for each device."""
    manifest: ModelManifest
    graph: bytes


def starting_model(settings: AdaptationConfig) -> StartingModel:
    """Make the student of `settings`, export it and check the export.

    Raises:
        ConfigurationError: an unknown student, class set or class, or a size the student cannot take.
        ModelError: the weights do not fit.
    """
    classes = student_classes(settings)
    module = create_student(settings, classes, settings.seed)
    size = (settings.student_width, settings.student_height)
    manifest, graph = build_manifest(settings.student, module, classes, width=size[0], height=size[1])
    model = FlatModel(module, manifest.layout)
    model.load(rounded_start(model.vector(), manifest.layout))
    return StartingModel(module=module, manifest=manifest, graph=graph)


def student_classes(settings: AdaptationConfig) -> ClassSet:
    """Return the classes that the student tells apart.

    Raises:
        ConfigurationError: an unknown class set or class.
    """
    return load_class_set(settings.class_set).subset(settings.classes)


def checkpoint_store(settings: ServerSettings, model: StartingModel) -> CheckpointStore | None:
    """Return where `settings` keep the sessions of devices that start from `model`; None where they keep none.

    Raises:
        ConfigurationError: the folder cannot be used.
    """
    if settings.state_folder is None:
        return None
    starting_digest = weights_digest(student_vector(model.module))
    return CheckpointStore(
        settings.state_folder.expanduser(),
        session_identity(model.manifest, starting_digest, settings, settings.scheme),
        parameters=model.manifest.layout.size,
        keep=KEPT_FILES_PER_DEVICE * settings.max_devices,
    )


class DeviceBackend:
    """Makes a session for each device and keeps it across connections."""

    def __init__(
        self,
        settings: ServerSettings,
        model: StartingModel,
        *,
        teacher: Teacher,
        device: torch.device,
        scheduler: Scheduler,
        clock: Clock,
        checkpoints: CheckpointWriter,
    ) -> None:
        """Serve `model`, labelled by `teacher` and trained on `device` in the turns of `scheduler`, kept by `checkpoints`."""
        self._settings = settings
        self._model = model
        self._start = starting_point(model.manifest, model.graph, student_vector(model.module))
        self._teacher = teacher
        self._device = device
        self._scheduler = scheduler
        self._clock = clock
        self._checkpoints = checkpoints
        self._allotment = Allotment(settings)
        self._here: dict[str, DeviceConnection] = {}
        self._away: OrderedDict[str, EdgeSession] = OrderedDict()

    async def connect(self, hello: Hello, outlet: Outlet) -> "DeviceConnection":
        """Accept a device, with the session it had before if there is one.

        Raises:
            RefusedError: its budget carries nothing.
            ConfigurationError: the device wants what this server does not have.
        """
        self._check(hello)
        codec = self._codec_for(hello)
        session = self._away.pop(hello.device_id, None)
        if session is None:
            make = functools.partial(self._new_session, hello, codec)
            session = await asyncio.to_thread(self._checkpoints.restored, hello.device_id, make)
        elif session.codec.name != codec:
            fresh = await asyncio.to_thread(self._new_session, hello, codec)
            fresh.downlink = session.downlink
            session = fresh
        connection = DeviceConnection(
            session,
            self._start,
            hello,
            outlet,
            scheduler=self._scheduler,
            clock=self._clock,
            on_close=self._keep,
            on_ask=self._ask,
        )
        session.change_budget(self._allotment.enter(session.device_id, _asked(hello), connection.change_budget))
        self._here[session.device_id] = connection
        return connection

    def devices(self) -> list[DeviceState]:
        """Return what the connected devices ask for and use, in the order of their names; on the service's loop."""
        return [self._here[name].state(*self._allotment.asked_and_held(name)) for name in sorted(self._here)]

    def set_ceiling(self, device_id: str, ceiling: DeviceBudget) -> bool:
        """Hold a device to `ceiling` from now on; tell whether it is connected; on the service's loop."""
        return self._allotment.set_ceiling(device_id, ceiling)

    def _ask(self, device_id: str, budget: Budget) -> None:
        """Take a connected device's wish for other budgets.

        Raises:
            RefusedError: they carry nothing.
        """
        self._require_workable(budget.uplink_bps, budget.downlink_bps)
        self._allotment.ask(device_id, DeviceBudget(uplink_bps=budget.uplink_bps, downlink_bps=budget.downlink_bps))

    def keep_sessions(self) -> None:
        """Have all sessions written to disk; to be called when nobody trains any more."""
        for session in (*(connection.session for connection in self._here.values()), *self._away.values()):
            self._checkpoints.keep(session)

    def _new_session(self, hello: Hello, codec: str) -> EdgeSession:
        return new_session(
            self._settings,
            self._model,
            teacher=self._teacher,
            device=self._device,
            clock=self._clock,
            device_id=hello.device_id,
            budget=_asked(hello),
            codec=codec,
        )

    def _keep(self, session: EdgeSession) -> None:
        """Keep the session of a device that has left, in memory and on disk."""
        del self._here[session.device_id]
        self._allotment.leave(session.device_id)
        self._away[session.device_id] = session
        self._checkpoints.keep(session)
        if len(self._away) > KEPT_SESSIONS:
            _, forgotten = self._away.popitem(last=False)
            # It may have been trained since its device left.
            self._checkpoints.keep(forgotten)

    def _check(self, hello: Hello) -> None:
        manifest = self._model.manifest
        wanted = (("student", hello.student, manifest.student), ("class set", hello.class_set, manifest.classes.name))
        for what, asked, offered in wanted:
            if asked and asked != offered:
                raise ConfigurationError(f"this server has no {what} {asked!r}, it serves {offered!r}")
        self._require_workable(hello.uplink_bps, hello.downlink_bps)
        held = self._allotment.preview(hello.device_id, _asked(hello))
        try:
            self._require_workable(held.uplink_bps, held.downlink_bps)
        except RefusedError as error:
            raise RefusedError("busy", f"the server's caps leave too little for one more device: {error}") from error

    def _require_workable(self, uplink_bps: int, downlink_bps: int) -> None:
        try:
            require_workable(uplink_bps, downlink_bps, shortest_update_interval_s(self._settings))
        except ConfigurationError as error:
            raise RefusedError("budget_too_small", str(error)) from error

    def _codec_for(self, hello: Hello) -> str:
        spoken = (self._settings.codec,) if self._settings.codec else tuple(CODECS)
        common = [name for name in hello.codecs if name in spoken]
        if not common:
            raise ConfigurationError(f"no update codec in common: the device has {', '.join(hello.codecs) or 'none'}")
        return common[0]


def new_session(
    settings: AdaptationConfig,
    model: StartingModel,
    *,
    teacher: Teacher,
    device: torch.device,
    clock: Clock,
    device_id: str,
    budget: DeviceBudget,
    codec: str,
) -> EdgeSession:
    """Return the session of a device that starts from `model` and is trained on `device`."""
    manifest = model.manifest
    flat = FlatModel(copy.deepcopy(model.module), manifest.layout, device)
    return EdgeSession(
        device_id=device_id,
        manifest=manifest,
        budget=budget,
        frames=settings,
        teacher=teacher,
        learner=create_learner(settings, flat, manifest),
        codec=create_codec(codec, manifest.layout),
        quantiser=settings,
        rate_control=settings,
        clock=clock,
    )


def _asked(hello: Hello) -> DeviceBudget:
    return DeviceBudget(uplink_bps=hello.uplink_bps, downlink_bps=hello.downlink_bps)


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
        self._spent_before_bytes = session.downlink.spent_bytes
        self._received_bytes = 0
        self._on_ask = on_ask
        self._start = start
        self._hello = hello
        self._outlet = outlet
        self._scheduler = scheduler
        self.downlink = session.downlink
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
                session.round_mirror(self._start.weights)
                mirror = self._attach()
        hello = replace(self._hello, downlink_bps=session.budget.downlink_bps)
        messages = greeting_messages(hello, self._offer(mirror))
        headers = [message for message in messages if isinstance(message, SnapshotHeader)]
        self._holds_start |= any(not header.base_digest for header in headers)
        _log.info(
            "device %s: greeted with %s",
            self.session.device_id,
            _summary(messages, self.downlink, self.session.budget.downlink_bps),
        )
        return messages

    def _attach(self) -> Mirror:
        with self._entry:
            # A stream that has broken off by now must not take the place of the one that came after it.
            attach = self._scheduler.attach
            return self.session.mirror if self._closed else attach(self.session, self._outlet, self._hello.run_id)

    def change_budget(self, budget: DeviceBudget) -> None:
        """Keep to `budget` from now on, and tell the device."""
        self.session.change_budget(budget)
        self._outlet.send(self.session.control())

    def count_received(self, wire_bytes: int) -> None:
        """Note what has come from the device, headers included."""
        self._received_bytes += wire_bytes

    def observe_downlink(self, flight: Flight) -> None:
        """Take how long an update took to the device."""
        self.session.downlink_speed.observe(flight)

    def state(self, asked: DeviceBudget, held: DeviceBudget) -> DeviceState:
        """Return what the device, which asks for `asked` and has `held`, has used since it connected."""
        return DeviceState(
            device_id=self.session.device_id,
            asked=asked,
            held=held,
            uplink_bytes=self._received_bytes,
            downlink_bytes=self.downlink.spent_bytes - self._spent_before_bytes,
            connected_s=self._clock.now_s() - self._connected_at_s,
        )

    def deliver(self, event: ServerEvent) -> None:
        """Take an event of the device.

        Raises:
            RefusedError: it asks for budgets that carry nothing.
        """
        match event:
            case BatchArrived():
                self._scheduler.submit(self.session, event.batch)
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

    def _send_snapshot(self) -> None:
        with self.session.lock:
            self.session.round_mirror(self._start.weights)
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


def _summary(messages: Sequence[ServerMessage], downlink: TokenBucket, downlink_bps: int) -> str:
    """Say what a greeting holds and how long it takes at the device's budget, what may go at once taken off."""
    chunks = [len(message.data) for message in messages if isinstance(message, ModelChunk)]
    updates = [len(message.payload) for message in messages if isinstance(message, Update)]
    size_bytes = sum(chunks) + sum(updates)
    wire_bytes = sum(map(sent_bytes, chunks + updates))
    duration = f", {downlink.duration_s(wire_bytes):.0f} s at {downlink_bps / 1000:g} kbit/s" if downlink_bps else ""
    what = _content(messages, len(updates))
    return f"{what}: {size_bytes / 1000:.0f} kB{duration}"


def _content(messages: Sequence[ServerMessage], updates: int) -> str:
    headers = [message for message in messages if isinstance(message, SnapshotHeader)]
    missed = f"{updates} missed updates" if updates else ""
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
