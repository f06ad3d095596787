from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ams_common.classes import CAMVID11, IGNORE, UInt8Array
from ams_common.errors import ModelError
from ams_server.teachers import network as network_module
from ams_server.teachers.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LONGEST_FOLLOWER,
    RGB,
    RUN_PIXELS,
    Infer,
    InputSize,
    NetworkTeacher,
    file_digest,
    frames_a_run,
    identity_of,
    labels_from_logits,
    labels_from_map,
    network_input,
)

CPU = torch.device("cpu")
PLAIN: RGB = (0.0, 0.0, 0.0)
UNIT: RGB = (1.0, 1.0, 1.0)


def random_frames(count: int, height: int, width: int) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def teacher(infer: Infer, size: InputSize | None = None, std: RGB = UNIT) -> NetworkTeacher:
    size = size or InputSize()
    return NetworkTeacher(classes=CAMVID11, identity="", infer=infer, size=size, device=CPU, mean=PLAIN, std=std)


@pytest.mark.parametrize(
    ("size", "frame", "seen"),
    [
        (InputSize(width=960), (360, 480), (736, 960)),
        (InputSize(width=960), (1080, 1920), (544, 960)),
        (InputSize(height=512), (360, 480), (512, 704)),
        (InputSize(), (360, 480), (384, 480)),
        (InputSize(), (1, 1), (32, 32)),
        (InputSize(width=518, height=518), (360, 480), (518, 518)),
    ],
)
def test_sides_that_follow_keep_the_shape(size: InputSize, frame: tuple[int, int], seen: tuple[int, int]) -> None:
    assert size.of_frame(*frame) == seen


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 60))
def test_the_side_that_follows_is_the_next_multiple(height: int, width: int, units: int) -> None:
    exact, most = 32 * units * height / width, 32 * units * LONGEST_FOLLOWER
    try:
        seen, _ = InputSize(width=32 * units).of_frame(height, width)
    except ModelError:
        assert exact > most
        return
    assert seen % 32 == 0
    assert seen <= most
    assert exact - 0.5 <= seen < max(exact, 1) + 32.5


@pytest.mark.parametrize(("size", "frame"), [(InputSize(width=960), (4096, 2)), (InputSize(height=512), (100, 500))])
def test_a_sliver_of_a_frame_is_refused_before_it_takes_memory(size: InputSize, frame: tuple[int, int]) -> None:
    height, width = frame
    with pytest.raises(ModelError, match=f"a frame of {width}x{height} pixels at .*: for so long a shape set both"):
        teacher(lambda pixels: pixels, size).label(np.zeros((1, height, width, 3), np.uint8), [0.0])


def test_too_little_memory_for_the_input_costs_this_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("can't allocate memory\nfor this")

    monkeypatch.setattr(network_module, "network_input", full)
    with pytest.raises(ModelError, match=r"teacher cannot label frames at 32x32: can't allocate memory$"):
        teacher(lambda pixels: pixels).label(np.zeros((1, 32, 32, 3), np.uint8), [0.0])


def test_pixels_are_normalised_channel_by_channel() -> None:
    image = np.full((1, 4, 4, 3), (10, 20, 30), np.uint8)
    pixels = network_input(image, (4, 4), (10, 10, 10), (1, 2, 4), CPU)
    assert pixels.shape == (1, 3, 4, 4)
    assert pixels[0, :, 0, 0].tolist() == [0, 5, 5]


def test_pixels_equal_those_of_the_plain_formula() -> None:
    images = random_frames(2, 6, 8)
    pixels = network_input(images, (6, 8), IMAGENET_MEAN, IMAGENET_STD, CPU)
    expected = (images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_enlarging_is_bilinear_about_pixel_centres() -> None:
    images = random_frames(1, 5, 7)
    pixels = network_input(images, (12, 20), PLAIN, UNIT, CPU)
    exact = F.interpolate(torch.from_numpy(images).permute(0, 3, 1, 2).float(), (12, 20), mode="bilinear")
    assert (pixels - exact).abs().max() <= 1  # bytes are rounded once in each direction


def test_shrinking_averages() -> None:
    stripes = np.zeros((1, 8, 64, 3), np.uint8)
    stripes[:, :, 3::8] = stripes[:, :, 4::8] = 200
    pixels = network_input(stripes, (8, 8), PLAIN, UNIT, CPU)
    assert (pixels - 50).abs().max() < 15


def test_frames_may_be_read_only_and_are_left_alone() -> None:
    images = random_frames(1, 4, 4)
    images.setflags(write=False)
    before = images.copy()
    network_input(images, (4, 4), (5, 5, 5), UNIT, CPU)
    network_input(images[:, ::-1], (4, 4), (5, 5, 5), UNIT, CPU)
    np.testing.assert_array_equal(images, before)


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**16))
def test_labels_are_the_best_class_of_the_enlarged_logits(count: int, classes: int, side: int, seed: int) -> None:
    logits = torch.randn(count, classes, side, side + 1, generator=torch.Generator().manual_seed(seed))
    enlarged = F.interpolate(logits, (9, 11), mode="bilinear", align_corners=False)
    best = labels_from_logits(logits, (9, 11))
    assert best.dtype == np.uint8
    chosen = np.take_along_axis(enlarged.numpy(), best[:, None].astype(np.int64), axis=1)[:, 0]
    np.testing.assert_allclose(chosen, enlarged.amax(dim=1).numpy(), atol=1e-5)


