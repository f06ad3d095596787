from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from tests.edge.tiny_student import tiny_graph

from ams_common.errors import ModelError
from ams_edge import onnx_graph


def test_what_is_not_read_is_carried_along() -> None:
    graph = tiny_graph()
    assert onnx.load_model_from_string(onnx_graph.parse_model(graph).SerializeToString()) == onnx.load_model_from_string(graph)


def test_the_field_numbers_are_those_of_onnx() -> None:
    model = onnx_graph.parse_model(tiny_graph())
    theirs = onnx.load_model_from_string(tiny_graph())
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in theirs.graph.node]
    assert [list(node.input) for node in model.graph.node] == [list(node.input) for node in theirs.graph.node]
    assert [tensor.name for tensor in model.graph.initializer] == [tensor.name for tensor in theirs.graph.initializer]
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["image", "logits"]


def test_epsilon_is_that_of_the_node_or_the_default() -> None:
    kind = "BatchNormalization"
    nodes = [helper.make_node(kind, ["x"], ["y"], epsilon=0.5), helper.make_node(kind, ["x"], ["y"])]
    model = onnx_graph.parse_model(helper.make_model(helper.make_graph(nodes, "", [], [])).SerializeToString())
    assert [onnx_graph.epsilon(node) for node in model.graph.node] == [0.5, 1e-5]


def test_inputs_and_external_initialisers_are_written_as_onnx_reads_them() -> None:
    model = onnx_graph.parse_model(tiny_graph())
    onnx_graph.add_input(model.graph, "weights", (2, 3))
    onnx_graph.replace_external(model.graph, {"one": (4,)})
    graph = onnx.load_model_from_string(model.SerializeToString()).graph
    assert graph.input[-1] == helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [2, 3])
    (tensor,) = graph.initializer
    assert (tensor.name, list(tensor.dims), tensor.data_location) == ("one", [4], onnx.TensorProto.EXTERNAL)


def test_numbers_of_an_initialiser_are_read_in_its_shape() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = [numpy_helper.from_array(values, "floats"), numpy_helper.from_array(np.arange(3), "whole")]
    graph = helper.make_model(helper.make_graph([], "", [], [], tensors)).SerializeToString()
    floats, whole = onnx_graph.parse_model(graph).graph.initializer
    assert np.array_equal(onnx_graph.float_values(floats), values)
    with pytest.raises(ModelError, match="'whole'"):
        onnx_graph.float_values(whole)


@given(st.binary(max_size=64))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(ModelError):
        onnx_graph.parse_model(data).SerializeToString()
