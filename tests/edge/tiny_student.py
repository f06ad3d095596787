"""A small student made with the onnx package: every way in which batch norm can stand to a convolution, external weights."""

import hashlib
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from ams_common.classes import STREET7, ClassSet
from ams_common.layout import DIGEST_BYTES, Float32Array, ParameterLayout, TensorSpec, weights_digest
from ams_common.messages import ModelManifest, Update
from ams_common.model_file import StoredModel
from ams_common.sparse_update import apply_update
from ams_common.update_codec import DEFAULT_CODEC, create_codec

WIDTH, HEIGHT = 48, 32
CLASSES: ClassSet = STREET7.subset(("road", "sky", "car"))
# name, outputs, inputs of a group, kernel, bias
_CONVOLUTIONS = (
    ("stem", 20, 3, 3, False),
    ("dw", 20, 1, 3, True),
    ("side", 20, 20, 1, False),
    ("logits", len(CLASSES), 40, 1, True),
)
# name, channels: after stem, after dw, after a sum, after a concatenation
_BATCH_NORMS = (("stem_norm", 20), ("dw_norm", 20), ("sum_norm", 20), ("all_norm", 40))
_EPSILON = 1e-3


def tiny_layout() -> ParameterLayout:
    """Return the layout: convolutions, gains and shifts, then running statistics."""
    tensors = []
    for name, outputs, inputs, kernel, bias in _CONVOLUTIONS:
        tensors.append(TensorSpec(name=f"{name}.weight", shape=(outputs, inputs, kernel, kernel)))
        if bias:
            tensors.append(TensorSpec(name=f"{name}.bias", shape=(outputs,)))
    for suffix, trainable in ((".weight", True), (".bias", True), (".running_mean", False), (".running_var", False)):
        tensors += [TensorSpec(name=name + suffix, shape=(size,), trainable=trainable) for name, size in _BATCH_NORMS]
    return ParameterLayout(tuple(tensors))


def tiny_graph() -> bytes:
    """Return the graph: stride 4, float32 [1, 3, HEIGHT, WIDTH] -> [1, C, HEIGHT / 4, WIDTH / 4]."""
    layout = tiny_layout()

    def conv(name: str, source: str, target: str, *, stride: int = 1, pad: int = 0, group: int = 1) -> onnx.NodeProto:
        inputs = [tensor.name for tensor in layout.tensors if tensor.name in (f"{name}.weight", f"{name}.bias")]
        return helper.make_node("Conv", [source, *inputs], [target], strides=[stride] * 2, pads=[pad] * 4, group=group)

    def norm(name: str, source: str, target: str) -> onnx.NodeProto:
        inputs = [f"{name}{suffix}" for suffix in (".weight", ".bias", ".running_mean", ".running_var")]
        return helper.make_node("BatchNormalization", [source, *inputs], [target], epsilon=_EPSILON)

    nodes = [
        conv("stem", "image", "stem_raw", stride=4, pad=1),
        norm("stem_norm", "stem_raw", "stem_normed"),
        helper.make_node("Relu", ["stem_normed"], ["stem_out"]),
        conv("dw", "stem_out", "dw_raw", pad=1, group=20),
        norm("dw_norm", "dw_raw", "dw_out"),
        # two readers: its batch norm cannot be folded into it
        conv("side", "stem_out", "side_out"),
        norm("sum_norm", "side_out", "sum_normed"),
        helper.make_node("Add", ["side_out", "dw_out"], ["sum"]),
        helper.make_node("Add", ["sum", "sum_normed"], ["both"]),
        helper.make_node("Concat", ["both", "stem_out"], ["all"], axis=1),
        norm("all_norm", "all", "all_normed"),
        conv("logits", "all_normed", "logits"),
    ]
    initialisers = [
        TensorProto(
            name=tensor.name,
            data_type=TensorProto.FLOAT,
            dims=tensor.shape,
            data_location=TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key="location", value="weights")],
        )
        for tensor in layout.tensors
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(CLASSES), HEIGHT // 4, WIDTH // 4])],
        initialisers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def tiny_vector(seed: int = 0) -> Float32Array:
    """Return random weights whose variances are positive."""
    layout = tiny_layout()
    rng = np.random.default_rng(seed)
    vector = rng.normal(0, 0.5, layout.size).astype(np.float32)
    for tensor, view in layout.views(vector):
        if tensor.name.endswith("_var"):
            view[...] = rng.uniform(0.5, 2, tensor.shape)
    return vector


def tiny_model(seed: int = 0, *, version: int = 0) -> StoredModel:
    """Return the whole model with random weights."""
    graph, vector = tiny_graph(), tiny_vector(seed)
    manifest = ModelManifest(
        student="tiny",
        classes=CLASSES,
        width=WIDTH,
        height=HEIGHT,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        layout=tiny_layout(),
        graph_digest=hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest(),
    )
    return StoredModel(manifest=manifest, graph=graph, vector=vector, version=version, weights_digest=weights_digest(vector))


def unrunnable(model: StoredModel) -> StoredModel:
    """Return the model with a graph of a version that no ONNX Runtime knows."""
    proto = onnx.load_model_from_string(model.graph)
    proto.opset_import[0].version = 999
    graph = proto.SerializeToString()
    digest = hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest()
    return replace(model, graph=graph, manifest=replace(model.manifest, graph_digest=digest))


def tiny_update(base: StoredModel, seed: int = 1) -> Update:
    """Return an update of a tenth of the trainable parameters of `base`."""
    layout = base.manifest.layout
    rng = np.random.default_rng(seed)
    indices = np.sort(rng.choice(layout.trainable_size, layout.trainable_size // 10, replace=False))
    target = base.vector.copy()
    target[indices] += rng.normal(0, 0.5, indices.size).astype(np.float32)
    codec = create_codec(DEFAULT_CODEC, layout)
    payload = codec.encode(base.vector, target, indices)
    result = after(base, payload)
    return Update(
        version=base.version + 1,
        base_version=base.version,
        base_digest=base.weights_digest,
        result_digest=result.weights_digest,
        codec=DEFAULT_CODEC,
        payload=payload,
    )


def after(base: StoredModel, payload: bytes) -> StoredModel:
    """Return the model as the server's mirror has it after an update."""
    codec = create_codec(DEFAULT_CODEC, base.manifest.layout)
    vector = apply_update(base.vector, codec.decode(payload, base.vector))
    return replace(base, vector=vector, version=base.version + 1, weights_digest=weights_digest(vector))


def inlined(model: StoredModel) -> onnx.ModelProto:
    """Return the graph with its weights inside, for onnx's reference evaluator."""
    proto = onnx.load_model_from_string(model.graph)
    views = {tensor.name: view for tensor, view in model.manifest.layout.views(model.vector)}
    values = [onnx.numpy_helper.from_array(views[tensor.name], tensor.name) for tensor in proto.graph.initializer]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(values)
    return proto
