"""Cut-outs that face the camera: trees, bushes, and people walking."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ams_common.classes import UInt8Array
from ams_eval.world.noise import smooth_noise
from ams_eval.world.painter import Sprite
from ams_eval.world.styles import RGB, TreeKind

WALK_PHASES = 8
"""Pictures of one stride."""
_SKINS: tuple[RGB, ...] = ((236, 190, 160), (198, 146, 110), (142, 96, 70), (92, 62, 48), (224, 172, 138))
_HAIRS: tuple[RGB, ...] = ((40, 30, 26), (92, 62, 38), (196, 164, 98), (120, 118, 116), (150, 70, 40))


def tree_sprite(rng: np.random.Generator, kind: TreeKind, leaves: RGB, size_px: int = 256) -> Sprite:
    """Return a tree of the kind, uint8 [size_px, 0.75 size_px]; its foot is the middle of the lower edge."""
    width = size_px * 3 // 4
    trunk = np.zeros((size_px, width), np.uint8)
    _draw_trunk(trunk, rng)
    blobs = {"round": _round_crown, "conifer": _conifer_crown, "poplar": _poplar_crown}[kind](rng)
    return _foliage(rng, blobs, leaves, trunk)


def bush_sprite(rng: np.random.Generator, leaves: RGB, size_px: int = 96) -> Sprite:
    """Return a bush, uint8 [size_px, 1.5 size_px]."""
    blobs = [(float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.12, 0.25))) for _ in range(16)]
    return _foliage(rng, blobs, leaves, np.zeros((size_px, size_px * 3 // 2), np.uint8))


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What one person wears."""

    skin: RGB
    hair: RGB
    top: RGB
    legs: RGB
    skirt: bool
    bag: bool

    @staticmethod
    def random(rng: np.random.Generator, clothes: tuple[RGB, ...]) -> "Looks":
        """Draw a person."""
        legs = (*clothes, (44, 50, 70), (60, 58, 58), (90, 84, 76))
        return Looks(
            skin=_SKINS[rng.integers(len(_SKINS))],
            hair=_HAIRS[rng.integers(len(_HAIRS))],
            top=clothes[rng.integers(len(clothes))],
            legs=legs[rng.integers(len(legs))],
            skirt=bool(rng.random() < 0.2),
            bag=bool(rng.random() < 0.4),
        )


def person_sprites(looks: Looks, side_view: bool, umbrella: RGB | None) -> list[Sprite]:
    """Return one stride, WALK_PHASES sprites of uint8 [160, 96]; in the side view the person walks to the right."""
    return [_person(looks, 2 * np.pi * phase / WALK_PHASES, side_view, umbrella) for phase in range(WALK_PHASES)]


@dataclass(frozen=True)
class _Figure:
    """A person being drawn, 320 x 192 pixels, twice as large as the sprite."""

    image: UInt8Array
    mask: UInt8Array
    looks: Looks
    side_view: bool
    bob: int
    """How far the body is below its highest place in the stride."""

    def line(self, start: tuple[int, int], end: tuple[int, int], colour: RGB, shade: float, thickness: int) -> None:
        """Draw a line."""
        cv2.line(self.image, start, end, _times(colour, shade), thickness)
        cv2.line(self.mask, start, end, 255, thickness)

    def polygon(self, points: tuple[tuple[int, int], ...], colour: RGB) -> None:
        """Fill a convex polygon."""
        moved = np.array(points, np.int32) + np.array((0, self.bob), np.int32)
        cv2.fillConvexPoly(self.image, moved, (*colour, 0))
        cv2.fillConvexPoly(self.mask, moved, 255)

    def ellipse(
        self,
        centre: tuple[int, int],
        axes: tuple[int, int],
        colour: RGB,
        shade: float = 1.0,
        angles: tuple[int, int] = (0, 360),
    ) -> None:
        """Fill an ellipse, or the sector of it between two angles in degrees."""
        moved = (centre[0], centre[1] + self.bob)
        cv2.ellipse(self.image, moved, axes, 0, *angles, _times(colour, shade), -1)
        cv2.ellipse(self.mask, moved, axes, 0, *angles, 255, -1)


