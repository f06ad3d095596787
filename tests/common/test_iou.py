"""Confusion matrices and their IoU."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.iou import changed_share, class_iou, confusion_matrix, mean_iou


def naive_matrix(reference: list[int], predicted: list[int], classes: int) -> list[list[int]]:
    matrix = [[0] * classes for _ in range(classes)]
    for row, column in zip(reference, predicted, strict=True):
        if row < classes and column < classes:
            matrix[row][column] += 1
    return matrix


labels = st.integers(0, 6) | st.sampled_from([254, 255])


@given(st.lists(st.tuples(labels, labels), max_size=60), st.sampled_from([1, 3, 5, 254, 255]))
def test_the_matrix_counts_like_a_loop(pairs: list[tuple[int, int]], classes: int) -> None:
    reference, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    matrix = confusion_matrix(np.array(reference, np.uint8), np.array(predicted, np.uint8), classes)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == naive_matrix(reference, predicted, classes)


def test_label_maps_of_any_shape_and_layout_are_taken() -> None:
    reference = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3
    matrix = confusion_matrix(reference[:, ::-1].T, reference[:, ::-1].T, 3)
    assert matrix.tolist() == [[8, 0, 0], [0, 8, 0], [0, 0, 8]]


def test_maps_of_different_shapes_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="shapes"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


def test_iou_by_hand() -> None:
    # Class 0: 2 of 2 + 1 + 1; class 1: 3 of 3 + 1 + 1; class 2 nowhere; class 3 predicted once, never right.
    matrix = np.array([[2, 1, 0, 0], [0, 3, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], np.int64)
    values = class_iou(matrix)
    assert values[:2].tolist() == pytest.approx([2 / 3, 3 / 5])
    assert math.isnan(values[2])
    assert values[3] == 0
    assert mean_iou(matrix) == pytest.approx((2 / 3 + 3 / 5 + 0) / 3)


def test_a_perfect_prediction_has_an_iou_of_one() -> None:
    labels = np.array([[0, 0, 4], [255, 2, 4]], np.uint8)
    assert mean_iou(confusion_matrix(labels, labels, 5)) == 1.0


def test_no_pixels_have_no_iou() -> None:
    empty = confusion_matrix(np.full(9, 255, np.uint8), np.zeros(9, np.uint8), 3)
    assert np.isnan(class_iou(empty)).all()
    assert math.isnan(mean_iou(empty))


def test_changed_share_counts_pixels_labelled_in_both() -> None:
    previous = np.array([[0, 1, 2, 255], [3, 3, 255, 0]], np.uint8)
    current = np.array([[0, 1, 1, 4], [3, 255, 255, 1]], np.uint8)
    # Labelled in both: 0-0, 1-1, 2-1, 3-3, 0-1.
    assert changed_share(previous, current) == pytest.approx(2 / 5)
    assert changed_share(previous, previous) == 0
    assert changed_share(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)) == 1


def test_maps_without_a_common_label_have_no_share() -> None:
    assert changed_share(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8)) is None
