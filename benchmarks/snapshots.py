"""Snapshots: size and time for a real student, as every device gets it and after some minutes of adaptation.

The session learns from the frames of a video as they are, without a network, labelled by the teacher. Prints one line for each
way in which the weights may be sent, and what the updates took until then. Flags are those of `ams-server`:

    python benchmarks/snapshots.py drive.mp4 --codec delta-rans --teacher efficientvit-b0 --teacher-weights WEIGHTS \
        --student-weights WEIGHTS --student-weights-classes voc21
"""

import sys
import time
from collections.abc import Iterator

import av
import numpy as np
import torch

from ams_common.classes import UInt8Array
from ams_common.clock import SystemClock
from ams_common.compression import zstd_compress
from ams_common.layout import Float32Array, ParameterLayout
from ams_common.messages import FrameBatch
from ams_common.settings import load_settings
from ams_common.snapshot_codec import decode_snapshot, encode_snapshot
from ams_common.update_codec import DEFAULT_CODEC
from ams_common.video_codec import encode_frames
from ams_common.video_formats import VIDEO_CODEC
from ams_server.device_budget import DeviceBudget
from ams_server.edge_session import EdgeSession
from ams_server.rounding import rounded_learnt
from ams_server.settings import ServerSettings
from ams_server.starting_model import new_session, starting_model
from ams_server.teachers.factory import create_teacher

DURATION_S = 120
INTERVAL_S = 10
BATCH_BYTES = 250_000


def batches(video: str, width: int, height: int) -> Iterator[FrameBatch]:
    """Yield a picture a second of the first DURATION_S of `video`, INTERVAL_S in each batch."""
    images: list[UInt8Array] = []
    times_us: list[int] = []
    due_s = 0.0
    for frame in av.open(video).decode(video=0):
        time_s = frame.time or 0.0
        if time_s < due_s:
            continue
        due_s += 1.0
        images.append(frame.reformat(width, height, format="rgb24").to_ndarray().astype(np.uint8))
        times_us.append(round(1e6 * time_s))
        if len(images) == INTERVAL_S:
            packets = encode_frames(images, target_bytes=BATCH_BYTES).packets
            number = round(due_s) // INTERVAL_S
            yield FrameBatch(
                batch_id=number,
                video_codec=VIDEO_CODEC,
                width=width,
                height=height,
                capture_times_us=tuple(times_us),
                packets=packets,
            )
            images, times_us = [], []
        if due_s >= DURATION_S:
            return


def adapt(session: EdgeSession, video: str, width: int, height: int) -> int:
    """Let `session` learn from `video`; return the bytes of all its updates."""
    total = 0
    for batch in batches(video, width, height):
        session.ingest(batch, bytes(16))
        while session.due and (mirror := session.train()) is not None:
            session.mirror = mirror
            total += len(mirror.recent_updates[-1].payload)
    return total


def measure(name: str, vector: Float32Array, layout: ParameterLayout, base: Float32Array | None) -> None:
    """Print what a snapshot of `vector` on `base` takes."""
    started_s = time.process_time()
    data = encode_snapshot(vector, layout, base)
    encoded_s = time.process_time()
    decode_snapshot(data, layout, base)
    decoded_s = time.process_time()
    times = f"encode {1e3 * (encoded_s - started_s):.0f} ms, decode {1e3 * (decoded_s - encoded_s):.0f} ms"
    print(f"{name}: {len(data) / 1000:.0f} kB, {8 * len(data) / layout.size:.2f} bits a parameter, {times}")


def main(video: str, flags: list[str]) -> None:
    settings = load_settings(ServerSettings, flags)
    torch.set_num_threads(1)
    model = starting_model(settings)
    device = torch.device("cpu")
    session = new_session(
        settings,
        model,
        teacher=create_teacher(settings, device, None),
        device=device,
        clock=SystemClock(),
        device_id="benchmark",
        budget=DeviceBudget(uplink_bps=0, downlink_bps=0),
        codec=settings.codec or DEFAULT_CODEC,
    )
    layout, start = model.manifest.layout, session.mirror.weights
    print(f"{layout.size:,} parameters; graph {len(model.graph)} bytes, {len(zstd_compress(model.graph, 19))} compressed")
    measure("starting weights", start, layout, None)
    size = settings.frame_width or settings.student_width, settings.frame_height or settings.student_height
    updates_bytes = adapt(session, video, *size)
    learnt = session.mirror.weights
    changed = np.mean(learnt != start)
    print(f"{session.mirror.version} updates: {updates_bytes / 1000:.0f} kB, {changed:.1%} of the weights changed")
    measure("whole", learnt, layout, None)
    measure("on the start, exact", learnt, layout, start)
    measure("on the start, rounded", rounded_learnt(learnt, start, layout), layout, start)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
