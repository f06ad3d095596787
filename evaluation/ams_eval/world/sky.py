"""The sky, and what stands at the horizon where the street ends."""

from dataclasses import dataclass

import cv2
import numpy as np

from ams_common.classes import IGNORE, UInt8Array
from ams_eval.world.geometry import Camera, FloatArray
from ams_eval.world.noise import cloudy_noise, smooth_noise
from ams_eval.world.painter import BUILDING, SKY, VEGETATION, Canvas
from ams_eval.world.styles import DistrictStyle, Light

_AROUND_PX = 2048
_HALF_TURN = np.pi
_CLOUD_ROWS = 400
_SKYLINE_ROWS = 96
_SKYLINE_NEARNESS = 1 / 170.0
_GRADIENT_END = 0.5
"""Elevation in radians where the sky has its zenith colour."""
_BELOW_HORIZON = 0.06
"""How far below the horizon the sky is painted, in radians, so that a rolling camera sees no gap."""


@dataclass(frozen=True)
class Backdrop:
    """Panoramas of half a turn to each side of straight ahead."""

    clouds: UInt8Array
    """uint8 [400, 2048], density; the lower edge is the horizon."""
    skyline: UInt8Array
    """uint8 [96, 2048, 4], RGBE; the lower edge is just below the horizon."""
    skyline_labels: UInt8Array
    """uint8 [96, 2048], IGNORE above the silhouettes."""


def make_backdrop(rng: np.random.Generator, style: DistrictStyle) -> Backdrop:
    """Draw clouds and a skyline of houses and woods in the colours of a district."""
    stretch = cloudy_noise(rng, _CLOUD_ROWS, _AROUND_PX, 180, octaves=6)
    clouds = np.clip(128 + 75 * stretch, 0, 255).astype(np.uint8)
    skyline = np.zeros((_SKYLINE_ROWS, _AROUND_PX, 4), np.uint8)
    labels = np.full((_SKYLINE_ROWS, _AROUND_PX), IGNORE, np.uint8)
    _draw_woods(rng, style, skyline, labels)
    _draw_houses(rng, style, skyline, labels)
    return Backdrop(clouds, skyline, labels)


