"""EfficientViT-Seg: convolutions, then multi-scale linear attention, and a head that adds up three strides.

H. Cai et al., "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction", ICCV 2023. Parameters carry
the names of the checkpoints that the authors publish for Cityscapes and ADE20K.

Shapes: N images, C channels, H and W pixels, G attention heads of D channels each, L = H * W positions.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ams_common.errors import ConfigurationError, ModelError
from ams_server.networks.layers import BatchNorm

STRIDE = 32
"""Both sides of an image must be multiples of this."""
HeadKind: TypeAlias = Literal["cityscapes", "ade20k"]
_BlockKind: TypeAlias = Literal["mb", "fused"]
_LEAST_DENOMINATOR = 1e-15


@dataclass(frozen=True, kw_only=True)
class _HeadShape:
    width: int
    depth: int
    expansion: int
    final_expansion: int
    """Widening before the last convolution; 1 for none."""


@dataclass(frozen=True, kw_only=True)
class _Variant:
    widths: tuple[int, int, int, int, int]
    """Channels at stride 2, 4, 8, 16 and 32."""
    depths: tuple[int, int, int, int]
    """Blocks at stride 4, 8, 16 and 32 after the one that halves the resolution."""
    head_channels: int
    """Channels of one attention head."""
    large: bool
    """The L series: whole instead of depthwise convolutions at high resolution, and GELU."""
    heads: dict[HeadKind, _HeadShape]


def _small(width: int, depths: tuple[int, int, int, int], head_channels: int, head_depth: int) -> _Variant:
    shapes: dict[HeadKind, _HeadShape] = {
        "cityscapes": _HeadShape(width=4 * width, depth=head_depth, expansion=4, final_expansion=4),
        "ade20k": _HeadShape(width=4 * width, depth=head_depth, expansion=4, final_expansion=1),
    }
    widths = (width, 2 * width, 4 * width, 8 * width, 16 * width)
    return _Variant(widths=widths, depths=depths, head_channels=head_channels, large=False, heads=shapes)


def _large(depths: tuple[int, int, int, int], head_depth: int) -> _Variant:
    shapes: dict[HeadKind, _HeadShape] = {
        "cityscapes": _HeadShape(width=256, depth=head_depth, expansion=1, final_expansion=1),
        "ade20k": _HeadShape(width=128, depth=3, expansion=4, final_expansion=8),
    }
    return _Variant(widths=(32, 64, 128, 256, 512), depths=depths, head_channels=32, large=True, heads=shapes)


VARIANTS = {
    "b0": _small(8, (1, 1, 2, 2), 16, head_depth=1),
    "b1": _small(16, (1, 2, 3, 4), 16, head_depth=3),
    "b2": _small(24, (2, 3, 4, 6), 32, head_depth=3),
    "b3": _small(32, (3, 5, 6, 9), 32, head_depth=3),
    "l1": _large((1, 1, 6, 6), head_depth=3),
    "l2": _large((2, 2, 8, 8), head_depth=5),
}


def efficientvit_seg(variant: str, classes: int, head: HeadKind = "cityscapes") -> nn.Module:
    """Return the untrained network `variant` ("b0" to "b3", "l1", "l2") for `classes` classes.

    It maps normalised RGB, float32 [N, 3, H, W], to logits [N, classes, H / 8, W / 8]. `head` chooses between the two heads of
    the published checkpoints, which differ in width.

    Raises:
        ConfigurationError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise ConfigurationError(f"unknown EfficientViT variant {variant!r}: use {', '.join(VARIANTS)}")
    network = _EfficientViTSeg(VARIANTS[variant], classes, head)
    if VARIANTS[variant].large:
        _set_norm_epsilon(network, 1e-7)
    return network


