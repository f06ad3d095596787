"""Intersection over union from confusion matrices, and how much two label maps differ.

Shapes: C classes. A confusion matrix is int64 [C, C]: rows are the reference, columns the prediction, in pixels. Matrices of
several frames may be added before their IoU is taken.
"""

import numpy as np
import numpy.typing as npt

from ams_common.classes import IGNORE, UInt8Array

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


def confusion_matrix(reference: UInt8Array, predicted: UInt8Array, classes: int) -> Int64Array:
    """Count pixels by reference and predicted class.

    Args:
        reference: labels taken as true, uint8 of any shape.
        predicted: labels to judge, uint8 of the same shape.
        classes: C, at most 255; pixels where either label is C or more (IGNORE is 255) do not count.

    Returns:
        int64 [C, C].
    """
    assert reference.shape == predicted.shape, f"label maps of shapes {reference.shape} and {predicted.shape}"
    assert reference.dtype == predicted.dtype == np.uint8
    pairs = reference.ravel().astype(np.uint16) << 8
    pairs |= predicted.ravel()
    counts = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    return np.array(counts[:classes, :classes], np.int64)


def class_iou(matrix: Int64Array) -> Float64Array:
    """Return the IoU of every class, float64 [C] in 0..1; NaN for a class in neither reference nor prediction."""
    intersection = np.diagonal(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - intersection
    values = np.full(len(matrix), np.nan)
    np.divide(intersection, union, out=values, where=union > 0)
    return values


def mean_iou(matrix: Int64Array) -> float:
    """Return the mean IoU, 0..1, over the classes that occur in the reference or the prediction; NaN if none does."""
    values = class_iou(matrix)
    occurring = values[~np.isnan(values)]
    return float(occurring.mean()) if occurring.size else float("nan")


def changed_share(previous: UInt8Array, current: UInt8Array) -> float | None:
    """Return the share of the pixels labelled in both maps, uint8 of the same shape, whose label differs; None without any."""
    assert previous.shape == current.shape, f"label maps of shapes {previous.shape} and {current.shape}"
    both = (previous != IGNORE) & (current != IGNORE)
    count = np.count_nonzero(both)
    return np.count_nonzero(both & (previous != current)) / count if count else None
