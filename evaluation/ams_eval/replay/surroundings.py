"""What the device of a replay lives in."""

from dataclasses import dataclass

from ams_common.video_formats import VideoCodec
from ams_edge.frame_filter import FilterConfig
from ams_edge.runtime_config import RuntimeConfig
from ams_eval.profile import Profile
from ams_eval.replay.journal import Journal
from ams_eval.replay.latency import Latency
from ams_eval.replay.link import LinkShape
from ams_eval.replay.timeline import Timeline
from ams_eval.replay.torch_student import TorchStudent


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """Time, network and books of one device."""

    timeline: Timeline
    """May be shared with other devices."""
    link: LinkShape
    latency: Latency
    video_codec: VideoCodec
    """Of the frames that the device sends."""
    frame_filter: FilterConfig
    """Which of the frames that the server asks for it sends."""
    runtime: RuntimeConfig
    """How the device runs its model."""
    torch_student: TorchStudent | None = None
    """Labels in the place of ONNX Runtime, which still builds every version, as the device does."""
    journal: Journal
    """Takes what the device sends, receives and does."""
    profile: Profile
    """Takes how long work really takes."""