def _person(looks: Looks, phase: float, side_view: bool, umbrella: RGB | None) -> Sprite:
    swing = math.sin(phase)
    image, mask = np.zeros((320, 192, 4), np.uint8), np.zeros((320, 192), np.uint8)
    figure = _Figure(image, mask, looks, side_view, int(3 * abs(math.cos(phase))))
    _draw_leg(figure, -1, -swing, 0.78)
    _draw_arm(figure, 1, swing, 0.8)
    _draw_leg(figure, 1, swing, 1.0)
    _draw_torso(figure)
    _draw_arm(figure, -1, -swing, 0.92)
    _draw_head(figure)
    if umbrella is not None:
        _draw_umbrella(figure, umbrella)
    colour = cv2.multiply(image, cv2.merge([mask] * 4), scale=1 / 255)
    return Sprite.of(_rounded(_halved(np.asarray(colour, np.uint8))), _halved(mask))


def _draw_leg(figure: _Figure, side: int, swing: float, shade: float) -> None:
    """`swing` in -1..1 is how far the leg is stretched forwards."""
    lift = round(9 * max(0.0, -swing))
    if figure.side_view:
        hip = (96, 206 + figure.bob)
        knee, foot = (96 + round(22 * swing + 6), 258 + figure.bob), (96 + round(36 * swing) - lift // 2, 312 - lift)
    else:
        hip = (96 + 10 * side, 206 + figure.bob)
        knee, foot = (hip[0] + side, 258 - lift), (hip[0], 312 - lift)
    figure.line(hip, knee, figure.looks.legs, shade, 22)
    figure.line(knee, foot, figure.looks.legs, shade, 17)
    figure.line(foot, (foot[0] + (12 if figure.side_view else 0), foot[1] + 2), (52, 44, 42), shade, 13)


def _draw_arm(figure: _Figure, side: int, swing: float, shade: float) -> None:
    if figure.side_view:
        x = (96, 92 + round(20 * swing), 100 + round(32 * swing))
    else:
        x = (96 + 25 * side, 96 + 32 * side, 96 + 31 * side)
    shoulder, elbow, hand = (x[0], 128 + figure.bob), (x[1], 166 + figure.bob), (x[2], 202 + figure.bob - round(6 * swing))
    figure.line(shoulder, elbow, figure.looks.top, shade, 15)
    figure.line(elbow, hand, figure.looks.top, shade, 12)
    figure.ellipse((hand[0], hand[1] - figure.bob), (7, 7), figure.looks.skin, shade)


def _draw_torso(figure: _Figure) -> None:
    half = 20 if figure.side_view else 28
    figure.polygon(((96 - half, 122), (96 + half, 122), (91 + half, 210), (101 - half, 210)), figure.looks.top)
    figure.ellipse((96, 122), (half, 12), figure.looks.top, 1.0, (180, 360))
    if figure.looks.skirt:
        figure.polygon(((74, 196), (118, 196), (130, 250), (62, 250)), figure.looks.legs)
    if figure.looks.bag:
        figure.polygon(((62, 130), (84, 124), (84, 180), (62, 178)), (70, 62, 58))


def _draw_head(figure: _Figure) -> None:
    turn = 1 if figure.side_view else 0
    figure.line((96, 104 + figure.bob), (96, 118 + figure.bob), figure.looks.skin, 0.85, 14)
    figure.ellipse((96 - turn, 87), (19, 23), figure.looks.hair)
    figure.ellipse((96 + 8 * turn, 94), (14, 17), figure.looks.skin)


def _draw_umbrella(figure: _Figure, colour: RGB) -> None:
    figure.line((112, 40 + figure.bob), (114, 176 + figure.bob), (60, 60, 60), 1.0, 4)
    figure.ellipse((104, 62), (80, 50), colour, 1.08, (180, 360))
    figure.ellipse((104, 62), (28, 50), colour, 0.82, (180, 360))


def _rounded(image: UInt8Array) -> UInt8Array:
    """Make limbs look round by light from the left: 1.1 times as bright there, 0.82 times on the right."""
    across = np.linspace(255, 190, image.shape[1]).astype(np.uint8)
    weights = np.broadcast_to(across[None, :, None], image.shape)
    return np.asarray(cv2.multiply(image, np.ascontiguousarray(weights), scale=1.1 / 255), np.uint8)


def _draw_trunk(mask: UInt8Array, rng: np.random.Generator) -> None:
    height, width = mask.shape
    foot, top = (width // 2, height), (width // 2 + int(rng.integers(-8, 9)), height // 2)
    cv2.line(mask, foot, top, 255, max(3, height // 26))
    for _ in range(4):
        end = (top[0] + int(rng.integers(-width // 4, width // 4)), int(height * rng.uniform(0.25, 0.45)))
        cv2.line(mask, (top[0], int(height * rng.uniform(0.5, 0.65))), end, 255, max(2, height // 60))


def _round_crown(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Blobs as (x, y, radius) in shares of the sprite's width, height and width."""
    angles, distances = rng.uniform(0, 2 * np.pi, 26), np.sqrt(rng.uniform(0, 1, 26))
    x, y = 0.5 + 0.29 * distances * np.cos(angles), 0.36 + 0.24 * distances * np.sin(angles)
    return [(float(a), float(b), float(rng.uniform(0.1, 0.2))) for a, b in zip(x, y, strict=True)]


def _conifer_crown(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    levels = rng.uniform(0, 1, 44)
    reach = 0.06 + 0.3 * levels
    return [
        (0.5 + float(r * rng.uniform(-0.8, 0.8)), 0.08 + 0.74 * float(v), float(0.05 + 0.09 * v))
        for v, r in zip(levels, reach, strict=True)
    ]


def _poplar_crown(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    levels = rng.uniform(0, 1, 34)
    return [
        (0.5 + float(rng.normal(0, 0.07)), 0.08 + 0.72 * float(v), float(0.07 + 0.1 * np.sin(np.pi * min(v + 0.1, 1.0))))
        for v in levels
    ]


def _foliage(rng: np.random.Generator, blobs: list[tuple[float, float, float]], leaves: RGB, trunk: UInt8Array) -> Sprite:
    """Blobs lit from the upper left, with a ragged outline."""
    height, width = trunk.shape
    crown, light = np.zeros((height, width), np.float32), np.full((height, width), 0.55, np.float32)
    for x, y, radius in sorted(blobs, key=lambda blob: -blob[1]):
        centre, size = (round(x * width), round(y * height)), max(2, round(radius * width))
        cv2.circle(crown, centre, size, 1.0, -1)
        for ring, level in ((1.0, 0.66), (0.8, 0.82), (0.55, 1.0), (0.3, 1.14)):
            spot = (centre[0] - round((1 - ring) * size * 0.5), centre[1] - round((1 - ring) * size * 0.6))
            cv2.circle(light, spot, max(1, round(ring * size)), level * (1.05 - 0.35 * y), -1)
    ragged = cv2.GaussianBlur(crown, (0, 0), width / 40) + 0.22 * smooth_noise(rng, height, width, 3)
    covered = np.clip((ragged - 0.45) * 6, 0, 1)
    light = cv2.GaussianBlur(light, (0, 0), 1.2) * (1 + 0.28 * smooth_noise(rng, height, width, 2))
    colour = np.clip(np.asarray(leaves, np.float32) * light[..., None], 0, 255)
    bark = np.where(trunk[..., None] > 0, np.array((82, 64, 50), np.float32), 0)
    rgb = colour * covered[..., None] + bark * (1 - covered[..., None])
    coverage = np.maximum(covered, trunk / 255.0)
    rgbe = np.dstack((rgb, np.zeros((height, width)))).astype(np.uint8)
    return Sprite.of(rgbe, (255 * coverage).astype(np.uint8))


def _halved(image: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _times(colour: RGB, factor: float) -> tuple[int, int, int, int]:
    red, green, blue = (min(255, round(c * factor)) for c in colour)
    return red, green, blue, 0
