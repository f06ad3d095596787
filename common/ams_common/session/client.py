"""The edge's end of one stream, without I/O.

The owner feeds every message of the server to `receive`, acts on the events that come back, and sends what `peek` shows. A new
stream needs a new ClientSession; the outbox of batches outlives them.
"""

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from typing import TypeAlias

from ams_common.compression import zstd_decompress_within
from ams_common.delta_rows import count_rows
from ams_common.errors import ProtocolError
from ams_common.layout import DIGEST_BYTES, Float32Array, ParameterLayout, weights_digest
from ams_common.messages import (
    MAX_GRAPH_BYTES,
    MAX_KEPT_GRAPHS,
    MAX_KEPT_WEIGHTS,
    Applied,
    BatchReceived,
    Budget,
    ChunkPart,
    ChunkReceived,
    ClientMessage,
    Control,
    Drain,
    ErrorCode,
    Hello,
    ModelChunk,
    ModelManifest,
    Problem,
    ServerMessage,
    SnapshotHeader,
    SnapshotRequest,
    Update,
    Welcome,
)
from ams_common.session.holdings import Holdings
from ams_common.session.incoming import IncomingSnapshot
from ams_common.session.outbox import BatchOutbox
from ams_common.snapshot_codec import decode_snapshot

MAX_WAITING_REPORTS = 32
"""Applied, SnapshotRequest, ChunkReceived and Budget messages that wait to be sent; the oldest goes when there are more."""
_FINAL_CODES: tuple[ErrorCode, ...] = ("unsupported", "budget_too_small", "replaced")


@dataclass(frozen=True, kw_only=True)
class ModelReceived:
    """The server has named the model; weights follow unless those that are held are the newest."""

    manifest: ModelManifest
    graph: bytes
    """Serialised ONNX graph without weights, checked against the manifest."""
    codec: str
    """Update codec on this stream."""


@dataclass(frozen=True, kw_only=True)
class SnapshotAnnounced:
    """A whole set of weights is on its way; it may take minutes at a small budget."""

    version: int
    encoded_bytes: int
    """Bytes that are to come."""
    whole: bool
    """Whether they build on no other weights, so that the server knows of none here that it began with."""


@dataclass(frozen=True, kw_only=True)
class SnapshotChunk:
    """A part of the set of weights that was announced has come, and more is to come."""

    size_bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SnapshotReceived:
    """A whole set of weights, checked against its digest."""

    version: int
    vector: Float32Array
    """float32 [P], in the order of the manifest's layout."""
    weights_digest: bytes
    """Digest of `vector`."""


@dataclass(frozen=True, kw_only=True)
class UpdateReceived:
    """A sparse change, not decoded; whether it fits the weights is for the receiver to check."""

    update: Update


@dataclass(frozen=True, kw_only=True)
class ControlChanged:
    """Settings from now on."""

    control: Control


@dataclass(frozen=True, kw_only=True)
class BatchTaken:
    """The server has a batch; the outbox has let go of it."""

    batch_id: int


