"""All settings of `ams-eval demo`, and the settings of server and edge that follow from them."""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ams_common.address import Address
from ams_common.classes import CITYSCAPES19, STREET7
from ams_common.errors import ConfigurationError
from ams_common.settings import CommandSettings
from ams_edge.settings import AgentSettings
from ams_server.device_budget import DeviceBudget, require_workable
from ams_server.frame_size import FrameConfig
from ams_server.pacing import PacingConfig
from ams_server.sampling import SamplingConfig
from ams_server.settings import LabelConfig, ServerSettings
from ams_server.students.config import StudentConfig
from ams_server.teachers.config import TeacherConfig
from ams_server.training_config import TrainingConfig

MODELS = Path(__file__).with_name("demo_models")
TEACHER_WEIGHTS = MODELS / "street_teacher.safetensors"
STUDENT_WEIGHTS = MODELS / "street_student.safetensors"
DEMO_TEACHER = "efficientvit-b0"
DEMO_TEACHER_WIDTH = 512
DEMO_STUDENT = "jitnet-quarter"
SIDE_MULTIPLE = 32
"""Sides of the student's input are multiples of this."""
_PARTS = (TeacherConfig, StudentConfig, LabelConfig, TrainingConfig, SamplingConfig, PacingConfig, FrameConfig)


class DemoSettings(
    TeacherConfig, StudentConfig, LabelConfig, TrainingConfig, SamplingConfig, PacingConfig, FrameConfig, CommandSettings
):
    """Show server and edge at work on a drawn street, or on a video of your own."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval demo")

    out: Path = Path("out/demo")
    """Folder for the report, the numbers and the logs."""
    video: Path | None = None
    """Video file to play instead of the drawn street; it needs a --teacher that knows such scenes."""
    uplink_kbps: float = Field(default=200.0, ge=0, allow_inf_nan=False)
    """Budget from edge to server in kbit/s; 0 for no limit."""
    downlink_kbps: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    """Budget from server to edge in kbit/s, the first model included; 0 for no limit."""
    device: str = "auto"
    """Where teacher and student compute: auto (the GPU where there is one), cpu, cuda or cuda:N."""
    threads: int = Field(default=1, ge=0, le=256)
    """Threads of the CPU that the server computes with, 0 for all cores; one leaves the other core to the edge."""

    teacher: str = ""
    """Teacher, as in `ams-server --teacher`; by default the demo's own, which knows the drawn street alone."""
    student: str = DEMO_STUDENT
    """Architecture of the student, as in `ams-server --student`; the demo has pretrained weights of jitnet-quarter."""
    student_width: int = Field(default=256, ge=32, le=4096)
    """Width of the student's input in pixels."""
    student_height: int = Field(default=0, ge=0, le=4096)
    """Height of the student's input in pixels; 0 follows the shape of the video."""
    class_set: str = ""
    """Class set of the student's labels; by default street7, and on a video of your own that of the teacher."""
    update_interval_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds between two updates, T_update of the paper; short, because the demo is."""
    max_sampling_hz: float = Field(default=2.0, gt=0, le=60)
    """Most frames per second that the edge sends; the rate starts here."""
    min_sampling_hz: float = Field(default=0.5, gt=0, le=60)
    """Least frames per second that the edge sends."""
    sampling_period_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds between two changes of the sampling rate."""
    fraction: float = Field(default=0.2, gt=0, le=1)
    """Part of the trainable parameters that a phase changes, gamma of the paper; large, because the demo's student is small."""
    loss_stride: int = Field(default=2, ge=1, le=32)
    """Compute the loss on every n-th pixel of every n-th row; 2 makes a phase on a CPU a fifth shorter."""
    horizon_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Seconds that training looks back, T_horizon of the paper; short, because the demo's scenes are."""


class VideoShape(NamedTuple):
    """Size of a video's pictures in pixels."""

    width: int
    height: int


def check_settings(settings: DemoSettings) -> None:
    """See that the settings go together.

    Raises:
        ConfigurationError: they do not, or the server would refuse the budgets.
    """
    budget = DeviceBudget(uplink_bps=round(1000 * settings.uplink_kbps), downlink_bps=round(1000 * settings.downlink_kbps))
    require_workable(budget, settings.update_interval_s)
    if settings.video is None:
        return
    if not settings.video.is_file():
        raise ConfigurationError(f"--video {str(settings.video)!r} is no file")
    if not settings.teacher:
        raise ConfigurationError(
            "--video needs --teacher: the demo's own teacher knows the drawn street alone; use efficientvit-b0 to -l2 with "
            "--teacher-weights FILE, hf:NAME, onnx:FILE or labels:FILE"
        )


def server_settings(settings: DemoSettings, shape: VideoShape, events: Path) -> ServerSettings:
    """Return the settings of the server for a video of `shape`, on a free port of this machine."""
    names = {name for part in _PARTS for name in part.model_fields}
    values = settings.model_dump(include=names) | _teacher_values(settings) | _student_values(settings, shape)
    if not settings.frame_width and not settings.frame_height:
        values |= _frame_values(shape, int(values["teacher_width"]))
    return ServerSettings(
        **values,
        listen="127.0.0.1:0",
        device=settings.device,
        threads=settings.threads,
        events=events,
        preset="default",
        state_folder=None,
        max_devices=1,
        verbose=False,
    )


def edge_settings(
    settings: DemoSettings, source: Path, server: Address, *, labels: Path, state_folder: Path, events: Path
) -> AgentSettings:
    """Return the settings of the edge that plays `source`."""
    return AgentSettings(
        source=str(source),
        server=server,
        device_id="demo",
        uplink_kbps=settings.uplink_kbps,
        downlink_kbps=settings.downlink_kbps,
        labels=labels,
        state_folder=state_folder,
        events=events,
    )


def command_flags(settings: CommandSettings) -> list[str]:
    """Return the command-line flags that make `settings` out of a command's defaults."""
    flags = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value != field.get_default(call_default_factory=True):
            flags.extend(_flag(name.replace("_", "-"), value))
    return flags


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [f"--{name}={each}" for each in values]


def _teacher_values(settings: DemoSettings) -> dict[str, Any]:
    if settings.teacher:
        return {}
    given = settings.model_fields_set
    return {
        "teacher": DEMO_TEACHER,
        "teacher_weights": TEACHER_WEIGHTS,
        "teacher_classes": STREET7.name,
        "teacher_width": settings.teacher_width if "teacher_width" in given else DEMO_TEACHER_WIDTH,
    }


def _student_values(settings: DemoSettings, shape: VideoShape) -> dict[str, Any]:
    own_teacher = settings.teacher_classes or CITYSCAPES19.name
    values: dict[str, Any] = {
        "class_set": settings.class_set or (own_teacher if settings.teacher else STREET7.name),
        "student_height": settings.student_height or _student_height(settings.student_width, shape),
    }
    if settings.student == DEMO_STUDENT and settings.student_weights is None:
        values |= {"student_weights": STUDENT_WEIGHTS, "student_weights_classes": STREET7.name}
    return values


def _student_height(width: int, shape: VideoShape) -> int:
    """Return the multiple of SIDE_MULTIPLE below the height that keeps the shape of the video."""
    return max(1, width * shape.height // shape.width // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _frame_values(shape: VideoShape, teacher_width: int) -> dict[str, int]:
    """Let the edge send what the teacher looks at, and no more pixels."""
    width = min(teacher_width or shape.width, shape.width) // 2 * 2
    return {"frame_width": width, "frame_height": round(width * shape.height / shape.width / 2) * 2}
