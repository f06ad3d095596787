"""A drive or a walk through the street as frames with labels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from ams_common.classes import UInt8Array
from ams_common.errors import ConfigurationError
from ams_eval.world.atmosphere import Lens, develop, make_lens, paint_shades
from ams_eval.world.geometry import Camera
from ams_eval.world.ground import BLOCK_M, paint_ground
from ams_eval.world.painter import Canvas
from ams_eval.world.sky import paint_sky, paint_skyline
from ams_eval.world.street import Moment, Street
from ams_eval.world.styles import DAY, DUSK, GARDEN_SUBURB, OLD_TOWN, OVERCAST, RAIN, DistrictStyle, Light, blend

_FOCAL_SHARE = 0.82
_CAR_MPS, _WALKER_MPS = 6.5, 1.6
_FADE_S = 6.0
_SHADES_M = 50.0
_MOST_FRAMES = 200_000


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of the stream with one light in one district."""

    name: str
    start_s: float
    light: Light
    style: DistrictStyle = OLD_TOWN


@dataclass(frozen=True, kw_only=True)
class StreetConfig:
    """What is rendered."""

    seed: int = 0
    width: int = 640
    height: int = 360
    fps: int = 10
    duration_s: float = 100.0
    viewpoint: Literal["car", "walker"] = "car"
    variety: int = 14
    """House fronts drawn for each district."""
    phases: tuple[Phase, ...] = field(default=(Phase(name="day", start_s=0.0, light=DAY),))
    """In order of time; the first starts at 0."""

    def __post_init__(self) -> None:
        if not (64 <= self.width <= 4096 and 64 <= self.height <= 4096):
            raise ConfigurationError(f"street of {self.width}x{self.height} pixels: both sides must be within 64 and 4096")
        if not 0 < self.duration_s * self.fps <= _MOST_FRAMES:
            raise ConfigurationError(
                f"street of {self.duration_s} s at {self.fps} fps: 1 to {_MOST_FRAMES} frames are possible"
            )
        starts = [phase.start_s for phase in self.phases]
        if not starts or starts[0] != 0 or starts != sorted(starts):
            raise ConfigurationError(f"phases start at {starts} s: the first must start at 0 and the others in order")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(1, round(self.duration_s * self.fps))

    def phase_at(self, time_s: float) -> Phase:
        """Return the phase at a time."""
        return [phase for phase in self.phases if phase.start_s <= time_s or phase is self.phases[0]][-1]


DEMO_STREAM = StreetConfig(
    seed=20_260,
    phases=(
        Phase(name="day", start_s=0.0, light=DAY),
        Phase(name="dusk", start_s=25.0, light=DUSK),
        Phase(name="rain", start_s=50.0, light=RAIN),
        Phase(name="other district", start_s=75.0, light=OVERCAST, style=GARDEN_SUBURB),
    ),
)
"""The stream of the demo: 100 s at 10 frames a second."""


def render_stream(config: StreetConfig) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """Yield each frame, uint8 [H, W, 3] RGB, with its labels, uint8 [H, W] in STREET7."""
    street = _street(config)
    rng = np.random.default_rng((config.seed, 77))
    lens = make_lens(rng, config.width, config.height)
    for frame in range(config.frames):
        time_s = frame / config.fps
        light = _light(config, time_s)
        yield render(
            street,
            _camera(config, street, time_s),
            Moment(time_s, _travelled(config, time_s), light.rain > 0.3),
            light,
            lens,
            rng,
        )


def write_stream(config: StreetConfig, video_path: Path, labels_path: Path) -> None:
    """Write the stream as H.264 in MP4 and its labels as compressed npz with `labels`, uint8 [F, H, W]."""
    labels = np.empty((config.frames, config.height, config.width), np.uint8)
    with av.open(str(video_path), "w") as container:
        track = container.add_stream("libx264", rate=Fraction(config.fps), options={"crf": "17", "preset": "veryfast"})
        track.width, track.height, track.pix_fmt = config.width, config.height, "yuv420p"
        for i, (image, frame_labels) in enumerate(render_stream(config)):
            labels[i] = frame_labels
            container.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(track.encode())
    np.savez_compressed(labels_path, labels=labels)


def render(
    street: Street, camera: Camera, moment: Moment, light: Light, lens: Lens, rng: np.random.Generator
) -> tuple[UInt8Array, UInt8Array]:
    """Return what the camera sees at a moment: uint8 [H, W, 3] RGB, and labels, uint8 [H, W] in STREET7."""
    canvas = Canvas.blank(camera.width, camera.height)
    paint_sky(canvas, camera, street.backdrop, light, drift=0.004 * moment.time_s)
    paint_skyline(canvas, camera, street.backdrop)
    paint_ground(canvas, camera, street.bend, street.ground, light.shadow)
    things = street.things(moment)
    footprints = [thing.footprint(street.bend) for thing in things if thing.far_s < moment.s + _SHADES_M]
    paint_shades(canvas, camera, footprints, 0.42 + 0.4 * light.shadow)
    for thing in things:
        thing.paint(canvas, camera, street.bend)
    return develop(canvas, light, lens, rng), canvas.labels


def _street(config: StreetConfig) -> Street:
    """Districts change where the camera is when their phase starts."""
    styles, starts = [config.phases[0].style], [0.0]
    for phase in config.phases:
        if phase.style != styles[-1]:
            styles.append(phase.style)
            starts.append(_travelled(config, phase.start_s) + 0.4 * BLOCK_M)
    return Street.build(config.seed, styles, starts, config.variety)


def _light(config: StreetConfig, time_s: float) -> Light:
    light = config.phases[0].light
    for phase in config.phases[1:]:
        light = blend(light, phase.light, (time_s - phase.start_s) / _FADE_S + 0.5)
    return light


def _travelled(config: StreetConfig, time_s: float) -> float:
    speed = _CAR_MPS if config.viewpoint == "car" else _WALKER_MPS
    return speed * (time_s + 0.6 * math.sin(2 * math.pi * time_s / 23.0))


def _camera(config: StreetConfig, street: Street, time_s: float) -> Camera:
    s = _travelled(config, time_s)
    if config.viewpoint == "car":
        d, h = street.lane_m + 0.15 * np.sin(time_s / 3.1), 1.5 + 0.012 * np.sin(8.0 * time_s)
    else:
        style = street.district_at(s).style
        d, h = style.road_half_m + 0.5 * style.pavement_m, 1.62 + 0.025 * np.sin(11.0 * time_s)
    x, _, z = street.bend.place(s, d)
    return Camera(
        position=(float(x), float(h), float(z)),
        yaw=float(np.arctan(street.bend.slope(s + 8.0)) + 0.045 * np.sin(2 * np.pi * time_s / 13.0)),
        pitch=float(0.02 + 0.008 * np.sin(2 * np.pi * time_s / 5.3)),
        roll=float(0.008 * np.sin(2 * np.pi * time_s / 7.9)),
        focal_px=_FOCAL_SHARE * config.width,
        width=config.width,
        height=config.height,
    )
