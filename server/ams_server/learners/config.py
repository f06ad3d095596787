"""How students learn; every field is a flag of `ams-server`."""

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from ams_common.settings import PartConfig

Scheme: TypeAlias = Literal["ams", "jit"]

THINGS = (
    *("person", "pedestrian", "rider", "bicyclist"),
    *("bicycle", "bike", "motorcycle", "motorbike", "car", "auto", "truck", "bus", "train", "aeroplane", "boat"),
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
)
"""Names of what moves or can be counted, in the built-in class sets and in Long Video Streams."""
MOST_FRAMES = 100_000
"""The longest stride that can be asked for."""


class LearnerConfig(PartConfig):
    """The way of learning."""

    scheme: Scheme = "ams"
    """Adaptive Model Streaming, or just-in-time distillation: on single frames, several a second, until each is learnt."""


class JustInTimeConfig(PartConfig):
    """Just-in-time distillation (Algorithm 1 of its paper); used with --scheme jit."""

    jit_accuracy: float = Field(default=0.75, gt=0, le=1)
    """mIoU with the teacher on a frame from which on the frame counts as learnt, a_thresh of the paper."""
    jit_max_updates: int = Field(default=8, ge=1, le=1000)
    """Optimiser steps on one frame at most, u_max of the paper."""
    jit_min_stride: int = Field(default=8, ge=1, le=MOST_FRAMES)
    """Frames of the camera from one labelled frame to the next at least, delta_min of the paper; it starts there."""
    jit_max_stride: int = Field(default=64, ge=1, le=MOST_FRAMES)
    """Frames of the camera from one labelled frame to the next at most, delta_max of the paper."""
    jit_camera_hz: float = Field(default=30.0, gt=0, le=240)
    """Frames per second that a stride counts, whatever the rate of a camera is."""
    jit_learning_rate: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Step size of gradient descent, whose momentum is 0.9; 0 for 0.001, or 0.0003 for a student whose batch norm
    is folded into its convolutions or has seen nothing yet. The paper has 0.01."""
    jit_box_weight: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Weight of the loss in boxes around things; elsewhere it is 1."""
    jit_box_dilation: float = Field(default=0.15, ge=0, le=10)
    """Part of its width and height by which a box is enlarged."""
    jit_box_classes: list[str] = Field(default_factory=lambda: list(THINGS))
    """Classes whose connected regions get boxes, where the student has them; by default people, vehicles and animals."""

    @model_validator(mode="after")
    def _strides_ordered(self) -> "JustInTimeConfig":
        if self.jit_min_stride > self.jit_max_stride:
            raise ValueError(f"jit_min_stride={self.jit_min_stride} is above jit_max_stride={self.jit_max_stride}")
        return self
