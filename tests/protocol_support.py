"""A small model, messages about it, and a server with a scripted backend on a real socket, for the tests of the protocol."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial as partial_function

import numpy as np

from ams_common.budget import Allowance, TokenBucket
from ams_common.classes import ClassSet, SegmentationClass
from ams_common.clock import SystemClock
from ams_common.compression import zstd_compress
from ams_common.errors import AmsError
from ams_common.flights import Flight
from ams_common.layout import DIGEST_BYTES, Float32Array, ParameterLayout, TensorSpec, weights_digest
from ams_common.messages import (
    Control,
    FrameBatch,
    HeldModel,
    Hello,
    ModelManifest,
    PartialSnapshot,
    ServerMessage,
    Update,
)
from ams_common.session import greeting
from ams_common.session.greeting import Offer, greeting_messages, starting_point
from ams_common.session.holdings import Holdings
from ams_common.session.server import ServerEvent
from ams_common.snapshot_codec import SMALL, encode_snapshot
from ams_server.device_stream import Connection
from ams_server.service import Backend, Outlet, ServiceConfig, serve

TIMEOUT_S = 20.0
GRAPH = bytes(range(256)) * 40
GRAPH_FRAME = zstd_compress(GRAPH, SMALL)
"""The graph as it is sent."""
LAYOUT = ParameterLayout(
    (TensorSpec(name="weight", shape=(300, 10)), TensorSpec(name="running_mean", shape=(10,), trainable=False))
)
MANIFEST = ModelManifest(
    student="tiny",
    classes=ClassSet(
        "two", (SegmentationClass(name="road", colour=(1, 2, 3)), SegmentationClass(name="sky", colour=(4, 5, 6)))
    ),
    width=64,
    height=32,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    layout=LAYOUT,
    graph_digest=hashlib.blake2b(GRAPH, digest_size=DIGEST_BYTES).digest(),
)
GRAPHS = {MANIFEST.graph_digest: GRAPH}
CONTROL = Control(sampling_hz=1.0, batch_interval_s=10.0, batch_bytes=100_000, frame_width=64, frame_height=32)
HELLO = Hello(device_id="camera-1", run_id=bytes(16), codecs=("gap-zstd", "mask-float16"))


def weights_of(version: int) -> Float32Array:
    """Return the whole vector at `version`."""
    return np.random.default_rng(version).standard_normal(LAYOUT.size).astype(np.float32)


def update_to(version: int) -> Update:
    """Return the update that leads to `version`; its payload is opaque to the protocol."""
    return Update(
        version=version,
        base_version=version - 1,
        base_digest=weights_digest(weights_of(version - 1)),
        result_digest=weights_digest(weights_of(version)),
        codec="gap-zstd",
        payload=bytes([version]) * 100,
    )


def batch(batch_id: int, size: int = 1000) -> FrameBatch:
    """Return two frames with `size` bytes of video, a second after those of the batch before."""
    half = size // 2
    return FrameBatch(
        batch_id=batch_id,
        video_codec="h264",
        width=64,
        height=32,
        capture_times_us=(1_000_000 * batch_id - 500_000, 1_000_000 * batch_id),
        packets=((0, bytes(half)), (1, bytes(size - half))),
    )


def offer(version: int, updates: Sequence[Update] = (), *, start: int | None = None) -> Offer:
    """Return what a server at `version` has, whose devices begin with the weights of version `start`, or with these."""
    weights = weights_of(version)
    return Offer(
        start=starting_point(MANIFEST, GRAPH, weights if start is None else weights_of(start)),
        codec="gap-zstd",
        control=CONTROL,
        version=version,
        weights=weights,
        weights_digest=weights_digest(weights),
        recent_updates=updates,
    )


def held(version: int) -> HeldModel:
    """Return how an edge that runs `version` says so."""
    digest = weights_digest(weights_of(version))
    return HeldModel(bundle_digest=MANIFEST.bundle_digest, version=version, weights_digest=digest)


def snapshot_messages(
    version: int, weights: Float32Array, digest: bytes, chunk_bytes: int, partial: PartialSnapshot | None = None
) -> list[ServerMessage]:
    """Return a snapshot of `weights` that stands alone."""
    return greeting.snapshot_messages(version, digest, encode_snapshot(weights, LAYOUT), chunk_bytes, partial)


def holdings(*versions: int) -> Holdings:
    """Return what an edge has that keeps the graph and the weights of these versions."""
    vectors = {weights_digest(weights_of(version)): partial_function(weights_of, version) for version in versions}
    return Holdings(graphs=GRAPHS, weights=vectors)


class Mailbox:
    """A list that threads fill and a test waits on."""

    def __init__(self) -> None:
        self.items: list[object] = []
        self._changed = threading.Condition()

    def put(self, item: object) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[list[object]], bool]) -> None:
        """Return once the list is as wanted; fail the test after TIMEOUT_S."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.items), TIMEOUT_S), self.items

    def wait_count(self, kind: type, count: int = 1) -> None:
        """Return once there are at least `count` items of `kind`."""
        self.wait_for(lambda items: sum(isinstance(item, kind) for item in items) >= count)

    def all(self, kind: type) -> list[object]:
        with self._changed:
            return [item for item in self.items if isinstance(item, kind)]


