"""The faces of cars, vans and buses.

Local axes of a vehicle in metres: forward, to its right, up; the origin is on the ground below its middle. A profile is a
list of (forward, up), seen from the side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ams_eval.world.geometry import FloatArray
from ams_eval.world.painter import Colour
from ams_eval.world.styles import RGB

_TYRE: Colour = (28, 28, 30, 0)
_RIM: Colour = (150, 152, 156, 0)
_UNDERSIDE: Colour = (20, 20, 22, 0)
_GRILLE: Colour = (36, 36, 40, 0)
_GLASS: Colour = (52, 64, 78, 0)
_WINDSCREEN: Colour = (72, 90, 108, 0)
_HEADLIGHT: Colour = (255, 246, 220, 254)
_TAIL_LIGHT: Colour = (224, 24, 22, 230)
_PLATE: Colour = (226, 224, 214, 0)
_WHEEL_CORNERS = 12
_OVERLAP_M = 0.06
"""How far the cabin reaches into the body, so that no gap shows between them."""

Profile = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Proportions of a kind of vehicle in metres."""

    length: float
    width: float
    height: float
    waist: float
    """Height where the cabin stands on the body."""
    bonnet: float
    """Height of the body's front upper edge."""
    cabin: tuple[float, float, float, float]
    """Forward positions of the cabin's rear foot, rear top, front top and front foot."""
    panelled: bool = False
    """Whether the cabin's sides are metal, as in a van."""

    @property
    def roof_half(self) -> float:
        """Half the width of the roof."""
        return (0.98 if self.height > 2 else 0.82) * self.width / 2

    def half_at(self, h: float) -> float:
        """Half the width of the cabin at height h."""
        share = (h - self.waist) / (self.height - self.waist)
        return self.width / 2 - 0.04 + share * (self.roof_half - self.width / 2 + 0.04)


SHAPES = {
    "saloon": Shape(length=4.6, width=1.8, height=1.45, waist=0.92, bonnet=0.72, cabin=(-1.85, -1.15, 0.35, 1.05)),
    "hatchback": Shape(length=3.9, width=1.75, height=1.5, waist=0.95, bonnet=0.76, cabin=(-1.9, -1.6, 0.35, 1.05)),
    "estate": Shape(length=4.5, width=1.9, height=1.7, waist=1.05, bonnet=0.95, cabin=(-2.2, -1.95, 0.4, 1.15)),
    "van": Shape(length=5.2, width=2.0, height=2.3, waist=1.1, bonnet=1.0, cabin=(-2.58, -2.55, 1.35, 2.1), panelled=True),
    "bus": Shape(length=9.5, width=2.5, height=3.0, waist=1.2, bonnet=1.18, cabin=(-4.74, -4.7, 4.6, 4.74)),
}
CAR_KINDS = ("saloon", "hatchback", "hatchback", "estate", "saloon", "van")
"""What is on the road beside buses, each as often as here."""


@dataclass(frozen=True)
class Face:
    """A flat convex piece of the surface."""

    corners: FloatArray
    """float64 [n, 3]."""
    colour: Colour
    solid: bool = True
    """False for a piece that lies on another one and adds nothing to the outline."""


@dataclass(frozen=True)
class Mesh:
    """The faces in painting order, with what is needed to paint those that show."""

    faces: tuple[Face, ...]
    corners: FloatArray
    """float64 [sum of n, 3], the corners of all faces."""
    starts: tuple[int, ...]
    """Where each face's corners begin, and their number at the end."""
    centres: FloatArray
    """float64 [faces, 3]."""
    normals: FloatArray
    """float64 [faces, 3], pointing outwards."""

    def shows(self, eye: FloatArray) -> npt.NDArray[np.bool_]:
        """Return bool [faces]: whether each face is turned towards the local point `eye` [3]."""
        return np.asarray(np.einsum("ij,ij->i", self.normals, eye - self.centres) > 0)


