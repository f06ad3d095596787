"""Changing weights on the CPU without a new session: one session of a graph that takes its weights as inputs.

ONNX Runtime folds batch norm into convolutions and reorders their weights for the processor when it builds a session; weights
that are inputs of the plain graph would keep it from both, at twice the time of a frame. Instead

1. batch norm is folded here (`folding`), which leaves a graph whose initialisers need reordering at most;
2. ONNX Runtime optimises that graph once with each value replaced by its position 1, 2, 3, ...: where a position turns up in
   the optimised graph is where the value belongs, 0 is padding;
3. the initialisers with positions in them become inputs of the optimised graph, which then runs as it is.

A new version takes a fold, a gather and new bindings; the frames meanwhile run undisturbed. The optimised graph depends on the
machine and on the version of ONNX Runtime, so it is made where and when it is used, and compared with a session that was built
the plain way: the logits must be the same bits.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ams_common.clock import Clock
from ams_common.errors import ModelError
from ams_common.layout import Float32Array
from ams_common.messages import ModelManifest
from ams_edge import onnx_graph
from ams_edge.folding import Folding
from ams_edge.inference import Model, UInt8Array, aligned, build_model, probe_image
from ams_edge.providers import Backend

MAX_VALUES = 1 << 24
"""Float32 holds whole numbers up to here."""
MAX_SLOWDOWN = 1.25
"""A frame may take this many times as long as in a plain session; some kernels prepare constant weights and need that."""
_TIMED_FRAMES = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class _WeightInput:
    """An input of the optimised graph."""

    name: str
    shape: tuple[int, ...]
    positions: npt.NDArray[np.intp]
    """[size]: where its values stand among the folded ones, from 1; 0 for padding."""

    def gathered(self, values: Float32Array) -> Float32Array:
        """Return the input's values, in memory of their own; `values` start with the zero of the padding."""
        weights = aligned(self.shape)
        np.take(values, self.positions, out=weights.reshape(-1), mode="clip")
        return weights


class WeightInputs:
    """One session for all versions of a model on the CPU."""

    def __init__(self, manifest: ModelManifest, graph: bytes, backend: Backend) -> None:
        """Optimise `graph` and find out where its weights go; takes some tenths of a second.

        Raises:
            ModelError: the graph does not lend itself to it.
        """
        self._manifest = manifest
        self._backend = backend
        plain = _optimised(graph, {tensor.name: tensor.shape for tensor in manifest.layout.tensors}, backend)
        kept = {node.input[1] for node in plain.graph.node if node.op_type == "BatchNormalization"}
        self._folding = Folding(manifest.layout, graph, kept)
        if self._folding.size >= MAX_VALUES:
            raise ModelError(f"model of {self._folding.size} folded weights is too large for weights as inputs")
        optimised = _optimised(self._folding.graph, self._folding.shapes, backend)
        mirrored = _optimised(self._folding.graph, self._folding.shapes, backend, sign=-1)
        self._inputs = _weights_to_inputs(optimised.graph, mirrored.graph, self._folding.size)
        self._session = backend.open_optimised(optimised.SerializeToString())

    def model(self, vector: Float32Array) -> Model:
        """Return a model with the weights of `vector`, float32 [P], which are copied; it shares the session.

        Raises:
            ModelError: a weight is not finite once batch norm is folded in.
        """
        values = np.zeros(1 + self._folding.size, np.float32)
        self._folding.fold(vector, values[1:])
        if not np.isfinite(values).all():
            raise ModelError("a weight is not finite once batch norm is folded in")
        weights = {each.name: each.gathered(values) for each in self._inputs}
        return Model(self._manifest, self._backend, self._session, weights)


def verified_weight_inputs(
    manifest: ModelManifest, graph: bytes, vector: Float32Array, backend: Backend, clock: Clock
) -> WeightInputs | None:
    """Return weight inputs that give the very logits of a plain session, as fast; None, and a log line, where there are none.

    Compared with all weights of `vector`, float32 [P], moved a little, so that no batch norm is the identity.
    """
    try:
        weight_inputs = WeightInputs(manifest, graph, backend)
        moved = _moved(vector)
        ours, plain = weight_inputs.model(moved), build_model(manifest, graph, moved, backend)
        image = probe_image(manifest.width, manifest.height)
        if not np.array_equal(ours.logits(image), plain.logits(image)):
            raise ModelError("logits differ from those of a plain session")
        if _slowdown(ours, plain, image, clock) > MAX_SLOWDOWN:
            raise ModelError("frames take longer than in a plain session")
    except ModelError as error:
        _log.info("every update will build a session: %s", error)
        return None
    return weight_inputs


def _moved(vector: Float32Array) -> Float32Array:
    """Scale all values by up to 10 % and shift them up by at most 0.001, so that variances stay positive."""
    rng = np.random.default_rng(0)
    scale, shift = rng.uniform(0.9, 1.1, vector.size), rng.uniform(0, 0.001, vector.size)
    return (vector * scale + shift).astype(np.float32)


def _slowdown(ours: Model, plain: Model, image: UInt8Array, clock: Clock) -> float:
    """Return how many times as long as a frame of `plain` one of `ours` takes; of a few in turn, the shortest count."""
    least_s = [math.inf, math.inf]
    for _ in range(_TIMED_FRAMES):
        for index, model in enumerate((ours, plain)):
            started_s = clock.now_s()
            model.logits(image)
            least_s[index] = min(least_s[index], clock.now_s() - started_s)
    return least_s[0] / least_s[1] if least_s[1] else 1.0


def _optimised(graph: bytes, shapes: Mapping[str, tuple[int, ...]], backend: Backend, *, sign: int = 1) -> Any:
    """Return the optimised graph, parsed, whose initialisers of these shapes hold the positions 1, 2, 3, ... times `sign`."""
    positions, start = {}, 1
    for name, shape in shapes.items():
        end = start + math.prod(shape)
        positions[name] = (sign * np.arange(start, end, dtype=np.float32)).reshape(shape)
        start = end
    return onnx_graph.parse_model(backend.optimise(graph, positions))


def _weights_to_inputs(graph: Any, mirrored: Any, count: int) -> list[_WeightInput]:
    """Turn the initialisers of `graph` that hold positions into inputs, and return these.

    Raises:
        ModelError: an initialiser is neither a constant nor made of positions, or one of the `count` positions is nowhere.
    """
    others = {tensor.name: tensor for tensor in mirrored.initializer}
    seen = np.zeros(1 + count, np.bool_)
    inputs = []
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        if tensor == others.get(tensor.name):
            continue
        each = _weight_input(tensor, others.get(tensor.name), count)
        seen[each.positions] = True
        inputs.append(each)
        onnx_graph.add_input(graph, each.name, each.shape)
        del graph.initializer[index]
    if not seen[1:].all():
        raise ModelError(f"optimised graph has lost {int((~seen[1:]).sum())} weights")
    return inputs


def _weight_input(tensor: Any, mirrored: Any, count: int) -> _WeightInput:
    values = onnx_graph.float_values(tensor)
    with np.errstate(invalid="ignore"):
        positions = values.astype(np.intp)
    exact = np.array_equal(positions, values) and positions.min() >= 0 and positions.max() <= count
    if mirrored is None or not exact or not np.array_equal(onnx_graph.float_values(mirrored), -values):
        raise ModelError(f"optimised graph computes its initialiser {tensor.name!r} from weights")
    return _WeightInput(name=tensor.name, shape=values.shape, positions=positions.reshape(-1))
