"""Turns the teacher's settings into a teacher."""

from pathlib import Path

import torch

from ams_common.classes import CITYSCAPES19, ClassSet, load_class_set
from ams_common.errors import ConfigurationError
from ams_server.teachers.base import Teacher
from ams_server.teachers.config import TeacherConfig
from ams_server.teachers.efficientvit import efficientvit_teacher
from ams_server.teachers.huggingface import huggingface_teacher
from ams_server.teachers.network import RGB, InputSize
from ams_server.teachers.onnx_model import onnx_teacher
from ams_server.teachers.precomputed import precomputed_teacher

_EFFICIENTVIT = "efficientvit-"


def create_teacher(config: TeacherConfig, device: torch.device, autocast: torch.dtype | None) -> Teacher:
    """Return the teacher that `config` describes, on `device`, its matrix products in `autocast` if given.

    Raises:
        ConfigurationError: a setting is unknown, missing or does not fit the others.
        ModelError: a model or its weights cannot be used.
    """
    classes = load_class_set(config.teacher_classes) if config.teacher_classes else None
    size = InputSize(width=config.teacher_width, height=config.teacher_height)
    kind, _, place = config.teacher.partition(":")
    if config.teacher.startswith(_EFFICIENTVIT):
        return _efficientvit(config, classes or CITYSCAPES19, size, device, autocast)
    if not place or kind not in ("hf", "onnx", "labels"):
        raise ConfigurationError(
            f"unknown teacher {config.teacher!r}: use efficientvit-b0 to -l2, hf:NAME, onnx:FILE or labels:FILE"
        )
    if config.teacher_weights is not None:
        raise ConfigurationError(f"--teacher-weights is for an EfficientViT teacher, {config.teacher!r} names its own weights")
    if kind == "hf":
        return huggingface_teacher(place, classes, size, device, autocast)
    if kind == "onnx":
        mean, std = _rgb(config.teacher_mean), _rgb(config.teacher_std)
        return onnx_teacher(Path(place), classes or CITYSCAPES19, size, mean, std, device)
    return _precomputed(config, Path(place), classes or CITYSCAPES19)


def _efficientvit(
    config: TeacherConfig, classes: ClassSet, size: InputSize, device: torch.device, autocast: torch.dtype | None
) -> Teacher:
    if config.teacher_weights is None:
        raise ConfigurationError(f"teacher {config.teacher!r} needs --teacher-weights FILE.safetensors")
    variant = config.teacher.removeprefix(_EFFICIENTVIT)
    return efficientvit_teacher(variant, config.teacher_weights, classes, size, device, autocast)


def _rgb(values: list[float]) -> RGB:
    red, green, blue = values
    return red, green, blue


def _precomputed(config: TeacherConfig, path: Path, classes: ClassSet) -> Teacher:
    if config.teacher_labels_hz is None:
        raise ConfigurationError(f"teacher {config.teacher!r} needs --teacher-labels-hz, the rate of its labels")
    return precomputed_teacher(path, classes, config.teacher_labels_hz)
