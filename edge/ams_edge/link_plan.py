"""What the server asks for, as far as the link carries it."""

from dataclasses import replace

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.frame_bits import wanted_bits
from ams_common.messages import Control

MOST_STRETCHED = 5.0
"""Frames become so many times as seldom at most: a link that stands still may go on at any moment."""


def planned_bps(control: Control) -> float:
    """Return the bits of video per second that the server asks for."""
    return 8 * control.batch_bytes / control.batch_interval_s


def as_carried(control: Control, share: float) -> Control:
    """Return `control` for a link that carries the part `share`, 0..1, of what is planned.

    Frames keep the bits that make them worth labelling and become more seldom; where that is not enough, they become smaller
    too, down to LEAST_BATCH_BYTES for a batch, below which no picture is worth sending.
    """
    if share >= 1:
        return control
    carried_bps = share * planned_bps(control)
    frames = max(1, round(control.sampling_hz * control.batch_interval_s))
    frame_bytes, least_bytes = control.batch_bytes / frames, min(LEAST_BATCH_BYTES, control.batch_bytes)
    wanted_bytes = max(least_bytes / frames, wanted_bits(8 * control.worthwhile_frame_bytes, carried_bps) / 8)
    kept_bytes = min(frame_bytes, wanted_bytes)
    stretched = min(MOST_STRETCHED, max(1.0, kept_bytes / max(share * frame_bytes, 1e-9)))
    interval_s = stretched * control.batch_interval_s
    # Fewer frames in about the same time, unless a batch of them would not be worth sending.
    shorter_s = interval_s * max(1, round(frames / stretched)) / frames
    if carried_bps * shorter_s >= 8 * least_bytes:
        interval_s = shorter_s
    return replace(
        control,
        sampling_hz=control.sampling_hz / stretched,
        batch_interval_s=interval_s,
        batch_bytes=min(control.batch_bytes, max(least_bytes, int(carried_bps * interval_s / 8))),
    )
