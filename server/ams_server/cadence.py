"""How often a device sends what it has sampled: several times for each update, so that the newest frames are soon labelled.

With an update every T seconds the running model is T / 2 + L old on average, where L is the time from the capture of the newest
frame learnt to the switch. A batch that fills the uplink's budget takes as long to upload as to sample, so its length is in L
in full, while all but the last one of an update are uploaded and labelled beside the sampling.
"""

from typing import NamedTuple

BATCHES_PER_UPDATE = 5
LONGEST_BATCH_S = 1.0
"""A batch is no longer than this wherever it then holds a frame and what is worth sending."""
LARGEST_BATCH_S = 2.0
"""A frame that is a batch because frames are seldom has no more bytes than the budget gives in this time, or than are
wanted for it: it would be late."""
WORTHWHILE_BYTES = 12_000
"""A batch that the budget keeps smaller waits for more frames: H.264 begins each batch with a whole picture."""

_ROUNDING = 1e-9


class Cadence(NamedTuple):
    """When a device sends, and how much."""

    interval_s: float
    """Seconds of capture time from one batch to the next."""
    frames: int
    """Frames sampled in that time, at least 1."""
    budgeted_s: float
    """Seconds whose budget a batch may take, at most the interval."""


def batch_cadence(update_interval_s: float, sampling_hz: float, uplink_bps: float, wanted_frame_s: float = 0.0) -> Cadence:
    """Return the cadence of a device that gets an update every `update_interval_s` and has `uplink_bps`, which is not 0.

    A batch holds a whole number of the frames sampled at `sampling_hz`, at least one and at most those of one update. A frame
    that is a batch may have the budget of `wanted_frame_s` in any case.
    """
    shortest_s = min(LONGEST_BATCH_S, update_interval_s / BATCHES_PER_UPDATE)
    usual_s = min(update_interval_s, max(shortest_s, 8 * WORTHWHILE_BYTES / uplink_bps))
    frames = max(1, min(round(usual_s * sampling_hz), int(update_interval_s * sampling_hz + _ROUNDING)))
    interval_s = frames / sampling_hz
    budgeted_s = interval_s if frames > 1 else min(interval_s, max(usual_s, LARGEST_BATCH_S, wanted_frame_s))
    return Cadence(interval_s, frames, budgeted_s)
