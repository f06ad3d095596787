"""Runs of one scheme together: means over recordings and seeds."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ams_eval import metrics
from ams_eval.result_folder import unique
from ams_eval.summary import Summary

TOO_SHORT = "a recording must be longer than the update interval and the way of an update"
"""Why a student learns nothing, in words."""
_SHARED = re.compile(r"(.+) x (\d+) devices")


class Group(tuple[Summary, ...]):
    """Runs of one scheme: on one recording with several seeds, or on all recordings."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """The scheme of all of them."""
        return self[0].scheme

    def seeds(self) -> int:
        """Return how many seeds there are."""
        return len({row.seed for row in self})

    def mean(self, name: str) -> float:
        """Return the mean over the recordings of the means over their seeds of a number; NaN where it does not exist."""
        return _mean(_mean(values) for values in self._by_recording(name))

    def deviation(self, name: str) -> float:
        """Return the standard deviation (n - 1) over the seeds of the mean over the recordings; NaN for one seed.

        Seeds that did not meet every recording do not count: their means would differ by what is to be seen.
        """
        seeds = [seed for seed in sorted({row.seed for row in self}) if self._recordings(seed) == self._recordings()]
        by_seed = [_mean(getattr(row, name) for row in self if row.seed == seed) for seed in seeds]
        known = [value for value in by_seed if not math.isnan(value)]
        if len(known) < 2:
            return math.nan
        return math.sqrt(sum((value - _mean(known)) ** 2 for value in known) / (len(known) - 1))

    def _recordings(self, seed: int | None = None) -> set[str]:
        return {row.recording for row in self if seed in (None, row.seed)}

    def _by_recording(self, name: str) -> list[list[float]]:
        return [[getattr(row, name) for row in self if row.recording == each] for each in unique(row.recording for row in self)]


def by_scheme(rows: Iterable[Summary]) -> list[Group]:
    """Return the rows of each scheme, in the order of their first appearance."""
    rows = list(rows)
    return [Group(row for row in rows if row.scheme == scheme) for scheme in unique(row.scheme for row in rows)]


def complete(groups: Sequence[Group]) -> list[Group]:
    """Return the schemes that ran on every recording that any of them ran on: only their means may be compared."""
    recordings = {row.recording for group in groups for row in group}
    return [group for group in groups if recordings == {row.recording for row in group}]


def describe_missing(groups: Sequence[Group]) -> str:
    """Return a sentence about the schemes that did not run on every recording; empty where all did."""
    count, whole = len({row.recording for group in groups for row in group}), complete(groups)
    parts = [f"{group.scheme} on {len({row.recording for row in group})}" for group in groups if group not in whole]
    if not parts:
        return ""
    return f"Of {count} recordings, {', '.join(parts)}: means over different recordings cannot be compared."


def describe_untaught(groups: Sequence[Group]) -> str:
    """Return a sentence about the schemes whose student learnt nothing from a recording; empty where all did."""
    untaught = [(group, unique(row.recording for row in group if _untaught(row))) for group in groups]
    parts = [f"{group.scheme} on {', '.join(recordings)}" for group, recordings in untaught if recordings]
    if not parts:
        return ""
    return f"No update took effect in {'; '.join(parts)}: {TOO_SHORT}."


def _untaught(row: Summary) -> bool:
    # A scheme that learns asks for frames at some interval.
    return row.updates == 0 and not math.isnan(row.update_interval_mean_s)


class SharingLoss(NamedTuple):
    """What a scheme loses where devices share a server; mIoU of 10 s windows, 0..1, NaN where there are no such labels."""

    scheme: str
    devices: int
    loss: float
    """mIoU against the teacher of a device with a server of its own, less that of the devices together."""
    human_loss: float
    recordings: int
    """Those that both were run on."""


def shared_name(scheme: str, devices: int) -> str:
    """Return what `scheme` is called where so many devices share a server."""
    return f"{scheme} x {devices} devices"


def sharing_losses(rows: Iterable[Summary]) -> list[SharingLoss]:
    """Return what each scheme that devices share a server in loses against one device alone, on the same recordings."""
    groups = by_scheme(rows)
    found = []
    for together in groups:
        match = _SHARED.fullmatch(together.scheme)
        alone = next((group for group in groups if match and group.scheme == match[1]), None)
        if match is None or alone is None:
            continue
        common = {row.recording for row in together} & {row.recording for row in alone}
        both = [Group(row for row in group if row.recording in common) for group in (alone, together)]
        loss, human_loss = (both[0].mean(name) - both[1].mean(name) for name in ("miou_window", "human_miou_window"))
        found.append(SharingLoss(match[1], int(match[2]), loss, human_loss, len(common)))
    return found


def _mean(values: Iterable[float]) -> float:
    return metrics.spread(values).mean
