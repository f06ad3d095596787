"""What went on in a part of a trial: rates on the wire, model age, and the ways of updates."""

from dataclasses import dataclass

from ams_eval.metrics import LATENCY_PARTS, Spread, spread
from ams_eval.promise.trial import Finding
from ams_eval.run_log import Swap


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What is known of a part of a trial; figures without anything to take them of are NaN."""

    uplink_kbps: float
    """Mean rate on the wire, before the link."""
    downlink_kbps: float
    planned_uplink_kbps: float
    """Video of the batches that the edge has made, sent or not."""
    model_age_s: Spread
    """Over the edge's reports, one a second."""
    oldest_s: float
    """Greatest model age."""
    way_s: dict[str, float]
    """Mean seconds of each part of an update's way, of those that were switched to in this phase."""
    updates: int

    @property
    def latency_s(self) -> float:
        """Mean seconds from the capture of the newest frame to the switch."""
        return sum(self.way_s.values())


def phase_of(found: Finding, begin_s: float, end_s: float) -> Phase:
    """Return what went on from `begin_s` to before `end_s`, in seconds from the first connection."""
    begin_time_s, end_time_s = found.started_s + begin_s, found.started_s + end_s
    seconds = [each for each in found.log.seconds if begin_time_s <= each.time_s < end_time_s]
    ages_s = [each.model_age_s for each in seconds if each.model_age_s is not None]
    swaps = [each for each in found.log.swaps if begin_time_s <= each.time_s < end_time_s]
    batches = [each for each in found.log.batches if begin_time_s <= each.time_s < end_time_s]
    up, down = (use.trace.between(begin_time_s, end_time_s) for use in (found.uplink, found.downlink))
    return Phase(
        uplink_kbps=up.mean_bps(end_s - begin_s) / 1000,
        downlink_kbps=down.mean_bps(end_s - begin_s) / 1000,
        planned_uplink_kbps=8e-3 * sum(each.payload_bytes for each in batches) / (end_s - begin_s),
        model_age_s=spread(ages_s),
        oldest_s=max(ages_s, default=float("nan")),
        way_s={part: _mean_part_s(swaps, part) for part in LATENCY_PARTS},
        updates=len(swaps),
    )


def _mean_part_s(swaps: list[Swap], part: str) -> float:
    return spread(seconds for each in swaps if (seconds := getattr(each, f"{part}_s")) is not None).mean
