"""The protocol without sockets: both state machines, alone and facing each other over a link that breaks."""

import tracemalloc
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocol_support import (
    CONTROL,
    GRAPH,
    GRAPH_FRAME,
    GRAPHS,
    HELLO,
    LAYOUT,
    MANIFEST,
    batch,
    held,
    hello_of,
    holdings,
    offer,
    snapshot_messages,
    update_to,
    weights_of,
)

from ams_common.clock import ManualClock
from ams_common.compression import zstd_compress
from ams_common.errors import CodecError, ProtocolError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec, weights_digest
from ams_common.messages import (
    CHUNK_BYTES,
    MAX_GRAPH_BYTES,
    MAX_KEPT_GRAPHS,
    MAX_KEPT_WEIGHTS,
    MAX_WAITING_UPDATES,
    Applied,
    BatchReceived,
    Budget,
    ChunkReceived,
    ClientMessage,
    Control,
    Drain,
    FrameBatch,
    HeldModel,
    Hello,
    ModelChunk,
    PartialSnapshot,
    Problem,
    ServerMessage,
    SnapshotHeader,
    SnapshotRequest,
    Update,
    Welcome,
)
from ams_common.session.client import (
    MAX_WAITING_REPORTS,
    BatchTaken,
    ClientSession,
    ControlChanged,
    Draining,
    ModelReceived,
    ProblemReported,
    SnapshotAnnounced,
    SnapshotChunk,
    SnapshotReceived,
    UpdateReceived,
    largest_snapshot_bytes,
    largest_update_bytes,
)
from ams_common.session.greeting import chunk_size, greeting_messages, missed_updates, snapshots
from ams_common.session.holdings import Holdings
from ams_common.session.incoming import IncomingSnapshot
from ams_common.session.outbox import BatchOutbox
from ams_common.session.server import (
    MAX_WAITING_ACKNOWLEDGEMENTS,
    BatchArrived,
    BatchLedger,
    BudgetWanted,
    HelloReceived,
    RefusedError,
    ServerSession,
    SnapshotWanted,
)
from ams_common.snapshot_codec import SMALL

WELCOME = Welcome(manifest=MANIFEST, codec="gap-zstd", graph_bytes=len(GRAPH_FRAME), control=CONTROL)
NOTHING = Holdings()
OTHER_GRAPH = zstd_compress(GRAPH[::-1], SMALL)
"""As long as the right one."""
WELCOME_BACK = replace(WELCOME, graph_bytes=0)


def client(holds: HeldModel | None = None, batches: Sequence[FrameBatch] = ()) -> ClientSession:
    """Return a session that has sent its hello."""
    outbox = BatchOutbox(20.0)
    for each in batches:
        outbox.add(each)
    session = ClientSession(hello_of(holds=holds), outbox, IncomingSnapshot(), NOTHING if holds is None else holdings())
    assert session.peek() == hello_of(holds=holds)
    session.pop()
    return session


def greeted(version: int = 2) -> ClientSession:
    """Return a session that holds `version` and has been welcomed."""
    session = client(held(version))
    session.receive(WELCOME_BACK)
    return session


def waiting(session: ServerSession) -> list[ServerMessage]:
    """Take out all that waits to be written."""
    messages: list[ServerMessage] = []
    while (message := session.peek()) is not None:
        session.pop()
        messages.append(message)
    return messages


def server(hello: Hello = HELLO, clock: ManualClock | None = None, ledger: BatchLedger | None = None) -> ServerSession:
    """Return a session that has taken a hello."""
    session = ServerSession(ledger or BatchLedger(), clock or ManualClock(), 10.0)
    assert session.receive(hello) == [HelloReceived(hello=hello)]
    return session


