import cv2
import numpy as np
import pytest

from ams_common.classes import UInt8Array
from ams_eval.schemes.flow import Trail, backward_flow


def texture(shift_x: int, shift_y: int = 0) -> UInt8Array:
    """Return a window of 96 x 128 pixels of one picture; a positive shift moves what it shows right and down."""
    noise = np.random.default_rng(3).random((160, 192)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    scaled = 255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.asarray(scaled[32 - shift_y : 128 - shift_y, 32 - shift_x : 160 - shift_x], np.uint8)


@pytest.mark.parametrize(("x", "y"), [(4, 0), (0, -3), (-5, 2)])
def test_flow_leads_back_to_where_things_were(x: int, y: int) -> None:
    flow = backward_flow(texture(x, y), texture(0))
    assert flow.shape == (96, 128, 2)
    assert flow.dtype == np.float32
    middle = flow[30:-30, 30:-30]
    assert np.median(middle[..., 0]) == pytest.approx(-x, abs=0.5)
    assert np.median(middle[..., 1]) == pytest.approx(-y, abs=0.5)


def test_the_same_pictures_give_the_same_flow() -> None:
    first, second = (backward_flow(texture(3), texture(0)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_trail_that_goes_nowhere_leaves_labels_as_they_are() -> None:
    labels = np.random.default_rng(1).integers(0, 9, (20, 30)).astype(np.uint8)
    trail = Trail(20, 30)
    np.testing.assert_array_equal(trail.carry(labels), labels)
    trail.advance(np.zeros((20, 30, 2), np.float32))
    np.testing.assert_array_equal(trail.carry(labels), labels)


def test_a_trail_adds_up_parts_of_pixels() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:9, 4:8] = 7
    trail = Trail(20, 30)
    for _ in range(20):
        trail.advance(np.broadcast_to(np.array([-0.3, 0.1], np.float32), (20, 30, 2)))
    expected = np.zeros((20, 30), np.uint8)
    expected[3:7, 10:14] = 7
    np.testing.assert_array_equal(trail.carry(labels), expected)


def test_what_comes_in_over_an_edge_takes_what_was_there() -> None:
    labels = np.tile(np.arange(30, dtype=np.uint8), (20, 1))
    trail = Trail(20, 30)
    trail.advance(np.broadcast_to(np.array([-6, 0], np.float32), (20, 30, 2)))
    carried = trail.carry(labels)
    assert carried[4, :8].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
