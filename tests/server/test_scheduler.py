"""The worker and its round, with sessions that do what the test tells them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests.protocol_support import CONTROL, TIMEOUT_S, Mailbox, batch, update_to, weights_of

from ams_common.clock import Clock, ManualClock, SystemClock
from ams_common.errors import CodecError
from ams_common.events import EventLog, read_events
from ams_common.layout import weights_digest
from ams_common.messages import Control, FrameBatch, Problem, ServerMessage, Update
from ams_server import scheduler as scheduler_module
from ams_server.edge_session import EdgeSession, Mirror
from ams_server.inbox import INBOX_BATCHES
from ams_server.scheduler import BEHIND_WARNING_S, Scheduler

RUN = bytes(16)


def mirror_at(version: int) -> Mirror:
    weights = weights_of(version)
    updates = (update_to(version),) if version else ()
    return Mirror(version=version, weights=weights, digest=weights_digest(weights), recent_updates=updates)


class ScriptedSession:
    """Stands for an EdgeSession: notes its turns, stops at a gate if told to, and makes opaque updates."""

    learner = SimpleNamespace(sampling_hz=1.0, update_interval_s=10.0)
    model_age = SimpleNamespace(age_s=4.25)

    def __init__(self, device_id: str = "camera-1", calls: Mailbox | None = None) -> None:
        self.device_id = device_id
        self.mirror = mirror_at(0)
        self.lock = threading.Lock()
        self.calls = calls or Mailbox()
        self.wanted = CONTROL
        self.due = False
        self.due_from = 0
        """The batch from which on an update is due."""
        self.news = 1.0
        self.bad_batch = 0
        self.arrived_s = 0.0
        self.failure: Exception | None = None
        self.undone = False
        self.at_ingest: Callable[[int], object] = lambda batch_id: None
        self.at_train: Callable[[], object] = lambda: None

    def ingest(self, batch: FrameBatch, run_id: bytes, *, arrived_s: float) -> None:
        self.arrived_s = arrived_s
        self.calls.put((self.device_id, batch.batch_id, run_id))
        self.at_ingest(batch.batch_id)
        if batch.batch_id == self.bad_batch:
            raise CodecError("damaged")
        self.due = batch.batch_id >= self.due_from

    def due_after(self, batch: FrameBatch, run_id: bytes) -> bool:
        return batch.batch_id >= self.due_from

    def news_after(self, batch: FrameBatch, run_id: bytes) -> float:
        return self.news * batch.batch_id

    def train(self, stopping: Callable[[], bool]) -> Mirror | None:
        assert not stopping()
        self.due = False
        self.at_train()
        if self.failure is not None:
            raise self.failure
        self.calls.put((self.device_id, "train"))
        return None if self.undone else mirror_at(self.mirror.version + 1)

    def control(self) -> Control:
        return self.wanted


def as_session(scripted: ScriptedSession) -> EdgeSession:
    return cast(EdgeSession, scripted)


class FakeOutlet:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent = Mailbox()
        self.backlog = 0

    def send(self, message: ServerMessage) -> None:
        self.sent.put(message)

    @property
    def versions(self) -> list[int]:
        return [item.version for item in self.sent.items if isinstance(item, Update)]


class Gate:
    """A place where the worker waits until the test has seen it there."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def pass_through(self, *_: object) -> None:
        self._reached.set()
        assert self._open.wait(TIMEOUT_S)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(TIMEOUT_S)

    def open(self) -> None:
        self._open.set()


@contextmanager
def running_scheduler(events: EventLog | None = None, clock: Clock | None = None) -> Iterator[Scheduler]:
    """Run a scheduler whose worker must not fail."""
    failures: list[BaseException] = []
    scheduler = Scheduler(events or EventLog(None, SystemClock()), failures.append, clock or SystemClock())
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()
        assert not failures


def submit(scheduler: Scheduler, session: ScriptedSession, *batch_ids: int) -> None:
    for batch_id in batch_ids:
        scheduler.submit(as_session(session), batch(batch_id))


