"""Adaptation as the product does it: AMS in its presets and variants, and just-in-time, by the stage's settings."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ams_eval.replay.device import ReplayDevice, Shown
from ams_eval.replay.latency import parse_latency
from ams_eval.replay.server import CountingTeacher, ReplayServer
from ams_eval.replay.timeline import Timeline
from ams_eval.schemes.base import Stage
from ams_server.edge_session import EdgeSession
from ams_server.learners.base import Learner

LearnerMaker: TypeAlias = Callable[[Stage, EdgeSession], Learner]
"""Makes another way of learning for a session, which goes on with the session's own trainer."""


def label(stage: Stage, learner: LearnerMaker | None = None) -> Iterator[Shown]:
    """Yield what a device shows whose model the server adapts, as the settings say or by another `learner`."""
    timeline = stage.timeline()
    server = ReplayServer(timeline, parse_latency(stage.network.latency), stage.profile)
    device = connect(stage, timeline, server, learner=learner)
    for frame in stage.recording.frames():
        if stage.scores(frame):
            yield device.show(frame)
        device.learn(frame)


def connect(
    stage: Stage,
    timeline: Timeline,
    server: ReplayServer,
    *,
    device_id: str = "replay",
    learner: LearnerMaker | None = None,
) -> ReplayDevice:
    """Return a device of `stage` with a session of its own at `server`, in which `learner` may replace that of the settings.

    Raises:
        AmsError: the model cannot run or a setting cannot be used.
    """
    teacher = CountingTeacher(stage.teacher, starts_s=stage.journal.starts_s)
    session = stage.session(timeline, teacher, device_id)
    if learner is not None:
        session.learner = learner(stage, session)
        session.learner.least_interval_s = session.spending.least_interval_s
    return ReplayDevice(stage.model, session, teacher, server, stage.surroundings(timeline))
