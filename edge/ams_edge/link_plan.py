"""What the server asks for, as far as the link carries it."""

import math
from dataclasses import replace

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.frame_bits import UPLOAD_S, wanted_bits
from ams_common.messages import Control

MOST_STRETCHED = 5.0
"""Frames become so many times as seldom at most: a link that stands still may go on at any moment."""


def as_carried(control: Control, carried_bps: float) -> Control:
    """Return `control` for a link that carries `carried_bps` at most; infinity for one that is no limit.

    Frames become smaller, down to the bits that make them worth labelling; then more seldom, up to MOST_STRETCHED times; and
    then smaller again, down to LEAST_BATCH_BYTES for a batch, below which no picture is worth sending.
    """
    if math.isinf(carried_bps):
        return control
    frames = max(1, round(control.sampling_hz * control.batch_interval_s))
    frame_bits, least_bits = 8 * control.batch_bytes / frames, 8 * min(LEAST_BATCH_BYTES, control.batch_bytes)
    kept_bits = min(frame_bits, max(least_bits / frames, wanted_bits(8 * control.worthwhile_frame_bytes, carried_bps)))
    stretched = min(MOST_STRETCHED, max(1.0, kept_bits * control.sampling_hz / max(carried_bps, 1e-9)))
    frame_s = stretched * control.batch_interval_s / frames
    # Fewer frames in about the same time, but as many as make a batch worth sending.
    fewest = math.ceil(least_bits / max(carried_bps * frame_s, 1e-9))
    together = min(frames, max(round(frames / stretched), fewest))
    carried_bits = carried_bps * together * frame_s
    # A frame that comes seldom would be late with all that the link carries until the next one.
    prompt_bits = carried_bits if together > 1 else max(kept_bits, UPLOAD_S * carried_bps)
    batch_bytes = int(max(least_bits, min(carried_bits, prompt_bits)) / 8)
    return replace(
        control,
        sampling_hz=control.sampling_hz / stretched,
        batch_interval_s=together * frame_s,
        batch_bytes=min(control.batch_bytes, batch_bytes),
    )
