import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ams_server.learners.box_weights import box_weights

ROAD, CAR, PERSON = range(3)


def test_boxes_are_those_computed_by_hand() -> None:
    labels = np.full((10, 16), ROAD, np.uint8)
    labels[2:4, 1:5] = (
        CAR  # 4 wide, 2 high: enlarged by half a column at each end and a quarter of a row, outwards to whole ones
    )
    labels[7, 10] = CAR  # touches the next at a corner: one region, 2 by 2
    labels[8, 11] = CAR
    labels[9, 0] = PERSON  # at the corner of the picture
    expected = np.ones((10, 16), np.float32)
    expected[1:5, 0:6] = 5
    expected[6:10, 9:13] = 5
    expected[8:10, 0:2] = 5
    np.testing.assert_array_equal(box_weights(labels, (CAR, PERSON), weight=5, dilation=0.25), expected)


def test_only_the_named_classes_have_boxes_and_overlaps_count_once() -> None:
    labels = np.full((8, 8), ROAD, np.uint8)
    labels[2:4, 2:4] = CAR
    labels[4:6, 4:6] = PERSON
    labels[0, 7] = 255
    cars = box_weights(labels, (CAR,), weight=3, dilation=0)
    assert cars.sum() == 64 + 2 * 4
    both = box_weights(labels, (CAR, PERSON), weight=3, dilation=1)
    assert set(np.unique(both)) == {1, 3}
    assert both[1:5, 1:5].min() == both[3:7, 3:7].min() == 3
    assert both[0].max() == 1
    assert (box_weights(labels, (), weight=3, dilation=1) == 1).all()


def test_a_region_is_boxed_for_itself_not_with_others_of_its_class() -> None:
    labels = np.full((3, 9), ROAD, np.uint8)
    labels[1, 1] = labels[1, 7] = CAR
    weights = box_weights(labels, (CAR,), weight=5, dilation=0)
    assert weights.sum() == 27 + 2 * 4


@given(st.integers(0, 2**32 - 1), st.floats(0, 2))
def test_every_pixel_of_a_boxed_class_has_the_weight(seed: int, dilation: float) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (7, 11), np.uint8)
    weights = box_weights(labels, (CAR,), weight=5, dilation=dilation)
    assert (weights[labels == CAR] == 5).all()
    assert set(np.unique(weights)) <= {1, 5}
    assert (weights >= box_weights(labels, (CAR,), weight=5, dilation=0)).all()
