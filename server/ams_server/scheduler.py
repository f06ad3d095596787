"""The worker that owns the accelerator: one thread, round robin over devices (AMS section 4.2 and appendix E).

A turn of a device is: label its new frames, then one training phase if one is due. Devices with nothing to do pass their turn.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ams_common.errors import AmsError
from ams_common.messages import Control, FrameBatch, Update
from ams_server.edge_session import EdgeSession

logger = logging.getLogger(__name__)

INBOX_BATCHES = 3
"""Batches of one device that may wait for the worker; one more drops the oldest: fresh frames teach more than stale ones."""

Publish: TypeAlias = Callable[[Update | Control], None]


@dataclass(kw_only=True)
class _Place:
    session: EdgeSession
    publish: Publish
    control: Control | None = None
    """What the device was told last by the worker."""
    inbox: deque[tuple[bytes, FrameBatch]] = field(default_factory=lambda: deque(maxlen=INBOX_BATCHES))


class Scheduler:
    """Round robin over the devices that have work. All public methods may be called from any thread."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        """`on_failure` is called on the worker thread with the error that ended it."""
        self._on_failure = on_failure
        self._places: dict[str, _Place] = {}
        self._turns: deque[str] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="worker")

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker after the turn it is in and wait for it; may be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def attach(self, session: EdgeSession, publish: Publish) -> None:
        """Let the device take part; `publish` is called on the worker thread with what it should be sent."""
        with self._changed:
            self._places[session.device_id] = _Place(session=session, publish=publish)

    def detach(self, session: EdgeSession, publish: Publish) -> None:
        """Take the device out, unless a newer connection has taken its place."""
        with self._changed:
            place = self._places.get(session.device_id)
            if place is not None and place.publish is publish:
                del self._places[session.device_id]

    def submit(self, session: EdgeSession, run_id: bytes, batch: FrameBatch) -> None:
        """Queue a batch for labelling; the oldest waiting batch of the device is dropped when its inbox is full."""
        with self._changed:
            place = self._places.get(session.device_id)
            if place is None:
                return
            if len(place.inbox) == INBOX_BATCHES:
                logger.warning("device %s: the server is behind, a batch is dropped", session.device_id)
            place.inbox.append((run_id, batch))
            if session.device_id not in self._turns:
                self._turns.append(session.device_id)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while (turn := self._next_turn()) is not None:
                _take_turn(*turn)
        except BaseException as error:  # the worker is the product: whatever ends it must end the process
            logger.exception("the worker failed")
            self._on_failure(error)

    def _next_turn(self) -> tuple[_Place, list[tuple[bytes, FrameBatch]]] | None:
        """Wait for a device with work; return it with its waiting batches, or None when the worker must end."""
        with self._changed:
            while not self._stopping:
                while self._turns:
                    place = self._places.get(self._turns.popleft())
                    if place is not None:
                        batches = list(place.inbox)
                        place.inbox.clear()
                        return place, batches
                self._changed.wait()
        return None


def _take_turn(place: _Place, batches: list[tuple[bytes, FrameBatch]]) -> None:
    session = place.session
    for run_id, batch in batches:
        try:
            session.ingest(batch, run_id)
        except AmsError as error:
            logger.warning("device %s: batch %d is left out: %s", session.device_id, batch.batch_id, error)
    if session.due and (update := session.train()) is not None:
        place.publish(update)
    control = session.control()
    if control != place.control:
        place.control = control
        place.publish(control)
