"""From painted surfaces to a photograph: light, wet ground, haze, glow, rain, and the lens."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ams_common.classes import UInt8Array
from ams_eval.world.geometry import Camera, FloatArray, clip_near
from ams_eval.world.painter import SIDEWALK, SKY, Canvas
from ams_eval.world.styles import Light

_SPARE_PX = 128
_GREY = 110.0


@dataclass(frozen=True)
class Lens:
    """What the camera adds by itself, drawn once for a picture size."""

    vignette: UInt8Array
    """uint8 [H, W, 3]."""
    noise: UInt8Array
    """uint8 [H + 128, W + 128, 3], mean 128, standard deviation 16."""
    streaks: UInt8Array
    """uint8 [H + 128, W + 128, 3], falling rain."""


def make_lens(rng: np.random.Generator, width: int, height: int) -> Lens:
    """Draw vignette, noise and rain for pictures of this size."""
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    vignette = 255 * (1 - 0.26 * ((x[None] ** 2 + y[:, None] ** 2) / 2) ** 1.4)
    size = (height + _SPARE_PX, width + _SPARE_PX)
    noise = np.clip(rng.normal(128, 16, (*size, 3)), 0, 255)
    return Lens(
        np.repeat(vignette[..., None], 3, axis=2).astype(np.uint8), noise.astype(np.uint8), _streaks(rng, *size, height)
    )


def paint_shades(canvas: Canvas, camera: Camera, footprints: Sequence[FloatArray | None], strength: float) -> None:
    """Darken the ground below things; footprints are world points [n, 3]."""
    height, width = canvas.labels.shape
    mask = np.zeros(((height + 1) // 2, (width + 1) // 2), np.uint8)
    for footprint in footprints:
        if footprint is None:
            continue
        visible = clip_near(camera.to_camera(footprint))
        if len(visible) >= 3:
            cv2.fillConvexPoly(
                mask, np.round(camera.to_pixels(visible) * 4).astype(np.int32), round(255 * strength), cv2.LINE_AA, 3
            )
    soft = cv2.resize(cv2.blur(mask, (7, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    kept = 255 - soft
    cv2.multiply(canvas.colour, cv2.merge([kept, kept, kept, kept]), dst=canvas.colour, scale=1 / 255)


def develop(canvas: Canvas, light: Light, lens: Lens, rng: np.random.Generator) -> UInt8Array:
    """Return the picture, uint8 [H, W, 3] RGB; `rng` places rain and noise."""
    sky = (canvas.labels == SKY).astype(np.uint8) * np.uint8(255)
    shine = _bytes(cv2.LUT(cv2.extractChannel(canvas.colour, 3), _scale_table(light.emission)))
    painted = _bytes(cv2.cvtColor(canvas.colour, cv2.COLOR_BGRA2BGR))
    picture = _mix(_bytes(cv2.LUT(painted, _light_table(light))), painted, _bytes(cv2.max(shine, sky)))
    if light.wetness > 0.02:
        picture = _with_reflections(picture, canvas, light.wetness)
    picture = _mix(_plain(picture, light.haze), picture, _clearness(canvas, light, sky))
    if light.emission > 0.05:
        picture = _with_glow(picture, painted, shine)
    if light.rain > 0.02:
        picture = _with_rain(picture, lens, light.rain, rng)
    if abs(light.saturation - 1) > 0.02:
        picture = _saturated(picture, light.saturation)
    cv2.multiply(picture, lens.vignette, dst=picture, scale=1 / 255)
    gain = light.noise / 16
    return _bytes(cv2.addWeighted(picture, 1.0, _crop(lens.noise, picture, rng), gain, -128 * gain))


def _bytes(array: npt.ArrayLike) -> UInt8Array:
    """Say that what OpenCV or NumPy returned is uint8, converting it where it is not."""
    return np.asarray(array, np.uint8)


def _mix(back: UInt8Array, front: UInt8Array, share: UInt8Array) -> UInt8Array:
    """Return back where `share` [H, W] is 0, front where it is 255."""
    mixed = cv2.multiply(back, cv2.merge([255 - share] * 3), scale=1 / 255)
    return _bytes(cv2.add(mixed, cv2.multiply(front, cv2.merge([share] * 3), scale=1 / 255)))


def _plain(picture: UInt8Array, colour: tuple[float, float, float]) -> UInt8Array:
    plain = np.empty_like(picture)
    cv2.rectangle(plain, (0, 0), (picture.shape[1], picture.shape[0]), colour, -1)
    return plain


def _light_table(light: Light) -> UInt8Array:
    levels = np.arange(256)[:, None] * np.asarray(light.tint)[None]
    middle = _GREY * np.mean(light.tint)
    return _bytes(np.clip(middle + light.contrast * (levels - middle), 0, 255)).reshape(256, 1, 3)


def _scale_table(factor: float) -> UInt8Array:
    return _bytes(np.clip(np.arange(256) * factor, 0, 255))


def _clearness(canvas: Canvas, light: Light, sky: UInt8Array) -> UInt8Array:
    depth = 1 / np.maximum(canvas.nearness, np.float32(1e-4))
    clear = (255 * np.exp(depth * np.float32(-1 / light.visibility_m))).astype(np.uint8)
    return _bytes(cv2.max(clear, sky))


def _with_reflections(picture: UInt8Array, canvas: Canvas, wetness: float) -> UInt8Array:
    """Mirror in the wet ground what stands on it: each column about the place where its lowest thing meets the ground."""
    height, width = canvas.labels.shape
    half = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    upright = (canvas.labels[::-2, ::2] > SIDEWALK)[: half.shape[0], : half.shape[1]]
    foot = (half.shape[0] - 1 - upright.argmax(axis=0)).astype(np.float32)
    rows = 2 * foot[None] - np.arange(half.shape[0], dtype=np.float32)[:, None]
    columns = cv2.repeat(np.arange(half.shape[1], dtype=np.float32)[None], half.shape[0], 1)
    mirrored = cv2.remap(half, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mirrored = cv2.resize(cv2.blur(mirrored, (3, 13)), (width, height), interpolation=cv2.INTER_LINEAR)
    share = (canvas.labels <= SIDEWALK).astype(np.uint8) * np.uint8(round(127 * min(wetness, 1.0)))
    return _mix(picture, _bytes(mirrored), share)


def _with_glow(picture: UInt8Array, painted: UInt8Array, shine: UInt8Array) -> UInt8Array:
    height, width = shine.shape
    quarter = (width // 4, height // 4)
    lamps = cv2.multiply(
        cv2.resize(painted, quarter, interpolation=cv2.INTER_AREA),
        cv2.merge([cv2.resize(shine, quarter, interpolation=cv2.INTER_AREA)] * 3),
        scale=1 / 255,
    )
    halo = cv2.addWeighted(cv2.blur(lamps, (5, 5)), 0.45, cv2.blur(cv2.blur(lamps, (17, 17)), (17, 17)), 0.7, 0)
    return _bytes(cv2.add(picture, cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR)))


def _with_rain(picture: UInt8Array, lens: Lens, rain: float, rng: np.random.Generator) -> UInt8Array:
    return _bytes(cv2.addWeighted(picture, 1.0, _crop(lens.streaks, picture, rng), rain, 0))


def _saturated(picture: UInt8Array, saturation: float) -> UInt8Array:
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _bytes(cv2.addWeighted(picture, saturation, grey, 1 - saturation, 0))


def _crop(texture: UInt8Array, picture: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    y, x = (int(v) for v in rng.integers(_SPARE_PX, size=2))
    return texture[y : y + picture.shape[0], x : x + picture.shape[1]]


def _streaks(rng: np.random.Generator, rows: int, columns: int, height: int) -> UInt8Array:
    """Drops of two distances, drawn as slanted lines and softened."""
    image = np.zeros((rows, columns), np.uint8)
    for length, level, count in ((height // 9, 70, 170), (height // 22, 52, 420)):
        for x, y in zip(rng.integers(columns, size=count), rng.integers(rows, size=count), strict=True):
            cv2.line(
                image,
                (int(x), int(y)),
                (int(x) - length // 7, int(y) + length),
                int(level * rng.uniform(0.5, 1)),
                1,
                cv2.LINE_AA,
            )
    return np.repeat(np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)[..., None], 3, axis=2)
