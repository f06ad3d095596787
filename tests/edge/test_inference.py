from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx.reference
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.edge.tiny_student import HEIGHT, WIDTH, inlined, tiny_graph, tiny_model

from ams_common.classes import IGNORE
from ams_common.errors import ModelError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.model_file import StoredModel
from ams_edge.inference import LabelHead, Model, aligned, build_model, possible_winners, probe_image
from ams_edge.providers import Backend

CPU = Backend(provider="cpu", threads=1)
UInt8Array = npt.NDArray[np.uint8]


def build(stored: StoredModel) -> Model:
    return build_model(stored.manifest, stored.graph, stored.vector, CPU)


def picture(seed: int) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def upsampled(logits: Float32Array, width: int, height: int) -> npt.NDArray[np.float64]:
    """Bilinear interpolation between pixel centres, written out; the border repeats."""
    rows, columns = (
        np.clip((np.arange(size) + 0.5) * low / size - 0.5, 0, low - 1)
        for size, low in ((height, logits.shape[1]), (width, logits.shape[2]))
    )
    result = np.zeros((len(logits), height, width))
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            top, left = int(row), int(column)
            bottom, right = min(top + 1, logits.shape[1] - 1), min(left + 1, logits.shape[2] - 1)
            down, across = row - top, column - left
            upper = logits[:, top, left] * (1 - across) + logits[:, top, right] * across
            lower = logits[:, bottom, left] * (1 - across) + logits[:, bottom, right] * across
            result[:, y, x] = upper * (1 - down) + lower * down
    return result


def test_logits_are_those_of_the_graph_on_the_normalised_picture() -> None:
    stored = tiny_model()
    image = picture(0)
    manifest = stored.manifest
    normalised = ((image - np.array(manifest.mean)) / np.array(manifest.std)).astype(np.float32).transpose(2, 0, 1)[None]
    (expected,) = onnx.reference.ReferenceEvaluator(inlined(stored)).run(None, {"image": normalised})
    np.testing.assert_allclose(build(stored).logits(image), np.asarray(expected)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (WIDTH * 2, HEIGHT + 5), (7, 5)])
def test_labels_are_the_largest_of_the_logits_between_pixel_centres(size: tuple[int, int]) -> None:
    model = build(tiny_model())
    image = picture(1)
    values = upsampled(model.logits(image), *size)
    labels = model.infer(image, size)
    chosen = np.take_along_axis(values, labels[None].astype(np.int64), 0)[0]
    np.testing.assert_allclose(chosen, values.max(0), atol=1e-5)
    assert len(np.unique(labels)) > 1


def test_labels_have_the_size_of_the_model_and_are_new_for_every_frame() -> None:
    model = build(tiny_model())
    first = model.infer(picture(0))
    kept = first.copy()
    second = model.infer(picture(1))
    assert first.shape == (HEIGHT, WIDTH)
    assert first.dtype == np.uint8
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_strided_pictures_are_taken() -> None:
    model = build(tiny_model())
    blue_first = np.ascontiguousarray(picture(2)[:, :, ::-1])
    assert np.array_equal(model.logits(blue_first[:, :, ::-1]), model.logits(picture(2)))


def test_more_threads_give_the_same_labels() -> None:
    stored = tiny_model()
    parallel = build_model(stored.manifest, stored.graph, stored.vector, Backend(provider="cpu", threads=2))
    assert np.array_equal(parallel.infer(picture(0)), build(stored).infer(picture(0)))


def test_a_provider_that_cannot_bind_buffers_gives_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build(tiny_model()).logits(picture(0))
    monkeypatch.setattr(Backend, "reads_host_memory", False)
    assert np.array_equal(build(tiny_model()).logits(picture(0)), expected)


def test_warming_labels_the_probe_picture() -> None:
    model = build(tiny_model())
    assert np.array_equal(model.warm(), model.infer(probe_image(WIDTH, HEIGHT)))


@pytest.mark.parametrize("image", [np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.float32)])
def test_another_picture_than_the_model_needs_is_refused(image: UInt8Array) -> None:
    with pytest.raises(ModelError, match="the model needs uint8"):
        build(tiny_model()).infer(image)


def test_logits_that_overflow_are_found_when_warming() -> None:
    stored = tiny_model()
    model = build(replace(stored, vector=np.full_like(stored.vector, 1e38)))
    with pytest.raises(ModelError, match="not finite"):
        model.warm()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    stored = tiny_model()
    stored.vector[7] = value
    with pytest.raises(ModelError, match="parameter 7 "):
        build(stored)


def without_last(layout: ParameterLayout) -> ParameterLayout:
    return ParameterLayout(layout.tensors[:-1])


