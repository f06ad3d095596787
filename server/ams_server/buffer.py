"""The labelled frames of the last seconds of capture time, from which mini-batches are drawn, new ones more often than old.

What the camera sees next is more like the last minute than like the four before it, while the older frames keep the student
from forgetting. On three drives of CamVid joined, drawing by age won 0.3, 0.8 and 0.9 points of mIoU with three seeds.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from ams_common.classes import IGNORE, UInt8Array

BUFFER_BYTES = 1 << 30
"""Memory that the samples of one device take at most."""
_BYTES_PER_PIXEL = 4
"""Red, green, blue and the label."""
LEAST_CHANCE = 1 / 6
"""Chance of an old sample to be drawn, relative to that of the newest one."""


def capacity_for(horizon_s: float, sampling_hz: float, *, width: int, height: int) -> int:
    """Return how many samples of `width` x `height` pixels come within the horizon, and fit into BUFFER_BYTES."""
    room = max(1, BUFFER_BYTES // (_BYTES_PER_PIXEL * width * height))
    # The product may be infinite.
    return math.floor(min(horizon_s * sampling_hz + 1, room))


@dataclass(frozen=True)
class TrainingSample:
    """One frame with the teacher's labels, at the student's input size."""

    image: Tensor
    """uint8 RGB [H, W, 3] on the CPU."""
    labels: Tensor
    """uint8 [H, W] on the CPU; 255 is ignored."""
    capture_time_s: float
    class_pixels: Tensor
    """Labelled pixels of each class, int64 [256] on the CPU; those of the ignored label are not counted."""


class TrainingBuffer:
    """Holds samples of the last `horizon_s` seconds behind the newest one, at most `capacity` of them; the oldest are dropped.

    B: mini-batch. H, W: the student's input size, the same for all samples.
    """

    def __init__(self, horizon_s: float, capacity: int, recency_s: float = 0.0) -> None:
        """Start empty; `capacity` bounds the memory whatever the rate of samples is (see `capacity_for`).

        The chance of a sample to be drawn falls by e in `recency_s` of its age, down to LEAST_CHANCE; 0 draws all alike.
        """
        assert horizon_s > 0
        assert capacity > 0
        assert recency_s >= 0
        self.horizon_s = horizon_s
        self._capacity = capacity
        self._recency_s = recency_s
        self._samples: list[TrainingSample] = []

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def capture_times_s(self) -> tuple[float, ...]:
        """Capture times of the samples, ascending."""
        return tuple(sample.capture_time_s for sample in self._samples)

    def add(self, image: UInt8Array, labels: UInt8Array, capture_time_s: float) -> None:
        """Take a copy of one frame, uint8 RGB [H, W, 3], and its labels, uint8 [H, W]; drop what it makes too old.

        A frame may arrive late; one that is itself older than the horizon is not kept.
        """
        assert image.shape == (*labels.shape, 3), f"image {image.shape} does not fit labels {labels.shape}"
        assert not self._samples or self._samples[0].labels.shape == labels.shape, "all samples have one size"
        sample = TrainingSample(torch.tensor(image), torch.tensor(labels), capture_time_s, _class_pixels(labels))
        bisect.insort(self._samples, sample, key=lambda each: each.capture_time_s)
        self._samples = self._recent()[-self._capacity :]

    @property
    def class_pixels(self) -> Tensor:
        """Labelled pixels of each class over all samples, int64 [256] on the CPU; 0 for the ignored label."""
        return sum((sample.class_pixels for sample in self._samples), torch.zeros(256, dtype=torch.int64))

    def newest(self, count: int) -> list[TrainingSample]:
        """Return the newest `count` samples, fewer where there are not so many, oldest first."""
        return self._samples[-count:]

    def clear(self) -> None:
        """Drop all samples: their capture times mean nothing on the clock of another run of the edge."""
        self._samples = []

    def sample(self, batch_size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw with replacement; the buffer must not be empty.

        Returns images, uint8 [B, 3, H, W] in channels_last memory format, and labels, uint8 [B, H, W], both on the CPU.
        """
        if self._recency_s:
            drawn = torch.multinomial(self._chances(), batch_size, replacement=True, generator=generator)
        else:
            drawn = torch.randint(len(self._samples), (batch_size,), generator=generator)
        return stack_samples([self._samples[index] for index in drawn.tolist()])

    def _chances(self) -> Tensor:
        ages_s = self._samples[-1].capture_time_s - torch.tensor(self.capture_times_s, dtype=torch.float64)
        return torch.exp(-ages_s / self._recency_s).clamp_min_(LEAST_CHANCE)

    def _recent(self) -> list[TrainingSample]:
        oldest_s = self._samples[-1].capture_time_s - self.horizon_s
        return [sample for sample in self._samples if sample.capture_time_s >= oldest_s]


def _class_pixels(labels: UInt8Array) -> Tensor:
    pixels = torch.from_numpy(np.bincount(labels.ravel(), minlength=256))
    pixels[IGNORE] = 0
    return pixels


def stack_samples(samples: Sequence[TrainingSample]) -> tuple[Tensor, Tensor]:
    """Return (images uint8 [B, 3, H, W] in channels_last memory format, labels uint8 [B, H, W]) of the samples."""
    images = torch.stack([sample.image for sample in samples])
    # Interleaved pixels seen as planes are channels_last already: nothing is moved.
    return images.permute(0, 3, 1, 2), torch.stack([sample.labels for sample in samples])