def test_a_batch_is_labelled_then_trained_on_and_the_update_is_sent(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", SystemClock())
    session, outlet = ScriptedSession(), FakeOutlet()
    with running_scheduler(log) as scheduler:
        assert scheduler.attach(as_session(session), outlet, RUN).version == 0
        submit(scheduler, session, 1)
        outlet.sent.wait_count(Control)
    log.close()
    assert session.calls.items == [("camera-1", 1, RUN), ("camera-1", "train")]
    assert outlet.sent.items == [update_to(1), CONTROL]
    assert session.mirror.version == 1
    batch_event, update_event = read_events(tmp_path / "events.jsonl")
    assert (batch_event["event"], batch_event["device"], batch_event["video_codec"]) == ("batch", "camera-1", "h264")
    assert (update_event["event"], update_event["device"], update_event["model_age_s"]) == ("update", "camera-1", 4.25)


def test_control_is_sent_only_when_it_has_changed() -> None:
    session, outlet = ScriptedSession(), FakeOutlet()
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        for batch_id, wanted in ((1, CONTROL), (2, CONTROL), (3, replace(CONTROL, sampling_hz=0.5))):
            session.wanted = wanted
            submit(scheduler, session, batch_id)
            outlet.sent.wait_count(Update, batch_id)
        outlet.sent.wait_count(Control, 2)
    assert outlet.sent.all(Control) == [CONTROL, replace(CONTROL, sampling_hz=0.5)]


def test_budgets_that_change_while_the_worker_sends_a_control_are_what_the_device_is_told_last() -> None:
    session, changed = ScriptedSession(), replace(CONTROL, uplink_bps=20_000)
    changing = threading.Thread(target=lambda: scheduler.tell(as_session(session), outlet))

    class Outlet(FakeOutlet):
        def send(self, message: ServerMessage) -> None:
            if message == CONTROL:
                session.wanted = changed
                changing.start()
                changing.join(0.1)
                assert changing.is_alive(), "it waits for its turn"
            super().send(message)

    outlet = Outlet()
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        outlet.sent.wait_count(Control, 2)
        changing.join(TIMEOUT_S)
    assert outlet.sent.all(Control) == [CONTROL, changed]


def test_what_a_device_was_told_at_once_is_not_told_again_by_the_worker() -> None:
    session, outlet, changed = ScriptedSession(), FakeOutlet(), replace(CONTROL, uplink_bps=20_000)
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        outlet.sent.wait_count(Control)
        session.wanted = changed
        for _ in range(2):
            scheduler.tell(as_session(session), outlet)
        for batch_id in (2, 3):
            submit(scheduler, session, batch_id)
            outlet.sent.wait_count(Update, batch_id)
    assert outlet.sent.all(Control) == [CONTROL, changed]


def test_a_device_that_is_not_in_the_round_yet_is_told_too() -> None:
    session, older, newer = ScriptedSession(), FakeOutlet(), FakeOutlet()
    scheduler = Scheduler(EventLog(None, SystemClock()), lambda error: None, SystemClock())
    scheduler.attach(as_session(session), older, RUN)
    scheduler.tell(as_session(session), newer)
    assert (older.sent.items, newer.sent.items) == ([], [CONTROL])


def test_a_batch_that_cannot_be_used_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    session, outlet, gate = ScriptedSession(), FakeOutlet(), Gate()
    session.bad_batch = 2
    session.at_ingest = lambda batch_id: gate.pass_through() if batch_id == 1 else None
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        gate.wait_until_reached()
        submit(scheduler, session, 2, 3)
        gate.open()
        outlet.sent.wait_count(Update, 2)
    assert [call[1] for call in calls_of(session)] == [1, "train", 2, 3, "train"]
    assert "batch 2 is left out: damaged" in caplog.text


def calls_of(session: ScriptedSession) -> list[tuple[object, ...]]:
    return [item for item in session.calls.items if isinstance(item, tuple)]


def test_a_phase_that_was_undone_sends_nothing() -> None:
    session, outlet = ScriptedSession(), FakeOutlet()
    session.undone = True
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        outlet.sent.wait_count(Control)
    assert (outlet.versions, session.mirror.version) == ([], 0)


def test_a_device_that_waits_for_bytes_is_labelled_but_not_trained() -> None:
    session, outlet = ScriptedSession(), FakeOutlet()
    outlet.backlog = 3
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        outlet.sent.wait_count(Control)
        assert calls_of(session) == [("camera-1", 1, RUN)]
        outlet.backlog = 0
        submit(scheduler, session, 2)
        outlet.sent.wait_count(Update)


def test_a_full_inbox_drops_the_oldest_batch(caplog: pytest.LogCaptureFixture) -> None:
    session, outlet, gate = ScriptedSession(), FakeOutlet(), Gate()
    session.at_ingest = gate.pass_through
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        gate.wait_until_reached()
        submit(scheduler, session, *range(2, INBOX_BATCHES + 4))
        gate.open()
        outlet.sent.wait_count(Update, 2)
    assert [call[1] for call in calls_of(session) if call[1] != "train"] == [1, *range(4, INBOX_BATCHES + 4)]
    assert caplog.messages == ["device camera-1: the server is behind, batches dropped so far: 1"]


def test_a_server_that_stays_behind_says_so_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    session, outlet, gate, clock = ScriptedSession(), FakeOutlet(), Gate(), ManualClock()
    session.at_ingest = gate.pass_through
    with running_scheduler(clock=clock) as scheduler:
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        gate.wait_until_reached()
        for time_s in (0.0, BEHIND_WARNING_S - 1, BEHIND_WARNING_S):
            clock.advance_to(time_s)
            submit(scheduler, session, *range(2, 22))
        gate.open()
        outlet.sent.wait_count(Update, 2)
    first = 20 - INBOX_BATCHES
    assert [int(message.rpartition(" ")[2]) for message in caplog.messages] == [1, first + 21]


def test_devices_take_turns() -> None:
    calls, gate = Mailbox(), Gate()
    sessions = {name: ScriptedSession(name, calls) for name in "abc"}
    outlets = {name: FakeOutlet() for name in "abc"}
    sessions["a"].at_ingest = gate.pass_through
    with running_scheduler() as scheduler:
        for name, session in sessions.items():
            scheduler.attach(as_session(session), outlets[name], RUN)
        submit(scheduler, sessions["a"], 1)
        gate.wait_until_reached()
        submit(scheduler, sessions["b"], 1)
        submit(scheduler, sessions["a"], 2)
        submit(scheduler, sessions["c"], 1)
        submit(scheduler, sessions["b"], 2)
        gate.open()
        outlets["c"].sent.wait_count(Update)
    assert [(name, what) for name, what, *_ in cast("list[tuple[str, object]]", calls.items)] == [
        *(("a", 1), ("a", "train"), ("b", 1), ("b", 2), ("b", "train")),
        *(("a", 2), ("a", "train"), ("c", 1), ("c", "train")),
    ]


def test_of_the_updates_that_are_due_the_one_with_most_to_teach_comes_first() -> None:
    calls, gate = Mailbox(), Gate()
    sessions = {name: ScriptedSession(name, calls) for name in "abcd"}
    outlets = {name: FakeOutlet() for name in "abcd"}
    sessions["a"].at_ingest = gate.pass_through
    sessions["c"].news = 2.0
    sessions["d"].due_from, sessions["d"].news = 100, 50.0
    with running_scheduler() as scheduler:
        for name, session in sessions.items():
            scheduler.attach(as_session(session), outlets[name], RUN)
        submit(scheduler, sessions["a"], 1)
        gate.wait_until_reached()
        for name in "dbc":
            submit(scheduler, sessions[name], 1)
        submit(scheduler, sessions["a"], 4)
        gate.open()
        outlets["d"].sent.wait_count(Control)
    trained = [name for name, what in worked(calls) if what == "train"]
    assert trained == ["a", "a", "c", "b"], "by all that waits of a device; one that is not due waits"
    assert worked(calls)[-1] == ("d", 1)


def test_nobody_waits_for_ever_behind_devices_that_have_more_to_teach() -> None:
    clock, calls = ManualClock(), Mailbox()
    scheduler = Scheduler(EventLog(None, clock), lambda error: None, clock)
    sessions = {name: ScriptedSession(name, calls) for name in ("calm", "busy-1", "busy-2")}
    for session in sessions.values():
        scheduler.attach(as_session(session), FakeOutlet(), RUN)
        submit(scheduler, session, 1)
    sessions["calm"].news = 0.1
    for _ in range(60):
        assert scheduler.run_turn()
        clock.sleep(1.0)
        for session in sessions.values():
            submit(scheduler, session, 1)
    trained = [name for name, what in worked(calls) if what == "train"]
    waits = [len(part) for part in "".join(name[0] for name in trained).split("c")]
    assert max(waits) <= 25, "a tenth of the news takes ten times the wait of the two others"
    assert trained.count("calm") >= 3


def worked(calls: Mailbox) -> list[tuple[str, object]]:
    return [(name, what) for name, what, *_ in cast("list[tuple[str, object]]", calls.items)]


def test_an_update_waits_for_one_batch_of_another_device_and_no_more() -> None:
    calls, gate = Mailbox(), Gate()
    sessions = {name: ScriptedSession(name, calls) for name in "abc"}
    outlets = {name: FakeOutlet() for name in "abc"}
    sessions["a"].at_ingest = lambda batch_id: gate.pass_through() if batch_id == 1 else None
    sessions["a"].due_from = sessions["b"].due_from = 100
    with running_scheduler() as scheduler:
        for name, session in sessions.items():
            scheduler.attach(as_session(session), outlets[name], RUN)
        submit(scheduler, sessions["a"], 1)
        gate.wait_until_reached()
        submit(scheduler, sessions["a"], 2, 3)
        submit(scheduler, sessions["b"], 1, 2)
        submit(scheduler, sessions["c"], 1, 2)
        gate.open()
        calls.wait_count(tuple, 8)
    labels_of_others = [("a", 2), ("b", 1), ("a", 3), ("b", 2)]
    assert worked(calls) == [("a", 1), ("c", 1), ("c", 2), ("c", "train"), *labels_of_others]


def test_a_device_that_cannot_be_trained_yet_does_not_go_first() -> None:
    calls, gate = Mailbox(), Gate()
    sessions = {name: ScriptedSession(name, calls) for name in "abc"}
    outlets = {name: FakeOutlet() for name in "abc"}
    sessions["a"].at_ingest = gate.pass_through
    outlets["b"].backlog = 1
    with running_scheduler() as scheduler:
        for name, session in sessions.items():
            scheduler.attach(as_session(session), outlets[name], RUN)
        submit(scheduler, sessions["a"], 1)
        gate.wait_until_reached()
        submit(scheduler, sessions["b"], 1)
        submit(scheduler, sessions["c"], 1)
        gate.open()
        outlets["b"].sent.wait_count(Control)
    assert worked(calls) == [("a", 1), ("a", "train"), ("c", 1), ("c", "train"), ("b", 1)]


def test_an_update_under_way_goes_to_the_connection_that_has_taken_over() -> None:
    session, old, new, gate = ScriptedSession(), FakeOutlet(), FakeOutlet(), Gate()
    session.at_train = gate.pass_through
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), old, RUN)
        submit(scheduler, session, 1)
        gate.wait_until_reached()
        scheduler.detach(as_session(session), old)
        assert scheduler.attach(as_session(session), new, RUN).version == 0
        gate.open()
        new.sent.wait_count(Update)
        assert scheduler.attach(as_session(session), FakeOutlet(), RUN).version == 1
    assert (old.versions, new.versions) == ([], [1])


