"""Weights of pixels that let small things count as much as large areas (section 3.2 of the just-in-time paper).

The paper's teacher finds instances. Here an instance is a connected region of one class of a label map.
"""

import math
from collections.abc import Collection

import cv2
import numpy as np

from ams_common.classes import UInt8Array
from ams_common.layout import Float32Array


def box_weights(labels: UInt8Array, boxed: Collection[int], *, weight: float, dilation: float) -> Float32Array:
    """Return float32 [H, W] of ones with `weight` in a box around every connected region of the classes `boxed`.

    Regions of one class in `labels`, uint8 [H, W], are connected where pixels touch at a side or a corner. A box is enlarged
    about its centre by `dilation` of its width and height, outwards to whole pixels. Where boxes overlap `weight` counts once.
    """
    weights = np.ones(labels.shape, np.float32)
    for label in boxed:
        _, _, regions, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=8)
        # The first region is everything else.
        for left, top, width, height, _ in regions[1:]:
            columns = _dilated(int(left), int(width), dilation)
            weights[_dilated(int(top), int(height), dilation), columns] = weight
    return weights


def _dilated(start: int, length: int, dilation: float) -> slice:
    margin = dilation * length / 2
    return slice(max(0, math.floor(start - margin)), math.ceil(start + length + margin))
