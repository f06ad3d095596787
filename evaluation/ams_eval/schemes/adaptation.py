"""Adaptation as the product does it: AMS in its presets and variants, and just-in-time, by the stage's settings."""

from collections.abc import Iterator

from ams_eval.replay.device import ReplayDevice, Shown
from ams_eval.replay.latency import parse_latency
from ams_eval.replay.link import parse_link
from ams_eval.replay.server import CountingTeacher, ReplayServer
from ams_eval.schemes.base import Stage


def label(stage: Stage) -> Iterator[Shown]:
    """Yield what a device shows whose model the server adapts."""
    timeline, latency = stage.timeline(), parse_latency(stage.network.latency)
    teacher = CountingTeacher(stage.teacher)
    device = ReplayDevice(
        stage.model,
        stage.session(timeline, teacher),
        teacher=teacher,
        server=ReplayServer(timeline, latency, stage.profile),
        runtime=stage.runtime,
        link=parse_link(stage.network.link),
        latency=latency,
        timeline=timeline,
        journal=stage.journal,
        profile=stage.profile,
    )
    for frame in stage.recording.frames():
        if stage.scores(frame):
            yield device.show(frame)
        device.learn(frame)
