"""What stands along one side of a block: houses, trees, bushes, parked cars.

Each function yields the things of one kind between two side streets, drawn from `rng`; `start` is the block's beginning in
metres along the street, `side` is -1 for the left and 1 for the right.
"""

from collections.abc import Iterator

import numpy as np

from ams_eval.world.district import District
from ams_eval.world.facades import PIXELS_PER_M
from ams_eval.world.ground import CROSSING_M
from ams_eval.world.objects import Building, CutOut, Paintable, Vehicle
from ams_eval.world.painter import VEGETATION
from ams_eval.world.vehicle_mesh import CAR_KINDS, SHAPES

_BUSHES_SEEN_M = 70.0


def block_things(rng: np.random.Generator, district: District, start: float) -> Iterator[Paintable]:
    """Yield everything that stands on both sides of a block."""
    for side in (-1, 1):
        yield from _houses(rng, district, start, side)
        yield from _trees(rng, district, start, side)
        yield from _bushes(rng, district, start, side)
        yield from _parked_vehicles(rng, district, start, side)


def _houses(rng: np.random.Generator, district: District, start: float, side: int) -> Iterator[Paintable]:
    style = district.style
    s, end = start + 0.8 * style.pavement_m - 2, start + CROSSING_M[0] - 0.8 * style.pavement_m
    front_m, hidden_m = style.road_half_m + style.pavement_m + style.verge_m, 0.0
    while True:
        front = district.fronts[rng.integers(len(district.fronts))]
        width = front[0].shape[1] / PIXELS_PER_M
        if s + width > end:
            return
        side_wall = district.sides[rng.integers(len(district.sides))]
        height_m = front[0].shape[0] / PIXELS_PER_M
        yield Building(
            s=s,
            far_s=s + width,
            d=side * front_m,
            height_m=height_m,
            front=front,
            side=side_wall if height_m > hidden_m else None,
            roof=district.roofs[rng.integers(len(district.roofs))] if rng.random() < style.pitched_share else None,
        )
        gap = float(rng.uniform(1.5, 6)) if rng.random() < style.gap_share else 0.0
        hidden_m = 0.0 if gap else height_m
        s += width + gap


def _trees(rng: np.random.Generator, district: District, start: float, side: int) -> Iterator[Paintable]:
    style, s = district.style, start + float(rng.uniform(3, 9))
    while s < start + CROSSING_M[0] - 6:
        in_verge = style.verge_m > 1.5 and rng.random() < 0.5
        d = style.road_half_m + (style.pavement_m + 0.5 * style.verge_m if in_verge else 0.7)
        tree, height = district.trees[rng.integers(len(district.trees))], float(rng.uniform(5.5, 9.5))
        yield CutOut(sprite=tree, s=s, d=side * d, height_m=height, label=VEGETATION, shade_m=1.1)
        s += style.tree_spacing_m * float(rng.uniform(0.7, 1.4))


def _bushes(rng: np.random.Generator, district: District, start: float, side: int) -> Iterator[Paintable]:
    style = district.style
    d = style.road_half_m + style.pavement_m + min(0.8, 0.5 * style.verge_m)
    for s in np.arange(start + 4, start + CROSSING_M[0] - 5, 2.2):
        if style.verge_m > 0 and rng.random() < style.bush_share:
            bush = district.bushes[rng.integers(len(district.bushes))]
            height = float(rng.uniform(0.9, 1.8))
            yield CutOut(sprite=bush, s=float(s), d=side * d, height_m=height, label=VEGETATION, seen_m=_BUSHES_SEEN_M)


def _parked_vehicles(rng: np.random.Generator, district: District, start: float, side: int) -> Iterator[Paintable]:
    style = district.style
    for s in np.arange(start + 4, start + CROSSING_M[0] - 10, 6.2):
        if rng.random() < style.parked_share:
            kind, colour = CAR_KINDS[rng.integers(len(CAR_KINDS))], style.cars[rng.integers(len(style.cars))]
            d = side * (style.road_half_m - 0.15 - SHAPES[kind].width / 2)
            yield Vehicle(kind=kind, colour=colour, s=float(s), d=d, heading=side)
