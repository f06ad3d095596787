"""What the parts of a session need to go on where they were: named arrays, which any file of arrays can hold."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ams_common.errors import ModelError

State: TypeAlias = Mapping[str, npt.NDArray[Any]]


def prefixed(part: str, state: State) -> dict[str, npt.NDArray[Any]]:
    """Return `state` with the names `part.name`."""
    return {f"{part}.{name}": array for name, array in state.items()}


def part_of(state: State, part: str) -> dict[str, npt.NDArray[Any]]:
    """Return what `prefixed` took in under `part`, with its own names."""
    start = f"{part}."
    return {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}


def integer(state: State, name: str, most: int) -> int:
    """Return the int64 scalar `name`.

    Raises:
        ModelError: there is none from 0 to `most`.
    """
    array = state.get(name)
    if array is None or array.shape != () or array.dtype != np.int64 or not 0 <= array <= most:
        raise ModelError(f"state has no {name!r} of 0 to {most}")
    return int(array)


def numbers(state: State, name: str, shape: tuple[int, ...], most: float) -> npt.NDArray[np.float64]:
    """Return the array `name`, float64 of `shape`.

    Raises:
        ModelError: there is none, or it holds a number that is not from 0 to `most`.
    """
    array = state.get(name)
    if array is None or array.shape != shape or array.dtype != np.float64:
        raise ModelError(f"state has no {name!r} of shape {shape}")
    if not ((array >= 0) & (array <= most)).all():
        raise ModelError(f"state {name!r} is not within 0 and {most:g}")
    return array
