"""What one device may use, and what that must be at least to carry anything useful."""

import math
from dataclasses import dataclass

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.errors import ConfigurationError
from ams_common.framing import UPKEEP_BPS
from ams_common.messages import Bound
from ams_server.wire_costs import Cost, batch_cost, update_cost

SMALL_RECEIPT_FRACTION = 0.05
"""What receipts take of the other direction's traffic in messages of 12 kB and more, at most."""
LEAST_UPDATE_BYTES = 1024
"""Where an update would have less, its interval is longer. A student learnt as much from 1.15 kB every 3 s, with three times
the training, as from 4.6 kB every 9 s (budgets page of the benchmarks); fields and answers take a third of so small a one."""
WORKABLE_INTERVAL_S = 10.0
"""Budgets that carry LEAST_UPDATE_BYTES only at a longer interval are refused, unless updates are as seldom anyway."""
LEAST_SHARE = 0.25
"""Part of a budget that messages have in any case, whatever the receipts of the other direction and keeping open take."""
LONGEST_INTERVAL_S = 3600.0
"""Longest update interval that a budget leads to, one that was lowered while the device was connected."""


@dataclass(frozen=True, kw_only=True)
class DeviceBudget:
    """What one device may use, in bit/s; 0 for no limit."""

    uplink_bps: int
    downlink_bps: int


@dataclass(frozen=True, kw_only=True)
class Allotted:
    """What holds for one device, and why it is no more."""

    budget: DeviceBudget
    uplink_bound: Bound = "unspecified"
    """What keeps the uplink from being more; "unspecified" where the device asks for no more."""
    downlink_bound: Bound = "unspecified"
    """What keeps the downlink from being more."""


def least_interval_s(budget: DeviceBudget) -> float:
    """Return the seconds from one update to the next in which `budget` carries a frame and an update of LEAST_UPDATE_BYTES."""
    up_bytes, down_bytes = _exchange(LEAST_UPDATE_BYTES)
    up_s = _needed_s(up_bytes, budget.uplink_bps, budget.downlink_bps)
    down_s = _needed_s(down_bytes, budget.downlink_bps, budget.uplink_bps)
    return min(LONGEST_INTERVAL_S, max(up_s, down_s))


def require_workable(budget: DeviceBudget, update_interval_s: float) -> None:
    """Refuse budgets that cannot carry anything useful every `update_interval_s`, or WORKABLE_INTERVAL_S where that is longer.

    Raises:
        ConfigurationError: a budget is negative or below the least, which the message names.
    """
    interval_s = max(WORKABLE_INTERVAL_S, update_interval_s)
    up_bytes, down_bytes = _exchange(LEAST_UPDATE_BYTES)
    _require("uplink", budget.uplink_bps, up_bytes, interval_s)
    _require("downlink", budget.downlink_bps, down_bytes, interval_s)


def _exchange(payload_bytes: int) -> Cost:
    """Return what a frame and an update take, without the receipts that are a part of the other direction's rate.

    A small budget sends two batches for each update at most.
    """
    batch, update = batch_cost(LEAST_BATCH_BYTES, 1), update_cost(payload_bytes)
    return Cost(batch.up_bytes + update_cost(0).up_bytes, update.down_bytes + 2 * batch_cost(0, 1).down_bytes)


def _needed_s(size_bytes: int, rate_bps: int, other_bps: int) -> float:
    if not rate_bps:
        return 0.0
    return 8 * size_bytes / max(LEAST_SHARE * rate_bps, rate_bps - UPKEEP_BPS - SMALL_RECEIPT_FRACTION * other_bps)


def _require(direction: str, rate_bps: int, size_bytes: int, interval_s: float) -> None:
    least_bps = (8 * size_bytes / interval_s + UPKEEP_BPS) / (1 - SMALL_RECEIPT_FRACTION)
    if rate_bps == 0 or rate_bps >= least_bps:
        return
    raise ConfigurationError(
        f"{direction} budget of {rate_bps / 1000:g} kbit/s carries nothing at one update every {interval_s:g} s: "
        f"the least is {math.ceil(least_bps / 100) / 10:g} kbit/s, or let the server update less often"
    )
