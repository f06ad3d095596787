"""The worker that owns the accelerator: one thread, round robin over devices (AMS section 4.2 and appendix E).

A turn of a device is: label its new frames, then one training phase if one is due. Devices with nothing to do pass their turn,
and those that still wait for the last update, or do not report it in time, are not trained: a further one would only queue up
behind it.

A device sends several batches for each update. Turns that end in an update come first, since all else can wait: other turns
label a single batch, so that an update never waits for more than that, or for the updates of others. Where the accelerator is
behind and several updates are due, the one comes first that has most to teach, times the seconds that it has waited: that of a
device which has just begun, of a scene that changes, and in the end of anybody who waits.

A turn that fails ends the stream of its device, not the worker that serves the others too, unless every turn is likely to
fail: where no other device is connected, or the failure before it was another device's and no turn has gone well since.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ams_common.clock import Clock
from ams_common.errors import AmsError, first_line
from ams_common.events import EventLog
from ams_common.messages import Control, FrameBatch, Problem, ServerMessage, Update
from ams_server.edge_session import EdgeSession, Mirror
from ams_server.heap import trim_heap
from ams_server.inbox import Arrival, Inbox
from ams_server.service import Outlet

KEPT_INBOXES = 32
"""Devices whose waiting batches are kept while they are away; the one that was away longest is forgotten first."""
BEHIND_WARNING_S = 60.0
"""Least seconds between two warnings that the server is behind with a device: it then drops a batch every few seconds."""

FIRST_WAIT_S = 1.0
"""Counted as waited by those who have just come, so that what they have to teach counts at once."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class _Place:
    """A connected device in the round."""

    session: EdgeSession
    outlet: Outlet
    run_id: bytes
    inbox: Inbox = field(default_factory=Inbox)
    control: Control | None = None
    """What the device was told last, beside its welcome."""
    dropped: int = 0
    """Batches that were dropped because the worker is behind."""
    warned_at_s: float | None = None
    queued_at_s: float = 0.0
    """When it took its place among the turns."""

    def urgency(self, now_s: float) -> float:
        """Return how much its next turn has to teach if it labels all that waits, and more the longer it has waited."""
        return self.session.news_after(self.inbox.newest, self.run_id) * (FIRST_WAIT_S + now_s - self.queued_at_s)

    @property
    def leads_to_update(self) -> bool:
        """Whether its next turn ends in an update if it labels all that waits."""
        return self.outlet.backlog == 0 and self.session.due_after(self.inbox.newest, self.run_id)