def test_an_update_under_way_is_not_sent_to_a_device_that_has_started_afresh() -> None:
    session, afresh, gate = ScriptedSession(), ScriptedSession(), Gate()
    old, new = FakeOutlet(), FakeOutlet()
    session.at_train = gate.pass_through
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(session), old, RUN)
        submit(scheduler, session, 1)
        gate.wait_until_reached()
        scheduler.attach(as_session(afresh), new, RUN)
        gate.open()
        submit(scheduler, afresh, 1)
        new.sent.wait_count(Control)
    assert new.sent.items == [update_to(1), CONTROL], "version 1 of its own session, once"
    assert old.versions == []


def test_whoever_connects_while_phases_run_gets_every_update_exactly_once() -> None:
    session = ScriptedSession()
    outlets: list[tuple[int, FakeOutlet]] = []
    with running_scheduler() as scheduler:
        for batch_id in range(1, 200):
            outlet = FakeOutlet()
            outlets.append((scheduler.attach(as_session(session), outlet, RUN).version, outlet))
            submit(scheduler, session, batch_id)
            if batch_id % 3 == 0:
                outlet.sent.wait_count(Control)
    assert session.mirror.version > 60
    ends = [version for version, _ in outlets[1:]] + [session.mirror.version]
    for (version, outlet), end in zip(outlets, ends, strict=True):
        assert outlet.versions == list(range(version + 1, end + 1))


