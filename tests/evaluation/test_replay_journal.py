import math

import pytest
from tests.server.session_support import colour_batch

from ams_common.messages import BatchReceived, Control, Update
from ams_common.wire import client_message_to_proto, server_message_to_proto
from ams_eval.outcome import ControlRecord
from ams_eval.replay.journal import Journal, wire_bytes


def control(sampling_hz: float = 1.0, batch_bytes: int = 10) -> Control:
    return Control(sampling_hz=sampling_hz, batch_interval_s=2.0, batch_bytes=batch_bytes, frame_width=64, frame_height=32)


@pytest.mark.parametrize(
    ("message", "on_the_wire"),
    [
        (0, 5 + 9 + 52),
        (100, 105 + 9 + 52),
        (1448 - 14, 1448 + 52),
        (1448 - 13, 1449 + 2 * 52),
        (16_384 - 5, 16_384 + 9 + 12 * 52),
        (16_384 - 4, 16_385 + 2 * 9 + 12 * 52),
    ],
)
def test_bytes_on_the_wire(message: int, on_the_wire: int) -> None:
    assert wire_bytes(message) == on_the_wire


def test_batches_count_their_video() -> None:
    journal, batch = Journal(), colour_batch(1, 0.0, 1.0)
    journal.sent_by_device(3.0, batch)
    (transfer,) = journal.transfers
    assert (transfer.time_s, transfer.direction, transfer.kind) == (3.0, "up", "frames")
    assert transfer.payload_bytes == batch.payload_bytes == sum(len(data) for _, data in batch.packets)
    assert transfer.wire_bytes == wire_bytes(client_message_to_proto(batch).ByteSize())


def test_updates_and_models_count_what_they_carry_and_all_else_is_control() -> None:
    journal = Journal()
    update = Update(
        version=1,
        base_version=0,
        base_digest=bytes(16),
        result_digest=bytes(16),
        codec="gap-zstd",
        payload=bytes(500),
        newest_batch_id=1,
        newest_capture_time_us=5,
        changed=7,
        loss=math.pi,
        label_ms=1.0,
        train_ms=1.0,
        code_ms=1.0,
    )
    journal.sent_by_server(1.0, update)
    journal.provisioned(300)
    journal.sent_by_server(3.0, control())
    journal.sent_by_server(4.0, BatchReceived(batch_id=3))
    assert [(each.kind, each.payload_bytes) for each in journal.transfers] == [
        ("update", 500),
        ("model", 300),
        ("control", server_message_to_proto(control()).ByteSize()),
        ("control", server_message_to_proto(BatchReceived(batch_id=3)).ByteSize()),
    ]
    assert {each.direction for each in journal.transfers} == {"down"}
    assert all(each.wire_bytes > each.payload_bytes + 60 for each in journal.transfers)


def test_only_new_wishes_of_the_server_are_noted() -> None:
    journal = Journal()
    for time_s, wish in enumerate([control(), control(batch_bytes=99), control(0.5), control()]):
        journal.asked(float(time_s), wish, 10.0)
    assert journal.controls == [
        ControlRecord(time_s=0.0, sampling_hz=1.0, update_interval_s=10.0),
        ControlRecord(time_s=2.0, sampling_hz=0.5, update_interval_s=10.0),
        ControlRecord(time_s=3.0, sampling_hz=1.0, update_interval_s=10.0),
    ]
