"""EfficientViT-Seg as a teacher, from the published checkpoints as safetensors."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from ams_common.classes import ClassSet
from ams_common.errors import ConfigurationError
from ams_server.networks.efficientvit import STRIDE, HeadKind, efficientvit_seg, load_efficientvit
from ams_server.teachers.network import InputSize, NetworkTeacher, file_digest, identity_of

ADE20K_CLASSES = 150


def efficientvit_teacher(
    variant: str,
    weights: Path,
    classes: ClassSet,
    size: InputSize,
    device: torch.device,
    autocast: torch.dtype | None,
) -> NetworkTeacher:
    """Return EfficientViT-Seg `variant` ("b0" to "l2") with the weights of a safetensors file.

    A class set of 150 classes means the head of the ADE20K checkpoints, any other one that of the Cityscapes checkpoints.

    Raises:
        ConfigurationError: there is no such variant, or a side of the input is not a multiple of 32.
        ModelError: the weights cannot be read or are of another architecture.
    """
    if size.width % STRIDE or size.height % STRIDE:
        raise ConfigurationError(f"teacher size {size.width}x{size.height}: EfficientViT needs multiples of {STRIDE}")
    head: HeadKind = "ade20k" if len(classes) == ADE20K_CLASSES else "cityscapes"
    network = efficientvit_seg(variant, len(classes), head)
    load_efficientvit(network, weights)
    identity = identity_of("efficientvit", variant, classes.names, size, autocast, file_digest(weights))
    return NetworkTeacher(
        classes=classes, identity=identity, infer=_Inference(network, device, autocast), size=size, device=device
    )


class _Inference:
    """Runs the network, batch norms folded into the convolutions before them and memory in channels-last order."""

    def __init__(self, network: nn.Module, device: torch.device, autocast: torch.dtype | None) -> None:
        fold_batch_norms(network.eval())
        self._network = convert_conv2d_weight_memory_format(network.to(device), torch.channels_last)
        self._device = device
        self._autocast = autocast

    def __call__(self, images: Tensor) -> Tensor:
        """Map float32 [N, 3, h, w] to logits."""
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            logits: Tensor = self._network(images)
        return logits


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm `norm` of a module into the `conv` beside it, in place."""
    for module in network.modules():
        if isinstance(conv := getattr(module, "conv", None), nn.Conv2d) and isinstance(
            norm := getattr(module, "norm", None), nn.BatchNorm2d
        ):
            module.conv = fuse_conv_bn_eval(conv, norm)
            module.norm = nn.Identity()
