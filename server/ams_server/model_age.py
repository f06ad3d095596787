"""How old the model is that a device runs, as the server knows it."""

from ams_common.clock import Clock


class ModelAge:
    """Model age of one device over all connections of a run of it. Belongs to one thread, but any may read `age_s`.

    The device's capture time now is taken to be that of its newest frame here, and the time since that came: the age is too low
    by what that frame took to come.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._run_id = b""
        self._oldest_us: int | None = None
        self._newest = (0, 0.0)
        """Capture time in microseconds of the newest frame, and when it came."""
        self._learnt_us: int | None = None

    def connected(self, run_id: bytes) -> None:
        """Note a connection of the device's run `run_id`; what was known of another run is forgotten with its capture clock."""
        if run_id != self._run_id:
            self._run_id = run_id
            self._oldest_us = self._learnt_us = None

    def batch_came(self, newest_capture_us: int) -> None:
        """Take the capture time of the newest frame of a batch that has just come."""
        if self._oldest_us is None:
            self._oldest_us = newest_capture_us
        self._newest = (newest_capture_us, self._clock.now_s())

    def applied(self, learnt_capture_us: int) -> None:
        """Note that an update runs whose newest frame has this capture time; one of before this run says nothing."""
        newest_us, _ = self._newest
        if self._oldest_us is not None and self._oldest_us <= learnt_capture_us <= newest_us:
            self._learnt_us = learnt_capture_us

    @property
    def age_s(self) -> float | None:
        """Capture time now less that of the newest frame that the running model has learnt from; None where it is not known."""
        learnt_us, (newest_us, came_s) = self._learnt_us, self._newest
        if learnt_us is None:
            return None
        return (newest_us - learnt_us) / 1e6 + self._clock.now_s() - came_s
