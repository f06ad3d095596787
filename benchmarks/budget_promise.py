"""Do budgets hold on the wire? The demo's server and edge over a counting proxy that fails, at several budgets.

Each trial streams the demo's street in a loop for ten minutes, with an outage after four of them, and after six with a stall
of 16 s, in which connections stay open and nothing goes. The table shows, over all windows of 10 s and more, the largest
excess over rate x window beside the documented burst, and what part of the budgets was used. Bytes are those of IP packets
(IPv4, TCP with time stamps), acknowledgements included, in segments as large as on Ethernet. The last line says whether all
promises were kept.
"""

import argparse
import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ams_common.clock import SystemClock
from ams_eval.promise.trial import Finding, Trial, Use, outage, run_trial, stall
from helpers.street_trial import LIGHT, server_flags, street_video

BUDGETS = ("32/32", "64/64", "128/128", "256/256", "200/25")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/promise"), help="folder for logs and the video")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of each trial")
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, metavar="UP/DOWN", help="budgets in kbit/s")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    video = street_video(out, arguments.seconds)
    findings = [asyncio.run(trial(budgets, arguments.seconds, video, out)) for budgets in arguments.budgets]
    console = Console(width=120)
    console.print(table_of(findings))
    console.print("all promises were kept" if all(each.kept for each in findings) else "A PROMISE WAS BROKEN")


async def trial(budgets: str, seconds: float, video: Path, out: Path) -> Finding:
    uplink_kbps, downlink_kbps = map(float, budgets.split("/"))
    folder = out / f"{uplink_kbps:g}-{downlink_kbps:g}-kbps"
    folder.mkdir(exist_ok=True)
    outage_s, stall_s = 0.4 * seconds, 0.6 * seconds
    return await run_trial(
        Trial(
            uplink_kbps=uplink_kbps,
            downlink_kbps=downlink_kbps,
            duration_s=seconds,
            actions=[*outage(outage_s, outage_s + 20.0), *stall(stall_s, stall_s + 16.0)],
            slow=True,
            server_arguments=server_flags(LIGHT),
            edge_arguments=["--source", str(video)],
        ),
        folder,
        SystemClock(),
    )


def table_of(findings: list[Finding]) -> Table:
    table = Table("direction", "budget, kbit/s", "burst, kB", "excess, kB", "used", "updates", box=None)
    for each in findings:
        table.add_row("up", f"{each.trial.uplink_kbps:g}", *cells(each.uplink), "")
        table.add_row("down", f"{each.trial.downlink_kbps:g}", *cells(each.downlink), str(len(each.swaps_s)))
    return table


def cells(use: Use) -> list[str]:
    return [f"{use.burst_bytes / 1000:.1f}", f"{use.excess_bytes / 1000:.1f}", f"{100 * use.share:.0f} %"]


if __name__ == "__main__":
    main()
