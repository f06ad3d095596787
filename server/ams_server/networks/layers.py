"""The batch norm and the convolution that the student networks are made of.

Shapes: N images, C channels, H and W pixels.
"""

from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

Activation: TypeAlias = Literal["none", "relu", "relu6"]
Padding: TypeAlias = Literal["centred", "end"]

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6}


class BatchNorm(nn.BatchNorm2d):
    """Batch norm without the counter of seen batches, so that the running statistics are all its state.

    In training mode a channel with a single value has no variance; it is then normalised with the running statistics.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalise float32 [N, C, H, W]."""
        if self.training and input.numel() == self.num_features:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation; stride 1 keeps the size, stride 2 halves it and rounds up.

    Over an even size the outputs of a stride-2 convolution cannot lie symmetrically: with padding "centred" output i is
    centred on input 2i (zeros on all sides), with "end" on input 2i + 1 (zeros after the last row and column only). Over an
    odd size both put output i on input 2i.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        padding: Padding = "centred",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        margin = dilation * (kernel // 2)
        self.end_margin = margin if padding == "end" else 0
        inner = 0 if padding == "end" else margin
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, inner, dilation, groups, bias=False)
        self.norm = BatchNorm(outputs)
        self.activation = _ACTIVATIONS[activation]()

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 [N, inputs, H, W] to [N, outputs, H / stride, W / stride], rounded up."""
        if self.end_margin:
            features = _padded_at_end(features, self.end_margin)
        activated: Tensor = self.activation(self.norm(self.conv(features)))
        return activated


def _padded_at_end(features: Tensor, margin: int) -> Tensor:
    """Add zeros after the last row and column; where their number is odd, before the first too."""
    above, left = (margin if side % 2 else 0 for side in features.shape[2:])
    return F.pad(features, (left, margin, above, margin), "constant", 0.0)


def upsampled(features: Tensor, factor: int, *, corner_to_corner: bool) -> Tensor:
    """Enlarge float32 [N, C, H, W] bilinearly by `factor`, as `ams_common.alignment` says where features lie.

    A side of n becomes factor * n, or from corner to corner factor * (n - 1) + 1.
    """
    if not corner_to_corner:
        return F.interpolate(features, scale_factor=float(factor), mode="bilinear", align_corners=False)
    height, width = (factor * (side - 1) + 1 for side in features.shape[2:])
    return F.interpolate(features, (height, width), mode="bilinear", align_corners=True)
