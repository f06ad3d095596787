import asyncio
from typing import Any, cast

import pytest
from tests.protocol_support import FakeBackend, held, hello_of, offer

from ams_common.clock import ManualClock
from ams_common.proto import adaptation_pb2 as pb
from ams_common.wire import client_message_to_proto
from ams_server.device_stream import Context
from ams_server.service import AdaptationService, ServiceConfig


class SlowCall:
    """A call that takes its time for each write, as one over a network does, and like gRPC must not lose one half-way."""

    def __init__(self, *messages: pb.ClientMessage) -> None:
        self._incoming = list(messages)
        self.written: list[str] = []
        self.reasons: list[str] = []
        self.first_write = asyncio.Event()
        self.cut_off = 0

    def peer(self) -> str:
        return "test"

    async def read(self) -> pb.ClientMessage:
        if not self._incoming:
            await asyncio.Event().wait()
        return self._incoming.pop(0)

    async def write(self, message: pb.ServerMessage) -> None:
        try:
            for _ in range(5):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        self.written.append(message.WhichOneof("message") or "")
        self.first_write.set()
        if message.HasField("problem"):
            self.reasons.append(message.problem.reason)


def test_what_is_being_written_when_the_edge_breaks_a_rule_is_written_to_its_end() -> None:
    async def serve() -> SlowCall:
        hello = client_message_to_proto(hello_of("camera-1", held(2)))
        call = SlowCall(hello, hello)
        service = AdaptationService(ServiceConfig(), FakeBackend(offer(2)), ManualClock())
        await asyncio.wait_for(service.Adapt(object(), cast("Context", call)), 60)
        return call

    call = asyncio.run(serve())
    assert call.cut_off == 0
    assert call.written[0] == "welcome"
    assert call.written[-1] == "problem"


def test_a_call_that_takes_nothing_is_given_up(monkeypatch: Any) -> None:
    class StuckCall(SlowCall):
        async def write(self, message: pb.ServerMessage) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("ams_server.device_stream.END_TIMEOUT_S", 0.01)

    async def serve() -> None:
        hello = client_message_to_proto(hello_of("camera-1", held(2)))
        service = AdaptationService(ServiceConfig(), FakeBackend(offer(2)), ManualClock())
        await asyncio.wait_for(service.Adapt(object(), cast("Context", StuckCall(hello, hello))), 60)

    asyncio.run(serve())


def test_a_stream_without_a_hello_ends_in_time_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_server.device_stream.HELLO_TIMEOUT_S", 0.01)
    call = SlowCall()
    service = AdaptationService(ServiceConfig(), FakeBackend(offer(2)), ManualClock())
    asyncio.run(asyncio.wait_for(service.Adapt(object(), cast("Context", call)), 60))
    assert call.written == ["problem"]
    assert call.reasons == ["no hello came within 0.01 s"]


def test_a_stream_that_takes_nothing_gives_way_to_the_next_one_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class StuckCall(SlowCall):
        async def write(self, message: pb.ServerMessage) -> None:
            await asyncio.Event().wait()

    for module in ("device_stream", "service"):
        monkeypatch.setattr(f"ams_server.{module}.END_TIMEOUT_S", 0.01)
    hello, backend = client_message_to_proto(hello_of("camera-1", held(2))), FakeBackend(offer(2))

    async def serve() -> SlowCall:
        service = AdaptationService(ServiceConfig(), backend, ManualClock())
        older = asyncio.ensure_future(service.Adapt(object(), cast("Context", StuckCall(hello))))
        await asyncio.to_thread(backend.connection)
        newer = SlowCall(hello)
        stream = asyncio.ensure_future(service.Adapt(object(), cast("Context", newer)))
        await asyncio.wait_for(older, 60)
        await asyncio.wait_for(newer.first_write.wait(), 60)
        service.drain("the test is over")
        await asyncio.wait_for(stream, 60)
        return newer

    assert asyncio.run(serve()).written == ["welcome", "drain"]
    assert backend.connection().closed.is_set()
    assert len(backend.connections.items) == 2
