import itertools
import math

import numpy as np
import pytest

from ams_common.layout import Float32Array
from ams_common.messages import Update
from ams_eval.replay.server import Turn
from ams_eval.replay.timeline import Timeline, VirtualClock
from ams_eval.replay.update_book import UpdateBook


def turn() -> Turn:
    return Turn(messages=(), steps=20, frames=4, label_s=0.4, train_s=1.0, code_s=0.1)


def update(version: int, batch_id: int, newest_s: float) -> Update:
    return Update(
        version=version,
        base_version=version - 1,
        base_digest=bytes(16),
        result_digest=bytes(16),
        codec="gap-zstd",
        payload=b"12345",
        newest_batch_id=batch_id,
        newest_capture_time_us=round(newest_s * 1e6),
    )


def vector(*values: float) -> Float32Array:
    return np.array(values, np.float32)


def test_the_parts_of_an_updates_way_add_up_to_all_of_it() -> None:
    timeline = Timeline(VirtualClock(None))
    book = UpdateBook(timeline)
    timeline.run_until(4.0)
    book.batch_cut(1, newest_capture_s=4.0, cut_s=4.25)
    timeline.run_until(4.75)
    book.batch_encoded(1)
    timeline.run_until(5.0)
    book.batch_arrived(1)
    timeline.run_until(7.0)
    book.version_made(1, turn())
    timeline.run_until(8.0)
    record = book.record(update(1, 1, 4.0), arrived_s=7.5, before=vector(0, 0, 0, 0), after=vector(0, 3, 0, -4))
    assert (record.wait_s, record.encode_s, record.upload_s, record.queue_s) == pytest.approx((0.25, 0.5, 0.25, 0.5))
    assert (record.label_s, record.train_s, record.code_s) == (0.4, 1.0, 0.1)
    assert (record.download_s, record.build_s) == (0.5, 0.5)
    parts = (record.wait_s, record.encode_s, record.upload_s, record.queue_s, 7.0 - 5.5, record.download_s, record.build_s)
    assert sum(parts) == record.time_s - record.newest_capture_s == 4.0
    assert (record.payload_bytes, record.steps, record.change_norm) == (5, 20, 5.0)


def test_a_mask_is_compared_with_that_of_the_update_before() -> None:
    book = UpdateBook(Timeline(VirtualClock(None)))
    overlaps = []
    weights = [vector(0, 0, 0, 0), vector(1, 1, 0, 0), vector(1, 2, 2, 2), vector(1, 2, 2, 2), vector(2, 2, 2, 3)]
    for version, (before, after) in enumerate(itertools.pairwise(weights), start=1):
        book.batch_cut(version, newest_capture_s=0.0, cut_s=0.0)
        book.version_made(version, turn())
        overlaps.append(book.record(update(version, version, 0.0), arrived_s=0.0, before=before, after=after).mask_overlap)
    assert math.isnan(overlaps[0])
    assert overlaps[1] == pytest.approx(1 / 3)
    assert math.isnan(overlaps[2])  # nothing changed
    assert overlaps[3] == 0.0
