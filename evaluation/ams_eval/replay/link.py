"""A network link in virtual time: a rate that may change, a delay, and outages."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ams_common.errors import ConfigurationError
from ams_common.iou import Float64Array
from ams_eval.replay.timeline import Action, Timeline

MAHIMAHI_PACKET_BYTES = 1500
MOST_TRACE_BYTES = 64_000_000
_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_RATE = re.compile(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)ms")
_OUTAGE = re.compile(r"outage=(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Capacity:
    """Bits that a link has carried at most since time 0, as a function of time that is linear between given points."""

    times_s: Float64Array
    """float64 [K], ascending from 0."""
    bits: Float64Array
    """float64 [K], never descending, from 0."""
    repeats: bool
    """Whether the whole repeats itself; else it goes on as in its last stretch."""

    def finish_s(self, start_s: float, size_bytes: int) -> float:
        """Return the time at which `size_bytes` that begin to go at `start_s` have gone."""
        return max(start_s, self._time_of(self._bits_at(start_s) + 8 * size_bytes))

    def _bits_at(self, time_s: float) -> float:
        if self.repeats:
            rounds, rest_s = divmod(time_s, float(self.times_s[-1]))
            return float(rounds * self.bits[-1] + np.interp(rest_s, self.times_s, self.bits))
        beyond_s = max(0.0, time_s - self.times_s[-1])
        return float(np.interp(time_s, self.times_s, self.bits) + beyond_s * self._last_rate_bps)

    def _time_of(self, bits: float) -> float:
        if self.repeats:
            rounds = max(0, math.ceil(bits / self.bits[-1]) - 1)
            return float(rounds * self.times_s[-1]) + self._earliest_s(float(bits - rounds * self.bits[-1]))
        beyond = bits - float(self.bits[-1])
        return float(self.times_s[-1]) + beyond / self._last_rate_bps if beyond > 0 else self._earliest_s(bits)

    def _earliest_s(self, bits: float) -> float:
        end = min(int(np.searchsorted(self.bits, bits, side="left")), len(self.bits) - 1)
        if end == 0:
            return 0.0
        return float(np.interp(bits, self.bits[end - 1 : end + 1], self.times_s[end - 1 : end + 1]))

    @property
    def _last_rate_bps(self) -> float:
        return float((self.bits[-1] - self.bits[-2]) / (self.times_s[-1] - self.times_s[-2]))


@dataclass(frozen=True, kw_only=True)
class LinkShape:
    """Both directions of a link; None carries any number of bytes at once."""

    up: Capacity | None = None
    down: Capacity | None = None
    delay_s: float = 0.0
    """From the sending of a byte to its arrival, in each direction."""


class Link:
    """One direction: messages go one after the other and arrive in order."""

    def __init__(self, timeline: Timeline, capacity: Capacity | None, delay_s: float) -> None:
        self._timeline = timeline
        self._capacity = capacity
        self._delay_s = delay_s
        self.free_at_s = 0.0
        """When the last message that was handed over has left."""

    def send(self, size_bytes: int, deliver: Action) -> float:
        """Hand over a message; `deliver` is called at its arrival. Return the time at which its last byte leaves."""
        start_s = max(self._timeline.now_s, self.free_at_s)
        self.free_at_s = start_s if self._capacity is None else self._capacity.finish_s(start_s, size_bytes)
        self._timeline.at(self.free_at_s + self._delay_s, deliver)
        return self.free_at_s


def parse_link(text: str) -> LinkShape:
    """Return the link that `text` describes, such as "300kbit,50ms,outage=60-75" or "up=trace.txt,down=2mbit".

    Raises:
        ConfigurationError: a part is not understood, a trace cannot be read, or the link never carries anything.
    """
    rates: dict[str, str] = {}
    outages: list[tuple[float, float]] = []
    delay_ms = 0.0
    for part in filter(None, map(str.strip, text.split(","))):
        if match := _DELAY.fullmatch(part):
            delay_ms = float(match[1])
        elif match := _OUTAGE.fullmatch(part):
            outages.append((float(match[1]), float(match[2])))
        else:
            direction, equals, rate = part.partition("=")
            named = equals and direction in ("up", "down")
            rates |= {direction: rate} if named else dict.fromkeys(("up", "down"), part)
    up, down = (_capacity(rates.get(direction, ""), outages) for direction in ("up", "down"))
    return LinkShape(up=up, down=down, delay_s=delay_ms / 1000)


def _capacity(rate: str, outages: Sequence[tuple[float, float]]) -> Capacity | None:
    match = _RATE.fullmatch(rate)
    if match is None and rate:
        if outages:
            raise ConfigurationError(f"outages go with a rate such as 300kbit; a trace like {rate!r} has its own")
        return read_trace(Path(rate))
    if match is None and not outages:
        return None
    # A link without a limit still has outages: a rate at which nothing takes noticeable time.
    bps = float(match[1]) * _UNITS[match[2]] if match else 1e12
    if bps <= 0:
        raise ConfigurationError(f"a link of {rate} never carries anything")
    return capacity_of_rates(*_steps(bps, outages))


def _steps(bps: float, outages: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return times and rates of a constant rate with outages, which must not overlap."""
    times_s, rates = [0.0], [bps]
    for start_s, end_s in sorted(outages):
        if not times_s[-1] <= start_s < end_s:
            raise ConfigurationError(f"outage={start_s:g}-{end_s:g} ends before it starts, or overlaps another one")
        times_s += [start_s, end_s]
        rates += [0.0, bps]
    return times_s, rates


