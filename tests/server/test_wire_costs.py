"""What batches and updates take of both budgets."""

from hypothesis import given
from hypothesis import strategies as st

from ams_common.framing import receipt_bytes, sent_bytes
from ams_common.messages import MAX_BATCH_BYTES, Applied, BatchReceived, Control, FrameBatch, Update
from ams_common.video_formats import VIDEO_FORMATS
from ams_common.wire import MAX_BPS, client_message_to_proto, server_message_to_proto
from ams_common.wire_checks import MAX_COUNT, MAX_TIME_US
from ams_server.wire_costs import (
    APPLIED_BYTES,
    BATCH_FIELDS_BYTES,
    BATCH_RECEIVED_BYTES,
    CONTROL_BYTES,
    FRAME_FIELDS_BYTES,
    UPDATE_FIELDS_BYTES,
    batch_cost,
    largest_payload_bytes,
    largest_video_bytes,
    update_cost,
)


def test_no_batch_has_more_beside_its_video_than_is_planned_for() -> None:
    for count in (1, 2, 10, 600):
        batch = FrameBatch(
            batch_id=MAX_COUNT,
            video_codec="h264",
            width=4096,
            height=4096,
            capture_times_us=(MAX_TIME_US,) * count,
            packets=tuple((index, bytes(6000)) for index in range(count)),
        )
        beside_bytes = client_message_to_proto(batch).ByteSize() - batch.payload_bytes
        assert beside_bytes <= BATCH_FIELDS_BYTES + count * FRAME_FIELDS_BYTES
        assert beside_bytes >= 0.7 * count * FRAME_FIELDS_BYTES


def test_no_update_and_no_answer_is_larger_than_is_planned_for() -> None:
    update = Update(
        version=MAX_COUNT,
        base_version=MAX_COUNT,
        base_digest=bytes(16),
        result_digest=bytes(16),
        codec="mask-float16",
        payload=bytes(10_000_000),
        newest_batch_id=MAX_COUNT,
        newest_capture_time_us=MAX_TIME_US,
        changed=2**31,
        **dict.fromkeys(("loss", "label_ms", "train_ms", "code_ms", "queue_ms"), 0.1),
    )
    assert server_message_to_proto(update).ByteSize() - len(update.payload) <= UPDATE_FIELDS_BYTES
    applied = Applied(version=MAX_COUNT, weights_digest=bytes(16), build_time_ms=0.1)
    assert client_message_to_proto(applied).ByteSize() <= APPLIED_BYTES
    assert server_message_to_proto(BatchReceived(batch_id=MAX_COUNT)).ByteSize() <= BATCH_RECEIVED_BYTES
    control = Control(
        sampling_hz=0.1,
        batch_interval_s=0.1,
        batch_bytes=3_000_000,
        frame_width=4096,
        frame_height=4096,
        video_codecs=tuple(VIDEO_FORMATS),
        uplink_bps=MAX_BPS,
        downlink_bps=MAX_BPS,
        worthwhile_frame_bytes=MAX_BATCH_BYTES,
        uplink_bound="share",
        downlink_bound="other_direction",
    )
    assert server_message_to_proto(control).ByteSize() <= CONTROL_BYTES


def test_a_batch_by_hand() -> None:
    # 24,000 bytes of 2 frames are 24,080 in 3 frames of HTTP/2, 24,112 bytes of the stream and 17 segments.
    cost = batch_cost(24_000, 2)
    assert cost.up_bytes == 24_080 + 5 + 3 * 9 + 17 * 72 + receipt_bytes(16)
    assert cost.down_bytes == receipt_bytes(24_080) + sent_bytes(16)


@given(st.floats(0, 1e7), st.integers(1, 600))
def test_the_largest_batch_and_update_take_all_that_is_there_and_no_more(wire_bytes: float, frames: int) -> None:
    video_bytes, payload_bytes = largest_video_bytes(wire_bytes, frames), largest_payload_bytes(wire_bytes)
    assert video_bytes >= 0
    assert payload_bytes >= 0
    if video_bytes:
        assert batch_cost(video_bytes, frames).up_bytes <= wire_bytes
        assert batch_cost(video_bytes + 1, frames).up_bytes > wire_bytes
    if payload_bytes:
        assert update_cost(payload_bytes).down_bytes <= wire_bytes
        assert update_cost(payload_bytes + 1).down_bytes > wire_bytes
