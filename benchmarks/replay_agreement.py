"""Does a replay under a virtual clock tell what two real processes do? The demo's street, played both ways.

First `ams-eval demo`: a real server and a real edge over loopback, in real time. Then `ams-eval run` on the same video with
the same settings and `--latency measured`. It needs two idle cores, one for each process of the demo. The last line is the
difference of the two mIoUs with adaptation against the teacher's labels, in points.
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ams_common.settings import load_settings
from ams_eval import demo, run
from ams_eval.demo_settings import DemoSettings, VideoShape, command_flags, server_settings
from ams_eval.result_folder import read_runs
from ams_eval.world.stream import DEMO_STREAM
from ams_server.settings import AdaptationConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/agreement"), help="folder for both runs")
    out: Path = parser.parse_args().out
    demo.run(["--out", str(out / "live")])
    torch.set_num_threads(1)
    run.run([str(out / "live" / "street.mp4"), *replay_flags(), "--out", str(out / "replay")])
    live = json.loads((out / "live" / "demo.json").read_text(encoding="utf-8"))["numbers"]
    replayed = {each.outcome.scheme: each.outcome for each in read_runs(out / "replay")}
    without, adapted = (replayed[name].teacher.miou() for name in ("none", "ams"))
    table = Table("mIoU against the teacher, %", "two processes", "replay", box=None)
    table.add_row("without adaptation", f"{100 * live['teacher_without']:.2f}", f"{100 * without:.2f}")
    table.add_row("with adaptation", f"{100 * live['teacher_adapted']:.2f}", f"{100 * adapted:.2f}")
    table.add_row("updates", str(live["updates"]), str(len(replayed["ams"].updates)))
    console = Console()
    console.print(table)
    console.print(f"replay minus two processes: {100 * (adapted - live['teacher_adapted']):+.2f} points")


def replay_flags() -> list[str]:
    """Return the flags of `ams-eval run` that stand for the demo's server and edge."""
    settings = load_settings(DemoSettings, [])
    server = server_settings(settings, VideoShape(DEMO_STREAM.width, DEMO_STREAM.height), Path("events.jsonl"))
    names = {f"--{name.replace('_', '-')}" for name in AdaptationConfig.model_fields}
    flags = [flag for flag in command_flags(server) if flag.partition("=")[0] in names]
    budgets = ["--uplink-kbps", str(settings.uplink_kbps), "--downlink-kbps", str(settings.downlink_kbps)]
    return [*flags, *budgets, "--latency", "measured", "--schemes", "none,ams"]


if __name__ == "__main__":
    main()
