"""A small made-up result of a demo, for the tests of what is made from it."""

from pathlib import Path

import numpy as np

from ams_common.classes import STREET7, UInt8Array
from ams_eval.judging import Judgement, Moment, Shown
from ams_eval.live import Budgets
from ams_eval.metrics import LATENCY_PARTS
from ams_eval.result import DemoResult, NamedPhase
from ams_eval.run_log import Batch, RunLog, Second, Swap
from ams_eval.scores import Comparison, Score, ScoreBuilder

TRUTH = np.repeat(np.arange(2, dtype=np.uint8), 8).reshape(4, 4)  # 8 pixels road, 8 sidewalk
POOR = np.where(np.arange(16).reshape(4, 4) % 4 == 0, 1 - TRUTH, TRUTH).astype(np.uint8)  # a quarter of both is wrong
FRAMES = 20
DURATION_S = 10.0


def second(index: int, *, version: int = 0, age_s: float | None = None) -> Second:
    return Second(
        time_s=101.0 + index,
        capture_time_s=1.0 + index,
        fps=10.0,
        infer_ms=(4.0, 6.0),
        version=version,
        sampling_hz=2.0,
        model_age_s=age_s,
        uplink_bytes=1000 + 12_500 * index,
        downlink_bytes=400_000 + 5_000 * index,
    )


def swap(version: int, time_s: float, latency_s: float | None) -> Swap:
    return Swap(
        time_s=time_s,
        version=version,
        payload_bytes=20_000,
        changed=9_000,
        loss=0.25,
        newest_capture_s=5.0 * version - 4.5,
        latency_s=latency_s,
        **way(latency_s),
    )


def way(latency_s: float | None) -> dict[str, float | None]:
    """Return the parts of a latency, of which the download takes what the others leave."""
    parts = {"wait": 0.0, "encode": 0.2, "upload": 0.1, "queue": 0.05, "label": 0.3, "train": 1.1, "code": 0.02, "build": 0.03}
    left_s = None if latency_s is None else latency_s - sum(parts.values())
    return {f"{part}_s": None if latency_s is None else parts.get(part, left_s) for part in LATENCY_PARTS}


def run_log() -> RunLog:
    return RunLog(
        seconds=(second(0), second(1), second(2), *(second(i, version=1, age_s=float(i)) for i in range(3, 10))),
        swaps=(swap(1, 102.5, 2.0), swap(2, 108.0, 3.0)),
        batches=(Batch(time_s=100.6, frames=2, payload_bytes=60_000, encode_ms=200.0, newest_capture_s=0.5),),
        intervals_s=((1, 5.0), (2, 7.0)),
    )


def score(predicted: UInt8Array) -> Score:
    builder = ScoreBuilder(len(STREET7))
    for index in range(FRAMES):
        builder.add(index * DURATION_S / FRAMES, TRUTH, predicted)
    return builder.build()


def moment(time_s: float, version: int = 1) -> Moment:
    picture = np.full((4, 4, 3), 90, np.uint8)
    return Moment(
        time_s=time_s,
        version=version,
        picture=picture,
        teacher=TRUTH,
        without=POOR,
        adapted=TRUTH,
        without_miou=0.6,
        adapted_miou=1.0,
    )


def judgement(*, exact: bool) -> Judgement:
    comparison = Comparison(without=score(POOR), adapted=score(TRUTH))
    return Judgement(
        teacher=comparison,
        exact=comparison if exact else None,
        teacher_on_exact=score(TRUTH) if exact else None,
        moments=(moment(1.0, 0), moment(7.0)),
        shown=tuple(Shown(Path(f"{i}.png"), i, i / 10, 0) for i in range(95)),
        source_frames=100,
        duration_s=DURATION_S,
    )


def demo_result(*, exact: bool = True, phases: bool = True, log: RunLog | None = None) -> DemoResult:
    return DemoResult(
        title="a <drawn> street",
        classes=STREET7,
        phases=(NamedPhase("day", 0.0, 5.0), NamedPhase("rain & fog", 5.0, 10.0)) if phases else (),
        budgets=Budgets(200.0, 300.0),
        judgement=judgement(exact=exact),
        log=log or run_log(),
        edge_run_s=20.0,
        commands=("ams-server --steps=5", "ams-edge --source='a & b.mp4'"),
        versions={"torch": "2.13.0"},
    )


NO_LOG = RunLog(seconds=(), swaps=(), batches=(), intervals_s=())
