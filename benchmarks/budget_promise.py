"""Do budgets hold on the wire? The demo's server and edge over a counting proxy, with an outage, at several budgets.

Each trial streams the demo's street in a loop for ten minutes at the same budget up and down, with an outage after four of
them. The table shows, over all windows of 10 s and more, the largest excess over rate x window beside the documented burst, and
what part of the budgets was used. Bytes are those of IP packets (IPv4, TCP with time stamps), acknowledgements included, in
segments as large as on Ethernet. The last line says whether all promises were kept.
"""

import argparse
import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ams_common.clock import SystemClock
from ams_eval.promise.counting_proxy import Trace
from ams_eval.promise.trial import Finding, Trial, outage, run_trial
from helpers.street_trial import LIGHT, server_flags, street_video

RATES_KBPS = (32.0, 64.0, 128.0, 256.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/promise"), help="folder for logs and the video")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of each trial")
    parser.add_argument("--rates-kbps", type=float, nargs="+", default=RATES_KBPS, help="budgets, up and down")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    video = street_video(out, arguments.seconds)
    findings = [asyncio.run(trial(rate_kbps, arguments.seconds, video, out)) for rate_kbps in arguments.rates_kbps]
    console = Console(width=120)
    console.print(table_of(findings))
    console.print("all promises were kept" if all(each.kept for each in findings) else "A PROMISE WAS BROKEN")


async def trial(rate_kbps: float, seconds: float, video: Path, out: Path) -> Finding:
    folder = out / f"{rate_kbps:g}-kbps"
    folder.mkdir(exist_ok=True)
    begin_s = 0.4 * seconds
    return await run_trial(
        Trial(
            rate_kbps=rate_kbps,
            duration_s=seconds,
            actions=outage(begin_s, begin_s + 20.0),
            server_arguments=server_flags(LIGHT),
            edge_arguments=["--source", str(video)],
        ),
        folder,
        SystemClock(),
    )


def table_of(findings: list[Finding]) -> Table:
    table = Table(
        "budget, kbit/s", "burst, kB", "excess up, kB", "excess down, kB", "used up", "used down", "updates", box=None
    )
    for each in findings:
        table.add_row(
            f"{each.trial.rate_kbps:g}",
            f"{each.burst_bytes / 1000:.1f}",
            *(f"{each.excess_bytes(trace) / 1000:.1f}" for trace in (each.uplink, each.downlink)),
            *(used(each, trace) for trace in (each.uplink, each.downlink)),
            str(len(each.swaps_s)),
        )
    return table


def used(finding: Finding, trace: Trace) -> str:
    return f"{trace.mean_bps(finding.trial.duration_s) / finding.trial.rate_kbps / 10:.0f} %"


if __name__ == "__main__":
    main()
