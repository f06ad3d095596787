"""The way from the capture of a frame to the model that has learnt from it, part by part.

Its length decides how old the running model is: with an update every T seconds, T / 2 and the length of the way on average.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ams_common.clock import Clock
from ams_common.messages import FrameBatch, Update

REMEMBERED_BATCHES = 64
"""Batches whose times are kept until an update has learnt from them."""
REMEMBERED_UPDATES = 16
"""Updates whose arrival is kept until they run."""

T = TypeVar("T")


class Way(NamedTuple):
    """Seconds that each part of an update's way took, in their order; without gaps."""

    wait_s: float
    """From the capture of the newest frame until its batch was cut."""
    encode_s: float
    """Waiting for the encoder included."""
    upload_s: float
    """Until the server's acknowledgement was here, waiting for the budget included."""
    queue_s: float
    """At the server: waiting for its turn, and in it for older frames of the same device."""
    label_s: float
    train_s: float
    code_s: float
    download_s: float
    """Waiting for the budget included; without what the acknowledgement's way back took, which is in `upload_s`."""
    build_s: float
    """From the arrival to the switch, which itself takes no time."""

    @property
    def total_s(self) -> float:
        """From the capture of the newest frame to the switch."""
        return sum(self)


@dataclass(kw_only=True)
class _Passage:
    """A batch of this run, by the clock."""

    waited_s: float
    cut_s: float
    batch_id: int = 0
    encoded_s: float = 0.0
    acknowledged_s: float | None = None


class WayTimer:
    """Follows the batches of this run and the updates that come of them. May be used from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._passages: OrderedDict[int, _Passage] = OrderedDict()
        """By the capture time of the newest frame."""
        self._arrivals: OrderedDict[int, float] = OrderedDict()
        """By version."""

    def cut(self, newest_capture_us: int, waited_s: float) -> None:
        """Note that a batch is cut now, whose newest frame was captured `waited_s` ago."""
        with self._lock:
            passage = _Passage(waited_s=waited_s, cut_s=self._clock.now_s())
            _remember(self._passages, newest_capture_us, passage, REMEMBERED_BATCHES)

    def encoded(self, batch: FrameBatch) -> None:
        """Note a batch that is handed to the link now."""
        with self._lock:
            passage = self._passages.get(batch.capture_times_us[-1])
            if passage is not None:
                passage.batch_id, passage.encoded_s = batch.batch_id, self._clock.now_s()

    def acknowledged(self, batch_id: int) -> None:
        """Note that the server has a batch."""
        with self._lock:
            for passage in self._passages.values():
                if passage.batch_id == batch_id:
                    passage.acknowledged_s = self._clock.now_s()

    def arrived(self, update: Update) -> None:
        """Note an update that has come in."""
        with self._lock:
            _remember(self._arrivals, update.version, self._clock.now_s(), REMEMBERED_UPDATES)

    def way_of(self, update: Update) -> Way | None:
        """Return the way of an update that runs from now on; None if its newest batch is none of this run, or long past.

        An edge that was restarted gets updates that it missed, whose capture times are those of another clock. Batches of the
        earlier run have the same ids, but hardly the same times.
        """
        now_s = self._clock.now_s()
        with self._lock:
            arrived_s = self._arrivals.pop(update.version, now_s)
            passage = self._passages.get(update.newest_capture_time_us)
        if passage is None or not passage.batch_id or passage.batch_id != update.newest_batch_id:
            return None
        server_ms = update.queue_ms + update.label_ms + update.train_ms + update.code_ms
        away_s = max(0.0, arrived_s - passage.encoded_s - server_ms / 1e3)
        upload_s = away_s if passage.acknowledged_s is None else min(away_s, passage.acknowledged_s - passage.encoded_s)
        return Way(
            wait_s=passage.waited_s,
            encode_s=passage.encoded_s - passage.cut_s,
            upload_s=upload_s,
            queue_s=update.queue_ms / 1e3,
            label_s=update.label_ms / 1e3,
            train_s=update.train_ms / 1e3,
            code_s=update.code_ms / 1e3,
            download_s=away_s - upload_s,
            build_s=now_s - arrived_s,
        )


def _remember(items: OrderedDict[int, T], key: int, value: T, most: int) -> None:
    items[key] = value
    while len(items) > most:
        items.popitem(last=False)
