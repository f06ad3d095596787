"""Which student, from which weights, at which size."""

from pathlib import Path

from pydantic import Field

from ams_common.settings import PartConfig


class StudentConfig(PartConfig):
    """The student that is trained for each device."""

    student: str = "deeplabv3-mobilenetv2"
    """Architecture of the student: deeplabv3-mobilenetv2, deeplabv3plus-mobilenetv2, jitnet, jitnet-half, jitnet-quarter or
    efficientvit-b0."""
    student_weights: Path | None = None
    """Pretrained weights of the student, a safetensors file; without it the student starts from random weights."""
    student_weights_classes: str = ""
    """Class set of the head in the student's weights, a name or a TOML file; empty where it is the server's class set."""
    student_width: int = Field(default=512, ge=32, le=4096)
    """Width of the student's input in pixels, a multiple of 16 for DeepLab and of 32 for the others; both sides may also be one
    more than such multiples, but not for EfficientViT."""
    student_height: int = Field(default=256, ge=32, le=4096)
    """Height of the student's input in pixels."""
