"""What updates of a given budget are worth: trainer, rate control and update codec on their own, frame by frame.

No uplink, no edge, no clock: the student is trained on the frames as they are, labelled by the teacher, after each update
interval, and scores every frame with the weights that an edge would have decoded by then. A fraction of the time of
`ams-eval run`, whose figures are lower by what the uplink's compression costs. Flags are those of `ams-eval run`:

    python benchmarks/downlink_loop.py drives.m3u --downlink-kbps 12 --codec delta-rans --learning-rate-boost 2 \
        --teacher efficientvit-b0 --teacher-weights WEIGHTS [--preset paper] [--seed 1]
"""

import sys
from pathlib import Path

import numpy as np
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from ams_common.classes import UInt8Array
from ams_common.clock import SystemClock
from ams_common.iou import confusion_matrix
from ams_common.layout import Float32Array
from ams_common.settings import CommandSettings, load_settings
from ams_common.sparse_update import UpdateCodec, apply_update
from ams_common.update_codec import DEFAULT_CODEC, create_codec
from ams_eval.inputs.layouts import open_recordings
from ams_eval.references import FrameLabeller
from ams_eval.runner import ExperimentConfig, Workshop
from ams_eval.scores import Score
from ams_server.buffer import TrainingBuffer
from ams_server.flat_model import FlatModel
from ams_server.learners.base import at_size
from ams_server.learners.factory import buffer_capacity
from ams_server.learners.prediction import student_labels
from ams_server.presets import PRESETS
from ams_server.quantisation import encoding_plan
from ams_server.rate_control import parameter_limit
from ams_server.starting_model import student_classes
from ams_server.students.export import student_layout
from ams_server.students.factory import create_student
from ams_server.trainer import Trainer
from ams_server.wire_costs import largest_payload_bytes
from helpers.recorded_updates import RecordedUpdate, save_update

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class LoopSettings(ExperimentConfig, CommandSettings):
    """Train and score along one recording."""

    model_config = SettingsConfigDict(cli_prog_name="downlink_loop")
    presets = PRESETS

    video: CliPositionalArg[Path]
    """A video, a playlist or a folder."""
    preset: str = "default"
    """Set of defaults of the server."""
    record_updates: Path | None = None
    """Folder to which the updates are written, for update_codec.py."""


class Loop:
    """A student with what changes it; an edge would hold `base`."""

    def __init__(self, settings: LoopSettings) -> None:
        module = create_student(settings, student_classes(settings), settings.seed)
        layout = student_layout(module)
        self.settings = settings
        self.trainer = Trainer(FlatModel(module, layout), settings, mean=MEAN, std=STD)
        self.codec: UpdateCodec = create_codec(settings.codec or DEFAULT_CODEC, layout)
        self.base: Float32Array = self.trainer.vector()
        self.sizes_bytes: list[int] = []
        self._bits_per_parameter = 24.0

    def labels(self, image: UInt8Array) -> UInt8Array:
        """Return the student's labels of an image of its size."""
        return student_labels(self.trainer, image)

    def update(self, buffer: TrainingBuffer) -> None:
        """Train for a phase and go on from what an edge decodes."""
        settings, trainer = self.settings, self.trainer
        wire_bytes = 1000 * settings.downlink_kbps * settings.update_interval_s / 8
        limit_bytes = largest_payload_bytes(wire_bytes) if wire_bytes else None
        result = trainer.train_phase(buffer, parameter_limit(settings, self.codec, limit_bytes, self._bits_per_parameter))
        gradients, usual = trainer.squared_gradients(), trainer.usual_change
        plan = encoding_plan(settings, trainer.model.layout, gradients, usual_change=usual, limit_bytes=limit_bytes)
        target = trainer.vector()
        if settings.record_updates is not None:
            moving = RecordedUpdate(result.indices, self.base[result.indices], target[result.indices], plan)
            save_update(settings.record_updates, trainer.model.layout, moving)
        payload = self.codec.encode(self.base, target, result.indices, plan)
        self.base = apply_update(self.base, self.codec.decode(payload, self.base))
        trainer.adopt(self.base)
        self.sizes_bytes.append(len(payload))
        self._bits_per_parameter = 8 * len(payload) / max(1, len(result.indices))


def main() -> None:
    settings = load_settings(LoopSettings, sys.argv[1:])
    laboratory = Workshop(SystemClock()).laboratory(settings)
    (recording,) = open_recordings(settings.video, settings)
    size, classes, loop = (settings.student_width, settings.student_height), student_classes(settings), Loop(settings)
    labeller = FrameLabeller(recording, laboratory.cached_teacher, classes, size)
    buffer = TrainingBuffer(settings.horizon_s, buffer_capacity(settings), settings.recency_s)
    times_s, matrices, trained_s = [], [], 0.0
    for frame in recording.frames():
        image, labels = at_size(frame.image, labeller.reference(frame).teacher, size)
        matrices.append(confusion_matrix(labels, loop.labels(image), len(classes)))
        times_s.append(frame.capture_time_s)
        buffer.add(image, labels, frame.capture_time_s)
        if frame.capture_time_s - trained_s >= settings.update_interval_s:
            loop.update(buffer)
            trained_s = frame.capture_time_s
    score = Score(times_s=np.array(times_s), matrices=np.array(matrices))
    print(f"mIoU {100 * score.miou():.2f} %, in windows of 10 s {100 * np.nanmean(score.windowed_miou()):.2f} %")
    print(f"{8e-3 * sum(loop.sizes_bytes) / times_s[-1]:.1f} kbit/s of payload in {len(loop.sizes_bytes)} updates")


if __name__ == "__main__":
    main()
