"""Batch norm out of the graph and into the weights, as ONNX Runtime does it when it builds a session.

A convolution with weight w and bias c, followed by a batch norm of gain g, shift b, mean m, variance v and epsilon e, is the
convolution with weight w s and bias (c - m) s + b, where s = g / sqrt(v + e) (Jacob et al., 2018, section 3.2). A batch norm
that follows no convolution of its own becomes a convolution of each channel by itself, with w = 1, or stays as it is, whichever
ONNX Runtime does.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ams_common.layout import Float32Array, ParameterLayout
from ams_edge import onnx_graph

Tensors = Mapping[str, Float32Array]


@dataclass(frozen=True, kw_only=True)
class _BatchNorm:
    """A batch norm and the convolution before it, by the names of their tensors."""

    output: str
    """Name of its result in the graph."""
    kernel: tuple[str, ...]
    """Weight and perhaps bias of the convolution; empty where it follows none."""
    statistics: tuple[str, ...]
    """Gain, shift, mean, variance."""
    epsilon: float

    @property
    def names(self) -> tuple[str, str]:
        """Names of the folded weight and bias."""
        return f"{self.output}_folded_weight", f"{self.output}_folded_bias"

    def fold(self, tensors: Tensors) -> tuple[Float32Array, Float32Array]:
        """Return the folded weight and bias, rounded step by step as in ONNX Runtime."""
        gain, shift, mean, variance = (tensors[name] for name in self.statistics)
        scale: Float32Array = np.divide(gain, np.sqrt(variance + np.float32(self.epsilon)))
        if not self.kernel:
            return scale.reshape(-1, 1, 1, 1), np.subtract(shift, mean * scale)
        weight, *bias = (tensors[name] for name in self.kernel)
        moved: Float32Array = np.add((bias[0] - mean) * scale, shift) if bias else np.subtract(shift, mean * scale)
        return np.multiply(weight, scale.reshape(-1, 1, 1, 1)), moved


class Folding:
    """A graph with as little batch norm as may be, and the way from the flat vector to its initialisers."""

    def __init__(self, layout: ParameterLayout, graph: bytes, kept: Collection[str]) -> None:
        """Rewrite an ONNX graph whose external initialisers are the tensors of `layout`.

        Args:
            layout: of the flat vector.
            graph: to be rewritten.
            kept: names of the gains of the batch norms that stay.

        Raises:
            ModelError: the bytes are no ONNX graph.
        """
        model = onnx_graph.parse_model(graph)
        self._layout = layout
        sizes = {tensor.name: tensor.size for tensor in layout.tensors}
        self._batch_norms = _take_out_batch_norms(model.graph, sizes, kept)
        used = {name for node in model.graph.node for name in node.input}
        self._plain = [tensor.name for tensor in layout.tensors if tensor.name in used]
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shape of every initialiser of `graph` that depends on the weights, in the order of `fold`."""
        with np.errstate(all="ignore"):
            self.shapes.update((name, values.shape) for name, values in self._folded(np.ones(layout.size, np.float32)))
        self.size = sum(map(math.prod, self.shapes.values()))
        """Number of folded values."""
        onnx_graph.replace_external(model.graph, self.shapes)
        self.graph: bytes = model.SerializeToString()
        """The rewritten ONNX graph, its initialisers external under the names of `shapes`."""

    def fold(self, vector: Float32Array, out: Float32Array) -> None:
        """Write the initialisers that belong to `vector`, float32 [P], to `out`, float32 [size], one after the other."""
        start = 0
        with np.errstate(all="ignore"):
            for _, values in self._folded(vector):
                out[start : start + values.size] = values.reshape(-1)
                start += values.size

    def _folded(self, vector: Float32Array) -> Iterator[tuple[str, Float32Array]]:
        tensors = {tensor.name: view for tensor, view in self._layout.views(vector)}
        for batch_norm in self._batch_norms:
            yield from zip(batch_norm.names, batch_norm.fold(tensors), strict=True)
        for name in self._plain:
            yield name, tensors[name]


def _take_out_batch_norms(graph: Any, sizes: Mapping[str, int], kept: Collection[str]) -> list[_BatchNorm]:
    """Make every batch norm that is not `kept` (part of) a convolution with folded weights, and return them."""
    makers = {output: node for node in graph.node for output in node.output}
    uses = Counter(name for node in graph.node for name in node.input) + Counter(each.name for each in graph.output)
    taken: list[_BatchNorm] = []
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type != "BatchNormalization" or node.input[1] in kept or not sizes.keys() >= set(node.input[1:]):
            continue
        maker = makers.get(node.input[0])
        kernel = _own_kernel(makers.get(node.input[0]), uses, sizes)
        each = _BatchNorm(
            output=node.output[0], kernel=kernel, statistics=tuple(node.input[1:]), epsilon=onnx_graph.epsilon(node)
        )
        taken.append(each)
        if kernel:
            maker = makers[node.input[0]]
            maker.input[:] = [maker.input[0], *each.names]
            maker.output[:] = node.output
            del graph.node[index]
        else:
            onnx_graph.make_depthwise(node, [node.input[0], *each.names], sizes[node.input[1]])
    return taken


def _own_kernel(maker: Any, uses: Mapping[str, int], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Return weight and bias of `maker` if it is a convolution whose result goes to one place; else nothing."""
    if maker is None or maker.op_type != "Conv" or uses[maker.output[0]] != 1 or not sizes.keys() >= set(maker.input[1:]):
        return ()
    return tuple(maker.input[1:])
