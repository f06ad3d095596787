"""The snapshot that is coming in: it outlives the stream, so that the next one goes on where this one broke off."""

import hashlib

from ams_common.errors import ProtocolError
from ams_common.layout import DIGEST_BYTES
from ams_common.messages import PartialSnapshot, SnapshotHeader


def encoded_digest(data: bytes | bytearray) -> bytes:
    """Return the 16 bytes (BLAKE2b) by which both sides tell the encoded bytes of one snapshot from those of another."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


class IncomingSnapshot:
    """The first bytes of a snapshot; at most those of one."""

    def __init__(self) -> None:
        self._header: SnapshotHeader | None = None
        self.data = bytearray()
        """What has arrived, to be appended to by whoever receives the chunks."""

    @property
    def partial(self) -> PartialSnapshot | None:
        """What a hello says about it; None where there is nothing to go on with."""
        header = self._header
        if header is None or not header.encoded_digest or not self.data:
            return None
        return PartialSnapshot(encoded_digest=header.encoded_digest, received_bytes=len(self.data))

    def begin(self, header: SnapshotHeader) -> None:
        """Make ready for the chunks that `header` announces: from the start, or behind what is here.

        Raises:
            ProtocolError: they start behind bytes that are not here.
        """
        if header.first_byte == 0:
            self.data = bytearray()
        elif self.partial != PartialSnapshot(encoded_digest=header.encoded_digest, received_bytes=header.first_byte):
            raise ProtocolError(f"snapshot goes on from byte {header.first_byte}, which does not follow what this edge holds")
        self._header = header

    def take(self) -> bytes:
        """Return the whole encoded snapshot and forget it.

        Raises:
            ProtocolError: these are not the bytes that were announced.
        """
        assert self._header is not None
        announced, data = self._header.encoded_digest, bytes(self.data)
        self.forget()
        if announced and encoded_digest(data) != announced:
            raise ProtocolError("snapshot does not hold the bytes that were announced")
        return data

    def forget(self) -> None:
        """Let go of what is here: the weights are those of the server without it."""
        self._header, self.data = None, bytearray()
