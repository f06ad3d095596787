"""How long the work between a batch and its update takes in a replay."""

from dataclasses import dataclass

from pydantic import Field, field_validator

from ams_common.errors import ConfigurationError
from ams_common.settings import PartConfig
from ams_common.video_formats import VideoCodec
from ams_eval.replay.link import parse_link

_PARTS = ("encode", "label", "step", "code", "build")
_MOST_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of each kind of work; all 0 where they are measured."""

    measured: bool = False
    """Take the time that each work took on this machine instead."""
    encode_s: float = 0.0
    """Encoding a batch on the device."""
    label_s: float = 0.0
    """Labelling a frame."""
    step_s: float = 0.0
    """An optimiser step."""
    code_s: float = 0.0
    """Coding an update."""
    build_s: float = 0.0
    """Building and warming the new model on the device."""


class NetworkConfig(PartConfig):
    """How long things take between the capture of a frame and the model that has learnt from it."""

    latency: str = "none"
    """Time of the work: none as in published figures, measured as on this machine, or seconds for encoding a batch, labelling
    a frame, an optimiser step, coding an update and building a model: encode=0.3,label=0.25,step=0.04,code=0.05,build=0.02."""
    link: str = ""
    """Network: a rate, a delay of each direction and outages, such as 300kbit,50ms,outage=60-75; up=RATE and down=RATE for one
    direction; a trace file of seconds and kbit/s, or of mahimahi, in place of a rate. Without it bytes take no time."""
    uplink_kbps: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Budget of what the device sends, in kbit/s; 0 for no limit."""
    downlink_kbps: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Budget of what the device receives, in kbit/s; 0 for no limit."""

    video_codec: VideoCodec = "h264"
    """Video codec of the frames that the device sends, h264, hevc or av1."""

    @field_validator("latency")
    @classmethod
    def _latency_is_understood(cls, text: str) -> str:
        parse_latency(text)
        return text

    @field_validator("link")
    @classmethod
    def _link_is_understood(cls, text: str) -> str:
        parse_link(text)
        return text


def parse_latency(text: str) -> Latency:
    """Return the latency that `text` describes.

    Raises:
        ConfigurationError: it describes none.
    """
    if text in ("none", "measured"):
        return Latency(measured=text == "measured")
    costs: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in _PARTS or name in costs:
            raise ConfigurationError(f"unknown latency {part!r}: use none, measured, or NAME=SECONDS of {', '.join(_PARTS)}")
        costs[name] = _seconds(part, value)
    encode_s, label_s, step_s, code_s, build_s = (costs.get(name, 0.0) for name in _PARTS)
    return Latency(encode_s=encode_s, label_s=label_s, step_s=step_s, code_s=code_s, build_s=build_s)


def _seconds(part: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_S:
        raise ConfigurationError(f"latency {part!r} is no number of seconds from 0 to {_MOST_S:g}")
    return seconds