def paint_sky(canvas: Canvas, camera: Camera, backdrop: Backdrop, light: Light, drift: float) -> None:
    """Fill the canvas with sky; `drift` in radians moves the clouds."""
    width = camera.width
    height = min(camera.height, round(camera.height / 2 + camera.focal_px * (camera.pitch + _BELOW_HORIZON)))
    elevation = camera.pitch - np.arctan((np.arange(height) + 0.5 - camera.height / 2) / camera.focal_px)
    share = np.clip(elevation / _GRADIENT_END, 0, 1)[:, None] ** 0.7
    gradient = np.asarray(light.sky_horizon) + share * (np.asarray(light.sky_top) - np.asarray(light.sky_horizon))
    sky = cv2.repeat(gradient[:, None].astype(np.uint8), 1, width)
    density = cv2.warpAffine(
        backdrop.clouds,
        _panorama_map(camera, _CLOUD_ROWS, drift),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    cover = cv2.LUT(density, _cover_table(light.cloud_share))
    cloud = cv2.merge([cv2.LUT(density, _cloud_table(channel)) for channel in light.cloud])
    mixed = cv2.multiply(sky, cv2.merge([255 - cover] * 3), scale=1 / 255)
    cv2.add(mixed, cv2.multiply(cloud, cv2.merge([cover] * 3), scale=1 / 255), dst=mixed)
    canvas.colour[:height] = cv2.cvtColor(mixed, cv2.COLOR_RGB2RGBA)
    canvas.colour[..., 3] = 0
    canvas.labels[...] = SKY
    canvas.nearness[...] = 0


def paint_skyline(canvas: Canvas, camera: Camera, backdrop: Backdrop) -> None:
    """Paint the silhouettes at the horizon."""
    first, last = _rows_near_horizon(camera)
    to_panorama = _panorama_map(camera, _SKYLINE_ROWS - 6, 0.0)
    to_panorama[:, 2] += to_panorama[:, 1] * first
    size, flags, part = (camera.width, last - first), cv2.WARP_INVERSE_MAP, np.s_[first:last]
    shown = cv2.warpAffine(
        backdrop.skyline_labels,
        to_panorama,
        size,
        flags=flags | cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(IGNORE,),
    )
    mask = (np.asarray(shown) != IGNORE).astype(np.uint8)
    cv2.copyTo(cv2.warpAffine(backdrop.skyline, to_panorama, size, flags=flags | cv2.INTER_LINEAR), mask, canvas.colour[part])
    cv2.copyTo(shown, mask, canvas.labels[part])
    canvas.nearness[part][mask > 0] = _SKYLINE_NEARNESS


def _rows_near_horizon(camera: Camera) -> tuple[int, int]:
    horizon = camera.height / 2 + camera.focal_px * camera.pitch
    highest = 2 * _HALF_TURN * _SKYLINE_ROWS / _AROUND_PX
    slack = 0.5 * camera.width * abs(camera.roll)
    first = round(horizon - camera.focal_px * highest - slack)
    return max(0, first), min(camera.height, round(horizon + camera.focal_px * _BELOW_HORIZON + slack))


def _panorama_map(camera: Camera, horizon_row: int, drift: float) -> FloatArray:
    """Return [2, 3] from pixels to a panorama with square pixels; good for the middle of the view, which is all one sees."""
    scale = _AROUND_PX / (2 * _HALF_TURN * camera.focal_px)
    cos_roll, sin_roll = np.cos(camera.roll), np.sin(camera.roll)
    turn = scale * np.array(((cos_roll, sin_roll), (-sin_roll, cos_roll)))
    middle = np.array((camera.width / 2, camera.height / 2))
    target = np.array(
        (_AROUND_PX * (0.5 + (camera.yaw + drift) / (2 * _HALF_TURN)), horizon_row - scale * camera.focal_px * camera.pitch)
    )
    return np.column_stack((turn, target - turn @ middle))


def _cover_table(share: float) -> UInt8Array:
    start = 210 - 170 * share
    return np.asarray(np.clip((np.arange(256) - start) * 3.2, 0, 235), np.uint8)


def _cloud_table(channel: float) -> UInt8Array:
    return np.clip(channel * (1.1 - 0.22 * np.arange(256) / 255), 0, 255).astype(np.uint8)


def _draw_woods(rng: np.random.Generator, style: DistrictStyle, skyline: UInt8Array, labels: UInt8Array) -> None:
    ragged = smooth_noise(rng, 1, _AROUND_PX, 60)[0] * 8 + smooth_noise(rng, 1, _AROUND_PX, 7)[0] * 3
    tops = np.clip(_SKYLINE_ROWS - 16 - ragged, 40, _SKYLINE_ROWS - 8)
    mask = np.arange(_SKYLINE_ROWS)[:, None] >= tops[None]
    leaf = np.asarray(style.leaves[0]) * 0.8
    grain = 1 + 0.2 * smooth_noise(rng, _SKYLINE_ROWS, _AROUND_PX, 3)
    skyline[mask, :3] = np.clip(leaf * grain[mask][:, None], 0, 255).astype(np.uint8)
    labels[mask] = VEGETATION


def _draw_houses(rng: np.random.Generator, style: DistrictStyle, skyline: UInt8Array, labels: UInt8Array) -> None:
    x = 0
    while x < _AROUND_PX:
        wide, tall = int(rng.integers(14, 44)), int(rng.integers(10, 8 + 6 * style.floors[1]))
        if rng.random() < 0.6:
            box = np.s_[max(0, _SKYLINE_ROWS - 8 - tall) :, x : x + wide]
            skyline[box][..., :3] = np.asarray(style.facades[rng.integers(len(style.facades))]) * 0.85
            labels[box] = BUILDING
            _dot_windows(rng, skyline[box])
        x += wide + int(rng.integers(0, 20))


def _dot_windows(rng: np.random.Generator, house: UInt8Array) -> None:
    for y in range(3, house.shape[0] - 3, 5):
        for x in range(2, house.shape[1] - 2, 4):
            house[y : y + 3, x : x + 2] = (255, 214, 140, 220) if rng.random() < 0.2 else (70, 80, 92, 0)
