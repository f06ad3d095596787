"""Painting far to near into three buffers at once: colour, label and depth.

The same mask or polygon goes into the colour and the label buffer, so the labels are exact.
H, W: size of the picture. A colour is RGBE in 0..255: red, green, blue, and how much the surface shines by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ams_common.classes import IGNORE, STREET7, UInt8Array
from ams_eval.world.geometry import Camera, Float32Array, FloatArray, clip_near

ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, PERSON, CAR = range(len(STREET7))
Colour = tuple[int, int, int, int]
_SUBPIXEL_BITS = 4
_SMALLEST_LEVEL_PX = 8


@dataclass(frozen=True)
class Canvas:
    """The buffers of one picture."""

    colour: UInt8Array
    """uint8 [H, W, 4], RGBE."""
    labels: UInt8Array
    """uint8 [H, W], classes of STREET7."""
    nearness: Float32Array
    """float32 [H, W], 1 / depth in 1/m; 0 in the sky."""

    @staticmethod
    def blank(width: int, height: int) -> "Canvas":
        """Return an empty canvas."""
        return Canvas(
            np.zeros((height, width, 4), np.uint8),
            np.full((height, width), IGNORE, np.uint8),
            np.zeros((height, width), np.float32),
        )


@dataclass(frozen=True)
class Sprite:
    """A flat cut-out that always faces the camera, in full size and halved again and again."""

    colours: list[UInt8Array]
    """uint8 [h, w, 4] each, RGBE, multiplied by the coverage."""
    coverages: list[UInt8Array]
    """uint8 [h, w] each, 255 where the sprite is opaque."""

    @staticmethod
    def of(colour: UInt8Array, coverage: UInt8Array) -> "Sprite":
        """Make a sprite from its full size."""
        return Sprite(pyramid(colour), pyramid(coverage))

    @property
    def aspect(self) -> float:
        """Width over height."""
        rows, columns = self.coverages[0].shape
        return float(columns / rows)

    def mirrored(self) -> "Sprite":
        """Return the sprite with left and right exchanged."""
        colour, coverage = self.colours[0][:, ::-1], self.coverages[0][:, ::-1]
        return Sprite.of(np.ascontiguousarray(colour), np.ascontiguousarray(coverage))


def pyramid(texture: UInt8Array) -> list[UInt8Array]:
    """Return the texture and its halvings, so that far surfaces do not shimmer."""
    levels = [texture]
    while min(levels[-1].shape[:2]) >= 2 * _SMALLEST_LEVEL_PX:
        levels.append(np.asarray(cv2.pyrDown(levels[-1]), np.uint8))
    return levels


def paint_polygon(
    canvas: Canvas, points: FloatArray, colour: Colour, label: int | None = None, nearness: float | None = None
) -> None:
    """Fill a convex polygon given in pixels [n, 2]; without label only its colour changes."""
    fixed = _fixed(points)
    cv2.fillConvexPoly(canvas.colour, fixed, colour, cv2.LINE_AA, _SUBPIXEL_BITS)
    if label is not None:
        cv2.fillConvexPoly(canvas.labels, fixed, label, cv2.LINE_8, _SUBPIXEL_BITS)
    if nearness is not None:
        cv2.fillConvexPoly(canvas.nearness, fixed, nearness, cv2.LINE_8, _SUBPIXEL_BITS)


def paint_plane(
    canvas: Canvas,
    camera: Camera,
    corner: FloatArray,
    across: FloatArray,
    along: FloatArray,
    levels: Sequence[UInt8Array],
    label: int,
) -> None:
    """Paint a rectangle in the world, textured and opaque.

    `across` and `along` are world vectors [3] from its `corner` to the texture's right and bottom end.
    """
    corners = np.stack((corner, corner + across, corner + across + along, corner + along))
    visible = clip_near(camera.to_camera(corners))
    if len(visible) < 3:
        return
    points = camera.to_pixels(visible)
    box = _inside(canvas, points)
    if box is None:
        return
    left, top, right, bottom = box
    texture = levels[_level(tuple(np.ptp(points, axis=0)), levels)]
    scale = np.diag((1 / texture.shape[1], 1 / texture.shape[0], 1.0))
    shift = np.array(((1.0, 0, -left), (0, 1, -top), (0, 0, 1)))
    homography = shift @ camera.plane_homography(corner, across, along) @ scale
    size = (right - left, bottom - top)
    painted = cv2.warpPerspective(texture, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(mask, _fixed(points - (left, top)), 1, cv2.LINE_8, _SUBPIXEL_BITS)
    part = np.s_[top:bottom, left:right]
    cv2.copyTo(painted, mask, canvas.colour[part])
    np.copyto(canvas.labels[part], label, where=mask.view(np.bool_))
    cv2.copyTo(_plane_nearness(camera, corner, _cross(across, along), box), mask, canvas.nearness[part])


def paint_sprite(canvas: Canvas, sprite: Sprite, box: tuple[float, float, float, float], label: int, nearness: float) -> None:
    """Paint a sprite into the box (left, top, right, bottom) in pixels; its label goes where it covers at least half."""
    left, top, right, bottom = (round(edge) for edge in box)
    height, width = canvas.labels.shape
    if right <= left or bottom <= top or left >= width or right <= 0 or top >= height or bottom <= 0:
        return
    part = np.s_[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    level = _level((right - left, bottom - top), sprite.coverages)
    coverage = _stretched(sprite.coverages[level], (left, top, right, bottom), part)
    colour = _stretched(sprite.colours[level], (left, top, right, bottom), part)
    beneath = cv2.multiply(canvas.colour[part], cv2.merge([255 - coverage] * 4), scale=1 / 255)
    cv2.add(beneath, colour, dst=canvas.colour[part])
    covered = coverage >= 128
    np.copyto(canvas.labels[part], label, where=covered)
    np.copyto(canvas.nearness[part], nearness, where=covered)


def _fixed(points: FloatArray) -> npt.NDArray[np.int32]:
    return np.round((points - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _inside(canvas: Canvas, points: FloatArray) -> tuple[int, int, int, int] | None:
    height, width = canvas.labels.shape
    low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int) + 1
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _level(size: tuple[float, float], levels: Sequence[UInt8Array]) -> int:
    """Choose the level whose pixels come nearest in size to those of a picture of `size` = (width, height)."""
    rows, columns = levels[0].shape[:2]
    ratio = np.sqrt(max(rows * columns / max(size[0] * size[1], 1.0), 1.0))
    return min(int(np.log2(ratio) + 0.5), len(levels) - 1)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.array((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


def _plane_nearness(camera: Camera, point: FloatArray, normal: FloatArray, box: tuple[int, int, int, int]) -> Float32Array:
    """1 / depth is affine in the pixel on a plane."""
    left, top, right, bottom = box
    row = normal @ camera.inverse / (normal @ (point - np.asarray(camera.position)) + 1e-9)
    across = (row[0] * np.arange(left, right)).astype(np.float32)
    down = (row[1] * np.arange(top, bottom) + row[2]).astype(np.float32)
    return np.asarray(np.add.outer(down, across))


def _stretched(image: UInt8Array, box: tuple[int, int, int, int], part: tuple[slice, slice]) -> UInt8Array:
    """Stretch `image` over the box and return only the part of the picture that is wanted."""
    left, top, right, bottom = box
    rows, columns = image.shape[:2]
    across, down = columns / (right - left), rows / (bottom - top)
    x, y = part[1].start - left, part[0].start - top
    to_image = np.array(((across, 0, (x + 0.5) * across - 0.5), (0, down, (y + 0.5) * down - 0.5)))
    size = (part[1].stop - part[1].start, part[0].stop - part[0].start)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, to_image, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)
