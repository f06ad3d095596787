"""What a district looks like and how it is lit: the named ones of the demo, and draws from wide ranges for training."""

import colorsys
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np

RGB: TypeAlias = tuple[int, int, int]
FacadeKind: TypeAlias = Literal["plaster", "brick", "glass"]
TreeKind: TypeAlias = Literal["round", "conifer", "poplar"]
Paving: TypeAlias = Literal["slabs", "cobbles", "plain"]


@dataclass(frozen=True, kw_only=True)
class DistrictStyle:
    """Architecture, planting and traffic of one district; lengths in metres."""

    road_half_m: float = 4.6
    pavement_m: float = 3.0
    verge_m: float = 0.0
    """Width of the grass between pavement and buildings."""
    asphalt: RGB = (92, 93, 97)
    marking: RGB = (222, 222, 214)
    paving: Paving = "slabs"
    paving_colour: RGB = (164, 158, 150)
    grass: RGB = (98, 128, 62)
    facades: tuple[RGB, ...] = ((206, 188, 160), (190, 150, 120), (214, 206, 192), (176, 108, 84))
    facade_kinds: tuple[FacadeKind, ...] = ("plaster", "plaster", "brick")
    floors: tuple[int, int] = (3, 6)
    building_m: tuple[float, float] = (9.0, 18.0)
    gap_share: float = 0.1
    """Share of buildings with a gap before the next one."""
    pitched_share: float = 0.3
    shop_share: float = 0.5
    trees: tuple[TreeKind, ...] = ("round",)
    leaves: tuple[RGB, ...] = ((84, 122, 52), (104, 138, 64))
    tree_spacing_m: float = 14.0
    bush_share: float = 0.3
    cars: tuple[RGB, ...] = ((178, 30, 34), (232, 232, 230), (40, 44, 50), (52, 84, 140), (142, 146, 150))
    parked_share: float = 0.4
    clothes: tuple[RGB, ...] = ((190, 44, 48), (42, 72, 140), (230, 190, 60), (240, 240, 236), (52, 54, 60), (60, 130, 90))
    people_each_10_m: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Light:
    """Time of day and weather; colours are RGB in 0..255, tint and strengths are factors around 1 or in 0..1."""

    tint: tuple[float, float, float] = (1.0, 1.0, 0.98)
    contrast: float = 1.0
    saturation: float = 1.0
    sky_top: tuple[float, float, float] = (86, 138, 208)
    sky_horizon: tuple[float, float, float] = (196, 216, 234)
    cloud: tuple[float, float, float] = (250, 250, 250)
    cloud_share: float = 0.45
    haze: tuple[float, float, float] = (196, 212, 228)
    visibility_m: float = 260.0
    """Depth at which haze hides 63 %."""
    shadow: float = 0.5
    """How much darker sunlit ground is in the shade."""
    emission: float = 0.0
    """How bright lamps and lit windows are."""
    wetness: float = 0.0
    """How much wet ground mirrors."""
    rain: float = 0.0
    """Strength of the falling rain."""
    noise: float = 3.0
    """Standard deviation of the sensor's noise in grey levels."""


DAY = Light()
DUSK = Light(
    tint=(0.62, 0.48, 0.5),
    contrast=1.05,
    sky_top=(58, 70, 128),
    sky_horizon=(255, 170, 96),
    cloud=(232, 122, 116),
    cloud_share=0.4,
    haze=(214, 144, 110),
    visibility_m=210.0,
    shadow=0.15,
    emission=1.0,
    noise=4.5,
)
RAIN = Light(
    tint=(0.56, 0.61, 0.66),
    contrast=0.82,
    saturation=0.6,
    sky_top=(118, 124, 132),
    sky_horizon=(160, 165, 170),
    cloud=(140, 145, 150),
    cloud_share=0.8,
    haze=(150, 156, 162),
    visibility_m=75.0,
    shadow=0.0,
    emission=0.85,
    wetness=0.95,
    rain=0.8,
    noise=4.0,
)
OVERCAST = Light(
    tint=(0.97, 0.98, 1.0),
    contrast=0.95,
    saturation=0.85,
    sky_top=(176, 184, 194),
    sky_horizon=(214, 218, 222),
    cloud=(226, 228, 232),
    cloud_share=0.8,
    haze=(200, 206, 212),
    visibility_m=170.0,
    shadow=0.08,
)
NIGHT = Light(
    tint=(0.24, 0.26, 0.38),
    saturation=0.85,
    sky_top=(10, 13, 28),
    sky_horizon=(38, 36, 54),
    cloud=(34, 34, 48),
    cloud_share=0.3,
    haze=(30, 30, 44),
    visibility_m=160.0,
    shadow=0.0,
    emission=1.0,
    noise=8.0,
)