def test_what_waits_of_a_device_that_left_waits_for_it_and_an_older_connection_takes_nothing() -> None:
    gate, first, second = Gate(), ScriptedSession("a"), ScriptedSession("b")
    old, new = FakeOutlet(), FakeOutlet()
    first.at_ingest = gate.pass_through
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(first), old, RUN)
        submit(scheduler, first, 1)
        gate.wait_until_reached()
        scheduler.attach(as_session(second), old, RUN)
        submit(scheduler, second, 1)
        scheduler.detach(as_session(second), old)
        submit(scheduler, second, 2)
        scheduler.attach(as_session(second), new, RUN)
        scheduler.detach(as_session(second), old)
        submit(scheduler, second, 3)
        gate.open()
        new.sent.wait_count(Update)
    assert calls_of(second) == [("b", 1, RUN), ("b", 3, RUN), ("b", "train")]


def batches_after_a_break(returning: ScriptedSession | None, run_id: bytes) -> list[object]:
    """Let a device leave with two batches waiting and come back; return the batches that are labelled."""
    gate, busy, session = Gate(), ScriptedSession("busy"), ScriptedSession("b")
    old, outlet = FakeOutlet(), FakeOutlet()
    busy.at_ingest = gate.pass_through
    back = returning or session
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(busy), FakeOutlet(), RUN)
        submit(scheduler, busy, 1)
        gate.wait_until_reached()
        scheduler.attach(as_session(session), old, RUN)
        submit(scheduler, session, 1, 2)
        scheduler.detach(as_session(session), old)
        scheduler.attach(as_session(back), outlet, run_id)
        gate.open()
        if back is not session or run_id != RUN:
            submit(scheduler, back, 3)
        outlet.sent.wait_count(Update)
    return [call[1] for call in (*calls_of(session), *(calls_of(back) if back is not session else [])) if call[1] != "train"]


