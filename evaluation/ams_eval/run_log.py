"""What server and edge wrote into their event logs, as values: while they run, and afterwards."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ams_common.errors import AmsError

Event: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Second:
    """A second of the edge, or a little more."""

    time_s: float
    """End, on the machine's clock."""
    capture_time_s: float
    """End, on the capture clock."""
    fps: float
    infer_ms: tuple[float, ...]
    """Inference time of each frame."""
    version: int
    sampling_hz: float
    model_age_s: float | None
    """Time since the newest frame that the running model has learnt from; None for the model as it came."""
    uplink_bytes: int
    """Total since the start of the edge."""
    downlink_bytes: int
    """Total since the start of the edge, the first model included."""


@dataclass(frozen=True, kw_only=True)
class Swap:
    """An update that the edge switched to."""

    time_s: float
    version: int
    payload_bytes: int
    changed: int
    loss: float
    newest_capture_s: float
    latency_s: float | None
    """From the capture of the newest frame to the switch; None, as its parts, if the batch was forgotten."""
    wait_s: float | None
    encode_s: float | None
    upload_s: float | None
    queue_s: float | None
    label_s: float | None
    train_s: float | None
    code_s: float | None
    download_s: float | None
    build_s: float | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch that the edge encoded."""

    time_s: float
    frames: int
    payload_bytes: int
    encode_ms: float
    newest_capture_s: float


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """One run of an edge with its server."""

    seconds: tuple[Second, ...]
    swaps: tuple[Swap, ...]
    batches: tuple[Batch, ...]
    intervals_s: tuple[tuple[int, float], ...]
    """(version, update interval in seconds after it), as the server says."""

    @property
    def clock_offset_s(self) -> float:
        """Machine time of capture time 0; what a late frame waited is left out as far as any frame was in time."""
        return min((each.time_s - each.capture_time_s for each in self.seconds), default=0.0)

    def swap_capture_s(self, swap: Swap) -> float:
        """Return the capture time at which an update took effect."""
        return max(0.0, swap.time_s - self.clock_offset_s)

    def inference_ms(self, quantile: float) -> float:
        """Return a quantile, 0..1, of the inference time of all frames; NaN without frames."""
        times_ms = [time_ms for each in self.seconds for time_ms in each.infer_ms]
        return float(np.quantile(times_ms, quantile)) if times_ms else float("nan")


class EventTail:
    """Reads an event log that another process is writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[Event]:
        """Return the events that were completed since the last call; none while there is no file."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._position += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]


def read_run(edge_events: Path, server_events: Path) -> RunLog:
    """Return what the two event logs say.

    Raises:
        RunLogError: a log is not as this version of server and edge writes it.
    """
    edge, server = EventTail(edge_events).read(), EventTail(server_events).read()
    try:
        return RunLog(
            seconds=tuple(parse_second(event) for event in named(edge, "statistics")),
            swaps=tuple(parse_swap(event) for event in named(edge, "swap")),
            batches=tuple(_parse_batch(event) for event in named(edge, "batch")),
            intervals_s=tuple((event["version"], event["update_interval_s"]) for event in named(server, "update")),
        )
    except KeyError as error:
        raise RunLogError(f"an event in {edge_events} or {server_events} lacks {error}") from error


class RunLogError(AmsError):
    """An event log that another version wrote."""


def named(events: Iterable[Event], name: str) -> list[Event]:
    """Return the events of one name."""
    return [event for event in events if event["event"] == name]


def parse_second(event: Event) -> Second:
    """Return a "statistics" event of the edge as a value."""
    names = ("time_s", "capture_time_s", "fps", "version", "sampling_hz", "model_age_s", "uplink_bytes", "downlink_bytes")
    return Second(**_chosen(event, names), infer_ms=tuple(event["infer_ms"]))


def parse_swap(event: Event) -> Swap:
    """Return a "swap" event of the edge as a value."""
    return Swap(**_chosen(event, tuple(Swap.__dataclass_fields__)))


def _parse_batch(event: Event) -> Batch:
    return Batch(**_chosen(event, tuple(Batch.__dataclass_fields__)))


def _chosen(event: Event, names: Sequence[str]) -> dict[str, Any]:
    return {name: event[name] for name in names}