class TestClient:
    def test_a_model_arrives_in_chunks(self) -> None:
        session = client()
        messages = greeting_messages(hello_of(), offer(7))
        events = [event for message in messages for event in session.receive(message)]
        control, model, announced, snapshot = events
        assert isinstance(announced, SnapshotAnnounced)
        assert control == ControlChanged(control=CONTROL)
        assert model == ModelReceived(manifest=MANIFEST, graph=GRAPH, codec="gap-zstd")
        assert isinstance(snapshot, SnapshotReceived)
        assert (snapshot.version, snapshot.weights_digest) == (7, weights_digest(weights_of(7)))
        np.testing.assert_array_equal(snapshot.vector, weights_of(7))

    def test_all_chunks_that_have_come_are_told_in_one_report(self) -> None:
        session = client()
        messages = greeting_messages(hello_of(), offer(7))
        for message in messages:
            session.receive(message)
        chunks = sum(isinstance(message, ModelChunk) for message in messages)
        assert chunks == 2
        assert session.peek() == ChunkReceived(chunks=chunks)
        session.pop()
        assert session.peek() is None

    def test_nothing_but_the_hello_is_sent_before_the_welcome(self) -> None:
        session = client(batches=[batch(1)])
        session.report_applied(Applied(version=1, weights_digest=bytes(16), build_time_ms=1.0))
        assert session.peek() is None
        assert not session.welcomed

    def test_reports_go_before_batches(self) -> None:
        session = client(held(2), [batch(1)])
        session.receive(WELCOME_BACK)
        assert session.peek() == batch(1)
        session.request_snapshot("bad digest")
        assert session.peek() == SnapshotRequest(reason="bad digest")
        session.pop()
        assert session.peek() == batch(1)
        session.pop()
        assert session.peek() is None

    def test_waiting_reports_are_bounded(self) -> None:
        session = greeted()
        for number in range(2 * MAX_WAITING_REPORTS):
            session.request_snapshot(str(number))
        assert session.peek() == SnapshotRequest(reason=str(MAX_WAITING_REPORTS))

    def test_a_new_stream_sends_again_what_was_not_acknowledged(self) -> None:
        outbox = BatchOutbox(20.0)
        outbox.add(batch(1))
        outbox.pop()
        session = ClientSession(HELLO, outbox, IncomingSnapshot(), NOTHING)
        session.pop()
        session.receive(WELCOME)
        assert session.peek() == batch(1)

    def test_a_drain_goes_last_and_holds_the_batches_back(self) -> None:
        session = client(held(2), [batch(1)])
        session.receive(WELCOME_BACK)
        session.drain("bye")
        assert session.peek() == Drain(reason="bye")
        session.pop()
        assert session.peek() is None

    def test_updates_control_acknowledgements_and_ends_become_events(self) -> None:
        session = greeted()
        faster = replace(CONTROL, sampling_hz=2.0)
        assert session.receive(update_to(3)) == [UpdateReceived(update=update_to(3))]
        assert session.receive(faster) == [ControlChanged(control=faster)]
        assert session.receive(BatchReceived(batch_id=9)) == [BatchTaken(batch_id=9)]
        assert session.receive(Drain(reason="maintenance")) == [Draining(reason="maintenance")]

    @pytest.mark.parametrize(
        ("code", "final"),
        [
            ("unsupported", True),
            ("budget_too_small", True),
            ("replaced", True),
            ("busy", False),
            ("bad_request", False),
            ("internal", False),
        ],
    )
    def test_a_problem_may_come_instead_of_the_welcome(self, code: str, final: bool) -> None:
        problem = Problem(code=code, reason="no")  # type: ignore[arg-type]  # parametrize knows no literals
        assert client().receive(problem) == [ProblemReported(code=problem.code, reason="no", final=final)]

    @pytest.mark.parametrize(
        "message", [CONTROL, update_to(3), BatchReceived(batch_id=1), ModelChunk(part="graph", offset=0, data=b"x")]
    )
    def test_nothing_comes_before_the_welcome(self, message: ServerMessage) -> None:
        with pytest.raises(ProtocolError, match="before the welcome"):
            client().receive(message)

    def test_a_second_welcome_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match="second welcome"):
            greeted().receive(WELCOME_BACK)

    def test_a_codec_that_was_not_offered_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match="did not offer"):
            client().receive(replace(WELCOME, codec="pickle"))

    def test_a_graph_that_is_not_held_must_be_sent(self) -> None:
        with pytest.raises(ProtocolError, match="does not keep"):
            client().receive(WELCOME_BACK)

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (ModelChunk(part="graph", offset=1, data=b"x"), "starts at byte 1, expected 0"),
            (ModelChunk(part="weights", offset=0, data=b"x"), "chunk of weights in the middle of graph"),
            (ModelChunk(part="graph", offset=0, data=bytes(len(GRAPH_FRAME) + 1)), "longer than the"),
            (ModelChunk(part="graph", offset=0, data=OTHER_GRAPH), "digest of its manifest"),
            (SnapshotHeader(version=1, weights_digest=bytes(16), encoded_bytes=5), "before the graph was complete"),
            (update_to(3), "before the graph was complete"),
        ],
    )
    def test_a_graph_is_complete_and_genuine_before_anything_else(self, message: ServerMessage, reason: str) -> None:
        session = client()
        session.receive(WELCOME)
        with pytest.raises(ProtocolError, match=reason):
            session.receive(message)

    def test_no_update_comes_before_weights(self) -> None:
        session = client()
        for message in greeting_messages(hello_of(), offer(2))[:2]:
            session.receive(message)
        with pytest.raises(ProtocolError, match="before any weights"):
            session.receive(update_to(3))

    def test_no_update_comes_while_a_snapshot_is_under_way(self) -> None:
        session = greeted()
        session.receive(snapshot_messages(3, weights_of(3), bytes(16), CHUNK_BYTES)[0])
        with pytest.raises(ProtocolError, match="before the weights was complete"):
            session.receive(update_to(3))

    def test_a_new_snapshot_replaces_one_that_is_under_way(self) -> None:
        session = greeted()
        for message in snapshot_messages(3, weights_of(3), bytes(16), 4096)[:2]:
            session.receive(message)
        rest = snapshot_messages(4, weights_of(4), weights_digest(weights_of(4)), 4096)
        announced, *parts, event = [event for message in rest for event in session.receive(message)]
        assert isinstance(rest[0], SnapshotHeader)
        chunks = [each for each in rest if isinstance(each, ModelChunk)]
        assert parts == [SnapshotChunk(size_bytes=len(each.data)) for each in chunks[:-1]]
        assert announced == SnapshotAnnounced(version=4, encoded_bytes=rest[0].encoded_bytes, whole=True)
        assert isinstance(event, SnapshotReceived)
        assert event.version == 4

    def test_a_snapshot_goes_on_where_the_last_stream_broke_off(self) -> None:
        incoming, outbox = IncomingSnapshot(), BatchOutbox(20.0)
        hello = replace(hello_of(), downlink_bps=8 * 4096)
        *whole, lost = greeting_messages(hello, offer(3))
        first = ClientSession(hello, outbox, incoming, NOTHING)
        for message in whole:
            first.receive(message)
        second = ClientSession(hello, outbox, incoming, NOTHING)
        again = second.peek()
        assert isinstance(again, Hello)
        rest = greeting_messages(again, offer(3))
        assert [type(message) for message in rest[-2:]] == [SnapshotHeader, ModelChunk]
        assert rest[-1] == lost
        *_, event = [event for message in rest for event in second.receive(message)]
        assert isinstance(event, SnapshotReceived)
        np.testing.assert_array_equal(event.vector, weights_of(3))
        assert ClientSession(hello, outbox, incoming, NOTHING).peek() == hello

    def test_a_snapshot_of_other_weights_starts_again(self) -> None:
        incoming = IncomingSnapshot()
        hello = replace(hello_of(), downlink_bps=8 * 4096)
        first = ClientSession(hello, BatchOutbox(20.0), incoming, NOTHING)
        for message in greeting_messages(hello, offer(3))[:-1]:
            first.receive(message)
        second = ClientSession(hello, BatchOutbox(20.0), incoming, NOTHING)
        again = second.peek()
        assert isinstance(again, Hello)
        *_, event = [event for message in greeting_messages(again, offer(4)) for event in second.receive(message)]
        assert isinstance(event, SnapshotReceived)
        np.testing.assert_array_equal(event.vector, weights_of(4))

    def test_a_part_that_claims_more_than_the_whole_is_not_gone_on_with(self) -> None:
        header, *_ = snapshot_messages(3, weights_of(3), bytes(16), 4096)
        assert isinstance(header, SnapshotHeader)
        for size in (header.encoded_bytes, 2**40):
            partial = PartialSnapshot(encoded_digest=header.encoded_digest, received_bytes=size)
            assert snapshot_messages(3, weights_of(3), bytes(16), 4096, partial)[0] == header

    def test_an_update_lets_go_of_a_snapshot_that_broke_off(self) -> None:
        incoming = IncomingSnapshot()
        header, chunk, *_ = snapshot_messages(3, weights_of(3), bytes(16), 4096)
        assert isinstance(header, SnapshotHeader)
        assert isinstance(chunk, ModelChunk)
        incoming.begin(header)
        incoming.data += chunk.data
        session = ClientSession(hello_of(holds=held(2)), BatchOutbox(20.0), incoming, holdings())
        session.receive(WELCOME_BACK)
        session.receive(update_to(3))
        assert incoming.partial is None

    def test_chunks_must_be_announced(self) -> None:
        with pytest.raises(ProtocolError, match="not announced"):
            greeted().receive(ModelChunk(part="weights", offset=0, data=b"x"))

    def test_a_snapshot_too_large_for_the_model_is_refused_before_it_comes(self) -> None:
        header = SnapshotHeader(version=1, weights_digest=bytes(16), encoded_bytes=largest_snapshot_bytes(LAYOUT) + 1)
        with pytest.raises(ProtocolError, match="at most"):
            greeted().receive(header)

    def test_what_is_too_large_is_known_without_a_look_at_each_row(self) -> None:
        layout = ParameterLayout((TensorSpec(name="thin", shape=(2**26, 1)),))
        tracemalloc.start()
        assert largest_snapshot_bytes(layout) == 5 * 2**26 + 5 * 2**26 // 128 + 4096
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 100_000

    def test_a_snapshot_without_its_digest_is_refused(self) -> None:
        session = greeted()
        header, chunk = snapshot_messages(3, weights_of(3), weights_digest(weights_of(4)), CHUNK_BYTES)
        session.receive(header)
        with pytest.raises(ProtocolError, match="version 3 does not have the digest"):
            session.receive(chunk)

    def test_a_graph_that_is_kept_is_not_sent_for_other_weights(self) -> None:
        session = ClientSession(HELLO, BatchOutbox(20.0), IncomingSnapshot(), holdings())
        hello = session.peek()
        assert isinstance(hello, Hello)
        welcome, *rest = greeting_messages(hello, offer(3))
        assert welcome == WELCOME_BACK
        assert session.receive(welcome)[1:] == [ModelReceived(manifest=MANIFEST, graph=GRAPH, codec="gap-zstd")]
        *_, event = [event for message in rest for event in session.receive(message)]
        assert isinstance(event, SnapshotReceived)

    def test_a_graph_that_would_not_fit_is_refused(self) -> None:
        session = client()
        frame = zstd_compress(bytes(MAX_GRAPH_BYTES + 1), 1)
        session.receive(replace(WELCOME, graph_bytes=len(frame)))
        with pytest.raises(CodecError, match="states a size of"):
            session.receive(ModelChunk(part="graph", offset=0, data=frame))

    def test_a_snapshot_builds_on_what_is_kept_or_came_before(self) -> None:
        for kept in (NOTHING, holdings(0)):
            session = ClientSession(HELLO, BatchOutbox(20.0), IncomingSnapshot(), kept)
            hello = session.peek()
            assert isinstance(hello, Hello)
            messages = greeting_messages(hello, offer(3, start=0))
            received = [event for message in messages for event in session.receive(message)]
            wholes = [event for event in received if isinstance(event, SnapshotReceived)]
            assert [event.version for event in wholes] == ([0, 3] if kept is NOTHING else [3])
            announced = [event.whole for event in received if isinstance(event, SnapshotAnnounced)]
            assert announced == ([True, False] if kept is NOTHING else [False])
            np.testing.assert_array_equal(wholes[-1].vector, weights_of(3))

    def test_a_base_is_made_once_when_the_snapshot_is_there(self) -> None:
        made: list[int] = []

        def base() -> Float32Array:
            made.append(0)
            return weights_of(0)

        kept = Holdings(graphs=GRAPHS, weights={weights_digest(weights_of(0)): base})
        session = ClientSession(HELLO, BatchOutbox(20.0), IncomingSnapshot(), kept)
        hello = session.peek()
        assert isinstance(hello, Hello)
        welcome, header, *chunks = greeting_messages(hello, offer(3, start=0))
        session.receive(welcome)
        session.receive(header)
        assert isinstance(header, SnapshotHeader)
        assert header.base_digest
        assert not made
        for chunk in chunks:
            session.receive(chunk)
        assert len(made) == 1

    def test_a_snapshot_that_builds_on_something_else_is_refused(self) -> None:
        session = ClientSession(hello_of(holds=held(2)), BatchOutbox(20.0), IncomingSnapshot(), Holdings(graphs=GRAPHS))
        session.receive(WELCOME_BACK)
        header = SnapshotHeader(version=1, weights_digest=bytes(16), encoded_bytes=5, base_digest=bytes(16))
        with pytest.raises(ProtocolError, match="builds on weights that this edge does not keep"):
            session.receive(header)

    def test_a_snapshot_that_builds_on_weights_of_another_model_is_refused(self) -> None:
        base = weights_digest(weights_of(9)[:100])
        kept = Holdings(graphs=GRAPHS, weights={base: lambda: weights_of(9)[:100]})
        session = ClientSession(hello_of(holds=held(2)), BatchOutbox(20.0), IncomingSnapshot(), kept)
        session.receive(WELCOME_BACK)
        session.receive(SnapshotHeader(version=1, weights_digest=bytes(16), encoded_bytes=5, base_digest=base))
        with pytest.raises(ProtocolError, match="builds on weights that this edge does not keep"):
            session.receive(ModelChunk(part="weights", offset=0, data=b"frame"))

    def test_a_hello_tells_no_more_than_the_server_takes(self) -> None:
        many = Holdings(
            graphs={bytes([number] * 16): b"" for number in range(99)},
            weights={bytes([number] * 16): lambda: weights_of(0) for number in range(99)},
        )
        hello = ClientSession(HELLO, BatchOutbox(20.0), IncomingSnapshot(), many).peek()
        assert isinstance(hello, Hello)
        assert (len(hello.graphs), len(hello.weights)) == (MAX_KEPT_GRAPHS, MAX_KEPT_WEIGHTS)

    def test_a_damaged_snapshot_is_refused(self) -> None:
        session = greeted()
        session.receive(SnapshotHeader(version=1, weights_digest=bytes(16), encoded_bytes=4))
        with pytest.raises(CodecError):
            session.receive(ModelChunk(part="weights", offset=0, data=b"zstd"))

    def test_an_update_in_another_codec_or_too_large_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match="the stream uses 'gap-zstd'"):
            greeted().receive(replace(update_to(3), codec="mask-float16"))
        with pytest.raises(ProtocolError, match="at most"):
            greeted().receive(replace(update_to(3), payload=bytes(largest_update_bytes(LAYOUT.size) + 1)))


