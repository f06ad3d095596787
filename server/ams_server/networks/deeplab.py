"""DeepLabV3 and DeepLabV3+ on MobileNetV2 at output stride 16, with the two-branch ASPP of the mobile models.

Structure: Sandler et al., "MobileNetV2" (2018), table 2; Chen et al., "Rethinking Atrous Convolution" (2017) and
"Encoder-Decoder with Atrous Separable Convolution" (2018). The ASPP has image pooling and a 1x1 convolution only.

Where a feature lies in the image matters more here than any other choice. Bilinear upsampling with align_corners=False
puts logit i of stride 16 at pixel 16i + 7.5. Four stride-2 convolutions with symmetric zeros centre it on pixel 16i; with
zeros at the end in the fourth alone it is centred on 16i + 8, and weights that were trained with 32k + 1 sides and
align_corners=True keep their accuracy at even sizes (Pascal VOC weights on CamVid: IoU of cars 0.70 instead of 0.54).
The public decoder weights were trained at even sizes with zeros at the end in all four (ADE20K weights on CamVid: mean
IoU 0.65, with symmetric zeros 0.44). Over sides of 16k + 1 all strides see odd sizes, where there is nothing to choose. The
weights feel that they were trained so or not: at 257x193 instead of 256x192 (every eighth frame of one CamVid drive) the IoU
of cars is 0.61 instead of 0.49 with the Pascal VOC weights, the mean IoU 0.33 instead of 0.38 with those of the decoder.

Shapes: N images, C classes; H and W, sides of the input, multiples of 16, or both one more; quotients are rounded up.
"""

import torch
from torch import Tensor, nn

from ams_common.alignment import has_corner_logits
from ams_server.networks.layers import ConvNorm, Padding, upsampled

# Expansion, channels, blocks and stride of the first block of each stage; the sixth would have stride 2 at output stride 32.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1))
_STRIDE_16_BLOCK = 6
_FIRST_DILATED_BLOCK = 14
_LOW_LEVEL_BLOCK = 2
_HEAD_CHANNELS = 256
_LOW_LEVEL_CHANNELS = 48


class _InvertedResidual(nn.Module):
    """Block of MobileNetV2: 1x1 expansion, 3x3 depthwise, linear 1x1 projection, shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int, padding: Padding) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.has_shortcut = stride == 1 and inputs == outputs
        self.expand = ConvNorm(inputs, hidden, activation="relu6") if expansion > 1 else nn.Identity()
        self.dw = ConvNorm(
            hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden, padding=padding, activation="relu6"
        )
        self.project = ConvNorm(hidden, outputs, activation="none")

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output, and the hidden features that its projection reads."""
        hidden: Tensor = self.dw(self.expand(features))
        output: Tensor = self.project(hidden)
        return (features + output if self.has_shortcut else output), hidden


class DeepLabV3MobileNetV2(nn.Module):
    """The student of the AMS paper: 2,113,043 parameters at 19 classes; with `decoder` the DeepLabV3+ variant.

    Parameters carry the names of the layers in Google's mobile models: `stem`, `blocks.N.{expand,dw,project}`,
    `image_pooling`, `aspp0`, `concat_projection`, `feature_projection0`, `dec{0,1}_{dw,pw}`, `logits`.
    """

    def __init__(self, classes: int, *, width: float = 1.0, decoder: bool = False) -> None:
        super().__init__()
        channels = scaled_channels(32, width)
        self.stem = ConvNorm(3, channels, 3, stride=2, activation="relu6", padding="end" if decoder else "centred")
        self.blocks = _blocks(channels, width, pad_every_stride=decoder)
        channels = scaled_channels(320, width)
        self.image_pooling = ConvNorm(channels, _HEAD_CHANNELS)
        self.aspp0 = ConvNorm(channels, _HEAD_CHANNELS)
        self.concat_projection = ConvNorm(2 * _HEAD_CHANNELS, _HEAD_CHANNELS)
        self.has_decoder = decoder
        if decoder:
            joint = _HEAD_CHANNELS + _LOW_LEVEL_CHANNELS
            self.feature_projection0 = ConvNorm(6 * scaled_channels(24, width), _LOW_LEVEL_CHANNELS)
            self.dec0_dw = ConvNorm(joint, joint, 3, groups=joint)
            self.dec0_pw = ConvNorm(joint, _HEAD_CHANNELS)
            self.dec1_dw = ConvNorm(_HEAD_CHANNELS, _HEAD_CHANNELS, 3, groups=_HEAD_CHANNELS)
            self.dec1_pw = ConvNorm(_HEAD_CHANNELS, _HEAD_CHANNELS)
        self.logits = nn.Conv2d(_HEAD_CHANNELS, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised float32 [N, 3, H, W] to logits [N, C, H/16, W/16], with the decoder [N, C, H/4, W/4]."""
        features = low_level = self.stem(images)
        for index, block in enumerate(self.blocks):
            features, hidden = block(features)
            if index == _LOW_LEVEL_BLOCK:
                low_level = hidden
        features = self._pyramid(features)
        if self.has_decoder:
            corner_to_corner = has_corner_logits(images.shape[3], images.shape[2])
            features = self._decode(upsampled(features, 4, corner_to_corner=corner_to_corner), low_level)
        logits: Tensor = self.logits(features)
        return logits

    def _pyramid(self, features: Tensor) -> Tensor:
        pooled = self.image_pooling(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[2:])
        joined: Tensor = self.concat_projection(torch.cat([pooled, self.aspp0(features)], 1))
        return joined

    def _decode(self, features: Tensor, low_level: Tensor) -> Tensor:
        joined = self.dec0_dw(torch.cat([features, self.feature_projection0(low_level)], 1))
        decoded: Tensor = self.dec1_pw(self.dec1_dw(self.dec0_pw(joined)))
        return decoded


def _blocks(channels: int, width: float, *, pad_every_stride: bool) -> nn.ModuleList:
    blocks = nn.ModuleList()
    for expansion, base_channels, count, first_stride in _STAGES:
        outputs = scaled_channels(base_channels, width)
        for stride in (first_stride, *(1,) * (count - 1)):
            index = len(blocks)
            dilation = 2 if index >= _FIRST_DILATED_BLOCK else 1
            at_end = stride == 2 and (pad_every_stride or index == _STRIDE_16_BLOCK)
            padding: Padding = "end" if at_end else "centred"
            blocks.append(_InvertedResidual(channels, outputs, expansion, stride, dilation, padding))
            channels = outputs
    return blocks


def scaled_channels(channels: int, width: float) -> int:
    """Return `channels` times `width` as a multiple of 8, at least 8 and at least 90 % of the product."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels * width else rounded + 8
