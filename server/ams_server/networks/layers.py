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
    """Convolution without bias, batch norm, activation; stride 1 keeps the size, stride 2 halves an even one.

    Over an even size the outputs of a stride-2 convolution cannot lie symmetrically: with padding "centred" output i is
    centred on input 2i (zeros on all sides), with "end" on input 2i + 1 (zeros after the last row and column only).
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
        self.pad = nn.ZeroPad2d((0, margin, 0, margin)) if padding == "end" else nn.Identity()
        inner = 0 if padding == "end" else margin
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, inner, dilation, groups, bias=False)
        self.norm = BatchNorm(outputs)
        self.activation = _ACTIVATIONS[activation]()

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        activated: Tensor = self.activation(self.norm(self.conv(self.pad(features))))
        return activated
