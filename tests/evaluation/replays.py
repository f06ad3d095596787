"""A small world to replay: a blue sky over a grey road whose border moves, a teacher that reads colours, a tiny student."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tests.server.session_support import HEIGHT, WIDTH, ColourTeacher, picture, small_model, small_settings

from ams_common.classes import UInt8Array
from ams_common.clock import Clock, ManualClock
from ams_edge.frame import Frame
from ams_edge.frame_filter import FilterConfig
from ams_eval.inputs.recording import Recording
from ams_eval.profile import Profile
from ams_eval.replay.journal import Journal
from ams_eval.replay.latency import NetworkConfig
from ams_eval.replay.student_config import StudentRuntimeConfig
from ams_eval.schemes.base import Stage
from ams_server.settings import AdaptationConfig
from ams_server.teachers.base import Teacher

RATE_HZ = 5
SECONDS = 40


def border_at(index: int) -> int:
    return 14 + round(6 * math.sin(index / 9))


def film(seconds: float = SECONDS) -> Iterator[Frame]:
    for index in range(round(RATE_HZ * seconds)):
        yield Frame(picture(border_at(index)), index=index, capture_time_s=index / RATE_HZ)


def recording(seconds: float = SECONDS) -> Recording:
    return Recording(name="film", digest="f1", frame_count=round(RATE_HZ * seconds), frames=lambda: film(seconds))


def truth(index: int) -> UInt8Array:
    """Return where the film shows road (0) and sky (1)."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[: border_at(index)] = 1
    return labels


def config(**changes: Any) -> AdaptationConfig:
    """Return settings with which the small student learns the film."""
    values = {"steps": 15, "batch_size": 4, "fraction": 0.2, "learning_rate": 0.003, "update_interval_s": 4.0}
    rates = {"min_sampling_hz": 1.0, "max_sampling_hz": 1.0}
    made = small_settings(**{**values, **rates, **changes})
    return AdaptationConfig(**{name: getattr(made, name) for name in AdaptationConfig.model_fields})


def stage(
    *,
    seconds: float = SECONDS,
    teacher: Teacher | None = None,
    network: NetworkConfig | None = None,
    frame_filter: FilterConfig | None = None,
    stopwatch: Clock | None = None,
    runtime: StudentRuntimeConfig | None = None,
    **changes: Any,
) -> Stage:
    """Return a stage on which all frames of the film are scored."""
    clock = stopwatch or ManualClock()
    return Stage(
        recording=recording(seconds),
        scored_frames=frozenset(range(round(RATE_HZ * seconds))),
        config=config(**changes),
        model=small_model(),
        teacher=teacher or ColourTeacher(),
        device=torch.device("cpu"),
        runtime=runtime or StudentRuntimeConfig(),
        network=network or NetworkConfig(),
        frame_filter=frame_filter or FilterConfig(),
        stopwatch=clock,
        journal=Journal(),
        profile=Profile(clock),
    )
