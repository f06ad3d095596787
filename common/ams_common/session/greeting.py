"""What a connecting edge needs from what it holds: nothing, the updates that it missed, or snapshots; and the graph or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ams_common.compression import zstd_compress
from ams_common.layout import Float32Array, weights_digest
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
from ams_common.snapshot_codec import SMALL, encode_snapshot

LEAST_CHUNK_BYTES = 4096
START_VERSION = 0
"""Version of the weights that every device begins with."""
_CHUNK_S = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingPoint:
    """The model that a server gives to every device, coded once for all of them."""

    manifest: ModelManifest
    graph: bytes
    """Serialised ONNX graph without weights, as a zstd frame."""
    weights: Float32Array
    """float32 [P]."""
    weights_digest: bytes
    """Digest of `weights`."""
    snapshot: bytes
    """`weights` as a snapshot that stands alone."""


def starting_point(manifest: ModelManifest, graph: bytes, weights: Float32Array) -> StartingPoint:
    """Code what every device gets: a serialised ONNX graph and weights, float32 [P]; takes seconds for millions of weights.

    Raises:
        ModelError: a weight is not finite.
    """
    return StartingPoint(
        manifest=manifest,
        graph=zstd_compress(graph, SMALL),
        weights=weights,
        weights_digest=weights_digest(weights),
        snapshot=encode_snapshot(weights, manifest.layout, level=SMALL),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Offer:
    """What the server has for a device now."""

    start: StartingPoint
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
    manifest, graph = offer.start.manifest, offer.start.graph
    if manifest.graph_digest in hello.graphs:
        graph = b""
    chunk_bytes = chunk_size(hello.downlink_bps)
    welcome = Welcome(manifest=manifest, codec=offer.codec, graph_bytes=len(graph), control=offer.control)
    messages: list[ServerMessage] = [welcome, *_chunks("graph", graph, chunk_bytes)]
    known = known_way(hello, offer)
    if known is not None:
        return messages + known
    holds_start = offer.start.weights_digest in hello.weights
    return messages + snapshots(offer, holds_start=holds_start, chunk_bytes=chunk_bytes, partial=hello.partial)


def known_way(hello: Hello, offer: Offer) -> list[ServerMessage] | None:
    """Return what leads to the offer from weights that the edge has and the server knows; None where only a snapshot does.

    That is nothing, or missed updates, where the edge runs such weights. Where it keeps them beside others that it runs, a
    snapshot without content has it go back to them first.
    """
    held = hello.held
    if held is not None and held.bundle_digest == offer.start.manifest.bundle_digest:
        missed = missed_updates(held, offer)
        if missed is not None:
            return [*missed]
    bases = [(update.base_version, update.base_digest) for update in reversed(offer.recent_updates)]
    for version, digest in [(offer.version, offer.weights_digest), *bases]:
        if digest in hello.weights:
            return _way_from(version, digest, offer)
    return None


def _way_from(version: int, digest: bytes, offer: Offer) -> list[ServerMessage] | None:
    manifest = offer.start.manifest
    kept = HeldModel(bundle_digest=manifest.bundle_digest, version=version, weights_digest=digest)
    missed = missed_updates(kept, offer)
    if missed is None:
        return None
    # What does not differ has the same bytes whatever it is.
    nothing = np.zeros(manifest.layout.size, np.float32)
    unchanged = encode_snapshot(nothing, manifest.layout, nothing)
    return [*snapshot_messages(version, digest, unchanged, LEAST_CHUNK_BYTES, base_digest=digest), *missed]


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


def snapshots(
    offer: Offer, *, holds_start: bool, chunk_bytes: int, partial: PartialSnapshot | None = None
) -> list[ServerMessage]:
    """Return the offer's weights as what they differ from the starting weights, and these before where the edge lacks them.

    The bytes that `partial` says to be there are left out.

    Raises:
        ModelError: a weight is not finite.
    """
    start = offer.start
    whole = offer.weights_digest == start.weights_digest
    messages: list[ServerMessage] = []
    if not holds_start:
        version = offer.version if whole else START_VERSION
        messages += snapshot_messages(version, start.weights_digest, start.snapshot, chunk_bytes, partial)
    if whole and not holds_start:
        return messages
    change = encode_snapshot(offer.weights, start.manifest.layout, start.weights)
    base = start.weights_digest
    # What comes before the change replaces what the edge holds of it.
    partial = partial if holds_start else None
    return messages + snapshot_messages(offer.version, offer.weights_digest, change, chunk_bytes, partial, base_digest=base)


def snapshot_messages(
    version: int,
    digest: bytes,
    data: bytes,
    chunk_bytes: int,
    partial: PartialSnapshot | None = None,
    *,
    base_digest: bytes = b"",
) -> list[ServerMessage]:
    """Return the header and the chunks of a whole set of weights whose digest is `digest`, coded as `data`.

    They go on behind `partial`, what the edge has said to hold, if that is the beginning of the very same bytes.
    """
    whole = encoded_digest(data)
    continued = partial is not None and partial.encoded_digest == whole and partial.received_bytes < len(data)
    first_byte = partial.received_bytes if partial is not None and continued else 0
    header = SnapshotHeader(
        version=version,
        weights_digest=digest,
        encoded_bytes=len(data),
        encoded_digest=whole,
        first_byte=first_byte,
        base_digest=base_digest,
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