def capacity_of_rates(times_s: Sequence[float], rates_bps: Sequence[float]) -> Capacity:
    """Return the capacity of a link with `rates_bps` from each of `times_s` on, ascending from 0; the last one stays."""
    points = np.array([*times_s, times_s[-1] + 1.0])
    bits = np.concatenate([[0.0], np.cumsum(np.diff(points) * np.array(rates_bps))])
    return Capacity(times_s=points, bits=bits, repeats=False)


def read_trace(path: Path) -> Capacity:
    """Read a trace: lines of seconds and kbit/s, or of mahimahi: the milliseconds at which a packet of 1,500 bytes may go.

    Either repeats itself from its last time on.

    Raises:
        ConfigurationError: it cannot be read, is no trace, or never carries anything.
    """
    try:
        if path.stat().st_size > MOST_TRACE_BYTES:
            raise ConfigurationError(f"trace {str(path)!r} is longer than {MOST_TRACE_BYTES // 1_000_000} MB")
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, ValueError) as error:  # also a name with a null character, and text that is not ASCII
        raise ConfigurationError(f"unknown link {str(path)!r}: neither a rate such as 300kbit nor a readable trace") from error
    rows = [line.replace(",", " ").split() for line in lines if line.strip() and not line.startswith("#")]
    try:
        columns = np.array(rows, np.float64)
    except ValueError as error:
        raise ConfigurationError(f"trace {str(path)!r} is no table of numbers") from error
    if columns.ndim != 2 or columns.shape[1] > 2 or not np.isfinite(columns).all() or (columns < 0).any():
        raise ConfigurationError(f"trace {str(path)!r} has neither one nor two columns of numbers from 0 up")
    capacity = _mahimahi(columns[:, 0]) if columns.shape[1] == 1 else _table(columns)
    if not (np.diff(capacity.times_s) >= 0).all() or capacity.times_s[-1] <= 0 or capacity.bits[-1] <= 0:
        raise ConfigurationError(f"times of trace {str(path)!r} do not ascend, or it never carries anything")
    return capacity


def _mahimahi(times_ms: Float64Array) -> Capacity:
    bits = 8 * MAHIMAHI_PACKET_BYTES * np.arange(len(times_ms) + 1, dtype=np.float64)
    return Capacity(times_s=np.concatenate([[0.0], times_ms / 1000]), bits=bits, repeats=True)


def _table(columns: Float64Array) -> Capacity:
    times_s = columns[:, 0] - columns[0, 0]
    bits = np.concatenate([[0.0], np.cumsum(np.diff(times_s) * 1000 * columns[:-1, 1])])
    return Capacity(times_s=times_s, bits=bits, repeats=True)
