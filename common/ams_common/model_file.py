"""A whole model in one file: what `ams-server provision` writes, and what an edge keeps on its disk.

    8   magic "AMSMODEL"
    4   format, uint32 = 1
    4   length of the manifest, uint32
    8   length of the graph, uint64
    8   number of weights, uint64
    8   version of the weights, uint64
    .   manifest, as on the wire
    .   graph, ONNX without weights
    .   weights, float32
    16  BLAKE2b of all that precedes

All numbers are little-endian. A file is written beside the old one, flushed and renamed over it, so that a power cut leaves the
old or the new one.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ams_common.durable import sync_folder
from ams_common.errors import ModelError
from ams_common.layout import DIGEST_BYTES, Float32Array, weights_digest
from ams_common.messages import ModelManifest
from ams_common.wire_manifest import manifest_from_bytes, manifest_to_bytes

_MAGIC = b"AMSMODEL"
_FORMAT = 1
_HEADER = struct.Struct("<8sIIQQQ")
_MAX_FILE_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """Everything that is needed to run a model."""

    manifest: ModelManifest
    graph: bytes
    vector: Float32Array
    """float32 [P]; never written to."""
    version: int
    weights_digest: bytes
    """Digest of `vector`."""


def write_model(path: Path, model: StoredModel) -> None:
    """Put `model` in the place of the file at `path`.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    manifest = manifest_to_bytes(model.manifest)
    weights = np.ascontiguousarray(model.vector, "<f4")
    header = _HEADER.pack(_MAGIC, _FORMAT, len(manifest), len(model.graph), weights.size, model.version)
    parts = (header, manifest, model.graph, weights.data.cast("B"))
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        # A disk that is full has no room for what is of no use.
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_model(path: Path) -> StoredModel:
    """Return the model in the file at `path`; nothing in it is believed before all of it has its digest.

    Raises:
        OSError: it cannot be read.
        AmsError: it is no whole file of a model.
    """
    size = path.stat().st_size
    if not _HEADER.size + DIGEST_BYTES <= size <= _MAX_FILE_BYTES:
        raise ModelError(f"it is no model file, with {size} bytes")
    data = memoryview(path.read_bytes())
    body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    magic, form, manifest_bytes, graph_bytes, count, version = _HEADER.unpack_from(body)
    if magic != _MAGIC:
        raise ModelError(f"it is no model file: it does not begin with {_MAGIC.decode()}")
    if form != _FORMAT:
        raise ModelError(f"it has format {form}, where this version reads {_FORMAT}")
    if _HEADER.size + manifest_bytes + graph_bytes + 4 * count != len(body):
        raise ModelError(f"file of {size} bytes does not have the length that its header says")
    if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise ModelError("digest of the file does not match")
    rest = body[_HEADER.size :]
    manifest = manifest_from_bytes(bytes(rest[:manifest_bytes]))
    if manifest.layout.size != count:
        raise ModelError(f"file has {count} weights, its manifest names {manifest.layout.size}")
    graph = bytes(rest[manifest_bytes : manifest_bytes + graph_bytes])
    vector = np.frombuffer(rest[manifest_bytes + graph_bytes :], "<f4").astype(np.float32)
    return StoredModel(manifest=manifest, graph=graph, vector=vector, version=version, weights_digest=weights_digest(vector))
