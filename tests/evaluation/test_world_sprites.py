from typing import get_args

import numpy as np
import pytest

from ams_eval.world.facades import FLOOR_M, PIXELS_PER_M, facade_texture, roof_texture, wall_texture
from ams_eval.world.noise import cloudy_noise, shade, smooth_noise
from ams_eval.world.painter import Sprite
from ams_eval.world.sprites import WALK_PHASES, Looks, bush_sprite, person_sprites, tree_sprite
from ams_eval.world.styles import OLD_TOWN, FacadeKind, TreeKind, random_style


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def is_premultiplied(sprite: Sprite) -> bool:
    return not sprite.colours[0][sprite.coverages[0] == 0].any()


@pytest.mark.parametrize("kind", get_args(TreeKind))
def test_trees_stand_on_the_middle_of_their_lower_edge(kind: TreeKind) -> None:
    tree = tree_sprite(rng(), kind, (80, 120, 50))
    coverage = tree.coverages[0]
    assert coverage[-1, 90:102].max() == 255
    assert not coverage[-20:, :40].any()
    assert 0.15 < (coverage > 127).mean() < 0.8
    assert is_premultiplied(tree)


def test_leaves_have_the_colour_asked_for() -> None:
    red, green, blue, shine = tree_sprite(rng(), "round", (200, 60, 20)).colours[0].reshape(-1, 4).astype(int).sum(axis=0)
    assert red > 2 * green > 2 * blue
    assert shine == 0


def test_bushes_reach_the_ground() -> None:
    bush = bush_sprite(rng(), (80, 120, 50))
    assert (bush.coverages[0][-1] > 127).mean() > 0.3
    assert bush.aspect == 1.5


@pytest.mark.parametrize("side_view", [True, False])
@pytest.mark.parametrize("umbrella", [None, (200, 30, 30)])
def test_people_stride(side_view: bool, umbrella: tuple[int, int, int] | None) -> None:
    stride = person_sprites(Looks.random(rng(), OLD_TOWN.clothes), side_view, umbrella)
    assert len(stride) == WALK_PHASES
    assert all(is_premultiplied(sprite) and sprite.coverages[0].shape == (160, 96) for sprite in stride)
    for now, following in zip(stride, [*stride[1:], stride[0]], strict=True):
        assert (now.coverages[0] != following.coverages[0]).any()
    wide = max(int((sprite.coverages[0] > 0).any(axis=0).sum()) for sprite in stride)
    assert (wide > 60) == (umbrella is not None)


def test_mirrored_people_walk_left() -> None:
    sprite = person_sprites(Looks.random(rng(), OLD_TOWN.clothes), True, None)[2]
    assert (sprite.mirrored().coverages[0] == sprite.coverages[0][:, ::-1]).all()


@pytest.mark.parametrize("kind", get_args(FacadeKind))
@pytest.mark.parametrize("shops", [True, False])
def test_fronts_have_windows_of_which_some_are_lit(kind: FacadeKind, shops: bool) -> None:
    style = random_style(rng())
    style = type(style)(**{**vars(style), "facade_kinds": (kind,)})
    front = facade_texture(rng(), style, 12.0, 4, shops)
    assert front.shape == (round(4 * FLOOR_M * PIXELS_PER_M), 12 * PIXELS_PER_M, 4)
    lit = (front[..., 3] > 0).mean()
    assert 0.01 < lit < 0.7
    assert front[..., :3].std() > 10


def test_walls_and_roofs_have_the_size_asked_for() -> None:
    assert wall_texture(rng(), OLD_TOWN, 5.0, 2).shape == (128, 100, 4)
    assert roof_texture(rng(), 40, 30).shape == (30, 40, 4)


def test_noise_is_centred_and_varies_as_slowly_as_asked() -> None:
    fine, coarse = (smooth_noise(rng(), 128, 128, cell) for cell in (2.0, 32.0))
    assert np.abs(np.diff(fine)).mean() > 4 * np.abs(np.diff(coarse)).mean()
    assert abs(cloudy_noise(rng(), 128, 128, 16.0).mean()) < 0.15


def test_shading_leaves_the_fourth_channel() -> None:
    image = np.full((4, 4, 4), 200, np.uint8)
    shade(image, np.full((4, 4), 2.0, np.float32))
    assert image[0, 0].tolist() == [255, 255, 255, 200]
