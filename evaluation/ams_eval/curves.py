"""Curves: what becomes of the numbers of runs along one axis of a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass

from ams_eval import metrics


@dataclass(frozen=True, kw_only=True, eq=False)
class Spot:
    """What came out with one value of the axis."""

    value: str
    """On the axis; empty where there is none."""
    seeds: tuple[Mapping[str, float], ...]
    """For each seed its numbers by name, means over the recordings; NaN where one of them does not have it."""

    def mean(self, name: str) -> float:
        """Return the mean of a number over the seeds; NaN where it does not exist."""
        return metrics.spread(each[name] for each in self.seeds).mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What came out along the axis, all else being equal."""

    name: str
    axis: str = ""
    """Setting that differs along it; empty for a single spot."""
    spots: tuple[Spot, ...]
    """In the order of the axis; at least one."""

    def means(self, name: str) -> list[float]:
        """Return a number of each spot."""
        return [spot.mean(name) for spot in self.spots]

    def title(self, spot: Spot) -> str:
        """Return what tells one of the spots apart, for people."""
        return f"{self.name}, {self.axis}={spot.value}" if self.axis else self.name
