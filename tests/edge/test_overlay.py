import numpy as np
import pytest

from ams_common.classes import ADE20K32, CITYSCAPES19, IGNORE, STREET7, ClassSet
from ams_edge.frame import UInt8Array
from ams_edge.overlay import (
    BACKGROUND,
    LONGEST_SIDE,
    ROW_PIXELS,
    SHORTEST_WIDTH,
    draw_caption,
    draw_legend,
    draw_overlay,
    overlay_size,
)

PALETTE = CITYSCAPES19.palette()
ROAD, SKY = 0, 10


def picture(height: int, width: int) -> UInt8Array:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)


def halves(height: int, width: int) -> UInt8Array:
    """Return labels with sky above road."""
    labels = np.full((height, width), ROAD, np.uint8)
    labels[: height // 2] = SKY
    return labels


def blend(image: UInt8Array, label: int, opacity: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(image * (1 - opacity) + PALETTE[label] * opacity, np.float64)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("opacity", [0.3, 0.5])
def test_each_pixel_is_tinted_with_its_class(scale: int, opacity: float) -> None:
    image = picture(128, 256)
    overlay = draw_overlay(image, halves(128 // scale, 256 // scale), PALETTE, opacity)
    assert overlay.shape == image.shape
    assert overlay.dtype == np.uint8
    assert np.abs(overlay[:60] - blend(image[:60], SKY, opacity)).max() <= 1
    assert np.abs(overlay[68:] - blend(image[68:], ROAD, opacity)).max() <= 1


def test_labels_larger_than_the_picture_fit_too() -> None:
    image = picture(32, 64)
    overlay = draw_overlay(image, halves(128, 256), PALETTE, 0.5)
    assert np.abs(overlay[:14] - blend(image[:14], SKY, 0.5)).max() <= 1
    assert np.abs(overlay[18:] - blend(image[18:], ROAD, 0.5)).max() <= 1


def test_a_border_is_one_sharp_line_in_full_colour() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    overlay = draw_overlay(image, halves(64, 64), PALETTE, 0.5)
    is_outline = (overlay == PALETTE[SKY]).all(axis=2) | (overlay == PALETTE[ROAD]).all(axis=2)
    rows = np.flatnonzero(is_outline.all(axis=1))
    assert len(rows) == 1
    assert abs(int(rows[0]) - 32) <= 1
    assert is_outline.sum() == 64


def test_pixels_without_a_class_show_the_picture() -> None:
    image = picture(32, 32)
    labels = np.full((32, 32), IGNORE, np.uint8)
    labels[16:] = ROAD
    overlay = draw_overlay(image, labels, PALETTE, 0.5)
    assert np.array_equal(overlay[:16], image[:16])


def test_opacity_goes_from_the_bare_picture_to_the_bare_colours() -> None:
    image = picture(32, 32)
    labels = halves(32, 32)
    assert np.array_equal(draw_overlay(image, labels, PALETTE, 0.0), image)
    assert np.array_equal(draw_overlay(image, labels, PALETTE, 1.0), PALETTE[labels])


def test_the_inputs_stay_as_they_are() -> None:
    image, labels = picture(32, 32), halves(32, 32)
    before = image.copy(), labels.copy()
    draw_overlay(image, labels, PALETTE, 0.5)
    assert np.array_equal(image, before[0])
    assert np.array_equal(labels, before[1])


@pytest.mark.parametrize("classes", [STREET7, CITYSCAPES19, ADE20K32])
@pytest.mark.parametrize("width", [1280, 640, 200])
def test_the_legend_has_every_colour_and_text_beside_it(classes: ClassSet, width: int) -> None:
    legend = draw_legend(classes, width)
    assert legend.shape[1:] == (width, 3)
    assert legend.shape[0] % ROW_PIXELS == 0
    for each in classes.classes:
        rows, columns = np.nonzero((legend == each.colour).all(axis=2))
        assert len(rows) >= 150, each.name
        text = legend[rows[0] : rows[0] + 14, columns[0] + 20 : columns[0] + 40]
        assert (text != BACKGROUND).any(), each.name


def test_a_wide_legend_needs_fewer_rows() -> None:
    assert len(draw_legend(CITYSCAPES19, 1280)) < len(draw_legend(CITYSCAPES19, 400))


def test_the_caption_says_version_and_age_in_a_row_of_its_own() -> None:
    caption, older, as_it_came = draw_caption(7, 3.4, 640), draw_caption(7, 13.4, 640), draw_caption(7, None, 640)
    assert caption.shape == older.shape == as_it_came.shape == (ROW_PIXELS, 640, 3)
    written = [np.flatnonzero((each != BACKGROUND).any(axis=(0, 2))) for each in (caption, older)]
    assert written[0].max() < written[1].max() < 320
    assert not np.array_equal(caption, as_it_came)
    assert not np.array_equal(caption, draw_caption(8, 3.4, 640))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((960, 540), (960, 540)),
        ((256, 128), (640, 320)),
        ((1920, 1080), (1280, 720)),
        ((1242, 374), (1242, 374)),
        ((1241, 373), (1240, 372)),
        ((1080, 1920), (720, 1280)),
        ((4, 4000), (2, 1280)),
    ],
)
def test_an_overlay_is_even_and_of_a_readable_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    width, height = overlay_size(*size)
    assert abs(width - expected[0]) <= 2
    assert abs(height - expected[1]) <= 2
    assert width % 2 == height % 2 == 0
    assert max(width, height) <= LONGEST_SIDE
    assert width >= min(SHORTEST_WIDTH, expected[0])
