"""Adaptive sampling rate: as many frames a second as the labels change (section 3.2 of the paper), or as there is to learn.

phi compares the teacher's labels of two consecutive sampled frames; the rate follows its mean. In the paper phi is the task's
loss of one as a prediction of the other. For hard labels that is the share of the pixels that changed: the cross-entropy of a
hard prediction is finite only when smoothed, and with any smoothing e it is log((1 - e) (C - 1) / e) times this share plus a
constant, the same signal, whose scale and offset belong to the gain and the target. With the rule "error" the rate follows what
the student gets wrong in frames that it has not learnt from yet (`ams_server.learners.novelty`).
"""

import math
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from ams_common.classes import IGNORE, UInt8Array
from ams_common.iou import changed_share, confusion_matrix, mean_iou
from ams_common.settings import PartConfig
from ams_server.state import State, numbers

SamplingRule: TypeAlias = Literal["loss", "similarity", "error"]

# The authors' released controller: how far one update goes, how steeply, and around which mIoU.
SIMILARITY_STEP_HZ = 0.2
SIMILARITY_SLOPE = 20.0
SIMILARITY_TARGET = 0.6

# The paper publishes neither phi_target nor eta_r. Between the quartiles, teacher labels one second apart differ in 9 to 42 %
# of the pixels for a moving car and in 1 to 7 % for a fixed indoor camera, mostly flicker of the teacher. The default target
# lies between; by the default gain driving goes from least to most in four to five periods, as in the authors' code.
LOSS_TARGET, LOSS_GAIN_HZ = 0.08, 3.0

# Over ten seconds a student got up to 6 % more pixels wrong in new frames of a drive than in those it had learnt from, and 14 %
# more when people came in before a fixed indoor camera; 3 % less to 5 % more while they stayed. With this target the rate
# stayed at its most on that drive, and mIoU was that of the rule "loss" on both.
ERROR_TARGET, ERROR_GAIN_HZ = 0.02, 10.0

# Batches end at a frame, not at a multiple of the period: without slack every second update would wait for the next batch.
PERIOD_SLACK = 0.9


class SamplingConfig(PartConfig):
    """How many frames a second the edge sends."""

    sampling_rule: SamplingRule = "loss"
    """Follow the share of pixels whose label changed, the mIoU of consecutive label maps as the authors' code does, or by how
    much more the student gets wrong in new frames than in those it has learnt from."""
    min_sampling_hz: float = Field(default=0.1, gt=0, le=60)
    """Least frames per second of capture time."""
    max_sampling_hz: float = Field(default=1.0, gt=0, le=60)
    """Most frames per second of capture time; the rate starts here."""
    sampling_target: float = Field(default=0.0, ge=0, le=1)
    """Share of changed pixels between consecutive samples that the rule "loss" steers to, phi_target of the paper, or share of
    wrong pixels that "error" does; 0 for 0.08 and 0.02."""
    sampling_gain_hz: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Change of the rate per unit of distance from the target, eta_r of the paper; 0 for 3 with "loss" and 10 with "error"."""
    sampling_period_s: float = Field(default=10.0, gt=0, le=3600)
    """Seconds of capture time between two changes of the rate, delta_t of the paper."""

    @model_validator(mode="after")
    def _ordered(self) -> "SamplingConfig":
        if self.min_sampling_hz > self.max_sampling_hz:
            raise ValueError(f"min_sampling_hz={self.min_sampling_hz} is above max_sampling_hz={self.max_sampling_hz}")
        return self


class SamplingController:
    """Adapts the sampling rate of one device to its teacher labels, or to what its student gets wrong."""

    def __init__(self, config: SamplingConfig) -> None:
        self._config = config
        self._rate_hz = config.max_sampling_hz
        self._scores: list[float] = []
        self._updated_s: float | None = None

    @property
    def least_hz(self) -> float:
        """Least frames per second."""
        return self._config.min_sampling_hz

    @property
    def rate_hz(self) -> float:
        """Frames per second of capture time that the edge should send now."""
        return self._rate_hz

    def observe(self, previous: UInt8Array, current: UInt8Array) -> float | None:
        """Take the teacher's labels, uint8 [H, W], of two consecutive sampled frames.

        Returns phi, or None where no pixel has a label in both frames: that says nothing about the scene.
        """
        rule = label_similarity if self._config.sampling_rule == "similarity" else changed_share
        phi = rule(previous, current)
        self.add(phi)
        return phi

    def add(self, score: float | None) -> None:
        """Take what the rule follows, of one frame; None says nothing."""
        if score is not None:
            self._scores.append(score)

    def update(self, now_s: float) -> float:
        """Return the rate from capture time `now_s` on, in fps.

        It changes once a period, by the mean phi since its last change; without any phi it stays.
        """
        if not self._due(now_s):
            return self._rate_hz
        self._updated_s = now_s
        if self._scores:
            mean_phi = sum(self._scores) / len(self._scores)
            self._rate_hz = self._within_limits(self._rate_hz + self._change_hz(mean_phi))
            self._scores.clear()
        return self._rate_hz

    def state(self) -> State:
        """Return what a later controller needs to go on: the rate. Scores and times belong to the run of the device."""
        return {"rate_hz": np.array(self._rate_hz, np.float64)}

    def load_state(self, state: State) -> None:
        """Go on from `state`, within what this controller's own configuration allows.

        Raises:
            ModelError: it holds no rate.
        """
        self._rate_hz = self._within_limits(float(numbers(state, "rate_hz", (), most=math.inf)))

    def _within_limits(self, rate_hz: float) -> float:
        return min(max(rate_hz, self._config.min_sampling_hz), self._config.max_sampling_hz)

    def _due(self, now_s: float) -> bool:
        if self._updated_s is None:
            return True
        elapsed_s = now_s - self._updated_s
        # A capture clock that went back belongs to a new run of the edge.
        return elapsed_s < 0 or elapsed_s >= PERIOD_SLACK * self._config.sampling_period_s

    def _change_hz(self, mean_phi: float) -> float:
        config = self._config
        if config.sampling_rule == "similarity":
            return -SIMILARITY_STEP_HZ * math.tanh(SIMILARITY_SLOPE * (mean_phi - SIMILARITY_TARGET))
        by_loss = config.sampling_rule == "loss"
        gain_hz = config.sampling_gain_hz or (LOSS_GAIN_HZ if by_loss else ERROR_GAIN_HZ)
        return gain_hz * (mean_phi - (config.sampling_target or (LOSS_TARGET if by_loss else ERROR_TARGET)))


def label_similarity(previous: UInt8Array, current: UInt8Array) -> float | None:
    """Return the mIoU of two label maps (uint8 [H, W]) over pixels labelled in both; None where there are none."""
    matrix = confusion_matrix(previous, current, IGNORE)
    return mean_iou(matrix) if matrix.any() else None