@dataclass(frozen=True, kw_only=True)
class Draining:
    """The server is about to close the stream and may come back."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ProblemReported:
    """The server has ended the stream with an error."""

    code: ErrorCode
    reason: str
    final: bool
    """True when trying again soon cannot help: a person must change what is asked for, or what the server offers."""


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    """The stream is down or could not be opened; comes once until the server accepts a stream again."""

    reason: str


ClientEvent: TypeAlias = (
    ModelReceived
    | SnapshotAnnounced
    | SnapshotChunk
    | SnapshotReceived
    | UpdateReceived
    | ControlChanged
    | BatchTaken
    | Draining
    | ProblemReported
    | Disconnected
)


class _Download:
    """Chunks of one part coming in, in order and no more of them than announced."""

    def __init__(self, part: ChunkPart, size: int, data: bytearray) -> None:
        """Go on behind `data`, which is extended."""
        self.part = part
        self._size = size
        self._data = data

    def add(self, chunk: ModelChunk) -> None:
        """Append the next chunk.

        Raises:
            ProtocolError: it belongs to another part or place, or is more than was announced.
        """
        if chunk.part != self.part:
            raise ProtocolError(f"chunk of {chunk.part} in the middle of {self.part}")
        if chunk.offset != len(self._data):
            raise ProtocolError(f"chunk of {self.part} starts at byte {chunk.offset}, expected {len(self._data)}")
        if chunk.offset + len(chunk.data) > self._size:
            raise ProtocolError(f"{self.part} is longer than the {self._size} bytes announced")
        self._data += chunk.data

    @property
    def complete(self) -> bool:
        """Whether all bytes that were announced are there."""
        return len(self._data) == self._size

    def data(self) -> bytes:
        """Return a copy of what has come so far."""
        return bytes(self._data)


class ClientSession:
    """State of one stream on the edge: what may arrive next, and what waits to be sent."""

    def __init__(self, hello: Hello, outbox: BatchOutbox, incoming: IncomingSnapshot, holdings: Holdings) -> None:
        """Begin a stream with `hello`, and with what the last streams left to do.

        The batches in `outbox` that were not acknowledged are due again, and the server is told what `incoming` and `holdings`
        have.
        """
        graphs, weights = tuple(holdings.graphs)[:MAX_KEPT_GRAPHS], tuple(holdings.weights)[:MAX_KEPT_WEIGHTS]
        self._hello = replace(hello, partial=incoming.partial, graphs=graphs, weights=weights)
        self._outbox = outbox
        self._incoming = incoming
        self._holdings = holdings
        self._start: SnapshotReceived | None = None
        self._hello_waits = True
        self._reports: deque[Applied | SnapshotRequest | Budget | ChunkReceived | Drain] = deque(maxlen=MAX_WAITING_REPORTS)
        self._welcome: Welcome | None = None
        self._has_weights = False
        self._download: _Download | None = None
        self._chunks = 0
        self._header: SnapshotHeader | None = None
        outbox.rewind()

    @property
    def welcomed(self) -> bool:
        """Whether the server has accepted the stream."""
        return self._welcome is not None

    def receive(self, message: ServerMessage) -> list[ClientEvent]:
        """Take one message of the server and return what it means.

        Raises:
            ProtocolError: the message is not allowed here, or does not hold what was announced; the stream is lost.
            CodecError: a snapshot is damaged; the stream is lost.
        """
        match message:
            case Problem():
                return [_problem_event(message)]
            case Drain():
                return [Draining(reason=message.reason)]
            case Welcome():
                return self._on_welcome(message)
        if self._welcome is None:
            raise ProtocolError(f"{type(message).__name__} came before the welcome")
        match message:
            case Control():
                return [ControlChanged(control=message)]
            case BatchReceived():
                return self._on_batch_received(message)
            case SnapshotHeader():
                return self._on_snapshot_header(message, self._welcome)
            case ModelChunk():
                return self._on_chunk(message, self._welcome)
            case Update():
                return self._on_update(message, self._welcome)

    def report_applied(self, applied: Applied) -> None:
        """Queue the report that a version runs."""
        self._reports.append(applied)

    def request_snapshot(self, reason: str) -> None:
        """Queue the wish for the whole weights."""
        self._reports.append(SnapshotRequest(reason=reason))

    def change_budget(self, budget: Budget) -> None:
        """Queue the wish for other budgets than those of the hello, in the place of one that waits."""
        self._report_newest(budget)

    def _report_newest(self, report: Budget | ChunkReceived) -> None:
        for waiting in [each for each in self._reports if type(each) is type(report)]:
            self._reports.remove(waiting)
        self._reports.append(report)

    def drain(self, reason: str) -> None:
        """Queue the last message of the stream; batches that wait are not sent any more."""
        self._outbox.hold()
        self._reports.append(Drain(reason=reason))

    def peek(self) -> ClientMessage | None:
        """Return the next message to send, small ones before batches; None when there is nothing to send now.

        Until the server has accepted the stream that is the hello alone.
        """
        if self._welcome is None:
            return self._hello if self._hello_waits else None
        return self._reports[0] if self._reports else self._outbox.peek()

    def give_up_batch(self) -> None:
        """Drop the batch that `peek` shows."""
        self._outbox.give_up()

    def pop(self) -> None:
        """Note that the message which `peek` shows is being sent."""
        if self._hello_waits:
            self._hello_waits = False
        elif self._reports:
            self._reports.popleft()
        else:
            self._outbox.pop()

    def _on_welcome(self, welcome: Welcome) -> list[ClientEvent]:
        if self._welcome is not None:
            raise ProtocolError("a second welcome came")
        if welcome.codec not in self._hello.codecs:
            raise ProtocolError(f"server chose the update codec {welcome.codec!r}, which this edge did not offer")
        held = self._hello.held
        self._has_weights = held is not None and held.bundle_digest == welcome.manifest.bundle_digest
        graph = self._holdings.graphs.get(welcome.manifest.graph_digest)
        if welcome.graph_bytes == 0 and graph is None:
            raise ProtocolError("server sends no graph for a model whose graph this edge does not keep")
        self._welcome = welcome
        events: list[ClientEvent] = [ControlChanged(control=welcome.control)]
        if welcome.graph_bytes or graph is None:
            self._download = _Download("graph", welcome.graph_bytes, bytearray())
            return events
        return [*events, ModelReceived(manifest=welcome.manifest, graph=graph, codec=welcome.codec)]

    def _on_batch_received(self, message: BatchReceived) -> list[ClientEvent]:
        self._outbox.acknowledge(message.batch_id)
        return [BatchTaken(batch_id=message.batch_id)]

    def _on_snapshot_header(self, header: SnapshotHeader, welcome: Welcome) -> list[ClientEvent]:
        if self._download is not None and self._download.part == "graph":
            raise ProtocolError("snapshot began before the graph was complete")
        most = largest_snapshot_bytes(welcome.manifest.layout)
        if header.encoded_bytes > most:
            raise ProtocolError(f"snapshot of {header.encoded_bytes} bytes is announced, this model's has {most} at most")
        if header.base_digest and not self._keeps(header.base_digest):
            raise _unknown_base(header)
        self._incoming.begin(header)
        self._header = header
        self._download = _Download("weights", header.encoded_bytes, self._incoming.data)
        left_bytes = header.encoded_bytes - header.first_byte
        return [SnapshotAnnounced(version=header.version, encoded_bytes=left_bytes, whole=not header.base_digest)]

    def _on_chunk(self, chunk: ModelChunk, welcome: Welcome) -> list[ClientEvent]:
        if self._download is None:
            raise ProtocolError(f"chunk of {chunk.part} was not announced")
        self._download.add(chunk)
        self._chunks += 1
        self._report_newest(ChunkReceived(chunks=self._chunks))
        if not self._download.complete:
            return [SnapshotChunk(size_bytes=len(chunk.data))] if chunk.part == "weights" else []
        download, self._download = self._download, None
        return [self._graph(download.data(), welcome) if chunk.part == "graph" else self._snapshot(welcome)]

    def _keeps(self, digest: bytes) -> bool:
        """Return whether there are weights of `digest`, without the work of making them."""
        return digest in self._holdings.weights or (self._start is not None and self._start.weights_digest == digest)

    def _base(self, header: SnapshotHeader, welcome: Welcome) -> Float32Array:
        """Return the vector, float32 [P], that the snapshot of `header` builds on."""
        start = self._start
        if start is not None and start.weights_digest == header.base_digest:
            return start.vector
        kept = self._holdings.weights.get(header.base_digest)
        base = None if kept is None else kept()
        if base is None or base.shape != (welcome.manifest.layout.size,):
            raise _unknown_base(header)
        return base

    def _graph(self, frame: bytes, welcome: Welcome) -> ModelReceived:
        graph = zstd_decompress_within(frame, MAX_GRAPH_BYTES)
        if hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest() != welcome.manifest.graph_digest:
            raise ProtocolError("graph does not have the digest of its manifest")
        return ModelReceived(manifest=welcome.manifest, graph=graph, codec=welcome.codec)

    def _snapshot(self, welcome: Welcome) -> SnapshotReceived:
        header = self._header
        assert header is not None
        base = self._base(header, welcome) if header.base_digest else None
        vector = decode_snapshot(self._incoming.take(), welcome.manifest.layout, base)
        if weights_digest(vector) != header.weights_digest:
            raise ProtocolError(f"snapshot of version {header.version} does not have the digest announced")
        self._has_weights = True
        snapshot = SnapshotReceived(version=header.version, vector=vector, weights_digest=header.weights_digest)
        if base is None:
            self._start = snapshot
        return snapshot

    def _on_update(self, update: Update, welcome: Welcome) -> list[ClientEvent]:
        if self._download is not None:
            raise ProtocolError(f"update came before the {self._download.part} was complete")
        if not self._has_weights:
            raise ProtocolError("update came before any weights")
        if update.codec != welcome.codec:
            raise ProtocolError(f"update is coded as {update.codec!r}, the stream uses {welcome.codec!r}")
        most = largest_update_bytes(welcome.manifest.layout.size)
        if len(update.payload) > most:
            raise ProtocolError(f"update has {len(update.payload)} bytes, this model's has {most} at most")
        self._incoming.forget()
        return [UpdateReceived(update=update)]


def largest_snapshot_bytes(layout: ParameterLayout) -> int:
    """Return more bytes than a snapshot of all float32 values of `layout` can have when compression gains nothing."""
    size = count_rows(layout.tensors) + 4 * layout.size
    return size + size // 128 + 4096


def largest_update_bytes(parameters: int) -> int:
    """Return more bytes than an update of all of `parameters` can have in any codec: position, value and framing."""
    return 8 * parameters + 65536


def _unknown_base(header: SnapshotHeader) -> ProtocolError:
    return ProtocolError(f"snapshot of version {header.version} builds on weights that this edge does not keep")


def _problem_event(problem: Problem) -> ProblemReported:
    return ProblemReported(code=problem.code, reason=problem.reason, final=problem.code in _FINAL_CODES)
