"""How often just-in-time distillation asks the teacher (lines 14 to 17 of Algorithm 1 of its paper)."""

import numpy as np

from ams_server.learners.config import MOST_FRAMES, JustInTimeConfig
from ams_server.state import State, integer


class StrideController:
    """The stride doubles while the student does well on new frames, once it has learnt them, and halves while it does not."""

    def __init__(self, config: JustInTimeConfig) -> None:
        self._config = config
        self._stride = config.jit_min_stride

    @property
    def stride(self) -> int:
        """Frames of the camera from one labelled frame to the next."""
        return self._stride

    @property
    def period_s(self) -> float:
        """Seconds of capture time from one labelled frame to the next."""
        return self._stride / self._config.jit_camera_hz

    def observe(self, accuracy: float) -> int:
        """Take the mIoU on a labelled frame after training on it, and return the stride from now on."""
        config = self._config
        if accuracy > config.jit_accuracy:
            self._stride = min(config.jit_max_stride, 2 * self._stride)
        else:
            self._stride = max(config.jit_min_stride, self._stride // 2)
        return self._stride

    def state(self) -> State:
        """Return what a later controller needs to go on: the stride."""
        return {"stride": np.array(self._stride, np.int64)}

    def load_state(self, state: State) -> None:
        """Go on from `state`, within what this controller's own configuration allows.

        Raises:
            ModelError: it holds no stride.
        """
        stride = integer(state, "stride", most=MOST_FRAMES)
        self._stride = min(max(stride, self._config.jit_min_stride), self._config.jit_max_stride)
