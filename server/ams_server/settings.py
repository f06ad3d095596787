"""All settings of `ams-server`: the parts' own, and what belongs to the server as a whole."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from ams_common.address import split_address
from ams_common.settings import CommandSettings, PartConfig
from ams_server.admin import AdminConfig
from ams_server.allotment import CapConfig
from ams_server.checkpoints import CheckpointConfig
from ams_server.frame_size import FrameConfig
from ams_server.learners.config import JustInTimeConfig, LearnerConfig
from ams_server.pacing import PacingConfig
from ams_server.presets import PRESETS
from ams_server.quantisation import QuantiserConfig
from ams_server.rate_control import RateControlConfig
from ams_server.sampling import SamplingConfig
from ams_server.service import WILDCARDS, ServiceConfig
from ams_server.students.config import StudentConfig
from ams_server.teachers.config import TeacherConfig
from ams_server.training_config import TrainingConfig


class LabelConfig(PartConfig):
    """What the student tells apart."""

    class_set: str = "cityscapes19"
    """Class set of the student's labels: cityscapes19, camvid11, voc21, ade20k32, ade20k150, street7, lvs9, or a TOML
    file."""
    classes: list[str] = Field(default_factory=list)
    """Names of the classes of that set to keep, all by default; the teacher's other labels are ignored."""
    codec: Literal["", "delta-rans", "gap-zstd", "mask-float16"] = ""
    """Update codec, delta-rans, gap-zstd or mask-float16; by default the first one that the device offers."""

    @field_validator("classes")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"names the class {name!r} twice")
        return names


class ComputeConfig(PartConfig):
    """Where teacher and students compute."""

    device: str = "auto"
    """Where teacher and students compute: auto (the GPU where there is one), cpu, cuda or cuda:N."""
    threads: int = Field(default=0, ge=0, le=256)
    """Threads of the CPU that compute; 0 for all cores."""


class AdaptationConfig(
    StudentConfig,
    TeacherConfig,
    LabelConfig,
    LearnerConfig,
    TrainingConfig,
    SamplingConfig,
    PacingConfig,
    JustInTimeConfig,
    QuantiserConfig,
    RateControlConfig,
    FrameConfig,
    ComputeConfig,
):
    """All that decides how a model is adapted, served or replayed."""

    @model_validator(mode="after")
    def _single_frames_have_no_batch(self) -> "AdaptationConfig":
        if self.scheme == "jit" and (self.batch_norm == "train" or self.restore_between_phases):
            raise ValueError(
                "scheme=jit learns one frame after another: it needs batch_norm=frozen, restore_between_phases=false"
            )
        return self


class ServerSettings(AdaptationConfig, ServiceConfig, CapConfig, AdminConfig, CheckpointConfig, CommandSettings):
    """Keep the models of devices tuned to what their cameras see. `ams-server provision` writes their first model to a file,
    `ams-server admin` shows the devices of a running server and changes their budgets."""

    model_config = SettingsConfigDict(cli_prog_name="ams-server")
    presets = PRESETS

    preset: Literal["default", "paper", "authors_code"] = "default"
    """Set of defaults: the product's own, those of the AMS paper, or those of its authors' experiments."""
    events: Path | None = None
    """Write what happens to this file, one JSON object a line."""
    verbose: bool = False
    """Log details too."""

    @model_validator(mode="after")
    def _people_and_devices_ask_at_different_ports(self) -> "ServerSettings":
        if self.admin_listen is None:
            return self
        (host, port), (admin_host, admin_port) = split_address(self.listen), split_address(self.admin_listen)
        if port == admin_port != 0 and (host == admin_host or {host, admin_host} & set(WILDCARDS)):
            raise ValueError(f"admin_listen={self.admin_listen} is where devices connect, listen={self.listen}: choose another")
        return self
