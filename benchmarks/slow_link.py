"""What becomes of a device on a link that is slower than its budget, stands still, loses packets, and gets fast again.

The demo's server and edge, in real time, with budgets of 200 kbit/s both ways, the model provisioned beforehand, and a proxy
between them that is a link of a rate, a delay and stalls. For each part of the trial the table shows what both sides sent on
the wire, how old the model was, and what the ways of the updates took.
"""

import argparse
import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from ams_common.clock import SystemClock
from ams_eval.metrics import LATENCY_PARTS
from ams_eval.promise.counting_proxy import CountingProxy
from ams_eval.promise.phases import Phase, phase_of
from ams_eval.promise.shaping import Conditions, drawn_stalls
from ams_eval.promise.trial import Action, Finding, Trial, run_trial, stall
from helpers.street_trial import LIGHT, provisioned, server_flags, street_video

BUDGET_KBPS = 200.0
DELAY_S = 0.05
STALL_S = 8.0
LOSS_PAUSE_S = 3.0
SEED = 0


class Part(NamedTuple):
    """A part of the trial."""

    name: str
    rate_kbps: float
    """Of the link, both ways."""
    duration_s: float
    stalls_s: Sequence[tuple[float, float]] = ()
    """Begin and end of each stall, in seconds from the begin of the part."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/slow-link"), help="folder for logs and the video")
    parser.add_argument("--slow-kbps", type=float, default=60.0, help="rate of the slow link")
    parser.add_argument("--codec", default="delta-rans", help="update codec; gap-zstd fills the downlink whatever is learnt")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    parts = parts_with(arguments.slow_kbps)
    flags = [*server_flags(LIGHT), "--codec", arguments.codec]
    found = asyncio.run(run_trial(trial_of(parts, flags, out), out, SystemClock()))
    Console(width=160).print(table_of(parts, found))


def parts_with(slow_kbps: float) -> list[Part]:
    return [
        Part("fast", 1000.0, 30.0),
        Part("slow, first 40 s", slow_kbps, 40.0),
        Part("slow, then", slow_kbps, 50.0),
        Part("fast, first 20 s", 1000.0, 20.0),
        Part("fast, then", 1000.0, 20.0),
        Part("fast, one stall", 1000.0, 30.0, [(5.0, 5.0 + STALL_S)]),
        Part("slow, one stall", slow_kbps, 60.0, [(30.0, 30.0 + STALL_S)]),
        Part("slow with losses", slow_kbps, 40.0, drawn_stalls(SEED, 40.0, pause_s=LOSS_PAUSE_S)),
        Part("fast with losses", 1000.0, 30.0, drawn_stalls(SEED, 30.0, pause_s=LOSS_PAUSE_S)),
        Part("fast", 1000.0, 15.0),
    ]


def trial_of(parts: Sequence[Part], flags: list[str], out: Path) -> Trial:
    begins_s = begins(parts)
    actions: list[tuple[float, Action]] = []
    for part, begin_s in zip(parts, begins_s, strict=False):
        actions.append((begin_s, shaped(part.rate_kbps)))
        for stalled_s, resumed_s in part.stalls_s:
            actions += stall(begin_s + stalled_s, begin_s + resumed_s)
    return Trial(
        uplink_kbps=BUDGET_KBPS,
        downlink_kbps=BUDGET_KBPS,
        duration_s=begins_s[-1],
        actions=actions,
        slow=True,
        server_arguments=flags,
        edge_arguments=["--source", str(street_video(out, begins_s[-1])), "--model", str(provisioned(flags, out))],
    )


def begins(parts: Sequence[Part]) -> list[float]:
    """Return the seconds at which parts begin, and the end."""
    return list(itertools.accumulate((part.duration_s for part in parts), initial=0.0))


def shaped(rate_kbps: float) -> Action:
    conditions = Conditions(rate_bps=1000 * rate_kbps, delay_s=DELAY_S)

    def shape(proxy: CountingProxy) -> None:
        proxy.shape(conditions, conditions)

    return shape


def table_of(parts: Sequence[Part], found: Finding) -> Table:
    table = Table(
        "part", "link, kbit/s", "up", "down", "updates", "age, mean", "p95", "most", "latency", *LATENCY_PARTS, box=None
    )
    for part, begin_s in zip(parts, begins(parts), strict=False):
        table.add_row(part.name, f"{part.rate_kbps:g}", *cells(phase_of(found, begin_s, begin_s + part.duration_s)))
    return table


def cells(phase: Phase) -> list[str]:
    return [
        *(f"{rate_kbps:.0f}" for rate_kbps in (phase.uplink_kbps, phase.downlink_kbps)),
        str(phase.updates),
        *(f"{seconds:.1f}" for seconds in (*phase.model_age_s, phase.oldest_s, phase.latency_s)),
        *(f"{phase.way_s[part]:.2f}" for part in LATENCY_PARTS),
    ]


if __name__ == "__main__":
    main()
