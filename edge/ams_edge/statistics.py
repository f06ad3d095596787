"""What the edge counts while it runs, for its event log and for the line a person reads now and then."""

import logging
from collections import deque
from typing import NamedTuple

import numpy as np

from ams_common.clock import Clock
from ams_common.events import EventLog
from ams_common.messages import Applied, FrameBatch, Update
from ams_common.wording import counted
from ams_edge.update_way import Way, WayTimer

REPORT_S = 1.0
"""Seconds between two "statistics" events."""
LOG_S = 10.0
"""Seconds between two lines of the ordinary log."""
RECENT_AGES = 3600
"""Reports over which the model age of the summary is taken: an hour."""

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


class Statistics:
    """Counts frames and times; every method belongs to one thread, stated there."""

    def __init__(self, clock: Clock, events: EventLog) -> None:
        self._clock = clock
        self._events = events
        self._infer_ms: list[float] = []
        self._frames = 0
        self._updates = 0
        self._reported = self._logged = Totals(clock.now_s(), 0, 0, 0)
        self._ways = WayTimer(clock)
        self._learnt_us: int | None = None
        self._learnt_on_stream_us: int | None = None
        self._skipped = 0
        self._ages_s: deque[float] = deque(maxlen=RECENT_AGES)

    def count_frame(self, infer_ms: float) -> None:
        """Count a frame that was run, with the time it took (inference thread)."""
        self._infer_ms.append(infer_ms)
        self._frames += 1

    def report(
        self, *, capture_time_us: int, version: int, sampling_hz: float, skipped: int, uplink_bytes: int, downlink_bytes: int
    ) -> None:
        """Write statistics of the time since the last report, if REPORT_S seconds have passed (inference thread).

        `skipped`, `uplink_bytes` and `downlink_bytes` are totals since the start.
        """
        self._skipped = skipped
        totals = Totals(self._clock.now_s(), self._frames, uplink_bytes, downlink_bytes)
        if totals.time_s - self._reported.time_s < REPORT_S or not self._infer_ms:
            return
        rates, age_s = totals.since(self._reported), self.model_age_s(capture_time_us)
        if age_s is not None:
            self._ages_s.append(age_s)
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
            skipped=skipped,
            model_age_s=age_s,
            uplink_kbps=round(rates.uplink_kbps, 3),
            downlink_kbps=round(rates.downlink_kbps, 3),
            uplink_bytes=uplink_bytes,
            downlink_bytes=downlink_bytes,
        )
        self._reported = totals
        self._infer_ms.clear()
        if totals.time_s - self._logged.time_s >= LOG_S:
            age = "" if age_s is None else f", model age {age_s:.1f} s"
            _log.info("%s, version %d%s", totals.since(self._logged), version, age)
            self._logged = totals

    @property
    def summary(self) -> str:
        """What happened since the start, in a few words (inference thread)."""
        text = f"{counted(self._frames, 'frame')} labelled, {counted(self._updates, 'update')} applied"
        if self._skipped:
            text += f", {counted(self._skipped, 'frame')} known to the model and not sent"
        if not self._ages_s:
            return text
        mean_s, p95_s = np.mean(self._ages_s), np.quantile(self._ages_s, 0.95)
        return f"{text}, model age {mean_s:.1f} s on average, {p95_s:.1f} s at the 95th percentile"

    def batch_cut(self, newest_capture_us: int, waited_s: float) -> None:
        """Note that samples are handed to the encoder, the newest of which was captured `waited_s` ago (inference thread)."""
        self._ways.cut(newest_capture_us, waited_s)

    def batch_encoded(self, batch: FrameBatch, encode_ms: float) -> None:
        """Note a batch that is handed to the link (encoder thread)."""
        self._ways.encoded(batch)
        self._events.write(
            "batch",
            batch_id=batch.batch_id,
            frames=len(batch.capture_times_us),
            video_codec=batch.video_codec,
            payload_bytes=batch.payload_bytes,
            encode_ms=round(encode_ms, 3),
            newest_capture_s=batch.capture_times_us[-1] / 1e6,
        )

    def batch_taken(self, batch_id: int) -> None:
        """Note that the server has a batch (link thread)."""
        self._ways.acknowledged(batch_id)

    def update_received(self, update: Update) -> None:
        """Note an update that has come in (link thread)."""
        self._ways.arrived(update)

    def applied(self, applied: Applied, update: Update | None) -> None:
        """Note a version that runs now (patcher thread); `update` is None for a whole model."""
        if update is None:
            self._learnt_us = self._learnt_on_stream_us = None
            _log.info("version %d runs", applied.version)
            self._events.write("model", version=applied.version, build_ms=round(applied.build_time_ms, 3))
            return
        way = self._ways.way_of(update)
        self._learnt_us = self._learnt_on_stream_us = None if way is None else update.newest_capture_time_us
        self._updates += 1
        late = "" if way is None else f", {way.total_s:.2f} s after the newest frame learnt"
        _log.info("version %d runs: %d parameters in %d bytes%s", applied.version, update.changed, len(update.payload), late)
        parts_s = dict.fromkeys(Way._fields) if way is None else way._asdict()
        self._events.write(
            "swap",
            version=applied.version,
            payload_bytes=len(update.payload),
            changed=update.changed,
            loss=round(update.loss, 6),
            newest_capture_s=update.newest_capture_time_us / 1e6,
            latency_s=None if way is None else round(way.total_s, 4),
            **{name: None if part_s is None else round(part_s, 4) for name, part_s in parts_s.items()},
        )

    @property
    def learnt_us(self) -> int | None:
        """Capture time of the newest frame that the running model has learnt from (inference thread).

        None while that is not known, and from the end of a stream to the first update of the next: the server may have lost
        the frames that it had.
        """
        return self._learnt_on_stream_us

    def stream_ended(self) -> None:
        """Note that the connection was lost (link thread)."""
        self._learnt_on_stream_us = None

    def model_age_s(self, capture_time_us: int) -> float | None:
        """Return the capture time now less that of the newest frame learnt; None while that is not known (inference thread)."""
        return None if self._learnt_us is None else round((capture_time_us - self._learnt_us) / 1e6, 3)