@dataclass(kw_only=True)
class FakeConnection:
    """Greets with an offer and keeps what is delivered."""

    hello: Hello
    outlet: Outlet
    offer: Offer
    downlink: TokenBucket
    events: Mailbox = field(default_factory=Mailbox)
    closed: threading.Event = field(default_factory=threading.Event)
    spent_before_bytes: int = 0
    """Of the downlink, when the device was accepted."""
    received_bytes: int = 0
    flights: Mailbox = field(default_factory=Mailbox)

    def greeting(self) -> Sequence[ServerMessage]:
        return greeting_messages(self.hello, self.offer)

    def count_received(self, wire_bytes: int) -> None:
        self.received_bytes += wire_bytes

    def observe_downlink(self, flight: Flight) -> None:
        self.flights.put(flight)

    def deliver(self, event: ServerEvent) -> None:
        self.events.put(event)

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


class FakeBackend:
    """Serves every device the same offer, or refuses it."""

    connection_class = FakeConnection

    def __init__(self, offered: Offer, *, refusal: AmsError | None = None, downlink_bps: int = 0, burst_bytes: int = 1) -> None:
        self.offer = offered
        self.refusal = refusal
        self._allowed = Allowance(bps=downlink_bps, burst_bytes=burst_bytes)
        self.connections = Mailbox()

    async def connect(self, hello: Hello, outlet: Outlet, downlink: TokenBucket) -> Connection:
        if self.refusal is not None:
            raise self.refusal
        downlink.change(self._allowed)
        connection = self.connection_class(
            hello=hello, outlet=outlet, offer=self.offer, downlink=downlink, spent_before_bytes=downlink.spent_bytes
        )
        self.connections.put(connection)
        return connection

    def connection(self, index: int = 0) -> FakeConnection:
        """Return the connection number `index`, once there is one."""
        self.connections.wait_count(FakeConnection, index + 1)
        found = self.connections.items[index]
        assert isinstance(found, FakeConnection)
        return found


class ServerThread:
    """`serve` on a loop of its own."""

    def __init__(self, backend: Backend, config: ServiceConfig) -> None:
        self._backend = backend
        self._config = config
        self._bound = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._thread.start()
        assert self._bound.wait(TIMEOUT_S)

    def stop(self) -> None:
        """Drain and wait for the end; may be called twice."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await serve(self._config, self._backend, stop=self._stop, clock=SystemClock(), on_bound=self._on_bound)

    def _on_bound(self, port: int) -> None:
        self.port = port
        self._bound.set()


@contextmanager
def running_server(backend: Backend, *, port: int = 0, max_devices: int = 8) -> Iterator[ServerThread]:
    """Run a server on loopback for the length of the block."""
    server = ServerThread(backend, ServiceConfig(listen=f"127.0.0.1:{port}", max_devices=max_devices))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def hello_of(device_id: str = "camera-1", holds: HeldModel | None = None) -> Hello:
    """Return a hello of the device, which keeps the graph where it holds a model."""
    return replace(HELLO, device_id=device_id, held=holds, graphs=() if holds is None else tuple(GRAPHS))
