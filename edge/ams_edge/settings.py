"""All settings of `ams-edge`: the parts' own, and what belongs to the device as a whole."""

import re
import socket
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from ams_common.errors import ConfigurationError
from ams_common.settings import CommandSettings, PartConfig
from ams_common.video_formats import VideoCodec
from ams_edge.camera import CameraConfig
from ams_edge.frame_filter import FilterConfig
from ams_edge.link import LinkConfig
from ams_edge.runtime_config import RuntimeConfig
from ams_edge.sinks import SinkConfig
from ams_edge.store import StoreConfig

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _machine_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("._-")[:64] or "device"


class DeviceConfig(PartConfig):
    """The device and what it may use."""

    device_id: str = Field(default_factory=_machine_name)
    """Name of this device, unique among the devices of its server; by default the name of the machine."""
    uplink_kbps: float = Field(default=0.0, ge=0, le=1e9)
    """Budget from here to the server in kbit/s (1 kbit = 1000 bit); 0 for no limit but eight times the other budget: pictures
    then aim at 200, as in the paper."""
    downlink_kbps: float = Field(default=0.0, ge=0, le=1e9)
    """Budget from the server to here in kbit/s, the first model included; 0 for no limit but four times the other
    budget."""
    video_codec: VideoCodec = "h264"
    """Video codec of the frames to the server, h264, hevc or av1: the others take many times as long to encode, and the labels
    of their pictures are worse at equal bytes. Where the server cannot decode it, h264 is used."""
    student: str = ""
    """Student wanted from the server; by default the server's."""
    class_set: str = ""
    """Class set wanted from the server; by default the server's."""
    model: Path | None = None
    """A file of `ams-server provision`: runs at once, and spares the network the first model."""
    state_folder: Path = Path("~/.local/state/ams-edge")
    """Where the last good model is kept, for a start without the server; a folder for each device id."""

    @field_validator("device_id")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not DEVICE_ID.fullmatch(name):
            raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first")
        return name


class AgentSettings(
    CameraConfig, FilterConfig, LinkConfig, RuntimeConfig, StoreConfig, SinkConfig, DeviceConfig, CommandSettings
):
    """Run the model beside the camera, and keep it tuned to what the camera sees with the help of a server."""

    model_config = SettingsConfigDict(cli_prog_name="ams-edge")

    events: Path | None = None
    """Write what happens to this file, one JSON object a line."""
    verbose: bool = False
    """Log details too."""


def require_source_kept(settings: AgentSettings) -> None:
    """See that no output goes to the file that is played.

    Raises:
        ConfigurationError: it would be overwritten.
    """
    for flag, path in (("--overlay", settings.overlay), ("--events", settings.events)):
        if path is not None and _are_one(path, Path(settings.source)):
            raise ConfigurationError(f"{flag} {str(path)!r} would overwrite --source: name another file")


def _are_one(first: Path, second: Path) -> bool:
    """Tell whether both are there and the same file; what is wrong with one that cannot be looked at is told on opening it."""
    try:
        return first.samefile(second)
    except OSError:
        return False