def load_efficientvit(module: nn.Module, path: Path) -> None:
    """Fill `module` with the weights of a safetensors file; tensors of the file that it has no use for are left out.

    Raises:
        ModelError: the file cannot be read, lacks a tensor or has one of another shape.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name, tensor in module.state_dict().items():
                if name not in names:
                    raise ModelError(f"weights {str(path)!r} lack {name!r}: they are of another model than --teacher")
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    raise ModelError(
                        f"weights {str(path)!r} have {name!r} of shape {shape}, the model needs {tuple(tensor.shape)}: "
                        "do --teacher and --teacher-classes name what they were trained as?"
                    )
                tensor.copy_(file.get_tensor(name))
    except FileNotFoundError as error:
        raise ModelError(f"weights {str(path)!r} do not exist") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights {str(path)!r} are not a readable safetensors file: {error}") from error


class _EfficientViTSeg(nn.Module):
    def __init__(self, variant: _Variant, classes: int, head: HeadKind) -> None:
        super().__init__()
        self.backbone = _Backbone(variant)
        self.head = _Head(variant, variant.heads[head], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 [N, 3, H, W] to logits [N, classes, H / 8, W / 8]."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


class _Backbone(nn.Module):
    def __init__(self, variant: _Variant) -> None:
        super().__init__()
        stem = _named(op_list=_stem(variant))
        stages = [_named(op_list=_stage(variant, index)) for index in range(1, len(variant.widths))]
        # The published large checkpoints count the stem as a stage of its own.
        self.input_stem = nn.Identity() if variant.large else stem
        self.stages = nn.ModuleList([stem, *stages] if variant.large else stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features at stride 32, 16 and 8."""
        features = [self.input_stem(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[:-4:-1]


class _Head(nn.Module):
    def __init__(self, variant: _Variant, shape: _HeadShape, classes: int) -> None:
        super().__init__()
        act = _activation(variant)
        kind: _BlockKind = "fused" if variant.large else "mb"
        inputs = [_Conv(channels, shape.width) for channels in variant.widths[:1:-1]]
        self.input_ops = nn.ModuleList([_enlarged(inputs[0], 4), _enlarged(inputs[1], 2), inputs[2]])
        blocks = [_Residual(_block(kind, shape.width, shape.width, shape.expansion, act)) for _ in range(shape.depth)]
        self.middle = _named(op_list=nn.Sequential(*blocks))
        width = shape.width * shape.final_expansion
        final = [] if shape.final_expansion == 1 else [_Conv(shape.width, width, act=act)]
        self.output_ops = nn.ModuleList([_named(op_list=nn.Sequential(*final, _Conv(width, classes, bias=True, norm=False)))])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map features at stride 32, 16 and 8 to logits at stride 8."""
        low, middle, high = (layer(each) for layer, each in zip(self.input_ops, features, strict=True))
        logits: Tensor = self.output_ops[0](self.middle(low + middle + high))
        return logits


class _Conv(nn.Module):
    """Convolution, batch norm unless `norm` is False, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
        norm: bool = True,
        act: type[nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = BatchNorm(outputs) if norm else nn.Identity()
        self.act = act()

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        activated: Tensor = self.act(self.norm(self.conv(features)))
        return activated


class _TanhGELU(nn.GELU):
    def __init__(self) -> None:
        super().__init__(approximate="tanh")


class _Residual(nn.Module):
    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, features: Tensor) -> Tensor:
        """Add what `main` makes of the features to them."""
        changed: Tensor = self.main(features)
        return features + changed


class LinearAttention(nn.Module):
    """Attention with ReLU features instead of a softmax, over the pixels and over aggregates of 5 x 5 pixels (section 3.1)."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.head_channels = head_channels
        aggregated = 3 * channels
        self.qkv = _Conv(channels, aggregated, norm=False)
        depthwise = nn.Conv2d(aggregated, aggregated, 5, padding=2, groups=aggregated, bias=False)
        grouped = nn.Conv2d(aggregated, aggregated, 1, groups=aggregated // head_channels, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(depthwise, grouped)])
        self.proj = _Conv(2 * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        qkv = self.qkv(features)
        both = torch.cat((qkv, self.aggreg[0](qkv)), dim=1)
        projected: Tensor = self.proj(self.attend(both).to(both.dtype))
        return projected

    def attend(self, qkv: Tensor) -> Tensor:
        """Map queries, keys and values, [N, G * 3 * D, H, W], to float32 [N, G * D, H, W]."""
        images, _, height, width = qkv.shape
        # Sums over all positions need more than the 8 bits that bfloat16 has.
        with torch.autocast(qkv.device.type, enabled=False):
            heads = qkv.float().reshape(images, -1, 3 * self.head_channels, height * width)
            query, key, value = heads.chunk(3, dim=2)  # [N, G, D, L] each
            query, key = query.relu(), key.relu()
            context = value @ key.transpose(-1, -2)
            weight = key.sum(dim=-1).unsqueeze(-2) @ query
            # The weight is zero where all of the query is, and so is what it divides. A lower bound says the same as a tiny
            # addend, which optimisers of exported graphs take for zero.
            attended = (context @ query) / weight.clamp(min=_LEAST_DENOMINATOR)
        return attended.reshape(images, -1, height, width)


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _enlarged(layer: nn.Module, factor: int) -> nn.Module:
    return _named(op_list=nn.Sequential(layer, nn.Upsample(scale_factor=factor, mode="bicubic", align_corners=False)))


def _activation(variant: _Variant) -> type[nn.Module]:
    return _TanhGELU if variant.large else nn.Hardswish


def _stem(variant: _Variant) -> nn.Sequential:
    width, act = variant.widths[0], _activation(variant)
    if variant.large:
        block = _named(conv1=_Conv(width, width, 3, act=act), conv2=_Conv(width, width, 3))
    else:
        block = _named(depth_conv=_Conv(width, width, 3, depthwise=True, act=act), point_conv=_Conv(width, width))
    return nn.Sequential(_Conv(3, width, 3, stride=2, act=act), _Residual(block))


def _stage(variant: _Variant, index: int) -> nn.Sequential:
    """Return the blocks of stage `index` (1 to 4): one that halves the resolution, then `depths[index - 1]` that keep it."""
    inputs, width, act = variant.widths[index - 1], variant.widths[index], _activation(variant)
    lean = index >= 3
    kind: _BlockKind = "fused" if variant.large and not lean else "mb"
    expansion = 6 if variant.large and index == 4 else 4
    first = _block(kind, inputs, width, expansion * 4 if variant.large else 4, act, stride=2, lean=lean)
    blocks: list[nn.Module] = []
    for _ in range(variant.depths[index - 1]):
        block: nn.Module = _Residual(_block(kind, width, width, expansion, act, lean=lean))
        if index == 4 or (lean and not variant.large):
            block = _named(context_module=_Residual(LinearAttention(width, variant.head_channels)), local_module=block)
        blocks.append(block)
    return nn.Sequential(_named(main=first), *blocks)


def _block(
    kind: _BlockKind,
    inputs: int,
    outputs: int,
    expansion: int,
    act: type[nn.Module],
    *,
    stride: int = 1,
    lean: bool = False,
) -> nn.Sequential:
    """Return an inverted bottleneck; a lean one has biases in place of all batch norms but the last."""
    wide = inputs * expansion
    if kind == "fused":
        return _named(spatial_conv=_Conv(inputs, wide, 3, stride=stride, act=act), point_conv=_Conv(wide, outputs))
    return _named(
        inverted_conv=_Conv(inputs, wide, bias=lean, norm=not lean, act=act),
        depth_conv=_Conv(wide, wide, 3, stride=stride, depthwise=True, bias=lean, norm=not lean, act=act),
        point_conv=_Conv(wide, outputs),
    )


def _set_norm_epsilon(network: nn.Module, epsilon: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon
