"""The demo's street and settings for trials between two real processes."""

import math
from collections.abc import Sequence
from pathlib import Path

import av

from ams_common.settings import load_settings
from ams_eval.demo_settings import DemoSettings, VideoShape, command_flags, server_settings
from ams_eval.world.stream import DEMO_STREAM, write_stream
from ams_server.provision import ProvisionSettings, provision

# The smallest of what the demo can do, for trials in which nothing depends on how well the student learns.
LIGHT = ("--steps", "4", "--batch-size", "2", "--loss-stride", "4", "--teacher-width", "256", "--fraction", "1.0")
NOT_OF_A_TRIAL = ("--listen", "--events")


def street_video(out: Path, seconds: float) -> Path:
    """Return a video in `out` of the demo's street in a loop, long enough for `seconds`; it is written where there is none."""
    times = math.ceil(seconds / DEMO_STREAM.duration_s) + 1
    once, video = out / "once.mp4", out / f"street-{times}.mp4"
    if not once.exists():
        write_stream(DEMO_STREAM, once, out / "once.labels.npz")
    if not video.exists():
        _repeat_video(once, video, times)
    return video


def server_flags(arguments: Sequence[str] = ()) -> list[str]:
    """Return the flags of `ams-server` for the demo with `arguments`, flags of `ams-eval demo`."""
    shape = VideoShape(DEMO_STREAM.width, DEMO_STREAM.height)
    server = server_settings(load_settings(DemoSettings, arguments), shape, Path("events.jsonl"))
    return [flag for flag in command_flags(server) if flag.partition("=")[0] not in NOT_OF_A_TRIAL]


def provisioned(flags: Sequence[str], out: Path) -> Path:
    """Return a file in `out` with the first model of a server with `flags`, as `ams-edge --model` takes it."""
    path = out / "model.ams"
    provision(load_settings(ProvisionSettings, [*flags, "--out", str(path)]))
    return path


def _repeat_video(once: Path, video: Path, times: int) -> None:
    """Write `once`, a video of one track, `times` times one after the other, without coding it again."""
    with av.open(str(video), "w") as target, av.open(str(once)) as source:
        track = target.add_stream_from_template(source.streams.video[0])
        for index in range(times):
            source.seek(0)
            for packet in source.demux(video=0):
                if packet.dts is None or packet.pts is None or packet.time_base is None:
                    continue
                offset = round(index * DEMO_STREAM.duration_s / packet.time_base)
                packet.dts, packet.pts = packet.dts + offset, packet.pts + offset
                packet.stream = track
                target.mux(packet)
