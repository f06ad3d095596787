"""Adaptation as the product does it: AMS in its presets and variants, and just-in-time, by the stage's settings."""

from collections.abc import Iterator

from ams_eval.replay.device import ReplayDevice, Shown
from ams_eval.replay.latency import parse_latency
from ams_eval.replay.link import parse_link
from ams_eval.replay.server import CountingTeacher, ReplayServer
from ams_eval.replay.timeline import Timeline
from ams_eval.schemes.base import Stage


def label(stage: Stage) -> Iterator[Shown]:
    """Yield what a device shows whose model the server adapts."""
    timeline = stage.timeline()
    server = ReplayServer(timeline, parse_latency(stage.network.latency), stage.profile)
    device = connect(stage, timeline, server)
    for frame in stage.recording.frames():
        if stage.scores(frame):
            yield device.show(frame)
        device.learn(frame)


def connect(stage: Stage, timeline: Timeline, server: ReplayServer, device_id: str = "replay") -> ReplayDevice:
    """Return a device of `stage` with a session of its own at `server`.

    Raises:
        AmsError: the model cannot run or a setting cannot be used.
    """
    teacher = CountingTeacher(stage.teacher)
    return ReplayDevice(
        stage.model,
        stage.session(timeline, teacher, device_id),
        teacher=teacher,
        server=server,
        runtime=stage.runtime,
        link=parse_link(stage.network.link),
        latency=parse_latency(stage.network.latency),
        timeline=timeline,
        journal=stage.journal,
        profile=stage.profile,
    )