def test_bfloat16_logits_are_enlarged_in_float32() -> None:
    logits = torch.tensor([1.0, 0.0, 0.996, 0.02]).reshape(1, 2, 1, 2).bfloat16()
    np.testing.assert_array_equal(labels_from_logits(logits, (1, 64)), labels_from_logits(logits.float(), (1, 64)))


def test_label_maps_go_by_nearest_neighbour_and_drop_unknown_values() -> None:
    values = torch.tensor([[[0, 11], [-250, 3]]])
    expected = [[0, 0, IGNORE, IGNORE], [0, 0, IGNORE, IGNORE], [IGNORE, IGNORE, 3, 3], [IGNORE, IGNORE, 3, 3]]
    assert labels_from_map(values, 11, (4, 4))[0].tolist() == expected


def by_brightness(images: Tensor) -> Tensor:
    """Logits whose best class is 1 where the image is bright, at a quarter of its size."""
    bright = F.avg_pool2d(images.mean(dim=1, keepdim=True), 4) - 127
    return torch.cat((-bright, bright, torch.full_like(bright, -1e9).expand(-1, 9, -1, -1)), dim=1)


def test_labels_come_at_the_size_of_the_frames() -> None:
    images = np.zeros((3, 50, 70, 3), np.uint8)
    images[:, 25:] = 255
    labels = teacher(by_brightness, InputSize(width=96)).label(images, [0, 1, 2])
    assert labels.shape == (3, 50, 70)
    assert labels.dtype == np.uint8
    assert (labels[:, :23] == 0).all()
    assert (labels[:, 27:] == 1).all()


def test_a_batch_gets_the_labels_of_its_frames() -> None:
    images = random_frames(5, 32, 32)
    labeller = teacher(by_brightness)
    together = labeller.label(images, [0.0] * 5)
    for index in range(5):
        np.testing.assert_array_equal(together[index], labeller.label(images[index : index + 1], [0.0])[0])


def test_no_frames_give_no_labels() -> None:
    assert teacher(by_brightness).label(np.zeros((0, 8, 8, 3), np.uint8), []).shape == (0, 8, 8)


def test_integer_output_is_taken_as_labels() -> None:
    labels = teacher(lambda images: torch.full((len(images), 2, 2), 4)).label(random_frames(2, 8, 8), [0, 0])
    assert (labels == 4).all()


def test_memory_is_bounded_by_the_pixels_of_a_run() -> None:
    cuda = torch.device("cuda")
    assert frames_a_run((736, 960), CPU) == 1
    assert frames_a_run((736, 960), cuda) * 736 * 960 <= RUN_PIXELS
    assert frames_a_run((8192, 8192), cuda) == 1


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ModelError, match="gives 3 classes, class set 'camvid11' has 11: set --teacher-classes"):
        teacher(lambda images: images).label(random_frames(1, 32, 32), [0])


def test_what_a_model_raises_is_reported_in_one_line() -> None:
    def fails(images: Tensor) -> Tensor:
        raise KeyError("first\nsecond")

    with pytest.raises(ModelError, match=r"cannot label frames at 64x32: ") as caught:
        teacher(fails).label(random_frames(1, 32, 64), [0])
    assert "\n" not in str(caught.value)


def test_own_errors_pass_unchanged() -> None:
    def fails(images: Tensor) -> Tensor:
        raise ModelError("as it is")

    with pytest.raises(ModelError, match=r"^as it is$"):
        teacher(fails).label(random_frames(1, 32, 32), [0])


def test_pixels_cannot_be_divided_by_zero() -> None:
    with pytest.raises(ModelError, match="must be above 0"):
        teacher(by_brightness, std=(1.0, 0.0, 1.0))


def test_identity_follows_every_part(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b").write_bytes(b"weightz")
    first, second = file_digest(tmp_path / "a"), file_digest(tmp_path / "b")
    assert first != second
    assert identity_of("x", first) == identity_of("x", first)
    assert len({identity_of("x", first), identity_of("x", second), identity_of("y", first)}) == 3
