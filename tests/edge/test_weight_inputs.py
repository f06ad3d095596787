import logging

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.edge.tiny_student import HEIGHT, WIDTH, tiny_model, tiny_vector

from ams_common.clock import ManualClock
from ams_common.errors import ModelError
from ams_edge import weight_inputs
from ams_edge.inference import Model, build_model, probe_image
from ams_edge.onnx_graph import parse_model
from ams_edge.providers import Backend
from ams_edge.weight_inputs import WeightInputs, verified_weight_inputs

CPU = Backend(provider="cpu", threads=1)
IMAGE = probe_image(WIDTH, HEIGHT)


class SlowFirst:
    """A clock by which every other measured frame, the first included, takes `slowdown` times as long."""

    def __init__(self, slowdown: float) -> None:
        self._steps_s = (slowdown, 0.0, 1.0, 0.0)
        self._calls = 0
        self._now_s = 0.0

    def now_s(self) -> float:
        self._calls += 1
        self._now_s += self._steps_s[self._calls % 4 - 2]
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        raise AssertionError(duration_s)


def plain_logits(seed: int) -> np.typing.NDArray[np.float32]:
    stored = tiny_model()
    return build_model(stored.manifest, stored.graph, tiny_vector(seed), CPU).logits(IMAGE)


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_the_very_bits_of_a_plain_session(threads: int) -> None:
    stored = tiny_model()
    inputs = WeightInputs(stored.manifest, stored.graph, Backend(provider="cpu", threads=threads))
    for seed in range(3):
        assert np.array_equal(inputs.model(tiny_vector(seed)).logits(IMAGE), plain_logits(seed))


def test_models_of_one_session_keep_their_own_weights() -> None:
    stored = tiny_model()
    inputs = WeightInputs(stored.manifest, stored.graph, CPU)
    vectors = [tiny_vector(seed) for seed in range(3)]
    models = [inputs.model(vector) for vector in vectors]
    for vector in vectors:
        vector.fill(0)
    for seed in (2, 0, 1, 2):
        assert np.array_equal(models[seed].logits(IMAGE), plain_logits(seed))


def test_weights_that_fold_to_no_number_are_refused() -> None:
    stored = tiny_model()
    inputs = WeightInputs(stored.manifest, stored.graph, CPU)
    with pytest.raises(ModelError, match="not finite once batch norm is folded in"):
        inputs.model(-np.abs(stored.vector))


def test_verified_weight_inputs_run_the_model() -> None:
    stored = tiny_model()
    verified = verified_weight_inputs(stored.manifest, stored.graph, stored.vector, CPU, ManualClock())
    assert verified is not None
    assert np.array_equal(verified.model(tiny_vector(4)).logits(IMAGE), plain_logits(4))


def test_weight_inputs_that_differ_in_a_bit_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stored = tiny_model()
    exact = WeightInputs.model

    def nearly(self: WeightInputs, vector: np.typing.NDArray[np.float32]) -> Model:
        return exact(self, np.nextafter(vector, np.float32(9)))

    monkeypatch.setattr(WeightInputs, "model", nearly)
    with caplog.at_level(logging.INFO):
        assert verified_weight_inputs(stored.manifest, stored.graph, stored.vector, CPU, ManualClock()) is None
    assert "every update will build a session: logits differ" in caplog.text


@pytest.mark.parametrize(("slowdown", "used"), [(1.2, True), (1.3, False)])
def test_weight_inputs_that_slow_frames_down_are_not_used(slowdown: float, used: bool) -> None:
    stored = tiny_model()
    verified = verified_weight_inputs(stored.manifest, stored.graph, stored.vector, CPU, SlowFirst(slowdown))
    assert (verified is not None) == used


def test_models_with_too_many_weights_for_float32_positions_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = tiny_model()
    monkeypatch.setattr(weight_inputs, "MAX_VALUES", 100)
    with pytest.raises(ModelError, match="too large"):
        WeightInputs(stored.manifest, stored.graph, CPU)


def optimised(values: list[float]) -> onnx.ModelProto:
    arrays = {"w": np.array(values, np.float32), "six": np.full(1, 6, np.float32)}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([], "", [], [], tensors))


@pytest.mark.parametrize(
    ("values", "mirrored", "message"),
    [
        ([1.0, 2.0], [-1.0, -2.0], "lost 1 weights"),
        ([1.0, 2.5, 3.0], [-1.0, -2.5, -3.0], "computes its initialiser 'w'"),
        ([1.0, 2.0, 4.0], [-1.0, -2.0, -4.0], "computes its initialiser 'w'"),
        ([1.0, 2.0, 3.0], [-1.0, -2.0, 3.0], "computes its initialiser 'w'"),
        ([-1.0, 2.0, 3.0], [1.0, -2.0, -3.0], "computes its initialiser 'w'"),
        ([1.0, 2.0, np.inf], [-1.0, -2.0, -np.inf], "computes its initialiser 'w'"),
    ],
)
def test_an_optimiser_that_does_more_than_move_weights_is_noticed(
    values: list[float], mirrored: list[float], message: str
) -> None:
    graphs = [parse_model(optimised(each).SerializeToString()).graph for each in (values, mirrored)]
    with pytest.raises(ModelError, match=message):
        weight_inputs._weights_to_inputs(graphs[0], graphs[1], 3)


def test_moved_weights_become_inputs_and_constants_stay() -> None:
    graphs = [
        parse_model(optimised(each).SerializeToString()).graph for each in ([3.0, 0.0, 1.0, 2.0], [-3.0, 0.0, -1.0, -2.0])
    ]
    (found,) = weight_inputs._weights_to_inputs(graphs[0], graphs[1], 3)
    assert found.positions.tolist() == [3, 0, 1, 2]
    assert [each.name for each in graphs[0].input] == ["w"]
    assert [each.name for each in graphs[0].initializer] == ["six"]
    assert found.gathered(np.array([0, 10, 20, 30], np.float32)).tolist() == [30, 0, 10, 20]
