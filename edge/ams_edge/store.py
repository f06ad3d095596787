"""The last good model on disk, so that a restart runs before the server answers.

One file, written beside the old one, flushed and renamed over it, so that a power cut leaves the old or the new model:

    8   magic "AMSMODEL"
    4   format, uint32 = 1
    4   length of the manifest, uint32
    8   length of the graph, uint64
    8   number of weights, uint64
    8   version of the weights, uint64
    .   manifest, as on the wire
    .   graph
    .   weights, float32
    16  BLAKE2b of all that precedes

All numbers are little-endian.
"""

import hashlib
import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from ams_common.clock import Clock
from ams_common.durable import sync_folder
from ams_common.errors import AmsError, ConfigurationError, ModelError
from ams_common.layout import DIGEST_BYTES, Float32Array, weights_digest
from ams_common.messages import ModelManifest
from ams_common.settings import PartConfig
from ams_common.wire_manifest import manifest_from_bytes, manifest_to_bytes

_MAGIC = b"AMSMODEL"
_FORMAT = 1
_HEADER = struct.Struct("<8sIIQQQ")
_MAX_FILE_BYTES = 4 << 30
_FILE_NAME = "model.ams"

_log = logging.getLogger(__name__)


class StoreConfig(PartConfig):
    """How often the running model goes to disk."""

    store_interval_s: float = Field(default=60.0, ge=0)
    """Least seconds between two writes of the running model, to spare flash memory; it is also written at shutdown."""


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


class ModelStore:
    """Keeps the newest model of one folder; used by one thread at a time."""

    def __init__(self, folder: Path, config: StoreConfig, clock: Clock) -> None:
        """Use `folder`, which is made where it is missing.

        Raises:
            ConfigurationError: the folder cannot be made or written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the model folder {str(folder)!r}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise ConfigurationError(f"cannot write to the model folder {str(folder)!r}")
        self.path = folder / _FILE_NAME
        self._interval_s = config.store_interval_s
        self._clock = clock
        self._pending: StoredModel | None = None
        self._bundle_on_disk = b""
        self._next_write_s = clock.now_s()

    def load(self) -> StoredModel | None:
        """Return the model on disk; None where there is none or none that can be believed, which is put aside."""
        try:
            stored = _read(self.path)
        except FileNotFoundError:
            return None
        except (OSError, AmsError) as error:
            aside = self.path.with_suffix(".corrupt")
            _log.warning("stored model %s is not used and put aside as %s: %s", self.path, aside.name, error)
            _put_aside(self.path, aside)
            return None
        self._bundle_on_disk = stored.manifest.bundle_digest
        return stored

    def offer(self, model: StoredModel) -> None:
        """Take `model` as the newest: written at once when the graph is new or the interval has passed, else later."""
        self._pending = model
        if model.manifest.bundle_digest != self._bundle_on_disk:
            self.flush()
        else:
            self.flush_if_due()

    def flush_if_due(self) -> None:
        """Write the newest model if it is not on disk and the interval has passed since the last write."""
        if self._clock.now_s() >= self._next_write_s:
            self.flush()

    def flush(self) -> None:
        """Write the newest model if it is not on disk; a disk that refuses costs a log line, and is asked again in its time."""
        if self._pending is None:
            return
        self._next_write_s = self._clock.now_s() + self._interval_s
        try:
            _write(self.path, self._pending)
        except OSError as error:
            _log.warning("cannot store the model in %s: %s", self.path, error.strerror)
            return
        self._bundle_on_disk = self._pending.manifest.bundle_digest
        self._pending = None


def _write(path: Path, model: StoredModel) -> None:
    manifest = manifest_to_bytes(model.manifest)
    weights = np.ascontiguousarray(model.vector, "<f4")
    header = _HEADER.pack(_MAGIC, _FORMAT, len(manifest), len(model.graph), weights.size, model.version)
    parts = (header, manifest, model.graph, weights.data.cast("B"))
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        for part in parts:
            digest.update(part)
            file.write(part)
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _read(path: Path) -> StoredModel:
    size = path.stat().st_size
    if not _HEADER.size + DIGEST_BYTES <= size <= _MAX_FILE_BYTES:
        raise ModelError(f"file of {size} bytes")
    data = memoryview(path.read_bytes())
    body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    magic, form, manifest_bytes, graph_bytes, count, version = _HEADER.unpack_from(body)
    if magic != _MAGIC or form != _FORMAT:
        raise ModelError(f"file starts with {magic!r}, format {form}")
    if _HEADER.size + manifest_bytes + graph_bytes + 4 * count != len(body):
        raise ModelError(f"file of {size} bytes does not have the length that its header says")
    if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise ModelError("digest of the file does not match")
    rest = body[_HEADER.size :]
    manifest = manifest_from_bytes(bytes(rest[:manifest_bytes]))
    graph = bytes(rest[manifest_bytes : manifest_bytes + graph_bytes])
    vector = np.frombuffer(rest[manifest_bytes + graph_bytes :], "<f4").astype(np.float32)
    return StoredModel(manifest=manifest, graph=graph, vector=vector, version=version, weights_digest=weights_digest(vector))


def _put_aside(path: Path, aside: Path) -> None:
    try:
        path.replace(aside)
    except OSError as error:
        _log.warning("cannot rename %s: %s", path, error.strerror)
