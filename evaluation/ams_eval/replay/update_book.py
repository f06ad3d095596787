"""How each update of a device came about: when its newest batch passed each point on its way, and what the server did."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams_common.layout import Float32Array
from ams_common.messages import Update
from ams_eval.outcome import UpdateRecord
from ams_eval.replay.server import Turn
from ams_eval.replay.timeline import Timeline


@dataclass(kw_only=True)
class _Passage:
    """When a batch passed each point on its way, in virtual seconds."""

    newest_capture_s: float
    cut_s: float
    encoded_s: float = 0.0
    arrived_s: float = 0.0


class UpdateBook:
    """Takes note of the batches and turns of one device, and makes the records of its updates."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._passages: dict[int, _Passage] = {}
        self._turns: dict[int, tuple[Turn, float]] = {}
        """Turn that made a version, and when it ended."""
        self._last_changed: npt.NDArray[np.int64] | None = None

    def batch_cut(self, batch_id: int, *, newest_capture_s: float, cut_s: float) -> None:
        """Note that a batch was cut at `cut_s`, its newest frame captured at `newest_capture_s`."""
        self._passages[batch_id] = _Passage(newest_capture_s=newest_capture_s, cut_s=cut_s)

    def batch_encoded(self, batch_id: int) -> None:
        """Note that a batch is ready to be sent now."""
        self._passages[batch_id].encoded_s = self._timeline.now_s

    def batch_arrived(self, batch_id: int) -> None:
        """Note that the server has a batch now."""
        self._passages[batch_id].arrived_s = self._timeline.now_s

    def version_made(self, version: int, turn: Turn) -> None:
        """Note that `turn`, which ends now, has made a version of the model."""
        self._turns[version] = turn, self._timeline.now_s

    def record(self, update: Update, *, arrived_s: float, before: Float32Array, after: Float32Array) -> UpdateRecord:
        """Return the record of an update that takes effect now; it arrived at `arrived_s`.

        `before` and `after`, float32 [P], are the weights of the device.
        """
        changed = np.flatnonzero(before != after)
        turn, ended_s = self._turns.pop(update.version)
        passage = self._passages[update.newest_batch_id]
        now_s = self._timeline.now_s
        return UpdateRecord(
            time_s=now_s,
            version=update.version,
            newest_capture_s=update.newest_capture_time_us / 1e6,
            payload_bytes=len(update.payload),
            changed=update.changed,
            steps=turn.steps,
            loss=update.loss,
            change_norm=float(np.linalg.norm(after[changed].astype(np.float64) - before[changed])),
            mask_overlap=self._overlap(changed),
            wait_s=passage.cut_s - passage.newest_capture_s,
            encode_s=passage.encoded_s - passage.cut_s,
            upload_s=passage.arrived_s - passage.encoded_s,
            queue_s=max(0.0, ended_s - passage.arrived_s - turn.label_s - turn.train_s - turn.code_s),
            label_s=turn.label_s,
            train_s=turn.train_s,
            code_s=turn.code_s,
            download_s=arrived_s - ended_s,
            build_s=now_s - arrived_s,
        )

    def _overlap(self, changed: npt.NDArray[np.int64]) -> float:
        """Return the share of the `changed` parameters, int64 [any] ascending, that the last update changed too."""
        last, self._last_changed = self._last_changed, changed
        if last is None or not len(changed):
            return float("nan")
        return len(np.intersect1d(changed, last, assume_unique=True)) / len(changed)
