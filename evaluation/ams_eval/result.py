"""The numbers of a demo: for the table, for `demo.json` and for the report."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table

from ams_common.classes import ClassSet
from ams_eval.judging import Judgement
from ams_eval.live import Budgets
from ams_eval.metrics import spread
from ams_eval.run_log import RunLog
from ams_eval.scores import WINDOW_S, Comparison, Score


class NamedPhase(NamedTuple):
    """A stretch of the recording that has a name."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoResult:
    """Everything that a demo found out."""

    title: str
    """What was played."""
    classes: ClassSet
    """The student's classes."""
    phases: tuple[NamedPhase, ...]
    """Named stretches of the recording; empty where it has none."""
    budgets: Budgets
    judgement: Judgement
    log: RunLog
    edge_run_s: float
    """Machine time from the start of the edge to its last report."""
    commands: tuple[str, ...]
    """What was run, for a person to repeat."""
    versions: dict[str, str]
    """Versions of the software that matters."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The main numbers; NaN where there is nothing to count. mIoU is 0..1, rates count message bytes before gRPC's framing."""

    scored_frames: int
    teacher_without: float
    """mIoU against the teacher, confusion summed over the whole recording, without adaptation."""
    teacher_adapted: float
    teacher_without_frame_mean: float
    """Mean over frames of their mIoU."""
    teacher_adapted_frame_mean: float
    exact_without: float
    exact_adapted: float
    exact_teacher: float
    """mIoU of the teacher itself."""
    uplink_kbps: float
    """Mean over the time that the video played."""
    downlink_kbps: float
    """Mean over the time that the video played: what came after the first frame."""
    downlink_with_model_kbps: float
    """Mean from the start of the edge, the first model included."""
    first_model_kb: float
    """All that came before the first frame, in units of 1000 bytes."""
    edge_fps: float
    source_fps: float
    frames_run: int
    frames_dropped: int
    inference_p50_ms: float
    inference_p99_ms: float
    updates: int
    update_latency_median_s: float
    """From the capture of the newest frame to the switch to the update that learnt from it."""
    update_latency_max_s: float
    model_age_mean_s: float
    """Capture time less that of the newest frame that the running model has learnt from, once there was an update."""
    model_age_p95_s: float
    recording_s: float


def count_numbers(result: DemoResult) -> Numbers:
    """Return the main numbers of a demo."""
    judgement, log = result.judgement, result.log
    exact, judge = judgement.exact, judgement.teacher_on_exact
    latencies_s = [swap.latency_s for swap in log.swaps if swap.latency_s is not None]
    age = spread(each.model_age_s for each in log.seconds if each.model_age_s is not None)
    before, total, played_s = _traffic(log)
    return Numbers(
        scored_frames=len(judgement.teacher.adapted.times_s),
        teacher_without=judgement.teacher.without.miou(),
        teacher_adapted=judgement.teacher.adapted.miou(),
        teacher_without_frame_mean=judgement.teacher.without.mean_frame_miou(),
        teacher_adapted_frame_mean=judgement.teacher.adapted.mean_frame_miou(),
        exact_without=exact.without.miou() if exact else math.nan,
        exact_adapted=exact.adapted.miou() if exact else math.nan,
        exact_teacher=judge.miou() if judge else math.nan,
        uplink_kbps=_kbps(total[0] - before[0], played_s),
        downlink_kbps=_kbps(total[1] - before[1], played_s),
        downlink_with_model_kbps=_kbps(total[1], result.edge_run_s),
        first_model_kb=before[1] / 1e3,
        edge_fps=len(judgement.shown) / judgement.duration_s,
        source_fps=judgement.source_frames / judgement.duration_s,
        frames_run=len(judgement.shown),
        frames_dropped=judgement.source_frames - len(judgement.shown),
        inference_p50_ms=log.inference_ms(0.5),
        inference_p99_ms=log.inference_ms(0.99),
        updates=len(log.swaps),
        update_latency_median_s=float(np.median(latencies_s)) if latencies_s else math.nan,
        update_latency_max_s=max(latencies_s, default=math.nan),
        model_age_mean_s=age.mean,
        model_age_p95_s=age.p95,
        recording_s=judgement.duration_s,
    )


def _traffic(log: RunLog) -> tuple[tuple[int, int], tuple[int, int], float]:
    """Return (uplink, downlink) bytes before the video played and in all, and the seconds from the first to the last report."""
    if not log.seconds:
        return (0, 0), (0, 0), math.nan
    first, last = log.seconds[0], log.seconds[-1]
    return (
        (first.uplink_bytes, first.downlink_bytes),
        (last.uplink_bytes, last.downlink_bytes),
        last.time_s - first.time_s or math.nan,
    )