OLD_TOWN = DistrictStyle()
GARDEN_SUBURB = DistrictStyle(
    road_half_m=5.6,
    pavement_m=2.2,
    verge_m=3.2,
    asphalt=(122, 112, 106),
    marking=(228, 190, 84),
    paving="cobbles",
    paving_colour=(150, 112, 96),
    grass=(138, 140, 58),
    facades=((236, 236, 230), (110, 136, 152), (88, 98, 92), (222, 196, 120), (156, 72, 60)),
    facade_kinds=("plaster", "glass", "plaster"),
    floors=(2, 3),
    building_m=(8.0, 13.0),
    gap_share=0.75,
    pitched_share=0.85,
    shop_share=0.05,
    trees=("poplar", "conifer", "round"),
    leaves=((196, 120, 40), (168, 68, 38), (206, 164, 58), (52, 84, 58)),
    tree_spacing_m=9.0,
    bush_share=0.7,
    cars=((238, 190, 40), (96, 150, 170), (222, 222, 216), (90, 40, 60), (200, 96, 40)),
    parked_share=0.25,
    clothes=((236, 110, 40), (110, 60, 130), (60, 160, 170), (150, 30, 60), (240, 220, 190)),
)


def blend(first: Light, second: Light, share: float) -> Light:
    """Return the light between two, `share` in 0..1 of the way to the second."""
    if share <= 0.0 or share >= 1.0:
        return second if share > 0.5 else first

    def between(name: str) -> float | tuple[float, ...]:
        """Return a quality of the light between the two."""
        a, b = np.asarray(getattr(first, name)), np.asarray(getattr(second, name))
        mixed = a + share * (b - a)
        return float(mixed) if mixed.ndim == 0 else tuple(map(float, mixed))

    return Light(**{each.name: between(each.name) for each in fields(Light)})  # type: ignore[arg-type]


def random_style(rng: np.random.Generator) -> DistrictStyle:
    """Draw a district from wide ranges of everything."""
    kinds: tuple[FacadeKind, ...] = ("plaster", "brick", "glass")
    trees: tuple[TreeKind, ...] = ("round", "conifer", "poplar")
    pavings: tuple[Paving, ...] = ("slabs", "cobbles", "plain")
    low = int(rng.integers(2, 6))
    narrow = float(rng.uniform(7, 14))
    return DistrictStyle(
        road_half_m=float(rng.uniform(3.4, 6.6)),
        pavement_m=float(rng.uniform(1.8, 4.2)),
        verge_m=float(rng.choice([0.0, 0.0, rng.uniform(0.8, 4.0)])),
        asphalt=_colour(rng, (0.0, 1.0), (0.0, 0.12), (0.24, 0.55)),
        marking=_colour(rng, (0.1, 0.16), (0.0, 0.6), (0.75, 0.95)),
        paving=pavings[rng.integers(3)],
        paving_colour=_colour(rng, (0.02, 0.12), (0.0, 0.4), (0.42, 0.8)),
        grass=_colour(rng, (0.13, 0.33), (0.3, 0.65), (0.35, 0.6)),
        facades=_colours(rng, 5, (0.0, 1.0), (0.02, 0.5), (0.3, 0.95)),
        facade_kinds=tuple(kinds[i] for i in rng.integers(3, size=3)),
        floors=(low, low + int(rng.integers(1, 5))),
        building_m=(narrow, narrow + float(rng.uniform(2, 10))),
        gap_share=float(rng.uniform(0, 0.8)),
        pitched_share=float(rng.uniform(0, 1)),
        shop_share=float(rng.uniform(0, 0.7)),
        trees=tuple(trees[i] for i in rng.integers(3, size=2)),
        leaves=_colours(rng, 3, (0.02, 0.4), (0.3, 0.75), (0.25, 0.75)),
        tree_spacing_m=float(rng.uniform(7, 22)),
        bush_share=float(rng.uniform(0, 0.8)),
        cars=_colours(rng, 6, (0.0, 1.0), (0.0, 0.85), (0.12, 0.95)),
        parked_share=float(rng.uniform(0.1, 0.6)),
        clothes=_colours(rng, 8, (0.0, 1.0), (0.0, 0.85), (0.15, 0.95)),
        people_each_10_m=float(rng.uniform(0.6, 1.6)),
    )


