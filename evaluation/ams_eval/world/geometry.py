"""Perspective: a pinhole camera in a street whose axis bends gently.

World coordinates are metres: x to the right, y up, z along the street. A place in the street is (s, d, h): distance along
it, offset to the right of its axis, height; the axis itself lies at x = bend(s), so x = bend(s) + d, y = h, z = s.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
NEAR_M = 0.6


@dataclass(frozen=True)
class Bend:
    """The street's axis as a sum of sine waves; both tuples have one entry a wave."""

    amplitudes_m: tuple[float, ...]
    lengths_m: tuple[float, ...]
    phases: tuple[float, ...]

    @staticmethod
    def random(rng: np.random.Generator, strength: float = 1.0) -> "Bend":
        """Draw a bend; at strength 1 the street turns by up to about ten degrees each way."""
        phases = rng.uniform(0, 2 * np.pi, 2)
        amplitudes = strength * rng.uniform((3.0, 0.5), (7.0, 1.5))
        lengths = rng.uniform((260, 110), (380, 150))
        return Bend(tuple(map(float, amplitudes)), tuple(map(float, lengths)), tuple(map(float, phases)))

    def offset(self, s: FloatArray) -> FloatArray:
        """Return x of the axis in metres at distances s, any shape."""
        total = np.zeros_like(s)
        for amplitude, length, phase in zip(self.amplitudes_m, self.lengths_m, self.phases, strict=True):
            total += amplitude * np.sin(2 * np.pi * s / length + phase)
        return total

    def slope(self, s: float) -> float:
        """Return dx/ds of the axis at distance s."""
        waves = zip(self.amplitudes_m, self.lengths_m, self.phases, strict=True)
        return float(sum(a * 2 * math.pi / length * math.cos(2 * math.pi * s / length + phase) for a, length, phase in waves))

    def place(self, s: float, d: float, h: float = 0.0) -> FloatArray:
        """Return float64 [3], the world point of a place in the street."""
        waves = zip(self.amplitudes_m, self.lengths_m, self.phases, strict=True)
        axis = sum(a * math.sin(2 * math.pi * s / length + phase) for a, length, phase in waves)
        return np.array((axis + d, h, s))


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera; pixel (0, 0) is the top left one."""

    position: tuple[float, float, float]
    yaw: float
    """Radians, positive to the right."""
    pitch: float
    """Radians, positive upwards."""
    roll: float
    """Radians, positive clockwise in the picture."""
    focal_px: float
    width: int
    height: int

    @cached_property
    def rotation(self) -> FloatArray:
        """float64 [3, 3]: rows are the camera's right, down and forward axes in the world."""
        sin_yaw, cos_yaw = np.sin(self.yaw), np.cos(self.yaw)
        sin_pitch, cos_pitch = np.sin(self.pitch), np.cos(self.pitch)
        right = np.array((cos_yaw, 0.0, -sin_yaw))
        up = np.array((-sin_yaw * sin_pitch, cos_pitch, -cos_yaw * sin_pitch))
        forward = np.array((sin_yaw * cos_pitch, sin_pitch, cos_yaw * cos_pitch))
        sin_roll, cos_roll = np.sin(self.roll), np.cos(self.roll)
        return np.stack((cos_roll * right + sin_roll * up, sin_roll * right - cos_roll * up, forward))

    @cached_property
    def intrinsics(self) -> FloatArray:
        """float64 [3, 3]: from camera coordinates to homogeneous pixels."""
        return np.array(((self.focal_px, 0, self.width / 2), (0, self.focal_px, self.height / 2), (0, 0, 1)))

    @cached_property
    def matrix(self) -> FloatArray:
        """float64 [3, 3]: from world directions to homogeneous pixels."""
        return self.intrinsics @ self.rotation

    @cached_property
    def inverse(self) -> FloatArray:
        """float64 [3, 3]: from homogeneous pixels to world directions one metre deep."""
        return np.asarray(np.linalg.inv(self.matrix), np.float64)

    def to_camera(self, points: FloatArray) -> FloatArray:
        """Turn world points [n, 3] into camera coordinates [n, 3]: right, down, forward in metres."""
        return np.asarray((points - np.asarray(self.position)) @ self.rotation.T)

    def to_pixels(self, points: FloatArray) -> FloatArray:
        """Turn camera coordinates [n, 3] with positive depth into pixels [n, 2]."""
        scale = self.focal_px / points[:, 2:]
        return points[:, :2] * scale + (self.width / 2, self.height / 2)

    def plane_homography(self, origin: FloatArray, across: FloatArray, along: FloatArray) -> FloatArray:
        """Return [3, 3] that takes (a, b, 1) on the plane origin + a across + b along to homogeneous pixels."""
        return np.asarray(self.matrix @ np.stack((across, along, origin - np.asarray(self.position)), axis=1))

    def rays(self) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Return world directions x, y, z of all pixels, float32 [H, W] each, one metre deep in camera depth."""
        across = ((np.arange(self.width) + 0.5 - self.width / 2) / self.focal_px).astype(np.float32)
        down = ((np.arange(self.height) + 0.5 - self.height / 2) / self.focal_px).astype(np.float32)[:, None]
        right, below, forward = self.rotation.astype(np.float32)
        x, y, z = (across * right[i] + (down * below[i] + forward[i]) for i in range(3))
        return x, y, z


def clip_near(points: FloatArray) -> FloatArray:
    """Cut a polygon in camera coordinates [n, 3] at depth NEAR_M; returns [m, 3], empty when all of it is behind."""
    inside = points[:, 2] >= NEAR_M
    if inside.all():
        return points
    kept: list[FloatArray] = []
    for i in range(len(points)):
        j = (i + 1) % len(points)
        if inside[i]:
            kept.append(points[i])
        if inside[i] != inside[j]:
            share = (NEAR_M - points[i, 2]) / (points[j, 2] - points[i, 2])
            kept.append(points[i] + share * (points[j] - points[i]))
    return np.array(kept).reshape(-1, 3)
