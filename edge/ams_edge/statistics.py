"""What the edge counts while it runs, for its event log and for the line a person reads now and then."""

import logging
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from ams_common.clock import Clock
from ams_common.events import EventLog
from ams_common.messages import Applied, FrameBatch, Update

REPORT_S = 1.0
"""Seconds between two "statistics" events."""
LOG_S = 10.0
"""Seconds between two lines of the ordinary log."""
REMEMBERED_BATCHES = 64
"""Batches whose time is kept until an update has learnt from them."""

_log = logging.getLogger(__name__)


class Rates(NamedTuple):
    """How fast things went."""

    fps: float
    uplink_kbps: float
    downlink_kbps: float

    def __str__(self) -> str:
        return f"{self.fps:.1f} frames/s, up {self.uplink_kbps:.0f} kbit/s, down {self.downlink_kbps:.0f} kbit/s"


class Totals(NamedTuple):
    """What was counted since the start, at one time."""

    time_s: float
    frames: int
    uplink_bytes: int
    downlink_bytes: int

    def since(self, earlier: "Totals") -> Rates:
        """Return the mean rates since `earlier`."""
        elapsed_s = self.time_s - earlier.time_s
        return Rates(
            fps=(self.frames - earlier.frames) / elapsed_s,
            uplink_kbps=(self.uplink_bytes - earlier.uplink_bytes) * 8e-3 / elapsed_s,
            downlink_kbps=(self.downlink_bytes - earlier.downlink_bytes) * 8e-3 / elapsed_s,
        )


class _Encoded(NamedTuple):
    """A batch of this run."""

    cut_s: float
    """When its interval was over, on the clock."""
    newest_us: int
    """Capture time of its newest frame."""


class Statistics:
    """Counts frames and times; every method belongs to one thread, stated there."""

    def __init__(self, clock: Clock, events: EventLog) -> None:
        self._clock = clock
        self._events = events
        self._infer_ms: list[float] = []
        self._frames = 0
        self._updates = 0
        self._reported = self._logged = Totals(clock.now_s(), 0, 0, 0)
        self._batches: OrderedDict[int, _Encoded] = OrderedDict()
        self._learnt_us: int | None = None

    def count_frame(self, infer_ms: float) -> None:
        """Count a frame that was run, with the time it took (inference thread)."""
        self._infer_ms.append(infer_ms)
        self._frames += 1

    def report(self, *, capture_time_us: int, version: int, sampling_hz: float, uplink_bytes: int, downlink_bytes: int) -> None:
        """Write statistics of the time since the last report, if REPORT_S seconds have passed (inference thread).

        `uplink_bytes` and `downlink_bytes` are totals since the start.
        """
        totals = Totals(self._clock.now_s(), self._frames, uplink_bytes, downlink_bytes)
        if totals.time_s - self._reported.time_s < REPORT_S or not self._infer_ms:
            return
        rates = totals.since(self._reported)
        self._events.write(
            "statistics",
            capture_time_s=round(capture_time_us / 1e6, 3),
            frames=totals.frames - self._reported.frames,
            fps=round(rates.fps, 2),
            infer_ms_p50=round(float(np.median(self._infer_ms)), 3),
            infer_ms_p99=round(float(np.quantile(self._infer_ms, 0.99)), 3),
            infer_ms=[round(each, 3) for each in self._infer_ms],
            version=version,
            sampling_hz=sampling_hz,
            model_age_s=self._model_age_s(capture_time_us),
            uplink_kbps=round(rates.uplink_kbps, 3),
            downlink_kbps=round(rates.downlink_kbps, 3),
            uplink_bytes=uplink_bytes,
            downlink_bytes=downlink_bytes,
        )
        self._reported = totals
        self._infer_ms.clear()
        if totals.time_s - self._logged.time_s >= LOG_S:
            _log.info("%s, version %d", totals.since(self._logged), version)
            self._logged = totals

    @property
    def summary(self) -> str:
        """What happened since the start, in a few words (inference thread)."""
        return f"{self._frames} frames were labelled, {self._updates} updates applied"

    def batch_encoded(self, batch: FrameBatch, encode_ms: float) -> None:
        """Note a batch that is handed to the link (encoder thread)."""
        newest_us = batch.capture_times_us[-1]
        self._batches[batch.batch_id] = _Encoded(cut_s=self._clock.now_s() - encode_ms / 1e3, newest_us=newest_us)
        while len(self._batches) > REMEMBERED_BATCHES:
            self._batches.popitem(last=False)
        self._events.write(
            "batch",
            batch_id=batch.batch_id,
            frames=len(batch.capture_times_us),
            payload_bytes=batch.payload_bytes,
            encode_ms=round(encode_ms, 3),
            newest_capture_s=newest_us / 1e6,
        )

    def applied(self, applied: Applied, update: Update | None) -> None:
        """Note a version that runs now (patcher thread); `update` is None for a whole model."""
        if update is None:
            _log.info("version %d runs", applied.version)
            self._events.write("model", version=applied.version, build_ms=round(applied.build_time_ms, 3))
            return
        latency_s = self._latency_s(update)
        self._learnt_us = None if latency_s is None else update.newest_capture_time_us
        self._updates += 1
        _log.info("version %d runs: %d parameters in %d bytes", applied.version, update.changed, len(update.payload))
        self._events.write(
            "swap",
            version=applied.version,
            payload_bytes=len(update.payload),
            changed=update.changed,
            loss=round(update.loss, 6),
            batch_to_swap_s=None if latency_s is None else round(latency_s, 4),
            newest_capture_s=update.newest_capture_time_us / 1e6,
            label_ms=round(update.label_ms, 1),
            train_ms=round(update.train_ms, 1),
            code_ms=round(update.code_ms, 1),
            build_ms=round(applied.build_time_ms, 3),
        )

    def _latency_s(self, update: Update) -> float | None:
        """Return the time since the batch was cut that `update` has learnt from; None if that was no batch of this run.

        An edge that was restarted gets updates that it missed, whose capture times are those of another clock. Batches of the
        earlier run have the same ids, but hardly the same times.
        """
        batch = self._batches.get(update.newest_batch_id)
        if batch is None or batch.newest_us != update.newest_capture_time_us:
            return None
        return self._clock.now_s() - batch.cut_s

    def _model_age_s(self, capture_time_us: int) -> float | None:
        return None if self._learnt_us is None else round((capture_time_us - self._learnt_us) / 1e6, 3)
