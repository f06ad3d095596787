"""The server's end of one stream, without I/O.

The owner feeds every message of the edge to `receive`, hands what the server has to say to `send`, acts on the events that
either returns, and writes to the stream what `peek` shows. Small messages overtake the model; the model's own queue is bounded.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ams_common.clock import Clock
from ams_common.errors import AmsError, ProtocolError
from ams_common.messages import (
    MAX_WAITING_UPDATES,
    PROTOCOL_VERSION,
    Applied,
    BatchReceived,
    Budget,
    ChunkReceived,
    ClientMessage,
    Control,
    Drain,
    ErrorCode,
    FrameBatch,
    Hello,
    ModelChunk,
    Problem,
    ServerMessage,
    SnapshotHeader,
    SnapshotRequest,
    Update,
    Welcome,
)

MAX_WAITING_ACKNOWLEDGEMENTS = 64
"""Acknowledgements that wait for a slow reader; the oldest go first, their batches will come and be acknowledged again."""
MAX_KNOWN_DEVICES = 4096
BUDGET_INTERVAL_S = 1.0
"""Mean time between two wishes for other budgets, at least: each of them may change what other devices have."""
BUDGETS_AT_ONCE = 16
"""Wishes that may come sooner than that."""


class RefusedError(AmsError):
    """The server cannot serve this edge; `code` tells the edge what kind of refusal it is."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code: ErrorCode = code


@dataclass(frozen=True, kw_only=True)
class HelloReceived:
    """A device has opened the stream."""

    hello: Hello


@dataclass(frozen=True, kw_only=True)
class BatchArrived:
    """Frames to learn from, each batch once; it has been acknowledged."""

    batch: FrameBatch


@dataclass(frozen=True, kw_only=True)
class AppliedReported:
    """The device runs a version."""

    applied: Applied


