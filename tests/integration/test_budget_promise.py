"""A budget is a promise: what two real processes put on the wire, counted between them, over a stall and an outage."""

import asyncio
from pathlib import Path

from tests.integration.scene import HEIGHT, WIDTH, write_scene

from ams_common.clock import SystemClock
from ams_eval.promise.trial import Trial, outage, run_trial, stall

RATE_HZ = 5
DURATION_S = 60
RATE_KBPS = 48.0
"""Little enough for the first model alone, 160 kB, to break a promise that is not kept; both are in the middle of it."""
STALL_S = (2.0, 17.0)
"""Longer than the 12 s of a burst."""
OUTAGE_S = (20.0, 26.0)


def test_a_minute_of_stream_keeps_within_the_budgets(tmp_path: Path) -> None:
    write_scene(tmp_path / "video.mp4", tmp_path / "labels.npz", frames=RATE_HZ * 2 * DURATION_S, rate_hz=RATE_HZ)
    trial = Trial(
        uplink_kbps=RATE_KBPS,
        downlink_kbps=RATE_KBPS,
        duration_s=DURATION_S,
        actions=[*stall(*STALL_S), *outage(*OUTAGE_S)],
        slow=True,
        server_arguments=[
            *("--teacher", f"labels:{tmp_path / 'labels.npz'}", "--teacher-classes", "street7"),
            *("--teacher-labels-hz", str(RATE_HZ), "--class-set", "street7", "--classes", "road,sky"),
            *("--student", "jitnet-quarter", "--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
            *("--update-interval-s", "3", "--max-sampling-hz", "5", "--min-sampling-hz", "5"),
            *("--steps", "2", "--batch-size", "2", "--fraction", "1.0", "--threads", "1"),
        ],
        edge_arguments=["--source", str(tmp_path / "video.mp4")],
    )
    found = asyncio.run(run_trial(trial, tmp_path, SystemClock()))
    log = f"{(tmp_path / 'edge.log').read_text()}\n{(tmp_path / 'server.log').read_text()}"
    for use in (found.uplink, found.downlink):
        assert use.excess_bytes <= use.burst_bytes, log
        assert sum(use.trace.wire_bytes) > use.burst_bytes / 2, f"too little went to show anything\n{log}"
    assert found.connections == 2, log
    assert any(time_s > OUTAGE_S[1] for time_s in found.swaps_s), f"no update after the outage\n{log}"
