"""Sessions on disk: what a server process that is started again needs to go on with the devices of the one before.

One safetensors file for each device, named by a hash of the device's id, which comes from outside. It is written beside the old
one, flushed and renamed over it, so that a crash leaves the old or the new file. Its metadata, strings all:

    format      "1"
    device      id of the device
    model       hexadecimal digest of what the state belongs to, see `session_identity`
    contents    hexadecimal BLAKE2b of the three above and of every tensor's name, type, shape and bytes

The tensors are those of `EdgeSession.state`. Nothing in a file is believed before all of it is checked.
"""

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ams_common.durable import sync_folder
from ams_common.errors import ConfigurationError, ModelError, system_reason
from ams_common.layout import DIGEST_BYTES
from ams_common.messages import ModelManifest
from ams_common.settings import PartConfig
from ams_server.learners.config import Scheme
from ams_server.state import State
from ams_server.training_config import TrainingConfig

_FORMAT = "1"
_TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8}
_BYTES_PER_PARAMETER = 40
"""At most: weights and two moments of 4 bytes, moved positions of 8, and two updates of up to 8, with a reserve."""
_OTHER_BYTES = 256 * 1024
_MAX_TENSORS = 64
_GOOD, _PARTIAL, _REFUSED = ".safetensors", ".partial", ".refused"

_log = logging.getLogger(__name__)


class CheckpointConfig(PartConfig):
    """Sessions on disk."""

    state_folder: Path | None = None
    """Folder that keeps the devices' sessions across restarts of the server, one server each; by default nothing is kept."""


def session_identity(manifest: ModelManifest, starting_digest: bytes, training: TrainingConfig, scheme: Scheme) -> bytes:
    """Return 16 bytes that identify what a session's state has a meaning for.

    That is the student with its classes and size, the weights that devices start from (`starting_digest`), the scheme,
    the optimiser, and whether phases start from the starting weights. All other settings may change between two processes.
    """
    text = f"{scheme} {training.optimizer} {training.restore_between_phases}"
    parts = manifest.bundle_digest + starting_digest + text.encode()
    return hashlib.blake2b(parts, digest_size=DIGEST_BYTES).digest()


class CheckpointStore:
    """The files of one folder; used by one thread at a time, and by one process."""

    def __init__(self, folder: Path, identity: bytes, *, parameters: int, keep: int) -> None:
        """Use `folder`, which is made where it is missing.

        Args:
            folder: where the files are.
            identity: `session_identity` of what this process serves.
            parameters: elements of the flat vector, P; bounds the size of a file.
            keep: files that are kept; of more, those written longest ago are deleted.

        Raises:
            ConfigurationError: the folder cannot be made or written to.
        """
        self._folder = folder
        self._identity = identity.hex()
        self._largest_bytes = _BYTES_PER_PARAMETER * parameters + _OTHER_BYTES
        self._keep = keep
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left_over in folder.glob(f"*{_PARTIAL}"):
                left_over.unlink()
            probe = folder / f"probe{_PARTIAL}"
            _write_file(probe, b"\0")
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep sessions in --state-folder {str(folder)!r}: {system_reason(error)}"
            ) from error

    def path(self, device_id: str) -> Path:
        """Return the file of a device."""
        name = hashlib.blake2b(device_id.encode(), digest_size=DIGEST_BYTES).hexdigest()
        return self._folder / f"{name}{_GOOD}"

    def save(self, device_id: str, state: State) -> int:
        """Put `state` in the place of what was kept of the device; return the bytes written.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        metadata = {"format": _FORMAT, "device": device_id, "model": self._identity}
        metadata["contents"] = _contents_digest(metadata, state)
        # The format's library writes the memory of an array as it lies, whatever its order is.
        data = save({name: np.asarray(array, order="C") for name, array in state.items()}, metadata)
        path = self.path(device_id)
        partial = path.with_suffix(_PARTIAL)
        try:
            _write_file(partial, data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)
        self._forget_oldest()
        return len(data)

    def load(self, device_id: str) -> State | None:
        """Return what was kept of a device; None where there is nothing, or nothing to be believed, which is put aside."""
        path = self.path(device_id)
        try:
            return self._read(path, device_id)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SafetensorError, ModelError) as error:
            self.refuse(device_id, str(error).splitlines()[0])
            return None

    def refuse(self, device_id: str, reason: str) -> None:
        """Put the file of a device aside, because of `reason`."""
        path = self.path(device_id)
        aside = path.with_suffix(_REFUSED)
        _log.warning("device %s: session %s is not used and put aside as %s: %s", device_id, path, aside.name, reason)
        try:
            path.replace(aside)
        except OSError as error:
            _log.warning("cannot rename %s: %s", path, system_reason(error))

    def _read(self, path: Path, device_id: str) -> State:
        size = path.stat().st_size
        if not path.is_file() or size > self._largest_bytes:
            raise ModelError(f"it is no file of at most {self._largest_bytes} bytes")
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            expected = {"format": _FORMAT, "device": device_id, "model": self._identity}
            _check_metadata(metadata, expected)
            names = list(file.keys())
            _check_types(names, (file.get_slice(name).get_dtype() for name in names))
            state: dict[str, npt.NDArray[Any]] = {name: file.get_tensor(name) for name in names}
        if metadata.get("contents") != _contents_digest(expected, state):
            raise ModelError("digest of its contents does not match")
        return state

    def _forget_oldest(self) -> None:
        kept = [path for path in self._folder.iterdir() if path.suffix in (_GOOD, _REFUSED)]
        if len(kept) <= self._keep:
            return
        kept.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in kept[: -self._keep]:
            path.unlink()
            _log.info("session %s is deleted: with this --max-devices the %d written last are kept", path.name, self._keep)


def _check_metadata(metadata: dict[str, str], expected: dict[str, str]) -> None:
    if metadata.get("model") != expected["model"]:
        raise ModelError("it is of another student, other starting weights or another kind of training")
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise ModelError(f"its {key} is {metadata.get(key, '')[:64]!r} instead of {value!r}")


def _check_types(names: list[str], types: Iterable[str]) -> None:
    if len(names) > _MAX_TENSORS:
        raise ModelError(f"it holds {len(names)} tensors")
    for name, kind in zip(names, types, strict=True):
        if kind not in _TYPES:
            raise ModelError(f"tensor {name[:64]!r} is of type {kind}")


def _contents_digest(metadata: dict[str, str], state: State) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    digest.update(repr(sorted(metadata.items())).encode())
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return digest.hexdigest()


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
