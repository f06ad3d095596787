"""Offline oracle: the student is tuned beforehand on every fifth frame of the whole recording, the future included.

No device could be served so: this is what one fixed set of weights can come to. Nothing is sent, so no bytes are counted.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ams_common.errors import ConfigurationError
from ams_common.layout import Float32Array
from ams_eval.replay.device import Shown
from ams_eval.schemes.base import Stage
from ams_server.buffer import TrainingBuffer, capacity_for
from ams_server.learners.base import at_size

STRIDE = 5
"""One frame of so many is trained on; one of more where they would not fit into the training buffer."""
SETTINGS: Mapping[str, Any] = {
    "scheme": "ams",
    "selection": "full",
    "fraction": 1.0,
    "steps": 500,
    "learning_rate": 1e-3,
    "learning_rate_boost": 1.0,
}
"""What the scheme is made of, to be changed as `oracle:steps=2000`: 500 steps of 8 frames see each frame of a recording of a
minute at 30 frames a second 11 times; longer ones want more."""


def label(stage: Stage) -> Iterator[Shown]:
    """Yield the labels of a student that was tuned beforehand.

    Raises:
        ConfigurationError: training fails, at too high a learning rate for example.
    """
    device = stage.still_device(_tuned_weights(stage))
    for frame in stage.recording.frames():
        if stage.scores(frame):
            yield Shown(frame=frame, labels=device.labels(frame))


def _tuned_weights(stage: Stage) -> Float32Array:
    trainer, buffer = stage.trainer(), _labelled_frames(stage)
    with stage.profile.part("training and coding"):
        result = trainer.train_phase(buffer)
    if result.failure:
        raise ConfigurationError(f"the oracle cannot be trained: {result.failure}; try a lower learning_rate")
    return trainer.vector()


def _labelled_frames(stage: Stage) -> TrainingBuffer:
    manifest, teacher = stage.model.manifest, stage.teacher
    size = manifest.width, manifest.height
    room = capacity_for(math.inf, stage.config.max_sampling_hz, width=size[0], height=size[1])
    stride = STRIDE * math.ceil(stage.recording.frame_count / STRIDE / room)
    table = teacher.classes.lookup_into(manifest.classes)
    buffer = TrainingBuffer(math.inf, room)
    for frame in stage.recording.frames():
        if frame.index % stride == 0:
            image = frame.image
            labels = table[teacher.label(image[None], [frame.capture_time_s])[0]]
            buffer.add(*at_size(image, labels, size), frame.capture_time_s)
            stage.journal.frames_labelled += 1
    return buffer