class TestServer:
    def test_the_hello_comes_first_and_once(self) -> None:
        session = ServerSession(BatchLedger(), ManualClock(), 10.0)
        with pytest.raises(ProtocolError, match="before the hello"):
            session.receive(batch(1))
        session.receive(HELLO)
        with pytest.raises(ProtocolError, match="second hello"):
            session.receive(HELLO)

    def test_other_budgets_are_asked_for(self) -> None:
        session = server()
        session.greet([WELCOME])
        wanted = Budget(uplink_bps=5, downlink_bps=6)
        assert session.receive(wanted) == [BudgetWanted(budget=wanted)]
        edge = greeted()
        edge.change_budget(Budget(uplink_bps=1, downlink_bps=2))
        edge.change_budget(wanted)
        assert edge.peek() == wanted, "the newest one counts"
        edge.pop()
        assert edge.peek() is None

    def test_a_chunk_is_cut_where_it_is_too_large_and_nothing_else_is(self) -> None:
        session = server()
        session.greet([WELCOME, ModelChunk(part="graph", offset=3, data=b"abcdefg"), update_to(3)])
        session.split_chunk(7)
        session.split_chunk(3)
        assert waiting(session)[1:] == [
            ModelChunk(part="graph", offset=3, data=b"abc"),
            ModelChunk(part="graph", offset=6, data=b"defg"),
            update_to(3),
        ]
        session.split_chunk(1)

    def test_no_more_chunks_have_come_than_were_written(self) -> None:
        session = server()
        chunk = ModelChunk(part="graph", offset=0, data=b"abc")
        session.greet([WELCOME, chunk, chunk, chunk])
        for _ in range(3):
            session.pop()
        assert session.receive(ChunkReceived(chunks=2)) == []
        with pytest.raises(ProtocolError, match="edge has 3 chunks, 2 were sent"):
            session.receive(ChunkReceived(chunks=3))

    def test_another_protocol_is_refused(self) -> None:
        with pytest.raises(RefusedError, match="protocol 9") as caught:
            ServerSession(BatchLedger(), ManualClock(), 10.0).receive(replace(HELLO, protocol_version=9))
        assert caught.value.code == "unsupported"

    def test_a_batch_that_comes_twice_is_acknowledged_twice_and_delivered_once(self) -> None:
        session = server()
        session.greet([WELCOME])
        assert session.receive(batch(4)) == [BatchArrived(batch=batch(4))]
        assert session.receive(batch(4)) == []
        assert waiting(session) == [WELCOME, BatchReceived(batch_id=4), BatchReceived(batch_id=4)]

    def test_the_ledger_outlives_streams_knows_runs_and_is_bounded(self) -> None:
        ledger = BatchLedger(capacity=2)
        other_run = replace(HELLO, run_id=bytes([1] * 16))
        assert ledger.enter(HELLO, 1)
        assert not ledger.enter(HELLO, 1)
        assert ledger.enter(other_run, 1)
        assert not ledger.enter(other_run, 1)
        assert ledger.enter(hello_of("b"), 5)
        assert ledger.enter(hello_of("c"), 5)
        assert ledger.enter(other_run, 1)
        assert not ledger.enter(hello_of("c"), 5)

    def test_the_welcome_precedes_what_was_sent_earlier(self) -> None:
        session = server()
        session.send(CONTROL)
        session.send(update_to(3))
        assert session.peek() is None
        session.greet(greeting_messages(HELLO, offer(2)))
        kinds = [type(message) for message in waiting(session)]
        assert kinds == [Welcome, Control, ModelChunk, SnapshotHeader, ModelChunk, Update]

    def test_small_messages_overtake_the_model_and_only_the_newest_control_counts(self) -> None:
        session = server()
        session.greet([WELCOME_BACK, update_to(3)])
        session.pop()
        session.send(CONTROL)
        session.send(replace(CONTROL, sampling_hz=3.0))
        session.receive(batch(1))
        assert session.backlog == 1
        assert waiting(session) == [replace(CONTROL, sampling_hz=3.0), BatchReceived(batch_id=1), update_to(3)]
        assert session.backlog == 0

    def test_acknowledgements_for_a_slow_reader_are_bounded(self) -> None:
        session = server()
        session.greet([WELCOME])
        for number in range(1, 3 * MAX_WAITING_ACKNOWLEDGEMENTS):
            session.receive(batch(number))
        assert len(waiting(session)) == 1 + MAX_WAITING_ACKNOWLEDGEMENTS

    def test_updates_for_a_slow_reader_give_way_to_one_snapshot(self) -> None:
        clock = ManualClock()
        session = server(clock=clock)
        session.greet([WELCOME_BACK])
        session.pop()
        events = [event for version in range(1, MAX_WAITING_UPDATES + 5) for event in session.send(update_to(version))]
        assert events == [SnapshotWanted(reason="the device reads more slowly than updates are made")]
        assert session.peek() is None
        snapshot = snapshot_messages(30, weights_of(30), bytes(16), CHUNK_BYTES)
        for message in (*snapshot, update_to(31)):
            session.send(message)
        assert waiting(session) == [*snapshot, update_to(31)]

    def test_a_snapshot_under_way_is_not_given_up_for_updates(self) -> None:
        clock = ManualClock()
        session = server(clock=clock)
        session.greet([WELCOME_BACK])
        snapshot = snapshot_messages(1, weights_of(1), bytes(16), 4096)
        for message in snapshot:
            session.send(message)
        clock.sleep(100.0)
        for version in range(2, 3 * MAX_WAITING_UPDATES):
            assert session.send(update_to(version)) == []
        assert waiting(session) == [WELCOME_BACK, *snapshot]
        assert session.send(update_to(99)) == [SnapshotWanted(reason="the device reads more slowly than updates are made")]

    def test_a_snapshot_replaces_waiting_weights_but_not_the_graph(self) -> None:
        session = server()
        session.greet([*greeting_messages(HELLO, offer(1)), update_to(2)])
        snapshot = snapshot_messages(3, weights_of(3), bytes(16), CHUNK_BYTES)
        for message in snapshot:
            session.send(message)
        assert waiting(session) == [WELCOME, ModelChunk(part="graph", offset=0, data=GRAPH_FRAME), *snapshot]

    def test_a_snapshot_that_builds_on_one_that_waits_does_not_replace_it(self) -> None:
        for sent in range(4):
            session = server()
            whole = snapshots(offer(0, start=0), holds_start=False, chunk_bytes=4096)
            change, newer = (snapshots(offer(version, start=0), holds_start=True, chunk_bytes=4096) for version in (1, 2))
            session.greet([WELCOME_BACK, *whole, *change])
            written: list[ServerMessage] = []
            while len(written) <= sent and (message := session.peek()) is not None:
                session.pop()
                written.append(message)
            for message in newer:
                session.send(message)
            assert [*written, *waiting(session)] == [WELCOME_BACK, *whole, *newer]
            for message in whole:
                session.send(message)
            assert waiting(session) == whole

    def test_snapshots_are_granted_at_most_once_in_an_interval(self) -> None:
        clock = ManualClock()
        session = server(clock=clock)
        session.greet([WELCOME_BACK])
        wish, granted = SnapshotRequest(reason="gap"), [SnapshotWanted(reason="gap")]
        assert session.receive(wish) == granted
        clock.sleep(9.9)
        assert session.receive(wish) == []
        clock.sleep(0.1)
        assert session.receive(wish) == granted

    def test_budgets_may_change_every_second_and_sometimes_faster(self) -> None:
        clock = ManualClock()
        session = server(clock=clock)
        wish = Budget(uplink_bps=5000, downlink_bps=0)
        for _ in range(40):
            assert session.receive(wish) == [BudgetWanted(budget=wish)]
            clock.sleep(1.0)
        for _ in range(15):
            session.receive(wish)
        clock.sleep(1.0)
        for _ in range(2):
            session.receive(wish)
        with pytest.raises(ProtocolError, match="more than 16 wishes for other budgets"):
            session.receive(wish)

    def test_the_snapshot_of_the_greeting_counts(self) -> None:
        session = server()
        session.greet(greeting_messages(HELLO, offer(1)))
        waiting(session)
        assert session.receive(SnapshotRequest(reason="gap")) == []

    def test_an_end_goes_after_what_is_small_and_nothing_goes_after_it(self) -> None:
        session = server()
        session.greet([WELCOME_BACK, update_to(3)])
        session.pop()
        session.receive(batch(1))
        session.send(Drain(reason="stop"))
        session.send(CONTROL)
        assert not session.finished
        assert waiting(session) == [BatchReceived(batch_id=1), Drain(reason="stop")]
        assert session.finished

    def test_the_end_passes_what_waits(self) -> None:
        session = server()
        session.greet([WELCOME_BACK])
        session.pop()
        session.receive(batch(1))
        session.send(CONTROL)
        assert not session.let_end_pass(), "nothing has ended"
        session.send(Drain(reason="stop"))
        assert session.let_end_pass()
        assert not session.let_end_pass()
        assert waiting(session) == [Drain(reason="stop")]

    def test_a_refusal_needs_no_welcome(self) -> None:
        session = ServerSession(BatchLedger(), ManualClock(), 10.0)
        problem = Problem(code="bad_request", reason="no")
        session.send(problem)
        assert waiting(session) == [problem]
        assert session.finished


