"""What a writer of `delta-rans` chooses: the cheapest models, and an estimate near the truth."""

import numpy as np
import pytest

from ams_common.delta_models import choose_densities, choose_level_model, estimated_bits
from ams_common.delta_rows import Rows, code_counts, code_levels, code_positions, layout_rows
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.rans import Int64Array, RansWriter

ROWS = layout_rows(ParameterLayout((TensorSpec(name="a", shape=(300, 200)), TensorSpec(name="b", shape=(300, 64)))))


def drawn_counts(generator: np.random.Generator, mean: float, shape: float) -> Int64Array:
    """Draw counts of the rows of the first tensor; nothing changes in the second."""
    means = generator.gamma(shape, mean / shape, 300)
    return np.concatenate([np.minimum(generator.poisson(means), 200), np.zeros(300, np.int64)])


def bits_of_counts(rows: Rows, counts: Int64Array, densities: Int64Array, shapes: Int64Array) -> float:
    writer = RansWriter()
    code_counts(writer, rows, densities, shapes, counts)
    return writer.ideal_bits


@pytest.mark.parametrize(("mean", "shape"), [(0.3, 0.25), (4.0, 1.0), (60.0, 4.0)])
def test_no_other_class_makes_the_counts_shorter(mean: float, shape: float) -> None:
    counts = drawn_counts(np.random.default_rng(0), mean, shape)
    model = choose_densities(ROWS, counts)
    chosen = bits_of_counts(ROWS, counts, model.densities, model.shapes)
    others = [
        bits_of_counts(ROWS, counts, np.array([density, 0]), np.array([other, 0]))
        for density in range(1, 48)
        for other in range(4)
    ]
    assert chosen == pytest.approx(min(others))
    assert model.densities[1] == 0
    assert model.centre == model.densities[0]
    assert abs(model.densities[0] - 1 - 2 * np.log2(200 / mean)) < 2


def test_nothing_at_all_has_a_model_too() -> None:
    model = choose_densities(ROWS, np.zeros(600, np.int64))
    assert (model.centre, model.densities.tolist(), model.bits) == (0, [0, 0], 0.0)


@pytest.mark.parametrize(("first", "later"), [(0.001, 0.5), (0.05, 0.1), (0.6, 0.6)])
def test_hardly_another_model_makes_the_levels_shorter(first: float, later: float) -> None:
    generator = np.random.default_rng(1)
    levels = np.where(generator.random(5000) < first, 1 + generator.geometric(1 - later, 5000), 1)

    def bits(model: int) -> float:
        writer = RansWriter()
        code_levels(writer, len(levels), model, levels)
        return writer.ideal_bits

    assert bits(choose_level_model(levels)) <= 1.01 * min(map(bits, range(256)))


@pytest.mark.parametrize("mean", [0.5, 5.0, 50.0])
def test_the_estimate_is_near_the_length(mean: float) -> None:
    generator = np.random.default_rng(2)
    counts = drawn_counts(generator, mean, 1.0)
    positions = np.concatenate(
        [
            start + np.sort(generator.choice(length, count, replace=False))
            for start, length, count in zip(ROWS.starts, ROWS.lengths, counts, strict=True)
        ]
    )
    levels = generator.geometric(0.9, len(positions))
    model, writer = choose_densities(ROWS, counts), RansWriter()
    code_counts(writer, ROWS, model.densities, model.shapes, counts)
    code_positions(writer, ROWS, counts, positions)
    code_levels(writer, len(levels), choose_level_model(levels), levels)
    assert estimated_bits(ROWS, counts, levels) == pytest.approx(writer.ideal_bits + len(levels), rel=0.03)
