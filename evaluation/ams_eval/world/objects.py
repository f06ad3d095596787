"""What stands or moves in the street, each able to paint itself; `far_s` orders them from far to near."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ams_common.classes import UInt8Array
from ams_eval.world.geometry import Bend, Camera, FloatArray
from ams_eval.world.painter import BUILDING, CAR, PERSON, Canvas, Sprite, paint_plane, paint_polygon, paint_sprite
from ams_eval.world.styles import RGB
from ams_eval.world.vehicle_mesh import SHAPES, vehicle_mesh

BUILDING_DEPTH_M = 11.0
_NEAREST_M = 1.2
_DETAIL_M = 60.0
_SHADE_CORNERS = 10


class Paintable(Protocol):
    """Anything that can be painted into the street."""

    @property
    def far_s(self) -> float:
        """Distance along the street of its far end, in metres."""
        ...

    def paint(self, canvas: Canvas, camera: Camera, bend: Bend) -> None:
        """Paint what of it lies before the camera."""

    def footprint(self, bend: Bend) -> FloatArray | None:
        """Return the ground it keeps the light from, world points [n, 3], or None."""


@dataclass(frozen=True, kw_only=True)
class Building:
    """A house between two places along the street; its front faces the street."""

    s: float
    far_s: float
    d: float
    """Offset of its front from the street's axis: negative on the left."""
    height_m: float
    front: Sequence[UInt8Array]
    side: Sequence[UInt8Array] | None
    """The wall that looks along the street; None where the next house hides it."""
    roof: Sequence[UInt8Array] | None

    def footprint(self, bend: Bend) -> FloatArray | None:
        """Houses throw their shadow in the ground's texture."""

    def paint(self, canvas: Canvas, camera: Camera, bend: Bend) -> None:
        """Paint roof, side wall and front."""
        up, away = np.array((0.0, self.height_m, 0.0)), np.array((np.sign(self.d) * BUILDING_DEPTH_M, 0.0, 0.0))
        near, far = bend.place(self.s, self.d), bend.place(self.far_s, self.d)
        if self.roof is not None:
            ridge = 0.5 * away + (0.0, 0.34 * BUILDING_DEPTH_M, 0.0)
            if self.side is not None:
                self._paint_gable(canvas, camera, near + up, away, ridge, self.side[-1])
            if _is_above(camera, near + up, far - near, ridge):
                paint_plane(canvas, camera, near + up + ridge, far - near, -ridge * 1.06, self.roof, BUILDING)
        if self.side is not None and self.s > camera.position[2]:
            paint_plane(canvas, camera, near + away + up, -away, -up, self.side, BUILDING)
        paint_plane(canvas, camera, near + up, far - near, -up, self.front, BUILDING)

    def _paint_gable(
        self, canvas: Canvas, camera: Camera, corner: FloatArray, away: FloatArray, ridge: FloatArray, wall: UInt8Array
    ) -> None:
        points = camera.to_camera(np.stack((corner, corner + ridge, corner + away)))
        if points[:, 2].min() < _NEAREST_M:
            return
        red, green, blue = (int(c) for c in wall[..., :3].reshape(-1, 3).mean(axis=0))
        paint_polygon(canvas, camera.to_pixels(points), (red, green, blue, 0), BUILDING, 1 / float(points[:, 2].mean()))


