"""The ground: one block of road, pavement, verge and a side street as a texture, laid out below the camera pixel by pixel.

A tile's rows go along the street from the block's start, its columns across from the left; 20 pixels a metre. Its fourth
channel says how deep the sun's shadow of houses and trees is, 0..255.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ams_common.classes import UInt8Array
from ams_eval.world.geometry import Bend, Camera, Float32Array
from ams_eval.world.noise import cloudy_noise, shade, smooth_noise
from ams_eval.world.painter import ROAD, SIDEWALK, VEGETATION, Canvas, pyramid
from ams_eval.world.styles import RGB, DistrictStyle

PIXELS_PER_M = 20
BLOCK_M = 72.0
CROSSING_M = (60.5, 69.5)
"""Where the side street runs within a block."""
HALF_WIDTH_M = 16.0
_FARTHEST_M = 400.0
_BEND_STEPS_PER_M = 20


@dataclass(frozen=True)
class Tile:
    """One block of ground."""

    colour: UInt8Array
    """uint8 [BLOCK_M * 20, HALF_WIDTH_M * 40, 4]."""
    labels: UInt8Array
    """uint8 of the same height and width."""


@dataclass(frozen=True)
class Ground:
    """Tiles stacked along the first axis; tile i lies from distance starts[i] on."""

    levels: list[UInt8Array]
    labels: UInt8Array
    starts: tuple[float, ...]

    @staticmethod
    def of(tiles: list[Tile], starts: tuple[float, ...]) -> "Ground":
        """Stack tiles."""
        colour = np.concatenate([tile.colour for tile in tiles])
        return Ground(pyramid(colour), np.concatenate([tile.labels for tile in tiles]), starts)


def make_tile(rng: np.random.Generator, style: DistrictStyle) -> Tile:
    """Draw the ground of one block."""
    height, width = round(BLOCK_M * PIXELS_PER_M), round(2 * HALF_WIDTH_M * PIXELS_PER_M)
    labels = _tile_labels(style, height, width)
    colour = np.zeros((height, width, 4), np.uint8)
    for label, paint in ((ROAD, _asphalt), (SIDEWALK, _paving), (VEGETATION, _grass)):
        surface, mask = paint(rng, style, height, width), labels == label
        colour[mask, :3] = surface[mask]
    _draw_kerbs(colour, style)
    _draw_markings(colour, style)
    _draw_patches(colour, rng, style)
    colour[..., 3] = _sun_shadows(rng, height, width)
    return Tile(colour, labels)


def paint_ground(canvas: Canvas, camera: Camera, bend: Bend, ground: Ground, shadow: float) -> None:
    """Paint all pixels below the horizon; `shadow` in 0..1 is the strength of the sun's shadows."""
    x, y, z = camera.rays()
    below = y < -0.004
    first = int(np.argmax(below.any(axis=1)))
    if not below[first].any():
        return
    part = np.s_[first:, :]
    depth = np.minimum(camera.position[1] / np.maximum(-y[part], 0.004), _FARTHEST_M).astype(np.float32)
    row, column = _tile_pixels(camera, bend, ground, x[part] * depth, z[part] * depth)
    colour = _sampled(ground.levels, row, column, _levels_by_row(camera, depth, len(ground.levels)))
    dark = cv2.convertScaleAbs(colour[..., 3], alpha=-shadow, beta=255)
    colour = np.asarray(cv2.multiply(colour, cv2.merge([dark, dark, dark, np.zeros_like(dark)]), scale=1 / 255), np.uint8)
    labels = cv2.remap(ground.labels, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    mask = below[part].astype(np.uint8)
    cv2.copyTo(colour, mask, canvas.colour[part])
    cv2.copyTo(labels, mask, canvas.labels[part])
    cv2.copyTo(1 / depth, mask, canvas.nearness[part])


def _tile_pixels(
    camera: Camera, bend: Bend, ground: Ground, x: Float32Array, z: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Return row and column in the stacked tiles for points x, z metres from the camera."""
    table = bend.offset(camera.position[2] + np.arange(-5, _FARTHEST_M + 5, 1 / _BEND_STEPS_PER_M)).astype(np.float32)
    index = np.clip((z + 5) * _BEND_STEPS_PER_M, 0, len(table) - 1).astype(np.int32)
    column = (x + (camera.position[0] + HALF_WIDTH_M) - table[index]) * PIXELS_PER_M - 0.5
    blocks = (z + np.float32(camera.position[2] % BLOCK_M)) * np.float32(1 / BLOCK_M)
    row = (blocks - np.floor(blocks)) * np.float32(BLOCK_M * PIXELS_PER_M)
    for start in ground.starts[1:]:
        row += (z >= start - camera.position[2]) * np.float32(BLOCK_M * PIXELS_PER_M)
    return row, column.astype(np.float32)


def _levels_by_row(camera: Camera, depth: Float32Array, count: int) -> npt.NDArray[np.int_]:
    middle = depth[:, depth.shape[1] // 2]
    across = PIXELS_PER_M * middle / camera.focal_px
    along = PIXELS_PER_M * middle**2 / (camera.focal_px * camera.position[1])
    return np.clip(np.floor(np.log2(np.maximum(np.sqrt(across * along), 1)) + 0.5), 0, count - 1).astype(int)


def _sampled(
    levels: list[UInt8Array], row: Float32Array, column: Float32Array, level_by_row: npt.NDArray[np.int_]
) -> UInt8Array:
    sampled = np.empty((*row.shape, 4), np.uint8)
    for level in np.unique(level_by_row):
        rows = np.flatnonzero(level_by_row == level)
        part, scale = np.s_[rows[0] : rows[-1] + 1], np.float32(0.5**level)
        sampled[part] = cv2.remap(
            levels[level], column[part] * scale, row[part] * scale, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return sampled


def _tile_labels(style: DistrictStyle, height: int, width: int) -> UInt8Array:
    across = np.abs((np.arange(width) + 0.5) / PIXELS_PER_M - HALF_WIDTH_M)
    along = (np.arange(height) + 0.5) / PIXELS_PER_M
    pavement_end = style.road_half_m + style.pavement_m
    profile = np.full(width, SIDEWALK, np.uint8)
    profile[across < style.road_half_m] = ROAD
    profile[(across >= pavement_end) & (across < pavement_end + style.verge_m)] = VEGETATION
    labels = np.repeat(profile[None], height, axis=0)
    beside_crossing = (along > CROSSING_M[0] - style.pavement_m) & (along < CROSSING_M[1] + style.pavement_m)
    labels[np.ix_(beside_crossing, across >= pavement_end)] = SIDEWALK
    labels[(along >= CROSSING_M[0]) & (along < CROSSING_M[1])] = ROAD
    return labels


def _asphalt(rng: np.random.Generator, style: DistrictStyle, height: int, width: int) -> UInt8Array:
    surface = _plain(style.asphalt, height, width)
    across = (np.arange(width) + 0.5) / PIXELS_PER_M - HALF_WIDTH_M
    tracks = -0.06 * np.exp(-(((np.abs(np.abs(across) - style.road_half_m / 2) - 0.8) / 0.35) ** 2))
    grain = 0.09 * smooth_noise(rng, height, width, 1) + 0.07 * cloudy_noise(rng, height, width, 120)
    shade(surface, (1 + grain + tracks[None]).astype(np.float32))
    return surface


def _paving(rng: np.random.Generator, style: DistrictStyle, height: int, width: int) -> UInt8Array:
    surface = _plain(style.paving_colour, height, width)
    grain = 1 + 0.05 * smooth_noise(rng, height, width, 1) + 0.06 * cloudy_noise(rng, height, width, 90)
    size = {"slabs": 12, "cobbles": 5, "plain": 60}[style.paving]
    stones = 0.09 * rng.standard_normal((height // size + 1, width // size + 1)).astype(np.float32)
    if style.paving != "plain":
        grain += np.kron(stones, np.ones((size, size), np.float32))[:height, :width]
    grain[::size] *= 0.82
    grain[:, ::size] *= 0.82
    shade(surface, grain.astype(np.float32))
    return surface


def _grass(rng: np.random.Generator, style: DistrictStyle, height: int, width: int) -> UInt8Array:
    surface = _plain(style.grass, height, width)
    grain = 1 + 0.2 * smooth_noise(rng, height, width, 2) + 0.16 * cloudy_noise(rng, height, width, 50)
    shade(surface, grain.astype(np.float32))
    return surface


def _draw_kerbs(colour: UInt8Array, style: DistrictStyle) -> None:
    end = round(CROSSING_M[0] * PIXELS_PER_M)
    start = round(CROSSING_M[1] * PIXELS_PER_M)
    for side in (-1, 1):
        edge = _column(side * style.road_half_m)
        for rows in (np.s_[:end], np.s_[start:]):
            colour[rows, min(edge, edge + 4 * side) : max(edge, edge + 4 * side), :3] = (184, 182, 178)
            colour[rows, edge - 1 : edge + 1, :3] = (64, 62, 62)


def _draw_markings(colour: UInt8Array, style: DistrictStyle) -> None:
    paint, last = (*style.marking, 0), round((CROSSING_M[0] - 7) * PIXELS_PER_M)
    for y in range(20, last, 100):
        cv2.rectangle(colour, (_column(-0.07), y), (_column(0.07), y + 50), paint, -1)
    for side in (-1, 1):
        edge = _column(side * (style.road_half_m - 0.35))
        cv2.line(colour, (edge, 0), (edge, last), paint, 2)
    zebra = (round((CROSSING_M[0] - 5) * PIXELS_PER_M), round((CROSSING_M[0] - 2) * PIXELS_PER_M))
    stripe = -style.road_half_m + 0.4
    while stripe < style.road_half_m - 0.6:
        cv2.rectangle(colour, (_column(stripe), zebra[0]), (_column(stripe + 0.5), zebra[1]), paint, -1)
        stripe += 1.0


def _draw_patches(colour: UInt8Array, rng: np.random.Generator, style: DistrictStyle) -> None:
    reach = style.road_half_m - 1.2
    for _ in range(5):
        x, y = _column(float(rng.uniform(-reach, reach))), int(rng.integers(40, 1000))
        patch = colour[y : y + int(rng.integers(20, 90)), x : x + int(rng.integers(12, 34)), :3]
        patch[...] = (patch * rng.uniform(0.8, 0.92)).astype(np.uint8)
    for _ in range(3):
        centre = (_column(float(rng.uniform(-reach, reach))), int(rng.integers(60, 1000)))
        cv2.circle(colour, centre, 7, (58, 56, 56, 0), -1)
        cv2.circle(colour, centre, 5, (80, 78, 76, 0), 1)


def _sun_shadows(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """The sun stands to the left: houses throw steps of shadow over the left part of the street, trees dapple it."""
    shadow = np.zeros((height, width), np.float32)
    edge, y, end = float(rng.uniform(-5, -1)), 0, round((CROSSING_M[0] - 1) * PIXELS_PER_M)
    while y < end:
        run = min(int(rng.uniform(8, 16) * PIXELS_PER_M), end - y)
        slant = np.array(((0, y), (_column(edge), y), (_column(edge), y + run), (0, y + run)))
        cv2.fillConvexPoly(shadow, slant.astype(np.int32), 1.0)
        edge, y = float(np.clip(edge + rng.normal(0, 1.5), -7, 1)), y + run
    spots = smooth_noise(rng, height, width, 14) + 0.8 * cloudy_noise(rng, height, width, 120)
    shadow = np.maximum(shadow, np.clip(spots * 2 - 1.1, 0, 0.75))
    return (255 * np.asarray(cv2.GaussianBlur(shadow, (0, 0), 3.0))).astype(np.uint8)


def _plain(colour: RGB, height: int, width: int) -> UInt8Array:
    return np.full((height, width, 3), colour, np.uint8)


def _column(d: float) -> int:
    return round((d + HALF_WIDTH_M) * PIXELS_PER_M)
