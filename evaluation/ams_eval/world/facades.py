"""Walls of buildings as textures, 20 pixels a metre: floors, windows, balconies, shops, roofs."""

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np

from ams_common.classes import UInt8Array
from ams_eval.world.noise import cloudy_noise, shade, smooth_noise
from ams_eval.world.styles import RGB, DistrictStyle, FacadeKind

PIXELS_PER_M = 20
FLOOR_M = 3.2
_FLOOR_PX = round(FLOOR_M * PIXELS_PER_M)
Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
WindowPainter: TypeAlias = Callable[[UInt8Array, np.random.Generator, Box], None]
_LAMPS: tuple[RGB, ...] = ((255, 214, 140), (255, 196, 110), (255, 236, 190), (210, 226, 255))


def facade_texture(rng: np.random.Generator, style: DistrictStyle, width_m: float, floors: int, shops: bool) -> UInt8Array:
    """Return a street front, uint8 [floors * 64, width_m * 20, 4], RGBE."""
    kind = style.facade_kinds[rng.integers(len(style.facade_kinds))]
    wall = _varied(rng, style.facades[rng.integers(len(style.facades))])
    image = _bare_wall(rng, kind, wall, floors * _FLOOR_PX, round(width_m * PIXELS_PER_M))
    window = _WINDOWS[int(rng.integers(len(_WINDOWS)))]
    columns = max(2, round(width_m / (1.7 if kind == "glass" else rng.uniform(2.0, 3.0))))
    for floor in range(floors - 1):
        _draw_floor(image, rng, floor, columns, kind, _glass if kind == "glass" else window)
    (_shop_front if shops else _entrance)(image, rng, columns)
    _cornice(image, wall)
    return image


def wall_texture(rng: np.random.Generator, style: DistrictStyle, width_m: float, floors: int) -> UInt8Array:
    """Return a side wall with few windows, uint8 [floors * 64, width_m * 20, 4], RGBE."""
    wall = _varied(rng, style.facades[rng.integers(len(style.facades))])
    image = _bare_wall(rng, "plaster", wall, floors * _FLOOR_PX, round(width_m * PIXELS_PER_M))
    for floor in range(floors):
        if rng.random() < 0.5:
            _draw_floor(image, rng, floor, 3, "plaster", _plain_window)
    shade(image, np.full(image.shape[:2], 0.82, np.float32))
    return image


def roof_texture(rng: np.random.Generator, width_px: int = 128, height_px: int = 64) -> UInt8Array:
    """Return a tiled roof, uint8 [height_px, width_px, 4], RGBE."""
    tile = ((150, 78, 58), (96, 92, 98), (128, 104, 84), (72, 74, 84))[rng.integers(4)]
    image = _filled(height_px, width_px, tile)
    rows = 0.88 + 0.2 * ((np.arange(height_px) % 8) / 8)
    shade(image, (rows[:, None] * (1 + 0.12 * smooth_noise(rng, height_px, width_px, 4))).astype(np.float32))
    return image


def _draw_floor(
    image: UInt8Array, rng: np.random.Generator, floor: int, columns: int, kind: FacadeKind, window: WindowPainter
) -> None:
    """Draw one storey's windows; floor 0 is the top one."""
    top, pitch = floor * _FLOOR_PX, image.shape[1] / columns
    width = round(pitch * (0.88 if kind == "glass" else 0.5))
    for column in range(columns):
        left = round((column + 0.5) * pitch - width / 2)
        box = (left, top + (5 if kind == "glass" else 15), left + width, top + _FLOOR_PX - (5 if kind == "glass" else 13))
        window(image, rng, box)
    if kind == "plaster":
        cv2.line(image, (0, top), (image.shape[1], top), _times(image[top + 4, 1], 0.86), 2)


