"""One trial: a real server and a real edge with a counting proxy between them, and what befalls the link on the way."""

import asyncio
import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ams_common.budget import allowance
from ams_common.clock import SystemClock
from ams_eval.processes import ChildProcess, child_process
from ams_eval.promise.counting_proxy import CountingProxy, Trace
from ams_eval.run_log import EventTail, RunLog, named, read_run

POLL_S = 0.05
Action: TypeAlias = Callable[[CountingProxy], None]
_SERVER = "from ams_server.daemon import main; raise SystemExit(main())"
_EDGE = "from ams_edge.command import main; raise SystemExit(main())"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is done."""

    uplink_kbps: float
    downlink_kbps: float
    """Budgets of the edge."""
    duration_s: float
    """Seconds from the first connection of the edge to its end."""
    actions: Sequence[tuple[float, Action]]
    """What is done to the link, and at how many seconds from the first connection: in the order of time."""
    slow: bool = False
    """Whether the link is ever made slow."""
    server_arguments: Sequence[str]
    """Flags of `ams-server`, beside its address and its events."""
    edge_arguments: Sequence[str]
    """Flags of `ams-edge`, beside its server, its state, its events and its budgets."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Use:
    """What went in one direction, beside its budget."""

    trace: Trace
    rate_bps: float
    other_bps: float
    """Budget of the other direction."""
    duration_s: float
    """Length of the trial."""

    @property
    def excess_bytes(self) -> float:
        """The largest bytes - rate x length over all windows that the promise is about."""
        return self.trace.worst_excess_bytes(self.rate_bps)

    @property
    def burst_bytes(self) -> int:
        """What the documentation allows beside the rate."""
        return allowance(round(self.rate_bps), round(self.other_bps)).burst_bytes

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return self.excess_bytes <= self.burst_bytes

    @property
    def share(self) -> float:
        """Part of rate x duration that went."""
        return self.trace.mean_bps(self.duration_s) / self.rate_bps


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """What a trial has shown."""

    trial: Trial
    uplink: Use
    downlink: Use
    connections: int
    """Connections that reached the server."""
    started_s: float
    """Time of the first connection, on the clock of traces and log."""
    log: RunLog
    """What edge and server have written."""

    @property
    def swaps_s(self) -> tuple[float, ...]:
        """Seconds from the first connection to each update that the edge applied."""
        return tuple(swap.time_s - self.started_s for swap in self.log.swaps)

    @property
    def kept(self) -> bool:
        """Whether both directions kept the promise."""
        return self.uplink.kept and self.downlink.kept


def outage(begin_s: float, end_s: float) -> list[tuple[float, Action]]:
    """Return the actions of an outage: connections break at `begin_s` and are refused until `end_s`."""
    return [(begin_s, CountingProxy.cut), (end_s, CountingProxy.restore)]


def stall(begin_s: float, end_s: float) -> list[tuple[float, Action]]:
    """Return the actions of a stall: from `begin_s` until `end_s` nothing goes, and connections stay open."""
    return [(begin_s, CountingProxy.stall), (end_s, CountingProxy.resume)]


async def run_trial(trial: Trial, folder: Path, clock: SystemClock) -> Finding:
    """Run `trial` with all files in `folder`, which is there; what an earlier trial left in it goes.

    Raises:
        ProcessFailedError: server or edge failed.
        RunLogError: they wrote other events than this version does.
    """
    server_events, edge_events = folder / "server-events.jsonl", folder / "edge-events.jsonl"
    for events in (server_events, edge_events):
        events.unlink(missing_ok=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    arguments = [*trial.server_arguments, "--listen", "127.0.0.1:0", "--events", str(server_events)]
    with child_process("ams-server", [sys.executable, "-c", _SERVER, *arguments], folder / "server.log") as server:
        proxy = CountingProxy(await _port(server, server_events), clock, slow=trial.slow)
        arguments = [
            *trial.edge_arguments,
            *("--server", f"127.0.0.1:{proxy.start()}", "--state-folder", str(folder / "state")),
            *("--events", str(edge_events), "--device-id", "trial"),
            *("--uplink-kbps", str(trial.uplink_kbps), "--downlink-kbps", str(trial.downlink_kbps)),
        ]
        with child_process("ams-edge", [sys.executable, "-c", _EDGE, *arguments], folder / "edge.log") as edge:
            started_s = await _play(trial, proxy, (server, edge), clock)
            # Not on this loop, which the edge's last words go through.
            await asyncio.to_thread(edge.stop)
        await proxy.close()
    up_bps, down_bps = 1000 * trial.uplink_kbps, 1000 * trial.downlink_kbps
    return Finding(
        trial=trial,
        uplink=Use(trace=proxy.uplink, rate_bps=up_bps, other_bps=down_bps, duration_s=trial.duration_s),
        downlink=Use(trace=proxy.downlink, rate_bps=down_bps, other_bps=up_bps, duration_s=trial.duration_s),
        connections=proxy.connections,
        started_s=started_s,
        log=read_run(edge_events, server_events),
    )


async def _play(trial: Trial, proxy: CountingProxy, processes: Sequence[ChildProcess], clock: SystemClock) -> float:
    """Let the trial pass; return the time of the first connection."""
    actions = deque(trial.actions)
    while actions and actions[0][0] <= 0:
        actions.popleft()[1](proxy)
    while not proxy.connections:
        await _pause(processes)
    started_s = clock.now_s()
    while (passed_s := clock.now_s() - started_s) < trial.duration_s:
        while actions and passed_s >= actions[0][0]:
            actions.popleft()[1](proxy)
        await _pause(processes)
    return started_s


async def _pause(processes: Sequence[ChildProcess]) -> None:
    for process in processes:
        process.require_running()
    await asyncio.sleep(POLL_S)


async def _port(server: ChildProcess, events: Path) -> int:
    tail = EventTail(events)
    while not (listening := named(tail.read(), "listening")):
        server.require_running()
        await asyncio.sleep(POLL_S)
    return int(listening[0]["port"])