@lru_cache(maxsize=256)
def vehicle_mesh(kind: str, colour: RGB) -> Mesh:
    """Return the mesh of a vehicle of one of SHAPES."""
    shape, paint = SHAPES[kind], (*colour, 0)
    faces = (*_body(shape, paint), *_ends(shape), *_trim(shape, paint), *_cabin(shape, paint))
    centres = np.stack([face.corners.mean(axis=0) for face in faces])
    normals = np.stack([np.cross(face.corners[1] - face.corners[0], face.corners[2] - face.corners[0]) for face in faces])
    outwards = centres - (0, 0, 0.55 * shape.height)
    normals *= np.where(np.einsum("ij,ij->i", normals, outwards) < 0, -1.0, 1.0)[:, None]
    starts = np.cumsum([0, *(len(face.corners) for face in faces)])
    return Mesh(faces, np.concatenate([face.corners for face in faces]), tuple(map(int, starts)), centres, normals)


def _body(shape: Shape, paint: Colour) -> list[Face]:
    end, half = shape.length / 2, shape.width / 2
    underside = [(end - 0.15, 0.1), (end - 0.15, 0.4), (-end + 0.15, 0.4), (-end + 0.15, 0.1)]
    outline = [
        (end, 0.3),
        (end - 0.08, shape.bonnet),
        (shape.cabin[3], shape.waist),
        (shape.cabin[0], shape.waist),
        (-end + 0.06, shape.waist - 0.06),
        (-end, 0.34),
    ]
    faces = _extruded(underside, (half - 0.08,) * 4, _UNDERSIDE) + _extruded(outline, (half,) * 6, paint)
    radius = 0.34 if shape.height < 2 else 0.45
    return faces + [wheel for f in (-0.3, 0.31) for wheel in _wheels(f * shape.length, half + 0.01, radius)]


def _cabin(shape: Shape, paint: Colour) -> list[Face]:
    rear_foot, rear_top, front_top, front_foot = shape.cabin
    outline = [(front_foot, shape.waist), (front_top, shape.height), (rear_top, shape.height), (rear_foot, shape.waist)]
    sunk = [(f, h - (_OVERLAP_M if h == shape.waist else 0.0)) for f, h in outline]
    shell = _extruded(sunk, [shape.half_at(h) for _, h in sunk], paint)
    return shell + _side_windows(shape, outline, paint) + _screens(shape)


def _side_windows(shape: Shape, outline: Profile, paint: Colour) -> list[Face]:
    if shape.panelled:
        low, high, front = shape.waist + 0.08, shape.height - 0.5, shape.cabin[2]
        return _both_sides(shape, [(front + 0.6, low), (front, high), (front - 0.7, high), (front - 0.7, low)], _GLASS)
    middle = np.mean(outline, axis=0)
    window = [(middle[0] + 0.88 * (f - middle[0]), middle[1] + 0.74 * (h - middle[1])) for f, h in outline]
    pillars = [0.5 * (shape.cabin[1] + shape.cabin[2])] if shape.length < 6 else list(np.arange(-3.8, 4.2, 1.3))
    faces = _both_sides(shape, window, _GLASS)
    low, high = shape.waist, shape.height - 0.06
    for f in pillars:
        bar = [(f + 0.05, low), (f + 0.05, high), (f - 0.05, high), (f - 0.05, low)]
        faces += _both_sides(shape, bar, _times(paint, 0.7))
    return faces


def _screens(shape: Shape) -> list[Face]:
    """Windscreen and rear window, a little smaller than the cabin's faces."""
    rear_foot, rear_top, front_top, front_foot = shape.cabin
    faces = []
    for out, foot, top, colour in ((0.02, front_foot, front_top, _WINDSCREEN), (-0.02, rear_foot, rear_top, _GLASS)):
        if shape.panelled and out < 0:
            continue
        edges = []
        for share, inset in ((0.1, 0.1), (0.84, 0.1)):
            h = shape.waist + share * (shape.height - shape.waist)
            edges.append((foot + share * (top - foot) + out, shape.half_at(h) - inset, h))
        (f_low, half_low, low), (f_high, half_high, high) = edges
        corners = ((f_low, -half_low, low), (f_low, half_low, low), (f_high, half_high, high), (f_high, -half_high, high))
        faces.append(Face(np.array(corners), colour, solid=False))
    return faces


