"""How long do updates wait on a device that has more to do than its core can, and how much does inference feel of them?

The demo's server and edge in real time; the edge has one core, the server the others. The edge has its core alone in the first
trial and shares it with a loop of ordinary priority in the second, which stands for whatever keeps the core busy. It draws the
overlay too; its model is provisioned beforehand. Flags of `ams-eval demo` may follow, such as a larger --student. Linux only.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ams_eval.metrics import spread
from ams_eval.processes import ChildProcess, child_process
from ams_eval.run_log import EventTail, RunLog, named, read_run
from helpers.street_trial import LIGHT, provisioned, server_flags, street_video

BUDGET_KBPS = 200
POLL_S = 0.05
SERVER = "from ams_server.daemon import main; raise SystemExit(main())"
EDGE = "from ams_edge.command import main; raise SystemExit(main())"
LOOP = "while True: pass"
ROWS = (
    "updates",
    "building and switching: first update, s",
    "later updates, median",
    "most",
    "encoding, median, s",
    "model age, mean, s",
    "95th percentile",
    "frames a second",
    "inference of a frame: median, ms",
    "99th percentile",
    "most",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/busy-edge"), help="folder for logs and the video")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a trial")
    parser.add_argument("--rounds", type=int, default=1, help="how often both trials are made, in turn")
    arguments, demo_flags = parser.parse_known_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    flags = server_flags((*LIGHT, *demo_flags))
    edge = ["--source", str(street_video(out, arguments.seconds)), "--model", str(provisioned(flags, out))]
    *others, core = sorted(os.sched_getaffinity(0))
    if not others:
        parser.error("this takes two cores: one for the edge, one for all else")
    os.sched_setaffinity(0, others)
    found: dict[str, list[RunLog]] = {"core alone": [], "busy loop beside": []}
    for turn in range(arguments.rounds):
        for index, logs in enumerate(found.values()):
            folder = out / f"{turn}-{index}"
            folder.mkdir(exist_ok=True)
            with contextlib.ExitStack() as stack:
                if index:
                    stack.enter_context(child_process("loop", on_core(core, LOOP), folder / "loop.log"))
                logs.append(run_trial(flags, edge, folder, core=core, seconds=arguments.seconds))
    Console(width=100).print(table_of(found))


def run_trial(flags: Sequence[str], edge_flags: Sequence[str], folder: Path, *, core: int, seconds: float) -> RunLog:
    """Run server and edge for `seconds` with all files in `folder`, and return what they wrote."""
    server_events, edge_events = folder / "server-events.jsonl", folder / "edge-events.jsonl"
    for events in (server_events, edge_events):
        events.unlink(missing_ok=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    command = [sys.executable, "-c", SERVER, *flags, "--listen", "127.0.0.1:0", "--events", str(server_events)]
    with child_process("ams-server", command, folder / "server.log") as server:
        command = [
            *on_core(core, EDGE),
            *edge_flags,
            *("--server", f"127.0.0.1:{port_of(server, server_events)}", "--state-folder", str(folder / "state")),
            *("--events", str(edge_events), "--overlay", str(folder / "overlay.mp4")),
            *("--uplink-kbps", str(BUDGET_KBPS), "--downlink-kbps", str(BUDGET_KBPS)),
        ]
        with child_process("ams-edge", command, folder / "edge.log") as edge:
            time.sleep(seconds)
            edge.require_running()
    return read_run(edge_events, server_events)


def on_core(core: int, program: str) -> list[str]:
    return ["taskset", "--cpu-list", str(core), sys.executable, "-c", program]


def port_of(server: ChildProcess, events: Path) -> int:
    tail = EventTail(events)
    while not (listening := named(tail.read(), "listening")):
        server.require_running()
        time.sleep(POLL_S)
    return int(listening[0]["port"])


def table_of(found: dict[str, list[RunLog]]) -> Table:
    table = Table("", *found, box=None)
    for name, *cells in zip(ROWS, *map(cells_of, found.values()), strict=True):
        table.add_row(name, *cells)
    return table


def cells_of(logs: Sequence[RunLog]) -> list[str]:
    """Return a cell for each of ROWS."""
    builds_s = [[each.build_s for each in log.swaps if each.build_s is not None] for log in logs]
    later_s = [build_s for each in builds_s for build_s in each[1:]]
    seconds = [each for log in logs for each in log.seconds]
    age_s = spread(each.model_age_s for each in seconds if each.model_age_s is not None)
    infer_ms = [time_ms for each in seconds for time_ms in each.infer_ms]
    return [
        str(sum(map(len, builds_s))),
        ", ".join(f"{each[0]:.2f}" for each in builds_s if each),
        *(f"{np.quantile(later_s, level):.2f}" if later_s else "-" for level in (0.5, 1.0)),
        f"{np.median([each.encode_ms for log in logs for each in log.batches]) / 1000:.2f}",
        *(f"{each:.1f}" for each in (age_s.mean, age_s.p95, np.mean([each.fps for each in seconds]))),
        *(f"{each:.1f}" for each in np.quantile(infer_ms, (0.5, 0.99, 1.0))),
    ]


if __name__ == "__main__":
    main()
