"""How much a pixel of each class counts in training: small things are few pixels, but as much of the mean IoU as large ones."""

from torch import Tensor

LEAST_SHARE = 0.002
"""Classes of fewer pixels than this share weigh no more than one of it: what is so seldom is mostly labelled wrongly."""


def class_weights(class_pixels: Tensor, balance: float) -> Tensor:
    """Return the weight of a pixel of each class, float32 [C], for `class_pixels`, int64 [C], pixels of each that are labelled.

    It is the share of the class to the power of -`balance`, scaled so that the mean over all labelled pixels is 1; with a
    `balance` of 0 all weigh 1, with 1 the pixels of each class weigh the same together.
    """
    total = class_pixels.sum().clamp(min=1)
    shares = class_pixels.float() / total
    weights = shares.clamp(min=LEAST_SHARE).pow(-balance)
    mean = (weights * shares).sum() if class_pixels.any() else weights.new_ones(())
    return weights / mean
