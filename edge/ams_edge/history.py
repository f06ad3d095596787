"""The vectors that the running weights came from, kept as what each update overwrote.

A server that was started again may go on from an earlier version than the one that runs here; the edge then only has to go
back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ams_common.layout import Float32Array

REMEMBERED_STEPS = 12
"""Updates that can be taken back: as many as a server makes between two writes of its session, and those that wait here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step:
    digest: bytes
    """Digest of the vector before the update."""
    indices: npt.NDArray[np.int32]
    """int32 [k]: elements that it changed."""
    values: Float32Array
    """float32 [k]: what they were before."""


class History:
    """The newest vector and the way back from it; never changes."""

    def __init__(self, vector: Float32Array, digest: bytes, steps: tuple[_Step, ...] = ()) -> None:
        """Begin with `vector`, float32 [P]; `steps` lead back from it, the newest first."""
        self._vector = vector
        self._digest = digest
        self._steps = steps

    def followed_by(self, vector: Float32Array, digest: bytes) -> "History":
        """Return the history in which `vector`, float32 [P], comes next.

        The oldest are forgotten where there are more than REMEMBERED_STEPS, or where all together changed more than P elements.
        """
        changed = np.flatnonzero(self._vector.view(np.uint32) != vector.view(np.uint32)).astype(np.int32)
        step = _Step(digest=self._digest, indices=changed, values=self._vector[changed])
        steps = (step, *self._steps)[:REMEMBERED_STEPS]
        sizes = np.cumsum([len(each.indices) for each in steps])
        return History(vector, digest, steps[: int(np.count_nonzero(sizes <= len(vector)))])

    @property
    def vectors(self) -> Mapping[bytes, Callable[[], Float32Array]]:
        """Functions that return whole vectors, float32 [P], which must not be written to, by their digests; newest first."""
        digests = [self._digest, *(step.digest for step in self._steps)]
        # A digest that comes twice is that of one vector, which the fewest steps lead to.
        return {digest: partial(self._vector_before, digests.index(digest)) for digest in digests}

    def _vector_before(self, steps: int) -> Float32Array:
        """Return the vector to which so many steps lead back."""
        if steps == 0:
            return self._vector
        vector = self._vector.copy()
        for step in self._steps[:steps]:
            vector[step.indices] = step.values
        return vector
