"""Settings of the teacher."""

from pathlib import Path

from pydantic import Field

from ams_common.settings import PartConfig


class TeacherConfig(PartConfig):
    """Which teacher labels the frames, and how it sees them."""

    teacher: str = "efficientvit-b0"
    """efficientvit-b0, -b1, -b2, -b3, -l1 or -l2 (with --teacher-weights), hf:NAME or hf:FOLDER for a Hugging Face model,
    onnx:FILE for an ONNX model, labels:FILE.npz or labels:FOLDER of PNG files for labels made before."""
    teacher_weights: Path | None = None
    """Weights of an EfficientViT teacher, a safetensors file."""
    teacher_classes: str = ""
    """Class set of the teacher's labels, by name or TOML file; by default cityscapes19, or what a Hugging Face model names."""
    teacher_width: int = Field(default=960, ge=0, le=8192)
    """Width at which the teacher sees a frame, in pixels; 0 follows the height, or the frame if both are 0."""
    teacher_height: int = Field(default=0, ge=0, le=8192)
    """Height at which the teacher sees a frame, in pixels; 0 follows the width, or the frame if both are 0. Sides that follow
    keep the shape of the frame, up to 4 to 1, rounded up to a multiple of 32; an ONNX model of fixed size sees that size."""
    teacher_mean: list[float] = Field(default=[123.675, 116.28, 103.53], min_length=3, max_length=3)
    """Subtracted from RGB values in 0..255 before an ONNX teacher sees them; by default the mean of ImageNet."""
    teacher_std: list[float] = Field(default=[58.395, 57.12, 57.375], min_length=3, max_length=3)
    """Divides what remains; by default the standard deviation of ImageNet."""
    teacher_labels_hz: float | None = Field(default=None, gt=0)
    """Rate of the label maps of a labels: teacher, per second of capture time; the first belongs to time 0."""
