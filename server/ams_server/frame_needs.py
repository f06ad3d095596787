"""How many bits the frames of a device can use: pictures of a plain scene are at the encoder's finest with few."""

import math

BATCHES_KEPT = 5
"""Batches that count."""
FILLED = 0.94
"""A batch that takes less of the bytes that it may have is at the finest quantiser; others take 95 % and more."""
MARGIN = 1.1
"""Frames are planned with so many times what the last ones took at the finest, so that it shows when they need more."""


class FrameNeeds:
    """What the last batches took of what they might have."""

    def __init__(self) -> None:
        self._needed_bits: tuple[float, ...] = ()

    def add(self, frame_bits: float, planned_bits: float) -> None:
        """Take the bits of a frame of the newest batch, and what was planned for it; the oldest batch counts no more."""
        needed_bits = frame_bits if frame_bits < FILLED * planned_bits else math.inf
        self._needed_bits = (*self._needed_bits, needed_bits)[-BATCHES_KEPT:]

    @property
    def usable_bits(self) -> float:
        """Bits above which a frame leaves some of them; infinite where that is not known."""
        known = len(self._needed_bits) == BATCHES_KEPT
        return MARGIN * max(self._needed_bits) if known else math.inf
