"""Frames at 30 per second while 5 % updates are applied, against the same frames without updates.

A frame's time is counted from its tick to its labels (deeplabv3-mobilenetv2, 512x256, 19 classes, one thread); ticks that pass
during a frame are dropped, as a live camera's would be. Spans with one update each and spans without take turns.
"""

import argparse
import threading
import time

import numpy as np

from ams_common.clock import SystemClock
from ams_common.messages import Update
from ams_edge.inference import probe_image
from ams_edge.patcher import Patcher, PatcherWorker
from ams_edge.providers import Backend
from ams_edge.swap import ModelSlot
from helpers.random_student import random_model, random_update

PERIOD_S = 1 / 30


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--interval-s", type=float, default=3.0, help="length of a span; one update in every second one")
    arguments.add_argument("--spans", type=int, default=8, help="number of spans with an update, and of spans without")
    options = arguments.parse_args()
    slot = ModelSlot()
    patcher = Patcher(Backend(provider="cpu", threads=1), slot, SystemClock())
    patcher.install(random_model())
    patcher.prepare_updates()
    failures: list[Exception] = []
    worker = PatcherWorker(patcher, None, on_applied=lambda *_: None, on_refused=lambda error, _: failures.append(error))
    worker.start()
    rng = np.random.default_rng(0)
    times_ms: dict[bool, list[float]] = {False: [], True: []}
    for span in range(2 * options.spans):
        updated = span % 2 == 1
        assert patcher.state is not None
        update = random_update(patcher.state, rng) if updated else None
        times_ms[updated] += frame_times_ms(slot, worker, update, options.interval_s)
    worker.stop()
    assert not failures, failures
    for updated, name in ((False, "without updates"), (True, "with updates")):
        p50, p99 = np.percentile(times_ms[updated], (50, 99))
        late = np.mean(np.array(times_ms[updated]) > 1000 * PERIOD_S)
        print(f"{name:16} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   late {late:6.2%}   {len(times_ms[updated])} frames")
    print(f"ratio {np.percentile(times_ms[True], 99) / np.percentile(times_ms[False], 99):.2f}x p99")


def frame_times_ms(slot: ModelSlot, worker: PatcherWorker, update: Update | None, duration_s: float) -> list[float]:
    """Run frames for `duration_s` seconds, hand `update` over in the middle, and return each frame's time."""
    image = probe_image(512, 256)
    times_ms = []
    start_s = tick_s = time.perf_counter()

    def submit() -> None:
        if update is not None:
            worker.submit(update)

    hand_over = threading.Timer(duration_s / 2, submit)
    hand_over.start()
    while tick_s < start_s + duration_s:
        time.sleep(max(0.0, tick_s - time.perf_counter()))
        running = slot.current()
        assert running is not None
        running.model.infer(image)
        now_s = time.perf_counter()
        times_ms.append(1000 * (now_s - tick_s))
        tick_s += PERIOD_S * max(1, np.ceil((now_s - tick_s) / PERIOD_S))
    hand_over.join()
    return times_ms


if __name__ == "__main__":
    main()
