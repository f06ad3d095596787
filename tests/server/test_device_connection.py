"""One connected device, with a worker whose turns the test takes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from tests.server.session_support import UNLIMITED, colour_batch, small_model, small_session

from ams_common.clock import ManualClock
from ams_common.events import EventLog
from ams_common.framing import CONNECTION_BYTES, UPKEEP_BPS
from ams_common.layout import weights_digest
from ams_common.messages import (
    Applied,
    Budget,
    Control,
    HeldModel,
    Hello,
    ModelChunk,
    ServerMessage,
    SnapshotHeader,
    Update,
    Welcome,
)
from ams_common.session.greeting import chunk_size, starting_point
from ams_common.session.server import AppliedReported, BatchArrived, BudgetWanted, RefusedError, SnapshotWanted
from ams_server.device_budget import Allotted, DeviceBudget
from ams_server.device_connection import DeviceConnection
from ams_server.edge_session import EdgeSession
from ams_server.scheduler import Scheduler
from ams_server.students.export import student_vector

HELLO = Hello(device_id="camera-1", run_id=bytes(16), codecs=("delta-rans",))
START = student_vector(small_model().module)
POINT = starting_point(small_model().manifest, small_model().graph, START)
ASKED = DeviceBudget(uplink_bps=200_000, downlink_bps=100_000)


class Outlet:
    """Keeps what is sent."""

    backlog = 0

    def __init__(self) -> None:
        self.sent: list[ServerMessage] = []

    def send(self, message: ServerMessage) -> None:
        self.sent.append(message)

    @property
    def updates(self) -> list[Update]:
        return [message for message in self.sent if isinstance(message, Update)]


class Server:
    """The session of one device, and the connections that it has one after the other."""

    def __init__(self, budget: DeviceBudget = UNLIMITED) -> None:
        self.clock = ManualClock(100.0)
        self.scheduler = Scheduler(EventLog(None, self.clock), lambda error: None, self.clock)
        self.session = small_session(clock=self.clock, budget=budget, steps=1)
        self.left: list[EdgeSession] = []
        self.asked: list[tuple[str, Budget]] = []
        self.refusal: RefusedError | None = None
        self._batches = 0

    def connect(self, hello: Hello = HELLO) -> tuple[DeviceConnection, Outlet]:
        outlet = Outlet()
        connection = DeviceConnection(
            self.session,
            POINT,
            hello,
            outlet,
            scheduler=self.scheduler,
            clock=self.clock,
            on_close=self.left.append,
            on_ask=self._ask,
        )
        return connection, outlet

    def greeted(self, hello: Hello = HELLO) -> tuple[DeviceConnection, Outlet]:
        connection, outlet = self.connect(hello)
        connection.greeting()
        return connection, outlet

    def learn(self, connection: DeviceConnection) -> bool:
        """Deliver a batch ten seconds after the last one and take the turn that it leads to; False when there is none."""
        self._batches += 1
        connection.deliver(BatchArrived(batch=colour_batch(self._batches, 10.0 * self._batches)))
        return self.scheduler.run_turn()

    def holding(self) -> Hello:
        """Return the hello of a device that runs what the server has sent, and keeps the starting weights."""
        mirror, manifest = self.session.mirror, small_model().manifest
        held = HeldModel(bundle_digest=manifest.bundle_digest, version=mirror.version, weights_digest=mirror.digest)
        return replace(HELLO, held=held, graphs=(manifest.graph_digest,), weights=(mirror.digest, weights_digest(START)))

    def _ask(self, device_id: str, budget: Budget) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((device_id, budget))


def kinds(messages: Sequence[object]) -> list[type]:
    return [type(message) for message in messages]


def headers(messages: Sequence[ServerMessage]) -> list[SnapshotHeader]:
    return [message for message in messages if isinstance(message, SnapshotHeader)]


def want_snapshot(connection: DeviceConnection) -> None:
    """Deliver the wish for a snapshot, and wait until the thread that grants it has ended."""

    async def wish() -> None:
        connection.deliver(SnapshotWanted(reason="bad digest"))
        assert connection._snapshot is not None
        await connection._snapshot

    asyncio.run(wish())


def test_from_its_greeting_on_a_device_gets_every_update_once() -> None:
    server = Server()
    connection, outlet = server.connect()
    assert not server.learn(connection), "a batch of before the greeting has nobody to teach"
    welcome, *model = connection.greeting()
    assert isinstance(welcome, Welcome)
    assert welcome.control == server.session.control()
    assert [header.weights_digest for header in headers(model)] == [weights_digest(START)]
    for _ in range(2):
        assert server.learn(connection)
    assert [update.version for update in outlet.updates] == [1, 2]
    assert outlet.updates[0].base_digest == weights_digest(START)


def test_what_was_learnt_before_is_in_the_greeting_and_never_sent_again() -> None:
    server = Server()
    earlier, outlet = server.greeted()
    server.learn(earlier)
    hello = server.holding()
    server.learn(earlier)
    earlier.close()
    connection, later = server.connect(hello)
    assert connection.greeting()[1:] == [outlet.updates[1]]
    server.learn(connection)
    assert [update.version for update in later.updates] == [3]


@pytest.mark.parametrize("held_bps", [40_000, 400_000])
def test_chunks_are_as_large_as_what_holds_allows_not_what_was_asked(held_bps: int) -> None:
    server = Server(DeviceBudget(uplink_bps=400_000, downlink_bps=held_bps))
    connection, _ = server.connect(replace(HELLO, downlink_bps=100_000))
    sizes = [len(message.data) for message in connection.greeting() if isinstance(message, ModelChunk)]
    assert max(sizes) == chunk_size(held_bps) != chunk_size(100_000)


def test_a_change_of_the_budget_holds_at_once_and_is_told_once() -> None:
    server = Server(ASKED)
    connection, outlet = server.greeted()
    less = replace(ASKED, downlink_bps=50_000)
    for _ in range(2):
        connection.change_budget(Allotted(budget=less, downlink_bound="share"))
    assert server.session.budget == less
    assert connection.downlink.bps == 50_000 - UPKEEP_BPS
    server.learn(connection)
    controls = [message for message in outlet.sent if isinstance(message, Control)]
    assert [(each.uplink_bps, each.downlink_bps) for each in controls if each == controls[0]] == [(200_000, 50_000)]
    assert (controls[0].uplink_bound, controls[0].downlink_bound) == ("unspecified", "share")


def test_a_change_of_the_budget_before_the_greeting_is_told_too() -> None:
    server = Server(ASKED)
    connection, outlet = server.connect()
    connection.change_budget(Allotted(budget=replace(ASKED, uplink_bps=60_000), uplink_bound="cap"))
    (control,) = outlet.sent
    assert isinstance(control, Control)
    assert (control.uplink_bps, control.uplink_bound) == (60_000, "cap")


def test_what_is_used_counts_from_the_connection_on() -> None:
    server = Server(ASKED)
    server.session.spending.downlink.spend(5000 + CONNECTION_BYTES)
    connection, _ = server.connect()
    connection.downlink.spend(700)
    connection.count_received(300)
    connection.count_received(20)
    server.clock.sleep(12.5)
    state = connection.state(ASKED, Allotted(budget=replace(ASKED, uplink_bps=50_000)), UNLIMITED)
    assert (state.uplink_bytes, state.downlink_bytes, state.connected_s) == (320, CONNECTION_BYTES + 700, 12.5)
    assert (state.asked.uplink_bps, state.held.budget.uplink_bps, state.device_id) == (200_000, 50_000, "camera-1")


def test_the_age_is_that_of_the_version_that_the_device_reports() -> None:
    server = Server()
    connection, outlet = server.greeted()

    def age_s() -> float | None:
        return connection.state(UNLIMITED, Allotted(budget=UNLIMITED), UNLIMITED).model_age_s

    def report(version: int) -> None:
        applied = Applied(version=version, weights_digest=bytes(16), build_time_ms=1.0)
        connection.deliver(AppliedReported(applied=applied))

    for _ in range(2):
        server.learn(connection)
    assert [update.newest_capture_time_us for update in outlet.updates] == [10_000_000, 20_000_000]
    report(7)
    assert age_s() is None, "of a version that was never made nothing is known"
    report(1)
    assert age_s() == 10.0
    server.clock.sleep(1.5)
    assert age_s() == 11.5
    report(2)
    assert age_s() == 1.5


def test_the_age_goes_on_when_the_device_connects_again_and_not_when_it_was_started_again() -> None:
    server = Server()
    connection, _ = server.greeted()
    server.learn(connection)
    connection.deliver(AppliedReported(applied=Applied(version=1, weights_digest=bytes(16), build_time_ms=1.0)))
    connection.close()
    server.clock.sleep(2.0)
    again, _ = server.greeted(server.holding())
    assert again.state(UNLIMITED, Allotted(budget=UNLIMITED), UNLIMITED).model_age_s == 2.0
    again.close()
    restarted, _ = server.greeted(replace(server.holding(), run_id=bytes([1] * 16)))
    assert restarted.state(UNLIMITED, Allotted(budget=UNLIMITED), UNLIMITED).model_age_s is None


def test_a_wish_for_other_budgets_is_handed_on_and_its_refusal_ends_the_stream() -> None:
    server = Server()
    connection, _ = server.greeted()
    wish = BudgetWanted(budget=Budget(uplink_bps=50_000, downlink_bps=0))
    connection.deliver(wish)
    assert server.asked == [("camera-1", wish.budget)]
    server.refusal = RefusedError("budget_too_small", "carries nothing")
    with pytest.raises(RefusedError, match="carries nothing"):
        connection.deliver(wish)


def test_a_snapshot_builds_on_the_starting_weights_once_the_device_has_them() -> None:
    server = Server()
    connection, outlet = server.connect(replace(server.holding(), weights=()))
    assert kinds(connection.greeting()) == [Welcome], "its weights are those of the server"
    server.learn(connection)
    outlet.sent.clear()
    want_snapshot(connection)
    assert [header.base_digest for header in headers(outlet.sent)] == [b"", weights_digest(START)]
    outlet.sent.clear()
    want_snapshot(connection)
    assert [header.base_digest for header in headers(outlet.sent)] == [weights_digest(START)]
    server.learn(connection)
    assert outlet.updates[0].base_digest == server.session.mirror.recent_updates[0].base_digest
    assert headers(outlet.sent)[0].weights_digest == outlet.updates[0].base_digest


def test_a_device_that_was_greeted_with_the_starting_weights_has_them() -> None:
    server = Server()
    connection, outlet = server.greeted()
    server.learn(connection)
    outlet.sent.clear()
    want_snapshot(connection)
    assert [header.base_digest for header in headers(outlet.sent)] == [weights_digest(START)]


def test_a_device_that_has_left_is_out_of_the_round_and_its_session_is_kept() -> None:
    server = Server()
    connection, outlet = server.greeted()
    connection.close()
    assert server.left == [server.session]
    assert not server.learn(connection)
    assert not outlet.updates


@pytest.mark.parametrize("late", [DeviceConnection.greeting, want_snapshot])
def test_what_comes_late_of_a_stream_that_has_ended_changes_nothing_for_the_next_one(
    late: Callable[[DeviceConnection], object],
) -> None:
    server = Server()
    older, old_outlet = server.greeted()
    server.learn(older)
    older.close()
    newer, outlet = server.greeted(server.holding())
    old_outlet.sent.clear()
    late(older)
    server.learn(newer)
    assert [(update.base_version, update.version) for update in outlet.updates] == [(1, 2)]
    assert not old_outlet.sent
