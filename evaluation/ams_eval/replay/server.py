"""The server of a replay: the product's scheduler on an accelerator that does one thing at a time, in virtual time."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ams_common.classes import UInt8Array
from ams_common.events import EventLog
from ams_common.messages import FrameBatch, ServerMessage, Update
from ams_eval.profile import Profile
from ams_eval.replay.latency import Latency
from ams_eval.replay.timeline import Timeline
from ams_eval.wrapped_teacher import WrappedTeacher
from ams_server.edge_session import EdgeSession
from ams_server.scheduler import Scheduler
from ams_server.teachers.base import Teacher

_RUN_ID = bytes(16)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a device at the server."""

    messages: Sequence[ServerMessage]
    """What it sent."""
    steps: int
    """Optimiser steps."""
    frames: int
    """Frames labelled."""
    label_s: float
    train_s: float
    code_s: float


@dataclass(kw_only=True, eq=False)
class Outbound:
    """The scheduler's way to one device: what a turn sends is handed on when the turn is over."""

    session: EdgeSession
    teacher: "CountingTeacher"
    """The one that labels for `session`."""
    deliver: Callable[[Turn], None]
    """Takes what a turn did, at the virtual time at which it ends."""
    backlog_of: Callable[[], int]
    collected: list[ServerMessage] = field(default_factory=list)

    def send(self, message: ServerMessage) -> None:
        """Collect a message of the present turn."""
        self.collected.append(message)

    @property
    def backlog(self) -> int:
        """Updates that wait to be written."""
        return self.backlog_of()


class CountingTeacher(WrappedTeacher):
    """Labels as another teacher does, and counts the frames."""

    def __init__(self, teacher: Teacher, *, starts_s: float = 0.0) -> None:
        """Label frames of a recording that starts at `starts_s` of virtual time; `teacher` sees times from its start."""
        super().__init__(teacher)
        self._starts_s = starts_s
        self.frames = 0
        """Frames labelled so far."""

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return the labels, uint8 [N, H, W], of RGB frames, uint8 [N, H, W, 3], captured at `capture_times_s`."""
        self.frames += len(images)
        return self._teacher.label(images, [time_s - self._starts_s for time_s in capture_times_s])


class ReplayServer:
    """Serves any number of devices in turns, as the product's scheduler orders them."""

    def __init__(self, timeline: Timeline, latency: Latency, profile: Profile) -> None:
        self._timeline = timeline
        self._profile = profile
        self._latency = latency
        self._scheduler = Scheduler(EventLog(None, timeline.clock), _fail, timeline.clock)
        self._outbounds: list[Outbound] = []
        self._busy = False
        self.busy_s = 0.0
        """Virtual time that the accelerator has worked."""

    def attach(self, outbound: Outbound) -> None:
        """Serve one more device."""
        self._scheduler.attach(outbound.session, outbound, _RUN_ID)
        self._outbounds.append(outbound)

    def submit(self, session: EdgeSession, batch: FrameBatch) -> None:
        """Take a batch that has arrived."""
        self._scheduler.submit(session, batch)
        if not self._busy:
            self._busy = True
            self._timeline.at(self._timeline.now_s, self._take_turn)

    def _take_turn(self) -> None:
        before = [(each.teacher.frames, each.session.steps_taken) for each in self._outbounds]
        with self._profile.part("training and coding"):
            worked, measured_s = self._timeline.clock.time(self._scheduler.run_turn)
        if not worked:
            self._busy = False
            return
        start_s, end_s = self._timeline.now_s, self._timeline.now_s
        for outbound, (frames, steps) in zip(self._outbounds, before, strict=True):
            turn = self._turn(outbound, outbound.teacher.frames - frames, outbound.session.steps_taken - steps)
            if not (turn.frames or turn.messages):
                continue
            end_s = start_s + (measured_s if self._latency.measured else turn.label_s + turn.train_s + turn.code_s)
            self._timeline.at(end_s, functools.partial(outbound.deliver, turn))
        self.busy_s += end_s - start_s
        self._timeline.at(end_s, self._take_turn)

    def _turn(self, outbound: Outbound, frames: int, steps: int) -> Turn:
        messages, outbound.collected = tuple(outbound.collected), []
        update = next((message for message in messages if isinstance(message, Update)), None)
        latency = self._latency
        label_s, train_s, code_s = frames * latency.label_s, steps * latency.step_s, latency.code_s if update else 0.0
        if latency.measured and update is not None:
            label_s, train_s, code_s = update.label_ms / 1e3, update.train_ms / 1e3, update.code_ms / 1e3
        return Turn(
            messages=messages,
            steps=steps,
            frames=frames,
            label_s=label_s,
            train_s=train_s,
            code_s=code_s,
        )


def _fail(error: BaseException) -> None:
    raise error
