import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from tests.protocol_support import batch, held, hello_of, holdings, offer

from ams_common.budget import Allowance, TokenBucket
from ams_common.clock import ManualClock
from ams_common.flights import PROMPT_S, Flight, Flights
from ams_common.link_speed import LinkSpeed
from ams_common.messages import BatchReceived, ServerMessage
from ams_common.proto import adaptation_pb2 as pb
from ams_common.session.client import ClientSession
from ams_common.session.greeting import greeting_messages
from ams_common.session.incoming import IncomingSnapshot
from ams_common.session.outbox import BatchOutbox
from ams_common.wire import server_message_to_proto
from ams_edge.edge_stream import Call, EdgeStream, Traffic

HELLO = hello_of(holds=held(2))


class FakeCall:
    """The edge's side of a call, without a network."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[pb.ServerMessage] = asyncio.Queue()
        self.written: list[pb.ClientMessage] = []

    @property
    def batches(self) -> list[int]:
        return [each.frame_batch.batch_id for each in self.written if each.WhichOneof("message") == "frame_batch"]

    async def read(self) -> pb.ServerMessage:
        return await self._incoming.get()

    async def write(self, message: pb.ClientMessage) -> None:
        self.written.append(message)

    async def arrive(self, *messages: ServerMessage) -> None:
        for each in messages:
            self._incoming.put_nowait(server_message_to_proto(each))
        await settle()


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class Stage:
    """A stream that was welcomed, and what it is made of."""

    def __init__(self) -> None:
        self.clock, self.call, self.outbox = ManualClock(), FakeCall(), BatchOutbox(600.0)
        self.wake, self.flights, self.speed = asyncio.Event(), list[Flight](), LinkSpeed()
        self.uplink = TokenBucket(Allowance(bps=0, burst_bytes=1), self.clock)
        self.stream = EdgeStream(
            call=cast("Call", self.call),
            session=ClientSession(HELLO, self.outbox, IncomingSnapshot(), holdings(2)),
            uplink=self.uplink,
            traffic=Traffic(),
            wake=self.wake,
            stopped=asyncio.Event(),
            on_event=lambda event: None,
            flights=Flights(self.clock),
            speed=self.speed,
            on_flight=self.flights.append,
        )

    async def add(self, *batch_ids: int) -> None:
        for batch_id in batch_ids:
            self.outbox.add(batch(batch_id))
        self.wake.set()
        await settle()


async def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    """Let `scene` happen on a stream that was welcomed."""
    stage = Stage()
    running = asyncio.ensure_future(stage.stream.run())
    await settle()
    await stage.call.arrive(*greeting_messages(HELLO, offer(2)))
    await scene(stage)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_batches_whose_answers_are_late_are_followed_by_one_and_no_more() -> None:
    async def scene(stage: Stage) -> None:
        await stage.add(1, 2, 3)
        assert stage.call.batches == [1, 2, 3], "as long as nothing is late, all may go"
        stage.clock.sleep(PROMPT_S + 0.1)
        await stage.add(4)
        assert stage.call.batches == [1, 2, 3]
        await stage.call.arrive(BatchReceived(batch_id=1))
        assert stage.call.batches == [1, 2, 3], "two are still on the way and late"
        await stage.call.arrive(BatchReceived(batch_id=2))
        assert stage.call.batches == [1, 2, 3, 4]
        assert [each.waited_s > 0 for each in stage.flights] == [False, True]

    asyncio.run(play(scene))


def test_batches_that_may_not_have_left_yet_keep_their_place_in_the_budget() -> None:
    async def scene(stage: Stage) -> None:
        stage.uplink.change(Allowance(bps=8_000_000, burst_bytes=3600, reserve_bytes=600))
        stage.clock.sleep(0.5)
        await stage.add(1, 2, 3, 4)
        assert stage.call.batches == [1, 2]
        stage.clock.sleep(0.5)
        stage.wake.set()
        await settle()
        assert stage.call.batches == [1, 2], "the rate alone would have brought room for hundreds"
        await stage.call.arrive(BatchReceived(batch_id=1))
        stage.clock.sleep(0.1)
        stage.wake.set()
        await settle()
        assert stage.call.batches == [1, 2, 3]

    asyncio.run(play(scene))


def test_small_messages_pass_batches_that_wait_for_a_slow_link() -> None:
    async def scene(stage: Stage) -> None:
        stage.speed.observe(Flight(wire_bytes=10_000, duration_s=20.0))
        await stage.add(1, 2, 3)
        stage.stream.session.request_snapshot("lost")
        stage.wake.set()
        await settle()
        assert [each.WhichOneof("message") for each in stage.call.written[-2:]] == ["frame_batch", "snapshot_request"]
        assert stage.call.batches == [1, 2]

    asyncio.run(play(scene))


def test_on_a_link_that_is_known_to_be_slow_no_more_than_two_are_ever_on_the_way() -> None:
    async def scene(stage: Stage) -> None:
        stage.speed.observe(Flight(wire_bytes=10_000, duration_s=20.0))
        await stage.add(1, 2, 3, 4)
        assert stage.call.batches == [1, 2]
        await stage.call.arrive(BatchReceived(batch_id=1))
        assert stage.call.batches == [1, 2, 3]

    asyncio.run(play(scene))
