"""Where things have moved between two pictures, and labels that move with them.

H, W: height and width. A field is float32 [H, W, 2] in pixels: x, then y.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ams_common.classes import UInt8Array
from ams_common.layout import Float32Array

LEVELS = 3
SCALE = 0.5
WINDOW = 64
ITERATIONS = 5
POLYNOMIAL = 5
"""Pixels of the neighbourhood that each pixel's polynomial is fitted to."""
POLYNOMIAL_SIGMA = 1.1
"""What OpenCV's documentation pairs with a neighbourhood of 5."""


def backward_flow(current: UInt8Array, previous: UInt8Array) -> Float32Array:
    """Return a field that leads from each pixel of `current` to where it was in `previous`, both grey, uint8 [H, W].

    Farneback's method as in the AMS paper (section 4.1): 5 iterations, Gaussian windows of 64 pixels, 3 levels, polynomial
    neighbourhood of 5.
    """
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    start = np.zeros((*current.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(
        current, previous, start, SCALE, LEVELS, WINDOW, ITERATIONS, POLYNOMIAL, POLYNOMIAL_SIGMA, flags
    )
    return np.asarray(flow, np.float32)


class Trail:
    """Where each pixel of the present picture was in an earlier one.

    Positions are added up and labels taken once by them, so that labels do not fray from picture to picture. What comes in over
    an edge of the picture takes what was at the edge.
    """

    def __init__(self, height: int, width: int) -> None:
        """Begin at a picture of `height` x `width` pixels."""
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        self._grid = np.stack([columns, rows], axis=-1)
        self._positions = self._grid

    def advance(self, flow: Float32Array) -> None:
        """Go on to the next picture, from which `flow` leads back to the present one."""
        self._positions = np.asarray(_looked_up(self._positions, self._grid + flow, cv2.INTER_LINEAR), np.float32)

    def carry(self, labels: UInt8Array) -> UInt8Array:
        """Return the labels of the earlier picture, uint8 [H, W], where they are in the present one."""
        return np.asarray(_looked_up(labels, self._positions, cv2.INTER_NEAREST), np.uint8)


def _looked_up(values: npt.NDArray[Any], positions: Float32Array, interpolation: int) -> npt.NDArray[Any]:
    """Return for each pixel the one of `values`, [H, W] or [H, W, K], that is at its position."""
    x, y = (np.ascontiguousarray(positions[..., axis]) for axis in (0, 1))
    return cv2.remap(values, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