def with_another(layout: ParameterLayout) -> ParameterLayout:
    return ParameterLayout((*layout.tensors, TensorSpec(name="unknown", shape=(2,), trainable=False)))


def with_other_shape(layout: ParameterLayout) -> ParameterLayout:
    last = layout.tensors[-1]
    return ParameterLayout((*layout.tensors[:-1], replace(last, shape=(last.size + 1,))))


@pytest.mark.parametrize("change", [without_last, with_another, with_other_shape])
def test_a_layout_of_another_graph_is_refused(change: Callable[[ParameterLayout], ParameterLayout]) -> None:
    stored = tiny_model()
    layout = change(stored.manifest.layout)
    manifest = replace(stored.manifest, layout=layout)
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the model"):
        build_model(manifest, stored.graph, np.ones(layout.size, np.float32), CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": WIDTH + 4}, "graph takes"),
        ({"width": 1 << 20}, "pixels"),
        ({"height": 0}, "pixels"),
        ({"std": (1.0, 0.0, 1.0)}, "cannot normalise"),
        ({"mean": (np.nan, 0.0, 0.0)}, "cannot normalise"),
    ],
)
def test_a_manifest_of_another_graph_is_refused(changes: dict[str, object], message: str) -> None:
    stored = tiny_model()
    manifest = replace(stored.manifest, **changes)  # type: ignore[arg-type]  # the parameters name fields
    with pytest.raises(ModelError, match=message):
        build_model(manifest, stored.graph, stored.vector, CPU)


def test_another_number_of_classes_is_refused() -> None:
    stored = tiny_model()
    manifest = replace(stored.manifest, classes=stored.manifest.classes.subset(("road",)))
    with pytest.raises(ModelError, match="1 classes"):
        build_model(manifest, stored.graph, stored.vector, CPU)


@given(st.binary(max_size=200), st.integers(0, 1000))
def test_damaged_graphs_are_refused(junk: bytes, position: int) -> None:
    stored = tiny_model()
    graph = tiny_graph()[:position] + junk
    with pytest.raises(ModelError):
        build_model(stored.manifest, graph, stored.vector, CPU)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_no_winner_is_left_out(classes: int, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (classes, height, width)).astype(np.float32)
    logits += rng.normal(0, 2, (classes, 1, 1)).astype(np.float32)
    winners = np.unique(upsampled(logits, 4 * width, 4 * height).argmax(0))
    assert set(winners.tolist()) <= set(possible_winners(logits))


def test_classes_that_cannot_win_are_left_out() -> None:
    logits = np.zeros((4, 3, 3), np.float32)
    logits[1] += 1
    logits[3, 0, 0] += 2
    assert possible_winners(logits) == [1, 3]
    labels = LabelHead(6, 6).labels(logits, 6, 6)
    assert labels[0, 0] == 3
    assert (labels[3:] == 1).all()


def test_equal_logits_give_the_first_class() -> None:
    assert not LabelHead(8, 8).labels(np.zeros((3, 2, 2), np.float32), 8, 8).any()


@pytest.mark.parametrize("stride", [2, 16])
def test_logits_of_an_odd_picture_lie_from_corner_to_corner(stride: int) -> None:
    low_width, low_height = 5, 4
    width, height = stride * (low_width - 1) + 1, stride * (low_height - 1) + 1
    columns = np.broadcast_to(np.arange(low_width, dtype=np.float32), (low_height, low_width))
    # The second class wins where its value, which grows by 1 from logit to logit, is above that of the first.
    logits = np.stack([np.full_like(columns, 1.999), columns])
    labels = LabelHead(width, height).labels(logits, width, height)
    assert (labels == (np.arange(width) >= 2 * stride)).all()
    larger = LabelHead(width, height).labels(logits, 4 * width, 2 * height)
    assert (larger == ((np.arange(4 * width) + 0.5) / 4 - 0.5 >= 2 * stride - 0.05)).all()


def test_logits_of_a_single_row_fill_an_odd_picture() -> None:
    logits = np.array([[[0.0, 2.0]], [[1.0, 1.0]]], np.float32)
    assert LabelHead(3, 1).labels(logits, 3, 1).tolist() == [[1, 0, 0]]


def test_logits_that_are_no_numbers_give_no_class() -> None:
    assert (LabelHead(8, 8).labels(np.full((3, 2, 2), np.nan, np.float32), 8, 8) == IGNORE).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_buffers_start_on_a_cache_line(shape: list[int]) -> None:
    buffer = aligned(tuple(shape))
    assert buffer.ctypes.data % 64 == 0
    assert buffer.shape == tuple(shape)
    assert not buffer.any()


def test_the_probe_picture_is_always_the_same() -> None:
    image = probe_image(WIDTH, HEIGHT)
    assert np.array_equal(image, probe_image(WIDTH, HEIGHT))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.std() > 10
