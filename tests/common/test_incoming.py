import pytest

from ams_common.errors import ProtocolError
from ams_common.messages import PartialSnapshot, SnapshotHeader
from ams_common.session.incoming import IncomingSnapshot, encoded_digest

DATA = bytes(range(100))


def header(first_byte: int = 0, digest: bytes = encoded_digest(DATA)) -> SnapshotHeader:
    return SnapshotHeader(
        version=3, weights_digest=bytes(16), encoded_bytes=len(DATA), encoded_digest=digest, first_byte=first_byte
    )


def broken_off(received: int = 40, digest: bytes = encoded_digest(DATA)) -> IncomingSnapshot:
    """Return a snapshot of which `received` bytes have come."""
    incoming = IncomingSnapshot()
    incoming.begin(header(digest=digest))
    incoming.data += DATA[:received]
    return incoming


def test_a_hello_tells_what_has_come_and_the_rest_completes_it() -> None:
    incoming = broken_off()
    assert incoming.partial == PartialSnapshot(encoded_digest=encoded_digest(DATA), received_bytes=40)
    incoming.begin(header(first_byte=40))
    incoming.data += DATA[40:]
    assert incoming.take() == DATA
    assert incoming.partial is None


def test_a_server_may_start_again() -> None:
    incoming = broken_off()
    incoming.begin(header())
    incoming.data += DATA
    assert incoming.take() == DATA


def test_there_is_nothing_to_tell_before_the_first_byte_and_of_bytes_without_a_digest() -> None:
    assert IncomingSnapshot().partial is None
    assert broken_off(0).partial is None
    assert broken_off(digest=b"").partial is None
    forgotten = broken_off()
    forgotten.forget()
    assert forgotten.partial is None


@pytest.mark.parametrize("wrong", [header(first_byte=39), header(first_byte=41), header(40, bytes(16)), header(40, b"")])
def test_a_rest_that_does_not_follow_is_refused(wrong: SnapshotHeader) -> None:
    with pytest.raises(ProtocolError, match="which does not follow what this edge holds"):
        broken_off().begin(wrong)


def test_other_bytes_than_announced_are_refused_and_not_told_of_again() -> None:
    incoming = broken_off(100, digest=bytes(16))
    with pytest.raises(ProtocolError, match="does not hold the bytes that were announced"):
        incoming.take()
    assert incoming.partial is None
