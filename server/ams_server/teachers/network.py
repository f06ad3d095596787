"""A teacher that is a neural network: frames to its input, its output to labels.

Shapes: N frames of H x W pixels, seen by the network at h x w; C classes.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ams_common.classes import ClassSet, UInt8Array
from ams_common.errors import AmsError, ModelError, first_line

RGB: TypeAlias = tuple[float, float, float]
Infer: TypeAlias = Callable[[Tensor], Tensor]
"""Maps normalised images, float32 [N, 3, h, w], to logits, float [N, C, any, any], or to labels, integer [N, any, any]."""

IMAGENET_MEAN: RGB = (123.675, 116.28, 103.53)
IMAGENET_STD: RGB = (58.395, 57.12, 57.375)
SIDE_MULTIPLE = 32
"""Sides that follow the shape of a frame are rounded up to a multiple of this, the stride of nearly all networks."""
LONGEST_FOLLOWER = 4
"""A side that follows is at most so many times the given one: panoramas have 3.6, and a sliver would take gigabytes."""
RUN_PIXELS = 4 * 1024 * 1024
"""Pixels that one run on an accelerator sees; the rest of a batch waits, so that memory does not grow with the batch."""


@dataclass(frozen=True, kw_only=True)
class InputSize:
    """Size at which a network sees frames; a side of 0 follows the other one, or the frame if both are 0."""

    width: int = 0
    height: int = 0

    def of_frame(self, height: int, width: int) -> tuple[int, int]:
        """Return (h, w) for a frame of `height` x `width` pixels.

        Raises:
            ModelError: the side that follows would be more than LONGEST_FOLLOWER times the other one.
        """
        if self.width and self.height:
            return self.height, self.width
        scale = self.width / width if self.width else self.height / height if self.height else 1.0
        seen = self.height or _rounded_up(height * scale), self.width or _rounded_up(width * scale)
        if (self.width or self.height) and max(seen) > LONGEST_FOLLOWER * (self.width or self.height):
            raise ModelError(
                f"teacher would see a frame of {width}x{height} pixels at {seen[1]}x{seen[0]}: "
                "for so long a shape set both --teacher-width and --teacher-height"
            )
        return seen


@dataclass(frozen=True, kw_only=True)
class NetworkTeacher:
    """A Teacher around any function from images to logits or labels."""

    classes: ClassSet
    identity: str
    infer: Infer
    size: InputSize
    device: torch.device
    mean: RGB = IMAGENET_MEAN
    """Subtracted from RGB values in 0..255."""
    std: RGB = IMAGENET_STD
    """Divides what remains."""
    fixed_batch: int = 0
    """Frames that one run takes, for a network that takes no other number; 0 where it takes any."""

    def __post_init__(self) -> None:
        if min(self.std) <= 0:
            raise ModelError(f"teacher divides pixels by {self.std}: all three must be above 0")

    @torch.inference_mode()
    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return uint8 [N, H, W] for uint8 [N, H, W, 3]; logits are enlarged bilinearly before the best class is taken.

        Raises:
            ModelError: the network cannot take frames of this size, or knows other classes than `classes`.
        """
        count, height, width, _ = images.shape
        labels = np.empty((count, height, width), np.uint8)
        size = self.size.of_frame(height, width)
        for part in _parts(count, self.fixed_batch or frames_a_run(size, self.device)):
            labels[part] = self._labels(self._run(images[part], size), (height, width))
        return labels

    def _run(self, images: UInt8Array, size: tuple[int, int]) -> Tensor:
        try:
            return self.infer(network_input(images, size, self.mean, self.std, self.device))
        except AmsError:
            raise
        except Exception as error:  # whatever somebody else's model raises at a size that it cannot take, and too little memory
            height, width = size
            raise ModelError(f"teacher cannot label frames at {width}x{height}: {first_line(error)}") from error

    def _labels(self, output: Tensor, size: tuple[int, int]) -> UInt8Array:
        if not output.is_floating_point():
            return labels_from_map(output, len(self.classes), size)
        if output.shape[1] != len(self.classes):
            raise ModelError(
                f"teacher gives {output.shape[1]} classes, class set {self.classes.name!r} has {len(self.classes)}: "
                "set --teacher-classes"
            )
        return labels_from_logits(output, size)


def frames_a_run(size: tuple[int, int], device: torch.device) -> int:
    """Return how many frames of `size` (h, w) one run of the network takes: RUN_PIXELS of them, on a CPU a single one.

    The features of one frame stay in the caches of a CPU; more frames at once make it slower.
    """
    return 1 if device.type == "cpu" else max(1, RUN_PIXELS // (size[0] * size[1]))


def network_input(images: UInt8Array, size: tuple[int, int], mean: RGB, std: RGB, device: torch.device) -> Tensor:
    """Return float32 [N, 3, h, w] in channels-last memory: uint8 [N, H, W, 3] scaled to `size` (h, w) and normalised."""
    pixels = torch.from_numpy(np.require(images, np.uint8, ("C", "W"))).permute(0, 3, 1, 2)
    if device.type != "cpu":
        pixels = pixels.to(device).float()  # scaling bytes is fast on the CPU and unknown elsewhere
    if pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    scale = torch.tensor([1 / each for each in std], device=device).view(1, 3, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device).view(1, 3, 1, 1)
    return pixels.float().mul_(scale).sub_(shift)


def labels_from_logits(logits: Tensor, size: tuple[int, int]) -> UInt8Array:
    """Return uint8 [N, H, W], the best class of logits [N, C, any, any] enlarged bilinearly to `size` (H, W)."""
    labels = np.empty((len(logits), *size), np.uint8)
    # One frame at a time: enlarged logits are the largest tensor of all. Channels last makes the argmax three times faster.
    for index, each in enumerate(torch.split(logits.float().contiguous(memory_format=torch.channels_last), 1)):
        enlarged = F.interpolate(each, size, mode="bilinear", align_corners=False)
        labels[index] = enlarged.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    return labels


def labels_from_map(values: Tensor, classes: int, size: tuple[int, int]) -> UInt8Array:
    """Return uint8 [N, H, W]: integer labels [N, any, any] at `size` (H, W) by nearest neighbour, IGNORE where not a class."""
    known = values.masked_fill((values < 0) | (values >= classes), 255).to(torch.uint8)
    resized = F.interpolate(known.unsqueeze(1), size, mode="nearest-exact")
    return resized.squeeze(1).cpu().numpy()


def identity_of(*parts: object) -> str:
    """Return a digest of the parts' text, 32 hexadecimal digits."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Return a digest of the file's bytes, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _rounded_up(side: float) -> int:
    return -(-round(side) // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _parts(count: int, length: int) -> Iterator[slice]:
    for start in range(0, count, length):
        yield slice(start, start + length)