class TestGreeting:
    def test_an_edge_that_holds_the_newest_weights_gets_the_welcome_alone(self) -> None:
        assert greeting_messages(hello_of(holds=held(5)), offer(5)) == [WELCOME_BACK]

    def test_missed_updates_are_sent_when_they_lead_from_what_is_held(self) -> None:
        updates = [update_to(version) for version in (3, 4, 5)]
        assert missed_updates(held(2), offer(5, updates)) == updates
        assert missed_updates(held(4), offer(5, updates)) == updates[2:]
        assert missed_updates(held(1), offer(5, updates)) is None
        assert missed_updates(held(9), offer(5, updates)) is None
        assert missed_updates(replace(held(4), weights_digest=bytes(16)), offer(5, updates)) is None
        assert missed_updates(held(2), offer(5, [updates[0], updates[2]])) is None
        assert missed_updates(held(2), offer(5, [replace(each, codec="mask-float16") for each in updates])) is None
        assert missed_updates(held(4), offer(6, updates)) is None

    def test_another_bundle_needs_graph_and_weights_whatever_the_version(self) -> None:
        stranger = replace(hello_of(holds=replace(held(5), bundle_digest=bytes(16))), graphs=(bytes(16),))
        kinds = [type(message) for message in greeting_messages(stranger, offer(5))]
        assert kinds == [Welcome, ModelChunk, SnapshotHeader, ModelChunk]

    def test_an_edge_goes_back_to_weights_that_it_keeps(self) -> None:
        ahead = replace(hello_of(holds=held(9)), weights=tuple(holdings(9, 8, 5, 4, 0).weights))
        updates = [update_to(version) for version in (3, 4, 5)]
        welcome, header, chunk = greeting_messages(ahead, offer(5, updates, start=0))
        assert welcome == WELCOME_BACK
        assert isinstance(header, SnapshotHeader)
        assert isinstance(chunk, ModelChunk)
        digest = weights_digest(weights_of(5))
        assert (header.version, header.weights_digest, header.base_digest) == (5, digest, digest)
        assert len(chunk.data) < 50
        older = replace(ahead, weights=tuple(holdings(9, 2).weights))
        _, header, _, *rest = greeting_messages(older, offer(5, updates, start=0))
        assert isinstance(header, SnapshotHeader)
        assert (header.version, rest) == (2, updates)
        session = ClientSession(hello_of(holds=held(9)), BatchOutbox(20.0), IncomingSnapshot(), holdings(9, 2))
        *_, event, _, _, _ = [
            event for each in greeting_messages(older, offer(5, updates, start=0)) for event in session.receive(each)
        ]
        assert isinstance(event, SnapshotReceived)
        np.testing.assert_array_equal(event.vector, weights_of(2))

    def test_updates_in_another_codec_are_no_way_from_weights_that_are_kept(self) -> None:
        updates = [replace(update_to(5), codec="mask-float16")]
        hello = replace(hello_of(holds=held(9)), weights=tuple(holdings(9, 4).weights))
        headers = [each for each in greeting_messages(hello, offer(5, updates, start=0)) if isinstance(each, SnapshotHeader)]
        assert [header.version for header in headers] == [0, 5]

    def test_what_was_learnt_since_the_start_goes_on_where_it_broke_off(self) -> None:
        hello = replace(hello_of(holds=held(9)), weights=(weights_digest(weights_of(0)),), downlink_bps=8 * 4096)
        _, header, *chunks = greeting_messages(hello, offer(5, start=0))
        assert isinstance(header, SnapshotHeader)
        assert header.base_digest == weights_digest(weights_of(0))
        partial = PartialSnapshot(encoded_digest=header.encoded_digest, received_bytes=4096)
        _, rest, *others = greeting_messages(replace(hello, partial=partial), offer(5, start=0))
        assert rest == replace(header, first_byte=4096)
        assert others == chunks[1:]

    def test_a_change_begins_anew_where_the_start_before_it_takes_its_place(self) -> None:
        hello = replace(hello_of(), downlink_bps=8 * 4096)
        *_, header = (each for each in greeting_messages(hello, offer(5, start=0)) if isinstance(each, SnapshotHeader))
        assert header.base_digest
        partial = PartialSnapshot(encoded_digest=header.encoded_digest, received_bytes=4096)
        incoming = IncomingSnapshot()
        session = ClientSession(hello, BatchOutbox(20.0), incoming, NOTHING)
        messages = greeting_messages(replace(hello, partial=partial), offer(5, start=0))
        received = [event for each in messages for event in session.receive(each) if isinstance(event, SnapshotReceived)]
        assert [event.version for event in received] == [0, 5]

    @pytest.mark.parametrize(("bps", "expected"), [(0, CHUNK_BYTES), (1, 4096), (200_000, 12_500), (10**9, CHUNK_BYTES)])
    def test_chunks_take_half_a_second_of_the_budget(self, bps: int, expected: int) -> None:
        assert chunk_size(bps) == expected


