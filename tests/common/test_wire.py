"""Round trips of every message, and refusal of every field that is out of range."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocol_support import CONTROL, HELLO, MANIFEST, batch, held, update_to

from ams_common.classes import ClassSet, SegmentationClass
from ams_common.compression import zstd_compress
from ams_common.errors import ProtocolError
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.messages import (
    CHUNK_BYTES,
    MAX_BATCH_BYTES,
    MAX_GRAPH_BYTES,
    MAX_UPDATE_BYTES,
    Applied,
    BatchReceived,
    Budget,
    ClientMessage,
    Control,
    Drain,
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
from ams_common.wire import (
    MAX_FRAMES,
    MAX_MANIFEST_BYTES,
    client_message_from_proto,
    client_message_to_proto,
    server_message_from_proto,
    server_message_to_proto,
    update_from_bytes,
    update_to_bytes,
)
from ams_common.wire_checks import MAX_REASON
from ams_common.wire_manifest import manifest_from_bytes, manifest_to_bytes

digests = st.binary(min_size=16, max_size=16)
counts = st.integers(0, 2**53)
times_us = st.integers(-(2**60), 2**60)
positive = st.floats(0, 1e12)
names = st.text("abc_-./ äß漢", min_size=1, max_size=20)
reasons = st.text("abc ,:'é", max_size=60)
sides = st.integers(1, 4096)
colours = st.tuples(*[st.integers(0, 255)] * 3)
held_models = st.builds(HeldModel, bundle_digest=digests, version=counts, weights_digest=digests)
hellos = st.builds(
    Hello,
    device_id=st.text("aZ09", min_size=1, max_size=60).map(lambda text: text + "._-"),
    run_id=digests,
    protocol_version=st.integers(0, 2**32 - 1),
    student=st.just("") | names,
    class_set=st.just("") | names,
    uplink_bps=st.integers(0, 10**12),
    downlink_bps=st.integers(0, 10**12),
    codecs=st.lists(names, max_size=16).map(tuple),
    provider=st.just("") | names,
    build_time_ms=positive,
    held=st.none() | held_models,
    partial=st.none() | st.builds(PartialSnapshot, encoded_digest=digests, received_bytes=st.integers(1, 2**28)),
)


@st.composite
def frame_batches(draw: st.DrawFn) -> FrameBatch:
    times = sorted(draw(st.lists(times_us, min_size=1, max_size=20)))
    order = draw(st.permutations(range(len(times))))
    return FrameBatch(
        batch_id=draw(st.integers(1, 2**53)),
        video_codec="h264",
        width=draw(sides),
        height=draw(sides),
        capture_times_us=tuple(times),
        packets=tuple((index, draw(st.binary(min_size=1, max_size=50))) for index in order),
    )


tensors = st.lists(
    st.builds(TensorSpec, name=names, shape=st.lists(st.integers(1, 5), max_size=4).map(tuple), trainable=st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=lambda tensor: tensor.name,
)
layouts = tensors.map(lambda specs: ParameterLayout(tuple(sorted(specs, key=lambda spec: not spec.trainable))))
class_sets = st.builds(
    ClassSet,
    names,
    st.lists(
        st.builds(SegmentationClass, name=names, colour=colours, accepts=st.lists(names, max_size=3).map(tuple)),
        min_size=1,
        max_size=254,
        unique_by=lambda each: each.name,
    ).map(tuple),
)
manifests = st.builds(
    ModelManifest,
    student=names,
    classes=class_sets,
    width=sides,
    height=sides,
    mean=st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    std=st.tuples(*[st.floats(1e-6, 1e6)] * 3),
    layout=layouts,
    graph_digest=digests,
)
bounds = st.sampled_from(("unspecified", "cap", "ceiling", "share", "other_direction"))
controls = st.builds(
    Control,
    sampling_hz=st.floats(1e-6, 1000),
    batch_interval_s=st.floats(1e-3, 1e6),
    batch_bytes=st.integers(1, MAX_BATCH_BYTES),
    frame_width=sides,
    frame_height=sides,
    uplink_bps=st.integers(0, 10**12),
    downlink_bps=st.integers(0, 10**12),
    uplink_bound=bounds,
    downlink_bound=bounds,
)
updates = st.builds(
    lambda base, **fields: Update(base_version=base, version=base + 1, **fields),
    counts,
    base_digest=digests,
    result_digest=digests,
    codec=names,
    payload=st.binary(max_size=100),
    newest_batch_id=counts,
    newest_capture_time_us=times_us,
    changed=counts,
    loss=positive,
    label_ms=positive,
    queue_ms=positive,
    train_ms=positive,
    code_ms=positive,
)
client_messages = st.one_of(
    hellos,
    frame_batches(),
    st.builds(Applied, version=counts, weights_digest=digests, build_time_ms=positive),
    st.builds(SnapshotRequest, reason=reasons),
    st.builds(Budget, uplink_bps=st.integers(0, 10**12), downlink_bps=st.integers(0, 10**12)),
    st.builds(Drain, reason=reasons),
)
server_messages = st.one_of(
    st.builds(Welcome, manifest=manifests, codec=names, graph_bytes=st.integers(0, MAX_GRAPH_BYTES), control=controls),
    st.builds(
        ModelChunk,
        part=st.sampled_from(("graph", "weights")),
        offset=st.integers(0, 2**28),
        data=st.binary(min_size=1, max_size=100),
    ),
    st.builds(
        SnapshotHeader,
        version=counts,
        weights_digest=digests,
        encoded_bytes=st.integers(2**20, 2**28),
        encoded_digest=st.just(b"") | digests,
        first_byte=st.integers(0, 2**20 - 1),
    ),
    updates,
    st.builds(BatchReceived, batch_id=counts),
    controls,
    st.builds(Drain, reason=reasons),
    st.builds(
        Problem,
        code=st.sampled_from(("bad_request", "unsupported", "busy", "budget_too_small", "internal", "replaced")),
        reason=reasons,
    ),
)


@settings(max_examples=60)
@given(client_messages)
def test_what_an_edge_sends_arrives_as_it_was(message: ClientMessage) -> None:
    data = client_message_to_proto(message).SerializeToString()
    assert client_message_from_proto(pb.ClientMessage.FromString(data)) == message


@settings(max_examples=60)
@given(server_messages)
def test_what_a_server_sends_arrives_as_it_was(message: ServerMessage) -> None:
    data = server_message_to_proto(message).SerializeToString()
    assert server_message_from_proto(pb.ServerMessage.FromString(data)) == message


@settings(max_examples=60)
@given(manifests)
def test_a_manifest_survives_the_disk_with_its_digest(manifest: ModelManifest) -> None:
    data = manifest_to_bytes(manifest)
    assert manifest_from_bytes(data) == manifest
    assert manifest_from_bytes(data).bundle_digest == manifest.bundle_digest
    assert manifest_to_bytes(manifest_from_bytes(data)) == data


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_protocol_error(data: bytes) -> None:
    readers: tuple[Callable[[], object], ...] = (
        lambda: client_message_from_proto(pb.ClientMessage.FromString(data)),
        lambda: server_message_from_proto(pb.ServerMessage.FromString(data)),
        lambda: manifest_from_bytes(data),
    )
    for read in readers:
        try:
            read()
        except (ProtocolError, DecodeError):
            continue


@settings(max_examples=60)
@given(st.data(), st.sampled_from((client_message_to_proto(HELLO), client_message_to_proto(batch(1, 40)))))
def test_a_mutated_message_gives_a_message_or_a_protocol_error(data: st.DataObject, proto: pb.ClientMessage) -> None:
    mutated = bytearray(proto.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        client_message_from_proto(pb.ClientMessage.FromString(bytes(mutated)))
    except (ProtocolError, DecodeError):
        return


def test_the_bytes_of_a_message_stay_what_they_are() -> None:
    assert client_message_to_proto(Drain(reason="bye")).SerializeToString().hex() == "2a050a03627965"
    assert server_message_to_proto(BatchReceived(batch_id=300)).SerializeToString().hex() == "2a0308ac02"
    problem = Problem(code="replaced", reason="x")
    assert server_message_to_proto(problem).SerializeToString().hex() == "42050806120178"


def test_integers_and_floats_of_a_scaling_give_the_same_bundle() -> None:
    whole = replace(MANIFEST, mean=(0, 0, 0), std=(255, 255, 255))
    assert manifest_from_bytes(manifest_to_bytes(whole)).bundle_digest == whole.bundle_digest


def test_a_reason_is_made_fit_for_a_log() -> None:
    message = client_message_from_proto(client_message_to_proto(Drain(reason="line\nline\x1b[0m" + "x" * 1000)))
    assert isinstance(message, Drain)
    assert message.reason.startswith("line line [0mxx")
    assert len(message.reason) == MAX_REASON


def test_a_code_of_a_newer_server_is_an_error_all_the_same() -> None:
    proto = pb.ServerMessage(problem=pb.Problem(reason="new"))
    proto.problem.MergeFromString(bytes([8, 99]))
    assert server_message_from_proto(proto) == Problem(code="internal", reason="new")


@pytest.mark.parametrize("number", [5, 99, -1])
def test_what_a_newer_server_calls_the_bound_of_a_budget_is_not_known_and_the_budget_holds(number: int) -> None:
    capped = replace(CONTROL, uplink_bps=50_000, uplink_bound="cap", downlink_bound="share")
    proto = server_message_to_proto(capped)
    # Enums of proto3 are open: protobuf takes numbers that it has no name for.
    proto.control.downlink_bound = number  # type: ignore[assignment]
    received = server_message_from_proto(pb.ServerMessage.FromString(proto.SerializeToString()))
    assert received == replace(capped, downlink_bound="unspecified")


UPDATE = update_to(4)
CHUNK = ModelChunk(part="graph", offset=0, data=b"x")
HEADER = SnapshotHeader(version=1, weights_digest=bytes(16), encoded_bytes=1)
LONG = "x" * 257


@pytest.mark.parametrize(
    ("message", "changes", "reason"),
    [
        (HELLO, {"device_id": ""}, "device id"),
        (HELLO, {"device_id": ".."}, "device id"),
        (HELLO, {"device_id": "a/b"}, "device id"),
        (HELLO, {"device_id": "x" * 65}, "device id"),
        (HELLO, {"run_id": bytes(15)}, "run_id has 15 bytes"),
        (HELLO, {"student": LONG}, "student has 257 characters"),
        (HELLO, {"student": "a\nb"}, "cannot be printed"),
        (HELLO, {"class_set": LONG}, "class_set"),
        (HELLO, {"uplink_bps": 10**12 + 1}, "uplink_bps"),
        (HELLO, {"downlink_bps": 2**63}, "downlink_bps"),
        (HELLO, {"codecs": ("gap-zstd",) * 17}, "number of codecs is 17"),
        (HELLO, {"codecs": ("",)}, "codec is empty"),
        (HELLO, {"provider": LONG}, "provider"),
        (HELLO, {"build_time_ms": math.nan}, "build_time_ms is nan"),
        (HELLO, {"build_time_ms": -1.0}, "build_time_ms"),
        (HELLO, {"held": replace(held(1), weights_digest=b"")}, "weights_digest has 0 bytes"),
        (HELLO, {"held": replace(held(1), bundle_digest=bytes(17))}, "bundle_digest has 17 bytes"),
        (HELLO, {"held": replace(held(1), version=2**54)}, "held version"),
        (HELLO, {"partial": PartialSnapshot(encoded_digest=b"", received_bytes=1)}, "encoded_digest has 0 bytes"),
        (HELLO, {"partial": PartialSnapshot(encoded_digest=bytes(16), received_bytes=0)}, "received_bytes is 0"),
        (HELLO, {"partial": PartialSnapshot(encoded_digest=bytes(16), received_bytes=2**40)}, "received_bytes"),
        (batch(1), {"batch_id": 0}, "batch_id is 0"),
        (batch(1), {"video_codec": ""}, "video_codec is empty"),
        (batch(1), {"width": 0}, "width of the frames is 0"),
        (batch(1), {"height": 4097}, "height of the frames is 4097"),
        (batch(1), {"capture_times_us": (), "packets": ()}, "number of frames is 0"),
        (batch(1), {"capture_times_us": tuple(range(1025))}, "number of frames is 1025"),
        (batch(1), {"capture_times_us": (2, 1)}, "go backwards"),
        (batch(1), {"capture_times_us": (0, 2**61)}, "capture time is"),
        (batch(1), {"capture_times_us": (-(2**61), 0)}, "capture time is"),
        (batch(1), {"packets": ((0, b""),) * (MAX_FRAMES + 1)}, "number of packets is"),
        (batch(1), {"packets": ((0, b"x"),)}, "one packet for each frame"),
        (batch(1), {"packets": ((0, b"x"), (0, b"x"))}, "one packet for each frame"),
        (batch(1), {"packets": ((0, b"x"), (2, b"x"))}, "one packet for each frame"),
        (batch(1), {"packets": ((0, b""), (1, b""))}, "bytes of video is 0"),
        (batch(1), {"packets": ((0, bytes(MAX_BATCH_BYTES)), (1, b"x"))}, "bytes of video is 3750001"),
        (Applied(version=1, weights_digest=bytes(16), build_time_ms=1.0), {"version": 2**54}, "applied version"),
        (Applied(version=1, weights_digest=bytes(16), build_time_ms=1.0), {"weights_digest": b"x"}, "weights_digest"),
        (Applied(version=1, weights_digest=bytes(16), build_time_ms=1.0), {"build_time_ms": math.inf}, "build_time_ms is inf"),
        (UPDATE, {"version": 5}, "version of an update is 5"),
        (UPDATE, {"version": 3, "base_version": 3}, "version of an update is 3"),
        (UPDATE, {"base_digest": b""}, "base_digest"),
        (UPDATE, {"result_digest": b""}, "result_digest"),
        (UPDATE, {"codec": ""}, "codec is empty"),
        (UPDATE, {"payload": bytes(MAX_UPDATE_BYTES + 1)}, "bytes of an update"),
        (UPDATE, {"newest_capture_time_us": 2**61}, "newest_capture_time_us"),
        (UPDATE, {"newest_batch_id": 2**54}, "newest_batch_id"),
        (UPDATE, {"changed": 2**54}, "changed"),
        (UPDATE, {"loss": math.nan}, "loss is nan"),
        (UPDATE, {"label_ms": -1.0}, "label_ms"),
        (UPDATE, {"train_ms": math.inf}, "train_ms"),
        (UPDATE, {"code_ms": math.nan}, "code_ms"),
        (CHUNK, {"data": b""}, "bytes of a chunk is 0"),
        (CHUNK, {"data": bytes(CHUNK_BYTES + 1)}, "bytes of a chunk"),
        (CHUNK, {"offset": 2**40}, "offset of a chunk"),
        (HEADER, {"encoded_bytes": 0}, "encoded_bytes is 0"),
        (HEADER, {"encoded_bytes": 2**40}, "encoded_bytes"),
        (HEADER, {"weights_digest": b"x"}, "weights_digest"),
        (HEADER, {"encoded_digest": b"x"}, "encoded_digest has 1 bytes"),
        (HEADER, {"first_byte": 1}, "first_byte is 1"),
        (CONTROL, {"sampling_hz": 0.0}, "sampling_hz is 0"),
        (CONTROL, {"sampling_hz": math.nan}, "sampling_hz is nan"),
        (CONTROL, {"batch_interval_s": math.inf}, "batch_interval_s"),
        (CONTROL, {"batch_bytes": 0}, "batch_bytes is 0"),
        (CONTROL, {"batch_bytes": MAX_BATCH_BYTES + 1}, "batch_bytes"),
        (CONTROL, {"frame_width": 0}, "frame_width"),
        (CONTROL, {"frame_height": 100_000}, "frame_height"),
        (Welcome(manifest=MANIFEST, codec="gap-zstd", graph_bytes=1, control=CONTROL), {"codec": ""}, "codec is empty"),
        (
            Welcome(manifest=MANIFEST, codec="gap-zstd", graph_bytes=1, control=CONTROL),
            {"graph_bytes": MAX_GRAPH_BYTES + 1},
            "graph_bytes",
        ),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(message: Any, changes: dict[str, Any], reason: str) -> None:
    broken = replace(message, **changes)
    with pytest.raises(ProtocolError, match=reason):
        _sent(broken)


def _sent(message: Any) -> Any:
    if isinstance(message, Hello | FrameBatch | Applied):
        return client_message_from_proto(client_message_to_proto(message))
    return server_message_from_proto(server_message_to_proto(message))


def _tensor(**fields: Any) -> pb.Tensor:
    return pb.Tensor(**{"name": "t", "shape": [2], "trainable": True, **fields})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda proto: proto.ClearField("student"), "student is empty"),
        (lambda proto: proto.ClearField("class_set"), "class_set is empty"),
        (lambda proto: proto.ClearField("classes"), "number of classes is 0"),
        (lambda proto: proto.classes.extend(proto.classes[:1] * 253), "number of classes is 255"),
        (lambda proto: proto.classes.extend(proto.classes[:1]), "names a class twice"),
        (lambda proto: setattr(proto.classes[0], "name", ""), "name of a class is empty"),
        (lambda proto: setattr(proto.classes[0], "colour", b"12"), "colour of a class has 2 bytes"),
        (lambda proto: proto.classes[0].accepts.extend(["x"] * 65), "number of accepted names is 65"),
        (lambda proto: proto.classes[0].accepts.append(""), "accepted name is empty"),
        (lambda proto: setattr(proto, "width", 0), "width of the model is 0"),
        (lambda proto: setattr(proto, "height", 5000), "height of the model is 5000"),
        (lambda proto: proto.mean.append(1.0), "mean has 4 values"),
        (lambda proto: proto.mean.__setitem__(0, math.nan), "mean is nan"),
        (lambda proto: proto.std.__setitem__(2, 0.0), "std is 0"),
        (lambda proto: setattr(proto, "graph_digest", b""), "graph_digest has 0 bytes"),
        (lambda proto: proto.ClearField("tensors"), "number of tensors is 0"),
        (lambda proto: proto.tensors.extend([_tensor()] * 4096), "number of tensors is 4098"),
        (lambda proto: proto.tensors.append(_tensor(trainable=True)), "running statistic before"),
        (lambda proto: proto.tensors.append(_tensor(name="weight", trainable=False)), "names a tensor twice"),
        (lambda proto: proto.tensors.append(_tensor(name="")), "name of a tensor is empty"),
        (lambda proto: proto.tensors.append(_tensor(shape=[1] * 9)), "number of dimensions is 9"),
        (lambda proto: proto.tensors.append(_tensor(shape=[2**31, 2**31])), "elements of a tensor"),
        (lambda proto: proto.tensors.append(_tensor(shape=[0])), "elements of a tensor is 0"),
        (lambda proto: proto.tensors.extend([_tensor(shape=[2**25])] * 3), "number of parameters"),
        (
            lambda proto: proto.tensors.append(_tensor(shape=[2**26 - 2**20, 1])),
            r"number of rows is \d+, it must be 1 to 1048576",
        ),
    ],
)
def test_a_manifest_out_of_range_is_refused(change: Callable[[pb.ModelManifest], object], reason: str) -> None:
    proto = pb.ModelManifest.FromString(manifest_to_bytes(MANIFEST))
    change(proto)
    with pytest.raises(ProtocolError, match=reason):
        manifest_from_bytes(proto.SerializeToString())


def test_an_empty_message_is_refused() -> None:
    with pytest.raises(ProtocolError, match="empty or of a newer protocol"):
        client_message_from_proto(pb.ClientMessage())
    with pytest.raises(ProtocolError, match="empty or of a newer protocol"):
        server_message_from_proto(pb.ServerMessage())


@pytest.mark.parametrize(
    "frame", [b"", b"zstd", zstd_compress(bytes(MAX_MANIFEST_BYTES + 1), 1), zstd_compress(b"\xff" * 3, 1)]
)
def test_a_damaged_manifest_in_a_welcome_is_refused(frame: bytes) -> None:
    proto = server_message_to_proto(Welcome(manifest=MANIFEST, codec="gap-zstd", graph_bytes=1, control=CONTROL))
    proto.welcome.manifest = frame
    with pytest.raises(ProtocolError, match=r"manifest .*is damaged"):
        server_message_from_proto(proto)


def test_a_damaged_manifest_file_is_refused() -> None:
    with pytest.raises(ProtocolError, match="manifest of 3 bytes is damaged"):
        manifest_from_bytes(b"\xff\xff\xff")


def test_an_update_survives_the_disk() -> None:
    update = update_to(3)
    assert update_from_bytes(update_to_bytes(update)) == update


@given(data=st.binary(max_size=200))
def test_any_bytes_of_a_kept_update_give_an_update_or_a_protocol_error(data: bytes) -> None:
    with suppress(ProtocolError):
        assert isinstance(update_from_bytes(data), Update)


def test_another_message_in_the_place_of_an_update_is_refused() -> None:
    with pytest.raises(ProtocolError, match="Control in the place of an update"):
        update_from_bytes(server_message_to_proto(CONTROL).SerializeToString())
