"""Made-up outcomes and moments, for the tests of what is written to disk and told from them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ams_eval.outcome import ControlRecord, Moments, Outcome, SettingValue, Transfer, UpdateRecord
from ams_eval.result_folder import Run
from ams_eval.scores import Score

CLASSES = ("road", "sky", "car")
FRAME_PERIOD_S = 0.5
HEIGHT, WIDTH = 6, 8
MOMENT_FRAMES = (1, 5, 9)


def score_of(shares: Sequence[float], *, seed: int = 0, pixels: int = 300, period_s: float = FRAME_PERIOD_S) -> Score:
    """Return a score in which about that share of each frame's pixels is right."""
    random = np.random.default_rng(seed)
    matrices = np.zeros((len(shares), len(CLASSES), len(CLASSES)), np.int64)
    for matrix, share in zip(matrices, shares, strict=True):
        wrong = (1 - share) / (len(CLASSES) - 1)
        chances = np.full((len(CLASSES), len(CLASSES)), wrong) + np.eye(len(CLASSES)) * (share - wrong)
        matrix[:] = [random.multinomial(pixels, row) for row in chances]
    return Score(times_s=np.arange(len(shares), dtype=np.float64) * period_s, matrices=matrices)


def transfer(time_s: float, direction: str, kind: str, payload_bytes: int) -> Transfer:
    return Transfer(
        time_s=time_s,
        direction="up" if direction == "up" else "down",
        kind=kind,  # type: ignore[arg-type]
        payload_bytes=payload_bytes,
        wire_bytes=payload_bytes + 100,
    )


def update(version: int, time_s: float, *, mask_overlap: float = 0.5, steps: int = 20) -> UpdateRecord:
    return UpdateRecord(
        time_s=time_s,
        version=version,
        newest_capture_s=time_s - 1.5,
        payload_bytes=4000,
        changed=900,
        steps=steps,
        loss=0.5 / version,
        change_norm=0.25,
        mask_overlap=mask_overlap,
        encode_s=0.1,
        label_s=0.3,
        train_s=1.0,
        download_s=0.1,
    )


def labels(seed: int, wrong: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return label maps of the moments, uint8 [M, H, W], of which that share differs from those of the teacher."""
    truth = np.broadcast_to(np.arange(HEIGHT, dtype=np.uint8)[:, None] // 2, (len(MOMENT_FRAMES), HEIGHT, WIDTH)).copy()
    random = np.random.default_rng(seed)
    mask = random.random(truth.shape) < wrong
    truth[mask] = (truth[mask] + 1) % len(CLASSES)
    return truth


def outcome(
    scheme: str = "ams",
    *,
    recording: str = "quay",
    share: float = 0.9,
    seed: int = 0,
    frames: int = 40,
    human: bool = True,
    settings: dict[str, SettingValue] | None = None,
) -> Outcome:
    """Return what a scheme might have done on a recording of two frames a second; `none` sends and changes nothing."""
    adapts = scheme != "none"
    start: dict[str, SettingValue] = {"student": "jitnet", "fraction": 0.05, "link": None}
    updates = (update(1, 5.0, mask_overlap=math.nan), update(2, 10.0), update(3, 15.0, steps=10)) if adapts else ()
    times_s = np.arange(frames, dtype=np.float64) * FRAME_PERIOD_S
    versions = np.searchsorted([each.time_s for each in updates], times_s, side="right").astype(np.int64)
    newest_s = np.array([math.nan, *(each.newest_capture_s for each in updates)])
    shares = np.where(versions > 0, share, 0.6)
    transfers = (
        transfer(0.0, "down", "model", 50_000),
        *(transfer(second + 0.9, "up", "frames", 2000) for second in range(frames // 2)),
        *(transfer(each.time_s - 0.1, "down", "update", each.payload_bytes) for each in updates),
    )
    return Outcome(
        recording=recording,
        recording_digest="abcd",
        scheme=scheme,
        seed=seed,
        settings=start | (settings or {}),
        classes=CLASSES,
        teacher=score_of(shares.tolist(), seed=seed),
        human=score_of((shares - 0.05).tolist()[::4], seed=seed + 1, period_s=4 * FRAME_PERIOD_S) if human else None,
        transfers=tuple(sorted(transfers, key=lambda each: each.time_s)) if adapts else (),
        updates=updates,
        controls=(
            ControlRecord(time_s=0.0, sampling_hz=1.0, update_interval_s=5.0),
            ControlRecord(time_s=8.0, sampling_hz=0.5, update_interval_s=7.0),
        )
        if adapts
        else (),
        versions=versions,
        model_age_s=np.asarray(times_s - newest_s[versions], np.float64),
        frames_labelled=20 if adapts else 0,
        moment_frames=np.array(MOMENT_FRAMES),
        moment_labels=labels(seed, 1 - share),
    )


def moments(*, human: bool = True) -> Moments:
    """Return pictures and references of MOMENT_FRAMES."""
    random = np.random.default_rng(3)
    return Moments(
        frames=np.array(MOMENT_FRAMES),
        times_s=np.array(MOMENT_FRAMES) * FRAME_PERIOD_S,
        pictures=random.integers(0, 255, (len(MOMENT_FRAMES), 2 * HEIGHT, 2 * WIDTH, 3), dtype=np.uint8),
        teacher=labels(0, 0.0),
        human=labels(0, 0.0) if human else None,
    )


def runs_of(*outcomes: Outcome) -> list[Run]:
    return [Run(folder=Path(), outcome=each, label=each.scheme) for each in outcomes]


RUNS = runs_of(outcome("none"), outcome("ams"), outcome("ams", seed=1, share=0.8))
