"""What travels between edge and server, as plain values; `wire` turns them into protobuf and back.

Times are microseconds on the capture clock of the edge: the time stamps of the camera or file, from an arbitrary origin that
is fixed for one run of the edge. Rates are in bits per second with 1 kbit = 1000 bit.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from ams_common.classes import ClassSet
from ams_common.layout import DIGEST_BYTES, ParameterLayout

PROTOCOL_VERSION = 1
CHUNK_BYTES = 512 * 1024
"""Size of a model chunk: under 1 MiB, so that an update or a control message never waits long behind one."""
MAX_BATCH_BYTES = 3_750_000
"""Largest video of a batch, so that its message stays under the 4 MiB that gRPC takes by default."""
MAX_GRAPH_BYTES = 64 * 2**20
"""Largest graph without weights, before compression."""
MAX_KEPT_GRAPHS = 16
"""Graphs that an edge may say to keep."""
MAX_KEPT_WEIGHTS = 32
"""Whole vectors that an edge may say to keep."""
MAX_WAITING_UPDATES = 16
"""Updates that wait for a slow reader; when there are more, all of them give way to one snapshot."""
MAX_UPDATE_BYTES = 15 * 2**20
"""Largest payload of an update, so that its message stays under the 16 MiB that an edge takes."""

ErrorCode: TypeAlias = Literal["bad_request", "unsupported", "busy", "budget_too_small", "internal", "replaced"]
ChunkPart: TypeAlias = Literal["graph", "weights"]
Bound: TypeAlias = Literal["unspecified", "cap", "ceiling", "share", "other_direction"]
"""What keeps a budget from being more: the server's cap for one device, a ceiling that a person has set for this one, its share
of the server's total, or the other direction, which acknowledges no more; "unspecified" where only its own wish does, or a
server does not say."""


@dataclass(frozen=True, kw_only=True)
class HeldModel:
    """The model that the edge already has, from an earlier connection or an earlier run."""

    bundle_digest: bytes
    """Digest of the ModelManifest it was built from."""
    version: int
    """Version of the weights."""
    weights_digest: bytes
    """Digest of the flat parameter vector."""


@dataclass(frozen=True, kw_only=True)
class PartialSnapshot:
    """The beginning of a snapshot that the edge has from a stream which broke off."""

    encoded_digest: bytes
    """The one of its SnapshotHeader."""
    received_bytes: int
    """Length of the beginning, at least 1."""


@dataclass(frozen=True, kw_only=True)
class Hello:
    """First message of the edge on a stream."""

    device_id: str
    """Name of the device, unique among the devices of a server; a reconnect under the same name continues its session."""
    run_id: bytes
    """16 random bytes drawn when the edge process started; batch ids and capture times are relative to it."""
    protocol_version: int = PROTOCOL_VERSION
    student: str = ""
    """Student wanted by name; empty for the server's choice."""
    class_set: str = ""
    """Class set wanted by name; empty for the server's choice."""
    uplink_bps: int = 0
    """Budget from edge to server in bit/s; 0 for no limit."""
    downlink_bps: int = 0
    """Budget from server to edge in bit/s; 0 for no limit."""
    codecs: tuple[str, ...] = ()
    """Update codecs that the edge can decode, best first."""
    provider: str = ""
    """ONNX Runtime execution provider in use."""
    build_time_ms: float = 0.0
    """Time to build and warm a model; 0 before the first one."""
    held: HeldModel | None = None
    """The model the edge runs now; None on its very first run."""
    partial: PartialSnapshot | None = None
    """What it has of a snapshot; None when it awaits none."""
    graphs: tuple[bytes, ...] = ()
    """Digests of the graphs that it keeps, newest first; at most MAX_KEPT_GRAPHS."""
    weights: tuple[bytes, ...] = ()
    """Digests of the whole vectors that a snapshot may build on, newest first; at most MAX_KEPT_WEIGHTS."""


@dataclass(frozen=True, kw_only=True)
class ModelManifest:
    """All that an edge needs to know about a model besides its graph and its weights."""

    student: str
    """Name of the architecture."""
    classes: ClassSet
    """Meaning of the logits' channels, in order."""
    width: int
    """Width of the model's input in pixels."""
    height: int
    """Height of the model's input in pixels."""
    mean: tuple[float, float, float]
    """Subtracted from RGB values in 0..255."""
    std: tuple[float, float, float]
    """Divides what remains."""
    layout: ParameterLayout
    """Order of the parameters in the flat vector; names are those of the graph's initialisers."""
    graph_digest: bytes
    """16 bytes (BLAKE2b) over the serialised ONNX graph."""

    @cached_property
    def bundle_digest(self) -> bytes:
        """16 bytes that identify everything here: equal digests mean that weights may be exchanged."""
        scaling = [float(value) for value in (*self.mean, *self.std)]
        text = f"{self.student} {self.classes.names} {self.width}x{self.height} {scaling}"
        parts = text.encode() + self.layout.digest + self.graph_digest
        return hashlib.blake2b(parts, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True, kw_only=True)
