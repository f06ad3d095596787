"""What batches and updates take of both budgets, and how large they may be to take no more than is there.

A batch is answered by a BatchReceived, an update by an Applied and, at most, a Control; the receipts of all of them go the
other way. Sizes are those of the largest fields that these messages can have.
"""

from typing import NamedTuple

from ams_common.framing import largest_message_bytes, receipt_bytes, sent_bytes

BATCH_FIELDS_BYTES = 32
"""What is in a batch beside its video and its frames."""
FRAME_FIELDS_BYTES = 24
"""What is in a batch for each of its frames: its capture time, its place, and the size of its picture."""
UPDATE_FIELDS_BYTES = 160
"""What is in an update beside its payload."""
BATCH_RECEIVED_BYTES = 16
APPLIED_BYTES = 48
CONTROL_BYTES = 80


class Cost(NamedTuple):
    """Bytes on the wire, headers and receipts included."""

    up_bytes: int
    down_bytes: int


def batch_cost(video_bytes: int, frames: int) -> Cost:
    """Return what a batch of `frames` frames takes, its answer included."""
    message_bytes = video_bytes + BATCH_FIELDS_BYTES + frames * FRAME_FIELDS_BYTES
    return Cost(
        up_bytes=sent_bytes(message_bytes) + receipt_bytes(BATCH_RECEIVED_BYTES),
        down_bytes=receipt_bytes(message_bytes) + sent_bytes(BATCH_RECEIVED_BYTES),
    )


def update_cost(payload_bytes: int) -> Cost:
    """Return what an update takes, the report that it is applied and a change of what the device should do included."""
    message_bytes = payload_bytes + UPDATE_FIELDS_BYTES
    return Cost(
        up_bytes=receipt_bytes(message_bytes) + sent_bytes(APPLIED_BYTES) + receipt_bytes(CONTROL_BYTES),
        down_bytes=sent_bytes(message_bytes) + receipt_bytes(APPLIED_BYTES) + sent_bytes(CONTROL_BYTES),
    )


def largest_video_bytes(up_bytes: float, frames: int) -> int:
    """Return the largest video of which a batch of `frames` frames takes at most `up_bytes` of the uplink; at least 0."""
    message_bytes = largest_message_bytes(up_bytes - receipt_bytes(BATCH_RECEIVED_BYTES))
    return max(0, message_bytes - BATCH_FIELDS_BYTES - frames * FRAME_FIELDS_BYTES)


def largest_payload_bytes(down_bytes: float) -> int:
    """Return the largest payload of which an update takes at most `down_bytes` of the downlink; at least 0."""
    beside_bytes = receipt_bytes(APPLIED_BYTES) + sent_bytes(CONTROL_BYTES)
    return max(0, largest_message_bytes(down_bytes - beside_bytes) - UPDATE_FIELDS_BYTES)