def _bare_wall(rng: np.random.Generator, kind: FacadeKind, colour: RGB, height: int, width: int) -> UInt8Array:
    image = _filled(height, width, colour)
    if kind == "brick":
        _brick_courses(image, colour)
    stains = 1 + 0.07 * cloudy_noise(rng, height, width, 80) + 0.04 * smooth_noise(rng, height, width, 1)
    depth = np.linspace(1.06, 0.9, height, dtype=np.float32)[:, None]
    shade(image, (stains * depth).astype(np.float32))
    return image


def _brick_courses(image: UInt8Array, colour: RGB) -> None:
    mortar = _times(np.array(colour), 1.14)
    for course, y in enumerate(range(0, image.shape[0], 5)):
        cv2.line(image, (0, y), (image.shape[1], y), mortar, 1)
        for x in range(4 * (course % 2), image.shape[1], 9):
            cv2.line(image, (x, y), (x, y + 5), mortar, 1)


def _plain_window(image: UInt8Array, rng: np.random.Generator, box: Box) -> None:
    left, top, right, bottom = box
    cv2.rectangle(image, (left - 2, top - 2), (right + 2, bottom + 2), (232, 230, 224, 0), -1)
    _glass(image, rng, box)
    middle = (left + right) // 2
    cv2.line(image, (middle, top), (middle, bottom), (226, 224, 218, 0), 2)
    cv2.line(image, (left, top + (bottom - top) // 3), (right, top + (bottom - top) // 3), (226, 224, 218, 0), 1)
    cv2.rectangle(image, (left - 4, bottom + 2), (right + 4, bottom + 4), (150, 146, 140, 0), -1)


def _shuttered_window(image: UInt8Array, rng: np.random.Generator, box: Box) -> None:
    left, top, right, bottom = box
    shutter = ((70, 104, 90, 0), (112, 78, 58, 0), (82, 98, 122, 0))[image.shape[1] % 3]
    wing = max(3, (right - left) // 3)
    for start in (left - wing - 1, right + 1):
        cv2.rectangle(image, (start, top), (start + wing, bottom), shutter, -1)
        for y in range(top + 2, bottom, 4):
            cv2.line(image, (start, y), (start + wing, y), _times(np.array(shutter), 0.8), 1)
    _plain_window(image, rng, box)


def _balcony_window(image: UInt8Array, rng: np.random.Generator, box: Box) -> None:
    left, top, right, bottom = box
    _plain_window(image, rng, (left, top, right, bottom + 6))
    for x in range(left - 5, right + 7, 4):
        cv2.line(image, (x, bottom - 12), (x, bottom + 8), (56, 56, 60, 0), 1)
    cv2.line(image, (left - 6, bottom - 12), (right + 6, bottom - 12), (44, 44, 48, 0), 2)
    cv2.rectangle(image, (left - 7, bottom + 8), (right + 7, bottom + 11), (140, 136, 130, 0), -1)


_WINDOWS = (_plain_window, _shuttered_window, _balcony_window)


def _glass(image: UInt8Array, rng: np.random.Generator, box: Box) -> None:
    """Panes mirror the sky in their upper part; in the dark a third of them is lit."""
    left, top, right, bottom = box
    pane = image[max(top, 0) : bottom, max(left, 0) : right]
    if pane.size == 0:
        return
    tone = rng.uniform(0.75, 1.15)
    upper, lower = np.array((124, 150, 176)) * tone, np.array((48, 58, 70)) * tone
    share = np.linspace(0, 1, pane.shape[0])[:, None, None]
    pane[..., :3] = np.clip(upper + (lower - upper) * share, 0, 255)
    pane[..., 3] = 0
    if rng.random() < 0.25:
        curtain = pane[:, : pane.shape[1] // 3]
        curtain[..., :3] = (214, 206, 194)
    if rng.random() < 0.34:
        _lamplight(pane, rng)


def _lamplight(pane: UInt8Array, rng: np.random.Generator) -> None:
    glow = np.array(_LAMPS[rng.integers(len(_LAMPS))])
    pane[..., :3] = np.clip(0.6 * pane[..., :3] + 0.4 * glow * rng.uniform(0.6, 0.9), 0, 255)
    pane[..., 3] = int(rng.integers(150, 240))


def _entrance(image: UInt8Array, rng: np.random.Generator, columns: int) -> None:
    height, width = image.shape[:2]
    pitch, door = width / columns, int(rng.integers(columns))
    colour = ((92, 60, 42, 0), (46, 72, 62, 0), (110, 38, 36, 0), (60, 66, 84, 0))[rng.integers(4)]
    for column in range(columns):
        middle = round((column + 0.5) * pitch)
        if column != door:
            _plain_window(image, rng, (middle - round(pitch / 4), height - 48, middle + round(pitch / 4), height - 18))
            continue
        cv2.rectangle(image, (middle - 13, height - 46), (middle + 13, height), (206, 200, 190, 0), -1)
        cv2.rectangle(image, (middle - 10, height - 43), (middle + 10, height), colour, -1)
        cv2.rectangle(image, (middle - 8, height - 41), (middle + 8, height - 33), (150, 160, 160, 120), -1)
    cv2.rectangle(image, (0, height - 8), (width, height), (112, 108, 104, 0), -1)


def _shop_front(image: UInt8Array, rng: np.random.Generator, columns: int) -> None:
    height, width = image.shape[:2]
    top = height - _FLOOR_PX
    cv2.rectangle(image, (0, top), (width, height), (58, 56, 58, 0), -1)
    shops = max(1, columns // 3)
    for shop in range(shops):
        left, right = shop * width // shops + 4, (shop + 1) * width // shops - 4
        sign = tuple(int(c) for c in rng.integers(40, 230, 3))
        _glass(image, rng, (left, top + 20, right, height - 7))
        image[top + 20 : height - 7, left:right, 3] = 190
        _wares(image, rng, left, right, top + 34, height - 8)
        cv2.rectangle(image, (left, top + 4), (right, top + 17), (*sign, 150), -1)
        _lettering(image, rng, left + 8, right - 8, top + 7)
        if rng.random() < 0.5:
            _awning(image, left, right, top + 18, sign)


def _wares(image: UInt8Array, rng: np.random.Generator, left: int, right: int, top: int, bottom: int) -> None:
    for x in range(left + 3, right - 8, 9):
        colour = tuple(int(c) for c in rng.integers(60, 240, 3))
        cv2.rectangle(image, (x, bottom - int(rng.integers(4, bottom - top))), (x + 6, bottom), (*colour, 130), -1)


def _lettering(image: UInt8Array, rng: np.random.Generator, left: int, right: int, top: int) -> None:
    for x in range(left, right, 6):
        if rng.random() < 0.75:
            cv2.rectangle(image, (x, top), (x + 3, top + int(rng.integers(4, 8))), (246, 244, 236, 210), -1)


def _awning(image: UInt8Array, left: int, right: int, top: int, colour: tuple[int, ...]) -> None:
    for stripe, x in enumerate(range(left, right, 8)):
        paint = (*colour, 0) if stripe % 2 else (238, 234, 226, 0)
        cv2.rectangle(image, (x, top), (min(x + 8, right), top + 12), paint, -1)


def _cornice(image: UInt8Array, wall: RGB) -> None:
    cv2.rectangle(image, (0, 0), (image.shape[1], 6), _times(np.array(wall), 1.12), -1)
    cv2.rectangle(image, (0, 7), (image.shape[1], 9), _times(np.array(wall), 0.66), -1)


def _filled(height: int, width: int, colour: RGB) -> UInt8Array:
    image = np.zeros((height, width, 4), np.uint8)
    image[..., :3] = colour
    return image


def _varied(rng: np.random.Generator, colour: RGB) -> RGB:
    red, green, blue = (int(np.clip(c * rng.uniform(0.9, 1.1) + rng.normal(0, 4), 0, 255)) for c in colour)
    return red, green, blue


def _times(colour: object, factor: float) -> tuple[int, int, int, int]:
    red, green, blue = (int(min(255.0, float(c) * factor)) for c in np.asarray(colour)[:3])
    return red, green, blue, 0