def _ends(shape: Shape) -> list[Face]:
    front, rear, half = shape.length / 2 + 0.02, -shape.length / 2 - 0.02, shape.width / 2
    faces = [
        _patch(front, 0, 0.5 * half, 0.5 * shape.bonnet, 0.78 * shape.bonnet, _GRILLE),
        _patch(front, 0, 0.26, 0.34, 0.45, _PLATE),
        _patch(rear, 0, 0.9 * half, 0.34, 0.44, _GRILLE),
        _patch(rear, 0, 0.26, 0.5 * shape.waist, 0.5 * shape.waist + 0.12, _PLATE),
    ]
    for side in (-half, half):
        faces.append(_patch(front, 0.74 * side, 0.2 * half, 0.62 * shape.bonnet, 0.88 * shape.bonnet, _HEADLIGHT))
        faces.append(_patch(rear, 0.8 * side, 0.16 * half, 0.6 * shape.waist, 0.9 * shape.waist, _TAIL_LIGHT))
    return faces


def _trim(shape: Shape, paint: Colour) -> list[Face]:
    reach, faces = 0.2 * shape.length, []
    for low, high in ((0.32, 0.42), (shape.waist - 0.06, shape.waist)):
        for side in (-shape.width / 2 - 0.01, shape.width / 2 + 0.01):
            corners = ((reach, side, low), (reach, side, high), (-reach, side, high), (-reach, side, low))
            faces.append(Face(np.array(corners), _times(paint, 0.68), solid=False))
    return faces


def _extruded(outline: Profile, halves: Sequence[float], paint: Colour) -> list[Face]:
    """Stretch a convex outline, which starts at the front foot and runs over the top to the rear foot, across the vehicle."""
    right = np.array([(f, half, h) for (f, h), half in zip(outline, halves, strict=True)])
    left = right * (1, -1, 1)
    faces = [Face(right, _times(paint, 0.84)), Face(left, _times(paint, 0.93))]
    for i in range(len(outline) - 1):
        run, rise = np.abs(np.subtract(outline[i + 1], outline[i]))
        steepness = float(rise / np.hypot(run, rise))
        faces.append(Face(np.stack((left[i], right[i], right[i + 1], left[i + 1])), _times(paint, 1.16 - 0.26 * steepness)))
    return faces


def _both_sides(shape: Shape, outline: Profile, colour: Colour) -> list[Face]:
    right = np.array([(f, shape.half_at(h) + 0.01, h) for f, h in outline])
    return [Face(right, colour, solid=False), Face(right * (1, -1, 1), colour, solid=False)]


def _wheels(forward: float, half: float, radius: float) -> list[Face]:
    angles = np.arange(_WHEEL_CORNERS) * 2 * np.pi / _WHEEL_CORNERS
    faces = []
    for side in (-half, half):
        for size, colour, solid in ((1.0, _TYRE, True), (0.58, _RIM, False)):
            f, h = forward + size * radius * np.cos(angles), radius + size * radius * np.sin(angles)
            faces.append(Face(np.stack((f, np.full_like(f, side), h), axis=1), colour, solid))
    return faces


def _patch(forward: float, middle: float, half: float, low: float, high: float, colour: Colour) -> Face:
    left, right = middle - half, middle + half
    corners = ((forward, left, low), (forward, right, low), (forward, right, high), (forward, left, high))
    return Face(np.array(corners), colour, solid=False)


def _times(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(c * factor)) for c in colour[:3])
    return red, green, blue, colour[3]
