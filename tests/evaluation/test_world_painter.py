import numpy as np
import pytest

from ams_common.classes import IGNORE, UInt8Array
from ams_eval.world.geometry import Camera, FloatArray
from ams_eval.world.painter import BUILDING, CAR, PERSON, Canvas, Sprite, paint_plane, paint_polygon, paint_sprite, pyramid


def camera(yaw: float = 0.0) -> Camera:
    return Camera(position=(0.0, 1.5, 0.0), yaw=yaw, pitch=0.02, roll=0.01, focal_px=130.0, width=160, height=90)


def texture(value: int, side: int = 64) -> list[UInt8Array]:
    return pyramid(np.full((side, side, 4), value, np.uint8))


def wall(z: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    return np.array([-4.0, 5.0, z]), np.array([8.0, 0.0, 0.0]), np.array([0.0, -5.0, 0.0])


def test_polygons_set_label_and_depth_together() -> None:
    canvas = Canvas.blank(160, 90)
    paint_polygon(canvas, np.array([[10.0, 10], [50, 10], [50, 40], [10, 40]]), (200, 100, 50, 7), CAR, 0.25)
    painted = canvas.labels == CAR
    assert painted[10:40, 10:50].all()
    assert 1200 <= painted.sum() <= 1300
    assert ((canvas.nearness == 0.25) == painted).all()
    assert canvas.colour[20, 20].tolist() == [200, 100, 50, 7]


def test_a_polygon_without_label_only_colours() -> None:
    canvas = Canvas.blank(160, 90)
    paint_polygon(canvas, np.array([[10.0, 10], [50, 10], [50, 40]]), (200, 100, 50, 7))
    assert (canvas.labels == IGNORE).all()
    assert canvas.colour.any()


def test_planes_are_labelled_exactly_where_they_are_coloured() -> None:
    canvas = Canvas.blank(160, 90)
    paint_plane(canvas, camera(), *wall(12.0), texture(90), BUILDING)
    coloured = (canvas.colour == 90).all(axis=2)
    assert coloured.sum() > 1500
    assert ((canvas.labels == BUILDING) == coloured).all()
    assert ((canvas.nearness > 0) == coloured).all()


def test_planes_know_their_depth() -> None:
    canvas, eye = Canvas.blank(160, 90), camera(yaw=0.3)
    corner, across, along = wall(12.0)
    paint_plane(canvas, eye, corner, across, along, texture(90), BUILDING)
    seen = eye.to_camera((corner + 0.5 * across + 0.5 * along)[None])
    column, row = eye.to_pixels(seen)[0].astype(int)
    assert canvas.nearness[row, column] == pytest.approx(1 / seen[0, 2], rel=0.02)


def test_planes_reach_behind_the_camera() -> None:
    canvas = Canvas.blank(160, 90)
    paint_plane(canvas, camera(), np.array([3.0, 6, -5]), np.array([0.0, 0, 40]), np.array([0.0, -6, 0]), texture(90), BUILDING)
    assert (canvas.labels[:, 150:] == BUILDING).any()
    assert (canvas.labels[:, :80] == IGNORE).all()


def test_planes_behind_the_camera_are_left_out() -> None:
    canvas = Canvas.blank(160, 90)
    paint_plane(canvas, camera(), *wall(-12.0), texture(90), BUILDING)
    assert not canvas.colour.any()


def test_far_planes_use_smaller_textures() -> None:
    levels = [np.full((64 >> i, 64 >> i, 4), 50 + 50 * i, np.uint8) for i in range(4)]
    colours = []
    for z in (6.0, 60.0):
        canvas = Canvas.blank(160, 90)
        paint_plane(canvas, camera(), *wall(z), levels, BUILDING)
        colours.append(int(canvas.colour[canvas.labels == BUILDING].max()))
    assert colours == [50, 150]


@pytest.mark.parametrize("box", [(20.0, 10.0, 60.0, 70.0), (-20.0, -30.0, 30.0, 40.0), (140.0, 70.0, 240.0, 170.0)])
def test_sprites_are_labelled_where_they_cover(box: tuple[float, float, float, float]) -> None:
    coverage = np.zeros((40, 30), np.uint8)
    coverage[:, :15] = 255
    colour = np.repeat(coverage[..., None], 4, axis=2)
    canvas = Canvas.blank(160, 90)
    paint_sprite(canvas, Sprite.of(colour, coverage), box, PERSON, 0.5)
    covered = canvas.labels == PERSON
    assert covered.any()
    assert (canvas.colour[covered] >= 127).all()
    assert (canvas.colour[~covered] <= 128).all()
    assert ((canvas.nearness == 0.5) == covered).all()


@pytest.mark.parametrize("box", [(200.0, 10.0, 260.0, 70.0), (20.0, -80.0, 60.0, -10.0), (20.0, 10.0, 20.2, 70.0)])
def test_sprites_outside_or_thinner_than_a_pixel_are_left_out(box: tuple[float, float, float, float]) -> None:
    canvas, full = Canvas.blank(160, 90), np.full((40, 30), 255, np.uint8)
    paint_sprite(canvas, Sprite.of(np.dstack([full] * 4), full), box, PERSON, 0.5)
    assert not canvas.colour.any()


def test_mirrored_sprites_exchange_left_and_right() -> None:
    coverage = np.zeros((16, 16), np.uint8)
    coverage[:, :4] = 255
    sprite = Sprite.of(np.repeat(coverage[..., None], 4, axis=2), coverage).mirrored()
    assert sprite.coverages[0][:, 12:].all()
    assert not sprite.coverages[0][:, :12].any()
    assert sprite.aspect == 1.0
