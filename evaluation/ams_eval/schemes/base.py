"""What every scheme is: a way to label the frames of a recording, one after the other."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch

from ams_common.budget import even_rates
from ams_common.clock import Clock
from ams_common.layout import Float32Array
from ams_common.update_codec import DEFAULT_CODEC
from ams_edge.frame import Frame
from ams_edge.frame_filter import FilterConfig
from ams_eval.inputs.recording import Recording
from ams_eval.profile import Profile
from ams_eval.replay.device import Shown, StillDevice, starting_state
from ams_eval.replay.journal import Journal
from ams_eval.replay.latency import NetworkConfig, parse_latency
from ams_eval.replay.link import parse_link
from ams_eval.replay.server import CountingTeacher
from ams_eval.replay.student_config import StudentRuntimeConfig
from ams_eval.replay.surroundings import Surroundings
from ams_eval.replay.timeline import Timeline, VirtualClock
from ams_eval.replay.torch_student import TorchStudent
from ams_server.device_budget import DeviceBudget
from ams_server.edge_session import EdgeSession
from ams_server.flat_model import FlatModel
from ams_server.settings import AdaptationConfig
from ams_server.starting_model import StartingModel, new_session
from ams_server.teachers.base import Teacher
from ams_server.trainer import Trainer


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """All that a scheme has to work with; a new one for each run of a scheme."""

    recording: Recording
    scored_frames: frozenset[int]
    """Indices of the frames that are scored."""
    config: AdaptationConfig
    """Settings of the server, those of the scheme included."""
    model: StartingModel
    """The pretrained student; not to be changed, see `trainer`."""
    teacher: Teacher
    """Labels frames in its own classes."""
    device: torch.device
    """Where to train."""
    runtime: StudentRuntimeConfig
    network: NetworkConfig
    frame_filter: FilterConfig
    stopwatch: Clock
    """Real time, for `--latency measured`."""
    journal: Journal
    """Takes what is sent and done."""
    profile: Profile
    """Takes how long work really takes."""

    def scores(self, frame: Frame) -> bool:
        """Tell whether `frame` is scored; only such frames need labels."""
        return frame.index in self.scored_frames

    @property
    def budget(self) -> DeviceBudget:
        """What the device may send and receive."""
        return budget_of(self.network)

    def timeline(self) -> Timeline:
        """Return a timeline that starts at 0 s."""
        measured = parse_latency(self.network.latency).measured
        return Timeline(VirtualClock(self.stopwatch if measured else None))

    def surroundings(self, timeline: Timeline) -> Surroundings:
        """Return what a device on `timeline` lives in."""
        return Surroundings(
            timeline=timeline,
            link=parse_link(self.network.link),
            latency=parse_latency(self.network.latency),
            video_codec=self.network.video_codec,
            frame_filter=self.frame_filter,
            runtime=self.runtime,
            torch_student=TorchStudent(self.trainer()) if self.runtime.inference == "torch" else None,
            journal=self.journal,
            profile=self.profile,
        )

    def still_device(self, weights: Float32Array | None = None) -> StillDevice:
        """Return a device that runs the student with the pretrained `weights` or others, float32 [P]."""
        return StillDevice(starting_state(self.model, weights), self.surroundings(self.timeline()))

    def trainer(self) -> Trainer:
        """Return a trainer of a copy of the pretrained student, for schemes without a session."""
        manifest = self.model.manifest
        flat = FlatModel(copy.deepcopy(self.model.module), manifest.layout, self.device)
        return Trainer(flat, self.config, mean=manifest.mean, std=manifest.std)

    def session(self, timeline: Timeline, teacher: CountingTeacher, device_id: str = "replay") -> EdgeSession:
        """Return a session of the product's server for a device, labelled by `teacher`."""
        return new_session(
            self.config,
            self.model,
            teacher=teacher,
            device=self.device,
            clock=timeline.clock,
            device_id=device_id,
            budget=self.budget,
            codec=self.config.codec or DEFAULT_CODEC,
        )


def budget_of(network: NetworkConfig) -> DeviceBudget:
    """Return what a device of `network` may send and receive.

    Of two budgets each is at most so many times the other as in the product. One alone leaves the other direction without
    a limit, which the product does not: then nothing but this budget makes a difference.
    """
    uplink_bps, downlink_bps = round(1000 * network.uplink_kbps), round(1000 * network.downlink_kbps)
    if uplink_bps and downlink_bps:
        uplink_bps, downlink_bps = even_rates(uplink_bps, downlink_bps)
    return DeviceBudget(uplink_bps=uplink_bps, downlink_bps=downlink_bps)


Scheme: TypeAlias = Callable[[Stage], Iterator[Shown]]
"""Yields what is shown for each scored frame of the stage's recording, in order; the stage's journal takes what that cost."""
