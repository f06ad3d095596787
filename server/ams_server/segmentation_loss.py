"""Pixel cross-entropy of low-resolution logits against full-resolution teacher labels.

B: mini-batch. C: classes. H, W: size of the labels. h, w: size of the logits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ams_common.classes import IGNORE


def segmentation_loss(logits: Tensor, labels: Tensor, stride: int = 1) -> Tensor:
    """Return the mean cross-entropy over the labelled pixels, a float32 scalar; 0 where no pixel is labelled.

    The logits, [B, C, h, w], are upsampled bilinearly (align_corners=False, as inference does) to the size of the labels,
    uint8 [B, H, W]. Labels of C or more are ignored. With a `stride` above 1 the loss is taken at the centre of every
    stride x stride block only.
    """
    targets = _block_centres(labels, stride).long()
    targets = targets.masked_fill(targets >= logits.shape[1], IGNORE)
    upsampled = F.interpolate(logits.float(), targets.shape[1:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(upsampled, targets, ignore_index=IGNORE, reduction="sum")
    return total / torch.count_nonzero(targets != IGNORE).clamp(min=1)


def _block_centres(labels: Tensor, stride: int) -> Tensor:
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]
