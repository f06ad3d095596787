"""What the server asks for, as far as the link carries it."""

from dataclasses import replace

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.messages import Control

MOST_STRETCHED = 5.0
"""A batch interval becomes so many times as long at most: a link that stands still may go on at any moment."""


def as_carried(control: Control, share: float) -> Control:
    """Return `control` for a link that carries the part `share`, 0..1, of what is planned.

    Batches become smaller first, down to LEAST_BATCH_BYTES, below which no picture is worth sending, and then more seldom.
    """
    if share >= 1:
        return control
    carried_bytes = share * control.batch_bytes
    least_bytes = min(LEAST_BATCH_BYTES, control.batch_bytes)
    stretched = min(MOST_STRETCHED, max(1.0, least_bytes / max(carried_bytes, 1e-9)))
    return replace(
        control,
        batch_interval_s=stretched * control.batch_interval_s,
        batch_bytes=max(least_bytes, int(carried_bytes)),
    )
