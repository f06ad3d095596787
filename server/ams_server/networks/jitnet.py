"""JITNet, the student of "Online Model Distillation for Efficient Video Inference" (Mullapudi et al., 2019), section 3.1.

A compact encoder-decoder of pre-activation residual blocks whose second 3x3 convolution is a 1x3 and a 3x1. The paper's
"3 M parameters" are those of width 1.0, its "15.2 GFLOP at 720p" fit width 0.5.

Shapes: N images, C classes; H and W, sides of the input, multiples of 32, or both one more; quotients are rounded up.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ams_common.alignment import has_corner_logits
from ams_server.networks.layers import BatchNorm, ConvNorm, upsampled

_STEM = (16, 64)
_ENCODER = (128, 128, 256)
_DECODER = (256, 128, 64)
_TAIL = 64
_LAST = 32


class _Block(nn.Module):
    """Residual block; the shortcut is a 1x1 convolution where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm = BatchNorm(inputs)
        self.conv1 = ConvNorm(inputs, outputs, 3, stride=stride)
        self.conv2_1x3 = nn.Conv2d(outputs, outputs, (1, 3), padding=(0, 1))
        self.conv2_3x1 = nn.Conv2d(outputs, outputs, (3, 1), padding=(1, 0))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        active = F.relu(self.norm(features))
        residual: Tensor = self.conv2_3x1(self.conv2_1x3(self.conv1(active)))
        if self.shortcut is None:
            return residual + features[:, :, :: self.stride, :: self.stride]
        projected: Tensor = self.shortcut(active)
        return residual + projected


class JitNet(nn.Module):
    """JITNet with every layer's channels multiplied by `width`; at 19 classes 2,980,931 parameters, at width 0.5 752,251.

    The layer before the logits has 32 channels, or as many as the one before it where those are fewer, for any number of
    classes: so that a head can be exchanged for that of another class set.
    """

    def __init__(self, classes: int, *, width: float = 1.0) -> None:
        super().__init__()
        stem, encoder, decoder = (_scaled(channels, width) for channels in (_STEM, _ENCODER, _DECODER))
        (tail,) = _scaled((_TAIL,), width)
        last = min(_LAST, tail)
        self.stem = nn.Sequential(ConvNorm(3, stem[0], 3, stride=2), ConvNorm(stem[0], stem[1], 3, stride=2))
        self.encoder = nn.ModuleList(
            _Block(inputs, outputs, stride=2) for inputs, outputs in zip((stem[1], *encoder), encoder, strict=False)
        )
        skipped = (0, encoder[1], encoder[0])
        deeper = (encoder[2], *decoder)
        self.decoder = nn.ModuleList(
            _Block(skip + below, outputs, stride=1) for skip, below, outputs in zip(skipped, deeper, decoder, strict=False)
        )
        self.tail = nn.Sequential(ConvNorm(decoder[2], tail, 3), ConvNorm(tail, last, 3))
        self.logits = nn.Conv2d(last, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised float32 [N, 3, H, W] to logits [N, C, H/2, W/2]."""
        corner_to_corner = has_corner_logits(images.shape[3], images.shape[2])
        encoded: list[Tensor] = []
        features = self.stem(images)
        for block in self.encoder:
            features = block(features)
            encoded.append(features)
        features = upsampled(self.decoder[0](features), 2, corner_to_corner=corner_to_corner)
        features = self.decoder[1](torch.cat([encoded[1], features], 1))
        features = upsampled(features, 2, corner_to_corner=corner_to_corner)
        features = self.decoder[2](torch.cat([encoded[0], features], 1))
        features = upsampled(features, 4, corner_to_corner=corner_to_corner)
        logits: Tensor = self.logits(self.tail(features))
        return logits


def _scaled(channels: Sequence[int], width: float) -> tuple[int, ...]:
    return tuple(max(8, int(count * width)) for count in channels)
