"""The students that a server can train, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ams_common.errors import ConfigurationError
from ams_server.networks.deeplab import DeepLabV3MobileNetV2
from ams_server.networks.jitnet import JitNet


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """An architecture and the input that it expects."""

    name: str
    build: Callable[[int], nn.Module]
    """Makes the network for a number of classes; it maps normalised float32 [N, 3, H, W] to logits [N, C, h, w]."""
    mean: tuple[float, float, float]
    """Subtracted from RGB values in 0..255."""
    std: tuple[float, float, float]
    """Divides what remains."""
    size_multiple: int
    """Sides of the input must be multiples of this."""
    takes_one_more: bool
    """Whether both sides may also be one more than such multiples."""


_MINUS_ONE_TO_ONE = (127.5, 127.5, 127.5)
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


def _efficientvit_b0(classes: int) -> nn.Module:
    from ams_server.networks.efficientvit import efficientvit_seg

    return efficientvit_seg("b0", classes)


def _centred(name: str, build: Callable[[int], nn.Module], size_multiple: int) -> StudentSpec:
    mean = std = _MINUS_ONE_TO_ONE
    return StudentSpec(name=name, build=build, mean=mean, std=std, size_multiple=size_multiple, takes_one_more=True)


_SPECS = (
    _centred("deeplabv3-mobilenetv2", DeepLabV3MobileNetV2, 16),
    _centred("deeplabv3plus-mobilenetv2", lambda classes: DeepLabV3MobileNetV2(classes, decoder=True), 16),
    _centred("jitnet", JitNet, 32),
    _centred("jitnet-half", lambda classes: JitNet(classes, width=0.5), 32),
    _centred("jitnet-quarter", lambda classes: JitNet(classes, width=0.25), 32),
    StudentSpec(
        name="efficientvit-b0",
        build=_efficientvit_b0,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        size_multiple=32,
        takes_one_more=False,
    ),
)

STUDENTS: dict[str, StudentSpec] = {spec.name: spec for spec in _SPECS}


def find_student(name: str) -> StudentSpec:
    """Return the student of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in STUDENTS:
        raise ConfigurationError(f"unknown student {name!r}: use {', '.join(STUDENTS)}")
    return STUDENTS[name]
