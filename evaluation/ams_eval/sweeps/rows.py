"""The rows of a sweep's database that belong together, and their means."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ams_eval import metrics

Row: TypeAlias = Mapping[str, Any]
"""A row of the table `runs` of a sweep's database."""


def mean(rows: Sequence[Row], name: str) -> float:
    """Return the mean over the recordings of the means over their runs of a column; NaN where nothing is known."""
    by_recording: dict[str, list[float]] = {}
    for row in rows:
        by_recording.setdefault(row["recording"], []).append(math.nan if row[name] is None else row[name])
    return metrics.spread(metrics.spread(values).mean for values in by_recording.values()).mean