def _is_above(camera: Camera, corner: FloatArray, across: FloatArray, rising: FloatArray) -> bool:
    """Tell whether the camera is above the plane corner + a across + b rising."""
    normal = np.cross(across, rising)
    return bool(np.dot(np.asarray(camera.position) - corner, normal) * normal[1] > 0)


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """A sprite standing on the ground."""

    sprite: Sprite
    s: float
    d: float
    height_m: float
    label: int
    shade_m: float = 0.4
    """Radius of its shade on the ground."""
    seen_m: float = 150.0
    """Depth beyond which it is left out."""

    @property
    def far_s(self) -> float:
        """Distance along the street."""
        return self.s

    def footprint(self, bend: Bend) -> FloatArray | None:
        """A disc around its foot."""
        angles = np.arange(_SHADE_CORNERS) * 2 * np.pi / _SHADE_CORNERS
        disc = np.stack((np.cos(angles), np.zeros(_SHADE_CORNERS), np.sin(angles)), axis=1)
        return bend.place(self.s, self.d) + self.shade_m * disc

    def paint(self, canvas: Canvas, camera: Camera, bend: Bend) -> None:
        """Paint it upright."""
        foot = camera.to_camera(bend.place(self.s, self.d)[None])
        if not _NEAREST_M < foot[0, 2] < self.seen_m:
            return
        (x, y), scale = camera.to_pixels(foot)[0], camera.focal_px / foot[0, 2]
        half = 0.5 * self.height_m * scale * self.sprite.aspect
        paint_sprite(canvas, self.sprite, (x - half, y - self.height_m * scale, x + half, y), self.label, 1 / foot[0, 2])


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A car, van or bus; `heading` 1 drives along the street, -1 against it."""

    kind: str
    colour: RGB
    s: float
    d: float
    heading: int

    @property
    def far_s(self) -> float:
        """Distance along the street of its far end."""
        return self.s + SHAPES[self.kind].length / 2

    def _axes(self, bend: Bend) -> FloatArray:
        """Rows are its forward, right and up in the world."""
        forward = np.array((bend.slope(self.s), 0.0, 1.0)) * self.heading
        forward /= np.linalg.norm(forward)
        return np.stack((forward, np.array((forward[2], 0.0, -forward[0])), np.array((0.0, 1.0, 0.0))))

    def footprint(self, bend: Bend) -> FloatArray | None:
        """A rectangle a little larger than the vehicle."""
        f, r = SHAPES[self.kind].length / 2 + 0.15, SHAPES[self.kind].width / 2 + 0.2
        corners = np.array(((-f, -r, 0), (f, -r, 0), (f, r, 0), (-f, r, 0)))
        return np.asarray(corners @ self._axes(bend) + bend.place(self.s, self.d))

    def paint(self, canvas: Canvas, camera: Camera, bend: Bend) -> None:
        """Paint it unless it is beside or behind the camera."""
        axes, place = self._axes(bend), bend.place(self.s, self.d)
        depth = float(camera.to_camera(place[None])[0, 2])
        if depth < SHAPES[self.kind].length / 2 + _NEAREST_M:
            return
        mesh = vehicle_mesh(self.kind, self.colour)
        points = camera.to_pixels(camera.to_camera(mesh.corners @ axes + place))
        if points[:, 0].max() < 0 or points[:, 0].min() > camera.width:
            return
        shows = mesh.shows(axes @ (np.asarray(camera.position) - place))
        for i in np.flatnonzero(shows):
            face = mesh.faces[i]
            corners = points[mesh.starts[i] : mesh.starts[i + 1]]
            if face.solid:
                paint_polygon(canvas, corners, face.colour, CAR, 1 / depth)
            elif depth < _DETAIL_M:
                paint_polygon(canvas, corners, face.colour)


@dataclass(frozen=True, kw_only=True)
class Walker:
    """A person who walks along the pavement or across the road."""

    stride: Sequence[Sprite]
    s: float
    d: float
    height_m: float
    phase: float
    """Strides made so far."""

    @property
    def far_s(self) -> float:
        """Distance along the street."""
        return self.s

    def _picture(self) -> CutOut:
        sprite = self.stride[int(self.phase * len(self.stride)) % len(self.stride)]
        return CutOut(sprite=sprite, s=self.s, d=self.d, height_m=self.height_m, label=PERSON)

    def footprint(self, bend: Bend) -> FloatArray | None:
        """A disc around the feet."""
        return self._picture().footprint(bend)

    def paint(self, canvas: Canvas, camera: Camera, bend: Bend) -> None:
        """Paint the present picture of the stride."""
        self._picture().paint(canvas, camera, bend)
