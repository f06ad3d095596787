"""One trial of the promise: a real server and a real edge with a counting proxy between them, and an outage on the way."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ams_common.budget import burst_bytes
from ams_common.clock import Clock
from ams_eval.processes import ChildProcess, child_process
from ams_eval.promise.counting_proxy import CountingProxy, Trace
from ams_eval.run_log import EventTail, named

POLL_S = 0.1
_SERVER = "from ams_server.daemon import main; raise SystemExit(main())"
_EDGE = "from ams_edge.command import main; raise SystemExit(main())"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is done."""

    rate_kbps: float
    """Budget of the edge in each direction."""
    duration_s: float
    """Seconds from the first connection of the edge to its end."""
    outage_s: tuple[float, float]
    """Begin and end of the outage, in seconds from the first connection."""
    server_arguments: Sequence[str]
    """Flags of `ams-server`, beside its address and its events."""
    edge_arguments: Sequence[str]
    """Flags of `ams-edge`, beside its server, its state, its events and its budgets."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """What a trial has shown."""

    trial: Trial
    uplink: Trace
    downlink: Trace
    connections: int
    """Connections that reached the server."""
    swaps_s: tuple[float, ...]
    """Seconds from the first connection to each update that the edge applied."""

    @property
    def burst_bytes(self) -> int:
        """What the documentation allows beside the rate."""
        return burst_bytes(round(1000 * self.trial.rate_kbps))

    def excess_bytes(self, trace: Trace) -> float:
        """Return the largest bytes - rate x length of `trace` over all windows that the promise is about."""
        return trace.worst_excess_bytes(1000 * self.trial.rate_kbps)

    @property
    def kept(self) -> bool:
        """Whether both directions kept the promise."""
        return all(self.excess_bytes(trace) <= self.burst_bytes for trace in (self.uplink, self.downlink))


async def run_trial(trial: Trial, folder: Path, clock: Clock) -> Finding:
    """Run `trial` with all files in `folder`, which is there.

    Raises:
        ProcessFailedError: server or edge failed.
    """
    server_events, edge_events = folder / "server-events.jsonl", folder / "edge-events.jsonl"
    arguments = [*trial.server_arguments, "--listen", "127.0.0.1:0", "--events", str(server_events)]
    with child_process("ams-server", [sys.executable, "-c", _SERVER, *arguments], folder / "server.log") as server:
        proxy = CountingProxy(await _port(server, server_events), clock)
        arguments = [
            *trial.edge_arguments,
            *("--server", f"127.0.0.1:{proxy.start()}", "--state-folder", str(folder / "state")),
            *("--events", str(edge_events), "--device-id", "trial"),
            *("--uplink-kbps", str(trial.rate_kbps), "--downlink-kbps", str(trial.rate_kbps)),
        ]
        with child_process("ams-edge", [sys.executable, "-c", _EDGE, *arguments], folder / "edge.log") as edge:
            swaps_s = await _play(trial, proxy, (server, edge), EventTail(edge_events), clock)
            # Not on this loop, which the edge's last words go through.
            await asyncio.to_thread(edge.stop)
        await proxy.close()
    return Finding(
        trial=trial, uplink=proxy.uplink, downlink=proxy.downlink, connections=proxy.connections, swaps_s=tuple(swaps_s)
    )


async def _play(
    trial: Trial, proxy: CountingProxy, processes: Sequence[ChildProcess], events: EventTail, clock: Clock
) -> list[float]:
    """Let the trial pass; return the seconds at which updates were applied."""
    while not proxy.connections:
        for process in processes:
            process.require_running()
        await asyncio.sleep(POLL_S)
    started_s = clock.now_s()
    swaps_s: list[float] = []
    actions = [(trial.outage_s[0], proxy.cut), (trial.outage_s[1], proxy.restore)]
    while (passed_s := clock.now_s() - started_s) < trial.duration_s:
        for process in processes:
            process.require_running()
        while actions and passed_s >= actions[0][0]:
            actions.pop(0)[1]()
        swaps_s += [passed_s for _ in named(events.read(), "swap")]
        await asyncio.sleep(POLL_S)
    return swaps_s


async def _port(server: ChildProcess, events: Path) -> int:
    tail = EventTail(events)
    while not (listening := named(tail.read(), "listening")):
        server.require_running()
        await asyncio.sleep(POLL_S)
    return int(listening[0]["port"])
