"""Single views of many streets, to train networks on worlds that no stream is drawn from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ams_common.classes import UInt8Array
from ams_eval.world.atmosphere import make_lens
from ams_eval.world.geometry import Camera
from ams_eval.world.stream import render
from ams_eval.world.street import Moment, Street
from ams_eval.world.styles import DistrictStyle, Light

_VARIETY = 5
_FARTHEST_S = 20_000.0
_LONGEST_S = 1000.0


@dataclass(frozen=True, kw_only=True)
class ViewRanges:
    """What views are drawn from."""

    style: Callable[[np.random.Generator], DistrictStyle]
    light: Callable[[np.random.Generator], Light]
    width: int
    height: int
    focal: tuple[float, float] = (0.65, 1.1)
    """Focal length in widths of the picture."""


def render_views(seed: int, count: int, ranges: ViewRanges) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """Yield `count` views of one street of this seed: uint8 [H, W, 3] RGB, with labels, uint8 [H, W] in STREET7."""
    rng = np.random.default_rng((seed, 4))
    street = Street.build(seed, [ranges.style(rng)], [0.0], _VARIETY, bend=1.5)
    lens = make_lens(rng, ranges.width, ranges.height)
    for _ in range(count):
        light, s = ranges.light(rng), float(rng.uniform(0, _FARTHEST_S))
        moment = Moment(float(rng.uniform(0, _LONGEST_S)), s, bool(light.rain > 0.3))
        yield render(street, _camera(rng, street, s, ranges), moment, light, lens, rng)


def _camera(rng: np.random.Generator, street: Street, s: float, ranges: ViewRanges) -> Camera:
    style = street.district_at(s).style
    pavement = style.road_half_m + 0.5 * style.pavement_m
    d = float(rng.choice((street.lane_m, street.lane_m, pavement, -pavement, -street.lane_m)) + rng.normal(0, 0.2))
    x, _, z = street.bend.place(s, d)
    return Camera(
        position=(float(x), float(rng.uniform(1.3, 2.1)), float(z)),
        yaw=float(np.arctan(street.bend.slope(s + 8.0)) + rng.normal(0, 0.09)),
        pitch=float(rng.normal(0.01, 0.025)),
        roll=float(rng.normal(0, 0.012)),
        focal_px=float(rng.uniform(*ranges.focal)) * ranges.width,
        width=ranges.width,
        height=ranges.height,
    )
