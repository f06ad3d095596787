"""Messages to protobuf and back: the only place, beside the manifest's, that knows the generated code.

`..._from_proto` checks every field that arrives and raises a ProtocolError with the reason; what passes can be used without
further checks of form. What a message may follow is the business of `ams_common.session`.
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

from google.protobuf.message import DecodeError

from ams_common import wire_checks as check
from ams_common.compression import zstd_compress, zstd_decompress_within
from ams_common.errors import CodecError, ProtocolError
from ams_common.messages import (
    CHUNK_BYTES,
    MAX_BATCH_BYTES,
    MAX_GRAPH_BYTES,
    MAX_KEPT_GRAPHS,
    MAX_KEPT_WEIGHTS,
    MAX_UPDATE_BYTES,
    Applied,
    BatchReceived,
    Bound,
    Budget,
    ChunkPart,
    ChunkReceived,
    ClientMessage,
    Control,
    Drain,
    ErrorCode,
    FrameBatch,
    HeldModel,
    Hello,
    ModelChunk,
    ModelManifest,
    PartialSnapshot,
    Problem,
    ServerMessage,
    SnapshotHeader,
    SnapshotRequest,
    Update,
    Welcome,
)
from ams_common.proto import adaptation_pb2 as pb
from ams_common.wire_manifest import MAX_PARAMETERS, manifest_from_bytes, manifest_to_bytes

MAX_FRAMES = 1024
"""Most frames in a batch."""
MAX_CODECS = 16
MAX_MANIFEST_BYTES = 8 * 2**20
"""Largest manifest before compression."""
MAX_BPS = 10**12
MAX_SNAPSHOT_BYTES = 5 * MAX_PARAMETERS + 2**24

_MANIFEST_ZSTD_LEVEL = 19
"""A manifest has some ten thousand bytes."""
_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)
_PARTS: tuple[ChunkPart, ...] = get_args(ChunkPart)
_BOUNDS: tuple[Bound, ...] = get_args(Bound)


def client_message_to_proto(message: ClientMessage) -> pb.ClientMessage:
    """Return the protobuf form of what an edge sends."""
    match message:
        case Hello():
            return pb.ClientMessage(hello=_hello_to_proto(message))
        case FrameBatch():
            return pb.ClientMessage(frame_batch=_frame_batch_to_proto(message))
        case Applied():
            return pb.ClientMessage(applied=pb.Applied(**vars(message)))
        case SnapshotRequest():
            return pb.ClientMessage(snapshot_request=pb.SnapshotRequest(reason=check.as_reason(message.reason)))
        case Budget():
            return pb.ClientMessage(budget=pb.Budget(**vars(message)))
        case ChunkReceived():
            return pb.ClientMessage(chunk_received=pb.ChunkReceived(**vars(message)))
        case Drain():
            return pb.ClientMessage(drain=pb.Drain(reason=check.as_reason(message.reason)))


def client_message_from_proto(proto: pb.ClientMessage) -> ClientMessage:
    """Return what an edge sent.

    Raises:
        ProtocolError: the message is of no known kind or a field is out of range.
    """
    kind, body = _body(proto)
    return _CLIENT_READERS[kind](body)


def server_message_to_proto(message: ServerMessage) -> pb.ServerMessage:
    """Return the protobuf form of what a server sends."""
    match message:
        case Welcome():
            return pb.ServerMessage(welcome=_welcome_to_proto(message))
        case ModelChunk():
            return pb.ServerMessage(model_chunk=_chunk_to_proto(message))
        case SnapshotHeader():
            return pb.ServerMessage(snapshot_header=pb.SnapshotHeader(**vars(message)))
        case Update():
            return pb.ServerMessage(update=pb.Update(**vars(message)))
        case BatchReceived():
            return pb.ServerMessage(batch_received=pb.BatchReceived(**vars(message)))
        case Control():
            return pb.ServerMessage(control=_control_to_proto(message))
        case Drain():
            return pb.ServerMessage(drain=pb.Drain(reason=check.as_reason(message.reason)))
        case Problem():
            return pb.ServerMessage(problem=_problem_to_proto(message))


def server_message_from_proto(proto: pb.ServerMessage) -> ServerMessage:
    """Return what a server sent.

    Raises:
        ProtocolError: the message is of no known kind or a field is out of range.
    """
    kind, body = _body(proto)
    return _SERVER_READERS[kind](body)


def update_to_bytes(update: Update) -> bytes:
    """Return an update as protobuf bytes, to keep it."""
    return server_message_to_proto(update).SerializeToString(deterministic=True)


def update_from_bytes(data: bytes) -> Update:
    """Return the update that `update_to_bytes` wrote.

    Raises:
        ProtocolError: the bytes hold no valid update.
    """
    try:
        message = server_message_from_proto(pb.ServerMessage.FromString(data))
    except DecodeError as error:
        raise ProtocolError(f"update of {len(data)} bytes is damaged") from error
    if not isinstance(message, Update):
        raise ProtocolError(f"{type(message).__name__} in the place of an update")
    return message


def _body(proto: pb.ClientMessage | pb.ServerMessage) -> tuple[str, Any]:
    kind = proto.WhichOneof("message")
    if kind is None:
        raise ProtocolError("message is empty or of a newer protocol")
    return kind, getattr(proto, kind)


def _hello_to_proto(hello: Hello) -> pb.Hello:
    fields = dict(vars(hello))
    held, partial = fields.pop("held"), fields.pop("partial")
    return pb.Hello(
        **fields,
        held=None if held is None else pb.HeldModel(**vars(held)),
        partial=None if partial is None else pb.PartialSnapshot(**vars(partial)),
    )


def _hello_from_proto(proto: pb.Hello) -> Hello:
    check.in_range("number of codecs", len(proto.codecs), 0, MAX_CODECS)
    return Hello(
        device_id=check.device_id(proto.device_id),
        run_id=check.digest("run_id", proto.run_id),
        protocol_version=proto.protocol_version,
        student=check.optional_name("student", proto.student),
        class_set=check.optional_name("class_set", proto.class_set),
        uplink_bps=check.in_range("uplink_bps", proto.uplink_bps, 0, MAX_BPS),
        downlink_bps=check.in_range("downlink_bps", proto.downlink_bps, 0, MAX_BPS),
        codecs=tuple(check.name("codec", each) for each in proto.codecs),
        provider=check.optional_name("provider", proto.provider),
        build_time_ms=check.at_least_zero("build_time_ms", proto.build_time_ms),
        held=_held_from_proto(proto.held) if proto.HasField("held") else None,
        partial=_partial_from_proto(proto.partial) if proto.HasField("partial") else None,
        graphs=_digests("graphs", proto.graphs, MAX_KEPT_GRAPHS),
        weights=_digests("weights", proto.weights, MAX_KEPT_WEIGHTS),
    )


def _digests(field: str, digests: Sequence[bytes], most: int) -> tuple[bytes, ...]:
    check.in_range(f"number of {field}", len(digests), 0, most)
    return tuple(check.digest(f"one of {field}", each) for each in digests)


def _held_from_proto(proto: pb.HeldModel) -> HeldModel:
    return HeldModel(
        bundle_digest=check.digest("bundle_digest", proto.bundle_digest),
        version=check.count("held version", proto.version),
        weights_digest=check.digest("weights_digest", proto.weights_digest),
    )


def _partial_from_proto(proto: pb.PartialSnapshot) -> PartialSnapshot:
    return PartialSnapshot(
        encoded_digest=check.digest("encoded_digest", proto.encoded_digest),
        received_bytes=check.in_range("received_bytes", proto.received_bytes, 1, MAX_SNAPSHOT_BYTES),
    )


def _frame_batch_to_proto(batch: FrameBatch) -> pb.FrameBatch:
    fields = dict(vars(batch))
    packets = fields.pop("packets")
    return pb.FrameBatch(**fields, packets=[pb.VideoPacket(presentation_index=index, data=data) for index, data in packets])


def _frame_batch_from_proto(proto: pb.FrameBatch) -> FrameBatch:
    return FrameBatch(
        batch_id=check.in_range("batch_id", proto.batch_id, 1, check.MAX_COUNT),
        video_codec=check.name("video_codec", proto.video_codec),
        width=check.side("width of the frames", proto.width),
        height=check.side("height of the frames", proto.height),
        capture_times_us=_capture_times_from_proto(proto),
        packets=_packets_from_proto(proto),
    )


def _capture_times_from_proto(proto: pb.FrameBatch) -> tuple[int, ...]:
    check.in_range("number of frames", len(proto.capture_times_us), 1, MAX_FRAMES)
    times = tuple(proto.capture_times_us)
    if list(times) != sorted(times):
        raise ProtocolError("capture times of a batch go backwards")
    check.in_range("capture time", times[0], -check.MAX_TIME_US, check.MAX_TIME_US)
    check.in_range("capture time", times[-1], -check.MAX_TIME_US, check.MAX_TIME_US)
    return times


def _packets_from_proto(proto: pb.FrameBatch) -> tuple[tuple[int, bytes], ...]:
    check.in_range("number of packets", len(proto.packets), 1, MAX_FRAMES)
    packets = tuple((each.presentation_index, each.data) for each in proto.packets)
    if sorted(index for index, _ in packets) != list(range(len(proto.capture_times_us))):
        raise ProtocolError(f"batch of {len(proto.capture_times_us)} frames does not have one packet for each frame")
    check.in_range("bytes of video", sum(len(data) for _, data in packets), 1, MAX_BATCH_BYTES)
    return packets


def _applied_from_proto(proto: pb.Applied) -> Applied:
    return Applied(
        version=check.count("applied version", proto.version),
        weights_digest=check.digest("weights_digest", proto.weights_digest),
        build_time_ms=check.at_least_zero("build_time_ms", proto.build_time_ms),
    )


def _snapshot_request_from_proto(proto: pb.SnapshotRequest) -> SnapshotRequest:
    return SnapshotRequest(reason=check.reason(proto.reason))


def _budget_from_proto(proto: pb.Budget) -> Budget:
    return Budget(
        uplink_bps=check.in_range("uplink_bps", proto.uplink_bps, 0, MAX_BPS),
        downlink_bps=check.in_range("downlink_bps", proto.downlink_bps, 0, MAX_BPS),
    )


def _chunk_received_from_proto(proto: pb.ChunkReceived) -> ChunkReceived:
    return ChunkReceived(chunks=check.count("chunks", proto.chunks))


def _drain_from_proto(proto: pb.Drain) -> Drain:
    return Drain(reason=check.reason(proto.reason))


def _welcome_to_proto(welcome: Welcome) -> pb.Welcome:
    return pb.Welcome(
        manifest=zstd_compress(manifest_to_bytes(welcome.manifest), _MANIFEST_ZSTD_LEVEL),
        codec=welcome.codec,
        graph_bytes=welcome.graph_bytes,
        control=_control_to_proto(welcome.control),
    )


def _welcome_from_proto(proto: pb.Welcome) -> Welcome:
    return Welcome(
        manifest=_manifest_from_frame(proto.manifest),
        codec=check.name("codec", proto.codec),
        graph_bytes=check.in_range("graph_bytes", proto.graph_bytes, 0, MAX_GRAPH_BYTES),
        control=_control_from_proto(proto.control),
    )


def _manifest_from_frame(frame: bytes) -> ModelManifest:
    try:
        return manifest_from_bytes(zstd_decompress_within(frame, MAX_MANIFEST_BYTES))
    except CodecError as error:
        raise ProtocolError(f"manifest is damaged: {error}") from error


def bound_to_proto(bound: Bound) -> pb.Control.Bound.ValueType:
    """Return the protobuf form of what keeps a budget from being more."""
    return pb.Control.Bound.Value(f"BOUND_{bound.upper()}")


def bound_from_proto(proto: pb.Control.Bound.ValueType) -> Bound:
    """Return what keeps a budget from being more; the rate beside it holds though only a newer server knows why."""
    return _BOUNDS[proto] if 0 <= proto < len(_BOUNDS) else "unspecified"


def _control_to_proto(control: Control) -> pb.Control:
    bounds = {field: bound_to_proto(getattr(control, field)) for field in ("uplink_bound", "downlink_bound")}
    return pb.Control(**{**vars(control), **bounds})


def _control_from_proto(proto: pb.Control) -> Control:
    check.in_range("number of video codecs", len(proto.video_codecs), 0, MAX_CODECS)
    return Control(
        sampling_hz=check.in_range("sampling_hz", proto.sampling_hz, 1e-6, 1000.0),
        batch_interval_s=check.in_range("batch_interval_s", proto.batch_interval_s, 1e-3, 1e6),
        batch_bytes=check.in_range("batch_bytes", proto.batch_bytes, 1, MAX_BATCH_BYTES),
        frame_width=check.side("frame_width", proto.frame_width),
        frame_height=check.side("frame_height", proto.frame_height),
        video_codecs=tuple(check.name("video_codec", each) for each in proto.video_codecs),
        uplink_bps=check.in_range("uplink_bps", proto.uplink_bps, 0, MAX_BPS),
        downlink_bps=check.in_range("downlink_bps", proto.downlink_bps, 0, MAX_BPS),
        worthwhile_frame_bytes=check.in_range("worthwhile_frame_bytes", proto.worthwhile_frame_bytes, 0, MAX_BATCH_BYTES),
        uplink_bound=bound_from_proto(proto.uplink_bound),
        downlink_bound=bound_from_proto(proto.downlink_bound),
    )


def _chunk_to_proto(chunk: ModelChunk) -> pb.ModelChunk:
    part = pb.ModelChunk.Part.Value(f"PART_{chunk.part.upper()}")
    return pb.ModelChunk(part=part, offset=chunk.offset, data=chunk.data)


def _chunk_from_proto(proto: pb.ModelChunk) -> ModelChunk:
    check.in_range("part of a chunk", proto.part, 1, len(_PARTS))
    check.in_range("bytes of a chunk", len(proto.data), 1, CHUNK_BYTES)
    return ModelChunk(
        part=_PARTS[proto.part - 1],
        offset=check.in_range("offset of a chunk", proto.offset, 0, MAX_SNAPSHOT_BYTES),
        data=proto.data,
    )


def _snapshot_header_from_proto(proto: pb.SnapshotHeader) -> SnapshotHeader:
    return SnapshotHeader(
        version=check.count("snapshot version", proto.version),
        weights_digest=check.digest("weights_digest", proto.weights_digest),
        encoded_bytes=check.in_range("encoded_bytes", proto.encoded_bytes, 1, MAX_SNAPSHOT_BYTES),
        encoded_digest=check.digest("encoded_digest", proto.encoded_digest) if proto.encoded_digest else b"",
        first_byte=check.in_range("first_byte", proto.first_byte, 0, proto.encoded_bytes - 1),
        base_digest=check.digest("base_digest", proto.base_digest) if proto.base_digest else b"",
    )


def _update_from_proto(proto: pb.Update) -> Update:
    base_version = check.count("base_version", proto.base_version)
    check.in_range("bytes of an update", len(proto.payload), 0, MAX_UPDATE_BYTES)
    return Update(
        version=check.in_range("version of an update", proto.version, base_version + 1, base_version + 1),
        base_version=base_version,
        base_digest=check.digest("base_digest", proto.base_digest),
        result_digest=check.digest("result_digest", proto.result_digest),
        codec=check.name("codec", proto.codec),
        payload=proto.payload,
        newest_batch_id=check.count("newest_batch_id", proto.newest_batch_id),
        newest_capture_time_us=check.in_range(
            "newest_capture_time_us", proto.newest_capture_time_us, -check.MAX_TIME_US, check.MAX_TIME_US
        ),
        changed=check.count("changed", proto.changed),
        loss=check.at_least_zero("loss", proto.loss),
        label_ms=check.at_least_zero("label_ms", proto.label_ms),
        train_ms=check.at_least_zero("train_ms", proto.train_ms),
        code_ms=check.at_least_zero("code_ms", proto.code_ms),
        queue_ms=check.at_least_zero("queue_ms", proto.queue_ms),
    )


def _batch_received_from_proto(proto: pb.BatchReceived) -> BatchReceived:
    return BatchReceived(batch_id=check.count("batch_id", proto.batch_id))


def _problem_to_proto(problem: Problem) -> pb.Problem:
    code = pb.Problem.Code.Value(f"CODE_{problem.code.upper()}")
    return pb.Problem(code=code, reason=check.as_reason(problem.reason))


def _problem_from_proto(proto: pb.Problem) -> Problem:
    # A code of a newer server is an error all the same.
    code = _CODES[proto.code - 1] if 1 <= proto.code <= len(_CODES) else "internal"
    return Problem(code=code, reason=check.reason(proto.reason))


_CLIENT_READERS: dict[str, Callable[[Any], ClientMessage]] = {
    "hello": _hello_from_proto,
    "frame_batch": _frame_batch_from_proto,
    "applied": _applied_from_proto,
    "snapshot_request": _snapshot_request_from_proto,
    "budget": _budget_from_proto,
    "chunk_received": _chunk_received_from_proto,
    "drain": _drain_from_proto,
}
_SERVER_READERS: dict[str, Callable[[Any], ServerMessage]] = {
    "welcome": _welcome_from_proto,
    "model_chunk": _chunk_from_proto,
    "snapshot_header": _snapshot_header_from_proto,
    "update": _update_from_proto,
    "batch_received": _batch_received_from_proto,
    "control": _control_from_proto,
    "drain": _drain_from_proto,
    "problem": _problem_from_proto,
}
