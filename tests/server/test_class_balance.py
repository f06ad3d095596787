"""Weights of rare and frequent classes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ams_server.class_balance import LEAST_SHARE, class_weights


def test_a_class_of_a_quarter_of_the_pixels_of_another_weighs_twice_as_much_at_a_half() -> None:
    weights = class_weights(torch.tensor([800, 200]), 0.5)
    assert float(weights[1] / weights[0]) == pytest.approx(2.0)
    assert float(0.8 * weights[0] + 0.2 * weights[1]) == pytest.approx(1.0)


def test_at_one_all_classes_weigh_the_same_together() -> None:
    pixels = torch.tensor([900, 90, 10])
    torch.testing.assert_close(class_weights(pixels, 1.0) * pixels, torch.full((3,), 1000 / 3))


def test_what_hardly_ever_occurs_weighs_as_much_as_what_is_rare() -> None:
    weights = class_weights(torch.tensor([10**6, 1, 0, round(LEAST_SHARE * 10**6)]), 0.5)
    assert weights[1] == weights[2]
    assert float(weights[3]) == pytest.approx(float(weights[1]), rel=0.01)


def test_without_labels_all_weights_are_finite() -> None:
    assert bool(torch.isfinite(class_weights(torch.zeros(5, dtype=torch.int64), 0.5)).all())


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=256).filter(any), st.floats(0, 1))
def test_a_labelled_pixel_weighs_one_on_average(pixels: list[int], balance: float) -> None:
    counts = torch.tensor(pixels)
    weights = class_weights(counts, balance)
    assert weights.dtype == torch.float32
    assert float((weights.double() * counts).sum() / counts.sum()) == pytest.approx(1.0, rel=1e-4)
    assert float(weights.max() / weights.min()) <= LEAST_SHARE**-balance * 1.0001