class Scheduler:
    """Round robin over the devices that have work. All public methods may be called from any thread."""

    def __init__(
        self,
        events: EventLog,
        on_failure: Callable[[BaseException], None],
        clock: Clock,
        on_update: Callable[[EdgeSession], None] = lambda session: None,
    ) -> None:
        """Prepare the worker; nothing runs before `start`.

        Args:
            events: told of batches and updates.
            on_failure: called on the worker's thread with the error that ended it.
            clock: spaces warnings.
            on_update: called on the worker's thread with a connected session that has a new mirror; must return quickly.
        """
        self._events = events
        self._clock = clock
        self._on_failure = on_failure
        self._on_update = on_update
        self._places: dict[str, _Place] = {}
        self._away: OrderedDict[str, _Place] = OrderedDict()
        self._turns: deque[_Place] = deque()
        self._failed_device: str | None = None
        """The device whose turn failed last, until a turn goes well."""
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Start the worker's thread; once."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker after the batch or the training step it is at, and wait. May be called twice, and before the start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def run_turn(self) -> bool:
        """Take one turn in the calling thread, without `start`: for a replay. False when no device has work."""
        with self._changed:
            if not self._turns:
                return False
            turn = self._pop_turn()
        self._take_turn(*turn)
        return True

    def attach(self, session: EdgeSession, outlet: Outlet, run_id: bytes) -> Mirror:
        """Let a device take part under its run `run_id`; return the mirror after which all updates go through `outlet`.

        Batches of the same session and run that were waiting when its last connection ended have their turn now.
        """
        with self._changed:
            self._leave(session.device_id)
            place = _Place(session=session, outlet=outlet, run_id=run_id)
            self._places[session.device_id] = place
            earlier = self._away.pop(session.device_id, None)
            if earlier is not None and earlier.session is session and earlier.run_id == run_id:
                place.inbox = earlier.inbox
                self._queue(place)
                self._changed.notify_all()
            return session.mirror

    def detach(self, session: EdgeSession, outlet: Outlet) -> None:
        """Take the device out and keep what waits of it, unless a newer connection has taken its place."""
        with self._changed:
            place = self._places.get(session.device_id)
            if place is not None and place.outlet is outlet:
                self._leave(session.device_id)

    def tell(self, session: EdgeSession, outlet: Outlet) -> None:
        """Send a device what it should do from now on, unless it knows."""
        with self._changed:
            place = self._places.get(session.device_id)
            if place is not None and place.outlet is outlet:
                self._tell(place)
            else:
                # It is not in the round yet, and what its greeting says may be out of date.
                outlet.send(session.control())

    def _tell(self, place: _Place) -> None:
        """Do what `tell` does, with the lock: who tells last then tells the newest."""
        control = place.session.control()
        if control != place.control:
            place.control = control
            place.outlet.send(control)

    def send_snapshot(self, session: EdgeSession, outlet: Outlet, encode: Callable[[Mirror], Sequence[ServerMessage]]) -> None:
        """Send `encode` of the newest mirror, so that the next update follows on it."""
        while True:
            mirror = session.mirror
            messages = encode(mirror)
            with self._changed:
                if session.mirror is mirror:
                    for message in messages:
                        outlet.send(message)
                    return

    def submit(self, session: EdgeSession, batch: FrameBatch) -> None:
        """Queue a batch for labelling; the oldest waiting batches of the device are dropped when there are too many."""
        with self._changed:
            place = self._places.get(session.device_id)
            if place is None:
                return
            arrival = Arrival(batch, self._clock.now_s())
            dropped = place.inbox.add(arrival, session.learner.update_interval_s)
            if dropped:
                self._count_dropped(place, dropped)
            if place not in self._turns:
                self._queue(place)
            self._changed.notify_all()

    def _count_dropped(self, place: _Place, count: int) -> None:
        place.dropped += count
        now_s = self._clock.now_s()
        if place.warned_at_s is None or now_s - place.warned_at_s >= BEHIND_WARNING_S:
            place.warned_at_s = now_s
            device_id = place.session.device_id
            _log.warning("device %s: the server is behind, batches dropped so far: %d", device_id, place.dropped)

    def _leave(self, device_id: str) -> None:
        place = self._places.pop(device_id, None)
        if place is None:
            return
        if place in self._turns:
            self._turns.remove(place)
        if len(place.inbox):
            # The device was told that they have arrived, so that it will not send them again.
            self._away[device_id] = place
            if len(self._away) > KEPT_INBOXES:
                self._away.popitem(last=False)

    def _run(self) -> None:
        try:
            while (turn := self._next_turn()) is not None:
                self._try_turn(*turn)
        except BaseException as error:
            _log.debug("the worker has stopped", exc_info=error)
            self._on_failure(error)

    def _next_turn(self) -> tuple[_Place, list[Arrival]] | None:
        """Wait for a device with work; return it with the batches to label, or None when the worker must end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._turns)
            return None if self._stopping else self._pop_turn()

    def _pop_turn(self) -> tuple[_Place, list[Arrival]]:
        """Take out the turn that helps most; what it leaves of its device waits for another one."""
        now_s = self._clock.now_s()
        due = [place for place in self._turns if place.leads_to_update]
        urgent = max(due, key=lambda place: place.urgency(now_s), default=None)
        place = urgent or self._turns[0]
        arrivals = place.inbox.take(len(place.inbox) if urgent else 1)
        self._turns.remove(place)
        if len(place.inbox):
            self._queue(place)
        return place, arrivals

    def _queue(self, place: _Place) -> None:
        place.queued_at_s = self._clock.now_s()
        self._turns.append(place)

    def _try_turn(self, place: _Place, arrivals: list[Arrival]) -> None:
        """Take a turn; if it fails and others may go well, end only its device's stream."""
        try:
            self._take_turn(place, arrivals)
            self._failed_device = None
        except Exception as error:
            device_id = place.session.device_id
            with self._changed:
                alone = self._places.keys() <= {device_id}
            if alone or self._failed_device not in (None, device_id):
                raise
            self._failed_device = device_id
            _log.error(
                "device %s: its turn failed and its stream ends, the others go on: %s: %s; --verbose shows where",
                *(device_id, type(error).__name__, first_line(error)),
            )
            _log.debug("the turn of device %s", device_id, exc_info=error)
            place.outlet.send(Problem(code="internal", reason="the server failed at this device's frames, its log says why"))

    def _take_turn(self, place: _Place, arrivals: list[Arrival]) -> None:
        session = place.session
        for arrival in arrivals:
            if self._stopping:
                return
            self._ingest(place, arrival)
        if session.due and place.outlet.backlog == 0:
            self._train(session)
            trim_heap()
        with self._changed:
            self._tell(place)

    def _ingest(self, place: _Place, arrival: Arrival) -> None:
        session, batch = place.session, arrival.batch
        try:
            session.ingest(batch, place.run_id, arrived_s=arrival.time_s)
        except AmsError as error:
            _log.warning("device %s: batch %d is left out: %s", session.device_id, batch.batch_id, error)
            return
        self._events.write(
            "batch",
            device=session.device_id,
            batch_id=batch.batch_id,
            frames=len(batch.capture_times_us),
            video_codec=batch.video_codec,
            payload_bytes=batch.payload_bytes,
            sampling_hz=session.learner.sampling_hz,
        )

    def _train(self, session: EdgeSession) -> None:
        with session.lock:
            mirror = session.train(lambda: self._stopping)
            if mirror is None:
                return
            update = mirror.recent_updates[-1]
            connected = self._publish(session, mirror, update)
        if connected:
            self._on_update(session)
        age_s = session.model_age.age_s
        parts_ms = update.queue_ms, update.label_ms, update.train_ms, update.code_ms
        _log.info(
            "device %s: version %d, loss %.3f, %d parameters in %d bytes, %.2f s after the newest batch came: "
            "waited %.2f, labelled %.2f, trained %.2f, coded %.2f%s",
            *(session.device_id, update.version, update.loss, update.changed, len(update.payload)),
            *(each / 1e3 for each in (sum(parts_ms), *parts_ms)),
            "" if age_s is None else f"; the device's model is {age_s:.1f} s old",
        )
        self._events.write(
            "update",
            device=session.device_id,
            version=update.version,
            loss=update.loss,
            changed=update.changed,
            payload_bytes=len(update.payload),
            newest_capture_s=update.newest_capture_time_us / 1e6,
            queue_ms=update.queue_ms,
            label_ms=update.label_ms,
            train_ms=update.train_ms,
            code_ms=update.code_ms,
            update_interval_s=session.learner.update_interval_s,
            model_age_s=age_s,
        )

    def _publish(self, session: EdgeSession, mirror: Mirror, update: Update) -> bool:
        """Make `mirror` the session's and send what leads to it, if the device is connected; return whether it is."""
        # Together, so that a connection that is greeted meanwhile gets this update exactly once.
        with self._changed:
            session.mirror = mirror
            place = self._places.get(session.device_id)
            if place is None or place.session is not session:
                return False
            place.outlet.send(update)
            return True
