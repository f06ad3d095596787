import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_eval.world.geometry import NEAR_M, Bend, Camera, clip_near

BEND = Bend((5.0, 1.0), (300.0, 120.0), (0.4, 2.0))
angles = st.floats(-0.4, 0.4)


def camera(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Camera:
    return Camera(position=(1.0, 1.5, 10.0), yaw=yaw, pitch=pitch, roll=roll, focal_px=200.0, width=320, height=180)


def test_a_point_straight_ahead_is_the_middle_of_the_picture() -> None:
    seen = camera().to_camera(np.array([[1.0, 1.5, 30.0]]))
    assert seen[0].tolist() == [0.0, 0.0, 20.0]
    assert camera().to_pixels(seen)[0].tolist() == [160.0, 90.0]


def test_right_is_right_and_up_is_up() -> None:
    right, above = camera().to_pixels(camera().to_camera(np.array([[2.0, 1.5, 30.0], [1.0, 2.5, 30.0]])))
    assert right.tolist() == [170.0, 90.0]
    assert above.tolist() == [160.0, 80.0]


def test_turning_right_moves_things_left_and_looking_up_moves_them_down() -> None:
    point = np.array([[1.0, 1.5, 30.0]])
    turned, lifted = camera(yaw=0.1), camera(pitch=0.1)
    assert turned.to_pixels(turned.to_camera(point))[0, 0] < 160
    assert lifted.to_pixels(lifted.to_camera(point))[0, 1] > 90


def test_positive_roll_turns_the_camera_clockwise() -> None:
    rolled = camera(roll=0.1)
    x, y = rolled.to_pixels(rolled.to_camera(np.array([[2.0, 1.5, 30.0]])))[0]
    assert x > 160
    assert y > 90


@given(yaw=angles, pitch=angles, roll=angles)
def test_the_rotation_is_orthonormal(yaw: float, pitch: float, roll: float) -> None:
    rotation = camera(yaw, pitch, roll).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@given(yaw=angles, pitch=angles, roll=angles)
def test_a_plane_s_homography_agrees_with_the_projection(yaw: float, pitch: float, roll: float) -> None:
    eye = camera(yaw, pitch, roll)
    corner, across, along = np.array([-3.0, 4.0, 30.0]), np.array([0.0, 0.0, 5.0]), np.array([0.0, -4.0, 0.0])
    homogeneous = eye.plane_homography(corner, across, along) @ np.array([0.3, 0.8, 1.0])
    expected = eye.to_pixels(eye.to_camera((corner + 0.3 * across + 0.8 * along)[None]))[0]
    np.testing.assert_allclose(homogeneous[:2] / homogeneous[2], expected, atol=1e-6)


@given(yaw=angles, pitch=angles, roll=angles, column=st.integers(0, 319), row=st.integers(0, 179))
def test_rays_go_through_their_pixels(yaw: float, pitch: float, roll: float, column: int, row: int) -> None:
    eye = camera(yaw, pitch, roll)
    direction = np.array([component[row, column] for component in eye.rays()], np.float64)
    seen = eye.to_camera((np.asarray(eye.position) + 7 * direction)[None])
    assert seen[0, 2] == pytest.approx(7, abs=1e-4)
    np.testing.assert_allclose(eye.to_pixels(seen)[0], (column + 0.5, row + 0.5), atol=1e-2)


@given(st.floats(0, 1000))
def test_the_slope_is_the_derivative_of_the_offset(s: float) -> None:
    step = 1e-4
    before, after = BEND.offset(np.array((s - step, s + step)))
    assert BEND.slope(s) == pytest.approx((after - before) / (2 * step), abs=1e-6)


def test_places_lie_beside_the_axis() -> None:
    x, y, z = BEND.place(55.0, -3.0, 2.0)
    assert (y, z) == (2.0, 55.0)
    assert x == pytest.approx(float(BEND.offset(np.array(55.0))) - 3.0)


def test_random_bends_follow_the_seed_and_stay_gentle() -> None:
    first, second = (Bend.random(np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert max(abs(first.slope(float(s))) for s in range(0, 2000, 5)) < np.tan(np.radians(16))


def test_clipping_keeps_what_is_before_the_camera() -> None:
    square = np.array([[-1.0, 0.0, 5.0], [1.0, 0.0, 5.0], [1.0, 0.0, -5.0], [-1.0, 0.0, -5.0]])
    cut = clip_near(square)
    assert len(cut) == 4
    assert cut[:, 2].min() == pytest.approx(NEAR_M)
    assert (clip_near(square[:2]) == square[:2]).all()
    assert len(clip_near(square - (0, 0, 20))) == 0
