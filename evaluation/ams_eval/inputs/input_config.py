"""Settings of what is evaluated."""

from pathlib import Path

from pydantic import Field

from ams_common.settings import PartConfig


class InputConfig(PartConfig):
    """What is taken of the recordings, and what their labels mean."""

    frame_rate_hz: float | None = Field(default=None, gt=0, le=1000)
    """Frames per second of a folder of frames."""
    timestamps: Path | None = None
    """Text file with the capture times of a folder of frames: one time in seconds a line, or a file name and a time."""
    human_labels: Path | None = None
    """Labels made by people: an npz file or a folder of PNG files. By default NAME.labels.npz or the folder NAME.labels beside
    the video or folder NAME, if --label-classes is given."""
    label_classes: str = ""
    """Class set of these labels, by name or TOML file; the known data sets have their own."""
    start_s: float = Field(default=0.0, ge=0)
    """Leave out what comes before this capture time, in seconds."""
    duration_s: float | None = Field(default=None, gt=0)
    """Seconds to take from there on; by default all."""
