"""The service over a real socket, against clients that say exactly what a test wants, garbage too."""

import asyncio
import queue
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from tests.protocol_support import (
    CONTROL,
    HELLO,
    MANIFEST,
    TIMEOUT_S,
    FakeBackend,
    FakeConnection,
    batch,
    held,
    hello_of,
    offer,
    running_server,
    update_to,
)

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError, ModelError
from ams_common.flights import Flight
from ams_common.framing import CONNECTION_BYTES, sent_bytes
from ams_common.messages import (
    PROTOCOL_VERSION,
    Applied,
    BatchReceived,
    ChunkReceived,
    ClientMessage,
    Control,
    Drain,
    FrameBatch,
    HeldModel,
    ModelChunk,
    Problem,
    ServerMessage,
    SnapshotHeader,
    SnapshotRequest,
    Update,
    Welcome,
)
from ams_common.proto import adaptation_pb2 as pb
from ams_common.session.server import AppliedReported, BatchArrived, EdgeDraining, RefusedError, SnapshotWanted
from ams_common.wire import client_message_to_proto, server_message_from_proto, server_message_to_proto
from ams_server.downlinks import Downlinks
from ams_server.service import ServiceConfig, serve


class Client:
    """One stream whose messages are written and read one by one."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        adapt: Any = channel.stream_stream("/ams.Adaptation/Adapt", request_serializer=None, response_deserializer=None)
        self.call = adapt(iter(self._outgoing.get, None), timeout=TIMEOUT_S)

    def send(self, *messages: ClientMessage) -> None:
        for message in messages:
            self.send_bytes(client_message_to_proto(message).SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        self._outgoing.put(data)

    def end(self) -> None:
        self._outgoing.put(None)

    def read(self) -> ServerMessage:
        return server_message_from_proto(pb.ServerMessage.FromString(next(self.call)))

    def read_until(self, kind: type) -> list[ServerMessage]:
        """Read up to and including the first message of `kind`."""
        messages = [self.read()]
        while not isinstance(messages[-1], kind):
            messages.append(self.read())
        return messages

    def read_to_end(self) -> list[ServerMessage]:
        """Read what comes before an orderly end of the stream."""
        messages = [server_message_from_proto(pb.ServerMessage.FromString(data)) for data in self.call]
        assert self.call.code() == grpc.StatusCode.OK
        return messages


@contextmanager
def client(port: int) -> Iterator[Client]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stream = Client(channel)
        try:
            yield stream
        finally:
            stream.end()
            stream.call.cancel()


def test_welcome_comes_first_and_control_overtakes_the_model() -> None:
    class Chatty(FakeConnection):
        def greeting(self) -> list[ServerMessage]:
            self.outlet.send(CONTROL)
            self.outlet.send(update_to(3))
            return list(super().greeting())

    class ChattyBackend(FakeBackend):
        connection_class = Chatty

    with running_server(ChattyBackend(offer(2))) as server, client(server.port) as stream:
        stream.send(HELLO)
        kinds = [type(message) for message in stream.read_until(Update)]
    assert kinds[0] is Welcome
    assert Control in kinds[1:]
    assert [kind for kind in kinds if kind is not Control] == [Welcome, ModelChunk, SnapshotHeader, ModelChunk, Update]


def test_a_batch_that_comes_twice_is_delivered_once_also_after_a_reconnect() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server:
        for _ in range(2):
            with client(server.port) as stream:
                stream.send(hello_of(holds=held(2)), batch(1), batch(2), batch(2))
                assert isinstance(stream.read(), Welcome)
                assert [stream.read() for _ in range(3)] == [BatchReceived(batch_id=number) for number in (1, 2, 2)]
        with client(server.port) as stream:
            stream.send(replace(hello_of(holds=held(2)), run_id=bytes([1] * 16)), batch(1))
            stream.read_until(BatchReceived)
        delivered = [backend.connection(index).events.all(BatchArrived) for index in range(3)]
    first, second = BatchArrived(batch=batch(1)), BatchArrived(batch=batch(2))
    assert delivered == [[first, second], [], [first]]


def test_reports_reach_the_connection_and_an_end_closes_it() -> None:
    backend = FakeBackend(offer(2))
    applied = Applied(version=2, weights_digest=bytes(16), build_time_ms=17.0)
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(hello_of(holds=held(2)), applied, SnapshotRequest(reason="bad digest"), Drain(reason="edge stops"))
        stream.end()
        assert [type(message) for message in stream.read_to_end()] == [Welcome]
        assert backend.connection().closed.wait(TIMEOUT_S)
    assert backend.connection().events.items == [
        AppliedReported(applied=applied),
        SnapshotWanted(reason="bad digest"),
        EdgeDraining(reason="edge stops"),
    ]


def test_a_client_that_vanishes_closes_its_connection() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server:
        with client(server.port) as stream:
            stream.send(HELLO)
            stream.read_until(SnapshotHeader)
        assert backend.connection().closed.wait(TIMEOUT_S)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xffnot protobuf", "no protobuf"),
        (b"", "message is empty"),
        (client_message_to_proto(batch(1)).SerializeToString(), "before the hello"),
        (client_message_to_proto(replace(HELLO, device_id="../etc/passwd")).SerializeToString(), "device id"),
        (client_message_to_proto(replace(HELLO, run_id=b"short")).SerializeToString(), "run_id has 5 bytes"),
    ],
)
def test_garbage_instead_of_a_hello_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server, client(server.port) as stream:
        stream.send_bytes(data)
        (problem,) = stream.read_to_end()
    assert isinstance(problem, Problem)
    assert problem.code == "bad_request"
    assert reason in problem.reason
    assert not backend.connections.items


def test_garbage_later_ends_the_stream_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server, client(server.port) as good, client(server.port) as bad:
        good.send(hello_of("good", held(2)))
        good.read_until(Welcome)
        bad.send(hello_of("bad", held(2)), hello_of("bad", held(2)))
        *_, problem = bad.read_to_end()
        assert problem == Problem(code="bad_request", reason="a second hello came")
        good.send(batch(1))
        assert good.read() == BatchReceived(batch_id=1)
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert line.startswith("the stream of device bad from ipv")
    assert line.endswith(" ends: a second hello came")


def told(uplink_bps: int) -> FakeBackend:
    """Return a backend whose welcome tells devices that they may send so much."""
    return FakeBackend(replace(offer(2), control=replace(CONTROL, uplink_bps=uplink_bps)))


def flood(stream: Client) -> None:
    """Send at once what 50 kbit/s bring in twelve minutes."""
    stream.send(*(batch(number, 450_000) for number in range(1, 11)))


def test_a_device_that_sends_far_more_than_it_was_told_is_told_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    with running_server(told(50_000)) as server, client(server.port) as good, client(server.port) as bad:
        good.send(hello_of("good", held(2)))
        good.read_until(Welcome)
        bad.send(hello_of("bad", held(2)))
        bad.read_until(Welcome)
        flood(bad)
        problem = bad.read_to_end()[-1]
        good.send(batch(1))
        assert good.read() == BatchReceived(batch_id=1)
    assert isinstance(problem, Problem)
    assert problem.code == "bad_request"
    said = r"2\d{3} kB came within \d+ s, more than the 2\d{3} kB that are let pass with all margin: the uplink is 50 kbit/s"
    assert re.fullmatch(said, problem.reason)
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert line.startswith("the stream of device bad from ipv")
    assert line.endswith(f" ends: {problem.reason}")


def test_what_a_device_is_told_later_is_what_counts() -> None:
    backend = told(50_000)
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(hello_of(holds=held(2)))
        stream.read_until(Welcome)
        backend.connection().outlet.send(CONTROL)
        stream.read_until(Control)
        flood(stream)
        assert [stream.read() for _ in range(10)] == [BatchReceived(batch_id=number) for number in range(1, 11)]
        backend.connection().outlet.send(replace(CONTROL, uplink_bps=50_000))
        stream.read_until(Control)
        stream.send(batch(11, 3_000_000))
        assert stream.read() == BatchReceived(batch_id=11), "it may have been on its way"


def test_another_version_of_the_protocol_is_unsupported() -> None:
    with running_server(FakeBackend(offer(2))) as server, client(server.port) as stream:
        stream.send(replace(HELLO, protocol_version=PROTOCOL_VERSION + 1))
        (problem,) = stream.read_to_end()
    assert isinstance(problem, Problem)
    assert problem.code == "unsupported"


def test_a_failure_of_the_server_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeBackend):
        async def connect(self, hello: object, outlet: object, downlink: object) -> FakeConnection:
            raise KeyError("secret")

    with running_server(Broken(offer(2))) as server, client(server.port) as stream:
        stream.send(HELLO)
        (problem,) = stream.read_to_end()
    assert isinstance(problem, Problem)
    assert problem.code == "internal"
    assert "secret" not in problem.reason
    assert "secret" in caplog.text


def test_an_error_of_the_model_is_internal() -> None:
    backend = FakeBackend(offer(2), refusal=ModelError("weights lack a tensor"))
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(HELLO)
        assert stream.read_to_end() == [Problem(code="internal", reason="weights lack a tensor")]


def test_a_second_stream_of_a_device_replaces_the_first() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend, max_devices=1) as server, client(server.port) as first, client(server.port) as second:
        first.send(hello_of(holds=held(2)))
        first.read_until(Welcome)
        second.send(hello_of(holds=held(2)))
        (problem,) = first.read_to_end()
        assert isinstance(problem, Problem)
        assert problem.code == "replaced"
        second.read_until(Welcome)
        assert backend.connection(0).closed.is_set()
        assert not backend.connection(1).closed.is_set()


def test_one_device_too_many_is_asked_to_come_back() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend, max_devices=1) as server, client(server.port) as first, client(server.port) as second:
        first.send(hello_of("first"))
        first.read_until(Welcome)
        second.send(hello_of("second"))
        (problem,) = second.read_to_end()
        assert isinstance(problem, Problem)
        assert problem == Problem(code="busy", reason="the server has 1 device and takes no more")


def test_attempts_that_are_refused_are_paid_from_the_budget_of_the_device() -> None:
    backend, spent = FakeBackend(offer(2)), 0
    with running_server(backend, max_devices=1) as server:
        with client(server.port) as first:
            first.send(hello_of("first"))
            first.read_until(Welcome)
            refused = [replace(hello_of("second"), protocol_version=PROTOCOL_VERSION + 1), hello_of("second")]
            for hello, code in zip(refused, ("unsupported", "busy"), strict=True):
                with client(server.port) as second:
                    second.send(hello)
                    (problem,) = second.read_to_end()
                assert isinstance(problem, Problem)
                assert problem.code == code
                spent += CONNECTION_BYTES + sent_bytes(server_message_to_proto(problem).ByteSize())
        assert backend.connection().closed.wait(TIMEOUT_S)
        backend.refusal = RefusedError("busy", "no room")
        with client(server.port) as third:
            third.send(hello_of("second"))
            (problem,) = third.read_to_end()
        assert isinstance(problem, Problem)
        spent += CONNECTION_BYTES + sent_bytes(server_message_to_proto(problem).ByteSize())
        backend.refusal = None
        with client(server.port) as third:
            third.send(hello_of("second"))
            connection = backend.connection(1)
            assert connection.spent_before_bytes == spent + CONNECTION_BYTES


def test_a_device_that_leaves_is_remembered_though_others_have_come_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_server.service.Downlinks", lambda clock: Downlinks(clock, capacity=1))
    backend = FakeBackend(offer(2))
    with running_server(backend) as server, client(server.port) as other:
        with client(server.port) as first:
            first.send(hello_of("first"))
            first.read_until(Welcome)
            other.send(hello_of("other"))
            other.read_until(Welcome)
        assert backend.connection().closed.wait(TIMEOUT_S)
        with client(server.port) as again:
            again.send(hello_of("first"))
            again.read_until(Welcome)
        assert backend.connection(2).downlink is backend.connection(0).downlink


def test_a_stop_drains_all_streams() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(hello_of(holds=held(2)))
        stream.read_until(Welcome)
        server.stop()
        assert stream.read_to_end() == [Drain(reason="the server stops")]
        assert backend.connection().closed.is_set()


def test_updates_after_the_end_of_a_stream_are_forgotten() -> None:
    backend = FakeBackend(offer(2))
    with running_server(backend) as server:
        with client(server.port) as stream:
            stream.send(HELLO)
            stream.read_until(Welcome)
        assert backend.connection().closed.wait(TIMEOUT_S)
        backend.connection().outlet.send(update_to(3))
    backend.connection().outlet.send(update_to(4))


def test_the_model_waits_for_the_downlink_while_acknowledgements_pass() -> None:
    backend = FakeBackend(offer(2), downlink_bps=800_000, burst_bytes=4096)
    size = len(offer(2).start.snapshot)
    with running_server(backend) as server, client(server.port) as stream:
        started_s = time.monotonic()
        stream.send(replace(HELLO, downlink_bps=80_000), batch(1))
        count = sum(isinstance(message, ModelChunk) for message in stream.read_until(BatchReceived))
        assert count <= 2
        stream.send(ChunkReceived(chunks=count))
        while (chunk := stream.read_until(ModelChunk)[-1]) and isinstance(chunk, ModelChunk):
            count += 1
            stream.send(ChunkReceived(chunks=count))
            assert len(chunk.data) <= 5000
            if chunk.part == "weights" and chunk.offset + len(chunk.data) == size:
                break
        assert time.monotonic() - started_s > (size - 4096) / 100_000


def test_chunks_that_nobody_says_to_have_leave_no_room_for_others() -> None:
    # The bucket is full again at once, so that time alone holds back nothing.
    backend = FakeBackend(offer(2), downlink_bps=10**9, burst_bytes=2000)
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(replace(HELLO, downlink_bps=10**9))
        count = 0
        for batch_id in range(1, 20):
            stream.send(batch(batch_id))
            count += sum(isinstance(message, ModelChunk) for message in stream.read_until(BatchReceived))
        assert count == 1
        for count in (1, 2):
            stream.send(ChunkReceived(chunks=count))
            stream.read_until(ModelChunk)
        stream.send(ChunkReceived(chunks=4))
        problem = stream.read_until(Problem)[-1]
    assert isinstance(problem, Problem)
    assert problem.reason == "edge has 4 chunks, 3 were sent"


def test_why_a_stream_ends_is_told_however_deep_the_downlink_is_in_debt() -> None:
    backend = FakeBackend(offer(2), downlink_bps=8000, burst_bytes=4000)
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(hello_of(holds=held(2)))
        stream.read_until(Welcome)
        backend.connection().downlink.spend(10**6)
        stream.send(batch(1), HELLO)
        (problem,) = stream.read_until(Problem)
    assert isinstance(problem, Problem)
    assert problem.reason == "a second hello came"


def test_the_time_of_an_update_to_the_device_is_measured_without_the_building_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ams_common.flights.PROMPT_S", 0.0)
    backend = FakeBackend(offer(2))
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(hello_of(holds=held(2)))
        stream.read_until(Welcome)
        backend.connection().outlet.send(update_to(3))
        stream.read_until(Update)
        assert backend.connection().outlet.backlog == 1, "until the device says that it runs"
        for version in (3, 3, 9):
            stream.send(Applied(version=version, weights_digest=bytes(16), build_time_ms=1e6))
        backend.connection().events.wait_count(AppliedReported, 3)
        assert backend.connection().outlet.backlog == 0
    (flight,) = backend.connection().flights.items
    size_bytes = server_message_to_proto(update_to(3)).ByteSize()
    assert flight == Flight(wire_bytes=sent_bytes(size_bytes), duration_s=0.0)


def test_a_chunk_made_for_a_larger_budget_is_cut_to_the_one_that_holds() -> None:
    backend = FakeBackend(offer(2), downlink_bps=800_000, burst_bytes=4000)
    snapshot = backend.offer.start.snapshot
    with running_server(backend) as server, client(server.port) as stream:
        stream.send(HELLO)
        chunks: list[ModelChunk] = []
        count = 0
        while sum(len(each.data) for each in chunks) < len(snapshot):
            message = stream.read()
            if isinstance(message, ModelChunk):
                count += 1
                stream.send(ChunkReceived(chunks=count))
                chunks += [message] if message.part == "weights" else []
    assert len(chunks) > 2
    assert max(sent_bytes(len(each.data)) for each in chunks) < 4000
    assert b"".join(each.data for each in chunks) == snapshot
    assert backend.connection().received_bytes > 0


def test_a_port_in_use_is_one_clear_line() -> None:
    async def second(port: int) -> None:
        config = ServiceConfig(listen=f"127.0.0.1:{port}")
        await serve(config, FakeBackend(offer(0)), stop=asyncio.Event(), clock=SystemClock(), on_bound=print)

    reason = "cannot listen on 127.0.0.1:.*: address already in use: another program"
    with running_server(FakeBackend(offer(0))) as server, pytest.raises(ConfigurationError, match=reason):
        asyncio.run(second(server.port))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("host.invalid:5000", "cannot listen on host.invalid:5000: "),
        ("192.0.2.1:5000", r"cannot listen on 192\.0\.2\.1:5000: .*: this machine has no such address, name .* with --listen$"),
    ],
)
def test_an_address_of_another_machine_cannot_be_listened_on(address: str, reason: str) -> None:
    async def attempt() -> None:
        config = ServiceConfig(listen=address)
        await serve(config, FakeBackend(offer(0)), stop=asyncio.Event(), clock=SystemClock(), on_bound=print)

    with pytest.raises(ConfigurationError, match=reason):
        asyncio.run(attempt())


def test_held_models_of_another_bundle_get_everything() -> None:
    stranger = HeldModel(bundle_digest=bytes(16), version=2, weights_digest=held(2).weights_digest)
    with running_server(FakeBackend(offer(2))) as server, client(server.port) as stream:
        stream.send(replace(hello_of(holds=stranger), graphs=()))
        welcome = stream.read()
        assert isinstance(welcome, Welcome)
        assert welcome.manifest == MANIFEST
        assert welcome.graph_bytes > 0
        stream.read_until(SnapshotHeader)


def test_a_batch_of_the_largest_size_passes_and_a_larger_message_ends_the_stream() -> None:
    with running_server(FakeBackend(offer(2))) as server, client(server.port) as stream:
        stream.send(hello_of(holds=held(2)), batch(1, 3_750_000))
        stream.read_until(BatchReceived)
        stream.send(FrameBatch(**{**vars(batch(2)), "packets": ((0, bytes(4_100_000)), (1, b"x"))}))
        with pytest.raises(grpc.RpcError):
            stream.read()
