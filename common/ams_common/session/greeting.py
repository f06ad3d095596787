"""What a connecting edge needs from what it holds: nothing, the updates that it missed, or a snapshot; and the graph or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ams_common.layout import Float32Array
from ams_common.messages import (
    CHUNK_BYTES,
    ChunkPart,
    Control,
    HeldModel,
    Hello,
    ModelChunk,
    ModelManifest,
    PartialSnapshot,
    ServerMessage,
    SnapshotHeader,
    Update,
    Welcome,
)
from ams_common.session.incoming import encoded_digest
from ams_common.update_codec import encode_snapshot

LEAST_CHUNK_BYTES = 4096
_CHUNK_S = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Offer:
    """What the server has for a device now."""

    manifest: ModelManifest
    graph: bytes
    """Serialised ONNX graph without weights."""
    codec: str
    """Update codec chosen from the hello's."""
    control: Control
    version: int
    """Version of `weights`."""
    weights: Float32Array
    """float32 [P], the mirror of what the device runs at `version`."""
    weights_digest: bytes
    """Digest of `weights`."""
    recent_updates: Sequence[Update] = ()
    """The last few updates in order, at most MAX_WAITING_UPDATES; the newest leads to `version`."""


def greeting_messages(hello: Hello, offer: Offer) -> list[ServerMessage]:
    """Return the welcome and all that brings the edge from what it holds to `offer.version`."""
    same_model = hello.held is not None and hello.held.bundle_digest == offer.manifest.bundle_digest
    chunk_bytes = chunk_size(hello.downlink_bps)
    welcome = Welcome(
        manifest=offer.manifest, codec=offer.codec, graph_bytes=0 if same_model else len(offer.graph), control=offer.control
    )
    missed = missed_updates(hello.held, offer) if same_model and hello.held is not None else None
    messages: list[ServerMessage] = [welcome]
    if not same_model:
        messages += _chunks("graph", offer.graph, chunk_bytes)
    if missed is None:
        snapshot = snapshot_messages(offer.version, offer.weights, offer.weights_digest, chunk_bytes, hello.partial)
        return messages + snapshot
    return messages + missed


def missed_updates(held: HeldModel, offer: Offer) -> list[Update] | None:
    """Return the updates that lead from the held weights to the offer's, perhaps none; None when only a snapshot does."""
    if (held.version, held.weights_digest) == (offer.version, offer.weights_digest):
        return []
    chain = [update for update in offer.recent_updates if update.base_version >= held.version]
    version, digest = held.version, held.weights_digest
    for update in chain:
        if (update.base_version, update.base_digest, update.codec) != (version, digest, offer.codec):
            return None
        version, digest = update.version, update.result_digest
    return chain if (version, digest) == (offer.version, offer.weights_digest) else None


def snapshot_messages(
    version: int, weights: Float32Array, digest: bytes, chunk_bytes: int, partial: PartialSnapshot | None = None
) -> list[ServerMessage]:
    """Return the header and the chunks of a whole set of weights, float32 [P], whose digest is `digest`.

    They go on behind `partial`, what the edge has said to hold, if that is the beginning of the very same bytes.

    Raises:
        ModelError: a weight is not finite.
    """
    data = encode_snapshot(weights)
    whole = encoded_digest(data)
    continued = partial is not None and partial.encoded_digest == whole and partial.received_bytes < len(data)
    first_byte = partial.received_bytes if partial is not None and continued else 0
    header = SnapshotHeader(
        version=version, weights_digest=digest, encoded_bytes=len(data), encoded_digest=whole, first_byte=first_byte
    )
    return [header, *_chunks("weights", data, chunk_bytes, first_byte)]


def chunk_size(downlink_bps: int) -> int:
    """Return the size of model chunks, in bytes: half a second of the budget, so that nothing waits long behind one."""
    if downlink_bps == 0:
        return CHUNK_BYTES
    return int(min(CHUNK_BYTES, max(LEAST_CHUNK_BYTES, downlink_bps / 8 * _CHUNK_S)))


def _chunks(part: ChunkPart, data: bytes, chunk_bytes: int, first_byte: int = 0) -> Iterator[ModelChunk]:
    for offset in range(first_byte, len(data), chunk_bytes):
        yield ModelChunk(part=part, offset=offset, data=data[offset : offset + chunk_bytes])
