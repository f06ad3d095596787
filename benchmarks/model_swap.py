"""Time to take a 5 % update from bytes to the running model, against opening an ONNX Runtime session alone.

Ours is `Patcher.apply`: decode, patch, digest, build, warm, switch (deeplabv3-mobilenetv2, 512x256, 19 classes, one thread).
"""

import argparse
import time

import numpy as np

from ams_common.clock import SystemClock
from ams_edge.patcher import Patcher
from ams_edge.providers import Backend
from ams_edge.swap import ModelSlot
from helpers.random_student import random_model, random_update


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=30)
    rounds = arguments.parse_args().rounds
    backend = Backend(provider="cpu", threads=1)
    model = random_model()
    patcher = Patcher(backend, ModelSlot(), SystemClock())
    patcher.install(model)
    patcher.prepare_updates()
    layout = model.manifest.layout
    rng = np.random.default_rng(0)
    session_ms, ours_ms = np.empty((2, rounds))
    for turn in range(rounds):
        started_s = time.perf_counter()
        backend.open_session(model.graph, {tensor.name: view for tensor, view in layout.views(model.vector)})
        session_ms[turn] = 1000 * (time.perf_counter() - started_s)
        state = patcher.state
        assert state is not None
        ours_ms[turn] = patcher.apply(random_update(state, rng)).build_time_ms
    for name, times_ms in (("ONNX Runtime session alone", session_ms), ("ours, update to switch", ours_ms)):
        print(f"{name:28}{np.median(times_ms):7.2f} ms (p90 {np.percentile(times_ms, 90):.2f})")
    print(f"ratio {np.median(ours_ms) / np.median(session_ms):.2f}x")


if __name__ == "__main__":
    main()
