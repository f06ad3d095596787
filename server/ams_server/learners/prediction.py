"""What a student in training says about a picture: the labels that a device with the same weights shows.

C: classes. H, W: input size of the student. h, w: size of its logits.
"""

import torch
from torch import Tensor

from ams_common.classes import UInt8Array
from ams_server.segmentation_loss import upsampled_logits
from ams_server.trainer import Trainer


def best_labels(logits: Tensor, size: tuple[int, int]) -> UInt8Array:
    """Return the best class of each pixel, uint8 [H, W] of `size` (H, W), by the logits of one image, [1, C, h, w]."""
    upsampled = upsampled_logits(logits.float(), size)
    labels: UInt8Array = upsampled[0].argmax(dim=0).to("cpu", torch.uint8).numpy()
    return labels


def student_labels(trainer: Trainer, image: UInt8Array) -> UInt8Array:
    """Return the labels, uint8 [H, W], of an RGB picture, uint8 [H, W, 3], by the present weights; nothing else changes."""
    with torch.inference_mode():
        logits = trainer.logits(torch.tensor(image).permute(2, 0, 1)[None])
        return best_labels(logits, image.shape[:2])
