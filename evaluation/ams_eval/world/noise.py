"""Noise that gives painted surfaces their texture."""

import cv2
import numpy as np

from ams_common.classes import UInt8Array
from ams_eval.world.geometry import Float32Array


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell_px: float) -> Float32Array:
    """Return float32 [height, width] of about -1..1 that varies over `cell_px` pixels."""
    cells = (max(2, round(height / cell_px) + 1), max(2, round(width / cell_px) + 1))
    coarse = rng.standard_normal(cells, np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32) * 0.6


def cloudy_noise(rng: np.random.Generator, height: int, width: int, cell_px: float, octaves: int = 4) -> Float32Array:
    """Return float32 [height, width] of about -1..1 with detail at `octaves` scales below `cell_px`."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        total += smooth_noise(rng, height, width, max(cell_px / 2**octave, 1.0)) / 2**octave
    return total * 0.6


def shade(image: UInt8Array, factor: Float32Array) -> None:
    """Multiply the first three channels of `image` [h, w, 3 or 4] by `factor` [h, w] in place."""
    image[..., :3] = np.clip(image[..., :3] * factor[..., None], 0, 255).astype(np.uint8)
