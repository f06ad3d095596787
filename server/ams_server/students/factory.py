"""Making the student that a configuration asks for."""

import torch
from torch import nn

from ams_common.classes import ClassSet, load_class_set
from ams_common.errors import ConfigurationError
from ams_server.students.config import StudentConfig
from ams_server.students.registry import StudentSpec, find_student
from ams_server.students.weights import load_pretrained


def create_student(config: StudentConfig, classes: ClassSet, seed: int) -> nn.Module:
    """Return the student in evaluation mode, so that batch-norm statistics stay as they are.

    Weights that no file gives are drawn from `seed`; the global random state stays as it is.

    Raises:
        ConfigurationError: unknown student or class set, or a size that the student cannot take.
        ModelError: the weights do not fit the student.
    """
    spec = find_student(config.student)
    check_size(spec, config.student_width, config.student_height)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = spec.build(len(classes))
    if config.student_weights is not None:
        held = config.student_weights_classes
        load_pretrained(module, config.student_weights, load_class_set(held) if held else classes, classes, seed=seed)
    return module.eval()


def check_size(spec: StudentSpec, width: int, height: int) -> None:
    """Raise ConfigurationError where the student cannot take images of `width` x `height` pixels."""
    multiple = spec.size_multiple
    if width % multiple or height % multiple or min(width, height) < multiple:
        raise ConfigurationError(f"student size {width}x{height}: sides must be multiples of {multiple} for {spec.name}")
