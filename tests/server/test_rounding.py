import numpy as np
import numpy.typing as npt
import pytest

from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.snapshot_codec import encode_snapshot
from ams_server.rounding import LEARNT_PART, START_PART, rounded_learnt, rounded_start

LAYOUT = ParameterLayout(
    (
        TensorSpec(name="matrix", shape=(20, 300)),
        TensorSpec(name="depthwise", shape=(20, 1, 3, 3)),
        TensorSpec(name="bias", shape=(20,)),
        TensorSpec(name="variance", shape=(20,), trainable=False),
    )
)
MATRIX = slice(0, 6000)
OTHERS = slice(6000, LAYOUT.size)


def noise(seed: int) -> Float32Array:
    generator = np.random.default_rng(seed)
    vector = generator.standard_normal(LAYOUT.size).astype(np.float32)
    # Rows and single values of very different scales.
    scales = np.repeat(np.ldexp(np.float32(1), generator.integers(-20, 20, LAYOUT.size // 20)), 20)
    scaled: Float32Array = (vector * scales).astype(np.float32)
    return scaled


def rms(rows: npt.NDArray[np.floating]) -> Float32Array:
    means: Float32Array = np.sqrt((rows.astype(np.float64) ** 2).mean(1)).astype(np.float32)
    return means


def test_long_rows_lose_no_more_than_half_a_step_of_their_own() -> None:
    vector = noise(1)
    before, after = (each[MATRIX].reshape(20, 300) for each in (vector, rounded_start(vector, LAYOUT)))
    assert (np.abs(after - before) <= START_PART / 2 * rms(before)[:, None] * 1.0001).all()
    assert (rms(after - before) < START_PART / 3 * rms(before)).all()


def test_all_else_keeps_eleven_bits() -> None:
    vector = noise(1)
    before, after = (each[OTHERS] for each in (vector, rounded_start(vector, LAYOUT)))
    assert (np.abs(after - before) <= np.abs(before) * 2.0**-11).all()
    assert (after.view(np.uint32) % 2**13 == 0).all()


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 3e38, -3e38])
def test_rows_at_the_ends_of_the_range_stay_finite(value: float) -> None:
    rounded = rounded_start(np.full(LAYOUT.size, value, np.float32), LAYOUT)
    assert np.isfinite(rounded).all()
    np.testing.assert_allclose(rounded, np.float32(value), rtol=0.05, atol=1e-35)
    assert not np.signbit(rounded[rounded == 0]).any(), "no row is taken out of whole numbers by a -0.0"


def test_what_was_learnt_is_rounded_and_what_was_not_stays() -> None:
    start = rounded_start(noise(1), LAYOUT)
    vector = start.copy()
    vector[:3000] += np.float32(0.01) * noise(2)[:3000]
    after = rounded_learnt(vector, start, LAYOUT)
    np.testing.assert_array_equal(after[3000:], start[3000:])
    learnt, kept = ((each - start)[:3000].reshape(10, 300) for each in (vector, after))
    changed = rms(learnt) > 0
    assert changed.any()
    assert (rms(kept - learnt)[changed] < LEARNT_PART / 2 * rms(learnt)[changed]).all()


def test_rounding_is_what_makes_snapshots_small() -> None:
    generator = np.random.default_rng(1)
    vector = (generator.standard_normal(LAYOUT.size) / 20).astype(np.float32)
    start = rounded_start(vector, LAYOUT)
    learnt = (start + generator.standard_normal(LAYOUT.size) / 1000).astype(np.float32)
    whole, first = len(encode_snapshot(vector, LAYOUT)), len(encode_snapshot(start, LAYOUT))
    change = len(encode_snapshot(rounded_learnt(learnt, start, LAYOUT), LAYOUT, start))
    assert first < 0.4 * whole
    assert change < 0.25 * whole