def _kbps(size_bytes: int, duration_s: float) -> float:
    return size_bytes * 8e-3 / duration_s


def draw_tables(result: DemoResult, numbers: Numbers) -> Group:
    """Return the tables that end the demo: scores, and all that is no score."""
    scores = Table(box=box.SIMPLE_HEAD)
    scores.add_column("")
    for heading in ("without adaptation", "with adaptation", "gain"):
        scores.add_column(heading, justify="right")
    scores.add_row("mIoU against the teacher", *_scores(numbers.teacher_without, numbers.teacher_adapted))
    means = numbers.teacher_without_frame_mean, numbers.teacher_adapted_frame_mean
    scores.add_row("– mean over frames", *_scores(*means))
    if result.judgement.exact is not None:
        scores.add_row("mIoU against exact labels", *_scores(numbers.exact_without, numbers.exact_adapted))
        scores.add_row("– the teacher itself", percent(numbers.exact_teacher), "", "")
    rest = Table(box=None, show_header=False, padding=(0, 2))
    for fact in facts(result.budgets, numbers):
        rest.add_row(*fact)
    return Group(scores, rest, "")


def facts(budgets: Budgets, numbers: Numbers) -> list[tuple[str, str, str]]:
    """Return (name, value, remark) of all that is no score."""
    latency = f"{number(numbers.update_latency_median_s, 2)} s median", f"{number(numbers.update_latency_max_s, 2)} s at most"
    age = f"{number(numbers.model_age_mean_s, 1)} s mean", f"{number(numbers.model_age_p95_s, 1)} s p95"
    first_model = f"first model {numbers.first_model_kb:.0f} kB"
    return [
        ("uplink", f"{number(numbers.uplink_kbps, 0)} kbit/s", _budget(budgets.uplink_kbps)),
        ("downlink, updates", f"{number(numbers.downlink_kbps, 0)} kbit/s", _budget(budgets.downlink_kbps)),
        (
            "downlink from the start",
            f"{number(numbers.downlink_with_model_kbps, 0)} kbit/s",
            first_model,
        ),
        ("edge", f"{numbers.edge_fps:.1f} frames/s", f"source {numbers.source_fps:.1f}, {numbers.frames_dropped} dropped"),
        ("inference", f"{number(numbers.inference_p50_ms, 1)} ms median", f"{number(numbers.inference_p99_ms, 1)} ms p99"),
        ("capture to swap", *_known(latency, numbers.update_latency_max_s)),
        ("updates", str(numbers.updates), ""),
        ("model age", *_known(age, numbers.model_age_mean_s)),
    ]


def _known(figures: tuple[str, str], value: float) -> tuple[str, str]:
    """Return `figures` of updates, or that there was none where `value` is not known."""
    return ("–", "no update took effect") if math.isnan(value) else figures


def percent(share: float) -> str:
    """Return 0..1 as a percentage with one decimal; a dash for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def points(gain: float) -> str:
    """Return a difference of mIoU, -1..1, in points with its sign, +0.0 where it rounds to nothing; a dash for NaN."""
    return "–" if math.isnan(gain) else f"{round(100 * gain, 1) + 0.0:+.1f}"


def number(value: float, decimals: int) -> str:
    """Return a number with so many decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def _scores(without: float, adapted: float) -> tuple[str, str, str]:
    return percent(without), percent(adapted), points(adapted - without)


def _budget(kbps: float) -> str:
    return f"budget {kbps:g}" if kbps else "no limit"


def write_json(result: DemoResult, numbers: Numbers, path: Path) -> None:
    """Write all numbers, those over time too; NaN becomes null."""
    judgement = result.judgement
    document = {
        "title": result.title,
        "numbers": dataclasses.asdict(numbers),
        "budgets": result.budgets._asdict(),
        "classes": list(result.classes.names),
        "phases": [phase._asdict() for phase in result.phases],
        "against_teacher": _comparison(judgement.teacher),
        "against_exact": _comparison(judgement.exact) if judgement.exact else None,
        "run": dataclasses.asdict(result.log),
        "commands": list(result.commands),
        "versions": result.versions,
    }
    path.write_text(json.dumps(_without_nan(document), indent=1) + "\n", encoding="utf-8")


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "times_s": comparison.adapted.times_s.tolist(),
        "window_s": WINDOW_S,
        "without": _score(comparison.without),
        "adapted": _score(comparison.adapted),
        "frame_gain": comparison.frame_gain().tolist(),
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "miou": score.miou(),
        "mean_frame_miou": score.mean_frame_miou(),
        "class_iou": score.class_iou().tolist(),
        "frame_miou": score.frame_miou().tolist(),
        "windowed_miou": score.windowed_miou().tolist(),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return value
