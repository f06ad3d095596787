"""A link that is slower than the budgets: what two real processes send comes down below it, and all recovers with it."""

import asyncio
from pathlib import Path

from tests.integration.scene import HEIGHT, WIDTH, write_scene

from ams_common.clock import SystemClock
from ams_common.settings import load_settings
from ams_eval.promise.counting_proxy import CountingProxy
from ams_eval.promise.phases import phase_of
from ams_eval.promise.shaping import Conditions
from ams_eval.promise.trial import Trial, run_trial, stall
from ams_server.provision import ProvisionSettings, provision

RATE_HZ = 5
UPDATE_INTERVAL_S = 2.0
BUDGET_KBPS = 200.0
SLOW_KBPS = 60.0
SLOW_S = (6.0, 26.0)
STALL_S = (16.0, 18.0)
DURATION_S = 36.0
LONGEST_AGE_S = 20.0
"""An update of the budget's size takes 7 s on the slow link, its newest frame may have waited as long; and the stall."""


def shape(rate_kbps: float) -> Conditions:
    return Conditions(rate_bps=1000 * rate_kbps, delay_s=0.05)


def slow(proxy: CountingProxy) -> None:
    proxy.shape(shape(SLOW_KBPS), shape(SLOW_KBPS))


def fast(proxy: CountingProxy) -> None:
    proxy.shape(shape(2000.0), shape(2000.0))


def arguments(folder: Path) -> list[str]:
    return [
        *("--teacher", f"labels:{folder / 'labels.npz'}", "--teacher-classes", "street7", "--teacher-labels-hz", str(RATE_HZ)),
        *("--class-set", "street7", "--classes", "road,sky", "--student", "jitnet-quarter"),
        *("--student-width", str(WIDTH), "--student-height", str(HEIGHT), "--steps", "2", "--batch-size", "2"),
        *("--update-interval-s", str(UPDATE_INTERVAL_S), "--max-sampling-hz", "5", "--min-sampling-hz", "5", "--threads", "1"),
        # It fills the downlink, however little there is to learn.
        *("--codec", "gap-zstd", "--fraction", "1.0"),
    ]


def test_a_slow_link_is_not_filled_with_what_is_stale_and_all_recovers_with_it(tmp_path: Path) -> None:
    write_scene(tmp_path / "video.mp4", tmp_path / "labels.npz", frames=int(RATE_HZ * 2 * DURATION_S), rate_hz=RATE_HZ)
    flags, model = arguments(tmp_path), tmp_path / "model.ams"
    provision(load_settings(ProvisionSettings, [*flags, "--out", str(model)]))
    trial = Trial(
        uplink_kbps=BUDGET_KBPS,
        downlink_kbps=BUDGET_KBPS,
        duration_s=DURATION_S,
        actions=[(0.0, fast), (SLOW_S[0], slow), *stall(*STALL_S), (SLOW_S[1], fast)],
        slow=True,
        server_arguments=flags,
        edge_arguments=["--source", str(tmp_path / "video.mp4"), "--model", str(model)],
    )
    found = asyncio.run(run_trial(trial, tmp_path, SystemClock()))
    log = f"{(tmp_path / 'edge.log').read_text()}\n{(tmp_path / 'server.log').read_text()}"
    before, settled, after = (phase_of(found, *part) for part in ((2.0, 6.0), (SLOW_S[0] + 8.0, SLOW_S[1]), (31.0, DURATION_S)))
    assert found.connections == 1, f"a link that is only slow was given up\n{log}"
    assert before.planned_uplink_kbps > SLOW_KBPS, "the link would never have been too slow"
    assert settled.planned_uplink_kbps < SLOW_KBPS, log
    assert settled.oldest_s < LONGEST_AGE_S, log
    assert settled.updates > 0, log
    assert after.planned_uplink_kbps > SLOW_KBPS, log
    assert after.oldest_s < 4 * UPDATE_INTERVAL_S, log
