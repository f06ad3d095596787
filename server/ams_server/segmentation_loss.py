"""Pixel cross-entropy of low-resolution logits against full-resolution teacher labels.

B: mini-batch. C: classes. H, W: size of the labels. h, w: size of the logits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ams_common.alignment import has_corner_logits
from ams_common.classes import IGNORE

# From this enlargement on two matrix products take less than half the time of torch's bilinear kernels on a CPU.
MATRIX_ENLARGEMENT = 4


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    stride: int = 1,
    *,
    pixel_weights: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy over the labelled pixels, a float32 scalar; 0 where no pixel is labelled.

    The logits, [B, C, h, w], are upsampled bilinearly to the size of the labels, uint8 [B, H, W], as inference does: see
    `ams_common.alignment`. Labels of C or more are ignored. With a `stride` above 1 the loss is taken at the centre of every
    stride x stride block only. `pixel_weights`, float32 [B, H, W], and `class_weights`, float32 [C] or longer, multiply the
    loss of each pixel; its count stays one.
    """
    targets = _block_centres(labels, stride).long()
    targets = targets.masked_fill(targets >= logits.shape[1], IGNORE)
    # The upsampled logits of one image fit the cache of a CPU, those of a batch do not: image by image takes half the time.
    images = len(logits) if logits.is_cuda else 1
    pieces = [torch.split(each, images) for each in (logits.float(), targets)]
    if pixel_weights is not None:
        pieces.append(torch.split(_block_centres(pixel_weights, stride), images))
    if class_weights is not None:
        class_weights = class_weights[: logits.shape[1]]
    size = (labels.shape[1], labels.shape[2])
    sums = [_summed_loss(*piece, size=size, stride=stride, class_weights=class_weights) for piece in zip(*pieces, strict=True)]
    total = torch.stack(sums).sum()
    return total / torch.count_nonzero(targets != IGNORE).clamp(min=1)


def upsampled_logits(logits: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Return the logits, [B, C, h, w], upsampled to `size` (H, W) as inference does, at the centre of every block only."""
    height, width = size
    if has_corner_logits(width, height):
        return _upsampled_corner_to_corner(logits, height, width, stride)
    return _upsampled(logits, *(len(range(stride // 2, side, stride)) for side in size))


def _block_centres(labels: Tensor, stride: int) -> Tensor:
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]


def _summed_loss(
    logits: Tensor,
    targets: Tensor,
    pixel_weights: Tensor | None = None,
    *,
    size: tuple[int, int],
    stride: int,
    class_weights: Tensor | None,
) -> Tensor:
    upsampled = upsampled_logits(logits, size, stride)
    if pixel_weights is None:
        return F.cross_entropy(upsampled, targets, class_weights, ignore_index=IGNORE, reduction="sum")
    losses = F.cross_entropy(upsampled, targets, class_weights, ignore_index=IGNORE, reduction="none")
    return (losses * pixel_weights).sum()


def _upsampled(logits: Tensor, height: int, width: int) -> Tensor:
    if logits.is_cuda or height < MATRIX_ENLARGEMENT * logits.shape[2]:
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
    return _weights(logits.shape[2], height).T @ (logits @ _weights(logits.shape[3], width))


def _upsampled_corner_to_corner(logits: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Return the upsampled logits at the centres of blocks, exactly: a grid of them has corners of its own."""
    rows, columns = (
        _weights(low, high, align_corners=True)[:, stride // 2 :: stride].to(logits.device)
        for low, high in ((logits.shape[2], height), (logits.shape[3], width))
    )
    return rows.T @ (logits @ columns)


def _weights(size: int, upsampled_size: int, *, align_corners: bool = False) -> Tensor:
    """Return float32 [size, upsampled_size]: what each sample adds to each upsampled one, along one side."""
    return F.interpolate(torch.eye(size)[None], upsampled_size, mode="linear", align_corners=align_corners)[0]
