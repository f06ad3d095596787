"""The switch from one version of the model to the next: one reference, between two frames."""

import threading
from dataclasses import dataclass

from ams_edge.inference import Model


@dataclass(frozen=True, kw_only=True)
class RunningModel:
    """A model with the version of its weights; the two never part."""

    model: Model
    version: int


class ModelSlot:
    """Holds the model that runs. Reading it takes no lock, so that inference waits for nobody."""

    def __init__(self) -> None:
        self._running: RunningModel | None = None
        self._changed = threading.Condition()

    def current(self) -> RunningModel | None:
        """Return the model that runs now; None before the first one."""
        return self._running

    def swap(self, model: Model, version: int) -> None:
        """Let `model` run from the next frame on, and wake those who wait for its version."""
        running = RunningModel(model=model, version=version)
        with self._changed:
            self._running = running
            self._changed.notify_all()

    def wait_for(self, version: int, timeout_s: float | None = None) -> bool:
        """Wait until `version` or a later one runs; False when `timeout_s` seconds have passed first, None waits for ever."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running is not None and self._running.version >= version, timeout_s)
