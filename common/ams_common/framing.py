"""What a message takes on the wire, in its own direction and in the other one.

A model of gRPC over HTTP/2 over TCP, of which gRPC shows a program nothing. It is an upper bound for segments of Ethernet: over
IPv4 20 of the 72 bytes of headers are not there, and a receiver that acknowledges less often than every second segment, or
joins segments before it does, sends less. Segments that TCP repeats on a lossy network, Ethernet's own frames and look-ups of
names are not in it.
"""

SEGMENT_BYTES = 1428
"""Payload of a full TCP segment over IPv6: 1500 bytes less HEADER_BYTES."""
HEADER_BYTES = 72
"""Headers of a segment: 40 bytes of IPv6, 20 of TCP, 12 of its time stamps."""
CONNECTION_BYTES = 2000
"""What opening, refusing and closing a connection takes in each direction, beside its messages: TCP's segments and their
acknowledgements, HTTP/2's preface, settings and headers, and the receipt of a hello."""
UPKEEP_BPS = 300
"""What an open connection takes in each direction while nothing else goes: a ping of the edge every 6 s at most, one of the
server every 10 s, the answers, and their acknowledgements."""
READ_AHEAD_BYTES = 1024 * 1024
"""What either side lets the other send before it has read: enough for 40 Mbit/s at 200 ms, without measuring the way."""
_MESSAGE_HEADER_BYTES = 5
_FRAME_HEADER_BYTES = 9
_FRAME_BYTES = 16_384
"""Largest HTTP/2 DATA frame of gRPC."""
_WINDOW_UPDATES_BYTES = 26
"""A WINDOW_UPDATE for the stream and one for the connection."""


def sent_bytes(size_bytes: int) -> int:
    """Return what a protobuf message of `size_bytes` takes on the wire in its own direction, at most."""
    # One frame more than its size needs: flow control may split one.
    frames = 2 + size_bytes // _FRAME_BYTES
    stream = size_bytes + _MESSAGE_HEADER_BYTES + _FRAME_HEADER_BYTES * frames
    return stream + HEADER_BYTES * (1 + stream // SEGMENT_BYTES)


def receipt_bytes(size_bytes: int) -> int:
    """Return what receiving a protobuf message of `size_bytes` takes in the other direction, at most.

    These are acknowledgements of every second segment, and the window updates of HTTP/2, each in a segment of its own.
    """
    segments = 1 + sent_bytes(size_bytes) // (SEGMENT_BYTES + HEADER_BYTES)
    updates = 1 + size_bytes // _FRAME_BYTES
    return HEADER_BYTES * (1 + segments // 2) + (_WINDOW_UPDATES_BYTES + HEADER_BYTES) * updates


def largest_message_bytes(wire_bytes: float) -> int:
    """Return how large a protobuf message may be at most so that `sent_bytes` of it is at most `wire_bytes`; at least 0."""
    stream = _largest(int(wire_bytes) - HEADER_BYTES, SEGMENT_BYTES, HEADER_BYTES)
    return _largest(stream - _MESSAGE_HEADER_BYTES - 2 * _FRAME_HEADER_BYTES, _FRAME_BYTES, _FRAME_HEADER_BYTES)


def _largest(total_bytes: int, step_bytes: int, extra_bytes: int) -> int:
    """Return the largest size of which not more than `total_bytes` come with `extra_bytes` for each whole `step_bytes`."""
    steps, rest_bytes = divmod(max(0, total_bytes), step_bytes + extra_bytes)
    return steps * step_bytes + min(rest_bytes, step_bytes - 1)
