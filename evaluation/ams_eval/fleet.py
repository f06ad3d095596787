"""Several devices at one server: each plays its own recording, all share the time of one accelerator (AMS, appendix E)."""

import heapq
from collections.abc import Iterator, Sequence

from ams_edge.frame import Frame
from ams_eval.replay.device import Shown
from ams_eval.replay.latency import parse_latency
from ams_eval.replay.server import ReplayServer
from ams_eval.schemes.adaptation import connect
from ams_eval.schemes.base import Stage


class Fleet:
    """Devices that begin one after the other, evenly spread over an update interval, so that their batches do not collide."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Connect a device for each stage; their settings of network and latency are the same.

        Raises:
            AmsError: a model cannot run or a setting cannot be used.
        """
        self._stages = stages
        self._timeline = stages[0].timeline()
        latency = parse_latency(stages[0].network.latency)
        self._server = ReplayServer(self._timeline, latency, stages[0].profile)
        for index, stage in enumerate(stages):
            stage.journal.starts_s = index * stage.config.update_interval_s / len(stages)
        self._devices = [
            connect(stage, self._timeline, self._server, device_id=f"device-{index}") for index, stage in enumerate(stages)
        ]

    @property
    def busy_share(self) -> float:
        """Share of the time so far that the accelerator has worked, 0..1."""
        return self._server.busy_s / max(self._timeline.now_s, 1e-9)

    def label(self) -> Iterator[tuple[int, Shown]]:
        """Yield (device, what it shows) for each scored frame of each stage's recording, all in the order of time."""
        streams = [self._frames(index) for index in range(len(self._stages))]
        for _, index, frame in heapq.merge(*streams, key=lambda item: item[:2]):
            if self._stages[index].scores(frame):
                yield index, self._devices[index].show(frame)
            self._devices[index].learn(frame)

    def _frames(self, index: int) -> Iterator[tuple[float, int, Frame]]:
        stage = self._stages[index]
        for frame in stage.recording.frames():
            # Each pass through a recording makes frames of its own, so this device alone sees them later.
            frame.capture_time_s += stage.journal.starts_s
            yield frame.capture_time_s, index, frame
