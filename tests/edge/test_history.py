import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ams_common.layout import Float32Array, weights_digest
from ams_edge.history import REMEMBERED_STEPS, History

SIZE = 50


def digest(vector: Float32Array) -> bytes:
    return weights_digest(vector)


def changed(vector: Float32Array, indices: list[int], value: float) -> Float32Array:
    after = vector.copy()
    after[indices] += np.float32(value)
    return after


@given(st.lists(st.lists(st.integers(0, SIZE - 1), max_size=4), max_size=2 * REMEMBERED_STEPS))
def test_every_vector_that_is_named_comes_back_exactly(updates: list[list[int]]) -> None:
    vector = np.linspace(-1, 1, SIZE, dtype=np.float32)
    past = [vector]
    history = History(vector, digest(vector))
    for number, indices in enumerate(updates):
        past.append(changed(past[-1], indices, number + 0.1))
        history = history.followed_by(past[-1], digest(past[-1]))
    vectors = history.vectors
    assert next(iter(vectors)) == digest(past[-1])
    expected = past[-1 - REMEMBERED_STEPS :]
    assert set(vectors) == {digest(each) for each in expected}
    for each in expected:
        assert vectors[digest(each)]().tobytes() == each.tobytes()


def test_what_is_remembered_takes_no_more_than_one_vector() -> None:
    vector = np.zeros(SIZE, np.float32)
    history = History(vector, digest(vector))
    for _ in range(5):
        vector = changed(vector, list(range(SIZE // 2)), 1.0)
        history = history.followed_by(vector, digest(vector))
    assert len(history.vectors) == 1 + 2
    vector = changed(vector, list(range(SIZE)), 1.0)
    assert len(history.followed_by(vector, digest(vector)).vectors) == 1 + 1


def test_a_zero_that_changes_its_sign_is_taken_back() -> None:
    before, after = np.zeros(SIZE, np.float32), -np.zeros(SIZE, np.float32)
    history = History(before, digest(before)).followed_by(after, digest(after))
    assert history.vectors[digest(before)]().tobytes() == before.tobytes()
