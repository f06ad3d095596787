"""How old is the demo's model on a link of 250 kbit/s? The demo's server and edge in real time, with that link between them.

The model is provisioned beforehand, so that the trial begins with a device that has one; a model has an age from the first
update on. It needs an idle core for each of both processes: the last line says what load the machine had.
"""

import argparse
import asyncio
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ams_common.clock import SystemClock
from ams_eval.metrics import LATENCY_PARTS
from ams_eval.promise.counting_proxy import CountingProxy
from ams_eval.promise.phases import Phase, phase_of
from ams_eval.promise.shaping import Conditions
from ams_eval.promise.trial import Finding, Trial, run_trial
from ams_eval.report.way import NAMES
from helpers.street_trial import provisioned, server_flags, street_video

BUDGET_KBPS = 200.0
LINK = Conditions(rate_bps=250_000, delay_s=0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/model-age"), help="folder for logs and the video")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the trial")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    flags = server_flags()
    trial = Trial(
        uplink_kbps=BUDGET_KBPS,
        downlink_kbps=BUDGET_KBPS,
        duration_s=arguments.seconds,
        actions=[(0.0, shape)],
        slow=True,
        server_arguments=flags,
        edge_arguments=["--source", str(street_video(out, arguments.seconds)), "--model", str(provisioned(flags, out))],
    )
    found = asyncio.run(run_trial(trial, out, SystemClock()))
    console = Console(width=120)
    console.print(summary_of(phase_of(found, 0.0, arguments.seconds)))
    console.print(updates_of(found))
    console.print(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def shape(proxy: CountingProxy) -> None:
    proxy.shape(LINK, LINK)


def summary_of(phase: Phase) -> Table:
    table = Table("mean", "", box=None)
    table.add_row("model age, s", f"{phase.model_age_s.mean:.2f}")
    table.add_row("model age, 95th percentile, s", f"{phase.model_age_s.p95:.2f}")
    table.add_row("from capture to switch, s", f"{phase.latency_s:.2f}")
    for part in LATENCY_PARTS:
        table.add_row(f"{NAMES[part]}, s", f"{phase.way_s[part]:.2f}")
    table.add_row("updates", str(phase.updates))
    table.add_row("up and down on the wire, kbit/s", f"{phase.uplink_kbps:.0f}, {phase.downlink_kbps:.0f}")
    return table


def updates_of(found: Finding) -> Table:
    table = Table("at, s", "kB", "capture to switch, s", *LATENCY_PARTS, box=None)
    for swap in found.log.swaps:
        parts_s = (getattr(swap, f"{part}_s") or 0.0 for part in LATENCY_PARTS)
        table.add_row(
            f"{swap.time_s - found.started_s:.1f}",
            f"{swap.payload_bytes / 1000:.1f}",
            f"{swap.latency_s or 0.0:.2f}",
            *(f"{part_s:.2f}" for part_s in parts_s),
        )
    return table


if __name__ == "__main__":
    main()
