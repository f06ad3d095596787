"""Cut-outs that face the camera: trees, bushes, and people walking."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

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
    blobs = [
        (float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.12, 0.25))) for _ in range(16)
    ]
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


def _person(looks: Looks, phase: float, side_view: bool, umbrella: RGB | None) -> Sprite:
    """Drawn twice as large (a person of 240 pixels in 192 x 320), then halved."""
    image, mask = np.zeros((320, 192, 4), np.uint8), np.zeros((320, 192), np.uint8)
    swing = float(np.sin(phase))
    bob = int(3 * abs(np.cos(phase)))
    _draw_leg(image, mask, looks, -swing, side_view, 0.78, bob)
    _draw_arm(image, mask, looks, swing, side_view, 0.8, bob)
    _draw_leg(image, mask, looks, swing, side_view, 1.0, bob)
    _draw_torso(image, mask, looks, side_view, bob)
    _draw_arm(image, mask, looks, -swing, side_view, 0.92, bob)
    _draw_head(image, mask, looks, side_view, bob)
    if umbrella is not None:
        _draw_umbrella(image, mask, umbrella, bob)
    _round_off(image)
    colour = cv2.multiply(image, cv2.merge([mask] * 4), scale=1 / 255)
    return Sprite(_halved(np.asarray(colour, np.uint8)), _halved(mask))


def _draw_leg(
    image: UInt8Array, mask: UInt8Array, looks: Looks, swing: float, side_view: bool, shade: float, bob: int
) -> None:
    hip = (96 + (0 if side_view else round(9 * np.sign(swing or 1))), 206 + bob)
    if side_view:
        knee = (hip[0] + round(22 * swing + 6), 258 + bob)
        foot = (hip[0] + round(36 * swing - 4 * (swing < 0)), 312 - round(8 * max(0.0, -swing)))
    else:
        lift = round(9 * max(0.0, swing))
        knee, foot = (hip[0] + 1, 258 - lift), (hip[0], 312 - lift)
    cloth, shoe = _times(looks.legs, shade), _times((52, 44, 42), shade)
    for start, end, thickness in ((hip, knee, 22), (knee, foot, 17)):
        _line(image, mask, start, end, cloth, thickness)
    _line(image, mask, foot, (foot[0] + (12 if side_view else 0), foot[1] + 2), shoe, 13)


def _draw_arm(
    image: UInt8Array, mask: UInt8Array, looks: Looks, swing: float, side_view: bool, shade: float, bob: int
) -> None:
    side = 1 if swing > 0 else -1
    shoulder = (96 + (0 if side_view else 25 * side), 128 + bob)
    elbow = (shoulder[0] + (round(20 * swing) - 4 if side_view else 7 * side), 166 + bob)
    hand = (shoulder[0] + (round(32 * swing) + 4 if side_view else 6 * side), 202 + bob)
    _line(image, mask, shoulder, elbow, _times(looks.top, shade), 15)
    _line(image, mask, elbow, hand, _times(looks.top, shade), 12)
    cv2.circle(image, hand, 7, _times(looks.skin, shade), -1)
    cv2.circle(mask, hand, 7, 255, -1)


def _draw_torso(image: UInt8Array, mask: UInt8Array, looks: Looks, side_view: bool, bob: int) -> None:
    half = 20 if side_view else 28
    body = np.array(((96 - half, 122), (96 + half, 122), (96 + half - 5, 210), (96 - half + 5, 210))) + (0, bob)
    _polygon(image, mask, body, _times(looks.top, 1.0))
    cv2.ellipse(image, (96, 122 + bob), (half, 12), 0, 180, 360, _times(looks.top, 1.06), -1)
    cv2.ellipse(mask, (96, 122 + bob), (half, 12), 0, 180, 360, 255, -1)
    if looks.skirt:
        _polygon(image, mask, np.array(((74, 196), (118, 196), (130, 250), (62, 250))) + (0, bob), _times(looks.legs, 1.0))
    if looks.bag:
        _polygon(image, mask, np.array(((62, 130), (84, 124), (84, 180), (62, 178))) + (0, bob), (70, 62, 58, 0))


def _draw_head(image: UInt8Array, mask: UInt8Array, looks: Looks, side_view: bool, bob: int) -> None:
    centre = (98 if side_view else 96, 90 + bob)
    _line(image, mask, (96, 104 + bob), (96, 118 + bob), _times(looks.skin, 0.85), 14)
    for target, paint in ((image, _times(looks.hair, 1.0)), (mask, 255)):
        cv2.ellipse(target, (centre[0] - (3 if side_view else 0), centre[1] - 3), (19, 23), 0, 0, 360, paint, -1)
    face = (centre[0] + (6 if side_view else 0), centre[1] + 4)
    cv2.ellipse(image, face, (14, 17), 0, 0, 360, _times(looks.skin, 1.0), -1)


def _draw_umbrella(image: UInt8Array, mask: UInt8Array, colour: RGB, bob: int) -> None:
    _line(image, mask, (112, 40 + bob), (114, 176 + bob), (60, 60, 60, 0), 4)
    for target, light, dark in ((image, _times(colour, 1.08), _times(colour, 0.82)), (mask, 255, 255)):
        cv2.ellipse(target, (104, 62 + bob), (80, 50), 0, 180, 360, light, -1)
        cv2.ellipse(target, (104, 62 + bob), (28, 50), 0, 180, 360, dark, -1)


def _round_off(image: UInt8Array) -> None:
    """Make limbs look round by light from the upper left."""
    across = np.linspace(1.1, 0.82, image.shape[1], dtype=np.float32)
    image[..., :3] = np.clip(image[..., :3] * across[None, :, None], 0, 255).astype(np.uint8)


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


def _foliage(
    rng: np.random.Generator, blobs: list[tuple[float, float, float]], leaves: RGB, trunk: UInt8Array
) -> Sprite:
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
    bark = np.where(trunk[..., None] > 0, np.float32((82, 64, 50)), 0)
    rgb = colour * covered[..., None] + bark * (1 - covered[..., None])
    coverage = np.maximum(covered, trunk / 255.0)
    rgbe = np.dstack((rgb, np.zeros((height, width)))).astype(np.uint8)
    return Sprite(rgbe, (255 * coverage).astype(np.uint8))


def _line(
    image: UInt8Array,
    mask: UInt8Array,
    start: tuple[int, int],
    end: tuple[int, int],
    colour: tuple[int, int, int, int],
    thickness: int,
) -> None:
    cv2.line(image, start, end, colour, thickness)
    cv2.line(mask, start, end, 255, thickness)


def _polygon(image: UInt8Array, mask: UInt8Array, points: npt.NDArray[np.int_], colour: tuple[int, ...]) -> None:
    cv2.fillConvexPoly(image, points.astype(np.int32), colour)
    cv2.fillConvexPoly(mask, points.astype(np.int32), 255)


def _halved(image: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _times(colour: RGB, factor: float) -> tuple[int, int, int, int]:
    red, green, blue = (min(255, round(c * factor)) for c in colour)
    return red, green, blue, 0