def familiar_style(rng: np.random.Generator) -> DistrictStyle:
    """Draw a town much like any other: plastered and brick houses, green round trees, grey paving, no front gardens."""
    low = int(rng.integers(3, 5))
    return DistrictStyle(
        road_half_m=float(rng.uniform(4.2, 5.2)),
        pavement_m=float(rng.uniform(2.6, 3.6)),
        asphalt=_colour(rng, (0.5, 0.7), (0.0, 0.06), (0.33, 0.42)),
        paving_colour=_colour(rng, (0.05, 0.12), (0.02, 0.12), (0.56, 0.7)),
        facades=_colours(rng, 5, (0.02, 0.13), (0.08, 0.45), (0.6, 0.88)),
        floors=(low, low + 2),
        gap_share=0.1,
        leaves=_colours(rng, 3, (0.22, 0.29), (0.45, 0.62), (0.42, 0.58)),
        cars=_colours(rng, 6, (0.0, 1.0), (0.0, 0.8), (0.15, 0.92)),
        clothes=_colours(rng, 8, (0.0, 1.0), (0.1, 0.8), (0.2, 0.92)),
        people_each_10_m=1.2,
    )


def random_light(rng: np.random.Generator) -> Light:
    """Draw any light: between two of the named ones, then moved in tint, haze, visibility, shadow, wetness and noise."""
    named = (DAY, DUSK, RAIN, OVERCAST, NIGHT)
    first, second = rng.choice(len(named), 2, p=(0.25, 0.25, 0.25, 0.15, 0.1))
    return _moved(blend(named[first], named[second], float(rng.uniform(0, 1))), rng, 0.18)


def daylight(rng: np.random.Generator) -> Light:
    """Draw a plain daytime light."""
    return _moved(blend(DAY, OVERCAST, float(rng.uniform(0, 0.7))), rng, 0.06)


def _moved(light: Light, rng: np.random.Generator, by: float) -> Light:
    values = {each.name: getattr(light, each.name) for each in fields(Light)}
    gain = rng.uniform(1 - by, 1 + by)
    values["tint"] = tuple(float(c * gain * rng.uniform(1 - by / 2, 1 + by / 2)) for c in light.tint)
    for name in ("sky_top", "sky_horizon", "cloud", "haze"):
        gain = rng.uniform(1 - by, 1 + by)
        values[name] = tuple(float(min(255.0, c * gain * rng.uniform(1 - by / 2, 1 + by / 2))) for c in values[name])
    for name in ("visibility_m", "shadow", "contrast", "saturation", "wetness", "rain", "noise"):
        values[name] = float(values[name] * rng.uniform(1 - 2 * by, 1 + 2 * by))
    values["cloud_share"] = float(rng.uniform(0.1, 0.9))
    return Light(**values)


def _colour(
    rng: np.random.Generator, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
) -> RGB:
    red, green, blue = colorsys.hsv_to_rgb(*(float(rng.uniform(*each)) for each in (hue, saturation, value)))
    return round(255 * red), round(255 * green), round(255 * blue)


def _colours(
    rng: np.random.Generator, count: int, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
) -> tuple[RGB, ...]:
    return tuple(_colour(rng, hue, saturation, value) for _ in range(count))
