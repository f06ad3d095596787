import hashlib
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ams_common.classes import STREET7
from ams_common.errors import ModelError
from ams_common.layout import DIGEST_BYTES
from ams_server.students.export import build_manifest, export_graph, student_layout, student_vector, verify_export
from ams_server.students.factory import random_student
from ams_server.students.registry import find_student

SMALL = "jitnet-quarter"
EXPORT = """
import hashlib, torch
from ams_server.networks.jitnet import JitNet
from ams_server.students.export import export_graph
torch.manual_seed(77)
print(hashlib.sha256(export_graph(JitNet(7, width=0.25), height=32, width=64)).hexdigest())
"""


@pytest.fixture(scope="module")
def fresh() -> nn.Module:
    torch.manual_seed(0)
    return find_student(SMALL).build(7).eval()


@pytest.fixture(scope="module")
def graph(fresh: nn.Module) -> bytes:
    return export_graph(fresh, height=32, width=64)


def _external(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {
        tensor.name: tuple(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


def test_layout_is_in_the_order_of_the_network(fresh: nn.Module) -> None:
    layout = student_layout(fresh)
    parameters, statistics = dict(fresh.named_parameters()), dict(fresh.named_buffers())
    assert [tensor.name for tensor in layout.tensors] == [*parameters, *statistics]
    assert [tensor.trainable for tensor in layout.tensors] == [True] * len(parameters) + [False] * len(statistics)
    assert layout.trainable_size == sum(parameter.numel() for parameter in parameters.values())


def test_counters_are_not_in_the_layout() -> None:
    layout = student_layout(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)))
    assert [tensor.name for tensor in layout.tensors] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
    ]


def test_vector_is_a_copy_in_layout_order(fresh: nn.Module) -> None:
    vector = student_vector(fresh)
    for tensor, view in student_layout(fresh).views(vector):
        assert np.array_equal(view, fresh.state_dict()[tensor.name].numpy()), tensor.name
    vector += 1
    assert not np.array_equal(vector, student_vector(fresh))


def test_graph_holds_all_names_of_a_fresh_network_and_no_numbers(fresh: nn.Module, graph: bytes) -> None:
    """In a fresh network all batch norms are equal; an exporter that merges equal tensors would lose names."""
    model = onnx.load_model_from_string(graph)
    assert _external(model) == {tensor.name: tensor.shape for tensor in student_layout(fresh).tensors}
    inline = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name not in _external(model)]
    assert sum(array.size for array in inline) < 64
    assert len(graph) < 40_000


def test_graph_has_the_agreed_input_and_output(graph: bytes) -> None:
    model = onnx.load_model_from_string(graph)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, [d.dim_value for d in image.type.tensor_type.shape.dim]) == ("image", [1, 3, 32, 64])
    assert (logits.name, [d.dim_value for d in logits.type.tensor_type.shape.dim]) == ("logits", [1, 7, 16, 32])


def test_batch_norm_stays_separate_and_convolutions_have_no_computed_bias(graph: bytes) -> None:
    nodes = onnx.load_model_from_string(graph).graph.node
    kinds = {node.op_type for node in nodes}
    assert sum(node.op_type == "BatchNormalization" for node in nodes) == 16
    assert not kinds & {"CastLike", "Shape"}
    assert all(len(node.input) == 2 or node.input[2].endswith(".bias") for node in nodes if node.op_type == "Conv")


def test_bytes_depend_on_the_architecture_alone(graph: bytes) -> None:
    network = random_student(find_student(SMALL), STREET7, seed=1).train()
    before = student_vector(network)
    assert export_graph(network, height=32, width=64) == graph
    assert network.training, "the export leaves the network as it was"
    assert np.array_equal(before, student_vector(network))
    assert export_graph(find_student(SMALL).build(8), height=32, width=64) != graph


def test_graph_says_nothing_of_where_it_was_made(graph: bytes) -> None:
    for text in (b"torch", b"site-packages", b".py", b"forward", b"conv2d"):
        assert text not in graph


def test_another_process_exports_the_same_bytes(graph: bytes) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", EXPORT], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == hashlib.sha256(graph).hexdigest()
    assert done.stderr == "", "the exporter is quiet"


def test_export_computes_what_the_network_does(graph: bytes) -> None:
    verify_export(random_student(find_student(SMALL), STREET7, seed=2), graph)


def _with_other_epsilon(graph: bytes, name: str) -> bytes:
    model = onnx.load_model_from_string(graph)
    (node,) = (node for node in model.graph.node if f"{name}.running_mean" in node.input)
    (epsilon,) = (attribute for attribute in node.attribute if attribute.name == "epsilon")
    epsilon.f = 0.01
    return model.SerializeToString()


def _with_other_activation(graph: bytes) -> bytes:
    model = onnx.load_model_from_string(graph)
    *_, last = (node for node in model.graph.node if node.op_type == "Relu")
    last.op_type = "Abs"
    return model.SerializeToString()


def test_verification_sees_a_graph_that_computes_something_else(fresh: nn.Module, graph: bytes) -> None:
    for wrong in (_with_other_epsilon(graph, "tail.1.norm"), _with_other_activation(graph)):
        with pytest.raises(ModelError, match="exported graph differs from the network by"):
            verify_export(fresh, wrong)


def test_verification_refuses_what_is_not_finite(graph: bytes) -> None:
    network = find_student(SMALL).build(7)
    with torch.no_grad():
        network.get_parameter("logits.bias").fill_(torch.nan)
    with pytest.raises(ModelError, match="differs from the network by nan"):
        verify_export(network, graph)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("deeplabv3-mobilenetv2", (257, 193)),
        ("deeplabv3-mobilenetv2", (209, 161)),
        ("deeplabv3plus-mobilenetv2", (257, 193)),
        ("jitnet-quarter", (257, 193)),
    ],
)
def test_sides_of_one_more_pixel_are_exported(name: str, size: tuple[int, int]) -> None:
    network = random_student(find_student(name), STREET7, seed=0)
    verify_export(network, export_graph(network, width=size[0], height=size[1]), tolerance=1e-4)


def test_manifest_describes_the_graph(fresh: nn.Module) -> None:
    manifest, graph = build_manifest(SMALL, fresh, STREET7, width=64, height=32)
    assert manifest.graph_digest == hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest()
    assert (manifest.student, manifest.width, manifest.height) == (SMALL, 64, 32)
    assert manifest.classes is STREET7
    assert manifest.layout == student_layout(fresh)
    assert manifest.mean == find_student(SMALL).mean


@pytest.mark.parametrize(
    ("name", "tensors"), [("deeplabv3-mobilenetv2", 272), ("deeplabv3plus-mobilenetv2", 297), ("efficientvit-b0", 198)]
)
def test_every_architecture_exports_under_all_its_names(name: str, tensors: int) -> None:
    network = random_student(find_student(name), STREET7, seed=0)
    graph = export_graph(network, height=64, width=96)
    external = _external(onnx.load_model_from_string(graph))
    assert len(external) == tensors
    assert external == {tensor.name: tensor.shape for tensor in student_layout(network).tensors}
    verify_export(network, graph)


def test_an_interrupt_waits_for_the_exporter_and_is_no_failure_of_it(fresh: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[bool] = []

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        finished.append(True)
        raise RuntimeError("cannot trace")

    monkeypatch.setattr("torch.onnx.export", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            export_graph(fresh, height=32, width=64)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert finished == [True]
