"""The flat parameter vector that both sides agree on.

A model's state is one float32 vector: first every trainable parameter, then every batch-norm running statistic, each
tensor in row-major order, in the order of the layout. Updates address positions of this vector; digests are taken over it.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ams_common.errors import ModelError

Float32Array = npt.NDArray[np.float32]
DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One named tensor of the model state."""

    name: str
    """Name of the tensor: that of the torch parameter and of the ONNX initialiser."""
    shape: tuple[int, ...]
    """Dimensions; an empty tuple is a scalar."""
    trainable: bool = True
    """False for batch-norm running statistics, which no optimiser moves."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ParameterLayout:
    """Order, names and shapes of the tensors in the flat vector; trainable tensors come first."""

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        flags = [tensor.trainable for tensor in self.tensors]
        if flags != sorted(flags, reverse=True):
            raise ModelError("layout lists a running statistic before a trainable parameter")
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise ModelError("layout names a tensor twice")
        if not self.size:
            raise ModelError("layout has no elements: a model must have parameters")

    @cached_property
    def size(self) -> int:
        """Number of elements of the whole vector."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def trainable_size(self) -> int:
        """Number of trainable parameters, N of the paper: the leading part of the vector."""
        return sum(tensor.size for tensor in self.tensors if tensor.trainable)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Start of each tensor in the vector, in elements."""
        starts = [0]
        for tensor in self.tensors:
            starts.append(starts[-1] + tensor.size)
        return tuple(starts[:-1])

    def views(self, vector: Float32Array) -> Iterator[tuple[TensorSpec, Float32Array]]:
        """Yield (tensor, view of its part of `vector` in the tensor's shape); writing to a view writes to the vector.

        Raises:
            ModelError: `vector` has another length than this layout.
        """
        if vector.shape != (self.size,):
            raise ModelError(f"vector of shape {vector.shape} does not fit a layout of {self.size} elements")
        for tensor, start in zip(self.tensors, self.offsets, strict=True):
            yield tensor, vector[start : start + tensor.size].reshape(tensor.shape)

    def flatten(self, arrays: Iterable[tuple[str, npt.NDArray[np.floating]]]) -> Float32Array:
        """Return the flat vector of the named arrays.

        Raises:
            ModelError: a tensor is missing or has another shape.
        """
        given = dict(arrays)
        vector = np.empty(self.size, np.float32)
        for tensor, view in self.views(vector):
            array = given.get(tensor.name)
            if array is None:
                raise ModelError(f"weights lack the tensor {tensor.name!r} of shape {tensor.shape}")
            if array.shape != tensor.shape:
                raise ModelError(f"tensor {tensor.name!r} has shape {array.shape}, the model needs {tensor.shape}")
            view[...] = array
        return vector

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that identify names, shapes and order."""
        text = "\n".join(f"{t.name} {'x'.join(map(str, t.shape))} {int(t.trainable)}" for t in self.tensors)
        return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def weights_digest(vector: Float32Array) -> bytes:
    """Return 16 bytes (BLAKE2b) over the little-endian float32 bytes of `vector`; equal digests mean bit-identical weights."""
    data = np.ascontiguousarray(vector, dtype="<f4")
    return hashlib.blake2b(data.data, digest_size=DIGEST_BYTES).digest()
