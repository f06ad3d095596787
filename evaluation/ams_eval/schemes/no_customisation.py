"""No customisation: the pretrained student as it is; nothing is sent."""

from collections.abc import Iterator

from ams_eval.replay.device import Shown
from ams_eval.schemes.base import Stage


def label(stage: Stage) -> Iterator[Shown]:
    """Yield the pretrained student's labels."""
    device = stage.still_device()
    for frame in stage.recording.frames():
        if stage.scores(frame):
            yield Shown(frame=frame, labels=device.labels(frame))
