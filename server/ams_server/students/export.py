"""From a torch network to what an edge runs: an ONNX graph without numbers, the layout of the flat vector, the vector.

The graph's initialisers carry the names of the layout and are external; whoever builds a session hands them over, for ONNX
Runtime by `SessionOptions.add_external_initializers`. The bytes of the graph depend on the architecture and the input's size
alone, not on the weights, so that their digest identifies the model.
"""

import copy
import hashlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it has neither stubs nor a py.typed marker
import torch
from onnxscript import ir, optimizer
from torch import nn

from ams_common.classes import ClassSet
from ams_common.errors import ModelError
from ams_common.layout import DIGEST_BYTES, Float32Array, ParameterLayout, TensorSpec
from ams_common.messages import ModelManifest
from ams_server.students.probe import random_images
from ams_server.students.registry import find_student

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
_ROUNDING = 8 * float(np.finfo(np.float32).eps)


def student_layout(module: nn.Module) -> ParameterLayout:
    """Return the layout of the network's flat vector: parameters, then batch-norm statistics, in the network's order."""
    parameters = [TensorSpec(name=name, shape=tuple(tensor.shape)) for name, tensor in module.named_parameters()]
    statistics = [
        TensorSpec(name=name, shape=tuple(tensor.shape), trainable=False)
        for name, tensor in module.named_buffers()
        if tensor.is_floating_point()
    ]
    return ParameterLayout((*parameters, *statistics))


def student_vector(module: nn.Module) -> Float32Array:
    """Return a copy of the network's state as a flat vector, float32 [layout.size]."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return student_layout(module).flatten((name, tensor.detach().cpu().numpy()) for name, tensor in tensors.items())


def build_manifest(
    spec_name: str, module: nn.Module, classes: ClassSet, *, width: int, height: int
) -> tuple[ModelManifest, bytes]:
    """Export the network, check the export against it, and return what an edge needs: (manifest, ONNX graph).

    Raises:
        ConfigurationError: unknown student.
        ModelError: the exported graph does not compute what the network does.
    """
    spec = find_student(spec_name)
    graph = export_graph(module, height=height, width=width)
    verify_export(module, graph)
    manifest = ModelManifest(
        student=spec.name,
        classes=classes,
        width=width,
        height=height,
        mean=spec.mean,
        std=spec.std,
        layout=student_layout(module),
        graph_digest=hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest(),
    )
    return manifest, graph


def export_graph(module: nn.Module, *, height: int, width: int) -> bytes:
    """Return the serialised ONNX graph: `image` float32 [1, 3, height, width] -> `logits` float32 [1, C, h, w].

    Batch norm stays separate under its own names; ONNX Runtime fuses it when it builds a session.
    """
    model = _traced(_evaluated_copy(module), height, width)
    external = {tensor.name for tensor in student_layout(module).tensors}
    missing = external - {tensor.name for tensor in model.graph.initializer}
    assert not missing, f"the exporter lost {sorted(missing)}"
    _drop_zero_biases(model.graph, external)
    _rename(model.graph, external)
    return _bare(model, external).SerializeToString(deterministic=True)


def verify_export(module: nn.Module, graph: bytes, tolerance: float = 1e-4) -> None:
    """Compare the graph in ONNX Runtime with the network in torch, on the CPU and on one random image.

    The logits may differ by `tolerance` times the largest deviation of a logit from its channel's mean: a logit's constant
    part says nothing about the layers before the last.

    Raises:
        ModelError: the logits differ by more, or are not finite.
    """
    session = _session(module, graph)
    _, _, height, width = session.get_inputs()[0].shape
    image = random_images(1, height, width, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = _evaluated_copy(module)(image).numpy()
    (computed,) = session.run([OUTPUT_NAME], {INPUT_NAME: image.numpy()})
    difference = float(np.abs(np.asarray(computed) - expected).max())
    spread = float(np.abs(expected - expected.mean((2, 3), keepdims=True)).max())
    rounding = _ROUNDING * float(np.abs(expected).max())
    allowed = max(tolerance * spread, rounding)
    if not difference <= allowed:
        raise ModelError(f"exported graph differs from the network by {difference:.2g}, at most {allowed:.2g} is allowed")


def _evaluated_copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().float().eval()


def _session(module: nn.Module, graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    layout, vector = student_layout(module), student_vector(module)
    named = [(tensor.name, onnxruntime.OrtValue.ortvalue_from_numpy(view)) for tensor, view in layout.views(vector)]
    options.add_external_initializers([name for name, _ in named], [value for _, value in named])
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _traced(module: nn.Module, height: int, width: int) -> onnx.ModelProto:
    """Trace the network; only constants are folded, since torch's own optimiser merges parameters and loses their names."""
    with _silence(), _uninterrupted():
        program = torch.onnx.export(
            module,
            (torch.zeros(1, 3, height, width),),
            dynamo=True,
            optimize=False,
            external_data=False,
            verbose=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
        )
        assert program is not None
        optimizer.fold_constants(program.model)
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    return ir.to_proto(program.model)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's warnings about itself from the log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a KeyboardInterrupt wait until the end: the exporter takes it for a network that it cannot trace."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield
        return
    waiting: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if waiting:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _drop_zero_biases(graph: onnx.GraphProto, external: set[str]) -> None:
    """Take the constant zero bias, that the exporter gives to a convolution without one, out of the graph."""
    zeros = {
        tensor.name
        for tensor in graph.initializer
        if tensor.name not in external and not np.any(onnx.numpy_helper.to_array(tensor))
    }
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _rename(graph: onnx.GraphProto, external: set[str]) -> None:
    """Number nodes and values in the order of the graph: the exporter's own names depend on its version and on what ran."""
    names = {name: name for name in (INPUT_NAME, OUTPUT_NAME, "", *external)}
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}_{index}"
        for values in (node.input, node.output):
            values[:] = [names.setdefault(value, f"value_{len(names)}") for value in values]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]


def _bare(model: onnx.ModelProto, external: set[str]) -> onnx.ModelProto:
    """Return the model with the parameters external, initialisers in the order of their names, and no comments."""
    graph = onnx.GraphProto(name="student")
    graph.input.extend(onnx.ValueInfoProto(name=value.name, type=value.type) for value in model.graph.input)
    graph.output.extend(onnx.ValueInfoProto(name=value.name, type=value.type) for value in model.graph.output)
    for node in model.graph.node:
        graph.node.add(name=node.name, op_type=node.op_type, domain=node.domain, input=node.input, output=node.output)
        graph.node[-1].attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        graph.initializer.append(_externalised(tensor) if tensor.name in external else tensor)
    return onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)


def _externalised(tensor: onnx.TensorProto) -> onnx.TensorProto:
    outside = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="weights")
    return outside