def test_batches_that_were_acknowledged_are_labelled_when_the_device_is_back() -> None:
    assert batches_after_a_break(None, RUN) == [1, 2]


def test_batches_of_another_run_or_session_are_not() -> None:
    assert batches_after_a_break(None, bytes([1] * 16)) == [3]
    assert batches_after_a_break(ScriptedSession("b"), RUN) == [3]


def test_the_batches_of_the_device_that_was_away_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "KEPT_INBOXES", 1)
    scheduler = Scheduler(EventLog(None, SystemClock()), lambda error: None, SystemClock())
    sessions = {name: ScriptedSession(name) for name in "ab"}
    outlet = FakeOutlet()
    for session in sessions.values():
        scheduler.attach(as_session(session), outlet, RUN)
        submit(scheduler, session, 1)
        scheduler.detach(as_session(session), outlet)
    for session in sessions.values():
        scheduler.attach(as_session(session), outlet, RUN)
    scheduler.start()
    outlet.sent.wait_count(Update)
    scheduler.stop()
    assert [len(calls_of(session)) for session in sessions.values()] == [0, 2]


def test_a_snapshot_is_of_the_newest_mirror_and_what_follows_fits_it() -> None:
    session, outlet = ScriptedSession(), FakeOutlet()
    encoded: list[int] = []

    def encode(mirror: Mirror) -> Sequence[ServerMessage]:
        encoded.append(mirror.version)
        if mirror.version == 0:
            session.mirror = mirror_at(1)  # a phase has ended meanwhile
        return [CONTROL]

    scheduler = Scheduler(EventLog(None, SystemClock()), lambda error: None, SystemClock())
    scheduler.send_snapshot(as_session(session), outlet, encode)
    assert encoded == [0, 1]
    assert outlet.sent.items == [CONTROL]


