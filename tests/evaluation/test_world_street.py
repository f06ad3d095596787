import numpy as np
import pytest

from ams_eval.world.geometry import Camera
from ams_eval.world.ground import BLOCK_M, CROSSING_M, paint_ground
from ams_eval.world.objects import Building, CutOut, Vehicle, Walker
from ams_eval.world.painter import CAR, PERSON, ROAD, SIDEWALK, VEGETATION, Canvas
from ams_eval.world.street import Moment, Street
from ams_eval.world.styles import GARDEN_SUBURB, OLD_TOWN
from ams_eval.world.vehicle_mesh import SHAPES, vehicle_mesh


@pytest.fixture(scope="module")
def street() -> Street:
    return Street.build(5, [OLD_TOWN, GARDEN_SUBURB], [0.0, 2 * BLOCK_M + 3], variety=3)


def camera_above(street: Street, s: float, d: float) -> Camera:
    x, _, z = street.bend.place(s, d)
    return Camera(position=(x, 12.0, z), yaw=0.0, pitch=-1.2, roll=0.0, focal_px=200.0, width=160, height=90)


@pytest.mark.parametrize(
    ("s", "d", "expected"),
    [
        (20.0, 0.0, ROAD),
        (20.0, OLD_TOWN.road_half_m + 1.0, SIDEWALK),
        (20.0, -OLD_TOWN.road_half_m - 1.0, SIDEWALK),
        (sum(CROSSING_M) / 2, 12.0, ROAD),
        (2 * BLOCK_M + 30.0, GARDEN_SUBURB.road_half_m + GARDEN_SUBURB.pavement_m + 1.0, VEGETATION),
    ],
)
def test_the_ground_lies_where_the_style_says(street: Street, s: float, d: float, expected: int) -> None:
    eye, canvas = camera_above(street, s - 4.0, d), Canvas.blank(160, 90)
    paint_ground(canvas, eye, street.bend, street.ground, shadow=0.5)
    seen = eye.to_camera(street.bend.place(s, d)[None])
    column, row = eye.to_pixels(seen)[0].astype(int)
    assert canvas.labels[row, column] == expected
    assert canvas.nearness[row, column] == pytest.approx(1 / seen[0, 2], rel=0.02)


def test_shadow_darkens_the_ground(street: Street) -> None:
    sums = []
    for shadow in (0.0, 0.8):
        canvas = Canvas.blank(160, 90)
        paint_ground(canvas, camera_above(street, 20.0, -4.0), street.bend, street.ground, shadow)
        sums.append(int(canvas.colour[..., :3].sum()))
    assert sums[1] < 0.95 * sums[0]


def test_districts_start_at_a_block(street: Street) -> None:
    assert street.starts == (0.0, 2 * BLOCK_M)
    assert street.district_at(-30.0).style is OLD_TOWN
    assert street.district_at(2 * BLOCK_M - 1).style is OLD_TOWN
    assert street.district_at(2 * BLOCK_M).style is GARDEN_SUBURB


def test_things_come_far_to_near_and_of_every_kind(street: Street) -> None:
    things = street.things(Moment(3.0, 40.0, False))
    distances = [thing.far_s for thing in things]
    assert distances == sorted(distances, reverse=True)
    assert {type(thing) for thing in things} == {Building, CutOut, Vehicle, Walker}


def test_the_same_moment_shows_the_same_street() -> None:
    first, second = (Street.build(6, [OLD_TOWN], [0.0], variety=2) for _ in range(2))
    moment = Moment(10.0, 300.0, True)
    assert [thing.far_s for thing in first.things(moment)] == [thing.far_s for thing in second.things(moment)]
    other = Street.build(7, [OLD_TOWN], [0.0], variety=2)
    assert [thing.far_s for thing in first.things(moment)] != [thing.far_s for thing in other.things(moment)]


def test_people_and_cars_move_without_jumps(street: Street) -> None:
    """Whoever is well inside the view is still there a tenth of a second later, at most one metre on."""
    now, later = (street.things(Moment(time_s, 40.0, False)) for time_s in (20.0, 20.1))
    for kind in (Walker, Vehicle):
        before = [each for each in now if isinstance(each, kind) and 45 < each.far_s < 80]
        after = [each for each in later if isinstance(each, kind)]
        assert before
        for each in before:
            assert min(abs(each.far_s - other.far_s) + abs(each.d - other.d) for other in after) < 1.2


def test_oncoming_cars_come_nearer(street: Street) -> None:
    now, later = (
        [
            each.s
            for each in street.things(Moment(time_s, 40.0, False))
            if isinstance(each, Vehicle) and each.d == -street.lane_m
        ]
        for time_s in (20.0, 20.5)
    )
    assert now
    assert all(min(abs(s - 4.0 - other) for other in later) < 1e-6 for s in now if s > 50)


def test_people_have_left_the_road_when_the_camera_comes(street: Street) -> None:
    for s in np.arange(0, 2 * BLOCK_M, 1.0):
        people = [each for each in street.things(Moment(s / 6.5, float(s), False)) if isinstance(each, Walker)]
        assert not [each for each in people if each.s - s < 11 and abs(each.d) < street.district_at(each.s).style.road_half_m]


@pytest.mark.parametrize("kind", SHAPES)
def test_a_mesh_shows_its_near_side_only(kind: str) -> None:
    mesh = vehicle_mesh(kind, (200, 30, 30))
    shows = mesh.shows(np.array((30.0, 0.0, 1.0)))
    assert all(
        mesh.centres[i, 0] > 0 for i in np.flatnonzero(shows) if abs(mesh.normals[i, 0]) > 0.9 * np.linalg.norm(mesh.normals[i])
    )
    assert not (shows & mesh.shows(np.array((-30.0, 0.0, 0.4))) & (abs(mesh.normals[:, 2]) < 1e-6)).any()
    assert mesh.corners[:, 2].min() >= -1e-9
    assert mesh.corners[:, 2].max() == pytest.approx(SHAPES[kind].height)


def test_vehicles_and_people_are_labelled(street: Street) -> None:
    eye, canvas = (
        Camera(position=(0.0, 1.5, 0.0), yaw=0.0, pitch=0.0, roll=0.0, focal_px=130.0, width=160, height=90),
        Canvas.blank(160, 90),
    )
    x = float(street.bend.place(15.0, 0.0)[0])
    Vehicle(kind="saloon", colour=(200, 30, 30), s=15.0, d=-x - 2.0, heading=1).paint(canvas, eye, street.bend)
    stride = street.districts[0].people[0].dry.along
    Walker(stride=stride, s=10.0, d=2.0 - float(street.bend.place(10.0, 0.0)[0]), height_m=2.1, phase=0.3).paint(
        canvas, eye, street.bend
    )
    assert (canvas.labels[:, :80] == CAR).sum() > 100
    assert (canvas.labels[:, 80:] == PERSON).sum() > 50


def test_things_behind_the_camera_are_not_painted(street: Street) -> None:
    eye = Camera(position=(0.0, 1.5, 50.0), yaw=0.0, pitch=0.0, roll=0.0, focal_px=130.0, width=160, height=90)
    canvas = Canvas.blank(160, 90)
    Vehicle(kind="bus", colour=(200, 30, 30), s=40.0, d=0.0, heading=1).paint(canvas, eye, street.bend)
    CutOut(sprite=street.districts[0].trees[0], s=40.0, d=0.0, height_m=6.0, label=VEGETATION).paint(canvas, eye, street.bend)
    assert not canvas.colour.any()