class Wire:
    """Both sessions facing each other; what is on the way is lost when the link breaks."""

    def __init__(self) -> None:
        self.ledger = BatchLedger()
        self.outbox = BatchOutbox(600.0)
        self.incoming = IncomingSnapshot()
        self.delivered: list[int] = []
        self.version = 0
        self.updates: list[Update] = []
        self.edge: tuple[int, Float32Array] | None = None
        self.connect()

    def connect(self) -> None:
        holds = None if self.edge is None else held(self.edge[0])
        hello = replace(hello_of(holds=holds), downlink_bps=8 * 4096)
        kept = [] if self.edge is None else [0, self.edge[0]]
        self.client = ClientSession(hello, self.outbox, self.incoming, holdings(*kept) if kept else NOTHING)
        self.server = ServerSession(self.ledger, ManualClock(), 0.0)
        self.greeted = False
        self.up: deque[ClientMessage] = deque()

    def train(self) -> None:
        self.version += 1
        self.updates = [*self.updates, update_to(self.version)][-3:]
        if self.greeted:
            self.server.send(self.updates[-1])

    @property
    def quiet(self) -> bool:
        return not self.up and self.client.peek() is None and self.server.peek() is None

    def talk(self) -> None:
        self.client_sends()
        self.arrive()
        self.server_sends()

    def client_sends(self) -> None:
        if (message := self.client.peek()) is not None:
            self.client.pop()
            self.up.append(message)

    def arrive(self) -> None:
        if self.up:
            for event in self.server.receive(self.up.popleft()):
                if isinstance(event, HelloReceived):
                    self.server.greet(greeting_messages(event.hello, offer(self.version, self.updates, start=0)))
                    self.greeted = True
                elif isinstance(event, BatchArrived):
                    self.delivered.append(event.batch.batch_id)

    def server_sends(self) -> None:
        if (message := self.server.peek()) is not None:
            self.server.pop()
            for event in self.client.receive(message):
                if isinstance(event, SnapshotReceived):
                    self.edge = event.version, event.vector
                elif isinstance(event, UpdateReceived):
                    assert self.edge is not None
                    assert self.edge[0] == event.update.base_version
                    self.edge = event.update.version, weights_of(event.update.version)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["client", "arrive", "server", "server", "train", "batch", "break"]), max_size=80))
def test_whatever_breaks_batches_arrive_once_in_order_and_versions_agree_in_the_end(steps: list[str]) -> None:
    wire, batches = Wire(), 0
    while not wire.quiet:
        wire.talk()
    for step in steps:
        if step == "client":
            wire.client_sends()
        elif step == "arrive":
            wire.arrive()
        elif step == "server":
            wire.server_sends()
        elif step == "train":
            wire.train()
        elif step == "batch":
            batches += 1
            wire.outbox.add(batch(batches))
        elif step == "break":
            wire.connect()
    while not wire.quiet:
        wire.talk()
    assert wire.delivered == list(range(1, batches + 1))
    assert len(wire.outbox) == 0
    assert wire.edge is not None
    assert wire.edge[0] == wire.version
    np.testing.assert_array_equal(wire.edge[1], weights_of(wire.version))
