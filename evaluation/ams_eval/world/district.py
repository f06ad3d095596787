"""Everything that the streets of one district are furnished with, drawn once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ams_common.classes import UInt8Array
from ams_eval.world.facades import facade_texture, roof_texture, wall_texture
from ams_eval.world.objects import BUILDING_DEPTH_M
from ams_eval.world.painter import Sprite, pyramid
from ams_eval.world.sprites import Looks, bush_sprite, person_sprites, tree_sprite
from ams_eval.world.styles import RGB, DistrictStyle, TreeKind


@dataclass(frozen=True)
class Gait:
    """One person's strides."""

    along: Sequence[Sprite]
    rightwards: Sequence[Sprite]
    leftwards: Sequence[Sprite]

    @staticmethod
    def of(looks: Looks, umbrella: RGB | None) -> "Gait":
        """Draw the strides of a person, with an umbrella or without."""
        across = person_sprites(looks, True, umbrella)
        return Gait(person_sprites(looks, False, umbrella), across, [sprite.mirrored() for sprite in across])


@dataclass(frozen=True)
class Person:
    """One person in both kinds of weather."""

    dry: Gait
    wet: Gait


@dataclass(frozen=True)
class District:
    """A style with everything drawn that its streets are furnished with."""

    style: DistrictStyle
    fronts: list[list[UInt8Array]]
    sides: list[list[UInt8Array]]
    roofs: list[list[UInt8Array]]
    trees: list[Sprite]
    bushes: list[Sprite]
    people: list[Person]

    @staticmethod
    def furnish(rng: np.random.Generator, style: DistrictStyle, variety: int) -> "District":
        """Draw `variety` house fronts, and trees and people in proportion."""
        fronts = []
        for _ in range(variety):
            width, floors = float(rng.uniform(*style.building_m)), int(rng.integers(style.floors[0], style.floors[1] + 1))
            fronts.append(pyramid(facade_texture(rng, style, width, floors, bool(rng.random() < style.shop_share))))
        kinds: list[TreeKind] = [style.trees[i % len(style.trees)] for i in range(max(3, variety // 2))]
        return District(
            style,
            fronts,
            [pyramid(wall_texture(rng, style, BUILDING_DEPTH_M, style.floors[1])) for _ in range(3)],
            [pyramid(roof_texture(rng)) for _ in range(2)],
            [tree_sprite(rng, kind, style.leaves[i % len(style.leaves)]) for i, kind in enumerate(kinds)],
            [bush_sprite(rng, style.leaves[i % len(style.leaves)]) for i in range(3)],
            [_person(rng, style) for _ in range(variety)],
        )


def _person(rng: np.random.Generator, style: DistrictStyle) -> Person:
    looks, umbrella = Looks.random(rng, style.clothes), style.clothes[rng.integers(len(style.clothes))]
    return Person(Gait.of(looks, None), Gait.of(looks, umbrella if rng.random() < 0.7 else None))
