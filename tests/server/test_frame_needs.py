"""What frames can use, from what the last batches left."""

import math

from ams_server.frame_needs import BATCHES_KEPT, MARGIN, FrameNeeds


def needs(*frame_bits: float, planned_bits: float = 100.0) -> FrameNeeds:
    found = FrameNeeds()
    for each in frame_bits:
        found.add(each, planned_bits)
    return found


def test_nothing_is_known_before_some_batches_came() -> None:
    assert FrameNeeds().usable_bits == math.inf
    assert needs(*[50.0] * (BATCHES_KEPT - 1)).usable_bits == math.inf


def test_the_largest_of_the_last_batches_counts() -> None:
    assert needs(70.0, *[50.0] * (BATCHES_KEPT - 1)).usable_bits == MARGIN * 70
    assert needs(70.0, *[50.0] * BATCHES_KEPT).usable_bits == MARGIN * 50


def test_a_batch_that_is_full_needs_more_than_is_known() -> None:
    assert needs(95.0, *[50.0] * (BATCHES_KEPT - 1)).usable_bits == math.inf
    assert needs(95.0, *[50.0] * BATCHES_KEPT).usable_bits == MARGIN * 50


def test_what_is_planned_by_it_is_not_full_while_the_scene_stays() -> None:
    found = needs(*[50.0] * BATCHES_KEPT)
    found.add(50.0, found.usable_bits)
    assert found.usable_bits == MARGIN * 50
