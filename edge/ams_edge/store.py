"""The last good model on disk, so that a restart runs before the server answers, and what spares the network a download.

In a folder of the device's own, in the format of `ams_common.model_file`:

    model.ams   the model that ran last
    start.ams   the weights at version 0, with which every device of the server begins: snapshots build on them
    graphs/     graphs of these and earlier models, by digest
"""

import logging
import os
from pathlib import Path

from pydantic import Field

from ams_common.clock import Clock
from ams_common.errors import AmsError, ConfigurationError, system_reason
from ams_common.model_file import StoredModel, read_model, write_model
from ams_common.session.greeting import START_VERSION
from ams_common.settings import PartConfig
from ams_edge.graph_cache import GraphCache

_FILE_NAME = "model.ams"
_START_NAME = "start.ams"
_GRAPHS_NAME = "graphs"

_log = logging.getLogger(__name__)


class StoreConfig(PartConfig):
    """How often the running model goes to disk."""

    store_interval_s: float = Field(default=60.0, ge=0)
    """Least seconds between two writes of the running model, to spare flash memory; it is also written at shutdown."""


class ModelStore:
    """Keeps the newest model of one folder; used by one thread at a time, but others may read `start` and `graphs`."""

    def __init__(self, folder: Path, config: StoreConfig, clock: Clock) -> None:
        """Use `folder`, which is made where it is missing.

        Raises:
            ConfigurationError: the folder cannot be made or written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the model folder {str(folder)!r}: {system_reason(error)}") from error
        if not os.access(folder, os.W_OK):
            raise ConfigurationError(f"cannot write to the model folder {str(folder)!r}")
        self.path = folder / _FILE_NAME
        self._start_path = folder / _START_NAME
        self.start: StoredModel | None = None
        """The weights at version 0, once they are known; None before `load`."""
        self.graphs = GraphCache(folder / _GRAPHS_NAME)
        self._interval_s = config.store_interval_s
        self._clock = clock
        self._pending: StoredModel | None = None
        self._tried_bundle = b""
        """Of the model that was written last, or could not be."""
        self._next_write_s = clock.now_s()

    def load(self) -> StoredModel | None:
        """Return the model on disk; None where there is none or none that can be believed, which is put aside."""
        stored = _read(self.path)
        self.start = _read(self._start_path)
        if stored is not None:
            self._tried_bundle = stored.manifest.bundle_digest
        return stored

    def keep(self, model: StoredModel) -> None:
        """Keep what later downloads can build on, whether `model` runs or not: its graph, and the weights at version 0."""
        self.graphs.keep(model.graph)
        if model.version == START_VERSION:
            self._keep_start(model)

    def offer(self, model: StoredModel) -> None:
        """Take `model` as the newest: written at once when the graph is new or the interval has passed, else later."""
        self._pending = model
        self.keep(model)
        if model.manifest.bundle_digest != self._tried_bundle:
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
        self._tried_bundle = self._pending.manifest.bundle_digest
        try:
            write_model(self.path, self._pending)
        except OSError as error:
            _log.warning("cannot store the model in %s: %s", self.path, system_reason(error))
            return
        self._pending = None

    def _keep_start(self, model: StoredModel) -> None:
        known = self.start
        if known is not None and known.weights_digest == model.weights_digest:
            return
        self.start = model
        try:
            write_model(self._start_path, model)
        except OSError as error:
            _log.warning("cannot store the model in %s: %s", self._start_path, system_reason(error))


def _read(path: Path) -> StoredModel | None:
    """Return the model at `path`; None where there is none or none that can be believed, which is put aside."""
    try:
        return read_model(path)
    except FileNotFoundError:
        return None
    except (OSError, AmsError) as error:
        aside = path.with_suffix(".corrupt")
        _log.warning("stored model %s is not used and put aside as %s: %s", path, aside.name, error)
        _put_aside(path, aside)
        return None


def _put_aside(path: Path, aside: Path) -> None:
    try:
        path.replace(aside)
    except OSError as error:
        _log.warning("cannot rename %s: %s", path, system_reason(error))
