from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ams_common.classes import STREET7, ClassSet, SegmentationClass, UInt8Array
from ams_common.errors import ModelError
from ams_server.teachers.network import IMAGENET_MEAN, IMAGENET_STD, RGB, InputSize, NetworkTeacher
from ams_server.teachers.onnx_model import onnx_teacher

CPU = torch.device("cpu")
RGB_CLASSES = ClassSet("rgb", tuple(SegmentationClass(name=each, colour=(0, 0, 0)) for each in ("red", "green", "blue")))
Shape = list[int | str]
FREE: Shape = ["n", 3, "h", "w"]


def save_model(
    folder: Path,
    shape: Shape,
    *nodes: onnx.NodeProto,
    element: int = TensorProto.FLOAT,
    output: int = TensorProto.FLOAT,
    constants: tuple[onnx.TensorProto, ...] = (),
) -> Path:
    """Save a model with the input `image` of `shape` and the output `y`."""
    inputs = [helper.make_tensor_value_info("image", element, shape)]
    outputs = [helper.make_tensor_value_info("y", output, None)]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def teacher(path: Path, size: InputSize | None = None, classes: ClassSet = RGB_CLASSES) -> NetworkTeacher:
    return onnx_teacher(path, classes, size or InputSize(), IMAGENET_MEAN, IMAGENET_STD, CPU)


def coloured(count: int = 3) -> UInt8Array:
    """Frames of 64 x 96 pixels: red, green and blue from left to right."""
    images = np.zeros((count, 64, 96, 3), np.uint8)
    for channel in range(3):
        images[:, :, 32 * channel : 32 * channel + 32, channel] = 255
    return images


def assert_colours(labels: UInt8Array) -> None:
    assert labels.shape[1:] == (64, 96)
    for channel in range(3):
        assert (labels[:, :, 32 * channel + 4 : 32 * channel + 28] == channel).all()


def identity() -> onnx.NodeProto:
    return helper.make_node("Identity", ["image"], ["y"])


def best_channel(axis: int, keep: int = 0) -> onnx.NodeProto:
    return helper.make_node("ArgMax", ["image"], ["y"], axis=axis, keepdims=keep)


def test_channels_first_logits_of_any_size(tmp_path: Path) -> None:
    assert_colours(teacher(save_model(tmp_path, FREE, identity())).label(coloured(), [0] * 3))


def test_channels_last_logits_of_a_fixed_size(tmp_path: Path) -> None:
    labeller = teacher(save_model(tmp_path, [1, 48, 60, 3], identity()), InputSize(width=960))
    assert labeller.size == InputSize(width=60, height=48)
    assert_colours(labeller.label(coloured(), [0] * 3))


@pytest.mark.parametrize(("shape", "axis"), [(FREE, 1), (["n", "h", "w", 3], 3)])
@pytest.mark.parametrize("keep", [0, 1])
def test_integer_labels(tmp_path: Path, shape: Shape, axis: int, keep: int) -> None:
    path = save_model(tmp_path, shape, best_channel(axis, keep), output=TensorProto.INT64)
    assert_colours(teacher(path).label(coloured(), [0] * 3))


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.UINT8])
def test_other_element_types(tmp_path: Path, element: int) -> None:
    mean: RGB = (0, 0, 0)
    path = save_model(tmp_path, FREE, best_channel(1), element=element, output=TensorProto.INT64)
    labeller = onnx_teacher(path, RGB_CLASSES, InputSize(), mean, (1, 1, 1), CPU)
    assert_colours(labeller.label(coloured(), [0] * 3))


def test_a_fixed_number_of_images_is_filled_up(tmp_path: Path) -> None:
    labeller = teacher(save_model(tmp_path, [2, 3, 64, 96], identity()))
    labels = labeller.label(coloured(3), [0] * 3)
    assert labeller.fixed_batch == 2
    assert len(labels) == 3
    assert_colours(labels)


def test_pixels_are_normalised_as_asked(tmp_path: Path) -> None:
    path = save_model(tmp_path, FREE, identity())
    images = np.full((1, 32, 32, 3), (100, 50, 10), np.uint8)
    plain = onnx_teacher(path, RGB_CLASSES, InputSize(), (0, 0, 0), (1, 1, 1), CPU)
    shifted = onnx_teacher(path, RGB_CLASSES, InputSize(), (99, 0, 0), (1, 1, 1), CPU)
    assert (plain.label(images, [0]) == 0).all()
    assert (shifted.label(images, [0]) == 1).all()


def test_another_number_of_classes_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither labels nor logits of 7 classes: set --teacher-classes"):
        teacher(save_model(tmp_path, FREE, identity()), classes=STREET7)


def test_models_that_take_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs one image input of four dimensions, has image tensor\(float\) \['n', 3\]"):
        teacher(save_model(tmp_path, ["n", 3], identity()))
    with pytest.raises(ModelError, match=r"input 'image' of shape \['n', 1, 'h', 'w'\] is not an RGB image"):
        teacher(save_model(tmp_path, ["n", 1, "h", "w"], identity()))


def test_models_that_fail_to_run_are_refused_in_one_line(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(np.ones((1, 3, 5, 5), np.float32), "c")
    path = save_model(tmp_path, FREE, helper.make_node("Add", ["image", "c"], ["y"]), constants=(constant,))
    with pytest.raises(ModelError, match=r"model.onnx' cannot be run: ") as caught:
        teacher(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 100])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model.onnx'") as caught:
        teacher(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.onnx' does not exist"):
        teacher(tmp_path / "none.onnx")


def with_external_weights(folder: Path, bias: float) -> Path:
    folder.mkdir()
    constant = numpy_helper.from_array(np.full((1, 3, 1, 1), bias, np.float32), "c")
    path = save_model(folder, FREE, helper.make_node("Add", ["image", "c"], ["y"]), constants=(constant,))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_identity_follows_the_weights_beside_the_file(tmp_path: Path) -> None:
    first, second = with_external_weights(tmp_path / "a", 0.0), with_external_weights(tmp_path / "b", 1.0)
    assert first.read_bytes() == second.read_bytes()
    assert teacher(first).identity == teacher(first).identity
    assert teacher(first).identity != teacher(second).identity
    assert teacher(first).identity != teacher(first, InputSize(width=64)).identity
