"""Making the student that a configuration asks for."""

import torch
from torch import nn

from ams_common.classes import ClassSet, load_class_set
from ams_common.errors import ConfigurationError
from ams_server.students.config import StudentConfig
from ams_server.students.probe import random_images
from ams_server.students.registry import StudentSpec, find_student
from ams_server.students.weights import load_pretrained

_CALIBRATION_IMAGES = 4
_CALIBRATION_SIDE = 128


def create_student(config: StudentConfig, classes: ClassSet, seed: int) -> nn.Module:
    """Return the student in evaluation mode, so that batch-norm statistics stay as they are.

    Without pretrained weights everything is drawn from `seed`; the global random state stays as it is.

    Raises:
        ConfigurationError: unknown student or class set, or a size that the student cannot take.
        ModelError: the weights do not fit the student.
    """
    spec = find_student(config.student)
    check_size(spec, config.student_width, config.student_height)
    if config.student_weights is None:
        return random_student(spec, classes, seed)
    held = config.student_weights_classes
    source = load_class_set(held) if held else classes
    module = _built(spec, classes, seed)
    load_pretrained(module, config.student_weights, source, classes, seed=seed)
    return module


def random_student(spec: StudentSpec, classes: ClassSet, seed: int) -> nn.Module:
    """Return an untrained student in evaluation mode.

    Its batch-norm statistics are those of random images: with the identity, which a fresh batch norm is, the signal dies out
    on its way through the layers, and with frozen statistics such a network would never learn.
    """
    module = _built(spec, classes, seed)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.train()(random_images(_CALIBRATION_IMAGES, _CALIBRATION_SIDE, _CALIBRATION_SIDE, generator))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return module.eval()


def check_size(spec: StudentSpec, width: int, height: int) -> None:
    """Raise ConfigurationError where the student cannot take images of `width` x `height` pixels."""
    multiple = spec.size_multiple
    remainders = (width % multiple, height % multiple)
    fits = remainders == (0, 0) or (remainders == (1, 1) and spec.takes_one_more)
    if not fits or min(width, height) < multiple:
        allowed = f"multiples of {multiple}" + (", or both one more," if spec.takes_one_more else "")
        raise ConfigurationError(f"student size {width}x{height}: sides must be {allowed} for {spec.name}")


def _built(spec: StudentSpec, classes: ClassSet, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(len(classes)).eval()
