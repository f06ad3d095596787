"""How old the model of a connected device is, as the server knows it."""

from ams_common.clock import Clock


class ModelAge:
    """Model age of one connection; used by one thread.

    The device's capture time now is taken to be that of its newest frame here, and the time since that came: the age is too low
    by what that frame took to come.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._oldest_us: int | None = None
        self._newest_us = 0
        self._came_s = 0.0
        self._learnt_us: int | None = None

    def batch_came(self, newest_capture_us: int) -> None:
        """Take the capture time of the newest frame of a batch that has just come."""
        if self._oldest_us is None:
            self._oldest_us = newest_capture_us
        self._newest_us, self._came_s = newest_capture_us, self._clock.now_s()

    def applied(self, learnt_capture_us: int) -> None:
        """Note that an update runs whose newest frame has this capture time; one of before this connection says nothing.

        The device may have been started again since, with another capture clock.
        """
        if self._oldest_us is not None and self._oldest_us <= learnt_capture_us <= self._newest_us:
            self._learnt_us = learnt_capture_us

    @property
    def age_s(self) -> float | None:
        """Capture time now less that of the newest frame that the running model has learnt from; None where it is not known."""
        if self._learnt_us is None:
            return None
        return (self._newest_us - self._learnt_us) / 1e6 + self._clock.now_s() - self._came_s
