"""A model on its way to the device: what the server has named, how far it is, and what a person is told of it."""

import logging

from ams_common.clock import Clock
from ams_common.framing import sent_bytes
from ams_common.messages import Budget
from ams_common.model_file import StoredModel
from ams_common.progress import Progress, download_time
from ams_common.session.client import ModelReceived, SnapshotAnnounced, SnapshotReceived
from ams_common.session.greeting import chunk_size
from ams_edge.settings import DeviceConfig

_log = logging.getLogger(__name__)


class Download:
    """Makes a model of what comes of it; belongs to the link's thread."""

    def __init__(self, config: DeviceConfig, provisioned: StoredModel | None, clock: Clock) -> None:
        """Compare what comes with the model that `config` has named, `provisioned`."""
        self._config = config
        self._provisioned = provisioned
        self._clock = clock
        self._model: ModelReceived | None = None
        self._progress = Progress(0, clock)
        """How far the newest snapshot is."""

    def model_named(self, model: ModelReceived) -> None:
        """Take the model that the server has, and say so where another one was provisioned."""
        self._model = model
        provisioned = self._provisioned
        if provisioned is None or model.manifest.bundle_digest == provisioned.manifest.bundle_digest:
            return
        held, offered = (
            f"{manifest.student} for {manifest.width}x{manifest.height} pixels with classes {', '.join(manifest.classes.names)}"
            for manifest in (provisioned.manifest, model.manifest)
        )
        differs = f"{held}, the server has {offered}" if held != offered else "another build of it than the server has"
        self._warn_of_no_use(f"it holds {differs}")

    def begin(self, snapshot: SnapshotAnnounced, budget: Budget) -> None:
        """Say how large a set of weights is that will come, and how long it takes at `budget`."""
        provisioned, named = self._provisioned, self._model
        assert named is not None
        if snapshot.whole and provisioned is not None and provisioned.manifest.bundle_digest == named.manifest.bundle_digest:
            self._warn_of_no_use(
                "it holds other weights than the server starts from, "
                "make it again with ams-server provision and the server's --student-weights"
            )
        self._progress = Progress(snapshot.encoded_bytes, self._clock)
        _log.info("receiving version %d: %s", snapshot.version, size_and_time(snapshot.encoded_bytes, budget))

    def add(self, size_bytes: int) -> None:
        """Count further bytes of it, and now and then say how far it is."""
        line = self._progress.add(size_bytes)
        if line is not None:
            _log.info("received %s", line)

    def finish(self, snapshot: SnapshotReceived) -> StoredModel:
        """Return the model with the weights that are complete now."""
        self.add(self._progress.left_bytes)
        assert self._model is not None
        return StoredModel(
            manifest=self._model.manifest,
            graph=self._model.graph,
            vector=snapshot.vector,
            version=snapshot.version,
            weights_digest=snapshot.weights_digest,
        )

    def _warn_of_no_use(self, reason: str) -> None:
        path = self._config.model
        _log.warning("--model %s is of no use for this server and a model is downloaded: %s", path, reason)


def size_and_time(size_bytes: int, budget: Budget) -> str:
    """Say how large a download is, and how long it takes at the budget."""
    chunk_bytes = chunk_size(budget.downlink_bps)
    wire_bytes = size_bytes / chunk_bytes * sent_bytes(chunk_bytes)
    return f"{size_bytes / 1000:.0f} kB{download_time(wire_bytes, budget.uplink_bps, budget.downlink_bps)}"
