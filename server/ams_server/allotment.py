"""Which budgets hold: what devices ask for, under the server's caps and the ceilings that a person has set.

A device is told what holds for it, at once and whenever it changes, and keeps to it. All methods belong to the service's loop.
"""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import Field

from ams_common.budget import even_rates
from ams_common.messages import Bound
from ams_common.settings import PartConfig
from ams_common.wording import budgets_told
from ams_server.device_budget import Allotted, DeviceBudget
from ams_server.shares import fair_shares

MOST_CEILINGS = 4096
"""Ceilings that are remembered; the one that was set longest ago is forgotten when there are more."""

_log = logging.getLogger(__name__)


class CapConfig(PartConfig):
    """What devices may use at most."""

    max_uplink_kbps: float = Field(default=0.0, ge=0, le=1e9)
    """Most that one device may send to the server, in kbit/s, whatever its own budget; 0 for no cap."""
    max_downlink_kbps: float = Field(default=0.0, ge=0, le=1e9)
    """Most that the server sends to one device, in kbit/s, whatever its own budget; 0 for no cap."""
    total_uplink_kbps: float = Field(default=0.0, ge=0, le=1e9)
    """Most that all devices together may send, in kbit/s, shared fairly among those that are connected; 0 for no cap."""
    total_downlink_kbps: float = Field(default=0.0, ge=0, le=1e9)
    """Most that the server sends to all devices together, in kbit/s, shared like the other; 0 for no cap."""


UNLIMITED = DeviceBudget(uplink_bps=0, downlink_bps=0)
_STEPS: tuple[Bound, ...] = ("cap", "ceiling", "share", "other_direction")
"""What may lower a budget, one after the other."""


def smaller_budget(first: DeviceBudget, second: DeviceBudget) -> DeviceBudget:
    """Return the smaller of two budgets in each direction."""
    return DeviceBudget(
        uplink_bps=_smaller(first.uplink_bps, second.uplink_bps), downlink_bps=_smaller(first.downlink_bps, second.downlink_bps)
    )


@dataclass(eq=False)
class _Member:
    asked: DeviceBudget
    held: Allotted
    on_change: Callable[[Allotted], None]


class Allotment:
    """The budgets of all connected devices."""

    def __init__(self, caps: CapConfig) -> None:
        self._cap = DeviceBudget(uplink_bps=_bps(caps.max_uplink_kbps), downlink_bps=_bps(caps.max_downlink_kbps))
        self._total = DeviceBudget(uplink_bps=_bps(caps.total_uplink_kbps), downlink_bps=_bps(caps.total_downlink_kbps))
        self._members: dict[str, _Member] = {}
        self._ceilings: OrderedDict[str, DeviceBudget] = OrderedDict()

    def preview(self, device_id: str, asked: DeviceBudget) -> DeviceBudget:
        """Return what would hold for a device if it connected now and asked for `asked`."""
        return self._shares(self._wishes | {device_id: asked})[device_id].budget

    def enter(self, device_id: str, asked: DeviceBudget, on_change: Callable[[Allotted], None]) -> Allotted:
        """Take a device in that was not here; return what holds for it, and call `on_change` whenever that changes later."""
        assert device_id not in self._members
        held = self._shares(self._wishes | {device_id: asked})[device_id]
        self._members[device_id] = _Member(asked=asked, held=held, on_change=on_change)
        if held.budget != asked:
            _log.info("device %s: %s, where %s are asked for", device_id, describe(held), describe(asked))
        self._share_again()
        return held

    def leave(self, device_id: str) -> None:
        """Share what a device had among the others."""
        del self._members[device_id]
        self._share_again()

    def ask(self, device_id: str, asked: DeviceBudget) -> None:
        """Note that a connected device asks for other budgets than before."""
        self._members[device_id].asked = asked
        self._share_again()

    def ceiling(self, device_id: str) -> DeviceBudget:
        """Return the ceiling of a device, UNLIMITED where none was set."""
        return self._ceilings.get(device_id, UNLIMITED)

    def set_ceiling(self, device_id: str, ceiling: DeviceBudget) -> bool:
        """Hold a device to `ceiling` from now on, in place of an earlier one; tell whether it is connected."""
        self._ceilings.pop(device_id, None)
        if ceiling != UNLIMITED:
            self._ceilings[device_id] = ceiling
        if len(self._ceilings) > MOST_CEILINGS:
            self._ceilings.popitem(last=False)
        self._share_again()
        return device_id in self._members

    def asked_and_held(self, device_id: str) -> tuple[DeviceBudget, Allotted]:
        """Return what a connected device asks for, and what holds."""
        member = self._members[device_id]
        return member.asked, member.held

    @property
    def _wishes(self) -> dict[str, DeviceBudget]:
        return {name: member.asked for name, member in self._members.items()}

    def _share_again(self) -> None:
        for name, held in self._shares(self._wishes).items():
            member = self._members[name]
            if held == member.held:
                continue
            member.held = held
            _log.info("device %s: now %s", name, describe(held))
            member.on_change(held)

    def _shares(self, wishes: dict[str, DeviceBudget]) -> dict[str, Allotted]:
        capped = [smaller_budget(asked, self._cap) for asked in wishes.values()]
        limited = [smaller_budget(budget, self.ceiling(name)) for name, budget in zip(wishes, capped, strict=True)]
        ups = fair_shares([each.uplink_bps for each in limited], self._total.uplink_bps)
        downs = fair_shares([each.downlink_bps for each in limited], self._total.downlink_bps)
        shares = [DeviceBudget(uplink_bps=up, downlink_bps=down) for up, down in zip(ups, downs, strict=True)]
        even = [_even(share) for share in shares]
        steps = zip(wishes.values(), capped, limited, shares, even, strict=True)
        return {name: _allotted(each) for name, each in zip(wishes, steps, strict=True)}


def _even(budget: DeviceBudget) -> DeviceBudget:
    uplink_bps, downlink_bps = even_rates(budget.uplink_bps, budget.downlink_bps)
    return DeviceBudget(uplink_bps=uplink_bps, downlink_bps=downlink_bps)


def _allotted(budgets: Sequence[DeviceBudget]) -> Allotted:
    """Return the last of `budgets`, what was asked for and what is left of it after each of _STEPS."""
    return Allotted(
        budget=budgets[-1],
        uplink_bound=_bound([each.uplink_bps for each in budgets]),
        downlink_bound=_bound([each.downlink_bps for each in budgets]),
    )


def _bound(rates_bps: Sequence[int]) -> Bound:
    """Return which of _STEPS was the last to lower a rate; "unspecified" where none did."""
    changes = zip(_STEPS, itertools.pairwise(rates_bps), strict=True)
    lowered: list[Bound] = [step for step, (before_bps, after_bps) in changes if after_bps != before_bps]
    return lowered[-1] if lowered else "unspecified"


def describe(budget: DeviceBudget | Allotted) -> str:
    """Say a budget in words, and why it is no more as far as that is known."""
    if isinstance(budget, DeviceBudget):
        return budgets_told(budget.uplink_bps, budget.downlink_bps)
    held = budget.budget
    return budgets_told(held.uplink_bps, held.downlink_bps, (budget.uplink_bound, budget.downlink_bound))


def _smaller(first_bps: int, second_bps: int) -> int:
    return min(first_bps, second_bps) if first_bps and second_bps else first_bps or second_bps


def _bps(kbps: float) -> int:
    return round(1000 * kbps)
