"""One row of numbers for each run."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ams_eval import metrics
from ams_eval.metrics import SETTLE_S, Size, Spread
from ams_eval.outcome import Direction, Outcome, TrafficKind
from ams_eval.result_folder import NO_CUSTOMISATION, Run, base_of


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The numbers of one run; mIoU and shares are 0..1, NaN is what does not exist.

    "human" is against human or exact labels, else the reference is the teacher. "late" counts frames after the first
    seconds only, as the authors of AMS do. Rates are of payload over the whole recording, without the first model.
    """

    recording: str
    scheme: str
    """With the settings that tell it apart where there are several."""
    seed: int
    frames: int
    """Frames that were scored against the teacher."""
    duration_s: float
    miou_window: float
    """Mean over the frames of the mIoU within the 10 s around them."""
    miou_summed: float
    """mIoU of the confusion summed over all frames."""
    miou_frame: float
    """Mean over the frames of their mIoU."""
    late_miou_window: float
    late_miou_summed: float
    late_miou_frame: float
    human_frames: int
    human_miou_window: float
    human_miou_summed: float
    human_miou_frame: float
    human_late_miou_window: float
    human_late_miou_summed: float
    human_late_miou_frame: float
    gain: float
    """What the scheme adds to `miou_window` of no customisation."""
    human_gain: float
    share_better: float
    """Share of the frames whose mIoU is above that of no customisation."""
    up_kbps: float
    down_kbps: float
    up_wire_kbps: float
    """With the framing of protobuf, HTTP/2 and TCP/IP."""
    down_wire_kbps: float
    up_kbps_of_1024_bit: float
    """In the unit of the AMS paper."""
    down_kbps_of_1024_bit: float
    frames_up_kbps: float
    """Video of sampled frames, or their pictures."""
    frames_up_wire_kbps: float
    labels_down_kbps: float
    labels_down_wire_kbps: float
    update_down_kbps: float
    update_down_wire_kbps: float
    control_up_kbps: float
    control_up_wire_kbps: float
    control_down_kbps: float
    control_down_wire_kbps: float
    first_model_kb: float
    """Whole models that were sent, in units of 1000 bytes."""
    first_model_wire_kb: float
    frames_labelled: int
    updates: int
    steps: int
    """Optimiser steps in all."""
    sampling_mean_hz: float
    sampling_p95_hz: float
    update_interval_mean_s: float
    update_interval_p95_s: float
    mask_overlap_mean: float
    mask_overlap_p95: float
    loss_mean: float
    loss_p95: float
    model_age_mean_s: float
    model_age_p95_s: float
    latency_mean_s: float
    """From the capture of the newest frame to the switch to the model that has learnt from it."""
    latency_p95_s: float
    wait_s: float
    encode_s: float
    upload_s: float
    queue_s: float
    label_s: float
    train_s: float
    code_s: float
    download_s: float
    build_s: float


_DIRECTIONS: tuple[Direction, ...] = ("up", "down")
_RUNNING: tuple[tuple[Direction, TrafficKind], ...] = (
    ("up", "frames"),
    ("down", "labels"),
    ("down", "update"),
    ("up", "control"),
    ("down", "control"),
)
"""What goes over the network while a recording is played."""
NUMBERS = tuple(field.name for field in dataclasses.fields(Summary) if field.type in (int, float))


def summarise(runs: Sequence[Run], settle_s: float = SETTLE_S) -> tuple[Summary, ...]:
    """Return the numbers of each run; "late" ones count the frames captured `settle_s` or later."""
    return tuple(
        _summary(run, None if run.outcome.scheme == NO_CUSTOMISATION else base_of(run, runs), settle_s) for run in runs
    )


def _summary(run: Run, base: Run | None, settle_s: float) -> Summary:
    outcome = run.outcome
    rates_hz, intervals_s = metrics.steering(outcome)
    series = {
        "sampling": ("hz", metrics.spread(rates_hz)),
        "update_interval": ("s", metrics.spread(intervals_s)),
        "mask_overlap": ("", metrics.spread(each.mask_overlap for each in outcome.updates)),
        "loss": ("", metrics.spread(each.loss for each in outcome.updates)),
        "model_age": ("s", metrics.spread(outcome.model_age_s)),
        "latency": ("s", metrics.update_latency(outcome)),
    }
    values: dict[str, Any] = {f"{part}_s": each for part, each in metrics.latency_parts(outcome).items()}
    values |= _agreement(outcome, settle_s) | _gain(outcome, base.outcome if base else None)
    values |= _traffic(outcome) | _spreads(series)
    return Summary(
        recording=outcome.recording,
        scheme=run.label,
        seed=outcome.seed,
        frames_labelled=outcome.frames_labelled,
        updates=len(outcome.updates),
        steps=sum(each.steps for each in outcome.updates),
        **values,
    )


def _agreement(outcome: Outcome, settle_s: float) -> dict[str, Any]:
    values: dict[str, Any] = {"duration_s": metrics.duration_s(outcome), "human_frames": 0}
    for prefix, score in (("", outcome.teacher), ("human_", outcome.human)):
        for late, from_s in (("", 0.0), ("late_", settle_s)):
            found = metrics.quality(score, from_s=from_s) if score else metrics.Quality(0, *[math.nan] * 3)
            values |= {
                f"{prefix}{late}miou_window": found.window_mean,
                f"{prefix}{late}miou_summed": found.summed,
                f"{prefix}{late}miou_frame": found.frame_mean,
            }
            if not late:
                values[f"{prefix}frames"] = found.frames
    return values


def _gain(outcome: Outcome, base: Outcome | None) -> dict[str, float]:
    if base is None:
        return dict.fromkeys(("gain", "human_gain", "share_better"), math.nan)
    human = (
        metrics.quality(outcome.human).window_mean - metrics.quality(base.human).window_mean
        if outcome.human and base.human
        else math.nan
    )
    return {
        "gain": metrics.quality(outcome.teacher).window_mean - metrics.quality(base.teacher).window_mean,
        "human_gain": human,
        "share_better": metrics.share_better(metrics.frame_gain(outcome, base)),
    }


def _traffic(outcome: Outcome) -> dict[str, float]:
    duration_s, sizes = metrics.duration_s(outcome), metrics.traffic(outcome)
    values: dict[str, float] = {}
    for way in _DIRECTIONS:
        total = metrics.running_traffic(outcome, way)
        values |= {
            f"{way}_kbps": metrics.kbps(total.payload_bytes, duration_s),
            f"{way}_wire_kbps": metrics.kbps(total.wire_bytes, duration_s),
            f"{way}_kbps_of_1024_bit": metrics.paper_kbps(total.payload_bytes, duration_s),
        }
    for direction, kind in _RUNNING:
        size = sizes.get((direction, kind), Size(0, 0))
        values[f"{kind}_{direction}_kbps"] = metrics.kbps(size.payload_bytes, duration_s)
        values[f"{kind}_{direction}_wire_kbps"] = metrics.kbps(size.wire_bytes, duration_s)
    model = sizes.get(("down", "model"), Size(0, 0))
    return values | {"first_model_kb": model.payload_bytes / 1e3, "first_model_wire_kb": model.wire_bytes / 1e3}


def _spreads(series: dict[str, tuple[str, Spread]]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, (unit, found) in series.items():
        suffix = f"_{unit}" if unit else ""
        values |= {f"{name}_mean{suffix}": found.mean, f"{name}_p95{suffix}": found.p95}
    return values
