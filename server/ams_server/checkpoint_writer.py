"""A thread that writes sessions to disk, beside training and the service.

It holds sessions that are to be written, not their states: each is read when its turn comes, so a session that waits is written
once, as it is then, and there is never more than one copy of a state in memory.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from ams_common.clock import Clock
from ams_common.errors import AmsError
from ams_server.checkpoints import CheckpointStore
from ams_server.edge_session import EdgeSession

CHECKPOINT_INTERVAL_S = 60.0
"""Least time between two writes of a device that stays connected: what a crash may cost it of its training. A student of 2.1
million parameters takes 27 MB, so 64 devices write 29 MB/s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The latest attempt to write a session."""

    time_s: float
    version: int
    """Version on disk, 0 when the attempt failed: of that there is nothing to keep."""


class CheckpointWriter:
    """Writes sessions when they are offered and due, and reads them again. All methods may be called from any thread."""

    def __init__(self, store: CheckpointStore | None, clock: Clock) -> None:
        """Write to `store`, which nobody else uses from now on; None keeps nothing."""
        self._store = store
        self._clock = clock
        self._waiting: OrderedDict[str, EdgeSession] = OrderedDict()
        self._in_work = ""
        self._written: WeakKeyDictionary[EdgeSession, _Written] = WeakKeyDictionary()
        self._failing = False
        self._stopping = False
        self._changed = threading.Condition()
        self._disk = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is something to do for it; once."""
        if self._store is not None:
            self._thread.start()

    def stop(self) -> None:
        """Write what waits, end the thread and wait for it. May be called twice, and before the start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def offer(self, session: EdgeSession) -> None:
        """Have a session that has moved written, unless that was done less than CHECKPOINT_INTERVAL_S ago."""
        with self._changed:
            written = self._written.get(session)
        if written is None or self._clock.now_s() - written.time_s >= CHECKPOINT_INTERVAL_S:
            self.keep(session)

    def keep(self, session: EdgeSession) -> None:
        """Have a session written now, where its weights are not on disk yet: its device has left, or the server stops."""
        if self._store is None:
            return
        with self._changed:
            self._waiting[session.device_id] = session
            self._changed.notify_all()

    def restored(self, device_id: str, make: Callable[[], EdgeSession]) -> EdgeSession:
        """Return a session of `make` that goes on from what is kept of its device, or one as it is made."""
        session = make()
        if self._store is None:
            return session
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or (device_id not in self._waiting and device_id != self._in_work))
        with self._disk:
            state = self._store.load(device_id)
            if state is None:
                return session
            try:
                session.load_state(state)
            except AmsError as error:
                self._store.refuse(device_id, str(error))
                return make()
        self._note(session, session.mirror.version)
        _log.info("device %s: its session goes on from version %d on disk", device_id, session.mirror.version)
        return session

    def _run(self) -> None:
        assert self._store is not None, "the thread runs where there is a store"
        while (session := self._next()) is not None:
            try:
                self._write(session, self._store)
            except Exception as error:  # a full disk, or an accelerator that has failed: devices are served all the same
                self._note(session, 0)
                if not self._failing:
                    _log.warning("cannot keep the session of device %s on disk: %s", session.device_id, error)
                self._failing = True

    def _next(self) -> EdgeSession | None:
        with self._changed:
            self._in_work = ""
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or self._waiting)
            if not self._waiting:
                return None
            self._in_work, session = self._waiting.popitem(last=False)
            return session

    def _write(self, session: EdgeSession, store: CheckpointStore) -> None:
        with session.lock:
            mirror = session.mirror
            # Nothing is learnt at version 0, and what is on disk already need not be written again.
            if mirror.version in (0, self._version_on_disk(session)):
                return
            state = session.state()
        started_s = self._clock.now_s()
        with self._disk:
            size = store.save(session.device_id, state)
        self._note(session, mirror.version)
        self._failing = False
        took_ms = 1e3 * (self._clock.now_s() - started_s)
        _log.debug("device %s: version %d kept in %d bytes in %.0f ms", session.device_id, mirror.version, size, took_ms)

    def _version_on_disk(self, session: EdgeSession) -> int:
        with self._changed:
            written = self._written.get(session)
        return written.version if written is not None else 0

    def _note(self, session: EdgeSession, version: int) -> None:
        with self._changed:
            self._written[session] = _Written(time_s=self._clock.now_s(), version=version)
