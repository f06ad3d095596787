"""Numbers of one outcome: agreement, traffic, steering, model age, gain, effort and latency.

Shapes: F frames, S seconds, W windows. A kilobit is 1000 bit; `paper_kbps` counts 1024 as the AMS paper does.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ams_common.errors import ConfigurationError
from ams_eval.outcome import Direction, Outcome, TrafficKind
from ams_eval.scores import Score

SETTLE_S = 250.0
"""The authors of AMS score the frames after this time only."""
EFFORT_WINDOW_S = 30.0
"""Windows of the adaptation effort, as in the thesis that extends the JIT paper."""
LATENCY_PARTS = ("wait", "encode", "upload", "queue", "label", "train", "code", "download", "build")
"""Parts of an update's way in their order; each is a field of UpdateRecord with `_s` after it."""

FloatArray: TypeAlias = npt.NDArray[np.float64]


class Quality(NamedTuple):
    """Agreement with one reference in the three usual aggregates, mIoU 0..1; NaN without any label."""

    frames: int
    frame_mean: float
    """Mean over the frames of their mIoU."""
    summed: float
    """mIoU of the confusion summed over all frames."""
    window_mean: float
    """Mean over the frames of the mIoU within the 10 s around them, as in the AMS paper."""


class Size(NamedTuple):
    """Bytes sent."""

    payload_bytes: int
    wire_bytes: int


class Spread(NamedTuple):
    """Mean and 95th percentile of what is known; NaN where nothing is."""

    mean: float
    p95: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Effort:
    """How much the server had to change the model, in windows of equal length."""

    starts_s: FloatArray
    """Start of each window, float64 [W]."""
    steps: FloatArray
    """Optimiser steps of the updates that took effect in it, float64 [W]."""
    change: FloatArray
    """Sum of the Euclidean lengths of their changes, float64 [W]."""


def quality(score: Score, *, from_s: float = 0.0) -> Quality:
    """Return the aggregates of the frames captured at `from_s` or later."""
    late = score.between(from_s, math.inf)
    return Quality(
        frames=len(late.times_s),
        frame_mean=late.mean_frame_miou(),
        summed=late.miou(),
        window_mean=spread(late.windowed_miou()).mean,
    )


def duration_s(outcome: Outcome) -> float:
    """Return the seconds from the first frame to the end of the last one, which lasts as long as the mean of the others."""
    times_s = outcome.teacher.times_s
    if len(times_s) < 2:
        return math.nan
    return float((times_s[-1] - times_s[0]) * len(times_s) / (len(times_s) - 1))


def kbps(size_bytes: int, seconds: float) -> float:
    """Return a rate in kbit/s, 1 kbit = 1000 bit."""
    return size_bytes * 8e-3 / seconds


def paper_kbps(size_bytes: int, seconds: float) -> float:
    """Return a rate in the unit of the AMS paper, 1 Kbit = 1024 bit."""
    return size_bytes * 8 / 1024 / seconds


def traffic(outcome: Outcome) -> dict[tuple[Direction, TrafficKind], Size]:
    """Return the bytes of each direction and kind that there were, over the whole recording."""
    sizes: dict[tuple[Direction, TrafficKind], Size] = {}
    for each in outcome.transfers:
        before = sizes.get((each.direction, each.kind), Size(0, 0))
        sizes[each.direction, each.kind] = Size(before.payload_bytes + each.payload_bytes, before.wire_bytes + each.wire_bytes)
    return sizes


def running_traffic(outcome: Outcome, direction: Direction) -> Size:
    """Return the bytes of one direction without those of kind "model": the first model, which a device gets once."""
    sizes = [size for (way, kind), size in traffic(outcome).items() if way == direction and kind != "model"]
    return Size(sum(size.payload_bytes for size in sizes), sum(size.wire_bytes for size in sizes))


def kbit_per_second(outcome: Outcome, direction: Direction) -> FloatArray:
    """Return the kbit of payload that left in each second from the first frame on, without the first model, float64 [S]."""
    end_s = math.ceil(duration_s(outcome)) if len(outcome.versions) > 1 else 1
    sent = [each for each in outcome.transfers if each.direction == direction and each.kind != "model"]
    seconds = [min(end_s - 1, max(0, math.floor(each.time_s))) for each in sent]
    return np.bincount(seconds, [each.payload_bytes * 8e-3 for each in sent], minlength=end_s).astype(np.float64)


def steering(outcome: Outcome) -> tuple[FloatArray, FloatArray]:
    """Return the sampling rate in Hz and the update interval in seconds at each frame, float64 [F]; NaN before the first."""
    starts_s = [each.time_s for each in outcome.controls]
    place = np.searchsorted(starts_s, outcome.teacher.times_s, side="right")
    rates_hz = np.array([math.nan, *(each.sampling_hz for each in outcome.controls)])
    intervals_s = np.array([math.nan, *(each.update_interval_s for each in outcome.controls)])
    return rates_hz[place], intervals_s[place]


def spread(values: Iterable[float]) -> Spread:
    """Return mean and 95th percentile, leaving NaN out."""
    known = np.asarray(list(values), np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return Spread(math.nan, math.nan)
    return Spread(float(known.mean()), float(np.percentile(known, 95)))


def frame_gain(outcome: Outcome, base: Outcome) -> FloatArray:
    """Return what a scheme adds to the mIoU of each frame against the teacher, -1..1, float64 [F].

    Raises:
        ConfigurationError: the two outcomes are of different frames or classes.
    """
    same = outcome.classes == base.classes and np.array_equal(outcome.teacher.times_s, base.teacher.times_s)
    if not same:
        raise ConfigurationError(
            f"{outcome.scheme!r} and {base.scheme!r} on {outcome.recording!r} were scored on different frames or classes: "
            "run them again together"
        )
    return outcome.teacher.frame_miou() - base.teacher.frame_miou()


def share_better(gain: FloatArray) -> float:
    """Return the share of frames that gain more than nothing, 0..1; NaN where no gain is known."""
    known = gain[~np.isnan(gain)]
    return float((known > 0).mean()) if known.size else math.nan


def cumulative(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the known values in ascending order, and the share of them that is no greater than each, 0..1."""
    known = np.sort(values[~np.isnan(values)])
    return known, np.arange(1, known.size + 1) / max(1, known.size)


def effort(outcome: Outcome, window_s: float = EFFORT_WINDOW_S) -> Effort:
    """Return the steps and changes of the updates by the window in which they took effect; late ones count in the last."""
    length_s = duration_s(outcome)
    windows = max(1, math.ceil(length_s / window_s - 1e-9)) if length_s == length_s else 1
    place = [min(windows - 1, max(0, int(each.time_s // window_s))) for each in outcome.updates]
    steps = np.bincount(place, [each.steps for each in outcome.updates], minlength=windows)
    change = np.bincount(place, [each.change_norm for each in outcome.updates], minlength=windows)
    return Effort(
        starts_s=np.arange(windows, dtype=np.float64) * window_s,
        steps=steps.astype(np.float64),
        change=change.astype(np.float64),
    )


def latency_parts(outcome: Outcome) -> dict[str, float]:
    """Return the mean duration of each part of an update's way in seconds, those of LATENCY_PARTS; NaN without updates."""
    return {part: spread(getattr(each, f"{part}_s") for each in outcome.updates).mean for part in LATENCY_PARTS}


def update_latency(outcome: Outcome) -> Spread:
    """Return the seconds from the capture of the newest frame to the switch to the model that has learnt from it."""
    return spread(each.time_s - each.newest_capture_s for each in outcome.updates)
