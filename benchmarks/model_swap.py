"""Time to take a 5 % update from bytes to the running model, against opening an ONNX Runtime session alone.

Ours is `Patcher.apply`: decode, patch, digest, build, warm, switch (deeplabv3-mobilenetv2, 512x256, 19 classes, one thread).
"""

import argparse
import time

import numpy as np

from ams_common.classes import CITYSCAPES19
from ams_common.clock import SystemClock
from ams_common.layout import weights_digest
from ams_common.messages import Update
from ams_common.update_codec import DEFAULT_CODEC, apply_update, create_codec
from ams_edge.patcher import Patcher
from ams_edge.providers import Backend
from ams_edge.store import StoredModel
from ams_edge.swap import ModelSlot
from ams_server.students.config import StudentConfig
from ams_server.students.export import build_manifest, student_vector
from ams_server.students.factory import create_student

FRACTION = 0.05


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


def random_model() -> StoredModel:
    """Return the default student with random weights as version 0."""
    config = StudentConfig()
    module = create_student(config, CITYSCAPES19, seed=0)
    manifest, graph = build_manifest(
        config.student, module, CITYSCAPES19, width=config.student_width, height=config.student_height
    )
    vector = student_vector(module)
    return StoredModel(manifest=manifest, graph=graph, vector=vector, version=0, weights_digest=weights_digest(vector))


def random_update(base: StoredModel, rng: np.random.Generator) -> Update:
    """Return an update that changes 5 % of the trainable parameters of `base` a little."""
    layout = base.manifest.layout
    indices = np.sort(rng.choice(layout.trainable_size, round(FRACTION * layout.trainable_size), replace=False))
    target = base.vector.copy()
    target[indices] += rng.normal(0, 1e-3, indices.size).astype(np.float32)
    codec = create_codec(DEFAULT_CODEC, layout)
    payload = codec.encode(base.vector, target, indices)
    return Update(
        version=base.version + 1,
        base_version=base.version,
        base_digest=base.weights_digest,
        result_digest=weights_digest(apply_update(base.vector, codec.decode(payload, base.vector))),
        codec=DEFAULT_CODEC,
        payload=payload,
    )


if __name__ == "__main__":
    main()
