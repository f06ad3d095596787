"""What the training of one device does; every field is a flag of `ams-server`."""

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from ams_server.learning_rate import LearningRateConfig

Selection: TypeAlias = Literal[
    "gradient_guided", "random", "first_layers", "last_layers", "first_and_last", "biases_and_last", "full", "gauss_southwell"
]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]


class TrainingConfig(LearningRateConfig):
    """One training phase (Algorithms 1 and 2 of the paper)."""

    steps: int = Field(default=20, ge=1, le=100_000)
    """Optimiser steps of a training phase, K of the paper."""
    batch_size: int = Field(default=8, ge=1, le=1024)
    """Frames of a mini-batch."""
    fraction: float = Field(default=0.05, gt=0, le=1)
    """Part of the trainable parameters that a phase changes, gamma of the paper."""
    selection: Selection = "gradient_guided"
    """How the parameters of a phase are chosen. Biases, scales and the last layer are few: with biases_and_last all of them
    move whatever --fraction says, or under a downlink budget the largest updates among them."""
    first_selection: Literal["random", "first_step"] = "random"
    """How gradient_guided chooses in the first phase: uniformly, or by the updates that its first step would make."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam (Algorithm 2), or gradient descent with momentum 0.9."""
    epsilon_inside_root: bool = True
    """Divide Adam's first moment by sqrt(v + 1e-8) as the paper does; else by sqrt(v) + 1e-8."""
    horizon_s: float = Field(default=240.0, gt=0, allow_inf_nan=False)
    """Seconds of capture time that training looks back, T_horizon of the paper."""
    recency_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    """The chance of a frame of the horizon to be drawn for a mini-batch falls by e in so many seconds of its age, down to a
    sixth; 0 for all frames alike, as the paper has them."""
    restore_between_phases: bool = False
    """Start every phase from the pretrained weights instead of the latest ones; moments are kept."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """Keep the running statistics of batch norm, or normalise by the mini-batch and send what the statistics become."""
    class_balance: float = Field(default=0.5, ge=0, le=1)
    """How much more a pixel of a rare class counts than one of a frequent class: its loss is divided by the share of its class
    among the labels of the horizon to this power; 0 for all pixels alike, as the AMS paper has them."""
    loss_stride: int = Field(default=1, ge=1, le=32)
    """Compute the loss on every n-th pixel of every n-th row; 4 costs a fraction of 1 on a CPU."""
    precision: Precision = "auto"
    """Arithmetic of forward and backward pass; weights and moments are always fp32."""
    seed: int = Field(default=0, ge=0)
    """Seed of mini-batches and random selections."""

    @model_validator(mode="after")
    def _batch_norm_needs_a_batch(self) -> "TrainingConfig":
        if self.batch_norm == "train" and self.batch_size == 1:
            raise ValueError("batch_norm=train needs a batch_size of at least 2: one image has no batch statistics")
        return self