class Control:
    """What the server asks of the edge from now on."""

    sampling_hz: float
    """Frames per second of capture time to keep for training."""
    batch_interval_s: float
    """Seconds of capture time between two batches; several of them lead to one update."""
    batch_bytes: int
    """Largest encoded batch, in bytes."""
    frame_width: int
    """Width of the frames in a batch, in pixels."""
    frame_height: int
    """Height of the frames in a batch, in pixels."""
    video_codecs: tuple[str, ...] = ()
    """Video codecs that the server can decode; none stands for "h264" alone."""
    uplink_bps: int = 0
    """What the edge may send, headers included, in bit/s: its own budget or less; 0 for no limit but its own."""
    downlink_bps: int = 0
    """What the server will send, headers included, in bit/s: the edge's budget or less; 0 for no limit."""
    worthwhile_frame_bytes: int = 0
    """Video that makes a frame worth labelling: on a slow link frames are more seldom rather than smaller; 0 for any size."""
    uplink_bound: Bound = "unspecified"
    """What keeps `uplink_bps` from being more."""
    downlink_bound: Bound = "unspecified"
    """What keeps `downlink_bps` from being more."""


@dataclass(frozen=True, kw_only=True)
class SnapshotHeader:
    """Announces a whole set of weights; chunks with part "weights" follow."""

    version: int
    """Version of the weights."""
    weights_digest: bytes
    """Digest of the flat vector that the chunks make up once decompressed."""
    encoded_bytes: int
    """Length of the whole."""
    encoded_digest: bytes = b""
    """16 bytes (BLAKE2b) over the whole; empty from a server that cannot go on with a snapshot."""
    first_byte: int = 0
    """Offset of the first chunk: what comes before it the edge has said to hold."""
    base_digest: bytes = b""
    """Digest of the vector that the whole is coded against; empty when it stands alone."""


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """First message of the server; graph chunks, then a snapshot or the missed updates follow as the edge needs them."""

    manifest: ModelManifest
    codec: str
    """Update codec in use on this stream."""
    graph_bytes: int
    """Length of the compressed graph whose chunks follow; 0 when the edge has the graph already."""
    control: Control


@dataclass(frozen=True, kw_only=True)
class ModelChunk:
    """A piece of the graph or of a snapshot, at most CHUNK_BYTES long, in order."""

    part: ChunkPart
    offset: int
    """Position of the first byte in the whole."""
    data: bytes


@dataclass(frozen=True, kw_only=True)
class ChunkReceived:
    """The edge has so many chunks of this stream: the network holds them no more."""

    chunks: int


@dataclass(frozen=True, kw_only=True)
class FrameBatch:
    """Sampled frames, compressed as one short video."""

    batch_id: int
    """Counts from 1 in each run of the edge; a batch that arrives twice is used once."""
    video_codec: str
    """"h264", "hevc" or "av1"; the elementary stream carries its own parameter sets."""
    width: int
    height: int
    capture_times_us: tuple[int, ...]
    """Capture time of each frame in presentation order; the number of frames in the video."""
    packets: tuple[tuple[int, bytes], ...]
    """(presentation index, data) in decoding order."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of compressed video."""
        return sum(len(data) for _, data in self.packets)


@dataclass(frozen=True, kw_only=True)
class BatchReceived:
    """The server has taken a batch (or had it already): the edge need not send it again."""

    batch_id: int


@dataclass(frozen=True, kw_only=True)
class Update:
    """Sparse change of the weights from one version to the next."""

    version: int
    """Version after the update: base_version + 1."""
    base_version: int
    """Version that the update applies to."""
    base_digest: bytes
    """Digest of the flat vector before the update."""
    result_digest: bytes
    """Digest of the flat vector after the update."""
    codec: str
    payload: bytes
    newest_batch_id: int = 0
    """Newest batch that the weights have learnt from."""
    newest_capture_time_us: int = 0
    """Capture time of the newest frame that the weights have learnt from."""
    changed: int = 0
    """Number of parameters in the update; for display."""
    loss: float = 0.0
    """Mean training loss of the phase; for display."""
    label_ms: float = 0.0
    """Time the server spent on decoding and labelling the newest batch."""
    train_ms: float = 0.0
    """Time the server spent on the training phase."""
    code_ms: float = 0.0
    """Time the server spent on coding the update."""
    queue_ms: float = 0.0
    """Time the newest batch waited at the server: with the three above it is all from its arrival to the finished update."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The edge runs this version now."""

    version: int
    weights_digest: bytes
    build_time_ms: float
    """Time to decode, build, warm and swap."""


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """The edge could not use an update and asks for the whole weights."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the edge wants to use from now on, in place of the budgets of its hello; bit/s, 0 for no limit."""

    uplink_bps: int
    downlink_bps: int


@dataclass(frozen=True, kw_only=True)
class Drain:
    """The sender is about to close the stream in an orderly way."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error that a person should read; the sender closes the stream after it."""

    code: ErrorCode
    reason: str


ClientMessage: TypeAlias = Hello | FrameBatch | Applied | SnapshotRequest | Budget | ChunkReceived | Drain
ServerMessage: TypeAlias = Welcome | ModelChunk | SnapshotHeader | Update | BatchReceived | Control | Drain | Problem
