import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.edge.tiny_student import HEIGHT, WIDTH, inlined, tiny_model

from ams_common.errors import ModelError
from ams_common.layout import ParameterLayout, TensorSpec
from ams_edge.folding import Folding


def folded_graph(folding: Folding, vector: np.typing.NDArray[np.float32]) -> onnx.ModelProto:
    """Return the rewritten graph with the folded values inside."""
    values = np.empty(folding.size, np.float32)
    folding.fold(vector, values)
    model = onnx.load_model_from_string(folding.graph)
    del model.graph.initializer[:]
    start = 0
    for name, shape in folding.shapes.items():
        end = start + int(np.prod(shape))
        model.graph.initializer.append(numpy_helper.from_array(values[start:end].reshape(shape), name))
        start = end
    return model


@pytest.mark.parametrize("kept", [(), ("sum_norm.weight",), ("sum_norm.weight", "all_norm.weight")])
def test_the_graph_without_batch_norm_computes_the_same(kept: tuple[str, ...]) -> None:
    stored = tiny_model()
    folding = Folding(stored.manifest.layout, stored.graph, kept)
    model = folded_graph(folding, stored.vector)
    left = [node.input[1] for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert sorted(left) == sorted(kept)
    feeds = {"image": np.random.default_rng(0).normal(0, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32)}
    (expected,) = onnx.reference.ReferenceEvaluator(inlined(stored)).run(None, feeds)
    (computed,) = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(np.asarray(computed), np.asarray(expected), rtol=1e-4, atol=1e-4)


def test_only_a_convolution_that_nobody_else_reads_takes_its_batch_norm_in() -> None:
    stored = tiny_model()
    model = onnx.load_model_from_string(Folding(stored.manifest.layout, stored.graph, ()).graph)
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    assert "side.weight" in weights
    assert "stem.weight" not in weights
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "Add", "Concat"}
    depthwise = next(node for node in model.graph.node if node.output[0] == "all_normed")
    assert {each.name: each.i for each in depthwise.attribute} == {"group": 40}


def test_the_fold_is_the_textbook_formula() -> None:
    layout = ParameterLayout(
        (
            TensorSpec(name="w", shape=(1, 1, 1, 1)),
            TensorSpec(name="c", shape=(1,)),
            TensorSpec(name="g", shape=(1,)),
            TensorSpec(name="b", shape=(1,)),
            TensorSpec(name="m", shape=(1,), trainable=False),
            TensorSpec(name="v", shape=(1,), trainable=False),
        )
    )
    nodes = [
        helper.make_node("Conv", ["image", "w", "c"], ["raw"]),
        helper.make_node("BatchNormalization", ["raw", "g", "b", "m", "v"], ["logits"], epsilon=0.25),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("image", "logits")]
    graph = helper.make_model(helper.make_graph(nodes, "one", values[:1], values[1:])).SerializeToString()
    folding = Folding(layout, graph, ())
    folded = np.empty(2, np.float32)
    folding.fold(np.array([3, 7, 10, 2, 5, 3.75], np.float32), folded)
    # s = 10 / sqrt(3.75 + 0.25) = 5: weight 3 s, bias (7 - 5) s + 2
    assert folded.tolist() == [15, 12]


def test_a_negative_variance_gives_no_warning_but_no_number_either() -> None:
    stored = tiny_model()
    folding = Folding(stored.manifest.layout, stored.graph, ())
    values = np.empty(folding.size, np.float32)
    folding.fold(-np.abs(stored.vector), values)
    assert np.isnan(values).any()


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(ModelError, match="graph of 3 bytes is damaged"):
        Folding(tiny_model().manifest.layout, b"\xff\xff\xff", ())
