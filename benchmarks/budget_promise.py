"""Do budgets hold on the wire? The demo's server and edge over a counting proxy, with an outage, at several budgets.

Each trial streams the demo's street in a loop for ten minutes at the same budget up and down, with an outage after four of
them. The table shows, over all windows of 10 s and more, the largest excess over rate x window beside the documented burst, and
what part of the budgets was used. Bytes are those of IP packets (IPv4, TCP with time stamps), acknowledgements included, in
segments as large as on Ethernet. The last line says whether all promises were kept.
"""

import argparse
import asyncio
import math
from pathlib import Path

import av
from rich.console import Console
from rich.table import Table

from ams_common.clock import SystemClock
from ams_common.settings import load_settings
from ams_eval.demo_settings import DemoSettings, VideoShape, command_flags, server_settings
from ams_eval.promise.counting_proxy import Trace
from ams_eval.promise.trial import Finding, Trial, run_trial
from ams_eval.world.stream import DEMO_STREAM, write_stream

RATES_KBPS = (32.0, 64.0, 128.0, 256.0)
# The smallest of what the demo can do: nothing here depends on how well the student learns.
LIGHT = ["--steps", "4", "--batch-size", "2", "--loss-stride", "4", "--teacher-width", "256", "--fraction", "1.0"]
NOT_OF_A_TRIAL = ("--listen", "--events")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/promise"), help="folder for logs and the video")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of each trial")
    parser.add_argument("--rates-kbps", type=float, nargs="+", default=RATES_KBPS, help="budgets, up and down")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    video = out / "street.mp4"
    if not video.exists():
        write_stream(DEMO_STREAM, out / "once.mp4", out / "once.labels.npz")
        repeat_video(out / "once.mp4", video, times=math.ceil(arguments.seconds / DEMO_STREAM.duration_s) + 1)
    findings = [asyncio.run(trial(rate_kbps, arguments.seconds, video, out)) for rate_kbps in arguments.rates_kbps]
    console = Console(width=120)
    console.print(table_of(findings))
    console.print("all promises were kept" if all(each.kept for each in findings) else "A PROMISE WAS BROKEN")


async def trial(rate_kbps: float, seconds: float, video: Path, out: Path) -> Finding:
    folder = out / f"{rate_kbps:g}-kbps"
    folder.mkdir(exist_ok=True)
    for rest in folder.glob("*.jsonl"):
        rest.unlink()
    shape = VideoShape(DEMO_STREAM.width, DEMO_STREAM.height)
    server = server_settings(load_settings(DemoSettings, LIGHT), shape, folder / "server-events.jsonl")
    flags = [flag for flag in command_flags(server) if flag.partition("=")[0] not in NOT_OF_A_TRIAL]
    begin_s = 0.4 * seconds
    return await run_trial(
        Trial(
            rate_kbps=rate_kbps,
            duration_s=seconds,
            outage_s=(begin_s, begin_s + 20.0),
            server_arguments=flags,
            edge_arguments=["--source", str(video)],
        ),
        folder,
        SystemClock(),
    )


def repeat_video(once: Path, video: Path, times: int) -> None:
    """Write `once`, a video of one track, `times` times one after the other, without coding it again."""
    with av.open(str(video), "w") as target, av.open(str(once)) as source:
        track = target.add_stream_from_template(source.streams.video[0])
        for index in range(times):
            source.seek(0)
            for packet in source.demux(video=0):
                if packet.dts is None or packet.pts is None or packet.time_base is None:
                    continue
                offset = round(index * DEMO_STREAM.duration_s / packet.time_base)
                packet.dts, packet.pts = packet.dts + offset, packet.pts + offset
                packet.stream = track
                target.mux(packet)


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
