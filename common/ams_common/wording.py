"""Words that a person reads."""

from ams_common.messages import Bound

_BOUNDS: dict[Bound, str] = {
    "unspecified": "",
    "cap": " (the server's cap for one device)",
    "ceiling": " (a ceiling set for this device)",
    "share": " (this device's share of the server's total)",
    "other_direction": " (the other direction acknowledges no more)",
}


def counted(count: int, noun: str) -> str:
    """Return `count` with its `noun`, in the plural unless it is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def budgets_told(uplink_bps: int, downlink_bps: int, bounds: tuple[Bound, Bound] = ("unspecified", "unspecified")) -> str:
    """Return the budgets of both directions, 0 for no limit, each with what keeps it from being more, `bounds`."""
    up, down = (f"{bps / 1000:g} kbit/s" if bps else "no limit" for bps in (uplink_bps, downlink_bps))
    return f"{up} up{_BOUNDS[bounds[0]]}, {down} down{_BOUNDS[bounds[1]]}"
