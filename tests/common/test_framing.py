"""The model of the wire."""

from hypothesis import given
from hypothesis import strategies as st

from ams_common.framing import HEADER_BYTES, SEGMENT_BYTES, largest_message_bytes, receipt_bytes, sent_bytes


def test_a_small_message_is_one_segment_and_a_large_one_mostly_payload() -> None:
    assert sent_bytes(4) == 4 + 5 + 2 * 9 + HEADER_BYTES
    assert 1.05 < sent_bytes(100_000) / 100_000 < 1.06
    assert 0.03 < receipt_bytes(100_000) / 100_000 < 0.04
    assert sent_bytes(SEGMENT_BYTES) > SEGMENT_BYTES + 2 * HEADER_BYTES, "with its frame it does not fit one segment"


def test_messages_and_their_receipts_by_hand() -> None:
    # An acknowledgement and the two window updates of a segment.
    assert receipt_bytes(4) == 72 + 26 + 72
    # Two HTTP/2 frames and one more, in twelve segments; every second of them is acknowledged, and one more.
    assert sent_bytes(16_384) == 16_384 + 5 + 3 * 9 + 12 * 72
    assert receipt_bytes(16_384) == (6 + 1) * 72 + 2 * (26 + 72)


@given(st.integers(0, 10**7))
def test_a_larger_message_takes_more_in_both_directions(size_bytes: int) -> None:
    assert sent_bytes(size_bytes + 1) > sent_bytes(size_bytes)
    assert receipt_bytes(size_bytes + 1) >= receipt_bytes(size_bytes) >= HEADER_BYTES


@given(st.floats(0, 10**7))
def test_the_largest_message_fits_and_is_the_largest(wire_bytes: float) -> None:
    size_bytes = largest_message_bytes(wire_bytes)
    assert size_bytes >= 0
    assert size_bytes == 0 or sent_bytes(size_bytes) <= wire_bytes
    assert sent_bytes(size_bytes + 1) > wire_bytes
