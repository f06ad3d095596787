"""Random images that are a little like pictures: large patches that run into each other, under fine noise."""

import torch
import torch.nn.functional as F
from torch import Tensor

_PATCHES = 8
_NOISE = 0.3


def random_images(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return float32 [count, 3, height, width], in the range of a student's normalised input: mostly within -2..2.

    White noise alone would not do: averaged over large fields it is grey, and linear attention divides by almost nothing.
    """
    patches = torch.randn(count, 3, _PATCHES, _PATCHES, generator=generator)
    smooth = F.interpolate(patches, size=(height, width), mode="bilinear", align_corners=False)
    return smooth + _NOISE * torch.randn(smooth.shape, generator=generator)