@dataclass(frozen=True, kw_only=True)
class SnapshotWanted:
    """The whole weights should be sent with `snapshot_messages`; comes at most once per interval."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class BudgetWanted:
    """The device asks for other budgets than before."""

    budget: Budget


@dataclass(frozen=True, kw_only=True)
class EdgeDraining:
    """The device is about to close the stream."""

    reason: str


ServerEvent: TypeAlias = HelloReceived | BatchArrived | AppliedReported | SnapshotWanted | BudgetWanted | EdgeDraining


class BatchLedger:
    """Remembers the newest batch of each device's newest run, so that a batch which arrives again is used once.

    Within a run batches are sent in the order of their ids, after a reconnect again from the oldest without an
    acknowledgement: whatever is not newer than the newest has been here, or was dropped by the edge.
    """

    def __init__(self, capacity: int = MAX_KNOWN_DEVICES) -> None:
        """Remember at most `capacity` devices; the one that was silent longest is forgotten first."""
        self._capacity = capacity
        self._newest: OrderedDict[str, tuple[bytes, int]] = OrderedDict()

    def enter(self, hello: Hello, batch_id: int) -> bool:
        """Note a batch and return whether it is new."""
        run_id, newest = self._newest.pop(hello.device_id, (b"", 0))
        seen = newest if run_id == hello.run_id else 0
        self._newest[hello.device_id] = (hello.run_id, max(seen, batch_id))
        if len(self._newest) > self._capacity:
            self._newest.popitem(last=False)
        return batch_id > seen


class ServerSession:
    """State of one stream on the server: what may arrive next, and what waits to be written."""

    def __init__(self, ledger: BatchLedger, clock: Clock, snapshot_interval_s: float) -> None:
        """Await a hello.

        Args:
            ledger: batches seen so far, shared by the streams of a server.
            clock: time, for the interval.
            snapshot_interval_s: least time between two snapshots on one stream.
        """
        self._ledger = ledger
        self._clock = clock
        self._snapshot_interval_s = snapshot_interval_s
        self._snapshot_at_s = -math.inf
        self._budgets_due_s = -math.inf
        """When the wishes for budgets so far would have come, one each interval."""
        self._hello: Hello | None = None
        self._welcome: Welcome | None = None
        self._control: Control | None = None
        self._acknowledgements: deque[BatchReceived] = deque(maxlen=MAX_WAITING_ACKNOWLEDGEMENTS)
        self._model: deque[SnapshotHeader | ModelChunk | Update] = deque()
        self._sends_start = False
        """Whether the chunks of weights at the head of the queue belong to a snapshot that stands alone."""
        self._chunks = 0
        """How many were written."""
        self._superseded = False
        self._end: Drain | Problem | None = None
        self._state: Literal["quiet", "open", "ended"] = "quiet"

    @property
    def finished(self) -> bool:
        """Whether the last message of the stream has been written."""
        return self._state == "ended" and self._end is None

    @property
    def backlog(self) -> int:
        """Number of chunks, headers and updates that wait to be written. May be read from any thread."""
        return len(self._model)

    def receive(self, message: ClientMessage) -> list[ServerEvent]:
        """Take one message of the edge and return what it means.

        Raises:
            ProtocolError: the message is not allowed here; the stream is lost.
            RefusedError: the edge speaks another version of the protocol.
        """
        if self._hello is None:
            return self._on_hello(message)
        match message:
            case Hello():
                raise ProtocolError("a second hello came")
            case FrameBatch():
                return self._on_batch(message, self._hello)
            case Applied():
                return [AppliedReported(applied=message)]
            case SnapshotRequest():
                return self._want_snapshot(message.reason)
            case Budget():
                return self._want_budget(message)
            case ChunkReceived():
                return self._on_chunks(message)
            case Drain():
                return [EdgeDraining(reason=message.reason)]

    def greet(self, greeting: Sequence[ServerMessage]) -> None:
        """Queue a welcome and the model messages after it, ahead of all that was sent since the hello; once."""
        welcome, *model = greeting
        assert isinstance(welcome, Welcome)
        assert self._hello is not None
        assert self._welcome is None
        self._welcome = welcome
        early = list(self._model)
        self._model.clear()
        for message in (*model, *early):
            self.send(message)

    def send(self, message: ServerMessage) -> list[ServerEvent]:
        """Queue any message but a welcome; a slow reader's updates may give way, which the events tell.

        A drain or problem ends the stream: only what is small still goes before it.
        """
        if self._state == "ended":
            return []
        match message:
            case Control():
                self._control = message
            case BatchReceived():
                self._acknowledgements.append(message)
            case ModelChunk():
                self._model.append(message)
            case SnapshotHeader():
                self._queue_snapshot(message)
            case Update():
                return self._queue_update(message)
            case Drain() | Problem():
                self._finish(message)
            case Welcome():
                raise AssertionError("a welcome goes through greet")
        return []

    def peek(self) -> ServerMessage | None:
        """Return the next message to write, small ones before the model but none before the welcome; None for none now."""
        if self._state == "quiet":
            return self._welcome
        if self._control or self._acknowledgements:
            return self._control or self._acknowledgements[0]
        return self._end or (self._model[0] if self._model else None)

    def let_end_pass(self) -> bool:
        """Drop what waits before the last message of the stream; return whether there was anything.

        Batches whose acknowledgement goes come again, and are acknowledged then.
        """
        if self._state != "ended" or not (self._control or self._acknowledgements):
            return False
        self._control = None
        self._acknowledgements.clear()
        return True

    def split_chunk(self, most_bytes: int) -> None:
        """Cut the chunk that is next of the model, if it is one, down to `most_bytes`, at least 1; the rest comes after it."""
        if not self._model or not isinstance(self._model[0], ModelChunk) or len(self._model[0].data) <= most_bytes:
            return
        chunk = self._model.popleft()
        assert isinstance(chunk, ModelChunk)
        rest = replace(chunk, offset=chunk.offset + most_bytes, data=chunk.data[most_bytes:])
        self._model.extendleft((rest, replace(chunk, data=chunk.data[:most_bytes])))

    def pop(self) -> None:
        """Note that the message which `peek` shows is being written."""
        if self._state == "quiet":
            self._state = "open"
        elif self._control is not None:
            self._control = None
        elif self._acknowledgements:
            self._acknowledgements.popleft()
        elif self._end is not None:
            self._end = None
        else:
            sent = self._model.popleft()
            if isinstance(sent, SnapshotHeader):
                self._sends_start = not sent.base_digest
            self._chunks += isinstance(sent, ModelChunk)

    def _on_hello(self, message: ClientMessage) -> list[ServerEvent]:
        if not isinstance(message, Hello):
            raise ProtocolError(f"{type(message).__name__} came before the hello")
        if message.protocol_version != PROTOCOL_VERSION:
            version = message.protocol_version
            raise RefusedError("unsupported", f"edge speaks protocol {version}, this server speaks {PROTOCOL_VERSION}")
        self._hello = message
        return [HelloReceived(hello=message)]

    def _on_batch(self, batch: FrameBatch, hello: Hello) -> list[ServerEvent]:
        self._acknowledgements.append(BatchReceived(batch_id=batch.batch_id))
        return [BatchArrived(batch=batch)] if self._ledger.enter(hello, batch.batch_id) else []

    def _on_chunks(self, received: ChunkReceived) -> list[ServerEvent]:
        if received.chunks > self._chunks:
            raise ProtocolError(f"edge has {received.chunks} chunks, {self._chunks} were sent")
        return []

    def _queue_snapshot(self, header: SnapshotHeader) -> None:
        self._model = deque(self._needed_for(header))
        self._model.append(header)
        self._superseded = False
        self._snapshot_at_s = self._clock.now_s()

    def _needed_for(self, header: SnapshotHeader) -> Iterator[SnapshotHeader | ModelChunk]:
        """Yield what of the queue must go before a new snapshot: the graph, and weights that it builds on."""
        keeps = self._sends_start and bool(header.base_digest)
        for each in self._model:
            if isinstance(each, SnapshotHeader):
                keeps = not each.base_digest and bool(header.base_digest)
            if not isinstance(each, Update) and (keeps or (isinstance(each, ModelChunk) and each.part == "graph")):
                yield each

    def _queue_update(self, update: Update) -> list[ServerEvent]:
        waiting = sum(isinstance(each, Update) for each in self._model)
        if not self._superseded and waiting < MAX_WAITING_UPDATES:
            self._model.append(update)
            return []
        self._superseded = True
        self._model = deque(each for each in self._model if not isinstance(each, Update))
        return self._want_snapshot("the device reads more slowly than updates are made")

    def _want_snapshot(self, reason: str) -> list[ServerEvent]:
        under_way = any(not isinstance(each, Update) for each in self._model)
        now_s = self._clock.now_s()
        if under_way or now_s - self._snapshot_at_s < self._snapshot_interval_s:
            return []
        self._snapshot_at_s = now_s
        return [SnapshotWanted(reason=reason)]

    def _want_budget(self, budget: Budget) -> list[ServerEvent]:
        now_s = self._clock.now_s()
        earliest_s = now_s - BUDGETS_AT_ONCE * BUDGET_INTERVAL_S
        self._budgets_due_s = max(self._budgets_due_s, earliest_s) + BUDGET_INTERVAL_S
        if self._budgets_due_s > now_s:
            raise ProtocolError(f"more than {BUDGETS_AT_ONCE} wishes for other budgets came within {BUDGETS_AT_ONCE} s")
        return [BudgetWanted(budget=budget)]

    def _finish(self, last: Drain | Problem) -> None:
        if self._state == "quiet":
            self._control = None
            self._acknowledgements.clear()
        self._model.clear()
        self._end = last
        self._state = "ended"
