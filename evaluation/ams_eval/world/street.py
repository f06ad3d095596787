"""The street's inventory: which houses, trees, cars and people are where at a given time.

A block's things are drawn from the street's seed and the block's number, so any stretch can be made at any time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ams_eval.world.block import block_things
from ams_eval.world.district import District
from ams_eval.world.geometry import Bend
from ams_eval.world.ground import BLOCK_M, CROSSING_M, Ground, make_tile
from ams_eval.world.objects import Paintable, Vehicle, Walker
from ams_eval.world.sky import Backdrop, make_backdrop
from ams_eval.world.styles import DistrictStyle
from ams_eval.world.vehicle_mesh import CAR_KINDS

_SEEN_M = 135.0
_TRAFFIC_SEEN_M = 100.0
_PEOPLE_SEEN_M = 50.0
_ONCOMING_GAP_M = 34.0
_ONCOMING_MPS = 8.0
_WALKING_MPS = 1.25
_STRIDE_M = 1.4
_CLEAR_M = 13.0
"""Distance of the camera from a zebra at which people have left the road."""


@dataclass(frozen=True)
class Moment:
    """When and from where the street is seen."""

    time_s: float
    s: float
    """Distance of the camera along the street."""
    wet: bool
    """Whether people carry umbrellas."""


@dataclass(frozen=True)
class Street:
    """Districts one after the other along a bending axis."""

    seed: int
    bend: Bend
    districts: Sequence[District]
    starts: tuple[float, ...]
    """Distance at which each district begins, a multiple of BLOCK_M."""
    ground: Ground
    backdrop: Backdrop
    _blocks: dict[int, list[Paintable]] = field(default_factory=dict)

    @staticmethod
    def build(seed: int, styles: Sequence[DistrictStyle], starts: Sequence[float], variety: int, bend: float = 1.0) -> "Street":
        """Draw a street; `starts[i]` is where the district of `styles[i]` begins."""
        rng = np.random.default_rng(seed)
        whole = tuple(BLOCK_M * round(start / BLOCK_M) for start in starts)
        ground = Ground.of([make_tile(rng, style) for style in styles], whole)
        districts = [District.furnish(rng, style, variety) for style in styles]
        return Street(seed, Bend.random(rng, bend), districts, whole, ground, make_backdrop(rng, styles[0]))

    @cached_property
    def lane_m(self) -> float:
        """Offset of the right lane's middle from the axis."""
        return 0.3 * min(district.style.road_half_m for district in self.districts)

    def district_at(self, s: float) -> District:
        """Return the district at a distance along the street."""
        return self.districts[max(i for i, start in enumerate(self.starts) if i == 0 or s >= start)]

    def things(self, moment: Moment) -> list[Paintable]:
        """Return everything to paint, farthest first."""
        first, last = int((moment.s - 20) // BLOCK_M), int((moment.s + _SEEN_M) // BLOCK_M)
        near, far = moment.s, moment.s + _SEEN_M
        found = [each for block in range(first, last + 1) for each in self._block(block) if near < each.far_s < far + 20]
        found += [*self._oncoming(moment), *self._leading(moment), *self._strollers(moment), *self._crossing(moment)]
        return sorted(found, key=lambda each: -each.far_s)

    def _block(self, index: int) -> list[Paintable]:
        if index not in self._blocks:
            rng = np.random.default_rng((self.seed, 1, index + 1000))
            district, start = self.district_at(index * BLOCK_M), index * BLOCK_M
            self._blocks[index] = list(block_things(rng, district, start))
        return self._blocks[index]

    def _drawn(self, purpose: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, purpose, index + 100_000))

    def _oncoming(self, moment: Moment) -> Iterator[Paintable]:
        shift = _ONCOMING_MPS * moment.time_s
        first = int((moment.s + shift) // _ONCOMING_GAP_M)
        for index in range(first, first + int(_TRAFFIC_SEEN_M / _ONCOMING_GAP_M) + 1):
            rng = self._drawn(2, index)
            s = (index + 0.6 * rng.random()) * _ONCOMING_GAP_M - shift
            if rng.random() < 0.75:
                yield self._vehicle(rng, s, -self.lane_m, -1, bus=rng.random() < 0.12)

    def _leading(self, moment: Moment) -> Iterator[Paintable]:
        rng = self._drawn(3, 0)
        share = 0.5 + 0.5 * np.sin(2 * np.pi * (moment.time_s / 47.0 + rng.random()))
        yield self._vehicle(rng, moment.s + 12 + 60 * share**2, self.lane_m, 1, bus=False)

    def _vehicle(self, rng: np.random.Generator, s: float, d: float, heading: int, bus: bool) -> Vehicle:
        colours = self.district_at(s).style.cars
        kind = "bus" if bus else CAR_KINDS[rng.integers(len(CAR_KINDS))]
        return Vehicle(kind=kind, colour=colours[rng.integers(len(colours))], s=s, d=d, heading=heading)

    def _strollers(self, moment: Moment) -> Iterator[Paintable]:
        for direction in (-1, 1):
            shift = direction * _WALKING_MPS * moment.time_s
            first = int((moment.s - shift) // 10)
            for index in range(first, first + int(_PEOPLE_SEEN_M / 10) + 1):
                rng = self._drawn(5 + direction, index)
                for _ in range(rng.poisson(self.district_at(index * 10.0 + shift).style.people_each_10_m)):
                    yield self._stroller(rng, (index + rng.random()) * 10 + shift, moment)

    def _stroller(self, rng: np.random.Generator, s: float, moment: Moment) -> Walker:
        district = self.district_at(s)
        people, style = district.people, district.style
        person = people[rng.integers(len(people))]
        d = float(rng.choice((-1, 1))) * (style.road_half_m + float(rng.uniform(0.5, style.pavement_m - 0.3)))
        height, phase = float(rng.uniform(1.95, 2.3)), float(rng.random())
        gait = person.wet if moment.wet else person.dry
        return Walker(stride=gait.along, s=s, d=d, height_m=height, phase=phase + moment.time_s * _WALKING_MPS / _STRIDE_M)

    def _crossing(self, moment: Moment) -> Iterator[Paintable]:
        for block in range(int(moment.s // BLOCK_M), int((moment.s + _PEOPLE_SEEN_M) // BLOCK_M) + 1):
            rng, zebra = self._drawn(8, block), block * BLOCK_M + CROSSING_M[0] - 3.5
            for _ in range(rng.integers(1, 4)):
                yield self._pedestrian(rng, zebra, moment)

    def _pedestrian(self, rng: np.random.Generator, zebra: float, moment: Moment) -> Walker:
        """Someone who has crossed the road before the camera is there."""
        district = self.district_at(zebra)
        person, side = district.people[rng.integers(len(district.people))], float(rng.choice((-1, 1)))
        reach, start = district.style.road_half_m + 2.0, float(rng.uniform(40, 60))
        walked = float(np.clip((start - (zebra - moment.s)) / (start - _CLEAR_M), 0, 1))
        gait = person.wet if moment.wet else person.dry
        return Walker(
            stride=gait.rightwards if side < 0 else gait.leftwards,
            s=zebra + float(rng.uniform(-1.2, 1.2)),
            d=side * reach * (1 - 2 * walked),
            height_m=float(rng.uniform(1.95, 2.3)),
            phase=walked * 2 * reach / _STRIDE_M,
        )
