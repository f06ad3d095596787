"""Which budgets hold: what devices ask for, under the server's caps and the ceilings that a person has set.

A device is told what holds for it, at once and whenever it changes, and keeps to it. All methods belong to the service's loop.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from ams_common.budget import even_rates
from ams_common.settings import PartConfig
from ams_server.device_budget import DeviceBudget
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


def smaller_budget(first: DeviceBudget, second: DeviceBudget) -> DeviceBudget:
    """Return the smaller of two budgets in each direction."""
    return DeviceBudget(
        uplink_bps=_smaller(first.uplink_bps, second.uplink_bps), downlink_bps=_smaller(first.downlink_bps, second.downlink_bps)
    )


@dataclass(eq=False)
class _Member:
    asked: DeviceBudget
    held: DeviceBudget
    on_change: Callable[[DeviceBudget], None]


class Allotment:
    """The budgets of all connected devices."""

    def __init__(self, caps: CapConfig) -> None:
        self._cap = DeviceBudget(uplink_bps=_bps(caps.max_uplink_kbps), downlink_bps=_bps(caps.max_downlink_kbps))
        self._total = DeviceBudget(uplink_bps=_bps(caps.total_uplink_kbps), downlink_bps=_bps(caps.total_downlink_kbps))
        self._members: dict[str, _Member] = {}
        self._ceilings: OrderedDict[str, DeviceBudget] = OrderedDict()

    def preview(self, device_id: str, asked: DeviceBudget) -> DeviceBudget:
        """Return what would hold for a device if it connected now and asked for `asked`."""
        wishes = {name: member.asked for name, member in self._members.items()} | {device_id: asked}
        return self._shares(wishes)[device_id]

    def enter(self, device_id: str, asked: DeviceBudget, on_change: Callable[[DeviceBudget], None]) -> DeviceBudget:
        """Take a device in that was not here; return what holds for it, and call `on_change` whenever that changes later."""
        assert device_id not in self._members
        self._members[device_id] = _Member(asked=asked, held=self.preview(device_id, asked), on_change=on_change)
        self._share_again()
        return self._members[device_id].held

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

    def asked_and_held(self, device_id: str) -> tuple[DeviceBudget, DeviceBudget]:
        """Return what a connected device asks for, and what holds."""
        member = self._members[device_id]
        return member.asked, member.held

    def _share_again(self) -> None:
        shares = self._shares({name: member.asked for name, member in self._members.items()})
        for name, held in shares.items():
            member = self._members[name]
            if held == member.held:
                continue
            member.held = held
            _log.info("device %s: now %s", name, describe(held))
            member.on_change(held)

    def _shares(self, wishes: dict[str, DeviceBudget]) -> dict[str, DeviceBudget]:
        limited = [smaller_budget(smaller_budget(asked, self._cap), self.ceiling(name)) for name, asked in wishes.items()]
        ups = fair_shares([each.uplink_bps for each in limited], self._total.uplink_bps)
        downs = fair_shares([each.downlink_bps for each in limited], self._total.downlink_bps)
        even = [even_rates(up, down) for up, down in zip(ups, downs, strict=True)]
        return {name: DeviceBudget(uplink_bps=up, downlink_bps=down) for name, (up, down) in zip(wishes, even, strict=True)}


def describe(budget: DeviceBudget) -> str:
    """Say a budget in words."""
    return f"{_rate(budget.uplink_bps)} up, {_rate(budget.downlink_bps)} down"


def _rate(bps: int) -> str:
    return f"{bps / 1000:g} kbit/s" if bps else "no limit"


def _smaller(first_bps: int, second_bps: int) -> int:
    return min(first_bps, second_bps) if first_bps and second_bps else first_bps or second_bps


def _bps(kbps: float) -> int:
    return round(1000 * kbps)
