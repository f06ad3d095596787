"""One row of numbers for each run: for the tables of the reports, and as CSV and JSON."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from ams_eval import metrics
from ams_eval.metrics import SETTLE_S, Spread
from ams_eval.outcome import Outcome
from ams_eval.outcome_files import finite_or_none
from ams_eval.result import number, points
from ams_eval.result_folder import NO_CUSTOMISATION, Run, base_of, unique


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
    labels_down_kbps: float
    update_down_kbps: float
    control_up_kbps: float
    control_down_kbps: float
    first_model_kb: float
    """Whole models that were sent, in units of 1000 bytes."""
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
    for direction in ("up", "down"):
        total = metrics.running_traffic(outcome, "up" if direction == "up" else "down")
        values |= {
            f"{direction}_kbps": metrics.kbps(total.payload_bytes, duration_s),
            f"{direction}_wire_kbps": metrics.kbps(total.wire_bytes, duration_s),
            f"{direction}_kbps_of_1024_bit": metrics.paper_kbps(total.payload_bytes, duration_s),
        }
    kinds = (("frames", "up"), ("labels", "down"), ("update", "down"), ("control", "up"), ("control", "down"))
    payload = {f"{kind}_{way}": size.payload_bytes for (way, kind), size in sizes.items()}
    rates = {f"{kind}_{way}_kbps": metrics.kbps(payload.get(f"{kind}_{way}", 0), duration_s) for kind, way in kinds}
    return values | rates | {"first_model_kb": payload.get("model_down", 0) / 1e3}


def _spreads(series: dict[str, tuple[str, Spread]]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, (unit, found) in series.items():
        suffix = f"_{unit}" if unit else ""
        values |= {f"{name}_mean{suffix}": found.mean, f"{name}_p95{suffix}": found.p95}
    return values


class Group(tuple[Summary, ...]):
    """Runs of one scheme: on one recording with several seeds, or on all recordings."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """The scheme of all of them."""
        return self[0].scheme

    def seeds(self) -> int:
        """Return how many seeds there are."""
        return len({row.seed for row in self})

    def mean(self, name: str) -> float:
        """Return the mean over the recordings of the means over their seeds of a number; NaN where it does not exist."""
        return _mean(_mean(values) for values in self._by_recording(name))

    def deviation(self, name: str) -> float:
        """Return the standard deviation (n - 1) over the seeds of the mean over the recordings; NaN for one seed.

        Seeds that did not meet every recording do not count: their means would differ by what is to be seen.
        """
        seeds = [seed for seed in sorted({row.seed for row in self}) if self._recordings(seed) == self._recordings()]
        by_seed = [_mean(getattr(row, name) for row in self if row.seed == seed) for seed in seeds]
        known = [value for value in by_seed if not math.isnan(value)]
        if len(known) < 2:
            return math.nan
        return math.sqrt(sum((value - _mean(known)) ** 2 for value in known) / (len(known) - 1))

    def _recordings(self, seed: int | None = None) -> set[str]:
        return {row.recording for row in self if seed in (None, row.seed)}

    def _by_recording(self, name: str) -> list[list[float]]:
        return [[getattr(row, name) for row in self if row.recording == each] for each in unique(row.recording for row in self)]


def by_scheme(rows: Iterable[Summary]) -> list[Group]:
    """Return the rows of each scheme, in the order of their first appearance."""
    rows = list(rows)
    return [Group(row for row in rows if row.scheme == scheme) for scheme in unique(row.scheme for row in rows)]


def complete(groups: Sequence[Group]) -> list[Group]:
    """Return the schemes that ran on every recording that any of them ran on: only their means may be compared."""
    recordings = {row.recording for group in groups for row in group}
    return [group for group in groups if recordings == {row.recording for row in group}]


def describe_missing(groups: Sequence[Group]) -> str:
    """Return a sentence about the schemes that did not run on every recording; empty where all did."""
    count, whole = len({row.recording for group in groups for row in group}), complete(groups)
    parts = [f"{group.scheme} on {len({row.recording for row in group})}" for group in groups if group not in whole]
    if not parts:
        return ""
    return f"Of {count} recordings, {', '.join(parts)}: means over different recordings cannot be compared."


def write_csv(rows: Sequence[Any], kind: type[Any] = Summary) -> str:
    """Return the rows, dataclasses of one `kind`, as CSV with a heading; what does not exist is empty."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(kind)])
    for row in rows:
        writer.writerow(["" if value is None else value for value in map(finite_or_none, dataclasses.astuple(row))])
    return target.getvalue()


def write_json(rows: Sequence[Summary], settle_s: float) -> str:
    """Return the rows as JSON, and with them the mean and the spread over seeds of each scheme; null is what does not exist."""
    document = {
        "settle_s": settle_s,
        "runs": [dataclasses.asdict(row) for row in rows],
        "schemes": [
            {
                "scheme": group.scheme,
                "recordings": unique(row.recording for row in group),
                "seeds": group.seeds(),
                "mean": {name: group.mean(name) for name in NUMBERS if name != "seed"},
                "standard_deviation_over_seeds": {name: group.deviation(name) for name in NUMBERS if name != "seed"},
            }
            for group in by_scheme(rows)
        ],
    }
    return json.dumps(finite_or_none(document), indent=1) + "\n"


def draw_summary(rows: Sequence[Summary]) -> Table:
    """Return the main numbers of each scheme as a table for a terminal, means over recordings and seeds."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    groups = by_scheme(rows)
    table.caption = describe_missing(groups) or None
    table.add_column("", no_wrap=True, max_width=22)
    for heading, *_ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(escape(group.scheme), *(write(group.mean(name)) for _, name, write in _COLUMNS))
    return table


_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("teacher\nmIoU %", "miou_window", lambda value: number(100 * value, 1)),
    ("human\nmIoU %", "human_miou_window", lambda value: number(100 * value, 1)),
    ("gain\npoints", "gain", points),
    ("up\nkbit/s", "up_kbps", lambda value: number(value, 1)),
    ("down\nkbit/s", "down_kbps", lambda value: number(value, 1)),
    ("model\nage s", "model_age_mean_s", lambda value: number(value, 1)),
    ("frames\nlabelled", "frames_labelled", lambda value: number(value, 0)),
)


def _mean(values: Iterable[float]) -> float:
    return metrics.spread(values).mean
