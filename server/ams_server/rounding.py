"""Rounding whole vectors before they are handed out, so that their snapshots are small (`ams_common.snapshot_codec`).

A weight matters in proportion to the others of its row, so that each row is rounded to multiples of a power of two that is a
part of its root mean square.
"""

import numpy as np

from ams_common.delta_rows import Rows, layout_rows
from ams_common.layout import Float32Array, ParameterLayout

START_PART = 1 / 16
"""Largest step of starting weights, relative to the root mean square of their row."""
LEARNT_PART = 1 / 4
"""The same of what a device's weights have learnt since."""
SHORTEST_ROW = 16
"""Rows of fewer starting weights, as those of depthwise convolutions, are rounded one by one: they hide no error."""
_MANTISSA_BITS = 11
"""As many as float16 has."""
_SMALLEST_EXPONENT = -120


def rounded_start(vector: Float32Array, layout: ParameterLayout) -> Float32Array:
    """Return the starting weights `vector`, float32 [P], rounded: long rows of matrices by START_PART, all else to 11 bits.

    Scales, biases and running statistics differ too much from each other to be rounded alike, and are few.
    """
    rounded = _rounded_mantissas(vector)
    by_rows = _rounded_rows(vector, layout_rows(layout), START_PART)
    for tensor, start in zip(layout.tensors, layout.offsets, strict=True):
        if len(tensor.shape) > 1 and tensor.size >= SHORTEST_ROW * tensor.shape[0]:
            rounded[start : start + tensor.size] = by_rows[start : start + tensor.size]
    return rounded


def rounded_learnt(vector: Float32Array, start: Float32Array, layout: ParameterLayout) -> Float32Array:
    """Return `vector`, float32 [P], with what it differs from `start`, float32 [P], rounded in rows by LEARNT_PART."""
    return start + _rounded_rows(vector - start, layout_rows(layout), LEARNT_PART)


def _rounded_rows(values: Float32Array, rows: Rows, part: float) -> Float32Array:
    squares = np.add.reduceat(values.astype(np.float64) ** 2, rows.starts)
    steps = part * np.sqrt(squares / rows.lengths)
    # The exponent of frexp is one more than that of the power of two below.
    exponents = np.maximum(np.frexp(steps)[1] - 1, _SMALLEST_EXPONENT)
    spread = np.repeat(exponents, rows.lengths)
    # A sum with 0.0 turns -0.0 into 0.0.
    rounded: Float32Array = np.ldexp(np.rint(np.ldexp(values, -spread)), spread) + np.float32(0)
    return rounded


def _rounded_mantissas(values: Float32Array) -> Float32Array:
    mantissas, exponents = np.frexp(values)
    rounded: Float32Array = np.ldexp(np.rint(np.ldexp(mantissas, _MANTISSA_BITS)), exponents - _MANTISSA_BITS) + np.float32(0)
    return rounded
