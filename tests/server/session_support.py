"""A teacher that knows colours, a small student that starts untrained, and batches of pictures for both."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from ams_common.classes import STREET7, UInt8Array
from ams_common.clock import Clock, ManualClock
from ams_common.messages import FrameBatch
from ams_common.update_codec import DEFAULT_CODEC
from ams_common.video_codec import encode_frames
from ams_common.video_formats import VIDEO_CODEC
from ams_server.device_budget import DeviceBudget
from ams_server.edge_session import EdgeSession
from ams_server.settings import ServerSettings
from ams_server.starting_model import StartingModel, new_session, starting_model
from ams_server.teachers.base import Teacher

WIDTH, HEIGHT = 64, 32
RUN = bytes(16)
UNLIMITED = DeviceBudget(uplink_bps=0, downlink_bps=0)
_ROAD, _SKY = STREET7.names.index("road"), STREET7.names.index("sky")


class ColourTeacher:
    """Calls blue sky and all else road."""

    classes = STREET7
    identity = "colours"

    def __init__(self, clock: ManualClock | None = None) -> None:
        """Take 50 ms of `clock` for each call."""
        self._clock = clock
        self.capture_times_s: list[float] = []

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        assert images.shape[0] == len(capture_times_s)
        self.capture_times_s += capture_times_s
        if self._clock is not None:
            self._clock.sleep(0.05)
        blue = images[..., 2].astype(int) > images[..., 0].astype(int) + 20
        return np.where(blue, _SKY, _ROAD).astype(np.uint8)


def small_settings(**changes: Any) -> ServerSettings:
    """Return settings of a student that trains in some hundredths of a second."""
    chosen: dict[str, Any] = {
        "student": "jitnet-quarter",
        "student_width": WIDTH,
        "student_height": HEIGHT,
        "class_set": "street7",
        "classes": ["road", "sky"],
        "steps": 2,
        "batch_size": 2,
        "fraction": 0.1,
        "precision": "fp32",
    }
    return ServerSettings(**{**chosen, **changes})


@cache
def small_model() -> StartingModel:
    """Return the starting model of `small_settings`, the same one for all tests."""
    return starting_model(small_settings())


def small_session(
    *,
    teacher: Teacher | None = None,
    clock: Clock | None = None,
    budget: DeviceBudget = UNLIMITED,
    codec: str = DEFAULT_CODEC,
    **changes: Any,
) -> EdgeSession:
    """Return the session of a device that runs `small_model`."""
    return new_session(
        small_settings(**changes),
        small_model(),
        teacher=teacher or ColourTeacher(),
        device=torch.device("cpu"),
        clock=clock or ManualClock(),
        device_id="camera-1",
        budget=budget,
        codec=codec,
    )


def picture(border: int, width: int = WIDTH, height: int = HEIGHT) -> UInt8Array:
    """Return an RGB picture that is blue above row `border` and grey below."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[:border] = (60, 120, 220)
    return image


def colour_batch(batch_id: int, *times_s: float, width: int = WIDTH, height: int = HEIGHT) -> FrameBatch:
    """Return a batch with a picture for each capture time, in seconds; the border moves from batch to batch."""
    images = [picture(6 + (5 * batch_id + index) % 20, width, height) for index in range(len(times_s))]
    times_us = tuple(round(1e6 * time_s) for time_s in times_s)
    return FrameBatch(
        batch_id=batch_id,
        video_codec=VIDEO_CODEC,
        width=width,
        height=height,
        capture_times_us=times_us,
        packets=encode_frames(images, target_bytes=100_000).packets,
    )
