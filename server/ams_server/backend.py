"""What the service offers to devices: a session for each, kept across connections, and on disk while it is away."""

import asyncio
import functools
from collections import OrderedDict

import torch

from ams_common.budget import TokenBucket
from ams_common.clock import Clock
from ams_common.errors import ConfigurationError
from ams_common.layout import weights_digest
from ams_common.messages import Budget, Hello
from ams_common.session.greeting import starting_point
from ams_common.session.server import RefusedError
from ams_common.settings import home_expanded
from ams_common.update_codec import CODECS
from ams_server.admin import DeviceState
from ams_server.allotment import Allotment
from ams_server.checkpoint_writer import CheckpointWriter
from ams_server.checkpoints import CheckpointStore, session_identity
from ams_server.device_budget import DeviceBudget, require_workable
from ams_server.device_connection import DeviceConnection
from ams_server.edge_session import EdgeSession
from ams_server.learners.factory import shortest_update_interval_s
from ams_server.scheduler import Scheduler
from ams_server.service import Outlet
from ams_server.settings import ServerSettings
from ams_server.starting_model import StartingModel, new_session
from ams_server.students.export import student_vector
from ams_server.teachers.base import Teacher

KEPT_SESSIONS = 32
"""Devices whose sessions are kept while they are away, some 100 MB each; the one that was away longest is forgotten first."""
KEPT_FILES_PER_DEVICE = 2
"""Sessions kept on disk for each device that may be connected; the one that was written longest ago is forgotten first."""


def checkpoint_store(settings: ServerSettings, model: StartingModel) -> CheckpointStore | None:
    """Return where `settings` keep the sessions of devices that start from `model`; None where they keep none.

    Raises:
        ConfigurationError: the folder cannot be used.
    """
    if settings.state_folder is None:
        return None
    starting_digest = weights_digest(student_vector(model.module))
    return CheckpointStore(
        home_expanded(settings.state_folder),
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

    async def connect(self, hello: Hello, outlet: Outlet, downlink: TokenBucket) -> DeviceConnection:
        """Accept a device, with the session it had before if there is one.

        Args:
            hello: what the device says of itself.
            outlet: the way to it.
            downlink: from which all that goes this way is paid.

        Raises:
            RefusedError: its budget carries nothing, or the server's caps leave it too little.
            ConfigurationError: the device wants what this server does not have.
        """
        self._check(hello)
        session = await self._session_for(hello)
        # Again, as another device may have come meanwhile.
        self._require_room(hello)
        self._away.pop(hello.device_id, None)
        session.spending.go_on_with(downlink)
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
        names = sorted(self._here)
        return [self._here[name].state(*self._allotment.asked_and_held(name), self.ceiling(name)) for name in names]

    def ceiling(self, device_id: str) -> DeviceBudget:
        """Return the ceiling of a device; on the service's loop."""
        return self._allotment.ceiling(device_id)

    def set_ceiling(self, device_id: str, ceiling: DeviceBudget) -> bool:
        """Hold a device to `ceiling` from now on; tell whether it is connected; on the service's loop.

        Raises:
            ConfigurationError: it leaves too little for a device.
        """
        require_workable(ceiling, shortest_update_interval_s(self._settings))
        return self._allotment.set_ceiling(device_id, ceiling)

    def _ask(self, device_id: str, budget: Budget) -> None:
        """Take a connected device's wish for other budgets.

        Raises:
            RefusedError: they carry nothing.
        """
        asked = DeviceBudget(uplink_bps=budget.uplink_bps, downlink_bps=budget.downlink_bps)
        self._require_workable(asked)
        self._allotment.ask(device_id, asked)

    def keep_sessions(self) -> None:
        """Have all sessions written to disk; to be called when nobody trains any more."""
        for session in (*(connection.session for connection in self._here.values()), *self._away.values()):
            self._checkpoints.keep(session)

    async def _session_for(self, hello: Hello) -> EdgeSession:
        """Return the session that a device had before, where it still speaks the same codec, or another one."""
        codec, earlier = self._codec_for(hello), self._away.get(hello.device_id)
        if earlier is not None and earlier.codec.name == codec:
            return earlier
        make = functools.partial(self._new_session, hello, codec)
        if earlier is not None:
            return await asyncio.to_thread(make)
        return await asyncio.to_thread(self._checkpoints.restored, hello.device_id, make)

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
        self._require_workable(_asked(hello))
        self._require_room(hello)

    def _require_room(self, hello: Hello) -> None:
        """See that the server's caps leave enough for a device that would connect now."""
        held = self._allotment.preview(hello.device_id, _asked(hello))
        try:
            self._require_workable(held)
        except RefusedError as error:
            raise RefusedError("busy", f"the server's caps leave too little for one more device: {error}") from error

    def _require_workable(self, budget: DeviceBudget) -> None:
        try:
            require_workable(budget, shortest_update_interval_s(self._settings))
        except ConfigurationError as error:
            raise RefusedError("budget_too_small", str(error)) from error

    def _codec_for(self, hello: Hello) -> str:
        spoken = (self._settings.codec,) if self._settings.codec else tuple(CODECS)
        common = [name for name in hello.codecs if name in spoken]
        if not common:
            raise ConfigurationError(f"no update codec in common: the device has {', '.join(hello.codecs) or 'none'}")
        return common[0]


def _asked(hello: Hello) -> DeviceBudget:
    return DeviceBudget(uplink_bps=hello.uplink_bps, downlink_bps=hello.downlink_bps)
