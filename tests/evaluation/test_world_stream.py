import dataclasses
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest

from ams_common.classes import IGNORE, STREET7
from ams_common.errors import ConfigurationError
from ams_eval.world.atmosphere import develop, make_lens
from ams_eval.world.painter import CAR, ROAD, SKY, Canvas
from ams_eval.world.stream import DEMO_STREAM, Phase, StreetConfig, render_stream, write_stream
from ams_eval.world.styles import (
    DAY,
    DUSK,
    GARDEN_SUBURB,
    NIGHT,
    OLD_TOWN,
    RAIN,
    Light,
    blend,
    daylight,
    random_light,
    random_style,
)
from ams_eval.world.views import ViewRanges, render_views

SMALL = StreetConfig(seed=3, width=160, height=96, fps=5, duration_s=1.0, variety=2)


def canvas_of(label: int, colour: tuple[int, int, int, int]) -> Canvas:
    canvas = Canvas.blank(160, 96)
    canvas.labels[...], canvas.colour[...], canvas.nearness[...] = label, colour, 0.1
    return canvas


def brightness(canvas: Canvas, light: Light) -> float:
    quiet = dataclasses.replace(light, rain=0.0, noise=0.0, wetness=0.0)
    rng = np.random.default_rng(0)
    return float(develop(canvas, quiet, make_lens(rng, 160, 96), rng).mean())


def test_a_stream_repeats_itself_bit_by_bit() -> None:
    for (image, labels), (again, labels_again) in zip(render_stream(SMALL), render_stream(SMALL), strict=True):
        assert (image == again).all()
        assert (labels == labels_again).all()


def test_another_seed_is_another_street() -> None:
    (image, labels), (other, other_labels) = (next(render_stream(dataclasses.replace(SMALL, seed=seed))) for seed in (3, 4))
    assert (labels != other_labels).mean() > 0.02
    assert (image != other).mean() > 0.5


@pytest.mark.parametrize("viewpoint", ["car", "walker"])
def test_every_class_is_there_and_every_pixel_has_one(viewpoint: Literal["car", "walker"]) -> None:
    config = dataclasses.replace(SMALL, duration_s=12.0, fps=1, viewpoint=viewpoint)
    frames = list(render_stream(config))
    assert len(frames) == config.frames == 12
    for image, labels in frames:
        assert image.shape == (96, 160, 3)
        assert labels.shape == (96, 160)
        assert image.dtype == labels.dtype == np.uint8
        assert not (labels == IGNORE).any()
    seen = set(np.unique([labels for _, labels in frames]))
    assert seen == set(range(len(STREET7)))


def test_the_road_is_below_and_the_sky_above() -> None:
    for _, labels in render_stream(SMALL):
        assert not (labels[-10:] == SKY).any()
        assert not (labels[:20] == ROAD).any()


def test_the_camera_moves_smoothly() -> None:
    config = dataclasses.replace(SMALL, fps=20)
    for (_, labels), (_, following) in itertools.pairwise(render_stream(config)):
        assert 0 < (labels != following).mean() < 0.25


def test_the_demo_has_four_phases_one_in_another_district() -> None:
    names = [DEMO_STREAM.phase_at(time_s).name for time_s in (0.0, 24.9, 25.0, 60.0, 99.0)]
    assert names == ["day", "day", "dusk", "rain", "other district"]
    assert DEMO_STREAM.frames == 1000
    assert DEMO_STREAM.phases[-1].style == GARDEN_SUBURB


def test_phases_change_the_picture() -> None:
    phases = tuple(Phase(name=str(i), start_s=12.0 * i, light=light) for i, light in enumerate((DAY, NIGHT)))
    frames = list(render_stream(dataclasses.replace(SMALL, duration_s=24.0, fps=1, phases=phases)))
    assert frames[23][0].mean() < 0.6 * frames[0][0].mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 10},
        {"height": 10_000},
        {"duration_s": 0.0},
        {"duration_s": 1e9},
        {"phases": ()},
        {"phases": (Phase(name="late", start_s=1.0, light=DAY),)},
    ],
)
def test_configurations_that_cannot_be_rendered_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_written_streams_are_read_back(tmp_path: Path) -> None:
    write_stream(SMALL, tmp_path / "street.mp4", tmp_path / "street.npz")
    expected = list(render_stream(SMALL))
    assert (np.load(tmp_path / "street.npz")["labels"] == [labels for _, labels in expected]).all()
    with av.open(str(tmp_path / "street.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(SMALL.fps)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == SMALL.frames
    for image, (original, _) in zip(decoded, expected, strict=True):
        assert abs(image.astype(int) - original).mean() < 8


def test_light_darkens_surfaces_but_not_the_sky() -> None:
    for label, darker in ((ROAD, True), (SKY, False)):
        canvas = canvas_of(label, (160, 160, 160, 0))
        assert (brightness(canvas, NIGHT) < 0.6 * brightness(canvas, DAY)) == darker


def test_lamps_shine_in_the_dark() -> None:
    dark, lamp = (canvas_of(CAR, (200, 200, 200, shine)) for shine in (0, 255))
    assert brightness(lamp, NIGHT) > 2 * brightness(dark, NIGHT)
    assert brightness(lamp, DAY) == brightness(dark, DAY)


def test_wet_ground_mirrors_what_stands_on_it() -> None:
    canvas = canvas_of(ROAD, (60, 60, 60, 0))
    canvas.labels[:48], canvas.colour[24:48, :, 0] = CAR, 250
    rng = np.random.default_rng(0)
    lens = make_lens(rng, 160, 96)
    dry, wet = (
        develop(canvas, dataclasses.replace(RAIN, wetness=wetness, rain=0.0, noise=0.0), lens, rng).astype(int)
        for wetness in (0.0, 1.0)
    )
    assert (wet[52:64, :, 0] - dry[52:64, :, 0]).mean() > 10
    assert abs(wet[86:, :, 0] - dry[86:, :, 0]).mean() < 3
    assert abs(wet[:46] - dry[:46]).max() == 0


def test_haze_hides_what_is_far() -> None:
    near, far = canvas_of(ROAD, (10, 10, 10, 0)), canvas_of(ROAD, (10, 10, 10, 0))
    far.nearness[...] = 1e-3
    assert brightness(far, DAY) > brightness(near, DAY) + 50


def test_blending_goes_from_one_light_to_the_other() -> None:
    assert blend(DAY, DUSK, 0.0) == DAY
    assert blend(DAY, DUSK, 1.0) == DUSK
    middle = blend(DAY, DUSK, 0.5)
    assert middle.visibility_m == (DAY.visibility_m + DUSK.visibility_m) / 2
    assert middle.haze[1] == (DAY.haze[1] + DUSK.haze[1]) / 2


def test_random_styles_and_lights_follow_the_seed() -> None:
    for draw in (random_style, random_light, daylight):
        first, second, third = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first == second
        assert first != third


def test_daylight_is_never_dark_nor_wet() -> None:
    rng = np.random.default_rng(0)
    lights = [daylight(rng) for _ in range(100)]
    assert min(min(light.tint) for light in lights) > 0.8
    assert max(light.wetness + light.rain + light.emission for light in lights) == 0


def test_views_show_one_street_from_many_places() -> None:
    ranges = ViewRanges(style=lambda _: OLD_TOWN, light=random_light, width=160, height=96)
    views = list(render_views(8, 3, ranges))
    assert len(views) == 3
    for (image, labels), (again, labels_again) in zip(views, render_views(8, 3, ranges), strict=True):
        assert (image == again).all()
        assert (labels == labels_again).all()
    assert (views[0][1] != views[1][1]).mean() > 0.05
