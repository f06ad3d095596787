import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ams_common.errors import ModelError
from ams_server.state import integer, numbers, part_of, prefixed


def test_a_part_comes_back_out_of_a_whole() -> None:
    trainer = {"phases": np.array(3), "velocity": np.ones(2, np.float32)}
    whole = {**prefixed("trainer", trainer), **prefixed("train", {"a": np.zeros(1)}), "version": np.array(1)}
    assert part_of(whole, "trainer") == trainer
    assert list(part_of(whole, "train")) == ["a"]
    assert part_of(whole, "pacing") == {}


def test_numbers_are_read_as_they_were_written() -> None:
    state = {"count": np.array(5), "rates": np.array([0.0, 2.5]), "one": np.array(1.5)}
    assert integer(state, "count", most=5) == 5
    assert numbers(state, "rates", (2,), most=2.5).tolist() == [0.0, 2.5]
    assert float(numbers(state, "one", (), most=math.inf)) == 1.5


@pytest.mark.parametrize("value", [np.array(6), np.array(-1), np.array([5]), np.array(5.0), np.array(5, np.uint8)])
def test_what_is_no_integer_in_its_range_is_refused(value: npt.NDArray[Any]) -> None:
    with pytest.raises(ModelError, match="state has no 'count' of 0 to 5"):
        integer({"count": value}, "count", most=5)


@pytest.mark.parametrize(
    "value",
    [np.array(1.0), np.array([1.0]), np.array([1, 2]), np.array([1.0, math.nan]), np.array([1.0, -0.1]), np.array([1.0, 9.1])],
)
def test_what_are_no_numbers_in_their_range_is_refused(value: npt.NDArray[Any]) -> None:
    with pytest.raises(ModelError, match="'rates'"):
        numbers({"rates": value}, "rates", (2,), most=9.0)


def test_what_is_missing_is_refused() -> None:
    with pytest.raises(ModelError):
        integer({}, "count", most=5)
    with pytest.raises(ModelError):
        numbers({}, "rates", (), most=1.0)
