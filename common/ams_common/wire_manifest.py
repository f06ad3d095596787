"""The manifest of a model as protobuf, for the wire and for the edge's disk."""

import math
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from ams_common import wire_checks as check
from ams_common.classes import ClassSet, SegmentationClass
from ams_common.delta_rows import count_rows
from ams_common.errors import AmsError, ProtocolError
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.messages import ModelManifest
from ams_common.proto import adaptation_pb2 as pb

MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
MAX_PARAMETERS = 64 * 2**20
"""Largest flat vector: 256 MiB of float32."""
MAX_ROWS = 2**20
"""Each takes tens of bytes where updates are read; a network of MAX_PARAMETERS has tens of thousands."""
MAX_CLASSES = 254
MAX_ACCEPTED_NAMES = 64


def manifest_to_bytes(manifest: ModelManifest) -> bytes:
    """Return the manifest as protobuf bytes; equal manifests give equal bytes."""
    return manifest_to_proto(manifest).SerializeToString(deterministic=True)


def manifest_from_bytes(data: bytes) -> ModelManifest:
    """Return the manifest that `manifest_to_bytes` wrote.

    Raises:
        ProtocolError: the bytes hold no valid manifest.
    """
    try:
        return manifest_from_proto(pb.ModelManifest.FromString(data))
    except DecodeError as error:
        raise ProtocolError(f"manifest of {len(data)} bytes is damaged") from error


def manifest_to_proto(manifest: ModelManifest) -> pb.ModelManifest:
    """Return the protobuf form of a manifest."""
    return pb.ModelManifest(
        student=manifest.student,
        class_set=manifest.classes.name,
        classes=[
            pb.SegmentationClass(name=each.name, colour=bytes(each.colour), accepts=each.accepts)
            for each in manifest.classes.classes
        ],
        width=manifest.width,
        height=manifest.height,
        mean=manifest.mean,
        std=manifest.std,
        tensors=[pb.Tensor(name=each.name, shape=each.shape, trainable=each.trainable) for each in manifest.layout.tensors],
        graph_digest=manifest.graph_digest,
    )


def manifest_from_proto(proto: pb.ModelManifest) -> ModelManifest:
    """Return the manifest in `proto`.

    Raises:
        ProtocolError: a field is out of range; the message names it.
    """
    return ModelManifest(
        student=check.name("student", proto.student),
        classes=_class_set_from_proto(proto),
        width=check.side("width of the model", proto.width),
        height=check.side("height of the model", proto.height),
        mean=_triple("mean", proto.mean, -1e6),
        std=_triple("std", proto.std, 1e-6),
        layout=_layout_from_proto(proto.tensors),
        graph_digest=check.digest("graph_digest", proto.graph_digest),
    )


def _triple(field: str, values: Sequence[float], least: float) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ProtocolError(f"{field} has {len(values)} values, it must have 3")
    first, second, third = (check.in_range(field, value, least, 1e6) for value in values)
    return first, second, third


def _class_set_from_proto(proto: pb.ModelManifest) -> ClassSet:
    check.in_range("number of classes", len(proto.classes), 1, MAX_CLASSES)
    classes = tuple(map(_class_from_proto, proto.classes))
    try:
        return ClassSet(check.name("class_set", proto.class_set), classes)
    except AmsError as error:
        raise ProtocolError(str(error)) from error


def _class_from_proto(proto: pb.SegmentationClass) -> SegmentationClass:
    if len(proto.colour) != 3:
        raise ProtocolError(f"colour of a class has {len(proto.colour)} bytes, it must have 3")
    check.in_range("number of accepted names", len(proto.accepts), 0, MAX_ACCEPTED_NAMES)
    red, green, blue = proto.colour
    return SegmentationClass(
        name=check.name("name of a class", proto.name),
        colour=(red, green, blue),
        accepts=tuple(check.name("accepted name", each) for each in proto.accepts),
    )


def _layout_from_proto(tensors: Sequence[pb.Tensor]) -> ParameterLayout:
    check.in_range("number of tensors", len(tensors), 1, MAX_TENSORS)
    specs = tuple(map(_tensor_from_proto, tensors))
    check.in_range("number of parameters", sum(spec.size for spec in specs), 1, MAX_PARAMETERS)
    check.in_range("number of rows", count_rows(specs), 1, MAX_ROWS)
    try:
        return ParameterLayout(specs)
    except AmsError as error:
        raise ProtocolError(str(error)) from error


def _tensor_from_proto(proto: pb.Tensor) -> TensorSpec:
    check.in_range("number of dimensions", len(proto.shape), 0, MAX_DIMENSIONS)
    check.in_range("elements of a tensor", math.prod(proto.shape), 1, MAX_PARAMETERS)
    return TensorSpec(name=check.name("name of a tensor", proto.name), shape=tuple(proto.shape), trainable=proto.trainable)
