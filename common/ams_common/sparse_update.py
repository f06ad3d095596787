"""What every update codec takes and gives: sparse changes of the flat parameter vector.

P: elements of the vector. k: elements that change. T: tensors of the layout.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ams_common.errors import ModelError
from ams_common.layout import Float32Array, ParameterLayout

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SparseUpdate:
    """A decoded update."""

    indices: Int64Array
    """int64 [k], increasing: positions in the flat vector."""
    values: Float32Array
    """float32 [k], finite: the new values at these positions."""


LEAST_DEAD_ZONE = 0.01
"""Less would move weights that should stay."""
FINEST_STEP, COARSEST_STEP = 1e-20, 1e20
"""Far beyond what updates can have, and well within float32."""
MOST_BIT_PRICE = 1e6
"""Far more than lets anything be sent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodingPlan:
    """What a codec that quantises changes may know about them; the others have no use for it."""

    step: float = 0.0
    """Finest quantisation step of a tensor whose scale is 1, FINEST_STEP..COARSEST_STEP; 0 for an eighth of the root mean
    square of the changes."""
    step_scales: Float32Array | None = None
    """float32 [T], positive: each tensor's step relative to `step`; None for all alike."""
    dead_zone: float = 0.5
    """Part of a step, LEAST_DEAD_ZONE..1, below which a change is not sent."""
    bit_price: float = 0.0
    """Squared steps of error that a bit is worth, 0..MOST_BIT_PRICE: changes are rounded so that error and bits are least
    together, whatever the dead zone; 0 for rounding by the dead zone alone."""
    limit_bytes: int | None = None
    """Bytes that the update may have, 0 or more; steps become as coarse as that needs, up to no change at all, which takes a
    header of some tens of bytes all the same. None for no limit."""

    def __post_init__(self) -> None:
        """Refuse what no update can be made by; raises ModelError."""
        scales = self.step_scales
        if self.step != 0 and not FINEST_STEP <= self.step <= COARSEST_STEP:
            raise ModelError(f"an update cannot have a step of {self.step}: use 0, or {FINEST_STEP} to {COARSEST_STEP}")
        if not LEAST_DEAD_ZONE <= self.dead_zone <= 1:
            raise ModelError(f"dead zone {self.dead_zone} is not between {LEAST_DEAD_ZONE} and 1")
        if not 0 <= self.bit_price <= MOST_BIT_PRICE:
            raise ModelError(f"a bit cannot be worth {self.bit_price} squared steps: use 0 to {MOST_BIT_PRICE}")
        if scales is not None and not (np.isfinite(scales) & (scales > 0)).all():
            raise ModelError("the scales of an update's steps must be above zero")


NO_PLAN = EncodingPlan()


class UpdateCodec(Protocol):
    """Turns sparse changes of vectors of one layout into bytes and back."""

    @property
    def name(self) -> str:
        """Name of the format on the wire."""
        ...

    @property
    def keeps_limit(self) -> bool:
        """True for a codec that keeps to a plan's `limit_bytes` by itself; with others fewer parameters have to change."""
        ...

    def encode(self, base: Float32Array, target: Float32Array, indices: Int64Array, plan: EncodingPlan = NO_PLAN) -> bytes:
        """Return the bytes that change `base` to nearly `target` at `indices`.

        Args:
            base: float32 [P], the vector before the update.
            target: float32 [P], the vector wanted.
            indices: int64 [k], strictly increasing, in 0..P-1; k may be 0.
            plan: how fine and how large the update should be.

        Raises:
            ModelError: a vector does not fit the layout, or a value is not finite or more than the format can express.
        """
        ...

    def decode(self, payload: bytes, base: Float32Array) -> SparseUpdate:
        """Return the change that `payload` makes to `base`, float32 [P]; takes memory of a small multiple of P at most.

        Raises:
            CodecError: the payload is not valid for this layout.
            ModelError: `base` does not fit the layout.
        """
        ...


def apply_update(base: Float32Array, update: SparseUpdate) -> Float32Array:
    """Return a new float32 [P]: `base` with the values of `update` put in."""
    vector = base.copy()
    vector[update.indices] = update.values
    return vector


def check_vectors(layout: ParameterLayout, *vectors: Float32Array) -> None:
    """Refuse vectors that do not fit `layout`.

    Raises:
        ModelError: a vector is not float32 [P].
    """
    for vector in vectors:
        if vector.shape != (layout.size,):
            raise ModelError(f"vector of shape {vector.shape} does not fit a layout of {layout.size} elements")
