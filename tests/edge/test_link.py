"""The link over a real socket, against the real service with a scripted backend."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from pydantic import ValidationError
from tests.protocol_support import (
    CONTROL,
    GRAPH,
    GRAPH_FRAME,
    MANIFEST,
    TIMEOUT_S,
    FakeBackend,
    Mailbox,
    batch,
    held,
    hello_of,
    holdings,
    offer,
    running_server,
    update_to,
    weights_of,
)

from ams_common.budget import Allowance, TokenBucket, allowance
from ams_common.clock import ManualClock, SystemClock
from ams_common.errors import AmsError, ConfigurationError
from ams_common.framing import CONNECTION_BYTES
from ams_common.messages import MAX_BATCH_BYTES, Applied, Budget, Hello
from ams_common.session.client import (
    BatchTaken,
    ClientEvent,
    ClientSession,
    ControlChanged,
    Disconnected,
    Draining,
    ModelReceived,
    ProblemReported,
    SnapshotAnnounced,
    SnapshotReceived,
    UpdateReceived,
)
from ams_common.session.holdings import Holdings
from ams_common.session.server import AppliedReported, BatchArrived, BudgetWanted, EdgeDraining, RefusedError, SnapshotWanted
from ams_common.wire import server_message_to_proto
from ams_edge import link as link_module
from ams_edge.link import LONGEST_RETRY_S, UNEXPLAINED_TRIES, Link, LinkConfig, retry_pause_s
from ams_server.device_stream import Connection
from ams_server.service import Outlet


class Impatient(Random):
    """Retries come at once."""

    def uniform(self, a: float, b: float) -> float:
        return 0.05


@contextmanager
def running_link(
    port: int,
    make_hello: Callable[[], Hello] = hello_of,
    uplink: TokenBucket | None = None,
    outbox_s: float = 20.0,
    kept: Holdings | None = None,
) -> Iterator[tuple[Link, Mailbox]]:
    events = Mailbox()
    link = Link(
        LinkConfig(server=f"127.0.0.1:{port}", outbox_s=outbox_s),
        make_hello=make_hello,
        holdings=lambda: kept or Holdings(),
        on_event=events.put,
        uplink=uplink or TokenBucket(Allowance(bps=0, burst_bytes=1), SystemClock()),
        clock=ManualClock(),
        random=Impatient(0),
    )
    link.start()
    try:
        yield link, events
    finally:
        link.stop()
        assert not link.alive
        assert link.failure is None


def test_a_new_device_gets_the_model_and_both_sides_talk() -> None:
    backend = FakeBackend(offer(3))
    with running_server(backend) as server, running_link(server.port) as (link, events):
        events.wait_count(SnapshotReceived)
        control, model, announced, snapshot = events.items[:4]
        assert control == ControlChanged(control=CONTROL)
        assert model == ModelReceived(manifest=MANIFEST, graph=GRAPH, codec="gap-zstd")
        assert isinstance(announced, SnapshotAnnounced)
        assert isinstance(snapshot, SnapshotReceived)
        assert announced.version == snapshot.version == 3
        np.testing.assert_array_equal(snapshot.vector, weights_of(3))
        assert link.connected

        link.send_batch(batch(1))
        events.wait_for(lambda items: BatchTaken(batch_id=1) in items)
        connection = backend.connection()
        connection.outlet.send(update_to(4))
        events.wait_for(lambda items: UpdateReceived(update=update_to(4)) in items)
        applied = Applied(version=4, weights_digest=update_to(4).result_digest, build_time_ms=20.0)
        link.send_applied(applied)
        link.request_snapshot("for a test")
        connection.events.wait_count(AppliedReported)
        assert connection.events.items[:2] == [BatchArrived(batch=batch(1)), AppliedReported(applied=applied)]
        assert link.traffic.sent_bytes > 1000
        assert link.traffic.received_bytes > len(GRAPH_FRAME)


def test_a_device_that_has_everything_gets_nothing_and_one_that_missed_updates_gets_these() -> None:
    updates = [update_to(2), update_to(3)]
    backend = FakeBackend(offer(3, updates))
    with running_server(backend) as server:
        with running_link(server.port, lambda: hello_of(holds=held(3)), kept=holdings(3)) as (_, events):
            events.wait_count(ModelReceived)
            backend.connection(0).outlet.send(update_to(4))
            events.wait_count(UpdateReceived)
        assert events.items == [
            ControlChanged(control=CONTROL),
            ModelReceived(manifest=MANIFEST, graph=GRAPH, codec="gap-zstd"),
            UpdateReceived(update=update_to(4)),
        ]
        with running_link(server.port, lambda: hello_of(holds=held(1)), kept=holdings(1)) as (_, events):
            events.wait_count(UpdateReceived, 2)
        assert [event.update for event in events.items if isinstance(event, UpdateReceived)] == updates


def test_a_server_that_goes_and_comes_back_is_found_again_and_gets_what_it_has_not_acknowledged() -> None:
    versions = [None, held(5), held(5)]
    hellos: list[Hello] = []

    def make_hello() -> Hello:
        hellos.append(hello_of(holds=versions[min(len(hellos), 2)]))
        return hellos[-1]

    first, second = FakeBackend(offer(5)), FakeBackend(offer(6, [update_to(6)]))
    with running_server(first) as server:
        port = server.port
        with running_link(port, make_hello) as (link, events):
            events.wait_count(SnapshotReceived)
            server.stop()
            events.wait_count(Disconnected)
            assert isinstance(next(event for event in events.items if isinstance(event, Draining | Disconnected)), Draining)
            link.send_batch(batch(1))
            link.send_batch(batch(2))
            with running_server(second, port=port):
                events.wait_for(lambda items: BatchTaken(batch_id=2) in items)
                events.wait_count(UpdateReceived)
                assert second.connection().hello.held == held(5)
                second.connection().events.wait_count(BatchArrived, 2)
                taken = second.connection().events.all(BatchArrived)
                assert taken == [BatchArrived(batch=batch(1)), BatchArrived(batch=batch(2))]
            assert len(events.all(SnapshotReceived)) == 1


def test_a_snapshot_goes_on_where_the_connection_broke_off() -> None:
    hello = replace(hello_of(), downlink_bps=8 * 4096)  # chunks of 4096 bytes
    slow, fast = FakeBackend(offer(5), downlink_bps=8, burst_bytes=len(GRAPH_FRAME) + 10_000), FakeBackend(offer(5))
    clock = SystemClock()
    with running_server(slow) as server:
        port = server.port
        with running_link(port, lambda: hello) as (link, events):
            deadline_s = clock.now_s() + TIMEOUT_S
            while link._incoming.partial is None:
                assert clock.now_s() < deadline_s
            server.stop()
            with running_server(fast, port=port):
                events.wait_count(SnapshotReceived)
            partial = fast.connection().hello.partial
    first, second = (event.encoded_bytes for event in events.items if isinstance(event, SnapshotAnnounced))
    assert partial is not None
    assert 4096 <= partial.received_bytes == first - second
    (snapshot,) = events.all(SnapshotReceived)
    assert isinstance(snapshot, SnapshotReceived)
    np.testing.assert_array_equal(snapshot.vector, weights_of(5))


def test_a_server_that_is_not_there_is_reported_once_and_tried_again() -> None:
    hellos = Mailbox()

    def make_hello() -> Hello:
        hellos.put(hello_of())
        return hello_of()

    with running_server(FakeBackend(offer(0))) as server:
        free_port = server.port
    with running_link(free_port, make_hello) as (link, events):
        hellos.wait_count(Hello, 3)
        assert not link.connected
        (event,) = events.items
    assert isinstance(event, Disconnected)
    assert f"127.0.0.1:{free_port}" in event.reason


def test_a_budget_that_changes_takes_effect_at_once_and_is_told_to_the_server() -> None:
    clock = ManualClock()
    uplink = TokenBucket(allowance(5_000), clock)
    backend = FakeBackend(offer(0))
    with running_server(backend) as server, running_link(server.port, uplink=uplink) as (link, events):
        events.wait_count(SnapshotReceived)
        received = backend.connection().events
        uplink.spend(100_000)
        link.send_batch(batch(1, 10_000))
        link.change_budget(Budget(uplink_bps=10_000_000, downlink_bps=0))
        link.hold(Budget(uplink_bps=10_000_000, downlink_bps=0))
        clock.sleep(3.0)  # the debt, and the reserve of two seconds
        received.wait_count(BatchArrived)
        received.wait_count(BudgetWanted)
        assert received.all(BudgetWanted) == [BudgetWanted(budget=Budget(uplink_bps=10_000_000, downlink_bps=0))]


def test_of_budgets_that_change_quickly_the_newest_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_edge.link.BUDGET_INTERVAL_S", 3600.0)
    wishes = [Budget(uplink_bps=1_000_000 + index, downlink_bps=0) for index in range(3)]
    backend = FakeBackend(offer(0))
    with running_server(backend) as server, running_link(server.port) as (link, events):
        events.wait_count(SnapshotReceived)
        received = backend.connection().events
        for wish in wishes:
            link.change_budget(wish)
            received.wait_count(BudgetWanted)
        for index in (1, 2):
            link.send_batch(batch(index, 100))
            received.wait_count(BatchArrived, index)
        assert received.all(BudgetWanted) == [BudgetWanted(budget=wishes[0])]
        link._on_loop(link._send_wish)
        received.wait_count(BudgetWanted, 2)
        assert received.all(BudgetWanted)[1:] == [BudgetWanted(budget=wishes[2])]


def test_without_a_stream_a_wish_is_left_to_the_next_hello(caplog: pytest.LogCaptureFixture) -> None:
    with running_server(FakeBackend(offer(0))) as server:
        free_port = server.port
    hellos = Mailbox()

    def make_hello() -> Hello:
        hellos.put(hello_of())
        return hello_of()

    with running_link(free_port, make_hello) as (link, events):
        events.wait_count(Disconnected)
        hellos.items.clear()
        link.change_budget(Budget(uplink_bps=1_000_000, downlink_bps=0))
        hellos.wait_count(Hello, 2)
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_each_attempt_is_one_connection_and_is_paid_for() -> None:
    hellos = Mailbox()

    def make_hello() -> Hello:
        hellos.put(hello_of())
        return hello_of()

    clock = ManualClock()
    uplink = TokenBucket(Allowance(bps=1_000_000, burst_bytes=4 * CONNECTION_BYTES - 100), clock)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)
        with running_link(server.getsockname()[1], make_hello, uplink=uplink):
            for _ in range(3):
                server.accept()[0].close()
            server.settimeout(0.5)
            with pytest.raises(TimeoutError):
                server.accept()
            assert len(hellos.items) == 3, "a fourth has to wait, and no old channel connects by itself"
            clock.sleep(60.0)
            server.settimeout(TIMEOUT_S)
            server.accept()[0].close()


def test_a_stop_while_nothing_answers_is_quick_and_may_come_twice() -> None:
    with running_server(FakeBackend(offer(0))) as server:
        free_port = server.port
    with running_link(free_port) as (link, events):
        events.wait_count(Disconnected)
        link.stop()
        link.stop()
        link.send_batch(batch(1))
        link.request_snapshot("nobody listens")
        assert not link.alive


def test_the_edge_takes_its_leave() -> None:
    backend = FakeBackend(offer(0))
    with running_server(backend) as server:
        with running_link(server.port) as (_, events):
            events.wait_count(SnapshotReceived)
        connection = backend.connection()
        connection.events.wait_count(EdgeDraining)
        assert connection.closed.wait(TIMEOUT_S)
        assert Disconnected not in map(type, events.items)


@pytest.mark.parametrize(
    "refusal",
    [
        ConfigurationError("unknown student 'nobody': use tiny"),
        RefusedError("budget_too_small", "uplink of 1 kbit/s carries nothing: the least is 12 kbit/s"),
    ],
)
def test_a_refusal_that_only_a_person_can_change_is_asked_about_now_and_then(
    refusal: AmsError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FINAL_RETRY_S", 0.05)
    backend = FakeBackend(offer(0), refusal=refusal)
    with running_server(backend) as server, running_link(server.port) as (_, events):
        events.wait_count(ProblemReported, 2)
        event = events.all(ProblemReported)[0]
        assert isinstance(event, ProblemReported)
        assert event.final
        assert event.reason == str(refusal)
        assert event.code == ("budget_too_small" if isinstance(refusal, RefusedError) else "unsupported")
        assert len(events.all(Disconnected)) == 1
        backend.refusal = None
        events.wait_count(SnapshotReceived)


def test_a_final_refusal_is_left_alone_for_minutes() -> None:
    refusal = ConfigurationError("unknown student 'nobody': use tiny")
    with running_server(FakeBackend(offer(0), refusal=refusal)) as server, running_link(server.port) as (link, events):
        events.wait_count(Disconnected)
        assert link.alive
        assert len(events.all(ProblemReported)) == 1


def test_other_budgets_end_the_pause_after_a_refusal() -> None:
    refusal = RefusedError("budget_too_small", "uplink of 1 kbit/s carries nothing: the least is 12 kbit/s")
    backend = FakeBackend(offer(0), refusal=refusal)
    with running_server(backend) as server, running_link(server.port) as (link, events):
        events.wait_count(Disconnected)
        backend.refusal = None
        link.change_budget(Budget(uplink_bps=100_000, downlink_bps=0))
        events.wait_count(SnapshotReceived)
        assert len(events.all(ProblemReported)) == 1


def test_other_budgets_are_tried_at_once_that_come_while_the_old_ones_are_refused() -> None:
    class Backend(FakeBackend):
        async def connect(self, hello: Hello, outlet: Outlet, downlink: TokenBucket) -> Connection:
            if hello.uplink_bps == 1000:
                await asyncio.to_thread(under_way.wait, TIMEOUT_S)
                wanted.append(100_000)
                link.change_budget(Budget(uplink_bps=100_000, downlink_bps=0))
                raise RefusedError("budget_too_small", "uplink of 1 kbit/s carries nothing: the least is 12 kbit/s")
            return await super().connect(hello, outlet, downlink)

    wanted, under_way = [1000], threading.Event()
    with (
        running_server(Backend(offer(0))) as server,
        running_link(server.port, lambda: replace(hello_of(), uplink_bps=wanted[-1])) as (link, events),
    ):
        under_way.set()
        events.wait_count(SnapshotReceived)
        assert len(events.all(ProblemReported)) == 1


def test_a_stream_that_was_replaced_stays_away() -> None:
    with running_server(FakeBackend(offer(0))) as server, running_link(server.port) as (link, events):
        events.wait_count(SnapshotReceived)
        with running_link(server.port):
            link._thread.join(TIMEOUT_S)
        assert not link.alive
        (problem,) = events.all(ProblemReported)
        assert isinstance(problem, ProblemReported)
        assert problem.code == "replaced"


def test_a_busy_server_is_not_the_end() -> None:
    refusal = RefusedError("busy", "the server has 1 device and takes no more")
    with running_server(FakeBackend(offer(0), refusal=refusal)) as server, running_link(server.port) as (link, events):
        events.wait_count(Disconnected)
        problem = events.items[0]
        assert problem == ProblemReported(code="busy", reason=str(refusal), final=False)
        assert link.alive


def test_a_batch_that_the_server_refuses_is_not_sent_for_ever() -> None:
    with running_server(FakeBackend(offer(0))) as server, running_link(server.port) as (link, events):
        events.wait_count(SnapshotReceived)
        link.send_batch(replace(batch(1), width=5000))
        events.wait_count(Disconnected)
        (problem,) = events.all(ProblemReported)
        assert isinstance(problem, ProblemReported)
        assert problem.code == "bad_request"
        assert "5000" in problem.reason
        link.stop()
        assert link.dropped_batches == 1


def test_batches_wait_for_the_budget_while_small_messages_pass() -> None:
    clock = ManualClock()
    uplink = TokenBucket(Allowance(bps=8_000_000, burst_bytes=20_000, reserve_bytes=5000), clock)
    backend = FakeBackend(offer(0))
    with running_server(backend) as server, running_link(server.port, uplink=uplink) as (link, events):
        received = backend.connection().events

        def pass_small_messages() -> None:
            for _ in range(5):
                reported = len(received.all(AppliedReported))
                link.send_applied(Applied(version=0, weights_digest=bytes(16), build_time_ms=1.0))
                received.wait_count(AppliedReported, reported + 1)

        events.wait_count(SnapshotReceived)
        link.send_batch(batch(1, 13_500))
        link.send_batch(batch(2, 3000))
        link.send_batch(batch(3, 14_500))
        pass_small_messages()
        assert not received.all(BatchArrived)
        clock.sleep(1.0)
        received.wait_count(BatchArrived)
        pass_small_messages()
        assert len(received.all(BatchArrived)) == 1
        clock.sleep(1.0)
        received.wait_count(BatchArrived, 2)
        assert link.dropped_batches == 1, "one that is larger than the burst can hold beside the reserve"


def test_after_an_outage_only_what_leaves_room_for_the_next_batch_is_sent() -> None:
    uplink = TokenBucket(Allowance(bps=8000, burst_bytes=30_000, reserve_bytes=5000), ManualClock())
    backend = FakeBackend(offer(2))
    with running_server(backend) as server:
        link = Link(
            LinkConfig(server=f"127.0.0.1:{server.port}"),
            make_hello=lambda: hello_of(holds=held(2)),
            holdings=lambda: holdings(2),
            on_event=lambda event: None,
            uplink=uplink,
            clock=ManualClock(),
            random=Impatient(),
        )
        for batch_id in (1, 2, 3, 4):
            link._outbox.add(batch(batch_id, 6000))
        link.start()
        received = backend.connection().events
        received.wait_count(BatchArrived, 2)
        link.send_batch(batch(5, 6000))
        received.wait_count(BatchArrived, 3)
        link.stop()
    arrived = [each.batch.batch_id for each in received.all(BatchArrived) if isinstance(each, BatchArrived)]
    assert arrived == [3, 4, 5]
    assert link.dropped_batches == 2


def test_batches_that_would_make_the_newest_late_give_way_to_it() -> None:
    clock = ManualClock()
    uplink = TokenBucket(Allowance(bps=8000, burst_bytes=40_000, reserve_bytes=5000), clock)
    backend = FakeBackend(offer(0))
    with running_server(backend) as server, running_link(server.port, uplink=uplink) as (link, events):
        events.wait_count(SnapshotReceived)
        uplink.spend(int(uplink.room_bytes) + 5000)
        for batch_id in (1, 2, 3):
            link.send_batch(batch(batch_id, 6000))
        clock.sleep(13.0)  # for one batch and a little
        link.send_batch(batch(4, 6000))
        events.wait_for(lambda items: BatchTaken(batch_id=1) in items)
        assert link.dropped_batches == 2, "the budget brings 3 kB in 3 s, more than that would wait"
        clock.sleep(13.0)
        link.send_batch(batch(5, 100))
        events.wait_for(lambda items: BatchTaken(batch_id=4) in items)
        assert not {BatchTaken(batch_id=2), BatchTaken(batch_id=3)} & set(events.items)


def test_batches_that_wait_are_dropped_where_a_lower_budget_has_no_room_for_them() -> None:
    with running_server(FakeBackend(offer(0))) as server:
        free_port = server.port
    uplink, backend = TokenBucket(allowance(1_000_000), ManualClock()), FakeBackend(offer(0))
    with running_link(free_port, uplink=uplink) as (link, events):
        events.wait_count(Disconnected)
        for batch_id, size in ((1, 110_000), (2, 110_000), (3, 1000)):
            link.send_batch(batch(batch_id, size))
        added = threading.Event()
        link._on_loop(added.set)
        assert added.wait(TIMEOUT_S)
        link.hold(Budget(uplink_bps=20_000, downlink_bps=0))
        with running_server(backend, port=free_port):
            events.wait_for(lambda items: BatchTaken(batch_id=3) in items)
            link.send_batch(batch(4, 1000))
            events.wait_for(lambda items: BatchTaken(batch_id=4) in items)
            arrived = backend.connection().events.all(BatchArrived)
        assert [each.batch.batch_id for each in arrived if isinstance(each, BatchArrived)] == [3, 4]
        assert link.dropped_batches == 2


def test_a_full_outbox_drops_the_oldest_batch_and_no_batch_is_too_large_for_a_message() -> None:
    with running_server(FakeBackend(offer(0))) as server:
        free_port = server.port
    backend = FakeBackend(offer(0))
    with running_link(free_port, outbox_s=1.0) as (link, events):
        events.wait_count(Disconnected)
        for batch_id in (1, 2, 3):
            link.send_batch(batch(batch_id))
        link.send_batch(batch(4, MAX_BATCH_BYTES + 1))
        with running_server(backend, port=free_port):
            events.wait_for(lambda items: BatchTaken(batch_id=3) in items)
            link.send_batch(batch(5, MAX_BATCH_BYTES))
            events.wait_for(lambda items: BatchTaken(batch_id=5) in items)
            sizes = [
                event.batch.batch_id
                for event in backend.connection().events.all(BatchArrived)
                if isinstance(event, BatchArrived)
            ]
            assert sizes == [2, 3, 5]
        assert link.dropped_batches == 2


def test_snapshots_are_asked_for_at_most_once_in_a_while() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server:
        with running_link(server.port, lambda: hello_of(holds=held(2)), kept=holdings(2)) as (link, events):
            events.wait_count(ModelReceived)
            for number in range(9):
                link.request_snapshot(f"{number}: update to version 3 is for other weights".ljust(400))
            backend.connection().events.wait_count(SnapshotWanted)
            link.send_batch(batch(1))
            backend.connection().events.wait_count(BatchArrived)
            assert 400 + 1000 < link.traffic.sent_bytes < 2 * 400 + 1000
        (wanted,) = backend.connection().events.all(SnapshotWanted)
    assert isinstance(wanted, SnapshotWanted)
    assert wanted.reason.startswith("0: update")


def test_a_callback_that_fails_ends_the_link_and_is_kept() -> None:
    def fail(event: ClientEvent) -> None:
        raise RuntimeError("disk is full")

    with running_server(FakeBackend(offer(0))) as server:
        link = Link(
            LinkConfig(server=f"127.0.0.1:{server.port}"),
            make_hello=hello_of,
            on_event=fail,
            uplink=TokenBucket(Allowance(bps=0, burst_bytes=1), SystemClock()),
            clock=SystemClock(),
            random=Random(0),
        )
        link.start()
        link._thread.join(TIMEOUT_S)
        assert not link.alive
        assert str(link.failure) == "disk is full"
        link.stop()


@contextmanager
def impostor(*answers: bytes) -> Iterator[int]:
    """Run a server that answers a hello with these bytes and keeps the stream open; yield its port."""
    over = threading.Event()

    def adapt(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        next(requests)
        yield from answers
        over.wait(TIMEOUT_S)

    handler: Any = grpc.stream_stream_rpc_method_handler(adapt)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ams.Adaptation", {"Adapt": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        over.set()
        server.stop(None).wait(TIMEOUT_S)


def test_a_port_of_another_service_is_named() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with running_link(port) as (_, events):
            events.wait_count(Disconnected)
            (event,) = events.items
    finally:
        server.stop(None).wait(TIMEOUT_S)
    assert isinstance(event, Disconnected)
    assert event.reason == (
        f"127.0.0.1:{port} does not serve devices: --server takes the server's --listen, not its --admin-listen"
    )


def rpc_error(code: grpc.StatusCode, details: str, debug: str = "") -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, metadata, metadata, details=details, debug_error_string=debug)


@pytest.mark.parametrize("hidden", [1, UNEXPLAINED_TRIES, UNEXPLAINED_TRIES + 1])
def test_a_write_that_fails_does_not_hide_why_the_call_has_ended(hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    failed_write = rpc_error(grpc.StatusCode.INTERNAL, "Internal error from Core", 'Failed "execute_batch": (send,)')
    failures = [failed_write] * hidden

    async def fail(link: Link, session: ClientSession) -> None:
        raise failures.pop() if failures else rpc_error(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    monkeypatch.setattr(Link, "_hold_stream", fail)
    with running_link(1) as (_, events):
        events.wait_count(Disconnected)
        (event,) = events.items
    assert isinstance(event, Disconnected)
    assert ("--admin-listen" in event.reason) == (hidden <= UNEXPLAINED_TRIES)


def test_the_end_of_a_stream_that_was_accepted_is_told_even_if_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(link: Link, session: ClientSession) -> None:
        raise rpc_error(grpc.StatusCode.INTERNAL, "Internal error from Core", 'Failed "execute_batch": (send,)')

    monkeypatch.setattr(Link, "_hold_stream", fail)
    monkeypatch.setattr(ClientSession, "welcomed", True)
    monkeypatch.setattr(link_module, "UNEXPLAINED_TRIES", 10**9)
    with running_link(1) as (_, events):
        events.wait_count(Disconnected)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\xff\xff\xffgarbage", "no protobuf"),
        (b"", "empty or of a newer protocol"),
        (server_message_to_proto(update_to(3)).SerializeToString(), "before the welcome"),
        (server_message_to_proto(replace(CONTROL, sampling_hz=-1.0)).SerializeToString(), "sampling_hz is -1"),
    ],
)
def test_a_server_that_talks_nonsense_is_left_alone_for_a_while(answer: bytes, reason: str) -> None:
    with impostor(answer) as port, running_link(port) as (link, events):
        events.wait_count(Disconnected)
        (event,) = events.items
        assert isinstance(event, Disconnected)
        assert reason in event.reason
        assert link.alive
        assert not link.connected


def test_a_stop_does_not_wait_for_a_server_that_never_welcomes() -> None:
    hellos = Mailbox()

    def make_hello() -> Hello:
        hellos.put(hello_of())
        return hello_of()

    with impostor() as port, running_link(port, make_hello) as (link, _):
        hellos.wait_count(Hello)
        link.stop()
        assert not link.alive


def test_a_server_that_never_welcomes_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_edge.edge_stream.WELCOME_TIMEOUT_S", 0.05)
    with impostor() as port, running_link(port) as (link, events):
        events.wait_count(Disconnected)
        assert events.all(Disconnected) == [Disconnected(reason=f"server 127.0.0.1:{port} does not answer")]
        assert link.alive


def test_retries_double_up_to_five_seconds_and_are_spread() -> None:
    pauses = [retry_pause_s(attempt, Random(attempt)) for attempt in range(1, 2000)]
    assert 0.25 <= pauses[0] <= 0.5
    assert 1.0 <= pauses[2] <= 2.0
    assert all(LONGEST_RETRY_S / 2 <= pause <= LONGEST_RETRY_S for pause in pauses[4:])
    assert max(pauses) - min(pauses[4:]) > 2.4


@pytest.mark.parametrize("server", ["localhost", "localhost:", "localhost:70000", "::1:50051", "localhost:port"])
def test_an_address_needs_a_port(server: str) -> None:
    with pytest.raises(ValidationError, match="must"):
        LinkConfig(server=server)
