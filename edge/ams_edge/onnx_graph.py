"""The part of the ONNX format that the edge reads and writes itself, without the onnx package.

The messages below name only the fields that are needed, with their numbers in onnx.proto; protobuf carries all others along
unread.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ams_common.errors import ModelError
from ams_common.layout import Float32Array

_FLOAT = 1
_INT_ATTRIBUTE = 2
_EXTERNAL = 1
_DEFAULT_EPSILON = 1e-5
_FIELDS = {
    "Model": {"graph": (7, "Graph")},
    "Graph": {
        "node": (1, "Node*"),
        "initializer": (5, "Tensor*"),
        "input": (11, "ValueInfo*"),
        "output": (12, "ValueInfo*"),
    },
    "Node": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "name": (3, "string"),
        "op_type": (4, "string"),
        "attribute": (5, "Attribute*"),
    },
    "Attribute": {"name": (1, "string"), "f": (2, "float"), "i": (3, "int64"), "type": (20, "int32")},
    "Tensor": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
        "external_data": (13, "Entry*"),
        "data_location": (14, "int32"),
    },
    "Entry": {"key": (1, "string"), "value": (2, "string")},
    "ValueInfo": {"name": (1, "string"), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, "int32"), "shape": (2, "Shape")},
    "Shape": {"dim": (1, "Dimension*")},
    "Dimension": {"dim_value": (1, "int64")},
}
_PACKAGE = "ams_edge.onnx"


def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="ams_edge/onnx.proto", package=_PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": kinds.TYPE_STRING,
        "bytes": kinds.TYPE_BYTES,
        "float": kinds.TYPE_FLOAT,
        "int32": kinds.TYPE_INT32,
        "int64": kinds.TYPE_INT64,
    }
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            element = kind.rstrip("*")
            field.type = scalars.get(element, kinds.TYPE_MESSAGE)
            if element not in scalars:
                field.type_name = f".{_PACKAGE}.{element}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


_Model = _model_class()


def parse_model(data: bytes) -> Any:
    """Return the ONNX model in `data`, a protobuf message of the fields above.

    Raises:
        ModelError: the bytes are no protobuf.
    """
    try:
        return _Model.FromString(data)
    except DecodeError as error:
        raise ModelError(f"graph of {len(data)} bytes is damaged") from error


def epsilon(node: Any) -> float:
    """Return the epsilon of a BatchNormalization node."""
    return next((float(each.f) for each in node.attribute if each.name == "epsilon"), _DEFAULT_EPSILON)


def replace_external(graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Exchange the initialisers whose numbers are elsewhere for float32 ones of these names and shapes."""
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].data_location == _EXTERNAL:
            del graph.initializer[index]
    for name, shape in shapes.items():
        tensor = graph.initializer.add(name=name, dims=shape, data_type=_FLOAT, data_location=_EXTERNAL)
        tensor.external_data.add(key="location", value="weights")


def add_input(graph: Any, name: str, shape: Sequence[int]) -> None:
    """Add a float32 input."""
    tensor_type = graph.input.add(name=name).type.tensor_type
    tensor_type.elem_type = _FLOAT
    for size in shape:
        tensor_type.shape.dim.add(dim_value=size)


def make_depthwise(node: Any, inputs: Sequence[str], channels: int) -> None:
    """Turn `node` into a convolution of each channel by itself.

    Args:
        node: any node with one output.
        inputs: names of features, weight [channels, 1, 1, 1] and bias [channels].
        channels: of the features.
    """
    node.op_type = "Conv"
    node.input[:] = inputs
    del node.attribute[:]
    node.attribute.add(name="group", i=channels, type=_INT_ATTRIBUTE)


def float_values(tensor: Any) -> Float32Array:
    """Return the numbers of a float32 initialiser that holds them itself, in its shape.

    Raises:
        ModelError: it holds them otherwise.
    """
    size = math.prod(tensor.dims)
    if tensor.data_type != _FLOAT or len(tensor.raw_data) != 4 * size:
        raise ModelError(f"initialiser {tensor.name!r} of type {tensor.data_type} does not hold {size} raw float32 values")
    values: Float32Array = np.frombuffer(tensor.raw_data, "<f4").reshape(tensor.dims).astype(np.float32, copy=False)
    return values
