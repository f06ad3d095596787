"""How often a device is trained: less often while its scene stands still (appendix D of the paper), more often at the start."""

import math
from collections import deque

import numpy as np
from pydantic import Field

from ams_common.settings import PartConfig
from ams_server.state import State, integer, numbers

RATES_KEPT = 5
SLOW_BELOW_HZ = 0.25
FAST_ABOVE_HZ = 0.35
SLOW_DOWN_S = 2.0
MAX_FACTOR = 6
FIRST_INTERVAL_S = 2.0
"""Least time between two phases at the start of a run."""


class PacingConfig(PartConfig):
    """How often a device is trained."""

    update_interval_s: float = Field(default=10.0, gt=0, le=3600)
    """Seconds of capture time between two updates, T_update of the paper."""
    adaptive_pacing: bool = True
    """Lengthen the interval by 2 s at a time, up to six times its value, while the scene stands still."""
    early_phases: bool = True
    """At the start of a run, the device's or the server's, train as soon as there is as much new to learn from as there was
    before, until that takes longer than the interval: two phases more at 10 s, one more for each doubling."""


class PacingController:
    """Slow-down mode begins when the mean of the last 5 sampling rates falls under 0.25 fps and ends when it passes 0.35."""

    def __init__(self, config: PacingConfig) -> None:
        self._config = config
        self._rates_hz: deque[float] = deque(maxlen=RATES_KEPT)
        self._slow = False
        self._interval_s = config.update_interval_s

    @property
    def interval_s(self) -> float:
        """Seconds of capture time until the next training phase, T_update."""
        return self._interval_s

    def interval_after(self, learnt_s: float) -> float:
        """Return the seconds of capture time until the next phase, after one that had the frames of `learnt_s` seconds."""
        if not self._config.early_phases:
            return self._interval_s
        return min(self._interval_s, max(FIRST_INTERVAL_S, learnt_s))

    @property
    def slow(self) -> bool:
        """Whether slow-down mode is on."""
        return self._slow

    def observe(self, sampling_hz: float) -> float:
        """Take the sampling rate of one training event and return the interval from now on, in seconds.

        Fewer than five events so far: their mean counts. Every event in slow-down mode, the first one included, adds 2 s.
        """
        if not self._config.adaptive_pacing:
            return self._interval_s
        self._rates_hz.append(sampling_hz)
        mean_hz = sum(self._rates_hz) / len(self._rates_hz)
        self._slow = mean_hz <= FAST_ABOVE_HZ if self._slow else mean_hz < SLOW_BELOW_HZ
        self._interval_s = self._next_interval_s()
        return self._interval_s

    def state(self) -> State:
        """Return what a later controller needs to go on: the rates seen (float64 [up to 5]), slow-down mode and interval."""
        return {
            "rates_hz": np.array(self._rates_hz, np.float64),
            "slow": np.array(self._slow, np.int64),
            "interval_s": np.array(self._interval_s, np.float64),
        }

    def load_state(self, state: State) -> None:
        """Go on from `state`, within what this controller's own configuration allows.

        Raises:
            ModelError: a part is missing or out of range.
        """
        count = state["rates_hz"].size if "rates_hz" in state else 0
        rates_hz = numbers(state, "rates_hz", (min(count, RATES_KEPT),), most=math.inf)
        slow = bool(integer(state, "slow", most=1))
        interval_s = float(numbers(state, "interval_s", (), most=math.inf))
        if not self._config.adaptive_pacing:
            return
        self._rates_hz.extend(rates_hz.tolist())
        self._slow = slow
        initial_s = self._config.update_interval_s
        self._interval_s = min(max(interval_s, initial_s), MAX_FACTOR * initial_s) if slow else initial_s

    def _next_interval_s(self) -> float:
        initial_s = self._config.update_interval_s
        if not self._slow:
            return initial_s
        return min(self._interval_s + SLOW_DOWN_S, MAX_FACTOR * initial_s)