def test_the_first_failure_of_the_worker_is_reported_and_it_can_be_stopped_from_there() -> None:
    failures = Mailbox()

    def on_failure(error: BaseException) -> None:
        scheduler.stop()
        failures.put(error)

    scheduler = Scheduler(EventLog(None, SystemClock()), on_failure, SystemClock())
    session = ScriptedSession()
    session.failure = MemoryError("no room")
    scheduler.attach(as_session(session), FakeOutlet(), RUN)
    scheduler.start()
    submit(scheduler, session, 1)
    failures.wait_count(MemoryError)
    scheduler.stop()


def test_a_turn_that_fails_ends_the_stream_of_its_device_and_the_others_are_served_on(caplog: pytest.LogCaptureFixture) -> None:
    healthy, healthy_outlet = ScriptedSession("a"), FakeOutlet()
    poor, poor_outlet = ScriptedSession("b"), FakeOutlet()
    poor.failure = IndexError("index 7\nand more")
    with running_scheduler() as scheduler:
        scheduler.attach(as_session(healthy), healthy_outlet, RUN)
        scheduler.attach(as_session(poor), poor_outlet, RUN)
        for count in (1, 2):  # the same device may fail again
            submit(scheduler, poor, count)
            poor_outlet.sent.wait_count(Problem, count)
        submit(scheduler, healthy, 1)
        healthy_outlet.sent.wait_count(Update)
    assert [message.code for message in poor_outlet.sent.items if isinstance(message, Problem)] == ["internal"] * 2
    assert not any(isinstance(message, Problem) for message in healthy_outlet.sent.items)
    assert "device b: its turn failed and its stream ends, the others go on: IndexError: index 7;" in caplog.text


@pytest.mark.parametrize(("between", "ends"), [(False, True), (True, False)])
def test_failures_of_two_devices_in_a_row_are_the_servers_own(between: bool, ends: bool) -> None:
    failures = Mailbox()
    scheduler = Scheduler(EventLog(None, SystemClock()), failures.put, SystemClock())
    sessions = {name: ScriptedSession(name) for name in "abc"}
    outlets = {name: FakeOutlet() for name in sessions}
    for name, session in sessions.items():
        session.failure = None if name == "c" else RuntimeError(f"{name}: the accelerator is gone")
        scheduler.attach(as_session(session), outlets[name], RUN)
    scheduler.start()
    submit(scheduler, sessions["a"], 1)
    outlets["a"].sent.wait_count(Problem)
    if between:
        submit(scheduler, sessions["c"], 1)
        outlets["c"].sent.wait_count(Control)  # the last thing of its turn
    submit(scheduler, sessions["b"], 1)
    (failures if ends else outlets["b"].sent).wait_count(RuntimeError if ends else Problem)
    scheduler.stop()
    assert len(failures.items) == ends


def test_a_stop_may_come_twice_and_before_the_start() -> None:
    scheduler = Scheduler(EventLog(None, SystemClock()), lambda error: None, SystemClock())
    scheduler.stop()
    scheduler.start()
    scheduler.stop()
    scheduler.stop()
    assert "worker" not in {thread.name for thread in threading.enumerate()}


def test_who_keeps_sessions_is_told_of_the_new_mirror_of_a_connected_device() -> None:
    told = Mailbox()

    def on_update(session: EdgeSession) -> None:
        assert not session.lock.locked()
        told.put((session.device_id, session.mirror.version))

    scheduler = Scheduler(EventLog(None, SystemClock()), lambda error: None, SystemClock(), on_update)
    session, outlet = ScriptedSession(), FakeOutlet()
    session.at_train = lambda: session.lock.locked() or pytest.fail("trained without the lock")
    scheduler.start()
    scheduler.attach(as_session(session), outlet, RUN)
    submit(scheduler, session, 1)
    outlet.sent.wait_count(Control)
    session.at_train = lambda: scheduler.detach(as_session(session), outlet)
    submit(scheduler, session, 2)
    session.calls.wait_count(tuple, 4)
    scheduler.stop()
    assert told.items == [("camera-1", 1)]
    assert session.mirror.version == 2, "it is kept when its device has left"
