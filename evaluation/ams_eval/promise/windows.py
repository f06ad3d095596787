"""The window of a trace that exceeds a rate most."""

from collections.abc import Sequence

LEAST_WINDOW_S = 10.0
"""The promise is about windows of this length and more."""


def worst_excess_bytes(
    times_s: Sequence[float], sizes_bytes: Sequence[int], rate_bps: float, least_window_s: float = LEAST_WINDOW_S
) -> float:
    """Return the largest bytes - rate x length over all windows of `least_window_s` or more; -inf without events.

    `sizes_bytes` went at `times_s`, which ascend. A window takes in the events at both of its ends. It is enough to look at
    windows that begin and end at an event, and at those of the least length that begin at one: O(n) for all of them.
    """
    bytes_per_s = rate_bps / 8
    before: list[float] = []
    """For each event, the bytes that went before it, less what the rate had allowed by then."""
    total, excess, lowest = 0, float("-inf"), float("inf")
    first = 0
    """The first event that is less than the least window before the present one."""
    totals = [0]
    for time_s, size_bytes in zip(times_s, sizes_bytes, strict=True):
        before.append(total - bytes_per_s * time_s)
        total += size_bytes
        totals.append(total)
        while times_s[first] <= time_s - least_window_s:
            lowest = min(lowest, before[first])
            first += 1
        long = total - bytes_per_s * time_s - lowest
        short = total - totals[first] - bytes_per_s * least_window_s
        excess = max(excess, long, short)
    return excess
