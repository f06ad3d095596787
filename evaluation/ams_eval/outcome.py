"""What came out of one scheme on one recording: all that tables, plots and comparisons are made of.

Shapes: F frames, C classes, M moments. Times are capture times in seconds from the start of the recording.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ams_common.classes import UInt8Array
from ams_eval.scores import Score

Direction: TypeAlias = Literal["up", "down"]
TrafficKind: TypeAlias = Literal["frames", "labels", "update", "control", "model"]
"""Sampled frames; label maps (remote inference); changes of the weights; small messages; a whole model."""
SettingValue: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One message on its way between device and server."""

    time_s: float
    """When its last byte left the sender."""
    direction: Direction
    kind: TrafficKind
    payload_bytes: int
    """Bytes of video, coded parameters or labels alone; of a small message all."""
    wire_bytes: int
    """The same with the framing of protobuf, HTTP/2 and TCP/IP."""


@dataclass(frozen=True, kw_only=True)
class UpdateRecord:
    """A change of the running model. Durations that a run does not model are 0."""

    time_s: float
    """When the device switched to it."""
    version: int
    newest_capture_s: float
    """Capture time of the newest frame that it has learnt from."""
    payload_bytes: int
    changed: int
    """Parameters that it sent."""
    steps: int
    """Optimiser steps behind it."""
    loss: float
    """Mean training loss of these steps."""
    change_norm: float
    """Euclidean length of the change of the weights."""
    mask_overlap: float
    """Share of its parameters that the update before it changed too; NaN for the first one."""
    wait_s: float = 0.0
    """From the newest frame's capture until its batch was cut."""
    encode_s: float = 0.0
    """Waiting for the encoder included."""
    upload_s: float = 0.0
    """From the end of encoding to the arrival at the server, waiting for the budget included."""
    queue_s: float = 0.0
    """Waiting for the server's accelerator, and in it for older frames of the same device."""
    label_s: float = 0.0
    train_s: float = 0.0
    code_s: float = 0.0
    download_s: float = 0.0
    build_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ControlRecord:
    """What the server asked of the device from a time on."""

    time_s: float
    sampling_hz: float
    update_interval_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One scheme on one recording with one seed."""

    recording: str
    """Name of the recording."""
    recording_digest: str
    scheme: str
    """Name of the scheme as the user gave it."""
    seed: int
    settings: Mapping[str, SettingValue]
    """Everything else that decided the outcome, by the names of the flags: scheme, student, teacher, latency, link …"""
    classes: tuple[str, ...]
    """Names of the C classes that are scored."""
    teacher: Score
    """Against the teacher's labels of the original pictures, at the student's size."""
    human: Score | None
    """Against human or exact labels, of the frames that have some."""
    transfers: tuple[Transfer, ...]
    """In the order of time."""
    updates: tuple[UpdateRecord, ...]
    """In the order in which they took effect."""
    controls: tuple[ControlRecord, ...]
    """In the order of time; empty for a scheme that is not steered."""
    versions: npt.NDArray[np.int64]
    """Version of the model that labelled each frame, int64 [F]; 0 for the model as it came."""
    model_age_s: npt.NDArray[np.float64]
    """Time of each frame minus that of the newest frame its model has learnt from, float64 [F]; NaN for version 0."""
    frames_labelled: int
    """Frames that the server's teacher labelled for the scheme."""
    moment_frames: npt.NDArray[np.int64]
    """Indices of frames whose labels are kept, int64 [M]: the same for all schemes on a recording."""
    moment_labels: UInt8Array
    """What the scheme showed at them, uint8 [M, H, W] at the student's size, in the C classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Frames of one recording that reports may show."""

    frames: npt.NDArray[np.int64]
    """Indices, int64 [M]."""
    times_s: npt.NDArray[np.float64]
    """Capture times, float64 [M]."""
    pictures: UInt8Array
    """RGB, uint8 [M, h, w, 3], small."""
    teacher: UInt8Array
    """The teacher's labels, uint8 [M, H, W] at the student's size, in the scored classes; 255 where there is none."""
    human: UInt8Array | None
    """Human labels likewise; None where the recording has none; 255 everywhere for a frame without any."""
